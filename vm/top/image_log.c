/* SPDX-License-Identifier: MIT */
/* image_log.c - see image_log.h. */
#define _GNU_SOURCE
#include "image_log.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "thaw.h"

/* File systems note the time of a change as coarsely as this, or finer. */
#define CLOCK_STEP_NS 1000000000u

static uint64_t ns_of(struct timespec time)
{
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Is the file as it was when it was read? In doubt it is not. */
static bool is_unchanged(const struct image_log *log, const struct stat *status)
{
	return log->looks && !log->code && status->st_size == log->bytes &&
	       ns_of(status->st_mtim) == ns_of(log->changed) &&
	       log->read_ns > ns_of(log->changed) + CLOCK_STEP_NS;
}

static bool follows(const struct thaw_generation *generation, uint64_t number)
{
	return generation->number == number + 1 || generation->parent == number;
}

static bool follows_in_a_run(const struct thaw_generation *before,
			     const struct thaw_generation *after)
{
	return after->restores == before->restores && after->number > before->number &&
	       after->time_ns > before->time_ns;
}

/*
 * What was made after the generation `last`, of `count` that are listed, oldest first. A program
 * that is faster than this is looked at has dropped some of them already: then the sums are of
 * those in a row up to the newest.
 */
static void count_since(struct image_log *log, const struct thaw_generation *list, unsigned count,
			uint64_t last)
{
	unsigned first = count;

	log->complete = true;
	log->pages_written = log->bytes_written = log->span_ns = 0;
	while (first && list[first - 1].number > last) {
		uint64_t before =
			first > 1 && list[first - 2].number > last ? list[first - 2].number : last;

		first--;
		if (!follows(&list[first], before)) {
			log->complete = false;
			break;
		}
	}
	if (!log->complete && count) {
		uint64_t from = list[first].time_ns, to = list[count - 1].time_ns;

		log->span_ns = to > from ? to - from : 0;
		first++; /* nobody knows what came before it, and when */
	}
	for (unsigned i = first; i < count; i++) {
		log->pages_written += list[i].pages_written;
		log->bytes_written += list[i].bytes_written;
	}
	for (unsigned i = count; i && list[i - 1].number > last; i--) {
		log->pauses++;
		log->pauses_ns += list[i - 1].pause_ns;
	}
}

/*
 * What is listed may be fewer than were made. Between two runs of a program time passes that says nothing of its interval.
 */
static uint64_t every_ns(const struct thaw_generation *list, unsigned count)
{
	const struct thaw_generation *newest = &list[count - 1], *before = newest - 1;

	if (count < 2 || !follows_in_a_run(before, newest))
		return 0;
	return (newest->time_ns - before->time_ns) / (newest->number - before->number);
}

static void log_take(struct image_log *log, const struct thaw_generation *list, unsigned count)
{
	const struct thaw_generation *newest = count ? &list[count - 1] : NULL;
	uint64_t number = newest ? newest->number : 0, last = log->generation;

	/* What cannot be read is as if it was never seen; and numbers never go back in an image. */
	if (log->code || number < last)
		log->looks = 0;
	if (log->looks) {
		count_since(log, list, count, last);
		log->made = number - last;
	}
	log->listed = count;
	log->generation = number;
	log->time_ns = newest ? newest->time_ns : 0;
	log->heap_bytes = newest ? newest->heap_bytes : 0;
	log->pause_ns = newest ? newest->pause_ns : 0;
	log->every_ns = newest ? every_ns(list, count) : 0;
	log->looks += log->looks < 2;
	log->code = 0;
}

void image_log_update(struct image_log *log, const char *path)
{
	const struct thaw_generation *list;
	struct thaw_image *image;
	struct stat status;
	uint64_t now = clock_wall_ns();
	unsigned count;
	int code;

	if (stat(path, &status)) {
		log->code = -errno;
		return;
	}
	if (is_unchanged(log, &status)) {
		log->looks = 2;
		log->made = log->pages_written = log->bytes_written = log->span_ns = 0;
		log->complete = true;
		return;
	}
	code = thaw_image_open(path, &image, NULL);
	if (code) {
		log->code = code;
		return;
	}
	count = thaw_image_log(image, &list);
	log_take(log, list, count);
	thaw_image_close(image);
	log->read_ns = now;
	log->changed = status.st_mtim;
	log->bytes = status.st_size;
}
