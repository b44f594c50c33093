/* SPDX-License-Identifier: MIT */
/*
 * snapshot_codec.c - see snapshot_codec.h. Trusts no byte of what it decodes: sizes are compared with what is there before
 * memory is taken for them, and what was decoded must have the id that the header says.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/failure.h"
#include "snapshot_codec.h"
#include "snapshot_format.h"

#define FRAME_BYTES (SNAPSHOT_FRAME_PAGES * SNAPSHOT_PAGE)
#define LEVEL 3 /* of a whole one */
/* Of 25 pages 1.1 KB in 8 ms. 9 does it in 3, and looks too few places up where a heap resembles itself: 19 KB for 1. */
#define LEVEL_DELTA 12

typedef unsigned __int128 sum_type;

static const uint8_t zeros[SNAPSHOT_PAGE];

static bool is_zero(const uint8_t *page)
{
	return !memcmp(page, zeros, SNAPSHOT_PAGE);
}

static sum_type page_sum(uint64_t number, const uint8_t *page)
{
	struct {
		uint64_t number;
		XXH128_hash_t contents;
	} leaf;
	XXH128_hash_t hash;

	if (is_zero(page))
		return 0;
	leaf.number = number;
	leaf.contents = XXH3_128bits(page, SNAPSHOT_PAGE);
	hash = XXH3_128bits(&leaf, sizeof(leaf));
	return (sum_type)hash.high64 << 64 | hash.low64;
}

static sum_type sum_of(const struct snapshot_contents *contents)
{
	return (sum_type)contents->sum[1] << 64 | contents->sum[0];
}

static void sum_set(struct snapshot_contents *contents, sum_type sum)
{
	contents->sum[0] = (uint64_t)sum;
	contents->sum[1] = (uint64_t)(sum >> 64);
}

void snapshot_sum(struct snapshot_contents *contents)
{
	sum_type sum = 0;

	for (uint64_t at = 0; at < contents->heap_bytes; at += SNAPSHOT_PAGE)
		sum += page_sum(at / SNAPSHOT_PAGE, contents->heap + at);
	sum_set(contents, sum);
}

void snapshot_id(const struct snapshot_contents *contents, uint8_t id[16])
{
	XXH3_state_t state;
	XXH128_canonical_t canonical;
	char engine[64] = "";

	strncpy(engine, contents->engine, sizeof(engine) - 1);
	XXH3_128bits_reset(&state);
	XXH3_128bits_update(&state, engine, sizeof(engine));
	XXH3_128bits_update(&state, &contents->heap_bytes, 8);
	XXH3_128bits_update(&state, &contents->state_bytes, 8);
	if (contents->state_bytes)
		XXH3_128bits_update(&state, contents->state, contents->state_bytes);
	XXH3_128bits_update(&state, contents->sum, 16);
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
	memcpy(id, canonical.digest, 16);
}

/* The page at that place, zeros behind the end. */
static const uint8_t *page_at(const struct snapshot_contents *contents, uint64_t number)
{
	return number < contents->heap_bytes / SNAPSHOT_PAGE
		       ? contents->heap + number * SNAPSHOT_PAGE
		       : zeros;
}

/* ---- Encoding */

struct encoder {
	const struct snapshot_contents *contents, *since;
	int level;
	ZSTD_CCtx *zstd;
	uint8_t *now, *before; /* room for the pages of a frame */
	struct disk_snapshot header;
	struct disk_snapshot_run *runs;
	struct disk_snapshot_frame *table;
	uint8_t *body;
	size_t body_bytes, body_room;
};

static bool is_listed(const struct encoder *encoder, uint64_t number)
{
	const uint8_t *page = page_at(encoder->contents, number);

	return memcmp(page, encoder->since ? page_at(encoder->since, number) : zeros,
		      SNAPSHOT_PAGE) != 0;
}

/* The runs, and how many pages they list; -ENOMEM. */
static int list_pages(struct encoder *encoder, uint64_t *listed)
{
	uint64_t pages = encoder->contents->heap_bytes / SNAPSHOT_PAGE;
	uint32_t room = 0, count = 0;

	*listed = 0;
	for (uint64_t number = 0; number < pages; number++) {
		struct disk_snapshot_run *last = encoder->runs + count - 1;

		if (!is_listed(encoder, number))
			continue;
		++*listed;
		if (count && last->first + (uint64_t)last->pages == number) {
			last->pages++;
			continue;
		}
		if (count == room) {
			struct disk_snapshot_run *more;

			room = room ? 2 * room : 64;
			more = realloc(encoder->runs, room * sizeof(*more));
			if (!more)
				return -ENOMEM;
			encoder->runs = more;
		}
		encoder->runs[count++] = (struct disk_snapshot_run){(uint32_t)number, 1};
	}
	encoder->header.runs = count;
	return 0;
}

static int encode_frame(struct encoder *encoder, const void *bytes, size_t count,
			const void *prefix, size_t prefix_bytes)
{
	struct disk_snapshot_frame *frame = &encoder->table[encoder->header.frames];
	size_t bound = ZSTD_compressBound(count), made;

	if (bound > encoder->body_room - encoder->body_bytes) {
		size_t room = encoder->body_room + encoder->body_room / 2 + bound;
		uint8_t *more = realloc(encoder->body, room);

		if (!more)
			return -ENOMEM;
		encoder->body = more;
		encoder->body_room = room;
	}
	ZSTD_CCtx_reset(encoder->zstd, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(encoder->zstd, ZSTD_c_compressionLevel, encoder->level);
	ZSTD_CCtx_setParameter(encoder->zstd, ZSTD_c_contentSizeFlag, 0);
	if (prefix_bytes)
		ZSTD_CCtx_refPrefix(encoder->zstd, prefix, prefix_bytes);
	made = ZSTD_compress2(encoder->zstd, encoder->body + encoder->body_bytes, bound, bytes,
			      count);
	if (ZSTD_isError(made))
		return -ENOMEM;
	*frame = (struct disk_snapshot_frame){
		.bytes = (uint32_t)made,
		.checksum = XXH3_64bits(encoder->body + encoder->body_bytes, made)};
	encoder->body_bytes += made;
	encoder->header.frames++;
	return 0;
}

static int encode_pages(struct encoder *encoder)
{
	size_t used = 0;
	int code = 0;

	for (uint32_t i = 0; !code && i < encoder->header.runs; i++)
		for (uint32_t k = 0; !code && k < encoder->runs[i].pages; k++) {
			uint64_t number = (uint64_t)encoder->runs[i].first + k;

			memcpy(encoder->now + used, page_at(encoder->contents, number),
			       SNAPSHOT_PAGE);
			if (encoder->since)
				memcpy(encoder->before + used, page_at(encoder->since, number),
				       SNAPSHOT_PAGE);
			used += SNAPSHOT_PAGE;
			if (used < FRAME_BYTES &&
			    (i + 1 < encoder->header.runs || k + 1 < encoder->runs[i].pages))
				continue;
			code = encode_frame(encoder, encoder->now, used, encoder->before,
					    encoder->since ? used : 0);
			used = 0;
		}
	return code;
}

static uint64_t head_checksum(const struct disk_snapshot *header, const void *runs,
			      const void *table)
{
	XXH3_state_t state;

	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, header, offsetof(struct disk_snapshot, checksum));
	if (header->runs)
		XXH3_64bits_update(&state, runs, header->runs * sizeof(struct disk_snapshot_run));
	XXH3_64bits_update(&state, table, header->frames * sizeof(struct disk_snapshot_frame));
	return XXH3_64bits_digest(&state);
}

static int encode_all(struct encoder *encoder, void **data, size_t *bytes)
{
	struct disk_snapshot *header = &encoder->header;
	const struct snapshot_contents *since = encoder->since;
	size_t runs_bytes, table_bytes;
	uint64_t listed;
	uint8_t *to;
	int code = list_pages(encoder, &listed);

	encoder->zstd = ZSTD_createCCtx();
	encoder->now = malloc(FRAME_BYTES);
	encoder->before = malloc(FRAME_BYTES);
	encoder->table = calloc(2 + listed / SNAPSHOT_FRAME_PAGES, sizeof(*encoder->table));
	if (code || !encoder->zstd || !encoder->now || !encoder->before || !encoder->table)
		return -ENOMEM;
	code = encode_frame(encoder, encoder->contents->state, encoder->contents->state_bytes,
			    since ? since->state : NULL, since ? since->state_bytes : 0);
	if (!code)
		code = encode_pages(encoder);
	if (code)
		return code;
	header->checksum = head_checksum(header, encoder->runs, encoder->table);
	runs_bytes = header->runs * sizeof(*encoder->runs);
	table_bytes = header->frames * sizeof(*encoder->table);
	*bytes = sizeof(*header) + runs_bytes + table_bytes + encoder->body_bytes;
	*data = to = malloc(*bytes);
	if (!to)
		return -ENOMEM;
	memcpy(to, header, sizeof(*header));
	if (runs_bytes)
		memcpy(to + sizeof(*header), encoder->runs, runs_bytes);
	memcpy(to + sizeof(*header) + runs_bytes, encoder->table, table_bytes);
	memcpy(to + sizeof(*header) + runs_bytes + table_bytes, encoder->body, encoder->body_bytes);
	return 0;
}

int snapshot_encode(const struct snapshot_contents *contents, const struct snapshot_contents *since,
		    int level, void **data, size_t *bytes, struct thaw_error *error)
{
	struct encoder encoder = {.contents = contents,
				  .since = since,
				  .level = level   ? level
					   : since ? LEVEL_DELTA
						   : LEVEL};
	struct disk_snapshot *header = &encoder.header;
	int code;

	if (contents->heap_bytes % SNAPSHOT_PAGE || contents->heap_bytes > 1ull << 32 ||
	    contents->state_bytes > SNAPSHOT_STATE_MOST ||
	    strlen(contents->engine) >= sizeof(header->engine))
		return failure(error, -EINVAL, "that cannot be a snapshot: sizes, or its engine");
	if (since && strcmp(since->engine, contents->engine))
		return failure(error, THAW_EENGINE,
			       "the two snapshots are of different engines: %s, %s", since->engine,
			       contents->engine);
	memcpy(header->magic, SNAPSHOT_MAGIC, sizeof(header->magic));
	header->version = SNAPSHOT_VERSION;
	header->kind = since ? SNAPSHOT_DELTA : SNAPSHOT_WHOLE;
	strcpy(header->engine, contents->engine);
	header->heap_bytes = contents->heap_bytes;
	header->state_bytes = contents->state_bytes;
	snapshot_id(contents, header->id);
	if (since)
		snapshot_id(since, header->base);
	code = encode_all(&encoder, data, bytes);
	ZSTD_freeCCtx(encoder.zstd);
	free(encoder.now);
	free(encoder.before);
	free(encoder.runs);
	free(encoder.table);
	free(encoder.body);
	return code ? failure(error, code, "no memory to make a snapshot's bytes") : 0;
}

/* ---- Decoding */

struct decoder {
	struct disk_snapshot header;
	const uint8_t *runs, *table, *body;
	size_t body_bytes;
	ZSTD_DCtx *zstd;
	uint8_t *now, *before;
	sum_type sum;
};

static struct disk_snapshot_run run_of(const struct decoder *decoder, uint32_t i)
{
	struct disk_snapshot_run run;

	memcpy(&run, decoder->runs + i * sizeof(run), sizeof(run));
	return run;
}

/* In order, apart, inside of the heap; and as many frames as they need. */
static bool runs_are_sound(const struct decoder *decoder)
{
	uint64_t pages = decoder->header.heap_bytes / SNAPSHOT_PAGE, end = 0, listed = 0;

	for (uint32_t i = 0; i < decoder->header.runs; i++) {
		struct disk_snapshot_run run = run_of(decoder, i);

		if (!run.pages || (i && run.first <= end) || run.first >= pages ||
		    run.pages > pages - run.first)
			return false;
		end = (uint64_t)run.first + run.pages;
		listed += run.pages;
	}
	return decoder->header.frames ==
	       1 + (listed + SNAPSHOT_FRAME_PAGES - 1) / SNAPSHOT_FRAME_PAGES;
}

static bool frames_are_sound(const struct decoder *decoder)
{
	uint64_t all = 0;

	for (uint32_t i = 0; i < decoder->header.frames; i++) {
		struct disk_snapshot_frame frame;

		memcpy(&frame, decoder->table + i * sizeof(frame), sizeof(frame));
		if (frame.zero)
			return false;
		all += frame.bytes;
	}
	return all == decoder->body_bytes;
}

static bool header_is_sound(const struct disk_snapshot *header)
{
	static const uint8_t none[16];

	return header->kind <= SNAPSHOT_DELTA && !header->engine[sizeof(header->engine) - 1] &&
	       !(header->heap_bytes % SNAPSHOT_PAGE) && header->heap_bytes <= 1ull << 32 &&
	       header->state_bytes <= SNAPSHOT_STATE_MOST && header->frames &&
	       (header->kind == SNAPSHOT_DELTA || !memcmp(header->base, none, sizeof(none)));
}

static int open_head(struct decoder *decoder, const void *data, size_t bytes,
		     struct thaw_error *error)
{
	struct disk_snapshot *header = &decoder->header;
	uint64_t head;

	if (!data || bytes < 12 || memcmp(data, SNAPSHOT_MAGIC, 8))
		return failure(error, THAW_EFOREIGN, "these %zu bytes are no snapshot of a VM",
			       bytes);
	memcpy(&header->version, (const uint8_t *)data + 8, 4);
	if (header->version != SNAPSHOT_VERSION)
		return failure(
			error, THAW_EFORMAT,
			"the snapshot has format %08x, and this build knows %08x: use the one that made it",
			header->version, SNAPSHOT_VERSION);
	if (bytes < sizeof(*header))
		return failure(error, THAW_EDAMAGED, "the snapshot is cut off in its header");
	memcpy(header, data, sizeof(*header));
	head = sizeof(*header) + (uint64_t)header->runs * sizeof(struct disk_snapshot_run) +
	       (uint64_t)header->frames * sizeof(struct disk_snapshot_frame);
	if (head > bytes)
		return failure(error, THAW_EDAMAGED, "the snapshot is cut off, or damaged");
	decoder->runs = (const uint8_t *)data + sizeof(*header);
	decoder->table = decoder->runs + header->runs * sizeof(struct disk_snapshot_run);
	decoder->body = (const uint8_t *)data + head;
	decoder->body_bytes = bytes - head;
	if (header->checksum != head_checksum(header, decoder->runs, decoder->table))
		return failure(error, THAW_EDAMAGED, "the snapshot's header is damaged");
	if (!header_is_sound(header) || !runs_are_sound(decoder))
		return failure(error, THAW_EDAMAGED, "the snapshot holds a value that cannot be");
	if (!frames_are_sound(decoder))
		return failure(error, THAW_EDAMAGED, "the snapshot is cut off, or too long");
	return 0;
}

int snapshot_describe(const void *data, size_t bytes, struct snapshot_info *info,
		      struct thaw_error *error)
{
	struct decoder decoder = {0};
	int code = open_head(&decoder, data, bytes, error);

	if (code)
		return code;
	*info = (struct snapshot_info){.delta = decoder.header.kind == SNAPSHOT_DELTA,
				       .heap_bytes = decoder.header.heap_bytes,
				       .state_bytes = decoder.header.state_bytes};
	memcpy(info->engine, decoder.header.engine, sizeof(info->engine));
	memcpy(info->id, decoder.header.id, sizeof(info->id));
	memcpy(info->base, decoder.header.base, sizeof(info->base));
	return 0;
}

/* The next frame, which must come to so many bytes. */
static bool decode_frame(struct decoder *decoder, void *to, size_t count, const void *prefix,
			 size_t prefix_bytes)
{
	struct disk_snapshot_frame frame;
	size_t made;

	memcpy(&frame, decoder->table, sizeof(frame));
	decoder->table += sizeof(frame);
	if (frame.checksum != XXH3_64bits(decoder->body, frame.bytes))
		return false;
	ZSTD_DCtx_reset(decoder->zstd, ZSTD_reset_session_and_parameters);
	if (prefix_bytes)
		ZSTD_DCtx_refPrefix(decoder->zstd, prefix, prefix_bytes);
	made = ZSTD_decompressDCtx(decoder->zstd, to, count, decoder->body, frame.bytes);
	decoder->body += frame.bytes;
	return !ZSTD_isError(made) && made == count;
}

/* Go through the listed pages of a frame, from *run and *page on: how many; collected into `before`, or put in place. */
static size_t frame_pages(struct decoder *decoder, uint32_t *run, uint32_t *page, uint8_t *heap,
			  bool put)
{
	size_t used = 0;

	while (*run < decoder->header.runs && used < FRAME_BYTES) {
		struct disk_snapshot_run at = run_of(decoder, *run);
		uint64_t number = (uint64_t)at.first + *page;
		uint8_t *place = heap + number * SNAPSHOT_PAGE;

		if (put) {
			decoder->sum += page_sum(number, decoder->now + used);
			decoder->sum -= page_sum(number, place);
			memcpy(place, decoder->now + used, SNAPSHOT_PAGE);
		} else {
			memcpy(decoder->before + used, place, SNAPSHOT_PAGE);
		}
		used += SNAPSHOT_PAGE;
		if (++*page == at.pages) {
			*page = 0;
			++*run;
		}
	}
	return used;
}

static bool decode_pages(struct decoder *decoder, uint8_t *heap)
{
	uint32_t run = 0, page = 0;

	while (run < decoder->header.runs) {
		uint32_t from_run = run, from_page = page;
		size_t count = frame_pages(decoder, &run, &page, heap, false);

		if (!decode_frame(decoder, decoder->now, count, decoder->before,
				  decoder->header.kind == SNAPSHOT_DELTA ? count : 0))
			return false;
		frame_pages(decoder, &from_run, &from_page, heap, true);
	}
	return true;
}

/* What a smaller heap does not have of the base. */
static sum_type sum_behind(const struct snapshot_contents *base, uint64_t heap_bytes)
{
	sum_type sum = 0;

	for (uint64_t at = heap_bytes; at < base->heap_bytes; at += SNAPSHOT_PAGE)
		sum += page_sum(at / SNAPSHOT_PAGE, base->heap + at);
	return sum;
}

static int check_base(const struct disk_snapshot *header, const struct snapshot_contents *base,
		      struct thaw_error *error)
{
	uint8_t id[16];

	if (header->kind == SNAPSHOT_WHOLE)
		return 0;
	if (!base)
		return failure(
			error, THAW_ENOGEN,
			"the snapshot is a delta: open it together with what it is based on");
	snapshot_id(base, id);
	if (memcmp(id, header->base, sizeof(id)))
		return failure(
			error, THAW_ENOGEN,
			"the snapshot is a delta of another base (%02x%02x%02x%02x...) than this one "
			"(%02x%02x%02x%02x...)",
			header->base[0], header->base[1], header->base[2], header->base[3], id[0],
			id[1], id[2], id[3]);
	return 0;
}

int snapshot_decode(const void *data, size_t bytes, const char *engine,
		    const struct snapshot_contents *base, uint8_t *heap, uint8_t *state,
		    struct snapshot_contents *made, struct thaw_error *error)
{
	struct decoder decoder = {0};
	struct disk_snapshot *header = &decoder.header;
	uint8_t id[16];
	bool good;
	int code = open_head(&decoder, data, bytes, error);

	if (code)
		return code;
	if (strcmp(header->engine, engine))
		return failure(error, THAW_EENGINE,
			       "the snapshot is of the engine %s, and this is %s", header->engine,
			       engine);
	code = check_base(header, base, error);
	if (code)
		return code;
	if (header->kind == SNAPSHOT_WHOLE)
		base = NULL;
	decoder.zstd = ZSTD_createDCtx();
	decoder.now = malloc(FRAME_BYTES);
	decoder.before = malloc(FRAME_BYTES);
	good = decoder.zstd && decoder.now && decoder.before;
	code = good ? THAW_EDAMAGED : -ENOMEM;
	if (base)
		decoder.sum = sum_of(base) - sum_behind(base, header->heap_bytes);
	good = good &&
	       decode_frame(&decoder, state, header->state_bytes, base ? base->state : NULL,
			    base ? base->state_bytes : 0) &&
	       decode_pages(&decoder, heap);
	ZSTD_freeDCtx(decoder.zstd);
	free(decoder.now);
	free(decoder.before);
	if (!good)
		return failure(error, code,
			       code == -ENOMEM ? "no memory to open a snapshot"
					       : "the snapshot is damaged");
	*made = (struct snapshot_contents){.engine = engine,
					   .heap = heap,
					   .heap_bytes = header->heap_bytes,
					   .state = state,
					   .state_bytes = header->state_bytes};
	sum_set(made, decoder.sum);
	snapshot_id(made, id);
	return memcmp(id, header->id, sizeof(id))
		       ? failure(error, THAW_EDAMAGED,
				 "the snapshot's contents are not those that its id says")
		       : 0;
}
