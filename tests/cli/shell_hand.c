// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shell in the hand of a person: Tab, colours, what comes while a line is typed, import lines, files, timers;
 * and thaw eval, which looks and leaves.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include "shell_driver.h"

FIXTURE(hand)
{
	struct shell shell;
	struct program program;
};
FIXTURE_SETUP(hand)
{
	shell_open(&self->shell);
	unsetenv("NO_COLOR");
	unsetenv("FORCE_COLOR");
}
FIXTURE_TEARDOWN(hand)
{
	program_free(&self->program);
	shell_close(&self->shell);
}

TEST_F(hand, tab_completes)
{
	char *file = support_format("%s/lines.js", self->shell.directory);

	support_write(file, "var loaded = 6\n");
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell,
		   "let alphabet = { deep: { number: 41 }, get bad() { console.log('ran') } }\r");
	EXPECT_SHOWS("undefined");
	shell_type(&self->shell, "alph\t");
	EXPECT_SHOWS("abet");
	shell_press(&self->shell, ".de\t");
	EXPECT_SHOWS("ep");
	shell_press(&self->shell, ".num\t");
	EXPECT_SHOWS("ber");
	shell_press(&self->shell, " + 1\r");
	EXPECT_SHOWS("42");
	/* Along the prototypes; no getter runs. */
	shell_type(&self->shell, "alphabet.\t");
	EXPECT_SHOWS("toLocaleString");
	EXPECT_EQ(NULL, memmem(self->shell.shown, self->shell.bytes, "ran", 3));
	shell_press(&self->shell, "bad.\t");
	EXPECT_SHOWS("\a");
	shell_press(&self->shell, "\x15'x'.padS\t");
	EXPECT_SHOWS("tart");
	shell_press(&self->shell, "(3) + glob\t");
	EXPECT_SHOWS("alThis");
	shell_press(&self->shell, "\x15.lo\t");
	EXPECT_SHOWS("log");
	shell_press(&self->shell, "ad lin\t");
	EXPECT_SHOWS("es.js");
	shell_press(&self->shell, "\r");
	shell_type(&self->shell, "loaded + 100\r");
	EXPECT_SHOWS("106");
	shell_type(&self->shell, "import * as all from './lin\t");
	EXPECT_SHOWS("es.js");
	free(file);
}

TEST_F(hand, results_have_colours)
{
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, "({ a: 1, b: 'x', c: null, d: undefined, e: () => 1, f: /r/ })\r");
	EXPECT_SHOWS(
		"{ a: \033[33m1\033[39m, b: \033[32m'x'\033[39m, c: \033[1mnull\033[22m, "
		"d: \033[90mundefined\033[39m, e: \033[36m[Function: e]\033[39m, f: \033[31m/r/\033[39m }");
	kill(self->shell.pid, SIGKILL);
	waitpid(self->shell.pid, NULL, 0);
	close(self->shell.fd);
	self->shell.bytes = 0;
	setenv("NO_COLOR", "1", 1);
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, "[1]\r");
	EXPECT_SHOWS("[ 1 ]\r\n");
	/* Nobody looks at a pipe, unless somebody says so. */
	program_run(&self->program, NULL, THAW("-p", "[1]"));
	EXPECT_STREQ("[ 1 ]\n", self->program.output);
	program_free(&self->program);
	program_run(
		&self->program, NULL,
		(const char *const[]){"sh", "-c",
				      "echo '[1]' | \"$0\" repl --color always --fresh \"$1.new\"",
				      THAW_BINARY, self->shell.image, NULL});
	EXPECT_STREQ("[ \033[33m1\033[39m ]\n", self->program.output);
}

/* It is on a line of its own, and the line that is typed is whole again below it. */
static const char late[] = "setTimeout(() => console.log('la' + 'te'), 400)\r";

TEST_F(hand, output_tears_no_line)
{
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, late);
	EXPECT_SHOWS("Timeout");
	shell_type(&self->shell, "12345 + 1");
	EXPECT_SHOWS("\r\033[Jlate\r\n");
	EXPECT_SHOWS("> 12345 + 1");
	shell_press(&self->shell, "\r");
	EXPECT_SHOWS("12346");
}

/* A line of several rows, with characters of two widths. */
TEST_F(hand, output_tears_no_long_line)
{
	ASSERT_TRUE(shell_start(&self->shell, 20));
	shell_type(&self->shell, late);
	EXPECT_SHOWS("Timeout");
	/* "> " and 16 columns, and the next one is two columns wide; then 20, and one more. */
	shell_type(&self->shell, "'1234567890123456日23456789012345678901'.length");
	EXPECT_SHOWS("\r\033[2A\033[Jlate\r\n");
	shell_press(&self->shell, "\r");
	EXPECT_SHOWS("37");
}

TEST_F(hand, promises_are_shown_when_they_settle)
{
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, "new Promise(then => setTimeout(then, 300, 'there'))\r");
	EXPECT_SHOWS("<pending>");
	/* Nobody waits for it. */
	shell_type(&self->shell, "700 + 7\r");
	EXPECT_SHOWS("707");
	EXPECT_SHOWS(
		"new Promise(then => setTimeout(then, 300, 'ther: Promise { \033[32m'there'\033[39m }\r\n");
	shell_type(&self->shell, "await new Promise(then => setTimeout(then, 1, 'awaited'))\r");
	EXPECT_SHOWS("\033[32m'awaited'\033[39m");
}

TEST_F(hand, an_editor_for_several_lines)
{
	ASSERT_TRUE(shell_start(&self->shell, 80));
	shell_type(&self->shell, ".editor\r");
	EXPECT_SHOWS("Ctrl-D");
	EXPECT_SHOWS("\033[?2004h");
	shell_wait_raw(&self->shell);
	shell_press(&self->shell, "let n = 4\r");
	EXPECT_SHOWS("\033[?2004h");
	shell_wait_raw(&self->shell);
	shell_press(&self->shell, "n * 100\r");
	EXPECT_SHOWS("\033[?2004h");
	shell_wait_raw(&self->shell);
	shell_press(&self->shell, "\x04");
	EXPECT_SHOWS("400");
}

static int shell(FIXTURE_DATA(hand) * self, const char *lines)
{
	program_free(&self->program);
	self->program = program_start(THAW("repl", self->shell.image));
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
	char *file = support_format("%s/saved.js", self->shell.directory);
	char *lines =
		support_format("let a = 40\nthrow 1\na += 2\n.save %s\n.save %s\n", file, file);

	EXPECT_EQ(1, shell(self, lines));
	EXPECT_SAID("File exists");
	free(lines);
	EXPECT_EQ(0, unlink(self->shell.image));
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
	EXPECT_EQ(0,
		  program_run(program, NULL,
			      THAW("eval", self->shell.image, "n = 7; list.push(3); [n, list]")));
	EXPECT_STREQ("[ 7, [ 1, 2, 3 ] ]\n", program->output);
	program_free(program);
	EXPECT_EQ(0, program_run(program, NULL,
				 THAW("eval", "--json", self->shell.image, "[n, list]")));
	EXPECT_NE(NULL, strstr(program->output,
			       "\"generation\":1,\"ok\":true,\"result\":\"[ 5, [ 1, 2 ] ]\"}"))
	TH_LOG("%s%s", program->output, program->errors);
	program_free(program);
	EXPECT_EQ(1, program_run(program, NULL, THAW("eval", self->shell.image, "n.x.y")));
	EXPECT_SAID(
		"n.x.y\n  ^\nUncaught TypeError: cannot read property 'y' of undefined (n.x is undefined)");
	program_free(program);
	EXPECT_EQ(66, program_run(program, NULL, THAW("eval", "/nowhere/x.thaw", "1")));
	/* Also while a program has it open. */
	ASSERT_TRUE(shell_start(&self->shell, 80));
	program_free(program);
	EXPECT_EQ(0, program_run(program, NULL, THAW("eval", self->shell.image, "n")));
	EXPECT_STREQ("5\n", program->output) TH_LOG("%s", program->errors);
}

TEST_HARNESS_MAIN
