// SPDX-License-Identifier: GPL-2.0-only
/*
 * hostile_scripts.c - what a program may do to the one that it runs in (hostile_scripts.txt: a name, a tab, a script): built-ins over giant
 * lengths, quadratic ones, recursion, floods of jobs, memory, output; and conversions by the host of values that fight back.
 * Each comes to an end by an exception, a limit or a trap, and harms nobody beside it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "embedded.h"

#define VM_BYTES (64u << 20)
#define TURN_NS 300000000u
#define PROCESSOR_SECONDS 0.005

static double processor_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static size_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long all, resident = 0;

	if (file && fscanf(file, "%lu %lu", &all, &resident) != 2)
		resident = 0;
	if (file)
		fclose(file);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* Limits by the thread's processor time, so that a busy machine makes no difference; only where it is said. */
struct host {
	uint64_t logged;
	double end; /* 0: no limit */
};

static void drop_log(void *arg, int fd, const char *text, size_t bytes)
{
	(void)fd, (void)text;
	((struct host *)arg)->logged += bytes;
}

static bool is_over(void *arg)
{
	const struct host *host = arg;

	return host->end > 0 && processor_seconds() > host->end;
}

static void limit(struct host *host)
{
	host->end = processor_seconds() + PROCESSOR_SECONDS;
}

static struct thaw_vm *hostile_vm(struct thaw_vm_snapshot *snapshot, struct host *host)
{
	return vm_with((struct thaw_vm_options){.max_bytes = VM_BYTES,
						.poll = is_over,
						.poll_ns = 2000000,
						.snapshot = snapshot,
						.log = drop_log,
						.arg = host});
}

/* ---- The table ---- */

#define ROOM 300

static struct {
	char *name, *code;
} scripts[ROOM];
static unsigned script_count;

static void read_scripts(void)
{
	FILE *file = fopen(THAW_SOURCE "/tests/embed/hostile_scripts.txt", "re");
	char *line = NULL, *tab;
	size_t room = 0;

	while (file && script_count < ROOM && getline(&line, &room, file) > 0) {
		tab = strchr(line, '\t');
		if (!tab)
			continue;
		*tab++ = '\0';
		tab[strcspn(tab, "\n")] = '\0';
		scripts[script_count].name = strdup(line);
		scripts[script_count++].code = strdup(tab);
	}
	free(line);
	if (file)
		fclose(file);
}

/* Of a thread: a part of the scripts, each in a VM of its own, and a VM beside it that nothing happens to. */
struct worker {
	struct thaw_vm_snapshot *snapshot;
	struct thaw_vm *beside;
	unsigned first, step, ran, traps, beside_count;
	struct host host, quiet;
	double longest;
	const char *longest_name;
	char wrong[200]; /* empty: nothing */
};

static bool may_end_with(int code)
{
	return code >= 0 || code == THAW_VM_EEXCEPTION || code == THAW_VM_EINTERRUPTED ||
	       code == THAW_VM_ETRAPPED;
}

/* After all that, the VM works; after a trap, or with jobs that never end, once it was taken back. */
static bool lives(struct worker *worker, struct thaw_vm *vm, int code)
{
	struct thaw_error error = {0};

	limit(&worker->host);
	if (code == THAW_VM_ETRAPPED && ++worker->traps && run(vm, "1", &error) != code)
		return false;
	if (code != THAW_VM_ETRAPPED)
		code = thaw_vm_call(vm, "Math.max", "[2, 1]", NULL, &error);
	worker->host.end = 0;
	if (code && (!may_end_with(code) || thaw_vm_rollback(vm, worker->snapshot, &error)))
		return false;
	return gives(vm, "Math.max", "[2, 1]", "2");
}

static void try_script(struct worker *worker, unsigned number)
{
	struct thaw_vm *vm = hostile_vm(worker->snapshot, &worker->host);
	struct thaw_error error = {0};
	double began = processor_seconds();
	char wanted[16];
	int code, after;
	bool good;

	limit(&worker->host);
	code = vm ? run(vm, scripts[number].code, &error) : -1;
	good = may_end_with(code);

	if (vm && processor_seconds() - began > worker->longest) {
		worker->longest = processor_seconds() - began;
		worker->longest_name = scripts[number].name;
	}
	/* What it has left to be done. */
	for (unsigned i = 0; good && code != THAW_VM_ETRAPPED && i < 2; i++) {
		limit(&worker->host);
		after = thaw_vm_step(vm, &error);
		good = may_end_with(after);
		if (after < 0)
			code = after;
	}
	good = good && lives(worker, vm, code);
	snprintf(wanted, sizeof(wanted), "%u", ++worker->beside_count);
	good = good && gives(worker->beside, "up", NULL, wanted);
	good = !(vm && thaw_vm_close(vm)) && good;
	if (!good && !worker->wrong[0])
		snprintf(worker->wrong, sizeof(worker->wrong), "%s: %d %.120s",
			 scripts[number].name, code, error.text);
	worker->ran++;
}

static void *work(void *arg)
{
	struct worker *worker = arg;

	worker->beside = hostile_vm(worker->snapshot, &worker->quiet);
	if (worker->beside && !run(worker->beside, "let n = 0; const up = () => ++n", NULL))
		for (unsigned i = worker->first; i < script_count; i += worker->step)
			try_script(worker, i);
	thaw_vm_close(worker->beside);
	return NULL;
}

#define WORKERS 2

FIXTURE(table)
{
	int unused;
};
FIXTURE_SETUP(table)
{
	read_scripts();
}
FIXTURE_TEARDOWN(table)
{
}

TEST_F_TIMEOUT(table, each_comes_to_an_end, 300)
{
	struct worker workers[WORKERS] = {0};
	struct thaw_vm_snapshot *snapshot;
	pthread_t threads[WORKERS];
	struct host host = {0};
	size_t before;
	unsigned ran = 0;
	struct thaw_vm *vm = hostile_vm(NULL, &host);

	ASSERT_GT(script_count, 150);
	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, NULL));
	thaw_vm_close(vm);
	before = resident_bytes();
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){.snapshot = snapshot, .first = i, .step = WORKERS};
		pthread_create(&threads[i], NULL, work, &workers[i]);
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_STREQ("", workers[i].wrong);
		ran += workers[i].ran;
		TH_LOG("%u scripts, %u trapped; %.2f s of processor time at most, in %s",
		       workers[i].ran, workers[i].traps, workers[i].longest,
		       workers[i].longest_name);
	}
	EXPECT_EQ(script_count, ran);
	/* Nothing of them is left. */
	EXPECT_LT(resident_bytes(), before + VM_BYTES);
	thaw_vm_snapshot_drop(snapshot);
}

/* ---- Conversions of the host's, of values that fight back ---- */

static const char *const fighters[] = {
	"({ toJSON() { for (;;); } })",
	"({ get a() { for (;;); } })",
	"({ toString() { for (;;); }, valueOf() { for (;;); } })",
	"new Proxy({}, { get() { for (;;); }, ownKeys() { for (;;); }, getOwnPropertyDescriptor() { for (;;); } })",
	"new Proxy([], { get(t, k) { return k === 'length' ? 2 ** 53 - 1 : 1 } })",
	"({ [Symbol.toPrimitive]() { return Array.prototype.reverse.call({ length: 2 ** 53 - 1 }) } })",
	"(() => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a })()",
	"(() => { let a = [1]; for (let i = 0; i < 60; i++) a = [a, a]; return a })()",
	"new Array(2 ** 32 - 2)",
	"'x'.repeat(1 << 24)",
	"Object.defineProperty([], 0, { get() { throw { get message() { for (;;); } } }, enumerable: true })",
};

TEST(conversions_have_limits_too)
{
	struct host host = {0};
	struct thaw_vm *vm = hostile_vm(NULL, &host);
	struct thaw_error error = {0};
	struct thaw_vm_snapshot *snapshot;

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, NULL));
	for (unsigned i = 0; i < sizeof(fighters) / sizeof(fighters[0]); i++) {
		thaw_vm_value value = 0, part = 0;
		size_t bytes;
		char *text = NULL;
		int code;

		host.end = 0;
		ASSERT_EQ(0, thaw_vm_eval(vm, fighters[i], SIZE_MAX, "fighter", 0, &value, &error))
		TH_LOG("%s: %s", fighters[i], error.text);
		limit(&host);
		code = thaw_vm_to_json(vm, value, &text, &error);
		EXPECT_TRUE(may_end_with(code)) TH_LOG("%s: %d %s", fighters[i], code, error.text);
		free(text);
		limit(&host);
		code = thaw_vm_get(vm, value, "a", &part, &error);
		EXPECT_TRUE(may_end_with(code)) TH_LOG("%s: %d %s", fighters[i], code, error.text);
		limit(&host);
		free(thaw_vm_to_string(vm, value, &bytes));
		limit(&host);
		thaw_vm_to_number(vm, value);
		host.end = 0;
		ASSERT_EQ(0, thaw_vm_set(vm, thaw_vm_global(vm), "it", value, &error));
		limit(&host);
		code = thaw_vm_call(vm, "it.a", NULL, &text, &error);
		EXPECT_TRUE(may_end_with(code)) TH_LOG("%s: %d %s", fighters[i], code, error.text);
		limit(&host);
		code = run(vm, "throw it", &error);
		EXPECT_TRUE(may_end_with(code)) TH_LOG("%s: %d %s", fighters[i], code, error.text);
		host.end = 0;
		if (code == THAW_VM_ETRAPPED)
			ASSERT_EQ(0, thaw_vm_rollback(vm, snapshot, &error));
		EXPECT_TRUE(gives(vm, "Math.max", "[2, 1]", "2")) TH_LOG("%s", fighters[i]);
	}
	thaw_vm_close(vm);
	thaw_vm_snapshot_drop(snapshot);
}

/* ---- From outside ---- */

static void *interrupt(void *arg)
{
	usleep(30000);
	thaw_vm_interrupt(arg);
	return NULL;
}

/* No time limit: only the other thread ends it. */
TEST(another_thread_interrupts_a_built_in)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){.max_bytes = VM_BYTES});
	struct thaw_error error = {0};
	pthread_t thread;

	ASSERT_NE(NULL, vm);
	for (unsigned i = 0; i < 3; i++) {
		pthread_create(&thread, NULL, interrupt, vm);
		EXPECT_EQ(THAW_VM_EINTERRUPTED, run(vm, "new Array(2 ** 32 - 2).join('')", &error));
		pthread_join(thread, NULL);
		EXPECT_EQ(0, run(vm, "1", &error));
	}
	/* It comes before the call. */
	thaw_vm_interrupt(vm);
	EXPECT_EQ(THAW_VM_EINTERRUPTED, run(vm, "new Array(2 ** 32 - 2).join('')", &error));
	thaw_vm_close(vm);
}

static unsigned returned;

/* Lets the VM do what only a trap ends, and has an own frame to come back to. */
static thaw_vm_value inner(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			   const thaw_vm_value *values)
{
	struct thaw_error error = {0};
	int code = run(vm, arg, &error);

	(void)ticket, (void)count, (void)values;
	returned += code == THAW_VM_ETRAPPED;
	return 0;
}

/* The sandbox stops what runs beneath a function of the host's: that returns as ever, and then its caller. */
TEST(a_trap_leaves_no_frames_of_the_host_behind)
{
	const struct thaw_vm_function functions[] = {{"inner", inner, (void *)"s.indexOf(t)", 0}};
	struct host host = {0};
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){.max_bytes = VM_BYTES,
							      .poll = is_over,
							      .poll_ns = 2000000,
							      .arg = &host,
							      .functions = functions,
							      .function_count = 1});
	struct thaw_error error = {0};

	ASSERT_NE(NULL, vm);
	returned = 0;
	EXPECT_EQ(0, run(vm, "var s = 'a'.repeat(1 << 23), t = 'a'.repeat(1 << 22) + 'b'", &error));
	limit(&host);
	EXPECT_EQ(THAW_VM_ETRAPPED, run(vm, "try { inner() } finally { inner() }", &error));
	EXPECT_EQ(1, returned);
	EXPECT_NE(NULL, strstr(error.text, "did not end")) TH_LOG("%s", error.text);
	thaw_vm_close(vm);
}

static thaw_vm_value again(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			   const thaw_vm_value *values)
{
	struct thaw_error error = {0};
	thaw_vm_value result = 0;

	(void)arg, (void)ticket;
	if (count)
		thaw_vm_apply(vm, values[0], 0, 0, NULL, &result, &error);
	return result;
}

TEST(functions_of_the_host_that_recurse)
{
	const struct thaw_vm_function functions[] = {{"again", again, NULL, 0}};
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){.max_bytes = VM_BYTES,
							      .turn_ns = TURN_NS,
							      .functions = functions,
							      .function_count = 1});
	struct thaw_error error = {0};
	int code;

	ASSERT_NE(NULL, vm);
	code = run(vm, "function f() { return again(f) }; f()", &error);
	EXPECT_TRUE(may_end_with(code)) TH_LOG("%d %s", code, error.text);
	EXPECT_EQ(THAW_VM_EINTERRUPTED,
		  run(vm, "for (;;) again(() => { for (let i = 0; i < 1e4; i++); })", &error));
	EXPECT_EQ(THAW_VM_EINTERRUPTED,
		  run(vm, "again(() => Array.prototype.reverse.call({ length: 2 ** 53 - 1 }))",
		      &error));
	EXPECT_TRUE(gives(vm, "Math.max", "[2, 1]", "2"));
	thaw_vm_close(vm);
}

TEST(floods_of_jobs_and_timers)
{
	struct host host = {0};
	struct thaw_vm *vm = hostile_vm(NULL, &host);
	struct thaw_error error = {0};
	thaw_vm_value promise = 0, result = 0;
	pthread_t thread;

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, "let n = 0; (function f() { n++; setTimeout(f, 0) })()", &error));
	EXPECT_EQ(-ETIMEDOUT, thaw_vm_run(vm, 30000000, &error));
	ASSERT_EQ(0, thaw_vm_eval(vm, "new Promise(() => {})", SIZE_MAX, "p", 0, &promise, &error));
	EXPECT_EQ(-ETIMEDOUT, thaw_vm_await(vm, promise, 30000000, &result, &error));
	limit(&host);
	EXPECT_EQ(THAW_VM_EINTERRUPTED, run(vm, "(async () => { for (;;) await null })()", &error));
	host.end = 0;
	/* For ever is for ever, but for who has enough. */
	pthread_create(&thread, NULL, interrupt, vm);
	EXPECT_EQ(THAW_VM_EINTERRUPTED, thaw_vm_await(vm, promise, UINT64_MAX, &result, &error));
	pthread_join(thread, NULL);
	thaw_vm_close(vm);
}

TEST_HARNESS_MAIN
