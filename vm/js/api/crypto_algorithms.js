// SPDX-License-Identifier: MIT
//
// crypto_algorithms.js - what each algorithm of crypto.subtle does: makes, reads and writes its keys, and uses them.
//
// Called by crypto.js (later.js; primordials.js says what must not be used).
(function (host, parts) {
	'use strict';

	const { arrayIsArray, arrayOf, has, list, TypeError, Uint8Array, typedName, stringSlice, typedSet, ceil } = parts.primordials;
	const { copyOf, textOf, late } = parts;
	const { fail, buffer, bytesOf, required, integerOf, hashOf, BLOCK_BYTES, HASH_BYTES, CURVES, USAGES, usageList, checkUsages,
		newKey, keyOf } = late.cryptoBase;
	const { der } = late;
	const compute = host.crypto;

	// ---- Symmetric keys ----

	const secret = (found, data, extractable, usages, more) =>
		newKey({ __proto__: null, found, type: 'secret', extractable, usages, data, ...more });

	function checkJwk(jwk, kty, use, given, extractable) {
		if (jwk.kty !== kty)
			fail('DataError', 'kty must be ' + kty);
		if (usageList(given).length > 0 && jwk.use !== undefined && jwk.use !== use)
			fail('DataError', 'use must be ' + use);
		if (jwk.ext !== undefined && !jwk.ext && extractable)
			fail('DataError', 'the key must not be extractable');
		if (jwk.key_ops === undefined)
			return;
		if (!arrayIsArray(jwk.key_ops))
			fail('DataError', 'key_ops must be a list');
		for (let i = 0; i < jwk.key_ops.length; i++)
			for (let k = 0; k < i; k++)
				if (jwk.key_ops[i] === jwk.key_ops[k])
					fail('DataError', 'key_ops has something twice');
		for (let i = 0; i < USAGES.length; i++)
			if (given[USAGES[i]] && !has(jwk.key_ops, USAGES[i]))
				fail('DataError', 'key_ops lacks ' + USAGES[i]);
	}

	function importOctets(format, data, given, extractable, use, algOf) {
		if (format === 'raw' || format === 'raw-secret')
			return data;
		if (format !== 'jwk')
			fail('NotSupportedError', 'such a key cannot be imported as ' + format);
		checkJwk(data, 'oct', use, given, extractable);
		const bytes = der.decode(data.k, 'k');
		const alg = algOf(bytes);
		if (data.alg !== undefined && alg !== undefined && data.alg !== alg)
			fail('DataError', 'alg must be ' + alg);
		return bytes;
	}

	const octets = (key, format, alg) => {
		if (format === 'raw' || format === 'raw-secret')
			return buffer(copyOf(key.data));
		if (format !== 'jwk')
			fail('NotSupportedError', 'such a key cannot be exported as ' + format);
		return { kty: 'oct', k: der.encode(key.data), alg, key_ops: arrayOf(key.usages), ext: key.extractable };
	};

	function aes(name, usages, more) {
		const suffix = stringSlice(name, 4);
		const checkLength = (bits) => bits === 128 || bits === 192 || bits === 256;
		const found = {
			__proto__: null, name, usages,
			generateKey(given, extractable, wanted) {
				const length = integerOf(required(given, 'length'), 65535, 'length');
				checkUsages(wanted, usages);
				if (!checkLength(length))
					fail('OperationError', 'AES has keys of 128, 192 and 256 bits');
				return secret(found, host.random(length / 8), extractable, usageList(wanted), { __proto__: null, length });
			},
			importKey(format, data, given, extractable, wanted) {
				checkUsages(wanted, usages);
				const bytes = importOctets(format, data, wanted, extractable, 'enc', (key) => 'A' + key.length * 8 + suffix);
				if (!checkLength(bytes.length * 8))
					fail('DataError', 'AES has keys of 128, 192 and 256 bits');
				return secret(found, bytes, extractable, usageList(wanted), { __proto__: null, length: bytes.length * 8 });
			},
			exportKey: (key, format) => octets(key, format, 'A' + key.length + suffix),
			keyLength(given) {
				const length = integerOf(required(given, 'length'), 65535, 'length');
				return checkLength(length) ? length : fail('OperationError', 'AES has keys of 128, 192 and 256 bits');
			},
			...more,
		};
		return found;
	}

	function ivOf(given, key, bytes) {
		const iv = bytesOf(required(given, key), key);
		if (bytes !== undefined && iv.length !== bytes)
			fail('OperationError', key + ' must have ' + bytes + ' bytes');
		return iv;
	}

	const orFail = (bytes) => bytes === undefined ? fail('OperationError', 'the operation failed') : buffer(bytes);
	const nothing = new Uint8Array(0);

	const cipher = (encrypt, mode, ivName) => (key, given, data) =>
		orFail(compute('cipher', mode, encrypt, key.data, ivOf(given, ivName, 16), data, nothing, 0));

	const TAGS = [32, 64, 96, 104, 112, 120, 128];
	const gcm = (encrypt) => (key, given, data) => {
		const iv = ivOf(given, 'iv');
		const aad = given.additionalData === undefined ? nothing : bytesOf(given.additionalData, 'additionalData');
		const tag = given.tagLength === undefined ? 128 : integerOf(given.tagLength, 255, 'tagLength');
		if (!has(TAGS, tag) || (!encrypt && data.length < tag / 8) || iv.length === 0)
			fail('OperationError', 'tagLength, iv or data have a wrong length');
		return orFail(compute('cipher', 'gcm', encrypt, key.data, iv, data, aad, tag / 8));
	};

	// The counter is the last `length` bits: a message that would have it twice is refused, one that makes it wrap is two pieces.
	const ctr = (encrypt) => (key, given, data) => {
		const counter = ivOf(given, 'counter', 16);
		const length = integerOf(required(given, 'length'), 255, 'length');
		if (length === 0 || length > 128)
			fail('OperationError', 'length must be from 1 to 128');
		const blocks = ceil(data.length / 16);
		if (length < 53 && blocks > 2 ** length)
			fail('OperationError', 'the message is too long for the counter');
		return orFail(counted(key.data, counter, length, data, blocks, encrypt));
	};

	function counted(key, counter, length, data, blocks, encrypt) {
		let value = 0; // of the counter's last 52 bits at most
		const bits = length < 52 ? length : 52;
		for (let i = 0; i < bits; i++)
			if (counter[15 - (i >> 3)] & (1 << (i & 7)))
				value += 2 ** i;
		const left = 2 ** length - value;
		if (length >= 52 || blocks <= left)
			return compute('cipher', 'ctr', encrypt, key, counter, data, nothing, 0);
		const first = new Uint8Array(buffer(data), 0, left * 16);
		const rest = new Uint8Array(buffer(data), left * 16);
		const wrapped = copyOf(counter);
		for (let i = 0; i < length; i++)
			wrapped[15 - (i >> 3)] &= ~(1 << (i & 7));
		const all = new Uint8Array(data.length);
		typedSet(all, compute('cipher', 'ctr', encrypt, key, counter, first, nothing, 0));
		typedSet(all, compute('cipher', 'ctr', encrypt, key, wrapped, rest, nothing, 0), left * 16);
		return all;
	}

	const hmac = {
		__proto__: null, name: 'HMAC', usages: ['sign', 'verify'],
		lengthOf: (given, hash) => given.length === undefined ? BLOCK_BYTES[hash] * 8 : integerOf(given.length, 4294967295, 'length'),
		generateKey(given, extractable, wanted) {
			const hash = hashOf(required(given, 'hash'));
			const length = hmac.lengthOf(given, hash);
			checkUsages(wanted, hmac.usages);
			if (length === 0 || length > 65536 * 8)
				fail('OperationError', 'length must be from 1 to 524288');
			return secret(hmac, cut(host.random(ceil(length / 8)), length), extractable, usageList(wanted),
				{ __proto__: null, hash, length });
		},
		importKey(format, data, given, extractable, wanted) {
			const hash = hashOf(required(given, 'hash'));
			checkUsages(wanted, hmac.usages);
			const bytes = importOctets(format, data, wanted, extractable, 'sig', () => 'HS' + stringSlice(hash, 4));
			let length = bytes.length * 8;
			if (length === 0)
				fail('DataError', 'the key is empty');
			if (given.length !== undefined) {
				const asked = integerOf(given.length, 4294967295, 'length');
				if (asked > length || asked <= length - 8)
					fail('DataError', 'length does not fit the key');
				length = asked;
			}
			return secret(hmac, cut(bytes, length), extractable, usageList(wanted), { __proto__: null, hash, length });
		},
		exportKey: (key, format) => octets(key, format, 'HS' + stringSlice(key.hash, 4)),
		sign: (key, given, data) => buffer(compute('hmac', key.hash, key.data, data)),
		verify(key, given, signature, data) {
			const right = compute('hmac', key.hash, key.data, data);
			let different = right.length ^ signature.length;
			for (let i = 0; i < right.length; i++)
				different |= right[i] ^ signature[i];
			return different === 0;
		},
		keyLength(given) {
			const length = hmac.lengthOf(given, hashOf(required(given, 'hash')));
			return length === 0 ? fail('OperationError', 'length must not be 0') : length;
		},
	};

	// The bits behind the length are 0.
	function cut(bytes, length) {
		if (length % 8)
			bytes[bytes.length - 1] &= 0xff00 >> (length % 8);
		return bytes;
	}

	// ---- Derivation ----

	function deriver(name, derive) {
		const found = {
			__proto__: null, name, usages: ['deriveKey', 'deriveBits'],
			importKey(format, data, given, extractable, wanted) {
				if (format !== 'raw' && format !== 'raw-secret')
					fail('NotSupportedError', name + ' keys are imported as raw');
				checkUsages(wanted, found.usages);
				if (extractable)
					fail('SyntaxError', name + ' keys are not extractable');
				return secret(found, data, false, usageList(wanted));
			},
			keyLength: () => null,
			deriveBits(key, given, length) {
				if (length === null || length % 8)
					fail('OperationError', 'the length must be a multiple of 8');
				return derive(key, given, length / 8);
			},
		};
		return found;
	}

	const hkdf = deriver('HKDF', (key, given, bytes) => {
		const hash = hashOf(required(given, 'hash'));
		const info = bytesOf(required(given, 'info'), 'info');
		const salt = bytesOf(required(given, 'salt'), 'salt');
		if (bytes > 255 * HASH_BYTES[hash])
			fail('OperationError', 'HKDF gives at most 255 hashes');
		return bytes === 0 ? buffer(new Uint8Array(0)) : orFail(compute('hkdf', hash, key.data, salt, info, bytes));
	});

	const pbkdf2 = deriver('PBKDF2', (key, given, bytes) => {
		const hash = hashOf(required(given, 'hash'));
		const iterations = integerOf(required(given, 'iterations'), 4294967295, 'iterations');
		const salt = bytesOf(required(given, 'salt'), 'salt');
		if (iterations === 0)
			fail('OperationError', 'iterations must not be 0');
		return bytes === 0 ? buffer(new Uint8Array(0)) : orFail(compute('pbkdf2', hash, key.data, salt, iterations, bytes));
	});

	// ---- Pairs of keys ----

	function pair(found, kind, extractable, wanted, more, publicUsages, privateUsages, modulus, exponent) {
		const both = compute('generate', kind, modulus, exponent);
		if (both === undefined)
			fail('OperationError', 'no such key can be made');
		const privateKeys = usageList(wanted, privateUsages);
		if (privateKeys.length === 0)
			fail('SyntaxError', 'the private key has no usage');
		return {
			publicKey: newKey({ __proto__: null, found, type: 'public', extractable: true, usages: usageList(wanted, publicUsages),
					    data: both[1], spki: both[1], ...more }),
			privateKey: newKey({ __proto__: null, found, type: 'private', extractable, usages: privateKeys, data: both[0],
					     spki: both[1], ...more }),
		};
	}

	// Bytes that libcrypto knows as a key of that kind: { data, spki } or a DataError.
	function accept(isPrivate, kind, bytes) {
		const checked = isPrivate ? compute('private', bytes) : compute('public', bytes);
		if (checked === undefined || !(isPrivate ? der.isPrivateKind(checked[0], kind) : der.isPublicKind(checked[1], kind)))
			fail('DataError', 'this is not a key of ' + kind);
		return { __proto__: null, data: isPrivate ? checked[0] : checked[1], spki: checked[1] };
	}

	// What all of them import alike. describe(jwk) checks the rest of a JWK.
	function importPair(found, kind, format, data, extractable, wanted, publicUsages, privateUsages, use, checkRest, more) {
		let isPrivate = format === 'pkcs8';
		let bytes = data;
		if (format === 'jwk') {
			isPrivate = data.d !== undefined;
			checkUsages(wanted, isPrivate ? privateUsages : publicUsages);
			checkJwk(data, kind === 'rsa' ? 'RSA' : kind[0] === 'P' ? 'EC' : 'OKP', use, wanted, extractable);
			if (kind !== 'rsa' && data.crv !== kind)
				fail('DataError', 'crv must be ' + kind);
			checkRest(data);
			bytes = der.fromJwk(data, kind);
		} else if (format === 'spki' || format === 'pkcs8') {
			checkUsages(wanted, isPrivate ? privateUsages : publicUsages);
		} else if ((format === 'raw' || format === 'raw-public') && kind !== 'rsa') {
			checkUsages(wanted, publicUsages);
			const size = der.SIZES[kind];
			if (kind[0] !== 'P' ? data.length !== size : !(data.length === 1 + 2 * size && data[0] === 4) &&
				!(data.length === 1 + size && (data[0] === 2 || data[0] === 3)))
				fail('DataError', 'a raw key has another length');
			bytes = der.spki(kind, data);
		} else {
			fail('NotSupportedError', 'such a key cannot be imported as ' + format);
		}
		const key = accept(isPrivate, kind, bytes);
		if (isPrivate && usageList(wanted).length === 0)
			fail('SyntaxError', 'the private key has no usage');
		if (isPrivate && format === 'jwk' && kind !== 'rsa' && !same(key.spki, compute('public', der.fromJwk({ ...data, d: undefined }, kind))?.[1]))
			fail('DataError', 'the private key does not belong to the public one');
		return newKey({ __proto__: null, found, type: isPrivate ? 'private' : 'public', extractable, usages: usageList(wanted), ...key,
				...(kind === 'rsa' ? der.rsaNumbers(key.spki) : undefined), ...more });
	}

	function same(a, b) {
		let different = b === undefined || a.length !== b.length;
		for (let i = 0; !different && i < a.length; i++)
			different = a[i] !== b[i];
		return !different;
	}

	function exportPair(key, kind, format, alg) {
		const isPrivate = key.type === 'private';
		if (format === 'jwk') {
			const jwk = der.toJwk(key.data, kind, isPrivate, key.spki);
			if (alg !== undefined)
				jwk.alg = alg;
			jwk.key_ops = arrayOf(key.usages);
			jwk.ext = key.extractable;
			return jwk;
		}
		if (format === (isPrivate ? 'pkcs8' : 'spki'))
			return buffer(copyOf(key.data));
		if ((format === 'raw' || format === 'raw-public') && kind !== 'rsa' && !isPrivate)
			return buffer(copyOf(der.pointOf(key.spki)));
		return fail(format === 'pkcs8' || format === 'spki' || format === 'raw' || format === 'raw-public' ? 'InvalidAccessError' :
			'NotSupportedError', 'such a key cannot be exported as ' + format);
	}

	function curveOf(given) {
		const curve = textOf(required(given, 'namedCurve'));
		return curve in CURVES ? curve : fail('NotSupportedError', 'the curve \'' + curve + '\' is not supported');
	}

	function elliptic(name, publicUsages, privateUsages, use, more) {
		const ALG = { __proto__: null, 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' };
		const found = {
			__proto__: null, name,
			generateKey(given, extractable, wanted) {
				const curve = curveOf(given);
				checkUsages(wanted, bothOf(publicUsages, privateUsages));
				return pair(found, curve, extractable, wanted, { __proto__: null, curve }, publicUsages, privateUsages);
			},
			importKey(format, data, given, extractable, wanted) {
				const curve = curveOf(given);
				return importPair(found, curve, format, data, extractable, wanted, publicUsages, privateUsages, use, (jwk) => {
					if (use === 'sig' && jwk.alg !== undefined && jwk.alg !== ALG[curve])
						fail('DataError', 'alg must be ' + ALG[curve]);
				}, { __proto__: null, curve });
			},
			exportKey: (key, format) => exportPair(key, key.curve, format),
			...more,
		};
		return found;
	}

	function edwards(name, publicUsages, privateUsages, use, more) {
		const found = {
			__proto__: null, name,
			generateKey(given, extractable, wanted) {
				checkUsages(wanted, bothOf(publicUsages, privateUsages));
				return pair(found, name, extractable, wanted, undefined, publicUsages, privateUsages);
			},
			importKey: (format, data, given, extractable, wanted) =>
				importPair(found, name, format, data, extractable, wanted, publicUsages, privateUsages, use, (jwk) => {
					if (use === 'sig' && jwk.alg !== undefined && jwk.alg !== name && jwk.alg !== 'EdDSA')
						fail('DataError', 'alg must be ' + name);
				}),
			exportKey: (key, format) => exportPair(key, name, format, use === 'sig' ? name : undefined),
			...more,
		};
		return found;
	}

	function bothOf(some, others) {
		const all = list();
		for (let i = 0; i < some.length; i++)
			all[i] = some[i];
		for (let i = 0; i < others.length; i++)
			all[all.length] = others[i];
		return all;
	}

	const ofType = (key, type) => key.type === type ? key : fail('InvalidAccessError', 'this takes a ' + type + ' key');
	const signer = (scheme, hashIn, saltIn) => ({
		__proto__: null,
		sign: (key, given, data) => orFail(compute('sign', scheme, hashIn(key, given), ofType(key, 'private').data, data, saltIn(given))),
		verify: (key, given, signature, data) =>
			compute('verify', scheme, hashIn(key, given), ofType(key, 'public').data, data, saltIn(given), signature) === true,
	});
	const noSalt = () => 0;
	const givenHash = (key, given) => hashOf(required(given, 'hash'));
	const keyHash = (key) => key.hash;

	// A shared secret: all of it, or its first bits.
	const agreement = (key, given, length) => {
		const other = keyOf(required(given, 'public'));
		ofType(key, 'private');
		ofType(other, 'public');
		if (other.found !== key.found || other.curve !== key.curve)
			fail('InvalidAccessError', 'the two keys are of different kinds');
		const shared = compute('agree', key.data, other.data);
		if (shared === undefined)
			fail('OperationError', 'there is no shared secret');
		if (length === null)
			return buffer(shared);
		if (length > shared.length * 8)
			fail('OperationError', 'the shared secret has ' + shared.length * 8 + ' bits');
		return buffer(cut(copyOf(new Uint8Array(buffer(shared), 0, ceil(length / 8))), length));
	};

	function rsa(name, publicUsages, privateUsages, use, algOf, more) {
		const found = {
			__proto__: null, name,
			generateKey(given, extractable, wanted) {
				const hash = hashOf(required(given, 'hash'));
				const bits = integerOf(required(given, 'modulusLength'), 4294967295, 'modulusLength');
				const exponent = required(given, 'publicExponent');
				if (typedName(exponent) !== 'Uint8Array')
					throw new TypeError('publicExponent must be a Uint8Array');
				checkUsages(wanted, bothOf(publicUsages, privateUsages));
				return pair(found, 'RSA', extractable, wanted, { __proto__: null, hash, bits, exponent: copyOf(exponent) }, publicUsages,
					privateUsages, bits, copyOf(exponent));
			},
			importKey(format, data, given, extractable, wanted) {
				const hash = hashOf(required(given, 'hash'));
				return importPair(found, 'rsa', format, data, extractable, wanted, publicUsages, privateUsages, use, (jwk) => {
					if (jwk.alg !== undefined && jwk.alg !== algOf(hash))
						fail('DataError', 'alg must be ' + algOf(hash));
				}, { __proto__: null, hash });
			},
			exportKey: (key, format) => exportPair(key, 'rsa', format, algOf(key.hash)),
			...more,
		};
		return found;
	}

	const bitsOf = (hash) => stringSlice(hash, 4);
	const oaep = (encrypt) => (key, given, data) => {
		const label = given.label === undefined ? nothing : bytesOf(given.label, 'label');
		return orFail(compute('oaep', encrypt, key.hash, ofType(key, encrypt ? 'public' : 'private').data, data, label));
	};
	const CIPHER = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'];
	const digest = (name) => ({ __proto__: null, name, digest: (data) => buffer(compute('digest', name, data)) });

	const ALGORITHMS = {
		__proto__: null,
		'sha-1': digest('SHA-1'),
		'sha-256': digest('SHA-256'),
		'sha-384': digest('SHA-384'),
		'sha-512': digest('SHA-512'),
		'aes-gcm': aes('AES-GCM', CIPHER, { __proto__: null, encrypt: gcm(true), decrypt: gcm(false) }),
		'aes-cbc': aes('AES-CBC', CIPHER,
			{ __proto__: null, encrypt: cipher(true, 'cbc', 'iv'), decrypt: cipher(false, 'cbc', 'iv') }),
		'aes-ctr': aes('AES-CTR', CIPHER, { __proto__: null, encrypt: ctr(true), decrypt: ctr(false) }),
		'aes-kw': aes('AES-KW', ['wrapKey', 'unwrapKey'], {
			__proto__: null,
			wrapKey: (key, given, data) => orFail(compute('cipher', 'kw', true, key.data, nothing, data, nothing, 0)),
			unwrapKey: (key, given, data) => orFail(compute('cipher', 'kw', false, key.data, nothing, data, nothing, 0)),
		}),
		hmac,
		hkdf,
		pbkdf2,
		ecdsa: elliptic('ECDSA', ['verify'], ['sign'], 'sig', signer('ecdsa', givenHash, noSalt)),
		ecdh: elliptic('ECDH', [], ['deriveKey', 'deriveBits'], 'enc', { __proto__: null, deriveBits: agreement }),
		ed25519: edwards('Ed25519', ['verify'], ['sign'], 'sig', signer('ed25519', () => '', noSalt)),
		x25519: edwards('X25519', [], ['deriveKey', 'deriveBits'], 'enc', { __proto__: null, deriveBits: agreement }),
		'rsassa-pkcs1-v1_5': rsa('RSASSA-PKCS1-v1_5', ['verify'], ['sign'], 'sig', (hash) => 'RS' + bitsOf(hash),
			signer('rsa-pkcs1', keyHash, noSalt)),
		'rsa-pss': rsa('RSA-PSS', ['verify'], ['sign'], 'sig', (hash) => 'PS' + bitsOf(hash),
			signer('rsa-pss', keyHash, (given) => integerOf(required(given, 'saltLength'), 4294967295, 'saltLength'))),
		'rsa-oaep': rsa('RSA-OAEP', ['encrypt', 'wrapKey'], ['decrypt', 'unwrapKey'], 'enc',
			(hash) => hash === 'SHA-1' ? 'RSA-OAEP' : 'RSA-OAEP-' + bitsOf(hash),
			{ __proto__: null, encrypt: oaep(true), decrypt: oaep(false) }),
	};

	late.cryptoAlgorithms = ALGORITHMS;
})
