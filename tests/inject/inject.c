// SPDX-License-Identifier: GPL-2.0-only
/*
 * inject.c - failures on purpose, as the environment asks for them. It takes the place of uffd/no_failures.c in
 * what is linked with it: the tests, and the `thaw` beside this file's object. No other program or library
 * has it. Any thread; the counters are atomic.
 *
 * THAW_INJECT holds a comma-separated list of  CALL:ERRNO:SKIP[:COUNT]  - after SKIP successes, the next COUNT
 * (default 1; 0: for ever) calls of CALL (open, read, cached, write, fdatasync, truncate, punch, mmap, ioctl,
 * mprotect, advise) return -ERRNO.
 *	THAW_INJECT=write:ENOSPC:3:2,fdatasync:EIO:0
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"

static struct injection {
	int error; /* negative; 0: none */
	_Atomic long skip, count;
} injections[SYS_CALL_COUNT];
static pthread_once_t injections_once = PTHREAD_ONCE_INIT;

static int injection_errno(const char *name)
{
	static const struct {
		const char *name;
		int value;
	} known[] = {
		{"EIO", EIO},
		{"ENOSPC", ENOSPC},
		{"EDQUOT", EDQUOT},
		{"ENOMEM", ENOMEM},
		{"EAGAIN", EAGAIN},
		{"EINTR", EINTR},
		{"EEXIST", EEXIST},
		{"EPERM", EPERM},
		{"ENOSYS", ENOSYS},
		{"EACCES", EACCES},
		{"EROFS", EROFS},
		{"EFBIG", EFBIG},
		{"EOPNOTSUPP", EOPNOTSUPP},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(known[i].name, name))
			return known[i].value;
	return 0;
}

static void injections_parse(void)
{
	static const char *const names[SYS_CALL_COUNT] = {
		"open",	 "read", "cached", "write",    "fdatasync", "truncate",
		"punch", "mmap", "ioctl",  "mprotect", "advise"};
	const char *spec = getenv("THAW_INJECT");
	char copy[512], *entry, *rest = copy;

	if (!spec)
		return;
	snprintf(copy, sizeof(copy), "%s", spec);
	while ((entry = strsep(&rest, ","))) {
		char call[16], error[16];
		long skip = 0, count = 1;

		if (sscanf(entry, "%15[^:]:%15[^:]:%ld:%ld", call, error, &skip, &count) < 2)
			continue;
		for (int i = 0; i < SYS_CALL_COUNT; i++) {
			if (strcmp(names[i], call))
				continue;
			injections[i].skip = skip;
			injections[i].count = count ? count : LONG_MAX;
			injections[i].error = -injection_errno(error);
		}
	}
}

int sys_injected(enum sys_call call)
{
	struct injection *injection = &injections[call];

	pthread_once(&injections_once, injections_parse);
	if (!injection->error)
		return 0;
	if (atomic_fetch_sub(&injection->skip, 1) > 0)
		return 0;
	if (atomic_fetch_sub(&injection->count, 1) > 0)
		return injection->error;
	atomic_store(&injection->count, 0);
	return 0;
}
