/* SPDX-License-Identifier: MIT */
/*
 * space.c - free space of the image file, as live bytes per block. Called by the thread that commits, only.
 * Never does I/O. It is never stored: the first commit after an open computes it (reachability.c), so no
 * crash can leave it wrong.
 *
 * Allocation prefers long runs, so that commits are sequential writes and pages of one commit stay
 * neighbours. Small holes are used once they add up to a quarter of the file, which bounds the file at 4/3 of
 * what is in use, plus 1 MiB; or once the disk was full. Within a commit the search continues where the last run ended (next fit); each
 * commit starts at the front, since otherwise its few pages would be scattered over the file, in the middle
 * of holes that long state blobs left and need again.
 *
 * A hostile image can claim a block twice: counts saturate, and a saturated block is never used again. It can
 * claim blocks behind the end of the file: the map covers them, up to a bound. `tests/inject/checks.c` checks
 * that `free`, `idle`, `known_none` and `cursor` agree with the counts.
 */
#include "space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mirror.h"

#define RUN_GOOD 64u	       /* blocks: writes of 256 KiB are as fast as sequential ones */
#define HOLES_ALLOWED 256u     /* free blocks that do not count as waste: 1 MiB */
#define LIVE_STICKY UINT16_MAX /* the count has saturated: never free again */

enum space_idle {
	IDLE_NOT,      /* in use, or freed since the last look */
	IDLE_SEEN,     /* was free at the last look */
	IDLE_RETURNED, /* the file system has it back */
};

static int space_extend(struct space *space, uint64_t blocks)
{
	if (blocks > space->capacity) {
		uint64_t capacity = blocks + blocks / 2 + 1024;
		uint16_t *live;
		uint8_t *idle;

		if (blocks > SIZE_MAX / sizeof(*live) / 2 - 1024)
			return -ENOMEM;
		live = realloc(space->live, capacity * sizeof(*live));
		if (live)
			space->live = live;
		idle = realloc(space->idle, capacity * sizeof(*idle));
		if (idle)
			space->idle = idle;
		if (!live || !idle)
			return -ENOMEM;
		space->capacity = capacity;
	}
	if (blocks > space->blocks) {
		memset(space->live + space->blocks, 0,
		       (blocks - space->blocks) * sizeof(*space->live));
		memset(space->idle + space->blocks, IDLE_NOT, blocks - space->blocks);
		space->free += blocks - space->blocks;
		space->blocks = blocks;
	}
	return 0;
}

int space_open(struct space *space, uint64_t blocks)
{
	*space = (struct space){.began = blocks, .mirror = space->mirror};
	return space_extend(space, blocks);
}

/* At most. */
static uint64_t blocks_covered(const struct space *space)
{
	return space->began + SPACE_BEYOND_BYTES / SPACE_BLOCK;
}

int space_cover(struct space *space, uint64_t end)
{
	uint64_t blocks = end / SPACE_BLOCK + !!(end % SPACE_BLOCK);
	uint64_t most = blocks_covered(space);

	space->beyond |= blocks > most;
	return space_extend(space, blocks < most ? blocks : most);
}

void space_close(struct space *space)
{
	free(space->live);
	free(space->idle);
	*space = (struct space){.mirror = space->mirror};
}

/* Only a hostile image claims more than that. */
static uint32_t block_used(uint16_t live)
{
	return live < SPACE_BLOCK ? live : SPACE_BLOCK;
}

static void block_change(struct space *space, uint64_t block, uint32_t bytes, bool add)
{
	uint16_t *live = &space->live[block];

	space->idle[block] = IDLE_NOT;
	space->bytes -= block_used(*live);
	if (add) {
		space->free -= !*live;
		*live = *live + bytes >= LIVE_STICKY ? LIVE_STICKY : (uint16_t)(*live + bytes);
	} else if (*live && *live != LIVE_STICKY) {
		*live = *live > bytes ? (uint16_t)(*live - bytes) : 0;
		if (!*live) {
			space->free++;
			space->known_none = 0;
		}
	}
	space->bytes += block_used(*live);
}

static void space_change(struct space *space, uint64_t offset, uint64_t bytes, bool add)
{
	uint64_t blocks = space->blocks, covered = blocks_covered(space);

	if (!add && space->beyond && blocks > covered)
		blocks = covered; /* blocks beyond it may not have been counted */
	while (bytes && offset / SPACE_BLOCK < blocks) {
		uint32_t part = SPACE_BLOCK - offset % SPACE_BLOCK;

		if (part > bytes)
			part = (uint32_t)bytes;
		block_change(space, offset / SPACE_BLOCK, part, add);
		offset += part;
		bytes -= part;
	}
}

void space_add(struct space *space, uint64_t offset, uint64_t bytes)
{
	space_change(space, offset, bytes, true);
}

/* The first run of `least` free blocks in [from, to), up to `most` of it. Its length, or 0. */
static uint64_t run_find(const struct space *space, uint64_t from, uint64_t to, uint64_t least,
			 uint64_t most, uint64_t *first)
{
	uint64_t length = 0;

	for (uint64_t block = from; block < to; block++) {
		if (space->live[block]) {
			if (length >= least)
				return length;
			length = 0;
			continue;
		}
		if (!length++)
			*first = block;
		if (length == most)
			return length;
	}
	return length >= least ? length : 0;
}

void space_tell_free(const struct space *space, uint64_t from, uint64_t end)
{
	uint64_t first, count;

	if (!space->mirror)
		return;
	end = end < space->blocks ? end : space->blocks;
	while ((count = run_find(space, from, end, 1, UINT64_MAX, &first))) {
		mirror_freed(space->mirror, first, count);
		from = first + count;
	}
}

void space_subtract(struct space *space, uint64_t offset, uint64_t bytes)
{
	uint64_t end = (offset + bytes + SPACE_BLOCK - 1) / SPACE_BLOCK;

	space_change(space, offset, bytes, false);
	if (bytes)
		space_tell_free(space, offset / SPACE_BLOCK, end);
}

static uint64_t run_search(struct space *space, uint64_t least, uint64_t most, uint64_t *first)
{
	uint64_t length;

	if (space->free < least || (space->known_none && space->known_none <= least))
		return 0;
	length = run_find(space, space->cursor, space->blocks, least, most, first);
	if (!length) /* a run may lie across the cursor */
		length = run_find(space, 0, space->blocks, least, most, first);
	if (!length)
		space->known_none = least;
	return length;
}

int space_allocate(struct space *space, uint64_t least, uint64_t most, uint64_t *offset,
		   uint64_t *blocks)
{
	uint64_t good = most < RUN_GOOD ? most : RUN_GOOD;
	uint64_t first = 0, length;

	length = run_search(space, good < least ? least : good, most, &first);
	if (!length && (space->cramped || space->free > space->blocks / 4 + HOLES_ALLOWED))
		length = run_search(space, least, most, &first);
	if (!length) {
		first = space->blocks;
		while (first && !space->live[first - 1])
			first--;
		length = most;
		if (space_extend(space, first + length))
			return -ENOMEM;
	}
	space_add(space, first * SPACE_BLOCK, length * SPACE_BLOCK);
	space->cursor = first + length;
	*offset = first * SPACE_BLOCK;
	*blocks = length;
	return 0;
}

bool space_allocate_between(struct space *space, uint64_t *from, uint64_t limit, uint64_t least,
			    uint64_t most, uint64_t *offset, uint64_t *blocks)
{
	uint64_t first = 0, length;

	if (limit > space->blocks)
		limit = space->blocks;
	length = *from < limit ? run_find(space, *from, limit, least, most, &first) : 0;
	*from = length ? first + length : limit;
	if (!length)
		return false;
	space_add(space, first * SPACE_BLOCK, length * SPACE_BLOCK);
	*offset = first * SPACE_BLOCK;
	*blocks = length;
	return true;
}

void space_restart(struct space *space)
{
	space->cursor = 0;
}

uint64_t space_blocks_used(const struct space *space)
{
	uint64_t blocks = space->blocks;

	while (blocks && !space->live[blocks - 1])
		blocks--;
	return blocks;
}

bool space_trim(struct space *space)
{
	uint64_t blocks = space->blocks;

	space->blocks = space_blocks_used(space);
	space->free -= blocks - space->blocks;
	if (space->cursor > space->blocks)
		space->cursor = 0;
	return blocks != space->blocks;
}

bool space_find_idle(struct space *space, uint64_t *offset, uint64_t *bytes)
{
	uint64_t left = space->blocks / 32 + 4 * SPACE_IDLE_RUN, run = 0;

	if (space->look >= space->blocks)
		space->look = 0;
	for (; left-- && space->look < space->blocks; space->look++) {
		uint8_t *idle = &space->idle[space->look];

		if (!space->live[space->look] && *idle == IDLE_SEEN) {
			run++;
			continue;
		}
		if (run >= SPACE_IDLE_RUN)
			break;
		run = 0;
		if (!space->live[space->look] && *idle == IDLE_NOT)
			*idle = IDLE_SEEN;
	}
	*offset = (space->look - run) * SPACE_BLOCK;
	*bytes = run * SPACE_BLOCK;
	if (run >= SPACE_IDLE_RUN)
		return true;
	if (space->look < space->blocks)
		space->look -= run; /* it may go on */
	return false;
}

void space_returned(struct space *space, uint64_t offset, uint64_t bytes)
{
	memset(space->idle + offset / SPACE_BLOCK, IDLE_RETURNED, bytes / SPACE_BLOCK);
}

int ranges_reserve(struct ranges *ranges, size_t more)
{
	size_t capacity = ranges->capacity ? ranges->capacity : 16;
	struct range *items;

	while (capacity < ranges->count + more)
		capacity *= 2;
	if (capacity == ranges->capacity)
		return 0;
	items = realloc(ranges->items, capacity * sizeof(*items));
	if (!items)
		return -ENOMEM;
	ranges->items = items;
	ranges->capacity = capacity;
	return 0;
}

int ranges_add(struct ranges *ranges, uint64_t offset, uint64_t bytes)
{
	struct range *last = ranges->count ? &ranges->items[ranges->count - 1] : NULL;

	if (!bytes)
		return 0;
	if (last && last->offset + last->bytes == offset) {
		last->bytes += bytes;
		return 0;
	}
	if (ranges_reserve(ranges, 1))
		return -ENOMEM;
	ranges->items[ranges->count++] = (struct range){offset, bytes};
	return 0;
}

int ranges_add_all(struct ranges *ranges, const struct ranges *more)
{
	for (size_t i = 0; i < more->count; i++)
		if (ranges_add(ranges, more->items[i].offset, more->items[i].bytes))
			return -ENOMEM;
	return 0;
}

void ranges_subtract(const struct ranges *ranges, struct space *space)
{
	for (size_t i = 0; i < ranges->count; i++)
		space_subtract(space, ranges->items[i].offset, ranges->items[i].bytes);
}

uint64_t ranges_bytes(const struct ranges *ranges)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < ranges->count; i++)
		bytes += ranges->items[i].bytes;
	return bytes;
}

void ranges_free(struct ranges *ranges)
{
	free(ranges->items);
	memset(ranges, 0, sizeof(*ranges));
}
