/* SPDX-License-Identifier: MIT */
/* node_list.h - nodes of an index of one level, for who goes through a tree level by level from the root. */
#ifndef UFFD_NODE_LIST_H
#define UFFD_NODE_LIST_H

#include <errno.h>
#include <stdlib.h>

#include "index.h"

struct node_place {
	struct reference at;
	uint64_t first_page;
};

struct node_list { /* zeroed: none */
	struct node_place *items;
	size_t count, room;
};

static inline int node_list_add(struct node_list *list, const struct node_place *place)
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

/* Child `number` of the node at that place and level, which is `node`. Its offset is 0: there is none. */
static inline struct node_place node_below(const struct node_place *place, unsigned level,
					   const union disk_any *node, unsigned number)
{
	return (struct node_place){index_child(node, number),
				   place->first_page + number * index_span(level - 1)};
}

#endif
