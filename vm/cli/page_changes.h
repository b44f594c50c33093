/* SPDX-License-Identifier: MIT */
/* page_changes.h - thaw diff at the level of pages, see page_changes.c. */
#ifndef VM_CLI_PAGE_CHANGES_H
#define VM_CLI_PAGE_CHANGES_H

#include "cli.h"

/*
 * Each run of pages in which the heaps of two generations differ, and the sums; for people, or as one
 * JSON object. THAW_EDAMAGED or -errno: some of an index was lost, and all the rest was told.
 */
int page_changes_list(struct thaw_image *image, const char *path, const uint64_t generations[2],
		      bool as_json, FILE *to, struct thaw_error *error);

#endif
