// SPDX-License-Identifier: MIT
//
// primordials.js - the built-ins as they are before any program runs.
//
// The first of the embedded sources (install_prelude.c calls each, or later.js does, with the host functions and `parts`, where each leaves
// what the later ones need). A program may replace, delete and intercept whatever it reaches: the methods of the built-ins, their
// constructors, the globals. So what runs here after a program has begun takes everything from this list, and besides that
//   - reads and writes no property that may come from a prototype: records and descriptors have { __proto__: null }, lists are
//     made by list(), properties of a program's objects are defined, not assigned;
//   - iterates with an index: for-of, spreads, array patterns and the constructors of Map and Set call iterators;
//   - has no template with a value in it (the engine calls String.prototype.concat), no regular expression but with
//     regExpExec, no async function, no await, no instanceof, and nothing that looks for a species (slice, map, filter).
// tests/js/javascript_patched.c patches them one by one.
(function (host, parts) {
	'use strict';

	const { apply, construct, defineProperty, deleteProperty, ownKeys } = Reflect;
	const { bind, call } = Function.prototype;
	const uncurry = apply(bind, bind, [call]); // uncurry(method)(self, ...values)
	const { getOwnPropertyDescriptor, getPrototypeOf, setPrototypeOf } = Object;
	const descriptorOf = getOwnPropertyDescriptor;
	const getter = (prototype, key) => uncurry(descriptorOf(prototype, key).get);
	const TypedArray = getPrototypeOf(Uint8Array);
	const promiseThen = uncurry(Promise.prototype.then);
	const stringIndexOf = uncurry(String.prototype.indexOf);
	const stringSlice = uncurry(String.prototype.slice);

	const list = () => setPrototypeOf([], null);

	// An own property of an object that a program may see.
	const put = (object, key, value, enumerable = true) =>
		defineProperty(object, key, { __proto__: null, value, writable: true, enumerable, configurable: true });

	// An array for a program, out of a list.
	const gather = (...values) => values;
	const arrayOf = (items) => apply(gather, undefined, items);

	function has(items, value) {
		for (let i = 0; i < items.length; i++)
			if (items[i] === value)
				return true;
		return false;
	}

	function replaceAll(text, what, by) {
		let made = '';
		let from = 0;
		for (let at; (at = stringIndexOf(text, what, from)) !== -1; from = at + what.length)
			made += stringSlice(text, from, at) + by;
		return from === 0 ? text : made + stringSlice(text, from);
	}

	function linesOf(text) {
		const lines = list();
		let from = 0;
		for (let at; (at = stringIndexOf(text, '\n', from)) !== -1; from = at + 1)
			lines[lines.length] = stringSlice(text, from, at);
		lines[lines.length] = stringSlice(text, from);
		return lines;
	}

	// Reactions that no program sees: without its own constructor, the promise would be asked for its species.
	function whenSettled(promise, fulfilled, rejected) {
		defineProperty(promise, 'constructor', { __proto__: null, value: undefined, configurable: true });
		promiseThen(promise, fulfilled, rejected);
	}

	const types = { __proto__: null };
	for (const name of ['Int8Array', 'Uint8Array', 'Uint8ClampedArray', 'Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array',
			    'BigInt64Array', 'BigUint64Array', 'Float16Array', 'Float32Array', 'Float64Array', 'DataView'])
		if (globalThis[name] !== undefined)
			types[name] = globalThis[name];

	setPrototypeOf(parts, null);
	parts.primordials = {
		__proto__: null,
		apply, construct, defineProperty, deleteProperty, ownKeys, uncurry, getter, list, put, arrayOf, has, replaceAll, linesOf,
		whenSettled, getPrototypeOf, setPrototypeOf, descriptorOf,
		hasOwn: Object.hasOwn, freeze: Object.freeze, objectKeys: Object.keys, objectIs: Object.is,
		objectPrototype: Object.prototype, objectTag: uncurry(Object.prototype.toString),
		toObject: Object,

		promiseThen, Error, TypeError, RangeError, Promise, ArrayBuffer, SharedArrayBuffer, Uint8Array, Date, RegExp, Map, Set, WeakMap,
		WeakRef, WeakSet,
		errorTypes: { __proto__: null, Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError },
		isError: Error.isError, viewTypes: types,

		arrayIsArray: Array.isArray, arrayJoin: uncurry(Array.prototype.join),
		functionText: uncurry(Function.prototype.toString),

		Number, parseInt, parseFloat, isInteger: Number.isInteger, isNaN: Number.isNaN,
		numberText: uncurry(Number.prototype.toString), toFixed: uncurry(Number.prototype.toFixed),
		toPrecision: uncurry(Number.prototype.toPrecision),
		sqrt: Math.sqrt, round: Math.round, floor: Math.floor, ceil: Math.ceil, trunc: Math.trunc, isFinite: Number.isFinite,
		min: (a, b) => a < b ? a : b, max: (a, b) => a > b ? a : b,
		valueOf: { __proto__: null, Number: uncurry(Number.prototype.valueOf), String: uncurry(String.prototype.valueOf),
			   Boolean: uncurry(Boolean.prototype.valueOf), BigInt: uncurry(BigInt.prototype.valueOf),
			   Symbol: uncurry(Symbol.prototype.valueOf) },
		bigIntText: uncurry(BigInt.prototype.toString),

		String, stringIndexOf, stringSlice, stringStartsWith: uncurry(String.prototype.startsWith),
		stringEndsWith: uncurry(String.prototype.endsWith), stringCodeAt: uncurry(String.prototype.charCodeAt),
		stringCodePointAt: uncurry(String.prototype.codePointAt), stringPadStart: uncurry(String.prototype.padStart),
		stringPadEnd: uncurry(String.prototype.padEnd), stringRepeat: uncurry(String.prototype.repeat),
		stringTrim: uncurry(String.prototype.trim), stringTrimEnd: uncurry(String.prototype.trimEnd),
		stringToLowerCase: uncurry(String.prototype.toLowerCase), stringToUpperCase: uncurry(String.prototype.toUpperCase),
		symbolText: uncurry(Symbol.prototype.toString),
		iterator: Symbol.iterator, toStringTag: Symbol.toStringTag, toPrimitive: Symbol.toPrimitive, dispose: Symbol.dispose,
		asyncIterator: Symbol.asyncIterator,

		regExpExec: uncurry(RegExp.prototype.exec), regExpSource: getter(RegExp.prototype, 'source'),
		regExpPrototype: RegExp.prototype,
		regExpFlags: Object.entries({ hasIndices: 'd', global: 'g', ignoreCase: 'i', multiline: 'm', dotAll: 's', unicode: 'u',
					      unicodeSets: 'v', sticky: 'y' })
			.map(([key, flag]) => ({ __proto__: null, flag, has: getter(RegExp.prototype, key) })),
		dateTime: uncurry(Date.prototype.getTime), dateText: uncurry(Date.prototype.toISOString),

		mapGet: uncurry(Map.prototype.get), mapSet: uncurry(Map.prototype.set), mapHas: uncurry(Map.prototype.has),
		mapDelete: uncurry(Map.prototype.delete), mapSize: getter(Map.prototype, 'size'),
		mapForEach: uncurry(Map.prototype.forEach),
		setAdd: uncurry(Set.prototype.add), setHas: uncurry(Set.prototype.has), setSize: getter(Set.prototype, 'size'),
		setForEach: uncurry(Set.prototype.forEach), setDelete: uncurry(Set.prototype.delete),
		weakSetAdd: uncurry(WeakSet.prototype.add), weakSetDelete: uncurry(WeakSet.prototype.delete),
		weakMapGet: uncurry(WeakMap.prototype.get), weakMapSet: uncurry(WeakMap.prototype.set),
		weakMapHas: uncurry(WeakMap.prototype.has), weakMapDelete: uncurry(WeakMap.prototype.delete),
		weakRefDeref: uncurry(WeakRef.prototype.deref),

		isView: ArrayBuffer.isView,
		bufferLength: getter(ArrayBuffer.prototype, 'byteLength'), bufferDetached: getter(ArrayBuffer.prototype, 'detached'),
		bufferResizable: getter(ArrayBuffer.prototype, 'resizable'), bufferMax: getter(ArrayBuffer.prototype, 'maxByteLength'),
		bufferImmutable: 'immutable' in ArrayBuffer.prototype ? getter(ArrayBuffer.prototype, 'immutable') : undefined,
		bufferTransfer: uncurry(ArrayBuffer.prototype.transfer), bufferResize: uncurry(ArrayBuffer.prototype.resize),
		sharedLength: getter(SharedArrayBuffer.prototype, 'byteLength'),
		sharedGrowable: getter(SharedArrayBuffer.prototype, 'growable'), sharedMax: getter(SharedArrayBuffer.prototype, 'maxByteLength'),
		sharedGrow: uncurry(SharedArrayBuffer.prototype.grow),
		typedName: getter(TypedArray.prototype, Symbol.toStringTag), typedLength: getter(TypedArray.prototype, 'length'),
		typedBytes: getter(TypedArray.prototype, 'byteLength'), typedOffset: getter(TypedArray.prototype, 'byteOffset'),
		typedBuffer: getter(TypedArray.prototype, 'buffer'), typedSet: uncurry(TypedArray.prototype.set),
		viewBytes: getter(DataView.prototype, 'byteLength'), viewOffset: getter(DataView.prototype, 'byteOffset'),
		viewBuffer: getter(DataView.prototype, 'buffer'),
		bytesToHex: uncurry(Uint8Array.prototype.toHex), bytesToBase64: uncurry(Uint8Array.prototype.toBase64),
		bytesFromBase64: Uint8Array.fromBase64.bind(Uint8Array),

		jsonText: JSON.stringify, jsonParse: JSON.parse,
		globalNames: setPrototypeOf(Object.getOwnPropertyNames(globalThis), null),
	};
})
