// SPDX-License-Identifier: GPL-2.0-only
/*
 * ends_in_a_capture.c - a program under thaw exec that is killed in the middle of a capture has ended, and that is all that
 * is said of it: no checkpoint has failed, and nothing goes on. Before each part of the capture in turn (ld's --wrap), with
 * the process gone when the part begins, or only about to go.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "kselftest_harness.h"

#include "../../vm/cli/cli.h"
#include "../../vm/policy/key.h"
#include "process/process.h"
#include "process/stub/embedded.h"
#include "support.h"

static const char *const parts[] = {"stop",	"mappings",    "calls",	 "threads", "kernel",
				    "identity", "descriptors", "clocks", "pages"};
#define PARTS (sizeof(parts) / sizeof(parts[0]))
#define CAPTURES 2 /* it is in the second */

static const char *fatal; /* the part */
static bool at_once;	  /* it does not wait for the end */
static unsigned captures, checkpoints;
static bool reads_pages;     /* in the second checkpoint */
static int kept_memory = -1; /* /proc/PID/mem of the process that has ended meanwhile */
static const struct process *known;

/* A part begins, of that process. */
static void part(const struct process *process, const char *name)
{
	struct pollfd gone = {.fd = process->remote.pidfd, .events = POLLIN};

	known = process;
	if (!fatal || strcmp(name, fatal) || ++captures != CAPTURES)
		return;
	kill(process->remote.pid, SIGKILL);
	if (!at_once)
		poll(&gone, 1, 20000);
}

#define WRAP(name, result, function, parameters, arguments)       \
	result __real_##function parameters;                      \
	result __wrap_##function parameters;                      \
	__attribute__((used)) result __wrap_##function parameters \
	{                                                         \
		part(process, name);                              \
		return __real_##function arguments;               \
	}

WRAP("stop", int, process_stop, (struct process * process, struct thaw_error *error),
     (process, error))
WRAP("mappings", int, mappings_capture,
     (struct process * process, struct mappings *mappings, struct thaw_error *error),
     (process, mappings, error))
WRAP("calls", int, interrupted_restart, (struct process * process, struct thaw_error *error),
     (process, error))
WRAP("threads", int, threads_capture, (struct process * process, struct thaw_error *error),
     (process, error))
WRAP("kernel", int, kernel_facts_capture,
     (struct process * process, struct kernel_facts *facts, struct thaw_error *error),
     (process, facts, error))
WRAP("identity", int, identity_capture,
     (struct process * process, const struct mappings *mappings, struct identity **identity,
      struct thaw_error *error),
     (process, mappings, identity, error))
WRAP("descriptors", int, descriptors_capture,
     (struct process * process, struct descriptors **descriptors, struct thaw_error *error),
     (process, descriptors, error))
WRAP("clocks", int, clocks_capture,
     (struct process * process, const struct mappings *mappings, struct clocks *clocks,
      struct thaw_error *error),
     (process, mappings, clocks, error))

int __real_thaw_checkpoint_capture(struct thaw *heap, enum thaw_kind kind, const void *state,
				   size_t bytes);
int __wrap_thaw_checkpoint_capture(struct thaw *heap, enum thaw_kind kind, const void *state,
				   size_t bytes);
int __wrap_thaw_checkpoint_capture(struct thaw *heap, enum thaw_kind kind, const void *state,
				   size_t bytes)
{
	int code;

	part(known, "pages");
	reads_pages = ++checkpoints == CAPTURES;
	code = __real_thaw_checkpoint_capture(heap, kind, state, bytes);
	reads_pages = false;
	return code;
}

/*
 * A long call of process_vm_readv(2), in the middle of which the process ends: it goes on reading, since it has the memory.
 * So does the guest's child, or who looks at the memory afterwards would see that nobody has it.
 */

ssize_t __real_process_vm_readv(pid_t pid, const struct iovec *to, unsigned long to_count,
				const struct iovec *from, unsigned long from_count,
				unsigned long flags);
ssize_t __wrap_process_vm_readv(pid_t pid, const struct iovec *to, unsigned long to_count,
				const struct iovec *from, unsigned long from_count,
				unsigned long flags);
ssize_t __wrap_process_vm_readv(pid_t pid, const struct iovec *to, unsigned long to_count,
				const struct iovec *from, unsigned long from_count,
				unsigned long flags)
{
	ssize_t all = 0;

	if (reads_pages && kept_memory < 0 && !strcmp(fatal, "copy")) {
		char *path = support_format("/proc/%d/mem", pid);
		struct pollfd gone = {.fd = known->remote.pidfd, .events = POLLIN};

		kept_memory = open(path, O_RDONLY | O_CLOEXEC);
		kill(pid, SIGKILL);
		poll(&gone, 1, 20000);
	}
	if (!reads_pages || kept_memory < 0)
		return __real_process_vm_readv(pid, to, to_count, from, from_count, flags);
	for (unsigned long i = 0, done = 0; i < from_count; i++, done = 0)
		for (ssize_t got; done < from[i].iov_len; done += (unsigned long)got) {
			got = pread(kept_memory, (char *)to->iov_base + all, from[i].iov_len - done,
				    (off_t)((uintptr_t)from[i].iov_base + done));
			if (got <= 0)
				return all ? all : -1;
			all += got;
		}
	return all;
}

#define GUEST "ENDS_IN_A_CAPTURE_GUEST" /* this program is the guest */

static long sleep_in_child(long ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	return syscall(SYS_nanosleep, &time, NULL);
}

/* It has the guest's memory, and lives on for a moment after it. */
static int stay(void *parent)
{
	while (syscall(SYS_getppid) == (long)parent)
		sleep_in_child(1);
	sleep_in_child(2000);
	syscall(SYS_exit, 0);
	return 0;
}

/* Ends with 42 when it is not who it was: a mutex that nobody has seems to be its own. */
__attribute__((constructor)) static void guest(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	pthread_mutexattr_t attributes;
	static pthread_mutex_t mutex;
	static volatile uint64_t count;
	pthread_key_t key;

	if (!getenv(GUEST))
		return;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&mutex, &attributes);
	if (clone(stay, stack + sizeof(stack), CLONE_VM | SIGCHLD, (void *)(long)getpid()) < 0)
		_exit(41);
	/* What the thread's own variables are beside its number, which is so in each generation. */
	for (pthread_key_create(&key, NULL);; count++)
		if (pthread_setspecific(key, (void *)(uintptr_t)count) ||
		    pthread_mutex_lock(&mutex) || pthread_mutex_unlock(&mutex))
			_exit(42);
}

/* This program is thaw exec, in a process of its own. */
static _Noreturn void be_thaw(const char *image, int err, const char *own)
{
	char *arguments[] = {"thaw",	    "exec",
			     "-q",	    "--every",
			     "5ms",	    "--image",
			     (char *)image, "/bin/sh",
			     "-c",	    "n=0; while :; do n=$((n + 1)); done",
			     NULL};

	if (own) {
		arguments[7] = (char *)own;
		arguments[8] = NULL;
	}
	dup2(err, STDERR_FILENO);
	/* The harness has used getopt(3), which remembers its way with operands. */
	optind = 0;
	getopt(1, arguments, "+");
	key_serve_images();
	signals_begin(true);
	_exit(cli_dispatch(&command_exec, own ? 7 : 9, arguments + 1));
}

FIXTURE(ends)
{
	char *directory, *image, *says;
};
FIXTURE_VARIANT(ends)
{
	bool at_once;
};
FIXTURE_VARIANT_ADD(ends, gone){.at_once = false};
FIXTURE_VARIANT_ADD(ends, going){.at_once = true};

FIXTURE_SETUP(ends)
{
	self->directory = support_directory();
	self->image = support_format("%s/program.thaw", self->directory);
	self->says = support_format("%s/says", self->directory);
	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
}
FIXTURE_TEARDOWN(ends)
{
	free(self->says);
	free(self->image);
	support_remove(self->directory);
}

TEST_F(ends, and_no_checkpoint_has_failed)
{
	for (size_t i = 0; i < PARTS; i++) {
		int err = open(self->says, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		int status = 0;
		char text[4096];
		ssize_t got;
		pid_t pid;

		fatal = parts[i];
		at_once = variant->at_once;
		unlink(self->image);
		pid = support_fork();
		if (!pid)
			be_thaw(self->image, err, NULL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		got = pread(err, text, sizeof(text) - 1, 0);
		text[got > 0 ? got : 0] = '\0';
		close(err);
		EXPECT_TRUE(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL
						: WEXITSTATUS(status) == 128 + SIGKILL)
		TH_LOG("%s: status %#x: %s", parts[i], status, text);
		EXPECT_EQ(NULL, strstr(text, "checkpoint failed"))
		TH_LOG("%s: %s", parts[i], text);
		EXPECT_EQ(NULL, strstr(text, "goes on"))
		TH_LOG("%s: %s", parts[i], text);
	}
}

/*
 * The kernel writes into the memory of threads that end: 0 for a thread's number. A generation that has it would go on
 * as somebody else.
 */
TEST(what_a_process_leaves_in_its_memory_is_in_no_generation)
{
	char *directory = support_directory(), own[4096] = "";
	char *image = support_format("%s/program.thaw", directory);
	struct program program;
	int status = 0;
	pid_t pid;

	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
	ASSERT_LT(0, readlink("/proc/self/exe", own, sizeof(own) - 1));
	setenv(GUEST, "1", 1);
	fatal = "copy";
	pid = support_fork();
	if (!pid)
		be_thaw(image, STDERR_FILENO, own);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(128 + SIGKILL, WEXITSTATUS(status));
	program = program_start(THAW("exec", "-v", "--every", "5ms", "--image", image, own));
	EXPECT_TRUE(program_wait_for_complaint(&program, "pages, ", 30))
	TH_LOG("%s", program.errors);
	program_kill(&program);
	program_free(&program);
	unsetenv(GUEST);
	free(image);
	support_remove(directory);
}

TEST_HARNESS_MAIN
