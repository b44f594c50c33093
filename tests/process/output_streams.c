// SPDX-License-Identifier: GPL-2.0-only
/*
 * output_streams.c - standard streams under `thaw exec --commit output`: exactly once into a file, whatever is killed; in
 * order with what the program's children write, and across execve(2); and what an end lets go.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "kselftest_harness.h"

#include "kills.h"
#include "once_in_a_file.h"

#define LINES 60
#define KILLS 8

FIXTURE(streams)
{
	char *directory, *image, *file, *wanted;
	struct program program;
};
FIXTURE_SETUP(streams)
{
	size_t at = 0;

	self->directory = support_directory();
	self->image = support_format("%s/program.thaw", self->directory);
	self->file = support_format("%s/out", self->directory);
	self->wanted = calloc(LINES, 16);
	for (int i = 0; i < LINES; i++)
		at += (size_t)sprintf(self->wanted + at, "line %d\n", i);
}
/* Why nothing can be held here; NULL: it can. The test's to free. */
static char *what_lacks(const char *directory)
{
	char *image = support_format("%s/probe.thaw", directory), *text = NULL;
	struct program program =
		program_start(THAW("exec", "--commit", "output", "--image", image, "/bin/true"));

	if (program_finish(&program, 60) == 69)
		text = support_format("%s", program.errors);
	program_free(&program);
	free(image);
	return text;
}

#define SKIP_WHERE_NOTHING_IS_HELD()                       \
	do {                                               \
		char *lacks = what_lacks(self->directory); \
                                                           \
		if (lacks)                                 \
			SKIP(return, "%s", lacks);         \
	} while (0)

FIXTURE_TEARDOWN(streams)
{
	program_free(&self->program);
	free(self->wanted);
	free(self->file);
	free(self->image);
	support_remove(self->directory);
}

static char *contents(const char *path)
{
	char *text = calloc(1, 65536);
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, text, 65535) < 0)
		text[0] = '\0';
	close(fd);
	return text;
}

/* How its file is opened: ">>", or ">". */
static struct program start_opening(const char *how, const char *image, const char *file,
				    const char *guest)
{
	char *command = support_format("exec '%s' exec --commit output --image '%s' %s %s'%s' 2>&1",
				       support_thaw(), image, guest, how, file);
	const char *const arguments[] = {"/bin/sh", "-c", command, NULL};
	struct program program = program_start(arguments);

	free(command);
	return program;
}

/* Its file is appended to by each life. */
static struct program start_into(const char *image, const char *file, const char *guest)
{
	return start_opening(">>", image, file, guest);
}

static bool grows(const char *file, uint64_t from)
{
	double end = support_deadline(20);

	while (support_size(file) <= from && support_seconds() < end)
		support_sleep(0.002);
	return support_size(file) > from;
}

/* Without what thaw says itself. */
static void remove_own_lines(char *text)
{
	for (char *line = text, *end; (end = strchr(line, '\n'));)
		if (!strncmp(line, "thaw:", 5))
			memmove(line, end + 1, strlen(end + 1) + 1);
		else
			line = end + 1;
}

static const char lines_script[] = "/bin/bash -c 'for ((i = 0; i < 60; i++)); do echo line $i; "
				   "for ((k = 0; k < 2000; k++)); do :; done; done'";

static void ends_with_each_line_once(struct __test_metadata *_metadata,
				     FIXTURE_DATA(streams) * self)
{
	char *text;

	self->program = start_into(self->image, self->file, lines_script);
	EXPECT_EQ(0, program_finish(&self->program, 60));
	text = contents(self->file);
	remove_own_lines(text);
	EXPECT_STREQ(self->wanted, text);
	free(text);
}

TEST_F_TIMEOUT(streams, a_file_has_each_line_once_over_kills, 240)
{
	SKIP_WHERE_NOTHING_IS_HELD();
	support_write(self->file, "");
	srandom(kills_seed());
	for (int i = 0; i < KILLS; i++) {
		uint64_t before = support_size(self->file);

		self->program = start_into(self->image, self->file, lines_script);
		grows(self->file, before);
		support_sleep((double)(random() % 60) / 1000);
		program_kill(&self->program);
		program_free(&self->program);
	}
	ends_with_each_line_once(_metadata, self);
}

TEST_F(streams, whoever_starts_it_says_whether_a_file_is_appended_to)
{
	SKIP_WHERE_NOTHING_IS_HELD();
	support_write(self->file, "");
	self->program = start_opening(">", self->image, self->file, lines_script);
	EXPECT_TRUE(grows(self->file, 0));
	program_kill(&self->program);
	program_free(&self->program);
	ends_with_each_line_once(_metadata, self);
}

TEST_F(streams, what_others_wrote_into_the_file_stays_and_nothing_is_there_twice)
{
	char *command;

	SKIP_WHERE_NOTHING_IS_HELD();
	command = support_format("exec '%s' exec -q --every 0 --commit output --image '%s' /bin/sh "
				 "-c 'printf \"one\\ntwo\\nthree\\n\"; read line; :' >> '%s'",
				 support_thaw(), self->image, self->file);
	EXPECT_TRUE(once_holds(command, self->file, self->image));
	free(command);
}

#define COUNTS "THAW_TEST_COUNTS" /* this program is the guest */
#define PARTS 16

/*
 * Lines with a number, for ever, of so many parts that most of the time goes by while libc's writev() has looked where the
 * descriptor leads, and has not written yet: there nearly each capture finds it.
 */
__attribute__((constructor)) static void count(void)
{
	static char parts[PARTS][4096] __attribute__((aligned(4096)));
	struct iovec pieces[PARTS];
	char line[32];

	if (!getenv(COUNTS))
		return;
	for (int i = 0; i < PARTS; i++)
		pieces[i] = (struct iovec){parts[i], 1};
	for (int number = 0;; number++) {
		snprintf(line, sizeof(line), "%0*d\n", PARTS - 1, number);
		for (int i = 0; i < PARTS; i++)
			parts[i][0] = line[i];
		if (writev(STDOUT_FILENO, pieces, PARTS) != PARTS)
			_exit(1);
	}
}

/* How many lines there are before one that has not the number it should have; all of them: -1. */
static long first_wrong(const char *file, long *lines)
{
	FILE *from = fopen(file, "r");
	char line[256];
	long wrong = -1;

	*lines = 0;
	while (from && wrong < 0 && fgets(line, sizeof(line), from) && strchr(line, '\n')) {
		if (!strncmp(line, "thaw:", 5))
			continue;
		if (strtol(line, NULL, 10) != *lines || strlen(line) != PARTS)
			wrong = *lines;
		++*lines;
	}
	if (from)
		fclose(from);
	return wrong;
}

TEST_F_TIMEOUT(streams, a_call_that_a_capture_interrupts_is_made_by_the_next_life, 240)
{
	char path[4096] = "", *guest;
	long lines = 0;

	SKIP_WHERE_NOTHING_IS_HELD();
	ASSERT_LT(0, readlink("/proc/self/exe", path, sizeof(path) - 1));
	guest = support_format("'%s'", path);
	support_write(self->file, "");
	srandom(kills_seed());
	setenv(COUNTS, "1", 1);
	for (int i = 0; i < KILLS; i++) {
		uint64_t before = support_size(self->file);

		self->program = start_into(self->image, self->file, guest);
		EXPECT_TRUE(grows(self->file, before));
		support_sleep((double)(random() % 60) / 1000);
		program_kill(&self->program);
		program_free(&self->program);
	}
	unsetenv(COUNTS);
	EXPECT_EQ(-1, first_wrong(self->file, &lines));
	EXPECT_LT(0, lines);
	free(guest);
}

static void run_shell(FIXTURE_DATA(streams) * self, const char *script)
{
	self->program = program_start(THAW("exec", "--commit", "output", "--image", self->image,
					   "/bin/sh", "-c", script));
}

TEST_F(streams, children_come_behind_what_the_program_wrote_before)
{
	SKIP_WHERE_NOTHING_IS_HELD();
	run_shell(self,
		  "echo one; echo two | cat; echo three; /bin/echo four; exec /bin/echo five");
	EXPECT_EQ(0, program_finish(&self->program, 60)) TH_LOG("%s", self->program.errors);
	EXPECT_STREQ("one\ntwo\nthree\nfour\nfive\n", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.errors, "children's output is not held"));
}

TEST_F(streams, what_a_program_that_fails_has_to_say_is_said)
{
	SKIP_WHERE_NOTHING_IS_HELD();
	SKIP_WHERE_NOTHING_IS_HELD();
	run_shell(self, "echo out; echo why >&2; exit 3");
	EXPECT_EQ(3, program_finish(&self->program, 60));
	EXPECT_STREQ("out\n", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.errors, "why\n"));
}

/* The supervisor may write no more: nothing becomes durable until it may. */
TEST_F(streams, a_disk_that_is_full_holds_what_is_said_until_there_is_room)
{
	static const char script[] = "echo first; read line; x=$(head -c 4000000 /dev/urandom | "
				     "base64); echo second; read line; echo third ${#x}";
	struct rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY}, full = none;

	SKIP_WHERE_NOTHING_IS_HELD();
	run_shell(self, script);
	ASSERT_TRUE(program_wait_for(&self->program, "first\n", 60));
	full.rlim_cur = support_size(self->image);
	ASSERT_EQ(0, prlimit(self->program.pid, RLIMIT_FSIZE, &full, NULL));
	ASSERT_EQ(1, write(self->program.in, "\n", 1));
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "checkpoint failed", 60));
	EXPECT_STREQ("first\n", self->program.output);
	ASSERT_EQ(0, prlimit(self->program.pid, RLIMIT_FSIZE, &none, NULL));
	EXPECT_TRUE(program_wait_for(&self->program, "second\n", 60));
	ASSERT_EQ(1, write(self->program.in, "\n", 1));
	EXPECT_EQ(0, program_finish(&self->program, 60));
	EXPECT_NE(NULL, strstr(self->program.output, "second\nthird "));
}

TEST_HARNESS_MAIN
