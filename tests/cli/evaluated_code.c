// SPDX-License-Identifier: GPL-2.0-only
/*
 * thaw -e and thaw -p: one signal ends them and what they did is kept, and who only asks a program
 * something does not run it on.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(code)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(code)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
}
FIXTURE_TEARDOWN(code)
{
	if (self->program.pid > 0 && self->program.in >= 0)
		program_kill(&self->program);
	program_free(&self->program);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

#define RUN(code, expected, ...)                                                      \
	do {                                                                          \
		program_free(&self->program);                                         \
		EXPECT_EQ(code, program_run(&self->program, NULL, THAW(__VA_ARGS__))) \
		{                                                                     \
			TH_LOG("%s", self->program.errors);                           \
		}                                                                     \
		EXPECT_STREQ(expected, self->program.output);                         \
	} while (0)

/* One signal, as soon as the code runs; and nothing is said of it. */
static int signalled(struct program *program, int signo, const char *const arguments[])
{
	program_free(program);
	*program = program_start(arguments);
	if (!program_wait_for(program, "runs\n", 60))
		return -1;
	kill(program->pid, signo);
	return program_finish(program, 60);
}

static const char *const endless[] = {
	"console.log('runs'); for (;;);",
	"await 0; console.log('runs'); for (;;);",
	"console.log('runs'); (async () => { for (;;) await 0 })(); 1",
	"console.log('runs'); function again() { Promise.resolve().then(again) } again()",
	"console.log('runs'); await new Promise(() => setTimeout(() => {}, 1e8))",
	"setTimeout(() => { console.log('runs'); for (;;); }, 1); await new Promise(() => {})",
	"setInterval(() => {}, 1); console.log('runs'); await new Promise(() => {})",
	"console.log('runs'); try { for (;;); } catch { for (;;); } finally { for (;;); }",
	"console.log('runs'); new Proxy({}, { ownKeys() { for (;;); } })",
	"console.log('runs'); throw new Proxy({}, { ownKeys() { for (;;); } })",
};

TEST_F(code, one_signal_ends_it)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

	for (unsigned i = 0; i < sizeof(endless) / sizeof(endless[0]); i++) {
		int signo = signals[i % 3];

		EXPECT_EQ(128 + signo, signalled(&self->program, signo, THAW("-p", endless[i])))
		TH_LOG("%s: %s%s", endless[i], self->program.output, self->program.errors);
		EXPECT_STREQ("runs\n", self->program.output) TH_LOG("%s", endless[i]);
		EXPECT_STREQ("", self->program.errors) TH_LOG("%s", endless[i]);
		signo = signals[(i + 1) % 3];
		/* The result of -e is not looked at. */
		if (strstr(endless[i], "Proxy"))
			continue;
		EXPECT_EQ(128 + signo, signalled(&self->program, signo, THAW("-e", endless[i])))
		TH_LOG("%s: %s", endless[i], self->program.errors);
		EXPECT_STREQ("", self->program.errors) TH_LOG("%s", endless[i]);
	}
	/* What it started, after it. */
	EXPECT_EQ(130,
		  signalled(&self->program, SIGINT,
			    THAW("-e", "setTimeout(() => { console.log('runs'); for (;;); })")));
	EXPECT_STREQ("", self->program.errors);
}

TEST_F(code, what_it_did_is_kept)
{
	static const char *const kept[] = {
		"globalThis.n = 1; console.log('runs'); for (;;);",
		"n++; await 0; console.log('runs'); for (;;);",
		"n++; console.log('runs'); await new Promise(() => setTimeout(() => {}, 1e8))",
	};

	for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		EXPECT_EQ(143, signalled(&self->program, SIGTERM,
					 THAW("-i", self->image, "-e", kept[i])))
		TH_LOG("%s: %s", kept[i], self->program.errors);
		EXPECT_STREQ("", self->program.errors);
	}
	RUN(0, "3\n", "-i", self->image, "-p", "n");
	RUN(7, "", "-i", self->image, "-e", "n = 8; (await import('thaw')).exit(7)");
	RUN(0, "8\n", "-i", self->image, "-p", "n");
	RUN(1, "", "-i", self->image, "-p", "n = 9; throw 1");
	RUN(0, "9\n", "-i", self->image, "-p", "n");
	RUN(0, "", "-p", "(await import('thaw')).exit(0)");
	RUN(1, "", "-e", "a b");
	RUN(1, "", "-p", "await Promise.reject(1)");
}

TEST_F(code, that_nothing_will_end)
{
	static const char *const options[] = {"-e", "-p"};
	static const char said[] =
		"thaw: the code ended while its top-level await was still waiting\n";

	for (unsigned i = 0; i < 2; i++) {
		RUN(13, "", options[i], "await new Promise(() => {})");
		EXPECT_STREQ(said, self->program.errors);
		RUN(13, "1\n2\n", options[i],
		    "setTimeout(() => console.log(2), 1); console.log(1); await new Promise(() => {})");
		EXPECT_STREQ(said, self->program.errors);
	}
	RUN(13, "", "-i", self->image, "-e", "globalThis.n = 1; await new Promise(() => {})");
	RUN(0, "1\n", "-i", self->image, "-p", "n");
	/* Nobody awaits it. */
	RUN(0, "Promise { <pending> }\n", "-p", "new Promise(() => {})");
}

static const char app[] = "import { checkpoint, on, readFile } from 'thaw'\n"
			  "globalThis.n = 0\n"
			  "on('restore', () => console.log('restored'))\n"
			  "setInterval(() => console.log('tick', ++n), 5)\n"
			  "await checkpoint()\n"
			  "console.log('first')\n"
			  "for (;;) { await checkpoint(); console.log('durable') }\n";

static void run_and_kill(struct program *program, const char *script, const char *last)
{
	program_free(program);
	*program = program_start(THAW("run", "--every", "20ms", script));
	if (!program_wait_for(program, last, 60))
		support_die(program->errors);
	program_kill(program);
}

TEST_F(code, a_question_does_not_run_the_program_on)
{
	int n;

	support_write(self->script, app);
	run_and_kill(&self->program, self->script, "durable\n");
	RUN(0, "number\n", "-i", self->image, "-p", "typeof n");
	RUN(0, "-7\n", "-i", self->image, "-p", "n = -7");
	RUN(0, "-7\n", "-i", self->image, "-p", "n");
	RUN(1, "", "-i", self->image, "-p", "n = -8; throw 1");
	/* What it declares is there for the next one, and what it starts waits like all the rest. */
	RUN(0, "1\n", "-i", self->image, "-p",
	    "let asked = 1; setTimeout(() => console.log('late'), 1); asked");
	RUN(0, "[ -8, 1 ]\n", "-i", self->image, "-p", "[n, asked]");
	/* Who awaits something lets it go on as long as that takes. */
	program_free(&self->program);
	EXPECT_EQ(
		0,
		program_run(
			&self->program, NULL,
			THAW("-i", self->image, "-p",
			     "await new Promise(then => setInterval(() => n > -5 && then('passed'), 1))")));
	EXPECT_NE(NULL, strstr(self->program.output, "restored\n"));
	EXPECT_NE(NULL, strstr(self->program.output, "tick -7\n"));
	EXPECT_NE(NULL, strstr(self->program.output, "\npassed\n"));
	/* Nothing was lost by asking. */
	program_free(&self->program);
	self->program = program_start(THAW("run", "--every", "20ms", self->script));
	EXPECT_TRUE(program_wait_for(&self->program, "tick 1\n", 60));
	program_kill(&self->program);
	EXPECT_EQ(1, sscanf(strstr(self->program.output, "tick ") ?: "", "tick %d", &n));
	EXPECT_GT(n, -8);
	EXPECT_LT(n, 2);
	EXPECT_NE(NULL, strstr(self->program.output, "restored\n"));
	EXPECT_NE(NULL, strstr(self->program.output, "durable\n"));
}

/* A turn that does not end is asked where it stands, and stands there still. */
TEST_F(code, a_question_in_the_middle_of_a_turn)
{
	char *log;

	support_write(self->script, "globalThis.n = 0; globalThis.list = [3, 1, 2]; let own = 7\n"
				    "function deep(left) {\n"
				    "	if (left) return deep(left - 1) + 1\n"
				    "	for (;;) {\n"
				    "		n++\n"
				    "		if (n % 1000000 === 0) console.log('at', n, own)\n"
				    "		if (globalThis.done) return 0\n"
				    "	}\n"
				    "}\n"
				    "setTimeout(() => console.log('deep', deep(100), list), 1)\n");
	run_and_kill(&self->program, self->script, "at 5000000 7\n");
	RUN(0, "log\n", "-p", "'log'");
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("log", self->image)));
	log = strstr(self->program.output, "mid-turn");
	if (!log)
		SKIP(return, "no turn can be captured here");

	RUN(0, "[ true, 3 ]\n", "-i", self->image, "-p", "[n > 1000000, list.length]");
	EXPECT_STREQ("", self->program.errors);
	RUN(0, "undefined\n", "-i", self->image, "-p", "n = 10; list.sort(); void 0");
	RUN(1, "", "-i", self->image, "-p", "list.push(9); throw new Error('in between')");
	EXPECT_NE(NULL, strstr(self->program.errors, "Uncaught Error: in between"));
	RUN(0, "4\n", "-i", self->image, "-p", "let asked = 4; asked");
	EXPECT_EQ(143, signalled(&self->program, SIGTERM,
				 THAW("-i", self->image, "-p",
				      "list.push(asked); console.log('runs'); for (;;);")));
	EXPECT_STREQ("", self->program.errors);
	/* What awaits something has to wait for the end of the turn. */
	program_free(&self->program);
	self->program = program_start(THAW("-i", self->image, "-p", "await 0; list.length"));
	EXPECT_TRUE(program_wait_for_complaint(&self->program, "which goes on first", 60));
	EXPECT_TRUE(program_wait_for(&self->program, "at 1000000 7\n", 60));
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	RUN(0, "[ 1, 2, 3, 9, 4 ]\n", "-i", self->image, "-p", "list");
	RUN(0, "true\n", "-i", self->image, "-p", "globalThis.done = true");
	RUN(0, "deep 100 [ 1, 2, 3, 9, 4 ]\n", "run", self->script);
}

TEST_F(code, a_question_finishes_nothing_and_revives_nothing)
{
	support_write(self->script, "import { exit } from 'thaw'\nglobalThis.n = 4\n"
				    "setInterval(() => {}, 1)\nsetTimeout(() => exit(5), 1)\n");
	RUN(5, "", "run", self->script);
	RUN(0, "4\n", "-i", self->image, "-p", "n");
	RUN(5, "", "run", self->script);
	EXPECT_NE(NULL, strstr(self->program.errors, "called exit(5)"));

	support_write(self->script, "setInterval(() => console.log('ticks'), 5)\n");
	program_free(&self->program);
	self->program = program_start(THAW("run", "--fresh", "--every", "20ms", self->script));
	EXPECT_TRUE(
		program_wait_for(&self->program, "ticks\nticks\nticks\nticks\nticks\nticks\n", 60));
	EXPECT_EQ(0, kill(self->program.pid, SIGTERM));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	RUN(3, "", "-i", self->image, "-p", "(await import('thaw')).exit(3)");
	program_free(&self->program);
	self->program = program_start(THAW("run", self->script));
	EXPECT_TRUE(program_wait_for(&self->program, "ticks\n", 60));
	program_kill(&self->program);
}

/* Its help says so. */
TEST_F(code, object_prototype_changes_no_result)
{
	RUN(0, "side\n1\n", "-p",
	    "Object.prototype.then = function (r) { r(9) }; console.log('side'); 1");
	RUN(0, "2\n", "-p", "Object.prototype.then = function (r) { r(9) }; await 0; 2");
	RUN(0, "{ value: 3 }\n", "-p", "Object.prototype.value = 7; ({ value: 3 })");
	RUN(0, "4\n", "-p",
	    "Object.defineProperty(Object.prototype, 'value', {"
	    " set(v) { console.log('set') }, get() { return 8 } }); 4");
	RUN(0, "5\n", "-p",
	    "Object.defineProperty(Object.prototype, 'value', { set(v) { throw v } }); 5");
	RUN(0, "6\n", "-p", "Object.freeze(Object.prototype); 6");
	/* What a program awaits itself is followed. */
	RUN(0, "9\n", "-p", "Object.prototype.then = function (r) { r(9) }; await {}");
}

TEST_F(code, the_help_tells)
{
	program_run(&self->program, NULL, THAW("-p", "--help"));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("help", "-p")));
	EXPECT_NE(NULL, strstr(self->program.output, "it prints and leaves"));
}

TEST_HARNESS_MAIN
