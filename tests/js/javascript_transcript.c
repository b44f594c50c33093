// SPDX-License-Identifier: GPL-2.0-only
/*
 * The transcript this project began with: a=1, the process is killed, and in the next one a is 1,
 * while a variable that was never defined is a ReferenceError and crashes nothing. Any number of
 * times.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(transcript)
{
	char *directory, *image;
};
FIXTURE_SETUP(transcript)
{
	self->directory = support_directory();
	self->image = support_format("%s/shell.thaw", self->directory);
}
FIXTURE_TEARDOWN(transcript)
{
	free(self->image);
	support_remove(self->directory);
}

/* One process: say something, hear the answer, be killed. */
static bool say_and_die(const char *image, const char *say, const char *hear, char **heard)
{
	struct program shell = program_start(THAW("repl", image));
	bool right;

	if (write(shell.in, say, strlen(say)) < 0)
		support_die("write to the shell");
	right = program_wait_for(&shell, hear, 60);
	program_kill(&shell);
	*heard = support_format("%s%s", shell.output, shell.errors);
	program_free(&shell);
	return right;
}

TEST_F_TIMEOUT(transcript, variables_survive_being_killed, 120)
{
	char *heard;

	ASSERT_TRUE(say_and_die(self->image, "a = 1\n", "1\n", &heard))
	{
		TH_LOG("%s", heard);
	}
	free(heard);
	for (int round = 0; round < 20; round++) {
		char *say = support_format("a\nb\n'sum ' + (a + %d)\n", round);
		char *hear = support_format("'sum %d'\n", round + 1);
		struct program shell = program_start(THAW("repl", self->image));

		ASSERT_LT(0, write(shell.in, say, strlen(say)));
		ASSERT_TRUE(program_wait_for(&shell, hear, 60))
		{
			TH_LOG("round %d: %s%s", round, shell.output, shell.errors);
		}
		program_kill(&shell);
		EXPECT_EQ(0, strncmp(shell.output, "1\n", 2));
		heard = support_format("%s%s", shell.output, shell.errors);
		EXPECT_NE(NULL, strstr(heard, "ReferenceError: b is not defined"))
		{
			TH_LOG("%s", heard);
		}
		free(heard);
		program_free(&shell);
		free(say);
		free(hear);
	}
}

TEST_F_TIMEOUT(transcript, changes_add_up, 120)
{
	char *heard;

	ASSERT_TRUE(say_and_die(
		self->image,
		"let n = 0; const seen = []; function next() { seen.push(++n); return seen.join() }\n'ok'\n",
		"ok", &heard))
	{
		TH_LOG("%s", heard);
	}
	free(heard);
	for (int round = 1; round <= 10; round++) {
		char *hear = support_format("%d'\n", round);

		ASSERT_TRUE(say_and_die(self->image, "next()\n", hear, &heard))
		{
			TH_LOG("round %d: %s", round, heard);
		}
		free(heard);
		free(hear);
	}
}

TEST_HARNESS_MAIN
