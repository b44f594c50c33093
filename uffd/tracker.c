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
	if (!code && region->tracker == TRACKER_WP_SYNC)
		code = bitmap_init(&tracker->written, pages);
	if (code)
		return error_set(error, code, "no memory for the bitmap of written pages");
	return region->tracker == TRACKER_WP_ASYNC ? tracker_wp_async_create(tracker, error) : 0;
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
}

int64_t tracker_count(struct tracker *tracker, uint64_t limit)
{
	uint64_t before = bitmap_count(&tracker->put_back);
	int64_t now;

	if (before >= limit)
		return (int64_t)limit;
	now = tracker->region->tracker == TRACKER_WP_ASYNC
		      ? tracker_wp_async_count(tracker, limit - before)
		      : tracker_wp_sync_count(tracker, limit - before);
	return now < 0 ? now : now + (int64_t)before;
}

int tracker_collect(struct tracker *tracker, struct bitmap *pages)
{
	bitmap_merge(pages, &tracker->put_back);
	bitmap_clear_all(&tracker->put_back);
	return tracker->region->tracker == TRACKER_WP_ASYNC
		       ? tracker_wp_async_collect(tracker, pages)
		       : tracker_wp_sync_collect(tracker, pages);
}

void tracker_put_back(struct tracker *tracker, const struct bitmap *pages)
{
	bitmap_merge(&tracker->put_back, pages);
}
