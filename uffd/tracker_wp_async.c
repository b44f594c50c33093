/* SPDX-License-Identifier: MIT */
/*
 * tracker_wp_async.c - written pages by UFFD_FEATURE_WP_ASYNC and PAGEMAP_SCAN (Linux 6.7,
 * Documentation/admin-guide/mm/pagemap.rst).
 *
 * A page is "written" while its page table entry is not write-protected by userfaultfd. To ask
 * for that category alone is the kernel's fast path and half the price, and wrong here: it
 * reports the empty entries beside a present page too (pagemap_scan_pmd_entry(), 6.7 to 6.18),
 * which in a lazily restored region are pages that have not arrived: a checkpoint would store
 * them as zero. So the scan asks for pages that are written and exist, in memory or in swap.
 *
 * The kernel answers in its own pages, and watches again only those that it found written. Where a page
 * of ours is several of them, it is written if one of them is; those beside it are watched already, or
 * do not exist yet, and then they will count as written when they do.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "compat.h"
#include "process_memory.h"
#include "sys.h"
#include "tracker.h"

#define ANSWERS 4096u /* ranges per ioctl: 96 KiB */

int tracker_wp_async_create(struct tracker *tracker, struct thaw_error *error)
{
	tracker->regions = malloc(ANSWERS * sizeof(struct page_region));
	if (!tracker->regions)
		return error_set(error, -ENOMEM, "no memory for write tracking");
	if (tracker->region->process) /* there is no process yet */
		return 0;
	tracker->pagemap = sys_open("/proc/self/pagemap", O_RDONLY, 0);
	if (tracker->pagemap < 0)
		return error_set(error, tracker->pagemap, "cannot open /proc/self/pagemap: %s",
				 thaw_strerror(tracker->pagemap));
	return 0;
}

static int pagemap_of(const struct tracker *tracker)
{
	const struct process_memory *process = tracker->region->process;

	return process ? process->pagemap : tracker->pagemap;
}

/*
 * All of the region in use. The caller's vec holds what one ioctl answers. Of another process: all that is watched,
 * which is what its ranges are registered with. Without PM_SCAN_CHECK_WPASYNC the kernel passes over the rest.
 */
static struct pm_scan_arg scan_of(const struct tracker *tracker, uint64_t flags)
{
	const struct region *region = tracker->region;
	uint64_t watched = region->process ? PAGE_IS_WPALLOWED : 0;

	return (struct pm_scan_arg){
		.size = sizeof(struct pm_scan_arg),
		.flags = flags | (region->process ? 0 : PM_SCAN_CHECK_WPASYNC),
		.start = (uintptr_t)region->base,
		.end = (uintptr_t)region->base + region_bytes(region) -
		       (region->process ? region->kernel_page_bytes : 0),
		.vec = (uintptr_t)tracker->regions,
		.vec_len = ANSWERS,
		.category_mask = PAGE_IS_WRITTEN | watched,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WRITTEN,
	};
}

/* From the page that a range begins in, to behind that which it ends in. */
static uint64_t range_first(const struct region *region, const struct page_region *range)
{
	return (range->start - (uintptr_t)region->base) / region->page_bytes;
}

static uint64_t range_end(const struct region *region, const struct page_region *range)
{
	return (range->end - 1 - (uintptr_t)region->base) / region->page_bytes + 1;
}

/*
 * Where the next scan goes on. walk_end alone is not it: after more ranges than the kernel gathers at a time (512),
 * it is left from where the last gathering but one ended (do_pagemap_scan(), 6.7 to 6.18), and what
 * came after would be told twice. Ranges ascend.
 */
static uint64_t scanned_to(const struct pm_scan_arg *scan, const struct page_region *ranges,
			   int found)
{
	return found && ranges[found - 1].end > scan->walk_end ? ranges[found - 1].end
							       : scan->walk_end;
}

int64_t tracker_wp_async_count(struct tracker *tracker, uint64_t limit)
{
	struct region *region = tracker->region;
	struct page_region *ranges = tracker->regions;
	struct pm_scan_arg scan = scan_of(tracker, 0);
	uint64_t pages = 0, counted = 0; /* up to here: ranges ascend, and two may share a page */

	while (scan.start < scan.end && pages < limit) {
		int found;

		scan.max_pages = limit - pages; /* of the kernel's: no more of ours */
		found = sys_ioctl(pagemap_of(tracker), PAGEMAP_SCAN, &scan);
		if (found < 0)
			return found;
		for (int i = 0; i < found; i++) {
			uint64_t first = range_first(region, &ranges[i]);
			uint64_t end = range_end(region, &ranges[i]);

			pages += end - (first > counted ? first : counted);
			counted = end;
		}
		scan.start = scanned_to(&scan, ranges, found);
	}
	return (int64_t)pages;
}

int tracker_wp_async_collect(struct tracker *tracker, struct bitmap *pages)
{
	struct region *region = tracker->region;
	struct page_region *ranges = tracker->regions;
	struct pm_scan_arg scan = scan_of(tracker, PM_SCAN_WP_MATCHING);

	while (scan.start < scan.end) {
		int found = sys_ioctl(pagemap_of(tracker), PAGEMAP_SCAN, &scan);

		if (found < 0)
			return found;
		for (int i = 0; i < found; i++) {
			uint64_t first = range_first(region, &ranges[i]);

			bitmap_set_range(pages, first, range_end(region, &ranges[i]) - first);
		}
		scan.start = scanned_to(&scan, ranges, found);
	}
	return 0;
}
