// SPDX-License-Identifier: MIT
//
// streams.js - the streams of the web (the library web-streams-polyfill), and those that encode and decode text.
//
// Called when it is first needed (later.js).
(function (host, parts) {
	'use strict';

	const { TypeError, Uint8Array, stringCodeAt, stringSlice, typedBuffer } = parts.primordials;
	const { bytesOver, expose, isObject, textOf, late } = parts;
	const library = parts.library('streams');
	const { TextDecoder } = parts;

	for (const name of ['ReadableStream', 'ReadableStreamDefaultReader', 'ReadableStreamBYOBReader', 'ReadableStreamDefaultController',
			    'ReadableByteStreamController', 'ReadableStreamBYOBRequest', 'WritableStream', 'WritableStreamDefaultWriter',
			    'WritableStreamDefaultController', 'TransformStream', 'TransformStreamDefaultController',
			    'ByteLengthQueuingStrategy', 'CountQueuingStrategy'])
		late[name] = library[name];
	const { TransformStream } = library;

	// What a stage of bytes takes: memory that is shared only where it says so.
	parts.chunkBytes = (chunk, shared = false) => {
		const bytes = isObject(chunk) ? bytesOver(chunk) : undefined;
		if (bytes === undefined || (!shared && host.kind(typedBuffer(bytes)) === 'SharedArrayBuffer'))
			throw new TypeError('a chunk must be an ArrayBuffer or a view of one');
		return bytes;
	};

	class TextDecoderStream {
		#decoder;
		#transform;
		constructor(label = 'utf-8', options = undefined) {
			const decoder = this.#decoder = new TextDecoder(label, options);
			const decode = parts.decode;
			this.#transform = new TransformStream({
				__proto__: null,
				transform(chunk, controller) {
					const text = decode(decoder, parts.chunkBytes(chunk, true), true);
					if (text !== '')
						controller.enqueue(text);
				},
				flush(controller) {
					const text = decode(decoder, new Uint8Array(0), false);
					if (text !== '')
						controller.enqueue(text);
				},
			});
		}
		get encoding() { return this.#decoder.encoding; }
		get fatal() { return this.#decoder.fatal; }
		get ignoreBOM() { return this.#decoder.ignoreBOM; }
		get readable() { return this.#transform.readable; }
		get writable() { return this.#transform.writable; }
	}
	expose(TextDecoderStream, 'TextDecoderStream');

	class TextEncoderStream {
		#transform;
		constructor() {
			let high = ''; // the first half of a pair, whose other half is in the next chunk
			this.#transform = new TransformStream({
				__proto__: null,
				transform(chunk, controller) {
					let text = high + textOf(chunk);
					const code = text === '' ? 0 : stringCodeAt(text, text.length - 1);
					high = code >= 0xd800 && code < 0xdc00 ? stringSlice(text, text.length - 1) : '';
					if (high !== '')
						text = stringSlice(text, 0, text.length - 1);
					if (text !== '')
						controller.enqueue(host.encode(text));
				},
				flush(controller) {
					if (high !== '')
						controller.enqueue(host.encode(high));
				},
			});
		}
		get encoding() {
			this.#transform;
			return 'utf-8';
		}
		get readable() { return this.#transform.readable; }
		get writable() { return this.#transform.writable; }
	}
	expose(TextEncoderStream, 'TextEncoderStream');

	late.TextDecoderStream = TextDecoderStream;
	late.TextEncoderStream = TextEncoderStream;
})
