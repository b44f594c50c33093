// SPDX-License-Identifier: MIT
// The same heap through quickjs-wasi under node:  build BYTES SNAPSHOT BUILDER.js  |  restore SNAPSHOT RECORD
// Or in memory, as forks.c does it:  forks MIB BUILDER.js
import { readFileSync, writeFileSync, openSync, writeSync, closeSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const root = process.env.THAW_NPM + '/node_modules/quickjs-wasi/'
const { QuickJS } = await import(pathToFileURL(root + 'dist/index.js'))
const wasm = readFileSync(root + 'quickjs.wasm')

const [verb, ...rest] = process.argv.slice(2)
if (verb === 'build') {
	const vm = await QuickJS.create({ wasm })
	vm.evalCode(readFileSync(rest[2], 'utf8')).dispose()
	vm.evalCode(`build(${rest[0]})`).dispose()
	const bytes = QuickJS.serializeSnapshot(vm.snapshot())
	// writeFileSync refuses more than 2 GiB at once.
	const file = openSync(rest[1], 'w')
	for (let at = 0; at < bytes.length; at += 1 << 28)
		writeSync(file, bytes, at, Math.min(1 << 28, bytes.length - at))
	closeSync(file)
} else if (verb === 'forks') {
	const module = await WebAssembly.compile(wasm), rounds = 11
	const vm = await QuickJS.create({ wasm: module })
	vm.evalCode(readFileSync(rest[1], 'utf8')).dispose()
	vm.evalCode(`build(${rest[0]} * 1048576)`).dispose()
	const median = (list) => list.sort((a, b) => a - b)[list.length >> 1]
	const tell = (what, value, unit) => console.log(`forks: ${what}\t${rest[0]} MiB\t${value.toFixed(3)}\t${unit}`)
	const snapshots = [], forks = []
	let snapshot
	for (let i = 0; i < rounds; i++) {
		let begun = performance.now()
		snapshot = vm.snapshot()
		snapshots.push(performance.now() - begun)
		begun = performance.now()
		const fork = await QuickJS.restore(snapshot, { wasm: module })
		fork.evalCode('lookup(1)').dispose()
		forks.push(performance.now() - begun)
		fork.dispose()
	}
	tell('the first snapshot', snapshots[0], 'ms')
	tell('a snapshot after 100 lookups', median(snapshots), 'ms')
	tell('a fork, and its first call', median(forks), 'ms')
	const begun = performance.now()
	const bytes = QuickJS.serializeSnapshot(snapshot)
	tell('written whole', performance.now() - begun, 'ms')
	tell('bytes whole', bytes.length / 1024, 'KiB')
	const opened = []
	for (let i = 0; i < rounds; i++) {
		const begun = performance.now()
		const vm = await QuickJS.restore(QuickJS.deserializeSnapshot(bytes), { wasm: module })
		vm.evalCode('lookup(1)').dispose()
		opened.push(performance.now() - begun)
		vm.dispose()
	}
	tell('from bytes to the first call', median(opened), 'ms')
} else {
	const bytes = readFileSync(rest[0])
	const vm = await QuickJS.restore(QuickJS.deserializeSnapshot(bytes), { wasm })
	console.log(vm.evalCode(`lookup(${rest[1]})`).toString())
}
