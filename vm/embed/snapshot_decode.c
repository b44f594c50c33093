/* SPDX-License-Identifier: MIT */
/*
 * snapshot_decode.c - see snapshot_codec.h. Trusts no byte of what it decodes: sizes are compared with what is there before
 * memory is taken for them, and what was decoded must have the id that the header says. A file may become shorter, or be
 * written, meanwhile: each byte of it is read once.
 *
 * The frames of a whole one are decoded by several threads; those of a delta by one, in order, which is what writing over
 * another frozen heap wants.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "base/failure.h"
#include "snapshot_pages.h"

struct decoder {
	const struct snapshot_source *source;
	struct snapshot_contents *base;
	struct thaw_frozen *frozen; /* that is made */
	struct disk_snapshot header;
	struct snapshot_runs runs;
	struct disk_snapshot_frame *table;
	uint64_t *offsets; /* of the frames, in the source */
	struct snapshot_parts parts;
};

static int damaged(struct thaw_error *error, const char *what)
{
	return failure(error, THAW_EDAMAGED, "the snapshot %s", what);
}

/* ---- Its bytes ---- */

static int read_source(const struct snapshot_source *source, uint64_t at, void *to, size_t bytes,
		       struct thaw_error *error)
{
	ssize_t got = 0;

	if (at > source->bytes || bytes > source->bytes - at)
		return damaged(error, "is cut off");
	if (source->data) {
		memcpy(to, source->data + at, bytes);
		return 0;
	}
	for (size_t done = 0; done < bytes; done += (size_t)got) {
		got = pread(source->fd, (char *)to + done, bytes - done,
			    (off_t)(source->offset + at + done));
		if (got < 0 && errno == EINTR)
			got = 0;
		else if (got < 0)
			return failure(error, -errno, "cannot read the snapshot: %s",
				       strerror(errno));
		else if (!got)
			return damaged(error, "is cut off");
	}
	return 0;
}

/* In order, apart, inside of the heap; and as many frames as they need. */
static bool runs_are_sound(struct decoder *decoder)
{
	uint64_t pages = decoder->header.heap_bytes / SNAPSHOT_PAGE, end = 0;

	for (uint32_t i = 0; i < decoder->runs.count; i++) {
		struct disk_snapshot_run run = decoder->runs.list[i];

		if (!run.pages || (i && run.first <= end) || run.first >= pages ||
		    run.pages > pages - run.first)
			return false;
		end = (uint64_t)run.first + run.pages;
		decoder->runs.pages += run.pages;
	}
	return decoder->header.frames ==
	       1 + (decoder->runs.pages + SNAPSHOT_FRAME_PAGES - 1) / SNAPSHOT_FRAME_PAGES;
}

static bool frames_are_sound(struct decoder *decoder)
{
	uint64_t at = decoder->offsets[0];

	for (uint32_t i = 0; i < decoder->header.frames; i++) {
		const struct disk_snapshot_frame *frame = &decoder->table[i];
		size_t most =
			ZSTD_compressBound(i ? SNAPSHOT_FRAME_BYTES : decoder->header.state_bytes);

		if (frame->bytes > most ||
		    frame->how > (i && decoder->header.kind == SNAPSHOT_DELTA ? SNAPSHOT_XOR
									      : SNAPSHOT_PREFIX))
			return false;
		decoder->offsets[i] = at;
		at += frame->bytes;
	}
	return at == decoder->source->bytes;
}

static bool header_is_sound(const struct disk_snapshot *header)
{
	static const uint8_t none[16];
	uint64_t pages = header->heap_bytes / SNAPSHOT_PAGE;

	return header->kind <= SNAPSHOT_DELTA && !header->engine[sizeof(header->engine) - 1] &&
	       !(header->heap_bytes % SNAPSHOT_UNIT) && header->heap_bytes <= 1ull << 32 &&
	       header->state_bytes <= SNAPSHOT_STATE_MOST && header->frames &&
	       header->runs <= (pages + 1) / 2 &&
	       header->frames <= 1 + (pages + SNAPSHOT_FRAME_PAGES - 1) / SNAPSHOT_FRAME_PAGES &&
	       (header->kind == SNAPSHOT_DELTA || !memcmp(header->base, none, sizeof(none)));
}

static int read_header(struct decoder *decoder, struct thaw_error *error)
{
	const struct snapshot_source *source = decoder->source;
	struct disk_snapshot *header = &decoder->header;
	int code = 0;

	if (source->bytes >= 12)
		code = read_source(source, 0, header, 12, error);
	if (code)
		return code;
	if (source->bytes < 12 || memcmp(header->magic, SNAPSHOT_MAGIC, 8))
		return failure(error, THAW_EFOREIGN, "these %llu bytes are no snapshot of a VM",
			       (unsigned long long)source->bytes);
	if (header->version != SNAPSHOT_VERSION)
		return failure(
			error, THAW_EFORMAT,
			"the snapshot has format %08x, and this build knows %08x: use the one that made it",
			header->version, SNAPSHOT_VERSION);
	code = read_source(source, 12, (char *)header + 12, sizeof(*header) - 12, error);
	if (!code && !header_is_sound(header))
		code = damaged(error, "is damaged: its header holds what cannot be");
	return code;
}

/* The header, the runs and the table: all that says how large what follows is. */
static int open_head(struct decoder *decoder, struct thaw_error *error)
{
	struct disk_snapshot *header = &decoder->header;
	size_t runs_bytes, table_bytes;
	XXH3_state_t state;
	int code = read_header(decoder, error);

	if (code)
		return code;
	runs_bytes = header->runs * sizeof(*decoder->runs.list);
	table_bytes = header->frames * sizeof(*decoder->table);
	decoder->runs.count = header->runs;
	decoder->runs.list = malloc(runs_bytes + 1);
	decoder->table = malloc(table_bytes);
	decoder->offsets = calloc(header->frames, sizeof(*decoder->offsets));
	if (!decoder->runs.list || !decoder->table || !decoder->offsets)
		return failure(error, -ENOMEM, "no memory to open a snapshot");
	code = read_source(decoder->source, sizeof(*header), decoder->runs.list, runs_bytes, error);
	if (!code)
		code = read_source(decoder->source, sizeof(*header) + runs_bytes, decoder->table,
				   table_bytes, error);
	if (code)
		return code;
	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, header, offsetof(struct disk_snapshot, checksum));
	XXH3_64bits_update(&state, decoder->runs.list, runs_bytes);
	XXH3_64bits_update(&state, decoder->table, table_bytes);
	if (header->checksum != XXH3_64bits_digest(&state))
		return damaged(error, "is damaged: its header's checksum is wrong");
	decoder->offsets[0] = sizeof(*header) + runs_bytes + table_bytes;
	if (!runs_are_sound(decoder))
		return damaged(error, "is damaged: its header holds what cannot be");
	return frames_are_sound(decoder) ? 0 : damaged(error, "is cut off, or too long");
}

static void close_head(struct decoder *decoder)
{
	free(decoder->runs.list);
	free(decoder->table);
	free(decoder->offsets);
	free(decoder->parts.list);
}

int snapshot_describe(const struct snapshot_source *source, struct snapshot_info *info,
		      struct thaw_error *error)
{
	struct decoder decoder = {.source = source};
	int code = open_head(&decoder, error);

	if (!code) {
		*info = (struct snapshot_info){.delta = decoder.header.kind == SNAPSHOT_DELTA,
					       .heap_bytes = decoder.header.heap_bytes,
					       .state_bytes = decoder.header.state_bytes};
		memcpy(info->engine, decoder.header.engine, sizeof(info->engine));
		memcpy(info->id, decoder.header.id, sizeof(info->id));
		memcpy(info->base, decoder.header.base, sizeof(info->base));
	}
	close_head(&decoder);
	return code;
}

/* ---- One frame ---- */

struct work { /* of one thread */
	struct decoder *decoder;
	ZSTD_DCtx *zstd;
	uint8_t *now, *before, *compressed; /* room for a frame each */
	snapshot_sum sum;
};

/* Which must come to so many bytes. */
static int decode_frame(struct work *work, uint32_t number, void *to, size_t count,
			const void *prefix, size_t prefix_bytes, struct thaw_error *error)
{
	const struct decoder *decoder = work->decoder;
	const struct disk_snapshot_frame *frame = &decoder->table[number];
	size_t made;
	int code = read_source(decoder->source, decoder->offsets[number], work->compressed,
			       frame->bytes, error);

	if (code)
		return code;
	if (frame->checksum != XXH3_64bits(work->compressed, frame->bytes))
		return damaged(error, "is damaged: a frame's checksum is wrong");
	ZSTD_DCtx_reset(work->zstd, ZSTD_reset_session_and_parameters);
	if (prefix_bytes)
		ZSTD_DCtx_refPrefix(work->zstd, prefix, prefix_bytes);
	made = ZSTD_decompressDCtx(work->zstd, to, count, work->compressed, frame->bytes);
	if (ZSTD_isError(made) || made != count)
		return damaged(error, "is damaged: a frame cannot be decoded");
	return 0;
}

static int decode_part(struct work *work, uint32_t number, struct thaw_error *error)
{
	struct decoder *decoder = work->decoder;
	struct snapshot_part part = decoder->parts.list[number];
	size_t used = part.pages * (size_t)SNAPSHOT_PAGE;
	bool mixed = decoder->table[1 + number].how == SNAPSHOT_XOR;
	const uint8_t *now = work->now, *before = work->before;
	uint64_t first, pages;
	int code = 0;

	if (decoder->base)
		code = read_part(decoder->base->frozen, &decoder->runs, part, work->before, error);
	if (!code)
		code = decode_frame(work, 1 + number, work->now, used, work->before,
				    decoder->base && !mixed ? used : 0, error);
	if (!code && mixed)
		exclusive_or(work->now, work->before, used);
	while (!code && part_next(&decoder->runs, &part, &first, &pages)) {
		work->sum += sum_pages(first, now, pages);
		if (decoder->base)
			work->sum -= sum_pages(first, before, pages);
		code = thaw_frozen_write(decoder->frozen, first * SNAPSHOT_PAGE, now,
					 pages * SNAPSHOT_PAGE, error);
		now += pages * SNAPSHOT_PAGE;
		before += pages * SNAPSHOT_PAGE;
	}
	return code;
}

static int work_begin(struct work *work, size_t compressed_bytes, struct thaw_error *error)
{
	work->zstd = ZSTD_createDCtx();
	work->compressed = malloc(compressed_bytes + 1);
	work->now = malloc(2 * SNAPSHOT_FRAME_BYTES);
	if (!work->zstd || !work->compressed || !work->now)
		return failure(error, -ENOMEM, "no memory to open a snapshot");
	work->before = work->now + SNAPSHOT_FRAME_BYTES;
	return 0;
}

static void work_end(struct work *work)
{
	ZSTD_freeDCtx(work->zstd);
	free(work->compressed);
	free(work->now);
}

static void decode_parts(void *arg)
{
	struct decoder *decoder = arg;
	struct work work = {.decoder = decoder};
	struct thaw_error error = {0};
	uint32_t number;
	int code = work_begin(&work, ZSTD_compressBound(SNAPSHOT_FRAME_BYTES), &error);

	while (!code && parts_take(&decoder->parts, &number))
		code = decode_part(&work, number, &error);
	parts_add(&decoder->parts, work.sum, code, &error);
	work_end(&work);
}

/* ---- All of them ---- */

/* What the caller can do with it, before any memory is taken for what it holds. */
static int check_header(const struct decoder *decoder, const char *engine, uint64_t max_bytes,
			struct thaw_error *error)
{
	const struct disk_snapshot *header = &decoder->header;

	if (max_bytes && header->heap_bytes > max_bytes)
		return failure(error, -EFBIG, "the snapshot has a heap of %llu MiB, more than %llu",
			       (unsigned long long)header->heap_bytes >> 20,
			       (unsigned long long)max_bytes >> 20);
	if (header->kind == SNAPSHOT_DELTA && !decoder->base)
		return failure(error, THAW_ENOGEN,
			       "the snapshot is what changed since another one, which is needed");
	if (strcmp(header->engine, engine))
		return failure(error, THAW_EENGINE,
			       "the snapshot is of the engine %s, and this is %s", header->engine,
			       engine);
	return 0;
}

static int check_base(struct decoder *decoder, struct thaw_error *error)
{
	const struct disk_snapshot *header = &decoder->header;
	uint8_t id[16];
	int code;

	if (header->kind == SNAPSHOT_WHOLE) {
		decoder->base = NULL;
		return 0;
	}
	code = snapshot_summed(decoder->base, error);
	if (code)
		return code;
	snapshot_id(decoder->base, id);
	if (memcmp(id, header->base, sizeof(id)))
		return failure(
			error, THAW_ENOGEN,
			"the snapshot is a delta of another base (%02x%02x%02x%02x...) than this one "
			"(%02x%02x%02x%02x...)",
			header->base[0], header->base[1], header->base[2], header->base[3], id[0],
			id[1], id[2], id[3]);
	return 0;
}

static int decode_heap(struct decoder *decoder, struct thaw_error *error)
{
	struct snapshot_parts *parts = &decoder->parts;
	uint64_t bytes = decoder->header.heap_bytes;
	int code = decoder->base ? thaw_frozen_begin_over(decoder->base->frozen, bytes,
							  &decoder->frozen, error)
				 : thaw_frozen_begin(bytes, &decoder->frozen, error);

	if (code)
		return code;
	parts->list = parts_of(&decoder->runs, &parts->count);
	if (!parts->list)
		return failure(error, -ENOMEM, "no memory to open a snapshot");
	parts->sum = decoder->base ? sum_from(decoder->base->sum) : 0;
	if (parts->count)
		work_together(decoder->base ? 1 : parts->count, decode_parts, decoder);
	if (parts->code) {
		*error = parts->error;
		return parts->code;
	}
	return decoder->base ? sum_take_behind(decoder->base->frozen, bytes, &parts->sum, error)
			     : 0;
}

static int decode_state(struct decoder *decoder, struct thaw_error *error)
{
	struct work work = {.decoder = decoder};
	size_t bytes = decoder->header.state_bytes, since_bytes = 0;
	const void *since = decoder->base ? thaw_frozen_state(decoder->base->frozen, &since_bytes)
					  : NULL;
	uint8_t *state = malloc(bytes + 1);
	int code = work_begin(&work, decoder->table[0].bytes, error);

	if (!code && !state)
		code = failure(error, -ENOMEM, "no memory to open a snapshot");
	if (!code)
		code = decode_frame(&work, 0, state, bytes, since, since_bytes, error);
	if (!code)
		code = thaw_frozen_end(decoder->frozen, state, bytes, error);
	work_end(&work);
	free(state);
	return code;
}

static int decode(struct decoder *decoder, const char *engine, uint64_t max_bytes,
		  struct snapshot_contents *made, struct thaw_error *error)
{
	uint8_t id[16];
	int code = open_head(decoder, error);

	if (!code)
		code = check_header(decoder, engine, max_bytes, error);
	if (!code)
		code = check_base(decoder, error);
	if (!code)
		code = decode_heap(decoder, error);
	if (!code)
		code = decode_state(decoder, error);
	if (code)
		return code;
	*made = (struct snapshot_contents){
		.engine = engine, .frozen = decoder->frozen, .summed = true};
	sum_to(decoder->parts.sum, made->sum);
	snapshot_id(made, id);
	return memcmp(id, decoder->header.id, sizeof(id))
		       ? damaged(error, "is damaged: its contents are not those that its id says")
		       : 0;
}

int snapshot_decode(const struct snapshot_source *source, const char *engine, uint64_t max_bytes,
		    struct snapshot_contents *base, struct snapshot_contents *made,
		    struct thaw_error *error)
{
	struct decoder decoder = {
		.source = source, .base = base, .parts.lock = PTHREAD_MUTEX_INITIALIZER};
	struct thaw_error unused;
	int code = decode(&decoder, engine, max_bytes, made, error ? error : &unused);

	if (code) {
		thaw_frozen_drop(decoder.frozen);
		*made = (struct snapshot_contents){0};
	}
	close_head(&decoder);
	return code;
}
