/* SPDX-License-Identifier: MIT */
/*
 * evaluate.c - one piece of code in the global scope of a program, for the shell, -e and -p: its
 * turn, what it awaits, and what its result looks like.
 *
 * Called by the command line, on the owner's thread; evaluate_inside() at a poll. Must never let a
 * program go on that was only asked something (options.asks), unless the question awaits it.
 */
#include <stdlib.h>
#include <string.h>

#include "loop.h"

static bool promise_settled(struct runtime *rt, void *arg)
{
	return js_promise_state(rt->engine, *(js_value *)arg) != JS_PROMISE_PENDING;
}

static void answer_with(struct runtime_answer *answer, const char *text)
{
	answer->text = strdup(text);
	answer->bytes = strlen(text);
}

/* What the promise of an evaluation, {value}, became. Consumes it. */
static int rendered(struct runtime *rt, js_value promise, struct runtime_answer *answer)
{
	enum js_promise_state state = js_promise_state(rt->engine, promise);
	js_value result, value = 0, shown;

	if (state == JS_PROMISE_PENDING) { /* interrupted, or nothing can settle it any more */
		answer_with(answer, "Promise { <pending> }");
		js_free(rt->engine, promise);
		return 0;
	}
	result = js_promise_result(rt->engine, promise);
	js_free(rt->engine, promise);
	if (state == JS_PROMISE_REJECTED) {
		answer->text = loop_describe(rt, result, &answer->bytes);
		js_free(rt->engine, result);
		return EXIT_EXCEPTION;
	}
	value = js_get(rt->engine, result, "value");
	js_free(rt->engine, result);
	if (value && rt->options.keep_result && !js_is_undefined(rt->engine, value)) {
		js_value global = js_global(rt->engine);

		if (!js_set(rt->engine, global, "_",
			    js_dup(rt->engine, value))) /* somebody made it read-only */
			js_free(rt->engine, js_take_exception(rt->engine));
		js_free(rt->engine, global);
	}
	shown = !value ? 0
		: rt->options.plain_result && js_is_string(rt->engine, value)
			? value
			: loop_ask(rt, PRELUDE_INSPECT, 1, &value);
	if (shown)
		answer->text = js_to_string(rt->engine, shown, &answer->bytes);
	else
		answer_with(answer, "<value that cannot be shown>");
	if (shown)
		js_free(rt->engine, shown);
	return 0;
}

/* A promise, or 0 and an exception (0 as well: a trap). */
static js_value begin(struct runtime *rt, const char *code, size_t bytes, const char *name,
		      js_value *exception)
{
	js_value promise, watched, result;

	promise = js_eval(rt->engine, code, bytes, name,
			  JS_EVAL_SCRIPT | JS_EVAL_ASYNC | JS_EVAL_REDECLARE);
	if (promise) {
		watched = js_dup(rt->engine, promise);
		result = loop_ask(rt, PRELUDE_WATCH, 1, &watched);
		if (result)
			js_free(rt->engine, result);
	} else if (!loop_trapped(rt)) {
		*exception = js_take_exception(rt->engine);
	}
	return promise;
}

/* The same, as a turn. */
static js_value evaluate(struct runtime *rt, const char *code, size_t bytes, const char *name,
			 js_value *exception)
{
	js_value promise;

	signals_take_interrupt();
	loop_turn_begin(rt);
	promise = begin(rt, code, bytes, name, exception);
	loop_turn_end(rt);
	return promise;
}

/* What was evaluated may await what its program waits for; only then that goes on. */
static void settle(struct runtime *rt, js_value promise)
{
	if (rt->options.asks && !promise_settled(rt, &promise) && !signals_stop())
		runtime_resume(rt);
	if (!rt->ending.ended)
		loop_serve(rt, promise_settled, &promise, true);
}

static int look(struct runtime *rt, js_value promise, js_value exception,
		struct runtime_answer *answer)
{
	if (promise)
		return rendered(rt, promise, answer);
	answer->text = loop_describe(rt, exception, &answer->bytes);
	js_free(rt->engine, exception);
	return EXIT_EXCEPTION;
}

static int answered(struct runtime *rt, js_value promise, js_value exception,
		    struct runtime_answer *answer)
{
	int status;

	signals_take_interrupt();
	status = look(rt, promise, exception, answer);
	if (signals_stop()) /* what was rendered may have been cut off */
		loop_serve(rt, NULL, NULL, true);
	if (!loop_trapped(rt) && !rt->ending.ended)
		return status;
	free(answer->text);
	answer->text = NULL;
	return rt->ending.exit_code;
}

/* ---- Asked in the middle of a turn ---- */

struct question {
	const char *code, *name;
	size_t bytes;
	struct runtime_answer *answer;
	js_value promise; /* its answer waits for other turns */
	bool answered;
	int status;
};

/*
 * The question runs like a function that the program's own code has called, on the side stack, while its
 * turn stands still; and the turn is captured again as it was, with what the question has changed.
 */
static void answer_and_leave(struct runtime *rt, struct question *question, js_value promise,
			     js_value exception)
{
	int status = look(rt, promise, exception, question->answer);

	if (rt->turn.exiting || signals_stop()) {
		free(question->answer->text);
		question->answer->text = NULL;
		status = rt->turn.exiting ? rt->turn.exit_request : 128 + signals_stop();
		rt->turn.exiting = false;
	}
	question->answered = true;
	question->status = status;
	rt->checkpoints.urgent = true;
	if (checkpoints_last(rt, signals_stop() ? THAW_REASON_SIGNAL : THAW_REASON_EXIT, NULL))
		status = EXIT_IO;
	loop_end(rt, status, false);
	js_turn_abandon(rt->engine, "asked in the middle of a turn");
}

void evaluate_inside(struct runtime *rt)
{
	struct question *question = rt->evaluation.question;
	js_value promise, exception = 0;

	rt->evaluation.question = NULL;
	if (midturn_possible(rt)) {
		rt->evaluation.running = rt->evaluation.asking = true;
		promise = begin(rt, question->code, question->bytes, question->name, &exception);
		if (!promise || rt->turn.exiting || signals_stop() || promise_settled(rt, &promise))
			answer_and_leave(rt, question, promise, exception);
		rt->evaluation.running = rt->evaluation.asking = false;
		question->promise = promise;
	}
	runtime_tell_turn(rt);
}

/* True: it was answered, or its promise waits for the turns that follow. */
static bool ask_inside(struct runtime *rt, struct question *question)
{
	if (!rt->blob.turn.step)
		return false;
	rt->evaluation.question = question;
	js_poll_next(rt->engine);
	runtime_resume_turn(rt);
	rt->evaluation.question = NULL;
	return question->answered || question->promise;
}

/* ---- */

int runtime_eval(struct runtime *rt, const char *code, size_t bytes, const char *name,
		 struct runtime_answer *answer)
{
	struct question question = {code, name, bytes, answer, 0, false, 0};
	js_value promise, exception = 0;
	int status;

	*answer = (struct runtime_answer){NULL, 0};
	rt->evaluation.used = true;
	if (runtime_ended_early(rt))
		return rt->ending.exit_code;
	if (rt->options.asks) {
		if (ask_inside(rt, &question) && question.answered)
			return question.status;
	} else {
		rt->blob.flags &= ~JS_BLOB_FINISHED;
		runtime_resume(rt);
	}
	if (rt->ending.ended)
		return rt->ending.exit_code;
	rt->evaluation.running = true;
	promise = question.promise;
	if (!promise)
		promise = evaluate(rt, code, bytes, name, &exception);
	if (promise && !rt->ending.ended)
		settle(rt, promise);
	if (rt->ending
		    .ended) { /* exit(), a signal, a trap, or somebody else's exception, which was printed */
		if (!js_trapped(rt->engine)) {
			if (promise)
				js_free(rt->engine, promise);
			if (exception)
				js_free(rt->engine, exception);
		}
		status = rt->ending.exit_code;
	} else {
		status = answered(rt, promise, exception, answer);
	}
	rt->evaluation.running = false;
	/* The caller shows the text after what was printed. */
	if (!js_trapped(rt->engine))
		streams_drain(rt);
	return status;
}

void runtime_tell_exception(const struct runtime_answer *answer)
{
	if (answer->text)
		loop_print_exception("Uncaught ", answer->text, answer->bytes);
}

unsigned runtime_uncaught(const struct runtime *rt)
{
	return rt->evaluation.uncaught;
}
