// SPDX-License-Identifier: MIT
//
// compression.js - the library pako (zlib), for api/compression.js: machines that take bytes piece by piece.
import { ZStream, Z_FINISH, Z_NO_FLUSH, Z_OK, Z_STREAM_END, Z_BUF_ERROR, Z_DEFAULT_STRATEGY, zlibDeflate, zlibDeflateInit2, zlibInflate,
	zlibInflateInit2 } from 'pako';

const OUT_BYTES = 65536;
const Z_DEFLATED = 8;

// Runs `step` until it needs more input or has ended; gives what comes out away in pieces.
function run(stream, step, give) {
	for (;;) {
		stream.output = new Uint8Array(OUT_BYTES);
		stream.next_out = 0;
		stream.avail_out = OUT_BYTES;
		const status = step();
		if (stream.next_out > 0)
			give(stream.output.slice(0, stream.next_out));
		if (status !== Z_OK || stream.avail_out > 0)
			return status;
	}
}

function feed(stream, bytes) {
	stream.input = bytes;
	stream.next_in = 0;
	stream.avail_in = bytes.length;
}

export function compressor(windowBits) {
	const stream = new ZStream();
	zlibDeflateInit2(stream, 6, Z_DEFLATED, windowBits, 8, Z_DEFAULT_STRATEGY);
	return (bytes, last, give) => {
		feed(stream, bytes);
		run(stream, () => zlibDeflate(stream, last ? Z_FINISH : Z_NO_FLUSH), give);
		stream.output = stream.input = null;
	};
}

export function decompressor(windowBits) {
	const stream = new ZStream();
	let ended = false;
	zlibInflateInit2(stream, windowBits);
	return (bytes, last, give) => {
		if (bytes.length > 0) {
			if (ended)
				throw new TypeError('there is something behind the end of the compressed data');
			feed(stream, bytes);
			const status = run(stream, () => zlibInflate(stream, Z_NO_FLUSH), give);
			if (status !== Z_OK && status !== Z_STREAM_END && status !== Z_BUF_ERROR)
				throw new TypeError('the compressed data is not valid: ' + (stream.msg || 'error ' + status));
			ended = status === Z_STREAM_END;
			const more = stream.avail_in > 0;
			stream.output = stream.input = null;
			if (ended && more)
				throw new TypeError('there is something behind the end of the compressed data');
		}
		if (last && !ended)
			throw new TypeError('the compressed data ends too early');
	};
}
