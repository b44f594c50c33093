// SPDX-License-Identifier: GPL-2.0-only
/*
 * orphaned_children.c - a program that goes on with most of its pages missing forks, and its supervisor is killed at once:
 * the child dies, or has everything. It never reads zeros in place of what its parent has.
 *
 * The guest is this program itself (be_guest()). Files in the current directory, of the test, tell each what the other
 * has come to.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "process/stub/raw.h"
#include "support.h"

#define BYTES (64u << 20)
#define PATTERN 0x5ca1ab1edeadbea7ull

/* ---- The guest. The child calls nothing of libc's, whose memory may be missing as well. */

#define RAW(number, a, b, c) \
	raw_call(number, (uint64_t)(uintptr_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)

static inline void raw_note(const char *file, const char *text, size_t bytes)
{
	int64_t fd = RAW(SYS_open, file, O_CREAT | O_WRONLY | O_TRUNC, 0600);

	RAW(SYS_write, fd, text, bytes);
	RAW(SYS_close, fd, 0, 0);
}

static inline void raw_wait_for(const char *file)
{
	struct timespec moment = {.tv_nsec = 500000};

	while (RAW(SYS_access, file, F_OK, 0))
		RAW(SYS_nanosleep, &moment, 0, 0);
}

__attribute__((noreturn)) static void child(const volatile uint64_t *memory)
{
	unsigned wrong = 0;

	RAW(SYS_setsid, 0, 0, 0);
	raw_note("born", "born", 4);
	raw_wait_for("look");
	for (size_t i = 0; i < BYTES / 8; i += 512)
		wrong += memory[i] != PATTERN + i;
	if (wrong)
		raw_note("verdict", "wrong", 5);
	else
		raw_note("verdict", "right", 5);
	for (;;)
		RAW(SYS_exit_group, 0, 0, 0);
}

__attribute__((constructor)) static void be_guest(int argc, char **argv)
{
	uint64_t *memory;
	pid_t pid;

	if (argc < 2 || strcmp(argv[1], "guest-forks"))
		return;
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < BYTES / 8; i += 512)
		memory[i] = PATTERN + i;
	raw_note("ready", "ready", 5);
	raw_wait_for("fork");
	pid = argv[2] ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) : fork();
	if (!pid)
		child(memory);
	raw_note("pid", (char *)&pid, sizeof(pid));
	for (;;)
		pause();
}

/* ---- */

FIXTURE(orphaned)
{
	char *directory;
};
FIXTURE_VARIANT(orphaned)
{
	const char *how;
};
FIXTURE_VARIANT_ADD(orphaned, by_fork){.how = NULL};
FIXTURE_VARIANT_ADD(orphaned, by_a_call_that_libc_does_not_know_of){.how = "raw"};

FIXTURE_SETUP(orphaned)
{
	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
}
FIXTURE_TEARDOWN(orphaned)
{
	ASSERT_EQ(0, chdir("/"));
	support_remove(self->directory);
}

static bool file_comes(const char *file)
{
	double end = support_deadline(30);

	while (access(file, F_OK)) {
		if (support_seconds() > end)
			return false;
		support_sleep(0.0002);
	}
	return true;
}

static void make_file(const char *file)
{
	close(open(file, O_CREAT | O_WRONLY, 0600));
}

static bool lives(pid_t pid)
{
	char *path = support_format("/proc/%d/stat", (int)pid), state = 'Z';
	FILE *file = fopen(path, "r");

	free(path);
	if (file && fscanf(file, "%*d %*s %c", &state) != 1)
		state = 'Z';
	if (file)
		fclose(file);
	return state != 'Z' && state != 'X';
}

static pid_t child_pid(void)
{
	int fd = open("pid", O_RDONLY);
	pid_t pid = 0;

	if (fd < 0 || read(fd, &pid, sizeof(pid)) != sizeof(pid))
		pid = 0;
	close(fd);
	return pid;
}

/* Of the last generation that is durable before it forks. */
static bool prepare(const char *how)
{
	char binary[4096] = "";
	struct program program, asking;
	bool fine;

	if (readlink("/proc/self/exe", binary, sizeof(binary) - 1) < 0)
		return false;
	program = program_start(
		THAW("exec", "--every", "1h", "--image", "a.thaw", binary, "guest-forks", how));
	fine = file_comes("ready");
	while (fine && program_run(&asking, NULL, THAW("checkpoint", "a.thaw"))) {
		program_free(&asking);
		support_sleep(0.01);
	}
	program_free(&asking);
	program_kill(&program);
	program_free(&program);
	make_file("fork");
	return fine;
}

TEST_F(orphaned, child_never_reads_zeros)
{
	char binary[4096] = "", verdict[8] = "";
	struct program program;
	double end;
	pid_t pid;
	int fd;

	SKIP_SANITIZED();
	ASSERT_TRUE(prepare(variant->how));
	ASSERT_LT(0, readlink("/proc/self/exe", binary, sizeof(binary) - 1));
	program = program_start(THAW("exec", "--every", "1h", "--image", "a.thaw", binary,
				     "guest-forks", variant->how));
	ASSERT_TRUE(file_comes("born"))
	{
		TH_LOG("%s", program.errors);
	}
	ASSERT_TRUE(file_comes("pid"));
	program_kill(&program);
	program_free(&program);
	pid = child_pid();
	ASSERT_LT(0, pid);
	make_file("look");
	for (end = support_deadline(30); lives(pid) && support_seconds() < end;)
		support_sleep(0.001);
	ASSERT_FALSE(lives(pid))
	{
		kill(pid, SIGKILL);
	}
	fd = open("verdict", O_RDONLY);
	if (fd >= 0) {
		ASSERT_EQ(5, read(fd, verdict, 5));
		close(fd);
		EXPECT_STREQ("right", verdict);
	} else {
		TH_LOG("it died");
	}
}

TEST_HARNESS_MAIN
