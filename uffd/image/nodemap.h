/* SPDX-License-Identifier: MIT */
/* nodemap.h - the index nodes that were visited, by where they lie. See nodemap.c. */
#ifndef UFFD_NODEMAP_H
#define UFFD_NODEMAP_H

#include "index.h"

struct known_node {
	struct reference at;
	uint64_t first;	     /* page */
	struct reference to; /* where it was copied to; offset 0: it was not */
	uint32_t stamp;	     /* the caller's */
	uint8_t level;
};

struct nodemap {
	struct known_node *slots; /* open addressing, at.offset 0: free */
	size_t count, capacity;	  /* a power of two */
	uint64_t seed;
};

void nodemap_open(struct nodemap *map);
void nodemap_close(struct nodemap *map);
/* The node, if it is known as just this one: until the next is added. NULL: it is not. */
struct known_node *nodemap_find(const struct nodemap *map, const struct reference *at,
				unsigned level, uint64_t first);
/* A node that is not known: 0, or -ENOMEM. */
int nodemap_add(struct nodemap *map, const struct reference *at, unsigned level, uint64_t first,
		uint32_t stamp);

#endif
