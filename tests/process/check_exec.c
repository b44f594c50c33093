// SPDX-License-Identifier: GPL-2.0-only
/*
 * check_exec - thaw check exec: what of thaw exec works here, one line for each thing, with and without privileges.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include "support.h"

static const char *const things[] = {"delivery", "tracking",   "stop",	 "memory",
				     "clocks",	 "process id", "seccomp"};

TEST(each_thing_has_its_line)
{
	struct program program;

	SKIP_SANITIZED();
	ASSERT_EQ(program_run(&program, NULL, (const char *[]){THAW_BINARY, "check", "exec", NULL}),
		  0)
	{
		TH_LOG("%s", program.errors);
	}
	for (size_t i = 0; i < sizeof(things) / sizeof(*things); i++) {
		char *line = support_format("\n%s ", things[i]);

		EXPECT_NE(strstr(program.output, line), NULL)
		{
			TH_LOG("no line for %s in %s", things[i], program.output);
		}
		free(line);
	}
	EXPECT_NE(strstr(program.output, "ok: thaw exec runs programs here"), NULL);
	program_free(&program);
}

TEST(as_json)
{
	struct program program;

	SKIP_SANITIZED();
	ASSERT_EQ(program_run(&program, NULL,
			      (const char *[]){THAW_BINARY, "check", "--json", "exec", NULL}),
		  0);
	EXPECT_EQ(strncmp(program.output, "{\"ok\":true,", 11), 0);
	for (size_t i = 0; i < sizeof(things) / sizeof(*things); i++) {
		char *name = support_format("{\"name\":\"%s\",\"best\":", things[i]);

		EXPECT_NE(strstr(program.output, name), NULL);
		free(name);
	}
	program_free(&program);
}

TEST(what_is_missing_is_told_with_what_is_done_instead)
{
	struct program program;

	SKIP_SANITIZED();
	setenv("THAW_DELIVERY", "eager", 1);
	ASSERT_EQ(program_run(&program, NULL, (const char *[]){THAW_BINARY, "check", "exec", NULL}),
		  0);
	unsetenv("THAW_DELIVERY");
	EXPECT_NE(strstr(program.output, "runs after all of its pages were read"), NULL);
	EXPECT_NE(strstr(program.output, "THAW_DELIVERY=eager"), NULL);
	program_free(&program);
}

TEST(forks_that_wait_are_told)
{
	struct program program;

	SKIP_SANITIZED();
	ASSERT_EQ(program_run(&program, NULL, (const char *[]){THAW_BINARY, "check", "exec", NULL}),
		  0);
	if (!strstr(program.output, "its pages arrive when they are touched"))
		SKIP(return, "there is no userfaultfd here that serves system calls");
	program_free(&program);
	setenv("THAW_WITHOUT", "fork-events", 1);
	ASSERT_EQ(program_run(&program, NULL, (const char *[]){THAW_BINARY, "check", "exec", NULL}),
		  0);
	unsetenv("THAW_WITHOUT");
	EXPECT_NE(strstr(program.output, "who forks waits until all pages are there"), NULL);
	EXPECT_NE(strstr(program.output, "CAP_SYS_PTRACE"), NULL);
	program_free(&program);
}

TEST(nothing_else_is_checked)
{
	struct program program;

	EXPECT_EQ(
		program_run(&program, NULL, (const char *[]){THAW_BINARY, "check", "other", NULL}),
		9);
	EXPECT_NE(strstr(program.errors, "thaw check exec"), NULL);
	program_free(&program);
}

TEST_HARNESS_MAIN
