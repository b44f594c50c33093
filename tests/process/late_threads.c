// SPDX-License-Identifier: GPL-2.0-only
/*
 * late_threads.c - a thread comes too late for a stop: it has seen that there is one, and is about to take a mailbox when
 * the supervisor gives up and begins another. It parks in that one, where it is found.
 *
 * The moment is between two instructions: a debugger (this test) steps the thread there, and holds it. And threads that
 * never leave their mailbox, because another one has executed a program meanwhile.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "kselftest_harness.h"
#include "process/stub/raw.h"
#include "roles.h"

/* ---- The guest */

static volatile uint64_t guest_tid;

static void *guest_wait(void *argument)
{
	(void)argument;
	guest_tid = (uint64_t)syscall(SYS_gettid);
	for (;;)
		pause();
	return NULL;
}

static void guest_role_late(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, guest_wait, NULL);
	for (;;)
		pause();
}

/* It becomes another program while its other thread is parked. */
static volatile uint64_t guest_is_ready, guest_go_on;

static void guest_role_executes(void)
{
	char *const arguments[] = {"/proc/self/exe", NULL};
	uint64_t set = 1ull << (CONTROL_SIGNAL - 1);
	pthread_t thread;

	pthread_create(&thread, NULL, guest_wait, NULL);
	raw_call(SYS_rt_sigprocmask, SIG_BLOCK, (uintptr_t)&set, 0, 8, 0, 0);
	while (!guest_tid)
		sched_yield();
	guest_is_ready = 1;
	while (!guest_go_on)
		sched_yield();
	setenv(ROLE, "late", 1);
	execv(arguments[0], arguments);
	_exit(9);
}

static const struct role roles[] = {{"late", guest_role_late}, {"executes", guest_role_executes}};

__attribute__((constructor)) static void guest_main(void)
{
	run_role(roles, sizeof(roles) / sizeof(*roles));
}

#ifdef __x86_64__
/* ---- The debugger: a thread of its own, which alone may give orders to what it has stopped */

struct debugger {
	struct control *control;
	pid_t tid;
	volatile int allowed, held, again, let_go; /* moments, in order */
	volatile bool failed;
	pthread_t thread;
};

static void debugger_until(volatile int *moment)
{
	while (!__atomic_load_n(moment, __ATOMIC_SEQ_CST))
		support_sleep(0.0002);
}

/* One instruction. False: the thread is gone. */
static bool debugger_step(struct debugger *debugger, int signo)
{
	int status;

	return !ptrace(PTRACE_SINGLESTEP, debugger->tid, NULL, (void *)(long)signo) &&
	       waitpid(debugger->tid, &status, __WALL) == debugger->tid && WIFSTOPPED(status);
}

/* The next one is atomic: in the stub's handler it takes a mailbox. */
static bool debugger_at_lock(const struct debugger *debugger)
{
	struct user_regs_struct registers;

	if (ptrace(PTRACE_GETREGS, debugger->tid, NULL, &registers))
		return false;
	return (ptrace(PTRACE_PEEKTEXT, debugger->tid, (void *)registers.rip, NULL) & 0xff) == 0xf0;
}

/* The signal that asks it to park comes: into the handler. */
static bool debugger_take(struct debugger *debugger)
{
	int status;

	if (waitpid(debugger->tid, &status, __WALL) != debugger->tid || !WIFSTOPPED(status) ||
	    WSTOPSIG(status) != CONTROL_SIGNAL || !debugger_step(debugger, CONTROL_SIGNAL))
		return false;
	for (int i = 0; i < 10000 && !debugger_at_lock(debugger); i++)
		if (!debugger_step(debugger, 0))
			return false;
	return debugger_at_lock(debugger);
}

static void *debugger_main(void *argument)
{
	struct debugger *debugger = argument;
	struct control *control = debugger->control;
	uint64_t first = __atomic_load_n(&control->places, __ATOMIC_SEQ_CST) >> 32;
	bool fine = !ptrace(PTRACE_SEIZE, debugger->tid, NULL, NULL);

	debugger->failed = !fine;
	__atomic_store_n(&debugger->allowed, 1, __ATOMIC_SEQ_CST);
	fine = fine && debugger_take(debugger);
	__atomic_store_n(&debugger->held, 1, __ATOMIC_SEQ_CST);
	debugger_until(&debugger->again);
	/* The other thread has parked in the second stop: now this one takes its mailbox, and is parked. */
	while (fine && (__atomic_load_n(&control->places, __ATOMIC_SEQ_CST) >> 32 < first + 2 ||
			__atomic_load_n(&control->parked, __ATOMIC_SEQ_CST) < 1))
		support_sleep(0.0002);
	for (int i = 0;
	     fine && i < 10000 && __atomic_load_n(&control->parked, __ATOMIC_SEQ_CST) < 2; i++)
		fine = debugger_step(debugger, 0);
	debugger->failed = !fine || __atomic_load_n(&control->parked, __ATOMIC_SEQ_CST) != 2;
	debugger_until(&debugger->let_go);
	ptrace(PTRACE_DETACH, debugger->tid, NULL, NULL);
	return NULL;
}

/* ---- The supervisor */

TEST_F_TIMEOUT(parked, thread_that_is_late_for_a_stop_parks_in_the_next, 30)
{
	struct debugger debugger = {0};

	START("late");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_tid, 1));
	debugger.control = self->process.remote.control;
	debugger.tid = (pid_t)peek(&self->process, &guest_tid);
	ASSERT_EQ(0, pthread_create(&debugger.thread, NULL, debugger_main, &debugger));
	debugger_until(&debugger.allowed);
	if (debugger.failed)
		SKIP(return, "ptrace(2) is not allowed");
	/* It gives up: one thread is held just before it parks. */
	ASSERT_EQ(-ETIMEDOUT, process_stop(&self->process, &self->error));
	debugger_until(&debugger.held);
	self->process.stop_again_ns = 0;
	__atomic_store_n(&debugger.again, 1, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, process_stop(&self->process, &self->error))
	{
		TH_LOG("%s", self->error.text);
	}
	__atomic_store_n(&debugger.let_go, 1, __ATOMIC_SEQ_CST);
	pthread_join(debugger.thread, NULL);
	ASSERT_FALSE(debugger.failed);
	/* Each is where it is waited for. */
	ASSERT_EQ(2, self->process.thread_count);
	for (unsigned i = 0; i < 2; i++)
		EXPECT_EQ(self->process.threads[i].tid,
			  remote_call(&self->process.remote, self->process.threads[i].mailbox,
				      SYS_gettid, 0, 0, 0, 0, 0, 0));
	process_continue(&self->process);
	/* And that goes on. */
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, process_stop(&self->process, &self->error));
		EXPECT_EQ(2, self->process.thread_count);
		process_continue(&self->process);
	}
}

struct stopper {
	struct process *process;
	struct thaw_error error;
	int code;
};

static void *stop_it(void *argument)
{
	struct stopper *stopper = argument;

	stopper->code = process_stop(stopper->process, &stopper->error);
	return NULL;
}

static bool wait_for_request(struct process *process, struct request *request)
{
	double end = support_deadline(20);

	while (!remote_next_request(&process->remote, request)) {
		if (support_seconds() > end || !remote_alive(&process->remote))
			return false;
		support_sleep(0.0005);
	}
	return true;
}

TEST_F(parked, threads_that_end_while_they_are_parked_are_not_waited_for)
{
	struct stopper stopper = {.process = &self->process};
	struct remote *remote = &self->process.remote;
	struct request request;
	uint64_t go_on = 1;
	pthread_t thread;

	START("executes");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_is_ready, 1));
	ASSERT_EQ(0, pthread_create(&thread, NULL, stop_it, &stopper));
	while (__atomic_load_n(&remote->control->parked, __ATOMIC_SEQ_CST) < 1)
		support_sleep(0.0002);
	ASSERT_EQ(0, remote_write(remote, (uintptr_t)&guest_go_on, &go_on, sizeof(go_on)));
	ASSERT_TRUE(wait_for_request(&self->process, &request));
	ASSERT_EQ(REQUEST_EXECUTED, request.kind);
	pthread_join(thread, NULL);
	ASSERT_NE(0, stopper.code);
	self->process.stop_again_ns = 0;
	ASSERT_EQ(0, process_executed(&self->process, &self->error));
	ASSERT_EQ(0, process_stop(&self->process, &self->error))
	{
		TH_LOG("%s", self->error.text);
	}
	process_continue(&self->process);
	remote_answer(remote, &(struct answer){.number = request.number});
	ASSERT_TRUE(wait_for(&self->process, &guest_tid, 1));
	ASSERT_EQ(0, process_stop(&self->process, &self->error));
	EXPECT_EQ(2, self->process.thread_count);
}
#endif

TEST_HARNESS_MAIN
