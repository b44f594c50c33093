// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shell at a terminal: what is pasted is what is evaluated, Ctrl-C stops what runs, and the end of
 * the terminal is the end of the shell.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include "shell_driver.h"

FIXTURE(terminal)
{
	struct shell shell;
};
FIXTURE_SETUP(terminal)
{
	shell_open(&self->shell);
	setenv("NO_COLOR", "1", 1);
}
FIXTURE_TEARDOWN(terminal)
{
	shell_close(&self->shell);
}

/* Its exit code, or 128 + the signal. */
static int finish(FIXTURE_DATA(terminal) * self)
{
	struct program program = {
		.pid = self->shell.pid, .out = self->shell.fd, .err = -1, .in = -1};
	int code;

	program.err = open("/dev/null", O_RDONLY | O_CLOEXEC);
	code = program_finish(&program, 60);
	self->shell.pid = 0;
	free(program.output);
	free(program.errors);
	return code;
}

#define PASTE(text) "\033[200~" text "\033[201~"

TEST_F(terminal, tabs_are_kept)
{
	ASSERT_TRUE(shell_start(&self->shell, 80));
	EXPECT_SHOWS("\033[?2004h");
	shell_type(&self->shell, PASTE("'a\tb\t\t'.length + 100\t\t") "\r");
	EXPECT_SHOWS("105\r\n");
	/* A terminal that marks nothing. */
	shell_type(&self->shell, "'a\tb\t\t'.length + 200\t\t\r");
	EXPECT_SHOWS("205\r\n");
	shell_type(&self->shell, "\x04");
	EXPECT_EQ(0, finish(self));
}

TEST_F(terminal, without_marks_tabs_are_kept)
{
	setenv("TERM", "dumb", 1);
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, "'a\tb'.length + 300\r");
	EXPECT_SHOWS("303\r\n");
	EXPECT_EQ(NULL, memmem(self->shell.shown, self->shell.bytes, "\033[?2004", 7));
}

TEST_F(terminal, a_person_may_bind_tab)
{
	char *editrc = support_format("%s/.editrc", self->shell.directory);

	support_write(editrc, "bind -s ^I 10+\n");
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, "\t7\r");
	EXPECT_SHOWS("17\r\n");
	shell_type(&self->shell, PASTE("'\t'.length + 400") "\r");
	EXPECT_SHOWS("401\r\n");
	free(editrc);
}

TEST_F(terminal, a_paste_is_text)
{
	ASSERT_TRUE(shell_start(&self->shell, 80));
	/* Keys that would end the shell, erase the line, or move in it; and what is of two widths. */
	shell_type(&self->shell, PASTE("'\x01\x04\x05\x0b\x15\x17\x1b\x7f'.length + 500") "\r");
	EXPECT_SHOWS("508\r\n");
	shell_type(&self->shell, PASTE("'\t日本\xf0\x9f\x98\x80'.length + 600") "\r");
	EXPECT_SHOWS("605\r\n");
	/* It goes where the cursor is. */
	shell_type(&self->shell, "[7,9]\x1b[D\x1b[D" PASTE("8,") "\r");
	EXPECT_SHOWS("[ 7, 8, 9 ]\r\n");
	/* Lines are evaluated one by one, with any newline; the last one is left to be edited. */
	shell_type(&self->shell, PASTE("function f() {\r\treturn 'x\ty'\r\n}\nf()\r3 + ") "700\r");
	EXPECT_SHOWS("'x\\ty'\r\n");
	EXPECT_SHOWS("703\r\n");
	/* Two of them at once, and what is typed behind them. */
	shell_type(&self->shell, PASTE("let a = 1\r") PASTE("let b = 2\r") "a + b + 800\r");
	EXPECT_SHOWS("803\r\n");
	shell_type(&self->shell, PASTE("") PASTE("\r") "450 * 2\r");
	EXPECT_SHOWS("900\r\n");
}

/* What arrives while a line of it runs is not lost, whatever its size. */
TEST_F(terminal, a_long_paste_is_whole)
{
	char *text = NULL;
	size_t bytes;
	FILE *paste = open_memstream(&text, &bytes);

	fputs("\033[200~let n = 0, s = ''\r", paste);
	for (int i = 0; i < 60; i++)
		fprintf(paste, "n++; s += '%0600d\t'\r", i);
	fputs("n * 1000000 + s.length\033[201~\r", paste);
	fclose(paste);
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_press_bytes(&self->shell, text, bytes);
	EXPECT_SHOWS("60036060\r\n");
	free(text);
}

TEST_F(terminal, characters_need_no_locale)
{
	setenv("LC_ALL", "C", 1);
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, "['日本\xf0\x9f\x98\x80', '\xc3\xa9'.length]\r");
	EXPECT_SHOWS("[ '日本\xf0\x9f\x98\x80', 1 ]\r\n");
}

/* Ctrl-C as people press it: again, where the first came while the shell was between two things. */
static bool interrupts(FIXTURE_DATA(terminal) * self)
{
	double end = support_deadline(60);

	do {
		double next = support_seconds() + 1;

		shell_press(&self->shell, "\x03");
		while (!memmem(self->shell.shown, self->shell.bytes, "^C\r\n", 4) &&
		       support_seconds() < next &&
		       program_drain(self->shell.fd, &self->shell.shown, &self->shell.bytes))
			poll(&(struct pollfd){self->shell.fd, POLLIN, 0}, 1, 20);
		if (memmem(self->shell.shown, self->shell.bytes, "^C\r\n", 4))
			return true;
	} while (support_seconds() < end);
	return false;
}

/* Ctrl-C takes back a key that the shell was just about to read: it must not wait for that one. */
TEST_F(terminal, ctrl_c_right_behind_a_key_is_heard)
{
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_wait_raw(&self->shell);
	for (int i = 0; i < 200; i++) {
		self->shell.bytes = 0;
		shell_press(&self->shell, "a");
		support_sleep(i % 20 * 1e-5);
		ASSERT_TRUE(interrupts(self));
		shell_wait_raw(&self->shell);
	}
	shell_type(&self->shell, "1 + 41\r");
	EXPECT_SHOWS("42\r\n");
	shell_type(&self->shell, ".exit\r");
	EXPECT_EQ(0, finish(self));
}

TEST_F(terminal, ctrl_c_stops_what_runs)
{
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, "'forgotten");
	EXPECT_TRUE(interrupts(self));
	shell_type(&self->shell, "console.log('begun'); for (;;);\r");
	EXPECT_SHOWS("begun\r\n");
	shell_press(&self->shell, "\x03");
	EXPECT_SHOWS("interrupted");
	shell_type(&self->shell,
		   "console.log('waits'); await new Promise(() => setTimeout(() => {}, 1e7))\r");
	EXPECT_SHOWS("waits\r\n");
	shell_press(&self->shell, "\x03");
	EXPECT_SHOWS("Promise { <pending> }");
	/* A paste whose end never comes. */
	shell_type(&self->shell, "\033[200~1 + 1");
	EXPECT_TRUE(interrupts(self));
	shell_type(&self->shell, "1 + 41\r");
	EXPECT_SHOWS("42\r\n");
	/* An error is no reason to fail where somebody sees it. */
	shell_type(&self->shell, ".exit\r");
	EXPECT_EQ(0, finish(self));
}

TEST_F(terminal, one_signal_ends_what_runs)
{
	struct program program = {0};

	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, "let kept = 1; console.log('begun'); for (;;);\r");
	EXPECT_SHOWS("begun\r\n");
	kill(self->shell.pid, SIGTERM);
	EXPECT_EQ(128 + SIGTERM, finish(self));

	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, "kept++; console.log('begun'); for (;;);\r");
	EXPECT_SHOWS("begun\r\n");
	close(self->shell.fd); /* SIGHUP */
	self->shell.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(128 + SIGHUP, finish(self));
	EXPECT_EQ(0, program_run(&program, NULL, THAW("-i", self->shell.image, "-p", "kept")));
	EXPECT_STREQ("2\n", program.output);
	program_free(&program);
}

TEST_HARNESS_MAIN
