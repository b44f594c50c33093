/* SPDX-License-Identifier: MIT */
/*
 * index.c - the working index of one image: a copy-on-write radix tree from page number to extent. A leaf
 * has 16 extents, a node 16 children, and there are as many levels as the highest page needs; growing puts
 * the old root under a new one. A node's checksum is in its parent (Merkle, CRYPTO'87; ZFS does the same).
 * Nodes with nothing below them are not written, and leave with the commit.
 * Reverting drops dirty nodes and their subtrees from memory; they load again from the committed tree.
 *
 * Invariants (tests/inject/checks.c executes them)
 *  1. A dirty node's parent is dirty: index_write() finds all by descending through dirty nodes.
 *  2. inner.at[i] is child i as last committed, or offset 0; it is valid only while child i is not
 *     dirty. What a commit writes is in child->written until index_committed(), so a failed commit
 *     leaves no trace in the references.
 *  3. Only the thread that commits makes nodes dirty, adds nodes that are not on disk, or frees
 *     nodes. Other threads add clean nodes (loads). index->top and inner.child[] are read and
 *     written under the lock.
 */
#include "index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checks.h"
#include "cipher.h"
#include "extent_codec.h"
#include "node.h"
#include "space.h"
#include "sys.h"

_Static_assert(IMAGE_LEAF_PAGES == FORMAT_FANOUT, "a leaf has one entry per page of a cluster");

uint64_t index_span(unsigned level)
{
	return 1ull << (4 * (level + 1));
}

size_t index_node_bytes(unsigned level)
{
	return level ? sizeof(struct disk_inner) : sizeof(struct disk_leaf);
}

/* ---- Nodes on disk */

static bool entry_is_sound(const struct disk_entry *entry, uint64_t generation)
{
	if (entry->encoding >= EXTENT_LZ4 && entry->encoding <= EXTENT_ZSTD_LAST)
		return entry->offset * FORMAT_UNIT >= 2 * SPACE_BLOCK && entry->bytes &&
		       entry->birth && entry->birth <= generation;
	switch (entry->encoding) {
	case EXTENT_ABSENT:
		return !entry->offset && !entry->bytes && !entry->birth && !entry->checksum[0] &&
		       !entry->checksum[1];
	case EXTENT_ZERO:
		return !entry->offset && !entry->bytes && entry->birth &&
		       entry->birth <= generation;
	case EXTENT_RAW: /* whole pages begin at a block */
		return entry->offset * FORMAT_UNIT >= 2 * SPACE_BLOCK &&
		       entry->offset * FORMAT_UNIT % SPACE_BLOCK == 0 && !entry->bytes &&
		       entry->birth && entry->birth <= generation;
	default:
		return false;
	}
}

const char *index_open_node(const struct checksum_key *key, union disk_any *node,
			    const struct reference *at, unsigned level, uint64_t first_page)
{
	cipher(key, CHECKSUM_NODE, at->checksum, 0, node, node, index_node_bytes(level), 0);
	if (!checksum_is(key, CHECKSUM_NODE, node, index_node_bytes(level), at->checksum))
		return "its checksum is wrong";
	/* From here on only a hostile image can fail. */
	if (node->node.magic != FORMAT_NODE_MAGIC || node->node.level != level ||
	    node->node.zero[0] || node->node.zero[1] || node->node.zero[2] ||
	    node->node.first_page != first_page)
		return "it is another node";
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		if (level) {
			const struct disk_child *child = &node->inner.children[i];

			if (child->offset ? child->offset < 2 * SPACE_BLOCK || child->offset % 8
					  : child->checksum[0] || child->checksum[1])
				return "a child's place is impossible";
		} else if (!entry_is_sound(&node->leaf.entries[i], node->node.generation)) {
			return "an extent is impossible";
		}
	}
	return NULL;
}

void index_seal_node(const struct checksum_key *key, const struct reference *at, unsigned level,
		     void *node)
{
	cipher(key, CHECKSUM_NODE, at->checksum, 0, node, node, index_node_bytes(level), 0);
}

int index_read_node(int fd, const char *path, const struct checksum_key *key,
		    const struct reference *at, unsigned level, uint64_t first_page,
		    union disk_any *node, struct thaw_error *error)
{
	const char *why;
	int code;

	why = "its place is impossible";
	if (at->offset < 2 * SPACE_BLOCK || at->offset % 8)
		goto damaged;
	code = sys_pread(fd, node, index_node_bytes(level), at->offset);
	if (code && code != -ENODATA && code != -EINVAL)
		return error_set(error, code,
				 "%s: cannot read the index of pages %" PRIu64 "-%" PRIu64
				 " at offset %" PRIu64 ": %s",
				 path, first_page, first_page + index_span(level) - 1, at->offset,
				 thaw_strerror(code));
	why = code ? "the file ends before it" : index_open_node(key, node, at, level, first_page);
	if (!why)
		return 0;
damaged:
	return error_set(error, THAW_EDAMAGED,
			 "%s: the index of pages %" PRIu64 "-%" PRIu64 " at offset %" PRIu64
			 " is damaged (%s): open an older generation",
			 path, first_page, first_page + index_span(level) - 1, at->offset, why);
}

struct reference index_child(const union disk_any *node, unsigned number)
{
	const struct disk_child *child = &node->inner.children[number];

	return (struct reference){child->offset, {child->checksum[0], child->checksum[1]}};
}

void index_decode_entry(const struct disk_entry *disk, uint32_t page_bytes, struct extent *extent)
{
	/* Whoever claims more has no page there: readers have room for that, and tell. */
	uint32_t bytes = disk->bytes && disk->bytes < page_bytes ? disk->bytes : page_bytes;

	*extent = (struct extent){
		.offset = (uint64_t)disk->offset * FORMAT_UNIT,
		.bytes = disk->encoding >= EXTENT_RAW ? bytes : 0,
		.encoding = disk->encoding,
		.birth = disk->birth,
		.checksum = {disk->checksum[0], disk->checksum[1]},
	};
}

/* ---- Nodes in memory */

static struct node *node_new(unsigned level, uint64_t first)
{
	struct node *node = calloc(1, sizeof(*node));

	if (node) {
		node->level = (uint8_t)level;
		node->first = first;
	}
	return node;
}

static void node_free(struct node *node)
{
	if (!node)
		return;
	if (node->level)
		for (unsigned i = 0; i < FORMAT_FANOUT; i++)
			node_free(node->inner.child[i]);
	free(node);
}

static int node_load(const struct index *index, const struct reference *at, unsigned level,
		     uint64_t first, struct node **loaded, struct thaw_error *error)
{
	union disk_any disk;
	struct node *node;
	int code =
		index_read_node(index->fd, index->path, index->key, at, level, first, &disk, error);

	if (code)
		return code;
	node = node_new(level, first);
	if (!node)
		return error_set(error, -ENOMEM, "%s: no memory for the index", index->path);
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		if (level)
			node->inner.at[i] = index_child(&disk, i);
		else
			index_decode_entry(&disk.leaf.entries[i], index->page_bytes,
					   &node->extent[i]);
	}
	*loaded = node;
	return 0;
}

static unsigned child_number(uint64_t page, unsigned level)
{
	return (page >> (4 * level)) % FORMAT_FANOUT;
}

/* Put new roots over the old one until the page has a place. With the lock. */
static int index_grow(struct index *index, uint64_t page)
{
	check_locked(&index->lock);
	if (!index->levels) {
		index->levels = 1;
		while (page >= index_span(index->levels - 1))
			index->levels++;
		return 0;
	}
	while (page >= index_span(index->levels - 1)) {
		struct node *top = node_new(index->levels, 0);

		if (!top)
			return -ENOMEM;
		top->inner.child[0] = index->top;
		/* Only a tree that has not grown is on disk under the root's reference. */
		if (index->levels == index->root.levels)
			top->inner.at[0] = index->root.at;
		top->dirty = true; /* it is on disk nowhere */
		index->top = top;
		index->levels++;
	}
	return 0;
}

/*
 * The leaf of a page, loaded. NULL if there is none and `create` is not set: then nothing is stored
 * from the page up to `*absent_to`, which is UINT64_MAX if nothing follows. Called and returns with
 * the lock held, but releases it while it reads; then it starts again from the top, because the
 * tree may have changed.
 */
static int leaf_find(struct index *index, uint64_t page, bool create, struct node **leaf,
		     uint64_t *absent_to, struct thaw_error *error)
{
	struct node *loaded = NULL;
	struct reference wanted = {0};
	unsigned wanted_level = 0;
	int code = 0;

	check_locked(&index->lock);
	*leaf = NULL;
again:
	*absent_to = UINT64_MAX;
	if (!index->levels || page >= index_span(index->levels - 1)) {
		if (!create)
			goto absent;
		if (index_grow(index, page))
			goto no_memory;
	}
	struct node **place = &index->top;
	const struct reference empty = {0};
	/* A top that is not loaded is the committed root: growing makes a top. */
	const struct reference *at = index->levels == index->root.levels ? &index->root.at : &empty;

	for (unsigned level = index->levels - 1;; level--) {
		uint64_t first = page & ~(index_span(level) - 1);

		if (!*place && at->offset) {
			/*
			 * The checksum too: by the time it is read the place may hold a newer
			 * node.
			 */
			if (wanted.offset != at->offset || wanted_level != level ||
			    !checksum_same(wanted.checksum, at->checksum)) {
				wanted = *at;
				wanted_level = level;
				node_free(loaded);
				loaded = NULL;
				pthread_mutex_unlock(&index->lock);
				code = node_load(index, &wanted, level, first, &loaded, error);
				pthread_mutex_lock(&index->lock);
				goto again;
			}
			if (code) /* and that node is still wanted */
				goto out;
			*place = loaded;
			loaded = NULL;
			wanted.offset = 0;
		} else if (!*place) {
			if (!create) {
				*absent_to = first + index_span(level);
				goto absent;
			}
			*place = node_new(level, first);
			if (!*place)
				goto no_memory;
		}
		if (!level)
			break;
		at = &(*place)->inner.at[child_number(page, level)];
		place = &(*place)->inner.child[child_number(page, level)];
	}
	*leaf = *place;
absent:
	code = 0; /* a failed read of what is no longer in the tree is no failure */
out:
	node_free(loaded);
	return code;
no_memory:
	node_free(loaded);
	return error_set(error, -ENOMEM, "%s: no memory for the index", index->path);
}

/* ---- The working index */

void index_open(struct index *index, int fd, const char *path, const struct checksum_key *key,
		uint32_t page_bytes, const struct root *root)
{
	memset(index, 0, sizeof(*index));
	index->fd = fd;
	index->path = path;
	index->key = key;
	index->page_bytes = page_bytes;
	index->root = *root;
	index->levels = root->levels;
	pthread_mutex_init(&index->lock, NULL);
	pthread_cond_init(&index->restored, NULL);
}

void index_close(struct index *index)
{
	node_free(index->top);
	pthread_cond_destroy(&index->restored);
	pthread_mutex_destroy(&index->lock);
	memset(index, 0, sizeof(*index));
}

/* With the lock, which is given up meanwhile. */
static int wait_restored(struct index *index)
{
	while (index->restoring)
		pthread_cond_wait(&index->restored, &index->lock);
	return index->behind;
}

int index_lookup(struct index *index, uint64_t first_page, struct extent extents[IMAGE_LEAF_PAGES],
		 struct thaw_error *error)
{
	struct node *leaf = NULL;
	int code;

	pthread_mutex_lock(&index->lock);
	code = wait_restored(index);
	if (code)
		error_set(error, code, "%s: cannot tell which pages are newer in its log: %s",
			  index->path, thaw_strerror(code));
	else
		code = leaf_find(index, first_page, false, &leaf, &(uint64_t){0}, error);
	if (!code && leaf)
		memcpy(extents, leaf->extent, sizeof(leaf->extent));
	else
		memset(extents, 0, IMAGE_LEAF_PAGES * sizeof(*extents));
	pthread_mutex_unlock(&index->lock);
	return code;
}

uint64_t index_next(struct index *index, uint64_t page)
{
	uint64_t absent_to;
	struct node *leaf = NULL;
	int code;

	pthread_mutex_lock(&index->lock);
	code = wait_restored(index);
	for (; !code; page = absent_to) {
		code = leaf_find(index, page, false, &leaf, &absent_to, NULL);
		if (code || leaf || absent_to == UINT64_MAX)
			break;
	}
	pthread_mutex_unlock(&index->lock);
	return code || leaf ? page : UINT64_MAX;
}

int index_get(struct index *index, uint64_t page, struct extent *extent, struct thaw_error *error)
{
	struct node *leaf;
	int code;

	memset(extent, 0, sizeof(*extent));
	pthread_mutex_lock(&index->lock);
	code = leaf_find(index, page, false, &leaf, &(uint64_t){0}, error);
	if (!code && leaf)
		*extent = leaf->extent[page % FORMAT_FANOUT];
	pthread_mutex_unlock(&index->lock);
	return code;
}

int index_set(struct index *index, uint64_t page, const struct extent *extent,
	      struct thaw_error *error)
{
	struct node *leaf;
	int code;

	pthread_mutex_lock(&index->lock);
	code = leaf_find(index, page, true, &leaf, &(uint64_t){0}, error);
	if (!code) {
		leaf->extent[page % FORMAT_FANOUT] = *extent;
		leaf->dirty = true;
		for (struct node *node = index->top; node != leaf;
		     node = node->inner.child[child_number(page, node->level)])
			node->dirty = true;
	}
	pthread_mutex_unlock(&index->lock);
	return code;
}

static uint64_t dirty_bytes(const struct node *node)
{
	uint64_t bytes = 0;

	if (!node || !node->dirty)
		return 0;
	if (node->level)
		for (unsigned i = 0; i < FORMAT_FANOUT; i++)
			bytes += dirty_bytes(node->inner.child[i]);
	return bytes + index_node_bytes(node->level);
}

uint64_t index_dirty_bytes(const struct index *index)
{
	struct index *locked = (struct index *)index;
	uint64_t bytes;

	pthread_mutex_lock(&locked->lock);
	bytes = dirty_bytes(index->top);
	pthread_mutex_unlock(&locked->lock);
	return bytes;
}

static void entry_encode(const struct extent *extent, struct disk_entry *disk)
{
	disk->offset = extent->offset / FORMAT_UNIT;
	disk->birth = extent->birth;
	disk->encoding = extent->encoding;
	if (extent_is_packed(extent))
		disk->bytes = (uint16_t)extent->bytes;
	if (extent_is_stored(extent)) {
		disk->checksum[0] = extent->checksum.low64;
		disk->checksum[1] = extent->checksum.high64;
	}
}

/* Nothing is below it. It is not written, and goes with the commit. Of a dirty node whose children are written. */
static bool node_is_empty(const struct node *node, const struct disk_inner *inner)
{
	for (unsigned i = 0; i < FORMAT_FANOUT; i++)
		if (node->level ? inner->children[i].offset != 0
				: node->extent[i].encoding != EXTENT_ABSENT)
			return false;
	return true;
}

static int node_write(struct index *index, struct node *node, uint64_t generation, index_emit emit,
		      void *arg)
{
	struct node *children[FORMAT_FANOUT];
	union disk_any disk;
	int code;

	memset(&disk, 0, sizeof(disk));
	disk.node.magic = FORMAT_NODE_MAGIC;
	disk.node.level = node->level;
	disk.node.first_page = node->first;
	disk.node.generation = generation;
	if (node->level) { /* the lock is not held over I/O: only over this copy */
		pthread_mutex_lock(&index->lock);
		memcpy(children, node->inner.child, sizeof(children));
		pthread_mutex_unlock(&index->lock);
	}
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		const struct reference *at;

		if (!node->level) {
			entry_encode(&node->extent[i], &disk.leaf.entries[i]);
			/*
			 * A birth in the future comes from a hostile image. It is repeated, since an enciphered page
			 * cannot be read without, and the node says a generation with which it is valid.
			 */
			if (node->extent[i].birth > disk.node.generation)
				disk.node.generation = node->extent[i].birth;
			continue;
		}
		at = &node->inner.at[i];
		if (children[i] && children[i]->dirty) {
			code = node_write(index, children[i], generation, emit, arg);
			if (code)
				return code;
			at = &children[i]->written;
		}
		if (at->offset)
			disk.inner.children[i] = (struct disk_child){
				at->offset, {at->checksum.low64, at->checksum.high64}};
	}
	if (node_is_empty(node, &disk.inner)) {
		node->written = (struct reference){0};
		return 0;
	}
	node->written.checksum =
		checksum_of(index->key, CHECKSUM_NODE, &disk, index_node_bytes(node->level));
	index_seal_node(index->key, &node->written, node->level, &disk);
	return emit(arg, &disk, index_node_bytes(node->level), &node->written.offset);
}

int index_write(struct index *index, uint64_t generation, index_emit emit, void *arg,
		struct root *root)
{
	struct node *top;
	int code;

	pthread_mutex_lock(&index->lock);
	top = index->top;
	pthread_mutex_unlock(&index->lock);
	if (!top || !top->dirty) {
		*root = index->root;
		return 0;
	}
	code = node_write(index, top, generation, emit, arg);
	root->at = top->written;
	root->levels = root->at.offset ? top->level + 1u : 0;
	return code;
}

static void node_committed(struct node *node)
{
	node->dirty = false;
	if (!node->level) {
		for (unsigned i = 0; i < FORMAT_FANOUT; i++)
			node->extent[i].own = false;
		return;
	}
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		struct node *child = node->inner.child[i];

		if (!child || !child->dirty)
			continue;
		node->inner.at[i] = child->written;
		node_committed(child);
		if (!child->written.offset) {
			node_free(child);
			node->inner.child[i] = NULL;
		}
	}
}

void index_committed(struct index *index, const struct root *root)
{
	pthread_mutex_lock(&index->lock);
	index->root = *root;
	if (index->top && index->top->dirty)
		node_committed(index->top);
	if (!root->levels) {
		node_free(index->top);
		index->top = NULL;
	}
	index->levels = root->levels;
	pthread_mutex_unlock(&index->lock);
}

void index_revert(struct index *index, bool restoring)
{
	pthread_mutex_lock(&index->lock);
	index->restoring = restoring;
	if (index->top && (index->top->dirty || index->levels != index->root.levels)) {
		node_free(index->top);
		index->top = NULL;
	}
	index->levels = index->root.levels;
	pthread_mutex_unlock(&index->lock);
}

void index_restored(struct index *index, int code)
{
	pthread_mutex_lock(&index->lock);
	index->restoring = false;
	index->behind = code;
	pthread_cond_broadcast(&index->restored);
	pthread_mutex_unlock(&index->lock);
}
