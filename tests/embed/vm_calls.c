// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm_calls.c - who may call a VM of libthawvm, and what cuts a call short: threads, interrupts that come in callbacks, the host's
 * poll, too much output; contexts in host functions; what imports mean; objects, arrays and BigInts by handles.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "embedded.h"

/* ---- Threads ---- */

struct visit {
	struct thaw_vm *vm;
	int code;
	bool good;
};

static void *visit(void *arg)
{
	struct visit *visit = arg;
	struct thaw_error error;

	visit->code = run(visit->vm, "n++", &error);
	visit->good = visit->code || gives(visit->vm, "deep", "[100000]", "\"RangeError\"");
	return NULL;
}

static void from_another_thread(struct visit *to)
{
	pthread_t thread;

	pthread_create(&thread, NULL, visit, to);
	pthread_join(thread, NULL);
}

static thaw_vm_value invite(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			    const thaw_vm_value *values)
{
	(void)vm, (void)ticket, (void)count, (void)values;
	from_another_thread(arg);
	return 0;
}

TEST(any_thread_one_at_a_time)
{
	struct visit to = {0};
	const struct thaw_vm_function functions[] = {{"invite", invite, &to, 0}};
	struct thaw_error error;
	stack_t before, after;

	to.vm = vm_with((struct thaw_vm_options){.functions = functions, .function_count = 1});
	ASSERT_NE(NULL, to.vm);
	ASSERT_EQ(
		0,
		run(to.vm,
		    "let n = 0; const get = () => n;"
		    "const deep = d => { try { return (function f(d) { return d ? f(d - 1) + 1 : 0 })(d) }"
		    " catch (e) { return e.name } }",
		    &error));
	from_another_thread(&to);
	EXPECT_EQ(0, to.code);
	EXPECT_TRUE(to.good);
	ASSERT_EQ(0, run(to.vm, "invite()", &error)); /* while this one is in a call */
	EXPECT_EQ(-EBUSY, to.code);
	EXPECT_TRUE(gives(to.vm, "get", NULL, "1"));
	/* The program's own stack for signals stays. */
	ASSERT_EQ(0, sigaltstack(NULL, &before));
	after = before;
	ASSERT_EQ(0, run(to.vm, "n++", &error));
	ASSERT_EQ(0, sigaltstack(NULL, &after));
	EXPECT_EQ(before.ss_sp, after.ss_sp);
	EXPECT_EQ(0, thaw_vm_close(to.vm));
}

struct crowd {
	struct thaw_vm *vm;
	_Atomic unsigned called, refused, failed;
};

static void *call_often(void *arg)
{
	struct crowd *crowd = arg;

	for (unsigned i = 0; i < 300; i++) {
		char *json = NULL;
		int code = thaw_vm_call(crowd->vm, "up", NULL, &json, NULL);

		crowd->called += !code;
		crowd->refused += code == -EBUSY;
		crowd->failed += code && code != -EBUSY;
		free(json);
	}
	return NULL;
}

/* A call that is refused has not been made, and one that was made is not cut in two. */
TEST(many_threads_want_one_vm)
{
	struct crowd crowd = {.vm = vm_with((struct thaw_vm_options){0})};
	struct thaw_error error;
	pthread_t threads[4];
	char wanted[16];

	ASSERT_NE(NULL, crowd.vm);
	ASSERT_EQ(0, run(crowd.vm, "let n = 0; const up = async () => ++n, get = () => n", &error));
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, call_often, &crowd);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(1200, crowd.called + crowd.refused);
	EXPECT_EQ(0, crowd.failed);
	EXPECT_LT(0, crowd.called);
	snprintf(wanted, sizeof(wanted), "%u", crowd.called);
	EXPECT_TRUE(gives(crowd.vm, "get", NULL, wanted));
	EXPECT_EQ(0, thaw_vm_close(crowd.vm));
}

TEST(a_forked_child_goes_on_with_its_copy)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	struct thaw_vm_snapshot *snapshot;
	struct thaw_error error;
	pid_t child;
	int status;

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, "let n = 1; const up = () => ++n", &error));
	child = fork();
	if (!child)
		_exit(!gives(vm, "up", NULL, "2") || !gives(vm, "up", NULL, "3") ||
		      thaw_vm_snapshot(vm, &snapshot, &error) || thaw_vm_close(vm));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	EXPECT_TRUE(gives(vm, "up", NULL, "2"));
	thaw_vm_close(vm);
}

/* ---- Cut short ---- */

static thaw_vm_value interrupt(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			       const thaw_vm_value *values)
{
	(void)arg, (void)ticket, (void)count, (void)values;
	thaw_vm_interrupt(vm);
	return thaw_vm_number(vm, 7);
}

struct logged {
	struct thaw_vm *vm;
	char text[64];
	bool interrupts;
	unsigned polls;
};

static void note(void *arg, int fd, const char *text, size_t bytes)
{
	struct logged *logged = arg;
	size_t used = strlen(logged->text);

	(void)fd;
	snprintf(logged->text + used, sizeof(logged->text) - used, "%.*s", (int)bytes, text);
	if (logged->interrupts)
		thaw_vm_interrupt(logged->vm);
}

static bool poll_host(void *arg)
{
	return ++((struct logged *)arg)->polls == 3;
}

TEST(an_interrupt_in_a_callback_ends_the_call)
{
	static const struct thaw_vm_function functions[] = {
		{"stop", interrupt, NULL, 0}, {"later", interrupt, NULL, THAW_VM_PROMISE}};
	struct logged logged = {0};
	struct thaw_error error;
	struct thaw_vm *vm;

	vm = vm_with((struct thaw_vm_options){
		.functions = functions, .function_count = 2, .log = note, .arg = &logged});
	ASSERT_NE(NULL, vm);
	logged.vm = vm;
	ASSERT_EQ(0, run(vm, "let seen = 'nothing'; const get = () => seen", &error));
	EXPECT_EQ(THAW_VM_EINTERRUPTED,
		  run(vm, "try { seen = stop() } catch { seen = 'caught' }", &error));
	EXPECT_NE(NULL, strstr(error.text, "interrupted"));
	EXPECT_TRUE(gives(vm, "get", NULL, "\"nothing\""));
	EXPECT_EQ(THAW_VM_EINTERRUPTED,
		  run(vm, "try { seen = later() } catch { seen = 'caught' }", &error));
	EXPECT_TRUE(gives(vm, "get", NULL, "\"nothing\""));
	logged.interrupts = true;
	EXPECT_EQ(THAW_VM_EINTERRUPTED,
		  run(vm, "for (;;) { console.log('a'); (() => {})() }", &error));
	EXPECT_STREQ("a\n", logged.text);
	logged.interrupts = false;
	EXPECT_EQ(0, run(vm, "1", &error));
	EXPECT_EQ(&logged, thaw_vm_arg(vm));
	thaw_vm_close(vm);
}

TEST(the_host_is_asked_while_code_runs)
{
	struct logged logged = {0};
	struct thaw_error error;
	struct thaw_vm *vm = vm_with(
		(struct thaw_vm_options){.poll = poll_host, .poll_ns = 1000000, .arg = &logged});

	ASSERT_NE(NULL, vm);
	EXPECT_EQ(THAW_VM_EINTERRUPTED, run(vm, "for (;;);", &error));
	EXPECT_EQ(3, logged.polls);
	EXPECT_EQ(0, run(vm, "1", &error));
	thaw_vm_close(vm);
}

TEST(output_has_a_limit)
{
	struct logged logged = {0};
	struct thaw_error error;
	struct thaw_vm *vm =
		vm_with((struct thaw_vm_options){.max_log_bytes = 10, .log = note, .arg = &logged});

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, "console.log('12345')", &error)); /* for each call again */
	ASSERT_EQ(0, run(vm, "console.log('12345')", &error));
	EXPECT_STREQ("12345\n12345\n", logged.text);
	logged.text[0] = '\0';
	EXPECT_EQ(THAW_VM_EINTERRUPTED,
		  run(vm, "for (;;) { console.log('1234567\u00e9\u00e9'); (() => {})() }", &error));
	EXPECT_NE(NULL, strstr(error.text, "max_log_bytes"));
	EXPECT_STREQ("1234567\xc3\xa9", logged.text);
	EXPECT_EQ(0, run(vm, "1", &error));
	thaw_vm_close(vm);
}

TEST(exit_ends_the_vm)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	struct thaw_error error;

	ASSERT_NE(NULL, vm);
	EXPECT_EQ(-1, thaw_vm_exit_code(vm));
	EXPECT_EQ(THAW_VM_EENDED, run(vm, "import('thaw').then(t => t.exit(7))", &error));
	EXPECT_EQ(7, thaw_vm_exit_code(vm));
	EXPECT_EQ(THAW_VM_EENDED, run(vm, "1", &error));
	EXPECT_NE(NULL, strstr(error.text, "exit(7)"));
	thaw_vm_close(vm);
}

/* ---- Calls inside of calls ---- */

static thaw_vm_value in_context(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
				const thaw_vm_value *values)
{
	struct thaw_error error;
	thaw_vm_value result = 0;

	(void)arg, (void)ticket, (void)count;
	if (thaw_vm_context_use(vm, (unsigned)thaw_vm_to_number(vm, values[0]), &error) ||
	    thaw_vm_eval(vm, "who", SIZE_MAX, "x.js", 0, &result, &error))
		return thaw_vm_throw(vm, "Error", error.text);
	return result;
}

static thaw_vm_value deeper(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			    const thaw_vm_value *values)
{
	struct thaw_error error;
	thaw_vm_value result = 0;
	int code = thaw_vm_eval(vm, "deeper() + 1", SIZE_MAX, "x.js", 0, &result, &error);

	(void)ticket, (void)count, (void)values;
	if (code && *(int *)arg == 0)
		*(int *)arg = code;
	return code ? thaw_vm_number(vm, 0) : result;
}

TEST(host_functions_call_into_other_contexts_and_themselves)
{
	int code = 0;
	const struct thaw_vm_function functions[] = {{"inContext", in_context, NULL, 0},
						     {"deeper", deeper, &code, 0}};
	struct thaw_vm *vm =
		vm_with((struct thaw_vm_options){.functions = functions, .function_count = 2});
	struct thaw_error error;
	char name[64];

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0,
		  run(vm, "var who = 'first'; const ask = n => [inContext(n), who, inContext(0)]",
		      &error));
	ASSERT_EQ(1, thaw_vm_context_new(vm, "other", &error));
	ASSERT_EQ(0, thaw_vm_context_use(vm, 1, &error));
	ASSERT_EQ(0, run(vm, "var who = 'second'", &error));
	ASSERT_EQ(0, thaw_vm_context_use(vm, 0, &error));
	EXPECT_TRUE(gives(vm, "ask", "[1]", "[\"second\",\"first\",\"first\"]"));
	EXPECT_EQ(-ENOENT, thaw_vm_context_use(vm, 2, &error));
	EXPECT_STREQ("other", thaw_vm_context_name(vm, 1, name));
	EXPECT_STREQ("", thaw_vm_context_name(vm, 2, name));
	ASSERT_EQ(0, run(vm, "const result = deeper()", &error));
	EXPECT_EQ(-ELOOP, code);
	EXPECT_TRUE(gives(vm, "ask", "[1]", "[\"second\",\"first\",\"first\"]"));
	thaw_vm_close(vm);
}

/* ---- Imports ---- */

static char *load(void *arg, const char *name, size_t *bytes)
{
	char *text;

	(void)arg;
	if (strstr(name, "none"))
		return NULL;
	*bytes = (size_t)asprintf(&text,
				  "export { default as inner } from './lib/inner.js';"
				  "export default '%s'",
				  name);
	if (strstr(name, "inner")) {
		free(text);
		*bytes = (size_t)asprintf(&text, "export default '%s'", name);
	}
	return text;
}

static char *resolve(void *arg, const char *importer, const char *name)
{
	char *made;

	(void)arg;
	if (strstr(name, "none"))
		return NULL;
	return asprintf(&made, "[%s] %s", importer, name) < 0 ? NULL : made;
}

static bool imports(struct thaw_vm *vm, const char *from, const char *name, const char *wanted)
{
	char code[200];

	snprintf(
		code, sizeof(code),
		"globalThis.load = () => import('%s').then(m => [m.default, m.inner], e => e.message)",
		name);
	return !thaw_vm_eval(vm, code, SIZE_MAX, from, 0, NULL, NULL) &&
	       gives(vm, "load", NULL, wanted);
}

TEST(imports_are_beside_the_importer_or_what_the_host_says)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){.load_module = load});

	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(imports(vm, "app/src/main.js", "./a.js",
			    "[\"app/src/a.js\",\"app/src/lib/inner.js\"]"));
	EXPECT_TRUE(imports(vm, "app/src/main.js", "../b/./c/../a.js",
			    "[\"app/b/a.js\",\"app/b/lib/inner.js\"]"));
	EXPECT_TRUE(imports(vm, "main.js", "../../a.js", "[\"a.js\",\"lib/inner.js\"]"));
	EXPECT_TRUE(imports(vm, "/x/main.js", "../../d.js", "[\"/d.js\",\"/lib/inner.js\"]"));
	EXPECT_TRUE(imports(vm, "https://host/x/main.js", "../../e.js",
			    "[\"https://host/e.js\",\"https://host/lib/inner.js\"]"));
	EXPECT_TRUE(imports(vm, "https://host", "./f.js",
			    "[\"https://host/f.js\",\"https://host/lib/inner.js\"]"));
	EXPECT_TRUE(imports(vm, "x/main.js", "tools", "[\"tools\",\"lib/inner.js\"]"));
	EXPECT_TRUE(imports(vm, "x/main.js", "./none.js", "\"there is no module x/none.js\""));
	thaw_vm_close(vm);
	vm = vm_with((struct thaw_vm_options){.load_module = load, .resolve_module = resolve});
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(imports(vm, "main", "it", "[\"[main] it\",\"[[main] it] ./lib/inner.js\"]"));
	EXPECT_TRUE(imports(vm, "main", "none",
			    "\"main cannot import none: there is no such module\""));
	thaw_vm_close(vm);
}

/* ---- Values ---- */

TEST(objects_and_arrays_are_made_by_handles)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	thaw_vm_value object, array, big, keys, item, global, pair[2];
	struct thaw_vm_usage before, after;
	struct thaw_error error;
	char *text;

	ASSERT_NE(NULL, vm);
	object = thaw_vm_object(vm);
	array = thaw_vm_array(vm);
	big = thaw_vm_bigint(vm, "123456789012345678901234567890");
	EXPECT_EQ(0, thaw_vm_bigint(vm, "12x"));
	EXPECT_EQ(0, thaw_vm_set_index(vm, array, 0, big, &error));
	EXPECT_EQ(0, thaw_vm_set_index(vm, array, 2, thaw_vm_null(vm), &error));
	EXPECT_EQ(0, thaw_vm_set(vm, object, "list", array, &error));
	EXPECT_EQ(0, thaw_vm_set(vm, object, "big", big, &error));
	global = thaw_vm_global(vm);
	EXPECT_EQ(0, thaw_vm_set(vm, global, "made", object, &error));
	ASSERT_EQ(
		0,
		run(vm,
		    "const look = () => [made.list.length, String(made.list[0] + 1n), made.list[2],"
		    " Array.isArray(made.list), Object.getPrototypeOf(made) === Object.prototype]",
		    &error));
	EXPECT_TRUE(
		gives(vm, "look", NULL, "[3,\"123456789012345678901234567891\",null,true,true]"));
	ASSERT_EQ(0, thaw_vm_keys(vm, object, &keys, &error));
	ASSERT_EQ(0, thaw_vm_get_index(vm, keys, 1, &item, &error));
	text = thaw_vm_to_string(vm, item, NULL);
	EXPECT_STREQ("big", text);
	free(text);
	text = thaw_vm_to_string(vm, big, NULL);
	EXPECT_STREQ("123456789012345678901234567890", text);
	free(text);
	EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_keys(vm, 0, &keys, &error));
	EXPECT_EQ(1, thaw_vm_has(vm, object, "big", &error));
	EXPECT_EQ(1, thaw_vm_has(vm, object, "toString", &error));
	EXPECT_EQ(1, thaw_vm_delete(vm, object, "big", &error));
	EXPECT_EQ(0, thaw_vm_has(vm, object, "big", &error));
	EXPECT_EQ(0, thaw_vm_delete(vm, array, "length", &error));
	EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_has(vm, big, "x", &error));
	EXPECT_TRUE(thaw_vm_same(vm, object, object));
	EXPECT_FALSE(thaw_vm_same(vm, object, array));
	ASSERT_EQ(0, thaw_vm_get(vm, global, "Array", &item, &error));
	pair[0] = object;
	pair[1] = big;
	ASSERT_EQ(0, thaw_vm_new(vm, item, 2, pair, &keys, &error));
	ASSERT_EQ(0, thaw_vm_get_index(vm, keys, 0, &item, &error));
	EXPECT_TRUE(thaw_vm_same(vm, object, item));
	EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_new(vm, object, 0, NULL, &keys, &error));
	EXPECT_EQ(THAW_VM_EEXCEPTION,
		  thaw_vm_eval(vm, "a b", SIZE_MAX, "x", THAW_VM_CHECK, NULL, &error));
	EXPECT_EQ(0, thaw_vm_eval(vm, "nowhere()", SIZE_MAX, "x", THAW_VM_CHECK, NULL, &error));
	EXPECT_EQ(0, thaw_vm_eval(vm, "export let q = await 1", SIZE_MAX, "x",
				  THAW_VM_CHECK | THAW_VM_MODULE, NULL, &error));
	ASSERT_EQ(0, thaw_vm_usage(vm, &before));
	ASSERT_EQ(0, run(vm, "var much = new Uint8Array(8 << 20)", &error));
	ASSERT_EQ(0, thaw_vm_usage(vm, &after));
	EXPECT_LE(before.live_bytes + (8 << 20), after.live_bytes);
	EXPECT_LE(after.live_bytes, after.heap_bytes);
	EXPECT_LT(before.turns, after.turns);
	ASSERT_EQ(0, run(vm, "much = null; var a = {}; a.b = { a }; a = null", &error));
	ASSERT_EQ(0, thaw_vm_collect(vm, &error));
	ASSERT_EQ(0, thaw_vm_usage(vm, &after));
	EXPECT_GT(before.live_bytes + (1 << 20), after.live_bytes);
	EXPECT_NE(NULL, strstr(thaw_vm_engine_name(), "quickjs"));
	thaw_vm_close(vm);
}

TEST_HARNESS_MAIN
