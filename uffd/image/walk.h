/* SPDX-License-Identifier: MIT */
/* walk.h - what one tree reaches and other trees do not. See walk.c. */
#ifndef UFFD_WALK_H
#define UFFD_WALK_H

#include "index.h"

/* Each returns 0 to go on; anything else ends the walk and is returned. */
struct walk_ops {
	/* A node that checks out. */
	int (*node)(void *arg, uint64_t offset, uint32_t bytes);
	/* A page that is stored or zero. */
	int (*extent)(void *arg, uint64_t page, const struct extent *extent);
	/* A node that cannot be read or is damaged; what is below it is skipped. */
	int (*damage)(void *arg, uint64_t first_page, uint64_t pages, uint64_t offset,
		      uint32_t bytes, const struct thaw_error *error);
	void *arg;
};

struct walk_source {
	int fd;
	const char *path;
	const struct checksum_key *key;
	uint32_t page_bytes;
};

/*
 * Visit what `tree` reaches and none of the `count` others does. Where another tree's node cannot
 * be read, it counts as sharing nothing below, or, with `careful`, everything.
 */
int walk_difference(const struct walk_source *source, const struct root *tree,
		    const struct root *const *others, unsigned count, bool careful,
		    const struct walk_ops *ops);

#endif
