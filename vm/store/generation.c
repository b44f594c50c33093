// SPDX-License-Identifier: MIT
/*
 * generation.c - the image as it is now becomes a record.
 *
 *	take -> frames, objects -> level 0, 1, 2 -> the take is right -> done -> objects are there -> record -> acknowledged
 *	        (memory; some objects are under way already)          |  (the store's time; nothing fails but for good)
 *
 * 1. Until the take is known to be right (thaw_mirror_check) a failure loses nothing: its blocks are dirty again.
 * 2. From then on all that it has is in memory or in the store, and stays there until the record is put, however long that
 *    takes. The bytes for a record's number are never others once they were sent: a late try of them cannot be another record.
 * 3. The record is put when everything it refers to is there.
 * 4. If the outcome of a put is not known when the replication stops, the store is not ours: it is looked at and sealed anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/failure.h"
#include "store/replication.h"

struct making { /* of one record */
	struct thaw_mirror_news news;
	struct store_record record;
	struct store_level change;
	struct levels levels;
	struct append append;
	uint64_t blocks;
	bool right; /* the take was */
	bool hot;   /* a hot object was made of it */
};

static void making_free(struct replication *r, struct making *making)
{
	level_free(&making->change);
	levels_free(r, &making->levels);
	append_free(&making->append);
}

/* What has become free, as a level. */
static int level_of_freed(const struct thaw_take_info *info, struct store_level *level)
{
	*level = (struct store_level){0};
	level->runs = malloc((info->freed_count + 1) * sizeof(*level->runs));
	if (!level->runs)
		return -ENOMEM;
	for (size_t i = 0; i < info->freed_count; i++)
		if (info->freed[i].count <= UINT32_MAX)
			level->runs[level->run_count++] =
				(struct store_run){.first = info->freed[i].first,
						   .count = (uint32_t)info->freed[i].count,
						   .frame = STORE_NOWHERE};
	return 0;
}

/* making->change: what this take says of blocks. */
static int make_change(struct replication *r, const struct thaw_take_info *info,
		       const struct store_level *gone, struct making *making)
{
	struct store_level written, freed, away = {0}, free_now = {0};
	int code = upload_level(r, &written);

	making->blocks = r->upload->block_total;
	if (!code)
		code = level_of_freed(info, &freed);
	if (code) {
		level_free(&written);
		return code;
	}
	code = level_merge(&r->asked, &freed, false, &away);
	if (!code)
		code = level_merge(gone, &away, false, &free_now);
	if (!code)
		code = level_merge(&free_now, &written, false, &making->change);
	level_free(&free_now);
	level_free(&away);
	level_free(&freed);
	level_free(&written);
	return code;
}

/* The record's image, and what it refers to. */
static int make_record(struct replication *r, const struct thaw_take_info *info,
		       struct making *making)
{
	struct store_record *record = &making->record;
	const struct store_record *before = &r->claim.record;

	*record = *before;
	memcpy(record->before, before->checksum, sizeof(record->before));
	record->number++;
	record->kind = STORE_GENERATION;
	record->flags = 0;
	record->generation = info->news.generation;
	record->sequence = info->news.commit;
	record->generation_time_ns = clock_wall_ns();
	record->file_bytes = info->file_bytes;
	record->page_bytes = info->page_bytes;
	memcpy(record->uuid, info->uuid, sizeof(record->uuid));
	memcpy(record->engine, info->engine, sizeof(record->engine));
	epoch_sign(record, r->program);
	if (getrandom(record->nonce, sizeof(record->nonce), 0) != sizeof(record->nonce))
		return -EIO;
	return 0;
}

/* Frames of what is not in the store yet. */
static int make_frames(struct replication *r, struct thaw_take *take, bool filled,
		       struct store_level *gone, struct thaw_error *error)
{
	const struct thaw_take_info *info = thaw_mirror_info(take);
	struct thaw_mirror_run *runs;
	size_t count;
	int code;

	if (r->compared)
		return upload_runs(r, take, info->dirty, info->dirty_count, error);
	code = catch_up(r, take, filled, &runs, &count, gone);
	if (!code)
		code = upload_runs(r, take, runs, count, error);
	free(runs);
	return code;
}

/* All of a take that can fail; then the take is done. */
static int make(struct replication *r, struct thaw_take *take, bool filled, bool closing,
		struct making *making, struct thaw_error *error)
{
	const struct thaw_take_info *info = thaw_mirror_info(take);
	struct store_level gone = {0};
	int code = make_record(r, info, making);

	making->news = info->news;
	if (!code)
		code = upload_begin(r);
	if (!code)
		code = make_frames(r, take, filled, &gone, error);
	if (!code && hot_is_due(r, closing))
		making->hot = !(code = hot_build(r, take));
	if (!code)
		code = make_change(r, info, &gone, making);
	if (!code)
		code = levels_make(r, &making->change, &making->levels);
	if (!code)
		code = thaw_mirror_check(take);
	level_free(&gone);
	making->right = !code;
	if (code) {
		hot_drop(r);
		if (code == -E2BIG)
			failure(error, code, "%s is too large, or too scattered, for a store",
				r->image);
		else if (!error->code)
			failure(error, code, "%s cannot be read for its store: %s", r->image,
				thaw_strerror(code));
	}
	return code;
}

/* ---- Putting the record */

/* Somebody has the number: is it this very record, an earlier try of it? 0: it is. */
static int whose(struct replication *r, const struct store_record *record, struct thaw_error *error)
{
	struct store_record there;
	struct thaw_error why;
	char writer[256];

	for (unsigned tries = 0;; tries++) {
		void *tail;
		int code = record_get(r->s3, record->number, clock_monotonic_ns() + 5000000000u,
				      &there, &tail, &why);

		free(tail);
		if (!code && !memcmp(there.nonce, record->nonce, sizeof(there.nonce)))
			return 0;
		if (!code || code == -ENOENT || code == THAW_EDAMAGED || code == THAW_EFOREIGN ||
		    code == THAW_EFORMAT)
			return failure(
				error, -EBUSY,
				"%s is continued by %s: this process does not replicate any more",
				r->place,
				code ? "another program"
				     : record_writer(&there, writer, sizeof(writer)));
		if (!replication_pause(r, tries, &why))
			return -ECANCELED;
	}
}

int generation_check(struct replication *r, struct thaw_error *error)
{
	struct store_record next = {.number = r->claim.record.number + 1};
	char name[STORE_NAME_BYTES];
	struct s3_request request = {
		.verb = S3_HEAD, .key = name, .deadline_ns = clock_monotonic_ns() + 5000000000u};
	int code;

	store_record_name(next.number, name);
	code = s3_do(r->s3, &request, NULL);
	s3_release(&request);
	return code ? 0 : whose(r, &next, error);
}

static int put_record(struct replication *r, struct making *making, struct thaw_error *error)
{
	struct s3_request *request = &making->append.request;

	for (unsigned tries = 0;; tries++) {
		struct thaw_error why;

		request->code = 0;
		group_start(&r->group, r->s3, request);
		group_wait_for(&r->group, request);
		if (!request->code)
			return 0;
		why = request->error;
		s3_release(request);
		if (request->code == -EEXIST)
			return whose(r, &making->record, error);
		if (request->code == -ECANCELED || !replication_pause(r, tries, &why))
			return failure(error, -ECANCELED, "the replication stops");
	}
}

/* Everything that the record refers to is on its way, and then there; then the record. */
static int store(struct replication *r, bool closing, struct making *making,
		 struct thaw_error *error)
{
	struct levels *levels = &making->levels;
	struct store_record *record = &making->record;
	int code;

	if (levels->put)
		body_start(r, &levels->body, &levels->object);
	hot_start(r);
	code = upload_wait(r, error);
	if (!code && levels->put)
		code = body_wait(r, &levels->body, error);
	if (!code)
		code = hot_settle(r, closing, error);
	if (code)
		return code;
	record->flags = closing && r->ended ? STORE_ENDED : 0;
	record->level1 = levels->reference[1];
	record->level2 = levels->reference[2];
	if (r->hot.there.object.record)
		record->hot = r->hot.there;
	append_make(&making->append, record, r->upload->now->bytes, r->upload->now->count,
		    levels->bytes, levels->count[0]);
	levels->bytes = NULL;
	code = put_record(r, making, error);
	if (code)
		r->claim.sealed = r->looked = false;
	return code;
}

static void acknowledged(struct replication *r, struct making *making, uint64_t since_ns)
{
	bool first;

	r->claim.record = making->record;
	r->stored_blocks += making->blocks;
	levels_adopt(r, &making->levels);
	if (!making->hot) /* which has what this record changes */
		hot_changed(r, &making->change);
	level_free(&r->asked);
	r->changes = making->news.changes;
	r->compared = true;
	r->since_ns = r->taken_ns;
	pthread_mutex_lock(&r->lock);
	r->status.generation = making->record.generation;
	r->status.sequence = making->record.sequence;
	r->status.record = making->record.number;
	first = !r->status.records++;
	r->status.bytes_blocks += making->blocks * STORE_BLOCK;
	r->status.lag_ns = clock_monotonic_ns() - since_ns;
	r->acknowledged_changes = r->changes;
	pthread_mutex_unlock(&r->lock);
	replication_works(r);
	/* What is stored is counted when levels are made, which is seldom; and at a start and an end. */
	if (making->levels.put || first || making->record.flags)
		clean(r, making->levels.put ? making->blocks + 1 : 0);
}

/* Blocks of the file may be in the store only: then a hole says nothing. */
static bool is_filled(const struct replication *r)
{
	struct sidefile side;
	int code = sidefile_read(r->image, &side, NULL);

	return code == -ENOENT || (!code && !side.incomplete);
}

int generation_put(struct replication *r, bool closing, struct thaw_error *error)
{
	uint64_t since_ns = r->since_ns;
	bool filled = !r->compared && is_filled(r); /* asked before the take */
	struct making making = {0};
	const struct thaw_take_info *info;
	struct thaw_take *take;
	int code;

	error->code = 0;
	hot_settle(r, false, error);
	r->taken_ns = clock_monotonic_ns();
	code = thaw_mirror_take(r->mirror, &take, error);
	if (code)
		return code == -EBUSY ? -EAGAIN : code;
	info = thaw_mirror_info(take);
	if (r->claim.record.generation &&
	    memcmp(info->uuid, r->claim.record.uuid, sizeof(info->uuid)))
		code = failure(error, -EXDEV, "%s holds another image than %s", r->place, r->image);
	if (!code)
		code = make(r, take, filled, closing, &making, error);
	thaw_mirror_done(take, making.right);
	if (!code)
		code = store(r, closing, &making, error);
	if (!code)
		acknowledged(r, &making, since_ns);
	upload_end(r);
	making_free(r, &making);
	return code == -ESTALE ? -EAGAIN : code;
}
