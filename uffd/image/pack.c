/* SPDX-License-Identifier: MIT */
/*
 * dense.c - copying the generations of an image into a new file that holds nothing else.
 *
 *	slots | pages of the newest: working set, then the others in order | pages of older ones |
 *	nodes of the newest, children first | nodes of older ones | states | working set | records
 *
 * Twice through the trees: the pages first, which says where each is going to be, then the nodes, which
 * name those places. What generations share is met more than once and copied once: `places` tells for
 * each block of the old file, `nodes` for each node. Pages are gathered until the window of the new file
 * that they will fill is full, read in the order in which they lie in the old one, checked, and written
 * in order.
 *
 * Every checksum is compared on the way. Whatever a hostile image claims, the new file is not longer
 * than the old one and the records; each tree is descended to the depth that its levels allow, and no
 * node is visited twice.
 *
 * Any thread. Memory: 8 bytes for each block of the old file, 64 for each node, and WINDOW_BYTES and
 * a batch.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "page_batch.h"
#include "copying.h"
#include "format.h"
#include "nodemap.h"
#include "retention.h"
#include "sys.h"

#define WINDOW_BYTES (16u << 20)
#define WRITE_BYTES (1u << 20)
/* A place: the block in the new file, and of checksum and page number what fits beside it. 0: not copied. */
#define PLACE_BITS 40
#define PLACE_BLOCK ((1ull << PLACE_BITS) - 1)

struct dense {
	const struct walk_source *from;
	struct copying *copying;
	struct thaw_error *error;
	uint64_t blocks, *places; /* of the old file */
	uint64_t copied;	  /* pages */
	struct nodemap nodes;
	struct batch batch;

	struct newfile *to; /* [base, + filled) of it is in the window */
	uint64_t base, limit;
	size_t filled;
	uint8_t *window;
};

/* ---- The new file */

static int page_error(struct dense *dense, uint64_t page, uint64_t offset, const char *what)
{
	return error_set(dense->error, THAW_EDAMAGED,
			 "%s: page %" PRIu64 " at offset %" PRIu64 ": %s", dense->from->path, page,
			 offset, what);
}

static int window_write(struct dense *dense)
{
	struct batch *batch = &dense->batch;
	int code = 0;

	batch_read(batch, dense->window, dense->base);
	for (size_t i = 0; i < batch->count; i++)
		if (batch->pages[i].wrong)
			return page_error(dense, batch->pages[i].page,
					  batch->pages[i].extent.offset, batch->pages[i].wrong);
	dense->copied += batch->count;
	batch->count = 0;
	for (size_t at = 0; at < dense->filled && !code; at += WRITE_BYTES) {
		size_t part = dense->filled - at < WRITE_BYTES ? dense->filled - at : WRITE_BYTES;

		code = sys_pwrite(dense->to->fd, dense->window + at, part, dense->base + at);
		if (code)
			return newfile_error(dense->to->path, code, dense->error);
		code = copying_advance(dense->copying, part);
	}
	/* So that there is less to wait for at the end. Failing is no harm: the sync tells. */
	sync_file_range(dense->to->fd, (off_t)dense->base, (off_t)dense->filled,
			SYNC_FILE_RANGE_WRITE);
	dense->base += dense->filled;
	dense->filled = 0;
	return code;
}

/* Room for `bytes` (at most a window) that lie together: where. */
static int window_take(struct dense *dense, size_t bytes, uint64_t *offset)
{
	size_t rounded = (bytes + 7) & ~(size_t)7;

	if (dense->base + dense->filled + rounded > dense->limit)
		return error_set(dense->error, THAW_EDAMAGED,
				 "%s: what it claims to hold is more than the file",
				 dense->from->path);
	if (WINDOW_BYTES - dense->filled < rounded) {
		int code = window_write(dense);

		if (code)
			return code;
	}
	*offset = dense->base + dense->filled;
	memset(dense->window + dense->filled + bytes, 0, rounded - bytes);
	dense->filled += rounded;
	return 0;
}

static void *window_at(struct dense *dense, uint64_t offset)
{
	return dense->window + (offset - dense->base);
}

/* ---- Pages */

static uint64_t place_of(uint64_t to, const struct extent *extent, uint64_t page)
{
	return to / SPACE_BLOCK | page_word(extent, page) >> PLACE_BITS << PLACE_BITS;
}

static int dense_page(struct dense *dense, uint64_t page, const struct extent *extent)
{
	uint64_t block = extent->offset / SPACE_BLOCK, *place, to;
	int code;

	if (extent->encoding != EXTENT_RAW)
		return 0;
	if (block >= dense->blocks)
		return page_error(dense, page, extent->offset,
				  "page lies beyond the end of the file");
	place = &dense->places[block];
	if (*place) {
		if (*place != place_of((*place & PLACE_BLOCK) * SPACE_BLOCK, extent, page))
			return page_error(dense, page, extent->offset,
					  "page has a wrong checksum, or lies where another lies");
		return 0;
	}
	code = dense->batch.count == dense->batch.room ? window_write(dense) : 0;
	if (!code)
		code = window_take(dense, extent->bytes, &to);
	if (code)
		return code;
	*place = place_of(to, extent, page);
	batch_add(&dense->batch, page, extent, to);
	return 0;
}

static int dense_working_set(struct dense *dense, const struct root *root, const uint64_t *pages,
			     uint64_t count)
{
	unsigned cluster = page_cluster(dense->from->page_bytes);
	struct index index;
	int code = 0;

	index_open(&index, dense->from->fd, dense->from->path, dense->from->page_bytes, root);
	for (uint64_t i = 0; i < count && !code; i++) {
		uint64_t leaf = pages[i] - pages[i] % IMAGE_LEAF_PAGES;
		uint64_t first = pages[i] - pages[i] % cluster;
		struct extent extents[IMAGE_LEAF_PAGES];

		code = index_lookup(&index, leaf, extents, dense->error);
		for (unsigned n = 0; n < cluster && !code; n++)
			code = dense_page(dense, first + n, &extents[first - leaf + n]);
	}
	index_close(&index);
	return code;
}

static int dense_no_memory(struct dense *dense)
{
	return error_set(dense->error, -ENOMEM, "%s: no memory to copy it", dense->from->path);
}

static int dense_pages(struct dense *dense, const struct reference *at, unsigned level,
		       uint64_t first)
{
	union disk_any node;
	int code;

	if (nodemap_find(&dense->nodes, at, level, first))
		return 0;
	code = index_read_node(dense->from->fd, dense->from->path, at, level, first, &node,
			       dense->error);
	if (code)
		return code;
	if (nodemap_add(&dense->nodes, at, level, first, 0))
		return dense_no_memory(dense);
	for (unsigned i = 0; i < FORMAT_FANOUT && !code; i++) {
		if (level) {
			const struct disk_child *child = &node.inner.children[i];
			const struct reference to = {child->offset,
						     {child->checksum[0], child->checksum[1]}};

			if (to.offset)
				code = dense_pages(dense, &to, level - 1,
						   first + i * index_span(level - 1));
		} else {
			struct extent extent;

			index_decode_entry(&node.leaf.entries[i], dense->from->page_bytes, &extent);
			code = dense_page(dense, first + i, &extent);
		}
	}
	return code;
}

/* ---- Nodes */

static int dense_entry(struct dense *dense, uint64_t page, struct disk_entry *entry)
{
	struct extent extent;
	uint64_t place;

	index_decode_entry(entry, dense->from->page_bytes, &extent);
	if (extent.encoding != EXTENT_RAW)
		return 0;
	place = extent.offset / SPACE_BLOCK < dense->blocks
			? dense->places[extent.offset / SPACE_BLOCK]
			: 0;
	if (!place || place != place_of((place & PLACE_BLOCK) * SPACE_BLOCK, &extent, page))
		return page_error(dense, page, extent.offset, "page changed while it was copied");
	entry->offset = (place & PLACE_BLOCK) * SPACE_BLOCK / FORMAT_UNIT;
	return 0;
}

/* Write the subtree, unless that was done: `to` is where it is. */
static int dense_nodes(struct dense *dense, const struct reference *at, unsigned level,
		       uint64_t first, struct reference *to)
{
	struct known_node *known = nodemap_find(&dense->nodes, at, level, first);
	union disk_any node;
	int code;

	if (known && known->to.offset) {
		*to = known->to;
		return 0;
	}
	code = index_read_node(dense->from->fd, dense->from->path, at, level, first, &node,
			       dense->error);
	for (unsigned i = 0; i < FORMAT_FANOUT && !code; i++) {
		struct disk_child *child = &node.inner.children[i];
		const struct reference below = {child->offset,
						{child->checksum[0], child->checksum[1]}};
		struct reference written;

		if (!level) {
			code = dense_entry(dense, first + i, &node.leaf.entries[i]);
			continue;
		}
		if (!below.offset)
			continue;
		code = dense_nodes(dense, &below, level - 1, first + i * index_span(level - 1),
				   &written);
		*child = (struct disk_child){written.offset,
					     {written.checksum.low64, written.checksum.high64}};
	}
	if (!code)
		code = window_take(dense, index_node_bytes(level), &to->offset);
	if (code)
		return code;
	memcpy(window_at(dense, to->offset), &node, index_node_bytes(level));
	to->checksum = XXH3_128bits(&node, index_node_bytes(level));
	if (known) /* nothing was added meanwhile */
		known->to = *to;
	return 0;
}

/* ---- States */

static int dense_state(struct dense *dense, struct generation *generation)
{
	uint64_t left = generation->info.state_bytes, from = generation->state_offset, to;
	XXH3_state_t *hash;
	int code = 0;

	if (!left)
		return 0;
	hash = XXH3_createState();
	if (!hash)
		return dense_no_memory(dense);
	XXH3_128bits_reset(hash);
	while (left && !code) {
		size_t part = left < WRITE_BYTES ? left : WRITE_BYTES;

		/* Whole words but for the last part, so the parts lie together. */
		code = window_take(dense, part, &to);
		if (!code && left == generation->info.state_bytes)
			generation->state_offset = to;
		if (code)
			break;
		code = sys_pread(dense->from->fd, window_at(dense, to), part, from);
		if (code) {
			code = code == -ENODATA || code == -EINVAL ? THAW_EDAMAGED : code;
			error_set(dense->error, code,
				  "%s: the state of generation %" PRIu64 " at offset %" PRIu64
				  ": %s",
				  dense->from->path, generation->info.number, from,
				  thaw_strerror(code));
			break;
		}
		XXH3_128bits_update(hash, window_at(dense, to), part);
		from += part;
		left -= part;
	}
	if (!code && !XXH128_isEqual(XXH3_128bits_digest(hash), generation->state_checksum))
		code = error_set(dense->error, THAW_EDAMAGED,
				 "%s: the state of generation %" PRIu64
				 " is damaged (its checksum is wrong)",
				 dense->from->path, generation->info.number);
	XXH3_freeState(hash);
	return code;
}

/* ---- All of it */

/* Newest first: those that are made to be read next lie together. */
static int dense_generations(struct dense *dense, struct record *record)
{
	int code = 0;

	for (unsigned i = record->count; i-- > 0 && !code;) {
		const struct root *root = &record->generations[i].root;

		if (root->levels)
			code = dense_pages(dense, &root->at, root->levels - 1, 0);
	}
	for (unsigned i = record->count; i-- > 0 && !code;) {
		struct root *root = &record->generations[i].root;
		struct reference to;

		if (!root->levels)
			continue;
		code = dense_nodes(dense, &root->at, root->levels - 1, 0, &to);
		root->at = to;
	}
	for (unsigned i = record->count; i-- > 0 && !code;)
		code = dense_state(dense, &record->generations[i]);
	return code;
}

static int dense_all(struct dense *dense, struct record *record)
{
	struct working_set *set = &record->working_set;
	uint64_t *pages;
	int code = working_set_read(dense->from->fd, set, &pages);

	if (code)
		return code == -ENOMEM
			       ? dense_no_memory(dense)
			       : working_set_error(dense->from->path, set, code, dense->error);
	if (record->count)
		code = dense_working_set(dense, &record->generations[record->count - 1].root, pages,
					 set->bytes / sizeof(*pages));
	if (!code)
		code = dense_generations(dense, record);
	if (!code && set->bytes) {
		code = window_take(dense, set->bytes, &set->offset);
		if (!code)
			memcpy(window_at(dense, set->offset), pages, set->bytes);
	}
	free(pages);
	return code ? code : window_write(dense);
}

int dense_copy(const struct walk_source *source, const struct slot *identity,
	       const struct record *record, const struct note *note, struct newfile *to,
	       struct copying *copying, uint64_t *pages, struct thaw_error *error)
{
	struct dense dense = {.from = source,
			      .copying = copying,
			      .error = error,
			      .to = to,
			      .base = STORE_HEADER_BYTES};
	bool *keep = malloc(record->count + 1);
	struct record copy = {0};
	struct stat stat;
	int code;

	error->code = 0;
	if (fstat(source->fd, &stat))
		memset(&stat, 0, sizeof(stat));
	dense.blocks = (uint64_t)stat.st_size / SPACE_BLOCK + 1;
	/* Headers, a page that ends the file, and what the words are rounded up to. */
	dense.limit = (uint64_t)stat.st_size + STORE_HEADER_BYTES + 65536;
	dense.places = calloc(dense.blocks, sizeof(*dense.places));
	dense.window = malloc(WINDOW_BYTES);
	nodemap_open(&dense.nodes);
	code = batch_open(&dense.batch, source->fd, source->page_bytes,
			  WINDOW_BYTES / source->page_bytes);
	if (dense.blocks > PLACE_BLOCK)
		code = -EFBIG;
	else if (!dense.places || !dense.window || !keep)
		code = -ENOMEM;
	if (!code) {
		memset(keep, true, record->count + 1);
		code = retention_select(record, keep, &copy);
	}
	if (!code)
		code = dense_all(&dense, &copy);
	if (!code) {
		code = newfile_seal(to, dense.base, identity, identity->sequence, &copy, note);
		if (code)
			newfile_error(to->path, code, error);
	}
	*pages = dense.copied;
	record_free(&copy);
	batch_close(&dense.batch);
	nodemap_close(&dense.nodes);
	free(dense.window);
	free(dense.places);
	free(keep);
	return code && !error->code ? error_set(error, code, "%s: cannot be copied: %s",
						source->path, thaw_strerror(code))
				    : code;
}
