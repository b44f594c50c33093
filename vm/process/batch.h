/* SPDX-License-Identifier: MIT */
/*
 * batch.h - many calls of one parked thread, in as few batches as they fit in (remote.h): a round trip takes far longer
 * than most calls. The first call that fails ends it, unless it may (CALL_MAY_FAIL). The owner's thread.
 */
#ifndef VM_PROCESS_BATCH_H
#define VM_PROCESS_BATCH_H

#include "process/remote.h"

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

static inline void batch_begin(struct batch *batch, struct remote *remote, unsigned thread)
{
	batch->remote = remote;
	batch->thread = thread;
	batch->count = 0;
	batch->code = 0;
}

static inline void batch_fail(struct batch *batch, int code)
{
	if (!batch->code)
		batch->code = code;
	batch->failed.number = -1;
	batch->failed_about = NULL;
}

/* Make all that were added. 0, or the first failure. */
static inline int batch_run(struct batch *batch)
{
	unsigned count = batch->count;
	int rc;

	batch->count = 0;
	if (batch->code || !count)
		return batch->code;
	rc = remote_run(batch->remote, batch->thread);
	if (rc) {
		batch_fail(batch, rc);
		return rc;
	}
	for (unsigned i = 0; i < count; i++) {
		const struct call *call = batch->calls[i];

		if (call->flags & CALL_MAY_FAIL || call->result >= 0 || call->result < -4095)
			continue;
		batch->code = (int)call->result;
		batch->failed = *call;
		batch->failed_about = batch->about[i];
		break;
	}
	return batch->code;
}

/* So many calls come in one batch: those before are made if need be. */
static inline int batch_need(struct batch *batch, unsigned calls)
{
	return batch->count + calls <= CONTROL_CALLS ? batch->code : batch_run(batch);
}

/* NULL: a call before it has failed. */
static inline struct call *batch_add(struct batch *batch, const void *about, int64_t number,
				     uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
				     uint64_t f)
{
	struct call *call;

	if (batch->count == CONTROL_CALLS)
		batch_run(batch);
	if (batch->code)
		return NULL;
	call = remote_add(batch->remote, batch->thread, number, a, b, c, d, e, f);
	if (!call) {
		batch_fail(batch, -ENOSPC);
		return NULL;
	}
	batch->about[batch->count] = about;
	batch->calls[batch->count++] = call;
	return call;
}

/* The same, of one that may fail. */
static inline void batch_try(struct batch *batch, int64_t number, uint64_t a, uint64_t b,
			     uint64_t c, uint64_t d, uint64_t e)
{
	struct call *call = batch_add(batch, NULL, number, a, b, c, d, e, 0);

	if (call)
		call->flags = CALL_MAY_FAIL;
}

#endif
