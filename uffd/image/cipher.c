/* SPDX-License-Identifier: MIT */
/*
 * cipher.c - what hides the contents of an image from who reads its file: XChaCha20, with the MAC of the plain bytes as
 * the nonce (SIV: Rogaway and Shrimpton, EUROCRYPT 2006). Any thread; no state.
 *
 * Why it holds. A MAC here is a pseudorandom function of the bytes (checksum.c), so two contents have one nonce with a chance of
 * n * 2^-103, whatever numbers an aborted commit, a power cut or a file put back makes come again: no key stream
 * serves for two. Nor for two encodings of one page: what it was encoded with, and how strongly, is in the nonce, and
 * encoders are deterministic; those of two versions of a library may differ, if copies of an image are written on. Keys of kinds are different, so a node's serves for no page. The same bytes with the same nonce are the
 * same ciphertext: of a page that is where one generation stores it again or it is moved, since its number and
 * birth are in the nonce (hashed to 64 bits under a key, so that nobody can choose pages that collide).
 *
 * Who reads the file, also at many times, learns lengths, which blocks change when, slots and notes, and how often the
 * image was committed to; in a clone, what is still the same. Of contents nothing, not even that two pages are equal.
 * Who changes bytes changes what is deciphered, and the MAC, which the reference above has, notices: all that he can
 * do is damage, and putting back whole what the file was before.
 */
#include "cipher.h"

#include <string.h>

#include "poly1305.h"

#define FRAMES_BYTES 1024 /* of libsodium: key streams are left there */

void cipher(const struct checksum_key *key, enum checksum_kind kind, XXH128_hash_t checksum,
	    uint64_t context, const void *from, void *to, size_t bytes, uint64_t at)
{
	const uint64_t words[] = {checksum.low64, checksum.high64, context};
	uint8_t nonce[crypto_stream_xchacha20_NONCEBYTES];

	_Static_assert(sizeof(words) == sizeof(nonce), "nonce");
	if (!cipher_is_on(key)) {
		if (from != to)
			memcpy(to, from, bytes);
		return;
	}
	memcpy(nonce, words, sizeof(nonce));
	xchacha20(to, from, bytes, nonce, at / CIPHER_STEP, key->ciphers[kind]);
	sodium_stackzero(FRAMES_BYTES);
}

void cipher_page(const struct checksum_key *key, uint64_t page, const struct extent *extent,
		 const void *from, void *to, size_t bytes)
{
	const uint64_t known[] = {page, extent->birth, extent->encoding, extent->bytes};
	uint64_t context = 0;

	if (cipher_is_on(key))
		crypto_shorthash((uint8_t *)&context, (const uint8_t *)known, sizeof(known),
				 key->contexts);
	cipher(key, CHECKSUM_PAGE, extent->checksum, context, from, to, bytes, 0);
}
