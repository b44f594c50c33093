/* SPDX-License-Identifier: MIT */
/*
 * cold.h - ranges of 2 MiB that have not been written for some generations become huge pages, so that a search for written
 * pages takes one look at each of them instead of 512. What is watched stays a page: the first write to a watched huge page
 * splits it (wp_huge_pmd(), since UFFD_FEATURE_WP_ASYNC), and marks the page that was written, as ever.
 *
 *	       not written for COLD_TICKS << patience ticks              a write
 *	pages ---------------------------------------------> huge page ---------> pages; patience grows
 *
 * Only under wp-async. The checkpoint's thread, between two generations; nothing is ever stopped for it.
 */
#ifndef UFFD_COLD_H
#define UFFD_COLD_H

#include "bitmap.h"
#include "region.h"
#include "tracker.h"

#define COLD_RANGE_BYTES (2ull << 20)

struct cold {
	struct region *region;
	struct tracker *tracker;
	bool used;	/* it can be done here, as far as is known */
	uint64_t least; /* in smaller regions it is not worth it */
	uint32_t tick;	/* of generations, but at most two a second */
	uint64_t ticked_ns, tick_ns;
	uint32_t *
		written; /* of each range: the tick in which it was written last, or tried in vain */
	uint8_t *patience;  /* of each range */
	struct bitmap huge; /* ranges */
	uint64_t next;	    /* the range to look at next */
	uint32_t done_tick; /* in this one all have been looked at */
	uint64_t due_ns;    /* not before: it is to take a fifth of the time at most */
	unsigned failures;  /* in a row */
	char *copy;	    /* of what is being made a huge page */
};

void cold_init(struct cold *cold, struct region *region, struct tracker *tracker);
void cold_free(struct cold *cold);
/* A generation is done that found these pages written. */
void cold_generation(struct cold *cold, const struct bitmap *pages);
/*
 * When there is something to do, of a thread that is idle since `idle_ns`: when nothing has come for a moment, since a
 * checkpoint that begins meanwhile waits for it; or when that was not so for a while. 0: nothing before the next generation.
 */
uint64_t cold_due(const struct cold *cold, uint64_t idle_ns);
/* Some of it: as much as takes a few milliseconds. */
void cold_work(struct cold *cold);

#endif
