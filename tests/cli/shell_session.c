// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shell over a pipe: what is declared again wins, what is piped is evaluated whole or refused
 * aloud, and the exit code says whether a line failed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(session)
{
	char *directory, *image, *input;
	struct program program;
};
FIXTURE_SETUP(session)
{
	self->directory = support_directory();
	self->image = support_format("%s/shell.thaw", self->directory);
	self->input = support_format("%s/input", self->directory);
}
FIXTURE_TEARDOWN(session)
{
	program_free(&self->program);
	free(self->image);
	free(self->input);
	support_remove(self->directory);
}

static int shell_bytes(struct program *program, const char *image, const char *lines, size_t bytes)
{
	program_free(program);
	*program = program_start(THAW("repl", image));
	if (write(program->in, lines, bytes) != (ssize_t)bytes && errno != EPIPE)
		support_die("write to the shell");
	return program_finish(program, 60);
}

#define SHELL(lines) shell_bytes(&self->program, self->image, lines, sizeof(lines) - 1)
#define EXPECT_LINES(expected, lines)                        \
	do {                                                 \
		SHELL(lines);                                \
		EXPECT_STREQ(expected, self->program.output) \
		{                                            \
			TH_LOG("%s", self->program.errors);  \
		}                                            \
	} while (0)
#define EXPECT_SAID(text) \
	EXPECT_NE(NULL, strstr(self->program.errors, text)) TH_LOG("%s", self->program.errors)

/* ---- Declarations ---- */

TEST_F(session, a_failed_initialiser_burns_no_name)
{
	EXPECT_EQ(1, SHELL("let z = null.x\n"));
	EXPECT_EQ(1, SHELL("z\n"));
	EXPECT_SAID("ReferenceError");
	EXPECT_EQ(0, SHELL("let z = 5\nz\n"));
	EXPECT_STREQ("5\n", self->program.output);
	EXPECT_LINES("1\n2\n", "const c = null.x\nconst c = 1; c\nclass K extends null.x {}\n"
			       "class K { two = 2 }\nnew K().two\n");
	EXPECT_LINES("3\n", "let q = await Promise.reject(1)\nlet q = await 3\nq\n");
	EXPECT_LINES("[ 1, 2 ]\n", "let { m, n } = null\nlet [m, n] = [1, 2]; [m, n]\n");
}

TEST_F(session, the_later_declaration_wins)
{
	EXPECT_LINES("2\n3\n4\n5\n",
		     "let a = 1\nlet a = 2; a\nconst a = 3; a\nclass a { static four = 4 }\n"
		     "a.four\nlet a = 5; a\n");
	EXPECT_EQ(0, SHELL("let a = 6\n"));
	EXPECT_LINES("6\n7\n", "a\nlet a = a + 1; a\n");
	/* Also var and functions, before and after. */
	EXPECT_LINES(
		"2\n3\n4\n5\n6\n7\n",
		"var v = 1; let v = 2\nvar v = 1\nlet v = 2; v\nvar v = 3; v\n"
		"function v() { return 4 }\nv()\nlet v = 5; v\nasync function v() { return 6 }\n"
		"await v()\nconst v = 7; v\n");
	EXPECT_LINES("3\n", "let i = 'x'\nfor (var i = 0; i < 3; i++);\ni\n");
	EXPECT_LINES(
		"[ 1, [ 2 ], { c: 3 } ]\n",
		"let x, y, r\nconst { x, y: [...y], ...r } = { x: 1, y: [2], c: 3 }; [x, y, r]\n");
}

/* What is declared is read between the functions that are made there: here are two sizes of them. */
TEST_F(session, a_line_declares_many_things)
{
	char *line = NULL;
	size_t bytes;
	FILE *text = open_memstream(&line, &bytes);

	for (int round = 0; round < 2; round++) {
		fprintf(text, "let first = %d; const none = null; ", round);
		for (int i = 0; i < 300; i++)
			fprintf(text, "function f%d() { return %d }; ", i, i + round);
		fprintf(text, "let last = f299(); class Late {}; const end = first\n");
		fprintf(text, "[first, last, end, f0()]\n");
	}
	fclose(text);
	EXPECT_EQ(0, shell_bytes(&self->program, self->image, line, bytes));
	EXPECT_STREQ("[ 0, 299, 0, 0 ]\n[ 1, 300, 1, 1 ]\n", self->program.output)
	TH_LOG("%s", self->program.errors);
	free(line);
}

TEST_F(session, a_variable_keeps_its_value_until_there_is_another)
{
	EXPECT_LINES("3\n3\n3\n",
		     "let z = 3\nlet z = null.q\nz\nconst z = await Promise.reject(1)\nz\n"
		     "var z = null.q\nz\n");
	EXPECT_LINES("4\n4\n", "var w = 4\nlet w = null.q\nw\nfunction f() { return w }\nf()\n");
}

TEST_F(session, functions_see_what_was_declared_later)
{
	EXPECT_LINES("1\n2\n3\n4\n",
		     "let n = 1\nfunction f() { return n }\nf()\nlet n = 2; f()\nvar n = 3; f()\n"
		     "const n = 4; f()\n");
}

TEST_F(session, a_constant_is_one)
{
	EXPECT_EQ(1, SHELL("const c = 1\nc = 2\nlet c = 3\nc = 4\nc\nconst c = 5\nc = 6\nc\n"));
	EXPECT_STREQ("4\n4\n5\n", self->program.output);
	EXPECT_SAID("'c' is read-only");
}

/* What no script declared is not anybody's to declare; and in one line, a name is declared once. */
TEST_F(session, what_is_no_variable_stays)
{
	EXPECT_EQ(1, SHELL("const NaN = 1\nlet Infinity = 2\n[NaN, Infinity]\n"));
	EXPECT_STREQ("[ NaN, Infinity ]\n", self->program.output);
	EXPECT_EQ(1, SHELL("let a = 1; let a = 2\ntypeof a\n"));
	EXPECT_STREQ("'undefined'\n", self->program.output);
}

/* ---- Patches ---- */

TEST_F(session, a_then_on_object_prototype_hides_no_answer)
{
	EXPECT_LINES("0\n1\n1\n1\n", "Object.prototype.then = function (r) { r(9) }; 0\n1\n"
				     "globalThis.z = 1\nz\n");
	EXPECT_LINES("1\n2\n3\n", "z\nlet z = 2\nz\nawait 3\n");
	EXPECT_LINES("9\n8\n", "await {}\nawait { then(r) { r(8) } }\n");
	EXPECT_EQ(1, SHELL("throw 4\n"));
	EXPECT_SAID("Uncaught 4");
}

TEST_F(session, a_value_on_object_prototype_is_no_answer)
{
	EXPECT_LINES("[Function (anonymous)]\n1\n{}\n2\n",
		     "Object.prototype.get = 5; Object.prototype.value = 7; "
		     "Object.prototype.then = function (r) { r(9) }\n1\n({})\nlet zz = 2\nzz\n");
}

TEST_F(session, accessors_on_object_prototype_are_not_called)
{
	static const char lines[] =
		"for (const key of ['then', 'value', 'done', 'get', 'set', 'writable', '_', 'name',"
		" 'index', 'constructor', 'message', 'stack', 'promise', 'resolve', 'length',"
		" Symbol.toPrimitive, Symbol.toStringTag]) Object.defineProperty(Object.prototype,"
		" key, { __proto__: null, get() { throw 1 }, set() { throw 2 } }); 3\n"
		"'four'\nlet x = 5\nvar x = 6\nx\n_\nawait 7\nfunction f() { return 8 }\nf()\n";

	EXPECT_LINES("3\n'four'\n6\n6\n7\n8\n", lines);
	EXPECT_LINES("6\n", "x\n");
}

/* ---- What is piped ---- */

TEST_F(session, a_failed_line_shows_in_the_exit_code)
{
	EXPECT_EQ(0, SHELL("1\n"));
	EXPECT_EQ(1, SHELL("throw 1\n2\n"));
	EXPECT_STREQ("2\n", self->program.output);
	EXPECT_EQ(1, SHELL("(\n"));
	EXPECT_EQ(1, SHELL("a b\n1\n"));
	EXPECT_EQ(1, SHELL("await Promise.reject(3)\n1\n"));
	EXPECT_EQ(1, SHELL("Promise.reject(4)\n1\n"));
	EXPECT_EQ(1, SHELL("setTimeout(() => { throw 5 }, 1)\n"
			   "await new Promise(resolve => setTimeout(resolve, 20))\n1\n"));
	EXPECT_EQ(1, SHELL(".nonsense\n1\n"));
	EXPECT_EQ(1, SHELL(".checkpoint -x\n1\n"));
	EXPECT_EQ(1, SHELL("throw 1\n.exit\n"));
	/* Who leaves with a code means it. */
	EXPECT_EQ(0, SHELL("throw 1\n(await import('thaw')).exit(0)\n"));
	EXPECT_EQ(7, SHELL("globalThis.kept = 1; (await import('thaw')).exit(7)\n"));
	EXPECT_LINES("1\n", "kept\n");
}

TEST_F(session, a_nul_cuts_no_line)
{
	EXPECT_LINES("'a\\x00b'\n3\n4\n", "'a\0b'\n`a\0b`.length\n/* \0 */ 4 // \0 5\n");
	EXPECT_EQ(1, SHELL("1 +\0 2\n"));
	EXPECT_SAID("SyntaxError");
	EXPECT_STREQ("", self->program.output);
	/* And none in what is printed. */
	program_free(&self->program);
	program_run(&self->program, NULL, THAW("-p", "'a\\0b'"));
	EXPECT_EQ(4u, self->program.output_bytes);
	program_free(&self->program);
	EXPECT_EQ(1, program_run(&self->program, NULL, THAW("-e", "throw new Error('a\\0b')")));
	EXPECT_NE(NULL, memmem(self->program.errors, self->program.errors_bytes, "a\0b\n", 4));
}

TEST_F(session, lines_end_in_many_ways)
{
	EXPECT_LINES("3\n3\n'ab'\n[ 1, 2 ]\n'last'\n",
		     "1 +\r\n2\r\n`a\r\nb`.length\r\n'a\\\r\nb'\r\n[1,\r\n2]\r\n'last'");
	EXPECT_LINES("1\n", "\r\n\n  \n1\r");
}

TEST_F(session, what_is_no_utf8_is_refused)
{
	EXPECT_EQ(1, SHELL("'\xff\xfe'\n'\xc3\xa9'.length\n"));
	EXPECT_SAID("SyntaxError");
	EXPECT_STREQ("1\n", self->program.output);
}

TEST_F(session, input_that_cannot_be_read_is_an_error)
{
	struct program *program = &self->program;

	EXPECT_EQ(66, program_run(program, NULL,
				  (const char *const[]){"sh", "-c", "exec \"$0\" repl \"$1\" </",
							THAW_BINARY, self->image, NULL}));
	EXPECT_SAID("standard input cannot be read: Is a directory");
	program_free(program);
	EXPECT_EQ(66, program_run(program, NULL,
				  (const char *const[]){"sh", "-c", "exec \"$0\" repl \"$1\" <&-",
							THAW_BINARY, self->image, NULL}));
	EXPECT_SAID("standard input cannot be read: Bad file descriptor");
}

TEST_F(session, a_place_that_cannot_be_made_is_named)
{
	unsetenv("XDG_STATE_HOME");
	setenv("HOME", "/dev/null", 1);
	EXPECT_EQ(74, program_run(&self->program, NULL, THAW("repl")));
	EXPECT_SAID("cannot make /dev/null/.local/state/thaw: Not a directory");
}

TEST_F(session, a_line_may_be_long)
{
	FILE *file = fopen(self->input, "w");

	ASSERT_NE(NULL, file);
	fputs("x = '", file);
	for (int i = 0; i < 300000; i++)
		fputs("0123456789", file);
	fputs("'\nx.length\ny = [\n", file);
	for (int i = 0; i < 50000; i++)
		fprintf(file, "{ n: %d },\n", i);
	fputs("]\ny.length\n", file);
	fclose(file);
	program_run(&self->program, NULL,
		    (const char *const[]){"sh", "-c",
					  "exec \"$0\" repl \"$1\" <\"$2\" | grep -x '[0-9]*'",
					  THAW_BINARY, self->image, self->input, NULL});
	EXPECT_STREQ("3000000\n50000\n", self->program.output);
}

TEST_HARNESS_MAIN
