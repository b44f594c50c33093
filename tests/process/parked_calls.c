// SPDX-License-Identifier: GPL-2.0-only
/*
 * parked_calls.c - programs that run with the stub: their threads park and go on, and make calls meanwhile; and nothing
 * of that is to be seen by them. The guests are this same program, with a role (guest_main()); it is linked at fixed
 * addresses, so that the supervisor finds the variables of its guest at its own.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "kselftest_harness.h"
#include "process/process.h"
#include "process/stub/embedded.h"
#include "support.h"

#define ROLE "PARKED_CALLS_ROLE"

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
	pthread_t thread;

	for (;;) {
		if (pthread_create(&thread, NULL, guest_churned, argument))
			_exit(3);
		__atomic_add_fetch(&guest_started, 1, __ATOMIC_SEQ_CST);
		if (pthread_join(thread, NULL))
			_exit(4);
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

static void guest_role_exit(void)
{
	_exit(7);
}

static const struct {
	const char *name;
	void (*run)(void);
} guest_roles[] = {
	{"churn", guest_role_churn}, {"threads", guest_role_threads}, {"exit", guest_role_exit}};

__attribute__((constructor)) static void guest_main(void)
{
	const char *role = getenv(ROLE);

	for (size_t i = 0; role && i < sizeof(guest_roles) / sizeof(*guest_roles); i++)
		if (!strcmp(role, guest_roles[i].name)) {
			guest_roles[i].run();
			_exit(0);
		}
}

/* ---- The supervisor */

static int start_role(struct process *process, const char *role, struct thaw_error *error)
{
	char *const arguments[] = {"/proc/self/exe", NULL};
	int result;

	*process = (struct process){0};
	setenv(ROLE, role, 1);
	result = process_spawn(process, arguments, environ, error);
	unsetenv(ROLE);
	return result;
}

/* What the guest's variable holds. */
static uint64_t peek(struct process *process, volatile uint64_t *variable)
{
	uint64_t value = 0;

	if (remote_read(&process->remote, (uintptr_t)variable, &value, sizeof(value)))
		return ~0ull;
	return value;
}

static bool wait_for(struct process *process, volatile uint64_t *variable, uint64_t least)
{
	double end = support_deadline(20);

	while (peek(process, variable) < least || peek(process, variable) == ~0ull) {
		if (support_seconds() > end || !remote_alive(&process->remote))
			return false;
		support_sleep(0.0005);
	}
	return true;
}

static int end_of(struct process *process)
{
	int status = -1;

	waitpid(process->remote.pid, &status, 0);
	process->remote.pid = 0;
	return status;
}

FIXTURE(parked)
{
	struct process process;
	struct thaw_error error;
};

FIXTURE_SETUP(parked)
{
	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
}

FIXTURE_TEARDOWN(parked)
{
	if (process_stub_bytes)
		process_close(&self->process);
}

#define START(role)                                                  \
	ASSERT_EQ(0, start_role(&self->process, role, &self->error)) \
	TH_LOG("%s", self->error.text)

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

TEST_F(parked, the_restorer_has_threads_with_stacks_of_the_supervisors)
{
	struct remote *remote = &self->process.remote;
	int64_t memory, tid;
	int fd;

	ASSERT_EQ(0, process_spawn_restorer(&self->process, 0, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_TRUE(self->process.stopped);
	EXPECT_EQ(remote->pid, remote_call(remote, 0, SYS_gettid, 0, 0, 0, 0, 0, 0));
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
