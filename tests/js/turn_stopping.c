// SPDX-License-Identifier: GPL-2.0-only
/*
 * turn_stopping.c - generations in the middle of a turn: when one is taken, and what a program sees of
 * it all. Who may continue one: turn_trust.c.
 *
 * (That the computation itself goes on unharmed is turn_kills.c's and turn_constructs.c's matter,
 * what stands on the stack turn_stack.c's.)
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "stopped_turn.h"

/* ---- Taking them ---- */

TEST_F(stopping, a_killed_loop_goes_on)
{
	long long before;

	support_write(self->script, endless);
	self->program = program_start(THAW("run", "--every", "20ms", self->script));
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 3, THAW_KIND_BOUND, 60));
	before = last_number(self->program.output, "n ");
	ASSERT_TRUE(wait_until_stopped(&self->program, self->image));
	program_kill(&self->program);
	program_free(&self->program);

	setenv("STOP", "1", 1);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", "-v", self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, "in the middle of a turn"))
	TH_LOG("%s", self->program.errors);
	EXPECT_NE(NULL, strstr(self->program.output, "right")) TH_LOG("%s", self->program.output);
	EXPECT_EQ(NULL, strstr(self->program.output, "started"));
	EXPECT_GE(last_number(self->program.output, "right "), before);
}

/* Short turns are left to end: what is between turns, any build can continue. */
TEST_F(stopping, short_turns_are_not_stopped)
{
	unsigned stopped = 1;
	char *text;

	/* A slow machine has less to do in a turn. */
	text = support_format(
		"let n = 0\n"
		"setInterval(() => { for (let i = 0; i < %u; i++) n += i; console.log('n', n) }, 1)\n",
		200000 / test_patience());
	support_write(self->script, text);
	free(text);
	/*
	 * Half a second, which a turn of some 6 ms does not last on a busy machine either: unless
	 * it is off the CPU for so long.
	 */
	for (int attempt = 0; attempt < 3 && stopped; attempt++) {
		program_free(&self->program);
		unlink(self->image);
		self->program = program_start(THAW("run", "--every", "500ms", self->script));
		ASSERT_TRUE(wait_for_generation(&self->program, self->image, 4, THAW_KIND_PORTABLE,
						30));
		program_kill(&self->program);
		stopped = count_of_kind(self->image, THAW_KIND_BOUND);
	}
	EXPECT_EQ(0, stopped);
}

/* ... however long a series of the others is. */
TEST_F(stopping, one_generation_between_turns_stays)
{
	struct thaw_generation between;

	support_write(self->script, later_endless);
	self->program =
		program_start(THAW("run", "--every", "10ms", "--retain", "3", self->script));
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 20, THAW_KIND_BOUND, 60));
	program_kill(&self->program);
	between = newest_of_kind(self->image, THAW_KIND_PORTABLE);
	EXPECT_GT(between.number, 0);
	EXPECT_LT(between.number, newest(self->image).number - 10);
	EXPECT_EQ(3, count_of_kind(self->image, THAW_KIND_BOUND));
}

TEST_F(stopping, sigusr2_does_not_wait_for_the_end_of_a_turn)
{
	support_write(self->script, endless);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n 1000000", 60));
	EXPECT_EQ(0, newest(self->image).number);
	kill(self->program.pid, SIGUSR2);
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 0, THAW_KIND_BOUND, 60));
	program_kill(&self->program);
	program_free(&self->program);
	setenv("STOP", "1", 1);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_NE(NULL, strstr(self->program.output, "right"));
}

/* systemd, docker and a person at a keyboard do not wait for a loop of an hour. */
TEST_F(stopping, sigterm_ends_a_turn_that_lasts)
{
	support_write(self->script, endless);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n 1000000", 60));
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	EXPECT_STREQ("", self->program.errors);
	EXPECT_EQ(THAW_KIND_BOUND, newest(self->image).kind);
	EXPECT_EQ(THAW_REASON_SIGNAL, newest(self->image).reason);
	program_free(&self->program);
	setenv("STOP", "1", 1);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_NE(NULL, strstr(self->program.output, "right"));
	EXPECT_GT(last_number(self->program.output, "right "), 1000000);
}

TEST_F(stopping, sigterm_lets_a_short_turn_end)
{
	support_write(
		self->script,
		"console.log('started')\n"
		"setInterval(() => { const end = Date.now() + 20; while (Date.now() < end); }, 1)\n");
	/* Whoever is off the CPU for a tenth of a second at the wrong moment has a long turn. */
	for (int attempt = 0; attempt < 20; attempt++) {
		program_free(&self->program);
		unlink(self->image);
		self->program = program_start(THAW("run", self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "started", 60));
		support_sleep(0.2);
		kill(self->program.pid, SIGTERM);
		ASSERT_EQ(143, program_finish(&self->program, 60));
		if (newest(self->image).kind == THAW_KIND_PORTABLE)
			return;
	}
	EXPECT_EQ(THAW_KIND_PORTABLE, newest(self->image).kind);
}

/* ---- What a program sees ---- */

/* What a program can see gets into its heap, and so into its image: not the key. */
TEST_F(stopping, the_key_is_no_part_of_the_environment)
{
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("-e",
				      "const { env } = await import('thaw')\n"
				      "console.log(env.THAW_KEY, 'THAW_KEY' in env,\n"
				      "	Object.keys(env).includes('THAW_KEY'), 'PATH' in env)")));
	EXPECT_STREQ("undefined false false true\n", self->program.output);
}

/* What the rest of the turn begins in the new process is neither begun again nor answered early. */
TEST_F(stopping, a_continued_turn_owns_what_it_begins)
{
	char *file = support_format("%s/appended", self->directory), *text;
	FILE *appended;

	support_write(
		self->script,
		"import { appendFile, checkpoint, env, args, on } from 'thaw'\n"
		"on('restore', e => console.log('restored', e.restores))\n"
		"const before = await checkpoint()\n"
		"console.log('before', before.restored === true)\n"
		"setTimeout(() => {\n"
		"	const early = checkpoint()\n"
		"	early.then(r => console.log('early', r.restored === true))\n"
		"	console.log('loop')\n"
		"	while (!env.STOP) for (let i = 0; i < 100000; i++);\n"
		"	console.log('stopped')\n"
		"	checkpoint().then(r => console.log('late', r.restored === true, r.generation > 0))\n"
		"	appendFile(args[0], 'once\\n').then(() => console.log('appended'), e => console.log(e.code))\n"
		"	for (let i = 0; i < 3000000; i++);\n"
		"	console.log('end of turn')\n"
		"}, 1)\n");
	self->program = program_start(THAW("run", "--every", "20ms", self->script, file));
	ASSERT_TRUE(program_wait_for(&self->program, "loop", 60));
	ASSERT_TRUE(wait_until_stopped(&self->program, self->image));
	program_kill(&self->program);
	EXPECT_NE(NULL, strstr(self->program.output, "before false"));
	program_free(&self->program);

	setenv("STOP", "1", 1);
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("run", "--every", "20ms", self->script, file)));
	text = self->program.output;
	EXPECT_EQ(0, strncmp(text, "stopped\nend of turn\n", 20)) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "restored 1\n")) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "early true\n")) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "late false true\n")) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "appended\n")) TH_LOG("%s", text);
	appended = fopen(file, "re");
	ASSERT_NE(NULL, appended);
	text = calloc(1, 64);
	EXPECT_EQ(5, fread(text, 1, 63, appended)) TH_LOG("%s", text);
	fclose(appended);
	free(text);
	free(file);
}

/* What became durable inside a turn is told at its end: once, the newest. */
TEST_F(stopping, a_long_turn_is_told_at_its_end)
{
	/* 600 ms are enough, unless the disk is slow. */
	for (int length = 600; length <= 600 * 4 * 4 * 4 && newest_number(self->image) <= 5;
	     length *= 4) {
		char *text = support_format(
			"import { checkpoint, on, exit } from 'thaw'\n"
			"let told = 0\n"
			"on('checkpoint', e => { told++; console.log('told', e.generation) })\n"
			"setTimeout(() => {\n"
			"	checkpoint().then(r => { console.log('resolved', r.generation > 0, told); setTimeout(exit, 1) })\n"
			"	const end = Date.now() + %d\n"
			"	while (Date.now() < end);\n"
			"	console.log('end', told)\n"
			"}, 1)\n",
			length);

		support_write(self->script, text);
		free(text);
		unlink(self->image);
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL,
					 THAW("run", "--every", "20ms", self->script)));
		EXPECT_NE(NULL, strstr(self->program.output, "end 0\n"))
		TH_LOG("%s", self->program.output);
		EXPECT_NE(NULL, strstr(self->program.output, "resolved true"))
		TH_LOG("%s", self->program.output);
	}
	EXPECT_GT(newest_number(self->image), 5);
}

static const char rejecting[] =
	"import { env } from 'thaw'\n"
	"setTimeout(() => {\n"
	"	const handled = Promise.reject(new Error('handled later'))\n"
	"	Promise.reject(new Error('from the life before'))\n"
	"	console.log('loop')\n"
	"	while (!env.STOP) for (let i = 0; i < 100000; i++);\n"
	"	handled.catch(() => {})\n"
	"	console.log('end')\n"
	"}, 1)\n"
	"setTimeout(() => console.log('never'), 1000)\n";

/* A rejection of the first half that gets no handler in the second ends the program as ever. */
TEST_F(stopping, rejections_before_the_kill_count)
{
	support_write(self->script, rejecting);
	self->program = program_start(THAW("run", "--every", "20ms", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "loop", 60));
	ASSERT_TRUE(wait_until_stopped(&self->program, self->image));
	program_kill(&self->program);
	program_free(&self->program);
	setenv("STOP", "1", 1);
	EXPECT_EQ(1, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, "from the life before"))
	TH_LOG("%s", self->program.errors);
	EXPECT_EQ(NULL, strstr(self->program.errors, "handled later"));
	EXPECT_STREQ("end\n", self->program.output);
}

TEST_F(stopping, exit_and_exceptions_after_the_kill)
{
	static const struct {
		const char *last, *output, *errors;
		int code;
	} ends[] = {
		{"exit(7)", "", "", 7},
		{"throw new TypeError('thrown after the kill')", "", "TypeError: thrown after", 1},
		{"(function f() { f() })()", "", "RangeError", 1},
		/* Uncaught, so that four GiB are not written into an image at the end. */
		{"const a = []; for (;;) a.push(new Float64Array(1 << 24).fill(1))", "",
		 "InternalError: out of memory", 1},
	};

	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (strstr(ends[i].last, "fill") && support_free_memory() < 5ull << 30) {
			TH_LOG("not '%s': this machine has too little memory free", ends[i].last);
			continue;
		}
		char *text = support_format("import { env, exit } from 'thaw'\n"
					    "console.log('loop')\n"
					    "while (!env.STOP) for (let i = 0; i < 100000; i++);\n"
					    "%s\n",
					    ends[i].last);

		support_write(self->script, text);
		free(text);
		unsetenv("STOP");
		self->program = program_start(THAW("run", "--every", "20ms", self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "loop", 60));
		ASSERT_TRUE(wait_until_stopped(&self->program, self->image));
		program_kill(&self->program);
		program_free(&self->program);
		setenv("STOP", "1", 1);
		EXPECT_EQ(ends[i].code,
			  program_run(&self->program, NULL,
				      THAW("run", "-q", "--every", "0", self->script)));
		EXPECT_NE(NULL, strstr(self->program.output, ends[i].output))
		TH_LOG("%s: %s%s", ends[i].last, self->program.output, self->program.errors);
		EXPECT_NE(NULL, strstr(self->program.errors, ends[i].errors))
		TH_LOG("%s: %s", ends[i].last, self->program.errors);
		program_free(&self->program);
		unlink(self->image);
	}
}

TEST_HARNESS_MAIN
