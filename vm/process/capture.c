/* SPDX-License-Identifier: MIT */
/*
 * capture.c - a generation of a guest that is a process: all of its threads stop, what the kernel knows of it is read,
 * the library is told which memory it has, and it goes on once that was captured too.
 *
 * save() and captured() of guest.h. Owner's thread. Must never let the program go on between the two, nor stay
 * stopped after them, whatever fails.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "process/guest_state.h"
#include "process/memory/address_space.h"

/* In an order that is the same each time, the main thread first: an idle program's state is the same each time. */
static int compare_threads(const void *a, const void *b)
{
	const struct thread *left = a, *right = b;

	return left->tid < right->tid ? -1 : left->tid > right->tid;
}

static int tell_ranges(struct process_guest *own, const struct mappings *mappings,
		       struct thaw_error *error)
{
	struct thaw_range *ranges;
	size_t count;
	int code = mappings_ranges(mappings, &ranges, &count);

	if (code)
		return code;
	code = thaw_process_ranges(own->heap, ranges, count, error);
	free(ranges);
	/* The first generation of a large program: it does not wait for the copy of all it has. */
	return !code && thaw_process_copies_first(own->heap) ? GUEST_AGAIN : code;
}

/* All but the clocks. `state` has what process_state_free() frees. */
static int collect(struct process_guest *own, struct process_state *state, struct thaw_error *error)
{
	struct process *process = &own->process;
	struct steps *steps = &own->steps;
	int code, restart;

	if (process->thread_count > 2)
		qsort(process->threads + 1, process->thread_count - 1, sizeof(*process->threads),
		      compare_threads);
	threads_ask(process); /* what fails is tried again where it is wanted */
	steps_done(steps, "asked");
	code = mappings_capture(process, &state->mappings, error);
	steps_done(steps, "mappings");
	/* Whatever has failed, they are in these calls when they go on. */
	restart = interrupted_restart(process, code ? NULL : error);
	code = code ? code : restart;
	steps_done(steps, "calls");
	if (!code)
		holds_captured(own, &state->mappings);
	if (!code)
		code = tell_ranges(own, &state->mappings, error);
	steps_done(steps, "ranges");
	if (!code)
		code = threads_capture(process, error);
	steps_done(steps, "registers");
	if (!code)
		code = kernel_facts_capture(process, &state->kernel, error);
	steps_done(steps, "kernel");
	if (!code)
		code = identity_capture(process, &state->mappings, &own->state.identity, error);
	steps_done(steps, "identity");
	if (!code)
		code = descriptors_capture(process, &state->descriptors, error);
	steps_done(steps, "descriptors");
	return code ? code : guest_output_save(own, state);
}

/* Encode with these clocks; the rest of the state is borrowed from where it is. */
static int encode(const struct process_guest *own, const struct process_state *state,
		  const struct clocks *clocks, void **data, size_t *bytes)
{
	struct process_state whole = *state;

	whole.arguments = own->state.arguments;
	whole.argument_count = own->state.argument_count;
	whole.identity = own->state.identity;
	whole.restores = own->guest.common.restores;
	memcpy(whole.branch, own->guest.common.branch, GUEST_BRANCH_BYTES);
	memcpy(whole.branch + 2, own->guest.common.home, GUEST_BRANCH_BYTES);
	whole.stub = own->process.stub;
	whole.threads = own->process.threads;
	whole.thread_count = own->process.thread_count;
	whole.clocks = *clocks;
	return process_state_encode(&whole, data, bytes);
}

/*
 * Clocks go on while nothing runs. That is no reason for a generation: where all else is as it was captured last, the
 * state is the same to the byte, and the library finds that nothing has changed.
 */
static int encode_with_clocks(struct process_guest *own, const struct process_state *state,
			      void **data, size_t *bytes, struct thaw_error *error)
{
	struct clocks clocks = {0};
	int code = 0;

	if (own->captured) {
		code = encode(own, state, &own->state.clocks, data, bytes);
		if (!code && *bytes == own->captured_bytes && !memcmp(*data, own->captured, *bytes))
			return 0;
		if (!code)
			free(*data);
		*data = NULL;
	}
	code = clocks_capture(&own->process, &state->mappings, &clocks, error);
	if (!code) {
		clocks_free(&own->state.clocks);
		own->state.clocks = clocks;
		code = encode(own, state, &own->state.clocks, data, bytes);
	}
	return code;
}

static bool has_kill(const char *status, const char *field)
{
	const char *at = strstr(status, field);

	return at && strtoull(at + strlen(field), NULL, 16) >> (SIGKILL - 1) & 1;
}

/*
 * Has it ended, or is it about to? Its threads leave their memory and descriptors one by one, so what is asked about them
 * fails in many ways before the process is seen to have ended.
 */
static bool is_ending(const struct process_guest *own)
{
	const struct remote *remote = &own->process.remote;
	char *status = remote_alive(remote) ? proc_read(remote->pid, "status", NULL, &(int){0})
					    : NULL;
	bool ending = !status || !strstr(status, "\nVmSize:") || has_kill(status, "\nSigPnd:") ||
		      has_kill(status, "\nShdPnd:");

	free(status);
	return ending;
}

static int capture(struct process_guest *own, void **data, size_t *bytes, struct thaw_error *error)
{
	struct process_state state = {0};
	int code;

	steps_begin(&own->steps);
	/* What has fewer rights than this process is not stopped: nothing that it could answer is looked at. */
	code = kernel_facts_refusal(&own->process, error);
	if (!code && own->output)
		output_stop_begins(own->output);
	if (!code)
		code = process_stop(&own->process, error);
	steps_done(&own->steps, "threads");
	if (!code)
		code = collect(own, &state, error);
	if (!code)
		code = encode_with_clocks(own, &state, data, bytes, error);
	steps_done(&own->steps, "record");
	process_state_free(&state);
	/* Whatever could not be done because it is ending is not what is wrong; how it ended is told then. */
	if (code && code != GUEST_AGAIN && is_ending(own))
		code = failure(error, -ESRCH, "the program has ended");
	return code;
}

/* A program that has ended: what it ended with. */
static int encode_end(struct process_guest *own, void **data, size_t *bytes)
{
	struct process_state state = {
		.arguments = own->state.arguments,
		.argument_count = own->state.argument_count,
		.finished = true,
		.exit_code = own->guest.common.exit_code,
		.restores = own->guest.common.restores,
	};
	int code = guest_output_save(own, &state);

	if (!code)
		code = process_state_encode(&state, data, bytes);
	if (state.output)
		output_saved_free(state.output);
	free(state.output);
	return code;
}

/* The caller gets a copy, and the state is kept, to compare the next with. */
static void *finish(struct process_guest *own, void *data, const size_t *bytes)
{
	uint8_t *copy = malloc(*bytes);

	if (copy)
		memcpy(copy, data, *bytes);
	free(own->captured);
	own->captured = data;
	own->captured_bytes = *bytes;
	return copy;
}

void *guest_save(struct guest *guest, bool changed, size_t *bytes, struct thaw_error *error)
{
	struct process_guest *own = process_of(guest);
	void *data = NULL;
	int code;

	(void)changed;
	*error = (struct thaw_error){0};
	if (guest->common.finished)
		code = encode_end(own, &data, bytes);
	else if (own->alive)
		code = capture(own, &data, bytes, error);
	else
		code = failure(error, -ESRCH, "the program has ended");
	if (!code)
		return finish(own, data, bytes);
	free(data);
	if (code == GUEST_AGAIN)
		error->code = code;
	else if (!error->code && code != -ENOMEM)
		failure(error, code, "%s", thaw_strerror(code));
	return NULL;
}

static void tell_steps(struct process_guest *own)
{
	char text[512];

	if (own->options->verbose && own->steps.count)
		owner_tell(own->guest.owner, "thaw: stopped for %s\n",
			   steps_text(&own->steps, text, sizeof(text)));
	own->steps.count = 0;
}

void guest_captured(struct guest *guest, int code)
{
	struct process_guest *own = process_of(guest);

	steps_done(&own->steps, "pages");
	if (code &&
	    code != GUEST_AGAIN) { /* the next is compared with none: the library may have forgotten this one */
		free(own->captured);
		own->captured = NULL;
	}
	remote_forget(&own->process.remote);
	if (own->output && !code)
		output_captured(own->output);
	if (own->output)
		output_stop_ends(own->output);
	if (!own->alive || !own->process.stopped) {
		own->steps.count = 0;
		return;
	}
	idle_captured(own);
	if (!code)
		guest_pass_on_end(
			own); /* the first that it sees when it goes on: nothing lies between */
	process_continue(&own->process);
	steps_done(&own->steps, "going on");
	tell_steps(own);
}
