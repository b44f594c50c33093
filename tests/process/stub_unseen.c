// SPDX-License-Identifier: GPL-2.0-only
/*
 * stub_unseen.c - a program that runs with the stub, and its children, see nothing of it: environment, descriptors,
 * signals, ids of threads and children of a process before. They do what they do without it, and may ask for generations.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <linux/close_range.h>

#include "kselftest_harness.h"
#include "process/stub/raw.h"
#include "roles.h"

/* ---- The guest */

static volatile uint64_t guest_counter, guest_phase;
static volatile uint64_t guest_started; /* threads that were created */

/* Says what it can see of us, a line each; nothing is what it should be. */
static void guest_role_looks(void)
{
	struct sigaction action;
	char path[64], *text;
	size_t bytes;
	FILE *file;

	if (getenv("LD_PRELOAD") && strcmp(getenv("LD_PRELOAD"), "/nowhere/users.so"))
		printf("LD_PRELOAD is %s\n", getenv("LD_PRELOAD"));
	for (char **entry = environ; *entry; entry++)
		if (!strncmp(*entry, "THAW_STUB", 9) || strstr(*entry, "/proc/self/fd"))
			printf("in the environment: %s\n", *entry);
	file = fopen("/proc/self/environ", "re");
	text = calloc(1, 1 << 20);
	bytes = fread(text, 1, 1 << 20, file);
	fclose(file);
	if (memmem(text, bytes, "THAW_STUB", 9) || memmem(text, bytes, "/proc/self/fd", 13))
		puts("in /proc/self/environ");
	for (int fd = 3; fd < 500; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (fcntl(fd, F_GETFD) >= 0)
			printf("descriptor %d is open\n", fd);
	}
	for (int fd = 500; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) == 0)
			printf("descriptor %d stays open across execve\n", fd);
	for (int i = 1; i < 65; i++)
		if (!sigaction(i, NULL, &action) && action.sa_handler != SIG_DFL && i != SIGUSR1)
			printf("signal %d has a handler, or is ignored\n", i);
	if (!sigaction(SIGUSR1, NULL, &action) && action.sa_handler != SIG_IGN)
		puts("a signal that was ignored is not");
	fflush(stdout);
	if (fork() == 0) {
		if (!msync((void *)CONTROL_ADDRESS, 4096, MS_ASYNC))
			puts("the child has the control block");
		for (int fd = 3; fd < 4096; fd++)
			if (fcntl(fd, F_GETFD) >= 0)
				printf("the child has descriptor %d\n", fd);
		/* It is harmless there. */
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), CONTROL_SIGNAL);
		fflush(stdout);
		execlp("sh", "sh", "-c",
		       "cat /proc/self/maps | grep thaw; env | grep -a THAW_STUB; "
		       "env | grep -a LD_PRELOAD=/proc",
		       NULL);
		_exit(9);
	}
	wait(&(int){0});
	puts("looked");
	fflush(stdout);
}

/* Closes all that it can, as daemons do, and wants the numbers of ours. */
static void guest_role_closes(void)
{
	int saved = dup(1);

	for (int fd = 3; fd < 4096; fd++)
		if (fd != saved)
			close(fd);
	close_range(700, 800, 0);
	close_range((unsigned)saved + 1, ~0u, 0);
	syscall(SYS_close_range, saved + 1, ~0u, 0);
	closefrom(saved + 1);
	for (int fd = CONTROL_FD_END - 1; fd > CONTROL_FD_END - 10; fd--) {
		if (dup2(saved, fd) != fd)
			puts("dup2 failed");
		if (fcntl(fd, F_GETFD) != 0)
			puts("it is not open");
	}
	if (syscall(SYS_io_uring_setup, 4, NULL) >= 0 || errno != ENOSYS)
		puts("io_uring");
	if (syscall(SYS_getpid) != getpid() || syscall(SYS_close, -1) != -1 || errno != EBADF)
		puts("syscall");
	fflush(stdout);
	guest_phase = 1;
	for (;;)
		pause();
}

static void guest_cleanup(void *argument)
{
	__atomic_add_fetch((uint64_t *)argument, 1, __ATOMIC_SEQ_CST);
}

static void *guest_cancelled(void *argument)
{
	struct timespec hour = {3600, 0};
	int how = (int)(uintptr_t)argument;

	pthread_cleanup_push(guest_cleanup, (void *)&guest_counter);
	__atomic_add_fetch(&guest_started, 1, __ATOMIC_SEQ_CST);
	if (how == 0)
		for (;;)
			nanosleep(&hour, NULL);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	for (;;)
		;
	pthread_cleanup_pop(0);
	return NULL;
}

static void guest_role_cancels(void)
{
	for (int round = 0;; round++) {
		pthread_t thread;
		void *result = NULL;

		if (pthread_create(&thread, NULL, guest_cancelled, (void *)(uintptr_t)(round % 2)))
			_exit(3);
		while (guest_started <= (uint64_t)round)
			sched_yield();
		if (pthread_cancel(thread) || pthread_join(thread, &result))
			_exit(4);
		if (result != PTHREAD_CANCELED || guest_counter != (uint64_t)round + 1)
			_exit(5);
	}
}

/* As wrappers do: one that does not exist, then a shell that executes this program again. */
static void guest_role_execs(void)
{
	execl("/nowhere/program", "program", NULL);
	setenv(ROLE, "looks", 1);
	execlp("sh", "sh", "-c", "exec /proc/$$/fd/9", NULL);
	_exit(9);
}

/* It asks by the functions that Thaw's modules find in the stub. */
static void guest_role_asks(void)
{
	int (*checkpoint)(const char *, uint64_t *, char *, size_t) =
		(int (*)(const char *, uint64_t *, char *, size_t))dlsym(RTLD_DEFAULT,
									 "thaw_stub_checkpoint");
	uint64_t generation = 0;
	char text[256];

	if (!checkpoint)
		_exit(3);
	if (checkpoint("a-name", &generation, text, sizeof(text)) || generation != 4711)
		_exit(4);
	if (checkpoint(NULL, &generation, text, sizeof(text)) != -EROFS ||
	    strcmp(text, "there is no image"))
		_exit(5);
	if (checkpoint("one-that-is-much-too-long-to-be-the-name-of-any-generation-of-an-image",
		       NULL, text, sizeof(text)) != -EINVAL)
		_exit(6);
	_exit(0);
}

static volatile pthread_t guest_threads[2];
static volatile uint64_t guest_tids[2], guest_signalled[2];

static void guest_handler(int number)
{
	(void)number;
	guest_signalled[pthread_equal(pthread_self(), guest_threads[1])]++;
}

static void *guest_is_signalled(void *argument)
{
	guest_tids[(uintptr_t)argument] = (uint64_t)syscall(SYS_gettid);
	__atomic_add_fetch(&guest_started, 1, __ATOMIC_SEQ_CST);
	for (;;)
		pause();
	return NULL;
}

/* What it asks for by numbers of the process before. */
static void guest_role_remembers(void)
{
	struct timespec time;
	struct rlimit limit;
	siginfo_t info;
	clockid_t clock;
	cpu_set_t set;
	pid_t child;
	int status;

	signal(SIGUSR2, guest_handler);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create((pthread_t *)&guest_threads[i], NULL, guest_is_signalled, (void *)i);
	while (guest_phase == 0) /* the supervisor writes the numbers */
		sched_yield();
	/* The first thread's number is the second's now; and so is one that never was. */
	if (pthread_kill(guest_threads[0], SIGUSR2) || tgkill(getpid(), 999999, SIGUSR2) ||
	    syscall(SYS_tgkill, 999990, 999999, SIGUSR2) ||
	    pthread_sigqueue(guest_threads[0], SIGUSR2, (union sigval){0}))
		_exit(3);
	while (guest_signalled[1] < 1)
		sched_yield();
	if (guest_signalled[0])
		_exit(4);
	if (pthread_getaffinity_np(guest_threads[0], sizeof(set), &set) || !CPU_COUNT(&set) ||
	    sched_getaffinity(999999, sizeof(set), &set) || !CPU_COUNT(&set) ||
	    pthread_getcpuclockid(guest_threads[0], &clock) || clock_gettime(clock, &time))
		_exit(5);
	if (kill(999990, 0))
		_exit(6);
	/* It is who it was; a child is not. */
	if (getpid() != 999990 || syscall(SYS_getpid) != 999990 || getpgid(getpid()) != getpgrp() ||
	    getsid(999990) != getsid(0) || setpriority(PRIO_PROCESS, getpid(), 0) ||
	    prlimit(getpid(), RLIMIT_CORE, NULL, &limit))
		_exit(13);
	if (!(child = fork()))
		_exit(getpid() == 999990 || getpid() != syscall(SYS_gettid));
	if (waitpid(child, &status, 0) != child || status)
		_exit(14);
	/* Children: each once. */
	if (waitpid(999991, &status, WNOHANG) != 999991 || !WIFSIGNALED(status) ||
	    WTERMSIG(status) != SIGKILL)
		_exit(7);
	if (waitpid(999991, &status, 0) != -1 || errno != ECHILD)
		_exit(8);
	if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) || info.si_pid != 999992 ||
	    info.si_code != CLD_KILLED || wait(&status) != 999992)
		_exit(9);
	if (waitid(P_PID, 999993, &info, WEXITED) || info.si_pid != 999993)
		_exit(10);
	if (wait(&status) != -1 || errno != ECHILD)
		_exit(11);
	if (pthread_cancel(guest_threads[1]) || pthread_join(guest_threads[1], NULL))
		_exit(12);
	_exit(0);
}

/* Wants to live on, without its descriptors' owner. */
static void guest_role_changes_user(void)
{
	if (prctl(PR_SET_PDEATHSIG, 0) || (!geteuid() && setuid(65534)))
		_exit(3);
	guest_phase = 1;
	for (;;)
		pause();
}

/* SIGUSR1 is ignored from the start, as nohup does; the constructor in spawn.c comes after that. */
__attribute__((constructor(101))) static void ignore_a_signal(void)
{
	if (!getenv(ROLE))
		signal(SIGUSR1, SIG_IGN);
}

static const struct role roles[] = {
	{"looks", guest_role_looks},
	{"closes", guest_role_closes},
	{"cancels", guest_role_cancels},
	{"execs", guest_role_execs},
	{"asks", guest_role_asks},
	{"remembers", guest_role_remembers},
	{"changes user", guest_role_changes_user},
};

__attribute__((constructor)) static void guest_main(void)
{
	run_role(roles, sizeof(roles) / sizeof(*roles));
}

/* ---- The supervisor */

/* The same, with its standard output in a pipe, which is returned. */
static int start_with_output(struct process *process, const char *role, struct thaw_error *error)
{
	int ends[2], saved = fcntl(1, F_DUPFD_CLOEXEC, 3), result;

	if (pipe2(ends, O_CLOEXEC) || dup2(ends[1], 1) != 1)
		support_die("pipe");
	result = start_role(process, role, error);
	dup2(saved, 1);
	close(saved);
	close(ends[1]);
	if (!result)
		return ends[0];
	close(ends[0]);
	return -1;
}

static char *read_all(int fd)
{
	char *text = calloc(1, 65536);
	size_t bytes = 0;
	ssize_t got;

	while ((got = read(fd, text + bytes, 65535 - bytes)) > 0)
		bytes += (size_t)got;
	close(fd);
	return text;
}

TEST_F(parked, the_program_and_its_children_see_nothing_of_the_stub)
{
	char *text;
	int out;

	SKIP_SANITIZED();
	/* What this test has inherited is no matter. */
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
	setenv("LD_PRELOAD", "/nowhere/users.so", 1);
	out = start_with_output(&self->process, "looks", &self->error);
	unsetenv("LD_PRELOAD");
	ASSERT_LT(0, out)
	TH_LOG("%s", self->error.text);
	process_continue(&self->process);
	text = read_all(out);
	EXPECT_STREQ("looked\n", text);
	EXPECT_EQ(0, end_of(&self->process));
	free(text);
	/* Without a variable of the user's. */
	process_close(&self->process);
	out = start_with_output(&self->process, "looks", &self->error);
	ASSERT_LT(0, out);
	process_continue(&self->process);
	text = read_all(out);
	EXPECT_STREQ("looked\n", text);
	free(text);
}

TEST_F(parked, descriptors_of_ours_outlive_whatever_the_program_closes)
{
	int fd;

	START("closes");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	ASSERT_EQ(0, process_stop(&self->process, &self->error));
	fd = remote_take_fd(&self->process.remote, self->process.threads[0].mailbox, 1);
	EXPECT_LT(2, fd)
	TH_LOG("socket %d: %s", self->process.remote.control->socket, strerror(-fd));
	close(fd);
}

TEST_F(parked, threads_are_cancelled_while_they_stop_and_go_on)
{
	START("cancels");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_counter, 20));
	for (int i = 0; i < 200; i++) {
		ASSERT_EQ(0, process_stop(&self->process, &self->error))
		TH_LOG("%d: %s", i, self->error.text);
		process_continue(&self->process);
	}
	EXPECT_TRUE(
		wait_for(&self->process, &guest_counter, peek(&self->process, &guest_counter) + 20))
	TH_LOG("status %x", end_of(&self->process));
}

/* Serve what the program asks for, until it has executed another one. */
static bool wait_for_execution(struct process *process, struct request *request)
{
	double end = support_deadline(20);

	while (support_seconds() < end && remote_alive(&process->remote)) {
		struct pollfd ready = {process->remote.socket, POLLIN, 0};

		poll(&ready, 1, 20);
		if (remote_next_request(&process->remote, request))
			return request->kind == REQUEST_EXECUTED;
	}
	return false;
}

TEST_F(parked, the_stub_comes_along_into_a_program_that_replaces_it)
{
	struct remote *remote = &self->process.remote;
	char *text, *const arguments[] = {"/proc/self/exe", NULL};
	struct request request;
	int ends[2], saved = dup(1), self_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	SKIP_SANITIZED();
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
	ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
	dup2(ends[1], 1);
	dup2(self_fd, 9);
	setenv(ROLE, "execs", 1);
	ASSERT_EQ(0, process_spawn(&self->process, arguments, environ, &self->error));
	unsetenv(ROLE);
	close(9);
	dup2(saved, 1);
	close(ends[1]);
	process_continue(&self->process);
	/* The shell, and then what that has executed. */
	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(wait_for_execution(&self->process, &request));
		EXPECT_EQ(PROCESS_EREFUSED, process_stop(&self->process, &self->error));
		ASSERT_EQ(0, process_executed(&self->process, &self->error));
		ASSERT_EQ(0, process_stop(&self->process, &self->error))
		TH_LOG("%s", self->error.text);
		ASSERT_EQ(1, self->process.thread_count);
		EXPECT_EQ(remote->pid, remote_call(remote, 0, SYS_getpid, 0, 0, 0, 0, 0, 0));
		process_continue(&self->process);
		remote_answer(remote, &(struct answer){.number = request.number});
	}
	text = read_all(ends[0]);
	EXPECT_STREQ("descriptor 9 is open\nthe child has descriptor 9\nlooked\n", text);
	EXPECT_EQ(0, end_of(&self->process));
	free(text);
}

TEST_F(parked, a_program_that_has_changed_its_user_dies_with_the_supervisor)
{
	int signal_there = 0, *here;
	uint64_t there;

	START("changes user");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	for (int i = 0; i < 2; i++) { /* it is set when the thread leaves */
		ASSERT_EQ(0, process_stop(&self->process, &self->error))
		TH_LOG("%s", self->error.text);
		there = remote_room(&self->process.remote, sizeof(*here), (void **)&here);
		remote_call(&self->process.remote, self->process.threads[0].mailbox, SYS_prctl,
			    PR_GET_PDEATHSIG, there, 0, 0, 0, 0);
		signal_there = *here;
		process_continue(&self->process);
	}
	EXPECT_EQ(SIGKILL, signal_there);
}

TEST_F(parked, a_program_asks_for_a_generation_and_waits_for_the_answer)
{
	struct remote *remote = &self->process.remote;
	struct answer answers[2] = {{.generation = 4711},
				    {.code = -EROFS, .text = "there is no image"}};
	struct request request = {0};

	START("asks");
	process_continue(&self->process);
	for (int i = 0; i < 2; i++) {
		struct pollfd ready = {remote->socket, POLLIN, 0};
		int fd;

		ASSERT_EQ(1, poll(&ready, 1, 20000 * (int)test_patience_now()));
		/* Descriptors come by the same way. */
		ASSERT_EQ(0, process_stop(&self->process, &self->error));
		fd = remote_take_fd(remote, self->process.threads[0].mailbox, 0);
		EXPECT_LE(0, fd);
		close(fd);
		ASSERT_EQ(0, interrupted_restart(&self->process, &self->error));
		process_continue(&self->process);
		ASSERT_TRUE(remote_next_request(remote, &request));
		EXPECT_FALSE(remote_next_request(remote, &(struct request){0}));
		EXPECT_EQ(REQUEST_CHECKPOINT, request.kind);
		EXPECT_STREQ(i ? "" : "a-name", request.name);
		/* One that nobody has asked for is passed over. */
		remote_answer(remote, &(struct answer){.number = 1000, .code = -EIO});
		answers[i].number = request.number;
		remote_answer(remote, &answers[i]);
	}
	EXPECT_EQ(0, end_of(&self->process));
}

TEST_F(parked, numbers_of_the_process_before_mean_what_there_is_now)
{
	struct remote *remote = &self->process.remote;
	uint64_t stub, one = 1;
	struct stub_memory memory;

	START("remembers");
	stub = self->process.stub;
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_started, 2));
	ASSERT_EQ(0, process_stop(&self->process, &self->error));
	ASSERT_EQ(0, remote_read(remote, stub, &memory, sizeof(memory)));
	EXPECT_EQ(CONTROL_MAGIC, memory.magic);
	EXPECT_EQ(remote->pid, memory.remembered_pid);
	memory.remembered_pid = 999990;
	memory.restored = 1;
	memory.tids[0].remembered = 999999;
	memory.tids[0].now = (int32_t)peek(&self->process, &guest_tids[1]);
	memory.tids[1].remembered = (int32_t)peek(&self->process, &guest_tids[0]);
	memory.tids[1].now = memory.tids[0].now;
	memory.tid_count = 2;
	for (int i = 0; i < 3; i++)
		memory.children[i].pid = 999991 + i;
	memory.child_count = 3;
	ASSERT_EQ(0, remote_write(remote, stub, &memory, sizeof(memory)));
	ASSERT_EQ(0, remote_write(remote, (uintptr_t)&guest_phase, &one, sizeof(one)));
	process_continue(&self->process);
	EXPECT_EQ(0, end_of(&self->process));
}

/* To its end, with a stop every few milliseconds; what it printed. */
static char *run_with_stops(struct process *process, char *const *arguments, unsigned *stops)
{
	struct thaw_error error = {0};
	int ends[2], saved = fcntl(1, F_DUPFD_CLOEXEC, 3), result;
	struct request request;

	*stops = 0;
	if (pipe2(ends, O_CLOEXEC) || dup2(ends[1], 1) != 1)
		support_die("pipe");
	result = process_spawn(process, arguments, environ, &error);
	dup2(saved, 1);
	close(saved);
	close(ends[1]);
	if (result)
		return support_format("%s", error.text);
	process_continue(process);
	while (remote_alive(&process->remote)) {
		struct pollfd ready[2] = {{process->remote.pidfd, POLLIN, 0},
					  {process->remote.socket, POLLIN, 0}};

		poll(ready, 2, 3);
		while (remote_next_request(&process->remote, &request)) {
			process_executed(process, &error);
			remote_answer(&process->remote, &(struct answer){.number = request.number});
		}
		result = process_stop(process, &error);
		if (!result) {
			++*stops;
			result = interrupted_restart(process, &error);
			process_continue(process);
		}
		if (result && result != -ESRCH && result != -EAGAIN &&
		    result != PROCESS_EREFUSED) /* it executes another one just now */
			return support_format("%s", error.text);
	}
	return read_all(ends[0]);
}

/* What a shell prints that runs it without us. */
static char *run_without(char *const *arguments)
{
	struct program program;
	char *text;

	program_run(&program, NULL, (const char *const *)arguments);
	text = strdup(program.output);
	program_free(&program);
	return text;
}

static void expect_the_same(struct __test_metadata *_metadata, struct process *process,
			    char *const *arguments)
{
	char *expected = run_without(arguments), *text;
	unsigned stops;

	text = run_with_stops(process, arguments, &stops);
	EXPECT_STREQ(expected, text);
	EXPECT_LT(10, stops);
	EXPECT_EQ(0, end_of(process));
	free(expected);
	free(text);
}

static bool is_there(const char *program)
{
	char *command = support_format("command -v %s >/dev/null", program);
	int status = system(command);

	free(command);
	return !status;
}

TEST_F(parked, node_prints_the_same)
{
	char script[] =
		"const { Worker, isMainThread, parentPort } = require('worker_threads');"
		"const w = new Worker(`let x = 0; for (let i = 0; i < 2e7; i++) x = (x * 31 + i) | 0;"
		"require('worker_threads').parentPort.postMessage(x)`, { eval: true });"
		"w.on('message', x => { console.log(x);"
		"require('child_process').exec('sleep 0.1; echo child', (e, out) => {"
		"  console.log(e, out);"
		"  let n = 0, h = ''; const t = setInterval(() => {"
		"    h = require('crypto').createHash('md5').update(h + n).digest('hex');"
		"    if (++n == 40) { clearInterval(t); console.log(h);"
		"      require('fs').readFile('/proc/self/comm', 'utf8', (e, d) => console.log(d)); }"
		"  }, 2); }); });";
	char *const arguments[] = {"node", "-e", script, NULL};

	if (!is_there("node"))
		SKIP(return, "there is no node");
	expect_the_same(_metadata, &self->process, arguments);
}

TEST_F(parked, python_prints_the_same)
{
	char script[] = "import threading, hashlib, subprocess, time\n"
			"out = {}\n"
			"def f(i):\n"
			"    h = b''\n"
			"    for k in range(20000): h = hashlib.sha256(h + b'%d' % k).digest()\n"
			"    out[i] = h.hex()\n"
			"ts = [threading.Thread(target=f, args=(i,)) for i in range(4)]\n"
			"for t in ts: t.start()\n"
			"for t in ts: t.join()\n"
			"print(sorted(out.items()))\n"
			"time.sleep(0.1)\n"
			"print(subprocess.run(['sh', '-c', 'sleep 0.1; echo hi; exit 3'],"
			" capture_output=True))\n";
	char *const arguments[] = {"python3", "-c", script, NULL};

	if (!is_there("python3"))
		SKIP(return, "there is no python3");
	expect_the_same(_metadata, &self->process, arguments);
}

TEST_HARNESS_MAIN
