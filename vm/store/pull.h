/* SPDX-License-Identifier: MIT */
/*
 * pull.h - the newest image of a store as a file of its own: `thaw pull s3://BUCKET/PREFIX IMAGE`. The store is only read, a
 * program may write to it meanwhile. What was pulled replicates nothing, and fences nobody.
 */
#ifndef VM_STORE_PULL_H
#define VM_STORE_PULL_H

#include "store/fetch.h"
#include "store/record.h"

enum pull_flags {
	PULL_REPLACE =
		1, /* a file of that name is replaced, once the new one is whole; not while a program has it open */
};

struct pull_status {
	struct store_record record; /* that is pulled */
	struct fetch_status fetch;
	struct s3_counts counts;
};

struct pull_options {
	const char *place; /* s3://BUCKET/PREFIX */
	const char *image; /* path */
	unsigned flags;
	uint64_t patience_ns; /* a store that fails for so long has failed; 0: 5 min */
	/* Each 100 ms or so, and at the end. Returns false: it is given up, -ECANCELED. May be NULL. */
	bool (*progress)(void *arg, const struct pull_status *status);
	void *arg;
};
/*
 * The file has mode 0600, and its name when it is whole and durable. Its contents are not looked at: thaw_image_verify() does.
 * -EEXIST; -ENOENT: the store is empty; THAW_EINUSE; -EXDEV: with PULL_REPLACE, what has the name is no regular file;
 * THAW_EDAMAGED; and those of s3.h, record.h and of files. `status` may be NULL.
 */
int pull_image(const struct pull_options *options, struct pull_status *status,
	       struct thaw_error *error);

#endif
