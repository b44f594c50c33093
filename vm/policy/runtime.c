/* SPDX-License-Identifier: MIT */
/*
 * runtime.c - opens, starts, restores and ends a program; the other parts of the policy are in the files
 * that internal.h lists.
 *
 * Owns struct runtime. Called by the command line, on the owner's thread. What it does on the way
 * to a restored program's first turn is what "process start to first result" measures: nothing
 * that depends on the heap's size, no file but the image, no page of the heap but those that the
 * first turn itself touches.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/process_limits.h"
#include "engines/engines.h"
#include "internal.h"

/*
 * The kernel knows a process's start in ticks of 10 ms; this is when the dynamic linker ran our
 * constructors, well below 1 ms later.
 */
static uint64_t process_start_ns;

__attribute__((constructor)) static void note_process_start(void)
{
	process_start_ns = clock_monotonic_ns();
}

/* For people: the image may be a stranger's, and so the name. Valid until the next call. */
static const char *script_name(const struct runtime *rt)
{
	const char *path = rt->type->name(rt->guest);
	const char *slash = path ? strrchr(path, '/') : NULL;
	static char name[256];

	thaw_escape(slash ? slash + 1 : path ? path : "the program", name, sizeof(name));
	return name;
}

/* ---- Opening ---- */

static int open_guest(struct runtime *rt, struct thaw_error *error)
{
	rt->guest = rt->type->open(rt, &rt->guest_options, rt->heap);
	return rt->guest ? 0 : failure(error, -ENOMEM, "out of memory");
}

/* The program out of the generation that the heap was opened from. */
static int restore(struct runtime *rt, struct thaw_error *error)
{
	size_t bytes;
	const void *state = thaw_state(rt->heap, &bytes);
	int code = open_guest(rt, error);

	if (!code)
		code = rt->type->restore(rt->guest, state, bytes, error);
	return code || !rt->options.fork_of ? code : fork_take_script(rt, error);
}

/*
 * A generation in the middle of a turn: put its stack in place, or say why not. THAW_EENGINE: it
 * cannot be continued here, and `error` has the reason.
 */
static int restore_turn(struct runtime *rt, struct thaw_error *error)
{
	unsigned long long number = thaw_opened(rt->heap)->number;
	const char *refusal;
	size_t bytes;
	const void *state = thaw_state(rt->heap, &bytes);

	refusal = midturn_refusal(rt, state, bytes);
	if (refusal)
		return failure(error, THAW_EENGINE,
			       "%s: generation %llu stopped in the middle of a turn, %s",
			       fork_origin(rt), number, refusal);
	if (rt->type->restore_turn(rt->guest))
		return failure(
			error, THAW_EDAMAGED,
			"%s: the stack in generation %llu cannot be one: thaw verify tells more",
			fork_origin(rt), number);
	return 0;
}

/*
 * Where a generation is made for each answer, the eight newest are of a few milliseconds. So that there is something to go
 * back to, the newest of each of the last eight seconds are kept, too, unless somebody says what is to be kept.
 */
static const struct thaw_thinning each_second = {.count = 8, .period_ns = 1000000000};

static void set_retention(struct runtime *rt)
{
	struct runtime_options *options = &rt->options;

	if (!options->commit_output || options->retain || options->thinning_count)
		return;
	options->thinning = &each_second;
	options->thinning_count = 1;
}

/* Why an older generation was opened than was asked for, unless that was `told`. */
static void tell_fallback(struct runtime *rt, const char *told)
{
	struct thaw_status status;

	thaw_status(rt->heap, &status);
	if (status.fallback.code && strcmp(status.fallback.text, told))
		fprintf(stderr, "thaw: %s\n", status.fallback.text);
}

/* A start that took long, and why. */
static void tell_eager(struct runtime *rt)
{
	struct thaw_status status;

	uint64_t bytes;

	thaw_status(rt->heap, &status);
	bytes = rt->type->process ? status.restore_bytes : thaw_size(rt->heap);
	if (!rt->options.quiet && !strcmp(status.delivery, "eager"))
		fprintf(stderr, "thaw: %s: all %llu MiB were loaded first\n", status.delivery_why,
			(unsigned long long)(bytes + (1u << 20) - 1) >> 20);
}

/* A heap, and if the image holds a program, its VM. */
static int open_program(struct runtime *rt, struct thaw_error *error)
{
	bool shares = rt->options.fork_of && !rt->options.image;
	int code = shares ? fork_open_heap(rt, error) : runtime_open_heap(rt, 0, error);

	if (code)
		return code;
	if (rt->options.image)
		tell_fallback(rt, "");
	rt->restored = fork_origin(rt) && thaw_opened(rt->heap)->number != 0;
	if (!rt->restored)
		return open_guest(rt, error);
	if (!rt->type->process && !shares) /* that is loaded by prepare() */
		tell_eager(rt);
	if ((rt->options.script || rt->options.fork_of) &&
	    thaw_failures(rt->heap) >= FAILURES_MAX && !rt->options.generation &&
	    !rt->options.upgrades) {
		unsigned long long number = thaw_opened(rt->heap)->number;

		return failure(
			error, RUNTIME_EREPEATS,
			"%s: generation %llu was continued %u times, and each time the engine trapped before the next: %s",
			rt->options.image, number, thaw_failures(rt->heap),
			failures_advice(rt, number).text);
	}
	return restore(rt, error);
}

/* The newest generation cannot be continued in its turn: one between turns in its line of descent can. */
static int open_portable(struct runtime *rt, const struct thaw_error *refusal,
			 struct thaw_error *error)
{
	struct thaw_generation left = *thaw_opened(rt->heap);
	struct thaw_status before;
	const struct thaw_generation *opened;
	int code;

	thaw_status(rt->heap, &before);
	rt->type->close(rt->guest);
	rt->guest = NULL;
	thaw_close(rt->heap);
	rt->heap = NULL;
	code = runtime_open_heap(rt, THAW_OPEN_PORTABLE, error);
	if (code == THAW_ENOGEN)
		return failure(
			error, THAW_EENGINE,
			"%s; the image holds none between turns that it descends from: use that build and that key, or start anew with --fresh",
			refusal->text);
	if (code)
		return code;
	tell_fallback(rt, before.fallback.code ? before.fallback.text : "");
	code = restore(rt, error);
	if (code)
		return code;
	if (rt->guest->mid_turn)
		return failure(error, THAW_EDAMAGED, "%s: generation %llu is of two kinds",
			       rt->options.image,
			       (unsigned long long)thaw_opened(rt->heap)->number);
	opened = thaw_opened(rt->heap);
	fprintf(stderr, "thaw: %s; going on from generation %llu, %.1f s older\n", refusal->text,
		(unsigned long long)opened->number,
		left.time_ns > opened->time_ns ? (double)(left.time_ns - opened->time_ns) / 1e9
					       : 0.0);
	return 0;
}

static int open_turn(struct runtime *rt, struct thaw_error *error)
{
	struct thaw_error refusal;
	int code;

	if (!rt->restored || !rt->guest->mid_turn)
		return 0;
	code = restore_turn(rt, &refusal);
	if (!code)
		return 0;
	/*
	 * Going back gives up what the turn had done. That is for whoever runs the program, not for
	 * who asks it something.
	 */
	if (code == THAW_EENGINE && rt->options.fork_of && !rt->options.image)
		return failure(error, code, "%s: %s", refusal.text, fork_advice(rt).text);
	if (code == THAW_EENGINE && !rt->options.generation && rt->options.script)
		return open_portable(rt, &refusal, error);
	*error = refusal;
	return code;
}

/*
 * What the process before had printed, and nobody had read. Whoever only asks the program something
 * leaves it to who runs it.
 */
static int print_rest(struct runtime *rt, struct thaw_error *error)
{
	struct guest_common *common = &rt->guest->common;
	const void *output = common->output;
	size_t bytes = common->output_bytes;

	common->output = NULL;
	common->output_bytes = 0;
	if (output && streams_restore(rt, output, bytes,
				      (rt->options.plain_result || rt->options.holds_output) &&
					      rt->type->name(rt->guest)))
		return failure(error, -ENOMEM, "out of memory");
	return 0;
}

/*
 * The thread that writes checkpoints is started by the first of them. A program that cannot have it would
 * run with nothing durable: it does not begin.
 */
static int want_checkpoints(struct runtime *rt, struct thaw_error *error)
{
	int code = rt->options.image ? limits_want_thread() : 0;

	if (code && control_gives_way(rt))
		code = limits_want_thread();
	return code ? failure(error, code, "cannot start the thread that writes checkpoints: %s",
			      thaw_strerror(code))
		    : 0;
}

int runtime_open(const struct runtime_options *options, struct runtime **runtime,
		 struct thaw_error *error)
{
	struct runtime *rt = calloc(1, sizeof(*rt));
	int code;

	*runtime = NULL;
	if (!rt)
		return failure(error, -ENOMEM, "out of memory");
	rt->options = *options;
	rt->type = options->guest ? options->guest : &javascript_guest;
	rt->options.commit_output &= options->image != NULL; /* else nothing is ever durable */
	set_retention(rt);
	rt->guest_options = (struct guest_options){
		.image = options->image,
		.script = options->script,
		.keep_result = options->keep_result,
		.shows_later = options->keep_result && options->interactive,
		.colours = options->colours,
		.plain_result = options->plain_result,
		.self_contained = options->self_contained,
		.roll_back = options->roll_back,
		.commit_output = rt->options.commit_output,
		.quiet = options->quiet,
		.verbose = options->verbose,
		.upgrades = options->upgrades,
		.argument_count = options->argument_count,
		.arguments = options->arguments,
	};
	if (streams_open(rt)) {
		free(rt);
		return failure(error, -ENOMEM, "out of memory");
	}
	code = replica_look(rt, error);
	if (!code)
		code = open_program(rt, error);
	if (!code)
		code = open_turn(rt, error);
	/* Before anybody is told anything that a power cut could still take. */
	if (!code && rt->restored)
		code = thaw_settle(rt->heap, error);
	if (!code) {
		rt->guest->common.restores += rt->restored;
		branch_begin(rt);
		code = rt->type->prepare(rt->guest, error);
	}
	rt->prepared = !code;
	if (!code && rt->restored && rt->type->process && !rt->guest->common.finished)
		tell_eager(rt);
	if (!code)
		code = checkpoints_open(rt, error);
	if (!code)
		code = want_checkpoints(rt, error);
	if (!code)
		code = replica_open(rt, error);
	if (!code)
		code = print_rest(rt, error);
	if (code) {
		runtime_close(rt);
		limits_explain(error, code);
		return code == -EAGAIN ? THAW_EKERNEL : code; /* of threads there are too few */
	}
	rt->restore_ns = clock_monotonic_ns();
	signals_open(rt);
	poll_timer_open(rt);
	control_attach(rt);
	if (rt->restored && options->verbose)
		fprintf(stderr,
			"thaw: restored generation %llu%s: %llu MiB %s, restore %llu of this program\n",
			(unsigned long long)thaw_opened(rt->heap)->number,
			rt->guest->mid_turn ? " in the middle of a turn" : "",
			(unsigned long long)(thaw_size(rt->heap) >> 20),
			rt->type->process ? "mapped" : "of heap",
			(unsigned long long)rt->guest->common.restores);
	*runtime = rt;
	return 0;
}

void runtime_close(struct runtime *rt)
{
	if (!rt)
		return;
	control_detach(rt);
	runtime_end(rt, 0, false); /* nothing is told any more */
	if (rt->prepared) {
		streams_flush(rt, UINT64_MAX);
		rt->type->settle(rt->guest);
	}
	signals_close(rt);
	replica_close(rt);
	/*
	 * A program that failed before its first generation leaves no image: it holds nothing, and would
	 * pass for a program that was started. The library's threads wake the guest up: they end first.
	 */
	thaw_discard(rt->heap);
	streams_close(rt);
	poll_timer_close(rt);
	if (rt->guest)
		rt->type->close(rt->guest);
	checkpoints_close(rt);
	midturn_close(rt);
	free(rt);
}

static const struct guest_type *const guests[] = {&javascript_guest, &process_guest};
#define GUESTS (sizeof(guests) / sizeof(guests[0]))

bool runtime_left_threads(void)
{
	for (size_t i = 0; i < GUESTS; i++)
		if (guests[i]->left_threads && guests[i]->left_threads())
			return true;
	return engines_left_threads();
}

bool runtime_restored(const struct runtime *rt)
{
	return rt->restored;
}

bool runtime_crashed(const struct runtime *rt)
{
	return rt->ending.crashed;
}

bool runtime_trapped(const struct runtime *rt)
{
	return guest_trapped(rt) != NULL;
}

const char *runtime_identity(unsigned index)
{
	return index < GUESTS ? guests[index]->identity : NULL;
}

struct thaw *runtime_heap(struct runtime *rt)
{
	return rt->heap;
}

/* ---- The first turn ---- */

bool runtime_ended_early(struct runtime *rt)
{
	if (!rt->guest->turns && signals_stop())
		runtime_end(rt, 128 + signals_stop(), false);
	return rt->ending.ended;
}

int runtime_start(struct runtime *rt)
{
	struct thaw_error error;
	int code;

	rt->starting = true;
	if (runtime_ended_early(rt))
		return rt->ending.exit_code;
	code = rt->type->load(rt->guest, &error);
	rt->starting = false;
	if (runtime_ended_early(rt))
		return rt->ending.exit_code;
	if (code) {
		fprintf(stderr, "thaw: %s\n", error.text);
		return code == -EMFILE || code == -ENFILE || code == -ENOMEM ? EXIT_NO_KERNEL
									     : EXIT_NO_INPUT;
	}
	rt->type->start(rt->guest);
	return rt->ending.ended && !rt->ending.final ? rt->ending.exit_code : 0;
}

void runtime_tell_turn(struct runtime *rt)
{
	if (!rt->options.script && !rt->options.quiet)
		fprintf(stderr,
			"thaw: generation %llu stopped in the middle of a turn, which goes on first\n",
			(unsigned long long)thaw_opened(rt->heap)->number);
}

/* The rest of the turn that a restored program was stopped in. */
void runtime_resume_turn(struct runtime *rt)
{
	if (!rt->restored || rt->turn_resumed)
		return;
	rt->turn_resumed = true;
	if (!rt->guest->mid_turn)
		return;
	if (!rt->evaluation.question)
		runtime_tell_turn(rt);
	rt->type->resume_turn(rt->guest);
}

/*
 * Tell a restored program that it was. Once per process, before anything else runs in it, but for
 * the rest of the turn that it was stopped in: what that began and asked for in this process is not
 * among what the process before left behind.
 */
void runtime_resume(struct runtime *rt)
{
	if (!rt->restored || rt->resumed)
		return;
	rt->resumed = true;
	runtime_resume_turn(rt);
	if (!rt->ending.ended)
		rt->type->resume(rt->guest, rt->checkpoints.first_waiter);
}

/* ---- The end ---- */

static bool unsettled(struct runtime *rt)
{
	return !rt->evaluation.used && rt->type->unsettled(rt->guest);
}

static const char *begins_anew(const struct runtime *rt)
{
	return rt->options.fork_of ? "" : " (--fresh starts it again)";
}

static int run_program(struct runtime *rt)
{
	const char *note = rt->restored && rt->options.script && !rt->options.quiet &&
					   !rt->evaluation.used
				   ? script_name(rt)
				   : NULL;
	unsigned long long number = rt->restored ? thaw_opened(rt->heap)->number : 0;
	uint64_t jobs_before;
	bool idle_before;

	if (rt->restored && runtime_ended_early(rt))
		return rt->ending.exit_code;
	if (rt->restored && rt->options.script && rt->guest->common.finished) {
		if (note)
			owner_tell(rt,
				   "thaw: %s %s(%d) in generation %llu; nothing is left to do%s\n",
				   note, rt->type->process ? "ended with exit" : "called exit",
				   rt->guest->common.exit_code, number, begins_anew(rt));
		return rt->guest->common.exit_code;
	}
	rt->guest->common.finished = false; /* a shell over a finished program: it lives again */
	if (rt->guest->exiting && !rt->options.interactive)
		rt->guest->common.finished = true;
	/* A program that waited for the generation it was restored from goes on in the first turn. */
	idle_before = rt->restored && !rt->resumed && !rt->guest->mid_turn;
	jobs_before = rt->guest->reactions;
	runtime_resume(rt);
	if (idle_before && rt->guest->reactions == jobs_before && !rt->ending.ended &&
	    !rt->type->has_work(rt->guest) && !rt->evaluation.used) {
		if (note)
			owner_tell(
				rt,
				"thaw: %s finished in generation %llu; nothing is left to do%s\n",
				note, number, begins_anew(rt));
		/*
		 * Asking a finished program again and again shall not make generations, unless
		 * its handlers did something.
		 */
		runtime_end(rt, unsettled(rt) ? EXIT_UNSETTLED : 0, rt->guest->hears_restores);
	}
	rt->type->run(rt->guest, GUEST_UNTIL_IDLE, -1);
	if (!rt->ending.ended) {
		bool stuck = unsettled(rt);

		if (stuck)
			owner_tell(rt,
				   "thaw: %s ended while its top-level await was still waiting\n",
				   script_name(rt));
		runtime_end(rt, stuck ? EXIT_UNSETTLED : 0, true);
	}
	return ending_finish(rt);
}

int runtime_run(struct runtime *rt)
{
	int code = run_program(rt);
	char how[32];

	/* What waits for its readers is in the generation that it goes on from. */
	if (rt->ending.rests)
		return code;
	/* Also one that says so of its own accord, start after start, without getting any further. */
	if (code && !rt->replica.ends && !rt->failures.noted && !rt->failures.failing &&
	    !signals_stop() && !rt->ending.stop_signal &&
	    !(rt->type->process && rt->guest->common.finished)) {
		snprintf(how, sizeof(how), "exit code %d", code);
		failures_crashed(rt, how);
	}
	return replica_finish(rt, ending_deliver(rt, code));
}

int runtime_leave(struct runtime *rt, int code)
{
	runtime_end(rt, code, true);
	return replica_finish(rt, ending_deliver(rt, ending_finish(rt)));
}

/* A terminal takes what was printed within this time, unless it was stopped. */
#define TERMINAL_NS 100000000u

int runtime_wait_input(struct runtime *rt, int fd)
{
	int result;

	if (runtime_ended_early(rt))
		return 0;
	runtime_resume(rt);
	result = rt->type->run(rt->guest, GUEST_UNTIL_READABLE, fd) ? 1 : -1;
	if (rt->ending.ended)
		result = 0;
	if (result < 0)
		signals_take_interrupt();
	if (rt->options.interactive) /* who draws on the terminal now does so after it */
		streams_flush(rt, TERMINAL_NS);
	return result;
}

int runtime_checkpoint_name(struct runtime *rt, const char *name)
{
	return checkpoints_name(rt, name);
}

int runtime_checkpoint(struct runtime *rt, enum thaw_reason reason, struct thaw_result *result)
{
	int code;

	/* What the one in flight came to is told first: the new one shall have it. */
	checkpoints_complete(rt);
	rt->type->tell_outcomes(rt->guest);
	code = reason == THAW_REASON_EXIT ? checkpoints_last(rt, reason, result)
					  : checkpoints_now(rt, reason, result);
	rt->type->tell_outcomes(rt->guest);
	streams_drain(rt); /* the caller may have something to say about it, too */
	return code;
}

/* ---- Numbers ---- */

void owner_stats(struct runtime *rt, struct runtime_stats *stats)
{
	struct guest_numbers numbers;

	rt->type->numbers(rt->guest, &numbers);
	*stats = (struct runtime_stats){
		.process = rt->type->process,
		.heap_bytes = numbers.heap_bytes,
		.turns = rt->guest->turns,
		.output_bytes = rt->output.bytes,
		.collections = numbers.collections,
		.restore_ns = rt->restored ? rt->restore_ns - process_start_ns : 0,
		.first_turn_ns =
			rt->guest->first_turn_ns ? rt->guest->first_turn_ns - process_start_ns : 0,
		.restores = rt->guest->common.restores,
		.turn_stops = rt->midturn.count,
		.stack_bytes_max = rt->midturn.stack_bytes_max,
		.stack_ns_total = rt->midturn.stack_ns_total,
		.failing = rt->failures.failing,
		.failing_ns = rt->failures.failing
				      ? clock_monotonic_ns() - rt->failures.failing_since_ns
				      : 0,
		.failure = rt->failures.text,
		.opened = *thaw_opened(rt->heap),
		.every_ns = rt->options.image ? rt->options.every_ns : 0,
		.achieved_ns = rt->checkpoints.timed > 1
				       ? rt->checkpoints.timed_ns / (rt->checkpoints.timed - 1)
				       : 0,
	};
	output_commit_stats(rt, stats);
	thaw_status(rt->heap, &stats->heap);
	if (rt->replica.seen && rt->options.store->durable)
		stats->heap.generation = rt->replica.acknowledged;
}

void runtime_stats(struct runtime *rt, struct runtime_stats *stats)
{
	owner_stats(rt, stats);
}
