/* SPDX-License-Identifier: MIT */
/*
 * sidefile.h - IMAGE.store, beside an image that has a replica: which store, and whether this file is what that store's newest
 * record continues. Text, one "word value" a line, mode 0600, replaced as a whole and durable when sidefile_write() returns.
 * Who holds the image's lock reads and writes it.
 */
#ifndef VM_STORE_SIDEFILE_H
#define VM_STORE_SIDEFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/format.h"
#include "thaw.h"

#define SIDEFILE_EPOCHS 64u

struct sidefile {
	char place[1024]; /* s3://BUCKET/PREFIX */
	uint8_t uuid[16]; /* of the image */
	/* Blocks of the file are still in the store only. */
	bool incomplete;
	/* Everything of it is in the store, up to this generation, and it was not written since; 0: not known. */
	uint64_t settled;
	/*
	 * Epochs that this file has begun, oldest first: the one that it has, and those that were asked for since, of which the
	 * answer was not seen. The newest record has one of them, or the store was continued elsewhere.
	 */
	uint8_t epochs[SIDEFILE_EPOCHS][STORE_EPOCH_BYTES];
	unsigned epoch_count;
};

/* 0; -ENOENT: there is none; -EINVAL: it says something else; -errno. */
int sidefile_read(const char *image, struct sidefile *side, struct thaw_error *error);
int sidefile_write(const char *image, const struct sidefile *side, struct thaw_error *error);
/* Blocks are missing no more: `incomplete` of what is there becomes false. As sidefile_read() and _write(). */
int sidefile_complete(const char *image, struct thaw_error *error);
/* Everything of it is in the store, up to this generation. */
int sidefile_settle(const char *image, uint64_t generation, struct thaw_error *error);
/* Changes what is there, at once as against other threads; `change` returns 0, or a code that ends it. */
int sidefile_change(const char *image, int (*change)(struct sidefile *side, void *arg), void *arg,
		    struct thaw_error *error);
/* Durable, too. Success if there was none. */
int sidefile_remove(const char *image, struct thaw_error *error);
/* What a rename or a removal of it, or of the image, changed is on the disk: 0 or -errno. */
int sidefile_sync_folder(const char *image);

bool sidefile_has(const struct sidefile *side, const uint8_t epoch[STORE_EPOCH_BYTES]);

#endif
