// SPDX-License-Identifier: MIT
/*
 * catch_up.c - a file and a store that were not together for a while: a program's start, or a file that is pushed again. What the
 * mirror of a file tells first is all of it; of that, the frames of which all blocks are in the file as the store has them are
 * left out: by their checksums, so nothing is fetched. A frame that is in use in part only is stored anew, which
 * compacts it. Blocks that the file has no more are told to be nowhere: but in a file that is still being filled
 * a hole says nothing.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/array.h"
#include "store/replication.h"

struct comparison {
	struct thaw_take *take;
	const struct thaw_take_info *info;
	struct store_level index;
	uint32_t *order, *start;
	uint8_t *same; /* a bit for each block of the file */
	uint64_t blocks;
};

/* Are all of these blocks dirty, which is that they are in the file? */
static bool is_dirty(const struct thaw_take_info *info, uint64_t first, uint64_t count)
{
	size_t low = 0, high = info->dirty_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct thaw_mirror_run *run = &info->dirty[middle];

		if (run->first + run->count <= first)
			low = middle + 1;
		else if (run->first > first)
			high = middle;
		else
			return first + count <= run->first + run->count;
	}
	return false;
}

/* All of it, in its order, from where its blocks are in the file. 1: it is there; 0: not all of it is; or negative. */
static int read_frame(const struct comparison *comparison, uint32_t f, void *blocks)
{
	uint32_t count = 0;

	for (uint32_t i = comparison->start[f]; i < comparison->start[f + 1]; i++) {
		const struct store_run *run = &comparison->index.runs[comparison->order[i]];

		if (!is_dirty(comparison->info, run->first, run->count))
			return 0;
		count += run->count;
	}
	if (count != comparison->index.frames[f].blocks)
		return 0;
	for (uint32_t i = comparison->start[f]; i < comparison->start[f + 1]; i++) {
		const struct store_run *run = &comparison->index.runs[comparison->order[i]];
		int code = thaw_mirror_read(comparison->take, run->first * STORE_BLOCK,
					    (char *)blocks + run->at * STORE_BLOCK,
					    run->count * (size_t)STORE_BLOCK);

		if (code)
			return code;
	}
	return 1;
}

static int compare(struct replication *r, struct comparison *comparison)
{
	const struct store_level *index = &comparison->index;
	uint8_t blocks[STORE_FRAME_BYTES];

	for (uint32_t f = 0; f < index->frame_count; f++) {
		const struct store_frame *frame = &index->frames[f];
		int code = read_frame(comparison, f, blocks);

		if (!(f % 256) && replication_stops(r))
			return -ECANCELED;
		if (code < 0)
			return code;
		if (!code || frame_content(blocks, frame->blocks) != frame->content)
			continue;
		for (uint32_t i = comparison->start[f]; i < comparison->start[f + 1]; i++) {
			const struct store_run *run = &index->runs[comparison->order[i]];

			for (uint64_t b = run->first; b < run->first + run->count; b++)
				comparison->same[b / 8] |= (uint8_t)(1u << b % 8);
		}
	}
	return 0;
}

static int run_append(struct thaw_mirror_run **runs, size_t *count, size_t *room, uint64_t first,
		      uint64_t blocks)
{
	struct thaw_mirror_run *more = array_grow(*runs, *count, room, sizeof(*more));

	if (!more)
		return -ENOMEM;
	*runs = more;
	more[(*count)++] = (struct thaw_mirror_run){first, blocks};
	return 0;
}

/* Dirty blocks that are not the same. */
static int what_differs(const struct comparison *comparison, struct thaw_mirror_run **runs,
			size_t *count)
{
	const struct thaw_take_info *info = comparison->info;
	size_t room = 0;
	int code = 0;

	for (size_t i = 0; i < info->dirty_count && !code; i++) {
		uint64_t end = info->dirty[i].first + info->dirty[i].count;
		uint64_t from = info->dirty[i].first;

		for (uint64_t b = from; b < end && !code; b++) {
			if (b >= comparison->blocks || !(comparison->same[b / 8] >> b % 8 & 1))
				continue;
			if (b > from)
				code = run_append(runs, count, &room, from, b - from);
			from = b + 1;
		}
		if (from < end && !code)
			code = run_append(runs, count, &room, from, end - from);
	}
	return code;
}

static int add_gone(struct store_level *gone, size_t *room, uint64_t first, uint64_t end)
{
	struct store_run *runs = array_grow(gone->runs, gone->run_count, room, sizeof(*runs));

	if (!runs)
		return -ENOMEM;
	gone->runs = runs;
	runs[gone->run_count++] = (struct store_run){
		.first = first, .count = (uint32_t)(end - first), .frame = STORE_NOWHERE};
	return 0;
}

/* Blocks that the index has, and the file has not. */
static int what_is_gone(const struct comparison *comparison, struct store_level *gone)
{
	const struct thaw_take_info *info = comparison->info;
	size_t dirty = 0, room = 0;
	int code = 0;

	for (uint32_t i = 0; i < comparison->index.run_count && !code; i++) {
		const struct store_run *run = &comparison->index.runs[i];
		uint64_t at = run->first, end = run->first + run->count;

		while (at < end && !code) {
			while (dirty < info->dirty_count &&
			       info->dirty[dirty].first + info->dirty[dirty].count <= at)
				dirty++;
			if (dirty == info->dirty_count || info->dirty[dirty].first >= end) {
				code = add_gone(gone, &room, at, end);
				break;
			}
			if (info->dirty[dirty].first > at)
				code = add_gone(gone, &room, at, info->dirty[dirty].first);
			at = info->dirty[dirty].first + info->dirty[dirty].count;
		}
	}
	return code;
}

int catch_up(struct replication *r, struct thaw_take *take, bool filled,
	     struct thaw_mirror_run **runs, size_t *count, struct store_level *gone)
{
	struct comparison comparison = {.take = take, .info = thaw_mirror_info(take)};
	int code = index_merge(&r->claim.index, &comparison.index);

	*runs = NULL;
	*count = 0;
	*gone = (struct store_level){0};
	/* Levels were cut at the end of the file as it was; now it may be shorter. */
	comparison.blocks = (comparison.info->file_bytes + STORE_BLOCK - 1) / STORE_BLOCK;
	level_cut(&comparison.index, comparison.blocks);
	comparison.same = calloc(comparison.blocks / 8 + 1, 1);
	if (!code && !comparison.same)
		code = -ENOMEM;
	if (!code)
		code = level_by_frame(&comparison.index, &comparison.order, &comparison.start);
	if (!code)
		code = compare(r, &comparison);
	if (!code)
		code = what_differs(&comparison, runs, count);
	if (!code && filled)
		code = what_is_gone(&comparison, gone);
	free(comparison.same);
	free(comparison.order);
	free(comparison.start);
	level_free(&comparison.index);
	if (code) {
		level_free(gone);
		free(*runs);
		*runs = NULL;
	}
	return code;
}
