// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a program patches is its own business: the runtime goes on as before. programs/patched.js
 * uses all that the runtime offers, once with nothing patched and then with each method, accessor
 * and global of the built-ins patched to throw; here each round's text is compared with the first.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(patched)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(patched)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	setenv("APP_DIRECTORY", self->directory, 1);
}
FIXTURE_TEARDOWN(patched)
{
	program_free(&self->program);
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

/* The next round: its name ends at a newline, its text where the next begins. NULL: no more. */
static char *next_round(char **at, char **text)
{
	char *name = *at, *end;

	if (!name || strncmp(name, "== ", 3))
		return NULL;
	*text = strchr(name, '\n');
	if (!*text)
		return NULL;
	*(*text)++ = '\0';
	end = strstr(*text, "\n== ");
	if (end)
		*end++ = '\0';
	*at = end;
	return name + 3;
}

/* A timer is begun at one of two places, as a busy machine has it: without the columns of Thaw's own frames. */
static char *without_columns(char *text)
{
	static const char frame[] = "(thaw:timers:1:";

	for (char *at = text; (at = strstr(at, frame));) {
		at += strlen(frame);
		memmove(at, at + strspn(at, "0123456789"),
			strlen(at + strspn(at, "0123456789")) + 1);
	}
	return text;
}

TEST_F_TIMEOUT(patched, whatever_is_patched_the_runtime_prints_the_same, 600)
{
	static const char path[] = "tests/programs/patched.js";
	unsigned step = test_patience() > 4 ? 23 : 1; /* an emulated machine */
	char *steps = support_format("%u", step);
	char *at, *name, *text, *expected = NULL;
	unsigned rounds = 0;
	bool ended = false;

	self->program = program_start(
		THAW("run", "-q", "--every", "0", "--image", self->image, path, steps));
	free(steps);
	EXPECT_EQ(0, program_finish(&self->program, 500));
	at = self->program.output;
	while ((name = next_round(&at, &text))) {
		ended = !strcmp(name, "end");
		if (!expected)
			expected = without_columns(text);
		if (ended)
			break;
		EXPECT_STREQ(expected, without_columns(text))
		{
			TH_LOG("with this patched: %s", name);
		}
		rounds++;
	}
	EXPECT_TRUE(ended)
	{
		TH_LOG("it ended after round %u: %s", rounds, self->program.errors);
	}
	EXPECT_GT(rounds, 700 / step);
	EXPECT_NE(NULL, strstr(expected, "Failure: with a head\n    at "));
	EXPECT_NE(NULL, strstr(expected, "refreshed a b\n"));
}

/* Much of it at once, and properties of prototypes. */
static const char patches[] =
	"{\n"
	"	const no = (name) => function () { throw new Error('patched ' + name) };\n"
	"	const { defineProperty } = Object;\n"
	"	const methods = [[Promise.prototype, ['then', 'catch', 'finally']], [Promise, ['resolve', 'reject']],\n"
	"		[Array.prototype, ['pop', 'push', 'splice', 'slice', 'map', 'includes', 'join', 'filter', Symbol.iterator]],\n"
	"		[Map.prototype, ['get', 'set', 'delete', 'forEach', Symbol.iterator]], [RegExp.prototype, ['exec', 'test']],\n"
	"		[Set.prototype, ['add', 'has', 'delete', Symbol.iterator]], [Symbol, ['for']], [Reflect, ['apply', 'ownKeys',\n"
	"		'defineProperty']], [String.prototype, ['concat', 'replaceAll', 'slice', 'includes', 'indexOf', 'startsWith',\n"
	"		'split']], [Function.prototype, ['call', 'apply', 'bind']], [Object, ['freeze', 'assign', 'hasOwn', 'keys',\n"
	"		'getOwnPropertyDescriptor', 'defineProperty']], [Array.prototype, [0, 1, 2]], [Object.prototype, ['get', 'set',\n"
	"		'value', 'writable', 'index', 'resolve', 'list', 'hide']]];\n"
	"	for (let i = 0; i < methods.length; i++)\n"
	"		for (let j = 0; j < methods[i][1].length; j++)\n"
	"			defineProperty(methods[i][0], methods[i][1][j], typeof methods[i][0][methods[i][1][j]] === 'function' ?\n"
	"				{ __proto__: null, value: no('method') } :\n"
	"				{ __proto__: null, get: no('getter'), set: no('setter') });\n"
	"}\n";

#define PATCHED(text) support_write(self->script, text)
#define RUN(code, said, complained)                                                            \
	do {                                                                                   \
		program_free(&self->program);                                                  \
		EXPECT_EQ(code,                                                                \
			  program_run(&self->program, NULL, THAW("run", "-q", self->script))); \
		EXPECT_STREQ(said, self->program.output);                                      \
		EXPECT_NE(NULL, strstr(self->program.errors, complained))                      \
		{                                                                              \
			TH_LOG("said: %s", self->program.errors);                              \
		}                                                                              \
	} while (0)

TEST_F(patched, failures_are_reported)
{
	char *text;

	text = support_format("%sawait null;\nthrow new TypeError('late')\n", patches);
	PATCHED(text);
	free(text);
	RUN(1, "", "Uncaught TypeError: late\n    at ");

	support_remove(support_format("%s", self->image));
	text = support_format(
		"%s(async () => { throw new RangeError('nobody') })(); setTimeout(() => console.log('no'), 1000)\n",
		patches);
	PATCHED(text);
	free(text);
	RUN(1, "", "Uncaught (in promise) RangeError: nobody\n    at ");

	support_remove(support_format("%s", self->image));
	text = support_format(
		"%ssetTimeout(() => { throw { plain: [1, new DOMException('hm', 'AbortError')] } })\n",
		patches);
	PATCHED(text);
	free(text);
	RUN(1, "", "DOMException [AbortError]: hm");
}

TEST_F(patched, the_module_thaw_is_there_when_it_is_first_imported_later)
{
	char *text = support_format(
		"%sglobalThis.Object = globalThis.Reflect = globalThis.Symbol = undefined;\n"
		"const thaw = await import('thaw');\n"
		"console.log(typeof thaw.checkpoint, thaw.default.args.length, thaw.generation);\n"
		"const made = await thaw.checkpoint();\n"
		"console.log(made.generation > 0);\n"
		"thaw.exit(3)\n",
		patches);

	PATCHED(text);
	free(text);
	RUN(3, "function 0 0\ntrue\n", "");
}

/* inspect(), console.table() and structuredClone() are compiled when they are first called: here after all globals are gone. */
TEST_F(patched, what_is_compiled_later_needs_no_global)
{
	PATCHED("const { log, table } = console, { defineProperty } = Object, world = globalThis, clone = structuredClone, later = setTimeout;\n"
		"const values = [{ a: [1, 'x'] }, new Map([[1, 2]]), new Date(0), new SharedArrayBuffer(1), Symbol('s'), 5n];\n"
		"const names = Object.getOwnPropertyNames(globalThis);\n"
		"let replaced = 0;\n"
		"for (let i = 0; i < names.length; i++)\n"
		"	try { defineProperty(world, names[i], { get() { throw names[i] }, configurable: true }); replaced++ } catch {}\n"
		"later(() => { log(replaced > 60); log(values); log('%s', values[0]); table([{ a: 1 }]); log(clone([1, { b: 2 }])) }, 1);\n");
	RUN(0,
	    "true\n[\n  { a: [ 1, 'x' ] },\n  Map(1) { 1 => 2 },\n  1970-01-01T00:00:00.000Z,\n"
	    "  SharedArrayBuffer { [Uint8Contents]: <00>, byteLength: 1 },\n  Symbol(s),\n  5n\n]\n{ a: [Array] }\n"
	    "┌─────────┬───┐\n│ (index) │ a │\n├─────────┼───┤\n│ 0       │ 1 │\n└─────────┴───┘\n[ 1, { b: 2 } ]\n",
	    "");
}

/* Killed while it waits: the next process resolves the promise, tells of the restore, and the timer goes on. */
TEST_F(patched, a_restored_program_is_told)
{
	char *text = support_format("import { checkpoint, on, exit, args } from 'thaw';\n"
				    "%s"
				    "on('restore', (e) => console.log('restored', e.restores));\n"
				    "const first = await checkpoint();\n"
				    "console.log('first', first.restored ?? false);\n"
				    "setInterval(() => { if (args.length > 0) exit(5) }, 1);\n"
				    "for (let i = 0; i < 3; i++) await checkpoint();\n"
				    "console.log('waiting');\n",
				    patches);

	PATCHED(text);
	free(text);
	self->program = program_start(THAW("run", "-q", "--every", "10ms", self->script));
	EXPECT_TRUE(program_wait_for(&self->program, "waiting\n", 20));
	EXPECT_NE(NULL, strstr(self->program.output, "first false\n"));
	program_kill(&self->program);
	program_free(&self->program);
	EXPECT_EQ(5, program_run(&self->program, NULL, THAW("run", "-q", self->script, "end")));
	EXPECT_NE(NULL, strstr(self->program.output, "restored 1\n"));
}

/* A program's own patch of what reactions use, seen by nothing of ours (cf. node). */
TEST_F(patched, reactions_of_ours_are_not_seen)
{
	PATCHED("const then = Promise.prototype.then; let calls = 0, asked = 0;\n"
		"Promise.prototype.then = function (...a) { calls++; return then.apply(this, a); };\n"
		"Object.defineProperty(Promise.prototype, 'constructor', { get() { asked++; return Promise; }, configurable: true });\n"
		"Error.prepareStackTrace = () => { asked++; return ''; };\n"
		"console.log(new Map([[1, new Set([2])]]), new Date(0), /x/, new WeakMap(), [new DataView(new ArrayBuffer(1))].length);\n"
		"setTimeout(() => console.log('then calls', calls, 'constructor gets', asked), 10);\n");
	RUN(0,
	    "Map(1) { 1 => Set(1) { 2 } } 1970-01-01T00:00:00.000Z /x/ WeakMap { <items unknown> } 1\n"
	    "then calls 0 constructor gets 0\n",
	    "");
}

TEST_HARNESS_MAIN
