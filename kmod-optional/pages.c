// SPDX-License-Identifier: GPL-2.0-only
/*
 * pages.c - what user space says of ranges of pages: where they are, what is in them, that they
 * cannot be had.
 *
 * Goes block by block. What changes absent pages holds the block, as fill.c does, and never touches
 * memory of the caller meanwhile: that can be memory of the region. POISON does not hold it: it
 * wins against whoever brings the page, and must not wait for a disk.
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "fill.h"
#include "memory.h"
#include "pages.h"
#include "requests.h"

static_assert(THAW_BLOCK_BYTES / PAGE_SIZE <= THAW_CHUNK_PAGES);

#define MOST_BLOCK_PAGES (THAW_BLOCK_BYTES / PAGE_SIZE)

/* What POISON does at once, between two looks at signals: each waits for RCU, some milliseconds. */
#define POISON_PAGES SZ_16K

/* What PREFETCH reads ahead of what it copies. */
#define PREFETCH_BYTES SZ_2M

static bool range_is_restored(const struct thaw_region *region, u64 first, u64 count)
{
	return first <= region->restored_pages && count <= region->restored_pages - first;
}

/* Behind the last page of the range that is in the block of `page`. */
static u64 piece_end(const struct thaw_region *region, u64 page, u64 first, u64 count)
{
	return min(thaw_block_end(region, page), first + count);
}

/* Between two blocks: may the call go on? */
static int pause_between(void)
{
	cond_resched();
	return signal_pending(current) ? -EINTR : 0;
}

/* ---- EXTENTS */

/* What user space gave, into what is kept; the first `count` of them. */
static int places_check(const struct thaw_region *region, const struct thaw_kmod_extent *extents,
			struct thaw_place *places, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		const struct thaw_kmod_extent *extent = extents + i;

		if (extent->zero || extent->encoding > THAW_KMOD_OTHER)
			return -EINVAL;
		if (extent->encoding == THAW_KMOD_RAW &&
		    extent->offset > MAX_LFS_FILESIZE - region->page_bytes)
			return -EINVAL;
		places[i] = (struct thaw_place){
			.offset = extent->offset,
			.checksum = { extent->checksum[0], extent->checksum[1] },
			.encoding = extent->encoding,
			.known = true,
		};
	}
	return 0;
}

static int extents_block(struct thaw_region *region, u64 page, unsigned int count,
			 const void __user *from)
{
	struct thaw_kmod_extent extents[MOST_BLOCK_PAGES];
	struct thaw_place places[MOST_BLOCK_PAGES];
	struct thaw_chunk *chunk;
	int error;

	if (copy_from_user(extents, from, count * sizeof(*extents)))
		return -EFAULT;
	error = places_check(region, extents, places, count);
	if (error)
		return error;
	chunk = thaw_chunk_make(region, page);
	if (!chunk)
		return -ENOMEM;
	error = thaw_block_lock(region, chunk, page);
	if (error)
		return error;
	error = thaw_places_set(region, chunk, page, places, count);
	thaw_block_unlock(region, chunk, page);
	thaw_requests_wake(region, page, count);
	return error;
}

int thaw_pages_extents(struct thaw_region *region, struct thaw_kmod_extents *extents)
{
	u64 page = extents->first, end = extents->first + extents->count, next;
	const struct thaw_kmod_extent __user *from = u64_to_user_ptr(extents->extents);
	int error = 0;

	if (!range_is_restored(region, extents->first, extents->count))
		return -EINVAL;
	for (; page < end && !error; page = next) {
		next = piece_end(region, page, extents->first, extents->count);
		error = extents_block(region, page, next - page, from + extents->done);
		if (error)
			break;
		extents->done += next - page;
		error = pause_between();
	}
	return error;
}

/* ---- FILL, ZERO */

/* An absent page gets contents; the caller holds its block. */
static int page_store(struct thaw_region *region, u64 page, const void *from)
{
	pgoff_t index = thaw_page_index(region, page);
	unsigned int i;

	for (i = 0; i < thaw_page_parts(region); i++) {
		struct page *part = thaw_memory_lock_page(region, index + i);

		if (IS_ERR(part)) {
			thaw_memory_discard(region, page);
			return PTR_ERR(part);
		}
		memcpy_to_page(part, 0, from + i * PAGE_SIZE, PAGE_SIZE);
		set_page_dirty(part);
		unlock_page(part);
		put_page(part);
	}
	return 0;
}

/* The pages of one block. `from`: their contents, or NULL for zero. `done` counts them. */
static int store_block(struct thaw_region *region, u64 page, unsigned int count, const void *from,
		       u64 *done)
{
	struct thaw_chunk *chunk = thaw_chunk_make(region, page);
	unsigned int i;
	int error;

	if (!chunk)
		return -ENOMEM;
	error = thaw_block_lock(region, chunk, page);
	if (error)
		return error;
	for (i = 0; i < count; i++, ++*done) {
		if (thaw_page_settled(region, page + i))
			continue;
		if (from)
			error = page_store(region, page + i, from + i * region->page_bytes);
		if (error)
			break;
		thaw_page_arrive(region, chunk, page + i);
	}
	thaw_block_unlock(region, chunk, page);
	thaw_requests_wake(region, page, count);
	return error;
}

int thaw_pages_fill(struct thaw_region *region, struct thaw_kmod_pages *pages)
{
	u64 page = pages->first, end = pages->first + pages->count, next;
	const char __user *from = u64_to_user_ptr(pages->source);
	int error = 0;
	void *buffer;

	if (!range_is_restored(region, pages->first, pages->count))
		return -EINVAL;
	buffer = kvmalloc(min_t(u64, pages->count << region->page_shift, THAW_BLOCK_BYTES),
			  GFP_KERNEL_ACCOUNT);
	if (!buffer)
		return -ENOMEM;
	for (; page < end && !error; page = next) {
		size_t bytes, missing;

		next = piece_end(region, page, pages->first, pages->count);
		bytes = (next - page) << region->page_shift;
		missing = copy_from_user(buffer, from + (pages->done << region->page_shift), bytes);
		error = store_block(region, page, (bytes - missing) >> region->page_shift, buffer,
				    &pages->done);
		if (!error && missing)
			error = -EFAULT;
		if (!error)
			error = pause_between();
	}
	kvfree(buffer);
	return error;
}

int thaw_pages_zero(struct thaw_region *region, struct thaw_kmod_pages *pages)
{
	u64 page = pages->first, end = pages->first + pages->count, next;
	int error = 0;

	if (!range_is_restored(region, pages->first, pages->count) || pages->source)
		return -EINVAL;
	for (; page < end && !error; page = next) {
		next = piece_end(region, page, pages->first, pages->count);
		error = store_block(region, page, next - page, NULL, &pages->done);
		if (!error)
			error = pause_between();
	}
	return error;
}

/* ---- POISON, WAKE */

/* Nobody maps them from now on. `arrived`: somebody may have done so before. */
static int poison_bits(struct thaw_region *region, u64 *page, u64 end, bool *arrived)
{
	bool told = false;

	for (; *page < end; ++*page) {
		struct thaw_chunk *chunk = thaw_chunk_make(region, *page);
		enum thaw_poisoned was;

		if (!chunk)
			return -ENOMEM;
		was = thaw_page_poison(region, chunk, *page);
		*arrived |= was == THAW_WAS_ARRIVED;
		if (was != THAW_WAS_POISONED && !told)
			thaw_event(region, THAW_EVENT_POISON, *page, 0);
		told |= was != THAW_WAS_POISONED;
		if (*page % THAW_CHUNK_PAGES == 0)
			cond_resched();
	}
	return 0;
}

static int poison_pages(struct thaw_region *region, u64 first, u64 end, u64 *done)
{
	bool arrived = false;
	u64 page = first;
	int error;

	error = poison_bits(region, &page, end, &arrived);
	end = page;
	if (arrived) {
		/* Who maps around a read has looked at the bits in a section of RCU, unlocked. */
		synchronize_rcu();
		for (page = first; page < end; page++) {
			thaw_memory_unmap(region, page);
			cond_resched();
		}
	}
	thaw_requests_wake(region, first, end - first);
	*done += end - first;
	return error;
}

int thaw_pages_poison(struct thaw_region *region, struct thaw_kmod_pages *pages)
{
	u64 page = pages->first, end = pages->first + pages->count, next;
	int error = 0;

	if (!range_is_restored(region, pages->first, pages->count) || pages->source)
		return -EINVAL;
	for (; page < end && !error; page = next) {
		next = min(end, page + POISON_PAGES);
		error = poison_pages(region, page, next, &pages->done);
		if (!error)
			error = pause_between();
	}
	return error;
}

int thaw_pages_wake(struct thaw_region *region, struct thaw_kmod_pages *pages)
{
	if (!range_is_restored(region, pages->first, pages->count) || pages->source)
		return -EINVAL;
	thaw_requests_wake(region, pages->first, pages->count);
	pages->done = pages->count;
	return 0;
}

/* ---- PREFETCH */

static int prefetch_block(struct thaw_region *region, u64 page, u64 end,
			  struct thaw_kmod_pages *pages)
{
	struct thaw_chunk *chunk = thaw_chunk_make(region, page);
	struct thaw_absence absence;
	u64 first = page;
	int error;

	if (!chunk)
		return -ENOMEM;
	error = thaw_block_lock(region, chunk, page);
	if (error)
		return error;
	for (; page < end; page++, pages->done++) {
		error = thaw_fill_page(region, chunk, page, true, &absence);
		if (error && error != -ENODATA)
			break;
		if (error || thaw_page_poisoned(region, page))
			pages->skipped++;
		error = 0;
	}
	thaw_block_unlock(region, chunk, first);
	thaw_requests_wake(region, first, end - first);
	return error;
}

int thaw_pages_prefetch(struct thaw_region *region, struct thaw_kmod_pages *pages)
{
	u64 page = pages->first, end = pages->first + pages->count, next, ahead = page;
	int error = 0;

	if (!range_is_restored(region, pages->first, pages->count) || pages->source)
		return -EINVAL;
	for (; page < end && !error; page = next) {
		if (page >= ahead) {
			u64 window = min_t(u64, PREFETCH_BYTES >> region->page_shift, end - page);

			thaw_fill_read_ahead(region, page, window);
			ahead = page + window;
		}
		next = piece_end(region, page, pages->first, pages->count);
		error = prefetch_block(region, page, next, pages);
		if (!error)
			error = pause_between();
	}
	return error;
}
