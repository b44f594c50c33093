// SPDX-License-Identifier: GPL-2.0-only
/*
 * Errors say what is not a function and where: the line with a caret, the expression, who imports. Where the
 * source does not tell, or is another by now, they say what the engine says.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(excerpts)
{
	char *directory, *script;
	struct program program;
};
FIXTURE_SETUP(excerpts)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
}
FIXTURE_TEARDOWN(excerpts)
{
	program_free(&self->program);
	free(self->script);
	support_remove(self->directory);
}

static void put(FIXTURE_DATA(excerpts) * self, const char *name, const char *text)
{
	char *path = support_format("%s/%s", self->directory, name);

	support_write(path, text);
	free(path);
}

static int run(FIXTURE_DATA(excerpts) * self, const char *text)
{
	put(self, "app.js", text);
	program_free(&self->program);
	return program_run(&self->program, NULL,
			   THAW("run", "--fresh", "--every", "0", self->script));
}

#define EXPECT_SAID(text) \
	EXPECT_NE(NULL, strstr(self->program.errors, text)) TH_LOG("%s", self->program.errors)

static const struct {
	const char *code, *said;
} named[] = {
	{"u()", "u is not a function"},
	{"o.u(1, 2)", "o.u is not a function"},
	{"o.u(a, 'x')", "o.u is not a function"},
	{"o[k](1)", "o[k] is not a function"},
	{"o.f(1)\n.u()", "o.f(...).u is not a function"},
	{"this.u()", "this.u is not a function"},
	{"o?.u()", "o?.u is not a function"},
	{"(a, u)()", "(a, u) is not a function"},
	{"f(a, () => g(1), u(1 + a))", "u or f is not a function"},
	{"(() => o.u())()", "o.u is not a function"},
	{"[1].map(() => o.u())", "o.u is not a function"},
	{"f(/[)'\"]/.test(k), o.u())", "o.u or f is not a function"},
	{"if (o.u()) a", "o.u is not a function"},
	{"new o.u(1)", "o.u is not a constructor"},
	{"new u", "u is not a constructor"},
	{"u.x", "cannot read property 'x' of undefined (u is undefined)"},
	{"o.u.x.y", "cannot read property 'x' of undefined (o.u is undefined)"},
	{"o.n.x()", "cannot read property 'x' of null (o.n is null)"},
	{"o.f(1).u.x", "cannot read property 'x' of undefined (o.f(...).u is undefined)"},
	{"o.u[k]", "cannot read property 'key' of undefined (o.u is undefined)"},
	{"f(a)\nvar z = this.u.x", "cannot read property 'x' of undefined (this.u is undefined)"},
	{"`${o.u.x}`", "cannot read property 'x' of undefined (o.u is undefined)"},
	{"o.u.x = 1", "cannot set property 'x' of undefined (o.u is undefined)"},
	/* Either: the engine has one place for both. */
	{"f(o.u(1))", "o.u or f is not a function"},
	/* What is not told, and what must not be guessed. */
	{"[1].map(u)", "not a function"},
	{"f(f(f(o.u(1))))", "not a function"},
	{"u`x${a}`", "not a function"},
	{"null.x", "cannot read property 'x' of null"},
	{"o.a.a.a", "cannot read property 'a' of undefined"},
	{"f(TypeError('not a function').throw_())", "TypeError(...).throw_ or f is not a function"},
	{"throw TypeError('not a function')", "not a function"},
	{"throw new TypeError('not a function')", "not a function"},
	{"reject(new TypeError('not a function'))", "not a function"},
	{"reject(TypeError('not a function'))", "not a function"},
};

TEST_F(excerpts, what_is_no_function_is_named)
{
	char *script = NULL, *line;
	size_t bytes;
	FILE *text = open_memstream(&script, &bytes);

	fputs("const o = { f() { return o }, n: null, a: 1 }, f = () => f, g = () => 1, k = 'key'\n"
	      "let u, a = 1\nconst reject = e => { throw e }\n"
	      "const say = e => console.log(String(e).slice(11), '|', e.stack.split('\\n')[0].slice(11), '|', "
	      "console.error(e))\n",
	      text);
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		fprintf(text, "try { (function () {\n\t%s\n}).call(o) } catch (e) { say(e) }\n",
			named[i].code);
	fclose(text);
	EXPECT_EQ(0, run(self, script)) TH_LOG("%s", self->program.errors);
	free(script);
	line = self->program.output;
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
		char *expected =
			support_format("%s | %s | undefined\n", named[i].said, named[i].said);
		char *shown = support_format("TypeError: %s\n", named[i].said);

		EXPECT_EQ(0, strncmp(line, expected, strlen(expected)))
		TH_LOG("%s: %.*s", named[i].code, (int)strcspn(line, "\n"), line);
		EXPECT_NE(NULL, strstr(self->program.errors, shown)) TH_LOG("%s", named[i].code);
		free(expected);
		free(shown);
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
}

/* The message itself is the engine's: what a program compares stays what it was. */
TEST_F(excerpts, the_message_stays)
{
	EXPECT_EQ(0,
		  run(self,
		      "let o = {}\ntry { o.x() } catch (e) { e.stack; console.log(e.message) }\n"));
	EXPECT_STREQ("not a function\n", self->program.output);
}

TEST_F(excerpts, the_line_has_a_caret)
{
	EXPECT_EQ(1, run(self, "const o = {}\n\tconst \xc3\xbc = '\xe6\x97\xa5'; o.nope(1)\n"));
	EXPECT_SAID(
		"app.js:2\n\tconst \xc3\xbc = '\xe6\x97\xa5'; o.nope(1)\n\t                  ^\n\nUncaught "
		"TypeError: o.nope is not a function\n    at <anonymous> (");
	EXPECT_EQ(1, run(self, "let a = 1\nlet b = ;\n"));
	EXPECT_SAID("app.js:2\nlet b = ;\n        ^\n\nUncaught SyntaxError");
	EXPECT_EQ(1, run(self, "async function f() {\n  await 0\n  null.x\n}\nawait f()\n"));
	EXPECT_SAID("app.js:3\n  null.x\n  ");
	EXPECT_EQ(1, run(self, "throw 5\n"));
	EXPECT_STREQ("Uncaught 5\n", self->program.errors);
	EXPECT_EQ(
		1,
		run(self,
		    "throw new AggregateError([new Error('one', { cause: new RangeError('two') })], 'all')"));
	EXPECT_SAID("Uncaught AggregateError: all\n");
	EXPECT_SAID("[errors]: [\n    Error: one\n");
	EXPECT_SAID("[cause]: RangeError: two\n");
}

TEST_F(excerpts, another_source_is_not_shown)
{
	EXPECT_EQ(1, run(self, "import { appendFile, readFile } from 'thaw'\nconst o = {}\n"
			       "await appendFile(import.meta.filename, ' ')\no.nope()\n"));
	EXPECT_EQ(0, strncmp(self->program.errors, "Uncaught TypeError: not a function\n", 35))
	TH_LOG("%s", self->program.errors);
}

TEST_F(excerpts, who_imports_is_told)
{
	put(self, "names.js", "export const y = 1\n");
	put(self, "broken.js", "let a = 1\nlet b = ;\n");
	put(self, "broken.json", "{ \"a\": }\n");
	put(self, "between.js", "// one\nimport './broken.js'\n");
	EXPECT_EQ(1, run(self, "let a\nimport { y,\n  x } from './names.js'\n"));
	EXPECT_SAID(
		"app.js:3\n  x } from './names.js'\n  ^\n\nUncaught SyntaxError: Could not find export 'x'");
	EXPECT_EQ(1, run(self, "import z from './names.js'\n"));
	EXPECT_SAID("app.js:1\nimport z from './names.js'\n       ^\n");
	EXPECT_EQ(1, run(self, "let a\nexport * from './gone.js'\n"));
	EXPECT_SAID(
		"app.js:2\nexport * from './gone.js'\n              ^\n\nUncaught Error: cannot find module");
	EXPECT_SAID("app.js:2:15)");
	EXPECT_EQ(1, run(self, "import './between.js'\n"));
	EXPECT_SAID("broken.js:2\nlet b = ;\n        ^\n\nUncaught SyntaxError");
	EXPECT_SAID("    at import (");
	EXPECT_SAID("between.js:2:8)");
	EXPECT_EQ(1, run(self, "import './broken.json'\n"));
	EXPECT_SAID("app.js:1\nimport './broken.json'\n       ^\n\nUncaught SyntaxError");
	EXPECT_EQ(1, run(self, "\nawait import('./gone.js')\n"));
	EXPECT_SAID("app.js:2\nawait import('./gone.js')\n             ^\n");
}

TEST_HARNESS_MAIN
