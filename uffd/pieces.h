/* SPDX-License-Identifier: MIT */
/*
 * pieces.h - which pages of an address space come from which pages of an image: a list of disjoint
 * pieces, sorted by their address.
 *
 * Where memory was captured, both numbers are the same; what was moved since (mremap) is a piece whose
 * numbers differ. A stored page lies at one place at most. What is in no piece comes from no image.
 * Costs follow the number of pieces, and of those that were moved. One thread at a time.
 */
#ifndef UFFD_PIECES_H
#define UFFD_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct piece { /* pages [first, end) come from the stored ones from `stored` on */
	uint64_t first, end, stored;
};

struct pieces { /* zeroed: none */
	struct piece *list;
	size_t count, room;
	size_t moved; /* those whose two numbers differ */
};

void pieces_free(struct pieces *pieces);
/* Into where no piece is. 0 or -ENOMEM. */
int pieces_add(struct pieces *pieces, struct piece piece);
/* Nothing in [first, end) comes from the image any more; what did is added to `out`, if that is not NULL. */
int pieces_cut(struct pieces *pieces, uint64_t first, uint64_t end, struct pieces *out);
int pieces_copy(struct pieces *to, const struct pieces *from);

/* The number of the first piece that ends behind this page; pieces->count: none does. */
size_t pieces_from(const struct pieces *pieces, uint64_t page);
/* The piece with this page; NULL. */
const struct piece *pieces_at(const struct pieces *pieces, uint64_t page);
/* The piece that a stored page lies in, and at which page; NULL. */
const struct piece *pieces_with(const struct pieces *pieces, uint64_t stored, uint64_t *page);

static inline bool piece_moved(const struct piece *piece)
{
	return piece->first != piece->stored;
}
static inline uint64_t piece_stored_end(const struct piece *piece)
{
	return piece->stored + (piece->end - piece->first);
}

#endif
