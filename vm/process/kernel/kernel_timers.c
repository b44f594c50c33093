// SPDX-License-Identifier: MIT
/*
 * kernel_timers.c - POSIX timers of a guest (kernel_timers.h). /proc/PID/timers says what each is for (needs
 * CONFIG_CHECKPOINT_RESTORE), timer_gettime(2) what is left of it. The program knows each by its number: Linux 6.16
 * makes a timer of a given number, older ones count up, so what is in between is made and deleted.
 */
#define _GNU_SOURCE
#include "process/kernel/kernel_timers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/failure.h"
#include "process/memory/address_space.h"
#include "process/remote/batch.h"
#include "process/threads/pending.h"

#ifndef PR_TIMER_CREATE_RESTORE_IDS /* 6.16 */
#define PR_TIMER_CREATE_RESTORE_IDS 77
#define PR_TIMER_CREATE_RESTORE_IDS_OFF 0
#define PR_TIMER_CREATE_RESTORE_IDS_ON 1
#endif

#define TIMERS_MOST 4096u
/* An older kernel has to make and delete as many timers as the program ever had. */
#define COUNT_MOST 1000000
#define PROBED 16u

struct kernel_event { /* struct sigevent as the kernel has it */
	uint64_t value;
	int32_t signal, notify, tid;
	uint8_t unused[44];
};

/* ---- Capture */

/* The tid that a thread's pthread_t remembers: what it has in the next process is not known yet. */
static int32_t remembered(const struct process *process, int32_t tid)
{
	for (unsigned i = 0; i < process->thread_count; i++)
		if (process->threads[i].tid == tid)
			return process->threads[i].remembered;
	return 0;
}

static int32_t now(const struct process *process, int32_t tid)
{
	for (unsigned i = 0; i < process->thread_count; i++)
		if (process->threads[i].remembered == tid)
			return process->threads[i].tid;
	return 0;
}

/* A clock that counts the time of a thread has its tid in it (linux/posix-timers_types.h); 0: it has none. */
static int32_t clock_tid(int32_t clock)
{
	return clock < 0 && clock & 4 ? ~(clock >> 3) : 0;
}

static int32_t clock_of(int32_t clock, int32_t tid)
{
	return (int32_t)(~(uint32_t)tid << 3 | ((uint32_t)clock & 7));
}

static int parse_one(const struct process *process, const char *at, struct kernel_timer *timer)
{
	char how[16], whom[8];
	int signal, id, target, clock;
	unsigned long value;

	if (sscanf(at, "ID: %d\nsignal: %d/%lx\nnotify: %15[a-z]/%7[a-z].%d\nClockID: %d", &id,
		   &signal, &value, how, whom, &target, &clock) != 7)
		return -EPROTO;
	*timer = (struct kernel_timer){.id = id, .signal = signal, .value = value, .clock = clock};
	timer->notify = !strcmp(how, "none")	 ? SIGEV_NONE
			: !strcmp(how, "thread") ? SIGEV_THREAD
						 : SIGEV_SIGNAL;
	if (!strcmp(whom, "tid")) {
		timer->notify |= SIGEV_THREAD_ID;
		timer->tid = remembered(process, target);
	}
	if (clock_tid(clock))
		timer->clock = clock_of(clock, remembered(process, clock_tid(clock)));
	return 0;
}

static int add_one(const struct process *process, struct kernel_facts *facts, const char *at)
{
	struct kernel_timer *more;

	if (facts->posix_timer_count == TIMERS_MOST)
		return -E2BIG;
	more = reallocarray(facts->posix_timers, facts->posix_timer_count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	facts->posix_timers = more;
	return parse_one(process, at, &more[facts->posix_timer_count++]);
}

/* Without the file: is there any of the first? */
static int probe(struct process *process, struct thaw_error *error)
{
	struct call *calls[PROBED];
	void *here;
	uint64_t there = remote_room(&process->remote, sizeof(struct itimerspec), &here);
	struct batch batch;
	int rc;

	batch_begin(&batch, &process->remote, 0);
	for (unsigned i = 0; i < PROBED; i++) {
		calls[i] = batch_add(&batch, NULL, SYS_timer_gettime, i, there, 0, 0, 0, 0);
		if (calls[i])
			calls[i]->flags = CALL_MAY_FAIL;
	}
	rc = batch_run(&batch);
	for (unsigned i = 0; i < PROBED && !rc; i++)
		if (!calls[i]->result)
			rc = failure(
				error, PROCESS_EREFUSED,
				"timer %u of the program (timer_create) cannot be in an image: "
				"this kernel does not say what it is for "
				"(CONFIG_CHECKPOINT_RESTORE)",
				i);
	return rc;
}

static int read_times(struct process *process, struct kernel_facts *facts)
{
	struct itimerspec *times;
	uint64_t there = remote_room(&process->remote, facts->posix_timer_count * sizeof(*times),
				     (void **)&times);
	struct batch batch;
	int rc;

	if (!there)
		return -ENOSPC;
	batch_begin(&batch, &process->remote, 0);
	for (unsigned i = 0; i < facts->posix_timer_count; i++)
		batch_add(&batch, NULL, SYS_timer_gettime, (uint64_t)facts->posix_timers[i].id,
			  there + i * sizeof(*times), 0, 0, 0, 0);
	rc = batch_run(&batch);
	for (unsigned i = 0; i < facts->posix_timer_count && !rc; i++)
		facts->posix_timers[i].time = times[i];
	return rc;
}

static unsigned count_armed(const struct kernel_facts *facts)
{
	unsigned count = 0;

	for (unsigned i = 0; i < facts->posix_timer_count; i++)
		count += facts->posix_timers[i].time.it_value.tv_sec ||
			 facts->posix_timers[i].time.it_value.tv_nsec;
	return count;
}

/*
 * Which signals are pending was asked when the stop began: one that has expired since is neither armed nor among them. Its
 * signal is there by now. Nobody arms any meanwhile, so this comes to its end.
 */
static int take_expired(struct process *process, struct kernel_facts *facts)
{
	struct thread *main = &process->threads[0];
	bool expired = true;
	int rc = 0;

	while (expired && !rc) {
		unsigned armed = count_armed(facts);

		free(facts->pending);
		facts->pending = NULL;
		facts->pending_count = 0;
		rc = threads_take_pending(process);
		if (!rc)
			rc = pending_take(process, main->mailbox, main->tid, true, &facts->pending,
					  &facts->pending_count);
		if (!rc)
			rc = read_times(process, facts);
		remote_forget(&process->remote);
		expired = count_armed(facts) < armed;
	}
	return rc;
}

int kernel_timers_capture(struct process *process, struct kernel_facts *facts,
			  struct thaw_error *error)
{
	int rc;
	const char *text = proc_files_read(&process->files, PROC_TIMERS, NULL, &rc);

	if (!text) {
		rc = rc == -ENOENT ? probe(process, error) : rc;
	} else {
		for (const char *at = text; !rc && (at = strstr(at, "ID: ")); at += 4)
			if (at == text || at[-1] == '\n')
				rc = add_one(process, facts, at);
		if (!rc && facts->posix_timer_count)
			rc = read_times(process, facts);
		if (!rc && facts->posix_timer_count)
			rc = take_expired(process, facts);
	}
	remote_forget(&process->remote);
	return rc;
}

/* ---- Restore */

static struct kernel_event event_of(const struct process *process, const struct kernel_timer *timer)
{
	struct kernel_event event = {
		.value = timer->value, .signal = timer->signal, .notify = timer->notify};

	if (timer->notify & SIGEV_THREAD_ID)
		event.tid = now(process, timer->tid);
	return event;
}

/* A new timer's number, or -errno. `wanted`: where the kernel can choose it. */
static int64_t make_timer(struct process *process, const struct kernel_timer *timer, int32_t wanted)
{
	struct kernel_event event = event_of(process, timer);
	struct remote *remote = &process->remote;
	int32_t clock = timer->clock, *id;
	size_t used = remote->used;
	uint64_t there = remote_room(remote, sizeof(*id), (void **)&id);
	int64_t rc;

	if (clock_tid(clock))
		clock = clock_of(clock, now(process, clock_tid(clock)));
	*id = wanted;
	rc = remote_call(remote, 0, SYS_timer_create, (uint64_t)(int64_t)clock,
			 remote_copy(remote, &event, sizeof(event)), there, 0, 0, 0);
	if (!rc)
		rc = *id;
	remote->used = used;
	return rc;
}

/* Timers are counted up to this one, which is made. */
static int64_t count_to(struct process *process, const struct kernel_timer *timer)
{
	int64_t id = 0;

	for (unsigned i = 0; i < COUNT_MOST && id >= 0 && id < timer->id; i++) {
		id = make_timer(process, timer, 0);
		if (id >= 0 && id != timer->id)
			remote_call(&process->remote, 0, SYS_timer_delete, (uint64_t)id, 0, 0, 0, 0,
				    0);
		if (id == timer->id)
			return id;
	}
	return id < 0 ? id : -ERANGE;
}

static int restore_one(struct process *process, const struct kernel_timer *timer, bool chosen)
{
	struct remote *remote = &process->remote;
	int64_t rc = chosen ? make_timer(process, timer, timer->id) : count_to(process, timer);
	size_t used = remote->used;

	if (rc >= 0 && rc != timer->id)
		rc = -ERANGE;
	if (rc >= 0)
		rc = remote_call(remote, 0, SYS_timer_settime, (uint64_t)timer->id, 0,
				 remote_copy(remote, &timer->time, sizeof(timer->time)), 0, 0, 0);
	remote->used = used;
	return (int)rc;
}

static int by_id(const void *a, const void *b)
{
	const struct kernel_timer *one = a, *other = b;

	return one->id < other->id ? -1 : one->id > other->id;
}

int kernel_timers_restore(struct process *process, const struct kernel_facts *facts,
			  struct thaw_error *error)
{
	struct remote *remote = &process->remote;
	struct kernel_timer *sorted;
	bool chosen;
	int rc = 0;

	if (!facts->posix_timer_count)
		return 0;
	sorted = calloc(facts->posix_timer_count, sizeof(*sorted));
	if (!sorted)
		return failure(error, -ENOMEM, "no memory for %u timers", facts->posix_timer_count);
	memcpy(sorted, facts->posix_timers, facts->posix_timer_count * sizeof(*sorted));
	qsort(sorted, facts->posix_timer_count, sizeof(*sorted), by_id);
	chosen = !remote_call(remote, 0, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS,
			      PR_TIMER_CREATE_RESTORE_IDS_ON, 0, 0, 0, 0);
	for (unsigned i = 0; i < facts->posix_timer_count && !rc; i++) {
		rc = restore_one(process, &sorted[i], chosen);
		if (rc)
			failure(error, rc,
				"making timer %d of the program (timer_create) again: %s",
				(int)sorted[i].id, thaw_strerror(rc));
	}
	if (chosen)
		remote_call(remote, 0, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS,
			    PR_TIMER_CREATE_RESTORE_IDS_OFF, 0, 0, 0, 0);
	free(sorted);
	return rc;
}
