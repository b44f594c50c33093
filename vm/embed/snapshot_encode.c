/* SPDX-License-Identifier: MIT */
/*
 * snapshot_encode.c - see snapshot_codec.h. The pages are listed first, which of a delta is libthaw's work (thaw_frozen_diff()); the
 * frames that they make up are then read and compressed by several threads. What comes out depends on the contents only.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/failure.h"
#include "snapshot_pages.h"

/* Of a heap of small objects, 1 makes 0.6 % more bytes than 3, in 5 ninths of the time. */
#define LEVEL 1
/*
 * What is left of a frame by exclusive-or is nearly as small as it gets if this share of it, or less; else what has moved is worth
 * a search: at 9 and more for pages that resemble each other 20 times as long, for 5 % less.
 */
#define SEARCH_SHARE 256u
#define LEVEL_SEARCH 3
#define FEW_PAGES 64u
#define LEVEL_SEARCH_FEW 6

#define LISTED_PAGES 64u /* read at a time, to see which are zero */

static const uint8_t zeros[SNAPSHOT_PAGE];

struct frame {
	uint8_t *bytes; /* malloc'ed */
	struct disk_snapshot_frame entry;
};

struct encoder {
	struct snapshot_contents *contents, *since;
	struct snapshot_runs runs;
	struct snapshot_parts parts;
	struct frame *frames; /* the state's, and one for each part */
	uint8_t *listing;
};

/* ---- Which pages ---- */

/* Of a whole one: those that are not zero. */
static int list_stored(void *arg, uint64_t first, uint64_t pages)
{
	struct encoder *encoder = arg;
	uint64_t each = thaw_frozen_page_bytes() / SNAPSHOT_PAGE, part;
	int code = 0;

	for (uint64_t at = first * each, end = at + pages * each; !code && at < end; at += part) {
		part = end - at < LISTED_PAGES ? end - at : LISTED_PAGES;
		code = read_pages(encoder->contents->frozen, at, part, encoder->listing,
				  &encoder->parts.error);
		for (uint64_t i = 0; !code && i < part; i++)
			if (memcmp(encoder->listing + i * SNAPSHOT_PAGE, zeros, SNAPSHOT_PAGE))
				code = runs_append(&encoder->runs, at + i, 1);
	}
	return code;
}

/* Of a page of a kernel whose pages are larger, only a part may have changed. */
static int list_piece(struct encoder *encoder, uint64_t number)
{
	uint8_t *now = encoder->listing, *before = now + SNAPSHOT_PAGE;
	int code = read_pages(encoder->contents->frozen, number, 1, now, &encoder->parts.error);

	if (!code)
		code = read_pages(encoder->since->frozen, number, 1, before, &encoder->parts.error);
	if (!code && memcmp(now, before, SNAPSHOT_PAGE))
		code = runs_append(&encoder->runs, number, 1);
	return code;
}

static int list_changed(void *arg, const struct thaw_page_change *change)
{
	struct encoder *encoder = arg;
	uint64_t each = thaw_frozen_page_bytes() / SNAPSHOT_PAGE;
	uint64_t all = thaw_frozen_bytes(encoder->contents->frozen) / SNAPSHOT_PAGE;
	uint64_t at = change->first * each, end = at + change->pages * each;
	uint64_t inside = end < all ? end : all;
	int code = 0;

	if (each == 1 && at < inside)
		code = runs_append(&encoder->runs, at, inside - at);
	for (uint64_t i = at; !code && each > 1 && i < inside; i++)
		code = list_piece(encoder, i);
	return code;
}

static int list_pages(struct encoder *encoder)
{
	int code;

	encoder->listing = malloc(LISTED_PAGES * SNAPSHOT_PAGE);
	if (!encoder->listing)
		return -ENOMEM;
	code = encoder->since ? thaw_frozen_diff(encoder->since->frozen, encoder->contents->frozen,
						 list_changed, encoder, &encoder->parts.error)
			      : thaw_frozen_pages(encoder->contents->frozen, list_stored, encoder);
	free(encoder->listing);
	return code;
}

/* ---- One frame ---- */

struct work { /* of one thread */
	struct encoder *encoder;
	ZSTD_CCtx *zstd;
	uint8_t *now, *before, *out, *other; /* room for a frame each, compressed or not */
	snapshot_sum sum;
};

/* How many bytes; 0: no memory. */
static size_t compress(ZSTD_CCtx *zstd, int level, void *to, size_t room, const void *bytes,
		       size_t count, const void *prefix, size_t prefix_bytes)
{
	size_t made;

	ZSTD_CCtx_reset(zstd, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0);
	if (prefix_bytes)
		ZSTD_CCtx_refPrefix(zstd, prefix, prefix_bytes);
	made = ZSTD_compress2(zstd, to, room, bytes, count);
	return ZSTD_isError(made) ? 0 : made;
}

static int frame_set(struct frame *frame, const uint8_t *bytes, size_t count, uint32_t how)
{
	frame->bytes = count ? malloc(count) : NULL;
	if (!frame->bytes)
		return -ENOMEM;
	memcpy(frame->bytes, bytes, count);
	frame->entry = (struct disk_snapshot_frame){
		.bytes = (uint32_t)count, .how = how, .checksum = XXH3_64bits(bytes, count)};
	return 0;
}

/* Both ways, if the first one leaves much. */
static int encode_changes(struct work *work, struct frame *frame, size_t used)
{
	size_t room = ZSTD_compressBound(SNAPSHOT_FRAME_BYTES), made, searched = 0;
	int level = used <= FEW_PAGES * SNAPSHOT_PAGE ? LEVEL_SEARCH_FEW : LEVEL_SEARCH;

	exclusive_or(work->now, work->before, used);
	made = compress(work->zstd, LEVEL, work->out, room, work->now, used, NULL, 0);
	if (made > used / SEARCH_SHARE) {
		exclusive_or(work->now, work->before, used);
		searched = compress(work->zstd, level, work->other, room, work->now, used,
				    work->before, used);
	}
	return searched && searched < made
		       ? frame_set(frame, work->other, searched, SNAPSHOT_PREFIX)
		       : frame_set(frame, work->out, made, SNAPSHOT_XOR);
}

static void add_sums(struct work *work, struct snapshot_part part)
{
	const struct encoder *encoder = work->encoder;
	uint64_t first, pages, at = 0;

	while (part_next(&encoder->runs, &part, &first, &pages)) {
		work->sum += sum_pages(first, work->now + at, pages);
		if (encoder->since)
			work->sum -= sum_pages(first, work->before + at, pages);
		at += pages * SNAPSHOT_PAGE;
	}
}

static int encode_part(struct work *work, uint32_t number, struct thaw_error *error)
{
	struct encoder *encoder = work->encoder;
	struct snapshot_part part = encoder->parts.list[number];
	struct frame *frame = &encoder->frames[1 + number];
	size_t used = part.pages * (size_t)SNAPSHOT_PAGE;
	int code = read_part(encoder->contents->frozen, &encoder->runs, part, work->now, error);

	if (!code && encoder->since)
		code = read_part(encoder->since->frozen, &encoder->runs, part, work->before, error);
	if (code)
		return code;
	if (!encoder->contents->summed)
		add_sums(work, part);
	if (encoder->since)
		return encode_changes(work, frame, used);
	return frame_set(frame, work->out,
			 compress(work->zstd, LEVEL, work->out,
				  ZSTD_compressBound(SNAPSHOT_FRAME_BYTES), work->now, used, NULL,
				  0),
			 SNAPSHOT_PREFIX);
}

static void encode_parts(void *arg)
{
	struct encoder *encoder = arg;
	size_t room = ZSTD_compressBound(SNAPSHOT_FRAME_BYTES);
	struct work work = {.encoder = encoder, .zstd = ZSTD_createCCtx()};
	uint8_t *memory = malloc(2 * SNAPSHOT_FRAME_BYTES + 2 * room);
	struct thaw_error error = {0};
	int code = work.zstd && memory ? 0 : -ENOMEM;
	uint32_t number;

	if (!code) {
		work.now = memory;
		work.before = memory + SNAPSHOT_FRAME_BYTES;
		work.out = memory + 2 * SNAPSHOT_FRAME_BYTES;
		work.other = work.out + room;
	}
	while (!code && parts_take(&encoder->parts, &number))
		code = encode_part(&work, number, &error);
	parts_add(&encoder->parts, work.sum, code, &error);
	ZSTD_freeCCtx(work.zstd);
	free(memory);
}

static int encode_state(struct encoder *encoder)
{
	size_t bytes, since_bytes = 0, room, made;
	const void *state = thaw_frozen_state(encoder->contents->frozen, &bytes);
	const void *since = encoder->since ? thaw_frozen_state(encoder->since->frozen, &since_bytes)
					   : NULL;
	ZSTD_CCtx *zstd = ZSTD_createCCtx();
	uint8_t *out;
	int code;

	room = ZSTD_compressBound(bytes);
	out = malloc(room);
	made = zstd && out ? compress(zstd, LEVEL_SEARCH_FEW, out, room, state, bytes, since,
				      since_bytes)
			   : 0;
	code = frame_set(&encoder->frames[0], out, made, SNAPSHOT_PREFIX);
	ZSTD_freeCCtx(zstd);
	free(out);
	return code;
}

/* ---- All of them ---- */

static int encode_frames(struct encoder *encoder)
{
	struct snapshot_contents *contents = encoder->contents;
	struct snapshot_parts *parts = &encoder->parts;
	int code = list_pages(encoder);

	if (code)
		return code;
	parts->list = parts_of(&encoder->runs, &parts->count);
	encoder->frames = calloc(1 + (size_t)parts->count, sizeof(*encoder->frames));
	if (!parts->list || !encoder->frames)
		return -ENOMEM;
	parts->sum = encoder->since ? sum_from(encoder->since->sum) : 0;
	code = encode_state(encoder);
	if (code)
		return code;
	if (parts->count)
		work_together(parts->count, encode_parts, encoder);
	if (parts->code || contents->summed)
		return parts->code;
	if (encoder->since)
		code = sum_take_behind(encoder->since->frozen, thaw_frozen_bytes(contents->frozen),
				       &parts->sum, &parts->error);
	if (code)
		return code;
	sum_to(parts->sum, contents->sum);
	contents->summed = true;
	return 0;
}

static void make_header(const struct encoder *encoder, struct disk_snapshot *header)
{
	size_t state_bytes;

	(void)thaw_frozen_state(encoder->contents->frozen, &state_bytes);
	*header = (struct disk_snapshot){
		.version = SNAPSHOT_VERSION,
		.kind = encoder->since ? SNAPSHOT_DELTA : SNAPSHOT_WHOLE,
		.heap_bytes = thaw_frozen_bytes(encoder->contents->frozen),
		.state_bytes = state_bytes,
		.runs = encoder->runs.count,
		.frames = 1 + encoder->parts.count,
	};
	memcpy(header->magic, SNAPSHOT_MAGIC, sizeof(header->magic));
	strcpy(header->engine, encoder->contents->engine);
	snapshot_id(encoder->contents, header->id);
	if (encoder->since)
		snapshot_id(encoder->since, header->base);
}

static int assemble(const struct encoder *encoder, void **data, size_t *bytes)
{
	struct disk_snapshot header;
	size_t runs_bytes = encoder->runs.count * sizeof(*encoder->runs.list), head, at;
	XXH3_state_t state;
	uint8_t *to;

	make_header(encoder, &header);
	head = at =
		sizeof(header) + runs_bytes + header.frames * sizeof(struct disk_snapshot_frame);
	for (uint32_t i = 0; i < header.frames; i++)
		at += encoder->frames[i].entry.bytes;
	*bytes = at;
	*data = to = malloc(at);
	if (!to)
		return -ENOMEM;
	if (runs_bytes)
		memcpy(to + sizeof(header), encoder->runs.list, runs_bytes);
	at = sizeof(header) + runs_bytes;
	for (uint32_t i = 0; i < header.frames; i++, at += sizeof(struct disk_snapshot_frame))
		memcpy(to + at, &encoder->frames[i].entry, sizeof(struct disk_snapshot_frame));
	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, &header, offsetof(struct disk_snapshot, checksum));
	XXH3_64bits_update(&state, to + sizeof(header), head - sizeof(header));
	header.checksum = XXH3_64bits_digest(&state);
	memcpy(to, &header, sizeof(header));
	for (uint32_t i = 0; i < header.frames; at += encoder->frames[i++].entry.bytes)
		memcpy(to + at, encoder->frames[i].bytes, encoder->frames[i].entry.bytes);
	return 0;
}

static int check(const struct snapshot_contents *contents, const struct snapshot_contents *since,
		 struct thaw_error *error)
{
	size_t heap_bytes = thaw_frozen_bytes(contents->frozen), state_bytes;

	(void)thaw_frozen_state(contents->frozen, &state_bytes);
	if (heap_bytes % SNAPSHOT_UNIT || heap_bytes > 1ull << 32 ||
	    state_bytes > SNAPSHOT_STATE_MOST || strlen(contents->engine) > 63)
		return failure(error, -EINVAL, "that cannot be a snapshot: sizes, or its engine");
	if (since && strcmp(since->engine, contents->engine))
		return failure(error, THAW_EENGINE,
			       "the two snapshots are of different engines: %s, %s", since->engine,
			       contents->engine);
	return 0;
}

int snapshot_encode(struct snapshot_contents *contents, struct snapshot_contents *since,
		    void **data, size_t *bytes, struct thaw_error *error)
{
	struct encoder encoder = {
		.contents = contents, .since = since, .parts.lock = PTHREAD_MUTEX_INITIALIZER};
	int code = check(contents, since, error);

	*data = NULL;
	if (!code && since)
		code = snapshot_summed(since, error);
	if (code)
		return code;
	code = encode_frames(&encoder);
	if (!code)
		code = assemble(&encoder, data, bytes);
	for (uint32_t i = 0; encoder.frames && i <= encoder.parts.count; i++)
		free(encoder.frames[i].bytes);
	free(encoder.frames);
	free(encoder.parts.list);
	free(encoder.runs.list);
	if (!code)
		return 0;
	return encoder.parts.error.code == code
		       ? failure(error, code, "%s", encoder.parts.error.text)
		       : failure(error, code, "cannot make a snapshot's bytes: %s",
				 thaw_strerror(code));
}
