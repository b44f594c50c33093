/* SPDX-License-Identifier: MIT */
/*
 * tracker_kmod.c - written pages by the kernel module's log (kmod.h): a ring of page numbers that
 * is mapped here, and a bitmap in the kernel for what finds no room in it. What this costs depends
 * on how much was written, and on nothing else.
 *
 * Called by whoever counts or collects, one thread at a time (tracker.h), while any thread writes
 * the region. The kernel alone moves `dirty` and `reset`; only the flags of entries between them
 * are written here.
 *
 * Must never: mark an entry as harvested before its page is in the caller's bitmap, since the
 * module forgets it then.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kmod.h"
#include "sys.h"
#include "tracker.h"

#define TAKEN 512u /* pages of the bitmap per ioctl: 4 KiB of stack */

static void *map_ring(const struct region *region, size_t bytes)
{
	void *at;

	if (sys_injected(SYS_CALL_MMAP)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region->device,
		  (off_t)THAW_KMOD_RING_OFFSET);
	if (at != MAP_FAILED) /* a child of fork() harvests nothing */
		(void)madvise(at, bytes, MADV_DONTFORK);
	return at;
}

static int no_ring(struct thaw_error *error)
{
	int code = -errno;

	return error_set(error, code, "cannot map the list of written pages of %s: %s",
			 THAW_KMOD_DEVICE, thaw_strerror(code));
}

/* How long it is, is in its first page. */
int tracker_kmod_create(struct tracker *tracker, struct thaw_error *error)
{
	struct thaw_kmod_ring *ring = map_ring(tracker->region, THAW_KMOD_ENTRIES_AT);
	size_t bytes;

	if (ring == MAP_FAILED)
		return no_ring(error);
	bytes = THAW_KMOD_ENTRIES_AT + ring->entries * sizeof(struct thaw_kmod_dirty);
	munmap(ring, THAW_KMOD_ENTRIES_AT);
	ring = map_ring(tracker->region, bytes);
	if (ring == MAP_FAILED)
		return no_ring(error);
	tracker->ring = ring;
	tracker->ring_bytes = bytes;
	return 0;
}

void tracker_kmod_destroy(struct tracker *tracker)
{
	if (tracker->ring)
		munmap(tracker->ring, tracker->ring_bytes);
	tracker->ring = NULL;
}

int64_t tracker_kmod_count(const struct tracker *tracker)
{
	const struct thaw_kmod_ring *ring = tracker->ring;
	/* In this order: what is reset in between is counted too much, never too little. */
	uint32_t reset = __atomic_load_n(&ring->reset, __ATOMIC_ACQUIRE);
	uint32_t waiting = __atomic_load_n(&ring->dirty, __ATOMIC_ACQUIRE) - reset;

	return (int64_t)(waiting + __atomic_load_n(&ring->overflowed, __ATOMIC_ACQUIRE));
}

/* The module watches again what is marked as harvested, as far as that is without a gap. */
static int reset_harvested(const struct tracker *tracker)
{
	int code;

	do {
		struct thaw_kmod_reset reset = {.most = 0};

		code = sys_ioctl_once(tracker->region->device, THAW_KMOD_RESET, &reset);
	} while (code == -EINTR); /* `reset` in the ring says how far it got */
	return code < 0 ? code : 0;
}

/* What was in the ring when this began: who writes all the time must not keep it from ending. */
static int harvest(struct tracker *tracker, struct bitmap *pages)
{
	struct thaw_kmod_ring *ring = tracker->ring;
	struct thaw_kmod_dirty *entries = (void *)((char *)ring + THAW_KMOD_ENTRIES_AT);
	uint32_t dirty = __atomic_load_n(&ring->dirty, __ATOMIC_ACQUIRE);
	uint32_t at = __atomic_load_n(&ring->reset, __ATOMIC_ACQUIRE);

	if (at == dirty)
		return 0;
	for (; at != dirty; at++) {
		struct thaw_kmod_dirty *entry = &entries[at & (ring->entries - 1)];

		if (entry->page < pages->bits) /* the program can write here, too */
			bitmap_set(pages, entry->page);
		__atomic_store_n(&entry->flags, THAW_KMOD_HARVESTED, __ATOMIC_RELEASE);
	}
	return reset_harvested(tracker);
}

static int harvest_overflow(struct tracker *tracker, struct bitmap *pages)
{
	uint64_t taken[TAKEN];
	struct thaw_kmod_overflow overflow = {.pages = (uintptr_t)taken};
	int code;

	do {
		overflow.room = TAKEN;
		overflow.done = 0;
		code = sys_ioctl_once(tracker->region->device, THAW_KMOD_OVERFLOW, &overflow);
		/* Also after a failure these are out of the bitmap. */
		for (uint32_t i = 0; i < overflow.done && i < TAKEN; i++)
			bitmap_set(pages, taken[i]);
		if (overflow.done)
			overflow.first = taken[overflow.done - 1] + 1;
	} while (code == -EINTR || (!code && overflow.done == TAKEN));
	return code < 0 ? code : 0;
}

int tracker_kmod_collect(struct tracker *tracker, struct bitmap *pages)
{
	int code = harvest(tracker, pages);

	if (!code && __atomic_load_n(&tracker->ring->overflowed, __ATOMIC_ACQUIRE))
		code = harvest_overflow(tracker, pages);
	return code;
}
