// SPDX-License-Identifier: GPL-2.0-only
/*
 * made_store.h - a store that a test fills by itself, block by block, by the format and without what replicates: so that what reads
 * one is tested against what format.h says.
 */
#ifndef TESTS_STORE_MADE_STORE_H
#define TESTS_STORE_MADE_STORE_H

#include "store/append.h"
#include "store/frames.h"
#include "store/index.h"
#include "store/record.h"
#include "store/s3.h"
#include "support.h"

#include <sys/random.h>
#include <xxhash.h>

struct made {
	struct s3 *s3;
	uint8_t *file;		/* what its blocks have, by the newest record */
	uint64_t blocks, bytes; /* bytes 0: whole blocks */
	struct store_record record;
	struct store_level level; /* all of the index: level 0, or 2 */
	struct frame_encoder *encoder;
	unsigned part;
};

SUPPORT void made_die(const char *what, int code, const struct thaw_error *error)
{
	fprintf(stderr, "# made store: %s: %d %s\n", what, code, error ? error->text : "");
	abort();
}

SUPPORT uint64_t made_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

/* A block of its own for each seed; every third does not compress. */
SUPPORT void made_block(uint8_t *block, uint64_t seed)
{
	uint64_t state = seed * 0x9e3779b97f4a7c15u | 1;

	for (unsigned i = 0; i < STORE_BLOCK; i += 8) {
		uint64_t value = seed % 3 ? (i % 64 ? 0 : made_random(&state))
					  : made_random(&state);

		memcpy(block + i, &value, 8);
	}
}

SUPPORT struct made *made_open(struct s3 *s3, uint64_t blocks)
{
	struct made *made = calloc(1, sizeof(*made));

	made->s3 = s3;
	made->blocks = blocks;
	made->file = calloc(blocks, STORE_BLOCK);
	made->encoder = frame_encoder_new();
	if (getrandom(made->record.epoch, 16, 0) != 16 || getrandom(made->record.uuid, 16, 0) != 16)
		support_die("getrandom");
	strcpy(made->record.engine, "made for a test");
	strcpy(made->record.program, "made_store");
	made->record.page_bytes = 4096;
	made->record.epoch_number = 1;
	return made;
}

SUPPORT void made_close(struct made *made)
{
	level_free(&made->level);
	frame_encoder_free(made->encoder);
	free(made->file);
	free(made);
}

/* A real store is left as it was. */
SUPPORT void made_remove(struct s3 *s3)
{
	struct s3_request list = {.verb = S3_LIST, .key = ""};
	const char **keys;

	if (s3_do(s3, &list, NULL))
		return;
	keys = calloc(list.object_count + 1, sizeof(*keys));
	for (size_t i = 0; i < list.object_count; i++)
		keys[i] = list.objects[i].key;
	s3_delete(s3, keys, list.object_count, 0, NULL);
	free(keys);
	s3_release(&list);
}

/* Frames of these blocks, ascending, at `out`, which is malloc'ed; and the level that they are. `object` is filled but for its length. */
SUPPORT size_t made_frames(struct made *made, const uint64_t *blocks, size_t count,
			   const struct store_object *object, uint8_t **out,
			   struct store_level *level)
{
	size_t bytes = 0;

	*out = malloc(count * STORE_BLOCK + 1);
	level->objects = malloc(sizeof(*level->objects));
	level->objects[0] = *object;
	level->object_count = 1;
	level->frames = calloc(count + 1, sizeof(*level->frames));
	level->runs = calloc(count + 1, sizeof(*level->runs));
	for (size_t i = 0; i < count;) {
		uint8_t contents[STORE_FRAME_BYTES];
		struct store_frame *frame = &level->frames[level->frame_count];
		unsigned n = 0;

		for (; i < count && n < STORE_FRAME_BLOCKS; n++, i++) {
			struct store_run *run =
				level->run_count ? &level->runs[level->run_count - 1] : NULL;

			memcpy(contents + n * STORE_BLOCK, made->file + blocks[i] * STORE_BLOCK,
			       STORE_BLOCK);
			if (run && run->frame == level->frame_count &&
			    run->first + run->count == blocks[i])
				run->count++;
			else
				level->runs[level->run_count++] =
					(struct store_run){blocks[i], 1, level->frame_count, n};
		}
		frame_encode(made->encoder, contents, n, *out + bytes, frame);
		frame->object = 0;
		frame->offset = (uint32_t)bytes;
		bytes += frame->bytes;
		level->frame_count++;
	}
	level->objects[0].bytes = bytes;
	return bytes;
}

SUPPORT void made_put(struct made *made, const char *key, const void *bytes, size_t count)
{
	struct thaw_error error;
	int code = s3_put(made->s3, key, bytes, count, S3_NEW, 0, &error);

	if (code)
		made_die(key, code, &error);
}

SUPPORT void made_sum(struct store_reference *reference, const void *bytes, size_t count)
{
	XXH128_hash_t hash = XXH3_128bits(bytes, count);

	reference->checksum[0] = hash.low64;
	reference->checksum[1] = hash.high64;
}

SUPPORT void made_level(struct made *made, void *bytes, size_t count)
{
	struct store_object object = {.record = made->record.number,
				      .part = made->part++,
				      .kind = STORE_IN_INDEX,
				      .bytes = count};
	char name[STORE_NAME_BYTES];

	memcpy(object.epoch, made->record.epoch, 16);
	store_object_name(&object, name);
	made_put(made, name, bytes, count);
	made->record.level2 = (struct store_reference){.object = object};
	made_sum(&made->record.level2, bytes, count);
	free(bytes);
}

static int made_by_first(const void *a, const void *b)
{
	const struct store_run *one = a, *other = b;

	return one->first < other->first ? -1 : one->first > other->first;
}

/* The hot object: these blocks, in this order, of the newest record. The next record has it. */
SUPPORT void made_hot(struct made *made, const uint64_t *blocks, size_t count)
{
	struct store_object object = {
		.record = made->record.number, .part = made->part++, .kind = STORE_IN_HOT};
	struct store_level level = {0};
	char name[STORE_NAME_BYTES];
	uint64_t end[2] = {STORE_HOT_MAGIC};
	size_t bytes, level_bytes;
	uint8_t *frames;
	void *encoded;

	memcpy(object.epoch, made->record.epoch, 16);
	bytes = made_frames(made, blocks, count, &object, &frames, &level);
	qsort(level.runs, level.run_count, sizeof(*level.runs), made_by_first);
	if (level_encode(&level, &encoded, &level_bytes))
		made_die("hot level", -1, NULL);
	end[1] = level_bytes;
	frames = realloc(frames, bytes + level_bytes + sizeof(end));
	memcpy(frames + bytes, encoded, level_bytes);
	memcpy(frames + bytes + level_bytes, end, sizeof(end));
	bytes += level_bytes + sizeof(end);
	store_object_name(&object, name);
	made_put(made, name, frames, bytes);
	object.bytes = bytes;
	made->record.hot = (struct store_reference){.object = object};
	made_sum(&made->record.hot, frames, bytes);
	free(encoded);
	free(frames);
	level_free(&level);
}

/* What is in it (all its bytes are at `bytes`): a level of which all frames are in object 0, that one. */
SUPPORT int made_hot_level(const struct store_reference *hot, const void *bytes, size_t count,
			   struct store_level *level, struct thaw_error *error)
{
	struct disk_hot_end end;
	uint64_t checksum[2];

	store_checksum(bytes, count, checksum);
	if (count != hot->object.bytes || count < sizeof(end) ||
	    memcmp(checksum, hot->checksum, sizeof(checksum)))
		return THAW_EDAMAGED;
	count -= sizeof(end);
	memcpy(&end, (const char *)bytes + count, sizeof(end));
	if (end.magic != STORE_HOT_MAGIC || end.level_bytes > count)
		return THAW_EDAMAGED;
	count -= end.level_bytes;
	if (level_decode((const char *)bytes + count, end.level_bytes, STORE_FILE_BLOCKS_MOST,
			 1u << STORE_IN_HOT, level, error))
		return error->code;
	return level->object_count == 1 && level->objects[0].bytes <= count ? 0 : THAW_EDAMAGED;
}

/*
 * A record: these blocks have changed, ascending; they lie in the record itself, or in a data object. `nowhere`: blocks that became
 * free.
 */
SUPPORT void made_record(struct made *made, const uint64_t *blocks, size_t count, bool inside,
			 const uint64_t *nowhere, size_t nowhere_count)
{
	uint64_t number = made->record.number + 1;
	struct store_object object = {.record = number,
				      .part = inside ? 0 : made->part++,
				      .kind = inside ? STORE_IN_RECORD : STORE_IN_DATA};
	struct store_level level = {0}, merged = {0};
	char name[STORE_NAME_BYTES];
	struct thaw_error error;
	struct append append;
	size_t bytes, encoded_bytes;
	uint8_t *frames;
	void *encoded;
	int code;

	if (!inside)
		memcpy(object.epoch, made->record.epoch, 16);
	bytes = made_frames(made, blocks, count, &object, &frames, &level);
	if (!count)
		level.object_count = 0;
	level.runs =
		realloc(level.runs, (level.run_count + nowhere_count + 1) * sizeof(*level.runs));
	for (size_t i = 0; i < nowhere_count; i++)
		level.runs[level.run_count++] = (struct store_run){nowhere[i], 1, STORE_NOWHERE, 0};
	qsort(level.runs, level.run_count, sizeof(*level.runs), made_by_first);
	if (level_merge(&made->level, &level, true, &merged))
		made_die("merge", -1, NULL);
	level_free(&level);
	level_free(&made->level);
	made->level = merged;
	if (!inside && count) {
		store_object_name(&object, name);
		made_put(made, name, frames, bytes);
	}
	memcpy(made->record.before, made->record.checksum, 16);
	made->record.number = number;
	made->record.kind = STORE_GENERATION;
	made->record.generation = made->record.generation ? made->record.generation : number;
	made->record.sequence++;
	made->record.file_bytes = made->bytes ? made->bytes : made->blocks * STORE_BLOCK;
	if (level_encode(&made->level, &encoded, &encoded_bytes))
		made_die("level", -1, NULL);
	/* What is too long for the record is an object. */
	if (encoded_bytes > STORE_LEVEL0_BYTES) {
		made_level(made, encoded, encoded_bytes);
		encoded = NULL;
		encoded_bytes = 0;
	} else {
		memset(&made->record.level2, 0, sizeof(made->record.level2));
	}
	append_make(&append, &made->record, frames, inside ? bytes : 0, encoded, encoded_bytes);
	code = s3_do(made->s3, &append.request, &error);
	if (code)
		made_die("record", code, &error);
	append_free(&append);
	free(frames);
}

/* The data of a file, which may have holes, as one record; then its blocks are `file`. */
SUPPORT void made_of_file(struct made *made, const char *path, bool inside)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t *blocks = calloc(made->blocks + 1, sizeof(*blocks));
	size_t count = 0;

	for (off_t data = 0, hole; fd >= 0; data = hole) {
		data = lseek(fd, data, SEEK_DATA);
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			break;
		for (off_t at = data; at < hole; at += STORE_BLOCK) {
			blocks[count] = (uint64_t)at / STORE_BLOCK;
			/* The last one may be shorter. */
			if (pread(fd, made->file + at, STORE_BLOCK, at) <= 0)
				support_die(path);
			count++;
		}
	}
	close(fd);
	made_record(made, blocks, count, inside, NULL, 0);
	free(blocks);
}

#endif
