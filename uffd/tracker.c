/* SPDX-License-Identifier: MIT */
/*
 * tracker.c - the interface of tracker.h over its back ends. Counting and collecting: one thread
 * at a time.
 */
#include "tracker.h"

#include <signal.h>
#include <unistd.h>

#include "process_memory.h"

int tracker_create(struct tracker *tracker, struct region *region, struct thaw_error *error)
{
	uint64_t pages = region->max_bytes / region->page_bytes;
	int code;

	*tracker = (struct tracker){.region = region,
				    .pagemap = -1,
				    .lock = PTHREAD_MUTEX_INITIALIZER,
				    .collecting = PTHREAD_MUTEX_INITIALIZER};
	code = bitmap_init(&tracker->put_back, pages);
	if (!code)
		code = bitmap_init(&tracker->poisoned, pages);
	if (!code)
		code = bitmap_init(&tracker->released, pages);
	if (!code)
		code = bitmap_init(&tracker->zeroed, pages);
	if (!code && (region->backends.tracker == TRACKER_WP_SYNC ||
		      region->backends.tracker == TRACKER_MPROTECT))
		code = bitmap_init(&tracker->written, pages);
	if (code)
		return error_set(error, code, "no memory for the bitmap of written pages");
	switch (region->backends.tracker) {
	case TRACKER_KMOD:
		return tracker_kmod_create(tracker, error);
	case TRACKER_WP_ASYNC:
		return tracker_wp_async_create(tracker, error);
	case TRACKER_MPROTECT:
		return tracker_mprotect_create(tracker, error);
	default:
		return 0;
	}
}

void tracker_destroy(struct tracker *tracker)
{
	if (tracker->pagemap >= 0)
		close(tracker->pagemap);
	tracker->pagemap = -1;
	free(tracker->regions);
	free(tracker->full_bytes);
	tracker->regions = NULL;
	tracker->full_bytes = NULL;
	tracker_kmod_destroy(tracker);
	bitmap_free(&tracker->put_back);
	bitmap_free(&tracker->written);
	bitmap_free(&tracker->noted);
	bitmap_free(&tracker->here);
	bitmap_free(&tracker->used);
	bitmap_free(&tracker->poisoned);
	bitmap_free(&tracker->released);
	bitmap_free(&tracker->zeroed);
}

/* wp-sync and mprotect note every write, so they count without a scan. */
static int64_t noted_count(struct tracker *tracker, uint64_t limit)
{
	uint64_t count;

	pthread_mutex_lock(&tracker->lock);
	count = bitmap_count(&tracker->written);
	if (tracker->noted.words) /* a page may be in both: counted twice, which does no harm */
		count += bitmap_count(&tracker->noted);
	pthread_mutex_unlock(&tracker->lock);
	return (int64_t)(count < limit ? count : limit);
}

static int collect(struct tracker *tracker, struct bitmap *pages)
{
	switch (tracker->region->backends.tracker) {
	case TRACKER_KMOD:
		return tracker_kmod_collect(tracker, pages);
	case TRACKER_WP_ASYNC:
		return tracker_wp_async_collect(tracker, pages);
	case TRACKER_WP_SYNC:
		return tracker_wp_sync_collect(tracker, pages);
	case TRACKER_HASHED:
		return process_memory_present(tracker->region->process, pages);
	default:
		return tracker_mprotect_collect(tracker, pages);
	}
}

int64_t tracker_count(struct tracker *tracker, uint64_t limit)
{
	uint64_t before = bitmap_count(&tracker->put_back);
	int64_t now;

	pthread_mutex_lock(&tracker->lock);
	before += bitmap_count(&tracker->zeroed);
	pthread_mutex_unlock(&tracker->lock);
	if (before >= limit)
		return (int64_t)limit;
	limit -= before;
	switch (tracker->region->backends.tracker) {
	case TRACKER_KMOD:
		now = tracker_kmod_count(tracker);
		now = (uint64_t)now < limit ? now : (int64_t)limit;
		break;
	case TRACKER_WP_ASYNC:
		now = tracker_wp_async_count(tracker, limit);
		break;
	case TRACKER_HASHED: /* what is written differs little from one moment to the next */
		now = 0;
		break;
	default:
		now = noted_count(tracker, limit);
	}
	return now < 0 ? now : now + (int64_t)before;
}

int tracker_collect(struct tracker *tracker, struct bitmap *pages)
{
	sigset_t all, before;
	int code;

	/*
	 * If a signal handler of the program accessed the region now, it would wait for the thread
	 * that serves it, which would wait for the lock that the handler interrupted.
	 */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bitmap_merge(pages, &tracker->put_back);
	bitmap_clear_all(&tracker->put_back);
	code = collect(tracker, pages);
	if (tracker->region->process)
		process_memory_clip(tracker->region->process, pages);
	/*
	 * After the scan: a page that the scan reported as written was noted here before it was
	 * poisoned.
	 */
	pthread_mutex_lock(&tracker->lock);
	bitmap_merge(pages, &tracker->zeroed);
	bitmap_clear_all(&tracker->zeroed);
	for (uint64_t page = 0; (page = bitmap_next(&tracker->poisoned, page)) != UINT64_MAX;
	     page++)
		bitmap_clear(pages, page);
	pthread_mutex_unlock(&tracker->lock);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}

/* Under the lock. */
static uint64_t kept(const struct tracker *tracker, uint64_t first, uint64_t count)
{
	uint64_t released = bitmap_next(&tracker->released, first);

	return released - first < count ? released - first : count;
}

uint64_t tracker_kept(struct tracker *tracker, uint64_t first, uint64_t count)
{
	pthread_mutex_lock(&tracker->lock);
	count = kept(tracker, first, count);
	pthread_mutex_unlock(&tracker->lock);
	return count;
}

uint64_t tracker_forget(struct tracker *tracker, uint64_t first, uint64_t count)
{
	pthread_mutex_lock(&tracker->lock);
	count = kept(tracker, first, count);
	bitmap_set_range(&tracker->poisoned, first, count);
	if (tracker->region->backends.tracker == TRACKER_MPROTECT)
		bitmap_clear_range(&tracker->written, first, count);
	pthread_mutex_unlock(&tracker->lock);
	return count;
}

/* Pages that cannot be read are gone with their mapping. */
static void remember(struct tracker *tracker, uint64_t first, uint64_t count)
{
	pthread_mutex_lock(&tracker->lock);
	bitmap_clear_range(&tracker->poisoned, first, count);
	pthread_mutex_unlock(&tracker->lock);
}

void tracker_renew(struct tracker *tracker)
{
	bitmap_clear_all(&tracker->put_back);
	pthread_mutex_lock(&tracker->lock);
	bitmap_clear_all(&tracker->poisoned);
	pthread_mutex_unlock(&tracker->lock);
}

void tracker_removed(struct tracker *tracker, uint64_t first, uint64_t count)
{
	remember(tracker, first, count);
	process_memory_removed(tracker->region->process, first, count, false);
}

void tracker_unmapped(struct tracker *tracker, uint64_t first, uint64_t count)
{
	remember(tracker, first, count);
	process_memory_removed(tracker->region->process, first, count, true);
}

void tracker_moved(struct tracker *tracker, uint64_t from, uint64_t to, uint64_t count)
{
	tracker_unmapped(tracker, from, count);
	tracker_unmapped(tracker, to, count);
}

bool tracker_is_here(struct tracker *tracker, uint64_t page)
{
	bool here;

	pthread_mutex_lock(&tracker->lock);
	here = bitmap_test(&tracker->here, page);
	pthread_mutex_unlock(&tracker->lock);
	return here;
}

bool tracker_forgot(struct tracker *tracker, uint64_t page)
{
	bool poisoned;

	pthread_mutex_lock(&tracker->lock);
	poisoned = bitmap_test(&tracker->poisoned, page);
	pthread_mutex_unlock(&tracker->lock);
	return poisoned;
}

void tracker_put_back(struct tracker *tracker, const struct bitmap *pages)
{
	bitmap_merge(&tracker->put_back, pages);
}
