/* SPDX-License-Identifier: MIT */
/*
 * tracker.c - the interface of tracker.h over its back ends. Counting and collecting: one thread
 * at a time.
 */
#include "tracker.h"

#include <unistd.h>

int tracker_create(struct tracker *tracker, struct region *region, struct thaw_error *error)
{
	uint64_t pages = region->max_bytes / region->page_bytes;
	int code;

	*tracker = (struct tracker){
		.region = region, .pagemap = -1, .lock = PTHREAD_MUTEX_INITIALIZER};
	code = bitmap_init(&tracker->put_back, pages);
	if (!code)
		code = bitmap_init(&tracker->poisoned, pages);
	if (!code && region->rungs.tracker == TRACKER_WP_SYNC)
		code = bitmap_init(&tracker->written, pages);
	if (code)
		return error_set(error, code, "no memory for the bitmap of written pages");
	return region->rungs.tracker == TRACKER_WP_ASYNC ? tracker_wp_async_create(tracker, error)
							 : 0;
}

void tracker_destroy(struct tracker *tracker)
{
	if (tracker->pagemap >= 0)
		close(tracker->pagemap);
	tracker->pagemap = -1;
	free(tracker->regions);
	tracker->regions = NULL;
	bitmap_free(&tracker->put_back);
	bitmap_free(&tracker->written);
	bitmap_free(&tracker->poisoned);
}

int64_t tracker_count(struct tracker *tracker, uint64_t limit)
{
	uint64_t before = bitmap_count(&tracker->put_back);
	int64_t now;

	if (before >= limit)
		return (int64_t)limit;
	now = tracker->region->rungs.tracker == TRACKER_WP_ASYNC
		      ? tracker_wp_async_count(tracker, limit - before)
		      : tracker_wp_sync_count(tracker, limit - before);
	return now < 0 ? now : now + (int64_t)before;
}

int tracker_collect(struct tracker *tracker, struct bitmap *pages)
{
	int code;

	bitmap_merge(pages, &tracker->put_back);
	bitmap_clear_all(&tracker->put_back);
	code = tracker->region->rungs.tracker == TRACKER_WP_ASYNC
		       ? tracker_wp_async_collect(tracker, pages)
		       : tracker_wp_sync_collect(tracker, pages);
	/* After the scan: what it took for written was noted here before it was poisoned. */
	pthread_mutex_lock(&tracker->lock);
	for (uint64_t page = 0; (page = bitmap_next(&tracker->poisoned, page)) != UINT64_MAX;
	     page++)
		bitmap_clear(pages, page);
	pthread_mutex_unlock(&tracker->lock);
	return code;
}

void tracker_forget(struct tracker *tracker, uint64_t first, uint64_t count)
{
	pthread_mutex_lock(&tracker->lock);
	bitmap_set_range(&tracker->poisoned, first, count);
	pthread_mutex_unlock(&tracker->lock);
}

void tracker_put_back(struct tracker *tracker, const struct bitmap *pages)
{
	bitmap_merge(&tracker->put_back, pages);
}
