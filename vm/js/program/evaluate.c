/* SPDX-License-Identifier: MIT */
/*
 * evaluate.c - one piece of code in the global scope of a program: what it awaits, and what its result looks
 * like.
 *
 * Owns the evaluation under way, at most one. Called by the owner through the guest's table, on the owner's thread:
 * outside of turns, where it is a turn of its own, or at a poll of one that waits.
 */
#include <stdlib.h>
#include <string.h>

#include "program.h"

_Static_assert(GUEST_SOURCE_MAX_BYTES == JS_SOURCE_MAX_BYTES, "one limit for what is evaluated");

static bool settled(struct program *program)
{
	return js_promise_state(program->engine, program->evaluation.promise) != JS_PROMISE_PENDING;
}

enum guest_evaluation evaluate_state(struct guest *guest)
{
	struct program *program = program_of(guest);

	if (!program->evaluation.promise)
		return GUEST_FAILED;
	return settled(program) ? GUEST_SETTLED : GUEST_PENDING;
}

/* A promise, or none and an exception (none as well: a trap). */
static void begin(struct program *program, const char *code, size_t bytes, const char *name)
{
	js_value promise, watched, result;

	promise = js_eval(program->engine, code, bytes, name,
			  JS_EVAL_SCRIPT | JS_EVAL_ASYNC | JS_EVAL_REDECLARE);
	if (promise) {
		watched = js_dup(program->engine, promise);
		result = turn_ask(program, PRELUDE_WATCH, 1, &watched);
		if (result)
			js_free(program->engine, result);
	} else if (!program_trapped(program)) {
		program->evaluation.exception = js_take_exception(program->engine);
	}
	program->evaluation.promise = promise;
}

enum guest_evaluation evaluate_begin(struct guest *guest, const char *code, size_t bytes,
				     const char *name)
{
	struct program *program = program_of(guest);
	bool inside = guest->in_turn;

	program->evaluation = (struct evaluation){0, 0};
	if (!inside)
		turn_begin(program);
	begin(program, code, bytes, name);
	if (!inside)
		turn_end(program);
	return program->evaluation.promise && !js_trapped(program->engine) ? evaluate_state(guest)
									   : GUEST_FAILED;
}

static void show(const char *words, char **text, size_t *bytes)
{
	*text = strdup(words);
	*bytes = strlen(words);
}

static void keep(struct program *program, js_value value)
{
	js_value global = js_global(program->engine);

	if (!js_set(program->engine, global, "_",
		    js_dup(program->engine, value))) /* somebody made it read-only */
		js_free(program->engine, js_take_exception(program->engine));
	js_free(program->engine, global);
}

/* What the promise of an evaluation, {value}, became. Consumes it. */
static bool answer_of(struct program *program, js_value promise, char **text, size_t *bytes)
{
	enum js_promise_state state = js_promise_state(program->engine, promise);
	js_value result, value = 0, shown;

	if (state == JS_PROMISE_PENDING) { /* interrupted, or nothing can settle it any more */
		show("Promise { <pending> }", text, bytes);
		js_free(program->engine, promise);
		return true;
	}
	result = js_promise_result(program->engine, promise);
	js_free(program->engine, promise);
	if (state == JS_PROMISE_REJECTED) {
		*text = turn_describe(program, result, bytes);
		js_free(program->engine, result);
		return false;
	}
	value = js_get(program->engine, result, "value");
	js_free(program->engine, result);
	if (value && program->options.keep_result && !js_is_undefined(program->engine, value))
		keep(program, value);
	shown = !value ? 0
		: program->options.plain_result && js_is_string(program->engine, value)
			? value
			: turn_ask(program, PRELUDE_INSPECT, 1, &value);
	if (shown)
		*text = js_to_string(program->engine, shown, bytes);
	else
		show("<value that cannot be shown>", text, bytes);
	if (shown)
		js_free(program->engine, shown);
	return true;
}

bool evaluate_answer(struct guest *guest, char **text, size_t *bytes)
{
	struct program *program = program_of(guest);
	struct evaluation evaluation = program->evaluation;

	program->evaluation = (struct evaluation){0, 0};
	if (evaluation.promise)
		return answer_of(program, evaluation.promise, text, bytes);
	*text = turn_describe(program, evaluation.exception, bytes);
	js_free(program->engine, evaluation.exception);
	return false;
}

void evaluate_forget(struct guest *guest)
{
	struct program *program = program_of(guest);
	struct evaluation evaluation = program->evaluation;

	program->evaluation = (struct evaluation){0, 0};
	if (js_trapped(program->engine))
		return;
	if (evaluation.promise)
		js_free(program->engine, evaluation.promise);
	if (evaluation.exception)
		js_free(program->engine, evaluation.exception);
}

char *evaluate_complaint(struct guest *guest, const char *code, size_t bytes)
{
	struct js_engine *engine = program_of(guest)->engine;
	js_value exception,
		value = js_eval(engine, code, bytes, "repl", JS_EVAL_ASYNC | JS_EVAL_COMPILE_ONLY);
	char *complaint = NULL;

	if (value) {
		js_free(engine, value);
	} else {
		exception = js_take_exception(engine);
		complaint = js_exception_text(engine, exception);
		js_free(engine, exception);
	}
	return complaint;
}
