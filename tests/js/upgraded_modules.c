// SPDX-License-Identifier: GPL-2.0-only
/*
 * New code in an old heap: modules that changed are replaced, in import order, and hand over what they keep; those that did
 * not change keep what they have, and see what the new ones export.
 */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "kselftest_harness.h"

#include "by_path.h"
#include "support.h"
#include "thaw.h"

FIXTURE(upgraded)
{
	char *directory;
	struct program program;
};
FIXTURE_SETUP(upgraded)
{
	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
	support_own_key(self->directory);
}
FIXTURE_TEARDOWN(upgraded)
{
	program_free(&self->program);
	support_remove(self->directory);
}

/* Runs thaw to its end; its exit code. */
#define RUN(...)                                                      \
	({                                                            \
		program_free(&self->program);                         \
		program_run(&self->program, NULL, THAW(__VA_ARGS__)); \
	})
#define EXPECT_IN(text, said)                                                            \
	EXPECT_NE(NULL, strstr(said, text))                                              \
	{                                                                                \
		TH_LOG("%s:\n%s\n%s", text, self->program.output, self->program.errors); \
	}
#define EXPECT_SAID(text) EXPECT_IN(text, self->program.output)
/* What the program answers that stands still in the image. */
#define EXPECT_ANSWER(answer, question)                              \
	do {                                                         \
		EXPECT_EQ(0, RUN("-i", "app.thaw", "-p", question)); \
		EXPECT_STREQ(answer "\n", self->program.output)      \
		{                                                    \
			TH_LOG("%s", self->program.errors);          \
		}                                                    \
	} while (0)
/* Starts the program, and ends it once it has said this. */
#define RUN_UNTIL(text, ...)                                                                  \
	do {                                                                                  \
		program_free(&self->program);                                                 \
		self->program = program_start(THAW(__VA_ARGS__));                             \
		EXPECT_EQ(true, program_wait_for(&self->program, text, 60))                   \
		{                                                                             \
			TH_LOG("%s: %s%s", text, self->program.output, self->program.errors); \
		}                                                                             \
		kill(self->program.pid, SIGTERM);                                             \
		EXPECT_EQ(143, program_finish(&self->program, 60));                           \
	} while (0)
/* A timer that keeps it alive. */
#define LIVES "setTimeout(() => {}, 1e12)\n"

/* ---- Who stays sees what is new */

TEST_F(upgraded, the_middle_one_of_three_is_replaced)
{
	static const char before[] =
		"import { items } from './store.js'\n"
		"export const version = 1\n"
		"export function total() { let sum = 0; for (const n of items.values()) sum += n; return sum }\n";

	support_write("store.js",
		      "export const items = new Map([['a', 1]])\n"
		      "export let writes = 0\n"
		      "export function write(key, value) { items.set(key, value); writes++ }\n");
	support_write("rules.js", before);
	support_write("app.js",
		      "import * as all from './rules.js'\n"
		      "import { total, version } from './rules.js'\n"
		      "import { write } from './store.js'\n"
		      "globalThis.show = () => `${version} ${total()} ${all.version}`\n"
		      "globalThis.later = (async function* () { yield total(); yield total() })()\n"
		      "Object.assign(globalThis, { write, held: all, copied: total })\n"
		      "write('b', 2)\n"
		      "console.log(show(), (await later.next()).value)\n" LIVES);
	RUN_UNTIL("1 3 1 3\n", "run", "app.js");
	support_write(
		"rules.js",
		"import { items, writes } from './store.js'\n"
		"export const version = 2\n"
		"export function total() { return [...items.values()].join('+') + '/' + writes }\n");
	ASSERT_EQ(0, RUN("upgrade", "app.thaw"));
	EXPECT_SAID("is upgraded: rules.js changed");
	EXPECT_EQ(THAW_REASON_UPGRADE, path_newest("app.thaw").reason);
	/* Imports, namespaces, closures, variables; and a generator that was under way. */
	EXPECT_ANSWER("2 1+2/1 2", "show()");
	EXPECT_ANSWER("1+2/1", "(await later.next()).value");
	EXPECT_ANSWER("2 1+2+3/2 2", "write('c', 3); show()");
	/* What was copied out of an import is what it was, and sees the old module's imports. */
	EXPECT_ANSWER("1 6", "held.version + ' ' + copied()");
	/* A second time, and back. */
	support_write("rules.js", before);
	ASSERT_EQ(0, RUN("upgrade", "app.thaw"));
	EXPECT_ANSWER("1 6 1", "show()");
	ASSERT_EQ(0, RUN("upgrade", "app.thaw"));
	EXPECT_SAID("nothing has changed since generation");
	ASSERT_EQ(0, RUN("rollback", "app.thaw", "before-upgrade"));
	EXPECT_ANSWER("2 1+2+3/2 2", "show()");
}

TEST_F(upgraded, what_is_exported_again_is_new_too)
{
	support_write("lib.js", "export let value = 'old'; export const gone = 1\n");
	support_write("barrel.js", "export * from './lib.js'\nexport * as lib from './lib.js'\n"
				   "import { value } from './lib.js'\nexport { value as again }\n");
	support_write(
		"app.js",
		"import * as barrel from './barrel.js'\n"
		"import { value, again, lib } from './barrel.js'\n"
		"globalThis.show = () => [value, again, lib.value, barrel.value, barrel.again,\n"
		"	barrel.lib.value, ...Object.keys(barrel)].join(' ')\n"
		"console.log(show())\n" LIVES);
	RUN_UNTIL("old old old old old old again gone lib value\n", "run", "app.js");
	support_write("lib.js", "export let value = 'new'; export const fresh = 1\n"
				"import.meta.hot.accept()\n");
	ASSERT_EQ(0, RUN("upgrade", "app.thaw"));
	EXPECT_ANSWER("new new new new new new again fresh lib value", "show()");
}

TEST_F(upgraded, modules_that_import_each_other)
{
	support_write("a.js", "import { b } from './b.js'\nexport const a = () => 'a' + b(0)\n"
			      "export const name = () => 'old'\n");
	support_write("b.js", "import { name } from './a.js'\nexport const b = n => n + name()\n");
	support_write("app.js", "import { a } from './a.js'\nglobalThis.a = a\n"
				"globalThis.call = () => a()\nconsole.log(a())\n" LIVES);
	RUN_UNTIL("a0old\n", "run", "app.js");
	support_write("a.js", "import { b } from './b.js'\nexport const a = () => 'A' + b(1)\n"
			      "export const name = () => 'new'\n");
	ASSERT_EQ(0, RUN("upgrade", "app.thaw"));
	EXPECT_ANSWER("A1new a0new", "call() + ' ' + a()");
	/* The one that stayed is still imported as the same one. */
	EXPECT_ANSWER("true", "(await import('./a.js')).a() === call()");
	support_write("b.js", "import { name } from './a.js'\nexport const b = n => name() + n\n");
	ASSERT_EQ(0, RUN("upgrade", "app.thaw"));
	EXPECT_ANSWER("Anew1", "call()");
}

/* ---- Handing over */

TEST_F(upgraded, hooks_run_in_their_order)
{
	support_write("gone.js", "import.meta.hot.prune(data => console.log('pruned', data.x))\n"
				 "import.meta.hot.dispose(data => { data.x = 1 })\n");
	support_write(
		"lib.js",
		"import './gone.js'\n"
		"export const kept = { n: 1 }\nexport let live = 'one'\n"
		"import.meta.hot.dispose(async data => { data.kept = kept; await null; data.late = 1 })\n"
		"import.meta.hot.accept(mod => console.log('accepted', mod.live))\n");
	support_write("data.json", "{\"v\":1}");
	support_write("app.js",
		      "import { kept, live } from './lib.js'\nimport data from './data.json'\n"
		      "globalThis.show = () => [kept.n, live, data.v, import.meta.main].join(' ')\n"
		      "import.meta.hot.accept('./lib.js', m => console.log('told', m.live))\n"
		      "import.meta.hot.accept(['./data.json', './other.js', './lib.js'],\n"
		      "	([d, o, l]) => console.log('told', d.default.v, o, l.live))\n"
		      "console.log(show())\n" LIVES);
	RUN_UNTIL("1 one 1 true\n", "run", "app.js");
	support_write("other.js", "export default 1\n");
	support_write("added.js", "console.log('added')\n");
	support_write("data.json", "{\"v\":2}");
	support_write(
		"lib.js",
		"import './added.js'\n"
		"export const { kept, late } = import.meta.hot.data\nkept.n++\n"
		"export let live = 'two'\nconsole.log('evaluated', late)\n"
		"export async function upgrade(old) {\n"
		"	await null; console.log('taken over', old.live, old.kept === kept); live = 'three' }\n");
	ASSERT_EQ(0, RUN("upgrade", "--json", "app.thaw"));
	EXPECT_SAID("added\nevaluated 1\ntaken over one true\naccepted three\ntold three\n"
		    "told 2 undefined three\npruned 1\n{");
	EXPECT_SAID(
		"\"changed\":[\"lib.js\",\"data.json\"],\"added\":[\"added.js\"],\"removed\":[\"gone.js\"]");
	EXPECT_ANSWER("2 three 2 true", "show()");
	/* The old ones are gone, with all that only they had. */
	ASSERT_EQ(0, RUN("export", "app.thaw"));
	EXPECT_EQ(NULL, strstr(self->program.output, "replaced after"));
	EXPECT_EQ(NULL, strstr(self->program.output, "gone.js"));
	EXPECT_EQ(NULL, strstr(self->program.output, "thaw:upgrade"));
}

/* What no hook has prepared: all variables of the old module are there. */
TEST_F(upgraded, a_main_module_takes_its_own_variables_over)
{
	support_write("app.js", "let n = 1; const seen = new Map([[n, 'x']])\n"
				"setInterval(() => console.log('old tick'), 1)\n"
				"console.log('begun')\n");
	RUN_UNTIL("old tick", "run", "app.js");
	support_write(
		"app.js",
		"let n = 0, seen\nexport function upgrade(old) { n = old.n; seen = old.seen }\n"
		"setInterval(() => console.log('new tick', ++n, seen.get(1), import.meta.main), 1)\n");
	RUN_UNTIL("new tick 3 x true", "run", "--upgrade", "app.js");
	EXPECT_SAID("new tick 2 x true");
	EXPECT_EQ(NULL, strstr(self->program.output, "old tick"));
	RUN_UNTIL("new tick", "run", "app.js");
	EXPECT_EQ(NULL, strstr(self->program.output, "old tick"));
	EXPECT_EQ(NULL, strstr(self->program.errors, "changed since"));
}

/* ---- What ends, and what goes on */

TEST_F(upgraded, timers_and_listeners_of_the_old_module_end)
{
	support_write(
		"lib.js",
		"import { on } from 'thaw'\n"
		"on('restore', () => console.log('old listener'))\n"
		"setInterval(() => console.log('old interval'), 1)\n"
		"setImmediate(function again() { globalThis.before = 1; setTimeout(again, 1e7) })\n"
		"export const sleep = ms => new Promise(done => setTimeout(done, ms))\n");
	support_write("app.js", "import { on } from 'thaw'\nimport { sleep } from './lib.js'\n"
				"on('restore', () => console.log('my listener'))\n"
				"setInterval(() => console.log('my interval'), 1)\n"
				"sleep(2e3).then(() => console.log('woken by the old'))\n");
	RUN_UNTIL("my interval", "run", "app.js");
	support_write("lib.js", "import.meta.hot.accept(); export const sleep = 1\n"
				"console.log('new')\n");
	ASSERT_EQ(0, RUN("upgrade", "--dry-run", "app.thaw"));
	EXPECT_SAID("ends 3 timers; ends 1 listener");
	RUN_UNTIL("my interval", "run", "--upgrade", "app.js");
	EXPECT_SAID("my listener");
	EXPECT_EQ(NULL, strstr(self->program.output, "old"));
}

TEST_F(upgraded, a_call_that_is_under_way_ends_on_the_old_code)
{
	support_write("work.js", "import { step } from './step.js'\nlet mine = 'old variable'\n"
				 "export async function work(gate) {\n"
				 "	await gate; mine += '!'\n"
				 "	console.log('old code,', mine, step()) }\n");
	support_write("step.js", "export const step = () => 'old step'\n");
	support_write("app.js",
		      "import { work } from './work.js'\nlet open\n"
		      "work(new Promise(done => { open = done }))\n"
		      "setTimeout(() => { open(); work() }, 500)\nconsole.log('begun')\n");
	RUN_UNTIL("begun", "run", "app.js");
	support_write("step.js", "export const step = () => 'new step'\n");
	support_write("work.js",
		      "import { step } from './step.js'\n"
		      "export async function work() { console.log('new code,', step()) }\n"
		      "import.meta.hot.accept()\n");
	ASSERT_EQ(0, RUN("run", "--upgrade", "-q", "app.js"));
	EXPECT_STREQ("new code, new step\nold code, old variable! old step\n",
		     self->program.output);
}

TEST_F(upgraded, what_there_is_no_file_of_is_no_new_code)
{
	support_write("app.js", "globalThis.a = 1\n" LIVES "console.log('begun')\n");
	RUN_UNTIL("begun", "run", "app.js");
	support_write("app.js", "globalThis.a = 2\n" LIVES);
	EXPECT_EQ(66, RUN("upgrade", "app.thaw", "none.js"));
	EXPECT_IN("none.js", self->program.errors);
	EXPECT_EQ(66, RUN("upgrade", "app.thaw", "/tmp"));
	ASSERT_EQ(0, unlink("app.js"));
	EXPECT_EQ(66, RUN("upgrade", "app.thaw"));
	EXPECT_IN("app.js: No such file", self->program.errors);
	ASSERT_EQ(0, mkfifo("app.js", 0600));
	EXPECT_EQ(66, RUN("upgrade", "app.thaw"));
	EXPECT_IN("app.js: it is no file", self->program.errors);
	ASSERT_EQ(0, unlink("app.js"));
	EXPECT_ANSWER("1", "a");
}

/* A deterministic bug is in every generation: only new code gets on. */
TEST_F(upgraded, a_crash_loop_is_mended)
{
	/* There is a generation in which n is 3, however slow the disk is. */
	support_write("app.js", "import { checkpoint } from 'thaw'\nlet n = 0, waits = false\n"
				"setInterval(() => {\n"
				"	if (waits) return\n"
				"	if (++n === 5) throw new Error('bug')\n"
				"	console.log('n is', n)\n"
				"	waits = n === 3\n"
				"	if (waits) checkpoint().then(() => { waits = false })\n"
				"}, 1)\n");
	EXPECT_EQ(1, RUN("run", "app.js"));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(1, RUN("run", "app.js"));
	EXPECT_IN("thaw run --upgrade", self->program.errors);
	EXPECT_EQ(1, RUN("run", "app.js"));
	support_write("app.js", "let n = 0\nexport function upgrade(old) { n = old.n }\n"
				"setInterval(() => { n++; console.log('mended', n) }, 1)\n");
	RUN_UNTIL("mended 7\n", "run", "--upgrade", "app.js");
	EXPECT_EQ(NULL, strstr(self->program.output, "mended 1\n"));
	EXPECT_EQ(NULL, strstr(self->program.errors, "bug"));
}

/* Many small generations are in a log inside of the image; the newest of them is kept like any other. */
TEST_F(upgraded, the_generation_before_is_kept_wherever_it_was)
{
	support_write(
		"app.js",
		"let n = 0\nsetInterval(() => { if (++n % 100 === 0) console.log('n', n) }, 1)\n"
		"globalThis.show = () => 'old'\n");
	for (int i = 0; i < 2; i++) {
		program_free(&self->program);
		self->program = program_start(THAW("run", "--every", "2ms", "app.js"));
		EXPECT_TRUE(program_wait_for(&self->program, i ? "00\nn " : "n 200\n", 60));
		program_kill(&self->program);
	}
	support_write("app.js", "let n\nexport function upgrade(old) { n = old.n }\n"
				"globalThis.show = () => 'new ' + (n > 99)\n");
	ASSERT_EQ(0, RUN("upgrade", "app.thaw"));
	EXPECT_ANSWER("new true", "show()");
	ASSERT_EQ(0, RUN("rollback", "app.thaw", "before-upgrade"));
	EXPECT_ANSWER("old", "show()");
}

/* An endless main module, and a module that awaits a file. */
TEST_F(upgraded, top_level_awaits)
{
	support_write("lib.js", "export const text = 'old'\n");
	support_write(
		"app.js",
		"import { text } from './lib.js'\nlet n = 0\n"
		"for (;;) { await new Promise(r => setTimeout(r, 1)); console.log(text, ++n) }\n");
	RUN_UNTIL("old 2\n", "run", "app.js");
	support_write("file.txt", "from a file");
	support_write("lib.js", "import { readFile } from 'thaw'\n"
				"export const text = await readFile('file.txt', 'utf8')\n");
	support_write(
		"app.js",
		"import { text } from './lib.js'\nlet n = 0\n"
		"export function upgrade(old) { n = old.n }\n"
		"for (;;) { await new Promise(r => setTimeout(r, 1)); console.log('new', text, ++n) }\n");
	RUN_UNTIL("new from a file ", "run", "--upgrade", "app.js");
	EXPECT_EQ(NULL, strstr(self->program.output, "old"));
	EXPECT_EQ(NULL, strstr(self->program.output, "new from a file 1\n"));
	RUN_UNTIL("new from a file ", "run", "app.js");
}

/* A directory for each release, and a link that leads to the one in use. */
TEST_F(upgraded, releases_that_lie_in_directories_of_their_own)
{
	ASSERT_EQ(0, mkdir("first", 0755) | mkdir("second", 0755));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, chdir(i ? "../second" : "first"));
		support_write("state.js", "export const list = [1]\n");
		support_write("code.js", i ? "export default l => 'second ' + l.length\n"
					   : "export default l => 'first ' + l.length\n");
		support_write(
			"app.js",
			"import { list } from './state.js'\nimport code from './code.js'\n"
			"globalThis.show = () => code(list) + ' ' + import.meta.dirname.split('/').pop()\n"
			"globalThis.late = async () => (await import('./state.js')).list === list\n"
			"list.push(2); console.log(show())\n" LIVES);
	}
	ASSERT_EQ(0, chdir(".."));
	ASSERT_EQ(0, symlink("first", "current"));
	RUN_UNTIL("first 2 first\n", "run", "-i", "app.thaw", "current/app.js");
	ASSERT_EQ(0, unlink("current") | symlink("second", "current"));
	ASSERT_EQ(0, RUN("upgrade", "app.thaw", "current/app.js"));
	EXPECT_SAID("code.js changed");
	ASSERT_EQ(0, system("rm -r first"));
	EXPECT_ANSWER("second 2 second", "show()");
	EXPECT_ANSWER("true", "await late()");
	ASSERT_EQ(0, RUN("upgrade", "app.thaw", "current/app.js"));
	EXPECT_SAID("nothing has changed");
}

TEST_HARNESS_MAIN
