/* SPDX-License-Identifier: MIT */
/*
 * idle.c - has a guest run since it was captured? One that has not is not stopped again and again, and makes no
 * generations that push out those with something in them.
 *
 * Told by its processor time. To stop and go on takes some, too: so that is noted once its threads are back where they
 * wait, SETTLE_NS later, and what it did of its own until then is not seen. Therefore one more generation is taken after
 * an interval in which it did not run; only then it is left alone, until it runs again.
 *
 * Called by guest.c and capture.c. Owner's thread.
 */
#define _GNU_SOURCE
#include <time.h>

#include "base/clock.h"
#include "process/guest_state.h"

#define SETTLE_NS 2000000u
/* What going on costs a thread at most; more is work. */
#define GOING_ON_NS 100000u

/* Of all threads, ended ones too; 0: not known. */
static uint64_t cpu_ns(const struct process_guest *own)
{
	struct timespec used;
	clockid_t clock;

	if (!own->alive || clock_getcpuclockid(own->process.remote.pid, &clock) ||
	    clock_gettime(clock, &used))
		return 0;
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

void idle_captured(struct process_guest *own)
{
	own->cpu_ns = cpu_ns(own);
	own->settle_ns = clock_monotonic_ns() + SETTLE_NS;
	own->quiet = own->was_quiet;
	own->was_quiet = false;
}

uint64_t idle_due_ns(const struct process_guest *own)
{
	return own->settle_ns;
}

void idle_look(struct process_guest *own)
{
	if (!own->settle_ns || clock_monotonic_ns() < own->settle_ns)
		return;
	own->settle_ns = 0;
	own->settled_cpu_ns = cpu_ns(own);
	if (own->settled_cpu_ns - own->cpu_ns > (uint64_t)GOING_ON_NS * own->process.thread_count)
		own->quiet = false;
}

bool idle_has_run(struct process_guest *own)
{
	uint64_t used = cpu_ns(own);

	own->was_quiet = used && !own->settle_ns && used == own->settled_cpu_ns;
	return !own->was_quiet || !own->quiet;
}
