// SPDX-License-Identifier: GPL-2.0-only
/*
 * engine_limits.c - a JavaScript VM at its limits: recursion of every shape, the end of memory,
 * endless loops, garbage, leaks.
 *
 * Whatever a program does, it gets an exception that it can catch, and the VM goes on; never a
 * trap, never a signal.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "../../vm/js/engine/engine.h"
#include "jobs.h"
#include "support.h"

struct world {
	unsigned polls, interrupt_after; /* 0: never */
};

static bool world_interrupt(void *arg)
{
	struct world *world = arg;

	return ++world->polls && world->interrupt_after && world->polls >= world->interrupt_after;
}

static js_value host_echo(struct js_engine *engine, void *arg, js_value self, unsigned count,
			  const js_value *arguments)
{
	(void)arg, (void)self;
	return count ? js_dup(engine, arguments[0]) : js_undefined(engine);
}

static js_value host_fail(struct js_engine *engine, void *arg, js_value self, unsigned count,
			  const js_value *arguments)
{
	(void)arg, (void)self, (void)count, (void)arguments;
	return js_throw_error(engine, "TypeError", "no");
}

static js_value host_call(struct js_engine *engine, void *arg, js_value self, unsigned count,
			  const js_value *arguments)
{
	(void)arg, (void)self;
	return js_call(engine, arguments[0], 0, count - 1, arguments + 1);
}

static js_value host_live(struct js_engine *engine, void *arg, js_value self, unsigned count,
			  const js_value *arguments)
{
	(void)arg, (void)self, (void)count, (void)arguments;
	return js_number(engine, (double)js_heap_bytes(engine));
}

static const struct js_host_binding bindings[] = {
	{"test.echo", host_echo},
	{"test.fail", host_fail},
	{"test.call", host_call},
	{"test.heap", host_live},
	{NULL, NULL},
};

FIXTURE(limits)
{
	struct thaw *heap;
	struct js_engine *engine;
	struct world world;
};
FIXTURE_VARIANT(limits)
{
	size_t max_bytes;
};
FIXTURE_VARIANT_ADD(limits, whole_heap){
	.max_bytes = JS_HEAP_MAX_BYTES,
};
FIXTURE_VARIANT_ADD(limits, heap_of_64_MiB){
	.max_bytes = 64 << 20,
};

FIXTURE_SETUP(limits)
{
	const struct thaw_options options = {.max_bytes = variant->max_bytes,
					     .guard_bytes = (8ull << 30) - variant->max_bytes,
					     .engine = js_engine_identity};
	const struct js_host host = {
		.arg = &self->world, .bindings = bindings, .interrupt = world_interrupt};
	struct thaw_error error = {0};
	js_value global;

	if (thaw_open(&options, &self->heap, &error) == THAW_EKERNEL)
		SKIP(return, "%s", error.text);
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", error.text);
	ASSERT_EQ(0, js_engine_create(self->heap, &host, &self->engine, &error))
	TH_LOG("%s", error.text);
	global = js_global(self->engine);
	for (const struct js_host_binding *binding = bindings; binding->name; binding++)
		js_set(self->engine, global, strchr(binding->name, '.') + 1,
		       js_host_function_new(self->engine, binding->name));
	js_free(self->engine, global);
}

FIXTURE_TEARDOWN(limits)
{
	js_engine_free(self->engine);
	thaw_close(self->heap);
}

static char *run(struct js_engine *engine, const char *code)
{
	js_value value = js_eval(engine, code, strlen(code), "test.js", JS_EVAL_SCRIPT);
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

#define EXPECT_RUN(expected, code) EXPECT_STREQ(expected, run(self->engine, code))

static const struct {
	const char *name, *code;
	bool must_throw; /* the others may also succeed, if the engine does without recursion there */
} shapes[] = {
	{"plain", "function f() { return f() + 1 } f()", true},
	{"with many locals",
	 "function f(a,b,c) { let x=a,y=b,z=c,u=[x],v={y}; return f(x,y,z)+u+v } f(1,2,3)", true},
	{"with a thousand arguments",
	 "function f(...a) { return f(...a) + 1 } f(...Array(100).fill(1))", true},
	{"mutual", "function a() { return b() + 1 } function b() { return a() + 1 } a()", true},
	{"arrow", "const g = x => g(x) + 1; g()", true},
	{"getter", "const o = {get x() { return this.x + 1 }}; o.x", true},
	{"setter", "const o = {set x(v) { this.x = v; v++ }}; o.x = 1", true},
	{"proxy", "const p = new Proxy({}, {get(t, k, r) { return r[k] + 1 }}); p.x", true},
	{"proxy chain", "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); p.x",
	 true},
	{"sort comparator", "const s = () => [2, 1].sort(s)[0]; s()", true},
	{"map callback", "const m = () => [1].map(m); m()", true},
	{"replace callback", "const r = () => 'a'.replace(/a/, r); r()", true},
	{"toJSON", "const j = {toJSON() { return JSON.stringify(j) }}; JSON.stringify(j)", true},
	{"stringify of a deep object",
	 "let d = {}; for (let i = 0; i < 3e3; i++) d = {d}; JSON.stringify(d) && 0", false},
	{"toString", "const t = {toString() { return `${t}` }}; `${t}`", true},
	{"valueOf", "const v = {valueOf() { return +v }}; +v", true},
	{"Symbol.toPrimitive", "const v = {[Symbol.toPrimitive]() { return v + '' }}; v + ''",
	 true},
	{"array literal source", "eval('['.repeat(2e5) + ']'.repeat(2e5))", true},
	{"parenthesised source", "eval('('.repeat(2e5) + '1' + ')'.repeat(2e5))", true},
	{"nested function source", "eval('(function(){'.repeat(1e5) + '})'.repeat(1e5))", true},
	{"nested block source", "eval('{'.repeat(2e5) + '}'.repeat(2e5))", true},
	{"unary operators", "eval('!'.repeat(1e6) + '1')", false},
	{"binary operators", "eval('1' + '+1'.repeat(3e5))", false},
	{"member chain", "eval('globalThis' + '.globalThis'.repeat(1e5)) && 0", false},
	{"template source", "eval('`${'.repeat(1e5) + '1' + '}`'.repeat(1e5))", true},
	{"regex groups", "new RegExp('('.repeat(2e5) + ')'.repeat(2e5))", true},
	{"regex quantified groups", "new RegExp('(?:'.repeat(1e5) + 'a' + ')*'.repeat(1e5))", true},
	{"regex backtracking", "/^(?:a|b|c)*$/.test('abc'.repeat(3e5) + 'd')", false},
	{"regex lookahead", "new RegExp('(?='.repeat(1e5) + ')'.repeat(1e5))", true},
	{"JSON.parse of brackets", "JSON.parse('['.repeat(1e6))", true},
	{"JSON.parse of objects", "JSON.parse('{\"a\":'.repeat(3e5))", true},
	{"JSON.parse deep and whole, with reviver",
	 "JSON.parse('['.repeat(1e4) + ']'.repeat(1e4), (k, v) => v) && 0", false},
	{"generator", "function* g() { yield* g() } g().next()", true},
	{"async", "async function a() { await a() } a(); 0", false},
	{"iterator", "const it = {[Symbol.iterator]() { return [...it] }}; [...it]", true},
	{"class extends chain",
	 "let c = class {}; for (let i = 0; i < 1e5; i++) c = class extends c {}; new c()", true},
	{"constructor", "class K { constructor() { new K() } } new K()", true},
	{"bound chain", "let b = () => 1; for (let i = 0; i < 3e3; i++) b = b.bind(null); b()",
	 false},
	{"instanceof",
	 "const h = {[Symbol.hasInstance](x) { return x instanceof h }}; 1 instanceof h", true},
	{"flat", "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; a.flat(Infinity)", false},
	{"array toString", "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; String(a)", true},
	{"array that holds itself", "const a = []; a[0] = a; String(a) + 'x'", false},
	{"reflect", "const f = () => Reflect.apply(f, null, []); f()", true},
	{"Function constructor", "const f = () => Function('f', 'f()')(f); f()", true},
	{"eval", "const f = () => eval('f() + 1'); f()", true},
	{"through the host", "const f = () => call(f); f()", true},
	{"freeing a long list", "let l = null; for (let i = 0; i < 3e5; i++) l = {l}; l = null; 0",
	 false},
	{"freeing a long rope",
	 "let s = ''; for (let i = 0; i < 2e4; i++) s = 'x' + s + 'y'; s.length; s = 0", false},
	{"promise chain",
	 "let p = Promise.resolve(); for (let i = 0; i < 1e5; i++) p = p.then(() => {}); 0", false},
	{"structured error cause",
	 "let e = Error('0'); for (let i = 0; i < 1e5; i++) e = Error(i, {cause: e}); throw e",
	 true},
};

TEST_F_TIMEOUT(limits, recursion_of_every_shape, 300)
{
	struct js_engine *engine = self->engine;

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		js_value global = js_global(engine);
		char wrapped[2048], *text;

		snprintf(wrapped, sizeof(wrapped), "{ %s }", shapes[i].code);
		js_set(engine, global, "code", js_string(engine, wrapped, strlen(wrapped)));
		js_free(engine, global);
		text = run(engine, "try { (0, eval)(code); 'returned' } catch (e) {"
				   " e instanceof Error ? 'threw ' + e.name : 'threw ' + e }");
		EXPECT_EQ(NULL, js_trapped(engine))
		TH_LOG("%s: trapped: %s", shapes[i].name, js_trapped(engine));
		if (js_trapped(engine))
			break;
		EXPECT_EQ(true, !strncmp(text, "threw ", 6) ||
					(!shapes[i].must_throw && !strcmp(text, "returned")))
		TH_LOG("%s: %s", shapes[i].name, text);
		if (getenv("VERBOSE"))
			TH_LOG("%-40s %s", shapes[i].name, text);
		EXPECT_RUN("2", "1 + 1") TH_LOG("after %s", shapes[i].name);
		free(text);
		run_jobs(engine, 0, NULL);
		js_gc(engine);
	}
}

TEST_F(limits, recursion_is_as_deep_as_in_node)
{
	EXPECT_RUN("RangeError: Maximum call stack size exceeded",
		   "depth = 0; function f() { depth++; f() } try { f() } catch (e) { String(e) }");
	EXPECT_RUN("true", "depth > 10000");
	TH_LOG("%s frames", run(self->engine, "depth"));
	EXPECT_RUN("true",
		   "function sum(n) { return n ? n + sum(n - 1) : 0 } sum(10000) === 50005000");
	EXPECT_RUN("true",
		   "(function g(n) { try { return g(n + 1) } catch { return n } })(0) > 10000");
}

TEST_F_TIMEOUT(limits, out_of_memory_can_be_caught, 300)
{
	struct js_engine *engine = self->engine;

	if (variant->max_bytes > 64 << 20) {
		if (support_free_memory() < 5ull << 30)
			SKIP(return, "this machine has less than 5 GiB of memory free");
		/* All of 4 GiB, in large pieces and then in small ones: a few seconds. */
		EXPECT_RUN("InternalError: out of memory at 4000 MiB or more",
			   "var a = []; try { for (;;) a.push(new Float64Array(1 << 20).fill(1)) } "
			   "catch (e) { String(e) + ' at ' + (a.length * 8 >= 4000 ? '4000 MiB or "
			   "more' : a.length * 8) }");
		EXPECT_RUN(
			"InternalError: out of memory",
			"try { var b = []; for (;;) b.push({x: b.length}) } catch (e) { String(e) }");
		EXPECT_RUN("7", "a = b = 0; [7].length * 7");
		EXPECT_EQ(NULL, js_trapped(engine)) TH_LOG("%s", js_trapped(engine));
		return;
	}
	for (int round = 0; round < 5; round++) {
		EXPECT_RUN("InternalError: out of memory", "try { let a = []; for (;;) a.push({x: "
							   "a.length}) } catch (e) { String(e) }");
		EXPECT_RUN("InternalError: out of memory",
			   "try { let s = 'x'.repeat(1e6), a = []; for (;;) a.push(s + a.length + "
			   "s) } catch (e) { String(e) }");
		EXPECT_RUN("InternalError: out of memory",
			   "try { new Uint8Array(100e6) } catch (e) { String(e) }");
		EXPECT_RUN("InternalError: out of memory",
			   "try { let m = new Map; for (let i = 0;; i++) m.set(i, [i]) } catch (e) "
			   "{ String(e) }");
		EXPECT_RUN("caught", "try { JSON.parse('[' + '{\"a\":[1,2,3]},'.repeat(1e6) + "
				     "'1]') } catch { 'caught' }");
		EXPECT_RUN("3", "1 + 2");
		EXPECT_EQ(NULL, js_trapped(engine)) TH_LOG("%s", js_trapped(engine));
		js_gc(engine);
	}
	EXPECT_EQ(0, js_bytes(engine, run, 1 << 30));
	js_free(engine, js_take_exception(engine));
	EXPECT_RUN("true", "call(() => { try { let a = []; for (;;) a.push(echo({})) } catch (e) { "
			   "return String(e) } }) > ''");
	EXPECT_GE(variant->max_bytes, js_heap_bytes(engine));
}

#define EXPECT_INTERRUPTED(code) \
	EXPECT_EQ(0, strncmp(run(self->engine, code), "InternalError: interrupted", 26))

TEST_F(limits, interrupt_cannot_be_caught)
{
	self->world.interrupt_after = 3;
	EXPECT_INTERRUPTED("try { for (;;); } catch { 'caught' }");
	EXPECT_INTERRUPTED("(function f() { try { for (;;); } finally { f() } })()");
	self->world.interrupt_after = 0;
	EXPECT_RUN("5", "2 + 3");
	self->world.polls = 0;
	self->world.interrupt_after = 3;
	EXPECT_INTERRUPTED("/^(a+)+$/.test('a'.repeat(40) + 'b')");
	EXPECT_NE(NULL, run(self->engine, "throw {toString() { for (;;); }}"));
	self->world.interrupt_after = 0;
	EXPECT_RUN("5", "2 + 3");
}

TEST_F_TIMEOUT(limits, garbage_of_one_long_turn_stays_bounded, 300)
{
	/*
	 * A turn's garbage of cycles: 3 million pairs that refer to each other, about 400 MB in
	 * all.
	 */
	EXPECT_RUN("true", "for (let i = 0; i < 3e6; i++) { const a = {i}, b = {a}; a.b = b; } "
			   "heap() < 200e6");
	EXPECT_GE(200 << 20, js_heap_bytes(self->engine));
}

TEST_F(limits, collector_is_wanted_by_growth)
{
	EXPECT_FALSE(js_gc_wanted(self->engine));
	EXPECT_RUN("0", "cycles = []; for (let i = 0; i < 4e5; i++) { const a = {}; a.a = a; } 0");
	if (js_gc_wanted(self->engine))
		js_gc(self->engine);
	EXPECT_FALSE(js_gc_wanted(self->engine));
}

/* The heap must not be larger after a million calls than after the first thousand. */
TEST_F_TIMEOUT(limits, host_calls_do_not_leak, TEST_SECONDS)
{
	struct js_engine *engine = self->engine;
	static const char *const bodies[] = {
		"echo({})",
		"echo('text' + i)",
		"echo()",
		"echo(1, 2, 3, {}, [])",
		"try { fail() } catch {}",
		"call(echo, [i])",
		"call(() => i)",
	};
	char code[512];

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		snprintf(code, sizeof(code), "for (let i = 0; i < 1000; i++) { %s } heap()",
			 bodies[i]);
		run(engine, code);
		snprintf(code, sizeof(code),
			 "{ const before = heap(); for (let i = 0; i < 150000; i++) { %s } heap() "
			 "- before }",
			 bodies[i]);
		EXPECT_RUN("0", code) TH_LOG("%s", bodies[i]);
	}
}

TEST_F(limits, handles_do_not_leak)
{
	struct js_engine *engine = self->engine;
	js_value global = js_global(engine);
	size_t before = 0;

	for (int i = 0; i < 200000; i++) {
		js_value object = js_object(engine), value;

		js_set(engine, object, "text", js_string(engine, "some text of some length", 24));
		js_set(engine, object, "bytes", js_bytes(engine, "0123456789", 10));
		value = js_get(engine, object, "text");
		js_free(engine, value);
		js_set(engine, global, "kept", object);
		js_throw_error(engine, "Error", "%d", i);
		js_free(engine, js_take_exception(engine));
		if (i == 1000)
			before = js_heap_bytes(engine);
	}
	EXPECT_EQ(before, js_heap_bytes(engine));
}

/*
 * Running out of the VM's native stack, or out of its memory's bounds, stops the VM, not the
 * process.
 */
TEST_F(limits, a_trap_stops_the_engine_only)
{
	struct js_engine *engine = self->engine;
	const struct js_host host = {.arg = &self->world, .bindings = bindings};
	struct js_small small = js_engine_small(engine);
	char *base = thaw_base(self->heap);
	struct thaw_error error = {0};
	struct js_engine *other = NULL;
	js_value exception = 0;

	/* Damage the whole heap past the static data, as no checksum would let through. */
	memset(base + 1200000, 0x7f, 4 << 20);
	run(engine, "function f() { f() } f()");
	ASSERT_NE(NULL, js_trapped(engine));
	TH_LOG("%s", js_trapped(engine));
	EXPECT_EQ(0, js_eval(engine, "1", 1, "x", 0));
	EXPECT_EQ(0, js_take_exception(engine));
	EXPECT_NE(NULL, strstr(js_exception_text(engine, 0), js_trapped(engine)));
	EXPECT_EQ(0, run_jobs(engine, 0, &exception));
	EXPECT_FALSE(js_gc_wanted(engine));
	js_gc(engine);
	EXPECT_EQ(THAW_EDAMAGED, js_engine_restore(self->heap, &host, &small, &other, &error));
	TH_LOG("%s", error.text);
}

/* A fault of the host's own is still a crash with a core, not swallowed. */
TEST_F(limits, other_faults_stay_fatal)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		volatile int *volatile nowhere = (volatile int *)8;

		_exit(*nowhere);
	}
	waitpid(child, &status, 0);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
}

TEST_HARNESS_MAIN
