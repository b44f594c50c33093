// SPDX-License-Identifier: GPL-2.0-only
/*
 * engine_values.c - what goes into a JavaScript VM and comes out of it: values, exceptions, host
 * functions, modules, jobs.
 *
 * The heap has no image: this is about vm/js/ alone. A world of files in memory stands in for the
 * runtime.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kselftest_harness.h"

#include "../../vm/js/engine/engine.h"
#include "jobs.h"

static const struct {
	const char *name, *source;
} files[] = {
	{"/m/a.js",
	 "import { b } from './b.js'; export const a = 'a' + b; export { url } from './b.js';"},
	{"/m/b.js", "import { c } from './sub/c.js'; export const b = 'b' + c; export const url = "
		    "import.meta.url;"},
	{"/m/sub/c.js", "export const c = 'c'; export default import.meta;"},
	{"/m/even.js", "import { odd } from './odd.js'; export function even(n) { return n === 0 "
		       "|| odd(n - 1); }"},
	{"/m/odd.js", "import { even } from './even.js'; export function odd(n) { return n !== 0 "
		      "&& even(n - 1); }"},
	{"/m/data.json", "{\"list\": [1, 2, {\"x\": \"\xc3\xa9\"}]}"},
	{"/m/bom.json", "\xef\xbb\xbf[1]"},
	{"/m/broken.json", "{\"list\": [1, 2,, ]}"},
	{"/m/syntax.js", "export const fine = 1;\nlet x = ;\n"},
	{"/m/throws.js", "export const z = 1;\nthrow new TypeError('from the module');\n"},
	{"/m/odd name #1%\xc3\xa9.js", "export default import.meta;"},
};

struct world {
	struct js_engine *engine;
	unsigned unhandled, handled, interrupts;
	bool interrupt;
	char reason[128];
};

static char *world_resolve(void *arg, const char *base, const char *specifier,
			   struct thaw_error *error)
{
	char *name = NULL;
	const char *slash = strrchr(base, '/');

	(void)arg;
	if (specifier[0] == '/') {
		name = strdup(specifier);
	} else if (strncmp(specifier, "./", 2) == 0) {
		if (asprintf(&name, "%.*s/%s", slash ? (int)(slash - base) : 0, base,
			     specifier + 2) < 0)
			name = NULL;
	} else {
		snprintf(error->text, sizeof(error->text),
			 "cannot find module '%s' imported from %s", specifier, base);
	}
	return name;
}

static char *world_load(void *arg, const char *name, size_t *bytes, struct thaw_error *error)
{
	(void)arg;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (strcmp(files[i].name, name) == 0) {
			*bytes = strlen(files[i].source);
			return strdup(files[i].source);
		}
	}
	snprintf(error->text, sizeof(error->text),
		 "cannot read module %s: No such file or directory", name);
	return NULL;
}

static void world_rejection(void *arg, js_value promise, js_value reason, bool handled)
{
	struct world *world = arg;
	char *text = js_to_string(world->engine, reason, NULL);

	(void)promise;
	snprintf(world->reason, sizeof(world->reason), "%s", text);
	free(text);
	if (handled)
		world->handled++;
	else
		world->unhandled++;
}

static bool world_interrupt(void *arg)
{
	struct world *world = arg;

	world->interrupts++;
	return world->interrupt;
}

/* ---- Host functions ---- */

static js_value host_sum(struct js_engine *engine, void *arg, js_value self, unsigned count,
			 const js_value *arguments)
{
	double sum = 0;

	(void)arg, (void)self;
	for (unsigned i = 0; i < count; i++)
		sum += js_to_number(engine, arguments[i]);
	return js_number(engine, sum);
}

static js_value host_throw(struct js_engine *engine, void *arg, js_value self, unsigned count,
			   const js_value *arguments)
{
	char *type = js_to_string(engine, arguments[0], NULL);

	(void)arg, (void)self, (void)count;
	js_throw_error(engine, type, "thrown by the host: %d", 42);
	free(type);
	return 0;
}

static js_value host_reenter(struct js_engine *engine, void *arg, js_value self, unsigned count,
			     const js_value *arguments)
{
	(void)arg, (void)self, (void)count;
	return js_call(engine, arguments[0], 0, 1, &arguments[1]); /* an exception passes through */
}

static js_value host_self(struct js_engine *engine, void *arg, js_value self, unsigned count,
			  const js_value *arguments)
{
	(void)arg, (void)count, (void)arguments;
	return js_get(engine, self, "secret");
}

static js_value host_silent(struct js_engine *engine, void *arg, js_value self, unsigned count,
			    const js_value *arguments)
{
	(void)engine, (void)arg, (void)self, (void)count, (void)arguments;
	return 0; /* a bug of the host's: no exception either */
}

static const struct js_host_binding bindings[] = {
	{"test.sum", host_sum},	  {"test.throw", host_throw},	{"test.reenter", host_reenter},
	{"test.self", host_self}, {"test.silent", host_silent}, {NULL, NULL},
};

FIXTURE(engine)
{
	struct thaw *heap;
	struct js_engine *engine;
	struct world world;
};

FIXTURE_SETUP(engine)
{
	const struct thaw_options options = {.max_bytes = JS_HEAP_MAX_BYTES,
					     .guard_bytes = JS_HEAP_GUARD_BYTES,
					     .engine = js_engine_identity};
	const struct js_host host = {.arg = &self->world,
				     .bindings = bindings,
				     .interrupt = world_interrupt,
				     .rejection = world_rejection,
				     .module_resolve = world_resolve,
				     .module_load = world_load};
	struct thaw_error error = {0};
	js_value global;

	if (thaw_open(&options, &self->heap, &error) == THAW_EKERNEL)
		SKIP(return, "%s", error.text);
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", error.text);
	ASSERT_EQ(0, js_engine_create(self->heap, &host, &self->engine, &error))
	TH_LOG("%s", error.text);
	self->world.engine = self->engine;
	global = js_global(self->engine);
	for (const struct js_host_binding *binding = bindings; binding->name; binding++)
		js_set(self->engine, global, strchr(binding->name, '.') + 1,
		       js_host_function_new(self->engine, binding->name));
	js_set(self->engine, global, "gone", js_host_function_new(self->engine, "test.gone"));
	js_free(self->engine, global);
}

FIXTURE_TEARDOWN(engine)
{
	js_engine_free(self->engine);
	thaw_close(self->heap);
}

/*
 * The result of a script as text; an exception is rendered. malloc'ed, so leaked by design: tests
 * end.
 */
static char *run(struct js_engine *engine, const char *code)
{
	js_value value = js_eval(engine, code, strlen(code), "/t/test.js", JS_EVAL_SCRIPT);
	js_value exception;
	char *text;

	if (value) {
		text = js_to_string(engine, value, NULL);
		js_free(engine, value);
		return text;
	}
	exception = js_take_exception(engine);
	text = js_exception_text(engine, exception);
	js_free(engine, exception);
	return text;
}

/* The same for a module: its promise is waited for. */
static char *run_module(struct js_engine *engine, const char *code, const char *name)
{
	js_value promise = js_eval(engine, code, strlen(code), name, JS_EVAL_MODULE);
	js_value value;
	char *text;

	if (promise) {
		run_jobs(engine, 0, NULL);
		value = js_promise_result(engine, promise);
		if (js_promise_state(engine, promise) == JS_PROMISE_REJECTED)
			text = js_exception_text(engine, value);
		else if (js_promise_state(engine, promise) == JS_PROMISE_PENDING)
			text = strdup("pending");
		else
			text = run(engine, "globalThis.out");
		js_free(engine, promise);
	} else {
		value = js_take_exception(engine);
		text = js_exception_text(engine, value);
	}
	js_free(engine, value);
	return text;
}

#define EXPECT_RUN(expected, code) EXPECT_STREQ(expected, run(self->engine, code))
#define EXPECT_IN(part, text)                                                                    \
	do {                                                                                     \
		const char *whole = text;                                                        \
		EXPECT_NE(NULL, strstr(whole, part)) TH_LOG("'%s' is not in '%s'", part, whole); \
	} while (0)

TEST_F(engine, scripts)
{
	EXPECT_RUN("3", "1 + 2");
	EXPECT_RUN("undefined", "var x = 1; undefined");
	EXPECT_RUN("2", "++x");
	EXPECT_RUN("", "''");
	EXPECT_EQ(NULL, js_trapped(self->engine));
}

TEST_F(engine, strings_both_ways)
{
	static const char text[] = "a\0b \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80";
	js_value global = js_global(self->engine),
		 value = js_string(self->engine, text, sizeof(text) - 1);
	size_t bytes;
	char *back = js_to_string(self->engine, value, &bytes);

	EXPECT_TRUE(js_is_string(self->engine, value));
	EXPECT_EQ(sizeof(text) - 1, bytes);
	EXPECT_EQ(0, memcmp(back, text, sizeof(text)));
	EXPECT_TRUE(js_set(self->engine, global, "s", value));
	EXPECT_RUN("10,0,128512", "[s.length, s.charCodeAt(1), s.codePointAt(8)] + ''");
	EXPECT_RUN("\xef\xbf\xbd!", "'\\ud800!'"); /* a lone surrogate has no UTF-8 */
	EXPECT_RUN("[cannot be converted to a string]", "({toString() { throw 1; }})");
	EXPECT_RUN("true", "'x'.repeat(3e6).length === 3e6");
	js_free(self->engine, global);
}

TEST_F(engine, numbers_and_kinds)
{
	struct js_engine *engine = self->engine;
	js_value values[] = {js_number(engine, 0.1), js_number(engine, -7), js_bool(engine, true),
			     js_null(engine),	     js_undefined(engine),  js_object(engine),
			     js_array(engine)};

	EXPECT_EQ(0.1, js_to_number(engine, values[0]));
	EXPECT_EQ(-7, js_to_number(engine, values[1]));
	EXPECT_TRUE(js_to_bool(engine, values[2]));
	EXPECT_TRUE(js_is_undefined(engine, values[3]));
	EXPECT_TRUE(js_is_undefined(engine, values[4]));
	EXPECT_TRUE(isnan(js_to_number(engine, values[4])));
	EXPECT_TRUE(js_is_object(engine, values[5]));
	EXPECT_FALSE(js_is_function(engine, values[5]));
	EXPECT_TRUE(js_set_index(engine, values[6], 1, js_dup(engine, values[0])));
	EXPECT_TRUE(js_set(engine, values[5], "list", js_dup(engine, values[6])));
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		js_free(engine, values[i]);
}

TEST_F(engine, bytes_both_ways)
{
	struct js_engine *engine = self->engine;
	js_value global = js_global(engine), value;
	size_t bytes;
	char *back;

	js_set(engine, global, "b", js_bytes(engine, "\x01\x00\xff", 3));
	js_set(engine, global, "e", js_bytes(engine, NULL, 0));
	EXPECT_RUN("true,3,1,0,255,0", "[b instanceof Uint8Array, b.length, ...b, e.length] + ''");
	value = js_eval(engine, "new Uint8Array([9, 1, 2, 9]).subarray(1, 3)", 43, "x", 0);
	back = js_to_bytes(engine, value, &bytes);
	ASSERT_EQ(2, bytes);
	EXPECT_EQ(0, memcmp(back, "\1\2", 2));
	value = js_eval(engine, "new Uint8Array([5]).buffer", 26, "x", 0);
	back = js_to_bytes(engine, value, &bytes);
	ASSERT_EQ(1, bytes);
	EXPECT_EQ(5, back[0]);
	EXPECT_EQ(NULL, js_to_bytes(engine, global, &bytes));
	js_free(engine, global);
}

TEST_F(engine, exceptions_read_well)
{
	EXPECT_STREQ("ReferenceError: b is not defined\n    at f (/t/test.js:2:16)\n    at <eval> "
		     "(/t/test.js:3:1)\n",
		     run(self->engine, "\nfunction f() { b(); }\nf()"));
	EXPECT_RUN("42", "throw 42");
	EXPECT_RUN("text", "throw 'text'");
	EXPECT_RUN("undefined", "throw undefined");
	EXPECT_RUN("{\"a\":1}", "throw {a: 1}");
	EXPECT_IN("what", run(self->engine, "throw Symbol('what')"));
	EXPECT_IN("[cause]: RangeError: inner\n",
		  run(self->engine, "throw new Error('outer', {cause: new RangeError('inner')})"));
	EXPECT_IN("[errors][1]: TypeError: two\n",
		  run(self->engine,
		      "throw new AggregateError([Error('one'), TypeError('two')], 'both')"));
	EXPECT_IN("Error",
		  run(self->engine,
		      "var e = Error('x'); Object.defineProperty(e, 'stack', {get() { throw 1; }});"
		      "Object.defineProperty(e, 'cause', {get() { throw e; }}); throw e"));
	EXPECT_IN("[cause]: ", run(self->engine, "var e = Error('loop'); e.cause = e; throw e"));
	EXPECT_IN("SyntaxError", run(self->engine, "let y = ;"));
	EXPECT_IN("/t/test.js:2", run(self->engine, "1;\nlet y = ;"));
	EXPECT_NE(NULL, js_exception_text(self->engine, 0));
	EXPECT_EQ(0, js_take_exception(self->engine));
}

TEST_F(engine, host_functions)
{
	EXPECT_RUN("10", "sum(1, 2, 3, 4)");
	EXPECT_RUN("5050", "sum(...Array.from({length: 101}, (_, i) => i))");
	EXPECT_RUN("0", "sum()");
	EXPECT_RUN("kept", "({secret: 'kept', self}).self()");
	EXPECT_RUN("TypeError,thrown by the host: 42,true",
		   "try { globalThis['throw']('TypeError') } catch (e) { [e.name, e.message, e "
		   "instanceof TypeError] + '' }");
	EXPECT_RUN("true,true,true,true",
		   "[['RangeError', RangeError], ['SyntaxError', SyntaxError], ['ReferenceError', "
		   "ReferenceError],"
		   " ['Error', Error]].map(([n, C]) => { try { globalThis['throw'](n) } catch (e) {"
		   " return Object.getPrototypeOf(e) === C.prototype } }) + ''");
	EXPECT_RUN("14", "reenter(x => reenter(y => y + 7, x), 7)");
	EXPECT_RUN("inner", "try { reenter(() => { throw 'inner' }) } catch (e) { e }");
	EXPECT_RUN("Error: this build of thaw lacks host function test.gone",
		   "try { gone() } catch (e) { String(e) }");
	EXPECT_RUN("InternalError", "try { silent() } catch (e) { e.name }");
}

TEST_F(engine, modules)
{
	struct js_engine *engine = self->engine;

	EXPECT_STREQ("abc file:///m/b.js",
		     run_module(engine,
				"import { a, url } from './a.js'; globalThis.out = a + ' ' + url",
				"/m/main.js"));
	EXPECT_STREQ("true",
		     run_module(engine,
				"import { even } from './even.js'; globalThis.out = even(10)",
				"/m/main2.js"));
	EXPECT_STREQ("\xc3\xa9",
		     run_module(engine, "import d from './data.json'; globalThis.out = d.list[2].x",
				"/m/main3.js"));
	EXPECT_STREQ(
		"1",
		run_module(engine,
			   "import d from './bom.json' with {type: 'json'}; globalThis.out = d[0]",
			   "/m/main4.js"));
	EXPECT_STREQ("file:///m/odd%20name%20%231%25%C3%A9.js,false,/m",
		     run_module(engine,
				"import m from './odd name #1%\xc3\xa9.js'; globalThis.out = "
				"[m.url, m.main, m.dirname] + ''",
				"/m/main5.js"));
	EXPECT_STREQ("file:///m/main6.js,true,/m/main6.js,/m",
		     run_module(engine,
				"const m = import.meta; globalThis.out = [m.url, m.main, "
				"m.filename, m.dirname] + ''",
				"/m/main6.js"));
	EXPECT_STREQ("c file:///m/sub/c.js",
		     run_module(engine,
				"const m = await import('./sub/c.js'); globalThis.out = m.c + ' ' "
				"+ m.default.url",
				"/m/main7.js"));
	EXPECT_STREQ("awaited",
		     run_module(engine, "globalThis.out = await Promise.resolve('awaited')",
				"/m/main8.js"));
}

TEST_F(engine, module_errors)
{
	struct js_engine *engine = self->engine;

	EXPECT_IN("cannot read module /m/none.js: No such file",
		  run_module(engine, "import './none.js'", "/m/e1.js"));
	EXPECT_IN("cannot find module 'left-pad' imported from /m/e2.js",
		  run_module(engine, "import 'left-pad'", "/m/e2.js"));
	EXPECT_IN("/m/broken.json", run_module(engine, "import './broken.json'", "/m/e3.js"));
	EXPECT_IN("SyntaxError", run_module(engine, "import './broken.json'", "/m/e4.js"));
	EXPECT_IN("/m/syntax.js:2", run_module(engine, "import './syntax.js'", "/m/e5.js"));
	EXPECT_IN("TypeError: from the module\n    at <anonymous> (/m/throws.js:2",
		  run_module(engine, "import './throws.js'", "/m/e6.js"));
	EXPECT_IN("ghost", run_module(engine, "import { ghost } from './a.js'", "/m/e7.js"));
	EXPECT_STREQ("Error,cannot read module /m/none.js: No such file or directory",
		     run_module(engine,
				"try { await import('./none.js') } catch (e) { globalThis.out = "
				"[e.name, e.message] + '' }",
				"/m/e8.js"));
	EXPECT_IN("/m/e9.js:3", run_module(engine, "\n\nlet = = 1", "/m/e9.js"));
	/* A module that failed once does not stand in the way of the next. */
	EXPECT_STREQ("abc", run_module(engine, "import { a } from './a.js'; globalThis.out = a",
				       "/m/e10.js"));
}

TEST_F(engine, compile_only)
{
	struct js_engine *engine = self->engine;
	js_value value = js_eval(engine, "globalThis.ran = 1", 18, "/t/c.js", JS_EVAL_COMPILE_ONLY);

	EXPECT_TRUE(js_is_undefined(engine, value));
	EXPECT_NE(0, value);
	value = js_eval(engine, "export const ran = globalThis.ran = 1", 37, "/t/c.mjs",
			JS_EVAL_COMPILE_ONLY | JS_EVAL_MODULE);
	EXPECT_TRUE(js_is_undefined(engine, value));
	EXPECT_NE(0, value);
	EXPECT_EQ(0, js_eval(engine, "let = = 1", 9, "/t/c.js", JS_EVAL_COMPILE_ONLY));
	js_free(engine, js_take_exception(engine));
	EXPECT_RUN("undefined", "typeof ran");
	/* Checking a module first and running it then is what a command line does. */
	EXPECT_STREQ("ran", run_module(engine, "globalThis.out = 'ran'", "/t/c.mjs"));
}

TEST_F(engine, jobs_and_rejections)
{
	struct js_engine *engine = self->engine;
	js_value exception;

	EXPECT_RUN("", "log = ''; Promise.resolve().then(() => { log += 'a'; return "
		       "Promise.resolve() }).then(() => log += 'b'); log");
	EXPECT_TRUE(js_jobs_pending(engine));
	EXPECT_EQ(1, run_jobs(engine, 1, &exception));
	EXPECT_RUN("a", "log");
	EXPECT_LT(0, run_jobs(engine, 0, &exception));
	EXPECT_RUN("ab", "log");
	EXPECT_FALSE(js_jobs_pending(engine));
	EXPECT_EQ(0, exception);

	run(engine, "p = Promise.reject(new Error('late')); 0");
	EXPECT_EQ(1, self->world.unhandled);
	EXPECT_EQ(0, self->world.handled);
	EXPECT_STREQ("Error: late", self->world.reason);
	run(engine, "p.catch(() => {}); 0");
	EXPECT_EQ(1, self->world.handled);
	run_jobs(engine, 0, NULL);
}

TEST_F(engine, async_scripts)
{
	struct js_engine *engine = self->engine;
	js_value promise = js_eval(engine, "await null; 6 * 7", 17, "repl", JS_EVAL_ASYNC), result,
		 value;

	ASSERT_TRUE(js_is_promise(engine, promise));
	EXPECT_EQ(JS_PROMISE_PENDING, js_promise_state(engine, promise));
	run_jobs(engine, 0, NULL);
	EXPECT_EQ(JS_PROMISE_FULFILLED, js_promise_state(engine, promise));
	result = js_promise_result(engine, promise);
	value = js_get(engine, result, "value");
	EXPECT_EQ(42, js_to_number(engine, value));
	js_free(engine, value);
	js_free(engine, result);
	js_free(engine, promise);
}

/* Whatever a script ends with, the object that its value comes in has no prototype. */
TEST_F(engine, no_prototype_reaches_the_value_of_an_async_script)
{
	static const char *const scripts[] = {
		"42",
		"await 42",
		"await null; 42 // the end",
		"'use strict'; 42",
		"let a = 40; { let b = 1, c = 1; var f = () => a + b; a + b + c }",
		"if (0) throw 1; else 42",
		"if (1) 42; else throw 1",
		"for (const x of [42]) try { x } finally { 1 }",
		"try { throw 42 } catch (e) { e }",
		"for await (const x of [1, 42]) x",
		"out: { 42; break out }",
		"switch (1) { case 1: 42; break; default: throw 1 }",
		"with ({ p: 42 }) p",
		"eval('var q = 42'); q",
		"{ using u = null; 42 }",
		"{ await using u = null; 42 }",
		"function f() { return 42 } class C {} f()",
		"var v0 = 42; v0; function g() {}",
		"let i = 0; do 42; while (i++ < 3)",
		"arguments = 42",
		"42; var unused",
	};
	struct js_engine *engine = self->engine;

	for (unsigned i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		js_value promise = js_eval(engine, scripts[i], strlen(scripts[i]), "repl",
					   JS_EVAL_ASYNC | JS_EVAL_REDECLARE);
		js_value result, value, inherited;

		ASSERT_NE(0, promise) TH_LOG("%s", scripts[i]);
		run_jobs(engine, 0, NULL);
		result = js_promise_result(engine, promise);
		value = js_get(engine, result, "value");
		inherited = js_get(engine, result, "toString");
		EXPECT_EQ(42, js_to_number(engine, value)) TH_LOG("%s", scripts[i]);
		EXPECT_TRUE(js_is_undefined(engine, inherited)) TH_LOG("%s", scripts[i]);
		js_free(engine, inherited);
		js_free(engine, value);
		js_free(engine, result);
		js_free(engine, promise);
	}
}

TEST_F(engine, clocks_and_randomness)
{
	EXPECT_RUN("true",
		   "Math.abs(Date.now() - new Date().getTime()) < 1000 && Date.now() > 1.6e12");
	EXPECT_RUN("true", "const t = performance.now(); while (performance.now() === t); "
			   "performance.now() > t");
	EXPECT_RUN("true", "Math.random() !== Math.random()");
}

/* The same heap under a new engine: what restoring means, without an image in between. */
TEST_F(engine, an_engine_over_a_live_heap)
{
	const struct js_host host = {.arg = &self->world,
				     .bindings = bindings,
				     .interrupt = world_interrupt,
				     .module_resolve = world_resolve,
				     .module_load = world_load};
	struct js_small small, wrong;
	struct js_engine *other;
	struct thaw_error error;
	char *first, *second;

	run(self->engine,
	    "var kept = {deep: [1, 2, {x: 'y'}]}; var tick = 0; var f = () => ++tick; f()");
	small = js_engine_small(self->engine);
	js_engine_free(self->engine);
	ASSERT_EQ(0, js_engine_restore(self->heap, &host, &small, &self->engine, &error))
	TH_LOG("%s", error.text);
	EXPECT_RUN("y2", "kept.deep[2].x + f()");
	EXPECT_RUN("6", "sum(1, 2, 3)");
	EXPECT_STREQ("abc",
		     run_module(self->engine, "import { a } from './a.js'; globalThis.out = a",
				"/m/r.js"));
	EXPECT_IN("RangeError", run(self->engine, "(function f() { f() })()"));

	/* Two lives of one heap must not draw the same numbers. */
	small = js_engine_small(self->engine);
	js_engine_free(self->engine);
	ASSERT_EQ(0, js_engine_restore(self->heap, &host, &small, &self->engine, &error));
	first = run(self->engine, "before = Math.random()");
	js_engine_free(self->engine);
	ASSERT_EQ(0, js_engine_restore(self->heap, &host, &small, &self->engine, &error));
	second = run(self->engine, "Math.random()");
	EXPECT_STRNE(first, second);

	/* An image is never trusted. */
	wrong = small;
	wrong.memory_pages++;
	EXPECT_EQ(THAW_EDAMAGED, js_engine_restore(self->heap, &host, &wrong, &other, &error));
	wrong = small;
	wrong.stack_pointer -= 8;
	EXPECT_EQ(THAW_EDAMAGED, js_engine_restore(self->heap, &host, &wrong, &other, &error));
	wrong.stack_pointer = 16;
	EXPECT_EQ(THAW_EDAMAGED, js_engine_restore(self->heap, &host, &wrong, &other, &error));
	wrong.stack_pointer = 0xfffffff0;
	EXPECT_EQ(THAW_EDAMAGED, js_engine_restore(self->heap, &host, &wrong, &other, &error));
}

TEST_F(engine, two_vms)
{
	const struct thaw_options options = {.max_bytes = JS_HEAP_MAX_BYTES,
					     .guard_bytes = JS_HEAP_GUARD_BYTES,
					     .engine = js_engine_identity};
	const struct js_host host = {.arg = &self->world, .bindings = bindings};
	struct thaw *heap = NULL;
	struct js_engine *other;
	struct thaw_error error;

	ASSERT_EQ(0, thaw_open(&options, &heap, &error));
	ASSERT_EQ(0, js_engine_create(heap, &host, &other, &error));
	EXPECT_RUN("1", "var mine = 1; mine");
	EXPECT_STREQ("undefined", run(other, "typeof mine"));
	EXPECT_IN("RangeError", run(other, "(function f() { f() })()"));
	EXPECT_RUN("1", "mine");
	js_engine_free(other);
	thaw_close(heap);
}

TEST_HARNESS_MAIN
