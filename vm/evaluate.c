/* SPDX-License-Identifier: MIT */
/*
 * evaluate.c - one piece of code in the global scope of a program, for the shell, -e and -p: its
 * turn, what it awaits, and what its result looks like.
 *
 * Called by the command line, on the owner's thread. Must never let a program go on that was only
 * asked something (options.asks), unless the question awaits it.
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

/* The code's own turn: a promise, or 0 and an exception (0 as well: a trap). */
static js_value evaluate(struct runtime *rt, const char *code, size_t bytes, const char *name,
			 js_value *exception)
{
	js_value promise, watched, result;

	signals_take_interrupt();
	loop_turn_begin(rt);
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
	loop_turn_end(rt);
	return promise;
}

/* What was evaluated may await what its program waits for; only then that goes on. */
static void settle(struct runtime *rt, js_value promise)
{
	if (rt->options.asks && !promise_settled(rt, &promise) && !signals_stop())
		runtime_resume(rt);
	if (!rt->ended)
		loop_serve(rt, promise_settled, &promise, true);
}

static int answered(struct runtime *rt, js_value promise, js_value exception,
		    struct runtime_answer *answer)
{
	int status;

	signals_take_interrupt();
	if (promise) {
		status = rendered(rt, promise, answer);
	} else {
		answer->text = loop_describe(rt, exception, &answer->bytes);
		js_free(rt->engine, exception);
		status = EXIT_EXCEPTION;
	}
	if (signals_stop()) /* what was rendered may have been cut off */
		loop_serve(rt, NULL, NULL, true);
	if (!loop_trapped(rt) && !rt->ended)
		return status;
	free(answer->text);
	answer->text = NULL;
	return rt->exit_code;
}

int runtime_eval(struct runtime *rt, const char *code, size_t bytes, const char *name,
		 struct runtime_answer *answer)
{
	js_value promise, exception = 0;
	int status;

	*answer = (struct runtime_answer){NULL, 0};
	rt->evaluated = true;
	if (runtime_ended_early(rt))
		return rt->exit_code;
	if (rt->options.asks) {
		runtime_resume_turn(rt);
	} else {
		rt->blob.flags &= ~JS_BLOB_FINISHED;
		runtime_resume(rt);
	}
	if (rt->ended)
		return rt->exit_code;
	rt->evaluating = true;
	promise = evaluate(rt, code, bytes, name, &exception);
	if (promise && !rt->ended)
		settle(rt, promise);
	if (rt->ended) { /* exit(), a signal, a trap, or somebody else's exception, which was printed */
		if (!js_trapped(rt->engine)) {
			if (promise)
				js_free(rt->engine, promise);
			if (exception)
				js_free(rt->engine, exception);
		}
		status = rt->exit_code;
	} else {
		status = answered(rt, promise, exception, answer);
	}
	rt->evaluating = false;
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
	return rt->uncaught;
}
