/* SPDX-License-Identifier: MIT */
/*
 * guest_output.c - output commit as the guest's life sees it: output/ does the work, the policy says when.
 *
 * Owner's thread, but for what wakes it up. Nothing here without --commit output.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "process/guest_state.h"

/* So long the readers of a program that was asked to end have left for what it still has. */
#define PATIENCE_NS 400000000ull

/* ---- By the notifier's thread */

static void held(void *arg, size_t bytes)
{
	struct process_guest *own = arg;

	owner_output_held(own->guest.owner, bytes);
}

static void hole(void *arg)
{
	struct process_guest *own = arg;

	own->guest.type->wake(&own->guest);
}

/* ---- */

int guest_output_begin(struct process_guest *own, struct thaw_error *error)
{
	const struct output_owner owner = {
		.arg = own, .held = held, .hole = hole, .wake_fd = own->wake_fd};

	if (!own->options->commit_output)
		return 0;
	return output_open(&own->process, &owner, own->state.output, &own->output, error);
}

int guest_output_save(struct process_guest *own, struct process_state *state)
{
	if (!own->output)
		return 0;
	state->output = calloc(1, sizeof(*state->output));
	if (!state->output || output_save(own->output, state->output))
		return -ENOMEM;
	if (!state->output
		     ->count) { /* as if there were none: an idle program's state is the same */
		free(state->output);
		state->output = NULL;
	}
	own->guest.output_saved = state->output;
	return 0;
}

void guest_output_settled(struct guest *guest, int code)
{
	struct process_guest *own = process_of(guest);

	if (!own->output)
		return;
	if (code)
		output_failed(own->output);
	else
		output_durable(own->output);
}

void guest_output_tell(struct process_guest *own)
{
	const char *text;

	while (own->output && (text = output_hole(own->output)))
		if (!own->options->quiet)
			owner_tell(own->guest.owner, "thaw: --commit output: %s\n", text);
}

/* ---- The end */

static bool nobody_waits(void *arg)
{
	const struct process_guest *own = arg;

	return own->end_asked_ns && clock_monotonic_ns() - own->end_asked_ns > PATIENCE_NS;
}

void guest_output_failed(struct process_guest *own)
{
	if (own->output)
		output_finish(own->output, OUTPUT_STREAMS, nobody_waits, own);
}

bool guest_output_deliver(struct guest *guest)
{
	struct process_guest *own = process_of(guest);
	bool done = !own->output || output_finish(own->output, OUTPUT_ALL, nobody_waits, own);

	guest_output_tell(own);
	return done;
}
