/* SPDX-License-Identifier: MIT */
/*
 * capture.c - the instant of a generation: the owner's part of a checkpoint, while its program stands still. What it takes
 * is the time that the program sees (pause_ns): the search for written pages, and as much of them as has to be copied
 * before the program goes on (preserve.h); of another process, all of them.
 *
 * The owner's thread; the checkpoint's own one waits meanwhile, and helps to copy.
 */
#define _GNU_SOURCE
#include "capture.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint_log.h"
#include "checks.h"
#include "process_memory.h"
#include "sys.h"

#define CAPTURE_BATCH (1u << 20)
#define COPY_BATCH 64u	/* pages that one of the threads copies */
#define COPY_ALONE 256u /* so few are copied in the time that it takes to wake another thread */
#define OWNER_WRITES_PAGES 256u

static int no_memory(struct checkpointer *checkpointer)
{
	return error_set(&checkpointer->result.error, -ENOMEM,
			 "no memory to copy %llu written pages",
			 (unsigned long long)bitmap_count(&checkpointer->residual));
}

static void share(void *arg, void (*work)(void *arg, uint64_t first, uint64_t end), void *work_arg,
		  uint64_t count, uint64_t batch, uint64_t alone)
{
	checkpointer_share(arg, work, work_arg, count, batch, alone);
}

/* The residual, and of another process what it gave up. */
static int capture_collect(struct checkpointer *checkpointer)
{
	struct process_memory *process = checkpointer->region->process;
	struct bitmap *pages = &checkpointer->residual;
	int code;

	if (process) {
		checkpointer->epoch = process->epoch;
		code = fault_service_settle(checkpointer->service, &checkpointer->result.error);
		if (code)
			return code;
	}
	checkpointer->tracker->share = share;
	checkpointer->tracker->share_arg = checkpointer;
	code = tracker_collect(checkpointer->tracker, pages);
	checkpointer->tracker->share = NULL;
	if (!code && process) {
		code = process_memory_take_removed(process, &checkpointer->gone, pages);
		process_memory_clip(process, pages);
	}
	bitmap_merge(&checkpointer->taken, pages);
	return code ? checkpoint_cannot_collect(code, &checkpointer->result.error) : 0;
}

static void copy_part(void *arg, uint64_t first, uint64_t end)
{
	preserver_copy(arg, first, end);
}

static int copy_own(struct checkpointer *checkpointer)
{
	struct preserver *preserver = &checkpointer->preserver;
	struct bitmap *pages = &checkpointer->residual;

	if (preserver_hold(preserver, pages, bitmap_count(pages)))
		return no_memory(checkpointer);
	checkpointer_share(checkpointer, copy_part, preserver, preserver_copies(preserver),
			   COPY_BATCH, COPY_ALONE);
	return 0;
}

static int copy_process(struct checkpointer *checkpointer)
{
	struct process_memory *process = checkpointer->region->process;
	struct preserver *preserver = &checkpointer->preserver;
	uint32_t page_bytes = checkpointer->region->page_bytes;
	uint64_t next = 0, count = bitmap_count(&checkpointer->residual);
	int64_t copied;
	char *to;

	if (preserver_reserve(preserver, count))
		return no_memory(checkpointer);
	preserver->used = count;
	to = preserver->slots;
	while ((copied = process_memory_read(process, &checkpointer->residual, &next, CAPTURE_BATCH,
					     to, &checkpointer->gone)) > 0)
		to += copied * page_bytes;
	if (!copied)
		copied = process_memory_was_still(process);
	return copied ? error_set(&checkpointer->result.error, (int)copied,
				  "cannot copy the written pages: %s",
				  copied == -ESRCH ? "the process has ended"
						   : thaw_strerror((int)copied))
		      : 0;
}

/* The pause: everything from here to the return is time the program does not run. */
static int capture_pages(struct checkpointer *checkpointer, const void *state, size_t state_bytes)
{
	bool there = checkpoint_memory_is_there(checkpointer);
	int code = 0;

	checkpointer->captured = there;
	checkpointer->anew = checkpointer->void_copies;
	checkpointer->void_copies = false;
	if (checkpointer->anew)
		bitmap_clear_all(&checkpointer->taken);
	bitmap_clear_all(&checkpointer->residual);
	if (there)
		code = capture_collect(checkpointer);
	if (code)
		return code;
	checkpointer->state = malloc(state_bytes ? state_bytes : 1);
	if (!checkpointer->state)
		return error_set(&checkpointer->result.error, -ENOMEM,
				 "no memory for the state of the program");
	if (state_bytes)
		memcpy(checkpointer->state, state, state_bytes);
	checkpointer->state_bytes = state_bytes;
	if (!there)
		return 0;
	return checkpointer->region->process ? copy_process(checkpointer) : copy_own(checkpointer);
}

int checkpointer_capture(struct checkpointer *checkpointer, enum thaw_kind kind, const void *state,
			 size_t state_bytes)
{
	uint64_t start = checkpointer->stopped_ns ? checkpointer->stopped_ns : sys_monotonic_ns();
	int code;

	checkpointer->stopped_ns = 0;

	if (kind != THAW_KIND_PORTABLE && kind != THAW_KIND_BOUND)
		return -EINVAL;
	/* Only the owner leaves READY, so the phase needs no lock beyond this look. */
	if (checkpointer_wait(checkpointer) != THAW_READY)
		return -EINVAL;
	code = capture_pages(checkpointer, state, state_bytes);
	if (code) {
		checkpoint_done(checkpointer, code);
		if (checkpointer->notify)
			checkpointer->notify(checkpointer->notify_arg);
		return code;
	}
	check_captured(checkpointer);
	checkpointer->generation.time_ns = sys_realtime_ns();
	checkpointer->generation.heap_bytes = checkpointer->region->bytes;
	checkpointer->generation.restores = checkpointer->restores;
	checkpointer->generation.kind = kind;
	checkpointer->generation.pause_ns = sys_monotonic_ns() - start;
	atomic_store(&checkpointer->pause_ns, 0);
	checkpointer->owner_writes = checkpointer->region->process &&
				     checkpoint_log_follows(checkpointer) &&
				     checkpointer->preserver.used <= OWNER_WRITES_PAGES;
	checkpoint_phase_set(checkpointer, THAW_WRITING);
	/* With what it took to wake the thread, which may have been given this one's processor. */
	atomic_store(&checkpointer->pause_ns, sys_monotonic_ns() - start);
	return 0;
}

int checkpointer_abandon(struct checkpointer *checkpointer, int code, const char *why)
{
	checkpointer->stopped_ns = 0;
	if (code >= 0 || checkpointer_wait(checkpointer) != THAW_READY)
		return -EINVAL;
	error_set(&checkpointer->result.error, code, "%s", why);
	checkpoint_done(checkpointer, code);
	if (checkpointer->notify)
		checkpointer->notify(checkpointer->notify_arg);
	return 0;
}
