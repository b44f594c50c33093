// SPDX-License-Identifier: MIT
/* number_map.c - a hash table with open addressing, at most 3/4 full, see number_map.h. */
#include <stdlib.h>
#include <sys/random.h>

#include "base/array.h"
#include "number_map.h"

#define NEIGHBOURS 16u /* slots that share cache lines: for 16 neighbouring blocks of 16 bytes */

static size_t slot_of(const struct number_map *map, uint64_t key)
{
	uint64_t far = key / (16 * NEIGHBOURS) ^ map->salt, near = key / 16 % NEIGHBOURS;

	far *= 0x9e3779b97f4a7c15ull;
	far ^= far >> 29;
	far *= 0xbf58476d1ce4e5b9ull;
	far ^= far >> 32;
	return (size_t)(far * NEIGHBOURS + near) & (map->slots - 1);
}

static size_t slot_next(const struct number_map *map, size_t slot)
{
	return (slot + 1) & (map->slots - 1);
}

/*
 * A part of the key, which tells most keys apart, so that `keys` is not read: a cache miss each
 * time.
 */
static uint64_t entry_of(uint64_t key, size_t number)
{
	return (key ^ key >> 32) << 32 | (number + 1);
}

/* The slot of the key, or the free slot that it would take. */
static size_t slot_find(const struct number_map *map, uint64_t key)
{
	uint64_t part = entry_of(key, 0) >> 32, entry;
	size_t slot = slot_of(map, key);

	while ((entry = map->table[slot])) {
		if (entry >> 32 == part && map->keys[(uint32_t)entry - 1] == key)
			break;
		slot = slot_next(map, slot);
	}
	return slot;
}

static bool table_grow(struct number_map *map)
{
	size_t slots = map->slots ? map->slots * 2 : 2048;
	uint64_t *table = calloc(slots, sizeof(*table));

	if (!table)
		return false;
	if (!map->slots && getrandom(&map->salt, sizeof(map->salt), 0) < 0)
		map->salt = 0;
	free(map->table);
	map->table = table;
	map->slots = slots;
	for (size_t i = 0; i < map->count; i++)
		table[slot_find(map, map->keys[i])] = entry_of(map->keys[i], i);
	return true;
}

uint32_t number_map_find(const struct number_map *map, uint64_t key)
{
	return map->slots ? (uint32_t)map->table[slot_find(map, key)] - 1 : NUMBER_NONE;
}

uint32_t number_map_add(struct number_map *map, uint64_t key)
{
	uint32_t number = number_map_find(map, key);
	uint64_t *keys;

	if (number != NUMBER_NONE)
		return number;
	keys = array_grow(map->keys, map->count, &map->room, sizeof(*keys));
	if (!keys)
		return NUMBER_NONE;
	map->keys = keys;
	if (map->count >= NUMBER_NONE - 1 || (map->count * 4 >= map->slots * 3 && !table_grow(map)))
		return NUMBER_NONE;
	map->keys[map->count] = key;
	map->table[slot_find(map, key)] = entry_of(key, map->count);
	return (uint32_t)map->count++;
}

void number_map_free(struct number_map *map)
{
	free(map->keys);
	free(map->table);
	*map = (struct number_map){0};
}
