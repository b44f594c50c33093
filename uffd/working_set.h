/* SPDX-License-Identifier: MIT */
/* working_set.h - what a start touches first: the working set of an image. See working_set.c. */
#ifndef UFFD_WORKING_SET_H
#define UFFD_WORKING_SET_H

#include <stdatomic.h>

#include "bitmap.h"
#include "image/image.h"

struct working_set_recorder {
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
int working_set_start(struct working_set_recorder *recorder, uint64_t generation, uint64_t bytes,
		      uint32_t page_bytes, const uint64_t *set, unsigned set_count);
void working_set_free(struct working_set_recorder *recorder);

/* A page of the restored heap was touched. The fault service's thread. */
void working_set_note(struct working_set_recorder *recorder, uint64_t page);

/*
 * Put the recording into this commit if its time has come (true), and say afterwards that the commit
 * has become durable. The thread that commits.
 */
bool working_set_offer(struct working_set_recorder *recorder, struct image *image,
		       struct commit *commit, enum thaw_reason reason);
void working_set_stored(struct working_set_recorder *recorder);

#endif
