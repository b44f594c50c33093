/* SPDX-License-Identifier: MIT */
/*
 * working_set.c - records which clusters of a restored heap are accessed first, and in which order, so that
 * the next start can prefetch them (REAP, ASPLOS'21, does this for virtual machines). The fault service's
 * thread appends, the thread that commits reads; `count` orders them. Memory is allocated in
 * advance. With the module the thread that commits appends, too, what the module remembers, which
 * has no times: a lock keeps the two apart.
 *
 * Only faults are seen: pages that readahead or prefetch brought are accessed unnoticed. So fault.c notes what
 * readahead brought once the program got to its end, and a recording starts with the set that is prefetched.
 *
 * The recording ends with the first generation that becomes durable 2 s or later after the restore, which
 * stores it. Accesses later than a minute after the restore do not count, nor does the 65,537th cluster. A
 * process that lives shorter stores it with its last generation (reason exit or signal) if the image has no
 * set, or a smaller one. A process that makes no generation leaves the set as it is.
 */
#include "working_set.h"

#include <errno.h>
#include <stdlib.h>

#include "image/store.h"
#include "kmod.h"
#include "sys.h"

#define FULL_NS 2000000000ull
#define LIMIT_NS 60000000000ull
#define TAKEN 512u /* of the module's list, per ioctl: 4 KiB of stack */

/* Of this cluster, or where it belongs. There is always a free one: at most half of them are used. */
static uint32_t *place_of(struct working_set_recorder *recorder, uint64_t cluster)
{
	uint32_t mask = (1u << recorder->place_bits) - 1;
	uint32_t at = (uint32_t)(cluster * 0x9e3779b97f4a7c15ull >> 32) & mask;

	while (recorder->places[at] && set_entry_page(recorder->pages[recorder->places[at] - 1]) /
						       recorder->cluster_pages !=
					       cluster)
		at = (at + 1) & mask;
	return &recorder->places[at];
}

/* With the lock, or before anybody else knows the recorder. */
static void note(struct working_set_recorder *recorder, uint64_t page, unsigned mask)
{
	uint64_t cluster = page / recorder->cluster_pages, *entry;
	unsigned count = atomic_load_explicit(&recorder->count, memory_order_relaxed);
	uint32_t *place = place_of(recorder, cluster);

	if (!*place && (cluster >= recorder->clusters || count == recorder->room))
		return;
	if (!*place) {
		recorder->pages[count] = set_entry(page, mask);
		*place = count + 1;
		atomic_store_explicit(&recorder->count, count + 1, memory_order_release);
		recorder->changed = true;
		return;
	}
	entry = &recorder->pages[*place - 1];
	if (set_entry_mask(*entry) == (set_entry_mask(*entry) | mask))
		return;
	*entry = set_entry(set_entry_page(*entry), set_entry_mask(*entry) | mask);
	recorder->changed = true;
}

int working_set_start(struct working_set_recorder *recorder, uint64_t generation, uint64_t bytes,
		      uint32_t page_bytes, const uint64_t *set, unsigned set_count)
{
	uint64_t clusters = (bytes + PAGE_CLUSTER_BYTES - 1) / PAGE_CLUSTER_BYTES;
	unsigned room = clusters < STORE_WORKING_SET_MAX ? (unsigned)clusters
							 : STORE_WORKING_SET_MAX;

	recorder->generation = generation;
	recorder->began_ns = sys_monotonic_ns();
	recorder->cluster_pages = page_cluster(page_bytes);
	pthread_mutex_init(&recorder->lock, NULL);
	recorder->clusters = clusters;
	while (1u << recorder->place_bits < 2 * room)
		recorder->place_bits++;
	recorder->pages = malloc((room + 1) * sizeof(*recorder->pages));
	recorder->places = calloc(1u << recorder->place_bits, sizeof(*recorder->places));
	if (!recorder->pages || !recorder->places) {
		working_set_free(recorder);
		return -ENOMEM;
	}
	recorder->room = room;
	for (unsigned i = 0; i < set_count; i++)
		note(recorder, set_entry_page(set[i]), set_entry_mask(set[i]));
	recorder->changed = false;
	return 0;
}

void working_set_free(struct working_set_recorder *recorder)
{
	free(recorder->pages);
	free(recorder->places);
	recorder->pages = NULL;
	recorder->places = NULL;
	recorder->room = 0;
}

void working_set_note(struct working_set_recorder *recorder, uint64_t page, unsigned count)
{
	unsigned first = (unsigned)(page % recorder->cluster_pages);
	unsigned mask = count < recorder->cluster_pages ? 0 : SET_MASK_ALL;

	if (atomic_load_explicit(&recorder->ended, memory_order_relaxed) ||
	    sys_monotonic_ns() - recorder->began_ns > LIMIT_NS)
		return;
	for (unsigned i = first; i < first + count && i < recorder->cluster_pages; i++)
		mask |= set_mask_of(i, recorder->cluster_pages);
	pthread_mutex_lock(&recorder->lock);
	note(recorder, page, mask);
	pthread_mutex_unlock(&recorder->lock);
}

void working_set_take(struct working_set_recorder *recorder, int device)
{
	uint64_t pages[TAKEN];
	struct thaw_kmod_accessed accessed = {.pages = (uintptr_t)pages};
	int code;

	if (atomic_load(&recorder->ended))
		return;
	pthread_mutex_lock(&recorder->lock);
	do {
		accessed.room = TAKEN;
		accessed.done = 0;
		code = sys_ioctl_once(device, THAW_KMOD_ACCESSED, &accessed);
		for (uint32_t i = 0; i < accessed.done && i < TAKEN; i++)
			note(recorder, pages[i], SET_MASK_ALL);
	} while (code == -EINTR || (!code && accessed.done == TAKEN));
	pthread_mutex_unlock(&recorder->lock);
}

bool working_set_offer(struct working_set_recorder *recorder, struct image *image,
		       struct commit *commit, enum thaw_reason reason)
{
	unsigned count = atomic_load_explicit(&recorder->count, memory_order_acquire);
	unsigned stored = (unsigned)(image->record.working_set.bytes / sizeof(*recorder->pages));
	bool full = sys_monotonic_ns() - recorder->began_ns >= FULL_NS, offered;

	if (!recorder->changed || atomic_load(&recorder->ended))
		return false;
	if (!full &&
	    ((reason != THAW_REASON_EXIT && reason != THAW_REASON_SIGNAL) || count <= stored))
		return false;
	recorder->last = full;
	/* The working set is only a hint: without it the generation succeeds all the same. */
	pthread_mutex_lock(&recorder->lock);
	count = atomic_load_explicit(&recorder->count, memory_order_relaxed);
	offered = !commit_working_set(commit, recorder->pages, count, recorder->generation, NULL);
	pthread_mutex_unlock(&recorder->lock);
	return offered;
}

void working_set_stored(struct working_set_recorder *recorder)
{
	atomic_store(&recorder->ended, recorder->last);
}
