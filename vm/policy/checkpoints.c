/* SPDX-License-Identifier: MIT */
/*
 * checkpoints.c - when a generation is taken, what goes with it, and who is told.
 *
 * Owns the interval and the book of who waits for which checkpoint. The guest calls
 * owner_advance() before every round of its loop, and checkpoints_advance_mid_turn() at every
 * poll of a turn, where midturn.c has a say in what is captured. Owner's thread, but for
 * checkpoints_notify(). Must never block the loop (checkpoints_now() does, for those who ask), and
 * never enter the VM for a checkpoint that nobody waits for, nor at all inside a turn: what there is
 * to tell is queued for the guest's loop (`outcomes`).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/process_limits.h"
#include "internal.h"

/*
 * Waiters. Each checkpoint() promise has a number, counted in the heap. The generation that is
 * captured next covers every number handed out until then: those who ask while a checkpoint is on
 * its way to its capture join it, those who ask after the capture get the next one. A promise is
 * pending in the heap that was captured; in this process it is settled once the generation is
 * durable, and in a process restored from it at once (prelude.js, restored).
 *
 *	idle --begin--> before capture --capture--> after capture --finish--> idle, or told by replica.c
 *		        (requested joins)	    (captured is fixed; a later request sets `wanted`)
 *
 * Names. What checkpoint({ name }) asks for is given to the generation that its promise waits for: it
 * is kept here until the capture, goes with that, and with nothing else if that fails.
 *
 * Nothing is begun while no turn has run since the newest durable capture: an idle program costs
 * not even a scan.
 */

#define OUTCOMES_FIRST 2u
/* What the first write to a page costs after a generation, with what goes with it; measured, 1.2 to 2 us. */
#define WRITTEN_AGAIN_NS 1500u
/* At most such a part of the time of the program: an eighth of it where many generations are wanted, else a twentieth. */
#define SHORT_INTERVAL_SHARE 8u
#define LONG_INTERVAL_SHARE 20u
#define LONG_INTERVAL_NS 1000000000ull
#define STRETCH_MOST 10u /* intervals */
/* A process takes no longer to end: its memory goes first, a second for 10 GB. */
#define ENDING_NS 60000000000ull

void checkpoints_notify(void *arg)
{
	struct runtime *rt = arg;

	streams_wake(rt);
	poll_timer_now(rt);
}

static void hold_back(struct runtime *rt, bool hold)
{
	if (rt->type->hold_back)
		rt->type->hold_back(rt->guest, hold);
}

bool owner_has_work(const struct runtime *rt)
{
	return checkpoints_waited_for(rt) || rt->checkpoints.outcome_count;
}

bool checkpoints_waited_for(const struct runtime *rt)
{
	return rt->checkpoints.requested > rt->checkpoints.settled;
}

/* The turn under way waits for a reader, as it did when it was captured last. */
static bool stalled_since_capture(const struct runtime *rt)
{
	return rt->output.stalled && rt->checkpoints.captured_stall == rt->output.stalls;
}

bool checkpoints_heap_may_differ(const struct runtime *rt)
{
	/* A turn that waits for a reader since it was captured does not change it. */
	return (rt->guest->in_turn && !stalled_since_capture(rt)) ||
	       rt->guest->turns != rt->checkpoints.durable_turns || output_commit_waits(rt);
}

/* ---- What is told ---- */

/*
 * Of those that nobody waits for the newest will do. Without memory for one more, so it will for
 * those who wait: what they were promised is durable, or was tried again.
 */
static void queue_outcome(struct runtime *rt, uint64_t last, bool waited_for,
			  const struct thaw_result *result)
{
	struct guest_outcome *newest =
		rt->checkpoints.outcome_count
			? &rt->checkpoints.outcomes[rt->checkpoints.outcome_count - 1]
			: NULL;

	if (!newest || newest->waited_for) {
		struct guest_outcome *more = rt->checkpoints.outcomes;
		unsigned room = rt->checkpoints.outcome_room ? 2 * rt->checkpoints.outcome_room : 2;

		if (rt->checkpoints.outcome_count == rt->checkpoints.outcome_room) {
			more = realloc(rt->checkpoints.outcomes, room * sizeof(*more));
			rt->checkpoints.outcome_room = more ? room : rt->checkpoints.outcome_room;
		}
		if (more) {
			rt->checkpoints.outcomes = more;
			newest = &more[rt->checkpoints.outcome_count++];
			newest->waited_for = false;
		}
	}
	if (!newest)
		return;
	newest->last = last;
	newest->waited_for |= waited_for;
	newest->result = *result;
	newest->reason = result->unchanged || result->code ? rt->checkpoints.reason
							   : result->generation.reason;
}

/*
 * What a generation costs the program: it stood still, and each page that it writes again is a fault. If that were more than
 * a share of the time, the next one comes later, at another point of the grid: the interval is longer than asked for.
 */
static void interval_stretch(struct runtime *rt, const struct thaw_generation *generation)
{
	struct checkpoints *own = &rt->checkpoints;
	uint64_t every = rt->options.every_ns;
	uint64_t cost = generation->pause_ns + generation->pages_written * WRITTEN_AGAIN_NS;
	uint64_t rest =
		cost * (every < LONG_INTERVAL_NS ? SHORT_INTERVAL_SHARE : LONG_INTERVAL_SHARE);
	uint64_t next = own->begun_ns + (rest < STRETCH_MOST * every ? rest : STRETCH_MOST * every);

	if (own->timed++)
		own->timed_ns += own->begun_ns - own->timed_last_ns;
	own->timed_last_ns = own->begun_ns;
	if (next > own->due_ns)
		own->due_ns += (next - own->due_ns + every - 1) / every * every;
}

/* Those who wait for it are told that it is durable. */
static void tell_durable(struct runtime *rt, uint64_t last, const struct thaw_result *result)
{
	bool waited_for = last > rt->checkpoints.settled;

	rt->checkpoints.settled = waited_for ? last : rt->checkpoints.settled;
	if (rt->ending.ended ||
	    (!waited_for && (!rt->guest->hears_checkpoints || result->unchanged)))
		return;
	queue_outcome(rt, last, waited_for, result);
}

/* It is in the image, whoever else has to have it before it is told. */
static void succeeded(struct runtime *rt, uint64_t last, const struct thaw_result *result)
{
	const struct thaw_generation *generation = &result->generation;

	failures_recovered(rt, generation->number);
	rt->checkpoints.passing = 0;
	if (!rt->options.every_ns)
		rt->checkpoints.due_ns = 0; /* nothing is left to be tried again */
	hold_back(rt, false);		    /* this process has got on */
	rt->checkpoints.durable_turns = rt->checkpoints.captured_turns;
	rt->checkpoints.durable_output = rt->checkpoints.captured_output;
	if (rt->options.verbose && !result->unchanged)
		owner_tell(
			rt,
			"thaw: generation %llu (%s): %llu pages, %llu bytes, pause %.3f ms, durable after %.3f ms\n",
			(unsigned long long)generation->number,
			thaw_reason_name(generation->reason),
			(unsigned long long)generation->pages_stored,
			(unsigned long long)generation->bytes_written,
			(double)generation->pause_ns / 1e6, (double)result->durable_ns / 1e6);
	if (rt->options.every_ns && rt->checkpoints.reason == THAW_REASON_TIMER &&
	    !result->unchanged)
		interval_stretch(rt, generation);
	rt->checkpoints.stored = last > rt->checkpoints.stored ? last : rt->checkpoints.stored;
}

void checkpoints_durable(struct runtime *rt, const struct durable *durable)
{
	tell_durable(rt, durable->waiters, &durable->result);
	if (durable->output)
		output_commit_settled(rt, 0);
	control_settled(rt, durable->tickets, &durable->result);
}

/*
 * A process that ends just now, which is told when it has; or becomes another one: the next says more, if there is one,
 * which there is not at an end.
 */
static bool passes(struct runtime *rt, int code)
{
	uint64_t now = clock_monotonic_ns();

	if (code != -ESRCH && code != -EAGAIN)
		return false;
	if (!rt->checkpoints.passing++)
		rt->checkpoints.passing_since_ns = now;
	return code == -ESRCH ? now - rt->checkpoints.passing_since_ns < ENDING_NS
			      : rt->checkpoints.passing == 1 && !rt->ending.ended;
}

/*
 * Every page is dirty again (thaw.h): nothing is lost but time. The next interval tries again; without
 * intervals, what was asked for is tried again after a while.
 */
static void failed(struct runtime *rt, uint64_t last, int code, const struct thaw_error *error)
{
	const char *text = error && error->text[0] ? error->text : thaw_strerror(code);
	bool waited_for = last > rt->checkpoints.settled;
	struct thaw_result result = {0};

	if (!passes(rt, code))
		failures_checkpoint(rt, text);
	rt->checkpoints.captured_stall = 0;
	if (!rt->options.every_ns && !rt->ending.ended)
		rt->checkpoints.due_ns = clock_monotonic_ns() + failures_retry_ns(rt);
	hold_back(rt, false); /* it may never get on, and must not only grow */
	rt->checkpoints.stored = last > rt->checkpoints.stored ? last : rt->checkpoints.stored;
	rt->checkpoints.settled = last > rt->checkpoints.settled ? last : rt->checkpoints.settled;
	if (rt->ending.ended || !waited_for)
		return;
	result.code = code;
	snprintf(result.error.text, sizeof(result.error.text), "%s", text);
	queue_outcome(rt, last, waited_for, &result);
}

bool owner_take_outcome(struct runtime *rt, struct guest_outcome *outcome)
{
	struct checkpoints *own = &rt->checkpoints;

	if (!own->outcome_count)
		return false;
	*outcome = own->outcomes[0];
	memmove(own->outcomes, own->outcomes + 1, --own->outcome_count * sizeof(*own->outcomes));
	return true;
}

/* ---- One checkpoint ---- */

/* Whoever waits for it is told, up to those. */
static void tell_failed(struct runtime *rt, uint64_t waiters, uint64_t tickets,
			const struct thaw_result *result)
{
	failed(rt, waiters, result->code, &result->error);
	control_finished(rt, result);
	output_commit_settled(rt, result->code);
	control_settled(rt, tickets, result);
}

/* `at_once`: also while a store is to have the one before first. */
static int begin(struct runtime *rt, enum thaw_reason reason, bool at_once)
{
	int code = !at_once && replica_holds(rt) ? -EBUSY : thaw_checkpoint_begin(rt->heap, reason);

	if (code == -EBUSY)
		return code;
	rt->checkpoints.wanted = false;
	rt->checkpoints.begun_ns = clock_monotonic_ns();
	rt->checkpoints.reason = reason;
	rt->checkpoints.capture_taken = false;
	rt->checkpoints.in_flight = !code;
	output_commit_begun(rt);
	if (code) {
		struct thaw_result result = {.code = code};

		rt->checkpoints.name_count = 0;
		failure(&result.error, code, "cannot start the thread that writes it: %s",
			thaw_strerror(code));
		limits_explain(&result.error, code);
		tell_failed(rt, rt->checkpoints.requested, UINT64_MAX, &result);
	}
	return code;
}

/* To the checkpoint that is ready for its capture. */
static int names_hand_over(struct runtime *rt)
{
	int code = 0;

	for (unsigned i = 0; !code && i < rt->checkpoints.name_count; i++)
		code = thaw_checkpoint_name(rt->heap, rt->checkpoints.names[i].name);
	if (!code && rt->upgrade.keeps)
		code = thaw_checkpoint_keep(rt->heap, UPGRADE_NAME);
	return code;
}

/* The guest's state, with what was printed and not read yet. NULL: why not; code 0: no memory. */
static void *encode(struct runtime *rt, size_t *bytes, struct thaw_error *error)
{
	struct guest_common *common = &rt->guest->common;
	bool changed = checkpoints_heap_may_differ(rt);
	void *state = NULL, *output;

	if (!streams_save(rt, &output, &common->output_bytes)) {
		common->output = output;
		state = rt->guest->in_turn ? midturn_encode(rt, changed, bytes, error)
					   : rt->type->save(rt->guest, changed, bytes, error);
		rt->checkpoints.captured_output = common->output_bytes;
		free(output);
	}
	common->output = NULL;
	common->output_bytes = 0;
	return state;
}

/* State, names and memory. What fails is THAW_DONE with its reason: finish() tells it. */
static int capture_stopped(struct runtime *rt)
{
	bool bound = rt->guest->in_turn || rt->type->bound;
	struct thaw_error error = {0};
	size_t bytes;
	void *blob = encode(rt, &bytes, &error);
	int code = blob ? names_hand_over(rt) : error.code ? error.code : -ENOMEM;

	if (code == GUEST_AGAIN)
		return code;
	rt->checkpoints.urgent = false;
	if (code)
		thaw_checkpoint_abandon(rt->heap, code,
					blob	     ? "its names could not be kept"
					: error.code ? error.text
						     : "no memory for the state of the program");
	else
		code = thaw_checkpoint_capture(
			rt->heap, bound ? THAW_KIND_BOUND : THAW_KIND_PORTABLE, blob, bytes);
	free(blob);
	return code;
}

/* Between turns, or in the middle of one that midturn.c lets be stopped. */
static void capture(struct runtime *rt)
{
	int code;

	/* Of a guest that is always in a turn the last one, too, is captured in it. */
	if (rt->guest->in_turn && !midturn_ensure_key(rt)) {
		thaw_checkpoint_abandon(rt->heap, -ENOKEY,
					"there is no key to sign its stack with");
		return;
	}
	thaw_checkpoint_stopped(rt->heap);
	replica_capture(rt);
	code = capture_stopped(rt);
	if (!code)
		output_commit_captured(rt);
	if (rt->type->captured)
		rt->type->captured(rt->guest, code);
	if (!code) {
		rt->checkpoints.name_count = 0;
		rt->checkpoints.capture_taken = true;
		rt->checkpoints.captured = rt->checkpoints.requested;
		control_captured(rt);
		rt->checkpoints.captured_turns =
			rt->guest->turns; /* a turn that was stopped is not counted yet */
		rt->checkpoints.captured_stall =
			rt->output.stalled && rt->guest->in_turn ? rt->output.stalls : 0;
	}
}

static void finish(struct runtime *rt, const struct thaw_result *result)
{
	bool captured = rt->checkpoints.capture_taken;
	struct durable durable = {
		.waiters = captured ? rt->checkpoints.captured : rt->checkpoints.requested,
		.tickets = captured ? control_ticket(rt) : UINT64_MAX,
		.begun_ns = rt->checkpoints.begun_ns,
		.output = true,
		.result = *result,
	};

	if (!captured)
		rt->checkpoints.name_count =
			0; /* with their promises; those asked for after a capture wait */
	rt->checkpoints.capture_taken = rt->checkpoints.in_flight = false;
	if (result->code) {
		tell_failed(rt, durable.waiters, durable.tickets, result);
	} else {
		succeeded(rt, durable.waiters, result);
		control_finished(rt, result);
		durable.wanted = durable.waiters > rt->checkpoints.settled ||
				 control_waits(rt, durable.tickets) ||
				 rt->output_commit.captured_oldest_ns;
		if (!replica_takes(rt, &durable))
			checkpoints_durable(rt, &durable);
	}
	if (control_asks_after(rt, durable.tickets) ||
	    rt->checkpoints.requested > rt->checkpoints.stored)
		rt->checkpoints.wanted = true; /* they asked after the capture */
}

/*
 * What the newest generation has of output was written once that was durable. One more without it, and whoever goes on does
 * not print it again, be it into a pipe.
 */
static bool has_printed_since(struct runtime *rt)
{
	return rt->options.commit_output && rt->checkpoints.durable_output && !rt->output.held &&
	       streams_idle(rt);
}

/*
 * The intervals are a grid, whatever the checkpoints take: one whose end falls into the checkpoint
 * before is skipped, never queued.
 */
static void begin_if_due(struct runtime *rt, uint64_t now)
{
	uint64_t every = rt->options.every_ns;

	if (!rt->checkpoints.due_ns || now < rt->checkpoints.due_ns || rt->ending.ended ||
	    rt->options.looks)
		return;
	rt->checkpoints.due_ns = every ? rt->checkpoints.due_ns +
						 (now - rt->checkpoints.due_ns) / every * every +
						 every
				       : 0;
	if (checkpoints_heap_may_differ(rt) || has_printed_since(rt))
		begin(rt, every ? THAW_REASON_TIMER : THAW_REASON_REQUEST,
		      false); /* -EBUSY: skipped */
}

static bool due_by(uint64_t due_ns, uint64_t now)
{
	return due_ns && due_ns <= now;
}

/*
 * What is in flight goes on, what is due or wanted begins. True: one is ready for its capture, and
 * the turn under way may not be stopped for it yet.
 */
static bool phase_advance(struct runtime *rt, uint64_t now)
{
	struct thaw_result result;
	bool waits = false;

	/* Twice: what was captured may be durable when it is asked for. */
	for (unsigned i = 0; i < 2 && !waits; i++) {
		enum thaw_phase phase = thaw_checkpoint_poll(rt->heap, &result);

		waits = phase == THAW_READY && rt->guest->in_turn && !midturn_allowed(rt, now);
		if (phase == THAW_READY && !waits)
			capture(rt);
		else if (phase == THAW_DONE)
			finish(rt, &result);
		if (phase != THAW_READY)
			break;
	}
	return waits;
}

static bool advance(struct runtime *rt, uint64_t now)
{
	bool waits, asked;

	replica_advance(rt);
	begin_if_due(rt, now);
	waits = phase_advance(rt, now);
	asked = signals_take_checkpoint();
	asked = control_take_checkpoints(rt) || asked; /* both are taken */
	if (asked)
		rt->checkpoints.wanted = rt->checkpoints.urgent = true;
	if (rt->checkpoints.wanted && !rt->ending.ended)
		begin(rt, THAW_REASON_REQUEST, false);
	else if (due_by(output_commit_due_ns(rt), now) && !rt->ending.ended)
		begin(rt, THAW_REASON_OUTPUT, false);
	else
		return waits;
	return phase_advance(rt, now); /* a small one may be ready at once */
}

void checkpoints_advance(struct runtime *rt)
{
	if (!rt->options.image || rt->upgrade.running)
		return;
	/* What a turn that failed has left is no generation (owner.c), whoever was ready for one. */
	if (!guest_trapped(rt) && (!rt->ending.ended || rt->ending.final))
		advance(rt, clock_monotonic_ns());
}

void checkpoints_advance_mid_turn(struct runtime *rt)
{
	uint64_t now = clock_monotonic_ns();

	if (!rt->options.image || rt->ending.ended || rt->upgrade.running)
		return;
	if (advance(rt, now) && midturn_allowed_at(rt) > now)
		poll_timer_set(rt, midturn_allowed_at(rt));
	else
		poll_timer_set(rt, rt->checkpoints.due_ns);
}

/* What is in flight comes to its end, which `last` receives. */
static void complete(struct runtime *rt, struct thaw_result *last)
{
	struct thaw_result result;

	for (;;) {
		switch (thaw_checkpoint_wait(rt->heap)) {
		case THAW_READY:
			capture(rt);
			break;
		case THAW_DONE:
			thaw_checkpoint_poll(rt->heap, &result);
			finish(rt, &result);
			if (last)
				*last = result;
			break;
		case THAW_IDLE:
			return;
		default:
			break;
		}
	}
}

void checkpoints_complete(struct runtime *rt)
{
	if (rt->options.image && !guest_trapped(rt))
		complete(rt, NULL);
}

void checkpoints_settle(struct runtime *rt)
{
	if (rt->checkpoints.capture_taken && !guest_trapped(rt))
		complete(rt, NULL);
}

int checkpoints_now(struct runtime *rt, enum thaw_reason reason, struct thaw_result *result)
{
	struct thaw_result last = {.code = 0};

	if (!rt->options.image)
		return -EROFS;
	if (rt->options.looks) { /* all is well: nothing was to be kept */
		if (result)
			*result = last;
		return 0;
	}
	if (guest_trapped(rt))
		return -ECANCELED;
	complete(rt, NULL);
	last.code = begin(rt, reason, true);
	complete(rt, &last);
	if (result)
		*result = last;
	return last.code;
}

int checkpoints_last(struct runtime *rt, enum thaw_reason reason, struct thaw_result *result)
{
	int code;

	rt->checkpoints.last = true;
	if (rt->guest->in_turn)
		rt->checkpoints.urgent = true; /* it does not wait for its end */
	code = checkpoints_now(rt, reason, result);
	rt->checkpoints.last = false;
	if (code && rt->failures.failing)
		failures_at_end(rt);
	return code;
}

int checkpoints_name(struct runtime *rt, const char *name)
{
	if (!rt->options.image)
		return -EROFS;
	if (!thaw_name_valid(name))
		return -EINVAL;
	for (unsigned i = 0; i < rt->checkpoints.name_count; i++)
		if (!strcmp(rt->checkpoints.names[i].name, name))
			return 0;
	if (rt->checkpoints.name_count == THAW_NAMES_MAX)
		return -ENOSPC;
	if (rt->checkpoints.name_count == rt->checkpoints.name_room) {
		unsigned room = rt->checkpoints.name_room ? 2 * rt->checkpoints.name_room : 4;
		struct thaw_name *more = realloc(rt->checkpoints.names, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		rt->checkpoints.names = more;
		rt->checkpoints.name_room = room;
	}
	snprintf(rt->checkpoints.names[rt->checkpoints.name_count++].name,
		 sizeof(rt->checkpoints.names->name), "%s", name);
	return 0;
}

int owner_checkpoint(struct runtime *rt, uint64_t waiter, const char *name)
{
	int code = name ? checkpoints_name(rt, name) : 0;

	if (!rt->options.image || rt->options.looks)
		return -EROFS;
	if (code)
		return code;
	/* Numbers go on from the process before, whose waiters are settled. */
	if (!rt->checkpoints.requested && !rt->checkpoints.settled)
		rt->checkpoints.settled = rt->checkpoints.stored = waiter - 1;
	if (!rt->checkpoints.first_waiter)
		rt->checkpoints.first_waiter = waiter;
	rt->checkpoints.requested = waiter;
	if (!rt->checkpoints.capture_taken)
		rt->checkpoints.wanted =
			true; /* begun between turns, or joined if one is on its way to its capture */
	return 0;
}

/* ---- The interval ---- */

uint64_t owner_due_ns(const struct runtime *rt)
{
	uint64_t due[] = {rt->checkpoints.due_ns, output_commit_due_ns(rt), service_due_ns(),
			  replica_due_ns(rt)};
	uint64_t first = 0;

	if (rt->upgrade.running)
		return rt->upgrade.deadline_ns;
	for (size_t i = 0; i < sizeof(due) / sizeof(due[0]); i++)
		if (due[i] && (!first || due[i] < first))
			first = due[i];
	return first;
}

int checkpoints_open(struct runtime *rt, struct thaw_error *error)
{
	rt->checkpoints.durable_turns = rt->restored ? 0 : UINT64_MAX;
	rt->checkpoints.durable_output = rt->guest->common.output_bytes;
	/* The first can always be queued: whoever waits for it is told. */
	rt->checkpoints.outcomes = malloc(OUTCOMES_FIRST * sizeof(*rt->checkpoints.outcomes));
	if (!rt->checkpoints.outcomes)
		return failure(error, -ENOMEM, "out of memory");
	rt->checkpoints.outcome_room = OUTCOMES_FIRST;
	if (rt->options.image && rt->options.every_ns) {
		hold_back(rt, rt->restored);
		rt->checkpoints.due_ns = clock_monotonic_ns() + rt->options.every_ns;
	}
	return 0;
}

void checkpoints_close(struct runtime *rt)
{
	free(rt->checkpoints.outcomes);
	free(rt->checkpoints.names);
	rt->checkpoints.outcomes = NULL;
	rt->checkpoints.names = NULL;
}
