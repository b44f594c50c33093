/* SPDX-License-Identifier: MIT */
/*
 * tracker_mprotect.c - written pages by mprotect(2) and SIGSEGV, for where userfaultfd cannot protect pages or cannot be
 * had at all (any kernel, any privileges).
 *
 * Invariant, under the lock: a page that can be written is in `written`, and a closed page cannot be touched at all:
 * it is poisoned, or, where pages come by SIGSEGV, it has not arrived. The handler (segfault.c) notes a write on the
 * thread that wanted to write; nobody touches the region while holding the lock, so it is never taken twice.
 *
 * Each change of protection in the middle of a mapping makes two mappings more of it, of which a process can have some
 * 65,000 (vm.max_map_count), and others need some, too. So after NOTES_FINE writes since the last collection a write
 * opens a larger block; what was opened and not written costs a comparison when it is stored. And where the kernel
 * refuses all the same, no page can be written any more: those that were are in `noted` then, and their mappings one.
 */
#include <errno.h>
#include <sys/mman.h>

#include "preserve.h"
#include "sys.h"
#include "tracker.h"

#define NOTES_FINE 8192u
#define GROWN_BYTES \
	(512u << 10) /* the largest block: of a heap of 4 GiB, NOTES_FINE of them are all */
#define FRESH_BYTES (256u << 10) /* opened at once where nothing was restored, nor written yet */
/* The page tables of so much are walked in the time of one more system call (512 pages of 4 KiB). */
#define BRIDGE_BYTES (2u << 20)

static int protect(const struct tracker *tracker, uint64_t first, uint64_t end, int protection)
{
	const struct region *region = tracker->region;

	return sys_mprotect(region->base + first * region->page_bytes,
			    (end - first) * region->page_bytes, protection);
}

int tracker_mprotect_create(struct tracker *tracker, struct thaw_error *error)
{
	const struct region *region = tracker->region;
	uint64_t restored = region->restored_bytes / region->page_bytes;

	if (bitmap_init(&tracker->noted, region->max_bytes / region->page_bytes) ||
	    bitmap_init(&tracker->used, region->max_bytes / region->page_bytes) ||
	    bitmap_init(&tracker->here, restored))
		return error_set(error, -ENOMEM, "no memory for the bitmap of absent pages");
	if (region->backends.delivery == DELIVERY_SIGNAL)
		tracker->awaited = restored;
	return 0;
}

static bool is_closed(const struct tracker *tracker, uint64_t page)
{
	return bitmap_test(&tracker->poisoned, page) ||
	       (page < tracker->awaited && !bitmap_test(&tracker->here, page));
}

/* The first closed page at or after `from`, or UINT64_MAX. */
static uint64_t next_closed(const struct tracker *tracker, uint64_t from)
{
	uint64_t poisoned = bitmap_next(&tracker->poisoned, from), absent = UINT64_MAX;

	if (from < tracker->awaited)
		absent = bitmap_next_clear(&tracker->here, from, tracker->awaited);
	return absent < tracker->awaited && absent < poisoned ? absent : poisoned;
}

/* As much of [*first, *end) as lies together with the page and can be touched. */
static void trim_to_open(const struct tracker *tracker, uint64_t page, uint64_t *first,
			 uint64_t *end)
{
	uint64_t next = next_closed(tracker, page);

	if (next < *end)
		*end = next;
	for (uint64_t before = page; before > *first; before--)
		if (is_closed(tracker, before - 1)) {
			*first = before;
			return;
		}
}

/* What a write to this page opens: a block whose size is a power of two, so that blocks do not overlap. */
static void block_of(struct tracker *tracker, uint64_t page, uint64_t *first, uint64_t *end)
{
	const struct region *region = tracker->region;
	uint64_t limit = region_bytes(region) / region->page_bytes;
	uint64_t restored = region->restored_bytes / region->page_bytes;
	bool fresh = page >= restored && !bitmap_test(&tracker->used, page);
	uint64_t pages = fresh ? FRESH_BYTES / region->page_bytes : 1;

	if (++tracker->notes > NOTES_FINE)
		while (pages < limit / NOTES_FINE && pages < GROWN_BYTES / region->page_bytes)
			pages *= 2;
	*first = page & ~(pages - 1);
	*end = *first + pages < limit ? *first + pages : limit;
	if (page >= restored && *first < restored)
		*first = restored;
	else if (page < restored && restored < *end)
		*end = restored;
	trim_to_open(tracker, page, first, end);
}

/* How far from `first` on one call can take the right to write away: over what was not written, too. */
static uint64_t collect_end(const struct tracker *tracker, uint64_t first)
{
	uint64_t end = first + bitmap_run(&tracker->written, first);
	uint64_t most = BRIDGE_BYTES / tracker->region->page_bytes;

	for (;;) {
		uint64_t next = bitmap_next(&tracker->written, end);

		if (next == UINT64_MAX || next - end > most || next_closed(tracker, end) < next)
			return end;
		end = next + bitmap_run(&tracker->written, next);
	}
}

static int forbid_writes(struct tracker *tracker)
{
	int code = 0;

	for (uint64_t first = 0;
	     !code && (first = bitmap_next(&tracker->written, first)) != UINT64_MAX;) {
		uint64_t end = collect_end(tracker, first);

		code = protect(tracker, first, end, PROT_READ);
		first = end;
	}
	return code;
}

/* Nothing can be written any more, and what was is remembered: that leaves the fewest mappings. */
static int join_mappings(struct tracker *tracker)
{
	int code = forbid_writes(tracker);

	if (code)
		return code;
	bitmap_merge(&tracker->noted, &tracker->written);
	bitmap_clear_all(&tracker->written);
	return 0;
}

int tracker_mprotect_note(struct tracker *tracker, uint64_t page)
{
	uint64_t first, end;
	bool again;
	int code;

	pthread_mutex_lock(&tracker->lock);
	if (is_closed(tracker, page)) {
		pthread_mutex_unlock(&tracker->lock);
		return -ENOENT;
	}
	again = bitmap_test(&tracker->written, page); /* by another thread, or after a failure */
	block_of(tracker, page, &first, &end);
	/* What a capture still needs of it is copied first; nothing is added to that while anybody may write. */
	pthread_mutex_unlock(&tracker->lock);
	preserve_pages(tracker->preserver, first, end - first);
	pthread_mutex_lock(&tracker->lock);
	trim_to_open(tracker, page, &first, &end);
	code = protect(tracker, first, end, PROT_READ | PROT_WRITE);
	if (code == -ENOMEM) {
		code = join_mappings(tracker);
		if (!code)
			code = protect(tracker, first, end, PROT_READ | PROT_WRITE);
	}
	if (!code) {
		bitmap_set_range(&tracker->written, first, end - first);
		bitmap_set_range(&tracker->used, first, end - first);
	}
	if (!again)
		tracker->changes++;
	pthread_mutex_unlock(&tracker->lock);
	return code ? code : again;
}

int tracker_mprotect_arrive(struct tracker *tracker, uint64_t first, uint64_t count)
{
	int code;

	pthread_mutex_lock(&tracker->lock);
	code = protect(tracker, first, first + count, PROT_READ);
	if (code == -ENOMEM) {
		code = join_mappings(tracker);
		if (!code)
			code = protect(tracker, first, first + count, PROT_READ);
	}
	if (!code)
		bitmap_set_range(&tracker->here, first, count);
	pthread_mutex_unlock(&tracker->lock);
	return code;
}

int tracker_mprotect_loaded(struct tracker *tracker)
{
	uint64_t restored = tracker->region->restored_bytes / tracker->region->page_bytes;
	int code = 0;

	pthread_mutex_lock(&tracker->lock);
	for (uint64_t first = 0, end; !code && first < restored; first = end) {
		if (is_closed(tracker, first)) {
			end = first + 1;
			continue;
		}
		end = next_closed(tracker, first);
		end = end < restored ? end : restored;
		code = protect(tracker, first, end, PROT_READ);
	}
	pthread_mutex_unlock(&tracker->lock);
	return code;
}

int tracker_mprotect_collect(struct tracker *tracker, struct bitmap *pages)
{
	int code;

	pthread_mutex_lock(&tracker->lock);
	code = forbid_writes(tracker);
	/* After a failure every page stays noted; noting one twice costs only a comparison. */
	if (!code) {
		bitmap_merge(pages, &tracker->written);
		bitmap_merge(pages, &tracker->noted);
		bitmap_clear_all(&tracker->written);
		bitmap_clear_all(&tracker->noted);
		tracker->notes = 0;
		tracker->changes++;
	}
	pthread_mutex_unlock(&tracker->lock);
	return code;
}
