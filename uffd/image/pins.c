/* SPDX-License-Identifier: MIT */
/*
 * pins.c - readers of an image that is in use, and its writer, who must not write over what they read. Any thread.
 *
 * A reader puts a shared lock of the open file (Linux 3.15) on a byte far beyond the end of the file, whose offset is the
 * number of the generation it reads: a pin, which vanishes with the reader however it ends. While there is a pin on a
 * generation that is not listed any more, all that has been dropped since waits (commit.c), up to a bound: then the
 * reader is told that its generation is gone. A new writer leaves alone all that is free (reachability.c). LMDB keeps a table
 * of its readers in a file for this.
 *
 * A reader that pins a generation and then finds it listed is safe: the commit that drops it makes its blocks garbage,
 * and the one after that is the first to reuse them. Where such locks cannot be had (some network file systems), what
 * was written over is found damaged, and told to be gone.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "mirror.h"

#define PINS_FROM (1ull << 62)
#define PIN_ATTEMPTS 50

/* `count` 0: and all that come after. */
static void pin_set(int fd, uint64_t number, uint64_t count, short type)
{
	struct flock lock = {.l_type = type,
			     .l_whence = SEEK_SET,
			     .l_start = (off_t)(PINS_FROM + number),
			     .l_len = (off_t)count};

	fcntl(fd, F_OFD_SETLK, &lock);
}

void pin_take(int fd, uint64_t number)
{
	pin_set(fd, number, 1, F_RDLCK);
}

void pin_release(int fd, uint64_t number)
{
	pin_set(fd, number, 1, F_UNLCK);
}

static bool numbers_alike(const struct record *a, const struct record *b)
{
	if (a->count != b->count)
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (a->generations[i].info.number != b->generations[i].info.number)
			return false;
	return true;
}

/* Numbers that follow each other are one lock. */
static void pin_all(int fd, const struct record *record)
{
	const struct generation *list = record->generations;

	for (unsigned i = 0, run; i < record->count; i += run) {
		for (run = 1; i + run < record->count; run++)
			if (list[i + run].info.number != list[i].info.number + run)
				break;
		pin_set(fd, list[i].info.number, run, F_RDLCK);
	}
}

/*
 * A generation that is listed once it is pinned is safe, so the record is read again, and if it lists others,
 * those are pinned instead. A writer has to be quicker than two small reads, again and again, to be ahead of
 * this at the end; then what was dropped in between may be found gone, and is told to be.
 */
int pins_read(int fd, const char *path, struct slot slots[2], unsigned *chosen,
	      struct record *record, struct thaw_error *fallback, struct thaw_error *error)
{
	int code = store_read(fd, path, slots, chosen, record, fallback, error);

	for (int attempt = 0; !code; attempt++) {
		struct record before = *record;
		bool same;

		pin_all(fd, &before);
		if (attempt == PIN_ATTEMPTS)
			break;
		memset(record, 0, sizeof(*record));
		code = store_read(fd, path, slots, chosen, record, fallback, error);
		same = !code && numbers_alike(&before, record);
		record_free(&before);
		if (same)
			break;
		pin_set(fd, 0, 0, F_UNLCK); /* all of them */
	}
	return code;
}

/* Are all numbers in [from, end) listed? */
static bool all_listed(const struct record *record, uint64_t from, uint64_t end)
{
	for (; from < end; from++)
		if (!record_find(record, from))
			return false;
	return true;
}

/* In [from, end): the kernel tells of any one lock there; then of those on both sides of it. */
static bool pins_between(int fd, const struct record *record, uint64_t from, uint64_t end)
{
	while (from < end) {
		struct flock lock = {.l_type = F_WRLCK,
				     .l_whence = SEEK_SET,
				     .l_start = (off_t)(PINS_FROM + from),
				     .l_len = (off_t)(end - from)};
		uint64_t first, last;

		if (fcntl(fd, F_OFD_GETLK, &lock) || lock.l_type == F_UNLCK)
			return false;
		first = (uint64_t)lock.l_start < PINS_FROM + from
				? from
				: (uint64_t)lock.l_start - PINS_FROM;
		last = lock.l_len ? (uint64_t)lock.l_start + (uint64_t)lock.l_len - PINS_FROM : end;
		last = last > end ? end : last;
		if (!all_listed(record, first, last) || pins_between(fd, record, from, first))
			return true;
		from = last;
	}
	return false;
}

bool pins_may_hold(const struct image *image, uint64_t bytes)
{
	uint64_t used = (image->space.blocks - image->space.free) * SPACE_BLOCK;
	uint64_t waiting = ranges_bytes(&image->held) + ranges_bytes(&image->garbage);

	return bytes <= mirror_hold_most(image->space.mirror, image->held_most) +
				(used > waiting ? used - waiting : 0) / 4;
}

bool pins_hold(int fd, const struct record *record)
{
	uint64_t newest = record->count ? record->generations[record->count - 1].info.number : 0;

	return pins_between(fd, record, 1, newest + 1);
}
