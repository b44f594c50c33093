/* SPDX-License-Identifier: MIT */
/* export_json.h - a generation as JSON for people, see export_json.c. */
#ifndef VM_INSPECT_EXPORT_JSON_H
#define VM_INSPECT_EXPORT_JSON_H

#include <stdio.h>

#include "inspection.h"

struct export_json_options {
	uint64_t depth; /* how many objects deep; 0: the default */
	uint64_t limit; /* entries of an object, UTF-16 units of a text; 0: the default */
	bool all;	/* what the engine and the runtime made, too */
};

/* Returns 0 or a negative code. Errors of `to` are not reported: the caller asks ferror(). */
int export_json_write(struct inspection *inspection, const struct export_json_options *options,
		      FILE *to, struct thaw_error *error);

#endif
