// SPDX-License-Identifier: GPL-2.0-only
// Snapshots, forks, rollbacks, bytes and contexts; and what nobody closes.
'use strict'
const { test } = require('node:test')
const assert = require('node:assert')
const { spawnSync } = require('node:child_process')
const { ThawVM, Snapshot } = require(process.env.THAW_VM_PACKAGE)

test('forks go their own ways', () => {
	const vm = new ThawVM()
	vm.eval('let n = 1; const up = () => ++n')
	const snapshot = vm.snapshot()
	const forks = Array.from({ length: 20 }, () => snapshot.fork())
	forks.forEach((fork, index) => { for (let i = 0; i < index; i++) fork.call('up') })
	assert.deepEqual(forks.map(fork => fork.eval('n')), forks.map((_, index) => index + 1))
	assert.equal(vm.eval('n'), 1)
	assert.equal(new ThawVM({ snapshot }).call('up'), 2)
	snapshot.dispose()
	snapshot.dispose()
	assert.throws(() => snapshot.fork(), { code: 'ERR_THAW_CLOSED' })
	assert.equal(forks[3].call('up'), 5)
	for (const fork of forks) fork.close()
	vm.close()
})

test('a VM goes back, also from what has ended', async () => {
	const vm = new ThawVM({ functions: { ask: () => new Promise(() => {}), answer: text => Promise.resolve(text) } })
	vm.eval('let n = 1, got; ask("first").then(v => got = v)')
	const before = vm.snapshot()
	const waits = vm.eval('n = 2; ask("second")')
	vm.rollback(before)
	await assert.rejects(waits, { code: 'ERR_THAW_ROLLED_BACK' })
	assert.equal(vm.eval('n'), 1)
	const pending = vm.pending()
	assert.deepEqual(pending.map(call => call.arguments), [['first']])
	vm.settle(pending[0].ticket, 'now')
	assert.equal(vm.eval('got'), 'now')
	// One that is at work settles what it was called for, whatever the VM was meanwhile.
	const asked = new ThawVM({ functions: { slowly: text => new Promise(done => setTimeout(done, 5, text)) } })
	asked.eval('let heard; slowly("early").then(text => heard = text)')
	const waiting = asked.snapshot()
	asked.eval('slowly("late").then(text => heard = text)')
	asked.rollback(waiting)
	assert.deepEqual(asked.pending().map(({ arguments: list, running }) => [list, running]), [[['early'], true]])
	assert.equal(await asked.run(), true)
	assert.equal(asked.eval('heard'), 'early')
	asked.close()
	assert.throws(() => vm.eval('import("thaw").then(t => t.exit(1))'), { code: 'ERR_THAW_ENDED' })
	vm.rollback(before)
	assert.equal(await vm.eval('answer("again")'), 'again')
	vm.close()
})

test('as bytes and deltas they open again', () => {
	const vm = new ThawVM()
	vm.eval('const list = []; const add = n => list.push(n)')
	const chain = [vm.snapshot()]
	const parts = [chain[0].bytes()]
	for (let i = 0; i < 5; i++) {
		vm.call('add', [i])
		chain.push(vm.snapshot())
		parts.push(chain.at(-1).bytes({ since: chain.at(-2) }))
	}
	assert.ok(Buffer.isBuffer(parts[0]) && parts[1].length < parts[0].length / 10)
	let opened
	for (const [index, part] of parts.entries()) {
		opened = Snapshot.from(part, opened)
		assert.equal(opened.id, chain[index].id)
		assert.deepEqual(opened.fork().eval('list'), [0, 1, 2, 3, 4].slice(0, index))
	}
	assert.match(opened.id, /^[0-9a-f]{32}$/)
	assert.deepEqual(opened.bytes(), chain.at(-1).bytes())
	assert.throws(() => Snapshot.from(parts[1]), { code: 'ERR_THAW_NO_GENERATION' })
	assert.throws(() => Snapshot.from(parts[0].subarray(1)), { code: 'ERR_THAW_FOREIGN' })
	assert.throws(() => Snapshot.from(parts[0].subarray(0, -1)), { code: 'ERR_THAW_DAMAGED' })
	assert.throws(() => Snapshot.from('text'), TypeError)
	assert.throws(() => Snapshot.from(parts[0], undefined, { maxBytes: 65536 }), { code: 'EFBIG' })
	assert.throws(() => new Snapshot(), TypeError)
})

test('the same on another thread, while the event loop goes on', async () => {
	const vm = new ThawVM()
	vm.eval('const list = Array.from({ length: 200000 }, (_, i) => ({ i }))')
	const first = vm.snapshot()
	vm.eval('list[7].i = 8')
	const second = vm.snapshot()
	const made = [first.bytesAsync(), second.bytesAsync({ since: first })]
	vm.close()
	let turns = 0
	const counter = setInterval(() => turns++, 1)
	const parts = await Promise.all(made)
	clearInterval(counter)
	assert.ok(turns > 0)
	assert.deepEqual(parts, [first.bytes(), second.bytes({ since: first })])
	const base = await Snapshot.fromAsync(parts[0]), opened = Snapshot.fromAsync(parts[1], base)
	parts[1].fill(0) // it has its own copy
	base.dispose()
	assert.equal((await opened).id, second.id)
	await assert.rejects(Snapshot.fromAsync(parts[0].subarray(9)), { code: 'ERR_THAW_FOREIGN' })
	await assert.rejects(Snapshot.fromAsync('text'), TypeError)
	await assert.rejects(base.bytesAsync(), { code: 'ERR_THAW_CLOSED' })
})

test('contexts have their own globals, also after a snapshot', async () => {
	const vm = new ThawVM({ functions: { host: n => n + 1, inside: () => vm.context('second').eval('typeof run') } })
	const second = vm.context('second')
	vm.eval('function run() { return 1 }')
	second.eval('function run() { return host(1) } const late = () => new Promise(done => setTimeout(() => done(run()), 1))')
	assert.equal(vm.call('run'), 1)
	assert.equal(second.call('run'), 2)
	assert.equal(await second.call('late'), 2)
	assert.equal(vm.context('second'), second)
	assert.equal(vm.context('').eval('typeof late'), 'undefined')
	assert.deepEqual([vm.eval('const mine = 1; inside() + typeof mine'), second.eval('inside() + typeof mine')], ['functionnumber', 'functionundefined'])
	const copy = Snapshot.from(vm.snapshot().bytes()).fork({ functions: { host: n => n + 10, inside() {} } })
	assert.deepEqual([copy.call('run'), copy.context('second').call('run')], [1, 11])
	copy.close()
	vm.close()
})

test('a VM that nobody closes is closed when it is collected', () => {
	const program = `
		const { ThawVM } = require(process.env.THAW_VM_PACKAGE)
		const base = new ThawVM()
		base.eval('const list = new Array(1000).fill(1)')
		const snapshot = base.snapshot()
		const mappings = () => require('fs').readFileSync('/proc/self/maps', 'latin1').split('\\n').length
		const make = () => { const fork = snapshot.fork({ functions: { self: () => fork } }); fork.eval('list.fill(2)') }
		make()
		const before = mappings()
		const round = count => {
			for (let i = 0; i < 20; i++) make()
			gc()
			setImmediate(() => {
				gc()
				if (count) return round(count - 1)
				const grown = mappings() - before
				console.log(grown < 100 ? 'collected' : 'grown by ' + grown)
			})
		}
		round(20)`
	const ran = spawnSync(process.execPath, ['--expose-gc', '-e', program], { encoding: 'utf8' })
	assert.equal(ran.stdout + ran.stderr, 'collected\n')
})
