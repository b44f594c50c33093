/* SPDX-License-Identifier: MIT */
/*
 * fetch_batch.c - requests for frames, and what becomes of what they bring: two threads decode it and write what is still missing into
 * the file (fetch.h). The store's thread only puts what came into their queue, so that it goes on with other requests.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "store/fetch_private.h"

/* ---- Blocks */

void blocks_settle(struct fetch *fetch, uint64_t first, uint64_t count)
{
	for (uint64_t block = first, end = first + count; block < end;) {
		uint64_t word = block / 64, low = block % 64;
		uint64_t bits = 64 - low < end - block ? 64 - low : end - block;
		uint64_t mask = (bits < 64 ? (1ull << bits) - 1 : ~0ull) << low, before;

		before = atomic_fetch_and_explicit(&fetch->missing[word], ~mask,
						   memory_order_release);
		fetch->missing_count -= (uint64_t)__builtin_popcountll(before & mask);
		block += bits;
	}
}

/* Would the source bring that block? */
static bool block_wanted(const struct fetch *fetch, const struct source *source, uint64_t block)
{
	return block < fetch->blocks && block_missing(fetch, block) &&
	       (!source->current || (source->current[block / 64] >> (block % 64) & 1));
}

bool frame_useful(struct fetch *fetch, struct source *source, uint32_t frame)
{
	for (uint32_t i = source->start[frame]; i < source->start[frame + 1]; i++) {
		const struct store_run *run = &source->level->runs[source->order[i]];

		for (uint32_t j = 0; j < run->count; j++)
			if (block_wanted(fetch, source, run->first + j))
				return true;
	}
	if (source->state[frame] == FRAME_IDLE)
		source->state[frame] = FRAME_USELESS;
	return false;
}

/* Not behind the end: what the last block has there means nothing. */
static int write_blocks(const struct fetch *fetch, const uint8_t *bytes, size_t count,
			uint64_t offset)
{
	if (count > fetch->bytes - offset)
		count = fetch->bytes - offset;
	while (count) {
		ssize_t written = pwrite(fetch->fd, bytes, count, (off_t)offset);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written ? -errno : -EIO;
		bytes += written;
		offset += (uint64_t)written;
		count -= (size_t)written;
	}
	return 0;
}

/* Writes those of a run that are wanted, in pieces as long as possible. `blocks`: contents of the first. */
static int run_apply(struct fetch *fetch, const struct source *source, const struct store_run *run,
		     const uint8_t *blocks)
{
	int code = 0;

	for (uint32_t i = 0, count; i < run->count && !code; i += count ? count : 1) {
		for (count = 0;
		     i + count < run->count && block_wanted(fetch, source, run->first + i + count);)
			count++;
		if (!count)
			continue;
		code = write_blocks(fetch, blocks + (size_t)i * STORE_BLOCK,
				    (size_t)count * STORE_BLOCK, (run->first + i) * STORE_BLOCK);
		if (!code)
			blocks_settle(fetch, run->first + i, count);
	}
	return code;
}

static int frame_apply(struct fetch *fetch, const struct source *source, uint32_t frame,
		       const uint8_t *blocks, uint64_t *written)
{
	uint64_t before;
	int code = 0;

	pthread_mutex_lock(&fetch->file_lock);
	before = fetch->missing_count;
	for (uint32_t i = source->start[frame]; i < source->start[frame + 1] && !code; i++) {
		const struct store_run *run = &source->level->runs[source->order[i]];

		code = run_apply(fetch, source, run, blocks + (size_t)run->at * STORE_BLOCK);
	}
	*written += before - fetch->missing_count;
	pthread_mutex_unlock(&fetch->file_lock);
	return code;
}

/* ---- Requests */

static void batch_link(struct batch **list, struct batch *batch)
{
	batch->next = *list;
	batch->link = list;
	if (*list)
		(*list)->link = &batch->next;
	*list = batch;
}

static void batch_unlink(struct batch *batch)
{
	*batch->link = batch->next;
	if (batch->next)
		batch->next->link = batch->link;
}

static void batch_done(struct s3_request *request);

int batch_start(struct fetch *fetch, struct source *source, uint32_t first, uint32_t count,
		bool urgent, bool again)
{
	const struct store_frame *from = &source->level->frames[first],
				 *last = &source->level->frames[first + count - 1];
	size_t length = (size_t)last->offset + last->bytes - from->offset;
	struct batch *batch = malloc(sizeof(*batch) + length);

	if (!batch)
		return -ENOMEM;
	memset(batch, 0, sizeof(*batch));
	batch->fetch = fetch;
	batch->source = source;
	batch->first = first;
	batch->count = count;
	batch->urgent = urgent;
	batch->again = again;
	batch->began_ns = clock_monotonic_ns();
	store_object_name(&source->level->objects[from->object], batch->key);
	batch->request = (struct s3_request){
		.verb = S3_GET,
		.flags = urgent ? S3_URGENT : 0,
		.key = batch->key,
		.deadline_ns = batch->began_ns + fetch->patience_ns,
		.done = batch_done,
		.arg = batch,
		.offset = from->offset,
		.length = length,
		.into = batch->bytes,
	};
	for (uint32_t i = first; i < first + count; i++)
		if (source->state[i] == FRAME_IDLE)
			source->state[i] = FRAME_FLYING;
	batch_link(&fetch->flying, batch);
	*(urgent ? &fetch->flying_urgent : &fetch->flying_behind) += 1;
	fetch->flying_bytes += urgent ? 0 : length;
	s3_start(fetch->s3, &batch->request);
	return 0;
}

/* With the lock. */
static void failed(struct fetch *fetch, const struct thaw_error *error)
{
	fetch->failed_ns = clock_monotonic_ns();
	if (error->code && error->code != -ECANCELED)
		fetch->counts.error = *error;
}

/* With the lock: those that are in flight failed. */
static void batch_fail(struct batch *batch, const struct thaw_error *error)
{
	struct source *source = batch->source;

	for (uint32_t i = batch->first; i < batch->first + batch->count; i++)
		if (source->state[i] == FRAME_FLYING)
			source->state[i] = error->code;
	failed(batch->fetch, error);
}

static void batch_free(struct batch *batch)
{
	s3_release(&batch->request);
	free(batch);
}

/* On the store's thread. */
static void batch_done(struct s3_request *request)
{
	struct batch *batch = request->arg;
	struct fetch *fetch = batch->fetch;
	bool came = !request->code;

	pthread_mutex_lock(&fetch->lock);
	batch_unlink(batch);
	*(batch->urgent ? &fetch->flying_urgent : &fetch->flying_behind) -= 1;
	fetch->flying_bytes -= batch->urgent ? 0 : request->length;
	if (came && !fetch->stopping) {
		if (!batch->urgent)
			fill_measure(fetch, batch);
		batch->next = NULL;
		*fetch->ready_end[!batch->urgent] = batch;
		fetch->ready_end[!batch->urgent] = &batch->next;
		pthread_cond_signal(&fetch->came);
	} else {
		struct thaw_error error = request->error;

		/* The object is shorter than the index says. */
		error.code = came			? -ECANCELED
			     : request->code == -ERANGE ? THAW_EDAMAGED
							: request->code;
		batch_fail(batch, &error);
		pthread_cond_broadcast(&fetch->settled);
		came = false;
	}
	if (!fetch->stopping)
		fill_pump(fetch);
	pthread_mutex_unlock(&fetch->lock);
	if (!came)
		batch_free(batch);
}

/* ---- What came. Worker threads */

/* A frame that came damaged is asked for once more: 1. */
static int damaged(struct fetch *fetch, struct batch *batch, uint32_t frame,
		   struct thaw_error *error)
{
	const struct store_frame *where = &batch->source->level->frames[frame];
	int code = -ECANCELED;

	failure(error, THAW_EDAMAGED,
		"%s/%s: bytes %u to %u of it are damaged (their checksum is wrong)",
		s3_place(fetch->s3), batch->key, where->offset, where->offset + where->bytes);
	if (batch->again)
		return THAW_EDAMAGED;
	pthread_mutex_lock(&fetch->lock);
	if (!fetch->stopping) {
		batch->source->state[frame] = FRAME_IDLE;
		code = batch_start(fetch, batch->source, frame, 1, true, true);
	}
	pthread_mutex_unlock(&fetch->lock);
	return code ? code : 1;
}

static int frame_arrived(struct fetch *fetch, struct batch *batch, uint32_t frame,
			 struct frame_decoder *decoder, uint8_t *blocks, uint64_t *written,
			 struct thaw_error *error)
{
	const struct store_level *level = batch->source->level;
	const struct store_frame *where = &level->frames[frame];
	int code;

	code = frame_decode(decoder, where,
			    batch->bytes + (where->offset - level->frames[batch->first].offset),
			    blocks);
	if (code == THAW_EDAMAGED)
		return damaged(fetch, batch, frame, error);
	if (code)
		return failure(error, code, "%s/%s: %s", s3_place(fetch->s3), batch->key,
			       thaw_strerror(code));
	code = frame_apply(fetch, batch->source, frame, blocks, written);
	if (code)
		return failure(error, code, "what came from %s cannot be written: %s",
			       s3_place(fetch->s3), thaw_strerror(code));
	return 0;
}

static void batch_arrived(struct fetch *fetch, struct batch *batch, struct frame_decoder *decoder,
			  uint8_t *blocks)
{
	struct source *source = batch->source;

	for (uint32_t i = batch->first; i < batch->first + batch->count; i++) {
		struct thaw_error error = {0};
		uint64_t written = 0;
		int code;

		pthread_mutex_lock(&fetch->lock);
		code = fetch->stopping ? -ECANCELED : source->state[i] == FRAME_FLYING ? 0 : 1;
		pthread_mutex_unlock(&fetch->lock);
		if (code == 1) /* another's, or of no use */
			continue;
		if (!code)
			code = frame_arrived(fetch, batch, i, decoder, blocks, &written, &error);
		if (code == 1) /* is asked for again */
			continue;
		pthread_mutex_lock(&fetch->lock);
		source->state[i] = code ? code : FRAME_DONE;
		if (code) {
			failed(fetch, &error);
		} else {
			fetch->counts.frames++;
			fetch->counts.hot_blocks += source == &fetch->hot ? written : 0;
		}
		pthread_cond_broadcast(&fetch->settled);
		pthread_mutex_unlock(&fetch->lock);
	}
}

static struct batch *next_ready(struct fetch *fetch)
{
	for (unsigned i = 0; i < 2; i++) {
		struct batch *batch = fetch->ready[i];

		if (!batch)
			continue;
		fetch->ready[i] = batch->next;
		if (!batch->next)
			fetch->ready_end[i] = &fetch->ready[i];
		return batch;
	}
	return NULL;
}

void *fetch_work(void *arg)
{
	struct fetch *fetch = arg;
	struct frame_decoder *decoder = frame_decoder_new();
	uint8_t *blocks = malloc(STORE_FRAME_BYTES);
	struct batch *batch = NULL;

	pthread_mutex_lock(&fetch->lock);
	for (;; batch = NULL) {
		while (((fetch->held && !fetch->stopping) || !(batch = next_ready(fetch))) &&
		       !fetch->stopping)
			pthread_cond_wait(&fetch->came, &fetch->lock);
		if (!batch)
			break;
		fetch->busy++;
		pthread_mutex_unlock(&fetch->lock);
		if (decoder && blocks) {
			batch_arrived(fetch, batch, decoder, blocks);
		} else {
			struct thaw_error error;

			failure(&error, -ENOMEM, "%s: %s", s3_place(fetch->s3),
				thaw_strerror(-ENOMEM));
			pthread_mutex_lock(&fetch->lock);
			batch_fail(batch, &error);
			pthread_cond_broadcast(&fetch->settled);
			pthread_mutex_unlock(&fetch->lock);
		}
		batch_free(batch);
		pthread_mutex_lock(&fetch->lock);
		fetch->busy--;
		if (fetch->stopping)
			pthread_cond_broadcast(&fetch->settled);
	}
	pthread_mutex_unlock(&fetch->lock);
	free(blocks);
	frame_decoder_free(decoder);
	return NULL;
}
