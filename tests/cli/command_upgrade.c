// SPDX-License-Identifier: GPL-2.0-only
/*
 * thaw upgrade and thaw run --upgrade: what goes wrong has not happened, byte for byte, and the exit code says so; what is
 * refused is named; what would change can be asked before.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "by_path.h"
#include "support.h"
#include "thaw.h"

FIXTURE(upgrade)
{
	char *directory;
	struct program program;
};

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
#define EXPECT_COMPLAINT(text) EXPECT_IN(text, self->program.errors)

static const char before[] = "let n = 1\nglobalThis.show = () => 'old ' + n++\n"
			     "setTimeout(() => {}, 1e12)\nconsole.log('begun')\n";
#define TAKES_OVER                                          \
	"let n = 0\nglobalThis.show = () => 'new ' + n++\n" \
	"export function upgrade(old) { n = old.n }\n"

FIXTURE_SETUP(upgrade)
{
	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
	support_own_key(self->directory);
	support_write("app.js", before);
	self->program = program_start(THAW("run", "app.js"));
	ASSERT_TRUE(program_wait_for(&self->program, "begun", 60));
	kill(self->program.pid, SIGTERM);
	ASSERT_EQ(143, program_finish(&self->program, 60));
	ASSERT_EQ(0, system("cp app.thaw before.thaw"));
}
FIXTURE_TEARDOWN(upgrade)
{
	program_free(&self->program);
	support_remove(self->directory);
}

static bool is_as_before(void)
{
	return !system("cmp -s app.thaw before.thaw");
}

#define EXPECT_ANSWER(answer)                                        \
	do {                                                         \
		EXPECT_EQ(0, RUN("-i", "app.thaw", "-p", "show()")); \
		EXPECT_STREQ(answer "\n", self->program.output)      \
		{                                                    \
			TH_LOG("%s", self->program.errors);          \
		}                                                    \
	} while (0)

/* Who asks for a check has it, whatever there is to check. */
TEST_F(upgrade, a_program_that_has_not_changed_is_checked)
{
	support_write("good.js", "if (show() !== 'old 1') throw new Error('another')\n");
	support_write("bad.js", "throw new Error('as it should')\n");
	EXPECT_EQ(78, RUN("upgrade", "--check", "bad.js", "app.thaw"));
	EXPECT_COMPLAINT("the check bad.js: Error: as it should");
	EXPECT_TRUE(is_as_before());
	EXPECT_EQ(0, RUN("upgrade", "--check", "good.js", "app.thaw"));
	EXPECT_SAID("nothing has changed since generation 1, and good.js throws nothing in it\n");
	EXPECT_TRUE(is_as_before());
	EXPECT_EQ(0, RUN("upgrade", "--dry-run", "--check", "bad.js", "app.thaw"));
	EXPECT_ANSWER("old 1");
}

/* Whatever fails, the old generation is what goes on. */
TEST_F(upgrade, what_fails_has_not_happened)
{
	static const struct {
		const char *code, *why;
	} cases[] = {
		{"let x = (", "SyntaxError"},
		{"import './nowhere.js'; export function upgrade() {}", "nowhere.js"},
		{"import { x } from './app.js'; export function upgrade() {}",
		 "Could not find export"},
		{TAKES_OVER "throw new Error('at evaluation')", "Error: at evaluation"},
		{"export function upgrade() { throw new TypeError('in it') }",
		 "upgrade(): TypeError: in it"},
		{"export async function upgrade() { await null; throw 7 }", "upgrade(): 7"},
		{TAKES_OVER "Promise.reject(new Error('nobody'))", "nobody caught"},
		{TAKES_OVER "import { exit } from 'thaw'; exit(3)", "exit() was called"},
		{TAKES_OVER "import.meta.hot.invalidate('not like this')", "not like this"},
		{TAKES_OVER "import.meta.hot.accept(); for (;;);", "--time-limit"},
		{"import { checkpoint } from 'thaw'; export async function upgrade() { await checkpoint() }",
		 "awaits what does not come"},
		{"import { readFile } from 'thaw'; export async function upgrade() { await readFile('fifo') }",
		 "--time-limit"},
		{"let n = 5", "has state (n"},
	};

	ASSERT_EQ(0, mkfifo("fifo", 0600));
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool waits = strstr(cases[i].why, "--time-limit");

		support_write("app.js", cases[i].code);
		EXPECT_EQ(78, i % 2 ? RUN("upgrade", "--time-limit", waits ? "300ms" : "60s",
					  "app.thaw")
				    : RUN("run", "--upgrade", "--time-limit",
					  waits ? "300ms" : "60s", "app.js"));
		EXPECT_COMPLAINT(cases[i].why);
		EXPECT_COMPLAINT("the program is as it was in generation");
		EXPECT_TRUE(is_as_before());
	}
	support_write("app.js", before);
	EXPECT_ANSWER("old 1");
}

TEST_F(upgrade, a_check_looks_at_it_first)
{
	support_write("app.js", TAKES_OVER);
	support_write("check.js", "import { upgrade } from './app.js'\n"
				  "console.log('checking', show(), typeof upgrade)\n"
				  "setInterval(() => console.log('never'), 1)\n"
				  "if (show() !== 'new 3') throw new Error('not 3')\n");
	EXPECT_EQ(78, RUN("upgrade", "--check", "check.js", "app.thaw"));
	EXPECT_SAID("checking new 1 function");
	EXPECT_COMPLAINT("the check check.js: Error: not 3");
	EXPECT_TRUE(is_as_before());
	EXPECT_EQ(78, RUN("upgrade", "--check", "nowhere.js", "app.thaw"));
	EXPECT_COMPLAINT("nowhere.js");
	EXPECT_TRUE(is_as_before());
	support_write("check.js", "if (show() !== 'new 1') throw new Error('not 1')\n");
	EXPECT_EQ(0, RUN("upgrade", "--check", "check.js", "app.thaw"));
	EXPECT_ANSWER("new 2");
	ASSERT_EQ(0, RUN("export", "app.thaw"));
	EXPECT_EQ(NULL, strstr(self->program.output, "check.js"));
}

TEST_F(upgrade, a_dry_run_only_tells)
{
	support_write("app.js", "import './added.js'\nconsole.log('runs')\n");
	support_write("added.js", "console.log('runs')\n");
	EXPECT_EQ(78, RUN("upgrade", "--dry-run", "app.thaw"));
	EXPECT_SAID("changed  app.js");
	EXPECT_SAID("hooks: none; state: n; ends 1 timer");
	EXPECT_SAID("added    added.js");
	EXPECT_EQ(NULL, strstr(self->program.output, "runs"));
	EXPECT_COMPLAINT("export function upgrade(old)");
	EXPECT_EQ(0, RUN("upgrade", "-n", "--force", "--json", "app.thaw"));
	EXPECT_SAID(
		"{\"name\":\"app.js\",\"change\":\"changed\",\"state\":\"n\",\"timers\":1,\"listeners\":0}");
	EXPECT_EQ(NULL, strstr(self->program.output, "runs"));
	EXPECT_TRUE(is_as_before());
	EXPECT_EQ(0, RUN("upgrade", "--force", "app.thaw"));
	EXPECT_SAID("runs\nruns\n");
}

TEST_F(upgrade, the_log_shows_it_and_a_rollback_undoes_it)
{
	uint64_t old = path_newest("app.thaw").number;

	support_write("app.js",
		      TAKES_OVER "console.log(import.meta.main)\nsetTimeout(() => {}, 1e12)\n");
	EXPECT_EQ(0, RUN("upgrade", "app.thaw"));
	EXPECT_SAID("true\ngeneration");
	EXPECT_EQ(old + 1, path_newest("app.thaw").number);
	EXPECT_STREQ("upgrade", thaw_reason_name(path_newest("app.thaw").reason));
	EXPECT_EQ(0, RUN("log", "app.thaw"));
	EXPECT_SAID("upgrade");
	EXPECT_SAID("before-upgrade");
	EXPECT_ANSWER("new 1");
	/* However long the new one has run. */
	for (int i = 0; i < 12; i++)
		EXPECT_EQ(0, RUN("-i", "app.thaw", "-p", "show()"));
	EXPECT_EQ(0, RUN("rollback", "app.thaw", "before-upgrade"));
	EXPECT_ANSWER("old 1");
	EXPECT_EQ(0, RUN("upgrade", "app.thaw"));
	EXPECT_ANSWER("new 2");
	EXPECT_EQ(0, RUN("verify", "app.thaw"));
}

/* What an upgrade says is not seen before it is durable, and not at all if it is none. */
TEST_F(upgrade, output_that_waits_for_its_cause)
{
	support_write("app.js", TAKES_OVER "console.log('said'); throw 1");
	EXPECT_EQ(78, RUN("upgrade", "--commit", "output", "app.thaw"));
	EXPECT_STREQ("", self->program.output);
	EXPECT_TRUE(is_as_before());
	support_write("app.js", TAKES_OVER "console.log('said')");
	EXPECT_EQ(0, RUN("upgrade", "--commit", "output", "app.thaw"));
	EXPECT_SAID("said\n");
	EXPECT_EQ(0, RUN("log", "app.thaw"));
	EXPECT_SAID("upgrade  between turns");
}

/* Without it, a changed script is what it always was; where there is no image, one is begun. */
TEST_F(upgrade, is_asked_for)
{
	support_write("app.js", TAKES_OVER "setTimeout(() => console.log('ran'), 1)\n");
	self->program.pid = 0;
	program_free(&self->program);
	self->program = program_start(THAW("run", "app.js"));
	ASSERT_TRUE(
		program_wait_for_complaint(&self->program, "app.js changed since generation", 60));
	EXPECT_COMPLAINT("thaw run --upgrade");
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	EXPECT_EQ(0, RUN("run", "--upgrade", "app.js"));
	EXPECT_SAID("ran");
	EXPECT_COMPLAINT("is upgraded: app.js changed");
	EXPECT_EQ(0, RUN("run", "--upgrade", "-i", "new.thaw", "app.js"));
	EXPECT_SAID("ran");
	EXPECT_STREQ("", self->program.errors);
}

TEST_F(upgrade, what_is_no_program_of_ours_is_named)
{
	struct program user;

	/* In use. */
	user = program_start(THAW("run", "-q", "app.js"));
	for (double end = support_deadline(60); RUN("upgrade", "app.thaw") != 75;)
		ASSERT_GT(end, support_seconds());
	EXPECT_COMPLAINT("stop it first");
	kill(user.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&user, 60));
	program_free(&user);
	/* Another program; none; a shell's session. */
	support_write("other.js", "1");
	EXPECT_EQ(76, RUN("upgrade", "app.thaw", "other.js"));
	EXPECT_EQ(66, RUN("upgrade", "nowhere.thaw"));
	support_write("lib.js", "export const n = 1\n");
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, "lib = await import('./lib.js'); lib.n\n",
				 THAW("repl", "shell.thaw")));
	EXPECT_EQ(76, RUN("upgrade", "shell.thaw", "app.js"));
	EXPECT_COMPLAINT("a shell's session");
	support_write("lib.js", "export const n = 2\n");
	EXPECT_EQ(0, RUN("upgrade", "shell.thaw"));
	EXPECT_SAID("lib.js changed");
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, "lib.n + (await import('./lib.js')).n\n",
				 THAW("repl", "shell.thaw")));
	EXPECT_SAID("3\n");
	/* A process; and one that has called exit(). */
	EXPECT_EQ(9, RUN("exec", "--upgrade", "node", "app.js"));
	EXPECT_COMPLAINT("thaw help exec");
	support_write("app.js", "import { exit } from 'thaw'; exit(4)\n");
	EXPECT_EQ(4, RUN("run", "--fresh", "app.js"));
	support_write("app.js", TAKES_OVER);
	EXPECT_EQ(78, RUN("upgrade", "app.thaw"));
	EXPECT_COMPLAINT("called exit(4)");
}

/* A turn that was stopped in its middle goes on to its end first. */
TEST_F(upgrade, a_turn_under_way_ends_first)
{
	static const char loop[] = "let n = 0, stop = 0\n"
				   "while (n < 30e6) n++\n"
				   "console.log('counted', n)\nsetTimeout(() => {}, 1e12)\n";
	struct thaw_generation last;

	support_write("app.js", loop);
	program_free(&self->program);
	self->program = program_start(THAW("run", "--fresh", "--every", "20ms", "app.js"));
	for (double end = support_deadline(60);
	     (last = path_newest("app.thaw")).kind != THAW_KIND_BOUND;)
		ASSERT_GT(end, support_seconds());
	program_kill(&self->program);
	if (path_newest("app.thaw").kind != THAW_KIND_BOUND)
		SKIP(return, "it was too fast");
	support_write(
		"app.js",
		"let n = 0\nexport function upgrade(old) { console.log('took', n = old.n) }\n");
	EXPECT_EQ(78, RUN("upgrade", "--time-limit", "1ms", "app.thaw"));
	EXPECT_COMPLAINT("in the middle of a turn");
	EXPECT_EQ(0, RUN("upgrade", "--time-limit", "1min", "app.thaw"));
	EXPECT_SAID("took 30000000");
}

/* It is there whole, or not at all. */
TEST_F(upgrade, kills_in_its_middle)
{
	unsigned old = 0, new = 0;

	for (int i = 0; i < 24; i++) {
		ASSERT_EQ(0, system("cp before.thaw app.thaw"));
		support_write("app.js",
			      TAKES_OVER "console.log('half')\nglobalThis.half = true\n"
					 "for (let i = 0; i < 3e4; i++) globalThis['x' + i] = [i]\n"
					 "globalThis.whole = true\n");
		program_free(&self->program);
		self->program = program_start(THAW("upgrade", "app.thaw"));
		/* Before anything has run, perhaps; while it runs and is stored; and when it says that it is there. */
		if (i % 3)
			program_wait_for(&self->program, i % 3 == 1 ? "half" : "generation", 60);
		program_wait_for(&self->program, NULL, i % 3 == 2 ? 0 : (double)(i / 3) * 0.006);
		program_kill(&self->program);
		ASSERT_EQ(0, RUN("-i", "app.thaw", "-p",
				 "show() + ' ' + (typeof half) + ' ' + (typeof whole)"));
		old += !strcmp(self->program.output, "old 1 undefined undefined\n");
		new += !strcmp(self->program.output, "new 1 boolean boolean\n");
		ASSERT_EQ(i + 1, old + new)
		{
			TH_LOG("%s%s", self->program.output, self->program.errors);
		}
	}
	TH_LOG("%u old, %u new", old, new);
	EXPECT_LT(0, old);
	EXPECT_LE(8, new);
}

TEST_HARNESS_MAIN
