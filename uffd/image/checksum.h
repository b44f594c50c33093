/* SPDX-License-Identifier: MIT */
/* checksum.h - every checksum of an image, and what computes it. See checksum.c. */
#ifndef UFFD_CHECKSUM_H
#define UFFD_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <xxhash.h>

/* What is under the checksum. */
enum checksum_kind {
	CHECKSUM_PAGE,
	CHECKSUM_NODE,
	CHECKSUM_STATE,
	CHECKSUM_WORKING_SET,
	CHECKSUM_RECORD,     /* as the slot has it: of all of the record */
	CHECKSUM_RECORD_END, /* as the record ends: of all before it */
	CHECKSUM_KINDS
};

/* How an image computes its checksums: slot.key, of which NULL is XXH3-128. */
struct checksum_key;

XXH128_hash_t checksum_of(const struct checksum_key *key, enum checksum_kind kind,
			  const void *bytes, size_t count);

static inline bool checksum_same(XXH128_hash_t a, XXH128_hash_t b)
{
	return a.low64 == b.low64 && a.high64 == b.high64;
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
	XXH3_state_t *state;
};
/* -ENOMEM. */
int checksum_begin(struct checksum_stream *stream, const struct checksum_key *key,
		   enum checksum_kind kind);
void checksum_add(struct checksum_stream *stream, const void *bytes, size_t count);
/* Once, whether the result is wanted or not. */
XXH128_hash_t checksum_end(struct checksum_stream *stream);

#endif
