/* SPDX-License-Identifier: MIT */
/* pagemap.h - the stored pages that were visited, by where they lie. See pagemap.c. */
#ifndef UFFD_PAGEMAP_H
#define UFFD_PAGEMAP_H

#include "extent_codec.h"

struct known_page {
	uint64_t offset : 48; /* in EXTENT_UNIT bytes; 0: free */
	uint64_t bytes : 16;  /* `to`: its stored length, unless it is whole */
	uint64_t to : 48;     /* where it was copied to, in EXTENT_UNIT bytes; 0: it was not */
	uint64_t encoding : 16;
	uint64_t word; /* the caller's: see page_word() */
	uint64_t sum;  /* likewise */
};
_Static_assert(sizeof(struct known_page) == 32, "what the memory is reckoned with");

struct pagemap {
	struct known_page *slots; /* open addressing */
	size_t count, capacity;	  /* a power of two */
	uint64_t seed;
};

void pagemap_open(struct pagemap *map);
void pagemap_close(struct pagemap *map);
/* What is known to lie where the extent does: until the next is added. NULL: nothing. */
struct known_page *pagemap_find(const struct pagemap *map, const struct extent *extent);
/* The first that lies there: its word. -ENOMEM. */
int pagemap_add(struct pagemap *map, const struct extent *extent, uint64_t word);

#endif
