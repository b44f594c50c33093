/* SPDX-License-Identifier: MIT */
/*
 * snapshot_codec.h - a frozen heap and its state as an array of bytes, and back (snapshot_format.h). Any thread; no state. Large
 * ones are worked at by as many threads as there are processors.
 *
 * Codes: THAW_EFOREIGN no snapshot; THAW_EFORMAT of another version; THAW_EENGINE of another engine; THAW_ENOGEN the
 * base is missing, or another one; THAW_EDAMAGED; -ENOMEM; -EINVAL; of what reads a frozen heap or a file.
 */
#ifndef VM_EMBED_SNAPSHOT_CODEC_H
#define VM_EMBED_SNAPSHOT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "thaw_frozen.h"

struct snapshot_contents {
	const char *engine; /* at most 63 bytes */
	struct thaw_frozen *frozen;
	bool summed;
	uint64_t sum[2]; /* thaw_frozen_sum() */
};

struct snapshot_info {
	bool delta;
	char engine[64];
	uint8_t id[16], base[16];
	uint64_t heap_bytes, state_bytes;
};

/* Where bytes come from. */
struct snapshot_source {
	const uint8_t *data; /* NULL: of the file, from `offset` on */
	uint64_t bytes, offset;
	int fd;
};

/* Sets `sum`, if it is not known. */
int snapshot_summed(struct snapshot_contents *contents, struct thaw_error *error);
/* `sum` must be there. */
void snapshot_id(const struct snapshot_contents *contents, uint8_t id[16]);

/* Whole, or (`since` is not NULL) what changed since; malloc'ed. Both sums are there then. */
int snapshot_encode(struct snapshot_contents *contents, struct snapshot_contents *since,
		    void **data, size_t *bytes, struct thaw_error *error);

/* What the header says, if it is sound. */
int snapshot_describe(const struct snapshot_source *source, struct snapshot_info *info,
		      struct thaw_error *error);

/*
 * The frozen heap of these bytes, if it has at most so many (0: any number, else -EFBIG); a delta's needs `base`. It takes no more memory
 * than the sizes in the header say, which is read once. `made` has `engine` and the sum.
 */
int snapshot_decode(const struct snapshot_source *source, const char *engine, uint64_t max_bytes,
		    struct snapshot_contents *base, struct snapshot_contents *made,
		    struct thaw_error *error);

#endif
