// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shell at a terminal: what is pasted is what is evaluated, Ctrl-C stops what runs, and the end of
 * the terminal is the end of the shell.
 */
#define _GNU_SOURCE
#include <pty.h>
#include <termios.h>

#include "kselftest_harness.h"
#include "support.h"

FIXTURE(terminal)
{
	char *directory, *image;
	pid_t pid;
	int fd;
	char *shown; /* what the terminal was sent, from the last type_line() on */
	size_t bytes;
};
FIXTURE_SETUP(terminal)
{
	self->directory = support_directory();
	self->image = support_format("%s/shell.thaw", self->directory);
	self->shown = calloc(1, 1);
	setenv("HOME", self->directory, 1);
	unsetenv("XDG_STATE_HOME");
	unsetenv("EDITRC");
	setenv("TERM", "xterm", 1);
	setenv("NO_COLOR", "1", 1);
	setenv("LC_ALL", "C.UTF-8", 1);
}
FIXTURE_TEARDOWN(terminal)
{
	if (self->pid > 0) {
		kill(self->pid, SIGKILL);
		waitpid(self->pid, NULL, 0);
		close(self->fd);
	}
	free(self->shown);
	free(self->image);
	support_remove(self->directory);
}

static bool shows(FIXTURE_DATA(terminal) * self, const char *text)
{
	double end = support_deadline(60);

	while (program_drain(self->fd, &self->shown, &self->bytes) &&
	       !memmem(self->shown, self->bytes, text, strlen(text)) && support_seconds() < end)
		poll(&(struct pollfd){self->fd, POLLIN, 0}, 1, 20);
	return memmem(self->shown, self->bytes, text, strlen(text));
}

static void type_bytes(FIXTURE_DATA(terminal) * self, const char *keys, size_t bytes)
{
	self->bytes = 0;
	self->shown[0] = '\0';
	while (bytes) {
		ssize_t put = write(self->fd, keys, bytes);

		if (put < 0 && errno != EAGAIN)
			support_die("write to the terminal");
		if (put <= 0) {
			program_drain(self->fd, &self->shown, &self->bytes);
			poll(&(struct pollfd){self->fd, POLLIN | POLLOUT, 0}, 1, 20);
			continue;
		}
		keys += put;
		bytes -= (size_t)put;
	}
}

/* Now, whatever the shell is doing. */
static void press(FIXTURE_DATA(terminal) * self, const char *keys)
{
	type_bytes(self, keys, strlen(keys));
}

/* Between two lines the terminal is the kernel's, which takes some keys for its own. */
static void type_line(FIXTURE_DATA(terminal) * self, const char *keys)
{
	double end = support_deadline(60);
	struct termios terminal;

	while ((self->bytes < 2 || memcmp(self->shown + self->bytes - 2, "> ", 2)) &&
	       program_drain(self->fd, &self->shown, &self->bytes) && support_seconds() < end)
		poll(&(struct pollfd){self->fd, POLLIN, 0}, 1, 20);
	/* libedit makes the terminal raw when it reads the first key, after the prompt. */
	while (!tcgetattr(self->fd, &terminal) && terminal.c_lflag & ICANON &&
	       support_seconds() < end)
		support_sleep(0.002);
	press(self, keys);
}

static bool start(FIXTURE_DATA(terminal) * self)
{
	struct winsize size = {.ws_row = 24, .ws_col = 80};

	self->pid = forkpty(&self->fd, NULL, NULL, &size);
	if (self->pid < 0)
		support_die("forkpty");
	if (!self->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(THAW_BINARY, (char *const *)THAW("repl", "-q", self->image));
		_exit(127);
	}
	fcntl(self->fd, F_SETFL, O_NONBLOCK);
	return shows(self, "> ");
}

/* Its exit code, or 128 + the signal. */
static int finish(FIXTURE_DATA(terminal) * self)
{
	struct program program = {.pid = self->pid, .out = self->fd, .err = -1, .in = -1};
	int code;

	program.err = open("/dev/null", O_RDONLY | O_CLOEXEC);
	code = program_finish(&program, 60);
	self->pid = 0;
	free(program.output);
	free(program.errors);
	return code;
}

#define PASTE(text) "\033[200~" text "\033[201~"
#define EXPECT_SHOWS(text) \
	EXPECT_TRUE(shows(self, text)) TH_LOG("%.*s", (int)self->bytes, self->shown)

TEST_F(terminal, tabs_are_kept)
{
	ASSERT_TRUE(start(self));
	EXPECT_SHOWS("\033[?2004h");
	type_line(self, PASTE("'a\tb\t\t'.length + 100\t\t") "\r");
	EXPECT_SHOWS("105\r\n");
	/* A terminal that marks nothing. */
	type_line(self, "'a\tb\t\t'.length + 200\t\t\r");
	EXPECT_SHOWS("205\r\n");
	type_line(self, "\x04");
	EXPECT_EQ(0, finish(self));
}

TEST_F(terminal, without_marks_tabs_are_kept)
{
	setenv("TERM", "dumb", 1);
	ASSERT_TRUE(start(self));
	type_line(self, "'a\tb'.length + 300\r");
	EXPECT_SHOWS("303\r\n");
	EXPECT_EQ(NULL, memmem(self->shown, self->bytes, "\033[?2004", 7));
}

TEST_F(terminal, a_person_may_bind_tab)
{
	char *editrc = support_format("%s/.editrc", self->directory);

	support_write(editrc, "bind -s ^I 10+\n");
	ASSERT_TRUE(start(self));
	type_line(self, "\t7\r");
	EXPECT_SHOWS("17\r\n");
	type_line(self, PASTE("'\t'.length + 400") "\r");
	EXPECT_SHOWS("401\r\n");
	free(editrc);
}

TEST_F(terminal, a_paste_is_text)
{
	ASSERT_TRUE(start(self));
	/* Keys that would end the shell, erase the line, or move in it; and what is of two widths. */
	type_line(self, PASTE("'\x01\x04\x05\x0b\x15\x17\x1b\x7f'.length + 500") "\r");
	EXPECT_SHOWS("508\r\n");
	type_line(self, PASTE("'\t日本\xf0\x9f\x98\x80'.length + 600") "\r");
	EXPECT_SHOWS("605\r\n");
	/* It goes where the cursor is. */
	type_line(self, "[7,9]\x1b[D\x1b[D" PASTE("8,") "\r");
	EXPECT_SHOWS("[ 7, 8, 9 ]\r\n");
	/* Lines are evaluated one by one, with any newline; the last one is left to be edited. */
	type_line(self, PASTE("function f() {\r\treturn 'x\ty'\r\n}\nf()\r3 + ") "700\r");
	EXPECT_SHOWS("'x\\ty'\r\n");
	EXPECT_SHOWS("703\r\n");
	/* Two of them at once, and what is typed behind them. */
	type_line(self, PASTE("let a = 1\r") PASTE("let b = 2\r") "a + b + 800\r");
	EXPECT_SHOWS("803\r\n");
	type_line(self, PASTE("") PASTE("\r") "450 * 2\r");
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
	ASSERT_TRUE(start(self));
	type_bytes(self, text, bytes);
	EXPECT_SHOWS("60036060\r\n");
	free(text);
}

TEST_F(terminal, characters_need_no_locale)
{
	setenv("LC_ALL", "C", 1);
	ASSERT_TRUE(start(self));
	type_line(self, "['日本\xf0\x9f\x98\x80', '\xc3\xa9'.length]\r");
	EXPECT_SHOWS("[ '日本\xf0\x9f\x98\x80', 1 ]\r\n");
}

/* Ctrl-C as people press it: again, where the first came while the shell was between two things. */
static bool interrupts(FIXTURE_DATA(terminal) * self)
{
	double end = support_deadline(60);

	do {
		double next = support_seconds() + 1;

		press(self, "\x03");
		while (!memmem(self->shown, self->bytes, "^C\r\n", 4) && support_seconds() < next &&
		       program_drain(self->fd, &self->shown, &self->bytes))
			poll(&(struct pollfd){self->fd, POLLIN, 0}, 1, 20);
		if (memmem(self->shown, self->bytes, "^C\r\n", 4))
			return true;
	} while (support_seconds() < end);
	return false;
}

TEST_F(terminal, ctrl_c_stops_what_runs)
{
	ASSERT_TRUE(start(self));
	type_line(self, "'forgotten");
	EXPECT_TRUE(interrupts(self));
	type_line(self, "console.log('begun'); for (;;);\r");
	EXPECT_SHOWS("begun\r\n");
	press(self, "\x03");
	EXPECT_SHOWS("interrupted");
	type_line(self,
		  "console.log('waits'); await new Promise(() => setTimeout(() => {}, 1e7))\r");
	EXPECT_SHOWS("waits\r\n");
	press(self, "\x03");
	EXPECT_SHOWS("Promise { <pending> }");
	/* A paste whose end never comes. */
	type_line(self, "\033[200~1 + 1");
	EXPECT_TRUE(interrupts(self));
	type_line(self, "1 + 41\r");
	EXPECT_SHOWS("42\r\n");
	/* An error is no reason to fail where somebody sees it. */
	type_line(self, ".exit\r");
	EXPECT_EQ(0, finish(self));
}

TEST_F(terminal, one_signal_ends_what_runs)
{
	struct program program = {0};

	ASSERT_TRUE(start(self));
	type_line(self, "let kept = 1; console.log('begun'); for (;;);\r");
	EXPECT_SHOWS("begun\r\n");
	kill(self->pid, SIGTERM);
	EXPECT_EQ(128 + SIGTERM, finish(self));

	ASSERT_TRUE(start(self));
	type_line(self, "kept++; console.log('begun'); for (;;);\r");
	EXPECT_SHOWS("begun\r\n");
	close(self->fd); /* SIGHUP */
	self->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(128 + SIGHUP, finish(self));
	EXPECT_EQ(0, program_run(&program, NULL, THAW("-i", self->image, "-p", "kept")));
	EXPECT_STREQ("2\n", program.output);
	program_free(&program);
}

TEST_HARNESS_MAIN
