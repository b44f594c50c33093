// SPDX-License-Identifier: GPL-2.0-only
//
// every_value.js - one of every kind of value, and what the program itself says of each: a line
// "name<TAB>words" per value, in the words of look_add_short(). tests/inspect/heap_graph.c reads them out of the
// image and compares. No getter and no trap may run: they count, and the count is printed at the end.
import * as namespace from './every_value_module.js';

let traps = 0;
const key = { iAm: 'a key' };
function* generate(first, second) {
	const local = { of: 'generator' };
	yield first;
	yield second + local.of;
}
async function waitForever(argument) {
	const held = { by: argument };
	await new Promise(() => {});
	return held;
}
async function* generateLater(argument) {
	const local = [argument];
	yield local;
}
function makeCounter() {
	let hidden = 40;
	return () => ++hidden;
}
class Point {
	#secret = 'private';
	static shared = [1];
	constructor(x, y) {
		this.x = x;
		this.y = y;
	}
	get length() {
		traps++;
		return Math.hypot(this.x, this.y);
	}
	secret() {
		return this.#secret;
	}
}
class Point3 extends Point {
	z = 3;
}

const generator = generate(11, 'twelve');
generator.next();
const finished = generate(1, 2);
[...finished];
const later = generateLater('late');
later.next();
const text = 'abcdefgh'.repeat(500);
let joined = '';
for (let i = 0; i < 3000; i++)
	joined += i % 3 ? text.slice(i % 11, i % 11 + 5) : '<\u20ac>';
const sparse = [];
sparse[1000] = 'far';
const deleted = new Map([['gone', 1], ['stays', 2], ['also', 3]]);
deleted.delete('gone');
const shared = new ArrayBuffer(64);
const counter = makeCounter();
counter();

globalThis.values = {
	undefined: undefined, null: null, yes: true, no: false,
	zero: 0, minusZero: -0, one: 1, minus: -7, large: 2 ** 31, minusLarge: -(2 ** 40), half: 1.5, tenth: 0.1,
	tiny: 5e-324, huge: 1.7976931348623157e308, nan: NaN, infinity: Infinity, minusInfinity: -Infinity,
	maxInt: 2147483647, minInt: -2147483648,
	smallBigint: 123n, minusBigint: -5n, bigint: 2n ** 100n, minusBig: -(2n ** 70n), edgeBig: 2n ** 63n,
	zeroBigint: 0n,
	empty: '', ascii: 'hello', latin: 'h\u00e9llo', wide: 'a\u20acb', pair: 'x\u{1f600}y', lone: 'x\ud800y',
	quote: 'say "hi"\\\n', long: text, slice: text.slice(100, 3000), joined, doubled: joined + text,
	symbol: Symbol('described'), nameless: Symbol(), registered: Symbol.for('registered'), wellKnown: Symbol.iterator,
	object: {}, nested: { a: { b: { c: 1 } } }, bare: Object.create(null), frozen: Object.freeze({ f: 1 }),
	point: new Point(3, 4), point3: new Point3(5, 6), Point,
	array: [1, 2, 3], emptyArray: [], sparse, holes: [1, , 3], mixed: [1, 'a', {}, [], null],
	function: function named() {}, arrow: () => counter, method: { m() {} }.m, native: Math.max,
	bound: Math.max.bind(null, 1, key), generatorFunction: generate, asyncFunction: waitForever, asyncGenerator: generateLater,
	closure: counter, accessor: Object.getOwnPropertyDescriptor(Point.prototype, 'length').get,
	date: new Date(1234567890123), before: new Date(-1), year0: new Date(-62198755200000), never: new Date(NaN),
	farDate: new Date(8.64e15),
	regexp: /ab+c/gi, sticky: /\d/uy, plainRegexp: /x/,
	error: new TypeError('wrong type'), customError: new (class Custom extends RangeError {})('custom'),
	boxedNumber: new Number(4.5), boxedString: new String('boxed'), boxedBoolean: new Boolean(true),
	boxedSymbol: Object(Symbol('inside')),
	map: new Map([['k', 1], [2, { o: 1 }], [key, 'by key']]), emptyMap: new Map(), deleted, set: new Set([1, 'x', key]),
	weakMap: new WeakMap([[key, 'weak']]), weakSet: new WeakSet([key]),
	buffer: shared, resizable: new ArrayBuffer(8, { maxByteLength: 32 }),
	u8: new Uint8Array([1, 2, 255]), i8: new Int8Array([-1, 1]), u8c: new Uint8ClampedArray([300]), u16: new Uint16Array([65535]),
	i16: new Int16Array([-2]), u32: new Uint32Array([4294967295]), i32: new Int32Array([-3]), f16: new Float16Array([1.5]),
	f32: new Float32Array([0.5]), f64: new Float64Array([Math.PI, -0]), i64: new BigInt64Array([-9n]),
	u64: new BigUint64Array([2n ** 64n - 1n]), part: new Uint8Array(shared, 8, 16), view: new DataView(shared, 4, 8),
	pending: new Promise(() => {}), fulfilled: Promise.resolve('done'), rejected: Promise.reject(new Error('no')),
	chained: new Promise(() => {}).then(() => key), async: waitForever('async'),
	generator, finished, fresh: generate(), later,
	proxy: new Proxy({ target: 1 }, { get() { traps++; }, ownKeys() { traps++; return []; }, getPrototypeOf() { traps++; return null; } }),
	callable: new Proxy(function inner() {}, {}),
	namespace,
};
values.rejected.catch(() => {});
globalThis.weakRef = new WeakRef(key);
globalThis.registry = new FinalizationRegistry(() => {});
registry.register(key, 'held');
globalThis.iterators = [new Map([[1, 2]]).entries(), [1, 2].values(), 'str'[Symbol.iterator](), [1].values().map((x) => x), 'aa'.matchAll(/a/g)];
globalThis.arguments0 = (function () { return arguments; })(1, 'two');
globalThis.arguments1 = Function('a', 'return arguments')(7);
globalThis.cycle = { name: 'cycle' };
cycle.self = cycle;
cycle.list = [cycle, { back: cycle }];
globalThis.accessors = {
	get both() { traps++; return 1; }, set both(value) { traps++; },
	get only() { traps++; return 2; },
	set write(value) { traps++; },
	[Symbol('computed')]: 'by symbol', 'with space': 1, $dollar: 2, 7: 'seven',
};
Object.defineProperty(globalThis, 'trap', { get() { traps++; return 1; }, enumerable: true, configurable: true });
let moduleVariable = 'of the module';
const moduleConstant = { deep: [moduleVariable] };
setTimeout(function timed() { return moduleConstant; }, 1e6);

const short = {
	string: (v) => {
		const cut = v.length > 60 ? v.slice(0, 60) : v;
		const quoted = '"' + [...cut].map((c) => c === '"' || c === '\\' ? '\\' + c : c === '\n' ? '\\n'
			: c >= '\ud800' && c <= '\udfff' && c.length === 1 ? '\\u' + c.charCodeAt(0).toString(16) : c).join('') + '"';
		return cut === v ? quoted : `${quoted}... (${v.length})`;
	},
	number: (v) => Object.is(v, -0) ? '-0' : String(v),
	bigint: (v) => `${v}n`,
	boolean: String,
	undefined: String,
	symbol: (v) => `Symbol(${v.description ?? ''})`,
	function: (v) => `function ${v.name || '(anonymous)'}`,
};
function describe(name, v) {
	const special = {
		pending: 'Promise (pending)', fulfilled: 'Promise (fulfilled)', rejected: 'Promise (rejected)', chained: 'Promise (pending)',
		async: 'Promise (pending)', generator: 'Generator (suspended)', finished: 'Generator (done)', fresh: 'Generator (not started)',
		later: 'AsyncGenerator (suspended)', proxy: 'Proxy', callable: 'Proxy', weakMap: 'WeakMap(1)', weakSet: 'WeakSet(1)',
		point: 'Point {3}', point3: 'Point3 {4}', // the private ones, too
		namespace: 'Module', sparse: 'Array(1001)', holes: 'Array(3)', bare: 'Object {0}', never: 'Date Invalid Date',
	};
	if (name in special)
		return special[name];
	if (v === null)
		return 'null';
	if (typeof v !== 'object')
		return short[typeof v](v);
	if (v instanceof RegExp)
		return String(v);
	if (v instanceof Error)
		return `${v.constructor.name}: ${short.string(v.message)}`;
	if (v instanceof Date)
		return `Date ${v.toISOString()}`;
	if (v instanceof Number || v instanceof String || v instanceof Boolean || v instanceof Symbol)
		return `${v.constructor.name} ${short[typeof v.valueOf()](v.valueOf())}`;
	if (v instanceof Map || v instanceof Set)
		return `${v.constructor.name}(${v.size})`;
	if (v instanceof ArrayBuffer || v instanceof DataView)
		return `${v.constructor.name}(${v.byteLength} bytes)`;
	if (ArrayBuffer.isView(v) || Array.isArray(v))
		return `${v.constructor.name}(${v.length})`;
	return `${v.constructor.name} {${Object.keys(v).length}}`;
}
for (const [name, value] of Object.entries(values))
	console.log(`${name}\t${describe(name, value)}`);
console.log(`traps\t${traps}`);
