/* SPDX-License-Identifier: MIT */
/*
 * fetch_private.h - what fetch.c (who waits for what), fetch_batch.c (requests, and what becomes of what they bring) and fill.c (what is
 * asked for in the background, and in which order) share. See fetch.h.
 *
 * `lock` guards everything but the bits of `missing`; these go, and blocks are written to the file, under `file_lock`, so that nothing
 * comes between looking whether a block is missing and writing it. Under `file_lock` nobody takes `lock`, nor under `lock`
 * `file_lock`. A frame leaves FRAME_FLYING only when the bits of all that it brought are gone.
 */
#ifndef VM_STORE_FETCH_PRIVATE_H
#define VM_STORE_FETCH_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/fetch.h"
#include "store/frames.h"

enum frame_state {	       /* negative: it failed with that code */
		   FRAME_IDLE, /* was not asked for */
		   FRAME_FLYING,
		   FRAME_DONE,
		   FRAME_USELESS, /* none of its blocks is missing, and it was not asked for */
};

/* Where frames come from: the record's index, and its hot object, which has some of the same blocks. */
struct source {
	const struct store_level *level; /* NULL: there is none */
	uint32_t *order, *start;	 /* level_by_frame() */
	int32_t *state;			 /* of each frame */
	uint64_t *current; /* hot only: bits, of blocks for which it has what the index has */
};

/* One request: frames that follow each other in an object, of which those that are FRAME_FLYING are its own. */
struct batch {
	struct s3_request request;
	struct fetch *fetch;
	struct source *source;
	struct batch *next, **link; /* in flight; then in the queue of those that came */
	uint32_t first, count;	    /* frames */
	bool urgent;
	bool again; /* its frame came damaged once */
	uint64_t began_ns;
	char key[STORE_NAME_BYTES];
	uint8_t bytes[]; /* request.length */
};

#define FETCH_WORKERS 2u

enum goal { GOAL_HOT, GOAL_POLITE, GOAL_FAST };

struct fetch {
	struct s3 *s3;
	int fd;
	uint64_t bytes, blocks, patience_ns;
	struct source hot, main;

	_Atomic uint64_t *missing; /* bits, of blocks that the index has and the file has not */
	_Atomic uint64_t missing_count;
	uint64_t counted; /* of blocks that the index has */
	pthread_mutex_t file_lock;

	pthread_mutex_t lock;
	pthread_cond_t settled; /* a frame is not in flight any more, or all ends */
	pthread_cond_t came;	/* for the workers */
	bool stopping, held, interrupted;
	unsigned busy; /* workers that may be writing */
	unsigned flying_urgent, flying_behind;
	size_t flying_bytes; /* of those that nobody waits for */
	struct batch *flying;
	struct batch *ready[2], **ready_end[2]; /* urgent ones first */
	pthread_t workers[FETCH_WORKERS];
	unsigned worker_count;
	uint64_t urgent_end; /* where the last urgent batch ended: */
	uint32_t urgent_object;
	uint64_t failed_ns; /* monotonic clock, when a frame failed the last time */

	/* fill.c */
	enum goal goal;
	uint32_t hot_cursor; /* frame of the hot object */
	/* Frames that fetch_ask() wants; the first of them, `recent`, before the hot object. */
	uint32_t *asked;
	size_t asked_at, asked_count, asked_room, recent;
	uint32_t object, cursor,
		object_end; /* object, counted from the newest; frame in it, and its end */
	size_t batch_bytes; /* GOAL_FAST */
	size_t window;	    /* else: so much may be in flight in the background */
	uint64_t least_ns;  /* that a request of these took */

	struct fetch_status counts;
};

static inline bool block_missing(const struct fetch *fetch, uint64_t block)
{
	return atomic_load_explicit(&fetch->missing[block / 64], memory_order_acquire) >>
		       (block % 64) &
	       1;
}

/* ---- fetch_batch.c. With `lock` held, but the last two */

/* Is any block of it missing that it would bring? If not, and it is idle, it becomes FRAME_USELESS. */
bool frame_useful(struct fetch *fetch, struct source *source, uint32_t frame);
/* Asks for these frames, of one object, of which the idle ones become FRAME_FLYING. -ENOMEM. */
int batch_start(struct fetch *fetch, struct source *source, uint32_t first, uint32_t count,
		bool urgent, bool again);
/* These blocks are there from now on: their bits go. With `file_lock` held. */
void blocks_settle(struct fetch *fetch, uint64_t first, uint64_t count);
void *fetch_work(void *fetch); /* thread */

/* ---- fill.c. With `lock` held */

void fill_begin(struct fetch *fetch);
/* Begins what is to be brought in the background, as much as may be under way. Called whenever something has ended. */
void fill_pump(struct fetch *fetch);
/* That frame will be needed soon. */
void fill_ask(struct fetch *fetch, uint32_t frame);
/* So will be what is newer than the hot object, of that record. */
void fill_recent(struct fetch *fetch, uint64_t hot_record);
/* How long one took that was not urgent. */
void fill_measure(struct fetch *fetch, const struct batch *batch);

#endif
