// SPDX-License-Identifier: MIT
//
// web.js - performance, TextEncoder, TextDecoder and crypto: globals of the web that the engine lacks.
//
// Called once in a fresh VM (primordials.js says how, and what must not be used here).
(function (host, parts) {
	'use strict';

	const { defineProperty, toStringTag, String, TypeError, RangeError, Uint8Array, isView, typedName, typedBytes, typedOffset,
		typedBuffer, typedLength, typedSet, viewBytes, viewOffset, viewBuffer, bytesToHex, stringSlice, stringCodeAt, stringTrim,
		stringToLowerCase } = parts.primordials;
	const { define, isObject, DOMException } = parts;

	const tagged = (object, value) => defineProperty(object, toStringTag, { __proto__: null, value, configurable: true }) && object;

	// ---- Bytes ----

	// A Uint8Array over the memory of any view or buffer; undefined for all else.
	function bytesOver(data) {
		if (typedName(data) !== undefined)
			return new Uint8Array(typedBuffer(data), typedOffset(data), typedBytes(data));
		if (isView(data))
			return new Uint8Array(viewBuffer(data), viewOffset(data), viewBytes(data));
		const kind = isObject(data) ? host.kind(data) : '';
		return kind === 'ArrayBuffer' || kind === 'SharedArrayBuffer' ? new Uint8Array(data) : undefined;
	}

	function copyOf(bytes) {
		const copy = new Uint8Array(typedLength(bytes));
		typedSet(copy, bytes);
		return copy;
	}

	function part(bytes, from, to) {
		return new Uint8Array(typedBuffer(bytes), typedOffset(bytes) + from, to - from);
	}

	// ---- performance: this clock never goes back, not even from one process to the next; the time between them counts ----

	const timeOrigin = host.clock();
	define('performance', tagged({
		now() { return host.clock() - timeOrigin; },
		timeOrigin,
		toJSON() { return { timeOrigin }; },
	}, 'Performance'));

	// ---- Text ----

	define('TextEncoder', class TextEncoder {
		get encoding() {
			return 'utf-8';
		}
		encode(text = '') {
			return host.encode(String(text));
		}
		encodeInto(text, target) {
			text = String(text);
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
			typedSet(target, host.encode(stringSlice(text, 0, read)));
			return { read, written };
		}
	});

	define('TextDecoder', class TextDecoder {
		#fatal;
		#keepMark;
		#rest = new Uint8Array(0);
		#started = false;
		constructor(label = 'utf-8', options = undefined) {
			const name = stringToLowerCase(stringTrim(String(label)));
			if (name !== 'utf-8' && name !== 'utf8' && name !== 'unicode-1-1-utf-8')
				throw new RangeError('The encoding \'' + String(label) + '\' is not supported: there is utf-8');
			this.#fatal = !!options?.fatal;
			this.#keepMark = !!options?.ignoreBOM;
		}
		get encoding() {
			return 'utf-8';
		}
		get fatal() {
			return this.#fatal;
		}
		get ignoreBOM() {
			return this.#keepMark;
		}
		decode(data = undefined, options = undefined) {
			let bytes = data === undefined ? new Uint8Array(0) : bytesOver(data);
			if (bytes === undefined)
				throw new TypeError('decode() takes an ArrayBuffer or a view of one');
			const stream = !!options?.stream;
			if (typedLength(this.#rest) > 0) {
				const joined = new Uint8Array(typedLength(this.#rest) + typedLength(bytes));
				typedSet(joined, this.#rest);
				typedSet(joined, bytes, typedLength(this.#rest));
				bytes = joined;
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
	});

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

	define('crypto', tagged({
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
		},
		randomUUID() {
			const bytes = host.random(16);
			bytes[6] = (bytes[6] & 0x0f) | 0x40;
			bytes[8] = (bytes[8] & 0x3f) | 0x80;
			const text = bytesToHex(bytes);
			return stringSlice(text, 0, 8) + '-' + stringSlice(text, 8, 12) + '-' + stringSlice(text, 12, 16) + '-' +
				stringSlice(text, 16, 20) + '-' + stringSlice(text, 20);
		},
	}, 'Crypto'));

	parts.bytesOver = bytesOver;
	parts.copyOf = copyOf;
})
