/* SPDX-License-Identifier: MIT */
/*
 * interrupted_timeouts.c - calls that are made again, with what is left of their timeouts (interrupted.h). Where the
 * kernel does not say how much that is, the scheduler says since when the thread has waited, or it is what has passed
 * since the call was first seen. The owner's thread; all
 * threads of the guest are parked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "process/threads/interrupted.h"

#if defined(__x86_64__)

#define MILLISECOND_NS 1000000ull

const int interrupted_registers[6] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};

static void set_argument(struct frame *frame, unsigned index, uint64_t value)
{
	frame->arguments[index] = value;
	frame->registers[interrupted_registers[index]] = (greg_t)value;
}

/*
 * When the thread has run last, in nanoseconds of its processor's clock, and how often it has changed its processor,
 * as the scheduler tells both (proc(5) does not know it; kernel/sched/debug.c). False: this kernel does not tell.
 */
static bool read_last_run(const struct process *process, int32_t tid, uint64_t *ns,
			  uint64_t *migrations)
{
	char path[64], text[2048], *at;
	int fd;
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/sched", (int)process->remote.pid, (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[got < 0 ? 0 : got] = 0;
	at = strstr(text, "se.exec_start");
	at = at ? strchr(at, ':') : NULL;
	if (!at)
		return false;
	*ns = strtoull(at + 1, &at, 10) * MILLISECOND_NS;
	if (*at == '.') /* six digits */
		*ns += strtoull(at + 1, NULL, 10);
	at = strstr(at, "nr_migrations");
	at = at ? strchr(at, ':') : NULL;
	*migrations = at ? strtoull(at + 1, NULL, 10) : 0;
	return at;
}

/* So small a part of a timeout may be lost: less than what a thread waits for a processor, mostly. */
#define NEGLECTED 64u

/*
 * All threads stood still until the last stop was over: so long at most it has waited. Where that is next to nothing of its
 * timeout, nobody asks.
 */
static bool has_just_begun(const struct process *process, uint64_t timeout_ns)
{
	return process->continued_ns &&
	       (clock_monotonic_ns() - process->continued_ns) * NEGLECTED < timeout_ns;
}

/* It has not run since it began to wait. */
void interrupted_sample(const struct process *process, struct thread *thread)
{
	const struct call_kind *kind = thread->call < 0 ? NULL : interrupted_kind(thread->call);

	thread->call_since = 0;
	if (!kind || (kind->timeout != TIMEOUT_MS && kind->timeout != TIMEOUT_RELATIVE &&
		      kind->timeout != TIMEOUT_SLEEP))
		return;
	/* One without a timeout, or with an absolute one. */
	if (kind->timeout == TIMEOUT_MS ? (int)thread->call_arguments[kind->argument] <= 0
					: !thread->call_arguments[kind->argument])
		return;
	if (kind->number == SYS_futex &&
	    (thread->call_arguments[1] & FUTEX_OPERATION) != FUTEX_WAIT)
		return;
	if (kind->timeout == TIMEOUT_MS &&
	    has_just_begun(process,
			   (uint64_t)(int)thread->call_arguments[kind->argument] * MILLISECOND_NS))
		return;
	if (!read_last_run(process, thread->tid, &thread->call_since, &thread->call_migrations))
		thread->call_since = 0;
}

/*
 * How long the thread had been in this call when it was stopped, or less: on one processor, whose clock does not count
 * all that passes, but nothing twice. 0: nobody knows.
 */
static uint64_t waited_ns(const struct stop *stop, const struct frame *frame)
{
	const struct thread *thread = frame->thread;
	uint64_t now, migrations;

	if (!thread->call_since || thread->call != frame->kind->number ||
	    thread->call_stack != (uint64_t)frame->registers[REG_RSP] ||
	    memcmp(thread->call_arguments, frame->arguments, sizeof(frame->arguments)) ||
	    !read_last_run(stop->process, thread->tid, &now, &migrations) ||
	    migrations != thread->call_migrations || now < thread->call_since)
		return 0;
	return now - thread->call_since;
}

/* What is left of `full_ns`, and when it will have run out. */
static uint64_t left_ns(const struct stop *stop, const struct frame *frame, uint64_t full_ns,
			uint64_t *deadline_ns)
{
	const struct waiting *waiting = frame->waiting;
	uint64_t waited;

	if (waiting && waiting->deadline_ns) {
		*deadline_ns = waiting->deadline_ns;
	} else {
		waited = waited_ns(stop, frame);
		*deadline_ns = stop->now_ns + full_ns - (waited < full_ns ? waited : full_ns);
	}
	return *deadline_ns > stop->now_ns ? *deadline_ns - stop->now_ns : 0;
}

/* That of poll(2). Where it begins anew, a millisecond more tells it from a new call with the same arguments. */
static uint64_t cut_milliseconds(const struct stop *stop, struct frame *frame)
{
	unsigned index = (unsigned)frame->kind->argument;
	int timeout = (int)frame->arguments[index];
	uint64_t deadline_ns, left;

	if (timeout <= 0 || timeout == INT_MAX)
		return 0;
	left = left_ns(stop, frame, (uint64_t)timeout * (uint64_t)MILLISECOND_NS, &deadline_ns);
	left = (left + MILLISECOND_NS - 1) / MILLISECOND_NS;
	set_argument(frame, index, left == (uint64_t)timeout ? left + 1 : left);
	return deadline_ns;
}

/* A struct timespec of the program's. 0: it cannot be read, or is none: the kernel says so again. */
static uint64_t read_timespec(const struct stop *stop, uint64_t address)
{
	struct timespec time;

	if (remote_read(&stop->process->remote, address, &time, sizeof(time)) || time.tv_sec < 0 ||
	    time.tv_sec > INT32_MAX || time.tv_nsec < 0 || time.tv_nsec > 999999999)
		return 0;
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A copy of it in a piece of the scratch, which tells that it is ours. */
static uint64_t cut_timespec(struct stop *stop, struct frame *frame, unsigned index)
{
	uint64_t address = frame->arguments[index], deadline_ns, left;
	int slot = address ? slot_of(stop->process, address) : 0;
	struct timespec time;

	if (!address)
		return 0;
	left = read_timespec(stop, address);
	if (!left)
		return 0;
	left = left_ns(stop, frame, left, &deadline_ns);
	for (unsigned i = 0; i < CONTROL_THREADS && slot < 0; i++)
		if (!stop->slot_taken[i])
			slot = (int)i;
	if (slot < 0)
		return 0;
	time.tv_sec = (time_t)(left / 1000000000u);
	time.tv_nsec = (long)(left % 1000000000u);
	address = scratch_address(stop->process) + (unsigned)slot * sizeof(struct stub_restart);
	if (remote_write(&stop->process->remote, address, &time, sizeof(time)))
		return 0;
	stop->slot_taken[slot] = true;
	set_argument(frame, index, address);
	return deadline_ns;
}

/* What the kernel has written as being left is where the next one starts from. */
static uint64_t cut_sleep(struct stop *stop, struct frame *frame)
{
	unsigned index = (unsigned)frame->kind->argument;

	if (frame->kind->number == SYS_clock_nanosleep && frame->arguments[1] & TIMER_ABSTIME)
		return 0;
	if (!frame->arguments[index + 1])
		return cut_timespec(stop, frame, index);
	set_argument(frame, index, frame->arguments[index + 1]);
	return 0;
}

static bool read_option(const struct stop *stop, const struct frame *frame, int level, int option,
			void *to, size_t bytes)
{
	struct remote *remote = &stop->process->remote;
	unsigned mailbox = stop->process->threads[0].mailbox;
	socklen_t length = (socklen_t)bytes, *length_here;
	void *here;
	uint64_t room = remote_room(remote, bytes, &here);
	uint64_t length_room = remote_room(remote, sizeof(length), (void **)&length_here);

	if (!room || !length_room)
		return false;
	memset(here, 0, bytes);
	*length_here = length;
	if (remote_call(remote, mailbox, SYS_getsockopt, frame->arguments[0], (uint64_t)level,
			(uint64_t)option, room, length_room, 0))
		return false;
	memcpy(to, here, bytes);
	return true;
}

/*
 * A socket's timeout cannot be cut down, so it begins anew; but where all of it has passed since this was first seen,
 * the call is over. TCP says how long nothing has come, which tells that it is still the same call.
 * False: this EINTR has another reason.
 */
static bool cut_socket(struct stop *stop, struct frame *frame, uint64_t *deadline_ns, int *over)
{
	bool sends = frame->kind->timeout == TIMEOUT_SENDING;
	struct tcp_info tcp = {0};
	struct timeval timeout;
	uint64_t full, quiet;

	if (!read_option(stop, frame, SOL_SOCKET, sends ? SO_SNDTIMEO : SO_RCVTIMEO, &timeout,
			 sizeof(timeout)) ||
	    (!timeout.tv_sec && !timeout.tv_usec))
		return false;
	full = (uint64_t)timeout.tv_sec * 1000000000u + (uint64_t)timeout.tv_usec * 1000u;
	if (left_ns(stop, frame, full, deadline_ns))
		return true;
	if (!sends && read_option(stop, frame, IPPROTO_TCP, TCP_INFO, &tcp, sizeof(tcp))) {
		quiet = tcp.tcpi_last_data_recv * MILLISECOND_NS;
		if (quiet < full) {
			*deadline_ns = stop->now_ns + full - quiet;
			return true;
		}
	}
	*over = frame->kind->number == SYS_connect ? -EINPROGRESS : -EAGAIN;
	return true;
}

bool interrupted_cut_timeout(struct stop *stop, struct frame *frame, uint64_t *deadline_ns,
			     int *over)
{
	*deadline_ns = 0;
	switch ((enum timeout)frame->kind->timeout) {
	case TIMEOUT_MS:
		*deadline_ns = cut_milliseconds(stop, frame);
		return true;
	case TIMEOUT_RELATIVE:
		/* Only that of FUTEX_WAIT is relative. */
		if (frame->kind->number != SYS_futex ||
		    (frame->arguments[1] & FUTEX_OPERATION) == FUTEX_WAIT)
			*deadline_ns = cut_timespec(stop, frame, (unsigned)frame->kind->argument);
		return true;
	case TIMEOUT_SLEEP:
		*deadline_ns = cut_sleep(stop, frame);
		return true;
	case TIMEOUT_RECEIVING:
	case TIMEOUT_SENDING:
		return cut_socket(stop, frame, deadline_ns, over);
	case TIMEOUT_NONE:
		return !frame->kind->restartable;
	}
	return false;
}

#endif
