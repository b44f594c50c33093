/* SPDX-License-Identifier: MIT */
/*
 * snapshot_codec.h - a heap and its state as an array of bytes, and back (snapshot_format.h). Any thread; no state.
 *
 * Codes: THAW_EFOREIGN no snapshot; THAW_EFORMAT of another version; THAW_EENGINE of another engine; THAW_ENOGEN the
 * base is missing, or another one; THAW_EDAMAGED; -EFBIG more than the limit; -ENOMEM; -EINVAL.
 */
#ifndef VM_EMBED_SNAPSHOT_CODEC_H
#define VM_EMBED_SNAPSHOT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "thaw.h"

struct snapshot_contents {
	const char *engine; /* at most 63 bytes */
	const uint8_t *heap;
	uint64_t heap_bytes; /* a multiple of 4096 */
	const uint8_t *state;
	uint64_t state_bytes;
	uint64_t sum[2]; /* snapshot_sum() of the heap */
};

struct snapshot_info {
	bool delta;
	char engine[64];
	uint8_t id[16], base[16];
	uint64_t heap_bytes, state_bytes;
};

/* Reads all of the heap once, and sets `sum`. */
void snapshot_sum(struct snapshot_contents *contents);
void snapshot_id(const struct snapshot_contents *contents, uint8_t id[16]);

/* Whole, or (`since` is not NULL) what changed since; malloc'ed. `level`: zstd's; 0: one that suits. */
int snapshot_encode(const struct snapshot_contents *contents, const struct snapshot_contents *since,
		    int level, void **data, size_t *bytes, struct thaw_error *error);

/* What the header says, if it is sound. */
int snapshot_describe(const void *data, size_t bytes, struct snapshot_info *info,
		      struct thaw_error *error);

/*
 * Into `heap`, of info.heap_bytes (which snapshot_describe() told, and the caller has limited), and `state`, of
 * info.state_bytes. `heap` is all zero; for a delta, it has the base's bytes, zeros behind their end, and `base` says what
 * else the base is (its heap only behind the end of a smaller one). `made` describes the result, and points to heap and state. After an
 * error, what is in them is not defined.
 */
int snapshot_decode(const void *data, size_t bytes, const char *engine,
		    const struct snapshot_contents *base, uint8_t *heap, uint8_t *state,
		    struct snapshot_contents *made, struct thaw_error *error);

#endif
