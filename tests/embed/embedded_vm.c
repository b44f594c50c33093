// SPDX-License-Identifier: GPL-2.0-only
/*
 * embedded_vm.c - a program with JavaScript in it by libthawvm: code, functions of the host, time, limits, images.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "embedded.h"

static struct waiting {
	uint64_t ticket;
	unsigned calls;
} waiting;

static thaw_vm_value add(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			 const thaw_vm_value *values)
{
	(void)arg, (void)ticket;
	if (count != 2)
		return thaw_vm_throw(vm, "TypeError", "add() takes two numbers");
	return thaw_vm_number(vm,
			      thaw_vm_to_number(vm, values[0]) + thaw_vm_to_number(vm, values[1]));
}

static thaw_vm_value later(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			   const thaw_vm_value *values)
{
	struct waiting *to = arg;

	(void)vm, (void)count, (void)values;
	to->ticket = ticket;
	to->calls++;
	return 0;
}

static thaw_vm_value again(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			   const thaw_vm_value *values)
{
	(void)arg, (void)ticket, (void)count, (void)values;
	if (thaw_vm_close(vm) != -16 || run(vm, "var inner = 21 * 2", NULL))
		return thaw_vm_throw(vm, "Error", "closed or refused");
	return thaw_vm_number(vm, 1);
}

static const struct thaw_vm_function functions[] = {
	{"add", add, NULL, 0},
	{"later", later, &waiting, THAW_VM_PROMISE},
	{"again", again, NULL, 0},
};

TEST(values_go_in_and_come_out)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	struct thaw_error error;
	thaw_vm_value bytes, function, result = 0;
	size_t length = 0;
	char *data;

	ASSERT_NE(vm, NULL);
	ASSERT_EQ(0, run(vm,
			 "const tools = { join: (a, b) => a.concat(b) };"
			 "function twice(bytes) { return new Uint8Array([...bytes, ...bytes]) }",
			 &error));
	EXPECT_TRUE(gives(vm, "tools.join", "[[1, \"\xc3\xa9\"], [{\"x\": null}]]",
			  "[1,\"\xc3\xa9\",{\"x\":null}]"));
	EXPECT_EQ(THAW_VM_EEXCEPTION, run(vm, "null.x", &error));
	EXPECT_NE(NULL, strstr(error.text, "TypeError"));
	EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_call(vm, "tools.none", NULL, NULL, &error));
	ASSERT_EQ(0, thaw_vm_get(vm, thaw_vm_global(vm), "twice", &function, &error));
	bytes = thaw_vm_bytes(vm, "ab\0", 3);
	ASSERT_EQ(0, thaw_vm_apply(vm, function, 0, 1, &bytes, &result, &error));
	data = thaw_vm_to_bytes(vm, result, &length);
	ASSERT_EQ(6, length);
	EXPECT_EQ(0, memcmp(data, "ab\0ab\0", 6));
	free(data);
	EXPECT_EQ(0, thaw_vm_close(vm));
}

TEST(nothing_of_the_process_is_there)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	struct thaw_error error;

	ASSERT_NE(vm, NULL);
	ASSERT_EQ(
		0,
		run(vm,
		    "function use() { return import('thaw').then(t => Promise.all([t.env.PATH ?? 'none',"
		    " t.readFile('/etc/passwd').catch(e => e.message)])) }",
		    &error));
	EXPECT_TRUE(
		gives(vm, "use", NULL,
		      "[\"none\",\"a program inside of another one has no files of its own\"]"));
	thaw_vm_close(vm);
}

TEST(functions_of_the_host)
{
	struct thaw_vm *vm =
		vm_with((struct thaw_vm_options){.functions = functions, .function_count = 3});
	struct thaw_error error;
	char *json;
	thaw_vm_value text;
	uint64_t ticket = 0;

	ASSERT_NE(vm, NULL);
	ASSERT_EQ(
		0,
		run(vm,
		    "function f() { return add(1, 2) }"
		    "function g() { try { add() } catch (e) { return e.name } }"
		    "function h() { return again() + inner }"
		    "var got; later('x').then(v => got = v, e => got = e.message); function k() { return got }",
		    &error));
	EXPECT_TRUE(gives(vm, "f", NULL, "3"));
	EXPECT_TRUE(gives(vm, "g", NULL, "\"TypeError\""));
	EXPECT_TRUE(gives(vm, "h", NULL, "43"));
	EXPECT_EQ(1, thaw_vm_tickets(vm, &ticket, 1, &error));
	EXPECT_EQ(waiting.ticket, ticket);
	text = thaw_vm_string(vm, "here", 4);
	EXPECT_EQ(0, thaw_vm_settle(vm, ticket, text, NULL, &error));
	EXPECT_TRUE(gives(vm, "k", NULL, "\"here\""));
	EXPECT_EQ(-ENOENT, thaw_vm_settle(vm, ticket, text, NULL, &error));
	ASSERT_EQ(1, thaw_vm_context_new(vm, "other", &error));
	ASSERT_EQ(0, thaw_vm_context_use(vm, 1, &error));
	ASSERT_EQ(0, run(vm,
			 "const f = () => add(3, 4), h = () => again() + inner,"
			 "k = async () => [await later()]",
			 &error));
	EXPECT_TRUE(gives(vm, "f", NULL, "7"));
	EXPECT_TRUE(gives(vm, "h", NULL, "43"));
	EXPECT_EQ(THAW_VM_EPENDING, thaw_vm_call(vm, "k", NULL, &json, &error));
	thaw_vm_close(vm);
}

TEST(time_goes_on_by_steps)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	struct thaw_error error;

	ASSERT_NE(vm, NULL);
	ASSERT_EQ(
		0,
		run(vm,
		    "let n = 0; setTimeout(() => n++, 5); setTimeout(() => n++, 3600000);"
		    "const wait = ms => new Promise(r => setTimeout(r, ms, ms)); const get = () => n",
		    &error));
	EXPECT_LT(thaw_vm_next_due(vm), 6000000);
	EXPECT_TRUE(gives(vm, "wait", "[20]", "20"));
	EXPECT_TRUE(gives(vm, "get", NULL, "1"));
	EXPECT_GT(thaw_vm_next_due(vm), 3500000000000ull);
	EXPECT_EQ(-ETIMEDOUT, thaw_vm_run(vm, 1000000, &error));
	thaw_vm_close(vm);
}

TEST(limits_hold)
{
	struct thaw_vm *vm =
		vm_with((struct thaw_vm_options){.max_bytes = 64 << 20, .turn_ns = 100000000});
	struct thaw_error error;

	ASSERT_NE(vm, NULL);
	EXPECT_EQ(THAW_VM_EINTERRUPTED, run(vm, "for (;;) try { for (;;); } catch {}", &error));
	EXPECT_EQ(THAW_VM_EINTERRUPTED,
		  run(vm, "(function f() { Promise.reject(1); Promise.resolve().then(f) })()",
		      &error));
	thaw_vm_close(vm);
	vm = vm_with((struct thaw_vm_options){.max_bytes = 64 << 20});
	ASSERT_NE(vm, NULL);
	ASSERT_EQ(
		0,
		run(vm,
		    "function fill() { const a = []; try { for (;;) a.push(new Array(1e5).fill(0)) }"
		    " catch (e) { return String(e) } }"
		    "function deep() { try { return deep() + 1 } catch (e) { return e.name } }",
		    &error));
	EXPECT_TRUE(gives(vm, "fill", NULL, "\"InternalError: out of memory\""));
	EXPECT_TRUE(gives(vm, "String", "[1]", "\"1\""));
	thaw_vm_close(vm);
}

static void *interrupt(void *arg)
{
	usleep(20000);
	thaw_vm_interrupt(arg);
	return NULL;
}

TEST(another_thread_interrupts)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	struct thaw_error error;
	pthread_t thread;

	ASSERT_NE(vm, NULL);
	pthread_create(&thread, NULL, interrupt, vm);
	EXPECT_EQ(THAW_VM_EINTERRUPTED, run(vm, "for (;;);", &error));
	pthread_join(thread, NULL);
	EXPECT_EQ(0, run(vm, "1", &error));
	thaw_vm_close(vm);
}

static void *work(void *arg)
{
	struct thaw_vm *vms[4];
	bool good = true;
	char wanted[8];

	for (unsigned i = 0; i < 4; i++) {
		vms[i] = vm_with((struct thaw_vm_options){0});
		good = good && vms[i];
	}
	for (unsigned i = 0; good && i < 4; i++) {
		char code[64];

		snprintf(code, sizeof(code), "let n = %u; const up = () => ++n", i * 10);
		good = !run(vms[i], code, NULL);
	}
	for (unsigned round = 1; good && round < 50; round++)
		for (unsigned i = 0; good && i < 4; i++) {
			snprintf(wanted, sizeof(wanted), "%u", i * 10 + round);
			good = gives(vms[i], "up", NULL, wanted);
		}
	for (unsigned i = 0; i < 4; i++)
		thaw_vm_close(vms[i]);
	*(bool *)arg = good;
	return NULL;
}

TEST(many_in_many_threads)
{
	pthread_t threads[4];
	bool good[4];

	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, work, &good[i]);
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_TRUE(good[i]);
	}
}

TEST(an_image_goes_on)
{
	char directory[] = "/tmp/thaw-test-embed-XXXXXX", path[64];
	struct thaw_vm_options options = {.image = path,
					  .functions = functions,
					  .function_count = 3,
					  .size = sizeof(options)};
	struct thaw_error error = {0};
	uint64_t ticket, generation = 0;
	struct thaw_vm *vm;

	ASSERT_NE(NULL, mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/a.thaw", directory);
	vm = vm_with(options);
	ASSERT_NE(vm, NULL);
	ASSERT_EQ(0, run(vm,
			 "let n = 7, got; const next = () => add(n++, 0), what = () => got;"
			 "later().catch(e => got = e.message)",
			 &error));
	EXPECT_EQ(0, thaw_vm_checkpoint(vm, "first", &generation, &error));
	EXPECT_NE(0, generation);
	EXPECT_TRUE(gives(vm, "next", NULL, "7"));
	thaw_vm_close(vm);

	vm = vm_with(options);
	ASSERT_NE(vm, NULL);
	EXPECT_TRUE(gives(vm, "next", NULL, "7"));
	EXPECT_EQ(1, thaw_vm_tickets(vm, &ticket, 1, &error));
	EXPECT_EQ(0, thaw_vm_settle(vm, ticket, 0, "the process ended", &error));
	EXPECT_TRUE(gives(vm, "what", NULL, "\"the process ended\""));
	thaw_vm_close(vm);

	options.function_count = 1;
	EXPECT_EQ(THAW_VM_EMISSING, thaw_vm_open(&options, &vm, &error));
	EXPECT_NE(NULL, strstr(error.text, "later, again"));
	unlink(path);
	rmdir(directory);
}

static void catch (int number)
{
	_exit(number == SIGSEGV ? 7 : 8);
}

/* What is not the library's goes to the handler that was there before. */
TEST(handlers_of_the_program_stay)
{
	int status;
	pid_t child = fork();

	if (!child) {
		int *volatile nowhere = (int *)8;
		struct thaw_vm *vm;

		signal(SIGSEGV, catch);
		vm = vm_with((struct thaw_vm_options){0});
		if (!vm || run(vm, "1", NULL))
			_exit(1);
		*nowhere = 1;
		_exit(2);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(7, WEXITSTATUS(status));
}

TEST_HARNESS_MAIN
