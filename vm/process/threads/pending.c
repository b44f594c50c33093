// SPDX-License-Identifier: MIT
/*
 * pending.c - signals that wait, read and queued again (pending.h). The kernel lets a thread put any siginfo_t into
 * its own queue, and the main thread into the process's (kernel/signal.c, do_rt_tgsigqueueinfo). Taking one takes
 * what is the thread's own first: /proc/PID/task/TID/status says how long there is any.
 */
#define _GNU_SOURCE
#include "process/threads/pending.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "process/memory/address_space.h"

#define PENDING_MOST 4096u

/* The mask of this line of status. */
static int read_mask(const struct process *process, int32_t tid, bool shared, uint64_t *mask)
{
	const char *line = shared ? "\nShdPnd:" : "\nSigPnd:", *at;
	char name[48], *text;
	int rc;

	snprintf(name, sizeof(name), "task/%d/status", (int)tid);
	text = proc_read(process->remote.pid, name, NULL, &rc);
	if (!text)
		return rc;
	at = strstr(text, line);
	*mask = at ? strtoull(at + strlen(line), NULL, 16) : 0;
	*mask &= ~(1ull << (CONTROL_SIGNAL - 1));
	free(text);
	return 0;
}

static int take_one(struct process *process, unsigned mailbox, uint64_t mask, siginfo_t *info)
{
	struct remote *remote = &process->remote;
	static const struct timespec none;
	size_t used = remote->used;
	siginfo_t *here;
	uint64_t there = remote_room(remote, sizeof(*here), (void **)&here), set, time;
	int64_t signal = -ENOSPC;

	set = remote_copy(remote, &mask, sizeof(mask));
	time = remote_copy(remote, &none, sizeof(none));
	if (there && set && time)
		signal = remote_call(remote, mailbox, SYS_rt_sigtimedwait, set, there, time, 8, 0,
				     0);
	if (signal > 0)
		memcpy(info, here, sizeof(*info));
	remote->used = used;
	return (int)signal;
}

/* How many of this signal wait for the main thread alone: it takes these before those of the process. */
static unsigned count_own(const struct process *process, int signal)
{
	const struct thread *thread = &process->threads[0];
	unsigned count = 0;

	for (unsigned i = 0; i < thread->pending_count; i++)
		count += thread->pending[i].si_signo == signal;
	return count;
}

/* What was taken of the process's signals, and is the main thread's own, goes back to it. */
static int give_back_own(struct process *process, unsigned mailbox, int32_t tid, siginfo_t *list,
			 unsigned *count)
{
	unsigned seen[65] = {0}, kept = 0;
	int rc = 0;

	for (unsigned i = 0; i < *count; i++) {
		int signal = list[i].si_signo & 127;

		if (signal <= 64 && seen[signal]++ < count_own(process, signal)) {
			int queued = pending_queue(process, mailbox, tid, false, &list[i], 1);

			rc = rc ? rc : queued;
		} else {
			list[kept++] = list[i];
		}
	}
	*count = kept;
	return rc;
}

/*
 * A standard signal waits once in a queue, a timer's once for each timer. A timer goes on when its signal is taken, so a
 * fast one's comes again while the others are.
 */
static bool came_meanwhile(const siginfo_t *list, unsigned count, unsigned allowed)
{
	const siginfo_t *info = &list[count];
	unsigned before = 0;

	for (unsigned i = 0; i < count; i++)
		if (list[i].si_signo == info->si_signo &&
		    (info->si_signo < 32 ||
		     (info->si_code == SI_TIMER && list[i].si_code == SI_TIMER &&
		      list[i].si_timerid == info->si_timerid)))
			before++;
	return before >= (info->si_signo < 32 ? allowed : 1);
}

int pending_take(struct process *process, unsigned mailbox, int32_t tid, bool shared,
		 siginfo_t **list, unsigned *count)
{
	uint64_t mask = 0,
		 merged = 0; /* standard signals that would be merged with what was taken */
	int rc = 0, queued = 0;

	*list = NULL;
	*count = 0;
	for (unsigned taken = 0; taken < PENDING_MOST; taken++) {
		siginfo_t *more;
		int signal;

		rc = read_mask(process, tid, shared, &mask);
		mask &= ~merged;
		if (rc || !mask)
			break;
		more = reallocarray(*list, *count + 1, sizeof(*more));
		if (!more) {
			rc = -ENOMEM;
			break;
		}
		*list = more;
		rc = signal = take_one(process, mailbox, mask, &more[*count]);
		if (rc <= 0)
			break;
		if (came_meanwhile(*list, *count, 1 + (shared ? count_own(process, signal) : 0)))
			merged |= signal < 32 ? 1ull << (signal - 1) : 0;
		else
			++*count;
	}
	/* Whatever happened, what was taken goes back. */
	if (shared)
		queued = give_back_own(process, mailbox, tid, *list, count);
	if (!queued)
		queued = pending_queue(process, mailbox, tid, shared, *list, *count);
	if (rc == -EAGAIN)
		rc = 0;
	return rc < 0 ? rc : queued;
}

int pending_queue(struct process *process, unsigned mailbox, int32_t tid, bool shared,
		  const siginfo_t *list, unsigned count)
{
	struct remote *remote = &process->remote;
	uint64_t group = (uint64_t)process->threads[0].tid;
	size_t used = remote->used;

	for (unsigned i = 0; i < count; i++) {
		siginfo_t info = list[i];
		int64_t rc = -EPERM;

		for (unsigned attempt = 0; attempt < 2 && rc == -EPERM; attempt++) {
			uint64_t there = remote_copy(remote, &info, sizeof(info));

			if (!there)
				return -ENOSPC;
			rc = shared ? remote_call(remote, mailbox, SYS_rt_sigqueueinfo, group,
						  (uint64_t)info.si_signo, there, 0, 0, 0)
				    : remote_call(remote, mailbox, SYS_rt_tgsigqueueinfo, group,
						  (uint64_t)tid, (uint64_t)info.si_signo, there, 0,
						  0);
			remote->used = used;
			info.si_code = SI_QUEUE;
		}
		if (rc)
			return (int)rc;
	}
	return 0;
}

void pending_encode(const siginfo_t *list, unsigned count, struct record_writer *writer)
{
	record_put(writer, count);
	for (unsigned i = 0; i < count; i++)
		record_put_bytes(writer, &list[i], sizeof(list[i]));
}

bool pending_decode(siginfo_t **list, unsigned *count, struct record_reader *reader)
{
	uint64_t wanted = record_take_count(reader, 8 + sizeof(**list));

	*list = NULL;
	*count = 0;
	if (reader->failed || wanted > PENDING_MOST)
		return false;
	if (!wanted)
		return true;
	*list = calloc(wanted, sizeof(**list));
	for (; *list && *count < wanted; ++*count) {
		size_t bytes;
		const void *data = record_take_bytes(reader, &bytes);
		siginfo_t *info = &(*list)[*count];

		if (reader->failed || bytes != sizeof(*info))
			break;
		memcpy(info, data, bytes);
		if (info->si_signo < 1 || info->si_signo > 64)
			break;
	}
	if (*list && *count == wanted)
		return true;
	free(*list);
	*list = NULL;
	*count = 0;
	return false;
}
