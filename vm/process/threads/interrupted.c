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
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/failure.h"
#include "process/threads/interrupted.h"

#if defined(__x86_64__)

#define SA_RESTART_FLAG 0x10000000ull

/* ---- The calls */

static const struct call_kind kinds[] = {
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

const struct call_kind *interrupted_kind(int64_t number)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (kinds[i].number == number)
			return &kinds[i];
	return NULL;
}

/* ---- What is known from stop to stop */

#define CONTEXT_BYTES (offsetof(ucontext_t, uc_sigmask) + 8)
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

/* ---- Signals of the program's that come meanwhile */

static uint64_t read_caught(struct process *process)
{
	int code;
	const char *text = proc_files_known(&process->files, PROC_STATUS, NULL, &code);
	const char *at = text ? strstr(text, "SigCgt:") : NULL;

	return at ? strtoull(at + 7, NULL, 16) & ~(1ull << (CONTROL_SIGNAL - 1)) : 0;
}

static void take_restarting(struct stop *stop, const struct kernel_action *actions)
{
	for (unsigned signal = 1; signal <= 64; signal++)
		if (stop->caught >> (signal - 1) & 1 && actions[signal].flags & SA_RESTART_FLAG)
			stop->caught_restart |= 1ull << (signal - 1);
}

/* Which signals have a handler, and which of those let calls go on. */
static void learn_caught(struct stop *stop)
{
	struct remote *remote = &stop->process->remote;
	unsigned mailbox = stop->process->threads[0].mailbox;
	const struct kernel_action *known;
	struct kernel_action *actions;
	void *here;
	uint64_t room;

	if (stop->caught_known)
		return;
	stop->caught_known = true;
	stop->caught = read_caught(stop->process);
	known = stop->caught ? kernel_facts_actions(stop->process) : NULL;
	if (known) {
		take_restarting(stop, known);
		return;
	}
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
	if (!remote_run(remote, mailbox))
		take_restarting(stop, actions);
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
	stop->contexts[frame->thread->mailbox] = frame->thread->context;
}

/* ---- One thread */

static bool write_frame(const struct stop *stop, const struct frame *frame)
{
	return !remote_write(&stop->process->remote,
			     frame->thread->context + offsetof(ucontext_t, uc_mcontext.gregs),
			     frame->registers, sizeof(frame->context.uc_mcontext.gregs));
}

/* The number that is loaded just before the instruction: mov $number, %eax or %rax; syscall. -1: it is not. */
static int64_t number_in_text(const struct stop *stop, const struct frame *frame)
{
	uint64_t from = (uint64_t)frame->registers[REG_RIP] - TEXT_BEFORE;
	uint8_t text[TEXT_BEFORE];
	int32_t number;

	if (!frame->text_code)
		memcpy(text, frame->text, sizeof(text));
	else if (remote_read(&stop->process->remote, from, text, sizeof(text)))
		return -1;
	memcpy(&number, text + 3, sizeof(number));
	if (text[2] == 0xb8 || (text[0] == 0x48 && text[1] == 0xc7 && text[2] == 0xc0))
		return number;
	return -1;
}

/* Where it is, or just before. What is read around it may reach into memory that is not there. */
static bool is_syscall(const struct stop *stop, const struct frame *frame, uint64_t address)
{
	uint64_t from = (uint64_t)frame->registers[REG_RIP] - TEXT_BEFORE;
	uint8_t text[SYSCALL_BYTES];

	if (!frame->text_code)
		memcpy(text, frame->text + (address - from), sizeof(text));
	else if (remote_read(&stop->process->remote, address, text, sizeof(text)))
		return false;
	return text[0] == 0x0f && text[1] == 0x05;
}

static struct site site_of(const struct frame *frame, uint64_t program)
{
	struct site site = {.tid = frame->thread->tid,
			    .stack = (uint64_t)frame->registers[REG_RSP],
			    .program = program};

	memcpy(site.arguments, frame->arguments, sizeof(site.arguments));
	return site;
}

static struct site *find_site(struct interrupted *known, const struct site *like)
{
	for (unsigned i = 0; i < SITES; i++)
		if (known->sites[i].tid == like->tid && known->sites[i].stack == like->stack &&
		    known->sites[i].program == like->program &&
		    !memcmp(known->sites[i].arguments, like->arguments, sizeof(like->arguments)))
			return &known->sites[i];
	return NULL;
}

static void remember_site(struct interrupted *known, const struct frame *frame, uint64_t program,
			  int64_t number)
{
	struct site like = site_of(frame, program), *site = find_site(known, &like);

	if (!site)
		site = &known->sites[known->next_site++ % SITES];
	*site = like;
	site->number = (int32_t)number;
}

/*
 * The call that is just before `program`. A thread that ran when it was looked at, and was interrupted in a call all the
 * same, has no sample that fits: then it is what the text says, or what this thread was in here before.
 */
static int64_t find_number(const struct stop *stop, const struct frame *frame, uint64_t program)
{
	const struct thread *thread = frame->thread;
	const struct site like = site_of(frame, program), *site;
	int64_t number;

	if (thread->call >= 0 && thread->call != SYS_restart_syscall &&
	    thread->call_program == program &&
	    thread->call_stack == (uint64_t)frame->registers[REG_RSP] &&
	    !memcmp(thread->call_arguments, frame->arguments, sizeof(frame->arguments))) {
		remember_site(stop->known, frame, program, thread->call);
		return thread->call;
	}
	for (size_t i = 0; i < stop->known->count; i++)
		if (is_same(&stop->known->list[i], frame, stop->known->list[i].number, program))
			return stop->known->list[i].number;
	number = number_in_text(stop, frame);
	if (number >= 0)
		return number;
	site = find_site(stop->known, &like);
	return site ? site->number : -1;
}

static bool is_ours(const struct frame *frame)
{
	uint64_t operation = frame->arguments[1] & FUTEX_OPERATION;

	return frame->kind->number != SYS_futex || operation == FUTEX_WAIT ||
	       operation == FUTEX_WAIT_BITSET;
}

/* The stop has interrupted a call, perhaps. */
static int make_again(struct stop *stop, struct frame *frame)
{
	uint64_t program = (uint64_t)frame->registers[REG_RIP], deadline_ns;
	int64_t number;
	int over = 0;

	if (!is_syscall(stop, frame, program - SYSCALL_BYTES))
		return 0;
	number = find_number(stop, frame, program);
	frame->kind = interrupted_kind(number);
	if (!frame->kind || !is_ours(frame))
		return 0;
	frame->waiting = find_waiting(stop, frame, number, program);
	if (!interrupted_cut_timeout(stop, frame, &deadline_ns, &over))
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

	frame->kind = interrupted_kind(frame->registers[REG_RAX]);
	if (!frame->kind || !is_ours(frame) || !is_syscall(stop, frame, program - SYSCALL_BYTES))
		return;
	frame->waiting = find_waiting(stop, frame, frame->kind->number, program);
	if (frame->waiting)
		frame->waiting->current = true;
	watch_signals(stop, frame, frame->kind->restartable && !frame->waiting);
}

/* ---- All threads */

static void read_texts(struct stop *stop, struct frame *frames, struct remote_piece *pieces)
{
	unsigned count = stop->process->thread_count, read = 0;

	for (unsigned i = 0; i < count; i++)
		if (frames[i].thread)
			pieces[read++] = (struct remote_piece){
				.address = (uint64_t)frames[i].registers[REG_RIP] - TEXT_BEFORE,
				.to = frames[i].text,
				.bytes = sizeof(frames[i].text)};
	remote_read_pieces(&stop->process->remote, pieces, read);
	while (count--)
		if (frames[count].thread)
			frames[count].text_code = pieces[--read].code;
}

/* Read all frames; pieces of the scratch that calls which are still to be made have their timeouts in. */
static int read_frames(struct stop *stop, struct frame *frames)
{
	unsigned count = stop->process->thread_count;
	struct remote_piece *pieces = calloc(count + 1, sizeof(*pieces));

	if (!pieces)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		frames[i] = (struct frame){.thread = &stop->process->threads[i]};
		frames[i].registers = frames[i].context.uc_mcontext.gregs;
		pieces[i] = (struct remote_piece){.address = frames[i].thread->context,
						  .to = &frames[i].context,
						  .bytes = CONTEXT_BYTES};
	}
	remote_read_pieces(&stop->process->remote, pieces, count);
	for (unsigned i = 0; i < count; i++) {
		const struct thread *thread = frames[i].thread;

		if (!thread->context || thread->mailbox >= CONTROL_THREADS || pieces[i].code) {
			frames[i].thread = NULL;
			continue;
		}
		if (thread->mailbox >= stop->mailboxes)
			stop->mailboxes = thread->mailbox + 1;
		for (unsigned k = 0; k < 6; k++) {
			uint64_t argument = (uint64_t)frames[i].registers[interrupted_registers[k]];
			int slot = slot_of(stop->process, argument);

			frames[i].arguments[k] = argument;
			if (slot >= 0)
				stop->slot_taken[slot] = true;
		}
	}
	read_texts(stop, frames, pieces);
	free(pieces);
	return 0;
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
		same = same && scratch[i].signals == stop->signals[i] &&
		       (!stop->signals[i] || scratch[i].context == stop->contexts[i]);
		scratch[i].signals = stop->signals[i];
		scratch[i].context = stop->contexts[i];
	}
	if (!code && !same)
		code = remote_write(&stop->process->remote, address, scratch, bytes);
	free(scratch);
	return code;
}

static int restart_all(struct stop *stop, struct frame *frames)
{
	int code = read_frames(stop, frames);

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

void interrupted_sample(const struct process *process, struct thread *thread)
{
	(void)process, (void)thread;
}

#endif
