/* SPDX-License-Identifier: MIT */
/*
 * library.h - libraries that are loaded when they are first needed, so that no other start pays for them, and nobody has to
 * have them. They stay loaded.
 */
#ifndef VM_BASE_LIBRARY_H
#define VM_BASE_LIBRARY_H

#include <stddef.h>

#include "thaw.h"

struct library {
	const char *file;    /* with the number of the ABI */
	const char *package; /* what Debian calls it */
	const char *least;   /* the version that has all of them; NULL: any has */
	const char *const *names;
	size_t count;
};

/*
 * Fills a table of pointers to functions, in the order of `names`, and the first of them last: it is NULL until all are
 * there. Any number of times; one thread at a time. -ENOENT: it is not installed, or lacks one.
 */
int library_load(const struct library *library, void *table, struct thaw_error *error);

#endif
