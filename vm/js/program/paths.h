/* SPDX-License-Identifier: MIT */
/*
 * paths.h - operations on the names of files, for files.c: each a job of its own.
 */
#ifndef VM_JS_PATHS_H
#define VM_JS_PATHS_H

#include "js/engine/engine.h"

struct path_job {
	const char *path, *argument; /* `argument`: the other path, or flags; never NULL */
	int error;		     /* positive errno; 0: done */
	const char *syscall;	     /* which one failed */
	uint8_t *data;		     /* what came of it, malloc'ed, as the operation has it */
	size_t bytes;
};

struct path_operation {
	const char *name;
	bool changes; /* something outside: with output commit it waits, as a write does */
	/* On a thread of libuv's pool. */
	void (*run)(struct path_job *job);
	/* What the program gets for `data`. Owner's thread; 0: an exception. */
	js_value (*result)(struct js_engine *engine, const struct path_job *job);
};

/* NULL: there is none of that name. */
const struct path_operation *path_operation(const char *name);

#endif
