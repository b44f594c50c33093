/* SPDX-License-Identifier: MIT */
/*
 * turn.c - turns and their steps: the only way into the VM while a program runs.
 *
 * Owns the turn under way. Called by loop.c and program.c, on the owner's thread. Must never call the prelude
 * without need: whatever runs in the VM writes its pages, and an idle program shall stay clean.
 *
 * Steps. A turn is a sequence of calls into the VM: one of the prelude (or the main module's
 * evaluation), then one per job. What comes after each stands in a function of its own (called,
 * evaluated, job_ran), because the call may have been made by another process: a generation in the
 * middle of a turn names the step, and turn_resume() goes on behind it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "excerpt.h"
#include "js/modules/typescript.h"
#include "mapped_frames.h"
#include "program.h"

#define OUTCOMES_AT_ONCE 8u

/* ---- Exceptions ---- */

char *turn_describe(struct program *program, js_value exception, size_t *bytes)
{
	js_value argument = js_dup(program->engine, exception);
	js_value text = turn_ask(program, PRELUDE_DESCRIBE, 1, &argument);
	char *copy = text ? js_to_string(program->engine, text, bytes) : NULL;

	if (text)
		js_free(program->engine, text);
	if (!copy) { /* no memory or no stack left to format it nicely */
		copy = js_exception_text(program->engine, exception);
		if (bytes)
			*bytes = strlen(copy);
	}
	return copy;
}

/* Does a listener of the program's take it (addEventListener('error'))? */
static bool heard(struct program *program, js_value exception)
{
	js_value argument = js_dup(program->engine, exception);
	js_value answer = turn_ask(program, PRELUDE_UNCAUGHT, 1, &argument);
	bool taken = answer && js_to_bool(program->engine, answer);

	if (answer)
		js_free(program->engine, answer);
	return taken;
}

char *turn_text(struct program *program, js_value value)
{
	char *text = js_is_string(program->engine, value)
			     ? js_to_string(program->engine, value, NULL)
			     : NULL;

	js_free(program->engine, value);
	return text;
}

static char *item_text(struct program *program, js_value list, uint32_t index)
{
	return turn_text(program, js_get_index(program->engine, list, index));
}

char *turn_excerpt(struct program *program, js_value exception)
{
	js_value argument = js_dup(program->engine, exception);
	js_value report = turn_ask(program, PRELUDE_REPORT, 1, &argument);
	char *shown = NULL;

	if (report && js_is_object(program->engine, report)) {
		char *frames = item_text(program, report, 0),
		     *message = item_text(program, report, 1);
		char *statement = item_text(program, report, 2);

		/* Of what a compiler made, nobody wants to see a line. */
		char *mapped = frames ? mapped_frames(program, frames) : NULL;

		if (frames && message &&
		    !(mapped && strncmp(mapped, frames, strcspn(frames, "\n"))))
			shown = excerpt_show(program, message, frames, statement);
		free(mapped);
		free(frames);
		free(message);
		free(statement);
	}
	if (report)
		js_free(program->engine, report);
	return shown;
}

/* Consumes it. */
static void uncaught(struct program *program, js_value exception, bool in_promise)
{
	struct runtime *owner = program->guest.owner;
	const char *prefix = in_promise ? "Uncaught (in promise) " : "Uncaught ";
	char *text, *excerpt, *begin = NULL;

	if (!exception || program_trapped(program))
		return;
	if (program->guest.exiting || owner_unwinding(owner) ||
	    (!in_promise && heard(program, exception))) { /* the error that unwinds the stack */
		js_free(program->engine, exception);
		return;
	}
	excerpt = turn_excerpt(program, exception);
	text = turn_describe(program, exception, NULL);
	js_free(program->engine, exception);
	if (excerpt && asprintf(&begin, "%s%s", excerpt, prefix) < 0)
		begin = NULL;
	if (!program_trapped(program))
		owner_uncaught(owner, begin ? begin : prefix, text);
	free(begin);
	free(excerpt);
	free(text);
}

static bool note_rejection(struct program *program, struct js_rejection rejection)
{
	if (program->turn.rejection_count == program->turn.rejection_room) {
		unsigned room = program->turn.rejection_room ? 2 * program->turn.rejection_room
							     : 16;
		struct js_rejection *more = realloc(program->turn.rejections, room * sizeof(*more));

		if (!more)
			return false;
		program->turn.rejections = more;
		program->turn.rejection_room = room;
	}
	program->turn.rejections[program->turn.rejection_count++] = rejection;
	return true;
}

void turn_rejection(void *arg, js_value promise, js_value reason, bool handled)
{
	struct program *program = arg;
	struct js_rejection rejection = {
		.promise = js_dup(program->engine, promise),
		.reason = handled ? 0 : js_dup(program->engine, reason),
		.handled = handled,
	};

	if (!note_rejection(program, rejection)) {
		js_free(program->engine, rejection.promise);
		js_free(program->engine, rejection.reason);
	}
}

/*
 * Whoever is rejected and still without a handler when the jobs of the turn are done ends the
 * program, as in node.
 */
static void report_rejections(struct program *program)
{
	struct js_engine *engine = program->engine;
	js_value arguments[2] = {js_array(engine), js_array(engine)}, reasons, length;
	unsigned rejected = 0, handled = 0, count = program->turn.rejection_count, reported = 0;

	program->turn.rejection_count = 0;
	for (unsigned i = 0; i < count; i++) {
		struct js_rejection *entry = &program->turn.rejections[i];
		js_value pair;

		if (entry->handled) {
			js_set_index(engine, arguments[1], handled++, entry->promise);
			continue;
		}
		pair = js_array(engine);
		js_set_index(engine, pair, 0, entry->promise);
		js_set_index(engine, pair, 1, entry->reason);
		js_set_index(engine, arguments[0], rejected++, pair);
	}
	reasons = turn_ask(program, PRELUDE_UNHANDLED, 2, arguments);
	if (!reasons)
		return;
	length = js_get(engine, reasons, "length");
	reported = (unsigned)js_to_number(engine, length);
	js_free(engine, length);
	for (unsigned i = 0; i < reported && !owner_ended(program->guest.owner); i++)
		uncaught(program, js_get_index(engine, reasons, i), true);
	js_free(engine, reasons);
}

/* ---- Turns ---- */

/* At a poll, on the host's stack. True ends the script. */
bool turn_interrupt(void *arg)
{
	struct program *program = arg;

	return program->guest.exiting || owner_poll(program->guest.owner);
}

/* What the VM is entered for. */
static void set_step(struct program *program, enum js_turn_step step)
{
	program->turn.step = step;
	program->guest.runs_own = step == JS_TURN_CALL;
}

/* What the prelude's entry function takes: the operation's number, and what it works on. */
static unsigned gather(struct program *program, enum prelude_operation operation, unsigned count,
		       const js_value *arguments, js_value all[JS_TURN_ARGUMENTS])
{
	all[0] = js_number(program->engine, operation);
	for (unsigned i = 0; i < count; i++)
		all[i + 1] = arguments[i];
	return count + 1;
}

static void free_all(struct program *program, unsigned count, const js_value *values)
{
	for (unsigned i = 0; i < count; i++)
		js_free(program->engine, values[i]);
}

/* The entry function of the selected context's prelude. */
static js_value entry_of(struct program *program)
{
	unsigned context = js_context_current(program->engine);

	return context ? js_context_entry(program->engine, context) : program->blob.enter;
}

js_value turn_ask(struct program *program, enum prelude_operation operation, unsigned count,
		  js_value *arguments)
{
	js_value all[JS_TURN_ARGUMENTS], result;

	count = gather(program, operation, count, arguments, all);
	result = js_call(program->engine, entry_of(program), 0, count, all);
	free_all(program, count, all);
	if (!result && !program_trapped(program))
		js_free(program->engine, js_take_exception(program->engine));
	return result;
}

struct due {
	bool keeps_alive;
	double next; /* 0: there is none */
	unsigned context;
};

/* When is the earliest timer of a context due, and does any keep the program alive? False: it does not say. */
static bool ask_next_due_of(struct program *program, unsigned context, struct due *due)
{
	unsigned before = js_context_select(program->engine, context);
	js_value value = turn_ask(program, PRELUDE_NEXT_DUE, 0, NULL);
	double next;

	js_context_select(program->engine, before);
	if (!value)
		return false;
	next = js_to_number(program->engine, value);
	js_free(program->engine, value);
	due->keeps_alive |= next > 0;
	next = fabs(next);
	if (next > 0 && (due->next == 0 || next < due->next)) {
		due->next = next;
		due->context = context;
	}
	return true;
}

/* The same of all of them. */
static void ask_next_due(struct program *program)
{
	struct due due = {0};

	for (unsigned i = 0; i < js_context_count(program->engine); i++)
		if ((!i || js_context_entry(program->engine, i)) &&
		    !ask_next_due_of(program, i, &due))
			return;
	program->events.keeps_alive = due.keeps_alive;
	program->events.next_due = due.next;
	program->events.due_context = due.context;
}

/*
 * A generation became durable since the module "thaw" was told: now the heap is about to change
 * anyway.
 */
static void sync_bindings(struct program *program)
{
	struct thaw_status status;
	js_value arguments[2], result;

	if (!(program->blob.flags & JS_BLOB_MODULE) || !program->options.image)
		return;
	thaw_status(program->heap, &status);
	if (status.generation == program->synced_generation)
		return;
	program->synced_generation = status.generation;
	arguments[0] = js_number(program->engine, (double)status.generation);
	arguments[1] = js_number(program->engine, (double)program->guest.common.restores);
	result = turn_ask(program, PRELUDE_SYNC, 2, arguments);
	if (result)
		js_free(program->engine, result);
}

/* A turn begins, or goes on in this process. */
static void enter_turn(struct program *program)
{
	program->guest.turn_began_ns = clock_monotonic_ns();
	owner_turn_begins(program->guest.owner);
	program->guest.in_turn = true;
}

void turn_begin(struct program *program)
{
	enter_turn(program);
	sync_bindings(program);
}

/* After a job. False: no more of them. */
static bool job_ran(struct program *program, js_value exception)
{
	if (exception)
		uncaught(program, exception, false);
	return owner_step_done(program->guest.owner);
}

/* One by one, because exit() means that not even the next job runs. */
static void run_jobs(struct program *program)
{
	js_value exception;
	bool ran;

	do {
		if (program->guest.exiting || owner_ended(program->guest.owner) ||
		    program_trapped(program))
			return;
		set_step(program, JS_TURN_JOB);
		ran = js_run_job(program->engine, &exception);
		set_step(program, JS_TURN_NONE);
		program->guest.reactions += ran;
	} while (ran && job_ran(program, exception));
}

/* What nobody caught. True: a listener heard of it, and may have left something to do. */
static bool report_failures(struct program *program)
{
	js_value failure = program->turn.main_failure;
	bool told = false;

	if (failure) {
		program->turn.main_failure = 0;
		uncaught(program, failure, false);
		told = true;
	}
	if (!program_trapped(program) && program->turn.rejection_count)
		evaluate_take_failure(program);
	if (!program_trapped(program) && program->turn.rejection_count) {
		report_rejections(program);
		told = true;
	}
	return told && !program_trapped(program) && !owner_ended(program->guest.owner) &&
	       !program->guest.exiting;
}

void turn_end(struct program *program)
{
	do
		run_jobs(program);
	while (report_failures(program));
	typescript_close();
	if (program->options.shows_later && !program_trapped(program))
		evaluate_show_settled(program);
	if (!program_trapped(program) && !owner_ended(program->guest.owner)) {
		if (program->turn.collect || js_gc_wanted(program->engine)) {
			js_gc(program->engine);
			program->turn.collections++;
			program->turn.collect = false;
		}
		js_give_back(program->engine);
		if (!program->guest.exiting)
			ask_next_due(program);
	}
	program_trapped(program);
	program->guest.in_turn = false;
	if (!program->guest.turns++)
		program->guest.first_turn_ns = clock_monotonic_ns();
	if (program->guest.exiting)
		owner_exited(program->guest.owner);
}

/* After the call of the prelude: whatever it was, its result is nothing. */
static void called(struct program *program, js_value result)
{
	free_all(program, program->turn.argument_count, program->turn.arguments);
	program->turn.argument_count = 0;
	if (result)
		js_free(program->engine, result);
	else if (!program_trapped(program))
		uncaught(program, js_take_exception(program->engine), false);
}

/* After the evaluation of the main module: a promise. */
static void evaluated(struct program *program, js_value promise)
{
	js_value result;

	if (promise) {
		result = turn_ask(program, PRELUDE_MAIN, 1, &promise);
		if (result)
			js_free(program->engine, result);
	} else if (!program_trapped(program)) {
		uncaught(program, js_take_exception(program->engine), false);
	}
}

void turn_run(struct program *program, enum prelude_operation operation, unsigned count,
	      js_value *arguments)
{
	js_value result;
	unsigned before;

	turn_begin(program);
	program->turn.argument_count =
		gather(program, operation, count, arguments, program->turn.arguments);
	set_step(program, JS_TURN_CALL);
	before = js_context_select(program->engine,
				   operation == PRELUDE_RUN_ONE ? program->events.due_context : 0);
	result = js_call(program->engine, entry_of(program), 0, program->turn.argument_count,
			 program->turn.arguments);
	js_context_select(program->engine, before);
	set_step(program, JS_TURN_NONE);
	called(program, result);
	turn_end(program);
}

void turn_main(struct program *program, const char *source, size_t bytes, const char *name)
{
	js_value promise;

	turn_begin(program);
	set_step(program, JS_TURN_MAIN);
	promise = js_eval(program->engine, source, bytes, name, JS_EVAL_MODULE);
	set_step(program, JS_TURN_NONE);
	evaluated(program, promise);
	turn_end(program);
}

void turn_main_failed(struct program *program, const struct thaw_error *error)
{
	turn_begin(program);
	js_throw_error(program->engine, error->code == -EILSEQ ? "SyntaxError" : "Error", "%s",
		       error->text);
	evaluated(program, 0);
	turn_end(program);
}

void turn_resume(struct program *program)
{
	const struct js_turn *turn = &program->blob.turn;
	js_value result;

	program->turn.argument_count = turn->argument_count;
	memcpy(program->turn.arguments, turn->arguments, sizeof(program->turn.arguments));
	program->turn.main_failure = turn->main_failure;
	program->turn.collect = turn->collect;
	for (unsigned i = 0; i < turn->rejection_count; i++)
		note_rejection(program, turn->rejections[i]);
	enter_turn(program);
	set_step(program, turn->step);
	result = js_turn_continue(program->engine);
	set_step(program, JS_TURN_NONE);
	if (turn->step == JS_TURN_CALL)
		called(program, result);
	else if (turn->step == JS_TURN_MAIN)
		evaluated(program, result);
	else
		job_ran(program, result);
	turn_end(program);
}

/* ---- Signals ---- */

static const struct {
	const char *name;
	int number;
} signals[] = {
	{"SIGINT", SIGINT},   {"SIGTERM", SIGTERM},   {"SIGHUP", SIGHUP},   {"SIGQUIT", SIGQUIT},
	{"SIGUSR1", SIGUSR1}, {"SIGWINCH", SIGWINCH}, {"SIGCONT", SIGCONT},
};
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

int turn_signal_number(const char *name)
{
	for (size_t i = 0; i < SIGNALS; i++)
		if (!strcmp(name, signals[i].name))
			return signals[i].number;
	return 0;
}

bool turn_tell_signal(struct program *program)
{
	int number = owner_take_signal(program->guest.owner);
	js_value name;

	for (size_t i = 0; number && i < SIGNALS; i++) {
		if (signals[i].number != number)
			continue;
		name = js_string(program->engine, signals[i].name, strlen(signals[i].name));
		turn_run(program, PRELUDE_SIGNAL, 1, &name);
		return true;
	}
	return false;
}

/* ---- What became of checkpoints ---- */

static void tell_durable(struct program *program, const struct guest_outcome *outcome)
{
	const struct thaw_result *result = &outcome->result;
	const struct thaw_generation *generation = &result->generation;
	struct js_engine *engine = program->engine;
	bool changed = !result->unchanged;
	const char *reason = thaw_reason_name(outcome->reason);
	js_value arguments[2] = {js_number(engine, (double)outcome->last), js_object(engine)};

	js_set(engine, arguments[1], "generation", js_number(engine, (double)generation->number));
	js_set(engine, arguments[1], "pages",
	       js_number(engine, changed ? (double)generation->pages_stored : 0));
	js_set(engine, arguments[1], "bytes",
	       js_number(engine, changed ? (double)generation->bytes_written : 0));
	js_set(engine, arguments[1], "pauseNs",
	       js_number(engine, changed ? (double)generation->pause_ns : 0));
	js_set(engine, arguments[1], "durableNs", js_number(engine, (double)result->durable_ns));
	js_set(engine, arguments[1], "reason", js_string(engine, reason, strlen(reason)));
	turn_run(program, PRELUDE_DURABLE, 2, arguments);
}

/* What a program sees as `code` of the error. */
static const char *code_name(int code)
{
	switch (code) {
	case THAW_EGONE:
		return "EGONE";
	case THAW_EREPLACED:
		return "EREPLACED";
	case THAW_EOVERWRITTEN:
		return "EOVERWRITTEN";
	default:
		return code > -4096 ? uv_err_name(code) : "ETHAW";
	}
}

static void tell_failed(struct program *program, const struct guest_outcome *outcome)
{
	const char *name = code_name(outcome->result.code);
	char message[600];
	js_value arguments[3];

	snprintf(message, sizeof(message), "checkpoint failed: %s", outcome->result.error.text);
	arguments[0] = js_number(program->engine, (double)outcome->last);
	arguments[1] = js_string(program->engine, message, strlen(message));
	arguments[2] = js_string(program->engine, name, strlen(name));
	turn_run(program, PRELUDE_FAILED, 3, arguments);
}

bool turn_tell_outcomes(struct program *program)
{
	struct guest_outcome outcome;
	bool told = false;

	/* A turn that tells one may leave more to tell: there is an end to it. */
	for (unsigned left = OUTCOMES_AT_ONCE;
	     left && !program->guest.in_turn && !owner_ended(program->guest.owner) &&
	     !js_trapped(program->engine) && !owner_output_full(program->guest.owner) &&
	     owner_take_outcome(program->guest.owner, &outcome);
	     left--) {
		if (outcome.result.code)
			tell_failed(program, &outcome);
		else
			tell_durable(program, &outcome);
		told = true;
	}
	return told;
}
