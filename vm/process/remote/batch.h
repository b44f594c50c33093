/* SPDX-License-Identifier: MIT */
/*
 * batch.h - many calls of one parked thread, in as few batches as they fit in (remote.h): a round trip takes far longer
 * than most calls. The first call that fails ends it, unless it may (CALL_MAY_FAIL). The owner's thread.
 */
#ifndef VM_PROCESS_BATCH_H
#define VM_PROCESS_BATCH_H

#include "process/remote/remote.h"

struct batch {
	struct remote *remote;
	unsigned thread;
	unsigned count;
	struct call *calls[CONTROL_CALLS];
	const void *about[CONTROL_CALLS]; /* what the call is for: the caller's */
	int code;			  /* the first failure; nothing is made after it */
	struct call failed; /* that call; number -1: the guest is gone, or does not answer */
	const void *failed_about;
};

/* Calls of this mailbox's thread; none yet. */
void batch_begin(struct batch *batch, struct remote *remote, unsigned thread);
/* One more. Those before are made first if it does not fit with them. NULL: one of them has failed. */
struct call *batch_add(struct batch *batch, const void *about, int64_t number, uint64_t a,
		       uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);
/* The same, of one that may fail. */
void batch_try(struct batch *batch, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
	       uint64_t e);
/* So many calls come in one batch: those before are made if need be. */
int batch_need(struct batch *batch, unsigned calls);
/* Make all that were added. 0, or the first failure. In two steps for many threads at once. */
int batch_run(struct batch *batch);
void batch_post(struct batch *batch);
int batch_finish(struct batch *batch);

#endif
