// SPDX-License-Identifier: MIT
/*
 * hot.c - the hot object: blocks that a restore reads first, in the order of their use. Another one is made when an eighth of its
 * blocks has changed, but not within a minute, and at the end. No record waits for it but the last:
 *
 *	hot_build() reads the blocks, with the take -> hot_start(): a thread makes the object -> it is stored -> the next record tells it
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/thread.h"
#include "store/level.h"
#include "store/replication.h"

#define LEAST_NS 60000000000u
#define RAW_BYTES (4ull * STORE_HOT_BYTES) /* that is asked for: they are compressed */
#define FEW_BLOCKS \
	256u /* what was stored since a start, when another process's hot object still does */
#define LEVEL_ROOM (512u << 10) /* of STORE_HOT_BYTES, for the level and the end */

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

/* ---- Making one: by a thread of its own */

struct heating {
	struct replication *r;
	struct thaw_mirror_run *runs; /* in the order of their use, and of `blocks` */
	int run_count;
	uint8_t *blocks;
	uint64_t block_count;
	struct store_level level;
	size_t frame_room, run_room;
	pthread_t thread;
	bool running;
	_Atomic bool stop, made;
	int code;
};

static void heating_free(struct heating *heating)
{
	if (!heating)
		return;
	if (heating->running) {
		heating->stop = true;
		pthread_join(heating->thread, NULL);
	}
	level_free(&heating->level);
	free(heating->blocks);
	free(heating->runs);
	free(heating);
}

/* Frames of 16 blocks, in their order, as many as there is room for. */
static int heat_frames(struct heating *heating)
{
	struct body *body = &heating->r->hot.body;
	struct store_level *level = &heating->level;

	for (uint64_t at = 0; at < heating->block_count; at += STORE_FRAME_BLOCKS) {
		uint64_t count = heating->block_count - at;
		struct store_frame *frames = array_grow(level->frames, level->frame_count,
							&heating->frame_room, sizeof(*frames));

		if (!frames)
			return -ENOMEM;
		level->frames = frames;
		if (heating->stop)
			return -ECANCELED;
		if (body->count + STORE_FRAME_BYTES > STORE_HOT_BYTES - LEVEL_ROOM)
			return 0;
		frames += level->frame_count++;
		*frames = (struct store_frame){.offset = (uint32_t)body->count};
		frame_encode(heating->r->encoder, heating->blocks + at * STORE_BLOCK,
			     (unsigned)(count < STORE_FRAME_BLOCKS ? count : STORE_FRAME_BLOCKS),
			     body->bytes + body->count, frames);
		body->count += frames->bytes;
	}
	return 0;
}

static int by_block(const void *a, const void *b)
{
	const struct store_run *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* Runs of blocks that frames were made of: each in one frame. */
static int heat_runs(struct heating *heating)
{
	struct store_level *level = &heating->level;
	uint64_t at = 0, end = (uint64_t)level->frame_count * STORE_FRAME_BLOCKS;

	for (int i = 0; i < heating->run_count; i++) {
		uint64_t first = heating->runs[i].first, left = heating->runs[i].count;

		while (left && at < end) {
			struct store_run *runs = array_grow(level->runs, level->run_count,
							    &heating->run_room, sizeof(*runs));
			uint64_t room = STORE_FRAME_BLOCKS - at % STORE_FRAME_BLOCKS;
			uint64_t count = left < room ? left : room;

			if (!runs)
				return -ENOMEM;
			level->runs = runs;
			runs[level->run_count++] =
				(struct store_run){.first = first,
						   .count = (uint32_t)count,
						   .frame = (uint32_t)(at / STORE_FRAME_BLOCKS),
						   .at = (uint32_t)(at % STORE_FRAME_BLOCKS)};
			first += count;
			left -= count;
			at += count;
		}
	}
	qsort(level->runs, level->run_count, sizeof(*level->runs), by_block);
	return 0;
}

/* The level and the end, behind the frames. */
static int heat_end(struct heating *heating)
{
	struct replication *r = heating->r;
	struct body *body = &r->hot.body;
	struct store_object object = r->hot.next.object;
	struct disk_hot_end end = {.magic = STORE_HOT_MAGIC};
	size_t count;
	void *bytes;
	int code;

	object.bytes = body->count;
	heating->level.objects = &object;
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
		r->hot.next.object.bytes = body->count;
		store_checksum(body->bytes, body->count, r->hot.next.checksum);
	}
	free(bytes);
	return code;
}

static void *heat(void *arg)
{
	struct heating *heating = arg;

	heating->code = heat_frames(heating);
	if (!heating->code)
		heating->code = heat_runs(heating);
	if (!heating->code)
		heating->code = heat_end(heating);
	heating->made = true;
	thaw_mirror_wake(heating->r->mirror);
	return NULL;
}

/* ---- What it is made of */

static int compare_blocks(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* What is stale is asked of this list. */
static int list_blocks(struct hot *hot, const struct heating *heating)
{
	free(hot->blocks);
	free(hot->stale);
	hot->blocks = malloc((heating->block_count + 1) * sizeof(*hot->blocks));
	hot->stale = calloc(heating->block_count + 1, sizeof(*hot->stale));
	hot->count = hot->stale_count = 0;
	if (!hot->blocks || !hot->stale)
		return -ENOMEM;
	for (int i = 0; i < heating->run_count; i++)
		for (uint64_t j = 0; j < heating->runs[i].count; j++)
			hot->blocks[hot->count++] = heating->runs[i].first + j;
	qsort(hot->blocks, hot->count, sizeof(*hot->blocks), compare_blocks);
	return 0;
}

static int read_blocks(struct heating *heating, struct thaw_take *take)
{
	uint64_t at = 0;
	int code = 0;

	for (int i = 0; i < heating->run_count; i++)
		heating->block_count += heating->runs[i].count;
	heating->blocks = malloc(heating->block_count * STORE_BLOCK + 1);
	if (!heating->blocks)
		return -ENOMEM;
	for (int i = 0; i < heating->run_count && !code; i++) {
		code = thaw_mirror_read(take, heating->runs[i].first * STORE_BLOCK,
					heating->blocks + at * STORE_BLOCK,
					heating->runs[i].count * STORE_BLOCK);
		at += heating->runs[i].count;
	}
	return code;
}

int hot_build(struct replication *r, struct thaw_take *take)
{
	struct heating *heating = calloc(1, sizeof(*heating));
	struct store_object *object = &r->hot.next.object;
	struct body *body = &r->hot.body;
	int code;

	if (!heating)
		return -ENOMEM;
	heating->r = r;
	heating->run_count = thaw_image_hot_blocks(take, RAW_BYTES, &heating->runs, NULL);
	code = heating->run_count < 0 ? heating->run_count : read_blocks(heating, take);
	if (!code)
		code = list_blocks(&r->hot, heating);
	body->count = 0;
	body->room = STORE_HOT_BYTES;
	body->bytes = code ? NULL : malloc(body->room);
	if (!code && !body->bytes)
		code = -ENOMEM;
	r->hot.time_ns = clock_monotonic_ns();
	if (code || !heating->block_count) {
		heating_free(heating);
		body_free(r, body);
		return code;
	}
	r->hot.heating = heating;
	*object = (struct store_object){
		.record = r->claim.record.number + 1, .part = r->part++, .kind = STORE_IN_HOT};
	memcpy(object->epoch, r->claim.record.epoch, sizeof(object->epoch));
	return 0;
}

/* ---- Having it stored */

static void forget(struct replication *r)
{
	heating_free(r->hot.heating);
	r->hot.heating = NULL;
	r->hot.next = (struct store_reference){0};
	body_free(r, &r->hot.body);
}

void hot_drop(struct replication *r)
{
	if (r->hot.heating && !r->hot.heating->running)
		forget(r);
}

void hot_free(struct replication *r)
{
	forget(r);
	free(r->hot.blocks);
	free(r->hot.stale);
	r->hot = (struct hot){0};
}

void hot_start(struct replication *r)
{
	struct heating *heating = r->hot.heating;

	if (!heating || heating->running)
		return;
	heating->running = !thread_begin(&heating->thread, heat, heating);
	if (!heating->running)
		heat(heating);
}

/* It is made: it goes to the store. */
static int hot_made(struct replication *r)
{
	struct heating *heating = r->hot.heating;
	int code;

	if (heating->running)
		pthread_join(heating->thread, NULL);
	heating->running = false;
	code = heating->code;
	heating_free(heating);
	r->hot.heating = NULL;
	if (!code)
		body_start(r, &r->hot.body, &r->hot.next.object);
	return code;
}

int hot_settle(struct replication *r, bool wait, struct thaw_error *error)
{
	int code = 0;

	if (!r->hot.next.object.record)
		return 0;
	if (r->hot.heating && (wait || r->hot.heating->made))
		code = hot_made(r);
	else if (r->hot.heating)
		return 0;
	if (!code)
		code = wait ? body_wait(r, &r->hot.body, error) : body_poll(r, &r->hot.body);
	if (code == -EAGAIN)
		return 0;
	if (!code)
		r->hot.there = r->hot.next;
	/* Nobody needs it so much that it would be tried again; the next one comes. */
	forget(r);
	return wait && code == -ECANCELED ? code : 0;
}

bool hot_is_news(const struct replication *r)
{
	const struct store_object *there = &r->hot.there.object;

	return there->record && object_compare(there, &r->claim.record.hot.object);
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
