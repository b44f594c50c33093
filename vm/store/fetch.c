/* SPDX-License-Identifier: MIT */
/*
 * fetch.c - which blocks of a file are missing, and whoever waits for some of them (fetch.h). A thread that reads looks at bits
 * without a lock; only if one is set does it ask for frames, at once and before everything else, with what lies around them, and
 * waits until none of them is in flight any more.
 */
#define _GNU_SOURCE
#include "store/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/thread.h"
#include "store/fetch_private.h"

#define PATIENCE_NS (300ull * 1000000000)
/*
 * Behind what somebody waits for comes so much besides, and more if he asks for what comes next: 1 and 4 ms of a line of 1 Gbit/s. Not
 * in the same request: a fresh connection takes three round trips for so much.
 */
#define AROUND_BYTES (128u << 10)
#define AROUND_NEXT_BYTES (512u << 10)
#define GAP_BYTES (16u << 10) /* between two frames that are asked for together */
/* What failed is asked for anew no sooner: a read that fails is tried again page by page. */
#define AGAIN_NS 1000000000ull

/* ---- Who waits */

/* The first block behind these bytes, which begin in one of the file's. */
static uint64_t block_behind(const struct fetch *fetch, uint64_t offset, uint64_t bytes)
{
	return bytes > fetch->blocks * STORE_BLOCK - offset
		       ? fetch->blocks
		       : (offset + bytes - 1) / STORE_BLOCK + 1;
}

bool fetch_has(void *arg, uint64_t offset, uint64_t bytes)
{
	const struct fetch *fetch = arg;
	uint64_t block = offset / STORE_BLOCK, end;

	if (!bytes || offset >= fetch->blocks * STORE_BLOCK)
		return true;
	end = block_behind(fetch, offset, bytes);
	while (block < end) {
		uint64_t bits = 64 - block % 64;
		uint64_t word =
			atomic_load_explicit(&fetch->missing[block / 64], memory_order_acquire) >>
			(block % 64);

		if (bits > end - block) {
			bits = end - block;
			word &= (1ull << bits) - 1;
		}
		if (word)
			return false;
		block += bits;
	}
	return true;
}

/* Does that frame come along with one that is asked for, so many bytes behind the one before? */
static bool comes_along(struct fetch *fetch, struct source *source, uint32_t frame, uint32_t gap)
{
	return source->state[frame] == FRAME_IDLE && gap <= GAP_BYTES &&
	       frame_useful(fetch, source, frame);
}

/* What lies behind a frame that somebody waits for, as a request of its own: he does not wait for it. */
static void ask_around(struct fetch *fetch, uint32_t frame)
{
	const struct store_level *level = fetch->main.level;
	const struct store_frame *frames = level->frames;
	uint32_t last = frame, bytes = 0, most = AROUND_BYTES;

	if (fetch->urgent_object == frames[frame].object &&
	    fetch->urgent_end <= frames[frame].offset &&
	    frames[frame].offset - fetch->urgent_end <= GAP_BYTES)
		most = AROUND_NEXT_BYTES;
	while (last + 1 < level->frame_count && frames[last + 1].object == frames[frame].object &&
	       bytes < most &&
	       comes_along(fetch, &fetch->main, last + 1,
			   frames[last + 1].offset - frames[last].offset - frames[last].bytes)) {
		last++;
		bytes += frames[last].bytes;
	}
	fetch->urgent_object = frames[frame].object;
	fetch->urgent_end = frames[last].offset + frames[last].bytes;
	if (last > frame)
		batch_start(fetch, &fetch->main, frame + 1, last - frame, false, false);
}

/* Asks for a frame that somebody waits for. */
static int ask_for(struct fetch *fetch, struct source *source, uint32_t frame)
{
	int code = batch_start(fetch, source, frame, 1, true, false);

	if (code)
		return code;
	fetch->counts.needed++;
	/* All of the hot object is on its way, or will be soon. */
	if (source == &fetch->main)
		ask_around(fetch, frame);
	return 0;
}

enum { PENDING = 1, NOT_FROM_HERE = 2 };

/* A block that is missing: PENDING, it is on its way from that source; or a code. */
static int ask_source(struct fetch *fetch, struct source *source, uint64_t block)
{
	size_t i = source->level ? level_find(source->level, block) : 0;
	const struct store_run *run = NULL;
	int32_t state;

	if (source->level && i < source->level->run_count)
		run = &source->level->runs[i];
	if (!run || run->first > block || run->frame == STORE_NOWHERE ||
	    (source->current && !(source->current[block / 64] >> (block % 64) & 1)))
		return NOT_FROM_HERE;
	state = source->state[run->frame];
	if (state < 0 && source == &fetch->hot)
		return NOT_FROM_HERE;
	if (state < 0) {
		if (clock_monotonic_ns() - fetch->failed_ns < AGAIN_NS)
			return state;
		state = source->state[run->frame] = FRAME_IDLE;
	}
	if (state == FRAME_IDLE) {
		int code = ask_for(fetch, source, run->frame);

		return code ? code : PENDING;
	}
	return state == FRAME_FLYING ? PENDING : NOT_FROM_HERE;
}

/* Each block that is missing there: PENDING, all are on their way; 0, none is missing; or a code. */
static int ask_all(struct fetch *fetch, uint64_t block, uint64_t end)
{
	bool pending = false;

	for (; block < end; block++) {
		int code;

		if (!block_missing(fetch, block))
			continue;
		code = ask_source(fetch, &fetch->hot, block);
		if (code == NOT_FROM_HERE)
			code = ask_source(fetch, &fetch->main, block);
		/* Its frame came since it was looked at above. */
		if (code == NOT_FROM_HERE && !block_missing(fetch, block))
			continue;
		if (code == NOT_FROM_HERE)
			code = -EIO;
		if (code < 0)
			return code;
		pending = true;
	}
	return pending ? PENDING : 0;
}

int fetch_need(void *arg, uint64_t offset, uint64_t bytes)
{
	struct fetch *fetch = arg;
	uint64_t end;
	int code;

	if (fetch_has(fetch, offset, bytes))
		return 0;
	end = block_behind(fetch, offset, bytes);
	pthread_mutex_lock(&fetch->lock);
	fetch->counts.waiting++;
	for (;;) {
		code = fetch->stopping ? -ECANCELED : ask_all(fetch, offset / STORE_BLOCK, end);
		if (code == PENDING && fetch->interrupted)
			code = -ECANCELED;
		if (code != PENDING)
			break;
		pthread_cond_wait(&fetch->settled, &fetch->lock);
	}
	fetch->counts.waiting--;
	pthread_mutex_unlock(&fetch->lock);
	return code;
}

/* With the lock. A block of the hot object comes with that. */
static void ask_later(struct fetch *fetch, uint64_t block)
{
	const struct store_level *level = fetch->main.level;
	size_t i = level_find(level, block);
	uint32_t frame = i < level->run_count ? level->runs[i].frame : STORE_NOWHERE;

	if (frame == STORE_NOWHERE || level->runs[i].first > block ||
	    fetch->main.state[frame] != FRAME_IDLE ||
	    (fetch->hot.current && fetch->hot.current[block / 64] >> (block % 64) & 1) ||
	    (fetch->asked_count && fetch->asked[fetch->asked_count - 1] == frame))
		return;
	fill_ask(fetch, frame);
}

void fetch_ask(struct fetch *fetch, uint64_t offset, uint64_t bytes)
{
	uint64_t block = offset / STORE_BLOCK, end;

	if (fetch_has(fetch, offset, bytes))
		return;
	end = block_behind(fetch, offset, bytes);
	pthread_mutex_lock(&fetch->lock);
	for (; block < end && !fetch->stopping; block++)
		if (block_missing(fetch, block))
			ask_later(fetch, block);
	if (!fetch->stopping)
		fill_pump(fetch);
	pthread_mutex_unlock(&fetch->lock);
}

int fetch_writes(void *arg, uint64_t offset, uint64_t bytes)
{
	struct fetch *fetch = arg;
	uint64_t first = offset / STORE_BLOCK, end;
	bool all;

	if (!bytes || first >= fetch->blocks || fetch_has(fetch, offset, bytes))
		return 0;
	/* Of the header's two blocks parts may be written. */
	if (first < 2) {
		int code = fetch_need(fetch, 0, 2 * STORE_BLOCK);

		if (code)
			return code;
	}
	end = block_behind(fetch, offset, bytes);
	pthread_mutex_lock(&fetch->file_lock);
	blocks_settle(fetch, first, end - first);
	all = !fetch->missing_count;
	pthread_mutex_unlock(&fetch->file_lock);
	if (all) {
		pthread_mutex_lock(&fetch->lock);
		pthread_cond_broadcast(&fetch->settled);
		pthread_mutex_unlock(&fetch->lock);
	}
	return 0;
}

/* ---- What is missing at first */

static void mark_missing(struct fetch *fetch)
{
	const struct store_level *level = fetch->main.level;

	for (uint32_t i = 0; i < level->run_count; i++) {
		const struct store_run *run = &level->runs[i];

		uint64_t block = run->first, end = run->first + run->count;

		if (end > fetch->blocks)
			end = fetch->blocks;
		if (run->frame == STORE_NOWHERE || block >= end)
			continue;
		fetch->counted += end - block;
		while (block < end) {
			uint64_t bits = 64 - block % 64 < end - block ? 64 - block % 64
								      : end - block;
			uint64_t mask = bits < 64 ? (1ull << bits) - 1 : ~0ull;

			fetch->missing[block / 64] |= mask << (block % 64);
			block += bits;
		}
	}
	fetch->missing_count = fetch->counted;
}

/* What the file has is not missing: blocks that are data from their first byte to their last, or to the end of the file. */
static int unmark_data(struct fetch *fetch)
{
	off_t length = lseek(fetch->fd, 0, SEEK_END), data = 0, hole;

	if (length < 0)
		return -errno;
	for (;; data = hole) {
		uint64_t first, end;

		data = lseek(fetch->fd, data, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(fetch->fd, data, SEEK_HOLE);
		if (hole < 0)
			return errno == ENXIO ? 0 : -errno;
		first = ((uint64_t)data + STORE_BLOCK - 1) / STORE_BLOCK;
		end = ((uint64_t)hole + (hole == length ? STORE_BLOCK - 1 : 0)) / STORE_BLOCK;
		if (end > fetch->blocks)
			end = fetch->blocks;
		if (first < end)
			blocks_settle(fetch, first, end - first);
	}
}

static int source_open(struct source *source, const struct store_level *level)
{
	source->level = level;
	source->state = calloc(level->frame_count + 1, sizeof(*source->state));
	if (!source->state)
		return -ENOMEM;
	return level_by_frame(level, &source->order, &source->start);
}

static void source_close(struct source *source)
{
	free(source->order);
	free(source->start);
	free(source->state);
	free(source->current);
}

static int hot_open(struct fetch *fetch, const struct fetch_options *options)
{
	const struct store_level *level = options->hot;
	int code = source_open(&fetch->hot, level);

	if (code)
		return code;
	fetch->hot.current = calloc(fetch->blocks / 64 + 1, sizeof(uint64_t));
	if (!fetch->hot.current)
		return -ENOMEM;
	for (uint32_t i = 0; i < level->run_count; i++)
		for (uint64_t block = level->runs[i].first;
		     block < level->runs[i].first + level->runs[i].count && block < fetch->blocks;
		     block++)
			if (hot_current(options->level, options->hot_record, block))
				fetch->hot.current[block / 64] |= 1ull << (block % 64);
	return 0;
}

/* ---- Life */

static int workers_begin(struct fetch *fetch)
{
	int code = 0;

	while (!code && fetch->worker_count < FETCH_WORKERS) {
		code = thread_begin(&fetch->workers[fetch->worker_count], fetch_work, fetch);
		fetch->worker_count += !code;
	}
	return fetch->worker_count ? 0 : code;
}

static int prepare(struct fetch *fetch, const struct fetch_options *options)
{
	int code;

	fetch->missing = calloc(fetch->blocks / 64 + 1, sizeof(*fetch->missing));
	if (!fetch->missing)
		return -ENOMEM;
	code = source_open(&fetch->main, options->level);
	if (code)
		return code;
	mark_missing(fetch);
	code = unmark_data(fetch);
	if (!code && options->hot)
		code = hot_open(fetch, options);
	return code ? code : workers_begin(fetch);
}

int fetch_open(const struct fetch_options *options, struct fetch **opened, struct thaw_error *error)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));
	int code;

	*opened = NULL;
	if (!fetch)
		return failure(error, -ENOMEM, "%s: %s", s3_place(options->s3),
			       thaw_strerror(-ENOMEM));
	fetch->s3 = options->s3;
	fetch->fd = options->fd;
	fetch->bytes = options->bytes;
	fetch->blocks = (options->bytes + STORE_BLOCK - 1) / STORE_BLOCK;
	fetch->patience_ns = options->patience_ns ? options->patience_ns : PATIENCE_NS;
	fetch->held = options->held;
	fill_begin(fetch);
	fetch->urgent_object = UINT32_MAX;
	fetch->ready_end[0] = &fetch->ready[0];
	fetch->ready_end[1] = &fetch->ready[1];
	pthread_mutex_init(&fetch->file_lock, NULL);
	pthread_mutex_init(&fetch->lock, NULL);
	cond_init_monotonic(&fetch->settled);
	cond_init_monotonic(&fetch->came);
	code = prepare(fetch, options);
	if (code) {
		fetch_close(fetch);
		return failure(error, code, "%s cannot be fetched: %s", s3_place(options->s3),
			       thaw_strerror(code));
	}
	pthread_mutex_lock(&fetch->lock);
	if (options->hot)
		fill_recent(fetch, options->hot_record);
	fill_pump(fetch);
	pthread_mutex_unlock(&fetch->lock);
	*opened = fetch;
	return 0;
}

void fetch_release(struct fetch *fetch)
{
	pthread_mutex_lock(&fetch->lock);
	fetch->held = false;
	pthread_cond_broadcast(&fetch->came);
	pthread_mutex_unlock(&fetch->lock);
}

void fetch_interrupt(struct fetch *fetch, bool on)
{
	pthread_mutex_lock(&fetch->lock);
	fetch->interrupted = on;
	pthread_cond_broadcast(&fetch->settled);
	pthread_mutex_unlock(&fetch->lock);
}

void fetch_stop(struct fetch *fetch)
{
	pthread_mutex_lock(&fetch->lock);
	fetch->stopping = true;
	for (struct batch *batch = fetch->flying; batch; batch = batch->next)
		s3_stop(fetch->s3, &batch->request);
	pthread_cond_broadcast(&fetch->settled);
	pthread_cond_broadcast(&fetch->came);
	while (fetch->flying ||
	       (fetch->worker_count && (fetch->busy || fetch->ready[0] || fetch->ready[1])))
		pthread_cond_wait(&fetch->settled, &fetch->lock);
	pthread_mutex_unlock(&fetch->lock);
}

void fetch_close(struct fetch *fetch)
{
	if (!fetch)
		return;
	fetch_stop(fetch);
	for (unsigned i = 0; i < fetch->worker_count; i++)
		pthread_join(fetch->workers[i], NULL);
	source_close(&fetch->hot);
	source_close(&fetch->main);
	pthread_cond_destroy(&fetch->came);
	pthread_cond_destroy(&fetch->settled);
	pthread_mutex_destroy(&fetch->lock);
	pthread_mutex_destroy(&fetch->file_lock);
	free(fetch->asked);
	free(fetch->missing);
	free(fetch);
}

void fetch_status(struct fetch *fetch, struct fetch_status *status)
{
	pthread_mutex_lock(&fetch->lock);
	*status = fetch->counts;
	status->blocks = fetch->counted;
	status->missing = fetch->missing_count;
	pthread_mutex_unlock(&fetch->lock);
}
