// SPDX-License-Identifier: GPL-2.0-only
/*
 * engine_contexts.c - several contexts in one VM: what each has of its own, what they share, and that a generation of an image
 * has all of them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "../../vm/js/engine/heap_layout.h"
#include "../../vm/js/engine/state.h"
#include "jobs.h"

static unsigned polls, poll_limit, rejections;

static bool interrupt(void *arg)
{
	(void)arg;
	return ++polls > poll_limit;
}

static void rejection(void *arg, js_value promise, js_value reason, bool handled)
{
	(void)arg, (void)promise, (void)reason, (void)handled;
	rejections++;
}

static char *resolve(void *arg, const char *base, const char *specifier, struct thaw_error *error)
{
	(void)arg, (void)base, (void)error;
	return strdup(specifier);
}

static char *load(void *arg, const char *name, size_t *bytes, struct thaw_error *error)
{
	static const char source[] = "export const own = []; globalThis.loaded = own;";

	(void)arg, (void)name, (void)error;
	*bytes = strlen(source);
	return strdup(source);
}

static js_value host_fail(struct js_engine *engine, void *arg, js_value self, unsigned count,
			  const js_value *arguments)
{
	(void)arg, (void)self, (void)count, (void)arguments;
	return js_throw_error(engine, "TypeError", "%u", js_context_current(engine));
}

static const struct js_host_binding bindings[] = {{"test.fail", host_fail}, {NULL, NULL}};
static const struct js_host host = {.bindings = bindings,
				    .interrupt = interrupt,
				    .rejection = rejection,
				    .module_resolve = resolve,
				    .module_load = load};

FIXTURE(contexts)
{
	char image[64];
	struct thaw *heap;
	struct js_engine *engine;
	struct thaw_error error;
};

static int open_heap(FIXTURE_DATA(contexts) * self)
{
	const struct thaw_options options = {.image = self->image,
					     .max_bytes = JS_HEAP_MAX_BYTES,
					     .guard_bytes = JS_HEAP_GUARD_BYTES,
					     .engine = js_engine_identity,
					     .flags = THAW_CREATE};

	return thaw_open(&options, &self->heap, &self->error);
}

FIXTURE_SETUP(contexts)
{
	poll_limit = 1u << 30;
	snprintf(self->image, sizeof(self->image), "/tmp/thaw-contexts-%d.thaw", (int)getpid());
	unlink(self->image);
	if (open_heap(self) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, js_engine_create(self->heap, &host, &self->engine, &self->error));
	ASSERT_EQ(1, js_context_new(self->engine, "second"));
}

FIXTURE_TEARDOWN(contexts)
{
	if (self->engine)
		js_engine_free(self->engine);
	if (self->heap)
		thaw_close(self->heap);
	unlink(self->image);
}

/* The text of a script's value in one of the contexts. */
static const char *run(struct js_engine *engine, unsigned context, const char *code)
{
	static char text[256];
	unsigned before = js_context_select(engine, context);
	js_value value = js_eval(engine, code, strlen(code), "test.js", JS_EVAL_SCRIPT);
	char *copy;

	if (!value) {
		value = js_take_exception(engine);
		copy = js_exception_text(engine, value);
	} else {
		copy = js_to_string(engine, value, NULL);
	}
	snprintf(text, sizeof(text), "%s", copy);
	free(copy);
	js_free(engine, value);
	js_context_select(engine, before);
	return text;
}

/* A generation, and another life from it. */
static int live_again(FIXTURE_DATA(contexts) * self)
{
	struct js_small small = js_engine_small(self->engine);
	struct thaw_result result;
	size_t bytes;
	int code = thaw_checkpoint(self->heap, THAW_REASON_TIMER, &small, sizeof(small), &result);

	js_engine_free(self->engine);
	thaw_close(self->heap);
	self->engine = NULL;
	self->heap = NULL;
	if (!code)
		code = open_heap(self);
	if (code)
		return code;
	memcpy(&small, thaw_state(self->heap, &bytes), sizeof(small));
	return js_engine_restore(self->heap, &host, &small, &self->engine, &self->error);
}

TEST_F(contexts, each_has_its_own_run_after_a_restore)
{
	char name[64], before[2][64];

	run(self->engine, 0, "function run() { return 1 }");
	run(self->engine, 1, "function run() { return 2 }; let lexical = 'own'");
	for (unsigned i = 0; i < 2; i++)
		snprintf(before[i], sizeof(before[i]), "%s", run(self->engine, i, "Math.random()"));
	ASSERT_EQ(0, live_again(self)) TH_LOG("%s", self->error.text);
	ASSERT_EQ(2, js_context_count(self->engine));
	EXPECT_STREQ("1", run(self->engine, 0, "run()"));
	EXPECT_STREQ("2", run(self->engine, 1, "run()"));
	EXPECT_STREQ("undefined", run(self->engine, 0, "typeof lexical"));
	EXPECT_STREQ("own", run(self->engine, 1, "lexical"));
	EXPECT_STREQ("second", js_context_name(self->engine, 1, name));
	EXPECT_EQ(1, js_context_find(self->engine, "second"));
	EXPECT_EQ(-ENOENT, js_context_find(self->engine, "third"));
	EXPECT_EQ(-EEXIST, js_context_new(self->engine, "second"));
	EXPECT_EQ(2, js_context_new(self->engine, "third")); /* also after it */
	EXPECT_STREQ("undefined", run(self->engine, 2, "typeof run"));
	ASSERT_EQ(0, live_again(self)) TH_LOG("%s", self->error.text);
	EXPECT_EQ(3, js_context_count(self->engine));
	EXPECT_STREQ("2", run(self->engine, 1, "run()"));
}

TEST_F(contexts, each_life_of_each_draws_other_random_numbers)
{
	struct thaw_result result;
	struct js_small small = js_engine_small(self->engine);
	char drawn[4][64];

	ASSERT_EQ(0,
		  thaw_checkpoint(self->heap, THAW_REASON_TIMER, &small, sizeof(small), &result));
	for (unsigned i = 0; i < 4; i++) {
		if (i == 2)
			ASSERT_EQ(0, live_again(self));
		snprintf(drawn[i], sizeof(drawn[i]), "%s",
			 run(self->engine, i % 2, "Math.random()"));
		for (unsigned k = 0; k < i; k++)
			EXPECT_STRNE(drawn[k], drawn[i]);
	}
}

TEST_F(contexts, globals_and_built_ins_are_of_one_values_of_all)
{
	js_value list, global;

	js_context_select(self->engine, 1);
	list = js_eval(self->engine, "[1, 2]", 6, "t.js", JS_EVAL_SCRIPT);
	js_context_select(self->engine, 0);
	global = js_global(self->engine);
	ASSERT_TRUE(js_set(self->engine, global, "list", list));
	EXPECT_STREQ("false,true,2",
		     run(self->engine, 0,
			 "[list instanceof Array, Array.isArray(list), list.length].join()"));
	EXPECT_STREQ("true", run(self->engine, 0, "Array.prototype.x = 1; list.x === undefined"));
	EXPECT_STREQ("undefined", run(self->engine, 1, "typeof list"));
	js_free(self->engine, global);
}

TEST_F(contexts, all_have_the_same_globals)
{
	static const char *const code = "Object.getOwnPropertyNames(globalThis).length";
	char names[16];

	snprintf(names, sizeof(names), "%s", run(self->engine, 0, code));
	EXPECT_STREQ(names, run(self->engine, 1, code));
}

TEST_F(contexts, what_a_host_function_throws_is_an_error_of_its_caller)
{
	static const char *const code =
		"try { fail() } catch (e) { (e instanceof TypeError) + e.message }";
	js_value global;

	for (unsigned i = 0; i < 2; i++) {
		js_context_select(self->engine, i);
		global = js_global(self->engine);
		js_set(self->engine, global, "fail",
		       js_host_function_new(self->engine, "test.fail"));
		js_free(self->engine, global);
	}
	js_context_select(self->engine, 0);
	EXPECT_STREQ("true0", run(self->engine, 0, code));
	EXPECT_STREQ("true1", run(self->engine, 1, code));
	EXPECT_EQ(0, js_context_current(self->engine));
}

TEST_F(contexts, jobs_of_all_run_in_one_queue_each_in_its_context)
{
	run(self->engine, 0,
	    "var seen = []; Promise.resolve().then(() => seen.push(globalThis.name)); var name = 'a'; 0");
	run(self->engine, 1,
	    "var seen = []; Promise.resolve().then(() => seen.push(globalThis.name)); var name = 'b'; 0");
	run(self->engine, 1, "Promise.reject(new Error); 0");
	EXPECT_EQ(2, run_jobs(self->engine, 0, NULL));
	EXPECT_STREQ("a", run(self->engine, 0, "seen.join()"));
	EXPECT_STREQ("b", run(self->engine, 1, "seen.join()"));
	EXPECT_EQ(1, rejections);
}

TEST_F(contexts, each_has_its_own_instance_of_a_module)
{
	for (unsigned i = 0; i < 2; i++) {
		run(self->engine, i,
		    "import('same').then(m => { m.own.push(globalThis.name) }); var name = 'n'; 0");
		run_jobs(self->engine, 0, NULL);
	}
	EXPECT_STREQ("n", run(self->engine, 0, "loaded.join()"));
	EXPECT_STREQ("n", run(self->engine, 1, "loaded.join()"));
}

TEST_F(contexts, a_loop_in_any_is_interrupted)
{
	poll_limit = polls + 3;
	EXPECT_NE(NULL, strstr(run(self->engine, 1, "for (;;);"), "interrupted"));
	poll_limit = 1u << 30;
	EXPECT_STREQ("3", run(self->engine, 1, "1 + 2"));
}

TEST_F(contexts, a_table_that_cannot_be_is_refused)
{
	static const u32 wrong[] = {4, 0xfffffff0, 0x1000};
	struct js_engine *engine = self->engine;
	u32 at = ((struct heap_note *)vm_at(engine, engine->note))->contexts;
	const struct js_small small = js_engine_small(engine);

	vm_store32(engine, at + 8, wrong[0]); /* of the first entry: its context */
	EXPECT_EQ(THAW_EDAMAGED, live_again(self));
	for (unsigned i = 0; i < 3; i++) {
		memcpy((char *)thaw_base(self->heap) + at + 8, &wrong[i], 4);
		EXPECT_EQ(THAW_EDAMAGED, js_engine_restore(self->heap, &host, &small, &self->engine,
							   &self->error));
		EXPECT_NE(NULL, strstr(self->error.text, "contexts"));
	}
}

TEST_F(contexts, there_is_room_for_32)
{
	char name[16];

	for (int i = 2; i < (int)JS_CONTEXTS_MAX; i++) {
		snprintf(name, sizeof(name), "c%d", i);
		ASSERT_EQ(i, js_context_new(self->engine, name));
	}
	EXPECT_EQ(-ENOSPC, js_context_new(self->engine, "one more"));
	js_gc(self->engine);
	EXPECT_STREQ("7", run(self->engine, JS_CONTEXTS_MAX - 1, "3 + 4"));
	EXPECT_EQ(-EINVAL, js_context_new(self->engine, ""));
}

TEST_HARNESS_MAIN
