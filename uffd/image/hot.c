// SPDX-License-Identifier: MIT
/*
 * hot.c - thaw_image_hot_blocks(): which blocks of the file a restore reads first, in the order of their use. Any thread; what a take
 * of the mirror holds does not change meanwhile (mirror_take.c).
 *
 * All nodes two levels and more above the leaves come first, as far as they take no more than a quarter: whatever page is touched, they
 * are on the way to it, one after the other. Pages are found as a restore finds them, from the root down; the nodes on the way come
 * before the page, unless an earlier page had the same. The last node of each level is kept, since neighbours share them. Where no working set was recorded, pages that
 * were written last count as those that are used first: all are listed, and when the list is full the older half goes.
 */
#include "mirror.h"

#include <errno.h>
#include <stdlib.h>

#include "format.h"
#include "node_list.h"
#include "page.h"
#include "walk.h"

#define LISTED_MAX (1u << 18)
#define INNER_SHARE 4u

struct newest_page {
	uint64_t page, birth;
};

struct hot {
	const struct thaw_take *take;
	const struct image *image; /* only what is constant in it */
	struct record record;
	struct root root;
	uint64_t left; /* blocks */
	struct bitmap known;
	struct run_list runs;

	union disk_any nodes[INDEX_LEVELS_MAX]; /* by level */
	struct reference at[INDEX_LEVELS_MAX];

	struct newest_page *pages;
	size_t page_count;
};

/* 1: there is no room for more. */
static int hot_block(struct hot *hot, uint64_t block)
{
	if (block >= hot->known.bits || bitmap_test(&hot->known, block))
		return 0;
	if (!hot->left)
		return 1;
	if (run_list_add(&hot->runs, block, 1))
		return -ENOMEM;
	bitmap_set(&hot->known, block);
	hot->left--;
	return 0;
}

static int hot_bytes(struct hot *hot, uint64_t offset, uint64_t bytes)
{
	uint64_t end = hot->take->info.file_bytes;
	int code = 0;

	if (offset >= end) /* a damaged image may say so */
		return 0;
	end = bytes < end - offset ? offset + bytes : end;
	for (uint64_t block = offset / SPACE_BLOCK; !code && block * SPACE_BLOCK < end; block++)
		code = hot_block(hot, block);
	return code;
}

/* *leaf: NULL if there is nothing, or it is damaged. */
static int hot_path(struct hot *hot, uint64_t page, const struct disk_leaf **leaf)
{
	struct reference at = hot->root.at;
	unsigned level = hot->root.levels;

	*leaf = NULL;
	if (!level || page >= index_span(level - 1))
		return 0;
	while (level--) {
		uint64_t first = page & ~(index_span(level) - 1);

		if (!at.offset)
			return 0;
		if (hot->at[level].offset != at.offset ||
		    !checksum_same(hot->at[level].checksum, at.checksum) ||
		    hot->nodes[level].node.first_page != first) {
			struct thaw_error ignored;
			int code = index_read_node(hot->take->mirror->fd, image_path(hot->image),
						   image_key(hot->image), &at, level, first,
						   &hot->nodes[level], &ignored);

			hot->at[level] = code ? (struct reference){0} : at;
			if (!code)
				code = hot_bytes(hot, at.offset, index_node_bytes(level));
			if (code)
				return code == THAW_EDAMAGED ? 0 : code;
		}
		if (level)
			at = index_child(&hot->nodes[level], (page >> (4 * level)) % FORMAT_FANOUT);
	}
	*leaf = &hot->nodes[0].leaf;
	return 0;
}

static int hot_page(struct hot *hot, uint64_t page)
{
	const struct disk_leaf *leaf;
	struct extent extent;
	int code = hot_path(hot, page, &leaf);

	if (code || !leaf)
		return code;
	index_decode_entry(&leaf->entries[page % FORMAT_FANOUT], hot->take->info.page_bytes,
			   &extent);
	return extent.bytes ? hot_bytes(hot, extent.offset, extent.bytes) : 0;
}

/* ---- the nodes above the leaves */

/* One of that level, and those below it, which are to be looked at next. */
static int inner_node_read(struct hot *hot, const struct node_place *node, unsigned level,
			   struct node_list *below)
{
	struct thaw_error ignored;
	union disk_any read;
	int code = index_read_node(hot->take->mirror->fd, image_path(hot->image),
				   image_key(hot->image), &node->at, level, node->first_page, &read,
				   &ignored);

	if (code)
		return code == THAW_EDAMAGED ? 0 : code;
	code = hot_bytes(hot, node->at.offset, index_node_bytes(level));
	for (unsigned i = 0; !code && level > 2 && i < FORMAT_FANOUT; i++) {
		const struct node_place next = node_below(node, level, &read, i);

		if (next.at.offset)
			code = node_list_add(below, &next);
	}
	return code;
}

/* Level by level from the root; those just above the leaves, which are sixteen times as many, are not among them. */
static int hot_inner(struct hot *hot)
{
	uint64_t least = hot->left - hot->left / INNER_SHARE;
	struct node_list list = {0}, below = {0};
	unsigned level = hot->root.levels;
	int code = 0;

	if (level > 1)
		code = node_list_add(&list, &(struct node_place){.at = hot->root.at});
	while (!code && list.count && --level > 1) {
		for (size_t i = 0; !code && i < list.count && hot->left > least; i++)
			code = inner_node_read(hot, &list.items[i], level, &below);
		free(list.items);
		list = below;
		below = (struct node_list){0};
	}
	free(list.items);
	free(below.items);
	return code;
}

/* ---- which pages */

static int hot_set(struct hot *hot, const uint64_t *entries, size_t count)
{
	unsigned cluster = page_cluster(hot->take->info.page_bytes);
	int code = 0;

	for (size_t i = 0; !code && i < count; i++) {
		uint64_t page = set_entry_page(entries[i]), first = page - page % cluster;
		unsigned mask = set_entry_mask(entries[i]);

		code = hot_page(hot, page);
		for (unsigned n = 0; !code && n < cluster; n++)
			if (set_mask_has(mask, n, cluster))
				code = hot_page(hot, first + n);
	}
	return code;
}

static int by_birth(const void *a, const void *b)
{
	const struct newest_page *left = a, *right = b;

	if (left->birth != right->birth)
		return left->birth > right->birth ? -1 : 1;
	return (left->page > right->page) - (left->page < right->page);
}

static int list_node(void *arg, uint64_t offset, uint32_t bytes)
{
	(void)arg, (void)offset, (void)bytes;
	return 0;
}

static int list_extent(void *arg, uint64_t page, const struct extent *extent)
{
	struct hot *hot = arg;

	if (!extent->bytes)
		return 0;
	if (hot->page_count == LISTED_MAX) {
		qsort(hot->pages, hot->page_count, sizeof(*hot->pages), by_birth);
		hot->page_count /= 2;
	}
	hot->pages[hot->page_count++] = (struct newest_page){page, extent->birth};
	return 0;
}

static int list_damage(void *arg, uint64_t first_page, uint64_t pages, uint64_t offset,
		       uint32_t bytes, const struct thaw_error *error)
{
	(void)arg, (void)first_page, (void)pages, (void)offset, (void)bytes;
	return error->code == THAW_EDAMAGED ? 0 : error->code;
}

static int hot_newest(struct hot *hot)
{
	const struct walk_source source = {hot->take->mirror->fd, image_path(hot->image),
					   image_key(hot->image), hot->take->info.page_bytes};
	const struct walk_ops ops = {list_node, list_extent, list_damage, hot};
	int code;

	if (!hot->root.levels)
		return 0;
	hot->pages = malloc(LISTED_MAX * sizeof(*hot->pages));
	if (!hot->pages)
		return -ENOMEM;
	code = walk_difference(&source, &hot->root, NULL, 0, false, &ops);
	qsort(hot->pages, hot->page_count, sizeof(*hot->pages), by_birth);
	for (size_t i = 0; !code && i < hot->page_count; i++)
		code = hot_page(hot, hot->pages[i].page);
	return code;
}

/* ---- all of it */

static int hot_tree(struct hot *hot)
{
	const struct working_set *set = &hot->record.working_set;
	uint64_t *entries = NULL;
	int code = hot_bytes(hot, set->offset, set->bytes);

	if (!code && set->bytes)
		code = working_set_read(hot->take->mirror->fd, image_key(hot->image), set,
					&entries);
	if (code == THAW_EDAMAGED || code == -ENODATA || code == -EINVAL)
		code = 0;
	if (!code)
		code = entries ? hot_set(hot, entries, set->bytes / sizeof(*entries))
			       : hot_newest(hot);
	free(entries);
	return code;
}

static int hot_all(struct hot *hot)
{
	const struct thaw_take *take = hot->take;
	const struct generation *newest = NULL;
	struct thaw_error ignored;
	struct slot slot;
	int code = hot_bytes(hot, 0, STORE_HEADER_BYTES);

	header_parse(take->header[take->slot], take->slot, &slot);
	slot.key = image_key(hot->image);
	if (!code && slot.record_bytes)
		code = hot_bytes(hot, slot.record_offset, slot.record_bytes);
	if (!code)
		code = record_read(take->mirror->fd, image_path(hot->image), &slot, &hot->record,
				   &ignored);
	if (!code && hot->record.count)
		newest = &hot->record.generations[hot->record.count - 1];
	if (!newest)
		return code;
	hot->root = newest->root;
	if (hot->root.levels)
		code = hot_bytes(hot, hot->root.at.offset, index_node_bytes(hot->root.levels - 1));
	if (!code)
		code = hot_bytes(hot, take->log.offset, take->log_used);
	if (!code)
		code = hot_bytes(hot, newest->state_offset, newest->info.state_bytes);
	if (!code)
		code = hot_inner(hot);
	return code ? code : hot_tree(hot);
}

int thaw_image_hot_blocks(struct thaw_take *take, uint64_t most_bytes,
			  struct thaw_mirror_run **runs, struct thaw_error *error)
{
	struct hot hot = {
		.take = take, .image = take->mirror->image, .left = most_bytes / SPACE_BLOCK};
	struct thaw_error unused;
	int code;

	*runs = NULL;
	error = error ? error : &unused;
	code = bitmap_init(&hot.known, take->info.file_bytes / SPACE_BLOCK + 1);
	if (!code)
		code = hot_all(&hot);
	if (thaw_mirror_check(take))
		code = -ESTALE;
	else if (code == 1 || code == THAW_EDAMAGED)
		code = 0; /* as much as there is room for, or can be found */
	record_free(&hot.record);
	bitmap_free(&hot.known);
	free(hot.pages);
	if (code) {
		free(hot.runs.items);
		return error_set(error, code, "%s: cannot tell what a restore reads first: %s",
				 image_path(hot.image), thaw_strerror(code));
	}
	*runs = hot.runs.items;
	return (int)hot.runs.count;
}
