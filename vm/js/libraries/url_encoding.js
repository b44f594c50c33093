// SPDX-License-Identifier: MIT
//
// url_encoding.js - percent-encoding for whatwg-url, which asks for it in the encoding of a document: here that is always UTF-8.
const encoder = new TextEncoder();

export function percentEncodeAfterEncoding(encoding, input, set) {
	let encoded = '';
	for (const byte of encoder.encode(input)) {
		const text = String.fromCharCode(byte);
		encoded += byte < 0x20 || byte > 0x7e || set.includes(text) ? '%' + byte.toString(16).toUpperCase().padStart(2, '0') : text;
	}
	return encoded;
}
