/* SPDX-License-Identifier: MIT */
/*
 * salvage.c - which generations of a record are whole: every node, page and state blob that they reach
 * can be read and has its checksum, and they share no page but with those that they can share one with.
 *
 * One verdict for each generation, while verify.c tells of each damage once. What was found whole is not
 * read again: pages by a word for each, nodes (and all below them) if the generation that they were
 * first met in was whole. So a damage that many generations share costs each of them the nodes up to
 * it, and one page. Nodes are visited by descending, to the depth that the levels allow.
 *
 * Any thread. Memory: 43 to 86 bytes for each stored page, 64 for each node, and a batch of pages.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "page_batch.h"
#include "copying.h"
#include "format.h"
#include "nodemap.h"
#include "pagemap.h"
#include "retention.h"
#include "sys.h"
#include "walk.h"

#define BATCH_PAGES 4096u
#define READ_BYTES (1u << 20)
#define LOST 1 /* ends the visit of a generation, and is no error */

struct salvage {
	const struct walk_source *source;
	struct copying *copying;
	uint64_t blocks;
	struct pagemap good;  /* those that were read and found right: page_word() */
	struct nodemap nodes; /* the stamp: which generation met it first */
	struct page_batch batch;
	void *buffer;
	const bool *whole; /* of the stamps before this one */
	uint32_t stamp;
	struct thaw_damage *cause;
};

static int lose(struct salvage *salvage, uint64_t first_page, uint64_t pages, uint64_t offset,
		uint64_t bytes, const char *what)
{
	salvage->cause->first_page = first_page;
	salvage->cause->pages = pages;
	salvage->cause->offset = offset;
	salvage->cause->bytes = bytes;
	snprintf(salvage->cause->what, sizeof(salvage->cause->what), "%s", what);
	return LOST;
}

static int check_batch(struct salvage *salvage)
{
	struct page_batch *batch = &salvage->batch;
	const struct batched_page *first = NULL;
	uint64_t bytes = 0;
	int code = page_batch_read(batch, NULL, NULL);

	for (size_t i = 0; !code && i < batch->count; i++) {
		struct batched_page *page = &batch->pages[i];
		const struct known_page *good = pagemap_find(&salvage->good, &page->extent);
		uint64_t word = page_word(salvage->source->key, &page->extent, page->page);

		bytes += page->extent.bytes;
		if (!page->wrong && good && good->word != word)
			page->wrong = "page lies where another page lies";
		if (!page->wrong && !good)
			code = pagemap_add(&salvage->good, &page->extent, word);
		else if (page->wrong && (!first || page->page < first->page))
			first = page;
	}
	batch->count = 0;
	if (code)
		return code;
	if (first)
		return lose(salvage, first->page, 1, first->extent.offset, first->extent.bytes,
			    first->wrong);
	return copying_advance(salvage->copying, bytes);
}

static int check_leaf(struct salvage *salvage, const struct disk_leaf *leaf)
{
	int code = 0;

	for (unsigned i = 0; i < FORMAT_FANOUT && !code; i++) {
		const struct known_page *good;
		struct extent extent;

		index_decode_entry(&leaf->entries[i], salvage->source->page_bytes, &extent);
		if (!extent_is_stored(&extent))
			continue;
		if (extent.offset / SPACE_BLOCK >= salvage->blocks)
			return lose(salvage, leaf->node.first_page + i, 1, extent.offset,
				    extent.bytes, "page lies beyond the end of the file");
		good = pagemap_find(&salvage->good, &extent);
		if (good && good->word == page_word(salvage->source->key, &extent,
						    leaf->node.first_page + i))
			continue;
		page_batch_add(&salvage->batch, leaf->node.first_page + i, &extent);
		if (salvage->batch.count == salvage->batch.room)
			code = check_batch(salvage);
	}
	return code;
}

static int check_subtree(struct salvage *salvage, const struct reference *at, unsigned level,
			 uint64_t first)
{
	struct known_node *known = nodemap_find(&salvage->nodes, at, level, first);
	struct thaw_error error;
	union disk_any node;
	int code = 0;

	if (known && (known->stamp == salvage->stamp || salvage->whole[known->stamp]))
		return 0;
	if (index_read_node(salvage->source->fd, salvage->source->path, salvage->source->key, at,
			    level, first, &node, &error))
		return lose(salvage, first, index_span(level), at->offset, index_node_bytes(level),
			    error.code == THAW_EDAMAGED ? "index node is damaged"
							: "index node cannot be read");
	if (known)
		known->stamp = salvage->stamp;
	else
		code = nodemap_add(&salvage->nodes, at, level, first, salvage->stamp);
	if (code || !level)
		return code ? code : check_leaf(salvage, &node.leaf);
	for (unsigned i = 0; i < FORMAT_FANOUT && !code; i++) {
		const struct reference to = index_child(&node, i);

		if (to.offset)
			code = check_subtree(salvage, &to, level - 1,
					     first + i * index_span(level - 1));
	}
	return code;
}

static int check_state(struct salvage *salvage, const struct generation *generation)
{
	int code = state_check(salvage->source->fd, salvage->source->key, generation,
			       salvage->buffer, READ_BYTES, salvage->copying);

	if (!code || code == -ENOMEM || code == -ECANCELED)
		return code;
	return lose(salvage, 0, 0, generation->state_offset, generation->info.state_bytes,
		    code == THAW_EDAMAGED ? "state blob has a wrong checksum"
		    : code == -ENODATA || code == -EINVAL
			    ? "state blob lies beyond the end of the file"
			    : "state blob cannot be read");
}

static int check_generation(struct salvage *salvage, const struct generation *generation)
{
	const struct root *root = &generation->root;
	int code = 0;

	salvage->batch.count = 0;
	salvage->cause->generation = generation->info.number;
	if (root->levels)
		code = check_subtree(salvage, &root->at, root->levels - 1, 0);
	if (!code)
		code = check_batch(salvage);
	return code ? code : check_state(salvage, generation);
}

/* ---- What lies where that of another generation lies */

/*
 * Generations share what they have from a common ancestor, and only those that are adjacent are compared when it is
 * found out what a commit may write over (reachability.c). So whoever shares a page with any other one would lose it
 * some day. No commit makes such an image, but what was damaged may be one, and what somebody has forged.
 */
struct sharing {
	struct pagemap claimed;
	struct thaw_damage *cause;
};

static int sharing_node(void *arg, uint64_t offset, uint32_t bytes)
{
	(void)arg, (void)offset, (void)bytes;
	return 0;
}

/* What has become unreadable since, the copy will tell of. */
static int sharing_damage(void *arg, uint64_t first_page, uint64_t pages, uint64_t offset,
			  uint32_t bytes, const struct thaw_error *error)
{
	(void)arg, (void)first_page, (void)pages, (void)offset, (void)bytes, (void)error;
	return 0;
}

static int sharing_page(void *arg, uint64_t page, const struct extent *extent)
{
	struct sharing *sharing = arg;

	if (!extent_is_stored(extent))
		return 0;
	if (!pagemap_find(&sharing->claimed, extent))
		return pagemap_add(&sharing->claimed, extent, 0);
	*sharing->cause = (struct thaw_damage){.generation = sharing->cause->generation,
					       .first_page = page,
					       .pages = 1,
					       .offset = extent->offset,
					       .bytes = extent->bytes,
					       .what = "page lies where that of a generation lies "
						       "with which it has nothing in common"};
	return LOST;
}

/* One round: the first of them, newest first, that claims what another one has claimed. 0: there is none; LOST. */
static int sharing_find(const struct walk_source *source, const struct record *record, bool *whole,
			struct thaw_damage *causes, struct sharing *sharing)
{
	const struct walk_ops ops = {sharing_node, sharing_page, sharing_damage, sharing};
	const struct generation *generation;
	struct retention_tour tour = {0};
	struct record kept;
	int code = retention_select(record, whole, &kept);

	if (!code)
		code = retention_tour_begin(&tour, kept.generations, kept.count);
	while (!code && (generation = retention_tour_next(&tour))) {
		unsigned at = 0;

		while (record->generations[at].info.number != generation->info.number)
			at++;
		sharing->cause = &causes[at];
		code = walk_difference(source, &generation->root, tour.roots, tour.adjacent, false,
				       &ops);
		if (code == LOST)
			whole[at] = false;
	}
	retention_tour_end(&tour);
	record_free(&kept);
	return code;
}

/* Until none is left; whoever is lost makes others adjacent. */
static int sharing_lose(const struct salvage *salvage, const struct record *record, bool *whole,
			struct thaw_damage *causes)
{
	struct sharing sharing = {0};
	int code = LOST;

	while (code == LOST) {
		pagemap_open(&sharing.claimed);
		code = sharing_find(salvage->source, record, whole, causes, &sharing);
		pagemap_close(&sharing.claimed);
	}
	return code;
}

int salvage_find_whole(const struct walk_source *source, const struct record *record,
		       struct copying *copying, bool *whole, struct thaw_damage *causes)
{
	struct salvage salvage = {.source = source, .copying = copying, .whole = whole};
	struct stat stat;
	int code;

	memset(whole, 0, record->count * sizeof(*whole));
	memset(causes, 0, record->count * sizeof(*causes));
	if (fstat(source->fd, &stat))
		return -errno;
	salvage.blocks = (uint64_t)stat.st_size / SPACE_BLOCK + 1;
	pagemap_open(&salvage.good);
	salvage.buffer = malloc(READ_BYTES);
	nodemap_open(&salvage.nodes);
	code = page_batch_open(&salvage.batch, source->fd, source->key, source->page_bytes,
			       BATCH_PAGES);
	if (!salvage.buffer)
		code = -ENOMEM;
	for (unsigned i = record->count; !code && i-- > 0;) {
		salvage.stamp = i;
		salvage.cause = &causes[i];
		code = check_generation(&salvage, &record->generations[i]);
		whole[i] = !code;
		code = code == LOST ? 0 : code;
	}
	if (!code)
		code = sharing_lose(&salvage, record, whole, causes);
	page_batch_close(&salvage.batch);
	nodemap_close(&salvage.nodes);
	free(salvage.buffer);
	pagemap_close(&salvage.good);
	return code;
}
