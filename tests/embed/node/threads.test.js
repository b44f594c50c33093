// SPDX-License-Identifier: GPL-2.0-only
// Workers, interruptions from other threads, ends of threads and of the process with VMs that are open.
'use strict'
const { test } = require('node:test')
const assert = require('node:assert')
const { Worker } = require('node:worker_threads')
const { once } = require('node:events')
const { spawnSync } = require('node:child_process')
const { ThawVM, Snapshot, interrupt } = require(process.env.THAW_VM_PACKAGE)

const head = `
	const { parentPort, workerData } = require('node:worker_threads')
	const { ThawVM, Snapshot } = require(process.env.THAW_VM_PACKAGE)
`
const worker = (code, workerData) => new Worker(head + code, { eval: true, workerData })
const node = (code, ...options) => {
	const ran = spawnSync(process.execPath, [...options, '-e', head + code], { encoding: 'utf8', timeout: 60000 })
	return [ran.stdout + ran.stderr, ran.signal ?? ran.status]
}

test('VMs in several workers, which share a snapshot', async () => {
	const vm = new ThawVM()
	vm.eval('let n = 1; const data = new Array(10000).fill("x"); const up = () => ++n')
	const snapshot = vm.snapshot()
	const workers = Array.from({ length: 4 }, (_, index) => worker(`
		const fork = Snapshot.receive(workerData.number).fork()
		for (let i = 0; i < workerData.index; i++) fork.call('up')
		parentPort.postMessage({ n: fork.eval('n + data.length'), back: fork.snapshot().send() })`, { number: snapshot.send(), index }))
	const answers = await Promise.all(workers.map(async one => {
		const [[answer]] = await Promise.all([once(one, 'message'), once(one, 'exit')])
		return [answer.n, Snapshot.receive(answer.back).fork().call('up')]
	}))
	assert.deepEqual(answers, [[10001, 2], [10002, 3], [10003, 4], [10004, 5]])
	const number = snapshot.send()
	Snapshot.receive(number)
	assert.throws(() => Snapshot.receive(number), { code: 'ENOENT' })
	vm.close()
})

test('another thread interrupts', async () => {
	const busy = worker(`
		const vm = new ThawVM({ functions: { ready() { parentPort.postMessage(vm.id) } } })
		try { vm.eval('ready(); for (;;) try { for (;;); } catch {}') } catch (error) { parentPort.postMessage(error.code) }`)
	const [id] = await once(busy, 'message')
	const told = once(busy, 'message')
	assert.equal(interrupt(id), true)
	assert.deepEqual(await told, ['ERR_THAW_INTERRUPTED'])
	await once(busy, 'exit')
	assert.equal(interrupt(id), false)
})

test('a worker is terminated with VMs that are open, and in the middle of a call', async () => {
	const ends = async code => {
		const one = worker(code)
		await once(one, 'message')
		assert.equal(await one.terminate(), 1)
	}
	await ends('global.vms = [1, 2, 3].map(() => { const vm = new ThawVM(); vm.eval("setInterval(() => {}, 1)"); vm.run(); return vm }); parentPort.postMessage(1)')
	// The program calls the host for ever, and catches everything.
	await ends(`
		const vm = new ThawVM({ functions: { tell() { parentPort.postMessage(1) } } })
		vm.eval('for (;;) try { tell() } catch {}')`)
	await ends(`
		const vm = new ThawVM()
		vm.eval('globalThis.list = Array.from({ length: 100000 }, (_, i) => ({ i }))')
		for (let i = 0; i < 8; i++) vm.snapshot().bytesAsync()
		parentPort.postMessage(1)`)
	await ends(`
		const vm = new ThawVM({ functions: { tell() { parentPort.postMessage(1) } } })
		vm.eval('tell(); for (;;);')`)
	const exits = worker(`
		const vm = new ThawVM({ functions: { end() { process.exit(7) } } })
		vm.eval('for (;;) try { end() } catch {}')`)
	assert.deepEqual(await once(exits, 'exit'), [7])
})

test('the process ends with VMs that are open', () => {
	assert.deepEqual(node(`
		global.vm = new ThawVM({ functions: { wait: () => new Promise(() => {}) } })
		vm.eval('wait(); setInterval(() => {}, 1)')
		vm.run({ unref: true })
		console.log('end')`), ['end\n', 0])
	assert.deepEqual(node(`
		const vm = new ThawVM({ functions: { end() { process.exit(5) } } })
		vm.eval('end(); for (;;);')`), ['', 5])
	assert.deepEqual(node(`
		const vm = new ThawVM()
		vm.eval('new Promise(done => setTimeout(done, 5, "kept alive"))').then(console.log)`), ['kept alive\n', 0])
})
