/* SPDX-License-Identifier: MIT */
/*
 * working_set.h - recording what a start accesses first: the working set of an image. See
 * working_set.c.
 */
#ifndef UFFD_WORKING_SET_H
#define UFFD_WORKING_SET_H

#include <pthread.h>
#include <stdatomic.h>

#include "image/image.h"
#include "page.h"

struct working_set_recorder {
	uint64_t generation; /* that was restored */
	uint64_t began_ns;
	unsigned cluster_pages;
	uint64_t clusters;    /* of the restored heap */
	unsigned room;	      /* 0: nothing is recorded */
	_Atomic bool changed; /* something is not from the previous set */
	uint64_t *pages;      /* entries (page.h) */
	pthread_mutex_t lock; /* `pages` and `places` */
	uint32_t *places; /* a hash table by cluster: which of `pages`, counted from 1; 0: free */
	unsigned place_bits;
	_Atomic unsigned count;
	bool last; /* the recording that was offered is the last one; the committing thread's own */
	_Atomic bool ended;
};

/*
 * Record for a heap of `bytes` in such pages, restored from `generation`. `set`: what is
 * prefetched, whose accesses may go unnoticed; the recording starts with them. -ENOMEM leaves a
 * recorder that does nothing.
 */
int working_set_start(struct working_set_recorder *recorder, uint64_t generation, uint64_t bytes,
		      uint32_t page_bytes, const uint64_t *set, unsigned set_count);
void working_set_free(struct working_set_recorder *recorder);

/* Pages of one cluster of the restored heap were accessed, the first of them first. The fault service's thread. */
void working_set_note(struct working_set_recorder *recorder, uint64_t page, unsigned count);
/*
 * The same for what the kernel module brought by itself, of which it has a list (kmod.h). The thread
 * that commits.
 */
void working_set_take(struct working_set_recorder *recorder, int device);

/*
 * Put the recording into this commit if it is due (true); and report afterwards that the commit has
 * become durable. The thread that commits.
 */
bool working_set_offer(struct working_set_recorder *recorder, struct image *image,
		       struct commit *commit, enum thaw_reason reason);
void working_set_stored(struct working_set_recorder *recorder);

#endif
