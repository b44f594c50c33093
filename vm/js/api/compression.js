// SPDX-License-Identifier: MIT
//
// compression.js - CompressionStream and DecompressionStream: zlib as the library pako has it, whose whole state lies in the heap.
//
// Called when it is first needed (later.js).
(function (host, parts) {
	'use strict';

	const { TypeError, Uint8Array, typedBytes } = parts.primordials;
	const { expose, textOf, late } = parts;

	parts.need('streams');
	const { compressor, decompressor } = parts.library('compression');
	const { TransformStream } = late;

	const windows = { __proto__: null, deflate: 15, 'deflate-raw': -15, gzip: 31 };

	function windowOf(format, name) {
		format = textOf(format);
		if (!(format in windows))
			throw new TypeError(name + ': the format \'' + format + '\' is not supported: there are deflate, deflate-raw and gzip');
		return windows[format];
	}

	function transformed(machine) {
		const push = (bytes, last, controller) => machine(bytes, last, (chunk) => {
			if (typedBytes(chunk) > 0)
				controller.enqueue(chunk);
		});
		return new TransformStream({
			__proto__: null,
			transform(chunk, controller) { push(parts.chunkBytes(chunk), false, controller); },
			flush(controller) { push(new Uint8Array(0), true, controller); },
		});
	}

	class CompressionStream {
		#transform;
		constructor(format) {
			if (arguments.length === 0)
				throw new TypeError('CompressionStream: the format is missing');
			this.#transform = transformed(compressor(windowOf(format, 'CompressionStream')));
		}
		get readable() { return this.#transform.readable; }
		get writable() { return this.#transform.writable; }
	}
	expose(CompressionStream, 'CompressionStream');

	class DecompressionStream {
		#transform;
		constructor(format) {
			if (arguments.length === 0)
				throw new TypeError('DecompressionStream: the format is missing');
			this.#transform = transformed(decompressor(windowOf(format, 'DecompressionStream')));
		}
		get readable() { return this.#transform.readable; }
		get writable() { return this.#transform.writable; }
	}
	expose(DecompressionStream, 'DecompressionStream');

	late.CompressionStream = CompressionStream;
	late.DecompressionStream = DecompressionStream;
})
