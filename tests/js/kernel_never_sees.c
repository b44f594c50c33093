// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel never sees the heap (vm/js/engine/engine.h): while a restored program, none of whose pages has
 * arrived, does everything that it can do, every argument of every system call of every thread is looked
 * at, and none is an address in the heap; and all that it says and writes is what it says and writes
 * when it was never killed. (An eager heap is read straight into place, before there is a program: not here.)
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../../vm/js/engine/engine.h"
#include "support.h"

#define PROGRAMS THAW_SOURCE "/tests/programs/"

/* ---- A tracer ---- */

struct tracer {
	long calls;    /* that were looked at */
	bool heap;     /* there is one, where it should be */
	long offences; /* arguments that are addresses in it */
	char first[200];
	uint64_t submissions, submission_bytes; /* io_uring's queue, in the other process */
	bool mapping;				/* an mmap() of one is under way */
};

static bool in_heap(uint64_t address)
{
	return address - (uint64_t)JS_HEAP_ADDRESS < JS_HEAP_MAX_BYTES;
}

static void offend(struct tracer *tracer, uint64_t number, const char *what, uint64_t address)
{
	if (!tracer->offences++)
		snprintf(tracer->first, sizeof(tracer->first),
			 "system call %llu: %s is %#llx, in the heap", (unsigned long long)number,
			 what, (unsigned long long)address);
}

/*
 * How many arguments a system call has: what is in the registers behind them is left over from anything.
 * All six are looked at of those that are not here. 0: an address in the heap is what it is for.
 */
static unsigned arguments_of(uint64_t number)
{
	static const struct {
		long number;
		unsigned arguments;
	} known[] = {
		{SYS_mmap, 0},
		{SYS_munmap, 0},
		{SYS_mprotect, 0},
		{SYS_madvise, 0},
		{SYS_mincore, 3},
		{SYS_mlock, 0},
		{SYS_mlock2, 0},
		{SYS_mremap, 0},
		{SYS_exit, 1},
		{SYS_exit_group, 1},
		{SYS_rt_sigreturn, 0},
		{SYS_brk, 1},
		{SYS_read, 3},
		{SYS_write, 3},
		{SYS_close, 1},
		{SYS_pread64, 4},
		{SYS_pwrite64, 4},
		{SYS_readv, 3},
		{SYS_writev, 3},
		{SYS_preadv, 4},
		{SYS_pwritev, 4},
		{SYS_preadv2, 6},
		{SYS_pwritev2, 6},
		{SYS_openat, 4},
		{SYS_newfstatat, 4},
		{SYS_fstat, 2},
		{SYS_statx, 5},
		{SYS_readlinkat, 4},
		{SYS_faccessat, 3},
		{SYS_faccessat2, 4},
		{SYS_lseek, 3},
		{SYS_ftruncate, 2},
		{SYS_fallocate, 4},
		{SYS_fsync, 1},
		{SYS_fdatasync, 1},
		{SYS_flock, 2},
		{SYS_fcntl, 3},
		{SYS_ioctl, 3},
		{SYS_futex, 4},
		{SYS_getrandom, 3},
		{SYS_ppoll, 4},
		{SYS_epoll_create1, 1},
		{SYS_epoll_ctl, 4},
		{SYS_epoll_pwait, 6},
		{SYS_eventfd2, 2},
		{SYS_pipe2, 2},
		{SYS_dup, 1},
		{SYS_dup3, 3},
		{SYS_clone, 5},
		{SYS_clone3, 2},
		{SYS_set_robust_list, 2},
		{SYS_set_tid_address, 1},
		{SYS_rseq, 4},
		{SYS_rt_sigaction, 4},
		{SYS_rt_sigprocmask, 4},
		{SYS_sigaltstack, 2},
		{SYS_prctl, 5},
		{SYS_prlimit64, 4},
		{SYS_getpid, 0},
		{SYS_gettid, 0},
		{SYS_getuid, 0},
		{SYS_geteuid, 0},
		{SYS_getgid, 0},
		{SYS_getegid, 0},
		{SYS_tgkill, 3},
		{SYS_clock_gettime, 2},
		{SYS_clock_nanosleep, 4},
		{SYS_timer_create, 3},
		{SYS_timer_settime, 4},
		{SYS_timer_delete, 1},
		{SYS_timerfd_create, 2},
		{SYS_timerfd_settime, 4},
		{SYS_setitimer, 3},
		{SYS_nanosleep, 2},
		{SYS_uname, 1},
		{SYS_sysinfo, 1},
		{SYS_sched_yield, 0},
		{SYS_sched_getaffinity, 3},
		{SYS_memfd_create, 2},
		{SYS_userfaultfd, 1},
		{SYS_io_uring_setup, 2},
		{SYS_io_uring_enter, 6},
		{SYS_io_uring_register, 4},
		{SYS_execve, 3},
		{SYS_unlinkat, 3},
		{SYS_getcwd, 2},
		{SYS_mkdirat, 3},
		{SYS_sync_file_range, 4},
		{SYS_membarrier, 3},
		{SYS_restart_syscall, 0},
		{SYS_wait4, 4},
		{SYS_renameat2, 5},
		{SYS_socketpair, 4},
		{SYS_getdents64, 3},
#ifdef SYS_open /* x86-64 has them besides */
		{SYS_open, 3},
		{SYS_stat, 2},
		{SYS_lstat, 2},
		{SYS_access, 2},
		{SYS_readlink, 3},
		{SYS_poll, 3},
		{SYS_epoll_wait, 4},
		{SYS_pipe, 1},
		{SYS_dup2, 2},
		{SYS_unlink, 1},
		{SYS_arch_prctl, 2},
		{SYS_mkdir, 2},
		{SYS_getpgrp, 0},
		{SYS_rename, 2},
		{SYS_alarm, 1},
#endif
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if ((uint64_t)known[i].number == number)
			return known[i].arguments;
	return 6;
}

static bool peek(pid_t pid, uint64_t address, void *to, size_t bytes)
{
	struct iovec local = {to, bytes}, remote = {(void *)(uintptr_t)address, bytes};

	char path[32];
	bool read;
	int fd;

	if (process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)bytes)
		return true;
	/* Some filters for system calls leave ptrace and forbid that. */
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	read = fd >= 0 && pread(fd, to, bytes, (off_t)address) == (ssize_t)bytes;
	if (fd >= 0)
		close(fd);
	return read;
}

static void look_at_vectors(struct tracer *tracer, pid_t pid, uint64_t number, uint64_t address,
			    uint64_t count)
{
	struct iovec vectors[64];

	for (uint64_t done = 0; done < count; done += 64) {
		size_t some = count - done < 64 ? (size_t)(count - done) : 64;

		if (!peek(pid, address + done * sizeof(*vectors), vectors, some * sizeof(*vectors)))
			return;
		for (size_t i = 0; i < some; i++)
			if (in_heap((uintptr_t)vectors[i].iov_base))
				offend(tracer, number, "a vector", (uintptr_t)vectors[i].iov_base);
	}
}

/* All of the queue: what has been done already is still there, and was to be looked at, too. */
static void look_at_submissions(struct tracer *tracer, pid_t pid)
{
	struct io_uring_sqe entry;

	for (uint64_t at = 0; at + sizeof(entry) <= tracer->submission_bytes; at += sizeof(entry)) {
		if (!peek(pid, tracer->submissions + at, &entry, sizeof(entry)))
			return;
		if (in_heap(entry.addr))
			offend(tracer, SYS_io_uring_enter, "a buffer", entry.addr);
		if (entry.opcode == IORING_OP_READV || entry.opcode == IORING_OP_WRITEV)
			look_at_vectors(tracer, pid, SYS_io_uring_enter, entry.addr, entry.len);
	}
}

static void look_at_call(struct tracer *tracer, pid_t pid)
{
	struct __ptrace_syscall_info info = {0};
	uint64_t number;
	const __uint64_t *arguments = info.entry.args;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_EXIT && tracer->mapping) {
		tracer->mapping = false;
		tracer->submissions = (uint64_t)info.exit.rval;
	}
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	tracer->calls++;
	number = info.entry.nr;
	for (unsigned i = 0, count = arguments_of(number); i < count; i++)
		if (in_heap(arguments[i]))
			offend(tracer, number,
			       (const char *const[]){"its 1st argument", "its 2nd argument",
						     "its 3rd argument", "its 4th argument",
						     "its 5th argument", "its 6th argument"}[i],
			       arguments[i]);
	switch (number) {
	case SYS_mmap:
		tracer->heap |= arguments[0] == (uint64_t)JS_HEAP_ADDRESS &&
				arguments[3] & MAP_FIXED;
		if (arguments[5] == IORING_OFF_SQES && (int)arguments[4] >= 0) {
			tracer->mapping = true;
			tracer->submission_bytes = arguments[1];
		}
		break;
	case SYS_readv:
	case SYS_writev:
	case SYS_preadv:
	case SYS_pwritev:
	case SYS_preadv2:
	case SYS_pwritev2:
		look_at_vectors(tracer, pid, number, arguments[1], arguments[2]);
		break;
	case SYS_io_uring_register:
		if (arguments[1] == IORING_REGISTER_BUFFERS)
			look_at_vectors(tracer, pid, number, arguments[2], arguments[3]);
		break;
	case SYS_io_uring_enter:
		look_at_submissions(tracer, pid);
		break;
	}
}

/* Until all of its threads have ended. Returns the exit code, or 128 + the signal. */
static int tracer_follow(struct tracer *tracer, pid_t child)
{
	int status, result = -1;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		int signal = 0;

		if (pid < 0)
			continue;
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			if (pid == child)
				result = WIFEXITED(status) ? WEXITSTATUS(status)
							   : 128 + WTERMSIG(status);
			continue;
		}
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			look_at_call(tracer, pid);
		else if (!(status >> 16))
			signal = WSTOPSIG(status);
		ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)signal);
	}
	return result;
}

/* The child runs `start`, which should not return, once it is watched. False: nobody may watch. */
static bool trace(struct tracer *tracer, int *result, void (*start)(void *arg), void *arg)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
			     PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	int go[2], error;
	pid_t child;
	char byte = 0;

	*tracer = (struct tracer){0};
	if (pipe2(go, O_CLOEXEC))
		support_die("pipe");
	child = fork();
	if (!child) {
		close(go[1]);
		if (read(go[0], &byte, 1) == 1)
			start(arg);
		_exit(127);
	}
	close(go[0]);
	error = ptrace(PTRACE_SEIZE, child, NULL, (void *)options) ||
		ptrace(PTRACE_INTERRUPT, child, NULL, NULL);
	if (!error && write(go[1], &byte, 1) != 1)
		support_die("write");
	close(go[1]);
	if (!error)
		*result = tracer_follow(tracer, child);
	else
		waitpid(child, NULL, 0);
	return !error;
}

/* ---- The tracer is not blind ---- */

/* Six times, in five ways. */
static void hand_over_the_heap(void *arg)
{
	char *heap = mmap(JS_HEAP_ADDRESS, 1 << 20, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	struct iovec vectors[2] = {{arg, 0}, {heap + 5000, 0}}, *hidden = (void *)(heap + 8192);
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t child;
	ssize_t done;

	done = write(fd, heap + 100, 10);
	done = writev(fd, vectors, 2);
	*hidden = vectors[0];
	done = readv(fd, hidden, 1);
	done = open(strcpy(heap, "/dev/null"), O_RDONLY | O_CLOEXEC);
	child = fork();
	if (!child)
		_exit(read(fd, heap + (1 << 20) - 1, 1) < 0);
	waitpid(child, NULL, 0);
	mprotect(heap, 4096, PROT_READ);
	madvise(heap, 4096, MADV_DONTNEED);
	(void)done;
	_exit(prctl(PR_SET_NAME, heap + 4096, 0, 0, 0));
}

TEST(whoever_hands_the_heap_to_the_kernel_is_caught)
{
	struct tracer tracer;
	int code;

	if (!trace(&tracer, &code, hand_over_the_heap, NULL))
		SKIP(return, "no ptrace here: %s", strerror(errno));
	EXPECT_EQ(0, code);
	EXPECT_EQ(6, tracer.offences) TH_LOG("%s", tracer.first);
	EXPECT_TRUE(tracer.heap);
}

/* ---- The program ---- */

FIXTURE(hands)
{
	char *directory, *script, *image, *other;
	struct program program;
};
FIXTURE_VARIANT(hands)
{
	const char *delivery, *tracker, *reader, *every;
};
#define VARIANT(name, delivery_name, tracker_name, reader_name, interval)                  \
	FIXTURE_VARIANT_ADD(hands, name)                                                   \
	{                                                                                  \
		.delivery = delivery_name, .tracker = tracker_name, .reader = reader_name, \
		.every = interval                                                          \
	}
VARIANT(user_mode, "user-mode", "", "", "0");
VARIANT(user_mode_wp_sync, "user-mode", "wp-sync", "", "0");
VARIANT(user_mode_mprotect, "user-mode", "mprotect", "threads", "0");
VARIANT(user_mode_in_a_turn, "user-mode", "", "", "50ms");
VARIANT(sigsegv, "sigsegv", "", "", "0");
VARIANT(sigsegv_in_a_turn, "sigsegv", "", "threads", "50ms");

static void copy_into(const char *directory, const char *name)
{
	char *from = support_format(PROGRAMS "%s", name),
	     *to = support_format("%s/%s", directory, name);
	size_t bytes = support_size(from);
	char *text = calloc(1, bytes + 1);
	FILE *file = fopen(from, "re");

	if (!file || fread(text, 1, bytes, file) != bytes)
		support_die(from);
	fclose(file);
	support_write(to, text);
	free(text);
	free(from);
	free(to);
}

static void put(const char *directory, const char *name, const char *text)
{
	char *path = support_format("%s/%s", directory, name);

	support_write(path, text);
	free(path);
}

static void make_directory(const char *directory, const char *name)
{
	char *path = support_format("%s/%s", directory, name);

	if (mkdir(path, 0700))
		support_die(path);
	free(path);
}

FIXTURE_SETUP(hands)
{
	char *variable = calloc(1, 5011), *lacking;

	setenv("THAW_DELIVERY", variant->delivery, 1);
	setenv("THAW_TRACKER", variant->tracker, 1);
	setenv("THAW_BACKING", "", 1);
	setenv("THAW_READER", variant->reader, 1);
	self->directory = support_directory();
	lacking = support_kernel_lacks(self->directory);
	if (lacking) {
		free(variable);
		SKIP(return, "%s", lacking);
	}
	self->script = support_format("%s/old_data.js", self->directory);
	self->image = support_format("%s/killed.thaw", self->directory);
	self->other = support_format("%s/never.thaw", self->directory);
	copy_into(self->directory, "old_data.js");
	copy_into(self->directory, "old_data.mjs");
	put(self->directory, "late.mjs", "export default 'late';\n");
	put(self->directory, "late.json", "{ \"late\": \"json\" }\n");
	make_directory(self->directory, "node_modules");
	make_directory(self->directory, "node_modules/late-package");
	put(self->directory, "node_modules/late-package/package.json",
	    "{ \"main\": \"index.mjs\" }\n");
	put(self->directory, "node_modules/late-package/index.mjs", "export default 'package';\n");
	support_own_key(self->directory);
	for (int i = 0; i < 167; i++)
		memcpy(variable + 30 * i, "A_VARIABLE_OF_THE_ENVIRONMENT_", 30);
	setenv(variable, "its value", 1);
	free(variable);
	setenv("DIRECTORY", self->directory, 1);
	unsetenv("GO");
}
FIXTURE_TEARDOWN(hands)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	free(self->other);
	support_remove(self->directory);
}

struct launch {
	const char *const *arguments;
	char *in, *out, *err; /* files */
};

static void launch(void *arg)
{
	const struct launch *launch = arg;
	int in = open(launch->in, O_RDONLY | O_CLOEXEC),
	    out = open(launch->out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600),
	    err = open(launch->err, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const char *options = getenv("ASAN_OPTIONS");

	/* A sanitizer looks for leaks as a tracer does, and a process has one. */
	setenv("ASAN_OPTIONS", support_format("%s:detect_leaks=0", options ? options : ""), 1);
	if (dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2)
		execv(launch->arguments[0], (char *const *)launch->arguments);
}

/* malloc'ed; empty if there is no such file. */
static char *contents(const char *path, size_t *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t room = fd < 0 ? 0 : (size_t)lseek(fd, 0, SEEK_END);
	char *text = calloc(1, room + 1);

	if (room && pread(fd, text, room, 0) != (ssize_t)room)
		support_die(path);
	if (fd >= 0)
		close(fd);
	*bytes = room;
	return text;
}

static bool same_text(const char *what, const char *a, size_t a_bytes, const char *b,
		      size_t b_bytes)
{
	size_t at = 0;

	if (a_bytes == b_bytes && !memcmp(a, b, a_bytes))
		return true;
	while (at < a_bytes && at < b_bytes && a[at] == b[at])
		at++;
	printf("# %s: %zu and %zu bytes, different from %zu on:\n# %.100s\n# %.100s\n", what,
	       a_bytes, b_bytes, at, a + (at > 20 ? at - 20 : 0), b + (at > 20 ? at - 20 : 0));
	return false;
}

/* What a traced process said, and whether it was caught. */
#define TRACE(...)                                                                     \
	do {                                                                           \
		struct launch launch_it = {THAW(__VA_ARGS__),                          \
					   support_format("%s/in", self->directory),   \
					   support_format("%s/out", self->directory),  \
					   support_format("%s/err", self->directory)}; \
                                                                                       \
		if (!trace(&tracer, &code, launch, &launch_it))                        \
			SKIP(return, "no ptrace here: %s", strerror(errno));           \
		free(out);                                                             \
		free(err);                                                             \
		out = contents(launch_it.out, &out_bytes);                             \
		err = contents(launch_it.err, &err_bytes);                             \
		free(launch_it.in);                                                    \
		free(launch_it.out);                                                   \
		free(launch_it.err);                                                   \
		if (!tracer.heap)                                                      \
			SKIP(return, "the heap lies elsewhere");                       \
		EXPECT_EQ(0, tracer.offences) TH_LOG("%s", tracer.first);              \
		TH_LOG("%ld system calls, %ld of them with the heap", tracer.calls,    \
		       tracer.offences);                                               \
	} while (0)

#define FILES 4

TEST_F_TIMEOUT(hands, a_program_with_old_data, 300)
{
	struct program never = {0};
	char *files[FILES], *path, *text, *out = NULL, *err = NULL;
	size_t sizes[FILES], bytes, out_bytes, err_bytes;
	unsigned long long restores, pages, heap_bytes;
	struct tracer tracer;
	int code;

	put(self->directory, "in", "");
	setenv("GO", "1", 1);
	never = program_start(THAW("run", "-q", "--every", variant->every, "--image", self->other,
				   self->script, "an argument"));
	ASSERT_EQ(1, program_finish(&never, 200)) TH_LOG("%s", never.errors);
	for (int i = 0; i < FILES; i++) {
		path = support_format("%s/file-%d", self->directory, i);
		files[i] = contents(path, &sizes[i]);
		EXPECT_LT(10000, sizes[i]);
		unlink(path);
		free(path);
	}

	unsetenv("GO");
	self->program = program_start(THAW("run", "-v", "--every", variant->every, "--image",
					   self->image, self->script, "an argument"));
	ASSERT_TRUE(program_wait_for(&self->program, "ready", 100))
	TH_LOG("%s", self->program.errors);
	if (strcmp(variant->every, "0")) /* and one that stopped the loop that it waits in */
		ASSERT_TRUE(program_wait_for_complaint(&self->program, "generation 4", 100));
	program_kill(&self->program);

	setenv("GO", "1", 1);
	TRACE("run", "-q", "--every", variant->every, "--image", self->image, self->script,
	      "an argument");
	EXPECT_EQ(1, code) TH_LOG("%.300s", err);
	EXPECT_LT(200, tracer.calls);
	EXPECT_TRUE(same_text("output", never.output, never.output_bytes, out, out_bytes));
	EXPECT_TRUE(same_text("errors", never.errors, never.errors_bytes, err, err_bytes));
	for (int i = 0; i < FILES; i++) {
		path = support_format("%s/file-%d", self->directory, i);
		text = contents(path, &bytes);
		EXPECT_TRUE(same_text(path, files[i], sizes[i], text, bytes));
		free(text);
		free(files[i]);
		free(path);
	}
	/* It was a heap of missing pages. */
	path = support_format("%s/lazy", self->directory);
	text = contents(path, &bytes);
	ASSERT_EQ(3, sscanf(text, "%llu %llu %llu", &restores, &pages, &heap_bytes));
	EXPECT_EQ(1, restores);
	EXPECT_LT(pages * (unsigned long long)sysconf(_SC_PAGESIZE), heap_bytes / 4);
	free(text);
	free(path);
	free(out);
	free(err);
	program_free(&never);
}

/* Whatever a shell of yesterday is asked. */
TEST_F_TIMEOUT(hands, a_shell_with_old_data, 300)
{
	char *out = NULL, *err = NULL;
	size_t out_bytes, err_bytes;
	struct tracer tracer;
	int code;

	ASSERT_EQ(0, program_run(&self->program,
				 "big = 'old text '.repeat(20000) + '!'\n"
				 "list = Array.from({ length: 30000 }, (_, i) => ({ i }))\n"
				 "fail = () => { throw new Error(big.slice(0, 9000)) }\n",
				 THAW("repl", self->image)))
	TH_LOG("%s", self->program.errors);
	put(self->directory, "in",
	    "big.length\nbig\nlist[29999]\nlist\nfail()\n(await import('./late.mjs')).default\nbig = big + big; big.length\n");
	TRACE("repl", self->image);
	EXPECT_EQ(1, code) TH_LOG("%.300s", err);
	EXPECT_NE(NULL, strstr(out, "180001"));
	EXPECT_NE(NULL, strstr(out, "old text old text"));
	EXPECT_NE(NULL, strstr(out, "29999"));
	EXPECT_NE(NULL, strstr(out, "360002"));
	free(out);
	free(err);
}

TEST_HARNESS_MAIN
