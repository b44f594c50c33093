/* SPDX-License-Identifier: MIT */
/* index.h - the copy-on-write radix tree from page number to extent. See index.c. */
#ifndef UFFD_INDEX_H
#define UFFD_INDEX_H

#include <pthread.h>

#include "image.h"

#define INDEX_LEVELS_MAX 10u /* 16^10 = 2^40 pages */
#define INDEX_PAGES_MAX (1ull << 40)

/* Where a node is, and its checksum. offset 0: there is none. */
struct reference {
	uint64_t offset;
	XXH128_hash_t checksum;
};

struct root {
	struct reference at;
	unsigned levels; /* 0: an empty tree; 1: the root is a leaf */
};

struct node;

/* The working index: nodes load on demand and stay. */
struct index {
	int fd;
	const char *path;
	const struct checksum_key *key;
	uint32_t page_bytes;
	pthread_mutex_t lock;
	struct root root; /* as last committed */
	unsigned levels;  /* now: more than root's once a commit needed more */
	struct node *top; /* NULL: not loaded, or empty */
	/* With the lock: of the pages in the log the tree is about to know again; it does not know them: why. */
	bool restoring;
	int behind;
	pthread_cond_t restored;
};

void index_open(struct index *index, int fd, const char *path, const struct checksum_key *key,
		uint32_t page_bytes, const struct root *root);
void index_close(struct index *index);

/* See image_next(). Any thread. */
uint64_t index_next(struct index *index, uint64_t page);
/* See image_lookup(). Any thread. */
int index_lookup(struct index *index, uint64_t first_page, struct extent extents[IMAGE_LEAF_PAGES],
		 struct thaw_error *error);

/* The rest: the thread that commits, only. */
int index_get(struct index *index, uint64_t page, struct extent *extent, struct thaw_error *error);
int index_set(struct index *index, uint64_t page, const struct extent *extent,
	      struct thaw_error *error);

/* What index_write() is going to write. */
uint64_t index_dirty_bytes(const struct index *index);
/*
 * Pass every changed node to `emit`, children before their parents and in page order; emit returns
 * where it put the node. `root` is the new tree. The index itself adopts it only with
 * index_committed().
 */
typedef int (*index_emit)(void *arg, const void *node, size_t bytes, uint64_t *offset);
int index_write(struct index *index, uint64_t generation, index_emit emit, void *arg,
		struct root *root);
void index_committed(struct index *index, const struct root *root);
/*
 * Back to the last committed tree, from any state. `restoring`: there are newer pages, which index_set() adds next; until
 * index_restored() says that they are there, or why not, lookups of other threads wait, and have that as their answer then.
 */
void index_revert(struct index *index, bool restoring);
void index_restored(struct index *index, int code);

/* Read one node and check everything about it. `node` has room for a union disk_any. */
union disk_any;
int index_read_node(int fd, const char *path, const struct checksum_key *key,
		    const struct reference *at, unsigned level, uint64_t first_page,
		    union disk_any *node, struct thaw_error *error);
/* The same for bytes that were read already, and not deciphered: NULL, or what is wrong. */
const char *index_open_node(const struct checksum_key *key, union disk_any *node,
			    const struct reference *at, unsigned level, uint64_t first_page);
/* What the file is to have of a node with that checksum, in its place. */
void index_seal_node(const struct checksum_key *key, const struct reference *at, unsigned level,
		     void *node);
size_t index_node_bytes(unsigned level);
/* Pages below a node of that level. */
uint64_t index_span(unsigned level);
/* Where its child `number` is, of FORMAT_FANOUT. */
struct reference index_child(const union disk_any *node, unsigned number);
struct disk_entry;
void index_decode_entry(const struct disk_entry *disk, uint32_t page_bytes, struct extent *extent);

#endif
