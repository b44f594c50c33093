/* SPDX-License-Identifier: MIT */
/*
 * areas.h - images of processes (thaw exec), for the commands that look at any image: which those are, how many pages
 * of each area of the address space are stored, and a view of all that for inspect.
 */
#ifndef VM_CLI_AREAS_H
#define VM_CLI_AREAS_H

#include "cli.h"
#include "process/describe.h"

/* Does the image hold a process, rather than JavaScript of thaw run? */
bool image_is_process(const struct thaw_image *image);
/* For commands that only know JavaScript: prints that, and returns the exit code. */
int refuse_process(const char *path, const char *command);

struct area_pages {
	uint64_t stored; /* by an older generation */
	uint64_t dirty;	 /* written by this one */
	uint64_t lost;	 /* the part of the index that has them is damaged */
};

/*
 * Of each area of a description, and at the end of what is in none: malloc'ed. NULL: `code` is negative. Else it is 0,
 * or THAW_EDAMAGED: some are lost.
 */
struct area_pages *area_pages_count(struct thaw_image *image, const struct description *description,
				    uint32_t page_bytes, int *code, struct thaw_error *error);

/* For thaw inspect: what the newest generation is (process_print.c). `all`: each area, thread and descriptor. */
void process_print(const struct description *description, const struct area_pages *pages,
		   uint32_t page_bytes, bool all);
void process_json(struct json *json, const struct description *description,
		  const struct area_pages *pages, uint32_t page_bytes);

#endif
