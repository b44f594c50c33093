/* SPDX-License-Identifier: MIT */
/*
 * owner.c - what a guest asks of its owner (guest.h, owner_*()), and how a program ends.
 *
 * Called by the guest, on the owner's thread, and by the other files of the policy.
 *
 * What ends a program. exit(), the end of all work, a signal: the final checkpoint includes the
 * last turn. An uncaught exception or an unhandled rejection: no checkpoint is taken, and the
 * newest generation is one from before the turn that failed. If the failure was an accident (a
 * full disk, a missing file), running again repeats that turn and may now succeed; if it is a
 * bug, it repeats at every start, until an older generation is chosen (--at), or the program is
 * started anew (--fresh). That is what crash consistency means: a failed turn has never happened.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

void owner_tell(struct runtime *rt, const char *format, ...)
{
	va_list arguments;
	char *text;
	int bytes;

	va_start(arguments, format);
	bytes = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (bytes < 0)
		return;
	if (rt->output.streams)
		streams_tell(rt, text, (size_t)bytes);
	else
		fputs(text, stderr);
	free(text);
}

/* ---- The end ---- */

void runtime_end(struct runtime *rt, int exit_code, bool final)
{
	if (rt->ending.ended)
		return;
	rt->ending.ended = true;
	rt->ending.final = final;
	rt->ending.exit_code = exit_code;
}

void runtime_stop(struct runtime *rt, int signo)
{
	rt->ending.stop_signal = signo;
}

bool owner_ended(const struct runtime *rt)
{
	return rt->ending.ended;
}

bool owner_unwinding(const struct runtime *rt)
{
	return rt->ending.ended || rt->midturn.script_cut || rt->upgrade.code;
}

void owner_exit(struct runtime *rt, double code)
{
	rt->ending.exit_request = code >= 0 && code <= 255 ? (int)code : EXIT_EXCEPTION;
	/* Leaving a shell, or -e, does not finish what lives in it. */
	if (!rt->options.interactive &&
	    (!rt->evaluation.running || (rt->guest->runs_own && !rt->evaluation.asking))) {
		rt->guest->common.finished = true;
		rt->guest->common.exit_code = rt->ending.exit_request;
	}
}

void owner_exited(struct runtime *rt)
{
	if (rt->upgrade.running) {
		upgrade_failed(rt, "exit() was called in it");
		return;
	}
	runtime_end(rt, rt->ending.exit_request, true);
}

/* Whoever sends one of these wants it to end, however often. */
static bool asks_for_the_end(int signo)
{
	return signo == SIGTERM || signo == SIGINT || signo == SIGHUP || signo == SIGQUIT ||
	       signo == SIGPIPE;
}

void owner_killed(struct runtime *rt, int signo)
{
	const char *name = sigdescr_np(signo);
	char how[64];

	if (rt->ending.ended)
		return;
	checkpoints_complete(rt); /* what was captured before is whole */
	if (failures_unreadable(rt, signo)) {
		runtime_end(rt, EXIT_IO, false);
		return;
	}
	snprintf(how, sizeof(how), "was ended by signal %d (%s)", signo, name ? name : "?");
	failures_ended(rt, how, !asks_for_the_end(signo));
	rt->ending.crashed = true;
	runtime_end(rt, 128 + signo, false);
}

void owner_before_end(struct runtime *rt)
{
	if (rt->options.image && !rt->ending.ended)
		checkpoints_now(rt, THAW_REASON_SIGNAL, NULL); /* if it fails, that is said */
}

void owner_left(struct runtime *rt, int code)
{
	struct thaw_status status;
	char how[64];

	if (rt->ending.ended)
		return;
	if (!code && !runtime_asked_to_end()) {
		owner_exit(rt, code);
		owner_exited(rt);
		return;
	}
	checkpoints_complete(rt);
	thaw_status(rt->heap, &status);
	snprintf(how, sizeof(how), "ended with exit code %d", code);
	if (status.generation) /* else it is as if it had run without us */
		failures_ended(rt, how, !runtime_asked_to_end());
	rt->ending.crashed = true;
	runtime_end(rt, code, false);
}

void owner_trapped(struct runtime *rt, const char *reason)
{
	if (rt->ending.ended &&
	    (rt->ending.exit_code == EXIT_ENGINE_TRAP || signals_stop() || rt->evaluation.asking))
		return; /* it was said, or midturn_end() or evaluate_mid_turn() wanted it so */
	if (rt->midturn.script_cut &&
	    signals_stop()) { /* it could not be cut short in another way */
		runtime_end(rt, 128 + signals_stop(), false);
		return;
	}
	if (rt->upgrade.running) /* of what was never a generation nothing is noted */
		upgrade_failed(rt, "the engine trapped");
	else
		failures_trapped(rt, reason);
	/* Whatever it was about to end with, its heap is not sound any more. */
	rt->ending.ended = false;
	runtime_end(rt, EXIT_ENGINE_TRAP, false);
}

bool runtime_note_trap(struct runtime *rt)
{
	const char *reason = guest_trapped(rt);

	if (reason)
		owner_trapped(rt, reason);
	return reason != NULL;
}

void owner_uncaught(struct runtime *rt, const char *prefix, const char *text)
{
	owner_tell(rt, "%s%s%s", prefix, text, *text && text[strlen(text) - 1] == '\n' ? "" : "\n");
	rt->ending.uncaught++;
	if (rt->upgrade.running) {
		upgrade_failed(rt, "an exception that nobody caught");
		return;
	}
	if (!rt->options.interactive && !rt->options.keep_result &&
	    !rt->evaluation.controlled) { /* a shell goes on, also a piped one */
		runtime_end(rt, EXIT_EXCEPTION, false);
		failures_crashed(rt, text);
	}
}

bool owner_stops(struct runtime *rt)
{
	int signo = signals_stop();

	if (signo)
		rt->ending.stop_signal = signo;
	streams_check(rt);
	if (rt->ending.stop_signal) /* or SIGPIPE, from streams.c */
		runtime_end(rt, 128 + rt->ending.stop_signal, true);
	return rt->ending.ended;
}

bool owner_interrupted(const struct runtime *rt)
{
	return rt->options.interactive && signals_interrupted();
}

/* ---- Turns ---- */

void owner_advance(struct runtime *rt)
{
	checkpoints_advance(rt);
	control_advance(rt);
	if (rt->checkpoints.wanted) /* by what was done just now */
		checkpoints_advance(rt);
	service_advance(rt);
}

void owner_turn_begins(struct runtime *rt)
{
	midturn_turn_begins(rt);
	poll_timer_polled(rt);
	if (rt->upgrade.running)
		poll_timer_set(rt, rt->upgrade.deadline_ns);
	else if (rt->options.image)
		poll_timer_set(rt, rt->checkpoints.due_ns);
	service_poll_in_time(rt);
}

bool owner_poll(struct runtime *rt)
{
	if (owner_interrupted(rt) || control_cuts(rt))
		return true;
	if (rt->upgrade.running) {
		poll_timer_polled(rt);
		return owner_upgrade_over(rt, NULL) != 0;
	}
	if (rt->guest->in_turn) {
		poll_timer_polled(rt);
		checkpoints_advance_mid_turn(rt);
		service_advance(rt);
		service_poll_in_time(rt);
		if (rt->ending.ended && rt->replica.ends)
			return true;
		if (rt->evaluation.question)
			evaluate_mid_turn(rt);
	}
	if (signals_stop() && midturn_end(rt))
		return true;
	return rt->guest->in_turn && streams_full(rt) && streams_wait(rt);
}

bool owner_step_done(struct runtime *rt)
{
	if (rt->upgrade.running)
		return !owner_upgrade_over(rt, NULL);
	if (signals_stop() && midturn_should_cut(rt))
		return false;
	return !owner_interrupted(rt) && !control_cuts(rt);
}

/* ---- Output ---- */

bool owner_output_full(struct runtime *rt)
{
	return streams_full(rt);
}

void owner_wait_output(struct runtime *rt)
{
	streams_wait(rt);
}
