// SPDX-License-Identifier: MIT
/*
 * threads_restore.c - a guest's threads are made in the restorer, and get what the kernel knew of each. Called on the
 * owner's thread, when the memory is there: the kernel looks at thread pointers, robust lists and areas of
 * restartable sequences. Each thread makes one batch of its own, all at the same time; they stay parked.
 *
 * Registers come last, by the frame that each thread has on its stack (threads_resume).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/failure.h"
#include "process/remote/batch.h"
#include "process/threads/pending.h"
#include "process/process.h"
#include "process/x86_64.h"

/* Stacks that the restorer's threads wait on: below here, in what no image has. */
#define STACKS 0x630000000000ull
#define STACK_BYTES 16384ull
/* What glibc registers its areas with on x86-64: an undefined instruction before each abort handler. */
#define RSEQ_SIGNATURE 0x53053053u
#define CLONE_FLAGS                                                                         \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
	 CLONE_SETTLS | CLONE_CHILD_CLEARTID)

struct attributes { /* sched_setattr(2) */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/* A copy of what was recorded, which is this process's from now on. */
static int copy_threads(struct process *process, const struct process_state *state)
{
	struct thread *threads = calloc(state->thread_count, sizeof(*threads));

	if (!threads)
		return -ENOMEM;
	for (unsigned i = 0; i < state->thread_count; i++) {
		threads[i] = state->threads[i];
		threads[i].mailbox = i;
		threads[i].call = -1;
		threads[i].pending = NULL;
		threads[i].pending_count = 0;
	}
	threads[0].tid = process->remote.control->mailboxes[0].tid;
	threads_free(process->threads, process->thread_count);
	process->threads = threads;
	process->thread_count = process->thread_room = state->thread_count;
	return 0;
}

static int make_threads(struct process *process, struct thaw_error *error)
{
	struct remote *remote = &process->remote;
	unsigned count = process->thread_count;
	struct call *calls[CONTROL_CALLS];
	int64_t rc;

	if (count == 1)
		return 0;
	rc = remote_call(remote, 0, SYS_mmap, STACKS, count * STACK_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
			 (uint64_t)-1, 0);
	for (unsigned i = 1, batch; i < count && rc >= 0; i += batch) {
		for (batch = 0; batch < CONTROL_CALLS && i + batch < count; batch++) {
			struct thread *thread = &process->threads[i + batch];

			calls[batch] = remote_add(remote, 0, CALL_CLONE, CLONE_FLAGS,
						  STACKS + (i + batch + 1) * STACK_BYTES,
						  thread->tid_address, thread->thread_pointer,
						  (uint64_t)thread->remembered, i + batch);
		}
		rc = remote_run(remote, 0);
		for (unsigned j = 0; j < batch && rc >= 0; j++) {
			rc = calls[j]->result;
			process->threads[i + j].tid = (int32_t)rc;
		}
		for (unsigned j = 0; j < batch && rc >= 0; j++)
			rc = remote_wait(remote, i + j);
	}
	if (rc >= 0)
		return 0;
	return failure(error, (int)rc,
		       "making %u threads in the guest: %s; is the number of processes limited "
		       "(ulimit -u, cgroups)?",
		       count, thaw_strerror((int)rc));
}

/* ---- What the kernel knows of each */

static void restore_scheduling(struct batch *batch, const struct thread *thread)
{
	struct attributes attributes = {
		.size = sizeof(attributes),
		.policy = thread->policy,
		.flags = thread->flags & 0x7, /* those that came with this size */
		.nice = (int32_t)thread->nice,
		.priority = thread->priority,
		.runtime = thread->runtime,
		.deadline = thread->deadline,
		.period = thread->period,
	};

	batch_try(batch, SYS_sched_setattr, 0,
		  remote_copy(batch->remote, &attributes, sizeof(attributes)), 0, 0, 0);
	/* Processors that are not there any more do not count; if none is, it may run on all. */
	if (thread->affinity_bytes)
		batch_try(batch, SYS_sched_setaffinity, 0, thread->affinity_bytes,
			  remote_copy(batch->remote, thread->affinity, thread->affinity_bytes), 0,
			  0);
}

static void restore_one(struct batch *batch, const struct thread *thread,
			const struct stub_memory *stub, bool is_main)
{
	stack_t alternate = {
		.ss_sp = (void *)thread->alternate_stack,
		.ss_size = thread->alternate_bytes,
		/* It may have been running on it: the kernel finds that out when it does again. */
		.ss_flags = thread->alternate_flags & ~SS_ONSTACK,
	};

	if (is_main) {
		batch_add(batch, NULL, SYS_arch_prctl, ARCH_SET_FS, thread->thread_pointer, 0, 0, 0,
			  0);
		batch_add(batch, NULL, SYS_set_tid_address, thread->tid_address, 0, 0, 0, 0, 0);
	}
	if (thread->gs_base)
		batch_add(batch, NULL, SYS_arch_prctl, ARCH_SET_GS, thread->gs_base, 0, 0, 0, 0);
	if (thread->robust_bytes)
		batch_add(batch, NULL, SYS_set_robust_list, thread->robust_list,
			  thread->robust_bytes, 0, 0, 0, 0);
	batch_add(batch, NULL, SYS_sigaltstack,
		  remote_copy(batch->remote, &alternate, sizeof(alternate)), 0, 0, 0, 0, 0);
	batch_try(batch, SYS_prctl, PR_SET_NAME,
		  remote_copy(batch->remote, thread->name, sizeof(thread->name)), 0, 0, 0);
	/* A kernel without it (before 4.18), or a filter: glibc's area says that no processor is known, as it is. */
	if (stub->rseq_bytes)
		batch_try(batch, SYS_rseq, thread->thread_pointer + (uint64_t)stub->rseq_offset,
			  stub->rseq_bytes, 0, RSEQ_SIGNATURE, 0);
	restore_scheduling(batch, thread);
	if (thread->timer_slack_ns)
		batch_try(batch, SYS_prctl, PR_SET_TIMERSLACK, thread->timer_slack_ns, 0, 0, 0);
	if (thread->no_new_privileges)
		batch_try(batch, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	/* The main thread's is how the guest ends with its supervisor. */
	if (thread->parent_death_signal && !is_main)
		batch_try(batch, SYS_prctl, PR_SET_PDEATHSIG, thread->parent_death_signal, 0, 0, 0);
}

/* All at once; `calls` of each fit into one batch. */
static int restore_all(struct process *process, const struct stub_memory *stub)
{
	struct remote *remote = &process->remote;
	struct batch *batches = calloc(process->thread_count, sizeof(*batches));
	int rc = 0;

	if (!batches)
		return -ENOMEM;
	for (unsigned i = 0; i < process->thread_count; i++) {
		batch_begin(&batches[i], remote, i);
		restore_one(&batches[i], &process->threads[i], stub, i == 0);
		batch_post(&batches[i]);
	}
	for (unsigned i = 0; i < process->thread_count; i++) {
		int code = batch_finish(&batches[i]);

		rc = rc ? rc : code;
	}
	free(batches);
	remote_forget(remote);
	return rc;
}

static int queue_pending(struct process *process, const struct process_state *state)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < state->thread_count; i++)
		rc = pending_queue(process, i, process->threads[i].tid, false,
				   state->threads[i].pending, state->threads[i].pending_count);
	return rc;
}

int threads_restore(struct process *process, const struct process_state *state,
		    struct thaw_error *error)
{
	struct stub_memory stub = {0};
	int rc;

	/* The part before its tables. */
	rc = remote_read(&process->remote, state->stub, &stub, offsetof(struct stub_memory, tids));
	if (rc)
		return failure(error, rc, "reading the stub's memory at 0x%" PRIx64 ": %s",
			       state->stub, thaw_strerror(rc));
	if (stub.local) {
		const uint8_t active = 1;

		rc = remote_write(&process->remote, stub.local, &active, 1);
		if (rc)
			return failure(error, rc, "writing the stub's memory at 0x%" PRIx64 ": %s",
				       stub.local, thaw_strerror(rc));
	}
	rc = copy_threads(process, state);
	if (rc)
		return failure(error, rc, "no memory for %u threads", state->thread_count);
	rc = make_threads(process, error);
	if (rc)
		return rc;
	rc = restore_all(process, &stub);
	if (!rc)
		rc = queue_pending(process, state);
	if (rc)
		return failure(error, rc, "giving %u threads what they had: %s",
			       process->thread_count, thaw_strerror(rc));
	return kernel_facts_restore_late(process, &state->kernel, error);
}

void threads_fill_tids(const struct process *process, struct stub_memory *memory)
{
	memory->tid_count = 0;
	for (unsigned i = 0; i < process->thread_count && memory->tid_count < STUB_TIDS; i++)
		if (process->threads[i].tid != process->threads[i].remembered)
			memory->tids[memory->tid_count++] = (struct stub_tid){
				process->threads[i].remembered, process->threads[i].tid};
}

int threads_resume(struct process *process, struct thaw_error *error)
{
	struct remote *remote = &process->remote;
	int rc = 0;

	for (unsigned i = 0; i < process->thread_count; i++)
		if (!remote_add(remote, i, CALL_RESUME, process->threads[i].context, 0, 0, 0, 0, 0))
			rc = -ENOSPC;
	for (unsigned i = 0; !rc && i < process->thread_count; i++)
		rc = remote_post(remote, i);
	for (unsigned i = 0; !rc && i < process->thread_count; i++)
		rc = remote_wait(remote, i);
	process->stopped = false;
	return rc ? failure(error, rc, "letting %u threads of the guest go on: %s",
			    process->thread_count, thaw_strerror(rc))
		  : 0;
}
