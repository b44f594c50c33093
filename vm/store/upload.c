// SPDX-License-Identifier: MIT
/*
 * upload.c - blocks of a take become frames, and these objects of up to 16 MiB, of which at most BODIES are in memory: what has
 * no room waits until the store has one of them. What does not fill an object goes into the record itself, if it is not too long.
 *
 * A body is kept until the store has it, whatever that answers meanwhile. Its name is never used for other bytes: so if there is one
 * of that name already, it is an earlier try of the same. While a take becomes many objects, somebody else may have continued the
 * store: the next record's number is looked for now and then, so that nothing more is sent in vain.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/failure.h"
#include "store/replication.h"

#define LOOK_NS 10000000000u

/* ---- Bodies */

void body_start(struct replication *r, struct body *body, const struct store_object *object)
{
	store_object_name(object, body->name);
	body->piece = (struct iovec){body->bytes, body->count};
	body->request = (struct s3_request){.verb = S3_PUT,
					    .flags = S3_NEW,
					    .key = body->name,
					    .pieces = &body->piece,
					    .piece_count = 1};
	body->started = true;
	group_start(&r->group, r->s3, &body->request);
}

int body_poll(struct replication *r, struct body *body)
{
	int code;

	if (!body->started)
		return 0;
	if (group_has(&r->group, &body->request))
		return -EAGAIN;
	code = body->request.code;
	s3_release(&body->request);
	if (code && code != -EEXIST)
		return code == -ECANCELED ? code : -EIO;
	if (!code) {
		pthread_mutex_lock(&r->lock);
		r->status.data_objects++;
		pthread_mutex_unlock(&r->lock);
	}
	body->started = false;
	return 0;
}

/* One that has failed is started again. */
static int body_again(struct replication *r, struct body *body, unsigned tries)
{
	struct thaw_error error = body->request.error;

	if (!replication_pause(r, tries, &error))
		return -ECANCELED;
	body->request.code = 0;
	group_start(&r->group, r->s3, &body->request);
	return 0;
}

int body_wait(struct replication *r, struct body *body, struct thaw_error *error)
{
	for (unsigned tries = 0;; tries++) {
		int code;

		group_wait_for(&r->group, &body->request);
		code = body_poll(r, body);
		if (code == -EIO)
			code = body_again(r, body, tries);
		else if (!code)
			return 0;
		if (code)
			return failure(error, -ECANCELED, "the replication stops");
	}
}

void body_free(struct replication *r, struct body *body)
{
	group_stop_one(&r->group, r->s3, &body->request);
	group_wait_for(&r->group, &body->request);
	s3_release(&body->request);
	free(body->bytes);
	*body = (struct body){0};
}

/* ---- Is there a next record already? Then all of this is in vain. */

static int look(struct replication *r, struct thaw_error *error)
{
	uint64_t now_ns = clock_monotonic_ns();

	if (now_ns - r->upload->looked_ns < LOOK_NS)
		return 0;
	r->upload->looked_ns = now_ns;
	return generation_check(r, error);
}

/* A body that is free; waits for one. */
static int body_next(struct replication *r, struct thaw_error *error)
{
	struct upload *upload = r->upload;

	for (unsigned tries = 0;;) {
		struct body *failed = NULL;
		int code = look(r, error);

		if (code)
			return code;
		for (unsigned i = 0; i < BODIES; i++) {
			struct body *body = &upload->bodies[i];

			code = body_poll(r, body);
			if (code == -ECANCELED)
				return failure(error, code, "the replication stops");
			if (code == -EIO)
				failed = body;
			if (code)
				continue;
			body->count = 0;
			upload->now = body;
			return 0;
		}
		if (failed) {
			code = body_again(r, failed, tries++);
			if (code)
				return failure(error, code, "the replication stops");
		} else {
			group_wait(&r->group, BODIES - 1);
		}
	}
}

static int body_make_room(struct body *body, size_t more)
{
	size_t room = body->room + body->room / 2;
	uint8_t *bytes;

	if (body->count + more <= body->room)
		return 0;
	if (room < body->count + more)
		room = body->count + more;
	if (room > BODY_BYTES + STORE_FRAME_BYTES)
		room = BODY_BYTES + STORE_FRAME_BYTES;
	bytes = realloc(body->bytes, room);
	if (!bytes)
		return -ENOMEM;
	body->bytes = bytes;
	body->room = room;
	return 0;
}

/* ---- Frames */

int upload_begin(struct replication *r)
{
	r->upload = calloc(1, sizeof(*r->upload));
	if (!r->upload)
		return -ENOMEM;
	r->upload->now = &r->upload->bodies[0];
	r->upload->looked_ns = clock_monotonic_ns();
	return 0;
}

void upload_end(struct replication *r)
{
	struct upload *upload = r->upload;

	if (!upload)
		return;
	for (unsigned i = 0; i < BODIES; i++)
		group_stop_one(&r->group, r->s3, &upload->bodies[i].request);
	for (unsigned i = 0; i < BODIES; i++)
		body_free(r, &upload->bodies[i]);
	free(upload->objects);
	free(upload->frames);
	free(upload->runs);
	free(upload);
	r->upload = NULL;
}

/* What `now` has becomes an object of data, and another body comes in its place. */
static int object_put(struct replication *r, struct thaw_error *error)
{
	struct upload *upload = r->upload;
	struct store_object *objects = array_grow(upload->objects, upload->object_count,
						  &upload->object_room, sizeof(*objects));
	struct store_object *object;

	if (!objects)
		return -ENOMEM;
	upload->objects = objects;
	object = &objects[upload->object_count++];
	*object = (struct store_object){.record = r->claim.record.number + 1,
					.bytes = upload->now->count,
					.part = r->part++,
					.kind = STORE_IN_DATA};
	memcpy(object->epoch, r->claim.record.epoch, sizeof(object->epoch));
	body_start(r, upload->now, object);
	return body_next(r, error);
}

/* A frame that was made goes to where there is room for it. */
static int frame_put(struct replication *r, const struct encoder_job *job, struct thaw_error *error)
{
	struct upload *upload = r->upload;
	struct store_frame *frames;
	int code = 0;

	if (upload->now->count + job->frame.bytes > BODY_BYTES)
		code = object_put(r, error);
	if (!code)
		code = body_make_room(upload->now, job->frame.bytes);
	frames = array_grow(upload->frames, upload->frame_count, &upload->frame_room,
			    sizeof(*frames));
	if (frames)
		upload->frames = frames;
	if (code || !frames)
		return code ? code : -ENOMEM;
	frames += upload->frame_count++;
	*frames = job->frame;
	frames->object = (uint32_t)upload->object_count;
	frames->offset = (uint32_t)upload->now->count;
	memcpy(upload->now->bytes + upload->now->count, job->stored, frames->bytes);
	upload->now->count += frames->bytes;
	upload->block_total += job->count;
	return 0;
}

static int frames_put(struct replication *r, struct thaw_error *error)
{
	struct encoders *encoders = r->encoders;
	int code = 0;

	encoders_run(encoders);
	for (unsigned i = 0; i < encoders->count && !code; i++)
		code = frame_put(r, &encoders->jobs[i], error);
	encoders->count = 0;
	return code;
}

/* The blocks that were collected are a frame, which is made with others. */
static int frame_end(struct replication *r, struct thaw_error *error)
{
	struct encoders *encoders = r->encoders;

	if (!r->upload->block_count)
		return 0;
	encoders->jobs[encoders->count++].count = r->upload->block_count;
	r->upload->block_count = 0;
	return encoders->count == ENCODERS_JOBS ? frames_put(r, error) : 0;
}

/* Some blocks of a run, which are in the frame that is being filled. */
static int run_add(struct replication *r, uint64_t first, uint32_t count)
{
	struct upload *upload = r->upload;
	struct store_run *runs =
		array_grow(upload->runs, upload->run_count, &upload->run_room, sizeof(*runs));

	if (!runs)
		return -ENOMEM;
	upload->runs = runs;
	runs[upload->run_count++] =
		(struct store_run){.first = first,
				   .count = count,
				   .frame = (uint32_t)upload->frame_count + r->encoders->count,
				   .at = upload->block_count};
	upload->block_count += count;
	return 0;
}

/*
 * So many blocks from there on belong into the same frame. A long run is cut where frames of a file without gaps would be, so that what
 * is written next to each other later replaces whole frames.
 */
#define LONG_RUN 32u

static bool cuts(const struct upload *upload, uint64_t blocks, uint64_t more)
{
	return more >= LONG_RUN || (more && upload->block_count + blocks >= STORE_FRAME_BLOCKS / 2);
}

static uint32_t piece_of(const struct upload *upload, uint64_t first, uint64_t count)
{
	uint64_t room = STORE_FRAME_BLOCKS - upload->block_count;
	uint64_t aligned = STORE_FRAME_BLOCKS - first % STORE_FRAME_BLOCKS;

	if (count > aligned && cuts(upload, aligned, count - aligned))
		count = aligned;
	return (uint32_t)(count < room ? count : room);
}

int upload_runs(struct replication *r, struct thaw_take *take, const struct thaw_mirror_run *runs,
		size_t count, struct thaw_error *error)
{
	struct upload *upload = r->upload;
	int code = 0;

	r->encoders->count = 0;
	for (size_t i = 0; i < count && !code; i++) {
		uint64_t first = runs[i].first, end = first + runs[i].count;

		while (first < end && !code) {
			uint8_t *blocks = r->encoders->jobs[r->encoders->count].blocks;
			uint32_t piece = piece_of(upload, first, end - first);
			unsigned at = upload->block_count;

			code = run_add(r, first, piece);
			if (!code)
				code = thaw_mirror_read(take, first * STORE_BLOCK,
							blocks + at * STORE_BLOCK,
							piece * (size_t)STORE_BLOCK);
			first += piece;
			if (!code &&
			    (upload->block_count == STORE_FRAME_BLOCKS ||
			     (!(first % STORE_FRAME_BLOCKS) && cuts(upload, 0, end - first))))
				code = frame_end(r, error);
		}
	}
	if (!code)
		code = frame_end(r, error);
	return code ? code : frames_put(r, error);
}

/* ---- The level */

/* Objects of data come behind the record in a level, so the frames of the record, which were made last, come first. */
static void sort_frames(const struct upload *upload, uint32_t rest, struct store_level *level)
{
	uint32_t before = (uint32_t)upload->frame_count - rest;
	uint32_t shift = rest != 0;

	for (uint32_t i = 0; i < upload->frame_count; i++) {
		struct store_frame *to = &level->frames[i < before ? i + rest : i - before];

		*to = upload->frames[i];
		to->object = i < before ? to->object + shift : 0;
	}
	for (uint32_t i = 0; i < upload->run_count; i++) {
		uint32_t frame = upload->runs[i].frame;

		level->runs[i] = upload->runs[i];
		level->runs[i].frame = frame < before ? frame + rest : frame - before;
	}
}

int upload_level(struct replication *r, struct store_level *level)
{
	struct upload *upload = r->upload;
	uint32_t rest = 0;
	int code = 0;

	*level = (struct store_level){0};
	if (upload->now->count > STORE_RECORD_FRAMES)
		code = object_put(r, NULL);
	if (code)
		return code;
	while (rest < upload->frame_count &&
	       upload->frames[upload->frame_count - 1 - rest].object == upload->object_count)
		rest++;
	level->objects = calloc(upload->object_count + 1, sizeof(*level->objects));
	level->frames = malloc((upload->frame_count + 1) * sizeof(*level->frames));
	level->runs = malloc((upload->run_count + 1) * sizeof(*level->runs));
	if (!level->objects || !level->frames || !level->runs) {
		level_free(level);
		return -ENOMEM;
	}
	level->object_count = (uint32_t)upload->object_count + (rest != 0);
	level->frame_count = (uint32_t)upload->frame_count;
	level->run_count = (uint32_t)upload->run_count;
	level->objects[0] = (struct store_object){.record = r->claim.record.number + 1,
						  .bytes = upload->now->count,
						  .kind = STORE_IN_RECORD};
	if (upload->object_count)
		memcpy(level->objects + (rest != 0), upload->objects,
		       upload->object_count * sizeof(*level->objects));
	sort_frames(upload, rest, level);
	return 0;
}

int upload_wait(struct replication *r, struct thaw_error *error)
{
	int code = 0;

	for (unsigned i = 0; i < BODIES && !code; i++)
		if (r->upload->bodies[i].started)
			code = body_wait(r, &r->upload->bodies[i], error);
	return code;
}
