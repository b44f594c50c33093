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
 * The fast path tells where to look, for where little was written; and where that has shown once that nothing is empty, it
 * is all there is to do: of memory in use nothing becomes empty again (thaw_release() puts zero pages).
 *
 * The kernel answers in its own pages, and watches again only those that it found written. Where a page
 * of ours is several of them, it is written if one of them is; those beside it are watched already, or
 * do not exist yet, and then they will count as written when they do.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "compat.h"
#include "process_memory.h"
#include "sys.h"
#include "tracker.h"

#define ANSWERS 4096u /* ranges per ioctl: 96 KiB */
#define FEW 16384u    /* pages: if there are no more, those that are empty are no matter */
#define COLLECTORS 2u
#define CHUNK_BYTES (128ull << 20)
#define CHUNKS_MOST 256u
#define CANDIDATES 128u /* ranges of a chunk; to look at each costs 1 us, at all of it 100 */
#define ALONE_CHUNKS 4u /* searched in the time that it takes to wake another thread */

/*
 * Before Linux 6.10 the fast path read the mark at the same place of entries that are not present, and could pass over a
 * written page that was being migrated just then ("fs/proc/task_mmu: fix uffd-wp confusion").
 */
static bool fast_path_is_sound(void)
{
	return sys_kernel_is(6, 10);
}

int tracker_wp_async_create(struct tracker *tracker, struct thaw_error *error)
{
	tracker->regions = malloc(COLLECTORS * ANSWERS * sizeof(struct page_region));
	tracker->full_bytes = calloc(CHUNKS_MOST, sizeof(*tracker->full_bytes));
	tracker->fast = fast_path_is_sound();
	if (!tracker->regions || !tracker->full_bytes)
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

/* By the fast path, what is empty is counted, too. */
static int64_t count_range(struct tracker *tracker, uint64_t start, uint64_t end, uint64_t limit,
			   bool fast)
{
	struct region *region = tracker->region;
	struct page_region *ranges = tracker->regions;
	struct pm_scan_arg scan = scan_of(tracker, 0);
	uint64_t pages = 0, counted = 0; /* up to here: ranges ascend, and two may share a page */

	scan.start = start;
	scan.end = end;
	if (fast) {
		scan.category_mask = PAGE_IS_WRITTEN;
		scan.category_anyof_mask = 0;
	}
	while (scan.start < scan.end && pages < limit) {
		int found;

		scan.max_pages = limit - pages; /* of the kernel's: no more of ours */
		found = sys_ioctl(pagemap_of(tracker), PAGEMAP_SCAN, &scan);
		if (found < 0)
			return found;
		for (int i = 0; i < found; i++) {
			uint64_t first = range_first(region, &ranges[i]);
			uint64_t last = range_end(region, &ranges[i]);

			pages += last - (first > counted ? first : counted);
			counted = last;
		}
		scan.start = pagemap_scanned_to(&scan, ranges, found);
	}
	return (int64_t)pages;
}

/* The next part of the region that is searched, from `at` on: another process has some that is not. */
static bool next_part(const struct tracker *tracker, uint64_t at, uint64_t *start, uint64_t *end)
{
	const struct process_memory *process = tracker->region->process;
	struct pm_scan_arg all = scan_of(tracker, 0);

	*start = at > all.start ? at : all.start;
	*end = all.end;
	for (size_t i = 0; process && i < process->apart_count; i++) {
		const struct thaw_range *apart = &process->apart[i];

		if (apart->start > *start) {
			*end = apart->start < *end ? apart->start : *end;
			break;
		}
		*start = apart->end > *start ? apart->end : *start;
	}
	return *start < *end;
}

static int64_t count(struct tracker *tracker, uint64_t limit, bool fast)
{
	uint64_t at = 0, start, end, pages = 0;

	while (pages < limit && next_part(tracker, at, &start, &end)) {
		int64_t found = count_range(tracker, start, end, limit - pages, fast);

		if (found < 0)
			return found;
		pages += (uint64_t)found;
		at = end;
	}
	return (int64_t)pages;
}

int64_t tracker_wp_async_count(struct tracker *tracker, uint64_t limit)
{
	if (limit <= FEW && tracker->fast && !tracker->region->process) {
		int64_t most = count(tracker, limit, true);

		if (most < (int64_t)limit)
			return most;
	}
	return count(tracker, limit, false);
}

/* ---- collecting: in chunks, so that several threads can */

struct collecting {
	struct tracker *tracker;
	struct bitmap *pages;
	uint64_t chunk;			 /* bytes */
	_Atomic bool shared[COLLECTORS]; /* whose buffer is in use */
	_Atomic int code;
};

/* What is found is watched again. `full`: nothing there is empty. Returns how many bytes, or -errno. */
static int64_t collect_range(struct collecting *collecting, uint64_t start, uint64_t end,
			     struct page_region *ranges, bool full)
{
	struct tracker *tracker = collecting->tracker;
	struct region *region = tracker->region;
	struct pm_scan_arg scan = scan_of(tracker, PM_SCAN_WP_MATCHING);
	uint64_t bytes = 0;

	scan.start = start;
	scan.end = end;
	scan.vec = (uintptr_t)ranges;
	if (full) {
		scan.category_mask = PAGE_IS_WRITTEN;
		scan.category_anyof_mask = 0;
	}
	while (scan.start < scan.end) {
		int found = sys_ioctl(pagemap_of(tracker), PAGEMAP_SCAN, &scan);

		if (found < 0)
			return found;
		pthread_mutex_lock(&tracker->collecting);
		for (int i = 0; i < found; i++) {
			uint64_t first = range_first(region, &ranges[i]);

			bytes += ranges[i].end - ranges[i].start;
			bitmap_set_range(collecting->pages, first,
					 range_end(region, &ranges[i]) - first);
		}
		pthread_mutex_unlock(&tracker->collecting);
		scan.start = pagemap_scanned_to(&scan, ranges, found);
	}
	return (int64_t)bytes;
}

/*
 * The fast path, without changing anything, for where to look: it finds what was written, and what is empty. How many
 * ranges, or CANDIDATES + 1: too many for it to be of use.
 */
static int candidates(struct collecting *collecting, uint64_t start, uint64_t end,
		      struct page_region *ranges)
{
	struct pm_scan_arg scan = scan_of(collecting->tracker, 0);
	int found;

	scan.start = start;
	scan.end = end;
	scan.vec = (uintptr_t)ranges;
	scan.vec_len = CANDIDATES + 1;
	scan.category_mask = PAGE_IS_WRITTEN;
	scan.category_anyof_mask = 0;
	found = sys_ioctl(pagemap_of(collecting->tracker), PAGEMAP_SCAN, &scan);
	return found < 0 || scan.walk_end >= end ? found : (int)CANDIDATES + 1;
}

/* *full: nothing in there is empty. */
static int collect_anything(struct collecting *collecting, uint64_t start, uint64_t end,
			    struct page_region *ranges, bool *full)
{
	struct page_region found[CANDIDATES + 1];
	int count = collecting->tracker->fast ? candidates(collecting, start, end, ranges)
					      : (int)CANDIDATES + 1;
	int64_t bytes = 0;

	*full = count <= (int)CANDIDATES;
	if (count < 0)
		return count;
	if (count > (int)CANDIDATES) {
		bytes = collect_range(collecting, start, end, ranges, false);
		return bytes < 0 ? (int)bytes : 0;
	}
	memcpy(found, ranges, (size_t)count * sizeof(*ranges));
	for (int i = 0; bytes >= 0 && i < count; i++) {
		bytes = collect_range(collecting, found[i].start, found[i].end, ranges, false);
		*full = *full && bytes == (int64_t)(found[i].end - found[i].start);
	}
	return bytes < 0 ? (int)bytes : 0;
}

/* *full_bytes: of the chunk, from its beginning on, nothing is empty. */
static int collect_chunk(struct collecting *collecting, uint64_t start, uint64_t end,
			 struct page_region *ranges, uint64_t *full_bytes)
{
	uint64_t known = start + *full_bytes;
	int64_t code = 0;
	bool full;

	if (known > start)
		code = collect_range(collecting, start, known, ranges, true);
	if (code < 0 || known >= end)
		return code < 0 ? (int)code : 0;
	code = collect_anything(collecting, known, end, ranges, &full);
	if (!code && full)
		*full_bytes = end - start;
	return (int)code;
}

static void collect_part(void *arg, uint64_t first, uint64_t end)
{
	struct collecting *collecting = arg;
	struct tracker *tracker = collecting->tracker;
	uint64_t base = (uintptr_t)tracker->region->base;
	uint64_t limit = base + region_bytes(tracker->region);
	unsigned mine = atomic_exchange(&collecting->shared[0], true) ? 1 : 0;

	for (; first < end && !atomic_load(&collecting->code); first++) {
		uint64_t start = base + first * collecting->chunk, to = start + collecting->chunk;
		int code = collect_chunk(collecting, start, to < limit ? to : limit,
					 (struct page_region *)tracker->regions + mine * ANSWERS,
					 &tracker->full_bytes[first]);

		if (code)
			atomic_store(&collecting->code, code);
	}
	if (!mine)
		atomic_store(&collecting->shared[0], false);
}

static int collect_process(struct collecting *collecting)
{
	struct tracker *tracker = collecting->tracker;
	uint64_t start, end;
	int64_t found = 0;

	for (uint64_t at = 0; found >= 0 && next_part(tracker, at, &start, &end); at = end)
		found = collect_range(collecting, start, end, tracker->regions, false);
	return found < 0 ? (int)found : 0;
}

int tracker_wp_async_collect(struct tracker *tracker, struct bitmap *pages)
{
	struct collecting collecting = {.tracker = tracker, .pages = pages};
	uint64_t bytes = region_bytes(tracker->region), chunks;

	if (tracker->region->process)
		return collect_process(&collecting);
	collecting.chunk = CHUNK_BYTES;
	while (collecting.chunk < bytes / CHUNKS_MOST)
		collecting.chunk *= 2;
	if (collecting.chunk != tracker->chunk_bytes)
		memset(tracker->full_bytes, 0, CHUNKS_MOST * sizeof(*tracker->full_bytes));
	tracker->chunk_bytes = collecting.chunk;
	chunks = (bytes + collecting.chunk - 1) / collecting.chunk;
	if (tracker->share)
		tracker->share(tracker->share_arg, collect_part, &collecting, chunks, 1,
			       ALONE_CHUNKS);
	else
		collect_part(&collecting, 0, chunks);
	return atomic_load(&collecting.code);
}
