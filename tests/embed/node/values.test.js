// SPDX-License-Identifier: GPL-2.0-only
// What goes into a VM and what comes out: the same, copied, or refused.
'use strict'
const { test } = require('node:test')
const assert = require('node:assert')
const { ThawVM } = require(process.env.THAW_VM_PACKAGE)

test('structured data goes in and comes out', () => {
	const vm = new ThawVM({ functions: { host: value => value } })
	vm.eval('const same = v => v; const through = v => host(v)')
	const values = [
		undefined, null, true, false, 0, -0, 1.5, NaN, Infinity, -(2 ** 31), 2 ** 31, 2 ** 53, '', 'a\0b', 'é€😀', 'x'.repeat(119), 'é'.repeat(58),
		...[Uint8ClampedArray, Int8Array, Uint8Array, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array, Float32Array,
			Float64Array].map(Kind => new Kind(new Uint8Array(16).fill(0x91).buffer)),
		'y'.repeat(1e6), 0n, -7n, 2n ** 200n, [], [[], [null, undefined]], {}, { a: { b: [1, 'c'] } }, new Date(86400000),
		new Uint8Array([0, 255]), new Uint8Array(0), new Float64Array([0.5, -0]), new BigInt64Array([-1n]), new Uint16Array([1, 2]).subarray(1),
		Array.from({ length: 1000 }, (_, i) => ({ i, text: `number ${i}` })), Object.create(null, { own: { value: 1, enumerable: true } }),
	]
	for (const value of values)
		for (const name of ['same', 'through']) {
			const back = vm.call(name, [value])
			assert.deepEqual(back, value)
			if (typeof value !== 'object') assert.ok(Object.is(back, value))
		}
	const nested = depth => { let value = null; while (depth--) value = [value]; return value }
	for (const name of ['same', 'through']) {
		assert.deepEqual(vm.call(name, [nested(1000)]), nested(1000))
		assert.throws(() => vm.call(name, [nested(1001)]), { code: 'ERR_THAW_VALUE' })
	}
	assert.deepEqual(vm.call('same', [Buffer.from('ab')]), new Uint8Array([97, 98]))
	assert.deepEqual(vm.call('same', [new Uint8Array([1, 2]).buffer]), new Uint8Array([1, 2]))
	assert.equal(vm.call('same', ['\ud800']), '\ufffd')
	assert.deepEqual(vm.eval('[1, , () => 1, Symbol()]'), [1, undefined, undefined, undefined])
	assert.equal(vm.eval('() => 1'), undefined)
	assert.deepEqual(vm.eval('class C { a = 1; #b = 2; c() {} } new C'), { a: 1 })
	vm.close()
})

test('errors are data, too, and keep their names', () => {
	let heard
	const vm = new ThawVM({ functions: { tell(error) { heard = error } } })
	const error = vm.eval('Object.assign(new RangeError("far"), { code: "E_FAR", more: [1n] })')
	assert.ok(error instanceof Error)
	assert.equal(error.name, 'RangeError')
	assert.equal(error.message, 'far')
	assert.equal(error.code, 'E_FAR')
	assert.deepEqual(error.more, [1n])
	vm.eval('tell(new TypeError("wrong"))')
	assert.equal(String(heard), 'TypeError: wrong')
	vm.eval('const look = e => [e instanceof TypeError, e.name, e.message, e.code, /values.test/.test(e.stack)]')
	assert.deepEqual(vm.call('look', [Object.assign(new TypeError('t'), { code: 1 })]), [true, 'TypeError', 't', 1, false])
	class Own extends Error {}
	Own.prototype.name = 'Own'
	assert.deepEqual(vm.call('look', [new Own('o')]), [false, 'Own', 'o', undefined, false])
	vm.close()
})

test('no name reaches a prototype', () => {
	const vm = new ThawVM({ functions: { host: value => Object.getPrototypeOf(value) === Object.prototype && Object.keys(value)[0] } })
	const value = vm.eval('JSON.parse(\'{"__proto__": {"polluted": 1}, "constructor": 2}\')')
	assert.equal(Object.getPrototypeOf(value), Object.prototype)
	assert.deepEqual(Object.keys(value), ['__proto__', 'constructor'])
	assert.equal({}.polluted, undefined)
	assert.equal(vm.eval('host(JSON.parse(\'{"__proto__": 1}\'))'), '__proto__')
	vm.eval('Object.defineProperty(Array.prototype, 0, { set() { throw 1 } }); const first = v => v[0]')
	assert.equal(vm.call('first', [[5]]), 5)
	vm.close()
})

test('what is no data is refused on both sides', () => {
	const vm = new ThawVM({ functions: { give: () => new Map(), take() {} } })
	vm.eval('const same = v => v')
	const circle = {}
	circle.circle = [circle]
	for (const value of [() => 1, Symbol(), [() => 1], new Map(), new Set(), /a/, circle, Promise.resolve(), new Proxy(new Map(), {}),
		new DataView(new ArrayBuffer(1)), new Number(1)])
		assert.throws(() => vm.call('same', [value]), { code: 'ERR_THAW_VALUE', name: 'TypeError' })
	assert.throws(() => vm.call('same', [{ get a() { throw new RangeError('mine') } }]), { name: 'RangeError', message: 'mine' })
	for (const code of ['new Map', '[/a/]', 'let c = {}; c.c = c; c', '({ p: Promise.resolve() })', 'new Array(1e9)',
		'let l = [1]; for (let i = 0; i < 40; i++) l = [l, l]; l'])
		assert.throws(() => vm.eval(code), { code: 'ERR_THAW_EXCEPTION' }, code)
	assert.throws(() => vm.eval('give()'), { code: 'ERR_THAW_EXCEPTION', vmCode: 'ERR_THAW_VALUE' })
	assert.equal(vm.eval('try { take(new Set) } catch (e) { e.name }'), 'TypeError')
	assert.equal(vm.eval('1 + 1'), 2)
	vm.close()
})

test('arguments of the interface are checked', () => {
	for (const options of [{ image: 1 }, { at: -1 }, { maxBytes: 'x' }, { functions: { a: 1 } }, { snapshot: {} }, { turnMs: NaN }])
		assert.throws(() => new ThawVM(options), /must be|is needed/, JSON.stringify(options))
	assert.throws(() => new ThawVM({ maxBytes: 100000 }), { code: 'ERR_THAW_INVALID' })
	const vm = new ThawVM()
	assert.throws(() => vm.eval(1), TypeError)
	assert.throws(() => vm.call('f', 'x'), TypeError)
	assert.throws(() => vm.call('none'), { code: 'ERR_THAW_EXCEPTION', name: 'TypeError', message: 'none is not a function' })
	assert.throws(() => ThawVM.prototype.eval.call({}, '1'), TypeError)
	vm.close()
	vm.close()
	assert.ok(vm.closed)
	for (const use of [() => vm.eval('1'), () => vm.snapshot(), () => vm.pending(), () => vm.checkpoint()])
		assert.throws(use, { code: 'ERR_THAW_CLOSED' })
})
