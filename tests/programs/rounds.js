// SPDX-License-Identifier: GPL-2.0-only
//
// rounds.js - a computation that is always in the middle of everything.
//
// It goes on in rounds of about a millisecond. Each round picks some of the constructs below at random, nests them
// into each other, and works in the innermost: until that returns (or throws), every one of them is pending on the
// stack. Rounds run in epochs, which are nested the same way. Whatever is computed, and the order in which pending
// parts are left, goes into one digest: a frame that comes back wrong changes it for good.
//
// Every random choice comes from the computation's own state, and nothing from the clock or the engine, so the digest
// after n rounds is the same in every run, and in every engine.

// ---- The state that all rounds share

let left = 0x2545f491, right = 0x85ebca6b, state = 0x9e3779b9, n = 0

// Two halves, because what goes in is often what came out: a single one would cancel itself.
function mix(x) {
	left = (Math.imul(left ^ x, 0x9e3779b1) + right) | 0
	right = (Math.imul(right ^ (x >>> 7), 0xc2b2ae3d) + (left ^ (left >>> 15))) | 0
	return left ^ (right >>> 5)
}

function mixText(text) {
	let h = text.length
	for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
	return mix(h)
}

function random() {
	state ^= state << 13
	state ^= state >>> 17
	state ^= state << 5
	return state >>> 0
}

// Thrown by the innermost, through whatever is pending.
class Unwind extends Error {
	#value
	constructor(value) {
		super('unwind')
		this.#value = value
	}
	get value() {
		return this.#value
	}
}
// Thrown and caught by one construct.
class Expected extends Error {}
// Ends the computation from where it is; nobody but compute() may keep it.
class Stop extends Error {}

const sum = values => [...values].reduce((total, x) => (Math.imul(total, 31) + x) | 0, 7)

// ---- Constructs. Each calls inner() once, somewhere inside itself, and returns a number that depends on it and on
//      what the construct itself remembered meanwhile. r chooses the variant.

function descend(depth, inner) {
	if (!depth) return inner()
	const remembered = depth & 3
	return (Math.imul(descend(depth - 1, inner), 31) + remembered) | 0
}

function* counting(inner, place) {
	try {
		for (let i = 0; i < 6; i++) yield [i, { a: place === i ? inner() : i, rest: [i, i + 1, i + 2] }]
	} finally {
		mix(place) // also when return() or an exception ends it
		if (place === 10) mix(inner())
	}
}

function* delegating(inner, place) {
	try {
		yield [-1, { a: 1, b: 2, rest: 'xy' }]
		yield* counting(inner, place)
	} finally {
		mix(3)
	}
}

const trapped = [
	inner => new Proxy({}, { get: (target, key) => (mixText(key), inner()) }).property,
	inner => ('k' in new Proxy({}, { has: () => inner() & 1 }) ? 5 : 6),
	inner => {
		const target = {}
		new Proxy(target, { set: (o, key, value) => Reflect.set(o, key, value ^ inner()) }).p = 77
		return target.p
	},
	inner => new Proxy(x => x, { apply: (f, self, [x]) => f(x) + inner() })(4),
	inner => new (new Proxy(class { constructor(x) { this.x = x } }, { construct: (C, list) => new C(inner() ^ list[0]) }))(9).x,
	inner => Object.keys(new Proxy({ a: 1, b: 2 }, { ownKeys: target => (mix(inner()), Reflect.ownKeys(target)) })).length,
	inner => {
		const seen = { ...new Proxy({ a: 1 }, { getOwnPropertyDescriptor: (o, key) => ({ value: inner(), enumerable: true, configurable: true, writable: true }), get: () => mix(8) }) }
		return seen.a
	},
	inner => (delete new Proxy({ a: 1 }, { deleteProperty: () => (mix(inner()), true) }).a ? 1 : 2),
	inner => (new Proxy({}, { getPrototypeOf: () => (mix(inner()), Array.prototype) }) instanceof Array ? 3 : 4),
]

// Array.prototype's callbacks: `f` gives inner()'s value at the third element, and the element itself at the others.
const arrayCallbacks = [
	(list, f) => sum(list.map(f)),
	(list, f) => list.filter(x => f(x) & 1).length,
	(list, f) => list.reduce((total, x) => (Math.imul(total, 3) + f(x)) | 0, 1),
	(list, f) => list.reduceRight((total, x) => total ^ f(x), 1),
	(list, f) => sum(list.flatMap(x => [x, [f(x)]]).flat()),
	(list, f) => sum(Array.from(list, f)),
	(list, f) => list.findIndex(x => f(x) === 12345),
	(list, f) => (list.every(x => f(x) !== 12345) ? 1 : 2),
	(list, f) => (list.some(x => f(x) === 12345) ? 1 : 2),
	(list, f) => {
		let total = 0
		list.forEach(x => { total = (total * 5 + f(x)) | 0 })
		return total
	},
	(list, f) => sum(Int32Array.from(list, f).map(x => x >> 1)),
	(list, f) => {
		let total = 0
		new Set(list).forEach(x => { total ^= f(x) })
		return total
	},
	(list, f) => {
		let total = 0
		for (const [key, value] of new Map(list.map(x => [x, f(x)])).entries()) total = (total * 7 + key + value) | 0
		return total
	},
]

const primitive = [
	(o, r) => +o + r,
	(o, r) => mixText(`${o}:${r}`),
	(o, r) => (o < r ? 1 : 2),
	(o, r) => mixText(String({ [o]: r }[o])),
	(o, r) => mixText(o + ''),
	o => Math.max(o, 1) | 0,
	o => Number(BigInt.asIntN(32, BigInt(Number(o)) * 3n)),
	o => new Date(o).getTime() | 0,
	o => mixText('abc'.padEnd(Math.abs(o % 9), o)),
]

class Base {
	constructor(make) {
		this.made = make('base')
	}
	value(x) {
		return this.made + x
	}
	get twice() {
		return this.made * 2
	}
}

const constructs = {
	recursion: (inner, r) => descend(r % 900, inner),

	mutualRecursion(inner, r) {
		const even = d => (d ? odd.call({ d }, d - 1) : inner())
		const odd = function (d) {
			return d ? even(...[d - 1]) + this.d : inner() ^ this.d
		}
		return even(r % 200) | 0
	},

	blocks(inner, r) {
		let trace = 1
		again: for (let i = 0; ; i++) {
			try {
				try {
					if (r % 4 === 0 && i === 1) trace += inner()
					throw new Expected(`${i}`, { cause: trace })
				} catch (e) {
					if (!(e instanceof Expected)) throw e
					if (r % 4 === 1 && i === 1) trace ^= inner() // the exception is held by this frame
					if (i < 2) continue again // with two finally blocks to go
					break
				} finally {
					trace = mix(trace)
					if (r % 4 === 2 && i === 2) trace ^= inner() // the break is pending
				}
			} finally {
				trace += i
				if (r % 4 === 3 && i === 1) trace ^= inner() // the continue is pending
			}
		}
		return trace | 0
	},

	returns(inner, r) {
		const leave = () => {
			for (const x of [1, 2, 3]) {
				try {
					if (x === 2) return r
				} finally {
					if (x === 2) mix(inner()) // the return value, and the array's iterator, are pending
				}
			}
		}
		return leave() | 0
	},

	generators(inner, r) {
		const place = [2, 10, 20][r % 3]
		let total = 0
		for (const [i, { a, b = i * 2, rest: [first, ...others] }] of delegating(inner, place)) {
			total = (total * 3 + a + b + (first | 0) + others.length) | 0
			if (place === 20 && i === 1) total ^= inner()
			if (i === 4) break
		}
		return total
	},

	generatorProtocol(inner, r) {
		function* echo() {
			for (let got = 1; ;) {
				try {
					got = yield got === 5 ? inner() : got * 2
				} catch (e) {
					if (typeof e !== 'number') throw e
					got = e
				}
			}
		}
		const it = echo()
		let total = it.next().value
		for (const x of [3, 5, 8]) total = (total * 7 + it.next(x).value) | 0
		return total + it.throw(r & 1 ? 21 : 4).value + it.return(6).value
	},

	sort(inner, r) {
		let got
		const list = Array.from({ length: 24 }, (_, i) => Math.imul(i + 1, r | 1) >>> 8)
		list.sort((a, b) => {
			got ??= inner()
			return a - b
		})
		return sum([got, ...list])
	},

	sortTyped(inner, r) {
		let got
		const list = Uint16Array.from({ length: 24 }, (_, i) => Math.imul(i + 1, r | 1) >>> 8)
		list.sort((a, b) => ((got ??= inner()), b - a))
		return sum([got, ...list])
	},

	replace: (inner, r) => mixText('one two three four'.replace(/(?<first>\w)(\w*)/g,
		(all, first, rest, offset, whole, { first: named }) => (offset === 8 ? inner() : rest + named + (r & 7)))),

	reviver: (inner, r) => sum(JSON.parse(`{"a":[1,2,{"b":3}],"c":"x","d":${r}}`, function (key, value) {
		if (key === 'b') return inner()
		if (key === 'c') return value.length + (this.d & 15)
		return key === '' ? [value.a[2].b, value.c, value.d] : value
	})),

	stringify: (inner, r) => mixText(JSON.stringify({
		plain: [1, { two: 2 }],
		get got() { return r % 3 === 0 ? inner() : 1 },
		nested: { deep: { toJSON: key => key + (r % 3 === 1 ? inner() : 2) } },
		replaced: 4,
	}, (key, value) => (key === 'replaced' && r % 3 === 2 ? inner() : value), r & 1 ? 2 : 0)),

	proxy: (inner, r) => trapped[r % trapped.length](inner) | 0,

	accessors(inner, r) {
		const o = {
			kept: r & 255,
			get x() { return r & 1 ? inner() : 5 },
			set y(value) { this.kept ^= value + (r & 1 ? 3 : inner()) },
		}
		Object.defineProperty(o, 'z', { get() { return this.x + this.kept } })
		o.y = 6
		return o.z | 0
	},

	primitives: (inner, r) => primitive[(r >>> 2) % primitive.length](
		r & 1 ? { [Symbol.toPrimitive]: hint => (mixText(hint), inner()) }
			: { valueOf: () => inner(), toString: null }, r & 65535) | 0,

	iterators(inner, r) {
		const place = r % 3
		const iterable = {
			[Symbol.iterator]() {
				let i = 0
				return {
					next: () => ({ done: i >= 5, value: ++i === 2 && place === 0 ? inner() : i }),
					return() {
						if (place === 1) mix(inner())
						return {}
					},
				}
			},
		}
		const [a, b, c = 3] = iterable // ends with return()
		const { length, [`k${b}`]: missing = place === 2 ? inner() : 8 } = 'four'
		if (place === 1 || place === 0) return (a + b + c + length + missing) | 0
		return Math.max(...iterable, ...[a, missing]) | 0
	},

	spread(inner, r) {
		let once = 0
		const iterable = { *[Symbol.iterator]() { yield r & 7; yield once++ ? 1 : inner(); yield 4 } }
		const f = (a, b, ...rest) => a * 3 + b + rest.length
		return f(...[9, 8], ...iterable, ...'xyz') + [...iterable].length | 0
	},

	evals(inner, r) {
		switch (r % 5) {
		case 0: return eval('let kept = r & 7; inner() + kept')
		case 1: return (0, eval)('(f, x) => { const kept = x & 3; return f() ^ kept }')(inner, r)
		case 2: return new Function('f', 'x', 'with ({ f, kept: x & 15 }) { return f() + kept }')(inner, r)
		case 3: return eval('(() => { try { return inner() } finally { mix(4) } })()')
		default: return [...new (function* () {}).constructor('f', 'yield 1; yield f(); yield 2')(inner)][1]
		}
	},

	classes(inner, r) {
		const place = r % 6
		const call = where => (place === where ? inner() : where)
		class Derived extends Base {
			static total = call(0)
			#secret = call(1)
			kept = this.made ^ this.#secret;
			[`computed${call(2)}`] = 1
			static { this.total += call(3) }
			constructor(make) {
				super(make)
				this.#secret += new.target === Derived
			}
			#work(x) { return super.value(x) + call(4) + this.#secret }
			get #hidden() { return super.twice }
			static #one() { return call(5) }
			run(other) { return #secret in other ? other.#work(this.#hidden) + Derived.#one() : 0 }
		}
		const made = new Derived(() => r & 63)
		return (made.run(made) + made.kept + Derived.total + Object.keys(made).length) | 0
	},

	closures(inner, r) {
		const made = []
		let total = 0
		rows: for (let i = 0; i < 5; i++) {
			for (let j = 0; j < 5; j++) {
				if (j === 3) continue rows
				if ((i ^ j) === 1) continue
				// Parameters are captured, because the engine does not give `i` a new binding after
				// 'continue rows'.
				made.push(((i, j) => () => (i === 4 && j === 2 ? inner() : (i * j) ^ r) & 0xffff)(i, j))
				if (i === 4 && j === 2) break rows
			}
		}
		for (let i = 0; i < 3; i++) made.push(() => (total + i) | 0)
		for (const f of made) total = (total * 17 + f()) | 0
		return total
	},

	tags(inner, r) {
		const tag = (strings, ...values) => strings.raw.join('|') + values.map(v => (typeof v === 'function' ? v() : v)).join()
		return mixText(r & 1 ? tag`a${r}\n${inner}c` : tag`a${inner()}\t${r}c`)
	},

	arrays(inner, r) {
		return arrayCallbacks[r % arrayCallbacks.length]([3, 1, 4, 1.5, 9], x => (x === 4 ? inner() : x)) | 0
	},

	calls(inner, r) {
		function f(a, b = r & 8 ? inner() : 3, ...rest) {
			return a + b + rest.length + arguments.length + (new.target ? 100 : 0)
		}
		const last = r & 8 ? 1 : inner()
		switch (r & 7) {
		case 0: return f.call(null, last)
		case 1: return f.apply(null, [last, undefined, 4])
		case 2: return f.bind(null, 1)(undefined, last)
		case 3: return Reflect.apply(f, undefined, [last])
		case 4: return mix(typeof Reflect.construct(f, [last], Base))
		case 5: return 1 instanceof { [Symbol.hasInstance]: () => f(last) & 1 } ? 1 : 2
		case 6: return [1].concat({ length: 1, 0: 5, get [Symbol.isConcatSpreadable]() { return f(last) & 1 } }).length
		default: return ({ f }).f?.(last) ?? 0
		}
	},

	regexps(inner, r) {
		let got = null
		class Watched extends RegExp {
			exec(text) {
				got ??= inner()
				return super.exec(text)
			}
		}
		const text = 'the cat sat on the mat'
		switch (r % 5) {
		case 0: mixText(text.match(new Watched('[cms]at', 'g')).join()); break
		case 1: mixText([...text.matchAll(new Watched('(?<a>[cms])at', 'g'))].map(m => m.groups.a + m.index).join()); break
		case 2: mixText(text.split(new Watched('\\s')).join()); break
		case 3: mixText(text.replace(new Watched('at', 'g'), '<$&>')); break
		default: mix(text.search(new Watched('mat')))
		}
		return got
	},

	switches(inner, r) {
		switch (r & 3) {
		case -1: return 1
		case inner() & 3: return 2
		default: mix(5)
		case 9: return 3
		}
	},

	catches(inner, r) {
		try {
			return inner()
		} catch (e) {
			if (!(e instanceof Unwind)) throw e
			return mix(e.value ^ r)
		}
	},

	rethrows(inner, r) {
		try {
			return inner() + 1
		} catch (e) {
			throw e instanceof Unwind ? new Unwind(e.value + (r & 7)) : e
		} finally {
			mix(r & 31)
		}
	},
}

const constructNames = Object.keys(constructs)

// Some constructs in each other, around `innermost`.
function nest(depth, innermost) {
	if (!depth) return innermost()
	const r = random(), construct = constructs[constructNames[r % constructNames.length]]
	return mix(construct(() => nest(depth - 1, innermost), random()))
}

// ---- The same for what awaits: inner() is asynchronous here. Nothing is waited for but promises that resolve in the
//      same turn, unless the innermost does.

async function* asyncCounting(inner, place) {
	try {
		for (let i = 0; i < 4; i++) yield place === i ? await inner() : Promise.resolve(i)
	} finally {
		mix(await place)
	}
}

const asyncConstructs = {
	async awaits(inner, r) {
		const kept = await (r & 255)
		return kept ^ (await inner())
	},

	async blocks(inner, r) {
		let trace = 3
		for (let i = 0; i < 2; i++) {
			try {
				await null
				if (r % 3 === 0 && i) trace ^= await inner()
				throw await new Expected('kept')
			} catch (e) {
				if (!(e instanceof Expected)) throw e
				if (r % 3 === 1 && i) trace ^= await inner()
				continue
			} finally {
				if (r % 3 === 2 && i) trace ^= await inner()
				trace = mix(trace)
			}
		}
		return trace
	},

	async generators(inner, r) {
		async function* delegating() {
			yield* [Promise.resolve(7), 8]
			yield* asyncCounting(inner, r & 1 ? 2 : 9)
		}
		let total = 0
		for await (const x of delegating()) {
			total = (total * 5 + x) | 0
			if (!(r & 1) && x === 1) total ^= await inner()
			if (x === 3) break
		}
		return total
	},

	async iterators(inner, r) {
		const iterable = {
			[Symbol.asyncIterator]() {
				let i = 0
				return {
					next: async () => ({ done: i > 3, value: ++i === 2 ? await inner() : i }),
					return: async () => ({ done: mix(await 6) }),
				}
			},
		}
		let total = r & 15, count = 0
		for await (const x of iterable) {
			total = (total * 3 + x) | 0
			if (++count === 3) break
		}
		return total
	},

	all: async (inner, r) => sum(await Promise.all([inner(), r & 7, Promise.resolve(6), (async () => 5)()])),
	race: async inner => Promise.race([new Promise(() => {}), inner()]),
	mapped: async (inner, r) => sum(await Promise.all([1, 2, 3].map(async x => (x === 2 ? inner() : (await x) ^ r)))),

	async settled(inner) {
		const [first, second] = await Promise.allSettled([inner(), Promise.reject(new Expected('expected'))])
		if (first.status === 'rejected') throw first.reason
		return first.value + second.reason.message.length
	},

	chain: (inner, r) => inner().then(x => x + 1).finally(() => mix(r & 3)).then(x => Promise.resolve(x ^ 9)),
	thenable: async inner => (await { then: (resolve, reject) => { inner().then(resolve, reject) } }) + 2,
	microtask: inner => new Promise((resolve, reject) => queueMicrotask(() => inner().then(resolve, reject))),

	async method(inner, r) {
		class Async extends Base {
			#kept = r & 127
			async value(x) { return super.value(x) + (await inner()) + this.#kept }
		}
		return new Async(() => 4).value(3)
	},

	async catches(inner) {
		try {
			return await inner()
		} catch (e) {
			if (!(e instanceof Unwind)) throw e
			return mix(e.value)
		}
	},
}

const asyncNames = Object.keys(asyncConstructs)

async function nestAsync(depth, innermost) {
	if (!depth) return innermost()
	const r = random(), construct = asyncConstructs[asyncNames[r % asyncNames.length]]
	return mix(await construct(() => nestAsync(depth - 1, innermost), random()))
}

// ---- The work in the innermost, on state that lives from round to round

const map = new Map(), set = new Set(), weak = new WeakMap(), keys = [{}, {}, {}, {}, {}]
const refs = keys.map(key => new WeakRef(key))
const words = new Int32Array(64), bytes = new Uint8Array(words.buffer), view = new DataView(words.buffer, 4)
const text = 'the quick brown fox jumps over the lazy dog '.repeat(8), sticky = /\w+\s*/y, global = /(?<word>[a-z]*o[a-z]*)/g
let big = 3n
const endless = (function* () {
	let [a, b] = [0, 1]
	for (;;) {
		const jump = yield a
		;[a, b] = [b, (a + b + (jump ?? 0)) % 1000003]
	}
})()

function work(r) {
	for (let i = 0; i < 400; i++) {
		words[i & 63] = Math.imul(words[(i + r) & 63] ^ i, 0x01000193) + bytes[i & 255]
		if (!(i & 31)) view.setInt16((i + r) & 127, r ^ i)
	}
	big = (big * 0x10001n + BigInt(r)) % ((1n << 256n) - 189n)
	map.set(r % 97, { r, list: [r & 3, `${r % 11}`] })
	if (map.size > 50) map.delete(map.keys().next().value)
	set.add(r % 31)
	if (set.size > 20) set.clear()
	const key = keys[r % keys.length]
	weak.set(key, ((weak.get(key) ?? 0) * 3 + r) | 0)
	const found = global.exec(text), step = sticky.exec(text)
	void new Date(Date.now() + r).toISOString()
	let total = words[r & 63]
	for (const { r: x, list: [a, b] } of map.values()) total = (total * 31 + x + a + b.length) | 0
	total ^= endless.next(r & 15).value + Number(big & 0xffffffn) + set.size + weak.get(refs[r % refs.length].deref())
	mixText(`${found?.groups.word}${found?.index} ${step?.[0]} ${sticky.lastIndex}`)
	return mix(total)
}

const touch = depth => (depth ? touch(depth - 1) + 1 : work(random()))

function innermost() {
	const r = random()
	if (n % 500 === 499) return touch(20000 + (r % 4000)) | 0
	const value = work(r)
	if (r % 5 === 0) throw new Unwind(value)
	return value
}

function round() {
	try {
		mix(nest(2 + (random() % 5), innermost))
	} catch (e) {
		if (!(e instanceof Unwind)) throw e
		mix(e.value)
	}
	n++
}

// ---- The computation: for ever, or until stop(n) is true after a round. It then ends as it stands, by an exception
//      through all that is pending, and says { n, digest }. pause(r), if there is one, is awaited now and then.

export async function compute(stop, pause) {
	const step = () => {
		round()
		if (stop(n)) throw new Stop()
	}
	try {
		for (;;) {
			const r = random(), rounds = 1 + ((r >>> 8) % (pause ? 60 : 150))
			try {
				if (r & 1) {
					nest(2 + (r % 7), () => {
						for (let i = 0; i < rounds; i++) step()
						return n
					})
				} else {
					await nestAsync(1 + (r % 5), async () => {
						for (let i = 0; i < rounds; i += 5) {
							await nestAsync(random() % 4, async () => {
								step()
								if (pause && !(random() & 3)) mix(await pause(random()))
								return n
							})
						}
						return n
					})
				}
			} catch (e) {
				if (!(e instanceof Unwind)) throw e
				mix(e.value)
			}
			if (pause) mix(await pause(r))
		}
	} catch (e) {
		if (!(e instanceof Stop)) throw e
	}
	return { n, digest: `${left >>> 0}-${right >>> 0}` }
}
