// SPDX-License-Identifier: GPL-2.0-only
/*
 * repeated_failures.c - what fails again and again does not keep quiet: checkpoints that fail are
 * warned about until they work again, an end that loses something says so and exits with 74, and a
 * program that fails in the same way whenever it is continued is told from one that had bad luck.
 *
 * Checkpoints are made to fail by the limit of file sizes, which can be set from outside.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/resource.h>

#include "by_path.h"
#include "support.h"
#include "thaw.h"

FIXTURE(repeated)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(repeated)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	support_own_key(self->directory);
}
FIXTURE_TEARDOWN(repeated)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

static bool wait_for_generation(struct program *program, const char *image, uint64_t number)
{
	double end = support_deadline(60);

	while (path_newest(image).number < number) {
		if (support_seconds() > end)
			return false;
		program_wait_for(program, NULL, 0.01);
	}
	return true;
}

/* Nothing more can be written; or everything again. */
static void forbid_writing(struct program *program, bool forbid)
{
	struct rlimit limit;

	if (prlimit(program->pid, RLIMIT_FSIZE, NULL, &limit))
		support_die("prlimit");
	limit.rlim_cur = forbid ? 1 : limit.rlim_max;
	if (prlimit(program->pid, RLIMIT_FSIZE, &limit, NULL))
		support_die("prlimit");
}

static const char counting[] =
	"let n = 0\n"
	"setInterval(() => { n++; if (n % 10 === 0) console.log('n', n) }, 2)\n";

/* ---- Checkpoints ---- */

TEST_F(repeated, failing_checkpoints_are_warned_about_until_they_work)
{
	support_write(self->script, counting);
	self->program = program_start(THAW("run", "--every", "10ms", "--stats", self->script));
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 2));
	forbid_writing(&self->program, true);
	/* At once, with what is at stake, and then again. */
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "thaw: checkpoint failed: ", 60));
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "newest durable generation ", 60));
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "checkpoint failed again (", 60));
	EXPECT_NE(NULL, strstr(self->program.errors, self->image));
	forbid_writing(&self->program, false);
	ASSERT_TRUE(program_wait_for_complaint(&self->program,
					       "thaw: checkpoints work again: generation ", 60));
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	EXPECT_EQ(NULL, strstr(self->program.errors, "lost"));
	EXPECT_EQ(NULL, strstr(self->program.errors, "in a row since"));
}

TEST_F(repeated, an_end_that_loses_something_says_so)
{
	static const char *const programs[] = {
		counting, /* between turns, and in one */
		"let n = 0\nconsole.log('n')\nfor (;;) n++\n",
	};
	struct thaw_generation before;

	for (unsigned i = 0; i < 2; i++) {
		support_write(self->script, programs[i]);
		self->program = program_start(
			THAW("run", "--every", "10ms", "--fresh", "--stats", self->script));
		ASSERT_TRUE(wait_for_generation(&self->program, self->image,
						path_newest(self->image).number + 3));
		forbid_writing(&self->program, true);
		ASSERT_TRUE(program_wait_for_complaint(&self->program, "checkpoint failed", 60));
		before = path_newest(self->image);
		kill(self->program.pid, SIGTERM);
		EXPECT_EQ(74, program_finish(&self->program, 60));
		EXPECT_NE(NULL, strstr(self->program.errors, "thaw: the last checkpoint failed"))
		TH_LOG("%s", self->program.errors);
		EXPECT_NE(NULL, strstr(self->program.errors, "what came after is lost"));
		/* --stats */
		EXPECT_NE(NULL, strstr(self->program.errors, "in a row since"))
		TH_LOG("%s", self->program.errors);
		EXPECT_EQ(before.number, path_newest(self->image).number);
		program_free(&self->program);
	}
	/* Whatever the program says of itself. */
	support_write(
		self->script,
		"import { exit } from 'thaw'\n"
		"console.log('n')\n"
		"setInterval(() => { if (stop()) exit(3) }, 1)\n"
		"import { readFile, env } from 'thaw'\n"
		"let stopped = false\n"
		"function stop() { readFile(env.STOP).then(() => { stopped = true }, () => {}); return stopped }\n");
	{
		char *stop = support_format("%s/stop", self->directory);

		setenv("STOP", stop, 1);
		self->program = program_start(THAW("run", "--fresh", self->script));
		ASSERT_TRUE(wait_for_generation(&self->program, self->image,
						path_newest(self->image).number + 1));
		forbid_writing(&self->program, true);
		support_write(stop, "now");
		EXPECT_EQ(74, program_finish(&self->program, 60))
		TH_LOG("%s", self->program.errors);
		EXPECT_NE(NULL, strstr(self->program.errors, "the last checkpoint failed"));
		free(stop);
	}
}

/* Where there are no intervals, what was asked for is tried again; who waited for it is told. */
TEST_F(repeated, what_was_asked_for_is_tried_again)
{
	uint64_t before;

	support_write(
		self->script,
		"import { checkpoint, stats } from 'thaw'\n"
		"let n = 0, calls = 0\n"
		"console.log((await checkpoint()).generation > 0)\n"
		"setInterval(() => { n++ }, 1)\n"
		"async function next() {\n"
		"	try { await checkpoint({ name: 'c' + calls++ }) } catch (e) {\n"
		"		const { checkpointsFailing, checkpointError } = stats()\n"
		"		console.log('rejected', e.code, checkpointsFailing, checkpointError.length > 10)\n"
		"		return\n"
		"	}\n"
		"	setTimeout(next, 1)\n"
		"}\n"
		"next()\n");
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "true", 60));
	forbid_writing(&self->program, true);
	ASSERT_TRUE(program_wait_for(&self->program, "rejected EFBIG 1 true", 60))
	TH_LOG("%s", self->program.output);
	before = path_newest(self->image).number;
	forbid_writing(&self->program, false);
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "checkpoints work again", 60));
	/* A header that could not be written costs two numbers. */
	EXPECT_LT(before, path_newest(self->image).number);
	EXPECT_EQ(THAW_REASON_REQUEST, path_newest(self->image).reason);
	/* The same for whoever asks by signal. */
	forbid_writing(&self->program, true);
	free(self->program.errors);
	self->program.errors = calloc(1, 1);
	self->program.errors_bytes = 0;
	kill(self->program.pid, SIGUSR2);
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "checkpoint failed", 60));
	forbid_writing(&self->program, false);
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "checkpoints work again", 60));
	program_kill(&self->program);
}

TEST_F(repeated, a_shell_says_which_answers_are_not_durable)
{
	const char *first;

	self->program = program_start(THAW("repl", self->image));
	ASSERT_EQ(8, write(self->program.in, "a = 'a1'\n", 9) - 1);
	ASSERT_TRUE(program_wait_for(&self->program, "a1", 60));
	forbid_writing(&self->program, true);
	ASSERT_EQ(9, write(self->program.in, "a = 'b2'\n", 9));
	ASSERT_TRUE(program_wait_for(&self->program, "b2", 60));
	ASSERT_EQ(9, write(self->program.in, "a = 'c3'\n", 9));
	ASSERT_TRUE(program_wait_for(&self->program, "c3", 60));
	EXPECT_EQ(74, program_finish(&self->program, 60));
	first = strstr(self->program.errors, "not durable: ");
	ASSERT_NE(NULL, first) TH_LOG("%s", self->program.errors);
	EXPECT_NE(NULL, strstr(first + 1, "not durable: "));
	EXPECT_NE(NULL, strstr(self->program.errors, "the last checkpoint failed"));
}

/* Turns that last need the key: as long as there is none that is said, and then it is well. */
TEST_F(repeated, a_key_that_cannot_be_made_is_tried_again)
{
	char *place = support_format("%s/place", self->directory),
	     *key = support_format("%s/key", place);

	setenv("THAW_KEY", key, 1);
	support_write(self->script, "let n = 0\nfor (;;) n++\n");
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "until then a turn", 60));
	while (!strstr(strstr(self->program.errors, "until then a turn") + 1, "until then a turn"))
		ASSERT_TRUE(program_listen(&self->program, true, NULL, support_seconds() + 0.05) ||
			    !kill(self->program.pid, 0));
	EXPECT_EQ(0, path_newest(self->image).number);
	ASSERT_EQ(0, mkdir(place, 0700));
	EXPECT_TRUE(wait_for_generation(&self->program, self->image, 1));
	EXPECT_EQ(THAW_KIND_BOUND, path_newest(self->image).kind);
	program_kill(&self->program);
	free(place);
	free(key);
}

/* ---- Programs ---- */

static void run_and_expect(struct __test_metadata *_metadata, FIXTURE_DATA(repeated) * self,
			   int code, const char *said, bool offered, const char *offer)
{
	EXPECT_EQ(code,
		  program_run(&self->program, NULL, THAW("run", "--every", "0", self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, said)) TH_LOG("%s", self->program.errors);
	EXPECT_EQ(offered, strstr(self->program.errors, offer) != NULL)
	TH_LOG("%s: %s", offer, self->program.errors);
	program_free(&self->program);
}

TEST_F(repeated, crashes_from_one_generation_are_noticed)
{
	static const char *const ways[] = {"throw new Error(env.CRASH)",
					   "Promise.reject(new Error(env.CRASH))"};

	for (unsigned way = 0; way < 2; way++) {
		char *text = support_format(
			     "import { env, checkpoint } from 'thaw'\n"
			     "let n = 0\n"
			     "for (let i = 0; i < 3; i++) { n++; await checkpoint() }\n"
			     "console.log('ready')\n"
			     "setInterval(() => { n++; if (env.CRASH) %s; else console.log('runs') }, 1)\n",
			     ways[way]),
		     *offer, *number;
		uint64_t last;

		support_write(self->script, text);
		free(text);
		unsetenv("CRASH");
		unlink(self->image);
		self->program = program_start(THAW("run", "--every", "0", self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "ready", 60));
		kill(self->program.pid, SIGTERM);
		ASSERT_EQ(143, program_finish(&self->program, 60));
		program_free(&self->program);
		last = path_newest(self->image).number;
		number = support_format("%llu", (unsigned long long)last - 1);
		offer = support_format(
			"generation %llu was continued 3 times and ended like this each time; go back to the one before with --at %s,",
			(unsigned long long)last, number);

		setenv("CRASH", "one", 1);
		for (int i = 1; i <= 2; i++)
			run_and_expect(_metadata, self, 1, "Error: one", false, offer);
		/* Another failure may be bad luck. */
		setenv("CRASH", "another", 1);
		for (int i = 1; i <= 3; i++)
			run_and_expect(_metadata, self, 1, "Error: another", i == 3, offer);
		/* It is said, and not refused: what was missing may be there again. */
		unsetenv("CRASH");
		self->program = program_start(THAW("run", "--every", "0", self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "runs", 60));
		kill(self->program.pid, SIGTERM);
		ASSERT_EQ(143, program_finish(&self->program, 60))
		TH_LOG("%s", self->program.errors);
		program_free(&self->program);
		setenv("CRASH", "another", 1);
		run_and_expect(_metadata, self, 1, "Error: another", false, "--at");
		/* The offer can be taken. */
		EXPECT_EQ(1, program_run(&self->program, NULL,
					 THAW("run", "--at", number, self->script)));
		EXPECT_NE(NULL, strstr(self->program.errors, "Error: another"));
		program_free(&self->program);
		free(number);
		free(offer);
	}
}

/* A supervisor that starts it again and again gets nowhere: exit() is final. */
TEST_F(repeated, final_failures_are_noticed)
{
	support_write(self->script, "import { checkpoint, exit } from 'thaw'\n"
				    "await checkpoint()\n"
				    "setTimeout(() => exit(3), 1)\n");
	run_and_expect(_metadata, self, 3, "", false, "times");
	for (int i = 1; i <= 3; i++)
		run_and_expect(
			_metadata, self, 3, "nothing is left to do", i == 3,
			"was continued 3 times and ended like this each time; go back to the one before with --at 1,");
	support_write(self->script, "import { exit } from 'thaw'\nexit(0)\n");
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", "--fresh", self->script)));
	program_free(&self->program);
	for (int i = 1; i <= 4; i++)
		run_and_expect(_metadata, self, 0, "nothing is left to do", false, "times");
}

TEST_HARNESS_MAIN
