// SPDX-License-Identifier: MIT
//
// web.js - performance, TextEncoder, TextDecoder and crypto: globals of the web that the engine lacks.
//
// Called once in a fresh VM (primordials.js says how, and what must not be used here).
(function (host, parts) {
	'use strict';

	const { arrayIsArray, defineProperty, iterator, toStringTag, String, TypeError, RangeError, Uint8Array, isView, typedName, typedBytes,
		typedOffset, typedBuffer, typedLength, typedSet, viewBytes, viewOffset, viewBuffer, bytesToHex, stringSlice, stringCodeAt,
		stringToLowerCase, freeze, ownKeys } = parts.primordials;
	const { define, isObject, DOMException } = parts;

	// ---- What interfaces of the web have in common ----

	// Their members are enumerable, their name is their toStringTag; constants lie on both.
	function expose(Class, name, constants = undefined) {
		const { prototype } = Class;
		for (const key of ownKeys(prototype))
			if (typeof key === 'string' && key !== 'constructor')
				defineProperty(prototype, key, { __proto__: null, enumerable: true });
		for (const key of ownKeys(Class))
			if (key !== 'length' && key !== 'name' && key !== 'prototype')
				defineProperty(Class, key, { __proto__: null, enumerable: true });
		defineProperty(prototype, toStringTag, { __proto__: null, value: name, configurable: true });
		for (const key in constants)
			for (const holder of [Class, prototype])
				defineProperty(holder, key, { __proto__: null, value: constants[key], enumerable: true });
	}

	function textOf(value) {
		if (typeof value === 'symbol')
			throw new TypeError('a symbol is no text');
		return String(value);
	}

	function optionsOf(options, name) {
		if (options === undefined || options === null)
			return nothing;
		if (!isObject(options))
			throw new TypeError(name + ': the options must be an object');
		return options;
	}
	const nothing = freeze({ __proto__: null });

	// The items of a sequence: an array is read without its iterator, which a program may have patched.
	function eachItem(items, otherwise, act) {
		if (arrayIsArray(items)) {
			for (let i = 0; i < items.length; i++)
				act(items[i]);
			return;
		}
		if (!isObject(items) || typeof items[iterator] !== 'function')
			throw new TypeError(otherwise);
		const steps = items[iterator]();
		for (let step; !(step = steps.next()).done;)
			act(step.value);
	}

	const OURS = {}; // constructors that are not for programs

	function onlyOurs(ours) {
		if (ours !== OURS)
			throw new TypeError('Illegal constructor');
	}

	// ---- Bytes ----

	// A Uint8Array over the memory of any view or buffer, empty if that is gone; undefined for all else.
	function bytesOver(data) {
		if (!isObject(data))
			return undefined;
		try {
			return bytesIn(data);
		} catch {
			return new Uint8Array(0); // detached, or out of the bounds of its buffer
		}
	}

	function bytesIn(data) {
		if (typedName(data) !== undefined)
			return new Uint8Array(typedBuffer(data), typedOffset(data), typedBytes(data));
		if (isView(data))
			return new Uint8Array(viewBuffer(data), viewOffset(data), viewBytes(data));
		const kind = host.kind(data);
		return kind === 'ArrayBuffer' || kind === 'SharedArrayBuffer' ? new Uint8Array(data) : undefined;
	}

	function copyOf(bytes) {
		const copy = new Uint8Array(typedLength(bytes));
		typedSet(copy, bytes);
		return copy;
	}

	// Over the same memory.
	function part(bytes, from, to) {
		return new Uint8Array(typedBuffer(bytes), typedOffset(bytes) + from, to - from);
	}

	function joined(pieces) {
		let total = 0;
		let at = 0;
		for (let i = 0; i < pieces.length; i++)
			total += typedLength(pieces[i]);
		const all = new Uint8Array(total);
		for (let i = 0; i < pieces.length; i++) {
			typedSet(all, pieces[i], at);
			at += typedLength(pieces[i]);
		}
		return all;
	}

	// ---- performance: this clock never goes back, not even from one process to the next; the time between them counts ----

	let timeOrigin = host.clock();
	const now = () => host.clock() - timeOrigin;

	function timeline() {
		parts.need('performance');
		return parts.late.timeline;
	}

	function need(count, least, name) {
		if (count < least)
			throw new TypeError(name + ': the name is missing');
	}

	class Performance {
		constructor(ours) { onlyOurs(ours); }
		now() { return now(); }
		get timeOrigin() { return timeOrigin; }
		mark(name, options = undefined) {
			need(arguments.length, 1, 'mark');
			return timeline().mark(name, options);
		}
		measure(name, start = undefined, end = undefined) {
			need(arguments.length, 1, 'measure');
			return timeline().measure(name, start, end);
		}
		clearMarks(name = undefined) { timeline().clear('mark', name === undefined ? name : textOf(name)); }
		clearMeasures(name = undefined) { timeline().clear('measure', name === undefined ? name : textOf(name)); }
		getEntries() { return timeline().entries(); }
		getEntriesByType(type) {
			need(arguments.length, 1, 'getEntriesByType');
			return timeline().entries(undefined, textOf(type));
		}
		getEntriesByName(name, type = undefined) {
			need(arguments.length, 1, 'getEntriesByName');
			return timeline().entries(textOf(name), type === undefined ? type : textOf(type));
		}
		toJSON() { return { timeOrigin }; }
	}
	expose(Performance, 'Performance');
	define('Performance', Performance);
	define('performance', new Performance(OURS));

	// ---- Text ----

	class TextEncoder {
		get encoding() {
			return 'utf-8';
		}
		encode(text = '') {
			return host.encode(textOf(text));
		}
		encodeInto(text, target) {
			text = textOf(text);
			if (typedName(target) !== 'Uint8Array')
				throw new TypeError('encodeInto() takes a Uint8Array');
			const room = typedLength(target);
			let read = 0;
			let written = 0;
			while (read < text.length) {
				const code = stringCodeAt(text, read);
				const next = read + 1 < text.length ? stringCodeAt(text, read + 1) : 0;
				const pair = code >= 0xd800 && code < 0xdc00 && next >= 0xdc00 && next < 0xe000;
				const size = pair ? 4 : code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
				if (written + size > room)
					break;
				read += pair ? 2 : 1;
				written += size;
			}
			if (written > 0)
				typedSet(target, host.encode(stringSlice(text, 0, read)));
			return { read, written };
		}
	}
	expose(TextEncoder, 'TextEncoder');
	define('TextEncoder', TextEncoder);

	const utf8Labels = { __proto__: null, 'utf-8': true, utf8: true, 'unicode-1-1-utf-8': true, unicode11utf8: true, unicode20utf8: true,
			     'x-unicode20utf8': true };

	// Without the white space of ASCII around it, and there is other white space.
	function labelOf(text) {
		const isSpace = (code) => code === 32 || code === 9 || code === 10 || code === 12 || code === 13;
		let from = 0;
		let to = text.length;
		while (from < to && isSpace(stringCodeAt(text, from)))
			from++;
		while (to > from && isSpace(stringCodeAt(text, to - 1)))
			to--;
		return stringToLowerCase(stringSlice(text, from, to));
	}

	// Those that are not UTF-8 are a library's. It has state between the chunks of a stream.
	function legacyDecoder(label, name, fatal, ignoreBOM) {
		const legacy = parts.library('encodings');
		const encoding = legacy.encodingOf(name);
		if (encoding === undefined)
			throw new RangeError('The encoding \'' + label + '\' is not supported');
		return { __proto__: null, encoding, decode: legacy.decoder(encoding, fatal, ignoreBOM) };
	}

	class TextDecoder {
		#fatal;
		#keepMark;
		#rest = new Uint8Array(0);
		#started = false;
		#legacy = undefined;
		constructor(label = 'utf-8', options = undefined) {
			label = textOf(label);
			options = optionsOf(options, 'TextDecoder');
			const name = labelOf(label);
			this.#fatal = !!options.fatal;
			this.#keepMark = !!options.ignoreBOM;
			if (utf8Labels[name] !== true)
				this.#legacy = legacyDecoder(label, name, this.#fatal, this.#keepMark);
		}
		static {
			parts.decode = (decoder, bytes, stream) => decoder.#decode(bytes, stream);
		}
		get encoding() {
			return this.#legacy === undefined ? 'utf-8' : this.#legacy.encoding;
		}
		get fatal() {
			return this.#fatal;
		}
		get ignoreBOM() {
			return this.#keepMark;
		}
		decode(data = undefined, options = undefined) {
			const bytes = data === undefined ? new Uint8Array(0) : bytesOver(data);
			if (bytes === undefined)
				throw new TypeError('decode() takes an ArrayBuffer or a view of one');
			return this.#decode(bytes, !!optionsOf(options, 'decode').stream);
		}
		#decode(bytes, stream) {
			if (this.#legacy !== undefined)
				return this.#legacy.decode(bytes, stream);
			if (typedLength(this.#rest) > 0) {
				bytes = joined([this.#rest, bytes]);
				this.#rest = new Uint8Array(0);
			}
			if (stream) {
				const whole = wholeCharacters(bytes);
				this.#rest = copyOf(part(bytes, whole, typedLength(bytes)));
				bytes = part(bytes, 0, whole);
			}
			const text = host.decode(bytes, this.#fatal);
			const marked = !this.#started && !this.#keepMark && text.length > 0 && stringCodeAt(text, 0) === 0xfeff;
			this.#started = stream && (this.#started || text.length > 0);
			return marked ? stringSlice(text, 1) : text;
		}
	}
	expose(TextDecoder, 'TextDecoder');
	define('TextDecoder', TextDecoder);

	// How many of these bytes are not the beginning of a character whose end may yet come.
	function wholeCharacters(bytes) {
		const length = typedLength(bytes);
		for (let back = 1; back <= 3 && back <= length; back++) {
			const byte = bytes[length - back];
			if (byte < 0x80)
				break;
			if (byte >= 0xc0) {
				const size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
				return size > back ? length - back : length;
			}
		}
		return length;
	}

	// ---- crypto ----

	const integerArrays = { __proto__: null, Int8Array: true, Uint8Array: true, Uint8ClampedArray: true, Int16Array: true,
				Uint16Array: true, Int32Array: true, Uint32Array: true, BigInt64Array: true, BigUint64Array: true };

	class Crypto {
		constructor(ours) { onlyOurs(ours); }
		get subtle() {
			parts.need('crypto');
			return parts.late.subtle;
		}
		getRandomValues(array) {
			if (!isView(array))
				throw new TypeError('getRandomValues() takes a typed array of integers');
			if (integerArrays[typedName(array)] !== true)
				throw new DOMException('getRandomValues() takes a typed array of integers', 'TypeMismatchError');
			const bytes = typedBytes(array);
			if (bytes > 65536)
				throw new DOMException('getRandomValues() gives at most 65536 bytes at a time', 'QuotaExceededError');
			typedSet(bytesOver(array), host.random(bytes));
			return array;
		}
		randomUUID() {
			const bytes = host.random(16);
			bytes[6] = (bytes[6] & 0x0f) | 0x40;
			bytes[8] = (bytes[8] & 0x3f) | 0x80;
			const text = bytesToHex(bytes);
			return stringSlice(text, 0, 8) + '-' + stringSlice(text, 8, 12) + '-' + stringSlice(text, 12, 16) + '-' +
				stringSlice(text, 16, 20) + '-' + stringSlice(text, 20);
		}
	}
	expose(Crypto, 'Crypto');
	define('Crypto', Crypto);
	define('crypto', new Crypto(OURS));

	parts.bytesOver = bytesOver;
	parts.copyOf = copyOf;
	parts.part = part;
	parts.joined = joined;
	parts.expose = expose;
	parts.textOf = textOf;
	parts.optionsOf = optionsOf;
	parts.eachItem = eachItem;
	parts.TextDecoder = TextDecoder;
	parts.now = now;
	parts.timeOrigin = () => timeOrigin;
	parts.beginTime = () => { timeOrigin = host.clock(); };
})
