/* SPDX-License-Identifier: MIT */
/*
 * tracker.h - which pages were written since they were last asked about. One interface, five
 * back ends:
 *
 *  kmod     (tracker_kmod.c)      the kernel module lists what is written: nothing is searched.
 *  wp-async (tracker_wp_async.c)  the kernel takes the protection off and leaves its mark in the page table; PAGEMAP_SCAN reads
 *                                 and re-arms in one walk. 6.7+. About 1 us per first write.
 *  wp-sync  (tracker_wp_sync.c)   the first write to a page stops its writer until the fault service has noted it. 5.7+.
 *  mprotect (tracker_mprotect.c)  the first write to a page raises SIGSEGV, and the handler notes it. Any kernel, any
 *                                 privileges; faults of the kernel itself are not served (thaw_touch).
 *  hashed   (process_ranges.c)    of another process only: every page that is there counts as written, and the commit compares.
 *
 * Pages are the image's (page.h): one is written if anything in it was.
 *
 * Must: scan-and-reset never loses a page. Whoever collected pages and could not make them
 * durable hands them back with tracker_put_back(), and the next collection returns them again.
 */
#ifndef UFFD_TRACKER_H
#define UFFD_TRACKER_H

#include <pthread.h>

#include "bitmap.h"
#include "region.h"

struct preserver;

struct tracker {
	struct region *region;
	/* wp-sync, mprotect: it is asked before a page can be written. NULL until checkpoints can be made. */
	_Atomic(struct preserver *) preserver;
	int pagemap;   /* wp-async: /proc/self/pagemap */
	void *regions; /* wp-async: buffer for the results of PAGEMAP_SCAN */
	bool fast;     /* wp-async: what is written can be found by itself */
	/* wp-async: the region in chunks, and up to where in each nothing is empty any more. */
	uint64_t chunk_bytes, *full_bytes;
	/* wp-async: the search in parts, by several threads, if whoever collects has them (capture.h); else NULL. */
	void (*share)(void *arg, void (*work)(void *arg, uint64_t first, uint64_t end),
		      void *work_arg, uint64_t count, uint64_t batch, uint64_t alone);
	void *share_arg;
	pthread_mutex_t collecting;  /* wp-async: what such a search has found */
	struct thaw_kmod_ring *ring; /* kmod: the list of written pages */
	size_t ring_bytes;
	struct bitmap put_back; /* collected before and not made durable; checkpoint side only */
	pthread_mutex_t
		lock; /* `poisoned`, `written`, `closed`, and the protection of pages that changes with them */
	struct bitmap written; /* wp-sync, mprotect */
	struct bitmap noted; /* mprotect: written too, but watched again; see tracker_mprotect.c */
	uint64_t awaited;    /* mprotect: a page below it is closed ... */
	struct bitmap here;  /* ... that is not in here */
	struct bitmap used;  /* mprotect: written before, if not restored */
	unsigned notes;	     /* mprotect: writes noted since the last collection */
	_Atomic uint64_t changes; /* mprotect: of what can be written */
	struct bitmap poisoned;	  /* under the lock */
	/*
	 * Given back (release.c): never to be poisoned, since the image has nothing for them any more; and those of
	 * them that are still to be collected. Set by the owner, under the lock.
	 */
	struct bitmap released, zeroed;
};

int tracker_create(struct tracker *tracker, struct region *region, struct thaw_error *error);
void tracker_destroy(struct tracker *tracker);

/* How many pages are written now, perhaps fewer, counting no further than `limit`; nothing is reset. Or -errno. */
int64_t tracker_count(struct tracker *tracker, uint64_t limit);
/*
 * Add the pages written since the last call to `pages`, and watch them again. 0 or -errno; on
 * failure the pages that were collected already are in `pages` and nothing is lost if the caller
 * puts them back.
 */
int tracker_collect(struct tracker *tracker, struct bitmap *pages);
void tracker_put_back(struct tracker *tracker, const struct bitmap *pages);

/*
 * These pages are going to be poisoned: never collect them. To PAGEMAP_SCAN the kernel's mark of
 * a poisoned page is a written page in swap (6.6 to 6.18), and reading it would be fatal. Returns how
 * many of them, from the first one on: up to one that the owner has given back, which is zero and stays
 * so. Fault service.
 */
uint64_t tracker_forget(struct tracker *tracker, uint64_t first, uint64_t count);
/* Nothing that is known of another process's pages counts any more. */
void tracker_renew(struct tracker *tracker);
/*
 * Another process gave these pages up (the fault service's thread): what is stored there goes, unless a page is there
 * again at the next capture. unmapped: and a mapping that comes there is new. moved: what was at `from` is at `to`.
 */
void tracker_removed(struct tracker *tracker, uint64_t first, uint64_t count);
void tracker_unmapped(struct tracker *tracker, uint64_t first, uint64_t count);
void tracker_moved(struct tracker *tracker, uint64_t from, uint64_t to, uint64_t count);
/* Was tracker_forget() called for this page? The fault service, and the handler of SIGSEGV. */
bool tracker_forgot(struct tracker *tracker, uint64_t page);
/* How many of these pages, from the first one on, the owner has not given back. */
uint64_t tracker_kept(struct tracker *tracker, uint64_t first, uint64_t count);
/* mprotect: has this page arrived? */
bool tracker_is_here(struct tracker *tracker, uint64_t page);

/* The back ends. */
int tracker_wp_async_create(struct tracker *tracker, struct thaw_error *error);
int64_t tracker_wp_async_count(struct tracker *tracker, uint64_t limit);
int tracker_wp_async_collect(struct tracker *tracker, struct bitmap *pages);

int tracker_kmod_create(struct tracker *tracker, struct thaw_error *error);
void tracker_kmod_destroy(struct tracker *tracker);
int64_t tracker_kmod_count(const struct tracker *tracker);
int tracker_kmod_collect(struct tracker *tracker, struct bitmap *pages);

int tracker_wp_sync_collect(struct tracker *tracker, struct bitmap *pages);
/*
 * For the fault service: note a write and let the writer continue; note pages that are installed
 * without protection.
 */
int tracker_wp_sync_note(struct tracker *tracker, uint64_t page);
int tracker_wp_sync_install_zero(struct tracker *tracker, uint64_t first, uint64_t count);

int tracker_mprotect_create(struct tracker *tracker, struct thaw_error *error);
int tracker_mprotect_collect(struct tracker *tracker, struct bitmap *pages);
/*
 * For the handler of SIGSEGV: note a write and allow it. 1: it was allowed already; -ENOENT: the page is closed, so
 * the fault is not about writing; -errno.
 */
int tracker_mprotect_note(struct tracker *tracker, uint64_t page);
/* For the fault service: these pages, which were closed, are loaded now. 0 or -errno. */
int tracker_mprotect_arrive(struct tracker *tracker, uint64_t first, uint64_t count);
/* For the fault service: the whole heap is loaded, before anyone has accessed it. 0 or -errno. */
int tracker_mprotect_loaded(struct tracker *tracker);

#endif
