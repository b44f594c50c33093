// SPDX-License-Identifier: MIT
/*
 * children.c - the children of the process before, which nobody has waited for, are gone with it: waiting for them says
 * that SIGKILL has ended them, once for each (stub_memory.children).
 *
 * Who waited in the kernel when it was captured, waits again after a restore, and is told there that it has no such
 * child: that is looked at, too.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process/stub/stub.h"

/* As waitpid(2) has them: > 0 one of them, -1 and 0 any, else the leader of a group. Taken, unless it is only looked at. */
static pid_t stub_lost_child(pid_t wanted, bool take)
{
	uint32_t count = stub_memory.child_count;

	if (!count || !stub_active())
		return 0;
	for (uint32_t i = 0; i < count && i < STUB_CHILDREN; i++) {
		struct stub_child *child = &stub_memory.children[i];
		int32_t no = 0;

		if (wanted != -1 && wanted != 0 && wanted != child->pid && wanted != -child->pid)
			continue;
		if (take ? __atomic_compare_exchange_n(&child->waited, &no, 1, false,
						       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
			 : !__atomic_load_n(&child->waited, __ATOMIC_SEQ_CST))
			return child->pid;
	}
	return 0;
}

static pid_t stub_report(pid_t pid, int *status, struct rusage *usage)
{
	if (status)
		*status = SIGKILL; /* WIFSIGNALED(), WTERMSIG() */
	if (usage)
		memset(usage, 0, sizeof(*usage));
	return pid;
}

STUB_PUBLIC pid_t wait4(pid_t wanted, int *status, int options, struct rusage *usage)
{
	pid_t pid = stub_lost_child(wanted, true);

	if (pid)
		return stub_report(pid, status, usage);
	pid = stub_real()->wait4(wanted, status, options, usage);
	if (pid < 0 && errno == ECHILD) {
		pid_t lost = stub_lost_child(wanted, true);

		if (lost)
			return stub_report(lost, status, usage);
	}
	return pid;
}

STUB_PUBLIC pid_t waitpid(pid_t wanted, int *status, int options)
{
	return wait4(wanted, status, options, NULL);
}

STUB_PUBLIC pid_t wait(int *status)
{
	return wait4(-1, status, 0, NULL);
}

STUB_PUBLIC pid_t wait3(int *status, int options, struct rusage *usage)
{
	return wait4(-1, status, options, usage);
}

static bool stub_report_id(idtype_t type, id_t id, siginfo_t *info, int options)
{
	pid_t wanted = type == P_PID ? (pid_t)id : type == P_PGID && id ? -(pid_t)id : -1, pid;

	if (!(options & WEXITED) || (type != P_PID && type != P_PGID && type != P_ALL))
		return false;
	pid = stub_lost_child(wanted, !(options & WNOWAIT));
	if (!pid)
		return false;
	if (info) {
		memset(info, 0, sizeof(*info));
		info->si_signo = SIGCHLD;
		info->si_code = CLD_KILLED;
		info->si_pid = pid;
		info->si_uid = getuid();
		info->si_status = SIGKILL;
	}
	return true;
}

STUB_PUBLIC int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	int result;

	if (stub_report_id(type, id, info, options))
		return 0;
	result = stub_real()->waitid(type, id, info, options);
	if (result < 0 && errno == ECHILD && stub_report_id(type, id, info, options))
		return 0;
	return result;
}
