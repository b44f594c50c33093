// SPDX-License-Identifier: GPL-2.0-only
/*
 * missing_in_children.c - a program that goes on with most of its pages missing forks: the child has everything, or dies.
 * It never reads zeros in place of what its parent has: not when the supervisor is killed at once, nor where nobody is told
 * of forks.
 *
 * The guest is this program itself (be_guest()). Files in the current directory, of the test, tell each what the other
 * has come to.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <linux/sched.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "process/stub/raw.h"
#include "support.h"

#define BYTES (64u << 20)
#define TOUCHING 8
#define PATTERN 0x5ca1ab1edeadbea7ull

/* ---- The guest. The child calls nothing of libc's, whose memory may be missing as well. */

#define RAW(number, a, b, c) \
	raw_call(number, (uint64_t)(uintptr_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)

/* The file is there when its contents are. */
static inline void raw_note_as(const char *first, const char *file, const char *text, size_t bytes)
{
	int64_t fd = RAW(SYS_open, first, O_CREAT | O_WRONLY | O_TRUNC, 0600);

	RAW(SYS_write, fd, text, bytes);
	RAW(SYS_close, fd, 0, 0);
	RAW(SYS_rename, first, file, 0);
}

#define raw_note(file, text, bytes) raw_note_as("new." file, file, text, bytes)

static inline void raw_wait_for(const char *file)
{
	struct timespec moment = {.tv_nsec = 500000};

	while (RAW(SYS_access, file, F_OK, 0))
		RAW(SYS_nanosleep, &moment, 0, 0);
}

static void look(const volatile uint64_t *memory)
{
	unsigned wrong = 0;

	for (size_t i = 0; i < BYTES / 8; i += 512)
		wrong += memory[i] != PATTERN + i;
	if (wrong)
		raw_note("verdict", "wrong", 5);
	else
		raw_note("verdict", "right", 5);
}

__attribute__((noreturn)) static void child(const volatile uint64_t *memory)
{
	RAW(SYS_setsid, 0, 0, 0);
	raw_note("born", "born", 4);
	raw_wait_for("look");
	look(memory);
	for (;;)
		RAW(SYS_exit_group, 0, 0, 0);
}

/* In a namespace of its own it makes a child whose number there is, outside, that of a bystander. */
__attribute__((noreturn)) static void elsewhere(const volatile uint64_t *memory)
{
	pid_t number = 0;
	int64_t fd = RAW(SYS_open, "bystander", O_RDONLY, 0), pid;
	struct clone_args how = {
		.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&number, .set_tid_size = 1};

	RAW(SYS_setsid, 0, 0, 0);
	RAW(SYS_read, fd, &number, sizeof(number));
	pid = RAW(SYS_clone3, &how, sizeof(how), 0);
	if (!pid)
		child(memory);
	if (pid != number)
		raw_note("born", "not", 3);
	RAW(SYS_wait4, pid, 0, 0);
	for (;;)
		RAW(SYS_exit_group, 0, 0, 0);
}

/* Faults all the time, as do many others. */
static uint64_t *touched;

static void *touch(void *number)
{
	raw_wait_for("fork");
	for (size_t i = (uintptr_t)number * 512; i < BYTES / 8; i += TOUCHING * 512)
		if (((volatile uint64_t *)touched)[i] != PATTERN + i)
			raw_note("verdict", "wrong", 5);
	return NULL;
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
	for (int i = 0; argv[2] && !strcmp(argv[2], "touches") && i < TOUCHING; i++) {
		pthread_t thread;

		touched = memory;
		pthread_create(&thread, NULL, touch, (void *)(uintptr_t)i);
	}
	raw_note("ready", "ready", 5);
	raw_wait_for("fork");
	if (argv[2] && !strcmp(argv[2], "touches")) {
		raw_note("going", "", 0);
		look(memory);
		for (;;)
			pause();
	}
	do {
		if (argv[2] && !strcmp(argv[2], "elsewhere"))
			pid = (pid_t)syscall(SYS_clone, SIGCHLD | CLONE_NEWPID, NULL, NULL, NULL,
					     NULL);
		else
			pid = argv[2] ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL)
				      : fork();
		if (!pid && argv[2] && !strcmp(argv[2], "elsewhere"))
			elsewhere(memory);
		if (!pid)
			child(memory);
		raw_note("pid", (char *)&pid, sizeof(pid));
		if (argv[2] && !strcmp(argv[2], "again"))
			waitpid(pid, NULL, 0);
	} while (argv[2] && !strcmp(argv[2], "again") && access("verdict", F_OK));
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

static pid_t child_pid(void)
{
	int fd = open("pid", O_RDONLY);
	pid_t pid = 0;

	if (fd < 0 || read(fd, &pid, sizeof(pid)) != sizeof(pid))
		pid = 0;
	close(fd);
	return pid;
}

static struct program go_on(const char *how)
{
	char binary[4096] = "";

	if (readlink("/proc/self/exe", binary, sizeof(binary) - 1) < 0)
		abort();
	return program_start(
		THAW("exec", "--every", "1h", "--image", "a.thaw", binary, "guest-forks", how));
}

/* A life up to this file, which ends with a generation. */
static bool prepare(const char *how, const char *until)
{
	struct program program = go_on(how), asking;
	bool fine;

	fine = file_comes(until);
	while (fine && program_run(&asking, NULL, THAW("checkpoint", "a.thaw"))) {
		program_free(&asking);
		support_sleep(0.01);
	}
	program_free(&asking);
	program_kill(&program);
	program_free(&program);
	return fine;
}

static const char *verdict(void)
{
	static char text[8];
	int fd = open("verdict", O_RDONLY);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	return fd < 0 ? "it died" : text;
}

static bool dies(pid_t pid)
{
	double end = support_deadline(30);

	while (support_lives(pid) && support_seconds() < end)
		support_sleep(0.001);
	if (!support_lives(pid))
		return true;
	kill(pid, SIGKILL);
	return false;
}

TEST_F(orphaned, child_never_reads_zeros)
{
	struct program program;

	SKIP_SANITIZED();
	ASSERT_TRUE(prepare(variant->how, "ready"));
	make_file("fork");
	program = go_on(variant->how);
	ASSERT_TRUE(file_comes("pid"))
	{
		TH_LOG("%s", program.errors);
	}
	ASSERT_LT(0, child_pid());
	/* It has nothing at all where it is in the second variant, and nobody is told of forks. */
	while (access("born", F_OK) && support_lives(child_pid()))
		support_sleep(0.0002);
	program_kill(&program);
	program_free(&program);
	make_file("look");
	ASSERT_TRUE(dies(child_pid()));
	EXPECT_STRNE("wrong", verdict());
}

/* Since Linux 6.6; before, such a child waits for ever. */
static bool pages_can_be_poisoned(void)
{
	struct utsname name;
	unsigned major = 0, minor = 0;

	uname(&name);
	sscanf(name.release, "%u.%u", &major, &minor);
	return major > 6 || (major == 6 && minor >= 6);
}

/* Numbers of processes that come with a page fault are those of the process's own namespace. */
TEST_F(orphaned, who_has_its_number_in_another_namespace_is_left_alone)
{
	struct program program;
	pid_t bystander, pid;
	char born[4] = "";
	int fd;

	SKIP_SANITIZED();
	if (variant->how)
		SKIP(return, "it is made in one way only");
	ASSERT_TRUE(prepare("elsewhere", "ready"));
	bystander = support_fork();
	if (!bystander)
		for (;;)
			pause();
	fd = open("bystander", O_CREAT | O_WRONLY, 0600);
	ASSERT_EQ((ssize_t)sizeof(bystander), write(fd, &bystander, sizeof(bystander)));
	close(fd);
	make_file("fork");
	program = go_on("elsewhere");
	EXPECT_TRUE(file_comes("pid"));
	pid = child_pid();
	while (pid > 0 && access("born", F_OK) && support_lives(pid))
		support_sleep(0.0002);
	program_kill(&program);
	program_free(&program);
	make_file("look");
	if (pid > 0) {
		if (pages_can_be_poisoned()) {
			EXPECT_TRUE(dies(pid));
		} else {
			support_sleep(2);
		}
		kill(pid, SIGKILL);
		EXPECT_STRNE("wrong", verdict());
		fd = open("born", O_RDONLY);
		EXPECT_EQ(4, read(fd, born, sizeof(born)));
		close(fd);
	}
	EXPECT_TRUE(support_lives(bystander));
	kill(bystander, SIGKILL);
	waitpid(bystander, NULL, 0);
	if (pid <= 0)
		SKIP(return, "no namespace can be made");
}

/* What is killed in the middle of a fault has the same process id in its next life, which faults, too. */
TEST_F(orphaned, the_next_life_is_left_alone)
{
	SKIP_SANITIZED();
	if (variant->how)
		SKIP(return, "there is no child");
	ASSERT_TRUE(prepare("touches", "ready"));
	make_file("fork");
	for (int life = 0; life < 8; life++) {
		struct program program;

		unlink("going");
		program = go_on("touches");
		ASSERT_TRUE(file_comes("going"));
		kill(program.pid, SIGSTOP); /* a fault waits */
		support_sleep(0.005);
		program_kill(&program);
		program_free(&program);
		unlink("verdict");
		program = go_on("touches");
		ASSERT_TRUE(file_comes("verdict"))
		{
			program_kill(&program);
			TH_LOG("life %d: %s", life, program.errors);
		}
		program_kill(&program);
		program_free(&program);
	}
	EXPECT_STREQ("right", verdict());
}

/* ---- Without CAP_SYS_PTRACE, but with a userfaultfd that serves system calls */

FIXTURE(untold)
{
	char *directory;
};
FIXTURE_SETUP(untold)
{
	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	setenv("THAW_WITHOUT", "fork-events", 1);
	make_file("look");
}
FIXTURE_TEARDOWN(untold)
{
	unsetenv("THAW_WITHOUT");
	ASSERT_EQ(0, chdir("/"));
	support_remove(self->directory);
}

/* A child of this kind of fork has all that its parent has. */
static void child_has_it(struct __test_metadata *_metadata, const char *how)
{
	struct program program;

	ASSERT_TRUE(prepare(how, "ready"));
	make_file("fork");
	program = go_on(how);
	EXPECT_TRUE(file_comes("verdict"));
	program_kill(&program);
	program_free(&program);
	EXPECT_STREQ("right", verdict());
}

TEST_F(untold, who_forks_waits_until_everything_is_there)
{
	SKIP_SANITIZED();
	child_has_it(_metadata, NULL);
}

TEST_F(untold, a_child_that_nobody_sees_coming_ends)
{
	struct program program;

	SKIP_SANITIZED();
	ASSERT_TRUE(prepare("raw", "ready"));
	make_file("fork");
	program = go_on("raw");
	EXPECT_TRUE(file_comes("pid"));
	EXPECT_TRUE(dies(child_pid()));
	program_kill(&program);
	program_free(&program);
	EXPECT_STRNE("wrong", verdict());
}

TEST_F(untold, once_everything_is_there_any_child_has_it)
{
	SKIP_SANITIZED();
	child_has_it(_metadata, "again");
}

/* What was kept from children for a while is theirs in all later generations. */
TEST_F(untold, nothing_is_kept_from_children_for_good)
{
	struct program program;

	SKIP_SANITIZED();
	ASSERT_TRUE(prepare("again", "ready"));
	for (int life = 0; life < 3; life++)
		ASSERT_TRUE(prepare("again", "a.thaw"));
	unsetenv("THAW_WITHOUT");
	make_file("fork");
	program = go_on("again");
	EXPECT_TRUE(file_comes("verdict"));
	program_kill(&program);
	program_free(&program);
	EXPECT_STREQ("right", verdict());
}

TEST_HARNESS_MAIN
