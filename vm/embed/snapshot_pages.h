/* SPDX-License-Identifier: MIT */
/*
 * snapshot_pages.h - what the encoder and the decoder share: lists of pages, the frames that these make up, and threads.
 */
#ifndef VM_EMBED_SNAPSHOT_PAGES_H
#define VM_EMBED_SNAPSHOT_PAGES_H

#include <pthread.h>
#include <stdatomic.h>

#include "snapshot_codec.h"
#include "snapshot_format.h"

typedef unsigned __int128 snapshot_sum;

static inline snapshot_sum sum_from(const uint64_t sum[2])
{
	return (snapshot_sum)sum[1] << 64 | sum[0];
}

static inline void sum_to(snapshot_sum from, uint64_t sum[2])
{
	sum[0] = (uint64_t)from;
	sum[1] = (uint64_t)(from >> 64);
}

/* Of pages that lie one behind the other. */
snapshot_sum sum_pages(uint64_t first, const uint8_t *pages, uint64_t count);

struct snapshot_runs {
	struct disk_snapshot_run *list;
	uint32_t count, room;
	uint64_t pages;
};

/* In order. -ENOMEM. */
int runs_append(struct snapshot_runs *runs, uint64_t first, uint64_t pages);

/* The listed pages of one frame: so many, from that page of that run on. */
struct snapshot_part {
	uint32_t run, page, pages;
};

/* Of all frames but the state's; malloc'ed. */
struct snapshot_part *parts_of(const struct snapshot_runs *runs, uint32_t *count);
/* The next pages of a part that lie side by side. False: it is at its end. */
bool part_next(const struct snapshot_runs *runs, struct snapshot_part *part, uint64_t *first,
	       uint64_t *pages);

/* Pages of a frozen heap; zeros behind its end. */
int read_pages(const struct thaw_frozen *frozen, uint64_t first, uint64_t pages, uint8_t *to,
	       struct thaw_error *error);
/* All of a part. */
int read_part(const struct thaw_frozen *frozen, const struct snapshot_runs *runs,
	      struct snapshot_part part, uint8_t *to, struct thaw_error *error);
void exclusive_or(uint8_t *to, const uint8_t *with, size_t bytes);

/* Takes from the sum what lies behind so many bytes, which a smaller heap lacks. */
int sum_take_behind(const struct thaw_frozen *frozen, uint64_t bytes, snapshot_sum *sum,
		    struct thaw_error *error);

/* ---- What several threads do with the parts ---- */

struct snapshot_parts {
	struct snapshot_part *list;
	uint32_t count;
	atomic_uint next; /* that nobody has begun */

	pthread_mutex_t lock; /* of the rest */
	snapshot_sum sum;
	int code; /* of the first that failed */
	struct thaw_error error;
};

/* One that nobody has begun. False: there is none, or something has failed. */
bool parts_take(struct snapshot_parts *parts, uint32_t *number);
/* A thread's end: what its pages come to, or why it has failed. */
void parts_add(struct snapshot_parts *parts, snapshot_sum sum, int code,
	       const struct thaw_error *error);
/* Call it in so many threads, fewer if there are not so many processors; of which one is the caller's. */
void work_together(unsigned most, void (*work)(void *arg), void *arg);

#endif
