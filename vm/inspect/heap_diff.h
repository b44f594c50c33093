/* SPDX-License-Identifier: MIT */
/* compare.h - what is different between two generations, see compare.c. */
#ifndef VM_CLI_COMPARE_H
#define VM_CLI_COMPARE_H

#include "describe.h"

/* In how many pages they differ: for the first line. */
struct compare_pages {
	uint64_t changed, appeared, vanished, lost;
	uint32_t bytes_each;
};

struct compare_options {
	uint64_t depth; /* objects inside one another; 0: the default */
	uint64_t limit; /* lines; 0: the default */
	bool json;
	struct compare_pages pages;
};

/*
 * Older, newer. Writes what is different. Returns 0 or a negative code; whether `to` could be written is
 * the caller's to ask (ferror).
 */
int compare_looks(struct look looks[2], const struct compare_options *options, FILE *to,
		  struct thaw_error *error);

#endif
