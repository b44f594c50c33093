// SPDX-License-Identifier: MIT
/*
 * thread_ids.c - a thread that was restored may have another id than libc and the program remember: libc keeps it in
 * the thread's descriptor, where locks know it by. What names a thread to the kernel by that number names the one that
 * it has now (stub_memory.tids).
 *
 * And pthread_cancel(), whose signal is CONTROL_SIGNAL.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "process/stub/raw.h"
#include "process/stub/stub.h"

static size_t tid_offset; /* in a thread's descriptor; 0: not known */

void stub_find_tid(void)
{
	const char *self = (const char *)pthread_self();
	int32_t tid = (int32_t)raw_call(SYS_gettid, 0, 0, 0, 0, 0, 0), *address = NULL;

	if (!raw_call(SYS_prctl, PR_GET_TID_ADDRESS, (uintptr_t)&address, 0, 0, 0, 0) &&
	    (const char *)address > self && (const char *)address < self + 4096 && *address == tid)
		tid_offset = (size_t)((const char *)address - self);
	/* A kernel that does not tell. */
	for (size_t i = 256; !tid_offset && i < 1024; i += sizeof(tid))
		if (*(const int32_t *)(self + i) == tid)
			tid_offset = i;
}

int32_t stub_tid_now(int32_t tid)
{
	uint32_t count = stub_memory.tid_count;

	if (!stub_active())
		return tid;
	for (uint32_t i = 0; i < count && i < STUB_TIDS; i++)
		if (stub_memory.tids[i].remembered == tid)
			return stub_memory.tids[i].now;
	return tid;
}

/* The id that this thread has now, if libc remembers another one; 0: libc is right. */
static int32_t stub_other_tid(pthread_t thread)
{
	int32_t tid, now;

	if (!stub_memory.tid_count || !tid_offset || !stub_active())
		return 0;
	tid = *(const volatile int32_t *)((const char *)thread + tid_offset);
	now = tid > 0 ? stub_tid_now(tid) : tid;
	return now == tid ? 0 : now;
}

static uint64_t stub_pid(void)
{
	return (uint64_t)raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

/* Not to the number that libc remembers. A thread that has ended meanwhile is no error. */
STUB_PUBLIC int pthread_kill(pthread_t thread, int number)
{
	int32_t tid = stub_other_tid(thread);
	int64_t result;

	if (!tid || number == CONTROL_SIGNAL || number == CONTROL_SIGNAL + 1)
		return stub_real()->pthread_kill(thread, number);
	result = raw_call(SYS_tgkill, stub_pid(), (uint64_t)tid, (uint64_t)number, 0, 0, 0);
	return result == -ESRCH ? 0 : (int)-result;
}

STUB_PUBLIC int pthread_sigqueue(pthread_t thread, int number, const union sigval value)
{
	int32_t tid = stub_other_tid(thread);
	siginfo_t info = {.si_signo = number, .si_code = SI_QUEUE};

	if (!tid || number == CONTROL_SIGNAL || number == CONTROL_SIGNAL + 1)
		return stub_real()->pthread_sigqueue(thread, number, value.sival_ptr);
	info.si_pid = (pid_t)stub_pid();
	info.si_uid = getuid();
	info.si_value = value;
	return (int)-raw_call(SYS_rt_tgsigqueueinfo, (uint64_t)info.si_pid, (uint64_t)tid,
			      (uint64_t)number, (uintptr_t)&info, 0, 0);
}

/* The program may have asked for its own number before it was restored. */
STUB_PUBLIC int tgkill(pid_t pid, pid_t tid, int number)
{
	int64_t result;

	if (stub_active() && pid == stub_memory.remembered_pid)
		pid = (pid_t)stub_pid();
	result = raw_call(SYS_tgkill, (uint64_t)pid, (uint64_t)stub_tid_now(tid), (uint64_t)number,
			  0, 0, 0);
	if (!result)
		return 0;
	errno = (int)-result;
	return -1;
}

/* The same of kill(2): to itself, and to no stranger who has got the number, unless that is a child of its own. */
STUB_PUBLIC int kill(pid_t pid, int number)
{
	int64_t result;

	if (stub_active() && pid > 0 && pid == stub_memory.remembered_pid &&
	    (pid_t)stub_pid() != pid &&
	    raw_call(SYS_waitid, P_PID, (uint64_t)pid, 0, WEXITED | WNOHANG | WNOWAIT, 0, 0) ==
		    -ECHILD)
		pid = (pid_t)stub_pid();
	result = raw_call(SYS_kill, (uint64_t)pid, (uint64_t)number, 0, 0, 0, 0);
	if (!result)
		return 0;
	errno = (int)-result;
	return -1;
}

STUB_PUBLIC int sched_setaffinity(pid_t tid, size_t bytes, const cpu_set_t *set)
{
	int64_t result = raw_call(SYS_sched_setaffinity, (uint64_t)stub_tid_now(tid), bytes,
				  (uintptr_t)set, 0, 0, 0);

	if (!result)
		return 0;
	errno = (int)-result;
	return -1;
}

/* As libc's: the kernel says how many bytes it has written; the rest is zero. */
static int stub_get_affinity(int32_t tid, size_t bytes, cpu_set_t *set)
{
	int64_t result =
		raw_call(SYS_sched_getaffinity, (uint64_t)tid, bytes, (uintptr_t)set, 0, 0, 0);

	if (raw_failed(result))
		return (int)-result;
	for (size_t i = (size_t)result; i < bytes; i++)
		((char *)set)[i] = 0;
	return 0;
}

STUB_PUBLIC int sched_getaffinity(pid_t tid, size_t bytes, cpu_set_t *set)
{
	int result = stub_get_affinity(stub_tid_now(tid), bytes, set);

	if (!result)
		return 0;
	errno = result;
	return -1;
}

STUB_PUBLIC int pthread_setaffinity_np(pthread_t thread, size_t bytes, const cpu_set_t *set)
{
	int32_t tid = stub_other_tid(thread);

	if (!tid)
		return stub_real()->pthread_setaffinity_np(thread, bytes, set);
	return (int)-raw_call(SYS_sched_setaffinity, (uint64_t)tid, bytes, (uintptr_t)set, 0, 0, 0);
}

STUB_PUBLIC int pthread_getaffinity_np(pthread_t thread, size_t bytes, cpu_set_t *set)
{
	int32_t tid = stub_other_tid(thread);

	return tid ? stub_get_affinity(tid, bytes, set)
		   : stub_real()->pthread_getaffinity_np(thread, bytes, set);
}

STUB_PUBLIC int pthread_getcpuclockid(pthread_t thread, clockid_t *clock)
{
	int32_t tid = stub_other_tid(thread);

	if (!tid)
		return stub_real()->pthread_getcpuclockid(thread, clock);
	*clock =
		(clockid_t)(~(unsigned)tid << 3 | 6); /* of one thread, what the scheduler counts */
	return 0;
}

/*
 * The first time libc's installs its own handler of CONTROL_SIGNAL, which then comes behind the stub's. And a restored
 * thread is woken up under the number that it has.
 */
STUB_PUBLIC int pthread_cancel(pthread_t thread)
{
	int32_t tid = stub_other_tid(thread);
	int result;

	stub_show_gate();
	result = stub_real()->pthread_cancel(thread);
	stub_take_back_signal();
	if (tid && !result)
		raw_call(SYS_tgkill, stub_pid(), (uint64_t)tid, CONTROL_SIGNAL, 0, 0, 0);
	return result;
}
