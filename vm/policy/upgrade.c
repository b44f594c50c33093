// SPDX-License-Identifier: MIT
/*
 * upgrade.c - new code for old state: all of it becomes one generation, or nothing has happened.
 *
 * From the generation that was opened the guest makes what shall be the next one, while nothing else of the program runs and no
 * generation is taken. Only if all of it went well, and within its time, it is captured; whatever goes wrong before ends the
 * process with the image as it was. The generation before keeps a name, so that it can be gone back to however long
 * the new code has run.
 *
 * Owns struct upgrade_state. Called by the command line, on the owner's thread.
 */
#include <errno.h>

#include "internal.h"

/* What is read at once need not be in the generation. */
#define FLUSH_NS 100000000u

static int give_up(struct runtime *rt, struct thaw_error *error, int code, const char *why)
{
	rt->upgrade.code = code;
	snprintf(rt->upgrade.why, sizeof(rt->upgrade.why), "%s", why);
	return failure(error, code, "%s", why);
}

int owner_upgrade_over(struct runtime *rt, struct thaw_error *error)
{
	struct upgrade_state *own = &rt->upgrade;
	char why[80];

	if (!own->running)
		return 0;
	if (own->code)
		return failure(error, own->code, "%s", own->why);
	if (signals_stop()) {
		snprintf(why, sizeof(why), "it was ended by signal %d", signals_stop());
		return give_up(rt, error, -EINTR, why);
	}
	if (clock_monotonic_ns() < own->deadline_ns)
		return 0;
	snprintf(why, sizeof(why), "it took longer than %.3g s (--time-limit)",
		 (double)own->limit_ns / 1e9);
	return give_up(rt, error, -ETIMEDOUT, why);
}

void upgrade_failed(struct runtime *rt, const char *why)
{
	if (!rt->upgrade.code)
		give_up(rt, NULL, -ECANCELED, why);
}

/* It has to be between turns. */
static int end_turn(struct runtime *rt, struct thaw_error *error)
{
	int code;

	if (!rt->guest->mid_turn)
		return 0;
	runtime_resume_turn(rt);
	code = owner_upgrade_over(rt, error);
	if (code == -ETIMEDOUT)
		return failure(
			error, code,
			"generation %llu stopped in the middle of a turn, which did not end within %.3g s (--time-limit; --at takes an older one)",
			(unsigned long long)thaw_opened(rt->heap)->number,
			(double)rt->upgrade.limit_ns / 1e9);
	return code;
}

static int make_durable(struct runtime *rt, struct thaw_result *result, struct thaw_error *error)
{
	int code;

	streams_flush(rt, FLUSH_NS);
	rt->upgrade.keeps = true;
	code = checkpoints_now(rt, THAW_REASON_UPGRADE, result);
	rt->upgrade.keeps = false;
	if (!code)
		return 0;
	return failure(error, RUNTIME_ENOTDURABLE, "%s",
		       result->error.text[0] ? result->error.text : thaw_strerror(code));
}

static int refuse(struct runtime *rt, struct thaw_error *error)
{
	if (!rt->type->upgrade && !rt->type->process)
		return failure(error, -ENOTSUP, "%s: engine '%s' cannot replace code",
			       rt->options.image, rt->type->identity);
	if (!rt->type->upgrade)
		return failure(
			error, -ENOTSUP,
			"%s: the code of a process cannot be replaced from outside: thaw help exec has what the program can do; or start it anew with thaw exec --fresh",
			rt->options.image);
	if (rt->guest->common.finished)
		return failure(
			error, -ECANCELED,
			"the program has called exit(%d) in generation %llu, and nothing of it goes on: thaw rollback to one before it first, or --at",
			rt->guest->common.exit_code,
			(unsigned long long)thaw_opened(rt->heap)->number);
	return 0;
}

int runtime_upgrade(struct runtime *rt, const struct runtime_upgrade *how,
		    struct guest_changes *changes, struct thaw_result *result,
		    struct thaw_error *error)
{
	int code;

	*changes = (struct guest_changes){0};
	*result = (struct thaw_result){0};
	*error = (struct thaw_error){0};
	if (!rt->restored)
		return GUEST_UNCHANGED;
	code = refuse(rt, error);
	if (code)
		return code;
	rt->upgrade.running = true;
	rt->upgrade.limit_ns = how->time_limit_ns;
	rt->upgrade.deadline_ns = clock_monotonic_ns() + how->time_limit_ns;
	code = end_turn(rt, error);
	if (!code)
		code = rt->type->upgrade(rt->guest, &how->how, changes, error);
	if (!code)
		code = owner_upgrade_over(rt, error);
	rt->upgrade.running = false;
	if (!code && !how->how.dry_run)
		code = make_durable(rt, result, error);
	return code;
}

int runtime_upgrade_exit_code(int code)
{
	switch (code) {
	case -ENOTSUP:
		return EXIT_USAGE;
	case -ENOENT: /* of the main module */
		return EXIT_NO_INPUT;
	case -EINTR:
		return 128 + signals_stop();
	case RUNTIME_ENOTDURABLE:
		return EXIT_IO;
	default:
		return EXIT_UPGRADE;
	}
}

int runtime_abandon(struct runtime *rt, int exit_code)
{
	runtime_end(rt, exit_code, false);
	return ending_deliver(rt, ending_finish(rt));
}
