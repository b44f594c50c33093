// SPDX-License-Identifier: MIT
/*
 * index.c - levels of a store's index in memory: one is looked up in, laid over another, and turned around. No I/O, no threads.
 */
#include "store/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/level.h"

#define RUN_BLOCKS_MOST (1u << 31) /* of one that is nowhere; longer ones are several */

void level_free(struct store_level *level)
{
	free(level->objects);
	free(level->frames);
	free(level->runs);
	*level = (struct store_level){0};
}

void index_free(struct store_index *index)
{
	for (unsigned i = 0; i < 3; i++)
		level_free(&index->level[i]);
}

size_t level_find(const struct store_level *level, uint64_t block)
{
	size_t low = 0, high = level->run_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct store_run *run = &level->runs[middle];

		if (run->first + run->count <= block)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void level_cut(struct store_level *level, uint64_t blocks)
{
	size_t count = level_find(level, blocks);

	if (count < level->run_count && level->runs[count].first < blocks) {
		level->runs[count].count = (uint32_t)(blocks - level->runs[count].first);
		count++;
	}
	level->run_count = (uint32_t)count;
}

int object_compare(const struct store_object *a, const struct store_object *b)
{
	if (a->record != b->record)
		return a->record < b->record ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->part != b->part)
		return a->part < b->part ? -1 : 1;
	return memcmp(a->epoch, b->epoch, sizeof(a->epoch));
}

/* ---- Merging: runs first, of which each remembers its level in the highest bit of a number of its own; then their frames */

struct merging {
	const struct store_level *from[2]; /* older, newer */
	struct store_run *runs;
	uint8_t *of; /* whose frame that of each run is */
	size_t count, room;
	bool whole;
};

static int merging_add(struct merging *merging, const struct store_run *run, uint8_t of)
{
	struct store_run *last;

	if (run->frame == STORE_NOWHERE && merging->whole)
		return 0;
	last = merging->count ? &merging->runs[merging->count - 1] : NULL;
	if (last && last->first + last->count == run->first && last->frame == run->frame &&
	    (run->frame == STORE_NOWHERE ? (uint64_t)last->count + run->count <= RUN_BLOCKS_MOST
					 : merging->of[merging->count - 1] == of &&
						   last->at + last->count == run->at)) {
		last->count += run->count;
		return 0;
	}
	if (merging->count ==
	    merging->room) /* there are no more than runs + 2 for each newer one */
		return -E2BIG;
	merging->runs[merging->count] = *run;
	merging->of[merging->count++] = of;
	return 0;
}

/* A part of a run: from `first` on, below `end`. */
static struct store_run run_part(const struct store_run *run, uint64_t first, uint64_t end)
{
	struct store_run part = *run;

	part.first = first;
	part.count = (uint32_t)(end - first);
	if (run->frame != STORE_NOWHERE)
		part.at += (uint32_t)(first - run->first);
	return part;
}

/* What of an older run lies between `from` and `to`, which newer runs leave open. */
static int merge_between(struct merging *merging, size_t *next, uint64_t from, uint64_t to)
{
	const struct store_level *older = merging->from[0];

	for (; *next < older->run_count; ++*next) {
		const struct store_run *run = &older->runs[*next];
		uint64_t end = run->first + run->count;
		uint64_t first = run->first > from ? run->first : from;
		uint64_t last = end < to ? end : to;

		if (run->first >= to)
			return 0;
		if (first < last) {
			struct store_run part = run_part(run, first, last);
			int code = merging_add(merging, &part, 0);

			if (code)
				return code;
		}
		if (end > to)
			return 0;
	}
	return 0;
}

static int merge_runs(struct merging *merging)
{
	const struct store_level *newer = merging->from[1];
	uint64_t from = 0;
	size_t next = 0;
	int code;

	for (size_t i = 0; i < newer->run_count; i++) {
		const struct store_run *run = &newer->runs[i];

		code = merge_between(merging, &next, from, run->first);
		if (!code)
			code = merging_add(merging, run, 1);
		if (code)
			return code;
		from = run->first + run->count;
	}
	return merge_between(merging, &next, from, UINT64_MAX);
}

/* A table that is a part of another; numbers of what was left out are STORE_NOWHERE. */
struct kept {
	uint32_t *objects[2], *frames[2]; /* new numbers; before that 1: it is needed */
};

static int kept_make(struct kept *kept, const struct merging *merging)
{
	for (unsigned i = 0; i < 2; i++) {
		kept->objects[i] = calloc(merging->from[i]->object_count + 1u, sizeof(uint32_t));
		kept->frames[i] = calloc(merging->from[i]->frame_count + 1u, sizeof(uint32_t));
		if (!kept->objects[i] || !kept->frames[i])
			return -ENOMEM;
	}
	for (size_t i = 0; i < merging->count; i++) {
		uint32_t frame = merging->runs[i].frame;
		unsigned of = merging->of[i];

		if (frame == STORE_NOWHERE)
			continue;
		kept->frames[of][frame] = 1;
		kept->objects[of][merging->from[of]->frames[frame].object] = 1;
	}
	return 0;
}

static void kept_free(struct kept *kept)
{
	for (unsigned i = 0; i < 2; i++) {
		free(kept->objects[i]);
		free(kept->frames[i]);
	}
}

/* Both tables in one, sorted as they are; the same object may be in both. */
static int merge_objects(const struct merging *merging, struct kept *kept,
			 struct store_level *result)
{
	const struct store_level *a = merging->from[0], *b = merging->from[1];
	uint32_t i = 0, j = 0, count = 0;

	result->objects =
		malloc((a->object_count + (size_t)b->object_count + 1) * sizeof(*result->objects));
	if (!result->objects)
		return -ENOMEM;
	while (i < a->object_count || j < b->object_count) {
		int order = i == a->object_count   ? 1
			    : j == b->object_count ? -1
						   : object_compare(&a->objects[i], &b->objects[j]);
		bool needed = (order <= 0 && kept->objects[0][i]) ||
			      (order >= 0 && kept->objects[1][j]);

		if (!order && needed && a->objects[i].bytes != b->objects[j].bytes)
			return THAW_EDAMAGED;
		if (needed)
			result->objects[count] = order <= 0 ? a->objects[i] : b->objects[j];
		if (order <= 0)
			kept->objects[0][i++] = needed ? count : STORE_NOWHERE;
		if (order >= 0)
			kept->objects[1][j++] = needed ? count : STORE_NOWHERE;
		count += needed;
	}
	result->object_count = count;
	return 0;
}

/* The next frame that is needed, of one level, with its object's new number. False: there is none. */
static bool frame_next(const struct merging *merging, const struct kept *kept, unsigned of,
		       uint32_t *at, struct store_frame *frame)
{
	const struct store_level *from = merging->from[of];

	while (*at < from->frame_count && !kept->frames[of][*at])
		kept->frames[of][(*at)++] = STORE_NOWHERE;
	if (*at == from->frame_count)
		return false;
	*frame = from->frames[*at];
	frame->object = kept->objects[of][frame->object];
	return true;
}

static int frame_order(const struct store_frame *a, const struct store_frame *b)
{
	if (a->object != b->object)
		return a->object < b->object ? -1 : 1;
	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static int merge_frames(const struct merging *merging, struct kept *kept,
			struct store_level *result)
{
	uint32_t at[2] = {0, 0};
	struct store_frame frame[2], *last = NULL;
	size_t most = merging->from[0]->frame_count + (size_t)merging->from[1]->frame_count;

	if (most >= STORE_NOWHERE)
		return -E2BIG;
	result->frames = malloc((most + 1) * sizeof(*result->frames));
	if (!result->frames)
		return -ENOMEM;
	for (;;) {
		bool there[2] = {frame_next(merging, kept, 0, &at[0], &frame[0]),
				 frame_next(merging, kept, 1, &at[1], &frame[1])};
		unsigned of;

		if (!there[0] && !there[1])
			return 0;
		of = !there[0] || (there[1] && frame_order(&frame[1], &frame[0]) < 0);
		/* Two levels that have the same frame: then it is one. */
		if (last && last->object == frame[of].object &&
		    last->offset + last->bytes > frame[of].offset) {
			if (last->offset != frame[of].offset || last->bytes != frame[of].bytes ||
			    last->blocks != frame[of].blocks || last->check != frame[of].check)
				return THAW_EDAMAGED;
		} else {
			last = &result->frames[result->frame_count++];
			*last = frame[of];
		}
		kept->frames[of][at[of]++] = result->frame_count - 1;
	}
}

int level_merge(const struct store_level *older, const struct store_level *newer, bool whole,
		struct store_level *result)
{
	struct merging merging = {.from = {older, newer}, .whole = whole};
	struct kept kept = {0};
	int code;

	*result = (struct store_level){0};
	merging.room = older->run_count + 2 * (size_t)newer->run_count + 1;
	merging.runs = malloc(merging.room * sizeof(*merging.runs));
	merging.of = malloc(merging.room);
	code = merging.runs && merging.of ? merge_runs(&merging) : -ENOMEM;
	if (!code && merging.count >= UINT32_MAX)
		code = -E2BIG;
	if (!code)
		code = kept_make(&kept, &merging);
	if (!code)
		code = merge_objects(&merging, &kept, result);
	if (!code)
		code = merge_frames(&merging, &kept, result);
	for (size_t i = 0; !code && i < merging.count; i++)
		if (merging.runs[i].frame != STORE_NOWHERE)
			merging.runs[i].frame = kept.frames[merging.of[i]][merging.runs[i].frame];
	kept_free(&kept);
	free(merging.of);
	if (code) {
		free(merging.runs);
		level_free(result);
		return code;
	}
	result->runs = merging.runs;
	result->run_count = (uint32_t)merging.count;
	return 0;
}

int index_merge(const struct store_index *index, struct store_level *merged)
{
	struct store_level upper;
	int code = level_merge(&index->level[1], &index->level[0], false, &upper);

	*merged = (struct store_level){0};
	if (!code)
		code = level_merge(&index->level[2], &upper, true, merged);
	level_free(&upper);
	return code;
}

int level_by_frame(const struct store_level *level, uint32_t **order, uint32_t **start)
{
	uint32_t *at = calloc(level->frame_count + 2u, sizeof(*at));
	uint32_t *runs = malloc((level->run_count + 1u) * sizeof(*runs));

	*order = *start = NULL;
	if (!at || !runs) {
		free(at);
		free(runs);
		return -ENOMEM;
	}
	/* Counted one place further on, so that at[f + 1] is where f begins, and after f's runs where it ends. */
	for (uint32_t i = 0; i < level->run_count; i++)
		if (level->runs[i].frame != STORE_NOWHERE &&
		    level->runs[i].frame + 2u <= level->frame_count)
			at[level->runs[i].frame + 2]++;
	for (uint32_t f = 2; f <= level->frame_count; f++)
		at[f] += at[f - 1];
	for (uint32_t i = 0; i < level->run_count; i++)
		if (level->runs[i].frame != STORE_NOWHERE)
			runs[at[level->runs[i].frame + 1]++] = i;
	*order = runs;
	*start = at;
	return 0;
}
