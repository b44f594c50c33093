// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shell in the hand of a person: Tab, colours, what comes while a line is typed, import lines, files, timers;
 * and thaw eval, which looks and leaves.
 */
#define _GNU_SOURCE
#include <pty.h>
#include <termios.h>

#include "kselftest_harness.h"
#include "support.h"

FIXTURE(hand)
{
	char *directory, *image;
	pid_t pid;
	int fd;
	char *shown; /* what the terminal was sent, from the last type_line() on */
	size_t bytes;
	struct program program;
};
FIXTURE_SETUP(hand)
{
	self->directory = support_directory();
	self->image = support_format("%s/shell.thaw", self->directory);
	self->shown = calloc(1, 1);
	setenv("HOME", self->directory, 1);
	unsetenv("XDG_STATE_HOME");
	unsetenv("EDITRC");
	unsetenv("NO_COLOR");
	unsetenv("FORCE_COLOR");
	setenv("TERM", "xterm", 1);
	setenv("LC_ALL", "C.UTF-8", 1);
}
FIXTURE_TEARDOWN(hand)
{
	if (self->pid > 0) {
		kill(self->pid, SIGKILL);
		waitpid(self->pid, NULL, 0);
		close(self->fd);
	}
	program_free(&self->program);
	free(self->shown);
	free(self->image);
	support_remove(self->directory);
}

static bool shows(FIXTURE_DATA(hand) * self, const char *text)
{
	double end = support_deadline(60);

	while (program_drain(self->fd, &self->shown, &self->bytes) &&
	       !memmem(self->shown, self->bytes, text, strlen(text)) && support_seconds() < end)
		poll(&(struct pollfd){self->fd, POLLIN, 0}, 1, 20);
	return memmem(self->shown, self->bytes, text, strlen(text));
}

static void press(FIXTURE_DATA(hand) * self, const char *keys)
{
	self->bytes = 0;
	self->shown[0] = '\0';
	if (write(self->fd, keys, strlen(keys)) != (ssize_t)strlen(keys))
		support_die("write to the terminal");
}

/* Between two lines the terminal is the kernel's, which takes some keys for its own: until libedit reads. */
static void wait_raw(FIXTURE_DATA(hand) * self)
{
	double end = support_deadline(60);
	struct termios terminal;

	while (!tcgetattr(self->fd, &terminal) && terminal.c_lflag & ICANON &&
	       support_seconds() < end)
		support_sleep(0.002);
}

static void type_line(FIXTURE_DATA(hand) * self, const char *keys)
{
	double end = support_deadline(60);

	while ((self->bytes < 2 || memcmp(self->shown + self->bytes - 2, "> ", 2)) &&
	       program_drain(self->fd, &self->shown, &self->bytes) && support_seconds() < end)
		poll(&(struct pollfd){self->fd, POLLIN, 0}, 1, 20);
	wait_raw(self);
	press(self, keys);
}

static bool start(FIXTURE_DATA(hand) * self, unsigned short columns)
{
	struct winsize size = {.ws_row = 24, .ws_col = columns};

	self->pid = forkpty(&self->fd, NULL, NULL, &size);
	if (self->pid < 0)
		support_die("forkpty");
	if (!self->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!chdir(self->directory))
			execv(THAW_BINARY, (char *const *)THAW("repl", "-q", self->image));
		_exit(127);
	}
	fcntl(self->fd, F_SETFL, O_NONBLOCK);
	return shows(self, "> ");
}

#define EXPECT_SHOWS(text) \
	EXPECT_TRUE(shows(self, text)) TH_LOG("%.*s", (int)self->bytes, self->shown)

TEST_F(hand, tab_completes)
{
	char *file = support_format("%s/lines.js", self->directory);

	support_write(file, "var loaded = 6\n");
	ASSERT_TRUE(start(self, 80));
	type_line(self,
		  "let alphabet = { deep: { number: 41 }, get bad() { console.log('ran') } }\r");
	EXPECT_SHOWS("undefined");
	type_line(self, "alph\t");
	EXPECT_SHOWS("abet");
	press(self, ".de\t");
	EXPECT_SHOWS("ep");
	press(self, ".num\t");
	EXPECT_SHOWS("ber");
	press(self, " + 1\r");
	EXPECT_SHOWS("42");
	/* Along the prototypes; no getter runs. */
	type_line(self, "alphabet.\t");
	EXPECT_SHOWS("toLocaleString");
	EXPECT_EQ(NULL, memmem(self->shown, self->bytes, "ran", 3));
	press(self, "bad.\t");
	EXPECT_SHOWS("\a");
	press(self, "\x15'x'.padS\t");
	EXPECT_SHOWS("tart");
	press(self, "(3) + glob\t");
	EXPECT_SHOWS("alThis");
	press(self, "\x15.lo\t");
	EXPECT_SHOWS("log");
	press(self, "ad lin\t");
	EXPECT_SHOWS("es.js");
	press(self, "\r");
	type_line(self, "loaded + 100\r");
	EXPECT_SHOWS("106");
	type_line(self, "import * as all from './lin\t");
	EXPECT_SHOWS("es.js");
	free(file);
}

TEST_F(hand, results_have_colours)
{
	ASSERT_TRUE(start(self, 80));
	type_line(self, "({ a: 1, b: 'x', c: null, d: undefined, e: () => 1, f: /r/ })\r");
	EXPECT_SHOWS(
		"{ a: \033[33m1\033[39m, b: \033[32m'x'\033[39m, c: \033[1mnull\033[22m, "
		"d: \033[90mundefined\033[39m, e: \033[36m[Function: e]\033[39m, f: \033[31m/r/\033[39m }");
	kill(self->pid, SIGKILL);
	waitpid(self->pid, NULL, 0);
	close(self->fd);
	self->bytes = 0;
	setenv("NO_COLOR", "1", 1);
	ASSERT_TRUE(start(self, 80));
	type_line(self, "[1]\r");
	EXPECT_SHOWS("[ 1 ]\r\n");
	/* Nobody looks at a pipe, unless somebody says so. */
	program_run(&self->program, NULL, THAW("-p", "[1]"));
	EXPECT_STREQ("[ 1 ]\n", self->program.output);
	program_free(&self->program);
	program_run(
		&self->program, NULL,
		(const char *const[]){"sh", "-c",
				      "echo '[1]' | \"$0\" repl --color always --fresh \"$1.new\"",
				      THAW_BINARY, self->image, NULL});
	EXPECT_STREQ("[ \033[33m1\033[39m ]\n", self->program.output);
}

/* It is on a line of its own, and the line that is typed is whole again below it. */
static const char late[] = "setTimeout(() => console.log('la' + 'te'), 400)\r";

TEST_F(hand, output_tears_no_line)
{
	ASSERT_TRUE(start(self, 80));
	type_line(self, late);
	EXPECT_SHOWS("Timeout");
	type_line(self, "12345 + 1");
	EXPECT_SHOWS("\r\033[Jlate\r\n");
	EXPECT_SHOWS("> 12345 + 1");
	press(self, "\r");
	EXPECT_SHOWS("12346");
}

/* A line of several rows, with characters of two widths. */
TEST_F(hand, output_tears_no_long_line)
{
	ASSERT_TRUE(start(self, 20));
	type_line(self, late);
	EXPECT_SHOWS("Timeout");
	/* "> " and 16 columns, and the next one is two columns wide; then 20, and one more. */
	type_line(self, "'1234567890123456日23456789012345678901'.length");
	EXPECT_SHOWS("\r\033[2A\033[Jlate\r\n");
	press(self, "\r");
	EXPECT_SHOWS("37");
}

TEST_F(hand, promises_are_shown_when_they_settle)
{
	ASSERT_TRUE(start(self, 80));
	type_line(self, "new Promise(then => setTimeout(then, 300, 'there'))\r");
	EXPECT_SHOWS("<pending>");
	/* Nobody waits for it. */
	type_line(self, "700 + 7\r");
	EXPECT_SHOWS("707");
	EXPECT_SHOWS(
		"new Promise(then => setTimeout(then, 300, 'ther: Promise { \033[32m'there'\033[39m }\r\n");
	type_line(self, "await new Promise(then => setTimeout(then, 1, 'awaited'))\r");
	EXPECT_SHOWS("\033[32m'awaited'\033[39m");
}

TEST_F(hand, an_editor_for_several_lines)
{
	ASSERT_TRUE(start(self, 80));
	type_line(self, ".editor\r");
	EXPECT_SHOWS("Ctrl-D");
	EXPECT_SHOWS("\033[?2004h");
	wait_raw(self);
	press(self, "let n = 4\r");
	EXPECT_SHOWS("\033[?2004h");
	wait_raw(self);
	press(self, "n * 100\r");
	EXPECT_SHOWS("\033[?2004h");
	wait_raw(self);
	press(self, "\x04");
	EXPECT_SHOWS("400");
}

static int shell(FIXTURE_DATA(hand) * self, const char *lines)
{
	program_free(&self->program);
	self->program = program_start(THAW("repl", self->image));
	if (write(self->program.in, lines, strlen(lines)) != (ssize_t)strlen(lines))
		support_die("write to the shell");
	return program_finish(&self->program, 60);
}

#define EXPECT_SAID(text) \
	EXPECT_NE(NULL, strstr(self->program.errors, text)) TH_LOG("%s", self->program.errors)

TEST_F(hand, imports_are_typed_as_in_a_module)
{
	EXPECT_EQ(
		0,
		shell(self,
		      "import { on as listen, args } from 'thaw'\ntypeof listen + args.length\n"
		      "import thaw, * as all from 'thaw'; [typeof thaw, typeof all.on]\nimport 'thaw'\n"
		      "import {\n  off\n} from 'thaw'\ntypeof off\nconst { importance } = { importance: 1 }\n"))
	TH_LOG("%s", self->program.errors);
	EXPECT_STREQ("'function0'\n[ 'object', 'function' ]\n'function'\n", self->program.output);
	EXPECT_EQ(1, shell(self, "import { nothing } from 'thaw'\ntypeof nothing\n"));
	EXPECT_SAID("Could not find export 'nothing' in module 'thaw'");
}

TEST_F(hand, errors_show_the_line_that_was_typed)
{
	EXPECT_EQ(
		1,
		shell(self,
		      "let o = {}\nfunction f() {\n  return o.nope(1)\n}\nf()\n_error.constructor.name\n"));
	EXPECT_SAID(
		"  return o.nope(1)\n           ^\nUncaught TypeError: o.nope is not a function\n    at f (REPL2:2:");
	EXPECT_STREQ("'TypeError'\n", self->program.output);
	/* What an earlier session has typed. */
	EXPECT_EQ(1, shell(self, "f()\n"));
	EXPECT_SAID("  return o.nope(1)\n");
	EXPECT_EQ(1, shell(self, "let a b\n"));
	EXPECT_SAID("let a b\n      ^\nUncaught SyntaxError");
}

TEST_F(hand, files_are_loaded_and_saved)
{
	char *file = support_format("%s/saved.js", self->directory);
	char *lines =
		support_format("let a = 40\nthrow 1\na += 2\n.save %s\n.save %s\n", file, file);

	EXPECT_EQ(1, shell(self, lines));
	EXPECT_SAID("File exists");
	free(lines);
	EXPECT_EQ(0, unlink(self->image));
	lines = support_format(".load %s\na\n.load %s.not\n", file, file);
	EXPECT_EQ(1, shell(self, lines));
	EXPECT_STREQ("42\n", self->program.output);
	EXPECT_SAID("No such file or directory");
	free(lines);
	free(file);
}

TEST_F(hand, timers_are_listed)
{
	EXPECT_EQ(0,
		  shell(self,
			".timers\nfunction tick() {}\nvoid setInterval(tick, 3600000)\n.timers\n"));
	EXPECT_NE(NULL, strstr(self->program.output, "no timer is pending\n"));
	EXPECT_NE(NULL, strstr(self->program.output, "tick")) TH_LOG("%s", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.output, "REPL1:1")) TH_LOG("%s", self->program.output);
}

TEST_F(hand, eval_looks_and_leaves)
{
	struct program *program = &self->program;

	EXPECT_EQ(0, shell(self,
			   "let n = 5; const list = [1, 2]; void setInterval(() => n++, 1e6)\n"));
	program_free(program);
	EXPECT_EQ(0, program_run(program, NULL,
				 THAW("eval", self->image, "n = 7; list.push(3); [n, list]")));
	EXPECT_STREQ("[ 7, [ 1, 2, 3 ] ]\n", program->output);
	program_free(program);
	EXPECT_EQ(0, program_run(program, NULL, THAW("eval", "--json", self->image, "[n, list]")));
	EXPECT_NE(NULL, strstr(program->output,
			       "\"generation\":1,\"ok\":true,\"result\":\"[ 5, [ 1, 2 ] ]\"}"))
	TH_LOG("%s%s", program->output, program->errors);
	program_free(program);
	EXPECT_EQ(1, program_run(program, NULL, THAW("eval", self->image, "n.x.y")));
	EXPECT_SAID(
		"n.x.y\n  ^\nUncaught TypeError: cannot read property 'y' of undefined (n.x is undefined)");
	program_free(program);
	EXPECT_EQ(66, program_run(program, NULL, THAW("eval", "/nowhere/x.thaw", "1")));
	/* Also while a program has it open. */
	ASSERT_TRUE(start(self, 80));
	program_free(program);
	EXPECT_EQ(0, program_run(program, NULL, THAW("eval", self->image, "n")));
	EXPECT_STREQ("5\n", program->output) TH_LOG("%s", program->errors);
}

TEST_HARNESS_MAIN
