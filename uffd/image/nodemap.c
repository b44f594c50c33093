/* SPDX-License-Identifier: MIT */
/*
 * nodemap.c - a hash map of index nodes, at most half full: 64 bytes for each 16 pages. Generations share
 * nodes, and a node stands for the same pages in all of them, so one that is known need not be visited
 * again. The hash is seeded: an image that was made to do harm cannot choose where its nodes land.
 * Whoever owns the map; no other state.
 */
#include "nodemap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "sys.h"

void nodemap_open(struct nodemap *map)
{
	memset(map, 0, sizeof(*map));
	if (getrandom(&map->seed, sizeof(map->seed), 0) != sizeof(map->seed))
		map->seed = sys_monotonic_ns();
}

void nodemap_close(struct nodemap *map)
{
	free(map->slots);
	memset(map, 0, sizeof(*map));
}

static bool is_same(const struct known_node *known, const struct reference *at, unsigned level,
		    uint64_t first)
{
	return known->at.offset == at->offset && known->level == level && known->first == first &&
	       checksum_same(known->at.checksum, at->checksum);
}

/* Its slot, or the free one where it would be put. There is always a free one. */
static struct known_node *slot_of(const struct nodemap *map, const struct reference *at,
				  unsigned level, uint64_t first)
{
	size_t i = XXH3_64bits_withSeed(&at->offset, sizeof(at->offset), map->seed);

	for (;; i++) {
		struct known_node *known = &map->slots[i & (map->capacity - 1)];

		if (!known->at.offset || is_same(known, at, level, first))
			return known;
	}
}

struct known_node *nodemap_find(const struct nodemap *map, const struct reference *at,
				unsigned level, uint64_t first)
{
	struct known_node *known = map->capacity ? slot_of(map, at, level, first) : NULL;

	return known && known->at.offset ? known : NULL;
}

static int grow(struct nodemap *map)
{
	struct nodemap larger = {.capacity = map->capacity ? map->capacity * 2 : 1024,
				 .seed = map->seed};

	larger.slots = calloc(larger.capacity, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < map->capacity; i++) {
		const struct known_node *known = &map->slots[i];

		if (known->at.offset)
			*slot_of(&larger, &known->at, known->level, known->first) = *known;
	}
	larger.count = map->count;
	free(map->slots);
	*map = larger;
	return 0;
}

int nodemap_add(struct nodemap *map, const struct reference *at, unsigned level, uint64_t first,
		uint32_t stamp)
{
	if (map->count * 2 >= map->capacity) {
		int code = grow(map);

		if (code)
			return code;
	}
	*slot_of(map, at, level, first) = (struct known_node){
		.at = *at, .first = first, .stamp = stamp, .level = (uint8_t)level};
	map->count++;
	return 0;
}
