// SPDX-License-Identifier: GPL-2.0-only
/*
 * store_index.c - levels of a store's index against a model, an array that says of each block where it is: laid over each other
 * at random, stored and read back; and bytes that are damaged, or made by somebody hostile, are refused or harmless.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "store/index.h"

#define BLOCKS 3000u
#define KINDS (1u << STORE_IN_RECORD | 1u << STORE_IN_DATA)

static uint64_t state;

static uint32_t any(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 11) % below;
}

/* What the model knows of a block: 0 nothing, 1 nowhere, else which frame (its check) and where in it. */
struct place {
	uint64_t check;
	uint32_t at;
};

static void level_room(struct store_level *level)
{
	*level = (struct store_level){.objects = calloc(4, sizeof(*level->objects)),
				      .frames = calloc(BLOCKS, sizeof(*level->frames)),
				      .runs = calloc(BLOCKS, sizeof(*level->runs))};
}

static struct store_frame *frame_add(struct store_level *level, uint32_t object, uint32_t *offset)
{
	struct store_frame *frame = &level->frames[level->frame_count++];
	uint32_t gap = any(3) ? 0 : any(100);

	frame->object = object;
	frame->offset = *offset + gap;
	frame->blocks = (uint8_t)(1 + any(STORE_FRAME_BLOCKS));
	frame->compressed = any(2);
	frame->bytes = frame->compressed ? 1 + any(frame->blocks * STORE_BLOCK - 1)
					 : frame->blocks * STORE_BLOCK;
	frame->check = 100 + ((uint64_t)any(UINT32_MAX) << 20) + any(1 << 20);
	frame->content = frame->compressed ? (uint64_t)any(UINT32_MAX) << 32 : frame->check;
	*offset = frame->offset + frame->bytes;
	return frame;
}

/* One generation: some runs of blocks, in frames of an object or two, and some that are free. */
static void generation(struct store_level *level, uint64_t number, struct place *model)
{
	uint32_t block = any(400), object = 0, offset = 0, used = 0;
	struct store_frame *frame = NULL;

	level_room(level);
	while (block < BLOCKS && level->run_count < BLOCKS / 4) {
		struct store_run *run = &level->runs[level->run_count++];
		uint32_t most;

		run->first = block;
		if (!any(6)) {
			run->frame = STORE_NOWHERE;
			run->count = 1 + any(200);
			most = BLOCKS - block;
		} else {
			if (!frame || used == frame->blocks) {
				if (frame && !object && !any(20)) {
					object = 1;
					offset = 0;
				}
				frame = frame_add(level, object, &offset);
				used = 0;
			}
			run->frame = level->frame_count - 1;
			run->at = used;
			run->count = 1 + any(frame->blocks - used);
			most = BLOCKS - block < (uint32_t)(frame->blocks - used)
				       ? BLOCKS - block
				       : frame->blocks - used;
		}
		if (run->count > most)
			run->count = most;
		if (run->frame != STORE_NOWHERE)
			used += run->count;
		for (uint32_t i = 0; i < run->count; i++)
			model[block + i] =
				run->frame == STORE_NOWHERE
					? (struct place){.check = 1}
					: (struct place){.check = frame->check, .at = run->at + i};
		block += run->count + (any(3) ? any(60) : 0);
	}
	level->object_count = object + 1;
	level->objects[0] = (struct store_object){.record = number,
						  .bytes = object ? 1u << 24 : offset,
						  .kind = any(2) ? STORE_IN_DATA : STORE_IN_RECORD};
	level->objects[1] = (struct store_object){
		.record = number, .bytes = 1u << 25, .part = 7, .kind = STORE_IN_DATA};
	memset(level->objects[1].epoch, (int)number, STORE_EPOCH_BYTES);
	if (level->objects[0].kind == STORE_IN_DATA)
		memset(level->objects[0].epoch, (int)(number / 5), STORE_EPOCH_BYTES);
	if (!level->frame_count)
		level->object_count = 0;
}

/* What is wrong with a level, as against the model; NULL: nothing. */
static const char *differs(const struct store_level *level, const struct place *model, bool whole)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < level->run_count;
	     end = level->runs[i].first + level->runs[i].count, i++)
		if (!level->runs[i].count || level->runs[i].first < end)
			return "runs";
	for (uint32_t block = 0; block < BLOCKS; block++) {
		size_t at = level_find(level, block);
		const struct store_run *run = &level->runs[at];
		bool there = at < level->run_count && run->first <= block;

		if (!there) {
			if (model[block].check > whole)
				return "a block is missing";
			continue;
		}
		if (run->frame == STORE_NOWHERE) {
			if (model[block].check != 1 || whole)
				return "a block is nowhere";
			continue;
		}
		if (level->frames[run->frame].check != model[block].check ||
		    run->at + (block - run->first) != model[block].at)
			return "a block is elsewhere";
	}
	return NULL;
}

static bool same(const struct store_level *a, const struct store_level *b)
{
	if (a->object_count != b->object_count || a->frame_count != b->frame_count ||
	    a->run_count != b->run_count)
		return false;
	if (memcmp(a->objects, b->objects, a->object_count * sizeof(*a->objects)))
		return false;
	for (uint32_t i = 0; i < a->run_count; i++)
		if (a->runs[i].first != b->runs[i].first || a->runs[i].count != b->runs[i].count ||
		    a->runs[i].frame != b->runs[i].frame || a->runs[i].at != b->runs[i].at)
			return false;
	for (uint32_t i = 0; i < a->frame_count; i++) {
		const struct store_frame *f = &a->frames[i], *g = &b->frames[i];

		if (f->object != g->object || f->offset != g->offset || f->bytes != g->bytes ||
		    f->blocks != g->blocks || f->compressed != g->compressed ||
		    f->check != g->check || f->content != g->content)
			return false;
	}
	return true;
}

static bool survives_storing(const struct store_level *level)
{
	struct store_level back;
	struct thaw_error error;
	bool right;
	size_t count;
	void *bytes;

	if (level_encode(level, &bytes, &count))
		return false;
	right = !level_decode(bytes, count, BLOCKS, KINDS, &back, &error);
	if (!right)
		printf("# %s\n", error.text);
	right = right && same(level, &back);
	free(bytes);
	level_free(&back);
	return right;
}

TEST(levels_say_what_the_generations_did)
{
	struct place models[3][BLOCKS], model[BLOCKS];

	for (unsigned round = 0; round < 30; round++) {
		struct store_index index = {0};
		struct store_level merged;

		state = 88172645463325252ull + round;
		memset(models, 0, sizeof(models));
		memset(model, 0, sizeof(model));
		for (unsigned n = 1; n < 40; n++) {
			struct store_level made, more;
			unsigned level = any(9) ? 0 : 1 + any(2);

			generation(&made, n, models[0]);
			for (unsigned i = 0; i < BLOCKS; i++)
				if (models[0][i].check)
					model[i] = models[0][i];
			ASSERT_EQ(0, level_merge(&index.level[0], &made, false, &more));
			level_free(&made);
			level_free(&index.level[0]);
			index.level[0] = more;
			ASSERT_EQ(NULL, differs(&index.level[0], models[0], false));
			ASSERT_TRUE(survives_storing(&index.level[0]));
			/* Now and then what is in the first goes to the second, or all to the third. */
			for (unsigned l = 1; l <= level; l++) {
				ASSERT_EQ(0, level_merge(&index.level[l], &index.level[l - 1],
							 l == 2, &more));
				level_free(&index.level[l]);
				level_free(&index.level[l - 1]);
				index.level[l] = more;
				for (unsigned i = 0; i < BLOCKS; i++) {
					if (models[l - 1][i].check)
						models[l][i] = models[l - 1][i];
					models[l - 1][i].check = 0;
				}
				ASSERT_EQ(NULL, differs(&index.level[l], models[l], l == 2));
			}
		}
		ASSERT_EQ(0, index_merge(&index, &merged));
		ASSERT_EQ(NULL, differs(&merged, model, true));
		ASSERT_TRUE(survives_storing(&merged));
		level_free(&merged);
		index_free(&index);
	}
}

TEST(runs_are_found_by_their_frame)
{
	struct place model[BLOCKS] = {0};
	struct store_level index = {0}, made, more;
	uint32_t *order, *start;
	unsigned seen = 0, nowhere = 0;

	state = 4711;
	for (unsigned n = 1; n < 6; n++) {
		generation(&made, n, model);
		ASSERT_EQ(0, level_merge(&index, &made, false, &more));
		level_free(&made);
		level_free(&index);
		index = more;
	}
	ASSERT_EQ(0, level_by_frame(&index, &order, &start));
	for (uint32_t f = 0; f < index.frame_count; f++) {
		EXPECT_LT(start[f], start[f + 1]); /* a frame that no run is in is not kept */
		for (uint32_t i = start[f]; i < start[f + 1]; i++, seen++)
			EXPECT_EQ(f, index.runs[order[i]].frame);
	}
	for (uint32_t i = 0; i < index.run_count; i++)
		nowhere += index.runs[i].frame == STORE_NOWHERE;
	EXPECT_LT(0, nowhere);
	EXPECT_EQ(index.run_count, seen + nowhere);
	free(order);
	free(start);
	level_free(&index);
}

TEST(a_file_that_became_shorter_has_no_blocks_behind_its_end)
{
	struct place model[BLOCKS] = {0};
	struct store_level level;

	state = 99;
	generation(&level, 1, model);
	for (uint32_t blocks = BLOCKS; blocks; blocks -= blocks < 13 ? blocks : 13) {
		level_cut(&level, blocks);
		memset(model + blocks, 0, (BLOCKS - blocks) * sizeof(*model));
		ASSERT_EQ(NULL, differs(&level, model, false));
	}
	level_cut(&level, 0);
	EXPECT_EQ(0, level.run_count);
	level_free(&level);
}

/* Everything that a level promises, of one that was accepted. Reads all of it. */
static bool keeps_the_rules(const struct store_level *level)
{
	for (uint32_t i = 0; i < level->frame_count; i++) {
		const struct store_frame *frame = &level->frames[i];

		if (frame->object >= level->object_count || !frame->blocks || !frame->bytes ||
		    frame->blocks > STORE_FRAME_BLOCKS || frame->bytes > STORE_FRAME_BYTES ||
		    (uint64_t)frame->offset + frame->bytes > level->objects[frame->object].bytes)
			return false;
	}
	for (uint32_t i = 0; i < level->run_count; i++) {
		const struct store_run *run = &level->runs[i];

		if (run->first + run->count > BLOCKS || !run->count ||
		    (i && run->first < run[-1].first + run[-1].count))
			return false;
		if (run->frame != STORE_NOWHERE &&
		    (run->frame >= level->frame_count ||
		     run->at + run->count > level->frames[run->frame].blocks))
			return false;
	}
	return true;
}

TEST(damaged_bytes_are_refused_or_keep_the_rules)
{
	struct place model[BLOCKS] = {0};
	struct disk_level head;
	struct store_level level, back;
	unsigned refused = 0, rounds = 20000;
	uint8_t *columns, *stored;
	size_t count;
	void *bytes;

	state = 31337;
	generation(&level, 5, model);
	ASSERT_EQ(0, level_encode(&level, &bytes, &count));
	/* The columns are damaged, and compressed again: so that what decodes them is reached. */
	memcpy(&head, bytes, sizeof(head));
	columns = malloc(head.bytes);
	stored = malloc(sizeof(head) + ZSTD_compressBound(head.bytes));
	ASSERT_EQ(head.bytes, ZSTD_decompress(columns, head.bytes, (char *)bytes + sizeof(head),
					      count - sizeof(head)));
	for (unsigned i = 0; i < rounds; i++) {
		uint32_t at = any((uint32_t)head.bytes), what = any(4);
		struct disk_level changed = head;
		uint8_t before = columns[at];
		size_t made;

		if (what < 3)
			columns[at] = what == 0 ? (uint8_t)any(256) : what == 1 ? 0xff : before ^ 1;
		else
			((uint32_t *)&changed)[2 + any(6)] ^= 1u << any(32);
		memcpy(stored, &changed, sizeof(changed));
		made = ZSTD_compress(stored + sizeof(head), ZSTD_compressBound(head.bytes), columns,
				     head.bytes, -5);
		columns[at] = before;
		if (level_decode(stored, sizeof(head) + made, BLOCKS, KINDS, &back, NULL))
			refused++;
		else
			ASSERT_TRUE(keeps_the_rules(&back));
		level_free(&back);
	}
	EXPECT_LT(rounds / 4, refused);
	EXPECT_GT(rounds, refused); /* checksums of frames are not looked at here */
	for (size_t cut = 1; cut < count; cut++) {
		ASSERT_GT(0, level_decode(bytes, cut, BLOCKS, KINDS, &back, NULL));
		level_free(&back);
	}
	EXPECT_EQ(THAW_EDAMAGED, level_decode(bytes, count, BLOCKS / 8, KINDS, &back, NULL));
	EXPECT_EQ(THAW_EDAMAGED,
		  level_decode(bytes, count, BLOCKS, 1u << STORE_IN_HOT, &back, NULL));
	free(bytes);
	free(columns);
	free(stored);
	level_free(&level);
}

TEST(names_of_objects_are_read_back_and_nothing_else_is_one)
{
	static const char *const wrong[] = {
		"",
		"log/",
		"log/00",
		"log/fffffffffffffffe",
		"log/FFFFFFFFFFFFFFFD",
		"log/fffffffffffffffd/",
		"data/0000000000000001-00",
		"readers/1",
		"index/0000000000000000-000102030405060708090a0b0c0d0e0f-00000000"};
	char first[STORE_NAME_BYTES], second[STORE_NAME_BYTES];
	struct store_object object, back;

	state = 3;
	store_record_name(1, first);
	EXPECT_STREQ("log/fffffffffffffffd", first);
	store_record_name(2, second);
	EXPECT_GT(0, strcmp(second, first)); /* the newest is the first of a list */
	for (unsigned i = 0; i < 1000; i++) {
		memset(&object, 0, sizeof(object));
		object.record = 1 + any(1000000);
		object.kind = any(4);
		if (object.kind != STORE_IN_RECORD) {
			object.part = any(UINT32_MAX);
			for (unsigned j = 0; j < STORE_EPOCH_BYTES; j++)
				object.epoch[j] = (uint8_t)any(256);
		}
		store_object_name(&object, first);
		ASSERT_TRUE(store_object_parse(first, &back));
		ASSERT_EQ(0, memcmp(&object, &back, sizeof(back)));
		strcat(first, "0");
		ASSERT_FALSE(store_object_parse(first, &back));
	}
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		EXPECT_FALSE(store_object_parse(wrong[i], &back));
}

TEST_HARNESS_MAIN
