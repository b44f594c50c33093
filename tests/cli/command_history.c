// SPDX-License-Identifier: GPL-2.0-only
/*
 * command_history.c - naming generations, going back to them, and keeping them, from the command line
 * and from JavaScript: what is said, what is refused, and that a program goes on from what was named.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

/* Each line is a generation; the last of them is where it stands. */
static const char counter_text[] =
	"import { checkpoint, on, args } from 'thaw'\n"
	"globalThis.n = 0\n"
	"on('restore', e => {})\n"
	"for (;;) {\n"
	"	n++\n"
	"	const r = await checkpoint(n === 2 ? { name: 'two' } : undefined)\n"
	"	console.log('n', n, 'in', r.generation, r.name ?? '-')\n"
	"	if (n % 3 === 0) await new Promise(resolve => setTimeout(resolve, 3600e3))\n"
	"}\n";

FIXTURE(history)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(history)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	support_write(self->script, counter_text);
}
FIXTURE_TEARDOWN(history)
{
	if (self->program.output && self->program.pid > 0)
		kill(self->program.pid, SIGKILL);
	program_free(&self->program);
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

#define RUN(code, ...)                                                                \
	do {                                                                          \
		program_free(&self->program);                                         \
		ASSERT_EQ(code, program_run(&self->program, NULL, THAW(__VA_ARGS__))) \
		TH_LOG("%s%s", self->program.output, self->program.errors);           \
		self->program.pid = 0;                                                \
	} while (0)
#define SAYS(text) \
	EXPECT_NE(NULL, strstr(self->program.output, text)) TH_LOG("%s", self->program.output)
#define SAYS_NOT(text) \
	EXPECT_EQ(NULL, strstr(self->program.output, text)) TH_LOG("%s", self->program.output)
/* Refused, with one line that has these words. */
#define REFUSED(code, words, ...)                                               \
	do {                                                                    \
		RUN(code, __VA_ARGS__);                                         \
		EXPECT_NE(NULL, strstr(self->program.errors, words))            \
		TH_LOG("%s", self->program.errors);                             \
		EXPECT_EQ(0, strncmp(self->program.errors, "thaw: ", 6));       \
		EXPECT_EQ(strchr(self->program.errors, '\n') + 1,               \
			  self->program.errors + strlen(self->program.errors)); \
		EXPECT_STREQ("", self->program.output);                         \
	} while (0)

/* Generations 1, 2 (named two) and 3, and a fourth at the end. */
#define COUNT_TO_THREE()                                                                  \
	do {                                                                              \
		program_free(&self->program);                                             \
		self->program = program_start(THAW("run", "--every", "0", self->script)); \
		ASSERT_TRUE(program_wait_for(&self->program, "n 3 ", 30))                 \
		TH_LOG("%s", self->program.errors);                                       \
		kill(self->program.pid, SIGTERM);                                         \
		ASSERT_EQ(143, program_finish(&self->program, 30));                       \
		self->program.pid = 0;                                                    \
	} while (0)

/* Run on until it has printed `text`, kill it. */
static bool continues_with(struct program *program, const char *text, const char *const arguments[])
{
	bool said;

	program_free(program);
	*program = program_start(arguments);
	said = program_wait_for(program, text, 30);
	program_kill(program);
	program->pid = 0;
	return said;
}

/* When each was taken, in the form that is asked for. */
TEST_F(history, times_are_told_as_asked)
{
	setenv("TZ", "UTC", 1);
	COUNT_TO_THREE();
	RUN(0, "log", self->image);
	SAYS("  age  ");
	SAYS_NOT("  time  ");
	RUN(0, "log", "--time", "absolute", self->image);
	SAYS("  time  ");
	SAYS_NOT("  age  ");
	SAYS(" 20");
	SAYS_NOT("+00:00");
	RUN(0, "log", "--time=iso", self->image);
	SAYS("+00:00  ");
	REFUSED(9, "--time is relative, absolute or iso, not 'utc'", "log", "--time", "utc",
		self->image);
}

TEST_F(history, names_are_given_and_listed)
{
	COUNT_TO_THREE();
	SAYS("n 2 in 2 two\n");
	RUN(0, "tag", self->image);
	SAYS("generation");
	SAYS("  two\n");
	RUN(0, "tag", self->image, "newest");
	EXPECT_STREQ("generation 4 is named newest: it stays until the name is taken away\n",
		     self->program.output);
	RUN(0, "tag", self->image, "release/1.0", "two", "--json");
	EXPECT_STREQ("{\"name\":\"release/1.0\",\"generation\":2}\n", self->program.output);
	RUN(0, "tag", "--json", self->image);
	EXPECT_STREQ(
		"[{\"name\":\"release/1.0\",\"generation\":2},{\"name\":\"two\",\"generation\":2},"
		"{\"name\":\"newest\",\"generation\":4}]\n",
		self->program.output);
	REFUSED(9, "generation 4 is named 'newest' already: move the name with --force", "tag",
		self->image, "newest", "3");
	RUN(0, "tag", self->image, "-f", "newest", "3");
	EXPECT_STREQ("generation 3 is named newest: it stays until the name is taken away\n",
		     self->program.output);
	RUN(0, "tag", self->image, "-d", "release/1.0");
	EXPECT_STREQ("release/1.0 no longer names generation 2\n", self->program.output);
	RUN(0, "tag", "-d", "newest", "--json", self->image);
	EXPECT_STREQ("{\"deleted\":\"newest\",\"generation\":3}\n", self->program.output);
	RUN(0, "tag", self->image, "--delete=two");
	RUN(0, "tag", self->image);
	EXPECT_STREQ("no names yet\n", self->program.output);
	RUN(0, "tag", self->image, "--json");
	EXPECT_STREQ("[]\n", self->program.output);

	REFUSED(9, "'a b' cannot name a generation: use 1 to 63", "tag", self->image, "a b");
	REFUSED(9, "'41' cannot name a generation", "tag", self->image, "41");
	REFUSED(9, "unknown option -x", "tag", self->image, "-x");
	REFUSED(9, "take a name away or give one", "tag", self->image, "-d", "two", "three");
	REFUSED(9, "one argument too many", "tag", self->image, "a", "2", "3");
	REFUSED(66, "numbered or named 'old'", "tag", self->image, "a", "old");
	REFUSED(66, "numbered or named '41'", "tag", self->image, "a", "41");
	REFUSED(66, "numbered or named 'two'", "tag", self->image, "-d", "two");
	REFUSED(66, "no generation is named '3'", "tag", self->image, "-d", "3");
	REFUSED(66, "missing.thaw", "tag", "/nonexistent/missing.thaw", "a");
	REFUSED(76, "not a Thaw image", "tag", self->script, "a");
	RUN(0, "tag", self->image);
	EXPECT_STREQ("no names yet\n", self->program.output);
}

TEST_F(history, programs_go_on_from_a_name)
{
	COUNT_TO_THREE();
	/* n was 2 when that generation was taken, in the middle of its await. */
	EXPECT_TRUE(continues_with(&self->program, "n 3 in ",
				   THAW("run", "--every", "0", "--at", "two", self->script)));
	SAYS("n 2 in 2 two\n");
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, "'at ' + n\n",
				 THAW("repl", "--at", "two", self->image)));
	SAYS("n 2 in 2 two\n");
	SAYS("at 3");
	unlink(self->image);
	RUN(0, "-i", self->image, "-e", "a = 1");
	RUN(0, "tag", self->image, "one");
	RUN(0, "-i", self->image, "-e", "a = 2");
	RUN(0, "-i", self->image, "--at", "one", "-p", "a");
	EXPECT_STREQ("1\n", self->program.output);
	REFUSED(66, "numbered or named 'three'", "run", "--at", "three", self->script);
	REFUSED(66, "numbered or named '0'", "run", "--at", "0", self->script);
	REFUSED(66, "numbered or named ''", "run", "--at", "", self->script);
	REFUSED(66, "numbered or named '-1'", "repl", "--at", "-1", self->image);
	REFUSED(9, "of which image?", "--at", "two", "-p", "1");
	REFUSED(9, "exclude each other", "run", "--fresh", "--at", "two", self->script);
}

TEST_F(history, going_back_makes_a_generation)
{
	COUNT_TO_THREE();
	RUN(0, "tag", self->image, "three", "3");
	RUN(0, "rollback", self->image, "two");
	/* Four commits of the program, one for the name. */
	EXPECT_STREQ("generation 6 is made, with the contents of 2: thaw run continues from it\n",
		     self->program.output);
	RUN(0, "log", self->image);
	SAYS("  from 2\n");
	EXPECT_TRUE(continues_with(&self->program, "n 3 in 7 -\n",
				   THAW("run", "--every", "0", self->script)));
	/* The name stands on the generation it was given to, and not on its copy. */
	SAYS("n 2 in 6 -\n");
	RUN(0, "rollback", "--json", self->image, "3");
	SAYS("{\"generation\":");
	SAYS(",\"from\":3,\"heapBytes\":");
	EXPECT_TRUE(continues_with(&self->program, "n 3 in ",
				   THAW("run", "--every", "0", self->script)));
	SAYS_NOT("n 2");
	REFUSED(66, "numbered or named '99'", "rollback", self->image, "99");
	REFUSED(9, "usage: thaw rollback", "rollback", self->image);
	REFUSED(66, "missing.thaw", "rollback", "/nonexistent/missing.thaw", "1");
}

/* While the program runs. And a moment after it was killed, whatever its kernel still holds. */
TEST_F(history, an_image_in_use_is_changed_by_its_program)
{
	program_free(&self->program);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n 3 ", 30));
	for (int i = 0; i < 5; i++) {
		const char *const *const commands[] = {
			THAW("tag", self->image, "here"), THAW("tag", self->image, "there", "2"),
			THAW("tag", self->image, "-d", "there"),
			THAW("rollback", self->image, "two"), THAW("compact", self->image)};
		struct program other;

		EXPECT_EQ(0, program_run(&other, NULL, commands[i]))
		TH_LOG("%s", other.errors);
		program_free(&other);
	}
	/* Looking is no change. */
	for (int i = 0; i < 2; i++) {
		struct program other;

		EXPECT_EQ(0, program_run(&other, NULL, THAW(i ? "tag" : "log", self->image)));
		EXPECT_NE(NULL, strstr(other.output, "two"));
		program_free(&other);
	}
	kill(self->program.pid, SIGKILL);
	{
		struct program other;

		EXPECT_EQ(0, program_run(&other, NULL, THAW("tag", self->image, "good", "2")));
		program_free(&other);
	}
	program_finish(&self->program, 30);
	self->program.pid = 0;
	RUN(0, "log", self->image);
	SAYS("two, good\n");
}

/* ---- thaw log */

static size_t longest_line(const char *text)
{
	size_t longest = 0;

	for (; *text; text += strcspn(text, "\n") + 1)
		longest = strcspn(text, "\n") > longest ? strcspn(text, "\n") : longest;
	return longest;
}

TEST_F(history, says_how_pages_are_stored)
{
	support_write(self->script, "1");
	RUN(0, "run", self->script);
	RUN(0, "log", self->image);
	SAYS_NOT("of raw");
	RUN(0, "inspect", self->image);
	SAYS_NOT("compressed");
	unlink(self->image);
	RUN(0, "run", "--compress", "lz4", self->script);
	RUN(0, "log", self->image);
	SAYS("  of raw  ");
	RUN(0, "log", "--json", self->image);
	SAYS("\"bytesOfPages\":");
	RUN(0, "inspect", self->image);
	SAYS(" pages, lz4: ");
	RUN(0, "compact", "--compress", "zstd:3", self->image);
	RUN(0, "inspect", self->image);
	SAYS(" pages, zstd: ");
}

TEST_F(history, is_readable)
{
	char name[64];

	COUNT_TO_THREE();
	RUN(0, "log", self->image);
	SAYS("generation  age  written  stored");
	SAYS("  name\n");
	SAYS("between turns  two\n");
	SAYS_NOT("from");
	for (int i = 0; i < 12; i++) {
		memset(name, 'a' + i, 63);
		name[i % 4 ? 7 : 63] = '\0';
		RUN(0, "tag", self->image, name, i % 2 ? "2" : "3");
	}
	EXPECT_TRUE(continues_with(&self->program, "n 3 in ",
				   THAW("run", "--every", "0", "--at", "two", self->script)));
	EXPECT_TRUE(continues_with(&self->program, "n 3 in ",
				   THAW("run", "--every", "0", "--fresh", self->script)));
	RUN(0, "log", self->image);
	EXPECT_LE(longest_line(self->program.output), 120);
	SAYS("  from 2\n");
	SAYS("  a fresh start\n");
	SAYS("  bbbbbbb, ddddddd,");
	SAYS(", lllllll\n");
	/* The long ones stand below, whole. */
	SAYS("\n            aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, ");
	RUN(0, "log", "--json", self->image);
	SAYS("\"generation\":2,\"parent\":1,\"ancestor\":1,");
	SAYS("\"names\":[\"bbbbbbb\",\"ddddddd\"");
	SAYS("\"parent\":0,\"ancestor\":0,");

	/* The fresh start goes, since it has no name; what came of it was given one. */
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, "n = 100\n",
				 THAW("repl", "--at", "bbbbbbb", "--retain", "1", self->image)));
	RUN(0, "log", self->image);
	SAYS("  from 2\n");
	SAYS("(gone)  two\n");
	SAYS_NOT("a fresh start");
}

/* ---- --retain */

TEST_F(history, retention_is_checked)
{
	static const char *const bad[][2] = {
		{"", "an empty rule"},
		{"0", "a count of 0 in '0'"},
		{"ten", "no count in 'ten'"},
		{"8,8", "a second number of newest ones in '8'"},
		{"8,10/fortnight", "an unknown period in '10/fortnight'"},
		{"2001", "too many generations"},
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		REFUSED(9, bad[i][1], "run", "--retain", bad[i][0], self->script);
		EXPECT_NE(NULL, strstr(self->program.errors, "8,10/min,24/hour,4/15min"));
		REFUSED(9, bad[i][1], "repl", "--retain", bad[i][0], self->image);
		REFUSED(9, bad[i][1], "--retain", bad[i][0], "-p", "1");
	}
	EXPECT_EQ(-1, access(self->image, F_OK));
}

/* Generations in at least four seconds: the newest, and those of the last three stay. */
TEST_F(history, retention_by_age_is_applied)
{
	unsigned long long seconds[16];
	unsigned count = 0;

	support_write(self->script, "import { checkpoint } from 'thaw'\n"
				    "const seen = new Set()\n"
				    "while (seen.size < 5) {\n"
				    "	await checkpoint()\n"
				    "	seen.add(Math.floor(Date.now() / 1000))\n"
				    "	await new Promise(resolve => setTimeout(resolve, 20))\n"
				    "}\n");
	RUN(0, "run", "--every", "0", "--retain", "1,3/s", self->script);
	RUN(0, "log", "--json", self->image);
	for (const char *at = self->program.output; (at = strstr(at, "\"timeNs\":")) && count < 16;
	     at++)
		seconds[count++] = strtoull(at + 9, NULL, 10) / 1000000000u;
	ASSERT_EQ(3, count);
	EXPECT_LT(seconds[0], seconds[1]);
	EXPECT_LT(seconds[1], seconds[2]);
}

/* ---- checkpoint({ name }) */

#define JAVASCRIPT(text)                                                                                                        \
	do {                                                                                                                    \
		support_write(                                                                                                  \
			self->script,                                                                                           \
			"import { checkpoint, on, stats } from 'thaw'\n"                                                        \
			"const say = (...all) => console.log(...all.map(x => JSON.stringify(x)))\n"                             \
			"const spin = () => { for (const end = stats().generation + 2; stats().generation < end;) ; }\n" text); \
	} while (0)

TEST_F(history, a_name_from_javascript)
{
	JAVASCRIPT(
		"on('checkpoint', e => say('event', e.generation, e.names))\n"
		"let n = 0\n"
		"const all = await Promise.all([checkpoint({ name: 'a' }), checkpoint(), checkpoint({ name: 'b' }),\n"
		"	checkpoint({}), checkpoint({ name: 'a' })])\n"
		"say(all.map(r => [r.generation, r.name, Object.keys(r).join()]))\n"
		"say((await checkpoint({ name: 'b' })).generation)\n"
		"checkpoint({ name: 'end' })\n");
	RUN(0, "run", "--every", "0", self->script);
	SAYS("\"event\" 1 [\"a\",\"b\"]\n"
	     "[[1,\"a\",\"generation,name,pages,bytes,pauseNs,durableNs,reason\"],"
	     "[1,null,\"generation,pages,bytes,pauseNs,durableNs,reason\"],[1,\"b\",");
	SAYS("\"event\" 2 [\"b\"]\n2\n");
	RUN(0, "tag", "--json", self->image);
	SAYS("{\"name\":\"a\",\"generation\":1},{\"name\":\"b\",\"generation\":2},{\"name\":\"end\",\"generation\":3}");

	/* Restored from it: the promise is kept, once more. */
	EXPECT_TRUE(continues_with(&self->program, " [\"b\"]\n",
				   THAW("run", "--every", "0", "--at", "a", self->script)));
	SAYS("[[1,\"a\",\"generation,name,pages,bytes,pauseNs,durableNs,restored\"],"
	     "[1,null,\"generation,pages,bytes,pauseNs,durableNs,restored\"]");
}

TEST_F(history, bad_names_from_javascript)
{
	JAVASCRIPT(
		"for (const name of ['', '-a', '41', 'a b', 'ü', '\\ud800', 'a\\0b', 'x'.repeat(64), 5, null, {}, ['a']])\n"
		"	await checkpoint({ name }).then(say, e => console.log(e instanceof TypeError, e.message.slice(0, 21)))\n"
		"for (const options of ['a', 5, null, true])\n"
		"	await checkpoint(options).then(say, e => console.log(e instanceof TypeError, e.message.slice(0, 26)))\n"
		"await checkpoint({ get name() { throw 'thrown' } }).catch(say)\n"
		"say((await checkpoint({ name: 'x'.repeat(63) })).generation)\n");
	RUN(0, "run", "--every", "0", self->script);
	for (int i = 0; i < 12; i++)
		EXPECT_EQ(0, strncmp(self->program.output + i * 27, "true name must be 1 to 63 \n",
				     27))
	TH_LOG("%s", self->program.output);
	SAYS("true checkpoint() takes an obje\ntrue checkpoint() takes an obje\n");
	SAYS("\"thrown\"\n1\n");
	RUN(9, "tag", self->image, "a b");
	REFUSED(66, "numbered or named 'a'", "tag", "-d", "a", self->image);
	RUN(0, "-p", "import('thaw').then(t => t.checkpoint({ name: 'a' })).catch(e => e.message)");
	SAYS("there is no image");
}

/* It rejects, and no later generation has the name unless it is asked for again. */
TEST_F(history, a_failed_checkpoint_names_nothing)
{
	JAVASCRIPT(
		"for (let i = 0; i < 12; i++)\n"
		"	await checkpoint({ name: 'n' + i }).then(r => console.log('ok', r.name, r.generation), e => console.log('failed n' + i))\n"
		"await checkpoint()\n");
	/* Some of the first, in their pages and in their slots. */
	setenv("THAW_INJECT", "write:ENOSPC:4:3,fdatasync:EIO:9:2", 1);
	RUN(0, "run", "--every", "0", self->script);
	unsetenv("THAW_INJECT");
	SAYS("failed n");
	SAYS("ok n11 ");
	for (int i = 0; i < 12; i++) {
		char *failed = support_format("failed n%d\n", i),
		     *ok = support_format("ok n%d ", i);
		char *name = support_format("\"n%d\"", i), *said = strstr(self->program.output, ok);
		struct program find;

		EXPECT_NE(!said, !strstr(self->program.output, failed));
		program_run(&find, NULL, THAW("tag", "--json", self->image));
		if (said) {
			free(name);
			name = support_format("{\"name\":\"n%d\",\"generation\":%d}", i,
					      atoi(said + strlen(ok)));
		}
		EXPECT_EQ(said != NULL, strstr(find.output, name) != NULL)
		TH_LOG("%s: %s", name, find.output);
		program_free(&find);
		free(failed);
		free(ok);
		free(name);
	}
}

/*
 * Asked for in turns that last: each promise is told of the generation that has its name, though it
 * cannot be told before the turn has ended, when there are newer ones.
 */
TEST_F(history, names_in_the_middle_of_a_turn)
{
	int generation[3];
	char *names;

	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	JAVASCRIPT("const asked = []\n"
		   "for (const name of ['a', 'b', 'c']) {\n"
		   "	asked.push(checkpoint({ name }))\n"
		   "	spin()\n"
		   "}\n"
		   "say((await Promise.all(asked)).map(r => r.name).join(''))\n"
		   "for (const r of await Promise.all(asked)) console.log(r.name, r.generation)\n");
	RUN(0, "run", "--every", "30ms", self->script);
	SAYS("\"abc\"\n");
	for (int i = 0; i < 3; i++) {
		char name[8] = {'\n', (char)('a' + i), ' ', 0};
		const char *at = strstr(self->program.output, name);

		ASSERT_NE(NULL, at);
		generation[i] = atoi(at + 3);
		EXPECT_GT(generation[i], i ? generation[i - 1] : 0);
	}
	names = support_format(
		"[{\"name\":\"a\",\"generation\":%d},{\"name\":\"b\",\"generation\":%d},"
		"{\"name\":\"c\",\"generation\":%d}]\n",
		generation[0], generation[1], generation[2]);
	RUN(0, "tag", "--json", self->image);
	EXPECT_STREQ(names, self->program.output);
	free(names);
	/* And from one of them it goes on in the middle, with what it had asked for. */
	RUN(0, "run", "--every", "30ms", "--at", "b", self->script);
	SAYS("\nb ");
	SAYS("\nc ");
}

TEST_F(history, the_shell_names_them)
{
	program_free(&self->program);
	/* One that could not be named is a failed line. */
	ASSERT_EQ(1, program_run(&self->program,
				 "a = 1\n.checkpoint one\na = 2\n.checkpoint 2\n.log\n",
				 THAW("repl", self->image)));
	SAYS("generation 2: ");
	SAYS("  one\n");
	EXPECT_NE(NULL, strstr(self->program.errors, "'2' cannot name a generation"));
	RUN(0, "-i", self->image, "--at", "one", "-p", "a");
	SAYS("1\n");
}

TEST_HARNESS_MAIN
