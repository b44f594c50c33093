// SPDX-License-Identifier: MIT
//
// der.js - keys as the bytes of PKCS #8 and SPKI, and as JSON Web Keys.
//
// Called when crypto.js needs it (later.js; primordials.js says what must not be used). What is read here was written by libcrypto, or
// goes to libcrypto before anybody believes it.
(function (host, parts) {
	'use strict';

	const { list, Uint8Array, typedBytes, typedSet, bytesToBase64, bytesFromBase64,
		stringIndexOf } = parts.primordials;
	const { DOMException, copyOf, part, late } = parts;

	const fail = (text) => { throw new DOMException(text, 'DataError'); };
	const OIDS = {
		__proto__: null,
		rsa: [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01],
		ec: [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01],
		'P-256': [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
		'P-384': [0x2b, 0x81, 0x04, 0x00, 0x22],
		'P-521': [0x2b, 0x81, 0x04, 0x00, 0x23],
		Ed25519: [0x2b, 0x65, 0x70],
		X25519: [0x2b, 0x65, 0x6e],
	};
	const SIZES = { __proto__: null, 'P-256': 32, 'P-384': 48, 'P-521': 66, Ed25519: 32, X25519: 32 };

	// ---- Writing ----

	function joined(pieces) {
		let total = 0;
		let at = 0;
		for (let i = 0; i < pieces.length; i++)
			total += pieces[i].length;
		const all = new Uint8Array(total);
		for (let i = 0; i < pieces.length; i++) {
			typedSet(all, pieces[i], at);
			at += pieces[i].length;
		}
		return all;
	}

	function element(tag, ...pieces) {
		const body = joined(pieces);
		const size = typedBytes(body);
		const head = size < 128 ? [tag, size] : size < 256 ? [tag, 0x81, size] : [tag, 0x82, size >> 8, size & 255];
		return joined([head, body]);
	}
	const sequence = (...pieces) => element(0x30, joined(pieces));
	const oid = (name) => element(6, OIDS[name]);
	const small = (value) => element(2, [value]);
	const NULL = [5, 0];

	function integer(bytes) {
		let from = 0;
		while (from < bytes.length - 1 && bytes[from] === 0)
			from++;
		const rest = part(bytes, from, bytes.length);
		return rest[0] & 0x80 ? element(2, [0], rest) : element(2, rest);
	}

	// ---- Reading ----

	// The elements in bytes: [{ tag, body }].
	function elements(bytes) {
		const found = list();
		for (let at = 0; at < bytes.length;) {
			const tag = bytes[at++];
			let size = bytes[at++];
			if (size > 0x80) {
				let count = size & 127;
				size = 0;
				while (count-- > 0)
					size = size * 256 + bytes[at++];
			}
			if (!(at + size <= bytes.length))
				fail('the key is not valid DER');
			found[found.length] = { __proto__: null, tag, body: part(bytes, at, at + size) };
			at += size;
		}
		return found;
	}

	const inside = (bytes, ...path) => {
		for (let i = 0; i < path.length; i++) {
			const item = elements(bytes)[path[i]];
			if (item === undefined)
				fail('the key is not valid DER');
			bytes = item.body;
		}
		return bytes;
	};
	const magnitude = (bytes) => bytes.length > 1 && bytes[0] === 0 ? part(bytes, 1, bytes.length) : bytes;

	// ---- The kinds of keys: 'P-256' and the like, 'Ed25519', 'X25519', 'rsa' ----

	const algorithmOf = (kind) => kind === 'rsa' ? sequence(oid('rsa'), NULL) : kind[0] === 'P' ? sequence(oid('ec'), oid(kind)) :
		sequence(oid(kind));

	const spki = (kind, point) => sequence(algorithmOf(kind), element(3, [0], point));
	const privateKey = (kind, body) => sequence(small(0), algorithmOf(kind), element(4, body));

	function isKind(der, where, kind) {
		const found = elements(inside(der, 0, where));
		const matches = (item, name) => {
			const bytes = OIDS[name];
			if (item === undefined || item.tag !== 6 || item.body.length !== bytes.length)
				return false;
			for (let i = 0; i < bytes.length; i++)
				if (item.body[i] !== bytes[i])
					return false;
			return true;
		};
		return kind[0] === 'P' ? matches(found[0], 'ec') && matches(found[1], kind) : matches(found[0], kind);
	}

	// What is behind the 0 of a BIT STRING: a point, or a raw key.
	function pointOf(der) {
		const bits = inside(der, 0, 1);
		return part(bits, 1, bits.length);
	}

	// The number d, or the seed.
	const secretOf = (der, kind) => kind[0] === 'P' ? inside(der, 0, 2, 0, 1) : inside(der, 0, 2, 0);

	const encode = (bytes) => bytesToBase64(bytes, { __proto__: null, alphabet: 'base64url', omitPadding: true });

	function decode(text, what) {
		if (typeof text !== 'string')
			fail('the key lacks \'' + what + '\'');
		if (stringIndexOf(text, '=') !== -1)
			fail('\'' + what + '\' is not base64url');
		try {
			return bytesFromBase64(text, { __proto__: null, alphabet: 'base64url' });
		} catch {
			return fail('\'' + what + '\' is not base64url');
		}
	}

	function sized(bytes, size, what) {
		if (bytes.length !== size)
			fail('\'' + what + '\' has ' + bytes.length + ' bytes instead of ' + size);
		return bytes;
	}

	const RSA = ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'];

	function fromJwk(jwk, kind) {
		if (kind === 'rsa') {
			const numbers = list();
			const count = jwk.d === undefined ? 2 : RSA.length;
			for (let i = 0; i < count; i++)
				numbers[i] = integer(decode(jwk[RSA[i]], RSA[i]));
			if (count === 2)
				return spki('rsa', sequence(numbers[0], numbers[1]));
			const body = [small(0)];
			for (let i = 0; i < count; i++)
				body[i + 1] = numbers[i];
			return privateKey('rsa', element(0x30, joined(body)));
		}
		const size = SIZES[kind];
		const x = sized(decode(jwk.x, 'x'), size, 'x');
		const point = kind[0] === 'P' ? joined([[4], x, sized(decode(jwk.y, 'y'), size, 'y')]) : x;
		if (jwk.d === undefined)
			return spki(kind, point);
		const d = sized(decode(jwk.d, 'd'), size, 'd');
		return kind[0] === 'P' ?
			privateKey(kind, sequence(small(1), element(4, d), element(0xa1, element(3, [0], point)))) :
			privateKey(kind, element(4, d));
	}

	// `der` of a private key comes with that of its public one.
	function toJwk(der, kind, isPrivate, publicDer) {
		if (kind === 'rsa') {
			const jwk = { kty: 'RSA' };
			const numbers = elements(isPrivate ? inside(der, 0, 2, 0) : inside(pointOf(der), 0));
			const first = isPrivate ? 1 : 0;
			for (let i = 0; i < (isPrivate ? RSA.length : 2); i++)
				jwk[RSA[i]] = encode(magnitude(numbers[first + i].body));
			return jwk;
		}
		const point = pointOf(publicDer);
		const size = SIZES[kind];
		const jwk = kind[0] === 'P' ?
			{ kty: 'EC', crv: kind, x: encode(part(point, 1, 1 + size)), y: encode(part(point, 1 + size, 1 + 2 * size)) } :
			{ kty: 'OKP', crv: kind, x: encode(point) };
		if (isPrivate)
			jwk.d = encode(secretOf(der, kind));
		return jwk;
	}

	late.der = {
		__proto__: null, spki, isKind, pointOf, fromJwk, toJwk, encode, decode, SIZES,
		isPrivateKind: (der, kind) => isKind(der, 1, kind),
		isPublicKind: (der, kind) => isKind(der, 0, kind),
		rsaNumbers(der) { // of a public key: its bits and its exponent
			const numbers = elements(inside(pointOf(der), 0));
			const modulus = magnitude(numbers[0].body);
			let bits = modulus.length * 8;
			for (let top = 0x80; top > 0 && !(modulus[0] & top); top >>= 1)
				bits--;
			return { __proto__: null, bits, exponent: copyOf(magnitude(numbers[1].body)) };
		},
	};
})
