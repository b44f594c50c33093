/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * region.h - one open /dev/thaw: its memory, what is known of its pages, and its log of written
 * ones. uffd/kmod.h says what all of it means to user space.
 *
 * Locks, the outermost first:
 *	mmap_lock, or the VMA's	a fault drops it before it waits for a disk or for user space
 *	region->setup		CREATE and REGISTER
 *	a bit of ->filling	who brings pages of a block; waits for disks, for user space never
 *	log->harvest		RESET and OVERFLOW
 *	a folio's lock		whether the folio may be mapped, or written, is decided under it
 *	the spinlocks		of chunks, logs and requests; none of them inside of another
 */
#ifndef THAW_REGION_H
#define THAW_REGION_H

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "uffd/kmod.h"

#define THAW_CHUNK_PAGES 512u
#define THAW_BLOCK_BYTES 65536u
#define THAW_ACCESSED_ROOM 65536u

/*
 * What one fault brings, and how large a ring is that does not say it. Read and written with
 * READ_ONCE and WRITE_ONCE.
 */
struct thaw_tunables {
	u32 cluster_bytes; /* a power of two, 64 KiB to 2 MiB */
	u32 ring_entries;  /* a power of two, 64 to 1 Mi */
};

extern struct thaw_tunables thaw_tunables;

/* Where a page is in the image, as EXTENTS said it. */
struct thaw_place {
	u64 offset;
	u64 checksum[2];
	u32 encoding; /* enum thaw_kmod_encoding */
	u32 known;
};

/*
 * 512 pages, made when the first of them needs it, gone with the region. Bits of `arrived` and
 * `poisoned` are set under the lock, are never cleared, and are read without it.
 */
struct thaw_chunk {
	spinlock_t lock; /* of what is known of the pages */
	u32 settled; /* pages that have arrived or are poisoned; under the lock */
	struct thaw_place *places; /* of all pages, or NULL; under the lock */
	DECLARE_BITMAP(arrived, THAW_CHUNK_PAGES);
	DECLARE_BITMAP(poisoned, THAW_CHUNK_PAGES);
	DECLARE_BITMAP(filling, THAW_CHUNK_PAGES); /* locks of blocks */
	DECLARE_BITMAP(logged, THAW_CHUNK_PAGES); /* written since they were watched */
	DECLARE_BITMAP(overflow, THAW_CHUNK_PAGES); /* without room in the ring; under log->lock */
};

/* Threads that wait for pages. */
struct thaw_requests {
	spinlock_t lock; /* of all that follows */
	struct list_head waiting; /* struct thaw_waiter, oldest first */
	u32 pending; /* of those, not read yet */
	u64 batches; /* that were read */
};

/* Written pages: the ring that user space maps, and our own counts, because it can write there. */
struct thaw_log {
	struct mutex harvest; /* one RESET or OVERFLOW at a time */
	struct thaw_kmod_ring *ring; /* with its entries one vmalloc() area; from REGISTER on */
	struct thaw_kmod_dirty *entries;
	size_t bytes; /* of both */
	u32 size; /* entries */

	spinlock_t lock; /* of all that follows */
	u32 dirty, reset;
	bool told; /* of an overflow since the last harvest */
	u64 overflowed; /* pages in the bitmaps now */
	u64 pages_dirtied, harvests, pages_harvested, overflows;
};

/* Pages that were touched first, a ring. */
struct thaw_accessed {
	spinlock_t lock; /* of all that follows, from REGISTER on */
	u64 *pages;
	u32 room, first, count;
};

struct thaw_region {
	u64 id;
	refcount_t references;

	/* Set by CREATE, before `created`, which is read with acquire. */
	struct pid *owner; /* the process */
	kuid_t uid;
	char comm[TASK_COMM_LEN];
	u64 max_bytes;

	/* Set by REGISTER, before `registered`, which is read with acquire. */
	struct file *image; /* or NULL; holds no lock */
	u32 page_bytes;
	u32 page_shift;
	u64 restored_bytes;
	u64 restored_pages;
	bool readable; /* the image, through its page cache */

	struct mutex setup; /* of what CREATE and REGISTER set */
	bool created;
	bool registered;

	struct file *memory; /* of shmem; our own file has its f_mapping */
	struct xarray chunks; /* struct thaw_chunk; a mark: it has overflowed pages */
	struct thaw_requests requests;
	struct thaw_log log;
	struct thaw_accessed accessed;
	wait_queue_head_t readers; /* poll() and read() */

	atomic64_t faults_served, faults_passed;
	atomic64_t pages_restored, pages_poisoned;
	atomic64_t bytes_read, read_errors;
};

/* True: all that CREATE and REGISTER set can be read. */
static inline bool thaw_region_registered(const struct thaw_region *region)
{
	/* Pairs with call_register(). */
	return smp_load_acquire(&region->registered);
}

/* Where the memory begins in its shmem file, and behind its end, in kernel pages. */
#define THAW_FIRST_INDEX ((pgoff_t)(THAW_KMOD_MEMORY_OFFSET >> PAGE_SHIFT))

static inline pgoff_t thaw_memory_end(const struct thaw_region *region)
{
	return THAW_FIRST_INDEX + (region->max_bytes >> PAGE_SHIFT);
}

/* The image page that a kernel page is in; the kernel pages of an image page. */
static inline u64 thaw_page_of(const struct thaw_region *region, pgoff_t index)
{
	return (index - THAW_FIRST_INDEX) >> (region->page_shift - PAGE_SHIFT);
}

static inline pgoff_t thaw_page_index(const struct thaw_region *region, u64 page)
{
	return THAW_FIRST_INDEX + (page << (region->page_shift - PAGE_SHIFT));
}

static inline unsigned int thaw_page_parts(const struct thaw_region *region)
{
	return 1u << (region->page_shift - PAGE_SHIFT);
}

static inline struct address_space *thaw_region_mapping(const struct thaw_region *region)
{
	return region->memory->f_mapping;
}

/* ---- region.c */

int thaw_regions_init(void);
void thaw_regions_exit(void);

/* With one reference; only thaw_region_announce() makes it visible to others. */
struct thaw_region *thaw_region_alloc(void);
int thaw_region_announce(struct thaw_region *region);
void thaw_region_withdraw(struct thaw_region *region);
/*
 * The region with the smallest id above `after`, with a reference, or NULL. From CREATE on, until
 * the file is closed.
 */
struct thaw_region *thaw_region_next(u64 after);
/* May sleep. */
void thaw_region_put(struct thaw_region *region);
/* Never sleeps. */
void thaw_region_counters(struct thaw_region *region, struct thaw_kmod_counters *counters);

/* The chunk of a page: NULL if there is none yet; or made, and then NULL if there is no memory. */
struct thaw_chunk *thaw_chunk_find(struct thaw_region *region, u64 page);
struct thaw_chunk *thaw_chunk_make(struct thaw_region *region, u64 page);

/*
 * May who touches the page see what is in the memory? Not of those that are absent, and of those
 * that are poisoned.
 */
bool thaw_page_usable(struct thaw_region *region, u64 page);
bool thaw_page_poisoned(struct thaw_region *region, u64 page);
/* Has arrived, or is poisoned: there is nothing left to bring. */
bool thaw_page_settled(struct thaw_region *region, u64 page);
/* Its contents are in the memory, and the caller holds its block: from now on it may be mapped. */
void thaw_page_arrive(struct thaw_region *region, struct thaw_chunk *chunk, u64 page);

enum thaw_poisoned { THAW_WAS_ABSENT, THAW_WAS_ARRIVED, THAW_WAS_POISONED };

/* Where it had arrived, it may be mapped still. */
enum thaw_poisoned thaw_page_poison(struct thaw_region *region, struct thaw_chunk *chunk, u64 page);

/* Says whether it is known. */
bool thaw_place_get(struct thaw_region *region, u64 page, struct thaw_place *place);
/* Of `count` pages that are all in the chunk. */
int thaw_places_set(struct thaw_region *region, struct thaw_chunk *chunk, u64 page,
		    const struct thaw_place *places, unsigned int count);

/* ---- netlink.c */

enum thaw_event {
	THAW_EVENT_REGISTERED,
	THAW_EVENT_GONE,
	THAW_EVENT_OVERFLOW,
	THAW_EVENT_READ_ERROR,
	THAW_EVENT_POISON,
};

/*
 * In any context; never sleeps. `page` and `error` (of READ_ERROR, negative) mean nothing to the
 * other events.
 */
void thaw_event(struct thaw_region *region, enum thaw_event event, u64 page, int error);
int thaw_netlink_init(void);
void thaw_netlink_exit(void);

#endif
