/* SPDX-License-Identifier: MIT */
/*
 * working_set.c - which clusters of a restored heap are touched first, and in which order: what a start
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

int working_set_start(struct working_set_recorder *recorder, uint64_t generation, uint64_t bytes,
		      uint32_t page_bytes, const uint64_t *set, unsigned set_count)
{
	uint64_t clusters = (bytes + PAGE_CLUSTER_BYTES - 1) / PAGE_CLUSTER_BYTES;
	unsigned room = clusters < STORE_WORKING_SET_MAX ? (unsigned)clusters
							 : STORE_WORKING_SET_MAX;

	recorder->generation = generation;
	recorder->began_ns = sys_monotonic_ns();
	recorder->cluster_pages = page_cluster(page_bytes);
	recorder->clusters = clusters;
	recorder->pages = malloc((room + 1) * sizeof(*recorder->pages));
	if (!recorder->pages || bitmap_init(&recorder->seen, clusters)) {
		working_set_free(recorder);
		return -ENOMEM;
	}
	recorder->room = room;
	for (unsigned i = 0; i < set_count; i++)
		working_set_note(recorder, set[i]);
	recorder->before = recorder->count;
	return 0;
}

void working_set_free(struct working_set_recorder *recorder)
{
	free(recorder->pages);
	recorder->pages = NULL;
	if (recorder->seen.words)
		bitmap_free(&recorder->seen);
	recorder->room = 0;
}

void working_set_note(struct working_set_recorder *recorder, uint64_t page)
{
	uint64_t cluster = page / recorder->cluster_pages;
	unsigned count = atomic_load_explicit(&recorder->count, memory_order_relaxed);

	if (count == recorder->room || cluster >= recorder->clusters ||
	    bitmap_test(&recorder->seen, cluster) ||
	    atomic_load_explicit(&recorder->ended, memory_order_relaxed))
		return;
	if (sys_monotonic_ns() - recorder->began_ns > LIMIT_NS)
		return;
	bitmap_set(&recorder->seen, cluster);
	recorder->pages[count] = page;
	atomic_store_explicit(&recorder->count, count + 1, memory_order_release);
}

bool working_set_offer(struct working_set_recorder *recorder, struct image *image,
		       struct commit *commit, enum thaw_reason reason)
{
	unsigned count = atomic_load_explicit(&recorder->count, memory_order_acquire);
	unsigned stored = (unsigned)(image->record.working_set.bytes / sizeof(*recorder->pages));
	bool full = sys_monotonic_ns() - recorder->began_ns >= FULL_NS;

	if (count == recorder->before || atomic_load(&recorder->ended))
		return false;
	if (!full &&
	    ((reason != THAW_REASON_EXIT && reason != THAW_REASON_SIGNAL) || count <= stored))
		return false;
	recorder->last = full;
	/* A hint is no reason to fail a generation. */
	return !commit_working_set(commit, recorder->pages, count, recorder->generation, NULL);
}

void working_set_stored(struct working_set_recorder *recorder)
{
	atomic_store(&recorder->ended, recorder->last);
}
