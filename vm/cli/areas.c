/* SPDX-License-Identifier: MIT */
/*
 * areas.c - images of processes, for the commands that look at any image (areas.h). Reads only; the image may be in
 * use. One thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "areas.h"
#include "base/failure.h"

bool image_is_process(const struct thaw_image *image)
{
	struct thaw_image_info info;

	return thaw_image_info(image, false, &info, NULL) >= 0 && process_is_engine(info.engine);
}

int refuse_process(const char *path, const char *command)
{
	return cli_fail(
		EXIT_IMAGE_FOREIGN,
		"%s: an image of thaw exec: thaw %s knows those of thaw run alone (see thaw "
		"inspect, thaw diff, thaw map)",
		path, command);
}

struct counting {
	const struct description *description;
	uint32_t page_bytes;
	struct area_pages *pages;
	const struct thaw_page_run *run;
};

static void count_part(void *arg, const struct area *area, uint64_t first, uint64_t pages)
{
	struct counting *counting = arg;
	const struct description *description = counting->description;
	struct area_pages *to = counting->pages + (area ? (size_t)(area - description->areas)
							: description->area_count);

	(void)first;
	if (counting->run->kind == THAW_PAGE_LOST)
		to->lost += pages;
	else if (counting->run->kind == THAW_PAGE_STORED)
		*(counting->run->birth == description->generation ? &to->dirty : &to->stored) +=
			pages;
}

static int count_run(void *arg, const struct thaw_page_run *run)
{
	struct counting *counting = arg;

	counting->run = run;
	if (run->kind == THAW_PAGE_LOST || run->kind == THAW_PAGE_STORED)
		description_split(counting->description, counting->page_bytes, run->first,
				  run->pages, count_part, counting);
	return 0;
}

struct area_pages *area_pages_count(struct thaw_image *image, const struct description *description,
				    uint32_t page_bytes, int *code, struct thaw_error *error)
{
	struct counting counting = {
		.description = description,
		.page_bytes = page_bytes,
		.pages = calloc(description->area_count + 1, sizeof(struct area_pages)),
	};

	if (!counting.pages) {
		*code = failure(error, -ENOMEM, "no memory to count pages");
		return NULL;
	}
	*code = thaw_image_pages(image, description->generation, count_run, &counting, error);
	if (!*code || *code == THAW_EDAMAGED)
		return counting.pages;
	free(counting.pages);
	return NULL;
}
