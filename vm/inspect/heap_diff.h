/* SPDX-License-Identifier: MIT */
/* heap_diff.h - what is different between two generations, see heap_diff.c. */
#ifndef VM_INSPECT_HEAP_DIFF_H
#define VM_INSPECT_HEAP_DIFF_H

#include <stdio.h>

#include "inspection.h"

/* How many pages differ: for the first line. */
struct heap_diff_pages {
	uint64_t changed, appeared, vanished, lost;
	uint32_t bytes_each;
};

struct heap_diff_options {
	uint64_t depth; /* how many objects deep; 0: the default */
	uint64_t limit; /* lines; 0: the default */
	bool json;
	struct heap_diff_pages pages;
};

/*
 * Writes what is different between the older and the newer side. Returns 0 or a negative code.
 * Errors of `to` are not reported: the caller asks ferror().
 */
int heap_diff_write(struct inspection sides[2], const struct heap_diff_options *options, FILE *to,
		    struct thaw_error *error);

#endif
