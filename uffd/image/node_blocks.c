// SPDX-License-Identifier: MIT
/*
 * node_blocks.c - thaw_image_nodes(): where the nodes of an index lie, level by level from the root, told before they are read. Whoever
 * brings what is missing in the file (thaw_fill.h) begins to bring all of a level then, and it is not waited for node by
 * node. The newest generation comes first, then what others have besides, which the first commit reads, too (reachability.c). Any thread.
 *
 * Of the leaves, which are most, only the places are told. Nothing is kept but a bit for each node, and the list of one
 * level above them: 40 bytes for each 16 MiB of heap.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "bitmap.h"
#include "format.h"
#include "handle.h"
#include "node_list.h"

#define LEAVES_MOST 16384u /* told at once */

struct telling {
	const struct thaw_image *image;
	int (*visit)(void *arg, uint64_t offset, uint64_t bytes);
	void *arg;
	struct bitmap seen; /* nodes, by offset in words */
};

/* Unless it was told already, or cannot be there. */
static int list_add(struct node_list *list, const struct node_place *place, struct telling *telling)
{
	uint64_t word = place->at.offset / 8;

	if (!word || word >= telling->seen.bits || bitmap_test(&telling->seen, word))
		return 0;
	bitmap_set(&telling->seen, word);
	return node_list_add(list, place);
}

static int by_place(const void *a, const void *b)
{
	const struct node_place *left = a, *right = b;

	return (left->at.offset > right->at.offset) - (left->at.offset < right->at.offset);
}

/* Whole blocks, each once. */
static int list_tell(struct node_list *list, unsigned level, struct telling *telling)
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
			struct telling *telling)
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
		const struct node_place below = node_below(place, level, &node, i);

		code = list_add(list, &below, telling);
	}
	return code;
}

/* A level that was told; `list` is that below it then, or what of the leaves was not told yet. */
static int level_go_down(struct node_list *list, unsigned level, struct telling *telling)
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

static int generation_tell(const struct generation *generation, struct telling *telling)
{
	unsigned level = generation->root.levels;
	struct node_list list = {0};
	int code;

	if (!level)
		return 0;
	code = list_add(&list, &(struct node_place){.at = generation->root.at}, telling);
	if (!code)
		code = list_tell(&list, --level, telling);
	for (; !code && level && list.count; level--)
		code = level_go_down(&list, level, telling);
	free(list.items);
	return code;
}

static int record_tell(const struct record *record, struct telling *telling)
{
	int code = 0;

	for (unsigned i = record->count; !code && i-- > 0;)
		code = generation_tell(&record->generations[i], telling);
	return code;
}

/* What only the other slot leads to: the next commit must not overwrite it. */
static int other_tell(struct telling *telling)
{
	const struct thaw_image *image = telling->image;
	struct slot other = image->slots[!image->slot];
	struct record record = {0};
	struct thaw_error error;
	int code;

	if (other.state != SLOT_VALID)
		return 0;
	other.key = image->slots[image->slot].key;
	code = record_read(image->fd, image->path, &other, &record, &error);
	if (!code)
		code = record_tell(&record, telling);
	record_free(&record);
	return code == THAW_EDAMAGED ? 0 : code;
}

int thaw_image_nodes(struct thaw_image *image,
		     int (*visit)(void *arg, uint64_t offset, uint64_t bytes), void *arg,
		     struct thaw_error *error)
{
	struct telling telling = {image, visit, arg, {0}};
	struct thaw_error unused;
	struct stat stat;
	int code;

	error = error ? error : &unused;
	code = fstat(image->fd, &stat) ? -errno : 0;
	if (!code)
		code = bitmap_init(&telling.seen, (uint64_t)stat.st_size / 8);
	if (!code)
		code = record_tell(&image->record, &telling);
	if (!code)
		code = other_tell(&telling);
	bitmap_free(&telling.seen);
	return code < 0 ? error_set(error, code, "%s: cannot tell where its index lies: %s",
				    image->path, thaw_strerror(code))
			: code;
}
