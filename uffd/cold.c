/* SPDX-License-Identifier: MIT */
/*
 * cold.c - see cold.h. The kernel makes no huge page of pages that are watched (SCAN_PTE_UFFD_WP), so for a moment they are
 * not, and what is written then leaves no mark. Therefore:
 *
 *	1. the pages are there and not written		(else it is not cold)
 *	2. they are copied
 *	3. they still are not written			so the copy is what they were when this was asked
 *	4. they are not watched any more; MADV_COLLAPSE	(Linux 6.1; some 0.5 ms for each range, while who faults there waits)
 *	5. they are watched again
 *	6. what differs from the copy was written since 3, and goes back to the tracker; what is written later leaves a mark
 *
 * A failure anywhere leaves pages unwatched, which count as written: nothing is lost by it, at most something is compared in
 * vain. What thaw_release() does meanwhile is noted by that itself (tracker.h, zeroed).
 *
 * A range that had to be split waits twice as long the next time, since the split costs its writer 10 us.
 */
#include "cold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compat.h"
#include "install.h"
#include "sys.h"

#define COLD_TICKS 4u
#define TICK_NS 500000000ull
#define QUIET_NS 20000000ull
#define LATE_NS 1000000000ull
#define PATIENCE_MOST 6u /* two minutes, at least */
#define STEP_RANGES \
	4u /* one call of MADV_COLLAPSE asks all processors for their lists: not for each range */
#define LOOKED_AT 16384u	   /* ranges, at once; of memory that is not there as well */
#define REST 4u			   /* times what a step took */
#define FAILURES_MOST 8u	   /* then this kernel does not do it, or has no memory for it */
#define LEAST_BYTES (256ull << 20) /* which is searched in 0.07 ms */

void cold_init(struct cold *cold, struct region *region, struct tracker *tracker)
{
	*cold = (struct cold){.region = region,
			      .tracker = tracker,
			      .least = LEAST_BYTES,
			      .tick_ns = TICK_NS,
			      .due_ns = 1};
	cold->used = !region->process && region->backends.tracker == TRACKER_WP_ASYNC &&
		     region->backends.backing == BACKING_ANONYMOUS &&
		     region->kernel_page_bytes == 4096 && region->max_bytes >= COLD_RANGE_BYTES;
}

/* For a region that is large enough to need it. Without memory for it, it is left alone. */
static bool has_memory(struct cold *cold)
{
	uint64_t ranges = cold->region->max_bytes / COLD_RANGE_BYTES;

	if (cold->patience)
		return true;
	cold->written = calloc(ranges, sizeof(*cold->written));
	cold->patience = calloc(ranges, sizeof(*cold->patience));
	cold->used = cold->written && cold->patience && !bitmap_init(&cold->huge, ranges);
	return cold->used;
}

void cold_free(struct cold *cold)
{
	bitmap_free(&cold->huge);
	free(cold->written);
	free(cold->patience);
	free(cold->copy);
	*cold = (struct cold){0};
}

static uint64_t pages_of_range(const struct cold *cold)
{
	return COLD_RANGE_BYTES / cold->region->page_bytes;
}

/* It was written, or is not fit for a huge page now. */
static void put_off(struct cold *cold, uint64_t range)
{
	cold->written[range] = cold->tick;
	if (cold->patience[range] < PATIENCE_MOST)
		cold->patience[range]++;
}

void cold_generation(struct cold *cold, const struct bitmap *pages)
{
	uint64_t count, now = sys_monotonic_ns();

	if (!cold->used || region_bytes(cold->region) < cold->least || !has_memory(cold))
		return;
	count = pages_of_range(cold);
	if (now - cold->ticked_ns >= cold->tick_ns) {
		cold->ticked_ns = now;
		cold->tick++;
	}
	for (uint64_t page = 0; (page = bitmap_next(pages, page)) != UINT64_MAX;) {
		uint64_t range = page / count;

		page = (range + 1) * count;
		if (range >= cold->huge.bits) /* the end of a region that is no multiple of it */
			break;
		cold->written[range] = cold->tick;
		if (!bitmap_test(&cold->huge, range))
			continue;
		bitmap_clear(&cold->huge, range);
		put_off(cold, range);
	}
}

static bool is_cold(const struct cold *cold, uint64_t range)
{
	return !bitmap_test(&cold->huge, range) &&
	       cold->tick - cold->written[range] >= COLD_TICKS << cold->patience[range];
}

uint64_t cold_due(const struct cold *cold, uint64_t idle_ns)
{
	uint64_t quiet = idle_ns + QUIET_NS, late = cold->due_ns + LATE_NS;

	if (!cold->used || cold->tick == cold->done_tick)
		return 0;
	if (quiet <= cold->due_ns)
		return cold->due_ns;
	return quiet < late ? quiet : late;
}

/* ---- what the page tables say */

static struct pm_scan_arg scan_of(const struct cold *cold, uint64_t first, uint64_t count,
				  struct page_region *found, unsigned room)
{
	uintptr_t start = (uintptr_t)cold->region->base + first * COLD_RANGE_BYTES;

	return (struct pm_scan_arg){
		.size = sizeof(struct pm_scan_arg),
		.flags = PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = start + count * COLD_RANGE_BYTES,
		.vec = (uintptr_t)found,
		.vec_len = room,
	};
}

/* All of it is there, in pages, and not written. */
static bool is_clean(const struct cold *cold, uint64_t first, uint64_t count)
{
	const uint64_t not = PAGE_IS_WRITTEN | PAGE_IS_HUGE | PAGE_IS_PFNZERO | PAGE_IS_SWAPPED;
	struct page_region found;
	struct pm_scan_arg scan = scan_of(cold, first, count, &found, 1);

	scan.category_mask = PAGE_IS_PRESENT | not ;
	scan.category_inverted = not ;
	scan.return_mask = PAGE_IS_PRESENT;
	return sys_ioctl(cold->tracker->pagemap, PAGEMAP_SCAN, &scan) == 1 &&
	       found.start == scan.start && found.end == scan.end;
}

static bool is_huge(const struct cold *cold, uint64_t range)
{
	struct page_region found;
	struct pm_scan_arg scan = scan_of(cold, range, 1, &found, 1);

	scan.category_mask = scan.return_mask = PAGE_IS_HUGE;
	return sys_ioctl(cold->tracker->pagemap, PAGEMAP_SCAN, &scan) == 1 &&
	       found.start == scan.start && found.end == scan.end;
}

static void watch(const struct cold *cold, uint64_t first, uint64_t count)
{
	struct page_region found[STEP_RANGES];
	struct pm_scan_arg scan = scan_of(cold, first, count, found, STEP_RANGES);

	scan.flags |= PM_SCAN_WP_MATCHING;
	scan.category_mask = scan.return_mask = PAGE_IS_WRITTEN;
	scan.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
	while (scan.start < scan.end) {
		int count_found = sys_ioctl(cold->tracker->pagemap, PAGEMAP_SCAN, &scan);

		if (count_found < 0)
			return;
		scan.start = pagemap_scanned_to(&scan, found, count_found);
	}
}

/* ---- a step */

/* The kernel makes huge pages only where the region does not forbid them, as it does otherwise (region.c). */
static void collapse(const struct cold *cold, uint64_t first, uint64_t count)
{
	char *start = cold->region->base + first * COLD_RANGE_BYTES;
	size_t bytes = count * COLD_RANGE_BYTES;

	if (!sys_advise(start, bytes, MADV_HUGEPAGE))
		(void)sys_advise(start, bytes, MADV_COLLAPSE);
	(void)sys_advise(start, bytes, MADV_NOHUGEPAGE);
}

/* What was written while nobody watched. */
static void compare(struct cold *cold, uint64_t first, uint64_t count)
{
	const uint32_t page_bytes = cold->region->page_bytes;
	uint64_t page = first * pages_of_range(cold), end = page + count * pages_of_range(cold);
	const char *copy = cold->copy;

	for (; page < end; page++, copy += page_bytes)
		if (memcmp(copy, cold->region->base + page * page_bytes, page_bytes))
			bitmap_set(&cold->tracker->put_back, page);
}

static void make_huge(struct cold *cold, uint64_t first, uint64_t count)
{
	uint64_t pages = pages_of_range(cold);
	bool made = false;

	memcpy(cold->copy, cold->region->base + first * COLD_RANGE_BYTES, count * COLD_RANGE_BYTES);
	if (!is_clean(cold, first, count))
		return;
	/* If it fails, some are watched and some are not: the same from here on. */
	if (!install_protection(cold->region, first * pages, count * pages, false))
		collapse(cold, first, count);
	watch(cold, first, count);
	compare(cold, first, count);
	for (uint64_t range = first; range < first + count; range++)
		if (is_huge(cold, range)) {
			bitmap_set(&cold->huge, range);
			made = true;
		} else {
			put_off(cold, range);
		}
	cold->failures = made ? 0 : cold->failures + 1;
	if (cold->failures == FAILURES_MOST)
		cold->used = false;
}

/* The next ranges that are cold: how many, up to STEP_RANGES, from *first on. 0: none so far. */
static uint64_t find_cold(struct cold *cold, uint64_t *first)
{
	uint64_t ranges = region_bytes(cold->region) / COLD_RANGE_BYTES, count = 0;
	unsigned looked = 0;

	for (; cold->next < ranges && count < STEP_RANGES && looked < LOOKED_AT; cold->next++) {
		bool fits = is_cold(cold, cold->next);

		looked += fits;
		if (fits && !is_clean(cold, cold->next, 1)) {
			put_off(cold, cold->next);
			fits = false;
		}
		if (!fits && count)
			break;
		if (!count)
			*first = cold->next;
		count += fits;
	}
	if (cold->next >= ranges) {
		cold->next = 0;
		cold->done_tick = cold->tick;
	}
	return count;
}

void cold_work(struct cold *cold)
{
	uint64_t first = 0, count, began = sys_monotonic_ns(), now;

	if (!cold->copy)
		cold->copy = malloc(STEP_RANGES * COLD_RANGE_BYTES);
	if (!cold->copy) {
		cold->used = false;
		return;
	}
	count = find_cold(cold, &first);
	if (count)
		make_huge(cold, first, count);
	if (cold->done_tick == cold->tick) {
		free(cold->copy);
		cold->copy = NULL;
	}
	now = sys_monotonic_ns();
	cold->due_ns = now + (now - began) * REST;
}
