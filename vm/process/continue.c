/* SPDX-License-Identifier: MIT */
/*
 * continue.c - a process that goes on where a generation was captured: the restorer becomes it, part by part, while its
 * pages arrive behind.
 *
 * Called by guest.c. Owner's thread. Nothing of the program runs before guest_resume(); whatever fails, the process is
 * thrown away whole.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/guest_state.h"

/* What of the stub's memory is told at a restore: all before the scratch, which the parked threads' calls use. */
#define STUB_BYTES offsetof(struct stub_memory, scratch)

/* ---- Memory */

static int make_memory(struct process_guest *own, struct thaw_error *error)
{
	struct process_state *state = &own->state;
	struct thaw_range *ranges = NULL;
	size_t count = 0;
	int code = mappings_restore(&own->process, &state->mappings, &state->clocks, true, error);

	steps_done(&own->steps, "mappings");
	if (!code && mappings_ranges(&state->mappings, &ranges, &count))
		code = failure(error, -ENOMEM, "no memory for the list of the program's memory");
	if (!code)
		code = guest_attach(own, ranges, count, error);
	free(ranges);
	steps_done(&own->steps, "userfaultfd");
	if (!code)
		code = mappings_protect(&own->process, &state->mappings, error);
	if (!code)
		code = holds_begin(own, error);
	steps_done(&own->steps, "protection");
	return code;
}

/* ---- The stub's memory, by copies that the guest makes itself: pages that are not there yet come to it in any case */

static int copy_stub(struct process_guest *own, struct stub_memory *memory, bool back,
		     struct thaw_error *error)
{
	struct remote *remote = &own->process.remote;
	void *here;
	uint64_t room = remote_room(remote, STUB_BYTES, &here);
	int64_t code;

	if (!room)
		return failure(error, -ENOMEM, "no room for the stub's memory");
	if (back)
		memcpy(here, memory, STUB_BYTES);
	code = remote_call(remote, 0, CALL_COPY, back ? own->process.stub : room,
			   back ? room : own->process.stub, STUB_BYTES, 0, 0, 0);
	if (!back)
		memcpy(memory, here, STUB_BYTES);
	remote_forget(remote);
	return code < 0 ? failure(error, (int)code, "cannot reach the stub's memory at 0x%llx: %s",
				  (unsigned long long)own->process.stub, thaw_strerror((int)code))
			: 0;
}

/* Those of the process before are gone with it, as if they had been killed. */
static void note_children(const struct kernel_facts *kernel, struct stub_memory *memory)
{
	unsigned count = 0;

	for (unsigned i = 0; i < memory->child_count && i < STUB_CHILDREN; i++)
		if (!memory->children[i].waited)
			memory->children[count++] = memory->children[i];
	for (unsigned i = 0; i < kernel->child_count && count < STUB_CHILDREN; i++)
		memory->children[count++] = (struct stub_child){.pid = kernel->children[i]};
	memory->child_count = count;
}

static int update_stub(struct process_guest *own, struct thaw_error *error)
{
	struct stub_memory *memory = calloc(1, sizeof(*memory));
	int code;

	if (!memory)
		return failure(error, -ENOMEM, "out of memory");
	code = copy_stub(own, memory, false, error);
	if (!code) {
		memory->restored++;
		memory->generation = thaw_opened(own->heap)->number;
		memory->socket = own->process.remote.control->socket;
		guest_branch_text(&own->guest, memory->branch);
		memory->uffd = own->kept_userfaultfd;
		threads_fill_tids(&own->process, memory);
		note_children(&own->state.kernel, memory);
		code = copy_stub(own, memory, true, error);
	}
	free(memory);
	return code;
}

/* ---- */

static int make_process(struct process_guest *own, struct thaw_error *error)
{
	struct process_state *state = &own->state;
	struct process *process = &own->process;
	struct steps *steps = &own->steps;
	int code;

	steps_begin(steps);
	code = identity_check(state->identity, &state->mappings, error);
	steps_done(steps, "identity");
	clocks_advance(&state->clocks, thaw_opened(own->heap)->time_ns);
	if (!code)
		code = clocks_prepare(process, &state->clocks, error);
	if (!code)
		code = process_spawn_restorer(process, state->kernel.pid, error);
	if (code)
		return code;
	own->alive = true;
	process->stub = state->stub;
	orphans_end(state);
	kernel_facts_detach(process);
	steps_done(steps, "process");
	code = make_memory(own, error);
	if (!code)
		code = kernel_facts_restore(process, &state->kernel, error);
	steps_done(steps, "kernel");
	if (!code)
		code = descriptors_restore(process, state->descriptors, error);
	if (!code)
		code = mappings_close_objects(process, error);
	steps_done(steps, "descriptors");
	if (!code)
		code = threads_restore(process, state, error);
	steps_done(steps, "threads");
	if (!code)
		code = update_stub(own, error);
	steps_done(steps, "stub");
	if (!code)
		code = interrupted_restored(process, state,
					    state->kernel.child_count ? 1ull << (SIGCHLD - 1) : 0,
					    error);
	return code ? code : guest_output_begin(own, error);
}

/* How long one that has no memory any more takes to end. */
#define EXIT_MS 200

static bool has_ended(const struct remote *remote, int code)
{
	struct pollfd gone = {.fd = remote->pidfd, .events = POLLIN};

	return remote->pidfd >= 0 && poll(&gone, 1, code == -ESRCH ? EXIT_MS : 0);
}

/* Whatever could not be done to it because it has ended is not what is wrong. */
int guest_continue(struct process_guest *own, struct thaw_error *error)
{
	int code = make_process(own, error);

	if (code && own->alive && has_ended(&own->process.remote, code))
		code = failure(error, -ESRCH,
			       "the program's process was killed while it was restored: the next "
			       "start goes on from the same generation");
	return code;
}

int guest_resume(struct process_guest *own, struct thaw_error *error)
{
	char text[512];
	int code;

	/* Whoever is ended before this has cut nothing. */
	if (own->process.roll_back && remote_alive(&own->process.remote))
		descriptors_roll_back(&own->process, own->state.descriptors);
	if (!own->output && own->state.output)
		output_saved_write(own->state.output);
	/* While all are parked with everything blocked: a call that it interrupts was made again for that. */
	if (own->state.kernel.child_count)
		syscall(__NR_pidfd_send_signal, own->process.remote.pidfd, SIGCHLD, NULL, 0);
	code = threads_resume(&own->process, error);
	steps_done(&own->steps, "going on");
	if (own->options->verbose)
		owner_tell(own->guest.owner, "thaw: restored in %s\n",
			   steps_text(&own->steps, text, sizeof(text)));
	own->steps.count = 0;
	return code;
}
