// SPDX-License-Identifier: MIT
// What a VM inside of Node.js costs, as thaw-vm and others have it:  node_vm.mjs thaw-vm | quickjs-wasi | isolated-vm | quickjs-emscripten
// Time of the processor, since the machine is shared. Where a package has handles of functions, they are held; thaw-vm finds its by name.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const ROUNDS = 7
const code = `globalThis.add = (a, b) => a + b; globalThis.pass = o => o; globalThis.parsed = text => JSON.stringify(pass(JSON.parse(text)))
globalThis.loop = n => { for (let i = 0; i < n; i++) host(i) }`
const data = { a: 1, b: 'text', c: [1, 2, 3] }
const builder = 'globalThis.data = Array.from({ length: 100000 }, (_, i) => ({ i }))'
const elsewhere = name => createRequire(process.env.THAW_BENCH_NODE + '/')(name)

const kinds = {
	'thaw-vm'() {
		const { ThawVM } = createRequire(import.meta.url)(process.env.THAW_VM_PACKAGE)
		const vm = new ThawVM({ functions: { host: n => n + 1 } }), full = new ThawVM()
		vm.eval(code)
		full.eval(builder)
		const snapshot = full.snapshot()
		return {
			call(n) { for (let i = 0; i < n; i++) vm.call('add', [i, 1]) },
			host(n) { vm.call('loop', [n]) },
			structured(n) { for (let i = 0; i < n; i++) vm.call('pass', [data]) },
			create(n) { for (let i = 0; i < n; i++) new ThawVM().close() },
			fork(n) { for (let i = 0; i < n; i++) { const fork = snapshot.fork(); fork.eval('data[5].i'); fork.close() } },
			rollback(n) { for (let i = 0; i < n; i++) full.eval('data[5].i++'), full.rollback(snapshot) },
		}
	},
	async 'quickjs-wasi'() {
		const root = process.env.THAW_NPM + '/node_modules/quickjs-wasi/'
		const { QuickJS } = await import(pathToFileURL(root + 'dist/index.js'))
		const wasm = await WebAssembly.compile(readFileSync(root + 'quickjs.wasm'))
		const vm = await QuickJS.create({ wasm }), full = await QuickJS.create({ wasm })
		vm.newFunction('host', n => vm.newNumber(n.toNumber() + 1)).consume(host => vm.setProp(vm.global, 'host', host))
		vm.evalCode(code).dispose()
		full.evalCode(builder).dispose()
		const snapshot = full.snapshot()
		const [add, loop, parsed] = ['add', 'loop', 'parsed'].map(name => vm.evalCode(name))
		const call = (f, ...list) => {
			const handles = list.map(one => typeof one === 'number' ? vm.newNumber(one) : vm.newString(one))
			const result = vm.callFunction(f, vm.undefined, ...handles), value = vm.dump(result)
			for (const handle of [...handles, result]) handle.dispose()
			return value
		}
		return {
			call(n) { for (let i = 0; i < n; i++) call(add, i, 1) },
			host(n) { call(loop, n) },
			structured(n) { for (let i = 0; i < n; i++) JSON.parse(call(parsed, JSON.stringify(data))) },
			async create(n) { for (let i = 0; i < n; i++) (await QuickJS.create({ wasm })).dispose() },
			async fork(n) { for (let i = 0; i < n; i++) { const fork = await QuickJS.restore(snapshot, { wasm }); fork.evalCode('data[5].i').dispose(); fork.dispose() } },
		}
	},
	'isolated-vm'() {
		const ivm = elsewhere('isolated-vm')
		const context = new ivm.Isolate().createContextSync()
		context.global.setSync('host', n => n + 1)
		context.evalSync(code)
		const [add, loop, pass] = ['add', 'loop', 'pass'].map(name => context.global.getSync(name, { reference: true }))
		const copied = { arguments: { copy: true }, result: { copy: true } }
		return {
			call(n) { for (let i = 0; i < n; i++) add.applySync(undefined, [i, 1]) },
			host(n) { loop.applySync(undefined, [n]) },
			structured(n) { for (let i = 0; i < n; i++) pass.applySync(undefined, [data], copied) },
			create(n) { for (let i = 0; i < n; i++) { const isolate = new ivm.Isolate(); isolate.createContextSync(); isolate.dispose() } },
		}
	},
	async 'quickjs-emscripten'() {
		const engine = await elsewhere('quickjs-emscripten').getQuickJS(), vm = engine.newContext()
		const host = vm.newFunction('host', n => vm.newNumber(vm.getNumber(n) + 1))
		vm.setProp(vm.global, 'host', host)
		vm.unwrapResult(vm.evalCode(code)).dispose()
		const [add, loop, parsed] = ['add', 'loop', 'parsed'].map(name => vm.getProp(vm.global, name))
		const call = (f, ...list) => {
			const handles = list.map(one => typeof one === 'number' ? vm.newNumber(one) : vm.newString(one))
			const result = vm.unwrapResult(vm.callFunction(f, vm.undefined, ...handles)), value = vm.dump(result)
			for (const handle of [...handles, result]) handle.dispose()
			return value
		}
		return {
			call(n) { for (let i = 0; i < n; i++) call(add, i, 1) },
			host(n) { call(loop, n) },
			structured(n) { for (let i = 0; i < n; i++) JSON.parse(call(parsed, JSON.stringify(data))) },
			create(n) { for (let i = 0; i < n; i++) engine.newContext().dispose() },
		}
	},
}

const rows = [['call', 'call of a function', 10000], ['host', 'call of a host function', 10000], ['structured', 'an object there and back', 3000],
	['create', 'a new VM', 20], ['fork', 'fork of 100,000 objects, first result', 20], ['rollback', 'rollback of one write', 20]]
const runs = await kinds[process.argv[2]]()
for (const [name, row, count] of rows) {
	if (!runs[name]) continue
	const times = []
	for (let round = 0; round < ROUNDS; round++) {
		const before = process.cpuUsage()
		await runs[name](count)
		const { user, system } = process.cpuUsage(before)
		times.push((user + system) / count)
	}
	console.log(`inside of Node.js\t${row}\t${times.sort((a, b) => a - b)[ROUNDS >> 1].toFixed(3)}\tus`)
}
process.exit()
