/* SPDX-License-Identifier: MIT */
/* node.h - a node of the working index in memory. index.c alone changes it; see its invariants. */
#ifndef UFFD_NODE_H
#define UFFD_NODE_H

#include "format.h"
#include "index.h"

struct node {
	uint64_t first; /* page */
	uint8_t level;
	bool dirty;
	struct reference written; /* where the commit under way put it; dirty nodes only */
	union {
		struct extent extent[FORMAT_FANOUT];
		struct {
			struct reference at[FORMAT_FANOUT];
			struct node *child[FORMAT_FANOUT]; /* NULL: not loaded */
		} inner;
	};
};

#endif
