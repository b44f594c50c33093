/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * in_memory.h - where tests make files that they sync, or make anew, thousands of times: in memory where
 * there is room, since a disk that others use as well takes some 10 ms for each.
 */
#ifndef TESTS_IN_MEMORY_H
#define TESTS_IN_MEMORY_H

#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define IN_MEMORY_ROOM (256u << 20) /* more than any test that asks puts there */

/* The directory to make one's own in. A container may have no /dev/shm, or one of 64 MiB. */
__attribute__((unused)) static const char *in_memory(void)
{
	const char *other = getenv("TMPDIR");
	struct statvfs space;

	if (!access("/dev/shm", W_OK | X_OK) && !statvfs("/dev/shm", &space) &&
	    space.f_bavail * space.f_frsize >= IN_MEMORY_ROOM)
		return "/dev/shm";
	return other ? other : "/tmp";
}

#endif
