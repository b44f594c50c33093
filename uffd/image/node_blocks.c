// SPDX-License-Identifier: MIT
/*
 * node_blocks.c - thaw_image_nodes(): where the nodes of the newest generation's index lie, level by level from the root, told before they
 * are read. Whoever brings what is missing in the file (thaw_fill.h) begins to bring all of a level then, and it is not waited
 * for node by node. Any thread.
 *
 * Of the leaves, which are most, only the places are told. Nothing is kept but the list of one level above them: 40 bytes for
 * each 16 MiB of heap.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "handle.h"

#define LEAVES_MOST 16384u /* told at once */

struct node_place {
	struct reference at;
	uint64_t first_page;
};

struct node_list {
	struct node_place *items;
	size_t count, room;
};

struct telling {
	const struct thaw_image *image;
	int (*visit)(void *arg, uint64_t offset, uint64_t bytes);
	void *arg;
};

static int list_add(struct node_list *list, const struct node_place *place)
{
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 256;
		struct node_place *more = realloc(list->items, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		list->items = more;
		list->room = room;
	}
	list->items[list->count++] = *place;
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct node_place *left = a, *right = b;

	return (left->at.offset > right->at.offset) - (left->at.offset < right->at.offset);
}

/* Whole blocks, each once. */
static int list_tell(struct node_list *list, unsigned level, const struct telling *telling)
{
	uint64_t begin = 0, end = 0;
	int code = 0;

	qsort(list->items, list->count, sizeof(*list->items), by_place);
	for (size_t i = 0; !code && i < list->count; i++) {
		uint64_t offset = list->items[i].at.offset, first = offset & ~(SPACE_BLOCK - 1ull);
		uint64_t last = offset + index_node_bytes(level) + SPACE_BLOCK - 1;

		if (first > end && end > begin)
			code = telling->visit(telling->arg, begin, end - begin);
		if (first > end || !i)
			begin = first;
		end = last & ~(SPACE_BLOCK - 1ull);
	}
	return code || end == begin ? code : telling->visit(telling->arg, begin, end - begin);
}

/* What is below a damaged node cannot be found: whoever needs it is told so. */
static int children_add(struct node_list *list, const struct node_place *place, unsigned level,
			const struct telling *telling)
{
	const struct thaw_image *image = telling->image;
	const struct slot *slot = &image->slots[image->slot];
	struct thaw_error error;
	union disk_any node;
	int code = index_read_node(image->fd, image->path, slot->key, &place->at, level,
				   place->first_page, &node, &error);

	if (code)
		return code == THAW_EDAMAGED ? 0 : code;
	for (unsigned i = 0; !code && i < FORMAT_FANOUT; i++) {
		const struct disk_child *child = &node.inner.children[i];
		const struct node_place below = {
			.at = {child->offset, {child->checksum[0], child->checksum[1]}},
			.first_page = place->first_page + i * index_span(level - 1)};

		if (child->offset && child->offset < 1ull << 62)
			code = list_add(list, &below);
	}
	return code;
}

/* A level that was told; `list` is that below it then, or what of the leaves was not told yet. */
static int level_go_down(struct node_list *list, unsigned level, const struct telling *telling)
{
	struct node_list below = {0};
	int code = 0;

	for (size_t i = 0; !code && i < list->count; i++) {
		code = children_add(&below, &list->items[i], level, telling);
		if (code || level > 1 || below.count < LEAVES_MOST)
			continue;
		code = list_tell(&below, 0, telling);
		below.count = 0;
	}
	free(list->items);
	*list = below;
	return code ? code : list_tell(list, level - 1, telling);
}

int thaw_image_nodes(struct thaw_image *image,
		     int (*visit)(void *arg, uint64_t offset, uint64_t bytes), void *arg,
		     struct thaw_error *error)
{
	const struct telling telling = {image, visit, arg};
	const struct record *record = &image->record;
	struct node_list list = {0};
	struct thaw_error unused;
	const struct root *root;
	unsigned level;
	int code;

	error = error ? error : &unused;
	root = record->count ? &record->generations[record->count - 1].root : NULL;
	if (!root || !root->levels)
		return 0;
	level = root->levels - 1;
	code = list_add(&list, &(struct node_place){.at = root->at});
	if (!code)
		code = list_tell(&list, level, &telling);
	for (; !code && level; level--)
		code = level_go_down(&list, level, &telling);
	free(list.items);
	return code < 0 ? error_set(error, code, "%s: cannot tell where its index lies: %s",
				    image->path, thaw_strerror(code))
			: code;
}
