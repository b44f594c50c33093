// SPDX-License-Identifier: MIT
/*
 * clean.c - objects of which little is in use, and many that are small: their blocks are stored again, with what changes next, and
 * then nobody refers to them (garbage.c). What is stored is at most twice what is in use, and a little; objects are
 * so few that a restore's index is short. As the cleaner of a log-structured file system.
 */
#include <errno.h>
#include <stdlib.h>

#include "store/replication.h"

#define SLACK_BYTES (16u << 20)
#define SLACK_OBJECTS 256u
#define SMALL_BYTES (512u << 10)
#define LEAST_BUDGET 2048u /* blocks: 8 MiB */

struct use {
	uint32_t object;
	uint64_t live;	 /* stored bytes that are in use */
	uint64_t blocks; /* that these are */
	uint64_t bytes;
};

/* The less of it is in use, the earlier. */
static int by_use(const void *a, const void *b)
{
	const struct use *x = a, *y = b;
	double left = (double)x->live / (double)x->bytes,
	       right = (double)y->live / (double)y->bytes;

	return left < right ? -1 : left > right;
}

static int by_age(const void *a, const void *b)
{
	const struct use *x = a, *y = b;

	return x->object < y->object ? -1 : x->object > y->object;
}

static struct use *count_use(const struct store_level *index, uint64_t *live, uint64_t *bytes)
{
	struct use *use = calloc(index->object_count + 1u, sizeof(*use));

	*live = *bytes = 0;
	for (uint32_t i = 0; use && i < index->object_count; i++) {
		use[i].object = i;
		use[i].bytes = index->objects[i].bytes ? index->objects[i].bytes : 1;
		*bytes += index->objects[i].bytes;
	}
	for (uint32_t i = 0; use && i < index->run_count; i++) {
		const struct store_frame *frame = &index->frames[index->runs[i].frame];
		uint64_t part = (uint64_t)frame->bytes * index->runs[i].count / frame->blocks;

		use[frame->object].live += part;
		use[frame->object].blocks += index->runs[i].count;
		*live += part;
	}
	return use;
}

/* How many of its blocks are within the budget; of the last object it is a part. */
static void take(struct use *use, uint64_t *budget, bool *chosen)
{
	*budget -= use->blocks < *budget ? use->blocks : *budget;
	chosen[use->object] = true;
}

/* Marks objects that are to be stored again. */
static void choose(struct use *use, uint32_t count, uint64_t live, uint64_t bytes, uint64_t budget,
		   bool *chosen)
{
	uint32_t objects = count, most = SLACK_OBJECTS + (uint32_t)(live / SMALL_BYTES);

	if (bytes > 2 * live + SLACK_BYTES) {
		qsort(use, count, sizeof(*use), by_use);
		for (uint32_t i = 0;
		     i < count && bytes > live + live / 2 + SLACK_BYTES / 2 && budget; i++) {
			take(&use[i], &budget, chosen);
			bytes -= use[i].bytes - use[i].live;
			objects--;
		}
	}
	if (objects > most) {
		qsort(use, count, sizeof(*use), by_age);
		for (uint32_t i = 0; i < count && objects > most - most / 4 && budget; i++) {
			if (chosen[use[i].object] || use[i].bytes > SMALL_BYTES)
				continue;
			take(&use[i], &budget, chosen);
			objects--;
		}
	}
}

/*
 * The next take has these blocks, but those that mean nothing at that time: what is free, and the end of the image's log. So
 * where it has them not, the index forgets them.
 */
static void ask(struct replication *r, const struct store_level *index, uint64_t budget,
		const bool *chosen)
{
	struct store_level *asked = &r->asked;

	asked->runs = malloc((index->run_count + 1u) * sizeof(*asked->runs));
	for (uint32_t i = 0; asked->runs && i < index->run_count && budget; i++) {
		const struct store_run *run = &index->runs[i];

		if (!chosen[index->frames[run->frame].object] ||
		    thaw_mirror_dirty(r->mirror, run->first, run->count))
			continue;
		asked->runs[asked->run_count++] = (struct store_run){
			.first = run->first, .count = run->count, .frame = STORE_NOWHERE};
		budget -= run->count < budget ? run->count : budget;
	}
}

void clean(struct replication *r, uint64_t budget)
{
	struct store_level index;
	uint64_t live, bytes;
	struct use *use = NULL;
	bool *chosen = NULL;

	/* Without memory it is done the next time. */
	if (index_merge(&r->claim.index, &index))
		return;
	use = count_use(&index, &live, &bytes);
	chosen = calloc(index.object_count + 1u, sizeof(*chosen));
	if (use && chosen && budget && !r->asked.run_count) {
		budget = budget > LEAST_BUDGET ? budget : LEAST_BUDGET;
		choose(use, index.object_count, live, bytes, budget, chosen);
		ask(r, &index, budget, chosen);
	}
	pthread_mutex_lock(&r->lock);
	r->status.bytes_stored = bytes;
	r->status.objects_stored = index.object_count;
	pthread_mutex_unlock(&r->lock);
	free(use);
	free(chosen);
	level_free(&index);
}
