/* SPDX-License-Identifier: MIT */
/*
 * crypto.c - what crypto.subtle computes (crypto.js), by libcrypto.
 *
 * Owns nothing: each call gets keys and data as bytes, and returns bytes. Keys are PKCS #8 and SPKI in DER; each is
 * parsed anew, so that nothing of a key lies anywhere but in the heap. Called by host.c inside a turn, on the owner's
 * thread. A failure of libcrypto's is `undefined`, for which crypto.js has the exception.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"
#include "libcrypto.h"

#define OPERANDS 7u

struct operand {
	uint8_t *data;
	size_t bytes;
};

/* One call: compute(operation, ...). */
struct call {
	struct js_engine *engine;
	unsigned count;
	const js_value *arguments;
	struct operand operands[OPERANDS]; /* those that were asked for; freed at the end */
	unsigned used;
	bool missing; /* one was no bytes, or there was no memory */
};

/* ---- Arguments and results ---- */

static struct operand bytes_at(struct call *call, unsigned index)
{
	struct operand operand = {NULL, 0};

	if (index < call->count && call->used < OPERANDS)
		operand.data = js_to_bytes(call->engine, call->arguments[index], &operand.bytes);
	if (!operand.data || operand.bytes > INT_MAX - 1024) {
		call->missing = true;
		free(operand.data);
		return (struct operand){NULL, 0};
	}
	call->operands[call->used++] = operand;
	return operand;
}

static double number_at(const struct call *call, unsigned index)
{
	return index < call->count ? js_to_number(call->engine, call->arguments[index]) : 0;
}

static bool flag_at(const struct call *call, unsigned index)
{
	return index < call->count && js_to_bool(call->engine, call->arguments[index]);
}

static void text_at(const struct call *call, unsigned index, char *text, size_t room)
{
	char *copy = index < call->count ? js_to_string(call->engine, call->arguments[index], NULL)
					 : NULL;

	snprintf(text, room, "%s", copy ? copy : "");
	free(copy);
}

/* "SHA-256" */
static const EVP_MD *hash_at(const struct call *call, unsigned index)
{
	char name[16];

	text_at(call, index, name, sizeof(name));
	return crypto_api.EVP_get_digestbyname(name);
}

/* Consumes `data`. NULL: it failed. */
static js_value result_of(struct call *call, uint8_t *data, size_t bytes)
{
	js_value value = data ? js_bytes(call->engine, data, bytes) : js_undefined(call->engine);

	free(data);
	return value;
}

/* ---- Digests, ciphers, derivation ---- */

static js_value compute_digest(struct call *call)
{
	const EVP_MD *hash = hash_at(call, 1);
	struct operand data = bytes_at(call, 2);
	uint8_t *out = malloc(EVP_MAX_MD_SIZE);
	unsigned bytes = 0;

	if (call->missing || !hash || !out ||
	    !crypto_api.EVP_Digest(data.data, data.bytes, out, &bytes, hash, NULL)) {
		free(out);
		out = NULL;
	}
	return result_of(call, out, bytes);
}

static js_value compute_hmac(struct call *call)
{
	const EVP_MD *hash = hash_at(call, 1);
	struct operand key = bytes_at(call, 2), data = bytes_at(call, 3);
	uint8_t *out = malloc(EVP_MAX_MD_SIZE);
	unsigned bytes = 0;

	if (call->missing || !hash || !out ||
	    !crypto_api.HMAC(hash, key.data, (int)key.bytes, data.data, data.bytes, out, &bytes)) {
		free(out);
		out = NULL;
	}
	return result_of(call, out, bytes);
}

struct cipher {
	EVP_CIPHER_CTX *context;
	EVP_CIPHER *type;
	bool encrypt, gcm;
	struct operand key, iv, data, more; /* `more`: what is authenticated besides */
	int tag_bytes;
};

static bool cipher_begin(const struct cipher *cipher)
{
	crypto_api.EVP_CIPHER_CTX_set_flags(cipher->context, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
	if (!crypto_api.EVP_CipherInit_ex(cipher->context, cipher->type, NULL, NULL, NULL,
					  cipher->encrypt))
		return false;
	if (cipher->gcm && crypto_api.EVP_CIPHER_CTX_ctrl(cipher->context, EVP_CTRL_AEAD_SET_IVLEN,
							  (int)cipher->iv.bytes, NULL) <= 0)
		return false;
	return crypto_api.EVP_CipherInit_ex(cipher->context, NULL, NULL, cipher->key.data,
					    cipher->iv.bytes ? cipher->iv.data : NULL,
					    cipher->encrypt);
}

/* The bytes of the result, or -1. */
static int cipher_run(const struct cipher *cipher, uint8_t *out)
{
	size_t input = cipher->data.bytes;
	int bytes = 0, rest = 0, unused;

	if (cipher->gcm && !cipher->encrypt) {
		if (input < (size_t)cipher->tag_bytes)
			return -1;
		input -= (size_t)cipher->tag_bytes;
	}
	if (!cipher_begin(cipher))
		return -1;
	if (cipher->gcm && cipher->more.bytes &&
	    !crypto_api.EVP_CipherUpdate(cipher->context, NULL, &unused, cipher->more.data,
					 (int)cipher->more.bytes))
		return -1;
	if (input && !crypto_api.EVP_CipherUpdate(cipher->context, out, &bytes, cipher->data.data,
						  (int)input))
		return -1;
	if (cipher->gcm && !cipher->encrypt &&
	    crypto_api.EVP_CIPHER_CTX_ctrl(cipher->context, EVP_CTRL_AEAD_SET_TAG,
					   cipher->tag_bytes, cipher->data.data + input) <= 0)
		return -1;
	if (crypto_api.EVP_CipherFinal_ex(cipher->context, out + bytes, &rest) <= 0)
		return -1;
	bytes += rest;
	if (cipher->gcm && cipher->encrypt) {
		if (crypto_api.EVP_CIPHER_CTX_ctrl(cipher->context, EVP_CTRL_AEAD_GET_TAG,
						   cipher->tag_bytes, out + bytes) <= 0)
			return -1;
		bytes += cipher->tag_bytes;
	}
	return bytes;
}

/* Does the cipher read no more of key and iv than there is? A heap can ask for anything. */
static bool cipher_fits(const struct cipher *cipher, const char *mode)
{
	size_t key = cipher->key.bytes, iv = cipher->iv.bytes;

	if (key != 16 && key != 24 && key != 32)
		return false;
	if (cipher->gcm)
		return iv;
	if (!strcmp(mode, "kw"))
		return !iv || iv == 8;
	return (!strcmp(mode, "cbc") || !strcmp(mode, "ctr")) && iv == 16;
}

/* (mode, encrypt, key, iv, data, more, tag bytes) */
static js_value compute_cipher(struct call *call)
{
	char mode[16], name[32];
	struct cipher cipher = {.encrypt = flag_at(call, 2)};
	uint8_t *out = NULL;
	int bytes = -1;

	text_at(call, 1, mode, sizeof(mode));
	cipher.key = bytes_at(call, 3);
	cipher.iv = bytes_at(call, 4);
	cipher.data = bytes_at(call, 5);
	cipher.more = bytes_at(call, 6);
	cipher.tag_bytes = (int)number_at(call, 7);
	cipher.gcm = !strcmp(mode, "gcm");
	if (!call->missing && cipher.tag_bytes >= 0 && cipher.tag_bytes <= 16 &&
	    cipher_fits(&cipher, mode)) {
		snprintf(name, sizeof(name), "AES-%u-%s", (unsigned)cipher.key.bytes * 8,
			 !strcmp(mode, "kw") ? "WRAP" : mode);
		cipher.type = crypto_api.EVP_CIPHER_fetch(NULL, name, NULL);
		cipher.context = crypto_api.EVP_CIPHER_CTX_new();
		out = malloc(cipher.data.bytes + 64);
		if (cipher.type && cipher.context && out)
			bytes = cipher_run(&cipher, out);
		crypto_api.EVP_CIPHER_CTX_free(cipher.context);
		crypto_api.EVP_CIPHER_free(cipher.type);
	}
	if (bytes < 0) {
		free(out);
		out = NULL;
	}
	return result_of(call, out, bytes < 0 ? 0 : (size_t)bytes);
}

/* (hash, password, salt, iterations, bytes) */
static js_value compute_pbkdf2(struct call *call)
{
	const EVP_MD *hash = hash_at(call, 1);
	struct operand password = bytes_at(call, 2), salt = bytes_at(call, 3);
	double iterations = number_at(call, 4), bytes = number_at(call, 5);
	uint8_t *out = NULL;

	if (!call->missing && hash && iterations >= 1 && iterations <= INT_MAX && bytes >= 1 &&
	    bytes <= INT_MAX)
		out = malloc((size_t)bytes);
	if (out && !crypto_api.PKCS5_PBKDF2_HMAC((char *)password.data, (int)password.bytes,
						 salt.data, (int)salt.bytes, (int)iterations, hash,
						 (int)bytes, out)) {
		free(out);
		out = NULL;
	}
	return result_of(call, out, (size_t)bytes);
}

static OSSL_PARAM octets(const char *name, struct operand operand)
{
	return (OSSL_PARAM){name, OSSL_PARAM_OCTET_STRING, operand.data, operand.bytes,
			    OSSL_PARAM_UNMODIFIED};
}

static OSSL_PARAM words(const char *name, char *text)
{
	return (OSSL_PARAM){name, OSSL_PARAM_UTF8_STRING, text, strlen(text),
			    OSSL_PARAM_UNMODIFIED};
}

static const OSSL_PARAM the_end = {NULL, 0, NULL, 0, 0};

/* (hash, secret, salt, info, bytes) */
static js_value compute_hkdf(struct call *call)
{
	char hash[16];
	struct operand secret = bytes_at(call, 2), salt = bytes_at(call, 3),
		       info = bytes_at(call, 4);
	double bytes = number_at(call, 5);
	EVP_KDF *kdf = crypto_api.EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *context = kdf ? crypto_api.EVP_KDF_CTX_new(kdf) : NULL;
	uint8_t *out = NULL;

	text_at(call, 1, hash, sizeof(hash));
	const OSSL_PARAM params[] = {
		words(OSSL_KDF_PARAM_DIGEST, hash), octets(OSSL_KDF_PARAM_KEY, secret),
		octets(OSSL_KDF_PARAM_SALT, salt), octets(OSSL_KDF_PARAM_INFO, info), the_end};

	if (!call->missing && context && bytes >= 1 && bytes <= INT_MAX)
		out = malloc((size_t)bytes);
	if (out && crypto_api.EVP_KDF_derive(context, out, (size_t)bytes, params) <= 0) {
		free(out);
		out = NULL;
	}
	crypto_api.EVP_KDF_CTX_free(context);
	crypto_api.EVP_KDF_free(kdf);
	return result_of(call, out, (size_t)bytes);
}

/* ---- Keys ---- */

static EVP_PKEY *private_key(struct operand der)
{
	const uint8_t *at = der.data;
	PKCS8_PRIV_KEY_INFO *info =
		der.data ? crypto_api.d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)der.bytes) : NULL;
	EVP_PKEY *key = info && at == der.data + der.bytes ? crypto_api.EVP_PKCS82PKEY(info) : NULL;

	crypto_api.PKCS8_PRIV_KEY_INFO_free(info);
	return key;
}

static EVP_PKEY *public_key(struct operand der)
{
	const uint8_t *at = der.data;
	EVP_PKEY *key = der.data ? crypto_api.d2i_PUBKEY(NULL, &at, (long)der.bytes) : NULL;

	if (key && at != der.data + der.bytes) {
		crypto_api.EVP_PKEY_free(key);
		key = NULL;
	}
	return key;
}

static bool set_der(struct call *call, js_value list, uint32_t index, uint8_t *der, int bytes)
{
	js_value value = bytes > 0 ? js_bytes(call->engine, der, (size_t)bytes) : 0;

	crypto_api.CRYPTO_free(der, __FILE__, __LINE__);
	return value && js_set_index(call->engine, list, index, value);
}

/* [PKCS #8 or undefined, SPKI]. Consumes the key; NULL: undefined. */
static js_value both_of(struct call *call, EVP_PKEY *key, bool with_private)
{
	PKCS8_PRIV_KEY_INFO *info = NULL;
	uint8_t *der = NULL;
	js_value list;
	bool good = true;
	int bytes;

	if (!key)
		return js_undefined(call->engine);
	list = js_array(call->engine);
	if (with_private) {
		info = crypto_api.EVP_PKEY2PKCS8(key);
		bytes = info ? crypto_api.i2d_PKCS8_PRIV_KEY_INFO(info, &der) : 0;
		good = set_der(call, list, 0, der, bytes);
		crypto_api.PKCS8_PRIV_KEY_INFO_free(info);
	}
	der = NULL;
	bytes = crypto_api.i2d_PUBKEY(key, &der);
	good = set_der(call, list, 1, der, bytes) && good;
	crypto_api.EVP_PKEY_free(key);
	if (good)
		return list;
	js_free(call->engine, list);
	return js_undefined(call->engine);
}

static EVP_PKEY_CTX *context_of(EVP_PKEY *key)
{
	return key ? crypto_api.EVP_PKEY_CTX_new(key, NULL) : NULL;
}

/* Does the private number belong to the public point? */
static bool fits(EVP_PKEY *key)
{
	EVP_PKEY_CTX *context;
	bool fit;

	if (!crypto_api.EVP_PKEY_is_a(key, "EC"))
		return true;
	context = context_of(key);
	fit = context && crypto_api.EVP_PKEY_pairwise_check(context) > 0;
	crypto_api.EVP_PKEY_CTX_free(context);
	return fit;
}

static js_value compute_private(struct call *call)
{
	EVP_PKEY *key = private_key(bytes_at(call, 1));

	if (key && !fits(key)) {
		crypto_api.EVP_PKEY_free(key);
		key = NULL;
	}
	return both_of(call, key, true);
}

static js_value compute_public(struct call *call)
{
	return both_of(call, public_key(bytes_at(call, 1)), false);
}

/* (kind, bits and exponent of RSA) */
static js_value compute_generate(struct call *call)
{
	char kind[16];
	EVP_PKEY_CTX *context;
	EVP_PKEY *key = NULL;
	OSSL_PARAM params[3] = {the_end, the_end, the_end};
	struct operand exponent = {NULL, 0};
	size_t bits = 0;
	bool rsa;

	text_at(call, 1, kind, sizeof(kind));
	rsa = !strcmp(kind, "RSA");
	if (rsa) {
		double asked = number_at(call, 2);

		bits = asked >= 512 && asked <= 16384 ? (size_t)asked : 0;
		exponent = bytes_at(call, 3);
		for (size_t i = 0; i < exponent.bytes / 2; i++) { /* a number of this machine's */
			uint8_t byte = exponent.data[i];

			exponent.data[i] = exponent.data[exponent.bytes - 1 - i];
			exponent.data[exponent.bytes - 1 - i] = byte;
		}
		params[0] = (OSSL_PARAM){OSSL_PKEY_PARAM_RSA_BITS, OSSL_PARAM_UNSIGNED_INTEGER,
					 &bits, sizeof(bits), OSSL_PARAM_UNMODIFIED};
		params[1] = (OSSL_PARAM){OSSL_PKEY_PARAM_RSA_E, OSSL_PARAM_UNSIGNED_INTEGER,
					 exponent.data, exponent.bytes, OSSL_PARAM_UNMODIFIED};
	} else if (kind[0] == 'P') {
		params[0] = words(OSSL_PKEY_PARAM_GROUP_NAME, kind);
	}
	context = crypto_api.EVP_PKEY_CTX_new_from_name(NULL, kind[0] == 'P' ? "EC" : kind, NULL);
	if (context && !call->missing && (!rsa || bits) &&
	    crypto_api.EVP_PKEY_keygen_init(context) > 0 &&
	    (!params[0].key || crypto_api.EVP_PKEY_CTX_set_params(context, params) > 0) &&
	    crypto_api.EVP_PKEY_generate(context, &key) <= 0)
		key = NULL;
	crypto_api.EVP_PKEY_CTX_free(context);
	return both_of(call, key, true);
}

/* ---- Signatures ---- */

/* ECDSA's two numbers as the web has them: one after the other, each as long as the curve's. Malloc'ed. */
static uint8_t *flat_signature(const uint8_t *der, size_t bytes, size_t half)
{
	ECDSA_SIG *signature = crypto_api.d2i_ECDSA_SIG(NULL, &der, (long)bytes);
	const BIGNUM *r, *s;
	uint8_t *flat = signature ? malloc(2 * half) : NULL;

	if (flat) {
		crypto_api.ECDSA_SIG_get0(signature, &r, &s);
		if (crypto_api.BN_bn2binpad(r, flat, (int)half) < 0 ||
		    crypto_api.BN_bn2binpad(s, flat + half, (int)half) < 0) {
			free(flat);
			flat = NULL;
		}
	}
	crypto_api.ECDSA_SIG_free(signature);
	return flat;
}

/* ... and back: the bytes of `der`, which is libcrypto's; 0: failed. */
static int signature_der(struct operand flat, size_t half, uint8_t **der)
{
	ECDSA_SIG *signature = crypto_api.ECDSA_SIG_new();
	BIGNUM *r, *s;
	int bytes = 0;

	*der = NULL;
	if (!signature || flat.bytes != 2 * half) {
		crypto_api.ECDSA_SIG_free(signature);
		return 0;
	}
	r = crypto_api.BN_bin2bn(flat.data, (int)half, NULL);
	s = crypto_api.BN_bin2bn(flat.data + half, (int)half, NULL);
	if (r && s && crypto_api.ECDSA_SIG_set0(signature, r, s)) {
		bytes = crypto_api.i2d_ECDSA_SIG(signature, der);
	} else {
		crypto_api.BN_free(r);
		crypto_api.BN_free(s);
	}
	crypto_api.ECDSA_SIG_free(signature);
	return bytes;
}

static size_t half_of(EVP_PKEY *key)
{
	return ((size_t)crypto_api.EVP_PKEY_get_bits(key) + 7) / 8;
}

/* (scheme, hash, key, data, salt bytes, signature) */
struct signing {
	char scheme[16];
	const EVP_MD *hash;
	EVP_PKEY *key;
	EVP_MD_CTX *context;
	struct operand data;
};

static bool signing_begin(struct call *call, struct signing *signing, bool verify)
{
	EVP_PKEY_CTX *options = NULL;
	struct operand key;
	double salt = number_at(call, 5);

	text_at(call, 1, signing->scheme, sizeof(signing->scheme));
	signing->hash = strcmp(signing->scheme, "ed25519") ? hash_at(call, 2) : NULL;
	key = bytes_at(call, 3);
	signing->data = bytes_at(call, 4);
	signing->key = verify ? public_key(key) : private_key(key);
	signing->context = crypto_api.EVP_MD_CTX_new();
	if (call->missing || !signing->key || !signing->context ||
	    (verify ? crypto_api.EVP_DigestVerifyInit : crypto_api.EVP_DigestSignInit)(
		    signing->context, &options, signing->hash, NULL, signing->key) <= 0)
		return false;
	if (strcmp(signing->scheme, "rsa-pss"))
		return true;
	return salt >= 0 && salt < 65536 &&
	       crypto_api.EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) > 0 &&
	       crypto_api.EVP_PKEY_CTX_set_rsa_pss_saltlen(options, (int)salt) > 0;
}

static void signing_end(struct signing *signing)
{
	crypto_api.EVP_MD_CTX_free(signing->context);
	crypto_api.EVP_PKEY_free(signing->key);
}

static js_value compute_sign(struct call *call)
{
	struct signing signing = {.hash = NULL};
	uint8_t *out = NULL, *flat;
	size_t bytes = 0;

	if (signing_begin(call, &signing, false) &&
	    crypto_api.EVP_DigestSign(signing.context, NULL, &bytes, signing.data.data,
				      signing.data.bytes) > 0)
		out = malloc(bytes ? bytes : 1);
	if (out && crypto_api.EVP_DigestSign(signing.context, out, &bytes, signing.data.data,
					     signing.data.bytes) <= 0) {
		free(out);
		out = NULL;
	}
	if (out && !strcmp(signing.scheme, "ecdsa")) {
		flat = flat_signature(out, bytes, half_of(signing.key));
		bytes = 2 * half_of(signing.key);
		free(out);
		out = flat;
	}
	signing_end(&signing);
	return result_of(call, out, bytes);
}

static js_value compute_verify(struct call *call)
{
	struct signing signing = {.hash = NULL};
	struct operand signature = bytes_at(call, 6);
	uint8_t *der = NULL;
	bool good = signing_begin(call, &signing, true);

	if (good && !strcmp(signing.scheme, "ecdsa")) {
		int bytes = signature_der(signature, half_of(signing.key), &der);

		good = bytes > 0 &&
		       crypto_api.EVP_DigestVerify(signing.context, der, (size_t)bytes,
						   signing.data.data, signing.data.bytes) > 0;
		crypto_api.CRYPTO_free(der, __FILE__, __LINE__);
	} else {
		good = good &&
		       crypto_api.EVP_DigestVerify(signing.context, signature.data, signature.bytes,
						   signing.data.data, signing.data.bytes) > 0;
	}
	signing_end(&signing);
	return js_bool(call->engine, good);
}

/* ---- Two keys, and encryption with one ---- */

/* (private key, public key) */
static js_value compute_agree(struct call *call)
{
	EVP_PKEY *own = private_key(bytes_at(call, 1)), *peer = public_key(bytes_at(call, 2));
	EVP_PKEY_CTX *context = context_of(own);
	uint8_t *out = NULL;
	size_t bytes = 0;

	if (context && peer && crypto_api.EVP_PKEY_derive_init(context) > 0 &&
	    crypto_api.EVP_PKEY_derive_set_peer(context, peer) > 0 &&
	    crypto_api.EVP_PKEY_derive(context, NULL, &bytes) > 0)
		out = malloc(bytes ? bytes : 1);
	if (out && crypto_api.EVP_PKEY_derive(context, out, &bytes) <= 0) {
		free(out);
		out = NULL;
	}
	crypto_api.EVP_PKEY_CTX_free(context);
	crypto_api.EVP_PKEY_free(own);
	crypto_api.EVP_PKEY_free(peer);
	return result_of(call, out, bytes);
}

static bool oaep_options(EVP_PKEY_CTX *context, const EVP_MD *hash, struct operand label)
{
	uint8_t *copy;

	if (crypto_api.EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) <= 0 ||
	    crypto_api.EVP_PKEY_CTX_set_rsa_oaep_md(context, hash) <= 0 ||
	    crypto_api.EVP_PKEY_CTX_set_rsa_mgf1_md(context, hash) <= 0)
		return false;
	if (!label.bytes)
		return true;
	copy = crypto_api.CRYPTO_memdup(label.data, label.bytes, __FILE__, __LINE__);
	if (copy &&
	    crypto_api.EVP_PKEY_CTX_set0_rsa_oaep_label(context, copy, (int)label.bytes) > 0)
		return true;
	crypto_api.CRYPTO_free(copy, __FILE__, __LINE__);
	return false;
}

/* (encrypt, hash, key, data, label) */
static js_value compute_oaep(struct call *call)
{
	bool encrypt = flag_at(call, 1);
	const EVP_MD *hash = hash_at(call, 2);
	struct operand der = bytes_at(call, 3), data = bytes_at(call, 4), label = bytes_at(call, 5);
	EVP_PKEY *key = encrypt ? public_key(der) : private_key(der);
	EVP_PKEY_CTX *context = context_of(key);
	__typeof__(crypto_api.EVP_PKEY_encrypt) run = encrypt ? crypto_api.EVP_PKEY_encrypt
							      : crypto_api.EVP_PKEY_decrypt;
	uint8_t *out = NULL;
	size_t bytes = 0;

	if (!call->missing && context && hash &&
	    (encrypt ? crypto_api.EVP_PKEY_encrypt_init
		     : crypto_api.EVP_PKEY_decrypt_init)(context) > 0 &&
	    oaep_options(context, hash, label) &&
	    run(context, NULL, &bytes, data.data, data.bytes) > 0)
		out = malloc(bytes ? bytes : 1);
	if (out && run(context, out, &bytes, data.data, data.bytes) <= 0) {
		free(out);
		out = NULL;
	}
	crypto_api.EVP_PKEY_CTX_free(context);
	crypto_api.EVP_PKEY_free(key);
	return result_of(call, out, bytes);
}

/* ---- The door ---- */

static const struct {
	const char *name;
	js_value (*compute)(struct call *call);
} operations[] = {
	{"digest", compute_digest}, {"hmac", compute_hmac},	    {"cipher", compute_cipher},
	{"pbkdf2", compute_pbkdf2}, {"hkdf", compute_hkdf},	    {"private", compute_private},
	{"public", compute_public}, {"generate", compute_generate}, {"sign", compute_sign},
	{"verify", compute_verify}, {"agree", compute_agree},	    {"oaep", compute_oaep},
};

js_value crypto_compute(struct js_engine *engine, unsigned count, const js_value *arguments)
{
	struct call call = {.engine = engine, .count = count, .arguments = arguments};
	js_value result = 0;
	char name[16], why[256];
	bool known = false;

	if (!libcrypto_load(why, sizeof(why)))
		return js_throw_error(engine, "Error", "%s", why);
	text_at(&call, 0, name, sizeof(name));
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]) && !known; i++) {
		known = !strcmp(name, operations[i].name);
		if (known)
			result = operations[i].compute(&call);
	}
	for (unsigned i = 0; i < call.used; i++) {
		explicit_bzero(call.operands[i].data, call.operands[i].bytes);
		free(call.operands[i].data);
	}
	crypto_api.ERR_clear_error();
	return known ? result
		     : js_throw_error(engine, "RangeError",
				      "this build of thaw cannot compute '%s'", name);
}
