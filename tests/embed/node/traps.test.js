// SPDX-License-Identifier: GPL-2.0-only
// The sandbox's SIGSEGV beside V8's: traps of WebAssembly in Node, and pages and stacks of VMs, in any order of first use.
'use strict'
const { test } = require('node:test')
const assert = require('node:assert')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { spawnSync } = require('node:child_process')

// (module (memory 1) (func (export "load") (param i32) (result i32) local.get 0 i32.load))
const head = `
	const thaw = () => require(process.env.THAW_VM_PACKAGE)
	const { Worker, isMainThread } = require('node:worker_threads')
	const trap = () => {
		const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 8, 1, 4,
			108, 111, 97, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 40, 2, 0, 11])
		const { load } = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports
		if (load(0) !== 0) throw new Error('load')
		for (const address of [65536, 1 << 30, -8])
			try { load(address); return 'no trap' } catch (error) { if (!(error instanceof WebAssembly.RuntimeError)) throw error }
		return 'trapped'
	}
	const path = require('node:path').join(process.env.ROOM, process.pid + '-')
	let images = 0
	// The pages of an image are watched for their first writes, by faults where the kernel has nothing better; and forks, which go on.
	const faults = () => {
		const { ThawVM } = thaw()
		const image = path + images++ + '.thaw', code = 'list.forEach(one => one.i++); list.length'
		const first = new ThawVM({ image })
		first.eval('const list = Array.from({ length: 20000 }, (_, i) => ({ i }))')
		first.checkpoint()
		first.eval(code)
		first.close()
		const again = new ThawVM({ image })
		if (again.eval(code) !== 20000 || again.eval('list[9].i') !== 10) return 'the image is another'
		again.checkpoint()
		again.close()
		const vm = new ThawVM({ maxBytes: 64 << 20 })
		vm.eval('const list = Array.from({ length: 50000 }, (_, i) => ({ i })); const sum = () => list.reduce((sum, { i }) => sum + i, 0)')
		const fork = vm.snapshot().fork()
		vm.eval('list.forEach(one => one.i++)')
		const got = [fork.call('sum'), vm.call('sum'), fork.eval('const f = n => { try { return f(n + 1) } catch { return n > 100 } }; f(0)')]
		vm.close()
		fork.close()
		return got.join(' ') === '1249975000 1250025000 true' ? 'ran' : got.join(' ')
	}
`
const room = fs.mkdtempSync(path.join(os.tmpdir(), 'thaw-test-traps-'))
process.on('exit', () => fs.rmSync(room, { recursive: true }))
const node = (code, without = '') => {
	const env = { ...process.env, ROOM: room, THAW_WITHOUT: without }
	const ran = spawnSync(process.execPath, ['-e', head + code], { encoding: 'utf8', timeout: 60000, env })
	return [ran.stdout + ran.stderr, ran.signal ?? ran.status]
}

test('V8 first', () => {
	assert.deepEqual(node('console.log(trap(), faults(), trap(), faults())', 'userfaultfd'), ['trapped ran trapped ran\n', 0])
})

test('the VM first', () => {
	assert.deepEqual(node('console.log(faults(), trap(), faults(), trap())', 'userfaultfd'), ['ran trapped ran trapped\n', 0])
})

test('inside of each other', () => {
	assert.deepEqual(node(`
		const vm = new (thaw().ThawVM)({ image: path + 'outer', functions: { both: () => trap() + ' ' + faults() } })
		vm.eval('const list = new Array(100000).fill(0)')
		vm.checkpoint()
		console.log(vm.eval('list.fill(1); both()'), vm.eval('list.fill(2); both()'))`, 'userfaultfd'), ['trapped ran trapped ran\n', 0])
})

test('in a worker, before and after the main thread', () => {
	const worker = `new Worker(${JSON.stringify(`${head} console.log(faults(), trap(), faults(), trap())`)}, { eval: true })`
	assert.deepEqual(node(`${worker}.on('exit', () => console.log(trap(), faults()))`), ['ran trapped ran trapped\ntrapped ran\n', 0])
	assert.deepEqual(node(`console.log(trap()); ${worker}.on('exit', () => console.log(faults(), trap()))`, 'userfaultfd'),
		['trapped\nran trapped ran trapped\nran trapped\n', 0])
})

test('only in a worker, which has ended', () => {
	assert.deepEqual(node(`new Worker(${JSON.stringify(`${head} console.log(faults())`)}, { eval: true })
		.on('exit', () => console.log(trap()))`, 'userfaultfd'), ['ran\ntrapped\n', 0])
})

test('a page of an image that is damaged ends its VM, in the middle of calls, and nothing else', () => {
	assert.deepEqual(node(`
		const fs = require('fs'), image = path + 'damaged.thaw', { ThawVM } = thaw(), other = new ThawVM()
		const make = () => new ThawVM({ image, functions: { again: code => { try { return vm.eval(code) } catch (error) { return error.code } } } })
		let vm = make()
		vm.eval('const text = "mark".repeat(1e5), far = () => { let n = 0; for (let i = 0; i < text.length; i++) n += text.charCodeAt(i); return n }')
		vm.checkpoint()
		vm.close()
		const bytes = fs.readFileSync(image), file = fs.openSync(image, 'r+'), at = bytes.indexOf('mark'.repeat(2000)) + 4096
		fs.writeSync(file, 'MARK', at)
		vm = make()
		const waits = vm.eval('new Promise(() => {})')
		waits.catch(error => console.log('it waited:', error.code))
		try { console.log(vm.eval('again("far()")')) } catch (error) { console.log(error.code, trap(), other.eval('6 * 7')) }
		try { vm.eval('1') } catch (error) { console.log(error.code) }
		vm.close()`), ['ERR_THAW_DAMAGED trapped 42\nERR_THAW_DAMAGED\nit waited: ERR_THAW_DAMAGED\n', 0])
})

test('a fault that is nobody\'s ends the process as it would have', () => {
	assert.equal(node("trap(); faults(); process.kill(process.pid, 'SIGSEGV'); setTimeout(() => {}, 1000)", 'userfaultfd')[1], 'SIGSEGV')
})
