// SPDX-License-Identifier: MIT
//
// encodings.js - the encodings of the library @exodus/bytes, for api/web.js. UTF-8 is not among them: that is the runtime's own.
import { TextDecoder, normalizeEncoding } from '@exodus/bytes/encoding.js';

// The name of an encoding by one of its labels, in lower case; undefined: there is none.
export function encodingOf(label) {
	const encoding = normalizeEncoding(label);
	return encoding === null || encoding === 'replacement' ? undefined : encoding;
}

export function decoder(encoding, fatal, ignoreBOM) {
	const made = new TextDecoder(encoding, { fatal, ignoreBOM });
	return (bytes, stream) => made.decode(bytes, { stream });
}
