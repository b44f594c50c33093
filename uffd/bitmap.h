/* SPDX-License-Identifier: MIT */
/*
 * bitmap.h - one bit per page of a region of any size. Memory and time depend on the bits that are
 * set, not on the size. Not atomic: threads that share one hold a lock.
 *
 * The words are address space that the kernel fills as it is written, so setting a bit cannot fail
 * and is safe in a signal handler. `parts` has a bit for each 512 words of which one may be non-
 * zero; other words are never read (reading one would cost a page). `tops` has one for each word of `parts` that may be
 * non-zero: of the addresses of a process there are 16,384 such words, and a few in use.
 */
#ifndef UFFD_BITMAP_H
#define UFFD_BITMAP_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BITMAP_PART_WORDS 512ull
#define BITMAP_PART_BITS (64 * BITMAP_PART_WORDS)
#define BITMAP_PARTS_KEPT 64u /* 256 KiB: when all is cleared, more is given back to the kernel */

struct bitmap {
	uint64_t *words, *parts, *tops;
	uint64_t bits;	/* capacity */
	uint64_t limit; /* every set bit is below it */
};

static inline uint64_t bitmap_words_bytes(const struct bitmap *map)
{
	return (map->bits / BITMAP_PART_BITS + 1) * BITMAP_PART_WORDS * sizeof(uint64_t);
}

static inline uint64_t bitmap_parts_bytes(const struct bitmap *map)
{
	return (map->bits / BITMAP_PART_BITS / 64 + 1) * sizeof(uint64_t);
}

static inline uint64_t bitmap_tops_bytes(const struct bitmap *map)
{
	return (map->bits / BITMAP_PART_BITS / 4096 + 1) * sizeof(uint64_t);
}

static inline uint64_t bitmap_all_bytes(const struct bitmap *map)
{
	return bitmap_words_bytes(map) + bitmap_parts_bytes(map) + bitmap_tops_bytes(map);
}

static inline int bitmap_init(struct bitmap *map, uint64_t bits)
{
	void *memory;

	*map = (struct bitmap){.bits = bits};
	memory = mmap(NULL, bitmap_all_bytes(map), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	/* No huge pages: one would be allocated for a single bit. */
	(void)madvise(memory, bitmap_all_bytes(map), MADV_NOHUGEPAGE);
	map->words = memory;
	map->parts = map->words + bitmap_words_bytes(map) / sizeof(uint64_t);
	map->tops = map->parts + bitmap_parts_bytes(map) / sizeof(uint64_t);
	return 0;
}

static inline void bitmap_free(struct bitmap *map)
{
	if (map->words)
		munmap(map->words, bitmap_all_bytes(map));
	map->words = NULL;
}

static inline bool bitmap_has_part(const struct bitmap *map, uint64_t part)
{
	return map->parts[part / 64] >> part % 64 & 1;
}

static inline void bitmap_mark_part(struct bitmap *map, uint64_t part)
{
	map->parts[part / 64] |= 1ull << part % 64;
	map->tops[part / 4096] |= 1ull << part / 64 % 64;
}

/* The first word of `parts` at or after `word` that may be non-zero; or `words`. */
static inline uint64_t bitmap_next_top(const struct bitmap *map, uint64_t word, uint64_t words)
{
	for (uint64_t mask = ~0ull << word % 64; word < words; word = (word / 64 + 1) * 64) {
		uint64_t bits = map->tops[word / 64] & mask;

		mask = ~0ull;
		if (bits) {
			word = word / 64 * 64 + (uint64_t)__builtin_ctzll(bits);
			break;
		}
	}
	return word < words ? word : words;
}

/* The first part at or after `part` that is not empty; UINT64_MAX. */
static inline uint64_t bitmap_next_part(const struct bitmap *map, uint64_t part)
{
	uint64_t word = part / 64, bits;
	uint64_t words = (map->limit + 64 * BITMAP_PART_BITS - 1) / (64 * BITMAP_PART_BITS);

	if (word >= words)
		return UINT64_MAX;
	bits = map->parts[word] & ~0ull << part % 64;
	while (!bits) {
		word = bitmap_next_top(map, word + 1, words);
		if (word == words)
			return UINT64_MAX;
		bits = map->parts[word];
	}
	return word * 64 + (uint64_t)__builtin_ctzll(bits);
}

static inline bool bitmap_test(const struct bitmap *map, uint64_t bit)
{
	return bit < map->limit && bitmap_has_part(map, bit / BITMAP_PART_BITS) &&
	       (map->words[bit / 64] >> bit % 64 & 1);
}

static inline void bitmap_set(struct bitmap *map, uint64_t bit)
{
	uint64_t part = bit / BITMAP_PART_BITS;

	map->words[bit / 64] |= 1ull << bit % 64;
	bitmap_mark_part(map, part);
	if (bit >= map->limit)
		map->limit = bit + 1;
}

static inline void bitmap_clear(struct bitmap *map, uint64_t bit)
{
	if (bitmap_test(map, bit))
		map->words[bit / 64] &= ~(1ull << bit % 64);
}

static inline void bitmap_set_range(struct bitmap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count;

	for (; first < end && first % 64; first++)
		bitmap_set(map, first);
	if (end - first >= 64) {
		uint64_t words = (end - first) / 64;

		memset(&map->words[first / 64], 0xff, words * sizeof(uint64_t));
		for (uint64_t part = first / BITMAP_PART_BITS;
		     part <= (first + words * 64 - 1) / BITMAP_PART_BITS; part++)
			bitmap_mark_part(map, part);
		first += words * 64;
		if (map->limit < first)
			map->limit = first;
	}
	for (; first < end; first++)
		bitmap_set(map, first);
}

static inline void bitmap_clear_range(struct bitmap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count < map->limit ? first + count : map->limit;

	for (uint64_t bit = first; bit < end;) {
		uint64_t part = bitmap_next_part(map, bit / BITMAP_PART_BITS);

		if (part == UINT64_MAX)
			return;
		if (bit < part * BITMAP_PART_BITS) {
			bit = part * BITMAP_PART_BITS;
		} else if (bit % 64 || end - bit < 64) {
			map->words[bit / 64] &= ~(1ull << bit % 64);
			bit++;
		} else {
			map->words[bit / 64] = 0;
			bit += 64;
		}
	}
}

static inline void bitmap_clear_all(struct bitmap *map)
{
	unsigned parts = 0;
	uint64_t part;

	for (part = 0; (part = bitmap_next_part(map, part)) != UINT64_MAX; part++)
		if (++parts > BITMAP_PARTS_KEPT)
			break;
	/* Memory that is locked cannot be given back. */
	if (part == UINT64_MAX || madvise(map->words, bitmap_words_bytes(map), MADV_DONTNEED))
		for (part = 0; (part = bitmap_next_part(map, part)) != UINT64_MAX; part++)
			memset(&map->words[part * BITMAP_PART_WORDS], 0,
			       BITMAP_PART_WORDS * sizeof(uint64_t));
	/* On a kernel of larger pages some of these went with the words. */
	for (uint64_t word = 0, words = map->limit / BITMAP_PART_BITS / 64 + 1;
	     (word = bitmap_next_top(map, word, words)) < words; word++)
		map->parts[word] = 0;
	memset(map->tops, 0, (map->limit / BITMAP_PART_BITS / 4096 + 1) * sizeof(uint64_t));
	map->limit = 0;
}

static inline void bitmap_merge(struct bitmap *into, const struct bitmap *from)
{
	for (uint64_t part = 0; (part = bitmap_next_part(from, part)) != UINT64_MAX; part++) {
		uint64_t word = part * BITMAP_PART_WORDS;

		for (uint64_t end = word + BITMAP_PART_WORDS; word < end; word++)
			if (from->words[word])
				into->words[word] |= from->words[word];
		bitmap_mark_part(into, part);
	}
	if (from->limit > into->limit)
		into->limit = from->limit;
}

static inline uint64_t bitmap_count(const struct bitmap *map)
{
	uint64_t count = 0;

	for (uint64_t part = 0; (part = bitmap_next_part(map, part)) != UINT64_MAX; part++) {
		const uint64_t *word = &map->words[part * BITMAP_PART_WORDS];

		for (unsigned i = 0; i < BITMAP_PART_WORDS; i++)
			if (word[i]) /* a function counts, on the processors that we build for */
				count += (uint64_t)__builtin_popcountll(word[i]);
	}
	return count;
}

/* The first set bit at or after `from`, or UINT64_MAX. */
static inline uint64_t bitmap_next(const struct bitmap *map, uint64_t from)
{
	while (from < map->limit) {
		uint64_t part = bitmap_next_part(map, from / BITMAP_PART_BITS), word, end;

		if (part == UINT64_MAX)
			return UINT64_MAX;
		if (from < part * BITMAP_PART_BITS)
			from = part * BITMAP_PART_BITS;
		word = from / 64;
		end = (part + 1) * BITMAP_PART_WORDS;
		for (uint64_t mask = ~0ull << from % 64; word < end; word++, mask = ~0ull)
			if (map->words[word] & mask)
				return word * 64 +
				       (uint64_t)__builtin_ctzll(map->words[word] & mask);
		from = end * 64;
	}
	return UINT64_MAX;
}

/* The first bit at or after `from` that is not set; or `end`. */
static inline uint64_t bitmap_next_clear(const struct bitmap *map, uint64_t from, uint64_t end)
{
	while (from < end && from < map->limit && bitmap_has_part(map, from / BITMAP_PART_BITS)) {
		uint64_t bits = ~map->words[from / 64] & ~0ull << from % 64;

		if (bits) {
			from = from / 64 * 64 + (uint64_t)__builtin_ctzll(bits);
			break;
		}
		from = (from / 64 + 1) * 64;
	}
	return from < end ? from : end;
}

/* The length of the run of set bits that starts at `from` (which is set). */
static inline uint64_t bitmap_run(const struct bitmap *map, uint64_t from)
{
	return bitmap_next_clear(map, from, map->limit) - from;
}

#endif
