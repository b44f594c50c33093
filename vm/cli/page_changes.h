/* SPDX-License-Identifier: MIT */
/* page_changes.h - thaw diff --pages, see page_changes.c. */
#ifndef VM_CLI_PAGE_CHANGES_H
#define VM_CLI_PAGE_CHANGES_H

#include "cli.h"

/*
 * Prints each run of pages that differ, and the sums: for people, or as one JSON object.
 * THAW_EDAMAGED or -errno: a part of an index is lost; the rest was printed.
 */
int page_changes_list(struct thaw_image *image, const char *path, const uint64_t generations[2],
		      bool as_json, FILE *to, struct thaw_error *error);
/*
 * What is different between two generations of a process (diff_process.c). THAW_EDAMAGED: a part of an index is lost;
 * the rest was printed.
 */
int process_diff(struct thaw_image *image, const char *path, const uint64_t generations[2],
		 const struct cli_options *options, FILE *to, struct thaw_error *error);

#endif
