/* SPDX-License-Identifier: MIT */
/*
 * pagemap.c - a hash map of stored pages, at most three quarters full: 43 to 86 bytes for each of them. The hash is
 * seeded: an image that was made to do harm cannot choose where its pages land. Whoever owns the map; no other
 * state.
 */
#include "pagemap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "sys.h"

void pagemap_open(struct pagemap *map)
{
	memset(map, 0, sizeof(*map));
	if (getrandom(&map->seed, sizeof(map->seed), 0) != sizeof(map->seed))
		map->seed = sys_monotonic_ns();
}

void pagemap_close(struct pagemap *map)
{
	free(map->slots);
	memset(map, 0, sizeof(*map));
}

/* Its slot, or the free one where it would be put. There is always a free one. */
static struct known_page *slot_of(const struct pagemap *map, uint64_t offset)
{
	size_t i = XXH3_64bits_withSeed(&offset, sizeof(offset), map->seed);

	for (;; i++) {
		struct known_page *known = &map->slots[i & (map->capacity - 1)];

		if (!known->offset || known->offset == offset)
			return known;
	}
}

struct known_page *pagemap_find(const struct pagemap *map, const struct extent *extent)
{
	struct known_page *known = map->capacity ? slot_of(map, extent->offset / EXTENT_UNIT)
						 : NULL;

	return known && known->offset ? known : NULL;
}

static int grow(struct pagemap *map)
{
	struct pagemap larger = {.capacity = map->capacity ? map->capacity * 2 : 1024,
				 .seed = map->seed};

	larger.slots = calloc(larger.capacity, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < map->capacity; i++)
		if (map->slots[i].offset)
			*slot_of(&larger, map->slots[i].offset) = map->slots[i];
	larger.count = map->count;
	free(map->slots);
	*map = larger;
	return 0;
}

int pagemap_add(struct pagemap *map, const struct extent *extent, uint64_t word)
{
	if (map->count * 4 >= map->capacity * 3) {
		int code = grow(map);

		if (code)
			return code;
	}
	*slot_of(map, extent->offset / EXTENT_UNIT) =
		(struct known_page){.offset = extent->offset / EXTENT_UNIT, .word = word};
	map->count++;
	return 0;
}
