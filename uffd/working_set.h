/* SPDX-License-Identifier: MIT */
/* touches.h - what a start touches first: the working set of an image. See touches.c. */
#ifndef UFFD_TOUCHES_H
#define UFFD_TOUCHES_H

#include <stdatomic.h>

#include "bitmap.h"
#include "image/image.h"

struct touches {
	uint64_t generation; /* that was restored */
	uint64_t began_ns;
	unsigned cluster_pages;
	uint64_t clusters; /* of the restored heap */
	unsigned room;	   /* 0: nothing is recorded */
	unsigned before;   /* how many were not touched but are from the set before */
	uint64_t *pages;
	struct bitmap seen; /* clusters; the recording thread's own */
	_Atomic unsigned count;
	bool last; /* what was offered is the last one; the committing thread's own */
	_Atomic bool ended;
};

/*
 * Record for a heap of `bytes` in such pages, restored from `generation`. `set`: what is prefetched, and may
 * therefore be touched unnoticed: the recording goes on from it. -ENOMEM leaves a recorder that does
 * nothing.
 */
int touches_init(struct touches *touches, uint64_t generation, uint64_t bytes, uint32_t page_bytes,
		 const uint64_t *set, unsigned set_count);
void touches_free(struct touches *touches);

/* A page of the restored heap was touched. The fault service's thread. */
void touches_note(struct touches *touches, uint64_t page);

/*
 * Put the recording into this commit if its time has come (true), and say afterwards that the commit
 * has become durable. The thread that commits.
 */
bool touches_offer(struct touches *touches, struct image *image, struct commit *commit,
		   enum thaw_reason reason);
void touches_stored(struct touches *touches);

#endif
