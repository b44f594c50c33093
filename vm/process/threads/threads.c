// SPDX-License-Identifier: MIT
/*
 * threads.c - what the kernel knows of each thread of a guest, and its record. Called on the owner's thread while all
 * are parked: each makes one batch of calls, all at the same time. Registers need no call: they are in the frame of
 * the signal, which is memory of the guest.
 *
 * While they are parked they have blocked all signals, so one call tells whether anything is pending at all. What is
 * pending for one thread is taken with all that the kernel knows of it, and queued again in the same order.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "base/failure.h"
#include "process/memory/address_space.h"
#include "process/remote/batch.h"
#include "process/threads/pending.h"
#include "process/process.h"
#include "process/x86_64.h"

/* glibc keeps the tid of a thread so far behind its thread pointer (struct pthread on x86-64, since 2.4). */
#define GLIBC_TID_OFFSET 0x2d0
/* Of the state that the kernel saves in a frame: struct _fpx_sw_bytes, asm/sigcontext.h. */
#define SAVED_STATE_OFFSET 464
#define SAVED_STATE_MAGIC 0x46505853u

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

struct attributes { /* sched_getattr(2) */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

struct facts { /* what one thread's calls fill */
	uint64_t thread_pointer, gs_base, tid_address, robust_list, robust_bytes, pending;
	stack_t alternate;
	struct attributes attributes;
	uint8_t affinity[128];
	int32_t parent_death_signal;
	char name[16];
};

enum {
	CALL_FS,
	CALL_GS,
	CALL_TID,
	CALL_ROBUST,
	CALL_STACK,
	CALL_NAME,
	CALL_SCHEDULING,
	CALL_AFFINITY,
	CALL_DEATH,
	CALL_SLACK,
	CALL_PRIVILEGES,
	CALLS
};

/* Of one thread. Not where the guest could change them. */
struct asked {
	struct call *calls[CALLS];
	int64_t results[CALLS]; /* once they have settled */
	struct facts facts;
};

/* Of all, by their order; threads_ask(). */
struct thread_asked {
	unsigned count;
	int code;
	bool taken;	     /* by threads_capture(): it is asked anew */
	struct facts *facts; /* where the guest could change them */
	struct asked list[];
};

#define THERE(field) (there + offsetof(struct facts, field))

static int ask(struct process *process, const struct thread *thread, struct asked *asked,
	       uint64_t there)
{
	const struct {
		int64_t number;
		uint64_t arguments[4];
	} calls[] = {
		[CALL_FS] = {SYS_arch_prctl, {ARCH_GET_FS, THERE(thread_pointer)}},
		[CALL_GS] = {SYS_arch_prctl, {ARCH_GET_GS, THERE(gs_base)}},
		[CALL_TID] = {SYS_prctl, {PR_GET_TID_ADDRESS, THERE(tid_address)}},
		[CALL_ROBUST] = {SYS_get_robust_list, {0, THERE(robust_list), THERE(robust_bytes)}},
		[CALL_STACK] = {SYS_sigaltstack, {0, THERE(alternate)}},
		[CALL_NAME] = {SYS_prctl, {PR_GET_NAME, THERE(name)}},
		[CALL_SCHEDULING] = {SYS_sched_getattr,
				     {0, THERE(attributes), sizeof(struct attributes)}},
		[CALL_AFFINITY] = {SYS_sched_getaffinity,
				   {0, sizeof(((struct facts *)0)->affinity), THERE(affinity)}},
		[CALL_DEATH] = {SYS_prctl, {PR_GET_PDEATHSIG, THERE(parent_death_signal)}},
		[CALL_SLACK] = {SYS_prctl, {PR_GET_TIMERSLACK}},
		[CALL_PRIVILEGES] = {SYS_prctl, {PR_GET_NO_NEW_PRIVS}},
	};

	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		const uint64_t *is = calls[i].arguments;

		asked->calls[i] = remote_add(&process->remote, thread->mailbox, calls[i].number,
					     is[0], is[1], is[2], is[3], 0, 0);
		if (!asked->calls[i])
			return -ENOSPC;
		asked->calls[i]->flags = CALL_MAY_FAIL;
	}
	if (!remote_add(&process->remote, thread->mailbox, SYS_rt_sigpending, THERE(pending), 8, 0,
			0, 0, 0))
		return -ENOSPC;
	return 0;
}

struct affinity { /* of this process */
	int64_t bytes;
	uint8_t set[sizeof(((struct thread *)0)->affinity)];
};

/* A thread that runs wherever this process may is not bound to these processors. */
static void take_affinity(struct thread *thread, const struct facts *facts,
			  const struct asked *asked, const struct affinity *ours)
{
	int64_t bytes = asked->results[CALL_AFFINITY];

	thread->affinity_bytes = 0;
	if (bytes <= 0 || bytes > (int64_t)sizeof(thread->affinity))
		return;
	if (ours->bytes == bytes && !memcmp(ours->set, facts->affinity, (size_t)bytes))
		return;
	memcpy(thread->affinity, facts->affinity, (size_t)bytes);
	thread->affinity_bytes = (uint32_t)bytes;
}

static void take_answers(struct thread *thread, const struct facts *facts,
			 const struct asked *asked, const struct affinity *ours)
{
	int64_t slack = asked->results[CALL_SLACK];

	thread->thread_pointer = facts->thread_pointer;
	thread->gs_base = facts->gs_base;
	thread->tid_address = asked->results[CALL_TID] ? 0 : facts->tid_address;
	thread->robust_list = asked->results[CALL_ROBUST] ? 0 : facts->robust_list;
	thread->robust_bytes = facts->robust_bytes;
	thread->alternate_stack = (uintptr_t)facts->alternate.ss_sp;
	thread->alternate_bytes = facts->alternate.ss_size;
	thread->alternate_flags = facts->alternate.ss_flags;
	memcpy(thread->name, facts->name, sizeof(thread->name));
	thread->name[sizeof(thread->name) - 1] = '\0';
	thread->policy = facts->attributes.policy;
	thread->priority = facts->attributes.priority;
	thread->nice = (uint32_t)facts->attributes.nice;
	thread->flags = (uint32_t)facts->attributes.flags;
	thread->runtime = facts->attributes.runtime;
	thread->deadline = facts->attributes.deadline;
	thread->period = facts->attributes.period;
	take_affinity(thread, facts, asked, ours);
	thread->parent_death_signal =
		asked->results[CALL_DEATH] ? 0 : (uint32_t)facts->parent_death_signal;
	thread->timer_slack_ns = slack > 0 && slack <= UINT32_MAX ? (uint32_t)slack : 0;
	thread->no_new_privileges = asked->results[CALL_PRIVILEGES] == 1;
}

/*
 * Which tid does its pthread_t have? Where the kernel does not tell the address (no CONFIG_CHECKPOINT_RESTORE), it is
 * taken to be glibc's, if what is there can be a tid.
 */
static int take_remembered(struct thread *thread, bool told, int32_t tid, int rc)
{
	if (rc == -ESRCH)
		return rc;
	if (rc || tid <= 0 || tid > 1 << 22) {
		tid = thread->tid;
		if (!told)
			thread->tid_address = 0;
	}
	thread->remembered = tid;
	return 0;
}

struct in_memory { /* of one thread */
	bool told; /* the kernel knows where its tid is */
	int32_t tid;
	uint64_t state; /* address of what the kernel saved in its frame */
	struct {
		uint32_t magic, bytes;
		uint64_t features; /* the components of extended state that are there */
	} saved;
};

static struct remote_piece piece_of(uint64_t address, void *to, size_t bytes)
{
	return (struct remote_piece){.address = address, .to = to, .bytes = bytes};
}

/* Small things in the memory of all threads; `pieces` has room for two of each. */
static int take_memory(struct process *process, struct in_memory *list, struct remote_piece *pieces)
{
	unsigned count = process->thread_count, read = 0;
	int rc = 0;

	for (unsigned i = 0; i < count; i++) {
		struct thread *thread = &process->threads[i];

		list[i].told = thread->tid_address;
		if (!list[i].told && thread->thread_pointer)
			thread->tid_address = thread->thread_pointer + GLIBC_TID_OFFSET;
		if (thread->tid_address)
			pieces[read++] =
				piece_of(thread->tid_address, &list[i].tid, sizeof(list[i].tid));
		if (thread->context)
			pieces[read++] = piece_of(thread->context + CONTEXT_FPREGS, &list[i].state,
						  sizeof(list[i].state));
	}
	remote_read_pieces(&process->remote, pieces, read);
	for (unsigned i = 0, at = 0; i < count && !rc; i++) {
		struct thread *thread = &process->threads[i];
		int code = thread->tid_address ? pieces[at++].code : 0;

		rc = take_remembered(thread, list[i].told, list[i].tid, code);
		if (!rc && thread->context)
			rc = pieces[at].code;
		at += thread->context != 0;
	}
	if (rc)
		return rc;
	read = 0;
	for (unsigned i = 0; i < count; i++)
		if (list[i].state)
			pieces[read++] = piece_of(list[i].state + SAVED_STATE_OFFSET,
						  &list[i].saved, sizeof(list[i].saved));
	remote_read_pieces(&process->remote, pieces, read);
	while (read-- && !rc)
		rc = pieces[read].code;
	for (unsigned i = 0; i < count; i++)
		process->threads[i].xsave_features =
			list[i].saved.magic == SAVED_STATE_MAGIC ? list[i].saved.features : 0;
	return rc;
}

static int finish(struct process *process, const struct thread_asked *all)
{
	unsigned count = process->thread_count;
	struct in_memory *list = calloc(count + 1, sizeof(*list));
	struct remote_piece *pieces = calloc(2 * count + 1, sizeof(*pieces));
	struct affinity ours = {0};
	int rc = list && pieces ? 0 : -ENOMEM;

	ours.bytes = syscall(SYS_sched_getaffinity, 0, sizeof(ours.set), ours.set);
	for (unsigned i = 0; i < count && !rc; i++) {
		struct thread *thread = &process->threads[i];

		take_answers(thread, &all->list[i].facts, &all->list[i], &ours);
		free(thread->pending);
		thread->pending = NULL;
		thread->pending_count = 0;
	}
	if (!rc)
		rc = take_memory(process, list, pieces);
	for (unsigned i = 0; i < count && !rc; i++) {
		struct thread *thread = &process->threads[i];

		if (all->list[i].facts.pending & ~(1ull << (CONTROL_SIGNAL - 1)))
			rc = pending_take(process, thread->mailbox, thread->tid, false,
					  &thread->pending, &thread->pending_count);
	}
	free(list);
	free(pieces);
	return rc;
}

/* Of batches that were posted. */
static void take_results(void *arg)
{
	struct process *process = arg;
	struct thread_asked *all = process->thread_asked;

	for (unsigned i = 0; i < all->count; i++) {
		int waited = remote_wait(&process->remote, process->threads[i].mailbox);

		all->code = all->code ? all->code : waited;
	}
	for (unsigned i = 0; i < all->count; i++) {
		for (unsigned k = 0; k < CALLS; k++)
			all->list[i].results[k] = all->list[i].calls[k]->result;
		all->list[i].facts = all->facts[i];
	}
	kernel_facts_answered(process, all->code);
	unchanged_answered(process, all->code);
}

int threads_ask(struct process *process)
{
	struct remote *remote = &process->remote;
	unsigned count = process->thread_count, posted = 0;
	size_t bytes = count * sizeof(struct facts);
	struct thread_asked *all;
	uint64_t there;
	void *here;
	int rc;

	if (process->thread_asked)
		return 0;
	remote_settle(remote);
	all = calloc(1, sizeof(*all) + count * sizeof(*all->list));
	there = remote_room_apart(remote, bytes + kernel_facts_room() + unchanged_room(process),
				  &here);
	rc = !all ? -ENOMEM : there ? 0 : -ENOSPC;
	if (!rc) {
		all->facts = here;
		memset(all->facts, 0, bytes);
	}
	for (unsigned i = 0; !rc && i < count; i++)
		rc = ask(process, &process->threads[i], &all->list[i],
			 there + i * sizeof(struct facts));
	if (!rc)
		rc = kernel_facts_ask(process, there + bytes, (char *)here + bytes);
	bytes += kernel_facts_room();
	if (!rc)
		rc = unchanged_ask(process, process->threads[0].mailbox, there + bytes,
				   (char *)here + bytes);
	if (rc) {
		unchanged_forget_asked(process);
		free(all);
		for (; posted < count; posted++) /* nothing is left for the next batch */
			remote_run(remote, process->threads[posted].mailbox);
		return rc;
	}
	for (; posted < count; posted++)
		remote_post(remote, process->threads[posted].mailbox);
	all->count = count;
	process->thread_asked = all;
	remote->settle = take_results;
	remote->settle_arg = process;
	return 0;
}

void threads_forget_asked(struct process *process)
{
	process->remote.settle = NULL;
	unchanged_forget_asked(process);
	remote_room_apart(&process->remote, 0, NULL);
	free(process->thread_asked);
	process->thread_asked = NULL;
}

int threads_take_pending(struct process *process)
{
	int rc = 0;

	for (unsigned i = 0; i < process->thread_count && !rc; i++) {
		struct thread *thread = &process->threads[i];

		free(thread->pending);
		rc = pending_take(process, thread->mailbox, thread->tid, false, &thread->pending,
				  &thread->pending_count);
	}
	return rc;
}

int threads_capture(struct process *process, struct thaw_error *error)
{
	struct remote *remote = &process->remote;
	int rc;

	if (process->thread_asked && process->thread_asked->taken)
		threads_forget_asked(process);
	rc = threads_ask(process);
	if (!rc) {
		remote_settle(remote);
		process->thread_asked->taken = true;
		rc = process->thread_asked->code;
	}
	if (!rc)
		rc = finish(process, process->thread_asked);
	remote_forget(remote);
	return rc ? failure(error, rc, "asking for the state of %u threads of process %d: %s",
			    process->thread_count, (int)remote->pid, thaw_strerror(rc))
		  : 0;
}

/* ---- Record */

static void encode_one(const struct thread *thread, struct record_writer *writer)
{
	record_put(writer, (uint32_t)thread->tid);
	record_put(writer, (uint32_t)thread->remembered);
	record_put(writer, thread->context);
	record_put(writer, (uint64_t)(thread->call + 1));
	record_put(writer, thread->thread_pointer);
	record_put(writer, thread->gs_base);
	record_put(writer, thread->tid_address);
	record_put(writer, thread->robust_list);
	record_put(writer, thread->robust_bytes);
	record_put(writer, thread->alternate_stack);
	record_put(writer, thread->alternate_bytes);
	record_put(writer, (uint32_t)thread->alternate_flags);
	record_put_text(writer, thread->name);
	record_put(writer, thread->policy);
	record_put(writer, thread->priority);
	record_put(writer, thread->nice);
	record_put(writer, thread->flags);
	record_put(writer, thread->runtime);
	record_put(writer, thread->deadline);
	record_put(writer, thread->period);
	record_put_bytes(writer, thread->affinity, thread->affinity_bytes);
	record_put(writer, thread->parent_death_signal);
	record_put(writer, thread->no_new_privileges);
	record_put(writer, thread->timer_slack_ns);
	pending_encode(thread->pending, thread->pending_count, writer);
	record_put(writer, thread->xsave_features);
}

void threads_encode(const struct thread *threads, unsigned count, struct record_writer *writer)
{
	size_t section = record_section_begin(writer, RECORD_THREADS);

	record_put(writer, count);
	for (unsigned i = 0; i < count; i++)
		encode_one(&threads[i], writer);
	record_section_end(writer, section);
}

static bool decode_name(struct thread *thread, struct record_reader *reader)
{
	char *name = record_take_text(reader);
	bool good = name && strlen(name) < sizeof(thread->name);

	if (good)
		strcpy(thread->name, name);
	free(name);
	return good;
}

static bool decode_affinity(struct thread *thread, struct record_reader *reader)
{
	size_t bytes;
	const void *data = record_take_bytes(reader, &bytes);

	if (reader->failed || bytes > sizeof(thread->affinity))
		return false;
	if (bytes)
		memcpy(thread->affinity, data, bytes);
	thread->affinity_bytes = (uint32_t)bytes;
	return true;
}

static bool decode_one(struct thread *thread, struct record_reader *reader)
{
	thread->tid = (int32_t)record_take_up_to(reader, INT32_MAX);
	thread->remembered = (int32_t)record_take_up_to(reader, INT32_MAX);
	thread->context = record_take(reader);
	thread->call = (int64_t)record_take_up_to(reader, INT32_MAX) - 1;
	thread->thread_pointer = record_take(reader);
	thread->gs_base = record_take(reader);
	thread->tid_address = record_take(reader);
	thread->robust_list = record_take(reader);
	thread->robust_bytes = record_take(reader);
	thread->alternate_stack = record_take(reader);
	thread->alternate_bytes = record_take(reader);
	thread->alternate_flags = (int32_t)record_take_up_to(reader, UINT32_MAX);
	if (!decode_name(thread, reader))
		return false;
	thread->policy = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	thread->priority = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	thread->nice = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	thread->flags = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	thread->runtime = record_take(reader);
	thread->deadline = record_take(reader);
	thread->period = record_take(reader);
	if (!decode_affinity(thread, reader))
		return false;
	thread->parent_death_signal = (uint32_t)record_take_up_to(reader, 64);
	thread->no_new_privileges = (uint32_t)record_take_up_to(reader, 1);
	thread->timer_slack_ns = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	if (!pending_decode(&thread->pending, &thread->pending_count, reader))
		return false;
	thread->xsave_features = record_take(reader);
	return !reader->failed && thread->context && thread->tid;
}

bool threads_decode(struct thread **threads, unsigned *count, struct record_reader *reader)
{
	struct record_reader section;
	uint64_t wanted;

	*threads = NULL;
	*count = 0;
	if (!record_take_section(reader, RECORD_THREADS, &section))
		return false;
	wanted = record_take_count(&section, 25 * 8);
	if (section.failed || !wanted || wanted > CONTROL_THREADS)
		return false;
	*threads = calloc(wanted, sizeof(**threads));
	while (*threads && *count < wanted) {
		if (!decode_one(&(*threads)[(*count)++], &section)) {
			threads_free(*threads, *count);
			*threads = NULL;
			*count = 0;
			return false;
		}
	}
	return *threads;
}

void threads_free(struct thread *threads, unsigned count)
{
	for (unsigned i = 0; threads && i < count; i++)
		free(threads[i].pending);
	free(threads);
}
