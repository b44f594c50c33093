/* SPDX-License-Identifier: MIT */
/*
 * interrupted.c - system calls that a stop has interrupted, and that the kernel does not restart (signal(7)), are made
 * again when their threads go on: no program sees an EINTR of ours.
 *
 * The frame of a parked thread is just behind the call then, with -EINTR: it is set back to the instruction, with the
 * number. Which call it was is not in the frame; it was looked at before the signal was sent, or is in the
 * instruction before. A timeout that the kernel would begin anew is cut down to what is left of it.
 *
 * A signal of the program's that its thread got before ours has a frame of its own, with its EINTR. One that comes
 * while the thread is parked must be seen, too: struct stub_restart tells the stub which.
 *
 * The owner's thread; all threads of the guest are parked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/failure.h"
#include "process/process.h"

#if defined(__x86_64__)

#define MILLISECOND_NS 1000000ull
#define SYSCALL_BYTES 2u     /* 0f 05 */
#define FUTEX_OPERATION 127u /* without FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME */
#define SA_RESTART_FLAG 0x10000000ull

/* ---- The calls */

enum timeout {
	TIMEOUT_NONE, /* it has none, or one that is absolute, or the kernel writes back what is left */
	TIMEOUT_MS,	  /* milliseconds, in a register; negative: none */
	TIMEOUT_RELATIVE, /* a struct timespec */
	TIMEOUT_SLEEP, /* ... and in the argument after it, where the kernel writes what is left, or NULL */
	TIMEOUT_RECEIVING, /* of the socket */
	TIMEOUT_SENDING,
};

#define NO_MASK -1

static const struct call_kind {
	int16_t number;
	uint8_t timeout; /* enum timeout */
	int8_t argument; /* where the timeout is */
	int8_t mask; /* where the signals are that it lets through or waits for instead; NO_MASK */
	bool restartable; /* the kernel restarts it where SA_RESTART is set, and there is no timeout */
} kinds[] = {
	{SYS_poll, TIMEOUT_MS, 2, NO_MASK, false},
	{SYS_ppoll, TIMEOUT_NONE, 0, 3, false},
	{SYS_select, TIMEOUT_NONE, 0, NO_MASK, false},
	{SYS_pselect6, TIMEOUT_NONE, 0, NO_MASK, false},
	{SYS_epoll_wait, TIMEOUT_MS, 3, NO_MASK, false},
	{SYS_epoll_pwait, TIMEOUT_MS, 3, 4, false},
	{441 /* epoll_pwait2 */, TIMEOUT_RELATIVE, 3, 4, false},
	{SYS_nanosleep, TIMEOUT_SLEEP, 0, NO_MASK, false},
	{SYS_clock_nanosleep, TIMEOUT_SLEEP, 2, NO_MASK, false},
	{SYS_pause, TIMEOUT_NONE, 0, NO_MASK, false},
	{SYS_rt_sigsuspend, TIMEOUT_NONE, 0, 0, false},
	{SYS_rt_sigtimedwait, TIMEOUT_RELATIVE, 2, 0, false},
	{SYS_futex, TIMEOUT_RELATIVE, 3, NO_MASK, true},
	{449 /* futex_waitv */, TIMEOUT_NONE, 0, NO_MASK, true},
	{SYS_semop, TIMEOUT_NONE, 0, NO_MASK, false},
	{SYS_semtimedop, TIMEOUT_RELATIVE, 3, NO_MASK, false},
	{SYS_msgsnd, TIMEOUT_NONE, 0, NO_MASK, false},
	{SYS_msgrcv, TIMEOUT_NONE, 0, NO_MASK, false},
	{SYS_io_getevents, TIMEOUT_RELATIVE, 4, NO_MASK, false},
	{SYS_io_pgetevents, TIMEOUT_RELATIVE, 4, NO_MASK, false},
	{SYS_read, TIMEOUT_RECEIVING, 0, NO_MASK, true},
	{SYS_readv, TIMEOUT_RECEIVING, 0, NO_MASK, true},
	{SYS_recvfrom, TIMEOUT_RECEIVING, 0, NO_MASK, true},
	{SYS_recvmsg, TIMEOUT_RECEIVING, 0, NO_MASK, true},
	{SYS_recvmmsg, TIMEOUT_RECEIVING, 0, NO_MASK, true},
	{SYS_accept, TIMEOUT_RECEIVING, 0, NO_MASK, true},
	{SYS_accept4, TIMEOUT_RECEIVING, 0, NO_MASK, true},
	{SYS_write, TIMEOUT_SENDING, 0, NO_MASK, true},
	{SYS_writev, TIMEOUT_SENDING, 0, NO_MASK, true},
	{SYS_sendto, TIMEOUT_SENDING, 0, NO_MASK, true},
	{SYS_sendmsg, TIMEOUT_SENDING, 0, NO_MASK, true},
	{SYS_sendmmsg, TIMEOUT_SENDING, 0, NO_MASK, true},
	{SYS_connect, TIMEOUT_SENDING, 0, NO_MASK, true},
	{SYS_wait4, TIMEOUT_NONE, 0, NO_MASK, true},
	{SYS_waitid, TIMEOUT_NONE, 0, NO_MASK, true},
	{SYS_flock, TIMEOUT_NONE, 0, NO_MASK, true},
	{SYS_fcntl, TIMEOUT_NONE, 0, NO_MASK, true},
	{SYS_open, TIMEOUT_NONE, 0, NO_MASK, true},
	{SYS_openat, TIMEOUT_NONE, 0, NO_MASK, true},
	{SYS_mq_timedsend, TIMEOUT_NONE, 0, NO_MASK, true},
	{SYS_mq_timedreceive, TIMEOUT_NONE, 0, NO_MASK, true},
};

static const struct call_kind *find_kind(int64_t number)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (kinds[i].number == number)
			return &kinds[i];
	return NULL;
}

/* ---- What is known from stop to stop */

struct waiting { /* a thread in a call that was made again */
	int32_t tid;
	int64_t number;
	uint64_t arguments[6]; /* as they are now */
	uint64_t stack, program;
	uint64_t deadline_ns; /* of its timeout; 0: it has none */
	bool current;	      /* of this stop */
};

struct interrupted {
	struct waiting *list;
	size_t count, room;
};

/* One stop. */
struct stop {
	struct process *process;
	struct interrupted *known;
	uint64_t now_ns;
	uint64_t caught, caught_restart; /* signals; those with SA_RESTART */
	bool caught_known;
	uint64_t signals[CONTROL_THREADS]; /* for struct stub_restart, by mailbox */
	bool slot_taken[CONTROL_THREADS];
	unsigned mailboxes;
};

struct frame { /* of one parked thread */
	struct thread *thread;
	ucontext_t context; /* as far as its mask */
	greg_t *registers;
	uint64_t arguments[6];
	const struct call_kind *kind;
	struct waiting
		*waiting; /* it was in this call when it went on last; NULL: not, or nobody knows */
	bool changed;
};

#define CONTEXT_BYTES (offsetof(ucontext_t, uc_sigmask) + 8)
static const int argument_registers[6] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};

static void set_argument(struct frame *frame, unsigned index, uint64_t value)
{
	frame->arguments[index] = value;
	frame->registers[argument_registers[index]] = (greg_t)value;
	frame->changed = true;
}

static uint64_t scratch_address(const struct process *process)
{
	return process->stub + offsetof(struct stub_memory, scratch);
}

/* The piece of the scratch whose timeout lies at that address; -1: none. */
static int slot_of(const struct process *process, uint64_t address)
{
	uint64_t offset = address - scratch_address(process);

	if (offset >= sizeof(struct stub_restart) * CONTROL_THREADS ||
	    offset % sizeof(struct stub_restart))
		return -1;
	return (int)(offset / sizeof(struct stub_restart));
}

/* Is that the call which this thread was let go into? */
static bool is_same(const struct waiting *waiting, const struct frame *frame, int64_t number,
		    uint64_t program)
{
	return waiting->tid == frame->thread->tid && waiting->number == number &&
	       waiting->program == program &&
	       waiting->stack == (uint64_t)frame->registers[REG_RSP] &&
	       !memcmp(waiting->arguments, frame->arguments, sizeof(waiting->arguments));
}

static struct waiting *find_waiting(const struct stop *stop, const struct frame *frame,
				    int64_t number, uint64_t program)
{
	for (size_t i = 0; i < stop->known->count; i++)
		if (is_same(&stop->known->list[i], frame, number, program))
			return &stop->known->list[i];
	return NULL;
}

/* It is made again, or for the first time since this is known: remember it as it is now. */
static void remember(struct stop *stop, struct frame *frame, uint64_t program, uint64_t deadline_ns)
{
	struct waiting *waiting = frame->waiting;

	if (!waiting) {
		struct interrupted *known = stop->known;

		/* A piece that is not of this stop is of a call that is over. */
		for (size_t i = 0; i < known->count && !waiting; i++)
			if (known->list[i].tid == frame->thread->tid)
				waiting = &known->list[i];
		if (!waiting) {
			waiting = array_grow(known->list, known->count, &known->room,
					     sizeof(*waiting));
			if (!waiting)
				return; /* its timeout begins anew, then */
			known->list = waiting;
			waiting += known->count++;
		}
	}
	*waiting = (struct waiting){
		.tid = frame->thread->tid,
		.number = frame->kind->number,
		.stack = (uint64_t)frame->registers[REG_RSP],
		.program = program,
		.deadline_ns = deadline_ns,
		.current = true,
	};
	memcpy(waiting->arguments, frame->arguments, sizeof(waiting->arguments));
	frame->waiting = waiting;
}

/* Calls that are over. */
static void forget_old(struct interrupted *known)
{
	size_t kept = 0;

	for (size_t i = 0; i < known->count; i++) {
		if (!known->list[i].current)
			continue;
		known->list[kept] = known->list[i];
		known->list[kept++].current = false;
	}
	known->count = kept;
}

/* ---- Timeouts */

/* What is left of `full_ns`, and when it will have run out. */
static uint64_t left_ns(const struct stop *stop, const struct frame *frame, uint64_t full_ns,
			uint64_t *deadline_ns)
{
	const struct waiting *waiting = frame->waiting;

	*deadline_ns = waiting && waiting->deadline_ns ? waiting->deadline_ns
						       : stop->now_ns + full_ns;
	return *deadline_ns > stop->now_ns ? *deadline_ns - stop->now_ns : 0;
}

/*
 * That of poll(2). The first time it has been running since nobody knows when, and begins anew; a millisecond more
 * tells it from a new call with the same arguments from then on.
 */
static uint64_t cut_milliseconds(const struct stop *stop, struct frame *frame)
{
	unsigned index = (unsigned)frame->kind->argument;
	int timeout = (int)frame->arguments[index];
	uint64_t deadline_ns, left;

	if (timeout <= 0 || timeout == INT_MAX)
		return 0;
	left = left_ns(stop, frame, (uint64_t)timeout * (uint64_t)MILLISECOND_NS, &deadline_ns);
	left = (left + MILLISECOND_NS - 1) / MILLISECOND_NS;
	set_argument(frame, index, frame->waiting ? left : (uint64_t)timeout + 1);
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

/* ---- Signals of the program's that come meanwhile */

static uint64_t read_caught(const struct process *process)
{
	char path[64], text[4096], *at;
	FILE *file;
	size_t bytes;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)process->remote.pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	bytes = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[bytes] = 0;
	at = strstr(text, "SigCgt:");
	return at ? strtoull(at + 7, NULL, 16) & ~(1ull << (CONTROL_SIGNAL - 1)) : 0;
}

/* Which signals have a handler, and which of those let calls go on. */
static void learn_caught(struct stop *stop)
{
	struct remote *remote = &stop->process->remote;
	unsigned mailbox = stop->process->threads[0].mailbox;
	struct kernel_action *actions;
	void *here;
	uint64_t room;

	if (stop->caught_known)
		return;
	stop->caught_known = true;
	stop->caught = read_caught(stop->process);
	room = stop->caught ? remote_room(remote, 65 * sizeof(*actions), &here) : 0;
	if (!room)
		return;
	actions = here;
	for (unsigned signal = 1; signal <= 64; signal++)
		if (stop->caught >> (signal - 1) & 1) {
			actions[signal].flags = 0;
			remote_add(remote, mailbox, SYS_rt_sigaction, signal, 0,
				   room + signal * sizeof(*actions), 8, 0, 0);
		}
	if (remote_run(remote, mailbox))
		return;
	for (unsigned signal = 1; signal <= 64; signal++)
		if (stop->caught >> (signal - 1) & 1 && actions[signal].flags & SA_RESTART_FLAG)
			stop->caught_restart |= 1ull << (signal - 1);
}

/* Those that such a call lets nobody see, or waits for instead of being interrupted by them. */
static uint64_t read_call_mask(const struct stop *stop, const struct frame *frame)
{
	struct remote *remote = &stop->process->remote;
	uint64_t address, mask;

	if (frame->kind->number == SYS_pselect6) {
		if (!frame->arguments[5] ||
		    remote_read(remote, frame->arguments[5], &address, sizeof(address)))
			return 0;
	} else if (frame->kind->mask == NO_MASK) {
		return 0;
	} else {
		address = frame->arguments[frame->kind->mask];
	}
	return address && !remote_read(remote, address, &mask, sizeof(mask)) ? mask : 0;
}

/* If one of these is pending when the thread goes on, it would have interrupted the call. */
static void watch_signals(struct stop *stop, const struct frame *frame, bool restarted)
{
	uint64_t mask, signals;

	learn_caught(stop);
	memcpy(&mask, &frame->context.uc_sigmask, sizeof(mask));
	signals = stop->caught & ~mask;
	if (restarted)
		signals &= ~stop->caught_restart;
	if (signals)
		signals &= ~read_call_mask(stop, frame);
	stop->signals[frame->thread->mailbox] = signals;
}

/* ---- One thread */

static bool read_frame(const struct stop *stop, struct thread *thread, struct frame *frame)
{
	*frame = (struct frame){.thread = thread};
	frame->registers = frame->context.uc_mcontext.gregs;
	if (!thread->context || thread->mailbox >= CONTROL_THREADS ||
	    remote_read(&stop->process->remote, thread->context, &frame->context, CONTEXT_BYTES))
		return false;
	for (unsigned i = 0; i < 6; i++)
		frame->arguments[i] = (uint64_t)frame->registers[argument_registers[i]];
	return true;
}

static bool write_frame(const struct stop *stop, const struct frame *frame)
{
	return !remote_write(&stop->process->remote,
			     frame->thread->context + offsetof(ucontext_t, uc_mcontext.gregs),
			     frame->registers, sizeof(frame->context.uc_mcontext.gregs));
}

/* The number that is loaded just before the instruction: mov $number, %eax or %rax; syscall. -1: it is not. */
static int64_t number_in_text(const struct stop *stop, uint64_t program)
{
	uint8_t text[9];
	int32_t number;

	if (remote_read(&stop->process->remote, program - sizeof(text), text, sizeof(text)))
		return -1;
	memcpy(&number, text + 3, sizeof(number));
	if (text[2] == 0xb8 || (text[0] == 0x48 && text[1] == 0xc7 && text[2] == 0xc0))
		return number;
	return -1;
}

static bool is_syscall(const struct stop *stop, uint64_t address)
{
	uint8_t text[SYSCALL_BYTES];

	return !remote_read(&stop->process->remote, address, text, sizeof(text)) &&
	       text[0] == 0x0f && text[1] == 0x05;
}

/* The call that is just before `program`. Without a sample that fits: one that is known, or what the text says. */
static int64_t find_number(const struct stop *stop, const struct frame *frame, uint64_t program)
{
	const struct thread *thread = frame->thread;

	if (thread->call >= 0 && thread->call != SYS_restart_syscall &&
	    thread->call_program == program &&
	    thread->call_stack == (uint64_t)frame->registers[REG_RSP] &&
	    !memcmp(thread->call_arguments, frame->arguments, sizeof(frame->arguments)))
		return thread->call;
	for (size_t i = 0; i < stop->known->count; i++)
		if (is_same(&stop->known->list[i], frame, stop->known->list[i].number, program))
			return stop->known->list[i].number;
	return number_in_text(stop, program);
}

static bool is_ours(const struct frame *frame)
{
	uint64_t operation = frame->arguments[1] & FUTEX_OPERATION;

	return frame->kind->number != SYS_futex || operation == FUTEX_WAIT ||
	       operation == FUTEX_WAIT_BITSET;
}

/* False: the frame stays as it is. `over`: what the call returns after all; 0: it is made again. */
static bool cut_timeout(struct stop *stop, struct frame *frame, uint64_t *deadline_ns, int *over)
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

/* The stop has interrupted a call, perhaps. */
static int make_again(struct stop *stop, struct frame *frame)
{
	uint64_t program = (uint64_t)frame->registers[REG_RIP], deadline_ns;
	int64_t number;
	int over = 0;

	if (!is_syscall(stop, program - SYSCALL_BYTES))
		return 0;
	number = find_number(stop, frame, program);
	frame->kind = find_kind(number);
	if (!frame->kind || !is_ours(frame))
		return 0;
	frame->waiting = find_waiting(stop, frame, number, program);
	if (!cut_timeout(stop, frame, &deadline_ns, &over))
		return 0;
	if (over) {
		frame->registers[REG_RAX] = over;
	} else {
		frame->registers[REG_RAX] = number;
		frame->registers[REG_RIP] = (greg_t)(program - SYSCALL_BYTES);
		remember(stop, frame, program, deadline_ns);
		watch_signals(stop, frame, false);
	}
	return write_frame(stop, frame) ? 0 : -EFAULT;
}

/* The kernel makes it again; or it was to be made again after the stop before, and has not come to that yet. */
static void is_made_again(struct stop *stop, struct frame *frame)
{
	uint64_t program = (uint64_t)frame->registers[REG_RIP] + SYSCALL_BYTES;

	frame->kind = find_kind(frame->registers[REG_RAX]);
	if (!frame->kind || !is_ours(frame) || !is_syscall(stop, program - SYSCALL_BYTES))
		return;
	frame->waiting = find_waiting(stop, frame, frame->kind->number, program);
	if (frame->waiting)
		frame->waiting->current = true;
	watch_signals(stop, frame, frame->kind->restartable && !frame->waiting);
}

/* ---- All threads */

/* Read all frames; pieces of the scratch that calls which are still to be made have their timeouts in. */
static void read_frames(struct stop *stop, struct frame *frames)
{
	for (unsigned i = 0; i < stop->process->thread_count; i++) {
		struct thread *thread = &stop->process->threads[i];

		if (!read_frame(stop, thread, &frames[i])) {
			frames[i].thread = NULL;
			continue;
		}
		if (thread->mailbox >= stop->mailboxes)
			stop->mailboxes = thread->mailbox + 1;
		for (unsigned k = 0; k < 6; k++) {
			int slot = slot_of(stop->process, frames[i].arguments[k]);

			if (slot >= 0)
				stop->slot_taken[slot] = true;
		}
	}
}

/* Written only if that changes something: most stops interrupt nothing that signals could. */
static int tell_stub(const struct stop *stop)
{
	size_t bytes = stop->mailboxes * sizeof(struct stub_restart);
	uint64_t address = scratch_address(stop->process);
	struct stub_restart *scratch = malloc(bytes + 1);
	bool same = true;
	int code = scratch ? remote_read(&stop->process->remote, address, scratch, bytes) : -ENOMEM;

	for (unsigned i = 0; i < stop->mailboxes && !code; i++) {
		same = same && scratch[i].signals == stop->signals[i];
		scratch[i].signals = stop->signals[i];
	}
	if (!code && !same)
		code = remote_write(&stop->process->remote, address, scratch, bytes);
	free(scratch);
	return code;
}

static int restart_all(struct stop *stop, struct frame *frames)
{
	int code = 0;

	read_frames(stop, frames);
	for (unsigned i = 0; i < stop->process->thread_count && !code; i++) {
		if (!frames[i].thread)
			continue;
		if (frames[i].registers[REG_RAX] == -EINTR)
			code = make_again(stop, &frames[i]);
		else
			is_made_again(stop, &frames[i]);
	}
	forget_old(stop->known);
	return code || !stop->mailboxes ? code : tell_stub(stop);
}

int interrupted_restart(struct process *process, struct thaw_error *error)
{
	struct stop *stop = calloc(1, sizeof(*stop));
	struct frame *frames = calloc(process->thread_count + 1, sizeof(*frames));
	int code = -ENOMEM;

	if (!process->interrupted)
		process->interrupted = calloc(1, sizeof(*process->interrupted));
	if (stop && frames && process->interrupted) {
		stop->process = process;
		stop->known = process->interrupted;
		stop->now_ns = clock_monotonic_ns();
		code = restart_all(stop, frames);
	}
	free(stop);
	free(frames);
	if (code)
		return failure(error, code,
			       "system calls that were interrupted cannot be made again: %s",
			       thaw_strerror(code));
	return 0;
}

void interrupted_forget(struct process *process)
{
	if (process->interrupted)
		free(process->interrupted->list);
	free(process->interrupted);
	process->interrupted = NULL;
}

#else /* no such guests yet */

int interrupted_restart(struct process *process, struct thaw_error *error)
{
	(void)process, (void)error;
	return 0;
}

void interrupted_forget(struct process *process)
{
	(void)process;
}

#endif
