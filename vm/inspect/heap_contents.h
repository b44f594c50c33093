/* SPDX-License-Identifier: MIT */
/*
 * heap_contents.h - what a heap consists of, for people: how many bytes are of which type, held by which variable, in all
 * and in each piece of the heap. See heap_contents.c. One thread.
 */
#ifndef VM_INSPECT_HEAP_CONTENTS_H
#define VM_INSPECT_HEAP_CONTENTS_H

#include "graph.h"

#define CONTENTS_MOST 3u /* shares that are kept of a piece */

/* Objects of one type that one variable holds. */
struct heap_share {
	const char *type, *holder; /* owned by the contents */
	uint64_t bytes, count;
};
struct heap_piece {
	uint64_t bytes; /* of all objects that begin in it */
	struct heap_share most[CONTENTS_MOST];
	unsigned count;
};
struct heap_contents {		  /* all zero: empty */
	struct heap_share *share; /* of the whole heap, the biggest first */
	size_t share_count;
	struct heap_piece *piece;
	size_t piece_count;
	char **text;
	size_t text_count, text_room;
};

/* 0 or a negative code, and then it is empty. `piece_bytes`: how much of the heap a piece is. */
int heap_contents_read(struct graph *graph, uint64_t heap_bytes, uint64_t piece_bytes,
		       struct heap_contents *contents, struct thaw_error *error);
void heap_contents_free(struct heap_contents *contents);

#endif
