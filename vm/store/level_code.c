// SPDX-License-Identifier: MIT
/*
 * level_code.c - a level of the index as it is stored, and back (format.h). What is decoded comes from a store that may be
 * hostile: every number is looked at before it is used, and memory is bounded by MOST_BYTES, whatever a level says of itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/failure.h"
#include "store/level.h"

#define MOST_BYTES \
	(256u << 20) /* of columns: some 12 bytes for each run and 20 for each frame at most */
#define NOWHERE_MOST (8u << 20) /* runs of free blocks */
#define LEVEL 3
#define COMPRESSED 16u

/* ---- Encoding */

struct column {
	uint8_t *bytes;
	size_t count, room;
	bool failed;
};

static uint8_t *column_room(struct column *column, size_t more)
{
	if (column->count + more > column->room) {
		size_t room = column->room + column->room / 2 + more + 4096;
		uint8_t *bytes = column->failed ? NULL : realloc(column->bytes, room);

		if (!bytes) {
			column->failed = true;
			return NULL;
		}
		column->bytes = bytes;
		column->room = room;
	}
	return column->bytes + column->count;
}

static void put_bytes(struct column *column, const void *bytes, size_t count)
{
	uint8_t *at = column_room(column, count);

	if (at) {
		memcpy(at, bytes, count);
		column->count += count;
	}
}

static void put_byte(struct column *column, uint8_t byte)
{
	put_bytes(column, &byte, 1);
}

static void put_number(struct column *column, uint64_t number)
{
	uint8_t *at = column_room(column, 10);

	if (!at)
		return;
	for (; number >= 0x80; number >>= 7) {
		*at++ = (uint8_t)(number | 0x80);
		column->count++;
	}
	*at = (uint8_t)number;
	column->count++;
}

static void put_difference(struct column *column, uint64_t number, uint64_t before)
{
	uint64_t difference = number - before;

	put_number(column, difference << 1 ^ (0 - (difference >> 63)));
}

struct epochs {
	uint8_t (*id)[STORE_EPOCH_BYTES];
	uint32_t *of; /* of each object */
	uint32_t count;
};

static int epochs_find(const struct store_level *level, struct epochs *epochs)
{
	epochs->id = malloc((level->object_count + 1u) * sizeof(*epochs->id));
	epochs->of = malloc((level->object_count + 1u) * sizeof(*epochs->of));
	if (!epochs->id || !epochs->of)
		return -ENOMEM;
	for (uint32_t i = 0; i < level->object_count; i++) {
		uint32_t e = epochs->count;

		/* The last ones first: neighbours have the same. There are as many as the program had starts. */
		while (e && memcmp(epochs->id[e - 1], level->objects[i].epoch, STORE_EPOCH_BYTES))
			e--;
		if (!e) {
			memcpy(epochs->id[epochs->count++], level->objects[i].epoch,
			       STORE_EPOCH_BYTES);
			e = epochs->count;
		}
		epochs->of[i] = e - 1;
	}
	return 0;
}

static void put_objects(struct column *to, const struct store_level *level,
			const struct epochs *epochs)
{
	uint64_t before = 0;

	put_bytes(to, epochs->id, epochs->count * sizeof(*epochs->id));
	for (uint32_t i = 0; i < level->object_count; i++)
		put_byte(to, (uint8_t)level->objects[i].kind);
	for (uint32_t i = 0; i < level->object_count; i++)
		put_number(to, epochs->of[i]);
	for (uint32_t i = 0; i < level->object_count; before = level->objects[i++].record)
		put_difference(to, level->objects[i].record, before);
	for (uint32_t i = 0; i < level->object_count; i++)
		put_number(to, level->objects[i].part);
	for (uint32_t i = 0; i < level->object_count; i++)
		put_number(to, level->objects[i].bytes);
}

static void put_frames(struct column *to, const struct store_level *level)
{
	const struct store_frame *frames = level->frames;
	uint32_t count = level->frame_count, object = 0;

	for (uint32_t i = 0; i < count; object = frames[i++].object)
		put_number(to, frames[i].object - object);
	for (uint32_t i = 0; i < count; i++) {
		bool same = i && frames[i].object == frames[i - 1].object;

		put_number(to, frames[i].offset -
				       (same ? frames[i - 1].offset + frames[i - 1].bytes : 0));
	}
	for (uint32_t i = 0; i < count; i++)
		put_number(to, frames[i].bytes);
	for (uint32_t i = 0; i < count; i++)
		put_byte(to, (uint8_t)((frames[i].blocks - 1) |
				       (frames[i].compressed ? COMPRESSED : 0)));
	for (uint32_t i = 0; i < count; i++)
		put_bytes(to, &frames[i].check, sizeof(frames[i].check));
	for (uint32_t i = 0; i < count; i++)
		if (frames[i].compressed)
			put_bytes(to, &frames[i].content, sizeof(frames[i].content));
}

static void put_runs(struct column *to, const struct store_level *level)
{
	const struct store_run *runs = level->runs;
	uint64_t end = 0, before = 0;

	for (uint32_t i = 0; i < level->run_count; end = runs[i].first + runs[i].count, i++)
		put_number(to, runs[i].first - end);
	for (uint32_t i = 0; i < level->run_count; i++)
		put_number(to, runs[i].count);
	for (uint32_t i = 0; i < level->run_count; i++) {
		uint64_t frame = runs[i].frame == STORE_NOWHERE ? 0 : runs[i].frame + 1ull;

		put_difference(to, frame, before);
		before = frame;
	}
	for (uint32_t i = 0; i < level->run_count; i++)
		put_byte(to, (uint8_t)runs[i].at);
}

/* With a checksum: who reads a hot object in pieces needs its level before the rest of it. */
static int compress(const struct disk_level *head, const struct column *column, void **bytes,
		    size_t *count)
{
	size_t room = ZSTD_compressBound(column->count), stored;
	uint8_t *to = malloc(sizeof(*head) + room);
	ZSTD_CCtx *context = ZSTD_createCCtx();

	*bytes = to;
	if (!to || !context) {
		free(to);
		ZSTD_freeCCtx(context);
		return -ENOMEM;
	}
	memcpy(to, head, sizeof(*head));
	ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
	stored = ZSTD_compress2(context, to + sizeof(*head), room, column->bytes, column->count);
	ZSTD_freeCCtx(context);
	if (ZSTD_isError(stored)) {
		free(to);
		return -ENOMEM;
	}
	*count = sizeof(*head) + stored;
	return 0;
}

int level_encode(const struct store_level *level, void **bytes, size_t *count)
{
	struct column column = {0};
	struct epochs epochs = {0};
	struct disk_level head = {.magic = STORE_LEVEL_MAGIC};
	int code;

	*bytes = NULL;
	*count = 0;
	if (!level->run_count)
		return 0;
	if (level->run_count > (uint64_t)STORE_FRAME_BLOCKS * level->frame_count + NOWHERE_MOST)
		return -E2BIG;
	code = epochs_find(level, &epochs);
	if (!code) {
		put_objects(&column, level, &epochs);
		put_frames(&column, level);
		put_runs(&column, level);
		code = column.failed ? -ENOMEM : column.count > MOST_BYTES ? -E2BIG : 0;
	}
	if (!code) {
		head.epochs = epochs.count;
		head.objects = level->object_count;
		head.frames = level->frame_count;
		head.runs = level->run_count;
		head.bytes = column.count;
		code = compress(&head, &column, bytes, count);
	}
	free(epochs.id);
	free(epochs.of);
	free(column.bytes);
	if (code)
		*bytes = NULL;
	return code;
}

/* ---- Decoding: the first rule that is broken is kept in `wrong`; from then on every number is 0 */

struct reading {
	const uint8_t *at, *end;
	const char *wrong;
};

static bool ensure(struct reading *from, bool right, const char *what)
{
	if (!right && !from->wrong)
		from->wrong = what;
	return !from->wrong;
}

static const uint8_t *get_bytes(struct reading *from, size_t count)
{
	const uint8_t *at = from->at;

	if (!ensure(from, (size_t)(from->end - from->at) >= count, "a column is cut off"))
		return NULL;
	from->at += count;
	return at;
}

static uint64_t get_number(struct reading *from)
{
	uint64_t number = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		const uint8_t *at = get_bytes(from, 1);

		if (!at)
			return 0;
		number |= (uint64_t)(*at & 0x7f) << shift;
		if (!(*at & 0x80))
			return number;
	}
	ensure(from, false, "a number is too long");
	return 0;
}

static uint64_t get_difference(struct reading *from, uint64_t before)
{
	uint64_t number = get_number(from);

	return before + (number >> 1 ^ (0 - (number & 1)));
}

static void get_objects(struct reading *from, struct store_level *level, uint32_t epochs,
			unsigned kinds)
{
	const uint8_t *ids = get_bytes(from, (size_t)epochs * STORE_EPOCH_BYTES);
	uint32_t count = level->object_count;
	uint64_t record = 0;

	for (uint32_t i = 0; i < count && !from->wrong; i++) {
		const uint8_t *kind = get_bytes(from, 1);

		if (kind && ensure(from, *kind < 8 && kinds >> *kind & 1, "an object's kind"))
			level->objects[i].kind = *kind;
	}
	for (uint32_t i = 0; i < count && !from->wrong; i++) {
		uint64_t epoch = get_number(from);

		if (ensure(from, epoch < epochs, "an object's epoch"))
			memcpy(level->objects[i].epoch, ids + epoch * STORE_EPOCH_BYTES,
			       STORE_EPOCH_BYTES);
	}
	for (uint32_t i = 0; i < count && !from->wrong; i++)
		level->objects[i].record = record = get_difference(from, record);
	for (uint32_t i = 0; i < count && !from->wrong; i++) {
		uint64_t part = get_number(from);

		ensure(from, part <= UINT32_MAX, "an object's part");
		level->objects[i].part = (uint32_t)part;
	}
	for (uint32_t i = 0; i < count && !from->wrong; i++) {
		level->objects[i].bytes = get_number(from);
		ensure(from, level->objects[i].record && level->objects[i].bytes <= UINT32_MAX,
		       "an object's number or length");
		ensure(from, !i || object_compare(&level->objects[i - 1], &level->objects[i]) < 0,
		       "the order of objects");
	}
}

/* Where a frame lies, when all of it is known but its checksums. */
static void check_frame(struct reading *from, const struct store_level *level, uint32_t i)
{
	const struct store_frame *frame = &level->frames[i];
	uint32_t all = frame->blocks * STORE_BLOCK;

	ensure(from, frame->bytes && (frame->compressed ? frame->bytes < all : frame->bytes == all),
	       "a frame's length");
	ensure(from, (uint64_t)frame->offset + frame->bytes <= level->objects[frame->object].bytes,
	       "a frame is not in its object");
}

/* Offsets are distances from the end of the frame before, whose length comes in the next column: so for now distances. */
static void get_frame_places(struct reading *from, struct store_level *level)
{
	uint64_t object = 0;

	for (uint32_t i = 0; i < level->frame_count && !from->wrong; i++) {
		uint64_t difference = get_number(from);

		if (ensure(from, difference < level->object_count - object, "a frame's object"))
			level->frames[i].object = (uint32_t)(object += difference);
	}
	for (uint32_t i = 0; i < level->frame_count && !from->wrong; i++) {
		uint64_t distance = get_number(from);

		ensure(from, distance <= UINT32_MAX, "a frame's offset");
		level->frames[i].offset = (uint32_t)distance;
	}
	for (uint32_t i = 0; i < level->frame_count && !from->wrong; i++) {
		struct store_frame *frame = &level->frames[i];
		uint64_t bytes = get_number(from), offset = frame->offset;

		if (i && frame[-1].object == frame->object)
			offset += (uint64_t)frame[-1].offset + frame[-1].bytes;
		ensure(from, bytes <= STORE_FRAME_BYTES && offset + bytes <= UINT32_MAX,
		       "a frame's length");
		frame->offset = (uint32_t)offset;
		frame->bytes = (uint32_t)bytes;
	}
}

static void get_frames(struct reading *from, struct store_level *level)
{
	get_frame_places(from, level);
	for (uint32_t i = 0; i < level->frame_count && !from->wrong; i++) {
		const uint8_t *shape = get_bytes(from, 1);

		if (!shape || !ensure(from, *shape < 2 * COMPRESSED, "a frame's shape"))
			return;
		level->frames[i].blocks = (uint8_t)((*shape & (COMPRESSED - 1)) + 1);
		level->frames[i].compressed = *shape & COMPRESSED;
		check_frame(from, level, i);
	}
	for (uint32_t i = 0; i < level->frame_count && !from->wrong; i++) {
		const uint8_t *check = get_bytes(from, 8);

		if (check)
			memcpy(&level->frames[i].check, check, 8);
	}
	for (uint32_t i = 0; i < level->frame_count && !from->wrong; i++) {
		const uint8_t *content = level->frames[i].compressed
						 ? get_bytes(from, 8)
						 : (const uint8_t *)&level->frames[i].check;

		if (content)
			memcpy(&level->frames[i].content, content, 8);
	}
}

static void get_runs(struct reading *from, struct store_level *level, uint64_t file_blocks)
{
	uint64_t end = 0, frame = 0;

	for (uint32_t i = 0; i < level->run_count && !from->wrong; i++)
		level->runs[i].first = get_number(from); /* a distance for now */
	for (uint32_t i = 0; i < level->run_count && !from->wrong; i++) {
		struct store_run *run = &level->runs[i];
		uint64_t count = get_number(from);

		ensure(from, count && count <= UINT32_MAX, "a run's length");
		ensure(from,
		       run->first <= file_blocks - end && count <= file_blocks - end - run->first,
		       "a run lies behind the file's end");
		run->first += end;
		run->count = (uint32_t)count;
		end = run->first + count;
	}
	for (uint32_t i = 0; i < level->run_count && !from->wrong; i++) {
		frame = get_difference(from, frame);
		ensure(from, frame <= level->frame_count, "a run's frame");
		level->runs[i].frame = frame ? (uint32_t)(frame - 1) : STORE_NOWHERE;
	}
	for (uint32_t i = 0; i < level->run_count && !from->wrong; i++) {
		struct store_run *run = &level->runs[i];
		const uint8_t *at = get_bytes(from, 1);

		if (!at)
			return;
		run->at = *at;
		ensure(from,
		       run->frame == STORE_NOWHERE
			       ? !run->at
			       : (uint64_t)run->at + run->count <= level->frames[run->frame].blocks,
		       "a run is not in its frame");
	}
}

static int allocate(struct store_level *level, const struct disk_level *head)
{
	level->object_count = head->objects;
	level->frame_count = head->frames;
	level->run_count = head->runs;
	level->objects = calloc(head->objects + 1u, sizeof(*level->objects));
	level->frames = calloc(head->frames + 1u, sizeof(*level->frames));
	level->runs = calloc(head->runs + 1u, sizeof(*level->runs));
	return level->objects && level->frames && level->runs ? 0 : -ENOMEM;
}

/* Columns that are not compressed any more. */
static int decode_columns(const struct disk_level *head, const void *bytes, uint64_t file_blocks,
			  unsigned kinds, struct store_level *level, const char **wrong)
{
	struct reading from = {.at = bytes, .end = (const uint8_t *)bytes + head->bytes};
	int code;

	/* Before memory is given to them: each has so many bytes at least; a frame is in at most 16 runs. */
	if (head->runs > (uint64_t)STORE_FRAME_BLOCKS * head->frames + NOWHERE_MOST ||
	    head->objects * 5ull + head->frames * 12ull + head->runs * 4ull +
			    head->epochs * (uint64_t)STORE_EPOCH_BYTES >
		    head->bytes) {
		*wrong = "there is less in it than it says";
		return THAW_EDAMAGED;
	}
	code = allocate(level, head);
	if (code)
		return code;
	get_objects(&from, level, head->epochs, kinds);
	get_frames(&from, level);
	get_runs(&from, level, file_blocks);
	ensure(&from, from.at == from.end, "there is more in it than it says");
	*wrong = from.wrong;
	return from.wrong ? THAW_EDAMAGED : 0;
}

int level_decode(const void *bytes, size_t count, uint64_t file_blocks, unsigned kinds,
		 struct store_level *level, struct thaw_error *error)
{
	const char *wrong = "it is not one of the index's";
	struct disk_level head;
	void *columns = NULL;
	int code = THAW_EDAMAGED;

	*level = (struct store_level){0};
	if (!count)
		return 0;
	if (count > sizeof(head)) {
		memcpy(&head, bytes, sizeof(head));
		if (head.magic == STORE_LEVEL_MAGIC && head.bytes <= MOST_BYTES) {
			columns = malloc(head.bytes + 1);
			code = columns ? 0 : -ENOMEM;
		}
	}
	if (!code && ZSTD_decompress(columns, head.bytes, (const uint8_t *)bytes + sizeof(head),
				     count - sizeof(head)) != head.bytes) {
		wrong = "it cannot be decompressed";
		code = THAW_EDAMAGED;
	}
	if (!code)
		code = decode_columns(&head, columns, file_blocks, kinds, level, &wrong);
	free(columns);
	if (code)
		level_free(level);
	if (code == -ENOMEM)
		return failure(error, code, "no memory for a level of the store's index");
	return code ? failure(error, code, "a level of the store's index is damaged: %s", wrong)
		    : 0;
}
