// SPDX-License-Identifier: MIT
/*
 * hot.c - the hot object: blocks that a restore reads first, in the order of their use. It is stored beside the records, which do not
 * wait for it, and the next one after that refers to it. Another is made when an eighth of its blocks has changed, but not
 * within a minute, and at the end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/array.h"
#include "base/clock.h"
#include "store/replication.h"

#define LEAST_NS 60000000000u
#define RAW_BYTES (4ull * STORE_HOT_BYTES) /* that is asked for: they are compressed */
#define FEW_BLOCKS \
	256u /* what was stored since a start, when another process's hot object still does */
#define LEVEL_ROOM (512u << 10) /* of STORE_HOT_BYTES, for the level and the end */

void hot_free(struct replication *r)
{
	struct hot *hot = &r->hot;

	body_free(r, &hot->body);
	free(hot->blocks);
	free(hot->stale);
	*hot = (struct hot){0};
}

bool hot_is_due(struct replication *r, bool closing)
{
	const struct hot *hot = &r->hot;
	bool known = hot->there.object.record;
	uint64_t now_ns = clock_monotonic_ns();

	if (hot->next.object.record)
		return false;
	if (closing && known)
		return hot->stale_count;
	if (closing && r->claim.record.hot.object.record)
		return r->stored_blocks > FEW_BLOCKS;
	if (closing)
		return true;
	if (!known && !r->claim.record.hot.object.record)
		return true;
	return now_ns - hot->time_ns >= LEAST_NS && (!known || hot->stale_count > hot->count / 8);
}

/* ---- Making one */

struct heating {
	struct replication *r;
	struct thaw_take *take;
	struct store_level level;
	size_t frame_room, run_room;
	uint8_t blocks[STORE_FRAME_BYTES];
	unsigned block_count;
};

static int heat_frame(struct heating *heating)
{
	struct body *body = &heating->r->hot.body;
	struct store_level *level = &heating->level;
	struct store_frame *frames;

	if (!heating->block_count)
		return 0;
	frames = array_grow(level->frames, level->frame_count, &heating->frame_room,
			    sizeof(*frames));
	if (!frames)
		return -ENOMEM;
	level->frames = frames;
	frames += level->frame_count++;
	*frames = (struct store_frame){.offset = (uint32_t)body->count};
	frame_encode(heating->r->encoder, heating->blocks, heating->block_count,
		     body->bytes + body->count, frames);
	body->count += frames->bytes;
	heating->block_count = 0;
	return 0;
}

static int heat_blocks(struct heating *heating, uint64_t first, uint32_t count)
{
	struct store_level *level = &heating->level;
	struct store_run *runs =
		array_grow(level->runs, level->run_count, &heating->run_room, sizeof(*runs));
	int code;

	if (!runs)
		return -ENOMEM;
	level->runs = runs;
	code = thaw_mirror_read(heating->take, first * STORE_BLOCK,
				heating->blocks + heating->block_count * STORE_BLOCK,
				count * (size_t)STORE_BLOCK);
	if (code)
		return code;
	runs[level->run_count++] = (struct store_run){.first = first,
						      .count = count,
						      .frame = level->frame_count,
						      .at = heating->block_count};
	heating->block_count += count;
	return heating->block_count == STORE_FRAME_BLOCKS ? heat_frame(heating) : 0;
}

static int heat_runs(struct heating *heating, const struct thaw_mirror_run *runs, int count)
{
	const struct body *body = &heating->r->hot.body;
	int code = 0;

	for (int i = 0; i < count && !code; i++) {
		uint64_t first = runs[i].first, end = first + runs[i].count;

		while (first < end && !code) {
			uint64_t room = STORE_FRAME_BLOCKS - heating->block_count;
			uint32_t piece = (uint32_t)(end - first < room ? end - first : room);

			if (body->count + 2 * STORE_FRAME_BYTES > STORE_HOT_BYTES - LEVEL_ROOM)
				return heat_frame(heating);
			code = heat_blocks(heating, first, piece);
			first += piece;
		}
	}
	return code ? code : heat_frame(heating);
}

static int by_block(const void *a, const void *b)
{
	const struct store_run *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* What is stale is asked of this list. */
static int list_blocks(struct hot *hot, const struct store_level *level)
{
	size_t count = 0;

	free(hot->blocks);
	free(hot->stale);
	for (uint32_t i = 0; i < level->run_count; i++)
		count += level->runs[i].count;
	hot->blocks = malloc((count + 1) * sizeof(*hot->blocks));
	hot->stale = calloc(count + 1, sizeof(*hot->stale));
	hot->count = hot->stale_count = 0;
	if (!hot->blocks || !hot->stale)
		return -ENOMEM;
	for (uint32_t i = 0; i < level->run_count; i++)
		for (uint32_t j = 0; j < level->runs[i].count; j++)
			hot->blocks[hot->count++] = level->runs[i].first + j;
	return 0;
}

/* The level and the end, behind the frames. */
static int heat_end(struct heating *heating)
{
	struct replication *r = heating->r;
	struct body *body = &r->hot.body;
	struct store_object *object = &r->hot.next.object;
	struct disk_hot_end end = {.magic = STORE_HOT_MAGIC};
	XXH128_hash_t hash;
	size_t count;
	void *bytes;
	int code;

	*object = (struct store_object){.record = r->claim.record.number + 1,
					.bytes = body->count,
					.part = r->part++,
					.kind = STORE_IN_HOT};
	memcpy(object->epoch, r->claim.record.epoch, sizeof(object->epoch));
	heating->level.objects = object;
	heating->level.object_count = 1;
	code = level_encode(&heating->level, &bytes, &count);
	heating->level.objects = NULL;
	heating->level.object_count = 0;
	if (!code && body->count + count + sizeof(end) > body->room)
		code = -E2BIG;
	if (!code) {
		end.level_bytes = count;
		memcpy(body->bytes + body->count, bytes, count);
		memcpy(body->bytes + body->count + count, &end, sizeof(end));
		body->count += count + sizeof(end);
		hash = XXH3_128bits(body->bytes, body->count);
		object->bytes = body->count;
		r->hot.next.checksum[0] = hash.low64;
		r->hot.next.checksum[1] = hash.high64;
	}
	free(bytes);
	return code;
}

int hot_build(struct replication *r, struct thaw_take *take)
{
	struct heating *heating = calloc(1, sizeof(*heating));
	struct thaw_mirror_run *runs = NULL;
	struct body *body = &r->hot.body;
	int count, code;

	if (!heating)
		return -ENOMEM;
	heating->r = r;
	heating->take = take;
	body->count = 0;
	body->room = STORE_HOT_BYTES;
	body->bytes = malloc(body->room);
	count = body->bytes ? thaw_image_hot_blocks(take, RAW_BYTES, &runs, NULL) : -ENOMEM;
	code = count < 0 ? count : heat_runs(heating, runs, count);
	if (!code && heating->level.run_count) {
		qsort(heating->level.runs, heating->level.run_count, sizeof(struct store_run),
		      by_block);
		code = heat_end(heating);
	}
	if (!code)
		code = list_blocks(&r->hot, &heating->level);
	if (code || !heating->level.run_count) {
		r->hot.next = (struct store_reference){0};
		body_free(r, body);
	}
	r->hot.time_ns = clock_monotonic_ns();
	level_free(&heating->level);
	free(heating);
	free(runs);
	return code;
}

/* ---- Having it stored */

void hot_drop(struct replication *r)
{
	if (!r->hot.next.object.record || r->hot.body.started)
		return;
	r->hot.next = (struct store_reference){0};
	body_free(r, &r->hot.body);
}

void hot_start(struct replication *r)
{
	if (r->hot.next.object.record && !r->hot.body.started)
		body_start(r, &r->hot.body, &r->hot.next.object);
}

int hot_settle(struct replication *r, bool wait, struct thaw_error *error)
{
	int code;

	if (!r->hot.next.object.record)
		return 0;
	code = wait ? body_wait(r, &r->hot.body, error) : body_poll(r, &r->hot.body);
	if (!code)
		r->hot.there = r->hot.next;
	/* Nobody needs it so much that it would be tried again; the next one comes. */
	if (code != -EAGAIN) {
		r->hot.next = (struct store_reference){0};
		body_free(r, &r->hot.body);
	}
	return wait ? code : 0;
}

void hot_changed(struct replication *r, const struct store_level *change)
{
	struct hot *hot = &r->hot;
	size_t at = 0;

	for (uint32_t i = 0; i < change->run_count && at < hot->count; i++) {
		const struct store_run *run = &change->runs[i];
		size_t low = at, high = hot->count;

		while (low < high) {
			size_t middle = low + (high - low) / 2;

			if (hot->blocks[middle] < run->first)
				low = middle + 1;
			else
				high = middle;
		}
		for (at = low; at < hot->count && hot->blocks[at] < run->first + run->count; at++) {
			hot->stale_count += !hot->stale[at];
			hot->stale[at] = true;
		}
	}
}
