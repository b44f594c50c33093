/* SPDX-License-Identifier: MIT */
/*
 * touches.c - which clusters of a restored heap are touched first, and in which order: what a start
 * needs, to be prefetched by the next one (REAP, ASPLOS'21, records the same way for virtual machines).
 *
 * The fault service's thread appends, the thread that commits reads what has been appended; `count`
 * orders them. Memory is got before: a note costs one bit that is tested, and a number that is written
 * when the bit was not set.
 *
 * What counts is a demand: a fault. The pages around one, and prefetch, bring others without one, and
 * whether those are touched later nobody is told. Two things make up for it: readahead goes on where
 * it ended only if the program got there (fault.c notes what lies between), and where the set of
 * the image was prefetched the recording starts with that set and appends what it did not have.
 *
 * The recording is of the start, not of a life. It ends with the first generation that becomes durable
 * 2 s or later after the restore, which stores it: a program that is restored and then waits for its
 * first request makes that generation when it has served it. Touches later than a minute after the
 * restore do not count; nor does the 65,537th cluster.
 *
 * A process that lives shorter has not shown what a start needs. What it recorded is stored with its
 * last generation (reason exit or signal) if the image has no set, or a smaller one. A process that
 * never makes a generation, because it is killed before or changes nothing, leaves the set as it is.
 */
#include "working_set.h"

#include <errno.h>

#include "image/store.h"
#include "sys.h"

#define FULL_NS 2000000000ull
#define LIMIT_NS 60000000000ull

int touches_init(struct touches *touches, uint64_t generation, uint64_t bytes, uint32_t page_bytes,
		 const uint64_t *set, unsigned set_count)
{
	uint64_t clusters = (bytes + PAGE_CLUSTER_BYTES - 1) / PAGE_CLUSTER_BYTES;
	unsigned room = clusters < STORE_WORKING_SET_MAX ? (unsigned)clusters
							 : STORE_WORKING_SET_MAX;

	touches->generation = generation;
	touches->began_ns = sys_monotonic_ns();
	touches->cluster_pages = page_cluster(page_bytes);
	touches->clusters = clusters;
	touches->pages = malloc((room + 1) * sizeof(*touches->pages));
	if (!touches->pages || bitmap_init(&touches->seen, clusters)) {
		touches_free(touches);
		return -ENOMEM;
	}
	touches->room = room;
	for (unsigned i = 0; i < set_count; i++)
		touches_note(touches, set[i]);
	touches->before = touches->count;
	return 0;
}

void touches_free(struct touches *touches)
{
	free(touches->pages);
	touches->pages = NULL;
	if (touches->seen.words)
		bitmap_free(&touches->seen);
	touches->room = 0;
}

void touches_note(struct touches *touches, uint64_t page)
{
	uint64_t cluster = page / touches->cluster_pages;
	unsigned count = atomic_load_explicit(&touches->count, memory_order_relaxed);

	if (count == touches->room || cluster >= touches->clusters ||
	    bitmap_test(&touches->seen, cluster) ||
	    atomic_load_explicit(&touches->ended, memory_order_relaxed))
		return;
	if (sys_monotonic_ns() - touches->began_ns > LIMIT_NS)
		return;
	bitmap_set(&touches->seen, cluster);
	touches->pages[count] = page;
	atomic_store_explicit(&touches->count, count + 1, memory_order_release);
}

bool touches_offer(struct touches *touches, struct image *image, struct commit *commit,
		   enum thaw_reason reason)
{
	unsigned count = atomic_load_explicit(&touches->count, memory_order_acquire);
	unsigned stored = (unsigned)(image->record.working_set.bytes / sizeof(*touches->pages));
	bool full = sys_monotonic_ns() - touches->began_ns >= FULL_NS;

	if (count == touches->before || atomic_load(&touches->ended))
		return false;
	if (!full &&
	    ((reason != THAW_REASON_EXIT && reason != THAW_REASON_SIGNAL) || count <= stored))
		return false;
	touches->last = full;
	/* A hint is no reason to fail a generation. */
	return !commit_working_set(commit, touches->pages, count, touches->generation, NULL);
}

void touches_stored(struct touches *touches)
{
	atomic_store(&touches->ended, touches->last);
}
