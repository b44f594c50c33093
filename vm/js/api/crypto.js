// SPDX-License-Identifier: MIT
//
// crypto.js - crypto.subtle and CryptoKey. libcrypto computes (api/crypto.c); keys are bytes in the heap.
//
// Called when it is first needed (later.js; primordials.js says what must not be used). What can be computed is computed in the
// call: a promise says so, and nothing is under way when a generation is taken.
(function (host, parts) {
	'use strict';

	const { arrayOf, has, iterator, jsonText, jsonParse, list, Number, Promise, TypeError, Uint8Array, isFinite, trunc,
		typedBuffer, isView, stringToLowerCase } = parts.primordials;
	const { DOMException, bytesOver, copyOf, expose, isObject, textOf, late } = parts;

	let ALGORITHMS; // name in lower case -> what it does (crypto_algorithms.js)

	const fail = (name, text) => { throw new DOMException(text, name); };
	const promise = (act) => new Promise((resolve) => { resolve(act()); });
	const buffer = (bytes) => typedBuffer(bytes);

	// ---- Arguments ----

	function bytesOf(value, what) {
		const bytes = isObject(value) ? bytesOver(value) : undefined;
		if (bytes === undefined)
			throw new TypeError(what + ' must be an ArrayBuffer or a view of one');
		return copyOf(bytes);
	}

	function required(object, key) {
		const value = object[key];
		if (value === undefined)
			throw new TypeError('the algorithm lacks \'' + key + '\'');
		return value;
	}

	function integerOf(value, most, what) {
		const number = trunc(Number(value));
		if (!isFinite(number) || number < 0 || number > most)
			throw new TypeError(what + ' must be an integer from 0 to ' + most);
		return number;
	}

	const HASHES = { __proto__: null, 'sha-1': 'SHA-1', 'sha-256': 'SHA-256', 'sha-384': 'SHA-384', 'sha-512': 'SHA-512' };
	const HASH_BYTES = { __proto__: null, 'SHA-1': 20, 'SHA-256': 32, 'SHA-384': 48, 'SHA-512': 64 };
	const BLOCK_BYTES = { __proto__: null, 'SHA-1': 64, 'SHA-256': 64, 'SHA-384': 128, 'SHA-512': 128 };
	const CURVES = { __proto__: null, 'P-256': 256, 'P-384': 384, 'P-521': 528 };

	const nameIn = (algorithm) => {
		if (isObject(algorithm))
			return textOf(required(algorithm, 'name'));
		return textOf(algorithm);
	};

	function hashOf(algorithm) {
		const name = nameIn(algorithm);
		return HASHES[stringToLowerCase(name)] ?? fail('NotSupportedError', 'the hash \'' + name + '\' is not supported');
	}

	// An algorithm for an operation: { its definition, the object that was given }.
	function normalize(algorithm, operation) {
		const name = nameIn(algorithm);
		const found = ALGORITHMS[stringToLowerCase(name)];
		if (found === undefined || found[operation] === undefined)
			fail('NotSupportedError', name + ' is not supported for ' + operation);
		return { __proto__: null, found, given: isObject(algorithm) ? algorithm : { __proto__: null } };
	}

	const USAGES = ['encrypt', 'decrypt', 'sign', 'verify', 'deriveKey', 'deriveBits', 'wrapKey', 'unwrapKey'];

	function usagesOf(items) {
		const given = { __proto__: null };
		if (!isObject(items) || typeof items[iterator] !== 'function')
			throw new TypeError('the usages must be a sequence');
		const steps = items[iterator]();
		for (let step; !(step = steps.next()).done;) {
			const usage = textOf(step.value);
			if (!has(USAGES, usage))
				throw new TypeError('there is no usage \'' + usage + '\'');
			given[usage] = true;
		}
		return given;
	}

	// In the order of the standard; those that are `allowed` only, if that is given.
	function usageList(given, allowed) {
		const found = list();
		for (let i = 0; i < USAGES.length; i++)
			if (given[USAGES[i]] && (allowed === undefined || has(allowed, USAGES[i])))
				found[found.length] = USAGES[i];
		return found;
	}

	function checkUsages(given, allowed) {
		for (let i = 0; i < USAGES.length; i++)
			if (given[USAGES[i]] && !has(allowed, USAGES[i]))
				fail('SyntaxError', 'such a key cannot be used for ' + USAGES[i]);
	}

	// ---- Keys ----

	let keyIn;
	const OURS = {};

	class CryptoKey {
		#key;
		#algorithm;
		#usages;
		constructor(ours, key) {
			if (ours !== OURS)
				throw new TypeError('Illegal constructor');
			this.#key = key;
		}
		static {
			keyIn = (value) => isObject(value) && #key in value ? value.#key : undefined;
			parts.isKey = (value) => keyIn(value) !== undefined;
			parts.cloneKey = (value) => {
				const key = keyIn(value);
				return key === undefined ? undefined : new CryptoKey(OURS, key);
			};
		}
		get type() { return this.#key.type; }
		get extractable() { return this.#key.extractable; }
		get algorithm() { return this.#algorithm ??= algorithmObject(this.#key); }
		get usages() { return this.#usages ??= arrayOf(this.#key.usages); }
	}
	expose(CryptoKey, 'CryptoKey');

	function algorithmObject({ found, hash, length, curve, bits, exponent }) {
		const object = { name: found.name };
		if (bits !== undefined) {
			object.modulusLength = bits;
			object.publicExponent = copyOf(exponent);
		}
		if (curve !== undefined)
			object.namedCurve = curve;
		if (hash !== undefined)
			object.hash = { name: hash };
		if (length !== undefined)
			object.length = length;
		return object;
	}

	// `key`: { found, type, extractable, usages, data ... }; nothing changes it any more.
	const newKey = (key) => new CryptoKey(OURS, key);

	function keyOf(value) {
		return keyIn(value) ?? (() => { throw new TypeError('this is not a CryptoKey'); })();
	}

	function usable(value, algorithm, usage) {
		const key = keyOf(value);
		if (key.found !== algorithm.found)
			fail('InvalidAccessError', 'the key is for ' + key.found.name + ', not for ' + algorithm.found.name);
		if (!has(key.usages, usage))
			fail('InvalidAccessError', 'the key must not be used for ' + usage);
		return key;
	}

	function jwkOf(value) {
		if (!isObject(value))
			throw new TypeError('the key must be a JsonWebKey');
		return value;
	}

	late.cryptoBase = {
		__proto__: null, fail, buffer, bytesOf, required, integerOf, hashOf, BLOCK_BYTES, HASH_BYTES, CURVES, USAGES,
		usageList, checkUsages, newKey, keyOf,
	};
	parts.need('der');
	parts.need('crypto_algorithms');
	ALGORITHMS = late.cryptoAlgorithms;

	// ---- SubtleCrypto ----

	const FORMATS = { __proto__: null, raw: true, spki: true, pkcs8: true, jwk: true, 'raw-secret': true, 'raw-public': true };

	function formatOf(format) {
		format = textOf(format);
		if (!(format in FORMATS))
			throw new TypeError('there is no format \'' + format + '\'');
		return format;
	}

	function keyData(format, data) {
		if (format === 'jwk') {
			if (isView(data) || bytesOver(data) !== undefined)
				throw new TypeError('the key must be a JsonWebKey');
			return jwkOf(data);
		}
		return bytesOf(data, 'the key');
	}

	function importWith({ found, given }, format, data, extractable, wanted) {
		const key = found.importKey(format, data, given, extractable, wanted);
		const inside = keyIn(key);
		if (inside.type === 'secret' && inside.usages.length === 0)
			fail('SyntaxError', 'the key has no usage');
		return key;
	}

	function exportWith(format, value) {
		const key = keyOf(value);
		if (key.found.exportKey === undefined)
			fail('NotSupportedError', key.found.name + ' keys are not exported');
		if (!key.extractable)
			fail('InvalidAccessError', 'the key is not extractable');
		return key.found.exportKey(key, format);
	}

	function lengthOf(length) {
		return length === null || length === undefined ? null : integerOf(length, 4294967295, 'the length');
	}

	const wrapper = (algorithm, operation, fallback) => {
		const name = nameIn(algorithm);
		const found = ALGORITHMS[stringToLowerCase(name)];
		return normalize(algorithm, found?.[operation] !== undefined ? operation : fallback);
	};
	const generic = (algorithm, usage, fallback) => algorithm.found[usage] ?? algorithm.found[fallback];

	function count(values, least, name) {
		if (values.length < least)
			throw new TypeError(name + ' takes ' + least + ' arguments');
	}

	// encrypt(), decrypt() and sign()
	const useKey = (usage, values, algorithm, key, data) => promise(() => {
		count(values, 3, usage);
		const bytes = bytesOf(data, 'data');
		const normal = normalize(algorithm, usage);
		return normal.found[usage](usable(key, normal, usage), normal.given, bytes);
	});

	class SubtleCrypto {
		constructor(ours) {
			if (ours !== OURS)
				throw new TypeError('Illegal constructor');
		}
		encrypt(algorithm, key, data) {
			return useKey('encrypt', arguments, algorithm, key, data);
		}
		decrypt(algorithm, key, data) {
			return useKey('decrypt', arguments, algorithm, key, data);
		}
		sign(algorithm, key, data) {
			return useKey('sign', arguments, algorithm, key, data);
		}
		verify(algorithm, key, signature, data) {
			return promise(() => {
				count(arguments, 4, 'verify');
				const signed = bytesOf(signature, 'the signature');
				const bytes = bytesOf(data, 'data');
				const normal = normalize(algorithm, 'verify');
				return normal.found.verify(usable(key, normal, 'verify'), normal.given, signed, bytes);
			});
		}
		digest(algorithm, data) {
			return promise(() => {
				count(arguments, 2, 'digest');
				const bytes = bytesOf(data, 'data');
				return normalize(algorithm, 'digest').found.digest(bytes);
			});
		}
		generateKey(algorithm, extractable, keyUsages) {
			return promise(() => {
				count(arguments, 3, 'generateKey');
				const wanted = usagesOf(keyUsages);
				const normal = normalize(algorithm, 'generateKey');
				const made = normal.found.generateKey(normal.given, !!extractable, wanted);
				if (keyIn(made)?.usages.length === 0)
					fail('SyntaxError', 'the key has no usage');
				return made;
			});
		}
		importKey(format, data, algorithm, extractable, keyUsages) {
			return promise(() => {
				count(arguments, 5, 'importKey');
				format = formatOf(format);
				const wanted = usagesOf(keyUsages);
				const read = keyData(format, data);
				return importWith(normalize(algorithm, 'importKey'), format, read, !!extractable, wanted);
			});
		}
		exportKey(format, key) {
			return promise(() => {
				count(arguments, 2, 'exportKey');
				return exportWith(formatOf(format), key);
			});
		}
		deriveBits(algorithm, baseKey, length = null) {
			return promise(() => {
				count(arguments, 2, 'deriveBits');
				length = lengthOf(length);
				const normal = normalize(algorithm, 'deriveBits');
				return normal.found.deriveBits(usable(baseKey, normal, 'deriveBits'), normal.given, length);
			});
		}
		deriveKey(algorithm, baseKey, derived, extractable, keyUsages) {
			return promise(() => {
				count(arguments, 5, 'deriveKey');
				const wanted = usagesOf(keyUsages);
				const normal = normalize(algorithm, 'deriveBits');
				const into = normalize(derived, 'importKey');
				const sized = normalize(derived, 'keyLength');
				const key = usable(baseKey, normal, 'deriveKey');
				const length = sized.found.keyLength(sized.given);
				const bits = normal.found.deriveBits(key, normal.given, length);
				return importWith(into, 'raw', new Uint8Array(bits), !!extractable, wanted);
			});
		}
		wrapKey(format, key, wrappingKey, algorithm) {
			return promise(() => {
				count(arguments, 4, 'wrapKey');
				format = formatOf(format);
				const normal = wrapper(algorithm, 'wrapKey', 'encrypt');
				const by = usable(wrappingKey, normal, 'wrapKey');
				const made = exportWith(format, key);
				const bytes = format === 'jwk' ? host.encode(jsonText(made)) : new Uint8Array(made);
				return generic(normal, 'wrapKey', 'encrypt')(by, normal.given, bytes);
			});
		}
		unwrapKey(format, wrapped, unwrappingKey, algorithm, keyAlgorithm, extractable, keyUsages) {
			return promise(() => {
				count(arguments, 7, 'unwrapKey');
				format = formatOf(format);
				const wanted = usagesOf(keyUsages);
				const bytes = bytesOf(wrapped, 'the wrapped key');
				const normal = wrapper(algorithm, 'unwrapKey', 'decrypt');
				const into = normalize(keyAlgorithm, 'importKey');
				const by = usable(unwrappingKey, normal, 'unwrapKey');
				const made = new Uint8Array(generic(normal, 'unwrapKey', 'decrypt')(by, normal.given, bytes));
				let data = made;
				if (format === 'jwk')
					try {
						data = jwkOf(jsonParse(host.decode(made, true)));
					} catch {
						fail('DataError', 'what was wrapped is not a JsonWebKey');
					}
				return importWith(into, format, data, !!extractable, wanted);
			});
		}
	}
	expose(SubtleCrypto, 'SubtleCrypto');

	late.CryptoKey = CryptoKey;
	late.SubtleCrypto = SubtleCrypto;
	late.subtle = new SubtleCrypto(OURS);
})
