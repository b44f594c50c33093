// SPDX-License-Identifier: MIT
/*
 * process_id.c - a program that was restored sees the process id, and its threads the thread ids, that they had when it
 * was started: programs compare them with what they remember (asyncio, to notice fork). What they name by
 * these numbers is what there is now.
 *
 * But OpenSSL is told another number after each restore: it takes that for a fork, and reseeds its random generators, so
 * that two processes of one image do not have the same random numbers.
 *
 * Forked children are ordinary processes and see what is.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "process/stub/raw.h"
#include "process/stub/stub.h"

/* Callers that were looked at: their addresses, with the lowest bit for those that are OpenSSL. */
#define CALLERS 256u
static uintptr_t callers[CALLERS];

static bool is_openssl(uintptr_t caller)
{
	uintptr_t *known = &callers[(caller >> 1) % CALLERS];
	uintptr_t value = __atomic_load_n(known, __ATOMIC_RELAXED);
	Dl_info info = {0};

	if (value >> 1 == caller >> 1)
		return value & 1;
	value = caller & ~(uintptr_t)1;
	/* The library; or the program that it is part of, which exports its symbols (Node). */
	if (dladdr((void *)caller, &info) &&
	    ((info.dli_fname && strstr(info.dli_fname, "/libcrypto.so")) ||
	     (info.dli_sname &&
	      (strstr(info.dli_sname, "_drbg_") || strstr(info.dli_sname, "openssl_get_fork_id")))))
		value |= 1;
	__atomic_store_n(known, value, __ATOMIC_RELAXED);
	return value & 1;
}

static pid_t stub_raw_pid(void)
{
	return (pid_t)raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

/* Not in a child of vfork(2), which has the guest's memory. */
static bool is_restored(pid_t pid)
{
	return stub_active() && stub_memory.restored && pid == CONTROL->pid;
}

int32_t stub_seen_pid(void)
{
	pid_t pid = stub_raw_pid();

	return is_restored(pid) ? stub_memory.remembered_pid : pid;
}

STUB_PUBLIC pid_t getpid(void)
{
	uintptr_t caller = (uintptr_t)__builtin_return_address(0);
	pid_t pid = stub_raw_pid();

	if (!is_restored(pid))
		return pid;
	if (is_openssl(caller))
		return (pid ^ (pid_t)(stub_memory.restored << 22)) & INT32_MAX;
	return stub_memory.remembered_pid;
}

int32_t stub_seen_tid(void)
{
	int32_t tid = (int32_t)raw_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
	uint32_t count = stub_memory.tid_count;

	if (!is_restored(stub_raw_pid()))
		return tid;
	for (uint32_t i = 0; i < count && i < STUB_TIDS; i++)
		if (stub_memory.tids[i].now == tid)
			return stub_memory.tids[i].remembered;
	return tid;
}

STUB_PUBLIC pid_t gettid(void)
{
	return stub_seen_tid();
}

/* What a program may do with its own number: 0 is the same for these. */
static pid_t stub_own(pid_t pid)
{
	return pid > 0 && pid == stub_memory.remembered_pid && is_restored(stub_raw_pid()) ? 0
											   : pid;
}

static int64_t stub_result(int64_t result)
{
	if (!raw_failed(result))
		return result;
	errno = (int)-result;
	return -1;
}

STUB_PUBLIC pid_t getpgid(pid_t pid)
{
	return (pid_t)stub_result(raw_call(SYS_getpgid, (uint64_t)stub_own(pid), 0, 0, 0, 0, 0));
}

STUB_PUBLIC int setpgid(pid_t pid, pid_t group)
{
	return (int)stub_result(raw_call(SYS_setpgid, (uint64_t)stub_own(pid),
					 (uint64_t)stub_own(group), 0, 0, 0, 0));
}

STUB_PUBLIC pid_t getsid(pid_t pid)
{
	return (pid_t)stub_result(raw_call(SYS_getsid, (uint64_t)stub_own(pid), 0, 0, 0, 0, 0));
}

STUB_PUBLIC int setpriority(__priority_which_t which, id_t who, int priority)
{
	if (which == PRIO_PROCESS)
		who = (id_t)stub_tid_now(stub_own((pid_t)who));
	return (int)stub_result(raw_call(SYS_setpriority, (uint64_t)which, who,
					 (uint64_t)(int64_t)priority, 0, 0, 0));
}

/* The kernel's value is 20 less it, so that it is never negative. */
STUB_PUBLIC int getpriority(__priority_which_t which, id_t who)
{
	int64_t result;

	if (which == PRIO_PROCESS)
		who = (id_t)stub_tid_now(stub_own((pid_t)who));
	result = raw_call(SYS_getpriority, (uint64_t)which, who, 0, 0, 0, 0);
	return raw_failed(result) ? (int)stub_result(result) : 20 - (int)result;
}

STUB_PUBLIC int prlimit(pid_t pid, __rlimit_resource_t resource, const struct rlimit *limit,
			struct rlimit *before)
{
	return (int)stub_result(raw_call(SYS_prlimit64, (uint64_t)stub_own(pid), (uint64_t)resource,
					 (uintptr_t)limit, (uintptr_t)before, 0, 0));
}
