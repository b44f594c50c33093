// SPDX-License-Identifier: MIT
//
// blob.js - Blob and File: bytes that never change, in the heap.
//
// Called when it is first needed (later.js; primordials.js says what must not be used).
(function (host, parts) {
	'use strict';

	const { iterator, list, Number, Promise, TypeError, isNaN, min, max, trunc, typedBuffer, typedBytes, stringCodeAt,
		stringToLowerCase, replaceAll } = parts.primordials;
	const { bytesOver, copyOf, part, joined, isObject, expose, textOf, optionsOf, late } = parts;

	let bytesIn; // of a Blob; undefined: it is none

	function typeOf(type) {
		type = textOf(type);
		for (let i = 0; i < type.length; i++) {
			const code = stringCodeAt(type, i);
			if (code < 0x20 || code > 0x7e)
				return '';
		}
		return stringToLowerCase(type);
	}

	// CR LF and CR become LF, the line ending of this system.
	const nativeLines = (text) => replaceAll(replaceAll(text, '\r\n', '\n'), '\r', '\n');

	// Bytes, or text: what becomes of its line endings is known when all parts have been read.
	function partOf(item) {
		const inside = bytesIn(item);
		if (inside !== undefined)
			return inside;
		const bytes = isObject(item) ? bytesOver(item) : undefined;
		return bytes !== undefined ? copyOf(bytes) : textOf(item);
	}

	function gather(items) {
		const pieces = list();
		if (items === undefined)
			return pieces;
		if (!isObject(items) || typeof items[iterator] !== 'function')
			throw new TypeError('the parts must be a sequence');
		const steps = items[iterator]();
		for (let step; !(step = steps.next()).done;)
			pieces[pieces.length] = partOf(step.value);
		return pieces;
	}

	function join(pieces, native) {
		for (let i = 0; i < pieces.length; i++)
			if (typeof pieces[i] === 'string')
				pieces[i] = host.encode(native ? nativeLines(pieces[i]) : pieces[i]);
		return pieces.length === 1 ? pieces[0] : joined(pieces);
	}

	function readOptions(options, name) {
		options = optionsOf(options, name);
		let { endings } = options;
		endings = endings === undefined ? 'transparent' : textOf(endings);
		if (endings !== 'transparent' && endings !== 'native')
			throw new TypeError('endings must be \'transparent\' or \'native\'');
		const { type } = options;
		return { __proto__: null, endings, type: type === undefined ? '' : typeOf(type) };
	}

	// A place in so many bytes, negative ones from the end, as slice() has it.
	function place(value, otherwise, size) {
		if (value === undefined)
			return otherwise;
		const at = trunc(Number(value));
		return isNaN(at) ? 0 : at < 0 ? max(size + at, 0) : min(at, size);
	}

	const SLICED = {};
	const CHUNK = 65536;

	class Blob {
		#bytes;
		#type;
		constructor(items = undefined, options = undefined) {
			if (items === SLICED) {
				this.#bytes = options.bytes;
				this.#type = options.type;
				return;
			}
			if (items !== undefined && !isObject(items))
				throw new TypeError('the parts must be a sequence');
			const pieces = gather(items);
			const read = readOptions(options, 'Blob');
			this.#bytes = join(pieces, read.endings === 'native');
			this.#type = read.type;
		}
		static {
			bytesIn = (value) => isObject(value) && #bytes in value ? value.#bytes : undefined;
		}
		get size() { return typedBytes(this.#bytes); }
		get type() { return this.#type; }
		slice(start = undefined, end = undefined, contentType = '') {
			const size = typedBytes(this.#bytes);
			const from = place(start, 0, size);
			return new Blob(SLICED, { __proto__: null, bytes: part(this.#bytes, from, max(place(end, size, size), from)), type: typeOf(contentType) });
		}
		text() {
			return new Promise((resolve) => {
				const text = host.decode(this.#bytes, false);
				resolve(text.length > 0 && stringCodeAt(text, 0) === 0xfeff ? parts.primordials.stringSlice(text, 1) : text);
			});
		}
		arrayBuffer() {
			return new Promise((resolve) => { resolve(typedBuffer(copyOf(this.#bytes))); });
		}
		bytes() {
			return new Promise((resolve) => { resolve(copyOf(this.#bytes)); });
		}
		stream() {
			const bytes = this.#bytes;
			const size = typedBytes(bytes);
			let at = 0;
			parts.need('streams');
			return new late.ReadableStream({
				__proto__: null,
				type: 'bytes',
				pull(controller) {
					if (at === size) {
						controller.close();
						controller.byobRequest?.respond(0);
						return;
					}
					const next = min(at + CHUNK, size);
					controller.enqueue(copyOf(part(bytes, at, next)));
					at = next;
				},
			}, { __proto__: null, highWaterMark: 0 });
		}
	}
	expose(Blob, 'Blob');

	class File extends Blob {
		#name;
		#modified;
		constructor(items, name, options = undefined) {
			if (arguments.length < 2)
				throw new TypeError('File takes parts and a name');
			if (!isObject(items))
				throw new TypeError('the parts must be a sequence');
			super(items, options);
			this.#name = textOf(name);
			const { lastModified } = optionsOf(options, 'File');
			const time = lastModified === undefined ? host.clock() : Number(lastModified);
			this.#modified = isNaN(time) ? 0 : trunc(time);
		}
		static {
			parts.cloneBlob = (value) => {
				const bytes = bytesIn(value);
				if (bytes === undefined)
					return undefined;
				if (!(#name in value))
					return new Blob(SLICED, { __proto__: null, bytes, type: typeIn(value) });
				return new File([value], value.#name, { __proto__: null, type: typeIn(value), lastModified: value.#modified });
			};
		}
		get name() { return this.#name; }
		get lastModified() { return this.#modified; }
		get webkitRelativePath() { return ''; }
	}
	const typeIn = parts.primordials.getter(Blob.prototype, 'type');
	expose(File, 'File');

	late.Blob = Blob;
	late.File = File;
})
