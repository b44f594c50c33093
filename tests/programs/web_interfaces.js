// Interfaces of the web, and err.stack: what is right stands at the end, each line said by one of these (web_interfaces.c).
const say = (name, ...values) => console.log(name + ':', ...values)
const attempt = (act) => { try { return act() } catch (error) { return error.name + (error.code ? ' ' + error.code : '') } }
const head = (error) => error.stack.split('\n    at ')[0]

// ---- err.stack
class Sub extends RangeError { constructor(message) { super(message); this.name = 'Sub' } }
class Prototyped extends Error { get name() { return 'Prototyped' } }
class Bare extends Error {}
class FooError extends TypeError {}
class Captured extends Error { constructor(message) { super(message); Error.captureStackTrace(this, Captured); this.name = 'Captured' } }
for (const error of [new Error('plain'), new TypeError('two\n\nlines'), new Error(''), new Sub('sub'), new Prototyped('proto'), new Bare('bare'),
	new FooError('foo'), new Captured('captured'), Error('called'), new AggregateError([], 'all'), new DOMException('dom', 'AbortError')]) {
	const stack = error.stack
	say('stack', JSON.stringify(head(error)), /^    at .*web_interfaces\.js:\d+:\d+\)$/m.test(stack), stack.endsWith('\n'), Object.keys(error).includes('stack'))
}
say('thrown by the engine', JSON.stringify(head(attempt2(() => null.x))), JSON.stringify(head(attempt2(() => eval('let y = ;')))))
function attempt2(act) { try { act() } catch (error) { return error } }
const late = new Error('at first'); late.message = 'later'; late.name = 'Late'
say('put together when it is asked for, then kept', head(late), (late.message = 'too late', head(late)))
const set = new Error('x'); set.stack = 'mine'; say('set', set.stack, JSON.stringify(set)); set.stack = undefined; say('set', set.stack, Object.hasOwn(set, 'stack'))
say('frozen', head(Object.freeze(new Error('cold'))))
const plain = { name: 'N', message: 'm' }; Error.captureStackTrace(plain); say('captured', head(plain), Object.keys(plain).join())
const nothing = {}; Error.captureStackTrace(nothing); say('captured', head(nothing), nothing.stack.includes('thaw:'))
function outer() { const o = {}; inner(o); return o } function inner(o) { Error.captureStackTrace(o, inner) }
say('without those above', outer().stack.split('\n')[1].trim().split(' ')[1])
function elsewhere() {} const o = new Error('e'); Error.captureStackTrace(o, elsewhere); say('not a caller', head(o), o.stack.includes('thaw:'))
Error.stackTraceLimit = 0; say('no frames', JSON.stringify(new Error('short').stack)); Error.stackTraceLimit = 10
Error.prepareStackTrace = (error, sites) => sites.map((site) => typeof site.getLineNumber()).slice(0, 1); say('prepared', new Error('x').stack); Error.prepareStackTrace = undefined
say('primitive receivers', attempt(() => Object.getOwnPropertyDescriptor(Error.prototype, 'stack').get.call(1)), Object.create(Error.prototype).stack)

// ---- DOMException
const exception = new DOMException('gone', 'NotFoundError')
say('DOMException', exception.name, exception.message, exception.code, exception instanceof Error, Error.isError(exception), String(exception),
	Object.prototype.toString.call(exception), DOMException.NOT_FOUND_ERR, exception.DATA_CLONE_ERR, Object.keys(exception).length)
say('defaults', JSON.stringify([new DOMException().message, new DOMException().name, new DOMException().code]), attempt(() => DOMException('x')))
say('with a cause', new DOMException('c', { name: 'DataError', cause: 5 }).cause, new (class extends DOMException {})('s', 'AbortError').code)
say('brands', attempt(() => DOMException.prototype.name), attempt(() => Object.getOwnPropertyDescriptor(DOMException.prototype, 'code').get.call({})))
say('atob', attempt(() => atob('*')), attempt(() => btoa('\u0100')), atob('aGk='), atob.name, attempt(() => atob()))

// ---- structuredClone
const clone = structuredClone
const shared = new SharedArrayBuffer(8)
const { first, second, view } = clone({ first: shared, second: shared, view: new Uint8Array(shared, 2, 3) })
new Uint8Array(first)[3] = 9
say('shared', first === second, first !== shared, view.buffer === first, new Uint8Array(shared)[3], view[1], view.byteOffset, view.length)
const growable = new SharedArrayBuffer(4, { maxByteLength: 16 }), grown = clone(growable), tracked = new Uint8Array(grown)
growable.grow(8); new Uint8Array(growable)[7] = 3
say('growable', grown.growable, grown.maxByteLength, grown.byteLength, tracked.length, tracked[7], (grown.grow(16), growable.byteLength), attempt(() => grown.grow(17)))
const resizable = new ArrayBuffer(8, { maxByteLength: 16 })
const copies = clone({ resizable, tracking: new Uint16Array(resizable, 2), fixed: new Uint8Array(resizable, 1, 3), data: new DataView(resizable, 4), part: new DataView(resizable, 4, 2) })
copies.resizable.resize(12)
say('resizable', copies.resizable.resizable, copies.resizable.maxByteLength, copies.tracking.length, copies.fixed.length, copies.data.byteLength, copies.part.byteLength,
	copies.tracking.buffer === copies.resizable, copies.tracking.byteOffset)
const outside = new Uint8Array(resizable, 4, 4); resizable.resize(6); say('out of bounds', attempt(() => clone(outside)), attempt(() => clone(new DataView(resizable, 2))).byteLength)
resizable.resize(8); say('and in bounds again', clone(outside).length)
const moved = new ArrayBuffer(4); new Uint8Array(moved)[1] = 5
const there = clone({ moved, view: new Uint8Array(moved, 1, 2) }, { transfer: [moved] })
say('transfer', moved.detached, there.moved.byteLength, there.view[0], there.view.buffer === there.moved, attempt(() => clone(moved)), attempt(() => clone(1, { transfer: [moved] })))
const buffer = new ArrayBuffer(4)
say('twice', attempt(() => clone(1, { transfer: [buffer, buffer] })), buffer.byteLength, attempt(() => clone(1, { transfer: [buffer, shared] })), buffer.detached,
	attempt(() => clone({ f() {} }, { transfer: [buffer] })), buffer.detached)
const big = new ArrayBuffer(2, { maxByteLength: 4 }), alone = clone(big, { transfer: new Set([big]) })
say('alone', big.detached, alone.resizable, alone.maxByteLength, alone.byteLength)
say('not seen', (clone(1, { transfer: [buffer] }), buffer.detached), attempt(() => clone(1, { transfer: [5] })), attempt(() => clone(1, { transfer: 5 })), attempt(() => clone(1, 5)), clone(1, null))
const getter = new ArrayBuffer(4); say('detached meanwhile', attempt(() => clone({ get a() { getter.transfer(); return 1 } }, { transfer: [getter] })))
const written = new ArrayBuffer(1); say('written meanwhile', new Uint8Array(clone({ written, get a() { new Uint8Array(written)[0] = 7; return 1 } }, { transfer: [written] }).written)[0])
say('missing', attempt(() => clone()), clone(undefined), clone.length)
const regexp = /a+/dgy; regexp.lastIndex = 4; regexp.extra = 1; const cloned = clone(regexp); say('regexp', String(cloned), cloned.lastIndex, cloned.extra)
say('boxed', clone([Object(1), Object('s'), Object(true), Object(2n)]), clone(Object.assign(new String('a'), { b: 1 })).b)
say('date', clone(new Date(5)).getTime(), Number.isNaN(clone(new Date(NaN)).getTime()))
const sparse = [1, , 3]; sparse.x = 'y'; sparse[Symbol('no')] = 1; const holes = clone(sparse); say('array', holes, 1 in holes, holes.length, clone(new Array(5)).length)
class Point { #hidden = 1; x = 2; get y() { return 3 } static z = 4 } const flat = clone(new Point()); say('plain', flat, flat.constructor === Object)
say('keys', Object.keys(clone({ b: 1, a: 2, 1: 3, __proto__: { inherited: 1 } })).join(), Object.keys(clone(JSON.parse('{"__proto__": 1}'))).join())
const ring = { list: [] }; ring.list.push(ring, ring.list); const turned = clone(ring); say('cycles', turned.list[0] === turned, turned.list[1] === turned.list)
const map = new Map([['a', 1], ['b', 2]]); map.set('c', { get x() { map.set('d', 1); map.delete('a'); return 1 } }); map.set(map, map); const other = clone(map)
say('map', [...other.keys()].length, other.get(other) === other, clone(new Set([1, 'a', ring])).size, clone(new (class M extends Map { z = 1 })([[1, 2]])).constructor === Map)
say('getters', attempt(() => clone({ get a() { throw new SyntaxError('mine') } })), clone({ get a() { delete this.b; return 1 }, b: 2 }))
const original = new RangeError('text', { cause: { deep: [1] } }); original.extra = 1
const error = clone(original); say('error', error.constructor === RangeError, error.message, error.cause.deep[0], error.stack === original.stack, error.extra, Object.keys(error).length)
say('named', clone(Object.assign(new Error('m'), { name: 'TypeError' })).constructor.name, clone(new Sub('s')).name, clone(new AggregateError([1], 'm')).constructor.name,
	Object.hasOwn(clone(new Error()), 'message'), clone(Object.defineProperty(new Error('m'), 'message', { get() { throw 1 } })).message === '')
const dom = clone(new DOMException('d', 'AbortError')); say('dom', dom instanceof DOMException, dom.name, dom.message, dom.code)
for (const [name, value] of Object.entries({ function: () => {}, class: class {}, symbol: Symbol(), boxed: Object(Symbol()), promise: Promise.resolve(), weakmap: new WeakMap(),
	weakset: new WeakSet(), weakref: new WeakRef({}), registry: new FinalizationRegistry(() => {}), proxy: new Proxy({}, {}), generator: (function* () {})(), iterator: [][Symbol.iterator](),
	arguments: (function () { return arguments })(1), module: await import('thaw'), timer: setTimeout(() => {}), detached: moved, nested: { a: [new Map([[1, () => {}]])] } }))
	say('refused', name, attempt(() => clone(value)))

// ---- crypto
for (const array of [new Float32Array(1), new Float64Array(1), new DataView(new ArrayBuffer(1)), [], new Uint8Array(65537), new ArrayBuffer(1), undefined])
	say('getRandomValues', attempt(() => crypto.getRandomValues(array)))
for (const array of [new BigInt64Array(1), new Uint8ClampedArray(2), new Int32Array(65536 / 4), new Uint8Array(0)])
	say('getRandomValues', crypto.getRandomValues(array) === array)
say('randomUUID', /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()))

// ---- What console prints
say('printed')
console.log([new Captured('shown'), new Bare('shown'), new FooError('shown')].map((error) => console.log(error) ?? 0).length)
const once = new Error('once'); once.stack; console.log(once)
const multi = new Error('a\n\nb'); multi.stack; console.log(multi)
console.log(exception, [exception])
throw exception

/* expected
stack: "Error: plain" true false false
stack: "TypeError: two\n\nlines" true false false
stack: "Error" true false false
stack: "Sub: sub" true false false
stack: "Prototyped: proto" true false false
stack: "Error: bare" true false false
stack: "TypeError: foo" true false false
stack: "Captured: captured" true false false
stack: "Error: called" true false false
stack: "AggregateError: all" true false false
stack: "AbortError: dom" true false false
thrown by the engine: "TypeError: cannot read property 'x' of null" "SyntaxError: unexpected token in expression: ';'"
put together when it is asked for, then kept: Late: later Late: later
set: mine {}
set: undefined true
frozen: Error: cold
captured: N: m name,message
captured: Error false
without those above: outer
not a caller: Error: e false
no frames: "Error: short"
prepared: [ 'number' ]
primitive receivers: TypeError undefined
DOMException: NotFoundError gone 8 true true NotFoundError: gone [object DOMException] 8 25 0
defaults: ["","Error",0] TypeError
with a cause: 5 20
brands: TypeError TypeError
atob: InvalidCharacterError 5 InvalidCharacterError 5 hi atob InvalidCharacterError 5
shared: true true true 9 9 2 3
growable: true 16 8 8 3 16 RangeError
resizable: true 16 5 3 8 2 true 2
out of bounds: DataCloneError 25 4
and in bounds again: 4
transfer: true 4 5 true DataCloneError 25 DataCloneError 25
twice: DataCloneError 25 4 DataCloneError 25 false DataCloneError 25 false
alone: true true 4 2
not seen: true TypeError TypeError TypeError 1
detached meanwhile: DataCloneError 25
written meanwhile: 7
missing: TypeError undefined 1
regexp: /a+/dgy 0 undefined
boxed: [ [Number: 1], [String: 's'], [Boolean: true], [BigInt: 2n] ] undefined
date: 5 true
array: [ 1, <1 empty item>, 3, x: 'y' ] false 3 5
plain: { x: 2 } true
keys: 1,b,a __proto__
cycles: true true
map: 4 true 3 true
getters: SyntaxError { a: 1 }
error: true text 1 true undefined 0
named: TypeError Error Error false true
dom: true AbortError d 20
refused: function DataCloneError 25
refused: class DataCloneError 25
refused: symbol DataCloneError 25
refused: boxed DataCloneError 25
refused: promise DataCloneError 25
refused: weakmap DataCloneError 25
refused: weakset DataCloneError 25
refused: weakref DataCloneError 25
refused: registry DataCloneError 25
refused: proxy DataCloneError 25
refused: generator DataCloneError 25
refused: iterator DataCloneError 25
refused: arguments DataCloneError 25
refused: module DataCloneError 25
refused: timer DataCloneError 25
refused: detached DataCloneError 25
refused: nested DataCloneError 25
getRandomValues: TypeMismatchError 17
getRandomValues: TypeMismatchError 17
getRandomValues: TypeMismatchError 17
getRandomValues: TypeError
getRandomValues: QuotaExceededError 22
getRandomValues: TypeError
getRandomValues: TypeError
getRandomValues: true
getRandomValues: true
getRandomValues: true
getRandomValues: true
randomUUID: true
printed:
*/
