/* SPDX-License-Identifier: MIT */
/* page_changes.h - thaw diff at the level of pages, see page_changes.c. */
#ifndef VM_CLI_PAGE_CHANGES_H
#define VM_CLI_PAGE_CHANGES_H

#include "cli.h"

struct page_changes {
	const char *path;
	uint64_t from, to; /* generations */
	bool list;	   /* each run of pages, then the sums */
	struct json *json; /* NULL: for people, to `out` */
	FILE *out;
};

/*
 * How many pages appeared, vanished, changed: one line, or the member "pages" of the JSON object that is
 * open. THAW_EDAMAGED or -errno: some of an index was lost, and all the rest was told.
 */
int page_changes_tell(const struct page_changes *changes, struct thaw_error *error);

#endif
