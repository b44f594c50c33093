/* SPDX-License-Identifier: MIT */
/*
 * place_claim.c - what a start asks of the store (place.h): one list and the end of the newest record; then, at the same time, the seal
 * behind it, the index, and where in the hot object what is. And what becomes of a file that is here already.
 *
 *	the file			IMAGE.store		the newest record is of
 *	none, or empty			-			anybody: it is filled
 *	nothing was opened in it	this store		anybody: it is filled
 *	to be looked at only		this store, no epoch	anybody: it is filled
 *	an image			this store		an epoch of its own: goes on, with its holes if it is incomplete
 *	an image			this store		another epoch: put aside, or removed if the store has all of it
 *	anything else						refused
 *
 * The seal comes before the first block: an empty file says that it was never asked for, or that its answer was not seen.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failure.h"
#include "base/thread.h"
#include "store/place_file.h"
#include "store/place_private.h"
#include "store/ranges.h"

#define HISTORY_MOST 1000u	   /* records that are looked at */
#define HOT_TAIL_BYTES (78u << 10) /* six pieces of a round trip */

/* ---- At the same time */

struct job {
	struct place *place;
	int (*run)(struct place *place, struct thaw_error *error);
	pthread_t thread;
	bool apart;
	int code;
	struct thaw_error error;
};

static void *job_run(void *arg)
{
	struct job *job = arg;

	job->code = job->run(job->place, &job->error);
	return NULL;
}

static void job_begin(struct job *job)
{
	job->apart = !thread_begin(&job->thread, job_run, job);
	if (!job->apart)
		job_run(job);
}

static int job_end(struct job *job, struct thaw_error *error)
{
	if (job->apart)
		pthread_join(job->thread, NULL);
	if (job->code && error)
		*error = job->error;
	return job->code;
}

/* ---- The seal */

/* Level 0 alone, from the end of the record, is what the seal needs of the index. False: it is not there, or damaged. */
static bool level_of_tail(const struct store_record *record, const void *tail,
			  struct store_level *level)
{
	uint64_t bytes = record->bytes < STORE_TAIL_BYTES ? record->bytes : STORE_TAIL_BYTES;
	uint64_t begin = record->bytes - bytes;

	if (!tail || record->level_offset < begin)
		return false;
	return !level_decode((const char *)tail + (record->level_offset - begin),
			     record->level_bytes,
			     (record->file_bytes + STORE_BLOCK - 1) / STORE_BLOCK,
			     1u << STORE_IN_RECORD | 1u << STORE_IN_DATA, level, NULL);
}

static int seal_as(struct place *place, bool incomplete, struct thaw_error *error)
{
	struct epoch_wish wish = {
		.place = place->url,
		.image = place->path,
		.program = place->program,
		.flags = EPOCH_TAKE_OVER,
		.incomplete = incomplete,
	};

	return epoch_seal(place->s3, &wish, place->deadline_ns, &place->claim, error);
}

/* IMAGE.store stays as it is, but for the epoch. */
static int seal(struct place *place, struct thaw_error *error)
{
	return seal_as(place, false, error);
}

/* The file has nothing yet, whatever IMAGE.store says. */
static int seal_new(struct place *place, struct thaw_error *error)
{
	return seal_as(place, true, error);
}

/* ---- What the record refers to */

/* Where in the hot object what is: from its last bytes. A store without it is whole, so no failure counts. */
static int hot_level(struct place *place, struct thaw_error *error)
{
	const struct store_reference *hot = &place->claim.record.hot;
	uint64_t blocks = (place->claim.record.file_bytes + STORE_BLOCK - 1) / STORE_BLOCK;
	size_t bytes = hot->object.bytes < HOT_TAIL_BYTES ? hot->object.bytes : HOT_TAIL_BYTES;
	char name[STORE_NAME_BYTES], *tail = NULL;
	uint64_t end[2];

	(void)error;
	if (!hot->object.record || bytes < sizeof(end))
		return 0;
	store_object_name(&hot->object, name);
	for (;;) {
		char *more = realloc(tail, bytes);

		if (!more)
			break;
		tail = more;
		if (ranges_get(place->s3, name, hot->object.bytes - bytes, bytes, tail,
			       place->deadline_ns, NULL))
			break;
		memcpy(end, tail + bytes - sizeof(end), sizeof(end));
		if (end[0] != STORE_HOT_MAGIC || end[1] > hot->object.bytes - sizeof(end))
			break;
		if (end[1] > bytes - sizeof(end)) {
			bytes = end[1] + sizeof(end);
			continue;
		}
		if (!level_decode(tail + bytes - sizeof(end) - end[1], end[1], blocks,
				  1u << STORE_IN_HOT, &place->hot, NULL) &&
		    place->hot.object_count == 1) {
			place->hot.objects[0] = hot->object;
			place->hot_record = hot->object.record;
		}
		break;
	}
	free(tail);
	return 0;
}

/* What is needed of a record to begin to fetch: the index, and where in the hot object what is. */
static int read_record(struct place *place, const struct store_record *record, const void *tail,
		       struct thaw_error *error)
{
	struct job hot = {.place = place, .run = hot_level};
	int code;

	if (place->incomplete)
		job_begin(&hot);
	code = record_index(place->s3, record, tail, place->deadline_ns, &place->index, error);
	if (place->incomplete)
		job_end(&hot, NULL);
	return code;
}

/* The claim has the index from then on. The seal repeats level 0. */
static void index_to_claim(struct place *place)
{
	level_free(&place->claim.index.level[0]);
	place->claim.index = place->index;
	memset(&place->index, 0, sizeof(place->index));
}

/*
 * All that the record refers to is read, and the first of it asked for, while the store is sealed. A seal that lost says more than an
 * index that is gone.
 */
static int read_and_seal(struct place *place, const void *tail,
			 int (*seals)(struct place *place, struct thaw_error *error),
			 struct thaw_error *error)
{
	const struct store_record record = place->claim.record; /* the seal changes the claim's */
	struct job sealing = {.place = place, .run = seals};
	bool apart = level_of_tail(&record, tail, &place->claim.index.level[0]);
	int code, sealed = 0;

	if (apart)
		job_begin(&sealing);
	code = read_record(place, &record, tail, error);
	if (!code && place->incomplete)
		code = place_fetch(place, &record, true, error);
	if (apart)
		sealed = job_end(&sealing, error);
	if (sealed || code)
		return sealed ? sealed : code;
	index_to_claim(place);
	return apart ? 0 : seals(place, error);
}

/* ---- The file that is here */

enum fate { FATE_NEW, FATE_OURS, FATE_ASIDE };

static int refuse(struct place *place, struct thaw_error *error)
{
	char writer[256];

	record_writer(&place->claim.record, writer, sizeof(writer));
	return failure(
		error, -EBUSY,
		"%s: its store is continued by %s: remove the file to take over from there, or name another",
		place->path, writer);
}

/*
 * Of an incomplete file: 1, nothing was ever opened in it, since its header has not come, or since holes are not told from data here, where
 * all has to come first; 0; or a code. In doubt it was: it may have the only copy of something.
 */
static int never_opened(struct place *place, uint64_t bytes, struct thaw_error *error)
{
	int begun = place_file_begun(place->fd), holes = 1;

	if (begun > 0)
		holes = place_file_has_hole(place->fd);
	if (begun > 0 && !holes)
		holes = place_file_holes(place->path, bytes);
	if (begun < 0 || holes < 0) {
		int code = begun < 0 ? begun : holes;

		return failure(error, code, "%s: cannot tell what of it is there: %s", place->path,
			       thaw_strerror(code));
	}
	return !begun || !holes;
}

static int decide(struct place *place, struct sidefile *side, enum fate *fate,
		  struct thaw_error *error)
{
	const struct store_record *record = &place->claim.record;
	struct stat stat;
	int code;

	*fate = FATE_NEW;
	if (fstat(place->fd, &stat))
		return failure(error, -errno, "%s: %s", place->path, thaw_strerror(-errno));
	if (!stat.st_size)
		return 0;
	code = sidefile_read(place->path, side, error);
	if (code == -ENOENT)
		return failure(
			error, -EXDEV,
			"%s: there is a file already, which is not a copy of %s: name another (--cache PATH)",
			place->path, place->url);
	if (code)
		return code;
	if (strcmp(side->place, place->url))
		return failure(error, -EXDEV,
			       "%s: a copy of %s, not of %s: name another file (--cache PATH)",
			       place->path, side->place, place->url);
	if (side->incomplete && !side->epoch_count)
		return 0;
	if (side->incomplete) {
		code = never_opened(place, (uint64_t)stat.st_size, error);
		if (code)
			return code < 0 ? code : 0;
	}
	/* An epoch is of one image; the side file's uuid may be that of one which failed at its start. */
	*fate = sidefile_has(side, record->epoch) ? FATE_OURS : FATE_ASIDE;
	return place_file_unused(place->path, error);
}

/* Of the newest record backwards: the seal that followed the last record of this file's. */
struct succession {
	const struct sidefile *side;
	struct store_record next;
	bool found;
};

static int look_back(void *arg, const struct store_record *record)
{
	struct succession *succession = arg;

	if (sidefile_has(succession->side, record->epoch)) {
		succession->found = succession->next.kind == STORE_SEAL &&
				    succession->next.epoch_number == record->epoch_number + 1;
		return 1;
	}
	succession->next = *record;
	return 0;
}

/*
 * Has whoever continued the store taken over all that the file has? Only if it was settled and not written since, its epoch is in the
 * store's history, and the seal behind that has its newest generation.
 */
static bool is_taken_over(struct place *place, const struct sidefile *side)
{
	struct succession succession = {.side = side};
	uint64_t generation;

	if (!side->settled || side->incomplete ||
	    memcmp(side->uuid, place->claim.record.uuid, sizeof(side->uuid)))
		return false;
	/* What only its log has is listed, too. */
	if (place_file_newest(place->path, side->settled + 1, &generation, NULL) ||
	    generation > side->settled)
		return false;
	record_each(place->s3, HISTORY_MOST, place->deadline_ns, look_back, &succession, NULL);
	return succession.found && succession.next.generation >= side->settled;
}

/* The store went on elsewhere: the file goes, or is kept under another name if it may have what the store has not. */
static int put_aside(struct place *place, const struct sidefile *side, struct thaw_error *error)
{
	char *aside;
	int code;

	if (place->flags & PLACE_KEEP)
		return refuse(place, error);
	if (is_taken_over(place, side)) {
		if (unlink(place->path))
			return failure(error, -errno, "%s: cannot remove it: %s", place->path,
				       thaw_strerror(-errno));
		code = sidefile_remove(place->path, error);
	} else {
		code = place_file_aside(place->path, &aside, error);
		if (!code) {
			place_tell(
				place,
				"%s went on elsewhere; what was here is kept as %s, since it may have generations that the store has not",
				place->url, aside);
			free(aside);
		}
	}
	if (code)
		return code;
	close(place->fd);
	place->fd = place_file_open(place->path, &place->made, error);
	return place->fd < 0 ? place->fd : 0;
}

/* ---- The three ways */

static int check(struct place *place, struct thaw_error *error)
{
	return place->check ? place->check(place->arg, place->path, error) : 0;
}

/* IMAGE.store says that nothing was ever opened in the file to go on from it: no epoch is its. */
static int side_begin(struct place *place, struct thaw_error *error)
{
	struct sidefile side = {.incomplete = true};

	if ((size_t)snprintf(side.place, sizeof(side.place), "%s", place->url) >=
	    sizeof(side.place))
		return failure(error, -ENAMETOOLONG, "%s: too long", place->url);
	memcpy(side.uuid, place->claim.record.uuid, sizeof(side.uuid));
	return sidefile_write(place->path, &side, error);
}

static int resize(struct place *place, uint64_t bytes, struct thaw_error *error)
{
	if (ftruncate(place->fd, (off_t)bytes))
		return failure(error, -errno, "%s: cannot write to it: %s", place->path,
			       thaw_strerror(-errno));
	return 0;
}

/* What was asked for goes into the file from here on, and all else when it is read. */
static int begin_to_fill(struct place *place, struct thaw_error *error)
{
	int code = resize(place, place->claim.record.file_bytes, error);

	if (code)
		return code;
	fetch_release(place->fetch);
	return place_attach(place, error);
}

static int new_and_check(struct place *place, const void *tail, struct thaw_error *error)
{
	int code = side_begin(place, error);

	if (!code)
		code = read_record(place, &place->claim.record, tail, error);
	if (!code)
		code = place_fetch(place, &place->claim.record, true, error);
	if (!code)
		code = begin_to_fill(place, error);
	if (!code)
		code = check(place, error);
	if (!code) {
		place->checked = true;
		index_to_claim(place);
		place->claim.same = true;
		code = seal_new(place, error);
	}
	return code;
}

/* What was asked first is known before the store is sealed. If that is not, the file is as empty as before. */
static int place_new_checked(struct place *place, const void *tail, struct thaw_error *error)
{
	int code = new_and_check(place, tail, error);

	if (!code)
		return 0;
	place_forget(place);
	if (!ftruncate(place->fd, 0))
		sidefile_remove(place->path, NULL);
	return code;
}

static int place_new(struct place *place, const void *tail, struct thaw_error *error)
{
	int code = resize(place, 0, error);

	if (code)
		return code;
	place->incomplete = true;
	/* Once: of a store that is continued meanwhile, the seal would come too late each time. */
	if (place->check && !place->checked)
		return place_new_checked(place, tail, error);
	code = read_and_seal(place, tail, seal_new, error);
	if (code)
		return code;
	place->claim.same = true;
	return begin_to_fill(place, error);
}

/* What it wrote itself is not older than what the store has of it? */
static int check_age(struct place *place, struct thaw_error *error)
{
	uint64_t wanted = place->claim.record.generation, generation;
	int code = place_file_newest(place->path, wanted, &generation, error);

	if (code || generation >= wanted)
		return code;
	return failure(
		error, -ESTALE,
		"%s: its newest generation is %llu, but %s has %llu of it: was it restored from a backup? Remove it to take what the store has",
		place->path, (unsigned long long)generation, place->url,
		(unsigned long long)wanted);
}

static int place_ours(struct place *place, const void *tail, struct thaw_error *error)
{
	int code;

	if (!place->incomplete) {
		code = check_age(place, error);
		if (!code)
			code = check(place, error);
		return code ? code : read_and_seal(place, tail, seal, error);
	}
	/* Nothing of the file can be read before what is missing can be fetched. */
	code = read_record(place, &place->claim.record, tail, error);
	if (!code)
		code = place_fetch(place, &place->claim.record, false, error);
	if (!code)
		code = place_attach(place, error);
	if (!code)
		index_to_claim(place);
	if (!code)
		code = check_age(place, error);
	if (!code)
		code = check(place, error);
	return code ? code : seal(place, error);
}

int place_claim_once(struct place *place, struct thaw_error *error)
{
	struct sidefile side = {0};
	enum fate fate;
	void *tail = NULL;
	int code;

	code = record_newest(place->s3, place->deadline_ns, &place->claim.record, &tail, error);
	if (!code && !place->claim.record.number)
		code = failure(error, -ENOENT, "%s is empty", place->url);
	if (!code && place->fd < 0) {
		place->fd = place_file_open(place->path, &place->made, error);
		code = place->fd < 0 ? place->fd : 0;
	}
	if (!code)
		code = decide(place, &side, &fate, error);
	if (!code && fate == FATE_ASIDE)
		code = put_aside(place, &side, error);
	if (!code && fate == FATE_OURS) {
		place->incomplete = side.incomplete;
		code = place_ours(place, tail, error);
	} else if (!code) {
		code = place_new(place, tail, error);
	}
	free(tail);
	return code;
}
