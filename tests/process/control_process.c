// SPDX-License-Identifier: GPL-2.0-only
/*
 * control_process.c - thaw ctl of a program of thaw exec: it is asked, named, stopped and taken back as one of thaw run is, also while
 * a signal has stopped it; one supervisor answers over restarts; and the guest has none of the descriptors for that.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

/* Counts, and prints each time its count is a multiple of 50. */
__attribute__((constructor)) static void be_guest(int argc, char **argv)
{
	unsigned *count = calloc(1, sizeof(*count));

	if (argc < 2 || strcmp(argv[1], "guest-counts"))
		return;
	for (;; ++*count) {
		if (*count % 50 == 0)
			dprintf(STDOUT_FILENO, "at %u\n", *count);
		support_sleep(0.002);
	}
}

FIXTURE(process)
{
	char *directory, *image;
	char counter[4096]; /* this program */
	struct program program, ctl;
};
FIXTURE_SETUP(process)
{
	memset(self->counter, 0, sizeof(self->counter));
	self->directory = support_directory();
	self->image = support_format("%s/a.thaw", self->directory);
	ASSERT_LT(0, readlink("/proc/self/exe", self->counter, sizeof(self->counter) - 1));
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
}
FIXTURE_TEARDOWN(process)
{
	if (self->program.pid)
		program_kill(&self->program);
	program_free(&self->program);
	program_free(&self->ctl);
	free(self->image);
	support_remove(self->directory);
}

#define EXEC(...)                                                                                  \
	do {                                                                                       \
		program_free(&self->program);                                                      \
		self->program = program_start(THAW("exec", "--every", "0", "--image", self->image, \
						   ##__VA_ARGS__, self->counter, "guest-counts")); \
		ASSERT_TRUE(program_wait_for(&self->program, "at ", 60))                           \
		TH_LOG("%s", self->program.errors);                                                \
	} while (0)
#define CTL(...)                       \
	(program_free(&self->ctl),     \
	 program_run(&self->ctl, NULL, \
		     THAW("ctl", "--timeout", "1min", self->image, __VA_ARGS__)))

/* The number behind a key of the status; 0: there is none. */
static long number_of(const char *status, const char *key)
{
	char *word = support_format("\"%s\":", key), *at = strstr(status, word);
	long number = at ? strtol(at + strlen(word), NULL, 10) : 0;

	free(word);
	return number;
}

TEST_F(process, it_is_asked_named_and_stopped)
{
	SKIP_SANITIZED();
	EXEC();
	ASSERT_EQ(0, CTL("checkpoint", "--name", "first"));
	ASSERT_EQ(0, CTL("tag", "second"));
	ASSERT_EQ(0, CTL("untag", "first"));
	EXPECT_EQ(9, CTL("eval", "1"));
	EXPECT_NE(NULL, strstr(self->ctl.errors, "code cannot be evaluated in it"));
	EXPECT_EQ(9, CTL("compact"));
	EXPECT_NE(NULL, strstr(self->ctl.errors, "thaw compact"));
	ASSERT_EQ(0, CTL("stop"));
	EXPECT_NE(NULL, strstr(self->ctl.output, "exit code 143"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	self->program.pid = 0;
	program_free(&self->ctl);
	ASSERT_EQ(0, program_run(&self->ctl, NULL, THAW("tag", self->image)));
	EXPECT_EQ(NULL, strstr(self->ctl.output, "first"));
	EXPECT_NE(NULL, strstr(self->ctl.output, "second"));
}

TEST_F(process, one_that_a_signal_has_stopped_tells_its_numbers_and_takes_no_generation)
{
	double end = support_deadline(60);
	long pid;

	SKIP_SANITIZED();
	EXEC();
	ASSERT_EQ(0, CTL("status", "--json"));
	pid = number_of(self->ctl.output, "guestPid");
	ASSERT_LT(0, pid);
	ASSERT_NE(self->program.pid, pid);
	ASSERT_EQ(0, kill((pid_t)pid, SIGSTOP));
	do {
		ASSERT_EQ(0, CTL("status", "--json"));
	} while (!strstr(self->ctl.output, "\"state\":\"stopped\"") && support_seconds() < end);
	EXPECT_NE(NULL, strstr(self->ctl.output, "\"state\":\"stopped\""));
	program_free(&self->ctl);
	EXPECT_EQ(75, program_run(&self->ctl, NULL,
				  THAW("ctl", "--timeout", "100ms", self->image, "checkpoint")));
	EXPECT_NE(NULL, strstr(self->ctl.errors, "a signal has stopped the program"));
	ASSERT_EQ(0, kill((pid_t)pid, SIGCONT));
	EXPECT_EQ(0, CTL("checkpoint"));
}

TEST_F(process, it_goes_back_under_the_same_supervisor)
{
	unsigned before, count = 0;
	size_t seen;

	SKIP_SANITIZED();
	EXEC();
	ASSERT_EQ(0, CTL("checkpoint", "--name", "early"));
	ASSERT_TRUE(program_wait_for(&self->program, "at 200\n", 60));
	program_drain(self->program.out, &self->program.output, &self->program.output_bytes);
	seen = self->program.output_bytes;
	program_free(&self->ctl);
	/* As everybody knows the command; the image is in use. */
	ASSERT_EQ(0, program_run(&self->ctl, NULL, THAW("rollback", self->image, "early")))
	TH_LOG("%s", self->ctl.errors);
	EXPECT_NE(NULL, strstr(self->ctl.output, "the program goes on from it"));
	/* What was printed at 200 is printed again. */
	ASSERT_EQ(0, CTL("status", "--json"));
	EXPECT_EQ(1, number_of(self->ctl.output, "restarts"));
	EXPECT_EQ(self->program.pid, number_of(self->ctl.output, "pid"));
	for (double end = support_deadline(60); !count && support_seconds() < end;) {
		char *again;

		program_drain(self->program.out, &self->program.output,
			      &self->program.output_bytes);
		again = strstr(self->program.output + seen, "at 200\n");
		count = again ? 200 : 0;
		before = (unsigned)(self->program.output_bytes - seen);
		if (!count)
			support_sleep(0.01);
	}
	EXPECT_EQ(200, count)
	{
		TH_LOG("%u bytes more: %s", before, self->program.output + seen);
	}
}

/* A crash is no end for who asks: the numbers go on. */
TEST_F(process, one_supervisor_answers_over_restarts)
{
	double end = support_deadline(60);
	long first, second = 0;

	SKIP_SANITIZED();
	EXEC("--restart", "on-failure");
	ASSERT_EQ(0, CTL("checkpoint"));
	ASSERT_EQ(0, CTL("status", "--json"));
	first = number_of(self->ctl.output, "guestPid");
	ASSERT_EQ(0, kill((pid_t)first, SIGSEGV));
	do {
		ASSERT_EQ(0, CTL("status", "--json"));
		second = number_of(self->ctl.output, "restarts");
	} while (!second && support_seconds() < end);
	EXPECT_EQ(1, second);
	EXPECT_LE(1, number_of(self->ctl.output, "checkpoints"));
	EXPECT_EQ(0, CTL("checkpoint"));
	EXPECT_EQ(0, CTL("stop"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	self->program.pid = 0;
}

/* What a descriptor of a process is, as /proc says. */
static bool what_is(pid_t pid, const char *fd, char what[256])
{
	char *path = support_format("/proc/%d/fd/%s", (int)pid, fd);
	ssize_t bytes = readlink(path, what, 255);

	free(path);
	what[bytes < 0 ? 0 : bytes] = '\0';
	return bytes > 0;
}

/* How many sockets does one process have that the other one has, too? `all`: how many it has. */
static unsigned common_sockets(pid_t one, pid_t other, unsigned *all)
{
	char *path = support_format("/proc/%d/fd", (int)one), *others, mine[256], theirs[256];
	DIR *directory = opendir(path), *second;
	unsigned common = 0;

	*all = 0;
	others = support_format("/proc/%d/fd", (int)other);
	for (struct dirent *a; directory && (a = readdir(directory));) {
		if (!what_is(one, a->d_name, mine) || strncmp(mine, "socket:", 7))
			continue;
		++*all;
		second = opendir(others);
		for (struct dirent *b; second && (b = readdir(second));)
			common += what_is(other, b->d_name, theirs) && !strcmp(mine, theirs);
		if (second)
			closedir(second);
	}
	if (directory)
		closedir(directory);
	free(path);
	free(others);
	return common;
}

TEST_F(process, the_guest_has_none_of_its_sockets)
{
	unsigned all;
	long pid;

	SKIP_SANITIZED();
	EXEC();
	ASSERT_EQ(0, CTL("status", "--json"));
	pid = number_of(self->ctl.output, "guestPid");
	EXPECT_EQ(0, common_sockets(self->program.pid, (pid_t)pid, &all));
	EXPECT_LE(2, all); /* beside the image, and by its inode */
}

TEST_HARNESS_MAIN
