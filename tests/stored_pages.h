/* SPDX-License-Identifier: GPL-2.0-only */
/* stored_pages.h - how much of a heap its image holds. */
#ifndef TESTS_STORED_PAGES_H
#define TESTS_STORED_PAGES_H

#include <stdint.h>

#include "thaw.h"

static inline int stored_pages_count(void *arg, const struct thaw_page_run *run)
{
	if (run->kind == THAW_PAGE_STORED)
		*(uint64_t *)arg += run->pages;
	return 0;
}

/* Of the newest generation. UINT64_MAX: it cannot be read. */
static inline uint64_t stored_pages(struct thaw *heap)
{
	struct thaw_image *image;
	uint64_t pages = 0;

	if (thaw_image_of(heap, &image, NULL))
		return UINT64_MAX;
	if (thaw_image_pages(image, 0, stored_pages_count, &pages, NULL))
		pages = UINT64_MAX;
	thaw_image_close(image);
	return pages;
}

#endif
