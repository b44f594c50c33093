/* SPDX-License-Identifier: MIT */
/*
 * evaluate.c - one piece of code in the global scope of a program: what it awaits, and what its result looks
 * like.
 *
 * Owns the evaluation under way, at most one. Called by the owner through the guest's table, on the owner's thread:
 * outside of turns, where it is a turn of its own, or at a poll of one that waits.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "excerpt.h"
#include "js/source/import_lines.h"
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

/*
 * Functions outlive what defined them: each statement of a shell, and each piece of code that a program is given, has a name of
 * its own, by which what stands there is found again. malloc'ed.
 */
static char *name_of(struct program *program, const char *code, size_t bytes, const char *name)
{
	js_value text;
	char *own = NULL;

	if (!program->options.keep_result) {
		if (!program->restored ||
		    asprintf(&own, "%.*s%llu]", (int)strcspn(name, "]"), name,
			     (unsigned long long)program->guest.common.restores) < 0)
			own = strdup(name);
		return own;
	}
	text = js_string(program->engine, code, bytes);
	if (text)
		own = turn_text(program, turn_ask(program, PRELUDE_STATEMENT, 1, &text));
	return own ? own : strdup(name);
}

static void forget_code(struct program *program)
{
	free(program->evaluation.code);
	program->evaluation.code = NULL;
}

/* A promise, or none and an exception (none as well: a trap). */
static void begin(struct program *program, const char *code, size_t bytes, const char *name)
{
	js_value promise, watched, result;
	size_t rewritten_bytes = 0;
	char *own, *rewritten;

	rewritten = import_lines_rewrite(code, bytes, &rewritten_bytes);
	if (rewritten) /* what is at a place is not what was typed */
		forget_code(program);
	own = name_of(program, code, rewritten ? 0 : bytes, name);
	promise = js_eval(program->engine, rewritten ? rewritten : code,
			  rewritten ? rewritten_bytes : bytes, own ? own : name,
			  JS_EVAL_SCRIPT | JS_EVAL_ASYNC | JS_EVAL_REDECLARE);
	free(rewritten);
	free(program->evaluation.name);
	program->evaluation.name = own;
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

static void evaluate_clear(struct program *program)
{
	program->evaluation.promise = program->evaluation.exception = 0;
}

enum guest_evaluation evaluate_begin(struct guest *guest, const char *code, size_t bytes,
				     const char *name)
{
	struct program *program = program_of(guest);
	bool inside = guest->in_turn;

	evaluate_clear(program);
	forget_code(program);
	program->evaluation.code = strndup(code, bytes); /* without it, nothing of it is shown */
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

static void keep(struct program *program, const char *name, js_value value)
{
	js_value global = js_global(program->engine);

	if (!js_set(program->engine, global, name,
		    js_dup(program->engine, value))) /* somebody made it read-only */
		js_free(program->engine, js_take_exception(program->engine));
	js_free(program->engine, global);
}

/* What was thrown, with where; the evaluation's answer if it failed. Consumes it. */
static void show_exception(struct program *program, js_value exception, const char *how,
			   char **text, size_t *bytes)
{
	char *excerpt = turn_excerpt(program, exception), *described;
	size_t described_bytes;
	FILE *to = NULL;

	if (program->options.keep_result)
		keep(program, "_error", exception);
	described = turn_describe(program, exception, &described_bytes);
	js_free(program->engine, exception);
	to = open_memstream(text, bytes);
	if (to) {
		fprintf(to, "%sUncaught %s", excerpt ? excerpt : "", how);
		program->guest.answer_head = (size_t)ftell(to);
		fwrite(described, 1, described_bytes, to);
		if (fclose(to)) {
			free(*text);
			to = NULL;
		}
	}
	if (!to) {
		program->guest.answer_head = 0;
		*text = described;
		*bytes = described_bytes;
		described = NULL;
	}
	free(described);
	free(excerpt);
}

/* ---- Promises that a shell has shown before they were settled ---- */

static void watch(struct program *program, js_value promise)
{
	struct watched *list = program->evaluation.watched;
	const char *code = program->evaluation.code ? program->evaluation.code : "";

	for (unsigned i = 0; i < WATCHED_MAX; i++) {
		if (list[i].promise)
			continue;
		list[i].promise = js_dup(program->engine, promise);
		snprintf(list[i].label, sizeof(list[i].label), "%.*s",
			 (int)text_valid_prefix(code, strnlen(code, sizeof(list[i].label) - 1)),
			 code);
		list[i].label[strcspn(list[i].label, "\n\t")] = '\0';
		return;
	}
}

static void show_settled(struct program *program, struct watched *watched)
{
	js_value arguments[2] = {watched->promise,
				 js_bool(program->engine, program->options.colours)};
	bool fulfilled = js_promise_state(program->engine, watched->promise) ==
			 JS_PROMISE_FULFILLED;
	char *text, *line = NULL;
	int length;

	watched->promise = 0;
	if (!fulfilled) { /* that is told of by itself, unless somebody has caught it */
		js_free(program->engine, arguments[0]);
		js_free(program->engine, arguments[1]);
		return;
	}
	text = turn_text(program, turn_ask(program, PRELUDE_INSPECT, 2, arguments));
	length = text ? asprintf(&line, "%s: %s\n", watched->label, text) : -1;
	if (length > 0)
		owner_write(program->guest.owner, STDOUT_FILENO, line, (size_t)length);
	free(length > 0 ? line : NULL);
	free(text);
}

void evaluate_show_settled(struct program *program)
{
	for (unsigned i = 0; i < WATCHED_MAX; i++) {
		struct watched *watched = &program->evaluation.watched[i];

		if (watched->promise && !program_trapped(program) &&
		    js_promise_state(program->engine, watched->promise) != JS_PROMISE_PENDING)
			show_settled(program, watched);
	}
}

/* ---- Results ---- */

/* A promise that was rejected is no result, but to a shell, which shows it as what it is. */
static bool is_failure(struct program *program, js_value value)
{
	return value && !program->options.keep_result && js_is_promise(program->engine, value) &&
	       js_promise_state(program->engine, value) == JS_PROMISE_REJECTED;
}

void evaluate_take_failure(struct program *program)
{
	js_value promise = program->evaluation.promise, result, value;

	if (!promise || js_promise_state(program->engine, promise) != JS_PROMISE_FULFILLED)
		return;
	result = js_promise_result(program->engine, promise);
	value = js_get(program->engine, result, "value");
	js_free(program->engine, result);
	if (is_failure(program, value))
		value = turn_ask(program, PRELUDE_WATCH, 1, &value);
	if (value)
		js_free(program->engine, value);
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
		show_exception(program, result, "", text, bytes);
		return false;
	}
	value = js_get(program->engine, result, "value");
	js_free(program->engine, result);
	if (is_failure(program, value)) {
		result = js_promise_result(program->engine, value);
		js_free(program->engine, value);
		show_exception(program, result, "(in promise) ", text, bytes);
		return false;
	}
	if (value && program->options.keep_result && !js_is_undefined(program->engine, value))
		keep(program, "_", value);
	if (value && program->options.shows_later && js_is_promise(program->engine, value) &&
	    js_promise_state(program->engine, value) == JS_PROMISE_PENDING)
		watch(program, value);
	if (value && !(program->options.plain_result && js_is_string(program->engine, value))) {
		js_value arguments[2] = {value, js_bool(program->engine, program->options.colours)};

		shown = turn_ask(program, PRELUDE_INSPECT, 2, arguments);
	} else {
		shown = value;
	}
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

	bool good = false;

	evaluate_clear(program);
	if (evaluation.promise)
		good = answer_of(program, evaluation.promise, text, bytes);
	else
		show_exception(program, evaluation.exception, "", text, bytes);
	forget_code(program);
	return good;
}

void evaluate_forget(struct guest *guest)
{
	struct program *program = program_of(guest);
	struct evaluation evaluation = program->evaluation;

	evaluate_clear(program);
	forget_code(program);
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
	size_t rewritten_bytes = 0;
	char *complaint = NULL, *rewritten = import_lines_rewrite(code, bytes, &rewritten_bytes);
	js_value exception, value = js_eval(engine, rewritten ? rewritten : code,
					    rewritten ? rewritten_bytes : bytes, "repl",
					    JS_EVAL_ASYNC | JS_EVAL_COMPILE_ONLY);

	free(rewritten);
	if (value) {
		js_free(engine, value);
	} else {
		exception = js_take_exception(engine);
		complaint = js_exception_text(engine, exception);
		js_free(engine, exception);
	}
	return complaint;
}

char *evaluate_ask(struct guest *guest, enum guest_question question, const char *text,
		   size_t bytes)
{
	struct program *program = program_of(guest);
	js_value argument = 0;

	if (guest->in_turn || js_trapped(program->engine))
		return NULL;
	if (question == GUEST_COMPLETIONS)
		argument = js_string(program->engine, text, bytes);
	return turn_text(program,
			 turn_ask(program,
				  question == GUEST_COMPLETIONS ? PRELUDE_COMPLETE : PRELUDE_TIMERS,
				  argument ? 1 : 0, &argument));
}
