// SPDX-License-Identifier: GPL-2.0-only
// Exceptions in both directions, calls inside of calls, limits, modules, output.
'use strict'
const { test } = require('node:test')
const assert = require('node:assert')
const { ThawVM, ThawError, interrupt } = require(process.env.THAW_VM_PACKAGE)

test('an exception of the program has its name, message, frames and properties', () => {
	const vm = new ThawVM()
	vm.eval('function inner() { throw Object.assign(new RangeError("too far"), { code: "E_FAR", hint: 7 }) }\nfunction outer() { inner() }', { name: 'far.js' })
	assert.throws(() => vm.call('outer'), error => {
		assert.ok(error instanceof ThawError && error instanceof Error)
		assert.equal(error.code, 'ERR_THAW_EXCEPTION')
		assert.equal(error.vmCode, 'E_FAR')
		assert.equal(error.hint, 7)
		assert.equal(String(error), 'RangeError: too far')
		assert.match(error.stack, /^RangeError: too far\n +at inner \(far\.js:1:\d+\)\n +at outer \(far\.js:2:\d+\)\n[^]*calls\.test\.js/)
		return true
	})
	assert.throws(() => vm.eval('throw { a: [1] }'), error => error.code === 'ERR_THAW_EXCEPTION' && error.thrown.a[0] === 1)
	assert.throws(() => vm.eval('throw undefined'), error => 'thrown' in error && error.thrown === undefined)
	assert.throws(() => vm.eval('throw new Map'), { code: 'ERR_THAW_EXCEPTION' })
	assert.throws(() => vm.eval('a b', { name: 'bad.js' }), { name: 'SyntaxError', stack: /bad\.js:1/ })
	assert.throws(() => vm.eval('throw new Proxy(new Error, { get() { throw 1 } })'), { code: 'ERR_THAW_EXCEPTION' })
	Error.prepareStackTrace = (error, frames) => frames.length
	try {
		assert.throws(() => vm.call('outer'), { code: 'ERR_THAW_EXCEPTION', message: 'too far' })
	} finally {
		delete Error.prepareStackTrace
	}
	vm.close()
})

test('what a host function throws is thrown in the program', () => {
	const own = Object.assign(new SyntaxError('not so'), { code: 'E_HOST' })
	const vm = new ThawVM({ functions: { fail(kind) { throw kind ? own : { plain: 1n } }, odd() { throw () => 1 } } })
	assert.deepEqual(vm.eval('try { fail(true) } catch (e) { [e instanceof SyntaxError, e.message, e.code, /node:|test/.test(e.stack)] }'),
		[true, 'not so', 'E_HOST', false])
	assert.deepEqual(vm.eval('try { fail(false) } catch (e) { e }'), { plain: 1n })
	assert.match(vm.eval('try { odd() } catch (e) { e.message }'), /=> 1/)
	assert.throws(() => vm.eval('fail(true)'), { name: 'SyntaxError', message: 'not so', vmCode: 'E_HOST' })
	vm.close()
})

test('calls inside of calls', () => {
	const other = new ThawVM({ functions: { back: n => n ? vm.eval(`down(${n - 1})`) : 0 } })
	const vm = new ThawVM({
		functions: {
			again: code => vm.eval(code),
			deeper(n) { return n ? vm.call('down', [n - 1]) + 1 : 0 },
			closes() { vm.close() },
			captures() { vm.snapshot() },
			goes(n) { return other.eval(`back(${n})`) },
		},
	})
	vm.eval('let n = 1; const down = n => deeper(n)')
	assert.equal(vm.eval('again("n = 5"); n'), 5)
	assert.equal(vm.call('down', [20]), 20)
	assert.throws(() => vm.eval('again("throw new TypeError(\\"in there\\")")'), { name: 'TypeError', message: 'in there' })
	assert.throws(() => vm.eval('closes()'), { vmCode: 'ERR_THAW_BUSY' })
	assert.throws(() => vm.eval('captures()'), { vmCode: 'ERR_THAW_BUSY' })
	assert.throws(() => vm.eval('(function f() { again("f()") })()'), error => error.code === 'ERR_THAW_EXCEPTION' || error instanceof RangeError)
	assert.equal(vm.eval('n'), 5)
	assert.equal(vm.closed, false)
	vm.close()
	other.close()
})

test('limits hold, and the VM lives on', () => {
	const short = new ThawVM({ turnMs: 250 })
	assert.throws(() => short.eval('for (;;) try { for (;;); } catch {}'), { code: 'ERR_THAW_INTERRUPTED' })
	assert.equal(short.eval('1'), 1)
	short.close()
	const vm = new ThawVM({ maxBytes: 32 << 20, functions: { cut() { vm.interrupt() } } })
	assert.throws(() => vm.eval('cut(); for (;;);'), { code: 'ERR_THAW_INTERRUPTED' })
	assert.match(vm.eval('let all = []; try { for (;;) all.push("x".repeat(1e6) + all.length) } catch (e) { all = 0; e.message }'), /memory/)
	assert.equal(vm.eval('const f = () => { try { return f() } catch (e) { return e.name } }; f()'), 'RangeError')
	assert.equal(vm.eval('7'), 7)
	assert.equal(interrupt(vm.id), true)
	assert.throws(() => vm.eval('for (;;);'), { code: 'ERR_THAW_INTERRUPTED' })
	vm.close()
	assert.equal(interrupt(vm.id), false)
	const ends = new ThawVM()
	const waits = ends.eval('new Promise(() => {})')
	assert.throws(() => ends.context('').eval('const end = import("thaw").then(t => t.exit(3))'), { code: 'ERR_THAW_ENDED', exitCode: 3 })
	assert.throws(() => ends.eval('1'), { code: 'ERR_THAW_ENDED' })
	ends.close()
	return assert.rejects(waits, { code: 'ERR_THAW_ENDED' })
})

test('output and modules', async () => {
	const output = [], sources = { 'lib/a.js': 'export const a = 1; export { b } from "./b.js"', 'lib/b.js': 'export const b = typeof globalThis' }
	const vm = new ThawVM({ log: (text, fd) => output.push([fd, text]), loadModule: name => sources[name] })
	vm.eval('console.log("hello", [1]); console.error("oh"); Promise.reject(new Error("in there")); 0')
	assert.deepEqual(output.slice(0, 2), [[1, 'hello [ 1 ]\n'], [2, 'oh\n']])
	assert.match(output[2][1], /in there/)
	await vm.eval('import { a, b } from "./lib/a.js"; globalThis.got = [a, b]', { module: true, name: 'main.js' })
	assert.deepEqual(vm.eval('got'), [1, 'object'])
	await assert.rejects(vm.eval('import("none.js")'), /none\.js/)
	await assert.rejects(vm.eval('throw new TypeError("in a module")', { module: true }), { name: 'TypeError', message: 'in a module' })
	vm.close()
	const asked = []
	const own = new ThawVM({
		resolveModule(name, importer) { asked.push([name, importer]); return `${name}!` },
		loadModule: name => `export const name = ${JSON.stringify(name)}; export const n = ${own.eval('1 + 1')}`,
		maxLogBytes: 1000, log() {},
	})
	await own.eval('import { name, n } from "x"; globalThis.got = [name, n]', { module: true, name: 'main.js' })
	assert.deepEqual([own.eval('got'), asked], [['x!', 2], [['x', 'main.js']]])
	assert.throws(() => own.eval('for (;;) console.log("x".repeat(100))'), { code: 'ERR_THAW_INTERRUPTED' })
	own.close()
	const fails = new ThawVM({ log() { throw new RangeError('of log') } })
	assert.throws(() => fails.eval('console.log(1)'), { message: 'of log' })
	assert.equal(fails.eval('2'), 2)
	fails.close()
})

test('no call leaves anything behind', async () => {
	const vm = new ThawVM({ functions: { host: value => value, fail() { throw new Error('no') }, later: async value => value } })
	vm.eval(`const pass = v => v, bad = () => { throw new TypeError('t') }, viaHost = v => host(v), map = () => new Map(), promise = async v => v
		const viaFail = () => { try { fail() } catch (e) { return e.message } }, wait = v => later(v)`)
	const value = { a: 1, b: ['text', 2n, new Uint8Array(9), new Date(), new Error('x')] }
	const quietly = call => { try { call() } catch {} }
	const kinds = [() => vm.call('pass', [value]), () => quietly(() => vm.call('bad')), () => vm.call('viaHost', [value]), () => vm.call('viaFail'),
		() => quietly(() => vm.call('none')), () => quietly(() => vm.call('map')), () => vm.eval('({ a: 1 })'), () => quietly(() => vm.eval('a b')),
		() => vm.context('other').eval('1'), () => vm.pending(), () => vm.call('promise', [value]), () => vm.call('wait', [value])]
	const live = () => { vm.collect(); return vm.usage().liveBytes }
	for (const kind of kinds) {
		for (let i = 0; i < 20; i++) await kind()
		const before = live()
		for (let i = 0; i < 300; i++) await kind()
		const grown = live() - before
		assert.ok(grown < 300 * 8, `${kind}: ${grown} bytes`)
	}
	assert.ok(vm.usage().heapBytes > vm.usage().liveBytes && vm.usage().turns > 3000)
	vm.close()
})

test('what would name another thing than it says is refused', () => {
	const vm = new ThawVM()
	vm.eval('function id(x) { return x }')
	for (const wrong of [() => vm.call('id\0entity', [1]), () => vm.context('a\0b'), () => new ThawVM({ image: '/nowhere/a\0b' }),
		() => new ThawVM({ functions: { 'a\0b': () => 1 } }), () => ThawVM.generations('/nowhere/a\0b')])
		assert.throws(wrong, { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' })
	assert.equal(vm.eval('"a\\0b"'), 'a\0b')
	assert.equal(vm.eval('"a\0b"').length, 3)
	for (const name of ['log', 'loadModule', 'resolveModule'])
		assert.throws(() => new ThawVM({ [name]: 1 }), { name: 'TypeError', message: name + ' must be a function' })
	vm.close()
})
