// SPDX-License-Identifier: GPL-2.0-only
/*
 * files_rolled_back.c - thaw exec --files rollback: what a program has appended after its newest generation is cut off
 * before it goes on, so that each line is in the file once; and whatever is not surely the program's stays.
 *
 * The guest is this program itself (be_guest()): it appends a number in a line to "log", says it, and writes it into
 * "plain", which is not appended to.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/syscall.h>

#include "support.h"

/* ---- The guest */

static void put(int fd, const char *line)
{
	if (write(fd, line, strlen(line)) != (ssize_t)strlen(line))
		_exit(99);
}

static int open_or_end(const char *directory, const char *name, int flags)
{
	char *path = support_format("%s/%s", directory, name);
	int fd = open(path, O_CREAT | O_WRONLY | flags, 0600);

	free(path);
	if (fd < 0)
		_exit(98);
	return fd;
}

static void append_for_ever(const char *directory)
{
	int logs[3] = {open_or_end(directory, "log", O_APPEND),
		       open_or_end(directory, "log", O_DSYNC), -1};
	int plain = open_or_end(directory, "plain", 0);

	logs[2] = dup(logs[0]);
	if (logs[2] < 0 || fcntl(logs[1], F_SETFL, fcntl(logs[1], F_GETFL) | O_APPEND))
		_exit(97);
	for (unsigned number = 1;; number++) {
		char line[32];

		snprintf(line, sizeof(line), "%u\n", number);
		put(logs[number % 3], line);
		put(plain, line);
		put(1, line);
		support_sleep(0.001);
	}
}

static void say_for_ever(void)
{
	for (unsigned number = 1;; number++) {
		char line[32];

		snprintf(line, sizeof(line), "%u\n", number);
		put(1, line);
		support_sleep(0.001);
	}
}

__attribute__((constructor)) static void be_guest(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "guest-appends"))
		append_for_ever(argv[2]);
	if (argc > 1 && !strcmp(argv[1], "guest-says"))
		say_for_ever();
}

/* ---- */

/* The numbers in a file, and what is wrong with them. */
struct numbers {
	unsigned newest, again; /* the highest one; lines that were there before */
	bool missing, strange;
};

static char *contents(const char *path)
{
	uint64_t bytes = support_size(path);
	char *text = calloc(1, bytes + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || !text || read(fd, text, bytes) != (ssize_t)bytes)
		support_die(path);
	close(fd);
	return text;
}

static struct numbers numbers_of(const char *path)
{
	struct numbers numbers = {0};
	char *text = contents(path), *line, *rest = text;

	while ((line = strsep(&rest, "\n")) && *line) {
		unsigned number = (unsigned)atoi(line);

		numbers.strange |= !number || !rest;
		numbers.missing |= number > numbers.newest + 1;
		numbers.again += number <= numbers.newest;
		numbers.newest = number > numbers.newest ? number : numbers.newest;
	}
	free(text);
	return numbers;
}

/* False: the file system, or the sandbox, cannot tell who has a file open. */
static bool leases_work(const char *path)
{
	int fd;
	bool work;

	support_write(path, "");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	work = fd >= 0 && !fcntl(fd, F_SETLEASE, F_RDLCK);
	close(fd);
	unlink(path);
	return work;
}

FIXTURE(rollback)
{
	char *directory, *image, *log, *plain, *elsewhere;
	char guest[4096]; /* this program */
	struct program program;
};

FIXTURE_SETUP(rollback)
{
	self->directory = support_directory();
	self->image = support_format("%s/a.thaw", self->directory);
	self->log = support_format("%s/log", self->directory);
	self->plain = support_format("%s/plain", self->directory);
	self->elsewhere = support_format("%s/elsewhere", self->directory);
	self->program = (struct program){.in = -1};
	memset(self->guest, 0, sizeof(self->guest));
	ASSERT_LT(0, readlink("/proc/self/exe", self->guest, sizeof(self->guest) - 1));
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	SKIP_SANITIZED();
	if (!leases_work(self->elsewhere))
		SKIP(return, "%s: no leases on files there", self->directory);
}

FIXTURE_TEARDOWN(rollback)
{
	program_free(&self->program);
	free(self->image);
	free(self->log);
	free(self->plain);
	free(self->elsewhere);
	support_remove(self->directory);
}

#define START(files, every, ...)                                                        \
	program_start(THAW("exec", "-v", "--files", files, "--every", every, "--image", \
			   self->image, ##__VA_ARGS__, self->guest, "guest-appends",    \
			   self->directory))

static unsigned lines_said(struct program *program)
{
	unsigned lines = 0;

	program_drain(program->out, &program->output, &program->output_bytes);
	for (const char *at = program->output; (at = strchr(at, '\n')); at++)
		lines++;
	return lines;
}

static bool says_more(struct program *program, unsigned lines)
{
	unsigned before = lines_said(program);
	double until = support_deadline(60);

	while (lines_said(program) < before + lines)
		if (support_seconds() > until || !program_wait_for(program, "\n", 60))
			return false;
		else
			support_sleep(0.001);
	return true;
}

/* A generation while it runs; as soon as somebody listens. */
static bool generation(const char *image, const char *name)
{
	double until = support_deadline(30);
	int code = 1;

	while (code && support_seconds() < until) {
		struct program asking;

		code = program_run(&asking, NULL, THAW("checkpoint", "--name", name, image));
		program_free(&asking);
		if (code)
			support_sleep(0.01);
	}
	return !code;
}

/* Killed; and whatever it has started has ended, too, and writes nothing any more. */
static void end(struct program *program)
{
	char *path = support_format("/proc/%d/task/%d/children", program->pid, program->pid);
	FILE *file = fopen(path, "re");
	int child, ends[8], count = 0;

	while (file && count < 8 && fscanf(file, "%d", &child) == 1) {
		ends[count] = (int)syscall(SYS_pidfd_open, child, 0);
		count += ends[count] >= 0;
	}
	if (file)
		fclose(file);
	free(path);
	program_kill(program);
	while (count--) {
		struct pollfd ended = {ends[count], POLLIN, 0};

		if (poll(&ended, 1, 60000) != 1)
			support_die("a guest that does not end");
		close(ends[count]);
	}
}

/* A life that ends with lines that no generation has. */
static bool live(struct program *program, const char *image, const char *name)
{
	bool well = says_more(program, 3) && generation(image, name) && says_more(program, 5);

	if (!well)
		printf("# %s\n", program->errors);
	end(program);
	return well;
}

TEST_F(rollback, each_line_is_there_once)
{
	for (unsigned life = 0; life < 10; life++) {
		struct numbers numbers;

		self->program = START("rollback", life % 2 ? "20ms" : "0");
		ASSERT_TRUE(says_more(&self->program, 1))
		TH_LOG("%s", self->program.errors);
		if (!life || life % 3 == 0)
			ASSERT_TRUE(generation(self->image, "here"));
		support_sleep((double)(rand() % 50) / 1000);
		end(&self->program);
		numbers = numbers_of(self->log);
		ASSERT_FALSE(numbers.strange);
		ASSERT_FALSE(numbers.missing);
		ASSERT_EQ(0, numbers.again)
		TH_LOG("life %u: %s", life, self->program.errors);
		program_free(&self->program);
	}
}

TEST_F(rollback, kept_lines_are_there_twice)
{
	struct numbers numbers;

	self->program = START("keep", "0");
	ASSERT_TRUE(live(&self->program, self->image, "one"));
	program_free(&self->program);
	self->program = START("keep", "0");
	ASSERT_TRUE(live(&self->program, self->image, "two"));
	numbers = numbers_of(self->log);
	EXPECT_LE(5, numbers.again);
	EXPECT_FALSE(numbers.missing);
	EXPECT_EQ(NULL, strstr(self->program.errors, "cut back"));
}

TEST_F(rollback, an_older_generation_has_its_own_length)
{
	struct numbers numbers;
	uint64_t plain;

	self->program = START("rollback", "0");
	ASSERT_TRUE(live(&self->program, self->image, "early"));
	program_free(&self->program);
	self->program = START("rollback", "0");
	ASSERT_TRUE(live(&self->program, self->image, "late"));
	program_free(&self->program);
	plain = support_size(self->plain);
	self->program = START("rollback", "0", "--at", "early");
	ASSERT_TRUE(says_more(&self->program, 1))
	TH_LOG("%s", self->program.errors);
	EXPECT_LE(plain, support_size(self->plain));
	EXPECT_TRUE(program_wait_for_complaint(&self->program, "log is cut back from", 30));
	end(&self->program);
	numbers = numbers_of(self->log);
	EXPECT_EQ(0, numbers.again);
	EXPECT_FALSE(numbers.missing);
}

TEST_F(rollback, another_file_in_its_place_is_left_alone)
{
	char line[] = "somebody else's, and longer than what was here before: ";
	char *mine, *before, *now, *kept;

	self->program = START("rollback", "0");
	ASSERT_TRUE(live(&self->program, self->image, "one"));
	program_free(&self->program);
	before = contents(self->log);
	mine = support_format("%s%s%s\n", line, before, before);
	ASSERT_EQ(0, rename(self->log, self->elsewhere));
	support_write(self->log, mine);
	self->program = START("rollback", "0");
	ASSERT_TRUE(says_more(&self->program, 1))
	TH_LOG("%s", self->program.errors);
	EXPECT_TRUE(program_wait_for_complaint(&self->program, "log is another file now", 30));
	end(&self->program);
	now = contents(self->log);
	kept = contents(self->elsewhere);
	EXPECT_EQ(0, strncmp(mine, now, strlen(mine)));
	EXPECT_STREQ(before, kept);
	free(mine);
	free(before);
	free(now);
	free(kept);
}

TEST_F(rollback, a_shorter_file_stays_as_it_is)
{
	char *now;

	self->program = START("rollback", "0");
	ASSERT_TRUE(live(&self->program, self->image, "one"));
	program_free(&self->program);
	ASSERT_EQ(0, truncate(self->log, 4));
	self->program = START("rollback", "0");
	ASSERT_TRUE(says_more(&self->program, 1))
	TH_LOG("%s", self->program.errors);
	EXPECT_TRUE(program_wait_for_complaint(&self->program, "log is shorter now (4 bytes)", 30));
	end(&self->program);
	now = contents(self->log);
	EXPECT_EQ(0, strncmp("1\n2\n", now, 4));
	EXPECT_EQ(strlen(now), support_size(self->log)); /* no zeros in between */
	free(now);
}

TEST_F(rollback, what_somebody_else_uses_stays)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	self->program = START("rollback", "0");
	ASSERT_TRUE(live(&self->program, self->image, "one"));
	program_free(&self->program);
	for (int how = 0; how < 2; how++) {
		int fd = open(self->log, how ? O_RDONLY : O_WRONLY | O_APPEND);
		uint64_t size = support_size(self->log);
		char *before = contents(self->log), *now;

		ASSERT_LE(0, fd);
		if (how)
			ASSERT_EQ(0, fcntl(fd, F_OFD_SETLK, &lock));
		self->program = START("rollback", "0");
		ASSERT_TRUE(says_more(&self->program, 1))
		TH_LOG("%s", self->program.errors);
		EXPECT_TRUE(program_wait_for_complaint(
			&self->program,
			how ? "bytes: somebody else has locked it"
			    : "bytes: somebody else has it open for writing",
			30))
		TH_LOG("%s", self->program.errors);
		end(&self->program);
		now = contents(self->log);
		EXPECT_EQ(0, strncmp(before, now, size));
		program_free(&self->program);
		close(fd);
		free(before);
		free(now);
	}
}

TEST_F(rollback, a_restore_that_fails_cuts_nothing)
{
	struct numbers numbers;
	char *before, *now;
	int code;

	self->program = START("rollback", "0");
	ASSERT_TRUE(live(&self->program, self->image, "one"));
	program_free(&self->program);
	before = contents(self->log);
	ASSERT_EQ(0, rename(self->plain, self->elsewhere));
	self->program = START("rollback", "0");
	code = program_finish(&self->program, 60);
	EXPECT_NE(0, code);
	EXPECT_GT(124, code);
	EXPECT_NE(NULL, strstr(self->program.errors, "cannot be opened again"))
	TH_LOG("%s", self->program.errors);
	program_free(&self->program);
	now = contents(self->log);
	EXPECT_STREQ(before, now);
	free(before);
	free(now);
	ASSERT_EQ(0, rename(self->elsewhere, self->plain));
	self->program = START("rollback", "0");
	ASSERT_TRUE(live(&self->program, self->image, "two"));
	numbers = numbers_of(self->log);
	EXPECT_EQ(0, numbers.again);
	EXPECT_FALSE(numbers.missing);
}

TEST_F(rollback, standard_output_is_the_new_starts)
{
	const char *const arguments[] = {"sh",	      "-c",	      "exec \"$@\" >>\"$0\"",
					 self->log,   support_thaw(), "exec",
					 "--files",   "rollback",     "--every",
					 "0",	      "--image",      self->image,
					 self->guest, "guest-says",   NULL};

	for (int life = 0; life < 2; life++) {
		double until = support_deadline(60);
		uint64_t before;

		before = access(self->log, F_OK) ? 0 : support_size(self->log);
		self->program = program_start(arguments);
		ASSERT_TRUE(generation(self->image, life ? "two" : "one"))
		TH_LOG("%s", self->program.errors);
		before += life ? 0 : support_size(self->log);
		while (support_size(self->log) < before + 20 && support_seconds() < until)
			support_sleep(0.001);
		end(&self->program);
		EXPECT_LE(before + 20, support_size(self->log));
		program_free(&self->program);
	}
	EXPECT_LT(0, numbers_of(self->log).again);
	EXPECT_FALSE(numbers_of(self->log).missing);
}

TEST_F(rollback, another_word_is_refused)
{
	int code;

	self->program = START("remove", "0");
	code = program_finish(&self->program, 60);
	EXPECT_EQ(9, code);
	EXPECT_NE(NULL, strstr(self->program.errors, "--files is keep or rollback, not 'remove'"));
}

TEST_HARNESS_MAIN
