// SPDX-License-Identifier: MIT
/*
 * replicate.c - the life of a replication: its threads, what others see of it and ask of it. generation.c makes the records.
 *
 * Acknowledged is what a record has that this process put with If-None-Match, and knows to be there. It follows from epoch.h and
 * generation.c that no acknowledged record is lost, or followed by one of a writer that does not know it.
 */
#include "store/replicate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/thread.h"
#include "store/replication.h"

#define SECOND 1000000000ull
#define IDLE_MS 30000 /* then it is looked whether another program has continued the store */
#define PAUSE_MOST_NS (30 * SECOND)

static const char *const state_names[] = {
	[REPLICATION_CONNECTING] = "connecting", [REPLICATION_IN_STEP] = "in step",
	[REPLICATION_BEHIND] = "behind",	 [REPLICATION_FENCED] = "fenced",
	[REPLICATION_FAILED] = "failed",	 [REPLICATION_ENDED] = "ended",
};

const char *replication_state_name(enum replication_state state)
{
	return state_names[state];
}

static bool is_final(enum replication_state state)
{
	return state >= REPLICATION_FENCED;
}

/* Somebody may wait for what is new. */
static void tell(struct replication *r)
{
	pthread_cond_broadcast(&r->news);
	pthread_mutex_unlock(&r->lock);
	if (r->changed)
		r->changed(r->arg);
	pthread_mutex_lock(&r->lock);
}

bool replication_stops(struct replication *r)
{
	bool stops;

	pthread_mutex_lock(&r->lock);
	stops = r->stop;
	pthread_mutex_unlock(&r->lock);
	return stops;
}

/* With the lock, which it gives up. `ns`: of the monotonic clock. */
static void wait_until(struct replication *r, uint64_t ns)
{
	if (ns)
		cond_wait_until(&r->news, &r->lock, ns);
	else
		pthread_cond_wait(&r->news, &r->lock);
}

bool replication_pause(struct replication *r, unsigned tries, const struct thaw_error *error)
{
	uint64_t pause_ns = (SECOND / 10) << (tries < 10 ? tries : 10), end_ns;
	bool goes_on;

	end_ns = clock_monotonic_ns() + (pause_ns < PAUSE_MOST_NS ? pause_ns : PAUSE_MOST_NS);
	pthread_mutex_lock(&r->lock);
	r->status.error = *error;
	if (!r->refused_since_ns)
		r->refused_since_ns = clock_wall_ns();
	tell(r);
	while (!r->stop && clock_monotonic_ns() < end_ns)
		wait_until(r, end_ns);
	goes_on = !r->stop;
	pthread_mutex_unlock(&r->lock);
	return goes_on;
}

void replication_works(struct replication *r)
{
	pthread_mutex_lock(&r->lock);
	r->refused_since_ns = 0;
	r->status.error.code = 0;
	tell(r);
	pthread_mutex_unlock(&r->lock);
}

/* ---- The thread */

/* An end for ever: what does not go away by asking again. */
static bool ends(int code)
{
	switch (code) {
	case -EBUSY:
	case -ESTALE:
	case -EXDEV:
	case -ENOENT:
	case -ENOTSUP:
	case -EINVAL:
	case -E2BIG:
	case THAW_EDAMAGED:
	case THAW_EFOREIGN:
	case THAW_EFORMAT:
	case THAW_EOVERWRITTEN:
		return true;
	}
	return false;
}

static void end(struct replication *r, enum replication_state state, const struct thaw_error *error)
{
	pthread_mutex_lock(&r->lock);
	r->status.state = state;
	if (error)
		r->status.error = *error;
	tell(r);
	pthread_mutex_unlock(&r->lock);
}

static void sealed(struct replication *r)
{
	/* What was asked for with flags was so once. */
	r->flags = 0;
	r->part = 0;
	r->stored_blocks = 0;
	hot_free(r);
	r->hot.time_ns = clock_monotonic_ns();
	pthread_mutex_lock(&r->lock);
	r->status.state = REPLICATION_BEHIND;
	r->status.epoch = r->claim.record.epoch_number;
	r->status.record = r->claim.record.number;
	/*
	 * What that record has may be of another line than the file (EPOCH_REPLACE): then it says nothing of the file's generations,
	 * which are acknowledged by the first record.
	 */
	if (r->claim.same) {
		r->status.generation = r->claim.record.generation;
		r->status.sequence = r->claim.record.sequence;
	}
	tell(r);
	pthread_mutex_unlock(&r->lock);
}

static void wish_make(const struct replication *r, struct epoch_wish *wish)
{
	*wish = (struct epoch_wish){
		.place = r->place, .image = r->image, .program = r->program, .flags = r->flags};
}

/* What the file has. */
static int wish_ask(struct replication *r, struct epoch_wish *wish, struct thaw_error *error)
{
	const struct thaw_take_info *info;
	struct thaw_take *take;
	int code = thaw_mirror_take(r->mirror, &take, error);

	if (code)
		return code;
	info = thaw_mirror_info(take);
	memcpy(wish->uuid, info->uuid, sizeof(wish->uuid));
	memcpy(wish->engine, info->engine, sizeof(wish->engine));
	wish->page_bytes = info->page_bytes;
	wish->generation = info->news.generation;
	wish->sequence = info->news.commit;
	thaw_mirror_done(take, false);
	return 0;
}

/* The store becomes ours. */
static int connect_store(struct replication *r, unsigned tries, struct thaw_error *error)
{
	/* Longer each time: an index may be long, and a line slow. */
	uint64_t patience_ns = (10 * SECOND) << (tries < 8 ? tries : 8);
	struct epoch_wish wish;
	int code;

	wish_make(r, &wish);
	code = wish_ask(r, &wish, error);
	if (code)
		return code == -EBUSY ? -EAGAIN : code;
	if (!r->looked) {
		claim_free(&r->claim);
		code = epoch_look(r->s3, &wish, clock_monotonic_ns() + patience_ns, &r->claim,
				  error);
	} else if (r->claim.record.generation) {
		if (memcmp(wish.uuid, r->claim.record.uuid, sizeof(wish.uuid)))
			code = failure(error, -EXDEV, "%s holds another image than %s", r->place,
				       r->image);
		else
			code = epoch_check_age(&wish, &r->claim.record, error);
	}
	if (!code) {
		r->looked = true;
		code = epoch_seal(r->s3, &wish, clock_monotonic_ns() + patience_ns, &r->claim,
				  error);
	}
	if (code) {
		/* Also if an answer is missing: then the next look finds what became of it. */
		r->looked = false;
		return code;
	}
	/* What it has of the epoch before may be newer than what this process knows to be there. */
	r->compared = false;
	sealed(r);
	replication_works(r);
	return 0;
}

/* What the file has that the store has not, by now or soon. */
static bool wants(struct replication *r, struct thaw_mirror_news *news)
{
	thaw_mirror_news(r->mirror, news);
	return news->generation && (news->changes != r->changes || !r->compared);
}

static bool in_a_hurry(struct replication *r)
{
	bool hurry;

	pthread_mutex_lock(&r->lock);
	hurry = r->hurry || r->finish || r->stop;
	pthread_mutex_unlock(&r->lock);
	return hurry;
}

/* The last record; then this replication has nothing more to do. */
static int close_store(struct replication *r, struct thaw_error *error)
{
	struct thaw_mirror_news news;
	int code = 0;

	thaw_mirror_news(r->mirror, &news);
	if (news.generation && (r->ended || hot_is_due(r, true) || r->hot.next.object.record))
		code = generation_put(r, true, error);
	if (code)
		return code;
	thaw_mirror_news(r->mirror, &news);
	if (news.generation && news.changes == r->changes)
		sidefile_settle(r->image, r->claim.record.generation, NULL);
	end(r, REPLICATION_ENDED, NULL);
	return 0;
}

/* Waits until something is wanted and due, and does it. */
static int step(struct replication *r, struct thaw_error *error)
{
	struct thaw_mirror_news news;
	uint64_t began_ns;
	bool finish;
	int code;

	pthread_mutex_lock(&r->lock);
	finish = r->finish;
	pthread_mutex_unlock(&r->lock);
	if (wants(r, &news)) {
		if (!finish && pace_waits(r, in_a_hurry(r)))
			return 0;
		pthread_mutex_lock(&r->lock);
		r->hurry = false;
		pthread_mutex_unlock(&r->lock);
		began_ns = clock_monotonic_ns();
		code = generation_put(r, false, error);
		pace_put(r, began_ns);
		return code;
	}
	if (finish)
		return close_store(r, error);
	/* A hot object that has been stored since is told by a record of its own. */
	hot_settle(r, false, error);
	if (hot_is_news(r))
		return generation_put(r, false, error);
	r->since_ns = clock_monotonic_ns();
	if (r->hot.next.object.record)
		thaw_mirror_wait(r->mirror, news.changes, 100, NULL);
	else if (!thaw_mirror_wait(r->mirror, news.changes, IDLE_MS, NULL))
		return generation_check(r, error);
	return 0;
}

static void *run(void *arg)
{
	struct replication *r = arg;
	unsigned tries = 0;

	while (!replication_stops(r)) {
		struct thaw_error error = {0};
		int code = r->claim.sealed ? step(r, &error) : connect_store(r, tries, &error);
		bool final;

		pthread_mutex_lock(&r->lock);
		final = is_final(r->status.state);
		pthread_mutex_unlock(&r->lock);
		if (final || code == -ECANCELED)
			break;
		if (!code || code == -EAGAIN) {
			tries = 0;
			continue;
		}
		if (ends(code)) {
			end(r, code == -EBUSY ? REPLICATION_FENCED : REPLICATION_FAILED, &error);
			break;
		}
		replication_pause(r, tries++, &error);
	}
	return NULL;
}

/* ---- The other thread: deletes what nobody needs */

static bool stops(void *arg)
{
	return replication_stops(arg);
}

static void collect(struct replication *r)
{
	struct thaw_error error;
	uint64_t deleted = 0;

	/* What fails is tried the next time; if the store fails, the records say so. */
	garbage_collect(r->s3, r->least_age_ns, stops, r, &deleted, &error);
	pthread_mutex_lock(&r->lock);
	r->status.objects_deleted += deleted;
	pthread_mutex_unlock(&r->lock);
}

static void *run_collector(void *arg)
{
	struct replication *r = arg;
	uint64_t period_ns = r->least_age_ns / 4, next_ns = 0;

	if (period_ns > 600 * SECOND)
		period_ns = 600 * SECOND;
	if (period_ns < SECOND / 10)
		period_ns = SECOND / 10;
	pthread_mutex_lock(&r->lock);
	while (!r->stop && !is_final(r->status.state)) {
		uint64_t now_ns = clock_monotonic_ns();

		if (r->status.state == REPLICATION_CONNECTING) {
			wait_until(r, 0);
			continue;
		}
		/* Also of programs that run for some seconds only: one of 16 begins with it. */
		if (!next_ns)
			next_ns = now_ns + (r->status.epoch % 16 == 0 ? 0
					    : period_ns < 5 * SECOND  ? period_ns
								      : 5 * SECOND);
		if (now_ns < next_ns) {
			wait_until(r, next_ns);
			continue;
		}
		pthread_mutex_unlock(&r->lock);
		collect(r);
		next_ns = clock_monotonic_ns() + period_ns;
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* ---- What others call */

static void trouble(void *arg, const struct thaw_error *reason)
{
	struct replication *r = arg;

	pthread_mutex_lock(&r->lock);
	if (!is_final(r->status.state)) {
		if (reason)
			r->status.error = *reason;
		else
			r->status.error.code = 0;
		tell(r);
	}
	pthread_mutex_unlock(&r->lock);
}

static void replication_free(struct replication *r)
{
	if (r->own_s3)
		s3_close(r->s3);
	claim_free(&r->claim);
	level_free(&r->asked);
	hot_free(r);
	frame_encoder_free(r->encoder);
	encoders_free(r->encoders);
	group_close(&r->group);
	pthread_cond_destroy(&r->news);
	pthread_mutex_destroy(&r->lock);
	free(r->place);
	free(r->image);
	free(r->program);
	free(r);
}

static struct replication *replication_new(const struct replicate_options *options)
{
	struct replication *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->place = strdup(options->place);
	r->image = strdup(options->image);
	r->program = strdup(options->program ? options->program : "");
	r->encoder = frame_encoder_new();
	r->encoders = encoders_new();
	r->flags = options->flags;
	r->connect_ns = options->connect_ns;
	r->interval_ns = options->interval_ns;
	r->least_age_ns = options->least_age_ns ? options->least_age_ns : STORE_LEAST_AGE_NS;
	r->changed = options->changed;
	r->arg = options->arg;
	pthread_mutex_init(&r->lock, NULL);
	cond_init_monotonic(&r->news);
	group_open(&r->group);
	if (r->place && r->image && r->program && r->encoder && r->encoders)
		return r;
	replication_free(r);
	return NULL;
}

/* The first look, before there is a mirror: what the file is, as far as that can be told without opening it. */
static int look_first(struct replication *r, struct thaw_error *error)
{
	struct epoch_wish wish;
	struct thaw_image_info info;
	struct thaw_image *image;
	int code;

	wish_make(r, &wish);
	if (!thaw_image_open(r->image, &image, NULL)) {
		if (!thaw_image_info(image, false, &info, NULL))
			memcpy(wish.uuid, info.uuid, sizeof(wish.uuid));
		thaw_image_close(image);
	}
	code = epoch_look(r->s3, &wish, clock_monotonic_ns() + r->connect_ns, &r->claim, error);
	r->looked = !code;
	return !code || ends(code) ? code : 1;
}

int replicate_open(const struct replicate_options *options, struct replication **replication,
		   struct thaw_error *error)
{
	struct replication *r = replication_new(options);
	struct s3_settings settings = {.trouble = trouble, .arg = r};
	int code = 0;

	*replication = NULL;
	if (!r)
		return failure(error, -ENOMEM, "no memory for the replication of %s",
			       options->image);
	if (options->s3) {
		r->s3 = options->s3;
	} else {
		code = s3_open(options->place, &settings, &r->s3, error);
		r->own_s3 = !code;
	}
	if (!code && options->claim) {
		r->claim = *options->claim;
		*options->claim = (struct store_claim){0};
		r->looked = true;
		sealed(r);
	} else if (!code && r->connect_ns) {
		code = look_first(r, error);
	}
	if (code < 0) {
		replication_free(r);
		return code;
	}
	if (code)
		r->status.error = *error;
	*replication = r;
	return code;
}

static int threads_start(struct replication *r)
{
	int code;

	code = thread_begin(&r->thread, run, r);
	r->running = !code;
	if (!code && !thread_begin(&r->collector, run_collector, r))
		r->collecting = true; /* without it the store only grows */
	return code;
}

int replicate_start(struct replication *r, struct thaw_mirror *mirror, struct thaw_error *error)
{
	struct thaw_mirror_news news;
	struct epoch_wish wish;
	int code = 0;

	r->mirror = mirror;
	r->stop = r->finish = r->ended = r->hurry = r->group.stopped = false;
	r->changes = UINT64_MAX;
	level_free(&r->asked); /* of another mirror */
	r->compared = false;
	r->taken_ns = 0;
	r->since_ns = clock_monotonic_ns();
	thaw_mirror_news(mirror, &news);
	wish_make(r, &wish);
	wish.generation = news.generation;
	wish.sequence = news.commit;
	if (!r->claim.sealed && r->looked && r->claim.record.number)
		code = epoch_check_age(&wish, &r->claim.record, error);
	/* Unless the start has committed something since it was made: going back to a generation, say. */
	if (!code && r->claim.sealed && r->claim.same && news.generation &&
	    news.commit == r->claim.record.sequence &&
	    news.generation == r->claim.record.generation) {
		code = thaw_mirror_clean(mirror, 0, STORE_FILE_BLOCKS_MOST);
		r->compared = !code;
		r->changes = news.changes;
		code = 0;
	}
	r->claim.same = false; /* of this mirror only */
	r->acknowledged_changes = r->changes;
	if (r->status.state == REPLICATION_ENDED)
		r->status.state = REPLICATION_BEHIND;
	if (!code) {
		code = threads_start(r);
		if (code)
			failure(error, code, "no thread for the replication of %s", r->image);
	}
	return code;
}

void replicate_status(struct replication *r, struct replication_status *status)
{
	struct s3_counts counts = {0};
	struct thaw_mirror_news news = {0};

	s3_count(r->s3, &counts);
	pthread_mutex_lock(&r->lock);
	if (r->running && r->mirror)
		thaw_mirror_news(r->mirror, &news);
	*status = r->status;
	status->durable = news.generation;
	if (r->running && !is_final(status->state) && status->state != REPLICATION_CONNECTING)
		status->state = news.generation && (news.changes != r->acknowledged_changes ||
						    news.generation > status->generation)
					? REPLICATION_BEHIND
					: REPLICATION_IN_STEP;
	status->failing_since_ns = r->refused_since_ns;
	pthread_mutex_unlock(&r->lock);
	status->requests = counts.begun;
	status->bytes_sent = counts.sent;
	if (!counts.failing_since_ns)
		return;
	status->failing_since_ns =
		clock_wall_ns() - (clock_monotonic_ns() - counts.failing_since_ns);
	if (!status->error.code)
		failure(&status->error, -EIO, "%s does not answer", r->place);
}

static void wake(struct replication *r)
{
	if (r->running)
		thaw_mirror_wake(r->mirror);
}

void replicate_hurry(struct replication *r)
{
	pthread_mutex_lock(&r->lock);
	r->hurry = true;
	wake(r);
	pthread_mutex_unlock(&r->lock);
}

/* Until `done` says so, or the replication ends. With the lock. */
static int wait_for(struct replication *r, bool (*done)(const struct replication *r, uint64_t arg),
		    uint64_t arg, uint64_t deadline_ns, struct thaw_error *error)
{
	while (!done(r, arg)) {
		if (is_final(r->status.state) || !r->running) {
			if (r->status.state != REPLICATION_ENDED && error)
				*error = r->status.error;
			return r->status.state == REPLICATION_FENCED ? -EBUSY
			       : r->status.state == REPLICATION_FAILED
				       ? r->status.error.code
				       : failure(error, -ECANCELED,
						 "the replication of %s has ended", r->image);
		}
		if (deadline_ns && clock_monotonic_ns() >= deadline_ns)
			return failure(error, -ETIMEDOUT, "%s does not have it in time%s%s",
				       r->place, r->status.error.code ? ": " : "",
				       r->status.error.code ? r->status.error.text : "");
		wait_until(r, deadline_ns);
	}
	return 0;
}

static bool has_generation(const struct replication *r, uint64_t generation)
{
	return r->status.epoch && r->status.generation >= generation;
}

static bool has_ended(const struct replication *r, uint64_t unused)
{
	(void)unused;
	return r->status.state == REPLICATION_ENDED;
}

int replicate_wait(struct replication *r, uint64_t generation, uint64_t deadline_ns,
		   struct thaw_error *error)
{
	int code;

	replicate_hurry(r);
	pthread_mutex_lock(&r->lock);
	code = wait_for(r, has_generation, generation, deadline_ns, error);
	pthread_mutex_unlock(&r->lock);
	return code;
}

int replicate_finish(struct replication *r, bool ended, uint64_t deadline_ns,
		     struct thaw_error *error)
{
	int code;

	pthread_mutex_lock(&r->lock);
	r->ended = ended;
	r->finish = true;
	wake(r);
	code = wait_for(r, has_ended, 0, deadline_ns, error);
	pthread_mutex_unlock(&r->lock);
	return code;
}

void replicate_stop(struct replication *r)
{
	if (!r->running)
		return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	wake(r);
	pthread_cond_broadcast(&r->news);
	pthread_mutex_unlock(&r->lock);
	group_stop(&r->group, r->s3);
	pthread_join(r->thread, NULL);
	if (r->collecting)
		pthread_join(r->collector, NULL);
	pthread_mutex_lock(&r->lock);
	r->running = r->collecting = false;
	pthread_cond_broadcast(&r->news);
	pthread_mutex_unlock(&r->lock);
	hot_free(r); /* before the next start, as what is in the store of it may be outdated */
	r->hot.time_ns = clock_monotonic_ns();
	r->mirror = NULL;
}

void replicate_close(struct replication *r)
{
	if (!r)
		return;
	if (r->own_s3)
		s3_cancel(r->s3);
	replicate_stop(r);
	replication_free(r);
}
