// SPDX-License-Identifier: GPL-2.0-only
/*
 * context_preludes.c - what programs see (timers, the web's interfaces) in a second context of a VM.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kselftest_harness.h"

#include "../../vm/js/api/host.h"
#include "../../vm/js/program/program.h"

FIXTURE(preludes)
{
	struct program program;
	struct js_engine *engine;
};

FIXTURE_SETUP(preludes)
{
	const struct thaw_options options = {.max_bytes = JS_HEAP_MAX_BYTES,
					     .guard_bytes = JS_HEAP_GUARD_BYTES};
	struct js_host host = host_for(&self->program);
	struct thaw_error error = {0};

	host.interrupt = NULL; /* it would ask the owner of the program, and there is none */
	if (thaw_open(&options, &self->program.heap, &error) == THAW_EKERNEL)
		SKIP(return, "%s", error.text);
	ASSERT_EQ(0, js_engine_create(self->program.heap, &host, &self->engine, &error));
	self->program.engine = self->engine;
	self->program.blob.enter = host_install_prelude(self->engine);
	ASSERT_NE(0, self->program.blob.enter);
	ASSERT_EQ(1, host_new_context(self->engine, "second"))
	TH_LOG("%s", js_exception_text(self->engine, js_take_exception(self->engine)));
	ASSERT_NE(0, js_context_entry(self->engine, 1));
}

FIXTURE_TEARDOWN(preludes)
{
	js_engine_free(self->engine);
	thaw_close(self->program.heap);
}

static const char *run(struct js_engine *engine, unsigned context, const char *code)
{
	static char text[256];
	unsigned before = js_context_select(engine, context);
	js_value value = js_eval(engine, code, strlen(code), "test.js", JS_EVAL_SCRIPT);
	char *copy;

	copy = value ? js_to_string(engine, value, NULL)
		     : js_exception_text(engine, js_take_exception(engine));
	snprintf(text, sizeof(text), "%s", copy);
	free(copy);
	js_context_select(engine, before);
	return text;
}

/* Ask the prelude of a context; the number that it answers. */
static double ask(FIXTURE_DATA(preludes) * self, unsigned context, double operation, double value)
{
	struct js_engine *engine = self->engine;
	unsigned before = js_context_select(engine, context);
	js_value arguments[2] = {js_number(engine, operation), js_number(engine, value)};
	js_value entry = context ? js_context_entry(engine, context) : self->program.blob.enter;
	js_value result = js_call(engine, entry, 0, 2, arguments);
	double number = js_to_number(engine, result);

	js_context_select(engine, before);
	return number;
}

TEST_F(preludes, timers_are_of_their_context)
{
	double due;

	run(self->engine, 1, "var ran = 0; setTimeout(() => ran++, 5)");
	EXPECT_EQ(0, ask(self, 0, PRELUDE_NEXT_DUE, 0));
	due = ask(self, 1, PRELUDE_NEXT_DUE, 0);
	EXPECT_LT(0, due);
	ask(self, 0, PRELUDE_RUN_ONE, due + 10);
	EXPECT_STREQ("0", run(self->engine, 1, "ran"));
	ask(self, 1, PRELUDE_RUN_ONE, due + 10);
	EXPECT_STREQ("1", run(self->engine, 1, "ran"));
	EXPECT_STREQ("undefined", run(self->engine, 0, "typeof ran"));
}

TEST_F(preludes, late_parts_are_there_and_of_the_context)
{
	EXPECT_STREQ("true", run(self->engine, 1, "new URL('http://a/b') instanceof URL"));
	EXPECT_STREQ("true", run(self->engine, 1, "structuredClone([1]) instanceof Array"));
	EXPECT_STREQ("true", run(self->engine, 0, "structuredClone([1]) instanceof Array"));
	EXPECT_STREQ("true", run(self->engine, 1,
				 "(() => { try { atob('?') } catch (e) { return e "
				 "instanceof DOMException && e instanceof Error } })()"));
	EXPECT_STREQ("AQI=", run(self->engine, 1, "new Uint8Array([1, 2]).toBase64()"));
}

TEST_HARNESS_MAIN
