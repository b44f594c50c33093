/* SPDX-License-Identifier: MIT */
/*
 * interrupted_restored.c - a restored program's signals that were pending in the image: they interrupt the calls that
 * would be made again (interrupted.c), which the stub sees to where a program was only stopped.
 *
 * The owner's thread; the restorer's threads are parked, and the memory is there, or comes.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "base/failure.h"
#include "process/threads/interrupted.h"

#if defined(__x86_64__)

static uint64_t pending_set(const siginfo_t *pending, unsigned count)
{
	uint64_t set = 0;

	for (unsigned i = 0; i < count; i++)
		if (pending[i].si_signo >= 1 && pending[i].si_signo <= 64)
			set |= 1ull << (pending[i].si_signo - 1);
	return set;
}

/* By the guest itself, for which pages come that are not there yet. */
static int copy(struct remote *remote, uint64_t to, uint64_t from, size_t bytes)
{
	int64_t result = remote_call(remote, 0, CALL_COPY, to, from, bytes, 0, 0, 0);

	return result < 0 ? (int)result : 0;
}

/* As the stub does it when a thread leaves. */
static int end_call(struct remote *remote, uint64_t context)
{
	const size_t bytes = sizeof(((ucontext_t *)NULL)->uc_mcontext.gregs);
	uint64_t address = context + offsetof(ucontext_t, uc_mcontext.gregs), room;
	greg_t *registers;
	void *here;
	int code;

	room = remote_room(remote, bytes, &here);
	if (!room)
		return -ENOSPC;
	code = copy(remote, room, address, bytes);
	if (code)
		return code;
	registers = here;
	registers[REG_RIP] += SYSCALL_BYTES;
	registers[REG_RAX] = -EINTR;
	return copy(remote, address, room, bytes);
}

/* Those pending when they go on: for all threads, and for each. */
static int end_calls(struct process *process, const struct process_state *state, uint64_t shared)
{
	struct remote *remote = &process->remote;
	const size_t bytes = sizeof(struct stub_restart) * CONTROL_THREADS;
	struct stub_restart *scratch;
	void *here;
	uint64_t room = remote_room(remote, bytes, &here);
	int code = room ? copy(remote, room, scratch_address(process), bytes) : -ENOSPC;

	scratch = here;
	for (unsigned i = 0; i < CONTROL_THREADS && !code; i++) {
		if (!scratch[i].signals)
			continue;
		for (unsigned k = 0; k < state->thread_count && !code; k++) {
			const struct thread *thread = &state->threads[k];
			uint64_t own = pending_set(thread->pending, thread->pending_count);

			if (thread->context == scratch[i].context &&
			    (shared | own) & scratch[i].signals)
				code = end_call(remote, thread->context);
		}
		scratch[i].signals = 0;
	}
	return code ? code : copy(remote, scratch_address(process), room, bytes);
}

int interrupted_restored(struct process *process, const struct process_state *state,
			 uint64_t signals, struct thaw_error *error)
{
	bool any = signals || state->kernel.pending_count;
	int code = 0;

	for (unsigned i = 0; i < state->thread_count; i++)
		any = any || state->threads[i].pending_count;
	if (any)
		code = end_calls(
			process, state,
			signals | pending_set(state->kernel.pending, state->kernel.pending_count));
	if (code)
		return failure(error, code,
			       "system calls that signals interrupt cannot be ended: %s",
			       thaw_strerror(code));
	return 0;
}

#else /* no such guests yet */

int interrupted_restored(struct process *process, const struct process_state *state,
			 uint64_t signals, struct thaw_error *error)
{
	(void)process, (void)state, (void)signals, (void)error;
	return 0;
}

#endif
