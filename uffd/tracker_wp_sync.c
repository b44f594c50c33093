/* SPDX-License-Identifier: MIT */
/*
 * tracker_wp_sync.c - written pages by write-protect faults that the fault service answers (Linux
 * 5.7).
 *
 * Invariant, under the lock: a page that is not write-protected is in `written`. So the note is
 * made before the protection goes, and a collection puts the protection back before the pages are
 * read: a write in between is in the set and in the copy, a write after it makes a new note.
 */
#include "install.h"
#include "preserve.h"
#include "tracker.h"

int tracker_wp_sync_collect(struct tracker *tracker, struct bitmap *pages)
{
	int error = 0;

	pthread_mutex_lock(&tracker->lock);
	for (uint64_t first = 0; (first = bitmap_next(&tracker->written, first)) != UINT64_MAX;) {
		uint64_t count = bitmap_run(&tracker->written, first);

		error = install_protection(tracker->region, first, count, true);
		if (error)
			break;
		bitmap_set_range(pages, first, count);
		first += count;
	}
	/*
	 * After a failure every page stays noted: some are protected, and noting one twice costs
	 * only a comparison.
	 */
	if (!error)
		bitmap_clear_all(&tracker->written);
	pthread_mutex_unlock(&tracker->lock);
	return error;
}

int tracker_wp_sync_note(struct tracker *tracker, uint64_t page)
{
	int error;

	/* What a capture still needs of it is copied first. */
	preserve_pages(tracker->preserver, page, 1);
	pthread_mutex_lock(&tracker->lock);
	bitmap_set(&tracker->written, page);
	error = install_protection(tracker->region, page, 1, false);
	pthread_mutex_unlock(&tracker->lock);
	return error;
}

int tracker_wp_sync_install_zero(struct tracker *tracker, uint64_t first, uint64_t count)
{
	int error;

	pthread_mutex_lock(&tracker->lock);
	bitmap_set_range(&tracker->written, first, count);
	error = install_zero(tracker->region, first, count);
	pthread_mutex_unlock(&tracker->lock);
	return error;
}
