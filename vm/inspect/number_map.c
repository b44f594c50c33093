// SPDX-License-Identifier: MIT
/* numbers.c - a set of keys with numbers, see numbers.h: a table with open addresses, at most 3/4 full. */
#include "number_map.h"

#include <stdlib.h>
#include <sys/random.h>

#define NEIGHBOURS 16u /* places of a cache line; as many 16-byte blocks of a heap share one */

static size_t slot_of(const struct numbers *numbers, uint64_t key)
{
	uint64_t far = key / (16 * NEIGHBOURS) ^ numbers->salt, near = key / 16 % NEIGHBOURS;

	far *= 0x9e3779b97f4a7c15ull;
	far ^= far >> 29;
	far *= 0xbf58476d1ce4e5b9ull;
	far ^= far >> 32;
	return (size_t)(far * NEIGHBOURS + near) & (numbers->slots - 1);
}

static size_t slot_next(const struct numbers *numbers, size_t slot)
{
	return (slot + 1) & (numbers->slots - 1);
}

/* What tells most keys apart without a look at them: that would be a miss of the cache for each. */
static uint64_t entry_of(uint64_t key, size_t number)
{
	return (key ^ key >> 32) << 32 | (number + 1);
}

/* The slot that has the key, or the free one where it belongs. */
static size_t slot_find(const struct numbers *numbers, uint64_t key)
{
	uint64_t part = entry_of(key, 0) >> 32, entry;
	size_t slot = slot_of(numbers, key);

	while ((entry = numbers->table[slot])) {
		if (entry >> 32 == part && numbers->keys[(uint32_t)entry - 1] == key)
			break;
		slot = slot_next(numbers, slot);
	}
	return slot;
}

static bool keys_grow(struct numbers *numbers)
{
	size_t room = numbers->room ? numbers->room + numbers->room / 2 : 1024;
	uint64_t *keys = realloc(numbers->keys, room * sizeof(*keys));

	if (!keys)
		return false;
	numbers->keys = keys;
	numbers->room = room;
	return true;
}

static bool table_grow(struct numbers *numbers)
{
	size_t slots = numbers->slots ? numbers->slots * 2 : 2048;
	uint64_t *table = calloc(slots, sizeof(*table));

	if (!table)
		return false;
	if (!numbers->slots && getrandom(&numbers->salt, sizeof(numbers->salt), 0) < 0)
		numbers->salt = 0;
	free(numbers->table);
	numbers->table = table;
	numbers->slots = slots;
	for (size_t i = 0; i < numbers->count; i++)
		table[slot_find(numbers, numbers->keys[i])] = entry_of(numbers->keys[i], i);
	return true;
}

uint32_t numbers_find(const struct numbers *numbers, uint64_t key)
{
	return numbers->slots ? (uint32_t)numbers->table[slot_find(numbers, key)] - 1 : NUMBER_NONE;
}

uint32_t numbers_add(struct numbers *numbers, uint64_t key)
{
	uint32_t number = numbers_find(numbers, key);

	if (number != NUMBER_NONE)
		return number;
	if (numbers->count >= NUMBER_NONE - 1 ||
	    (numbers->count == numbers->room && !keys_grow(numbers)) ||
	    (numbers->count * 4 >= numbers->slots * 3 && !table_grow(numbers)))
		return NUMBER_NONE;
	numbers->keys[numbers->count] = key;
	numbers->table[slot_find(numbers, key)] = entry_of(key, numbers->count);
	return (uint32_t)numbers->count++;
}

void numbers_free(struct numbers *numbers)
{
	free(numbers->keys);
	free(numbers->table);
	*numbers = (struct numbers){0};
}
