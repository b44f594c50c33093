/* SPDX-License-Identifier: MIT */
/*
 * pack.c - copying the generations of an image into a new file that contains nothing else.
 *
 *	slots | pages of the newest: working set, then the others in order | pages of older ones |
 *	nodes of the newest, children first | nodes of older ones | states | working set | records
 *
 * The trees are walked twice: first for the pages, which decides their new places, then for the nodes,
 * which name those places. What generations share is copied once: `places` and `nodes` say what was copied. Pages
 * are collected, read in the order of the old file, checked, and put into the window of the new file in their own: of
 * those that are collected together the whole ones first, and then the packed ones. They are stored as they were, or
 * encoded anew. Whatever a hostile image claims, the new file is hardly longer than the old one (than its pages, if they
 * are encoded anew) and the records, and no node is visited twice.
 *
 * Any thread. Memory: 43 to 86 bytes per stored page, 64 per node, two windows and a batch.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cipher.h"
#include "page_batch.h"
#include "copying.h"
#include "format.h"
#include "nodemap.h"
#include "pagemap.h"
#include "retention.h"
#include "sys.h"

#define WINDOW_BYTES (8u << 20)
#define WRITE_BYTES (1u << 20)

struct packing {
	const struct walk_source *from;
	struct copying *copying;
	struct thaw_error *error;
	const struct checksum_key *key; /* of the new image, which may be another */
	XXH128_hash_t *sums;		/* with that, of the pages, in the order of the new file */
	size_t sums_count, sums_room;
	uint64_t blocks;		  /* of the old file */
	const struct extent_codec *codec; /* NULL: pages stay as they are stored */
	struct extent_scratch scratch;
	uint64_t copied; /* pages */
	struct pagemap places;
	struct nodemap nodes;
	struct page_batch batch;
	uint8_t *gathered; /* of the batch, as they are going to be stored: WINDOW_BYTES */
	size_t gathered_bytes;

	struct newfile *to; /* [base, + filled) of it is in the window */
	uint64_t base, limit;
	size_t filled;
	uint8_t *window;
};

/* ---- The new file */

static int page_error(struct packing *packing, uint64_t page, uint64_t offset, const char *what)
{
	return error_set(packing->error, THAW_EDAMAGED,
			 "%s: page %" PRIu64 " at offset %" PRIu64 ": %s", packing->from->path,
			 page, offset, what);
}

static int window_write(struct packing *packing)
{
	int code = 0;

	for (size_t at = 0; at < packing->filled && !code; at += WRITE_BYTES) {
		size_t part = packing->filled - at < WRITE_BYTES ? packing->filled - at
								 : WRITE_BYTES;

		code = sys_pwrite(packing->to->fd, packing->window + at, part, packing->base + at);
		if (code)
			return newfile_write_error(packing->to, code, packing->error);
		code = copying_advance(packing->copying, part);
	}
	/*
	 * Begins writing back, so that the final sync takes less time. A failure does no harm: the
	 * sync reports it.
	 */
	sync_file_range(packing->to->fd, (off_t)packing->base, (off_t)packing->filled,
			SYNC_FILE_RANGE_WRITE);
	packing->base += packing->filled;
	packing->filled = 0;
	return code;
}

/* Room for `bytes` (at most a window) that lie together: where. */
static int window_take(struct packing *packing, size_t bytes, uint64_t *offset)
{
	size_t rounded = (bytes + 7) & ~(size_t)7;

	if (packing->base + packing->filled + rounded > packing->limit)
		return error_set(packing->error, THAW_EDAMAGED,
				 "%s: what it claims to hold is more than the file",
				 packing->from->path);
	if (WINDOW_BYTES - packing->filled < rounded) {
		int code = window_write(packing);

		if (code)
			return code;
	}
	*offset = packing->base + packing->filled;
	memset(packing->window + packing->filled + bytes, 0, rounded - bytes);
	packing->filled += rounded;
	return 0;
}

static void *window_at(struct packing *packing, uint64_t offset)
{
	return packing->window + (offset - packing->base);
}

/* ---- Pages */

/* Whole ones begin at a block: what is behind the last packed one stays free. */
static int window_align(struct packing *packing)
{
	uint64_t unused, at = packing->base + packing->filled;

	return at % SPACE_BLOCK ? window_take(packing, SPACE_BLOCK - at % SPACE_BLOCK, &unused) : 0;
}

/* A page of the batch that is right: as it is going to be stored, behind the others. */
static int page_gather(void *arg, struct batched_page *page, const void *stored,
		       const void *contents)
{
	struct packing *packing = arg;
	uint8_t *to = packing->gathered + packing->gathered_bytes;
	uint32_t page_bytes = packing->from->page_bytes;
	/* As it was encoded before, if it has to be enciphered anew. */
	const struct extent_codec same = extent_codec_again(&page->extent);
	int code = 0;

	if (packing->key != packing->from->key)
		page->extent.checksum =
			checksum_of(packing->key, CHECKSUM_PAGE, contents, page_bytes);
	if (packing->codec || packing->key != packing->from->key)
		code = extent_encode(&packing->scratch, packing->codec ? packing->codec : &same,
				     packing->key, page->page, &page->extent, contents, page_bytes,
				     to, &stored);
	if (code)
		return code;
	if (stored != to)
		memcpy(to, stored, extent_room(&page->extent));
	page->gathered = packing->gathered_bytes;
	packing->gathered_bytes += extent_room(&page->extent);
	return 0;
}

static int by_turn(const void *a, const void *b)
{
	const struct batched_page *left = a, *right = b;

	return (left->turn > right->turn) - (left->turn < right->turn);
}

/* Nodes say what the pages' checksums are now. */
static int sum_keep(struct packing *packing, struct known_page *place, XXH128_hash_t sum)
{
	if (packing->sums_count == packing->sums_room) {
		size_t room = packing->sums_room ? 2 * packing->sums_room : 4096;
		XXH128_hash_t *more = realloc(packing->sums, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		packing->sums = more;
		packing->sums_room = room;
	}
	place->sum = packing->sums_count;
	packing->sums[packing->sums_count++] = sum;
	return 0;
}

/* Those of one kind, in their order. */
static int batch_place(struct packing *packing, bool whole)
{
	struct page_batch *batch = &packing->batch;
	int code = 0;

	for (size_t i = 0; i < batch->count && !code; i++) {
		const struct batched_page *page = &batch->pages[i];
		uint64_t bytes = extent_room(&page->extent), to;
		struct known_page *place;

		if (extent_is_whole(&page->extent) != whole)
			continue;
		code = window_take(packing, bytes, &to);
		if (code)
			return code;
		memcpy(window_at(packing, to), packing->gathered + page->gathered, bytes);
		place = pagemap_find(&packing->places, &page->extent);
		place->to = to / EXTENT_UNIT;
		place->bytes = whole ? 0 : page->extent.bytes;
		place->encoding = page->extent.encoding;
		if (packing->key != packing->from->key)
			code = sum_keep(packing, place, page->extent.checksum);
	}
	return code;
}

static int batch_write(struct packing *packing)
{
	struct page_batch *batch = &packing->batch;
	int code;

	packing->gathered_bytes = 0;
	code = page_batch_read(batch, page_gather, packing);
	if (code)
		return code;
	for (size_t i = 0; i < batch->count; i++)
		if (batch->pages[i].wrong)
			return page_error(packing, batch->pages[i].page,
					  batch->pages[i].extent.offset, batch->pages[i].wrong);
	qsort(batch->pages, batch->count, sizeof(*batch->pages), by_turn);
	code = batch_place(packing, true);
	if (!code)
		code = batch_place(packing, false);
	if (!code)
		code = window_align(packing);
	packing->copied += batch->count;
	batch->count = 0;
	return code;
}

static int packing_page(struct packing *packing, uint64_t page, const struct extent *extent)
{
	const struct known_page *place;
	uint64_t word;
	int code;

	if (!extent_is_stored(extent))
		return 0;
	if (extent->offset / SPACE_BLOCK >= packing->blocks)
		return page_error(packing, page, extent->offset,
				  "page lies beyond the end of the file");
	place = pagemap_find(&packing->places, extent);
	word = page_word(packing->from->key, extent, page);
	if (place && place->word != word)
		return page_error(packing, page, extent->offset,
				  "page has a wrong checksum, or lies where another lies");
	if (place)
		return 0;
	code = packing->batch.count == packing->batch.room ? batch_write(packing) : 0;
	if (!code)
		code = pagemap_add(&packing->places, extent, word);
	if (!code)
		page_batch_add(&packing->batch, page, extent);
	return code;
}

static int packing_working_set(struct packing *packing, const struct root *root,
			       const uint64_t *pages, uint64_t count)
{
	unsigned cluster = page_cluster(packing->from->page_bytes);
	struct index index;
	int code = 0;

	index_open(&index, packing->from->fd, packing->from->path, packing->from->key,
		   packing->from->page_bytes, root);
	for (uint64_t i = 0; i < count && !code; i++) {
		uint64_t page = set_entry_page(pages[i]), first = page - page % cluster;
		uint64_t leaf = page - page % IMAGE_LEAF_PAGES;
		struct extent extents[IMAGE_LEAF_PAGES];

		code = index_lookup(&index, leaf, extents, packing->error);
		for (unsigned n = 0; n < cluster && !code; n++)
			if (set_mask_has(set_entry_mask(pages[i]), n, cluster))
				code = packing_page(packing, first + n, &extents[first - leaf + n]);
	}
	index_close(&index);
	return code;
}

static int packing_no_memory(struct packing *packing)
{
	return error_set(packing->error, -ENOMEM, "%s: no memory to copy it", packing->from->path);
}

static int packing_pages(struct packing *packing, const struct reference *at, unsigned level,
			 uint64_t first)
{
	union disk_any node;
	int code;

	if (nodemap_find(&packing->nodes, at, level, first))
		return 0;
	code = index_read_node(packing->from->fd, packing->from->path, packing->from->key, at,
			       level, first, &node, packing->error);
	if (code)
		return code;
	if (nodemap_add(&packing->nodes, at, level, first, 0))
		return packing_no_memory(packing);
	for (unsigned i = 0; i < FORMAT_FANOUT && !code; i++) {
		if (level) {
			const struct reference to = index_child(&node, i);

			if (to.offset)
				code = packing_pages(packing, &to, level - 1,
						     first + i * index_span(level - 1));
		} else {
			struct extent extent;

			index_decode_entry(&node.leaf.entries[i], packing->from->page_bytes,
					   &extent);
			code = packing_page(packing, first + i, &extent);
		}
	}
	return code;
}

/* ---- Nodes */

static int packing_entry(struct packing *packing, uint64_t page, struct disk_entry *entry)
{
	const struct known_page *place;
	struct extent extent;

	index_decode_entry(entry, packing->from->page_bytes, &extent);
	if (!extent_is_stored(&extent))
		return 0;
	place = pagemap_find(&packing->places, &extent);
	if (!place || !place->to || place->word != page_word(packing->from->key, &extent, page))
		return page_error(packing, page, extent.offset, "page changed while it was copied");
	entry->offset = place->to * EXTENT_UNIT / FORMAT_UNIT;
	entry->bytes = place->bytes;
	entry->encoding = place->encoding & 0xff;
	if (packing->key != packing->from->key) {
		entry->checksum[0] = packing->sums[place->sum].low64;
		entry->checksum[1] = packing->sums[place->sum].high64;
	}
	return 0;
}

/* Write the subtree, unless it was written already: `to` is where it is. */
static int packing_nodes(struct packing *packing, const struct reference *at, unsigned level,
			 uint64_t first, struct reference *to)
{
	struct known_node *known = nodemap_find(&packing->nodes, at, level, first);
	union disk_any node;
	int code;

	if (known && known->to.offset) {
		*to = known->to;
		return 0;
	}
	code = index_read_node(packing->from->fd, packing->from->path, packing->from->key, at,
			       level, first, &node, packing->error);
	for (unsigned i = 0; i < FORMAT_FANOUT && !code; i++) {
		struct reference below, written;

		if (!level) {
			code = packing_entry(packing, first + i, &node.leaf.entries[i]);
			continue;
		}
		below = index_child(&node, i);
		if (!below.offset)
			continue;
		code = packing_nodes(packing, &below, level - 1, first + i * index_span(level - 1),
				     &written);
		node.inner.children[i] = (struct disk_child){
			written.offset, {written.checksum.low64, written.checksum.high64}};
	}
	if (!code)
		code = window_take(packing, index_node_bytes(level), &to->offset);
	if (code)
		return code;
	to->checksum = checksum_of(packing->key, CHECKSUM_NODE, &node, index_node_bytes(level));
	index_seal_node(packing->key, to, level, &node);
	memcpy(window_at(packing, to->offset), &node, index_node_bytes(level));
	if (known) /* nothing was added meanwhile */
		known->to = *to;
	return 0;
}

/* ---- States */

/* One piece of it at a time, as it is before it is enciphered. */
static int state_read(struct packing *packing, const struct generation *generation, uint64_t at,
		      void *piece, size_t bytes)
{
	int code = sys_pread(packing->from->fd, piece, bytes, generation->state_offset + at);

	if (!code) {
		cipher(packing->from->key, CHECKSUM_STATE, generation->state_checksum,
		       generation->info.number, piece, piece, bytes, at);
		return 0;
	}
	code = code == -ENODATA || code == -EINVAL ? THAW_EDAMAGED : code;
	return error_set(packing->error, code,
			 "%s: the state of generation %" PRIu64 " at offset %" PRIu64 ": %s",
			 packing->from->path, generation->info.number,
			 generation->state_offset + at, thaw_strerror(code));
}

/* Under the key of the new image: it has to be known before the first byte is written. */
static int state_sum(struct packing *packing, const struct generation *generation,
		     XXH128_hash_t *sum)
{
	uint64_t bytes = generation->info.state_bytes;
	struct checksum_stream stream;
	uint8_t *piece = NULL;
	int code = 0;

	*sum = generation->state_checksum;
	if (packing->key == packing->from->key)
		return 0;
	piece = malloc(WRITE_BYTES);
	if (!piece || checksum_begin(&stream, packing->key, CHECKSUM_STATE)) {
		free(piece);
		return packing_no_memory(packing);
	}
	for (uint64_t at = 0; at < bytes && !code; at += WRITE_BYTES) {
		size_t part = bytes - at < WRITE_BYTES ? bytes - at : WRITE_BYTES;

		code = state_read(packing, generation, at, piece, part);
		checksum_add(&stream, piece, part);
	}
	*sum = checksum_end(&stream);
	free(piece);
	return code;
}

static int packing_state(struct packing *packing, struct generation *generation)
{
	const struct generation old = *generation;
	uint64_t bytes = generation->info.state_bytes, to;
	struct checksum_stream stream;
	int code;

	if (!bytes)
		return 0;
	code = state_sum(packing, &old, &generation->state_checksum);
	if (code)
		return code;
	code = checksum_begin(&stream, packing->from->key, CHECKSUM_STATE);
	if (code)
		return packing_no_memory(packing);
	for (uint64_t at = 0; at < bytes && !code; at += WRITE_BYTES) {
		size_t part = bytes - at < WRITE_BYTES ? bytes - at : WRITE_BYTES;

		/* Whole words but for the last part, so the parts lie together. */
		code = window_take(packing, part, &to);
		if (!code && !at)
			generation->state_offset = to;
		if (!code)
			code = state_read(packing, &old, at, window_at(packing, to), part);
		if (code)
			break;
		checksum_add(&stream, window_at(packing, to), part);
		cipher(packing->key, CHECKSUM_STATE, generation->state_checksum, old.info.number,
		       window_at(packing, to), window_at(packing, to), part, at);
	}
	if (!checksum_same(checksum_end(&stream), old.state_checksum) && !code)
		code = error_set(packing->error, THAW_EDAMAGED,
				 "%s: the state of generation %" PRIu64
				 " is damaged (its checksum is wrong)",
				 packing->from->path, generation->info.number);
	return code;
}

/* ---- All of it */

/* Newest first: those that are made to be read next lie together. */
static int packing_generations(struct packing *packing, struct record *record)
{
	int code = 0;

	for (unsigned i = record->count; i-- > 0 && !code;) {
		const struct root *root = &record->generations[i].root;

		if (root->levels)
			code = packing_pages(packing, &root->at, root->levels - 1, 0);
	}
	if (!code)
		code = batch_write(packing);
	for (unsigned i = record->count; i-- > 0 && !code;) {
		struct root *root = &record->generations[i].root;
		struct reference to;

		if (!root->levels)
			continue;
		code = packing_nodes(packing, &root->at, root->levels - 1, 0, &to);
		root->at = to;
	}
	for (unsigned i = record->count; i-- > 0 && !code;)
		code = packing_state(packing, &record->generations[i]);
	return code;
}

static int packing_all(struct packing *packing, struct record *record)
{
	struct working_set *set = &record->working_set;
	uint64_t *pages;
	int code = working_set_read(packing->from->fd, packing->from->key, set, &pages);

	if (code)
		return code == -ENOMEM
			       ? packing_no_memory(packing)
			       : working_set_error(packing->from->path, set, code, packing->error);
	if (record->count)
		code = packing_working_set(packing, &record->generations[record->count - 1].root,
					   pages, set->bytes / sizeof(*pages));
	if (!code)
		code = packing_generations(packing, record);
	if (!code && set->bytes) {
		code = window_take(packing, set->bytes, &set->offset);
		set->checksum = checksum_of(packing->key, CHECKSUM_WORKING_SET, pages, set->bytes);
		if (!code)
			cipher(packing->key, CHECKSUM_WORKING_SET, set->checksum, set->generation,
			       pages, window_at(packing, set->offset), set->bytes, 0);
	}
	free(pages);
	return code ? code : window_write(packing);
}

int pack_generations(const struct walk_source *source, const struct slot *identity,
		     const struct record *record, const struct note *note, struct newfile *to,
		     struct copying *copying, uint64_t *pages, struct thaw_error *error)
{
	struct packing packing = {.from = source,
				  .copying = copying,
				  .codec = copying->codec,
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
	packing.blocks = (uint64_t)stat.st_size / SPACE_BLOCK + 1;
	/* Headers, a page that ends the file, what the words are rounded up to, and what is behind packed ones. */
	packing.limit =
		(uint64_t)stat.st_size + (uint64_t)stat.st_size / 8 + STORE_HEADER_BYTES + 65536;
	if (packing.codec ||
	    identity->key !=
		    source->key) /* no page may become longer than it is, and none has fewer bytes than a unit */
		packing.limit += packing.blocks * (SPACE_BLOCK / EXTENT_UNIT) * source->page_bytes;
	pagemap_open(&packing.places);
	packing.key = identity->key;
	packing.window = malloc(WINDOW_BYTES);
	packing.gathered = malloc(WINDOW_BYTES);
	nodemap_open(&packing.nodes);
	code = page_batch_open(&packing.batch, source->fd, source->key, source->page_bytes,
			       WINDOW_BYTES / source->page_bytes);
	if (!packing.gathered || !packing.window || !keep)
		code = -ENOMEM;
	if (!code) {
		memset(keep, true, record->count + 1);
		code = retention_select(record, keep, &copy);
	}
	if (!code)
		code = packing_all(&packing, &copy);
	if (!code) {
		code = newfile_seal(to, packing.base, identity, identity->sequence, &copy, note);
		if (code)
			newfile_write_error(to, code, error);
	}
	*pages = packing.copied;
	record_free(&copy);
	page_batch_close(&packing.batch);
	nodemap_close(&packing.nodes);
	extent_scratch_free(&packing.scratch);
	free(packing.window);
	free(packing.gathered);
	free(packing.sums);
	pagemap_close(&packing.places);
	free(keep);
	return code && !error->code ? error_set(error, code, "%s: cannot be copied: %s",
						source->path, thaw_strerror(code))
				    : code;
}
