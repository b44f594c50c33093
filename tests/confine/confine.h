/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * confine.h - fewer privileges for the calling process and what it starts, for good: those of an
 * ordinary user, or what a container engine leaves by default.
 */
#ifndef CONFINE_H
#define CONFINE_H

#include <stddef.h>

/*
 * An ordinary user: no capability, none to be had by starting a program, and, if root calls, user
 * and group 65534. That one can read and start what its permissions let everyone read and start;
 * `reach`, a directory (may be NULL), also where a directory above it is closed to others.
 */
#define CONFINE_USER 0x1
/*
 * A container: a seccomp filter like the one that container engines come with, and what goes with
 * it there: for root the capabilities that they leave, and no devices but the harmless ones.
 */
#define CONFINE_SECCOMP 0x2

/*
 * In a process with one thread, which then starts a program. Returns 0, or -1 with a line in `why`
 * about what could not be done; the process may have lost some privileges then.
 */
int confine(unsigned how, const char *reach, char *why, size_t why_bytes);

#endif
