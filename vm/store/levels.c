// SPDX-License-Identifier: MIT
/*
 * levels.c - what a record's index is made of: level 0 is in each record, so it is short; when it is not, it becomes a part of level
 * 1, which is an object of its own; when that is long as against level 2, all becomes level 2. As in a log-structured merge
 * tree: a block's place is written some three times, and a restore reads three parts at most.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/replication.h"

/*
 * Level 0 is sent with each record, again and again, until it is put into level 1. When that is worth it is asked as of skis that are
 * rented or bought: when as much was spent on level 0 as the new level 1 costs, with so many bytes for its request. Whatever comes, that
 * is at most twice the least.
 */
#define REQUEST_BYTES (16u << 10)
#define LEVEL1_LEAST (32u << 10)

/* A new level 1 or 2, which is to be put. */
static void put_level(struct replication *r, struct levels *levels, unsigned which, void *bytes)
{
	levels->put = which;
	levels->body.bytes = bytes;
	levels->body.count = levels->count[which];
	levels->object = (struct store_object){.record = r->claim.record.number + 1,
					       .bytes = levels->count[which],
					       .part = r->part++,
					       .kind = STORE_IN_INDEX};
	memcpy(levels->object.epoch, r->claim.record.epoch, sizeof(levels->object.epoch));
	levels->reference[which].object = levels->object;
	store_checksum(bytes, levels->count[which], levels->reference[which].checksum);
}

/* Everything that is in the levels above becomes a part of it, and those are empty. */
static int make_level(struct replication *r, struct levels *levels, unsigned which, void **bytes)
{
	int code = level_merge(&r->claim.index.level[which], &levels->index.level[which - 1],
			       which == 2, &levels->index.level[which]);

	if (code)
		return code;
	level_free(&levels->index.level[which - 1]);
	levels->made[which] = true;
	levels->count[which - 1] = 0;
	levels->reference[which - 1] = (struct store_reference){0};
	return level_encode(&levels->index.level[which], bytes, &levels->count[which]);
}

int levels_make(struct replication *r, const struct store_level *change, struct levels *levels)
{
	const struct store_record *record = &r->claim.record;
	const struct store_level *level = r->claim.index.level;
	void *bytes = NULL;
	int code;

	*levels = (struct levels){.made = {true}};
	levels->reference[1] = record->level1;
	levels->reference[2] = record->level2;
	levels->count[1] = record->level1.object.bytes;
	levels->count[2] = record->level2.object.bytes;
	code = level_merge(&level[0], change, false, &levels->index.level[0]);
	if (!code)
		code = level_encode(&levels->index.level[0], &levels->bytes, &levels->count[0]);
	levels->spent = r->level0_spent + levels->count[0];
	if (code || (levels->count[0] <= STORE_LEVEL0_BYTES &&
		     levels->spent <= REQUEST_BYTES + levels->count[0] + levels->count[1]))
		return code;
	levels->spent = 0;
	free(levels->bytes);
	levels->bytes = NULL;
	code = make_level(r, levels, 1, &bytes);
	if (!code && levels->count[1] <= LEVEL1_LEAST + levels->count[2] / 4) {
		put_level(r, levels, 1, bytes);
		return 0;
	}
	free(bytes);
	bytes = NULL;
	if (!code)
		code = make_level(r, levels, 2, &bytes);
	if (!code && levels->count[2])
		put_level(r, levels, 2, bytes);
	else if (!code)
		levels->reference[2] = (struct store_reference){0};
	return code;
}

void levels_adopt(struct replication *r, struct levels *levels)
{
	r->level0_spent = levels->spent;
	for (unsigned i = 0; i < 3; i++) {
		if (!levels->made[i])
			continue;
		level_free(&r->claim.index.level[i]);
		r->claim.index.level[i] = levels->index.level[i];
		levels->index.level[i] = (struct store_level){0};
	}
}

void levels_free(struct replication *r, struct levels *levels)
{
	index_free(&levels->index);
	free(levels->bytes);
	body_free(r, &levels->body);
}
