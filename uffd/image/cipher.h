/* SPDX-License-Identifier: MIT */
/* cipher.h - what hides the contents of an image from who reads its file. See cipher.c. */
#ifndef UFFD_CIPHER_H
#define UFFD_CIPHER_H

#include "image.h"

static inline bool cipher_is_on(const struct checksum_key *key)
{
	return key && key->enciphers;
}

/*
 * Encipher or decipher, which is the same, bytes of what has that checksum (of that kind), from the byte `at` on, a
 * multiple of CIPHER_STEP; `from` and `to` may be the same place. `context`: what its reader knows besides. Without a key
 * that enciphers, the bytes are copied. Any thread.
 */
#define CIPHER_STEP 64u
void cipher(const struct checksum_key *key, enum checksum_kind kind, XXH128_hash_t checksum,
	    uint64_t context, const void *from, void *to, size_t bytes, uint64_t at);

/* What the file is to have of a page; as many bytes. Its extent is complete but for the offset. */
void cipher_page(const struct checksum_key *key, uint64_t page, const struct extent *extent,
		 const void *from, void *to, size_t bytes);

#endif
