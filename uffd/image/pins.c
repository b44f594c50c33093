/* SPDX-License-Identifier: MIT */
/*
 * pins.c - readers of an image that is in use, and its writer, who must not write over what they
 * read.
 *
 * A reader takes no part in the writer's lock. It puts a shared lock on one byte far beyond the end
 * of the file, whose offset is the number of the generation it reads: a pin. The writer asks before
 * it reuses blocks: while there is a pin on a generation that is not listed any more, everything
 * that has been dropped since waits (commit.c), up to a bound; a new writer, who does not know what
 * that was, leaves alone all that is free (reach.c). LMDB keeps a table of its readers in a file for
 * this purpose; these locks are of the open file (Linux 3.15), so they vanish with the
 * reader however it ends, and nothing is written.
 *
 * A reader that pins a generation and then finds it listed is safe: the commit that drops it makes
 * its blocks garbage, and the commit after that one is the first to reuse them. Where such locks
 * cannot be had (some network file systems), it reads as if there were none: what it reads is
 * checked in any case, and what was written over shows as damage of a generation that is gone.
 *
 * Any thread.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "store.h"

#define PINS_FROM (1ull << 62)

static void pin_set(int fd, uint64_t number, short type)
{
	struct flock lock = {.l_type = type,
			     .l_whence = SEEK_SET,
			     .l_start = (off_t)(PINS_FROM + number),
			     .l_len = 1};

	fcntl(fd, F_OFD_SETLK, &lock);
}

void pin_take(int fd, uint64_t number)
{
	pin_set(fd, number, F_RDLCK);
}

void pin_release(int fd, uint64_t number)
{
	pin_set(fd, number, F_UNLCK);
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

bool pins_hold(int fd, const struct record *record)
{
	uint64_t newest = record->count ? record->generations[record->count - 1].info.number : 0;

	return pins_between(fd, record, 1, newest + 1);
}
