// SPDX-License-Identifier: GPL-2.0-only
//
// turn_constructs.js - one turn of more than half a second, all of it inside the construct that args[0] names; args[1]
// times as long.
//
// long() is the loop. Each construct calls it once, in its middle, and shows what it knew before, what long() gave,
// and what came after; `trace` shows the order.
import { args } from 'thaw'

const trace = []

function unit(seed) {
	let h = seed
	for (let i = 0; i < 1000000; i++) h = (Math.imul(h, 0x01000193) ^ i) | 0
	return h
}

function long(seed = 1) {
	trace.push('in')
	for (let i = 0; i < 5 * args[1]; i++) seed = unit(seed)
	trace.push('out')
	return seed
}

const descend = (depth, inner) => (depth ? (descend(depth - 1, inner) + (depth & 3)) | 0 : inner())

function* around(inner) {
	try {
		yield 1
		yield inner()
		yield 3
	} finally {
		trace.push('closed')
	}
}

class Base {
	constructor(make) {
		this.made = make()
	}
	get value() {
		return this.made + 1
	}
}

const constructs = {
	nested_calls() {
		const a = (x, f) => x + f(x + 1, g => g(4)), b = (y, f) => f(z => y * z + c.call({ y }, 7))
		function c(...rest) { return this.y + rest.length + long() }
		return a(1, b)
	},
	try_catch() {
		try {
			trace.push('try')
			throw new RangeError('first')
		} catch (e) {
			const got = long()
			trace.push(e.message, e instanceof RangeError)
			return got
		} finally {
			trace.push('finally')
		}
	},
	finally_pending() {
		const throwing = () => {
			try {
				throw new Error('kept')
			} finally {
				trace.push(long())
			}
		}
		const returning = () => {
			for (const x of [1, 2, 3]) {
				try {
					if (x === 2) return x
				} finally {
					if (x === 2) try { throwing() } catch (e) { trace.push(e.message) }
				}
			}
		}
		return returning()
	},
	generator() {
		const got = []
		for (const x of around(long)) got.push(x)
		return got
	},
	generator_suspended() {
		for (const x of around(() => 2)) {
			if (x === 2) return long()
			trace.push(x)
		}
	},
	generator_delegating() {
		function* outer() {
			try {
				trace.push(yield* around(long))
				return 9
			} finally {
				trace.push('outer')
			}
		}
		return [...outer(), ...around(() => 5)]
	},
	async async_function() {
		const kept = await 5
		try {
			await null
			return kept + long()
		} finally {
			trace.push(await 'finally')
		}
	},
	async async_generator() {
		async function* counting() {
			try {
				yield 1
				yield long() + (await 1)
				yield 3
			} finally {
				trace.push('closed')
			}
		}
		const got = []
		for await (const x of counting()) {
			got.push(x)
			if (got.length === 2) break
		}
		return got
	},
	async promise_reaction() {
		return Promise.resolve(3).then(x => x + long()).finally(() => trace.push('finally')).then(x => [x, 'then'])
	},
	timer: () => new Promise(resolve => setTimeout(kept => resolve([kept, long()]), 1, 'kept')),
	sort() {
		let calls = 0
		return [5, 2, 8, 1, 9, 3].sort((a, b) => (++calls === 4 && trace.push(long()), a - b))
	},
	sort_typed() {
		let calls = 0
		return [...Int16Array.of(5, 2, 8, 1, 9, 3).sort((a, b) => (++calls === 4 && trace.push(long()), b - a))]
	},
	replace: () => 'one two three'.replace(/(\w)(\w*)/g, (all, first, rest, offset) => rest + (offset === 4 ? long() : first)),
	regexp_exec() {
		let calls = 0
		class Watched extends RegExp {
			exec(text) {
				if (++calls === 2) trace.push(long())
				return super.exec(text)
			}
		}
		return 'the cat sat on the mat'.match(new Watched('[cms]at', 'g'))
	},
	json_reviver: () => JSON.parse('{"a":[1,{"b":2}],"c":3}', (key, value) => (trace.push(key), key === 'b' ? long() : value)),
	json_replacer: () => JSON.stringify({ a: [1, { b: 2 }], c: 3 }, (key, value) => (key === 'b' ? long() : value), 1),
	json_to_json: () => JSON.stringify({ a: [1, { b: { toJSON: key => key + long() } }], c: 3 }),
	proxy_get: () => new Proxy({ kept: 1 }, { get: (o, key, self) => [Reflect.get(o, 'kept', self), key, long()] }).wanted,
	proxy_construct() {
		const P = new Proxy(Base, { construct: (C, list, target) => (trace.push(long()), Reflect.construct(C, list, target)) })
		return new (class extends P {})(() => 6).value
	},
	proxy_own_keys: () => Object.entries(new Proxy({ a: 1, b: 2 }, { ownKeys: o => (trace.push(long()), Reflect.ownKeys(o)) })),
	getter() {
		const o = { kept: 4, get x() { return this.kept + long() } }
		return `${o.x} ${o.kept}`
	},
	setter() {
		const o = { set x(value) { this.kept = value + long() } }
		const got = (o.x = 3)
		return [got, o.kept]
	},
	eval_direct() {
		const kept = 6
		return eval('let inside = 2; `${inside} ${kept} ${long()} ${inside}`')
	},
	eval_indirect: () => (0, eval)('(f => { const kept = 3; return [f(), kept] })')(long),
	new_function: () => new Function('f', 'with ({ f, kept: 3 }) { return [f(), kept] }')(long),
	recursion: () => descend(30000, long),
	array_callbacks: () => [1, 2, 3].flatMap(x => Array.from([x, 7], y => [x, y].reduce((total, z) =>
		(x === 2 && y === 7 && z === 7 ? total + long() : total + z), 0))),
	map_for_each() {
		const got = []
		new Map([['a', 1], ['b', 2]]).forEach((value, key) => got.push(key, value === 1 ? long() : value))
		return got
	},
	destructuring() {
		const [a, { b = long(), ...others }, ...[c]] = (function* () { try { yield 1; yield { d: 4 }; yield 5 } finally { trace.push('closed') } })()
		return [a, b, others, c]
	},
	spread: () => Math.max(...[1, 2], ...around(() => (long(), 2)), ...new Set([4])),
	class_constructor: () => new (class extends Base { #secret = this.value; constructor() { super(long); trace.push(this.#secret) } })().value,
	class_field: () => new (class { #a = 1; b = long(); c = this.#a + this.b })().c,
	static_block: () => (class { static #kept = 5; static { this.got = long() + this.#kept } static after = this.got }).after,
	tagged_template() {
		const tag = (strings, ...values) => [strings.raw.join('|'), values, long()]
		return tag`a${1}\n${2}c`
	},
	to_primitive: () => `${{ [Symbol.toPrimitive]: hint => hint + long() }}` + (1 + { valueOf: () => 2 }),
	labelled_loops() {
		let got = 0
		rows: for (let i = 0; i < 3; i++) {
			for (const j in { a: 1, b: 2 }) {
				if (i === 1 && j === 'b') got += long()
				if (j === 'a') continue
				if (i === 2) break rows
				got += i
				continue rows
			}
		}
		return got
	},
	exception() {
		const thrower = () => { throw new Error('through', { cause: long() }) }
		try {
			return [3, 1].sort(() => JSON.parse('[1]', () => [...around(thrower)]))
		} catch (e) {
			return [e.message, e.cause]
		}
	},
}

let result
if (args[0] === 'module')
	result = [long(), typeof constructs]
else
	result = await constructs[args[0]]()
console.log(args[0], JSON.stringify([result, trace]))
