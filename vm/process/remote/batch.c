// SPDX-License-Identifier: MIT
/*
 * batch.c - many calls of one parked thread, in as few batches as they fit in (batch.h).
 */
#include "process/remote/batch.h"

#include <errno.h>

void batch_begin(struct batch *batch, struct remote *remote, unsigned thread)
{
	batch->remote = remote;
	batch->thread = thread;
	batch->count = 0;
	batch->code = 0;
	batch->failed.number = -1;
	batch->failed_about = NULL;
}

static void batch_fail(struct batch *batch, int code)
{
	if (!batch->code)
		batch->code = code;
	batch->failed.number = -1;
	batch->failed_about = NULL;
}

void batch_post(struct batch *batch)
{
	int rc = batch->code || !batch->count ? 0 : remote_post(batch->remote, batch->thread);

	if (rc)
		batch_fail(batch, rc);
}

int batch_finish(struct batch *batch)
{
	unsigned count = batch->count;
	int rc;

	batch->count = 0;
	if (batch->code || !count)
		return batch->code;
	rc = remote_wait(batch->remote, batch->thread);
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

int batch_run(struct batch *batch)
{
	batch_post(batch);
	return batch_finish(batch);
}

int batch_need(struct batch *batch, unsigned calls)
{
	return batch->count + calls <= CONTROL_CALLS ? batch->code : batch_run(batch);
}

struct call *batch_add(struct batch *batch, const void *about, int64_t number, uint64_t a,
		       uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
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

void batch_try(struct batch *batch, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
	       uint64_t e)
{
	struct call *call = batch_add(batch, NULL, number, a, b, c, d, e, 0);

	if (call)
		call->flags = CALL_MAY_FAIL;
}
