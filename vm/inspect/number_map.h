/* SPDX-License-Identifier: MIT */
/*
 * number_map.h - a set of 64-bit keys, numbered from 0 in the order they came. One thread.
 *
 * Keys are addresses in a heap, or made of them. Neighbours in the heap are neighbours in the
 * table, which saves cache misses. All else is hashed with a random salt, so that nobody can make a
 * heap whose keys all collide.
 */
#ifndef VM_INSPECT_NUMBER_MAP_H
#define VM_INSPECT_NUMBER_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_NONE UINT32_MAX

struct number_map { /* all zero: empty */
	uint64_t *keys;
	uint64_t *table; /* a part of the key, and its number + 1; 0: free */
	size_t count, room, slots;
	uint64_t salt;
};

/* NUMBER_NONE: it is not there. */
uint32_t number_map_find(const struct number_map *map, uint64_t key);
/* The key's number, new or not; NUMBER_NONE: no memory. */
uint32_t number_map_add(struct number_map *map, uint64_t key);
void number_map_free(struct number_map *map);

#endif
