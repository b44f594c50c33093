// SPDX-License-Identifier: GPL-2.0-only
/*
 * region.c - what is known of a region and of its pages, and the list of all regions.
 *
 * A page is absent, arrived, or poisoned (which an absent and an arrived one can become, and which
 * stays). What decides whether it may be mapped is read under its folio's lock, or in a section of
 * RCU: see memory.c, and who poisons in pages.c. Chunks are made where something is to be kept, so
 * that what a region costs follows what was touched of it.
 */
#include <linux/bitops.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "region.h"

/* Numbers of pages are indices of page caches and xarrays. */
static_assert(BITS_PER_LONG == 64);

static DEFINE_XARRAY(regions); /* by id; a region in it has a reference */
static atomic64_t last_id;
static struct kmem_cache *chunk_cache;

int thaw_regions_init(void)
{
	chunk_cache = KMEM_CACHE(thaw_chunk, SLAB_ACCOUNT);
	return chunk_cache ? 0 : -ENOMEM;
}

void thaw_regions_exit(void)
{
	kmem_cache_destroy(chunk_cache);
}

/* ---- Regions */

struct thaw_region *thaw_region_alloc(void)
{
	struct thaw_region *region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	struct file *memory;

	if (!region)
		return ERR_PTR(-ENOMEM);
	/*
	 * As large as any region may be: it cannot grow later, and costs nothing until it is
	 * touched.
	 */
	memory = shmem_file_setup("thaw", THAW_KMOD_MEMORY_OFFSET + THAW_KMOD_MAX_BYTES,
				  VM_NORESERVE);
	if (IS_ERR(memory)) {
		kfree(region);
		return ERR_CAST(memory);
	}
	region->memory = memory;
	refcount_set(&region->references, 1);
	mutex_init(&region->setup);
	xa_init_flags(&region->chunks, XA_FLAGS_ACCOUNT);
	spin_lock_init(&region->requests.lock);
	INIT_LIST_HEAD(&region->requests.waiting);
	mutex_init(&region->log.harvest);
	spin_lock_init(&region->log.lock);
	spin_lock_init(&region->accessed.lock);
	init_waitqueue_head(&region->readers);
	return region;
}

static void region_free(struct thaw_region *region)
{
	struct thaw_chunk *chunk;
	unsigned long index;

	xa_for_each(&region->chunks, index, chunk) {
		kvfree(chunk->places);
		kmem_cache_free(chunk_cache, chunk);
		cond_resched();
	}
	xa_destroy(&region->chunks);
	vfree(region->log.ring);
	kvfree(region->accessed.pages);
	if (region->image)
		fput(region->image);
	fput(region->memory);
	put_pid(region->owner);
	mutex_destroy(&region->log.harvest);
	mutex_destroy(&region->setup);
	kfree(region);
}

void thaw_region_put(struct thaw_region *region)
{
	if (refcount_dec_and_test(&region->references))
		region_free(region);
}

int thaw_region_announce(struct thaw_region *region)
{
	region->id = atomic64_inc_return(&last_id);
	return xa_err(xa_store(&regions, region->id, region, GFP_KERNEL_ACCOUNT));
}

void thaw_region_withdraw(struct thaw_region *region)
{
	if (region->id)
		xa_erase(&regions, region->id);
}

struct thaw_region *thaw_region_next(u64 after)
{
	struct thaw_region *region;
	unsigned long id = after;

	/* The lock keeps the region in, and so its reference. */
	xa_lock(&regions);
	region = xa_find_after(&regions, &id, ULONG_MAX, XA_PRESENT);
	if (region)
		refcount_inc(&region->references);
	xa_unlock(&regions);
	return region;
}

void thaw_region_counters(struct thaw_region *region, struct thaw_kmod_counters *counters)
{
	struct thaw_log *log = &region->log;

	memset(counters, 0, sizeof(*counters));
	counters->faults_served = atomic64_read(&region->faults_served);
	counters->faults_passed = atomic64_read(&region->faults_passed);
	counters->pages_restored = atomic64_read(&region->pages_restored);
	counters->pages_poisoned = atomic64_read(&region->pages_poisoned);
	counters->bytes_read = atomic64_read(&region->bytes_read);
	counters->read_errors = atomic64_read(&region->read_errors);
	counters->resident_pages = READ_ONCE(thaw_region_mapping(region)->nrpages);
	spin_lock(&log->lock);
	counters->pages_dirtied = log->pages_dirtied;
	counters->harvests = log->harvests;
	counters->pages_harvested = log->pages_harvested;
	counters->overflows = log->overflows;
	spin_unlock(&log->lock);
}

/* ---- Chunks */

struct thaw_chunk *thaw_chunk_find(struct thaw_region *region, u64 page)
{
	return xa_load(&region->chunks, page / THAW_CHUNK_PAGES);
}

struct thaw_chunk *thaw_chunk_make(struct thaw_region *region, u64 page)
{
	struct thaw_chunk *chunk = thaw_chunk_find(region, page), *first;

	if (likely(chunk))
		return chunk;
	chunk = kmem_cache_zalloc(chunk_cache, GFP_KERNEL_ACCOUNT);
	if (!chunk)
		return NULL;
	spin_lock_init(&chunk->lock);
	first = xa_cmpxchg(&region->chunks, page / THAW_CHUNK_PAGES, NULL, chunk,
			   GFP_KERNEL_ACCOUNT);
	if (!first)
		return chunk;
	/* Another thread was first, or there is no memory. */
	kmem_cache_free(chunk_cache, chunk);
	return xa_is_err(first) ? NULL : first;
}

/* How many restored pages are in the chunk of a restored page. */
static u32 chunk_restored(const struct thaw_region *region, u64 page)
{
	return min_t(u64, region->restored_pages - round_down(page, THAW_CHUNK_PAGES),
		     THAW_CHUNK_PAGES);
}

/*
 * Nothing is left to bring in the chunk: where that was is not needed any more. For kvfree() after
 * the lock.
 */
static struct thaw_place *chunk_settle(struct thaw_region *region, struct thaw_chunk *chunk,
				       u64 page)
{
	struct thaw_place *places = NULL;

	lockdep_assert_held(&chunk->lock);
	if (++chunk->settled == chunk_restored(region, page))
		swap(places, chunk->places);
	return places;
}

/* ---- Pages */

bool thaw_page_poisoned(struct thaw_region *region, u64 page)
{
	struct thaw_chunk *chunk;

	if (page >= region->restored_pages)
		return false;
	chunk = thaw_chunk_find(region, page);
	return chunk && test_bit(page % THAW_CHUNK_PAGES, chunk->poisoned);
}

bool thaw_page_usable(struct thaw_region *region, u64 page)
{
	unsigned int bit = page % THAW_CHUNK_PAGES;
	struct thaw_chunk *chunk;

	if (page >= region->restored_pages)
		return true;
	chunk = thaw_chunk_find(region, page);
	return chunk && test_bit(bit, chunk->arrived) && !test_bit(bit, chunk->poisoned);
}

bool thaw_page_settled(struct thaw_region *region, u64 page)
{
	unsigned int bit = page % THAW_CHUNK_PAGES;
	struct thaw_chunk *chunk;

	if (page >= region->restored_pages)
		return true;
	chunk = thaw_chunk_find(region, page);
	return chunk && (test_bit(bit, chunk->arrived) || test_bit(bit, chunk->poisoned));
}

void thaw_page_arrive(struct thaw_region *region, struct thaw_chunk *chunk, u64 page)
{
	unsigned int bit = page % THAW_CHUNK_PAGES;
	struct thaw_place *places = NULL;

	spin_lock(&chunk->lock);
	/*
	 * Nobody else lets it arrive, because the caller has its block; but it can have been
	 * poisoned.
	 */
	if (!test_bit(bit, chunk->poisoned)) {
		WARN_ON_ONCE(test_bit(bit, chunk->arrived));
		/* The contents before the bit, for those who find the bit without a lock. */
		smp_mb__before_atomic();
		set_bit(bit, chunk->arrived);
		places = chunk_settle(region, chunk, page);
		atomic64_inc(&region->pages_restored);
	}
	spin_unlock(&chunk->lock);
	kvfree(places);
}

enum thaw_poisoned thaw_page_poison(struct thaw_region *region, struct thaw_chunk *chunk, u64 page)
{
	enum thaw_poisoned was = THAW_WAS_POISONED;
	unsigned int bit = page % THAW_CHUNK_PAGES;
	struct thaw_place *places = NULL;

	spin_lock(&chunk->lock);
	if (!test_bit(bit, chunk->poisoned)) {
		set_bit(bit, chunk->poisoned);
		was = test_bit(bit, chunk->arrived) ? THAW_WAS_ARRIVED : THAW_WAS_ABSENT;
		if (was == THAW_WAS_ABSENT)
			places = chunk_settle(region, chunk, page);
		atomic64_inc(&region->pages_poisoned);
	}
	spin_unlock(&chunk->lock);
	kvfree(places);
	return was;
}

/* ---- Places */

bool thaw_place_get(struct thaw_region *region, u64 page, struct thaw_place *place)
{
	struct thaw_chunk *chunk = thaw_chunk_find(region, page);

	memset(place, 0, sizeof(*place));
	if (!chunk)
		return false;
	spin_lock(&chunk->lock);
	if (chunk->places)
		*place = chunk->places[page % THAW_CHUNK_PAGES];
	spin_unlock(&chunk->lock);
	return place->known;
}

int thaw_places_set(struct thaw_region *region, struct thaw_chunk *chunk, u64 page,
		    const struct thaw_place *places, unsigned int count)
{
	unsigned int bit = page % THAW_CHUNK_PAGES, i;
	struct thaw_place *room = NULL;

	if (!READ_ONCE(chunk->places) && READ_ONCE(chunk->settled) < chunk_restored(region, page)) {
		room = kvcalloc(THAW_CHUNK_PAGES, sizeof(*room), GFP_KERNEL_ACCOUNT);
		if (!room)
			return -ENOMEM;
	}
	spin_lock(&chunk->lock);
	if (!chunk->places && chunk->settled < chunk_restored(region, page))
		swap(chunk->places, room);
	for (i = 0; i < count && chunk->places; i++)
		if (!test_bit(bit + i, chunk->arrived))
			chunk->places[bit + i] = places[i];
	spin_unlock(&chunk->lock);
	kvfree(room);
	return 0;
}
