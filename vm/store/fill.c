/* SPDX-License-Identifier: MIT */
/*
 * fill.c - what is brought in the background, and in which order (fetch.h): what was written since the hot object, that from its
 * beginning, what was asked for (fetch_ask()), then everything else, the newest objects first. No thread drives it: whenever a
 * request has ended, others begin, up to a number that depends on the pace. How much one asks for depends on how long the last ones
 * took, so that on a slow line, too, whoever needs something waits only for a little that was asked for before.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/failure.h"
#include "base/thread.h"
#include "store/fetch_private.h"

#define UNDER_WAY_MOST 32u /* requests */
#define FAST_UNDER_WAY 16u
/*
 * What 32 fresh connections send in one round trip. It doubles with each, as theirs does, so that none ever waits for the next of its
 * requests.
 */
#define WINDOW_FIRST (32u * (14u << 10))
#define WINDOW_LEAST (128u << 10)
#define WINDOW_MOST (4u << 20) /* 1 Gbit/s, 30 ms */
#define HOT_BATCH_LEAST (14u << 10)
#define HOT_BATCH_MOST (112u << 10)
#define ASKED_BATCH_BYTES (64u << 10)
#define POLITE_BATCH_MOST (1u << 20)
/* What was written since the hot object is needed as early, as far as it is not more than this. */
#define RECENT_BYTES (4u << 20)
#define BATCH_LEAST (64u << 10)
#define BATCH_FIRST (512u << 10)
#define BATCH_MOST (2u << 20)
/* What of an object nobody needs any more is read along, if it is not longer. */
#define GAP_BYTES (128u << 10)
#define SLACK_NS 10000000ull
/* GOAL_FAST: nobody waits for one of them alone. */
#define SHORT_NS 1000000000ull
#define LONG_NS 8000000000ull
#define PROGRESS_NS 100000000ull
/* The wait after a failure, doubled each time. */
#define BACK_OFF_NS 500000000ull
#define BACK_OFF_MOST_NS 30000000000ull

void fill_begin(struct fetch *fetch)
{
	fetch->window = WINDOW_FIRST;
	fetch->batch_bytes = BATCH_FIRST;
}

static size_t between(size_t value, size_t least, size_t most)
{
	return value < least ? least : value > most ? most : value;
}

/*
 * As long as requests take hardly longer than the quickest one did, nothing queues on the line, and there may be more of them; else
 * whoever needs something waits behind them, and there are fewer (the idea is TCP Vegas').
 */
static void measure_polite(struct fetch *fetch, size_t bytes, uint64_t took)
{
	if (!fetch->least_ns || took < fetch->least_ns)
		fetch->least_ns = took;
	if (took < 2 * fetch->least_ns + SLACK_NS)
		fetch->window += bytes;
	else if (took > 3 * fetch->least_ns + 2 * SLACK_NS)
		fetch->window -= bytes / 2 < fetch->window ? bytes / 2 : 0;
	fetch->window = between(fetch->window, WINDOW_LEAST, WINDOW_MOST);
}

void fill_measure(struct fetch *fetch, const struct batch *batch)
{
	uint64_t took = clock_monotonic_ns() - batch->began_ns;

	if (fetch->goal != GOAL_FAST)
		measure_polite(fetch, batch->request.length, took);
	else if (took > LONG_NS && fetch->batch_bytes > BATCH_LEAST)
		fetch->batch_bytes /= 2;
	else if (took < SHORT_NS && fetch->batch_bytes < BATCH_MOST &&
		 batch->request.length * 2 > fetch->batch_bytes)
		fetch->batch_bytes *= 2;
}

/* From that frame, which is to be brought, as many of its object as one request should: how many. */
static uint32_t batch_of(struct fetch *fetch, struct source *source, uint32_t first, size_t most)
{
	const struct store_frame *frames = source->level->frames;
	uint32_t last = first, from = frames[first].offset;

	for (uint32_t i = first + 1; i < source->level->frame_count; i++) {
		uint32_t gap = frames[i].offset - frames[last].offset - frames[last].bytes;

		if (frames[i].object != frames[first].object || gap > GAP_BYTES ||
		    frames[i].offset + frames[i].bytes - from > most)
			break;
		if (source->state[i] == FRAME_IDLE && frame_useful(fetch, source, i))
			last = i;
		else if (source->state[i] != FRAME_USELESS)
			break;
	}
	return last - first + 1;
}

/* The next one of the hot object. False: there is none. */
static bool hot_next(struct fetch *fetch)
{
	struct source *hot = &fetch->hot;
	uint32_t count;

	if (!hot->level)
		return false;
	for (; fetch->hot_cursor < hot->level->frame_count; fetch->hot_cursor++)
		if (hot->state[fetch->hot_cursor] == FRAME_IDLE &&
		    frame_useful(fetch, hot, fetch->hot_cursor))
			break;
	if (fetch->hot_cursor == hot->level->frame_count)
		return false;
	count = batch_of(fetch, hot, fetch->hot_cursor,
			 between(fetch->window / UNDER_WAY_MOST, HOT_BATCH_LEAST, HOT_BATCH_MOST));
	if (batch_start(fetch, hot, fetch->hot_cursor, count, false, false))
		return false;
	fetch->hot_cursor += count;
	return true;
}

/* The next one that was asked for. */
static bool asked_next(struct fetch *fetch)
{
	struct source *main = &fetch->main;

	while (fetch->asked_at < fetch->asked_count) {
		uint32_t frame = fetch->asked[fetch->asked_at++];

		if (main->state[frame] == FRAME_IDLE && frame_useful(fetch, main, frame))
			return !batch_start(fetch, main, frame,
					    batch_of(fetch, main, frame, ASKED_BATCH_BYTES), false,
					    false);
	}
	fetch->asked_at = fetch->asked_count = fetch->recent = 0;
	return false;
}

/* The frames of object number `object`, counted from the newest. Both are sorted. */
static void object_enter(struct fetch *fetch)
{
	const struct store_level *level = fetch->main.level;
	uint32_t number = level->object_count - 1 - fetch->object, low[2];

	for (unsigned i = 0; i < 2; i++) {
		uint32_t at = 0, end = level->frame_count;

		while (at < end) {
			uint32_t middle = at + (end - at) / 2;

			if (level->frames[middle].object < number + i)
				at = middle + 1;
			else
				end = middle;
		}
		low[i] = at;
	}
	fetch->cursor = low[0];
	fetch->object_end = low[1];
}

static void begin_again(struct fetch *fetch)
{
	fetch->object = 0;
	if (fetch->main.level->object_count)
		object_enter(fetch);
}

static bool main_next(struct fetch *fetch)
{
	struct source *main = &fetch->main;

	for (; fetch->object < main->level->object_count;) {
		uint32_t count;

		for (; fetch->cursor < fetch->object_end; fetch->cursor++)
			if (main->state[fetch->cursor] == FRAME_IDLE &&
			    frame_useful(fetch, main, fetch->cursor))
				break;
		if (fetch->cursor == fetch->object_end) {
			if (++fetch->object < main->level->object_count)
				object_enter(fetch);
			continue;
		}
		count = batch_of(fetch, main, fetch->cursor,
				 fetch->goal == GOAL_FAST ? fetch->batch_bytes
							  : between(fetch->window / 4, BATCH_LEAST,
								    POLITE_BATCH_MOST));
		if (batch_start(fetch, main, fetch->cursor, count, false, false))
			return false;
		fetch->cursor += count;
		return true;
	}
	return false;
}

void fill_recent(struct fetch *fetch, uint64_t hot_record)
{
	const struct store_level *level = fetch->main.level;
	uint64_t bytes = 0;

	for (fetch->object = 0; fetch->object < level->object_count; fetch->object++) {
		const struct store_object *object =
			&level->objects[level->object_count - 1 - fetch->object];

		if (object->record <= hot_record || object->bytes > RECENT_BYTES - bytes)
			break;
		object_enter(fetch);
		for (uint32_t frame = fetch->cursor; frame < fetch->object_end; frame++) {
			bytes += level->frames[frame].bytes;
			fill_ask(fetch, frame);
		}
	}
	fetch->recent = fetch->asked_count;
}

void fill_ask(struct fetch *fetch, uint32_t frame)
{
	uint32_t *more =
		array_grow(fetch->asked, fetch->asked_count, &fetch->asked_room, sizeof(*more));

	if (!more) /* it comes with all else */
		return;
	fetch->asked = more;
	fetch->asked[fetch->asked_count++] = frame;
}

/* While somebody waits, only so much that it never stands still. */
static bool may_begin(const struct fetch *fetch)
{
	if (fetch->goal == GOAL_FAST)
		return fetch->flying_behind < FAST_UNDER_WAY;
	return fetch->flying_behind < UNDER_WAY_MOST &&
	       fetch->flying_bytes < (fetch->flying_urgent ? fetch->window / 4 : fetch->window);
}

void fill_pump(struct fetch *fetch)
{
	while (fetch->asked_at < fetch->recent && fetch->flying_behind < UNDER_WAY_MOST)
		asked_next(fetch);
	/* Much of what somebody waits for is in it. */
	while (fetch->flying_behind < UNDER_WAY_MOST && fetch->flying_bytes < fetch->window &&
	       hot_next(fetch))
		;
	while (may_begin(fetch) &&
	       (asked_next(fetch) || (fetch->goal != GOAL_HOT && main_next(fetch))))
		;
}

/* ---- Until all is there */

/* What failed is asked for once more. */
static void forget_failures(struct fetch *fetch)
{
	for (uint32_t i = 0; i < fetch->main.level->frame_count; i++)
		if (fetch->main.state[i] < 0)
			fetch->main.state[i] = FRAME_IDLE;
}

static void wait_for(struct fetch *fetch, uint64_t ns)
{
	cond_wait_until(&fetch->settled, &fetch->lock, clock_monotonic_ns() + ns);
}

/* All that was asked for has ended, and some of it failed: asks again, after a while. */
static int fill_again(struct fetch *fetch, uint64_t *back_off, struct thaw_error *error)
{
	int code = fetch->counts.error.code;

	if (fetch->goal == GOAL_FAST) {
		*error = fetch->counts.error;
		return code ? code
			    : failure(error, -ENOMEM, "%s: %s", s3_place(fetch->s3),
				      thaw_strerror(-ENOMEM));
	}
	for (uint64_t until = clock_monotonic_ns() + *back_off;
	     !fetch->stopping && clock_monotonic_ns() < until;)
		wait_for(fetch, until - clock_monotonic_ns());
	*back_off = *back_off * 2 > BACK_OFF_MOST_NS ? BACK_OFF_MOST_NS : *back_off * 2;
	if (!fetch->stopping) {
		forget_failures(fetch);
		begin_again(fetch);
		fill_pump(fetch);
	}
	return 0;
}

/* With the lock. */
static int fill(struct fetch *fetch, bool (*progress)(void *arg), void *arg,
		struct thaw_error *error)
{
	uint64_t back_off = BACK_OFF_NS, told = 0, frames = 0;

	while (fetch->missing_count) {
		bool idle;

		if (fetch->stopping)
			return -ECANCELED;
		if (progress && clock_monotonic_ns() - told >= PROGRESS_NS) {
			bool on;

			pthread_mutex_unlock(&fetch->lock);
			on = progress(arg);
			pthread_mutex_lock(&fetch->lock);
			told = clock_monotonic_ns();
			if (!on)
				return -ECANCELED;
			continue;
		}
		if (fetch->counts.frames != frames)
			back_off = BACK_OFF_NS;
		frames = fetch->counts.frames;
		idle = !fetch->flying && !fetch->ready[0] && !fetch->ready[1] && !fetch->busy;
		if (idle) {
			int code = fill_again(fetch, &back_off, error);

			if (code)
				return code;
			continue;
		}
		wait_for(fetch, PROGRESS_NS);
	}
	return 0;
}

int fetch_fill(struct fetch *fetch, enum fetch_pace pace, bool (*progress)(void *arg), void *arg,
	       struct thaw_error *error)
{
	struct thaw_error why = {0};
	int code;

	pthread_mutex_lock(&fetch->lock);
	fetch->goal = pace == FETCH_FAST ? GOAL_FAST : GOAL_POLITE;
	forget_failures(fetch);
	begin_again(fetch);
	if (!fetch->stopping)
		fill_pump(fetch);
	code = fill(fetch, progress, arg, &why);
	fetch->goal = GOAL_HOT;
	pthread_mutex_unlock(&fetch->lock);
	if (code == -ECANCELED)
		return failure(error, code, "%s: %s", s3_place(fetch->s3), thaw_strerror(code));
	if (code && error)
		*error = why;
	return code;
}
