/* SPDX-License-Identifier: MIT */
/* checksum.h - every checksum of an image, and what computes it. See checksum.c. */
#ifndef UFFD_CHECKSUM_H
#define UFFD_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sodium.h>
#include <xxhash.h>

/* What is under the checksum. The numbers are part of the format (keys.c). */
enum checksum_kind {
	CHECKSUM_PAGE,
	CHECKSUM_NODE,
	CHECKSUM_STATE,
	CHECKSUM_WORKING_SET,
	CHECKSUM_RECORD,     /* as the slot has it: of all of the record */
	CHECKSUM_RECORD_END, /* as the record ends: of all before it */
	CHECKSUM_LOG,	     /* an entry of the log */
	CHECKSUM_KINDS
};

/*
 * How an image computes its checksums: slot.key. NULL: XXH3-128. Else each is a MAC of 128 bits, made under keys that
 * keys.c has derived.
 */
struct checksum_key {
	uint8_t hash[32];		   /* Poly1305's */
	uint8_t kinds[CHECKSUM_KINDS][32]; /* HChaCha20's: what is one kind passes for no other */
	bool enciphers;			   /* the rest is used, by cipher.c: */
	uint8_t ciphers[CHECKSUM_KINDS][32];
	uint8_t contexts[crypto_shorthash_KEYBYTES];
};

XXH128_hash_t checksum_of(const struct checksum_key *key, enum checksum_kind kind,
			  const void *bytes, size_t count);

static inline bool checksum_same(XXH128_hash_t a, XXH128_hash_t b)
{
	return !((a.low64 ^ b.low64) | (a.high64 ^ b.high64)); /* always as long */
}

static inline bool checksum_is(const struct checksum_key *key, enum checksum_kind kind,
			       const void *bytes, size_t count, XXH128_hash_t right)
{
	return checksum_same(checksum_of(key, kind, bytes, count), right);
}

/* XXH3-128 in any image: slots, notes, and what is compared in this process only. */
XXH128_hash_t checksum_plain(const void *bytes, size_t count);

/* The same, of bytes that come in parts. */
struct checksum_stream {
	const struct checksum_key *key;
	enum checksum_kind kind;
	XXH3_state_t *plain;
	crypto_onetimeauth_state *keyed; /* in guarded memory */
};
/* -ENOMEM. */
int checksum_begin(struct checksum_stream *stream, const struct checksum_key *key,
		   enum checksum_kind kind);
void checksum_add(struct checksum_stream *stream, const void *bytes, size_t count);
/* Once, whether the result is wanted or not. */
XXH128_hash_t checksum_end(struct checksum_stream *stream);

#endif
