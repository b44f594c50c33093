// SPDX-License-Identifier: MIT
/*
 * execute.c - the guest's process becomes another program by execve(2), as wrappers do (env, `sh -c 'exec ...'`, version
 * managers): the stub goes with it.
 *
 * The supervisor hands over what the stub is started with; the new program's environment gets it, as at the first start,
 * and the stub there takes it out again. From here until it has started there, CONTROL_SIGNAL is blocked: it would
 * end a program that has no handler yet. Only in the guest's own process: what its children execute is none of ours.
 *
 * These functions may be called in a signal handler, or with little memory: nothing is allocated but on the stack.
 */
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "process/stub/raw.h"
#include "process/stub/stub.h"

struct execution {
	bool begun; /* the stub comes along */
	char **environment;
	int fds[2];		      /* of the control block and the stub */
	char variable[64], preload[]; /* what is added to the environment */
};

#define PRELOAD "LD_PRELOAD="
/* In front of the user's own value. */
#define PRELOAD_ROOM 64

static size_t count_texts(char *const *list)
{
	size_t count = 0;

	while (list && list[count])
		count++;
	return count;
}

static const char *find_preload(char *const *environment)
{
	for (; environment && *environment; environment++)
		if (!strncmp(*environment, PRELOAD, strlen(PRELOAD)))
			return *environment + strlen(PRELOAD);
	return NULL;
}

/* What begin() needs on its caller's stack. */
static size_t execution_bytes(char *const *environment)
{
	const char *users = find_preload(environment);

	return sizeof(struct execution) + PRELOAD_ROOM + (users ? strlen(users) : 0) +
	       (count_texts(environment) + 4) * sizeof(char *) + 16;
}

static void block_signal(bool block)
{
	uint64_t set = 1ull << (CONTROL_SIGNAL - 1);

	raw_call(SYS_rt_sigprocmask, block ? SIG_BLOCK : SIG_UNBLOCK, (uintptr_t)&set, 0, 8, 0, 0);
}

static void make_environment(struct execution *execution, char *const *environment)
{
	const char *users = find_preload(environment);
	size_t room = PRELOAD_ROOM + (users ? strlen(users) : 0), at = 0;
	bool placed = false;

	snprintf(execution->variable, sizeof(execution->variable), "THAW_STUB=%d:%d:%d",
		 execution->fds[0], stub_memory.socket, execution->fds[1]);
	snprintf(execution->preload, room, PRELOAD "/proc/self/fd/%d%s%s", execution->fds[1],
		 users ? ":" : "", users ? users : "");
	execution->environment = (char **)(((uintptr_t)(execution->preload + room) + 7) & ~7ull);
	for (; environment && *environment; environment++) {
		bool preload = !strncmp(*environment, PRELOAD, strlen(PRELOAD));

		execution->environment[at++] = preload && !placed ? execution->preload
								  : *environment;
		placed |= preload;
	}
	if (!placed)
		execution->environment[at++] = execution->preload;
	execution->environment[at++] = execution->variable;
	execution->environment[at] = NULL;
}

/* Where the stub does not come along, the program is executed as the caller wants it. */
static void execution_begin(struct execution *execution, char *const *environment)
{
	*execution = (struct execution){.environment = (char **)environment};
	if (!stub_active() || raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0) != CONTROL->pid ||
	    stub_take_descriptors(execution->fds))
		return;
	execution->begun = true;
	block_signal(true);
	__atomic_store_n(&CONTROL->executing, 1, __ATOMIC_SEQ_CST);
	make_environment(execution, environment);
	fcntl(stub_memory.socket, F_SETFD, 0);
}

/* There is no such program. Returns -1. */
static int execution_failed(struct execution *execution)
{
	int code = errno;

	if (execution->begun) {
		fcntl(stub_memory.socket, F_SETFD, FD_CLOEXEC);
		raw_call(SYS_close, (uint64_t)execution->fds[0], 0, 0, 0, 0, 0);
		raw_call(SYS_close, (uint64_t)execution->fds[1], 0, 0, 0, 0, 0);
		__atomic_store_n(&CONTROL->executing, 0, __ATOMIC_SEQ_CST);
		block_signal(false);
	}
	errno = code;
	return -1;
}

STUB_PUBLIC int execve(const char *path, char *const arguments[], char *const environment[])
{
	struct execution *execution = alloca(execution_bytes(environment));

	execution_begin(execution, environment);
	stub_real()->execve(path, arguments, execution->environment);
	return execution_failed(execution);
}

STUB_PUBLIC int execvpe(const char *file, char *const arguments[], char *const environment[])
{
	struct execution *execution = alloca(execution_bytes(environment));

	execution_begin(execution, environment);
	stub_real()->execvpe(file, arguments, execution->environment);
	return execution_failed(execution);
}

STUB_PUBLIC int fexecve(int fd, char *const arguments[], char *const environment[])
{
	struct execution *execution = alloca(execution_bytes(environment));

	execution_begin(execution, environment);
	stub_real()->fexecve(fd, arguments, execution->environment);
	return execution_failed(execution);
}

STUB_PUBLIC int execv(const char *path, char *const arguments[])
{
	return execve(path, arguments, environ);
}

STUB_PUBLIC int execvp(const char *file, char *const arguments[])
{
	return execvpe(file, arguments, environ);
}

/* Those whose arguments are a list: how many there are, and then an array of them on the caller's stack. */
#define COLLECT(first, list, rest)                           \
	do {                                                 \
		size_t count = 1;                            \
                                                             \
		va_start(rest, first);                       \
		while (va_arg(rest, char *))                 \
			count++;                             \
		va_end(rest);                                \
		list = alloca((count + 1) * sizeof(char *)); \
		list[0] = (char *)first;                     \
		va_start(rest, first);                       \
		for (size_t i = 1; i <= count; i++)          \
			list[i] = va_arg(rest, char *);      \
	} while (0)

STUB_PUBLIC int execl(const char *path, const char *first, ...)
{
	char **list;
	va_list rest;

	COLLECT(first, list, rest);
	va_end(rest);
	return execve(path, list, environ);
}

STUB_PUBLIC int execlp(const char *file, const char *first, ...)
{
	char **list;
	va_list rest;

	COLLECT(first, list, rest);
	va_end(rest);
	return execvpe(file, list, environ);
}

STUB_PUBLIC int execle(const char *path, const char *first, ...)
{
	char *const *environment;
	char **list;
	va_list rest;

	COLLECT(first, list, rest);
	environment = va_arg(rest, char *const *);
	va_end(rest);
	return execve(path, list, environment);
}
