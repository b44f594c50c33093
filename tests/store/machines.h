/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * machines.h - several machines for a test, as far as a program can tell: each has a home of its own, with the same key, and all
 * reach one store (store_server.h).
 */
#ifndef TESTS_MACHINES_H
#define TESTS_MACHINES_H

#include "store_server.h"

struct machines {
	char *directory;
	char homes[3][256]; /* a, b, c: with counter.js, and whatever a test puts there */
	struct store_server store;
	struct program program, other, third;
};

/* Counts, and says so; goes on where it was. */
static const char counter_text[] = "import { on } from 'thaw'\n"
				   "let n = 0\n"
				   "on('restore', () => console.log('goes on at', n))\n"
				   "setInterval(() => console.log('n', ++n), 20)\n";

SUPPORT void machines_file(struct machines *machines, unsigned machine, const char *name,
			   const char *text)
{
	char *path = support_format("%s/%s", machines->homes[machine], name);

	support_write(path, text);
	free(path);
}

SUPPORT void machines_begin(struct machines *machines)
{
	static const char *const names[] = {"a", "b", "c"};

	*machines = (struct machines){.directory = support_directory()};
	for (unsigned i = 0; i < 3; i++) {
		snprintf(machines->homes[i], sizeof(machines->homes[i]), "%s/%s",
			 machines->directory, names[i]);
		if (mkdir(machines->homes[i], 0700))
			support_die(machines->homes[i]);
		machines_file(machines, i, "counter.js", counter_text);
	}
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	unsetenv("XDG_CACHE_HOME");
	store_server_begin(&machines->store);
}

SUPPORT void machines_stop(struct program *program)
{
	if (program->pid)
		kill(program->pid, SIGKILL);
	program_free(program);
}

SUPPORT void machines_end(struct machines *machines)
{
	machines_stop(&machines->program);
	machines_stop(&machines->other);
	machines_stop(&machines->third);
	store_server_end(&machines->store);
	support_remove(machines->directory);
}

/* What is started from here on is there. */
SUPPORT void machines_go(const struct machines *machines, unsigned machine)
{
	if (chdir(machines->homes[machine]) || setenv("HOME", machines->homes[machine], 1))
		support_die(machines->homes[machine]);
}

/* That machine is lost, with all that it had; another one of its name has its programs. */
SUPPORT void machines_lose(struct machines *machines, unsigned machine)
{
	if (chdir("/"))
		support_die("/");
	support_remove(strdup(machines->homes[machine]));
	if (mkdir(machines->homes[machine], 0700))
		support_die(machines->homes[machine]);
	machines_file(machines, machine, "counter.js", counter_text);
}

/* The number behind the last `word` in a text; -1: there is none. */
SUPPORT long machines_last(const char *text, const char *word)
{
	long found = -1;

	for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
		if (at == text || at[-1] == '\n')
			found = atol(at + strlen(word));
	return found;
}

/* To its end by SIGTERM; its exit code. */
SUPPORT int machines_terminate(struct program *program)
{
	int code;

	kill(program->pid, SIGTERM);
	code = program_finish(program, 60);
	program->pid = 0;
	return code;
}

#endif
