// SPDX-License-Identifier: GPL-2.0-only
/*
 * command_diff.c - thaw diff: every difference between two generations is told once, under its path, and
 * nothing else is.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(diff)
{
	char *directory, *script, *image;
	struct program program, running;
};
FIXTURE_SETUP(diff)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
}
FIXTURE_TEARDOWN(diff)
{
	program_free(&self->program);
	program_free(&self->running);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

/* Generation 1 before `change`, 2 after it. */
static bool run(struct program *program, const char *script, const char *before, const char *change)
{
	char *code = support_format(
		"import { checkpoint } from 'thaw';\n%s\nawait checkpoint();\n%s\n"
		"await checkpoint(); console.log('ready'); setInterval(() => {}, 1e6);\n",
		before, change);

	support_write(script, code);
	free(code);
	*program = program_start(THAW("run", "--quiet", "--every", "0", script));
	if (!program_wait_for(program, "ready", 30))
		return false;
	kill(program->pid, SIGKILL);
	return program_finish(program, 30) == 137;
}

#define DIFF(...)                                                             \
	({                                                                    \
		program_free(&self->program);                                 \
		program_run(&self->program, NULL, THAW("diff", __VA_ARGS__)); \
	})

/* Behind the first line, which tells of pages. */
static const char *told(const char *output)
{
	unsigned from, to, pages;
	const char *end = strchr(output, '\n');

	if (!end ||
	    sscanf(output, "generation %u -> %u: %u pages differ (", &from, &to, &pages) != 3)
		return output;
	return end + 1;
}

#define EXPECT_TOLD(wanted)                                      \
	do {                                                     \
		ASSERT_EQ(0, DIFF(self->image, "1", "2"));       \
		EXPECT_STREQ(wanted, told(self->program.output)) \
		{                                                \
			TH_LOG("%s", self->program.output);      \
		}                                                \
		EXPECT_STREQ("", self->program.errors);          \
	} while (0)

TEST_F(diff, what_did_not_change_is_not_told)
{
	static const char before[] =
		"globalThis.all = { n: 1, s: 'text'.repeat(100), m: new Map([['a', [1]]]), d: new Date(0), f() {}, r: /x/g,\n"
		"  b: 2n ** 80n, u: new Uint8Array(100), p: Promise.resolve(1), nan: NaN, self: null };\n"
		"all.self = all; let joined = ''; for (let i = 0; i < 2000; i++) joined += 'ab' + i; all.rope = joined;\n";

	ASSERT_TRUE(run(&self->running, self->script, before, "all.n = 2; all.n = 1;"));
	EXPECT_TOLD("0 appeared, 0 vanished, 0 changed\n");
}

TEST_F(diff, properties_and_variables)
{
	static const char before[] =
		"let count = 1; let word = 'one'; const state = { gone: 'x', kept: { deep: [1, 2, 3] } };\n"
		"globalThis.settings = { a: 1, b: true };";
	static const char change[] =
		"count = 2; word = 'two'; delete state.gone; state.fresh = null;\n"
		"state.kept.deep[1] = 'changed'; settings.b = { now: 'object' };\n"
		"globalThis.added = [1]; delete settings.a;";

	ASSERT_TRUE(run(&self->running, self->script, before, change));
	EXPECT_TOLD("~ app.js.count: 1 -> 2\n"
		    "~ app.js.word: \"one\" (72 B) -> \"two\" (72 B)\n"
		    "+ globalThis.added: Array(1) (80 B)\n"
		    "+ app.js.state.fresh: null\n"
		    "- app.js.state.gone: \"x\" (72 B)\n"
		    "~ app.js.state.kept.deep[1]: 2 -> \"changed\" (72 B)\n"
		    "~ globalThis.settings.b: true -> Object {1} (72 B)\n"
		    "- globalThis.settings.a: 1\n"
		    "2 appeared, 2 vanished, 4 changed\n");
}

TEST_F(diff, collections_arrays_and_classes)
{
	static const char before[] =
		"const map = new Map([['a', 1], [5, { n: 1 }], ['gone', 0]]); const set = new Set([1, 2]);\n"
		"const list = [1, 2]; const long = [1, 2, 3, 4, 5, 6]; const bytes = new Uint8Array(8);\n"
		"const date = new Date(0); let error = new Error('old'); let kind = [1]; const w = new WeakMap([[list, 1]]);";
	static const char change[] =
		"map.set('a', 2); map.get(5).n = 2; map.delete('gone'); map.set('new', true); set.add(3); set.delete(1);\n"
		"list.push(3); long.length = 2; bytes[3] = 7; date.setTime(1000); error.message = 'new'; kind = new Set([1]); w.set(list, 2);";

	ASSERT_TRUE(run(&self->running, self->script, before, change));
	EXPECT_TOLD(
		"~ app.js.date: Date 1970-01-01T00:00:00.000Z (72 B) -> Date 1970-01-01T00:00:01.000Z (72 B)\n"
		"~ app.js.error: Error: \"old\" (72 B) -> Error: \"new\" (72 B)\n"
		"~ app.js.kind: Array(1) (80 B) -> Set(1) (184 B)\n"
		"~ app.js.map.get(\"a\"): 1 -> 2\n"
		"+ app.js.map.get(\"new\"): true\n"
		"- app.js.map.get(\"gone\"): 0\n"
		"~ app.js.map.get(5).n: 1 -> 2\n"
		"+ app.js.set.has(3): 3\n"
		"- app.js.set.has(1): 1\n"
		"+ app.js.list[2]: 3\n"
		"- app.js.long[2..5]: 4 elements\n"
		"~ app.js.bytes.buffer: ArrayBuffer(8 bytes) (128 B) -> ArrayBuffer(8 bytes) (128 B)\n"
		"~ app.js.w.get(Array(3)): 1 -> 2\n"
		"3 appeared, 3 vanished, 7 changed\n");
}

TEST_F(diff, cycles_and_shared_objects_are_told_once)
{
	static const char before[] =
		"globalThis.a = { n: 1 }; a.self = a; globalThis.b = { a, list: [a, a] };\n"
		"const ring = [{}, {}]; ring[0].next = ring[1]; ring[1].next = ring[0]; ring[1].v = 1;";

	ASSERT_TRUE(run(&self->running, self->script, before, "a.n = 2; ring[1].v = 2;"));
	EXPECT_TOLD("~ app.js.ring[1].v: 1 -> 2\n"
		    "~ globalThis.a.n: 1 -> 2\n"
		    "0 appeared, 0 vanished, 2 changed\n");
}

/* What functions keep for themselves, too; a variable that two of them share is told once. */
TEST_F(diff, variables_of_functions)
{
	static const char before[] =
		"function make() { let hidden = 1; return { up: () => ++hidden, see: () => hidden }; }\n"
		"globalThis.counter = make(); function* g() { let i = 0; while (true) yield i++; } const it = g(); it.next();";

	ASSERT_TRUE(run(&self->running, self->script, before, "counter.up(); it.next();"));
	EXPECT_TOLD("~ app.js.it.(variables).i: 1 -> 2\n"
		    "~ globalThis.counter.up.(variables).hidden: 1 -> 2\n"
		    "0 appeared, 0 vanished, 2 changed\n");
}

TEST_F(diff, no_getter_and_no_trap_runs)
{
	static const char before[] =
		"let ran = 0; globalThis.o = { get x() { ran++; return ran; }, v: 1 };\n"
		"globalThis.p = new Proxy({ t: 1 }, { get() { ran++; }, ownKeys() { ran++; return []; } }); const target = { q: 1 };\n"
		"globalThis.p2 = new Proxy(target, { get() { ran++; } });";

	ASSERT_TRUE(run(&self->running, self->script, before, "o.v = 2; target.q = 2;"));
	EXPECT_TOLD("~ app.js.target.q: 1 -> 2\n"
		    "~ globalThis.o.v: 1 -> 2\n"
		    "0 appeared, 0 vanished, 2 changed\n");
}

TEST_F(diff, limits_are_kept_and_said)
{
	static const char before[] = "globalThis.o = {}; globalThis.d = { a: { b: { c: 1 } } };";
	static const char change[] = "for (let i = 0; i < 50; i++) o['k' + i] = i; d.a.b.c = 2;";

	ASSERT_TRUE(run(&self->running, self->script, before, change));
	ASSERT_EQ(0, DIFF("--limit", "3", self->image, "1", "2"));
	EXPECT_STREQ("+ globalThis.o.k0: 0\n"
		     "+ globalThis.o.k1: 1\n"
		     "+ globalThis.o.k2: 2\n"
		     "... and 48 more (see --limit)\n"
		     "50 appeared, 0 vanished, 1 changed\n",
		     told(self->program.output));
	ASSERT_EQ(0, DIFF("--depth", "2", self->image, "1", "2"));
	EXPECT_NE(
		NULL,
		strstr(self->program.output,
		       "50 appeared, 0 vanished, 0 changed; deeper than --depth nothing was compared\n"));
}

TEST_F(diff, json_for_programs)
{
	ASSERT_TRUE(run(&self->running, self->script, "globalThis.n = 1; globalThis.l = [];",
			"n = 'x\"'; l.push(1, 2);"));
	ASSERT_EQ(0, DIFF("--json", self->image, "1", "2"));
	EXPECT_NE(
		NULL,
		strstr(self->program.output,
		       "\"lost\":0},\"differences\":[{\"change\":\"changed\",\"path\":\"globalThis.n\","
		       "\"old\":{\"type\":\"number\",\"value\":\"1\",\"bytes\":0},"
		       "\"new\":{\"type\":\"string\",\"value\":\"\\\"x\\\\\\\"\\\"\",\"bytes\":72}},"
		       "{\"change\":\"appeared\",\"path\":\"globalThis.l[0..1]\",\"elements\":2}],"
		       "\"appeared\":1,\"vanished\":0,\"changed\":1,\"notShown\":0,\"deeperNotCompared\":false}\n"))
	{
		TH_LOG("%s", self->program.output);
	}
}

TEST_F(diff, which_generations)
{
	ASSERT_TRUE(run(&self->running, self->script, "globalThis.n = 1;", "n = 2;"));
	/* The two newest; one and the newest; backwards; the same. */
	ASSERT_EQ(0, DIFF(self->image));
	EXPECT_EQ(0, strncmp(self->program.output, "generation 1 -> 2: ", 19));
	EXPECT_NE(NULL, strstr(self->program.output, "~ globalThis.n: 1 -> 2\n"));
	ASSERT_EQ(0, DIFF(self->image, "1"));
	EXPECT_NE(NULL, strstr(self->program.output, "~ globalThis.n: 1 -> 2\n"));
	ASSERT_EQ(0, DIFF(self->image, "2", "1"));
	EXPECT_NE(NULL, strstr(self->program.output, "~ globalThis.n: 2 -> 1\n"));
	ASSERT_EQ(0, DIFF(self->image, "2", "2"));
	EXPECT_NE(NULL, strstr(self->program.output, "2 -> 2: 0 pages differ"));
	EXPECT_NE(NULL, strstr(self->program.output, "0 appeared, 0 vanished, 0 changed\n"));

	EXPECT_EQ(66, DIFF(self->image, "1", "99"));
	EXPECT_EQ(66, DIFF(self->image, "x"));
	EXPECT_NE(NULL, strstr(self->program.errors, "'x'"));
	EXPECT_EQ(66, DIFF("/nonexistent.thaw"));
	EXPECT_EQ(9, DIFF(self->image, "1", "2", "3"));
}

TEST_F(diff, pages_alone)
{
	ASSERT_TRUE(run(&self->running, self->script, "globalThis.n = 1;", "n = 'two';"));
	ASSERT_EQ(0, DIFF("--pages", self->image));
	EXPECT_NE(NULL, strstr(self->program.output, "~ page"));
	EXPECT_NE(NULL, strstr(self->program.output, "\npages: "));
	EXPECT_EQ(NULL, strstr(self->program.output, "globalThis"));
	ASSERT_EQ(0, DIFF("--pages", "--json", self->image, "1", "2"));
	EXPECT_NE(NULL, strstr(self->program.output,
			       "\"from\":1,\"to\":2,\"pageBytes\":4096,\"runs\":[{"));
}

TEST_F(diff, modules_that_are_loaded_later)
{
	char *other = support_format("%s/other.js", self->directory);

	support_write(other, "export let value = 1;");
	ASSERT_TRUE(run(&self->running, self->script, "let got;",
			"got = (await import('./other.js')).value;"));
	ASSERT_EQ(0, DIFF(self->image, "1", "2"));
	EXPECT_NE(NULL, strstr(self->program.output, "~ app.js.got: undefined -> 1\n"));
	EXPECT_NE(NULL, strstr(self->program.output, "+ other.js: module"))
	{
		TH_LOG("%s", self->program.output);
	}
	free(other);
}

TEST_HARNESS_MAIN
