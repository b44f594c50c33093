// SPDX-License-Identifier: GPL-2.0-only
/*
 * committed_lines.c - what a program prints with --commit output: each line exactly once in a file, however often the
 * program is killed and at whatever moment, also where other lines come between; at least once, and in order, in a pipe;
 * and none that a failed turn printed. Without the option it is not so, which shows that these tests can tell.
 * THAW_KILLS says how many kills, where the quick number is not enough.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/stat.h>

#include "once_in_a_file.h"

/* Several lines in a turn, of different lengths; some on stderr. Numbers go up for as long as it lives. */
static const char lines_text[] =
	"let n = 0\n"
	"const pad = ['', 'x'.repeat(80), 'y'.repeat(3000)]\n"
	"function step() {\n"
	"	for (let i = 0; i < 1 + n % 3; i++) console.log(`line ${++n} ${pad[n % 3]}`)\n"
	"	if (n % 7 === 0) console.error(`line ${++n} of errors`)\n"
	"	setTimeout(step, n % 5 === 0 ? 3 : 0)\n"
	"}\n"
	"step()\n";

static int kills(int quick)
{
	return getenv("THAW_KILLS") ? atoi(getenv("THAW_KILLS")) : quick;
}

/* What the file has now; empty: there is none. */
static char *text_of(const char *path)
{
	FILE *file = fopen(path, "re");
	size_t bytes = 0, got, room = 1 << 16;
	char *text = malloc(room);

	while (file && (got = fread(text + bytes, 1, room - bytes - 1, file)) > 0) {
		bytes += got;
		if (bytes + 1 == room)
			text = realloc(text, room *= 2);
	}
	text[bytes] = '\0';
	if (file)
		fclose(file);
	return text;
}

static size_t length_of(const char *path)
{
	struct stat status;

	return stat(path, &status) ? 0 : (size_t)status.st_size;
}

struct found {
	long long last;
	unsigned again, missing, torn;
};

FIXTURE(lines)
{
	char *directory, *script, *file;
	unsigned seed;
	struct found found; /* in the file, up to there */
	long looked_at;
};

FIXTURE_SETUP(lines)
{
	self->directory = support_directory();
	self->script = support_format("%s/lines.js", self->directory);
	self->file = support_format("%s/out", self->directory);
	self->seed = getenv("THAW_SEED") ? (unsigned)atoi(getenv("THAW_SEED"))
					 : (unsigned)time(NULL);
	TH_LOG("THAW_SEED=%u", self->seed);
	srandom(self->seed);
	support_write(self->script, lines_text);
	support_write(self->file, "");
}

FIXTURE_TEARDOWN(lines)
{
	support_remove(self->directory);
}

/* With that shell's redirection of stdout or stderr. */
static struct program start(FIXTURE_DATA(lines) * self, const char *options,
			    const char *redirection)
{
	char *command = support_format("exec %s run --every 20ms %s %s %s", THAW_BINARY, options,
				       self->script, redirection);
	const char *const arguments[] = {"/bin/sh", "-c", command, NULL};
	struct program program = program_start(arguments);

	free(command);
	return program;
}

/* One line, with its end. */
static void look_at(struct found *found, const char *line)
{
	long long number;

	if (!strncmp(line, "thaw: ", 6))
		return;
	if (sscanf(line, "line %lld ", &number) != 1) {
		found->torn++;
		return;
	}
	found->again += number <= found->last;
	found->missing += number > found->last + 1;
	found->last = number > found->last ? number : found->last;
}

/* The lines of the program in that text, among others; the last one may be under way. */
static struct found look(const char *text)
{
	struct found found = {0};
	const char *end;

	for (const char *line = text; (end = strchr(line, '\n')); line = end + 1)
		look_at(&found, line);
	return found;
}

/* ... in the file, as far as it has come since the last call. */
static const struct found *look_on(FIXTURE_DATA(lines) * self)
{
	FILE *file = fopen(self->file, "re");
	char *line = NULL;
	size_t room = 0;
	ssize_t bytes;

	if (file && !fseek(file, self->looked_at, SEEK_SET))
		while ((bytes = getline(&line, &room, file)) > 0 && line[bytes - 1] == '\n') {
			look_at(&self->found, line);
			self->looked_at += bytes;
		}
	free(line);
	if (file)
		fclose(file);
	return &self->found;
}

/* Until some lines of this life are in the file, then for up to 40 ms. */
static void live_and_die(struct __test_metadata *_metadata, FIXTURE_DATA(lines) * self,
			 const char *options, const char *redirection)
{
	long long before = look_on(self)->last;
	struct program program = start(self, options, redirection);
	double end = support_deadline(60);

	while (support_seconds() < end && look_on(self)->last < before + 3)
		program_wait_for(&program, NULL, 0.005);
	program_wait_for(&program, NULL, (double)(random() % 40) / 1000);
	program_kill(&program);
	ASSERT_LE(before + 3, look_on(self)->last)
	TH_LOG("%s", program.errors);
	program_free(&program);
}

#define EXPECT_EXACTLY_ONCE(found)             \
	do {                                   \
		EXPECT_EQ(0, (found).again);   \
		EXPECT_EQ(0, (found).missing); \
		EXPECT_EQ(0, (found).torn);    \
	} while (0)

TEST_F_TIMEOUT(lines, are_exactly_once_in_a_file, 280)
{
	char *both = support_format(">> %s 2>&1", self->file);

	for (int i = 0; i < kills(15); i++) {
		live_and_die(_metadata, self, "-v --commit output", both);
		EXPECT_EXACTLY_ONCE(self->found);
	}
	TH_LOG("%d kills, %lld lines", kills(15), self->found.last);
	EXPECT_LT(kills(15), self->found.last);
}

TEST_F_TIMEOUT(lines, without_the_option_are_there_twice_or_never, 280)
{
	char *both = support_format(">> %s 2>&1", self->file);

	for (int i = 0; i < 100 && !self->found.again; i++)
		live_and_die(_metadata, self, "", both);
	EXPECT_LT(0, self->found.again);
}

TEST_F_TIMEOUT(lines, are_at_least_once_in_a_pipe, 280)
{
	long long newest = 0;

	for (int i = 0; i < kills(5); i++) {
		struct program program = start(self, "--commit output", "2>&1");
		struct found found;
		long long first;

		ASSERT_TRUE(program_wait_for(&program, "line ", 60))
		TH_LOG("%s", program.output);
		program_wait_for(&program, NULL, (double)(random() % 40) / 1000);
		program_kill(&program);
		/* Each life begins with what was not known to be read, and leaves nothing out. */
		first = atoll(strstr(program.output, "line ") + 5);
		found = look(program.output);
		EXPECT_EQ(first > 1, found.missing); /* before the first */
		EXPECT_EQ(0, found.again);
		EXPECT_GE(newest + 1, first);
		newest = found.last;
		program_free(&program);
	}
}

TEST_F(lines, are_once_in_a_file_that_others_write_to)
{
	char *image = support_format("%s/lines.thaw", self->directory);
	char *command = support_format("exec %s run --every 0 --commit output %s >> %s",
				       THAW_BINARY, self->script, self->file);

	support_write(self->script, "import { on, exit } from 'thaw'\n"
				    "on('restore', () => exit(0))\n"
				    "console.log('one\\ntwo\\nthree')\n"
				    "setTimeout(() => {}, 1e9)\n");
	EXPECT_TRUE(once_holds(command, self->file, image));
	free(command);
	free(image);
}

/* ---- Files ---- */

/* Counts, and writes each number into a file. Never is a number there that a restored program has not come to. */
static const char numbers_format[] = "import { writeFile, on } from 'thaw'\n"
				     "let n = 0\n"
				     "on('restore', () => console.log(`line ${n} restored`))\n"
				     "console.log(`line ${n} started`)\n"
				     "for (;;) await writeFile('%s', String(++n))\n";

/* Kills it so often. Returns how often the file was ahead of what was durable. */
static unsigned numbers_ahead(struct __test_metadata *_metadata, FIXTURE_DATA(lines) * self,
			      const char *options, int count)
{
	char *command = support_format("exec %s run --every 20ms %s %s", THAW_BINARY, options,
				       self->script);
	const char *const arguments[] = {"/bin/sh", "-c", command, NULL};
	char *text = support_format(numbers_format, self->file);
	unsigned ahead = 0;

	support_write(self->script, text);
	for (int i = 0; i < count; i++) {
		long long written = atoll(text_of(self->file)), before = written;
		struct program program = program_start(arguments);
		double end = support_deadline(60);

		ASSERT_TRUE(program_wait_for(&program, "line ", 60))
		TH_LOG("%s", program.errors);
		if (i)
			ahead += written > atoll(strstr(program.output, "line ") + 5);
		while (support_seconds() < end && written <= before + 1) {
			program_wait_for(&program, NULL, 0.002);
			written = atoll(text_of(self->file));
		}
		program_wait_for(&program, NULL, (double)(random() % 30) / 1000);
		program_kill(&program);
		program_free(&program);
	}
	free(command);
	return ahead;
}

TEST_F_TIMEOUT(lines, and_files_are_never_ahead_of_what_is_durable, 280)
{
	EXPECT_EQ(0, numbers_ahead(_metadata, self, "--commit output", kills(10)));
}

TEST_F_TIMEOUT(lines, and_files_are_ahead_without_the_option, 280)
{
	unsigned ahead = 0;

	for (int i = 0; i < 20 && !ahead; i++)
		ahead += numbers_ahead(_metadata, self, "", 3);
	EXPECT_LT(0, ahead);
}

TEST_F(lines, a_write_that_is_not_awaited_is_done_at_the_end)
{
	char *text = support_format("import { writeFile, exit } from 'thaw'\n"
				    "writeFile('%s', 'all'); exit(0)\n",
				    self->file);
	struct program program;

	support_write(self->script, text);
	EXPECT_EQ(0, program_run(&program, NULL, THAW("run", "--commit", "output", self->script)));
	EXPECT_STREQ("all", text_of(self->file));
}

/* ---- How it ends ---- */

static int run_to_its_end(FIXTURE_DATA(lines) * self, const char *text, struct program *program)
{
	char *command = support_format("exec %s run --every 0 --commit output %s >> %s",
				       THAW_BINARY, self->script, self->file);
	const char *const arguments[] = {"/bin/sh", "-c", command, NULL};

	if (text)
		support_write(self->script, text);
	return program_run(program, NULL, arguments);
}

TEST_F(lines, come_out_at_the_end_whatever_the_exit_code)
{
	struct program program;

	EXPECT_EQ(3, run_to_its_end(self,
				    "import { exit } from 'thaw'\n"
				    "console.log('one'); console.error('two'); exit(3)\n",
				    &program));
	EXPECT_STREQ("one\n", text_of(self->file));
	EXPECT_STREQ("two\n", program.errors);
	/* And not again by a start that only says that it has ended. */
	EXPECT_EQ(3, run_to_its_end(self, NULL, &program));
	EXPECT_STREQ("one\n", text_of(self->file));
}

TEST_F(lines, of_a_failed_turn_are_not_said)
{
	struct program program;

	EXPECT_EQ(1,
		  run_to_its_end(
			  self,
			  "import { checkpoint } from 'thaw'\n"
			  "console.log('before'); await checkpoint()\n"
			  "console.log('lost'); console.error('why'); throw new Error('broken')\n",
			  &program));
	EXPECT_STREQ("before\n", text_of(self->file));
	EXPECT_NE(NULL, strstr(program.errors, "why\n"));
	EXPECT_NE(NULL, strstr(program.errors, "broken"));
	EXPECT_NE(NULL, strstr(program.errors, "5 bytes that it printed to stdout are dropped"));
}

TEST_F(lines, more_than_are_held_at_a_time_come_out_of_one_turn)
{
	struct program program;
	char *text;

	EXPECT_EQ(0, run_to_its_end(self,
				    "for (let i = 1; i <= 20000; i++) console.log(`line ${i} ` + "
				    "'z'.repeat(60))\n",
				    &program));
	text = text_of(self->file);
	EXPECT_EXACTLY_ONCE(look(text));
	EXPECT_EQ(20000, look(text).last);
}

TEST_F_TIMEOUT(lines, wait_for_a_disk_that_fails, 100)
{
	char *image = support_format("%s/lines.thaw", self->directory);
	char *away = support_format("%s/away", self->directory);
	struct program program;
	size_t length;

	support_write(self->script, "let n = 0\n"
				    "setInterval(() => console.log(`line ${++n} `), 5)\n");
	program = start(self, "--commit output", support_format(">> %s", self->file));
	while (!length_of(self->file))
		program_wait_for(&program, NULL, 0.002);
	ASSERT_EQ(0, rename(image, away));
	ASSERT_TRUE(program_wait_for_complaint(&program, "checkpoint failed", 60));
	length = length_of(self->file);
	program_wait_for(&program, NULL, 0.1);
	EXPECT_EQ(length, length_of(self->file));
	ASSERT_EQ(0, rename(away, image));
	ASSERT_TRUE(program_wait_for_complaint(&program, "checkpoints work again", 60));
	while (length_of(self->file) == length)
		program_wait_for(&program, NULL, 0.002);
	kill(program.pid, SIGTERM);
	EXPECT_EQ(128 + SIGTERM, program_finish(&program, 60));
	EXPECT_EXACTLY_ONCE(look(text_of(self->file)));
}

TEST_HARNESS_MAIN
