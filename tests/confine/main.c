// SPDX-License-Identifier: GPL-2.0-only
/*
 * confine [--user] [--seccomp] COMMAND [ARGUMENT]... - runs a command with the privileges of an
 * ordinary user, with those that a container engine leaves by default, or as an ordinary user in a
 * container. See confine.h.
 *
 * It becomes the command: signals, exit code and process id are the command's. A user gets for its
 * home what the environment calls TMPDIR, or /tmp, since it cannot write to root's. What cannot be
 * done is said in a line, with exit code 125, and then the command has not run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "confine.h"

#define CANNOT 125

int main(int count, char **arguments)
{
	unsigned how = 0;
	char why[512];
	int at = 1;

	for (; at < count && !strncmp(arguments[at], "--", 2); at++) {
		if (!strcmp(arguments[at], "--user"))
			how |= CONFINE_USER;
		else if (!strcmp(arguments[at], "--seccomp"))
			how |= CONFINE_SECCOMP;
		else
			at = count;
	}
	if (!how || at >= count) {
		fputs("usage: confine --user|--seccomp... COMMAND [ARGUMENT]...\n", stderr);
		return CANNOT;
	}
	if (how & CONFINE_USER && !geteuid()) {
		const char *home = getenv("TMPDIR");

		setenv("HOME", home && *home ? home : "/tmp", 1);
	}
	if (confine(how, THAW_SOURCE, why, sizeof(why))) {
		fprintf(stderr, "confine: %s\n", why);
		return CANNOT;
	}
	execvp(arguments[at], arguments + at);
	fprintf(stderr, "confine: %s: %s%s\n", arguments[at], strerror(errno),
		errno == EACCES && how & CONFINE_USER
			? " (not everyone may read and run it, or enter the directory it is in)"
			: "");
	return CANNOT;
}
