/* SPDX-License-Identifier: MIT */
/*
 * walk.c - the difference of index trees, read from the file.
 *
 * Nodes are never changed in place and always stand for the same pages, so two trees share a node,
 * or an extent, if and only if they name the same offset at the same place. The walk descends all
 * trees together and stops wherever another one has the same reference: its cost is what differs,
 * not what exists. One function therefore tells what is in use (each generation against those
 * counted before), what a dropped generation gives back (against those that stay) and what is left
 * to verify. It is exact for branches too, since it compares with any number of trees.
 *
 * Any thread: it shares nothing with the working index. Depth and memory are bounded by the levels;
 * levels fall at each step, so not even an image made to do harm makes it loop.
 */
#include "walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cipher.h"
#include "fill.h"
#include "format.h"
#include "sys.h"

/*
 * Nodes of one commit lie together, in the order they are walked, if there was room for them: what is
 * read at once starts at a block and doubles for as long as one read follows the other.
 */
#define WINDOW_BYTES (64u << 10)
#define WINDOW_LEAST 4096u

struct place { /* another tree's subtree beside the one that is walked */
	struct reference at;
	unsigned level;
};

struct walk {
	const struct walk_source *source;
	const struct walk_ops *ops;
	unsigned count;
	bool careful;
	struct place *places;  /* [level][count] */
	union disk_any *nodes; /* [level][count]: the others' */
	uint8_t *window;
	uint64_t window_offset;
	size_t window_bytes, window_next;
	uint64_t file_bytes; /* when it was looked at last */
};

static void window_fill(struct walk *walk, uint64_t offset)
{
	uint64_t end = walk->window_offset + walk->window_bytes;
	size_t bytes = WINDOW_LEAST;
	struct stat stat;

	if (walk->window_bytes && offset + WINDOW_LEAST > end && offset < end + WINDOW_LEAST)
		bytes = walk->window_next;
	walk->window_next = 2 * bytes < WINDOW_BYTES ? 2 * bytes : WINDOW_BYTES;
	walk->window_offset = offset;
	walk->window_bytes = 0;
	if (offset >= walk->file_bytes && !fstat(walk->source->fd, &stat))
		walk->file_bytes = (uint64_t)stat.st_size;
	if (offset >= walk->file_bytes)
		return;
	if (bytes > walk->file_bytes - offset)
		bytes = walk->file_bytes - offset;
	/* What is around a node is not waited for. */
	if (!fill_has(walk->source->fd, offset, bytes))
		return;
	if (!sys_pread(walk->source->fd, walk->window, bytes, offset))
		walk->window_bytes = bytes;
}

/* `offset` may be anything up to 2^64: no sums. */
static bool window_has(const struct walk *walk, uint64_t offset, size_t bytes)
{
	return offset >= walk->window_offset && walk->window_bytes >= bytes &&
	       offset - walk->window_offset <= walk->window_bytes - bytes;
}

/*
 * A node of the tree itself. The others' are read one by one: they would only displace the window.
 */
static int read_node(struct walk *walk, const struct reference *at, unsigned level, uint64_t first,
		     union disk_any *node, struct thaw_error *error)
{
	size_t bytes = index_node_bytes(level);

	if (!window_has(walk, at->offset, bytes))
		window_fill(walk, at->offset);
	if (window_has(walk, at->offset, bytes)) {
		memcpy(node, walk->window + (at->offset - walk->window_offset), bytes);
		if (!index_open_node(walk->source->key, node, at, level, first))
			return 0;
	}
	/* The window may be older than the node: only the file itself convicts. */
	return index_read_node(walk->source->fd, walk->source->path, walk->source->key, at, level,
			       first, node, error);
}

/*
 * The checksum too: an image that was made to do harm may say two things of one place, of which one is
 * wrong. Then each is looked at.
 */
static bool reference_shared(const struct reference *a, const struct reference *b)
{
	return a->offset == b->offset && checksum_same(a->checksum, b->checksum);
}

static bool entry_shared(const struct walk *walk, const union disk_any *others, unsigned number,
			 const struct disk_entry *entry)
{
	for (unsigned i = 0; i < walk->count; i++)
		if (others[i].node.magic &&
		    others[i].leaf.entries[number].offset == entry->offset &&
		    others[i].leaf.entries[number].encoding == entry->encoding &&
		    others[i].leaf.entries[number].bytes == entry->bytes &&
		    (others[i].leaf.entries[number].birth == entry->birth ||
		     !cipher_is_on(walk->source->key)) && /* it is deciphered with that */
		    !memcmp(others[i].leaf.entries[number].checksum, entry->checksum,
			    sizeof(entry->checksum)))
			return true;
	return false;
}

static int walk_leaf(struct walk *walk, const union disk_any *leaf, const union disk_any *others)
{
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		const struct disk_entry *entry = &leaf->leaf.entries[i];
		struct extent extent;
		int code;

		if (entry->encoding == EXTENT_ABSENT || entry_shared(walk, others, i, entry))
			continue;
		index_decode_entry(entry, walk->source->page_bytes, &extent);
		code = walk->ops->extent(walk->ops->arg, leaf->node.first_page + i, &extent);
		if (code)
			return code;
	}
	return 0;
}

static int walk_subtree(struct walk *walk, const struct reference *at, unsigned level,
			uint64_t first, const struct place *beside)
{
	union disk_any node, *others = walk->nodes + (size_t)level * walk->count;
	struct place *below = walk->places + (size_t)level * walk->count;
	struct thaw_error error;
	int code;

	for (unsigned i = 0; i < walk->count; i++)
		if (beside[i].level == level && reference_shared(&beside[i].at, at))
			return 0;
	if (read_node(walk, at, level, first, &node, &error))
		return walk->ops->damage(walk->ops->arg, first, index_span(level), at->offset,
					 (uint32_t)index_node_bytes(level), &error);
	for (unsigned i = 0; i < walk->count; i++) {
		others[i].node.magic = 0; /* nothing here */
		if (beside[i].level != level || !beside[i].at.offset ||
		    !index_read_node(walk->source->fd, walk->source->path, walk->source->key,
				     &beside[i].at, level, first, &others[i], NULL))
			continue;
		others[i].node.magic = 0;
		if (walk->careful)
			return 0;
	}
	code = walk->ops->node(walk->ops->arg, at->offset, (uint32_t)index_node_bytes(level));
	if (code || !level)
		return code ? code : walk_leaf(walk, &node, others);

	for (unsigned child = 0; child < FORMAT_FANOUT && !code; child++) {
		const struct reference to = index_child(&node, child);

		if (!to.offset)
			continue;
		for (unsigned i = 0; i < walk->count; i++) {
			below[i] = (struct place){.level = level - 1};
			if (others[i].node.magic)
				below[i].at = index_child(&others[i], child);
			else if (beside[i].level < level && !child) /* a smaller tree */
				below[i] = beside[i];
		}
		code = walk_subtree(walk, &to, level - 1, first + child * index_span(level - 1),
				    below);
	}
	return code;
}

/*
 * Bring a higher tree down to the level of ours: what both can share is below its first children.
 */
static bool place_descend(struct walk *walk, struct place *place, unsigned level)
{
	while (place->at.offset && place->level > level) {
		union disk_any node;

		if (index_read_node(walk->source->fd, walk->source->path, walk->source->key,
				    &place->at, place->level, 0, &node, NULL)) {
			place->at.offset = 0;
			return false;
		}
		place->at = index_child(&node, 0);
		place->level--;
	}
	return true;
}

int walk_difference(const struct walk_source *source, const struct root *tree,
		    const struct root *const *others, unsigned count, bool careful,
		    const struct walk_ops *ops)
{
	struct walk walk = {.source = source, .ops = ops, .count = count, .careful = careful};
	size_t places = (size_t)count * tree->levels;
	int code = -ENOMEM;

	if (!tree->levels)
		return 0;
	walk.places = calloc(places + count + 1, sizeof(*walk.places));
	walk.nodes = calloc(places + 1, sizeof(*walk.nodes));
	walk.window = malloc(WINDOW_BYTES);
	if (walk.places && walk.nodes && walk.window) {
		struct place *beside = walk.places + places;
		bool known = true;

		for (unsigned i = 0; i < count; i++) {
			if (!others[i]->levels)
				continue;
			beside[i] = (struct place){others[i]->at, others[i]->levels - 1};
			known &= place_descend(&walk, &beside[i], tree->levels - 1);
		}
		code = 0;
		if (known || !careful)
			code = walk_subtree(&walk, &tree->at, tree->levels - 1, 0, beside);
	}
	free(walk.window);
	free(walk.nodes);
	free(walk.places);
	return code;
}
