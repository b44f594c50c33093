/* SPDX-License-Identifier: MIT */
/* people.h - a generation as JSON for people, see people.c. */
#ifndef VM_CLI_PEOPLE_H
#define VM_CLI_PEOPLE_H

#include "describe.h"

struct people_options {
	uint64_t depth; /* objects inside one another; 0: the default */
	uint64_t limit; /* entries of one object, and units of a text; 0: the default */
	bool all;	/* the engine's own too */
};

/* Returns 0 or a negative code; whether `to` could be written is the caller's to ask (ferror). */
int people_write(struct look *look, const struct people_options *options, FILE *to,
		 struct thaw_error *error);

#endif
