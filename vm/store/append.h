/* SPDX-License-Identifier: MIT */
/*
 * append.h - a record, as it is put: its frames, level 0 of its index, and its manifest.
 */
#ifndef VM_STORE_APPEND_H
#define VM_STORE_APPEND_H

#include "store/record.h"

struct append {
	struct s3_request request; /* PUT, with S3_NEW; ready to be started */
	char name[STORE_NAME_BYTES];
	char epoch[STORE_ID_TEXT];
	struct iovec pieces[4];
	void *level;
	struct disk_manifest manifest;
};

/*
 * Fills the rest of `record` (lengths, checksums). `frames` stay the caller's, for as long as the request is under way; `level`, of
 * malloc's (level_encode), becomes append's, which must not be moved any more.
 */
void append_make(struct append *append, struct store_record *record, const void *frames,
		 size_t frame_bytes, void *level, size_t level_bytes);
void append_free(struct append *append);

#endif
