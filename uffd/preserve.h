/* SPDX-License-Identifier: MIT */
/*
 * preserve.h - what a capture has to keep of the pages it found written: a ring of copies, and, where a writer can be stopped
 * before its first write, the pages that were not copied yet. They are copied by whoever comes first: the thread that writes
 * the generation, or the writer. So the program stands still for the search, not for the copying.
 *
 *	           capture                         preserver_take, preserve_pages         preserver_done
 *	(written) ---------> pending, cannot be written -------------> busy ------> in the ring ---------> (in the file)
 *
 * Writers are stopped by the tracker, where it stops them anyway (wp-sync, mprotect). Under wp-async and kmod the kernel
 * lets every writer go on; there, with THAW_TOUCHES, pieces of the region are closed (PROT_READ), and the handler of SIGSEGV
 * opens them (preserver_open). Elsewhere everything is copied at the capture.
 *
 * Invariants, with the lock: a pending page lies in a closed piece, or the tracker has it protected; a piece is opened, and a
 * page unprotected, only when none of it is pending or busy. The ring is empty outside of THAW_WRITING.
 */
#ifndef UFFD_PRESERVE_H
#define UFFD_PRESERVE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bitmap.h"
#include "region.h"

#define PRESERVE_BATCH 64u /* pages that are copied, or handed to the file, at once */

struct preserver {
	const struct region *region;
	bool stops;	/* writers can be stopped */
	bool shields;	/* by this, and not by the tracker */
	size_t limit;	/* of memory for copies that are not made at the capture, in bytes */
	unsigned piece; /* pages in one; at most PRESERVE_BATCH */

	_Atomic bool active; /* something may be pending */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned waiting;
	struct bitmap pending, busy; /* pages */
	struct bitmap closed;	     /* pieces */
	uint64_t next;		     /* nothing before it is pending, but what was put back */
	_Atomic uint64_t changes;    /* of what is closed */
	unsigned opened;	     /* by writers, since pieces were closed */
	unsigned hurry;		     /* so many pieces the thread copies before it writes on */

	char *slots;	 /* the ring */
	uint64_t *pages; /* of each slot: its page, or COPYING */
	uint64_t room, head, tail;
	uint64_t used, kept; /* slots that have been touched, and those of the ring that stay so */
};

/* `limit` 0: a sixteenth of the machine's memory, 64 MiB to 1 GiB. */
int preserver_init(struct preserver *preserver, const struct region *region, bool touches,
		   size_t limit);
void preserver_free(struct preserver *preserver);

/*
 * The capture, while nobody writes. Room for so many copies: -ENOMEM. Then preserver_hold(): these pages, `count`, are pending,
 * but for preserver_copies() of them, which the caller has copied by preserver_copy(), in parts and by several threads as he
 * likes. -errno: none is.
 */
int preserver_reserve(struct preserver *preserver, uint64_t count);
int preserver_hold(struct preserver *preserver, const struct bitmap *pages, uint64_t count);
uint64_t preserver_copies(const struct preserver *preserver);
void preserver_copy(struct preserver *preserver, uint64_t first, uint64_t end);

/*
 * The thread that writes the generation: copies that it now owns, until preserver_done(). How many pages, at most
 * PRESERVE_BATCH; 0: that was all; -errno: writers cannot be let go on.
 */
int preserver_take(struct preserver *preserver, uint64_t *pages, const char **copies);
void preserver_done(struct preserver *preserver, unsigned count);
/* The generation is durable, or has failed: nothing is needed any more, and every writer goes on. */
void preserver_end(struct preserver *preserver);

/* On return none of these pages is pending: they may be written, or given up. Any thread but the above. NULL is allowed. */
void preserve_pages(struct preserver *preserver, uint64_t first, uint64_t count);
/* For the handler of SIGSEGV: opens the piece that this page is in. 1: it was open already; -errno. */
int preserver_open(struct preserver *preserver, uint64_t page);

#endif
