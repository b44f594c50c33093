/* SPDX-License-Identifier: MIT */
/*
 * ending.c - the last things a program does: its final generation, what its readers still have to read, and
 * the code that it ends with.
 *
 * Owns nothing. Called by runtime.c, on the owner's thread, once no turn will follow. Must never end in
 * silence with less than the program believes it has: what is lost is said, and the exit code says it.
 */
#include <errno.h>

#include "internal.h"

int runtime_exit_code(int code)
{
	switch (code) {
	case 0:
		return 0;
	case THAW_EDAMAGED:
		return EXIT_IMAGE_DAMAGED;
	case THAW_EFOREIGN:
	case THAW_EFORMAT:
	case THAW_EENGINE:
	case THAW_EOWNER:
	case THAW_EKEY:
		return EXIT_IMAGE_FOREIGN;
	case THAW_EINUSE:
		return EXIT_IMAGE_IN_USE;
	case THAW_EKERNEL:
	case -ENOMEM: /* limits of the process, or of the machine */
	case -EMFILE:
	case -ENFILE:
		return EXIT_NO_KERNEL;
	case RUNTIME_EREPEATS:
		return EXIT_ENGINE_TRAP;
	case -EINVAL: /* of what the environment or the caller asked for */
		return EXIT_USAGE;
	case THAW_ENOGEN:
	case -ENOENT:
	case -EACCES:
	case -EPERM:
	case -EISDIR:
	case -ENOTDIR:
		return EXIT_NO_INPUT;
	default:
		return EXIT_IO;
	}
}

/* What is read at once need not be in the final generation. */
#define FLUSH_NS 100000000u

int ending_finish(struct runtime *rt)
{
	struct thaw_error error;

	if (runtime_asked_to_end())
		service_stopping();
	replica_ending(rt);
	streams_flush(rt, FLUSH_NS);
	if (rt->ending.final && rt->options.image && checkpoints_heap_may_differ(rt)) {
		/* Whatever it ended with: what is not durable has not happened. */
		if (checkpoints_last(rt,
				     rt->ending.stop_signal ? THAW_REASON_SIGNAL : THAW_REASON_EXIT,
				     NULL))
			rt->ending.exit_code = EXIT_IO;
	} else if (rt->ending.final && thaw_settle(rt->heap, &error)) {
		/* There is nothing to write, and what was durable is not there any more. */
		owner_tell(rt, "thaw: at the end of the program: %s\n", error.text);
		rt->ending.exit_code = EXIT_IO;
	} else if (rt->failures.failing && !rt->ending.final) {
		failures_at_end(rt); /* a failed turn goes back further than to the turn before */
	}
	rt->ending.final = false;
	rt->ending.exit_code = replica_settle(rt, rt->ending.exit_code);
	if (rt->options.commit_output) {
		checkpoints_settle(rt);
		rt->ending.dropped = streams_drop_held(rt);
	}
	return rt->ending.exit_code;
}

/* Is the heap that of the newest generation, and could be captured again? */
static bool is_at_rest(const struct runtime *rt)
{
	return rt->options.image && !guest_trapped(rt) && !checkpoints_heap_may_differ(rt) &&
	       (rt->resumed || !rt->restored || !rt->guest->mid_turn);
}

bool runtime_output_lost(const struct runtime *rt)
{
	return rt->output.lost;
}

int ending_deliver(struct runtime *rt, int code)
{
	bool delivered = !rt->type->deliver || rt->type->deliver(rt->guest);

	if (!streams_flush(rt, UINT64_MAX) || !delivered) {
		if (signals_stop() && !code)
			code = 128 + signals_stop();
	} else if ((rt->checkpoints.durable_output || rt->guest->output_saved) &&
		   !rt->output.held && !rt->ending.dropped && is_at_rest(rt)) {
		rt->ending.ended = true;
		if (checkpoints_last(rt, THAW_REASON_EXIT, NULL))
			code = EXIT_IO;
	}
	if (rt->output.lost && !code)
		code = EXIT_IO; /* it was said */
	return code;
}
