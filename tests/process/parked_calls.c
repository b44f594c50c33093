// SPDX-License-Identifier: GPL-2.0-only
/*
 * parked_calls.c - programs that run with the stub: their threads park and go on, and make calls meanwhile; and the
 * restorer, whose threads are parked from birth.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"
#include "process/stub/raw.h"
#include "roles.h"

/* ---- The guest */

static volatile uint64_t guest_counter, guest_phase;
static volatile uint64_t guest_started; /* threads that were created */

static void *guest_churned(void *argument)
{
	__atomic_add_fetch((uint64_t *)argument, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void *guest_churn(void *argument)
{
	struct timespec moment = {0, 2000000}; /* the processors are for the stops, too */
	pthread_t thread;

	for (;;) {
		if (pthread_create(&thread, NULL, guest_churned, argument))
			_exit(3);
		__atomic_add_fetch(&guest_started, 1, __ATOMIC_SEQ_CST);
		if (pthread_join(thread, NULL))
			_exit(4);
		nanosleep(&moment, NULL);
	}
	return NULL;
}

static void guest_role_churn(void)
{
	pthread_t threads[50];

	for (int i = 0; i < 50; i++)
		pthread_create(&threads[i], NULL, guest_churn, (void *)&guest_counter);
	guest_phase = 1;
	for (;;)
		pause();
}

static void *guest_wait(void *argument)
{
	(void)argument;
	__atomic_add_fetch(&guest_started, 1, __ATOMIC_SEQ_CST);
	for (;;)
		pause();
	return NULL;
}

static void guest_role_threads(void)
{
	pthread_t threads[11];

	for (int i = 0; i < 11; i++)
		pthread_create(&threads[i], NULL, guest_wait, NULL);
	for (;;)
		pause();
}

static void guest_role_vforks(void)
{
	guest_phase = 1;
	if (vfork() == 0) {
		struct timespec pause = {20, 0};

		nanosleep(&pause, NULL);
		_exit(0);
	}
	_exit(0);
}

/* Without the stub: by no function of libc's. */
static void guest_role_escapes(void)
{
	char *const arguments[] = {"sleep", "1000", NULL};

	raw_call(SYS_execve, (uintptr_t) "/bin/sleep", (uintptr_t)arguments, (uintptr_t)environ, 0,
		 0, 0);
	_exit(9);
}

static void *guest_goes_on(void *argument)
{
	(void)argument;
	for (;;)
		guest_counter++;
	return NULL;
}

static void guest_role_main_thread_exits(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, guest_goes_on, NULL);
	syscall(SYS_exit, 0); /* as pthread_exit(), which cannot be called in a constructor */
}

static void guest_role_exit(void)
{
	_exit(7);
}

static const struct role roles[] = {
	{"churn", guest_role_churn},
	{"threads", guest_role_threads},
	{"vforks", guest_role_vforks},
	{"escapes", guest_role_escapes},
	{"main thread exits", guest_role_main_thread_exits},
	{"exit", guest_role_exit},
};

__attribute__((constructor)) static void guest_main(void)
{
	run_role(roles, sizeof(roles) / sizeof(*roles));
}

/* ---- The supervisor */

TEST_F(parked, program_begins_parked_and_ends_as_without)
{
	START("exit");
	ASSERT_TRUE(self->process.stopped);
	ASSERT_EQ(1, self->process.thread_count);
	EXPECT_EQ(self->process.remote.pid, self->process.threads[0].tid);
	EXPECT_EQ(self->process.remote.pid,
		  remote_call(&self->process.remote, 0, SYS_getpid, 0, 0, 0, 0, 0, 0));
	process_continue(&self->process);
	EXPECT_EQ(7 << 8, end_of(&self->process));
}

TEST_F(parked, threads_that_come_and_go_stop_five_hundred_times)
{
	uint64_t before = 0;

	START("churn");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	for (int i = 0; i < 500; i++) {
		uint64_t counted, begun;

		ASSERT_EQ(0, process_stop(&self->process, &self->error))
		TH_LOG("%d: %s (status %x)", i, self->error.text, end_of(&self->process));
		counted = peek(&self->process, &guest_counter);
		begun = peek(&self->process, &guest_started);
		EXPECT_LE(51, self->process.thread_count);
		EXPECT_LE(before, counted);
		EXPECT_LE(begun, counted + 100);
		/* Nobody runs: nothing changes. */
		for (int again = 0; again < 20; again++)
			ASSERT_EQ(counted, peek(&self->process, &guest_counter));
		before = counted;
		process_continue(&self->process);
	}
	EXPECT_TRUE(wait_for(&self->process, &guest_counter, before + 100));
}

TEST_F(parked, all_threads_make_calls_at_once)
{
	struct remote *remote = &self->process.remote;

	START("threads");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_started, 11));
	ASSERT_EQ(0, process_stop(&self->process, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(12, self->process.thread_count);
	EXPECT_EQ(remote->pid, self->process.threads[0].tid);
	for (int round = 0; round < 50; round++) {
		struct call *calls[12];

		for (int i = 0; i < 12; i++) {
			calls[i] = remote_add(remote, self->process.threads[i].mailbox, SYS_gettid,
					      0, 0, 0, 0, 0, 0);
			ASSERT_EQ(0, remote_post(remote, self->process.threads[i].mailbox));
		}
		for (int i = 0; i < 12; i++) {
			ASSERT_EQ(0, remote_wait(remote, self->process.threads[i].mailbox));
			EXPECT_EQ(self->process.threads[i].tid, calls[i]->result);
		}
	}
}

TEST_F(parked, the_calls_of_a_batch_use_results_of_those_before)
{
	struct remote *remote = &self->process.remote;
	struct call *opened, *got, *closed, *failed, *not_made;
	char *text;
	uint64_t room;

	START("threads");
	room = remote_room(remote, 64, (void **)&text);
	opened = remote_add(remote, 0, SYS_openat, (uint64_t)AT_FDCWD,
			    remote_string(remote, "/proc/self/comm"), O_RDONLY, 0, 0, 0);
	got = remote_add(remote, 0, SYS_read, 0, room, 64, 0, 0, 0);
	got->from[0] = 1;
	closed = remote_add(remote, 0, SYS_close, 0, 0, 0, 0, 0, 0);
	closed->from[0] = 1;
	/* One may fail, the next may not. */
	remote_add(remote, 0, SYS_close, 0, 0, 0, 0, 0, 0)->flags = CALL_MAY_FAIL;
	remote->control->mailboxes[0].calls[3].from[0] = 1;
	failed = remote_add(remote, 0, SYS_close, (uint64_t)-1, 0, 0, 0, 0, 0);
	not_made = remote_add(remote, 0, SYS_getpid, 0, 0, 0, 0, 0, 0);
	ASSERT_EQ(0, remote_run(remote, 0));
	EXPECT_LE(0, opened->result);
	EXPECT_LT(0, got->result);
	EXPECT_EQ(0, strncmp(text, "exe\n", 4));
	EXPECT_EQ(0, closed->result);
	EXPECT_EQ(-EBADF, remote->control->mailboxes[0].calls[3].result);
	EXPECT_EQ(-EBADF, failed->result);
	EXPECT_EQ(-ECANCELED, not_made->result);
	remote_forget(remote);
}

TEST_F(parked, nobody_waits_for_a_guest_that_was_killed)
{
	struct remote *remote = &self->process.remote;
	struct timespec hour = {3600, 0};
	uint64_t value;

	START("threads");
	remote_add(remote, 0, SYS_nanosleep, remote_copy(remote, &hour, sizeof(hour)), 0, 0, 0, 0,
		   0);
	ASSERT_EQ(0, remote_post(remote, 0));
	kill(remote->pid, SIGKILL);
	EXPECT_EQ(-ESRCH, remote_wait(remote, 0));
	EXPECT_EQ(-ESRCH, remote_call(remote, 0, SYS_getpid, 0, 0, 0, 0, 0, 0));
	EXPECT_EQ(-ESRCH, remote_read(remote, (uintptr_t)&guest_counter, &value, sizeof(value)));
	process_continue(&self->process);
	EXPECT_EQ(-ESRCH, process_stop(&self->process, &self->error));
}

TEST_F(parked, a_stopped_guest_is_refused_at_once_and_goes_on_later)
{
	START("churn");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	kill(self->process.remote.pid, SIGSTOP);
	waitpid(self->process.remote.pid, NULL, WUNTRACED);
	EXPECT_EQ(-EAGAIN, process_stop(&self->process, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "is stopped"));
	EXPECT_FALSE(self->process.stopped);
	kill(self->process.remote.pid, SIGCONT);
	EXPECT_EQ(0, process_stop(&self->process, &self->error))
	TH_LOG("%s", self->error.text);
}

TEST_F(parked, a_thread_that_cannot_stop_is_named_and_the_others_go_on)
{
	START("vforks");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	support_sleep(0.05);
	EXPECT_EQ(-ETIMEDOUT, process_stop(&self->process, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "vfork"))
	TH_LOG("%s", self->error.text);
	EXPECT_FALSE(self->process.stopped);
}

TEST_F(parked, a_program_that_was_replaced_is_left_alone)
{
	char path[64], name[32] = "";
	double end = support_deadline(20);

	START("escapes");
	process_continue(&self->process);
	snprintf(path, sizeof(path), "/proc/%d/comm", self->process.remote.pid);
	while (strcmp(name, "sleep\n") && support_seconds() < end) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		name[0] = '\0';
		if (fd >= 0 && read(fd, name, sizeof(name) - 1) < 6)
			name[0] = '\0';
		close(fd);
	}
	EXPECT_EQ(PROCESS_EREFUSED, process_stop(&self->process, &self->error));
	EXPECT_TRUE(remote_alive(&self->process.remote));
}

TEST_F(parked, a_program_without_its_main_thread_is_refused_and_goes_on)
{
	char path[64], text[512] = "";
	double end = support_deadline(20);

	START("main thread exits");
	process_continue(&self->process);
	snprintf(path, sizeof(path), "/proc/%d/stat", self->process.remote.pid);
	while (!strstr(text, ") Z") && support_seconds() < end) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
			break;
		close(fd);
	}
	EXPECT_EQ(PROCESS_EREFUSED, process_stop(&self->process, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "main thread"))
	TH_LOG("%s, status %x", self->error.text, end_of(&self->process));
	EXPECT_FALSE(self->process.stopped);
	EXPECT_TRUE(remote_alive(&self->process.remote));
}

TEST_F(parked, a_program_that_cannot_be_started_is_told)
{
	char *const missing[] = {"/nowhere/program", NULL}, *const ends[] = {"/bin/false", NULL},
		    *const without[] = {"/sbin/ldconfig", "-N", "-X", NULL};

	EXPECT_EQ(-ENOENT, process_spawn(&self->process, missing, environ, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "No such file"))
	TH_LOG("%s", self->error.text);
	/* A static program: the stub is not loaded. */
	if (!access("/sbin/ldconfig", X_OK)) {
		EXPECT_EQ(-ESRCH, process_spawn(&self->process, without, environ, &self->error));
		EXPECT_NE(NULL, strstr(self->error.text, "before the stub"))
		TH_LOG("%s", self->error.text);
	}
	EXPECT_EQ(0, process_spawn(&self->process, ends, environ, &self->error));
	process_continue(&self->process);
	EXPECT_EQ(1 << 8, end_of(&self->process));
}

TEST_F(parked, memory_without_access_is_read_and_written)
{
	struct remote *remote = &self->process.remote;
	uint64_t page, text = 0x7478657420656874, got = 0;

	START("threads");
	page = (uint64_t)remote_call(remote, 0, SYS_mmap, 0, 8192, PROT_NONE,
				     MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0);
	/* Once by what the supervisor has opened, and once by what the guest opens for it. */
	for (int i = 0; i < 2; i++) {
		text += (uint64_t)i;
		/* From memory that may be read into memory that may not. */
		ASSERT_EQ(0, remote_write(remote, page + 4092, &text, sizeof(text)));
		ASSERT_EQ(0, remote_read(remote, page + 4092, &got, sizeof(got)));
		EXPECT_EQ(text, got);
		close(remote->memory);
		remote->memory = -1;
	}
	EXPECT_EQ(-EFAULT, remote_read(remote, 4096, &got, sizeof(got)));
	/* In user mode. */
	remote_call(remote, 0, SYS_mprotect, page, 8192, PROT_READ | PROT_WRITE, 0, 0, 0);
	EXPECT_EQ(sizeof(text),
		  remote_call(remote, 0, CALL_COPY, page, page + 4092, sizeof(text), 0, 0, 0));
	ASSERT_EQ(0, remote_read(remote, page, &got, sizeof(got)));
	EXPECT_EQ(text, got);
}

/* CAP_SYS_ADMIN, or CAP_CHECKPOINT_RESTORE; and no filter in the way. */
static bool may_choose_pids(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long long capabilities = 0;
	unsigned filter = 1;
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		sscanf(line, "CapEff: %llx", &capabilities);
		sscanf(line, "Seccomp: %u", &filter);
	}
	if (file)
		fclose(file);
	return (capabilities >> 21 & 1 || capabilities >> 40 & 1) && !filter;
}

TEST_F(parked, the_restorer_has_threads_with_stacks_of_the_supervisors)
{
	struct remote *remote = &self->process.remote;
	pid_t wanted = fork(); /* a number that is free */
	int64_t memory, tid;
	int fd;

	if (!wanted)
		_exit(0);
	waitpid(wanted, NULL, 0);
	ASSERT_EQ(0, process_spawn_restorer(&self->process, wanted, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_TRUE(self->process.stopped);
	EXPECT_EQ(remote->pid, remote_call(remote, 0, SYS_gettid, 0, 0, 0, 0, 0, 0));
	if (may_choose_pids())
		EXPECT_EQ(wanted, remote->pid);
	memory = remote_call(remote, 0, SYS_mmap, 0x620000000000, 65536, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, (uint64_t)-1, 0);
	ASSERT_EQ(0x620000000000, memory);
	for (unsigned i = 1; i <= 4; i++) {
		tid = remote_call(remote, 0, CALL_CLONE,
				  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
					  CLONE_SYSVSEM | CLONE_SETTLS | CLONE_CHILD_CLEARTID,
				  (uint64_t)memory + 16384 * i, (uint64_t)memory + 8 * i,
				  0x1000 * i, 0, i);
		ASSERT_LT(0, tid);
		ASSERT_EQ(0, remote_wait(remote, i));
		EXPECT_EQ(tid, remote_call(remote, i, SYS_gettid, 0, 0, 0, 0, 0, 0));
	}
	fd = remote_take_fd(remote, 4, 2);
	EXPECT_LT(2, fd);
	close(fd);
}

TEST_HARNESS_MAIN
