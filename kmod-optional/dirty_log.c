// SPDX-License-Identifier: GPL-2.0-only
/*
 * dirty_log.c - which pages were written: a ring that user space maps, and bitmaps for what finds
 * no room in it.
 *
 * The bit `logged` of a page says that it is in the ring, or in a bitmap, or that a harvest took it
 * and has not made it read-only yet. The first writer sets it, and adds the page; a harvest clears
 * it, and then removes the right to write from all page tables. Both the first writer and the
 * harvest hold the folio's lock for that: a write either comes before the harvest's write
 * protection, and is in what is read after the harvest, or faults and adds the page again.
 *
 * Not seen, as with every tracker that watches page tables: a device that writes to pages which
 * were pinned before.
 *
 * The model is KVM's dirty ring (virt/kvm/dirty_ring.c). User space can write to the ring: nothing
 * in it is trusted.
 */
#include <linux/bitops.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "dirty_log.h"
#include "memory.h"

static_assert(sizeof(struct thaw_kmod_ring) <= THAW_KMOD_ENTRIES_AT);

/* Between two looks at signals and at who else wants the processor. */
#define BATCH 64

int thaw_log_open(struct thaw_region *region, u32 entries)
{
	size_t bytes = PAGE_ALIGN(THAW_KMOD_ENTRIES_AT + entries * sizeof(struct thaw_kmod_dirty));
	struct thaw_log *log = &region->log;

	log->ring = __vmalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!log->ring)
		return -ENOMEM;
	log->entries = (void *)log->ring + THAW_KMOD_ENTRIES_AT;
	log->bytes = bytes;
	log->size = entries;
	log->ring->entries = entries;
	log->ring->soft_limit = entries / 4 * 3;
	return 0;
}

bool thaw_log_is_long(struct thaw_region *region)
{
	struct thaw_log *log = &region->log;
	bool is_long;

	spin_lock(&log->lock);
	is_long = log->dirty - log->reset >= READ_ONCE(log->ring->soft_limit);
	spin_unlock(&log->lock);
	return is_long;
}

/* ---- The ring in user space */

static vm_fault_t ring_fault(struct vm_fault *vmf)
{
	struct thaw_region *region = vmf->vma->vm_private_data;
	u64 at = (u64)vmf->pgoff << PAGE_SHIFT;

	at -= THAW_KMOD_RING_OFFSET;
	if (at >= region->log.bytes)
		return VM_FAULT_SIGBUS;
	vmf->page = vmalloc_to_page((void *)region->log.ring + at);
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct ring_operations = {
	.fault = ring_fault,
};

int thaw_log_mmap(struct thaw_region *region, struct vm_area_struct *vma)
{
	u64 first = vma->vm_pgoff - (THAW_KMOD_RING_OFFSET >> PAGE_SHIFT);

	if (!thaw_region_registered(region))
		return -ENXIO;
	if (first + vma_pages(vma) > region->log.bytes >> PAGE_SHIFT)
		return -EINVAL;
	vm_flags_set(vma, VM_DONTEXPAND);
	vma->vm_private_data = region;
	vma->vm_ops = &ring_operations;
	return 0;
}

/* ---- Writes */

/* False if there is no room. `reached`: it is now as long as poll() waits for. */
static bool ring_push(struct thaw_log *log, u64 page, bool *reached)
{
	struct thaw_kmod_dirty *entry = log->entries + (log->dirty & (log->size - 1));

	lockdep_assert_held(&log->lock);
	if (log->dirty - log->reset == log->size)
		return false;
	WRITE_ONCE(entry->page, page);
	WRITE_ONCE(entry->flags, THAW_KMOD_DIRTY);
	log->dirty++;
	/* The entry before the count, which user space reads with acquire. */
	smp_store_release(&log->ring->dirty, log->dirty);
	*reached = log->dirty - log->reset == READ_ONCE(log->ring->soft_limit);
	return true;
}

static void overflow_set(struct thaw_region *region, struct thaw_chunk *chunk, u64 page)
{
	struct thaw_log *log = &region->log;

	lockdep_assert_held(&log->lock);
	/*
	 * Set already: user space had put the page's number into the ring, and so cleared `logged`.
	 */
	if (__test_and_set_bit(page % THAW_CHUNK_PAGES, chunk->overflow))
		return;
	xa_set_mark(&region->chunks, page / THAW_CHUNK_PAGES, XA_MARK_0);
	WRITE_ONCE(log->ring->overflowed, ++log->overflowed);
	log->overflows++;
}

static void overflow_clear(struct thaw_region *region, struct thaw_chunk *chunk, u64 page)
{
	struct thaw_log *log = &region->log;

	lockdep_assert_held(&log->lock);
	__clear_bit(page % THAW_CHUNK_PAGES, chunk->overflow);
	if (bitmap_empty(chunk->overflow, THAW_CHUNK_PAGES))
		xa_clear_mark(&region->chunks, page / THAW_CHUNK_PAGES, XA_MARK_0);
	WRITE_ONCE(log->ring->overflowed, --log->overflowed);
}

void thaw_log_write(struct thaw_region *region, struct thaw_chunk *chunk, u64 page)
{
	bool reached = false, tell = false;
	struct thaw_log *log = &region->log;

	/*
	 * A full barrier, as in watch_again(): this folio is in the page cache, and locked, before
	 * the bit is read.
	 */
	if (test_and_set_bit(page % THAW_CHUNK_PAGES, chunk->logged))
		return;
	spin_lock(&log->lock);
	log->pages_dirtied++;
	if (!ring_push(log, page, &reached)) {
		overflow_set(region, chunk, page);
		tell = !log->told;
		log->told = true;
	}
	spin_unlock(&log->lock);
	if (reached)
		wake_up_interruptible_poll(&region->readers, EPOLLPRI);
	if (tell)
		thaw_event(region, THAW_EVENT_OVERFLOW, page, 0);
}

/* ---- Harvests */

static void watch_again(struct thaw_region *region, struct thaw_chunk *chunk, u64 page)
{
	lockdep_assert_held(&region->log.harvest);
	clear_bit(page % THAW_CHUNK_PAGES, chunk->logged);
	/*
	 * Either the folio is found, or it comes into the page cache after the barrier: then its
	 * first writer finds the bit cleared.
	 */
	smp_mb__after_atomic();
	thaw_memory_watch(region, page);
}

/*
 * The oldest entry, if user space has harvested it: 1, 0 if it has not, or there is none; -EINVAL:
 * the page is none.
 */
static int reset_one(struct thaw_region *region)
{
	struct thaw_log *log = &region->log;
	struct thaw_kmod_dirty *entry = log->entries + (log->reset & (log->size - 1));
	struct thaw_chunk *chunk;
	u64 page;

	lockdep_assert_held(&log->harvest);
	if (READ_ONCE(log->dirty) == log->reset)
		return 0;
	/* Acquire: what user space wrote before the flags. */
	if (smp_load_acquire(&entry->flags) != THAW_KMOD_HARVESTED)
		return 0;
	page = READ_ONCE(entry->page);
	if (page >= region->max_bytes >> region->page_shift)
		return -EINVAL;
	chunk = thaw_chunk_find(region, page);
	/* Without a chunk it was never logged: user space has put another number there. */
	if (!chunk)
		return -EINVAL;
	watch_again(region, chunk, page);
	WRITE_ONCE(entry->flags, 0);
	spin_lock(&log->lock);
	/* Who finds the room may write to the entry. */
	WRITE_ONCE(log->ring->reset, ++log->reset);
	log->pages_harvested++;
	spin_unlock(&log->lock);
	return 1;
}

/* A write that finds no room from now on is told of again. */
static void harvest_end(struct thaw_log *log, u32 done, bool by_reset)
{
	spin_lock(&log->lock);
	log->told = false;
	if (done && by_reset)
		log->harvests++;
	spin_unlock(&log->lock);
}

/* After a batch: may the harvest go on? */
static int harvest_pause(u32 done)
{
	if (done % BATCH)
		return 0;
	cond_resched();
	return signal_pending(current) ? -EINTR : 0;
}

int thaw_log_reset(struct thaw_region *region, struct thaw_kmod_reset *reset)
{
	struct thaw_log *log = &region->log;
	u32 most = min(reset->most ? reset->most : log->size, log->size);
	int result;

	if (mutex_lock_interruptible(&log->harvest))
		return -EINTR;
	do {
		result = reset->done < most ? reset_one(region) : 0;
		if (result <= 0)
			break;
		reset->done++;
		result = harvest_pause(reset->done);
	} while (!result);
	harvest_end(log, reset->done, true);
	mutex_unlock(&log->harvest);
	return result;
}

/*
 * Takes the overflowed pages of a chunk, from the one with `bit` on, until the caller's room is
 * full.
 */
static int overflow_take(struct thaw_region *region, struct thaw_chunk *chunk, u64 first,
			 unsigned int bit, struct thaw_kmod_overflow *overflow)
{
	u64 __user *pages = u64_to_user_ptr(overflow->pages);
	struct thaw_log *log = &region->log;
	int error = 0;

	for_each_set_bit_from(bit, chunk->overflow, THAW_CHUNK_PAGES) {
		if (overflow->done == overflow->room)
			break;
		/* Told first, and taken then: what cannot be told stays. */
		if (put_user(first + bit, pages + overflow->done))
			return -EFAULT;
		spin_lock(&log->lock);
		overflow_clear(region, chunk, first + bit);
		log->pages_harvested++;
		spin_unlock(&log->lock);
		watch_again(region, chunk, first + bit);
		overflow->done++;
		error = harvest_pause(overflow->done);
		if (error)
			break;
	}
	return error;
}

int thaw_log_overflow(struct thaw_region *region, struct thaw_kmod_overflow *overflow)
{
	unsigned long index = overflow->first / THAW_CHUNK_PAGES, start = index;
	struct thaw_log *log = &region->log;
	struct thaw_chunk *chunk;
	int error = 0;

	if (mutex_lock_interruptible(&log->harvest))
		return -EINTR;
	for (chunk = xa_find(&region->chunks, &index, ULONG_MAX, XA_MARK_0);
	     chunk && !error && overflow->done < overflow->room;
	     chunk = xa_find_after(&region->chunks, &index, ULONG_MAX, XA_MARK_0))
		error = overflow_take(region, chunk, (u64)index * THAW_CHUNK_PAGES,
				      index == start ? overflow->first % THAW_CHUNK_PAGES : 0,
				      overflow);
	harvest_end(log, overflow->done, false);
	mutex_unlock(&log->harvest);
	return error;
}
