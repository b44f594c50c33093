/* SPDX-License-Identifier: MIT */
/*
 * bitmap.h - one bit per page of a region. Plain words; whoever shares one between threads holds
 * a lock around it.
 */
#ifndef UFFD_BITMAP_H
#define UFFD_BITMAP_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct bitmap {
	uint64_t *words;
	uint64_t bits;	/* capacity; a multiple of 64 is allocated */
	uint64_t limit; /* every set bit is below it: keeps walks short in a mostly empty region */
};

static inline int bitmap_init(struct bitmap *map, uint64_t bits)
{
	/* calloc of this size is mmap: pages of the bitmap that are never touched cost nothing. */
	map->words = calloc((bits + 63) / 64 + 1, sizeof(uint64_t));
	map->bits = bits;
	map->limit = 0;
	return map->words ? 0 : -ENOMEM;
}

static inline void bitmap_free(struct bitmap *map)
{
	free(map->words);
	map->words = NULL;
}

static inline bool bitmap_test(const struct bitmap *map, uint64_t bit)
{
	return bit < map->bits && (map->words[bit / 64] >> (bit % 64) & 1);
}

static inline void bitmap_set(struct bitmap *map, uint64_t bit)
{
	map->words[bit / 64] |= 1ull << (bit % 64);
	if (bit >= map->limit)
		map->limit = bit + 1;
}

static inline void bitmap_clear(struct bitmap *map, uint64_t bit)
{
	map->words[bit / 64] &= ~(1ull << (bit % 64));
}

static inline void bitmap_set_range(struct bitmap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count;

	for (; first < end && first % 64; first++)
		bitmap_set(map, first);
	if (end - first >= 64) {
		memset(&map->words[first / 64], 0xff, (end - first) / 64 * sizeof(uint64_t));
		first += (end - first) / 64 * 64;
		if (map->limit < first)
			map->limit = first;
	}
	for (; first < end; first++)
		bitmap_set(map, first);
}

static inline void bitmap_clear_range(struct bitmap *map, uint64_t first, uint64_t count)
{
	for (uint64_t bit = first; bit < first + count; bit++)
		bitmap_clear(map, bit);
}

static inline void bitmap_clear_all(struct bitmap *map)
{
	memset(map->words, 0, (map->limit + 63) / 64 * sizeof(uint64_t));
	map->limit = 0;
}

static inline void bitmap_merge(struct bitmap *into, const struct bitmap *from)
{
	for (uint64_t word = 0; word < (from->limit + 63) / 64; word++)
		into->words[word] |= from->words[word];
	if (from->limit > into->limit)
		into->limit = from->limit;
}

static inline uint64_t bitmap_count(const struct bitmap *map)
{
	uint64_t count = 0;

	for (uint64_t word = 0; word < (map->limit + 63) / 64; word++)
		count += (uint64_t)__builtin_popcountll(map->words[word]);
	return count;
}

/* The first set bit at or after `from`, or UINT64_MAX. */
static inline uint64_t bitmap_next(const struct bitmap *map, uint64_t from)
{
	uint64_t word = from / 64, words = (map->limit + 63) / 64, bits;

	if (word >= words)
		return UINT64_MAX;
	bits = map->words[word] & ~0ull << (from % 64);
	while (!bits) {
		if (++word >= words)
			return UINT64_MAX;
		bits = map->words[word];
	}
	return word * 64 + (uint64_t)__builtin_ctzll(bits);
}

/* The length of the run of set bits that starts at `from` (which is set). */
static inline uint64_t bitmap_run(const struct bitmap *map, uint64_t from)
{
	uint64_t end = from + 1;

	while (bitmap_test(map, end))
		end++;
	return end - from;
}

#endif
