// SPDX-License-Identifier: GPL-2.0-only
// Promises in both directions, timers by Node's event loop, and what still waits when an image is opened again.
'use strict'
const { test } = require('node:test')
const assert = require('node:assert')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { once } = require('node:events')
const { ThawVM } = require(process.env.THAW_VM_PACKAGE)

const later = (ms, value) => new Promise(done => setTimeout(done, ms, value))

test('promises of the program are promises here', async () => {
	const order = []
	const vm = new ThawVM({ functions: { told(value) { order.push(value) } } })
	assert.equal(await vm.eval('Promise.resolve(5)'), 5)
	assert.equal(await vm.eval('(async () => { await null; return { a: 1 }.a })()'), 1)
	assert.deepEqual(await vm.eval('new Promise(done => setTimeout(done, 5, ["late"]))'), ['late'])
	vm.eval('const wait = (ms, value) => new Promise(done => setTimeout(done, ms, value)); async function fail() { await wait(1); throw new RangeError("late") }')
	// Their time begins at once, however late this thread gets to ask for them, and perhaps when all have ended.
	vm.eval(`let begun, waits
		do { begun = Date.now(); waits = [30, 10, 20].map(ms => wait(ms, ms)) } while (Date.now() - begun > 5)
		for (const one of waits) one.then(told)`)
	assert.deepEqual(await Promise.all([0, 1, 2].map(i => vm.eval(`waits[${i}]`))), [30, 10, 20])
	assert.deepEqual(order, [10, 20, 30])
	await assert.rejects(vm.call('fail'), { name: 'RangeError', message: 'late', code: 'ERR_THAW_EXCEPTION' })
	await assert.rejects(vm.eval('Promise.reject("text")'), { thrown: 'text' })
	await assert.rejects(vm.eval('Promise.resolve(new Map)'), { code: 'ERR_THAW_EXCEPTION' })
	const promise = vm.eval('new Promise(done => globalThis.go = done)')
	vm.eval('go(9)')
	assert.equal(await promise, 9)
	vm.close()
})

test('a rejection that nobody looks at is printed, and ends nothing', async () => {
	const output = []
	const vm = new ThawVM({ log: (text, fd) => output.push([fd, text]) })
	assert.ok(vm.eval('Promise.reject(new RangeError("nobody"))') instanceof Promise)
	const looked = vm.eval('Promise.reject(new RangeError("somebody"))')
	looked.catch(() => {})
	await new Promise(setImmediate)
	await new Promise(setImmediate)
	assert.deepEqual(output.map(([fd, text]) => [fd, text.split('\n')[0]]), [[2, 'Uncaught (in promise) RangeError: nobody']])
	vm.close()
})

test('a host function that returns a Promise gives the program one', async () => {
	const vm = new ThawVM({
		functions: {
			slowly: async n => { await later(2); if (n < 0) throw new RangeError('negative'); return n * 2 },
			plain: n => n ? later(1, 'later') : 'now',
			odd: () => Promise.resolve(() => 1),
			never: () => new Promise(() => {}),
		},
	})
	assert.equal(await vm.eval('slowly(4).then(n => n + 1)'), 9)
	assert.deepEqual(await vm.eval('Promise.all([slowly(1), slowly(2), plain(1), plain(0)])'), [2, 4, 'later', 'now'])
	assert.equal(await vm.eval('slowly(-1).catch(e => e.name + e.message)'), 'RangeErrornegative')
	await assert.rejects(vm.eval('slowly(-1)'), { name: 'RangeError', message: 'negative' })
	assert.match(await vm.eval('odd().catch(e => e.message)'), /function cannot be passed/)
	const closed = vm.eval('never()')
	assert.deepEqual(vm.pending().map(({ name, arguments: list, running }) => [name, list, running]), [['never', [], true]])
	vm.close()
	await assert.rejects(closed, { code: 'ERR_THAW_CLOSED' })
})

test('time passes by the event loop, which is not blocked', async () => {
	const seen = []
	const vm = new ThawVM({ log: text => seen.push(text.trim()), functions: { work: () => later(15) } })
	vm.eval('let n = 0; const ticking = setInterval(() => { console.log(++n); if (n === 5) clearInterval(ticking) }, 4)')
	await later(20)
	assert.deepEqual(seen, []) // nobody waits: no time passes
	let turns = 0
	const counter = setInterval(() => turns++, 1)
	assert.equal(await vm.run(), true)
	clearInterval(counter)
	assert.deepEqual(seen, ['1', '2', '3', '4', '5'])
	assert.ok(turns >= 2)
	assert.equal(await vm.run(), true)
	vm.eval('work().then(() => console.log("worked"))')
	assert.equal(await vm.run(), true) // host functions at work count
	assert.equal(seen.at(-1), 'worked')
	vm.eval('setTimeout(() => {}, 3600000)')
	assert.equal(await vm.run({ ms: 5 }), false)
	vm.close()
})

test('what cuts a callback short is told', async () => {
	const seen = []
	const vm = new ThawVM({ turnMs: 250, log: text => seen.push(text) })
	vm.eval('setTimeout(() => { for (;;); }, 1); const wait = ms => new Promise(done => setTimeout(done, ms))')
	await assert.rejects(vm.run(), { code: 'ERR_THAW_INTERRUPTED' })
	vm.eval('setTimeout(() => { for (;;); }, 1)')
	await vm.call('wait', [5])
	assert.match(seen.join(''), /INTERRUPTED|cut short/)
	const forever = vm.eval('new Promise(() => setInterval(() => {}, 1))')
	setTimeout(() => vm.close(), 10)
	await assert.rejects(forever, { code: 'ERR_THAW_CLOSED' })
})

test('an image goes on, and what waited in it can be settled or called again', async () => {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'thaw-test-node-'))
	const image = path.join(directory, 'a.thaw')
	const functions = { ask: () => new Promise(() => {}), tell: text => `told ${text}`, count: () => 1 }
	try {
		let vm = new ThawVM({ image, functions })
		vm.eval('let n = 1; const got = []; for (const q of ["a", "b", "c"]) ask(q, n).then(v => got.push(v), e => got.push(e.message))')
		const first = vm.checkpoint('first')
		assert.ok(first > 0)
		vm.eval('n = 2')
		assert.ok(vm.checkpoint() > first)
		assert.throws(() => vm.rollback(vm.snapshot()), { code: 'ERR_THAW_INVALID' })
		assert.throws(() => new ThawVM({ image, functions }), { code: 'ERR_THAW_IN_USE' })
		vm.close()

		assert.throws(() => new ThawVM({ image, functions: { count() {} } }), error => {
			assert.equal(error.code, 'ERR_THAW_MISSING')
			assert.deepEqual(error.missing.sort(), ['ask', 'tell'])
			return true
		})
		vm = new ThawVM({ image, functions })
		assert.equal(vm.eval('n'), 2)
		const pending = vm.pending()
		assert.deepEqual(pending.map(({ name, arguments: list, running }) => [name, list, running]),
			[['ask', ['a', 1], false], ['ask', ['b', 1], false], ['ask', ['c', 1], false]])
		assert.equal(vm.settle(pending[0].ticket, { yes: true }), true)
		assert.equal(vm.settle(pending[0].ticket, 1), false)
		assert.equal(vm.reject(pending[2].ticket, new Error('no')), true)
		assert.equal(vm.resume({ ask: async q => `asked ${q}` }), 1)
		assert.equal(vm.resume({ ask: async () => 0 }), 0)
		await vm.run()
		assert.deepEqual(vm.eval('got'), [{ yes: true }, 'no', 'asked b'])
		vm.close()

		for (const at of [first, 'first']) {
			vm = new ThawVM({ image, functions, at })
			assert.equal(vm.eval('n'), 1)
			vm.close()
		}
		assert.throws(() => new ThawVM({ image, functions, at: 'none' }), { code: 'ERR_THAW_NO_GENERATION' })
		vm = new ThawVM({ image, functions })
		vm.eval('n = 10')
		const under_way = vm.checkpointAsync('background')
		vm.eval('n = 11')
		await assert.rejects(vm.checkpointAsync(), { code: 'ERR_THAW_BUSY' })
		assert.ok(await under_way > first)
		vm.close()
		vm = new ThawVM({ image, functions, at: 'background' })
		assert.equal(vm.eval('n'), 10)
		const generations = ThawVM.generations(image)
		assert.deepEqual(generations.filter(({ names }) => names.length).map(({ names }) => names), [['first'], ['background']])
		assert.ok(generations[0].number === first && generations[0].time instanceof Date && generations[0].heapBytes > 1 << 20)
		vm.close()
		await assert.rejects(vm.checkpointAsync(), { code: 'ERR_THAW_CLOSED' })
		vm = new ThawVM({ image, functions, fresh: true, smallCheckpoints: true, retain: 2 })
		assert.equal(vm.eval('typeof n'), 'undefined')
		vm.eval('let n = 0')
		for (let i = 0; i < 40; i++) vm.eval('n++'), vm.checkpoint()
		vm.close()
		vm = new ThawVM({ image, functions, prefetch: true })
		assert.equal(vm.eval('n'), 40)
		vm.checkpoint('last')
		vm.close()
		// The newest of its two header slots (uffd/image/format.h) is damaged.
		const bytes = fs.readFileSync(image), sequence = at => bytes.readBigUInt64LE(at + 96)
		bytes[(sequence(0) > sequence(4096) ? 0 : 4096) + 96] ^= 1
		fs.writeFileSync(image, bytes)
		const warned = once(process, 'warning')
		vm = new ThawVM({ image, functions })
		assert.equal(vm.eval('n'), 40)
		vm.close()
		const [warning] = await warned
		assert.equal(warning.name, 'ThawWarning')
		assert.match(warning.message, /a\.thaw/)
		assert.throws(() => new ThawVM({ image: '/nowhere/a.thaw' }), { code: 'ENOENT' })
	} finally {
		fs.rmSync(directory, { recursive: true })
	}
})
