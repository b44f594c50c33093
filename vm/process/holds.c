// SPDX-License-Identifier: MIT
/*
 * holds.c - the memory of a restored guest is kept from its forked children until all of it is there, where nobody is
 * told of forks (stub/forks.c). Owner's thread.
 *
 *	restore: MADV_DONTFORK, HOLD_MISSING --all is there--> HOLD_ARRIVED --who forks, or we, in a stop--> HOLD_NONE
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/failure.h"
#include "process/guest_state.h"
#include "process/remote/batch.h"

#define LOOK_NS 5000000ull

/* What refuses to be given back is memory of the kernel's. */
static int advise(struct process *process, const struct mappings *mappings, int advice)
{
	struct batch batch;

	batch_begin(&batch, &process->remote, process->threads[0].mailbox);
	for (size_t i = 0; i < mappings->count; i++) {
		const struct mapping *mapping = &mappings->list[i];

		if (advice == MADV_DOFORK)
			batch_try(&batch, SYS_madvise, mapping->start,
				  mapping->end - mapping->start, MADV_DOFORK, 0, 0);
		else if (mapping->kind == MAPPING_MEMORY)
			batch_add(&batch, mapping, SYS_madvise, mapping->start,
				  mapping->end - mapping->start, (uint64_t)advice, 0, 0, 0);
	}
	return batch_run(&batch);
}

static uint32_t state_of(const struct process_guest *own)
{
	return __atomic_load_n(&own->process.remote.control->held, __ATOMIC_SEQ_CST);
}

static void set(struct process_guest *own, enum hold hold)
{
	struct control *control = own->process.remote.control;

	__atomic_store_n(&control->held, hold, __ATOMIC_SEQ_CST);
	remote_futex_wake(&control->held);
}

bool holds_can(const struct mappings *mappings)
{
	for (size_t i = 0; i < mappings->count; i++)
		if (mappings->list[i].flags & MAPPING_DONT_FORK)
			return false;
	return true;
}

int holds_begin(struct process_guest *own, struct thaw_error *error)
{
	int code;

	if (!thaw_process_must_not_fork(own->heap))
		return 0;
	code = advise(&own->process, &own->state.mappings, MADV_DONTFORK);
	if (code)
		return failure(error, code,
			       "the program's memory cannot be kept from its children: %s",
			       thaw_strerror(code));
	set(own, HOLD_MISSING);
	own->process.held_until_ns = UINT64_MAX;
	return 0;
}

static void note(struct process_guest *own)
{
	if (state_of(own) == HOLD_NONE)
		own->process.held_until_ns = clock_monotonic_ns();
}

void holds_captured(struct process_guest *own, const struct mappings *mappings)
{
	if (own->process.held_until_ns != UINT64_MAX)
		return;
	if (state_of(own) == HOLD_ARRIVED && !advise(&own->process, mappings, MADV_DOFORK))
		set(own, HOLD_NONE);
	note(own);
}

/* One stop, once. Where that fails it is left to who forks, or to the next capture. */
static void give_back(struct process_guest *own)
{
	struct mappings mappings = {0};

	if (process_stop(&own->process, NULL))
		return;
	interrupted_restart(&own->process, NULL);
	if (!mappings_capture(&own->process, &mappings, NULL))
		holds_captured(own, &mappings);
	mappings_free(&mappings);
	remote_forget(&own->process.remote);
	process_continue(&own->process);
}

void holds_look(struct process_guest *own)
{
	if (own->process.held_until_ns != UINT64_MAX)
		return;
	if (state_of(own) == HOLD_MISSING && !thaw_process_must_not_fork(own->heap)) {
		set(own, HOLD_ARRIVED);
		give_back(own);
	}
	note(own);
}

uint64_t holds_due_ns(const struct process_guest *own)
{
	return own->process.held_until_ns == UINT64_MAX && state_of(own) == HOLD_MISSING
		       ? clock_monotonic_ns() + LOOK_NS
		       : 0;
}

void holds_forget(struct process_guest *own)
{
	if (own->process.held_until_ns != UINT64_MAX)
		return;
	set(own, HOLD_NONE);
	note(own);
}
