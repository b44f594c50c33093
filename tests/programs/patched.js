// Everything that the runtime offers, once with nothing patched, then again for each method, accessor and global of the
// built-ins, patched to throw, and for properties that are put into prototypes. Each round prints the same (javascript_patched.c).
//
// This program itself must not use what it patches: it takes what it needs first, iterates with indexes and has no template
// with a value in it.
import { checkpoint, on, off, readFile, writeFile, appendFile, args, env, generation, stats } from 'thaw'
import standard from 'thaw'

const { defineProperty, getOwnPropertyDescriptor, ownKeys, apply, deleteProperty } = Reflect
const { getPrototypeOf, setPrototypeOf } = Object
const { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval, clearImmediate, structuredClone, TextEncoder, TextDecoder,
	crypto, performance, DOMException, atob, btoa, Map, Set, WeakMap, WeakSet, WeakRef, Error, TypeError, Promise, Uint8Array,
	Float64Array, ArrayBuffer, SharedArrayBuffer, DataView, Date, RegExp, Proxy, Object: ObjectOf, Number, Symbol } = globalThis
const { log, dir, assert, count, countReset, group, groupEnd, table, timeEnd } = console
const { captureStackTrace, isError } = Error
const then = Promise.prototype.then
const stackOf = getOwnPropertyDescriptor(Error.prototype, 'stack').get
const refresh = getPrototypeOf(setTimeout(() => {}, 0)).refresh
const lengthOf = getOwnPropertyDescriptor(getPrototypeOf(Uint8Array.prototype), 'length').get
const { encode, encodeInto } = TextEncoder.prototype
const { decode } = TextDecoder.prototype
const { getRandomValues, randomUUID } = crypto
const { now } = performance
const directory = env.APP_DIRECTORY
const encoder = new TextEncoder(), decoder = new TextDecoder()

const name = (error, value) => defineProperty(error, 'name', { __proto__: null, value })
class Shape { constructor() { this.x = 1 } get y() { return 2 } }
class Failure extends Error { constructor(text) { super(text); captureStackTrace(this, Failure); name(this, 'Failure') } }

function watch(promise, next) {
	defineProperty(promise, 'constructor', { __proto__: null, value: undefined })
	apply(then, promise, [next, (error) => next(error)])
}

const own = (...pairs) => {
	const map = new Map()
	for (let i = 0; i < pairs.length; i += 2)
		apply(mapSet, map, [pairs[i], pairs[i + 1]])
	return map
}
const mapSet = Map.prototype.set
const setAdd = Set.prototype.add
const numbers = [], mixed = [1, , 'three', { four: [5] }]
for (let i = 0; i < 120; i++)
	defineProperty(numbers, i, { __proto__: null, value: i * 7, writable: true, enumerable: true, configurable: true })
const ring = { name: 'ring' }
ring.self = ring
const kinds = [1, -0, 10n, 'it\'s "quoted"\n\u0001\ud800', true, null, undefined, Symbol('s'), {}, [], { a: { b: { c: { d: 1 } } } }, mixed,
	numbers, ring, new Shape(), function named() {}, class A extends Shape {}, new Date(0), /a+/gi, own('k', { v: 1 }, 2, [3]),
	new Set(), new WeakMap(), new WeakSet(), new WeakRef(ring), new Uint8Array(3), new Float64Array(2), new ArrayBuffer(4),
	new SharedArrayBuffer(4), new DataView(new ArrayBuffer(2)), new Number(3), ObjectOf('text'), ObjectOf(2n), new Promise(() => {}),
	new Proxy({ p: 1 }, { __proto__: null }), (function () { return arguments })(1, 2), { get g() { return 1 }, set g(v) {} },
	{ __proto__: null, bare: 1 }, { text: 'a line of text\nand another line that makes it longer than the page is wide\nand a third\n' }]
apply(setAdd, kinds[20], ['item'])

function printing() {
	for (let i = 0; i < kinds.length; i++)
		log(kinds[i])
	log({ strings: kinds[3], longer: 'a\tb' + kinds[3] })
	log('%s %d %i %f %j %o %O %c %%', 'text', 1, '2.5', '3.5', 4, { five: [5] }, { six: 6 }, '', 7, 'eight')
	log('%s %s %s', { plain: 1 }, new Shape(), null)
	log(new Error('one\ntwo', { cause: new TypeError('why') }))
	log([new Failure('failed')], new DOMException('too late', 'AbortError'))
	dir({ a: { b: { c: { d: 1 } } } }, { depth: 0 })
	assert(false, 'assertion %s', 1)
	count('label')
	countReset('label')
	group('group')
	log('in\nit')
	groupEnd()
	timeEnd('never begun')
	table([{ a: 1, b: 'x' }, { a: ring }, 3])
	table(kinds[19])
	table(kinds[20], ['x'])
}

function attempt(act) {
	try {
		return act()
	} catch (error) {
		return error
	}
}

function cloning() {
	const shared = new SharedArrayBuffer(4), buffer = new ArrayBuffer(8, { maxByteLength: 16 })
	log(structuredClone({ list: mixed, map: kinds[19], set: kinds[20], date: kinds[17], regexp: kinds[18], boxed: kinds[29], ring, shared,
		buffer, tracked: new Uint8Array(buffer), view: new DataView(buffer, 2, 3) }))
	log(structuredClone(new TypeError('cloned', { cause: 1 })))
	log(attempt(() => structuredClone({ f() {} })), attempt(() => structuredClone()))
	log(attempt(() => structuredClone(1, { transfer: [buffer, buffer] })), structuredClone([buffer], { transfer: [buffer] }), buffer)
}

function web() {
	const bytes = new Uint8Array(8)
	log(apply(encode, encoder, ['h\u00e9\ud83d\ude00']), apply(encodeInto, encoder, ['\u00e9\u20ac\u20ac', bytes]), bytes)
	log(apply(decode, decoder, [bytes]), apply(lengthOf, apply(getRandomValues, crypto, [new Uint8Array(5)]), []))
	log(attempt(() => apply(getRandomValues, crypto, [new Float64Array(1)])), apply(randomUUID, crypto, []).length)
	log(apply(now, performance, []) > 0, btoa('text'), atob('dGV4dA=='), attempt(() => atob('*')))
	log(apply(stackOf, new Failure('with a head'), []), apply(stackOf, new DOMException('and a name', 'SyntaxError'), []))
	log(args.length, env.APP_DIRECTORY === directory, 'APP_DIRECTORY' in env, generation >= 0, typeof stats().turns)
	log(attempt(() => setTimeout('code')), attempt(() => on('never', () => {})))
	watch(checkpoint(5), (error) => log(error))
}

// Ends with next(), when all that was begun has happened.
function surface(next) {
	let waiting = 1
	const happened = (text) => {
		log(text)
		if (--waiting === 0)
			next()
	}
	const expect = (text) => {
		waiting++
		return () => happened(text)
	}

	printing()
	cloning()
	web()
	const cancelled = [setTimeout(() => log('wrong'), 1), setInterval(() => log('wrong'), 1), setImmediate(() => log('wrong'))]
	clearTimeout(+cancelled[0])
	clearInterval(cancelled[1])
	clearImmediate(cancelled[2])
	const listener = (made) => {
		off('checkpoint', listener)
		log('durable', typeof made.generation, made.names.length)
		second()
	}
	on('checkpoint', () => {})
	on('checkpoint', listener)
	waiting++
	watch(checkpoint(), (made) => happened(made.generation > 0))
	const second = () => {
		setImmediate(() => {
			log('first immediate')
			setImmediate(third)
		})
		setImmediate(() => log('second immediate'))
	}
	const third = () => {
		let left = 2
		const interval = setInterval(() => {
			log('tick')
			if (--left === 0) {
				clearInterval(interval)
				apply(refresh, setTimeout(last, 1, 'a', 'b'), [])
			}
		}, 1)
	}
	const last = (a, b) => {
		log('refreshed', a, b)
		files()
	}
	const files = () => {
		const path = directory + '/file'
		watch(writeFile(path, 'written'), () => watch(appendFile(path, new Uint8Array(1)), () => watch(readFile(path, 'utf8'), (text) => {
			log('%j', text)
			watch(readFile(path + '.not'), (error) => {
				log(error.code, error.syscall, isError(error))
				watch(readFile(''), (error) => happened(error))
			})
		})))
	}
}

// ---- What is patched ----

const world = globalThis
const targets = []
const seen = new Set()

function add(name, undo, act) {
	targets.push({ name, act, undo })
}

function thrower(name) {
	const patched = function () { throw new Error('patched ' + name) }
	defineProperty(patched, 'name', { value: name })
	return patched
}

function patch(object, key, path) {
	const found = getOwnPropertyDescriptor(object, key)
	const name = path + '.' + String(key)
	const method = typeof found.value === 'function'
	if ((method ? !found.writable && !found.configurable : found.get === undefined || !found.configurable))
		return
	const wanted = method ? { ...found, value: thrower(found.value.name) } :
		{ ...found, get: thrower(name), set: found.set && thrower(name) }
	add(name, () => defineProperty(object, key, found), () => defineProperty(object, key, wanted))
}

function walk(object, path) {
	if (object === null || (typeof object !== 'object' && typeof object !== 'function') || seen.has(object) || object === standard)
		return
	seen.add(object)
	for (const key of ownKeys(object)) {
		const found = getOwnPropertyDescriptor(object, key)
		patch(object, key, path)
		if (typeof found.value === 'function' || typeof found.value === 'object')
			walk(found.value, path + '.' + String(key))
	}
	walk(getPrototypeOf(object), path + '.__proto__')
}

for (const name of Object.getOwnPropertyNames(globalThis)) {
	const found = getOwnPropertyDescriptor(globalThis, name)
	if (found.value !== globalThis)
		walk(found.value, name)
	if (found.configurable)
		add('global ' + name, () => defineProperty(world, name, found),
			() => defineProperty(world, name, { get: thrower(name), configurable: true }))
}
for (const object of [[][Symbol.iterator](), new Map()[Symbol.iterator](), new Set()[Symbol.iterator](), ''[Symbol.iterator](),
	(function* () {})(), (async function* () {})(), async () => {}, 'a'.matchAll(/a/g)])
	walk(object, 'iterator ' + object[Symbol.toStringTag])

// What a record, a descriptor, options or a list would find in its prototype.
for (const key of ['0', '1', '2', '3', '10', 'get', 'set', 'value', 'writable', 'enumerable', 'configurable', 'depth', 'base', 'open', 'close',
	'entries', 'list', 'hide', 'skipIndexes', 'transfer', 'maxByteLength', 'cause', 'name', 'message', 'stack', 'next', 'previous',
	'index', 'due', 'id', 'running', 'handle', 'callback', 'values', 'seen', 'generation', 'restored', 'names', 'resolve', 'reject',
	'exec', 'flags', 'constructor', 'length', 'toJSON', 'proxy', 'ownKeys', 'has', 'checkpoint', 'restore', 'code'])
	for (const [path, object] of [['Object.prototype', Object.prototype], ['Array.prototype', Array.prototype]]) {
		const found = getOwnPropertyDescriptor(object, key)
		// Programs, too, ask options for these, and console's own `%j` asks for toJSON: as the language has it.
		if (found !== undefined || key === 'toJSON' || (object === Object.prototype && inherited(key)))
			continue
		add('accessor ' + path + '[' + key + ']', () => deleteProperty(object, key), () => defineProperty(object, key, {
			__proto__: null, get: thrower('get ' + key), set: thrower('set ' + key), configurable: true }))
	}

for (const key of ownKeys(Symbol))
	if (typeof Symbol[key] === 'symbol')
		for (const [path, object] of [['Object.prototype', Object.prototype], ['String.prototype', String.prototype],
			['Number.prototype', Number.prototype], ['Array', Array], ['Map', Map], ['Error', Error], ['Promise', Promise]]) {
			const symbol = Symbol[key], found = getOwnPropertyDescriptor(object, symbol)
			// What shows an object's tag asks whether Object.prototype has one, and so does node's.
			if ((found !== undefined && !found.configurable) || (key === 'toStringTag' && object === Object.prototype))
				continue
			add('symbol ' + path + '.' + key, () => found ? defineProperty(object, symbol, found) : deleteProperty(object, symbol),
				() => defineProperty(object, symbol, { __proto__: null, get: thrower('get ' + key), configurable: true }))
		}

// The last, for there is no way back: nothing can be assigned any more to what inherits.
add('all of them, frozen', () => {}, () => {
	apply(forEach, seen, [(object) => attempt(() => freeze(object))])
})
const { freeze } = Object
const { forEach } = Set.prototype

function inherited(key) {
	return ['name', 'message', 'cause', 'transfer', 'depth', 'code'].includes(key)
}

const step = args.length > 0 ? Number(args[0]) : 1 // each so many of them, where all would take too long
let current = { name: 'nothing', act() {}, undo() {} }
let round = 0

function begin() {
	log('== ' + current.name)
	current.act()
	surface(() => setTimeout(end, 0))
}

function end() {
	current.undo()
	if (round >= targets.length)
		return log('== end')
	current = targets[round]
	round += step
	setTimeout(begin, 0)
}

setTimeout(begin, 0)
