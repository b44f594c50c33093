/* SPDX-License-Identifier: MIT */
/*
 * verify.c - thaw_image_verify: read and check every byte that a retained generation reaches.
 *
 * Newest generation first; each is walked against those walked before that are adjacent to it (walk.c,
 * retention.c), so that every node and page is read once. Pages are gathered, sorted by where they lie and read in large
 * pieces. Beside the checksums, the claims on the file's blocks are checked: since everything is
 * visited once, two claims on one block are two owners.
 *
 * The image may be in use. Blocks of a retained generation never change, so whatever looks damaged
 * is damaged if its generation is still listed afterwards; if it is not, the writer has dropped it
 * meanwhile, and so does this walk.
 *
 * Any thread. Memory: one byte per block of the file, and 32 where packed pages are, 2 MiB to read into, and a
 * batch of extents.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bitmap.h"
#include "page_batch.h"
#include "format.h"
#include "retention.h"
#include "store.h"
#include "sys.h"
#include "walk.h"

#define BATCH_PAGES 4096u
#define READ_BYTES (1u << 20)
#define GENERATION_DROPPED 1 /* ends a walk, and is no error */
#define LOG_READS 4u

enum claim { CLAIM_NONE, CLAIM_BYTES, CLAIM_WHOLE };

struct verify {
	struct walk_source source;
	const struct thaw_verify_ops *ops;
	struct thaw_verify_summary summary;
	uint64_t generation; /* being walked; 0: the header */
	uint64_t retained;   /* this one was listed when the slots were these */
	struct slot retained_in[2];
	uint64_t file_bytes;
	uint8_t *claims; /* enum claim per block */
	struct bitmap
		units; /* of the file that packed pages lie in; of it, only that takes memory */
	uint8_t *buffer;
	struct page_batch batch;
	struct thaw_damage damage; /* the last finding, not reported yet: more pages may join it */
	bool damage_waits;
};

/* ---- Telling */

static void damage_tell(struct verify *verify)
{
	if (!verify->damage_waits)
		return;
	verify->damage_waits = false;
	verify->summary.damages++;
	if (verify->ops && verify->ops->damage)
		verify->ops->damage(verify->ops->arg, &verify->damage);
}

/*
 * Is the generation that is walked still listed? An image without commits meanwhile is asked once
 * per generation, not once per finding.
 */
static bool still_retained(struct verify *verify)
{
	struct slot now[2], *then = verify->retained_in;
	struct thaw_error unused;

	if (header_read(verify->source.fd, verify->source.path, now, &unused))
		return true;
	if (verify->retained == verify->generation && now[0].sequence == then[0].sequence &&
	    now[1].sequence == then[1].sequence)
		return true;
	if (!store_retains(verify->source.fd, verify->source.path, verify->generation))
		return false;
	verify->retained = verify->generation;
	memcpy(then, now, sizeof(now));
	return true;
}

static int damage_add(struct verify *verify, uint64_t first_page, uint64_t pages, uint64_t offset,
		      uint64_t bytes, const char *what)
{
	struct thaw_damage *last = &verify->damage;

	if (verify->generation && !still_retained(verify))
		return GENERATION_DROPPED;
	if (verify->damage_waits && pages && last->pages &&
	    last->generation == verify->generation &&
	    last->first_page + last->pages == first_page && !strcmp(last->what, what)) {
		last->pages += pages;
		last->bytes += bytes;
		return 0;
	}
	damage_tell(verify);
	*last = (struct thaw_damage){verify->generation, first_page, pages, offset, bytes, ""};
	snprintf(last->what, sizeof(last->what), "%s", what);
	verify->damage_waits = true;
	return 0;
}

static int progress(struct verify *verify)
{
	uint64_t total = verify->file_bytes;

	if (!verify->ops || !verify->ops->progress)
		return 0;
	if (total < verify->summary.bytes) /* it grew */
		total = verify->summary.bytes;
	return verify->ops->progress(verify->ops->arg, verify->summary.bytes, total) ? -ECANCELED
										     : 0;
}

/*
 * Every range is claimed once; several small things may share a block, a page shares with nobody.
 */
static bool claim(struct verify *verify, uint64_t offset, uint64_t bytes, enum claim kind)
{
	bool clash = false;

	for (uint64_t block = offset / SPACE_BLOCK; block <= (offset + bytes - 1) / SPACE_BLOCK &&
						    block < verify->file_bytes / SPACE_BLOCK;
	     block++) {
		clash |= verify->claims[block] == CLAIM_WHOLE ||
			 (kind == CLAIM_WHOLE && verify->claims[block] == CLAIM_BYTES);
		verify->claims[block] = kind;
	}
	return !clash;
}

/* Packed pages share blocks, but no unit of one. */
static bool claim_page(struct verify *verify, const struct extent *extent)
{
	uint64_t unit = extent->offset / EXTENT_UNIT, end = extent_end(extent) / EXTENT_UNIT;

	if (extent_is_whole(extent))
		return claim(verify, extent->offset, extent->bytes, CLAIM_WHOLE);
	if (!claim(verify, extent->offset, extent->bytes, CLAIM_BYTES))
		return false;
	for (; unit < end && unit < verify->units.bits; unit++) {
		if (bitmap_test(&verify->units, unit))
			return false;
		bitmap_set(&verify->units, unit);
	}
	return true;
}

/* ---- Pages */

static int by_page(const void *a, const void *b)
{
	const struct batched_page *left = a, *right = b;

	return (left->page > right->page) - (left->page < right->page);
}

static int batch_check(struct verify *verify)
{
	struct page_batch *batch = &verify->batch;
	struct batched_page *pages = batch->pages;
	size_t count = batch->count;

	int code = page_batch_read(batch, NULL, NULL);

	batch->count = 0;
	if (code)
		return code;
	for (size_t i = 0; i < count; i++) {
		verify->summary.bytes += pages[i].extent.bytes;
		if (!pages[i].wrong && !claim_page(verify, &pages[i].extent))
			pages[i].wrong = "page lies where something else lies";
	}

	qsort(pages, count, sizeof(*pages), by_page);
	for (size_t i = 0; i < count; i++) {
		if (pages[i].wrong)
			code = damage_add(verify, pages[i].page, 1, pages[i].extent.offset,
					  pages[i].extent.bytes, pages[i].wrong);
		if (code)
			return code;
	}
	return progress(verify);
}

static int verify_extent(void *arg, uint64_t page, const struct extent *extent)
{
	struct verify *verify = arg;

	verify->summary.pages++;
	if (!extent->bytes)
		return 0;
	page_batch_add(&verify->batch, page, extent);
	return verify->batch.count == verify->batch.room ? batch_check(verify) : 0;
}

/* ---- Nodes, state blobs, the header */

static int verify_node(void *arg, uint64_t offset, uint32_t bytes)
{
	struct verify *verify = arg;

	verify->summary.nodes++;
	verify->summary.bytes += bytes;
	if (!claim(verify, offset, bytes, CLAIM_BYTES))
		return damage_add(verify, 0, 0, offset, bytes,
				  "index node lies where something else lies");
	return 0;
}

static int verify_node_damage(void *arg, uint64_t first_page, uint64_t pages, uint64_t offset,
			      uint32_t bytes, const struct thaw_error *error)
{
	return damage_add(arg, first_page, pages, offset, bytes,
			  error->code == THAW_EDAMAGED
				  ? "index node is damaged, the pages below cannot be found"
				  : "index node cannot be read");
}

static int verify_state(struct verify *verify, const struct generation *generation)
{
	uint64_t bytes = generation->info.state_bytes, offset = generation->state_offset;
	const char *wrong = NULL;
	int code;

	if (!bytes)
		return 0;
	if (offset < STORE_HEADER_BYTES || offset > verify->file_bytes ||
	    bytes > verify->file_bytes - offset)
		return damage_add(verify, 0, 0, offset, bytes,
				  "state blob lies beyond the end of the file");
	code = state_check(verify->source.fd, verify->source.key, generation, verify->buffer,
			   READ_BYTES, NULL);
	if (code == -ENOMEM)
		return code;
	if (code)
		wrong = code == THAW_EDAMAGED ? "state blob has a wrong checksum"
					      : "state blob cannot be read";
	else if (!claim(verify, offset, bytes, CLAIM_BYTES))
		wrong = "state blob lies where something else lies";
	verify->summary.bytes += bytes;
	return wrong ? damage_add(verify, 0, 0, offset, bytes, wrong) : 0;
}

/*
 * Both slots and the records they name. A slot that changes while it is checked is not damaged but
 * being written.
 */
static int verify_header(struct verify *verify, const struct slot slots[2])
{
	struct thaw_error error;
	struct slot now[2];

	verify->generation = 0;
	for (unsigned i = 0; i < 2; i++) {
		struct record record;
		int code = 0;

		verify->summary.bytes += FORMAT_SLOT_BYTES;
		if (slots[i].state != SLOT_VALID) {
			damage_add(verify, 0, 0, i * SPACE_BLOCK, FORMAT_SLOT_BYTES,
				   "header slot is damaged");
			continue;
		}
		/* Those of one block may have been torn when they were changed: the other's serve. */
		if (slots[i].enciphered && !slots[i].keys.known)
			damage_add(verify, 0, 0,
				   i * SPACE_BLOCK + offsetof(struct disk_header, keys),
				   sizeof(struct disk_keys), "key slots are damaged");
		if (slots[i].enciphered && !slots[i].key)
			continue; /* nothing of it can be deciphered */
		code = record_read(verify->source.fd, verify->source.path, &slots[i], &record,
				   &error);
		if (code && !header_read(verify->source.fd, verify->source.path, now, &error) &&
		    now[i].sequence == slots[i].sequence)
			damage_add(verify, 0, 0, slots[i].record_offset, slots[i].record_bytes,
				   code == THAW_EDAMAGED ? "commit record is damaged"
							 : "commit record cannot be read");
		if (!code && record.bytes &&
		    !claim(verify, record.offset, record.bytes, CLAIM_BYTES))
			damage_add(verify, 0, 0, record.offset, record.bytes,
				   "commit record lies where something else lies");
		verify->summary.bytes += slots[i].record_bytes;
		if (!code)
			record_free(&record);
	}
	return progress(verify);
}

static int verify_working_set(struct verify *verify, const struct slot *slot,
			      const struct record *record)
{
	const struct working_set *set = &record->working_set;
	const char *wrong = NULL;
	struct slot now[2];
	uint64_t *pages;
	int code = working_set_read(verify->source.fd, slot->key, set, &pages);

	free(pages);
	if (!set->bytes || code == -ENOMEM)
		return code;
	if (code)
		wrong = code == THAW_EDAMAGED ? "working set has a wrong checksum"
					      : "working set cannot be read";
	else if (!claim(verify, set->offset, set->bytes, CLAIM_BYTES))
		wrong = "working set lies where something else lies";
	verify->summary.bytes += set->bytes;
	/* It may have been replaced meanwhile. */
	if (wrong && !header_read(verify->source.fd, verify->source.path, now, NULL) &&
	    (now[0].sequence == slot->sequence || now[1].sequence == slot->sequence))
		return damage_add(verify, 0, 0, set->offset, set->bytes, wrong);
	return 0;
}

/* What is read while it is written may look damaged, but not each time. */
static int verify_log(struct verify *verify, const struct slot slots[2], unsigned chosen,
		      const struct record *record)
{
	struct image image = {.fd = verify->source.fd,
			      .path = (char *)verify->source.path,
			      .slot = chosen,
			      .slots = {slots[0], slots[1]},
			      .identity = slots[chosen],
			      .record = *record};
	const struct log_area *area = &record->log;
	struct slot now[2];
	uint64_t bytes = 0;
	int code = THAW_EDAMAGED;

	if (!area->bytes || !record->count)
		return 0;
	image.opened = image.base = record->generations[record->count - 1];
	index_open(&image.index, image.fd, image.path, image.identity.key,
		   image.identity.page_bytes, &image.base.root);
	for (unsigned tries = 0; tries < LOG_READS && code == THAW_EDAMAGED; tries++)
		code = log_verify(&image, &bytes);
	index_close(&image.index);
	verify->summary.bytes += bytes;
	if (code == -ENOMEM)
		return code;
	/* Another record has made it void. */
	if (header_read(verify->source.fd, verify->source.path, now, NULL) ||
	    now[0].sequence != slots[0].sequence || now[1].sequence != slots[1].sequence)
		return 0;
	verify->generation = record->generations[record->count - 1].info.number;
	if (!code && !claim(verify, area->offset, area->bytes, CLAIM_WHOLE))
		return damage_add(verify, 0, 0, area->offset, area->bytes,
				  "log lies where something else lies");
	return !code ? 0
		     : damage_add(
			       verify, 0, 0, area->offset + bytes, area->bytes - bytes,
			       code == THAW_EDAMAGED
				       ? "log is damaged, the generations from there on cannot be found"
				       : "log cannot be read");
}

static int verify_generations(struct verify *verify, const struct record *record)
{
	const struct walk_ops ops = {verify_node, verify_extent, verify_node_damage, verify};
	const struct generation *generation;
	struct retention_tour tour;
	int code = retention_tour_begin(&tour, record->generations, record->count);

	while (!code && (generation = retention_tour_next(&tour))) {
		verify->generation = generation->info.number;
		verify->summary.generations++;
		verify->batch.count = 0;
		code = walk_difference(&verify->source, &generation->root, tour.roots,
				       tour.adjacent, false, &ops);
		if (!code)
			code = batch_check(verify);
		if (!code)
			code = verify_state(verify, generation);
		if (code == GENERATION_DROPPED)
			code = 0;
	}
	retention_tour_end(&tour);
	return code;
}

static int verify_run(struct verify *verify, struct thaw_error *error)
{
	struct record record = {0};
	struct thaw_error fallback;
	struct slot slots[2];
	unsigned chosen = 0;
	struct stat stat;
	int code, opened;

	opened = pins_read(verify->source.fd, verify->source.path, slots, &chosen, &record,
			   &fallback, error);
	if (opened && opened != THAW_EDAMAGED)
		return opened;
	/* Only now: the file may have grown by what the record lists. */
	code = fstat(verify->source.fd, &stat) ? -errno : 0;
	if (!code) {
		verify->file_bytes = (uint64_t)stat.st_size;
		verify->claims = calloc(verify->file_bytes / SPACE_BLOCK + 1, 1);
		verify->buffer = malloc(READ_BYTES);
		code = page_batch_open(&verify->batch, verify->source.fd, slots[chosen].key,
				       slots[chosen].page_bytes, BATCH_PAGES);
		if (!verify->claims || !verify->buffer ||
		    bitmap_init(&verify->units, verify->file_bytes / EXTENT_UNIT + 1))
			code = -ENOMEM;
	}
	if (code) {
		record_free(&record);
		return error_set(error, code, "%s: cannot verify it: %s", verify->source.path,
				 thaw_strerror(code));
	}
	verify->source.key = slots[chosen].key;
	verify->source.page_bytes = slots[chosen].page_bytes;
	code = verify_header(verify, slots);
	if (!code && !opened)
		code = verify_working_set(verify, &slots[chosen], &record);
	if (!code && !opened)
		code = verify_generations(verify, &record);
	if (!code && !opened)
		code = verify_log(verify, slots, chosen, &record);
	if (code == GENERATION_DROPPED)
		code = 0;
	record_free(&record);
	if (code)
		error_set(error, code, "%s: not verified to its end: %s", verify->source.path,
			  thaw_strerror(code));
	return code;
}

int thaw_image_verify(const char *path, const struct thaw_verify_ops *ops,
		      struct thaw_verify_summary *summary, struct thaw_error *error)
{
	struct verify verify = {.source = {.path = path}, .ops = ops};
	struct thaw_error unused;
	int code;

	error = error ? error : &unused;
	if (summary)
		memset(summary, 0, sizeof(*summary));
	verify.source.fd = store_open(path, O_RDONLY, error);
	if (verify.source.fd < 0)
		return verify.source.fd;
	code = verify_run(&verify, error);
	damage_tell(&verify);
	if (!code && verify.summary.damages)
		code = error_set(error, THAW_EDAMAGED, "%s: damaged in %" PRIu64 " place%s", path,
				 verify.summary.damages, verify.summary.damages == 1 ? "" : "s");
	if (summary)
		*summary = verify.summary;
	page_batch_close(&verify.batch);
	bitmap_free(&verify.units);
	free(verify.buffer);
	free(verify.claims);
	close(verify.source.fd);
	return code;
}
