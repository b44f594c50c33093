// SPDX-License-Identifier: GPL-2.0-only
/*
 * bitmaps.c - bitmaps of any size (uffd/bitmap.h) beside one byte for each bit, in random histories; the bits lie in a few
 * places of a process's address space, far from each other and at the edges of what the levels of a bitmap count.
 */
#include "kselftest_harness.h"
#include "bitmap.h"
#include "support.h"

#define BITS (1ull << 35) /* pages of 2^47 bytes */
#define PLACES 8u
#define PLACE_BITS 512u

/* The middle of each place is where a part, a word of parts, or a word of tops ends. */
static const uint64_t middles[PLACES] = {
	PLACE_BITS / 2,
	BITMAP_PART_BITS,
	64 * BITMAP_PART_BITS,
	4096 * BITMAP_PART_BITS,
	4096 * 64 * BITMAP_PART_BITS / 4,
	0x555555554ull + 77,
	0x7ffff7c00ull,
	BITS - PLACE_BITS / 2,
};

struct model {
	bool set[PLACES * PLACE_BITS];
};

static uint64_t bit_of(unsigned index)
{
	return middles[index / PLACE_BITS] - PLACE_BITS / 2 + index % PLACE_BITS;
}

static unsigned random_below(unsigned *seed, unsigned end)
{
	*seed = *seed * 1103515245u + 12345u;
	return (*seed >> 8) % end;
}

/* Empty string: they are the same. */
static const char *differs(const struct bitmap *map, const struct model *model)
{
	uint64_t count = 0, at = 0;

	for (unsigned i = 0; i < PLACES * PLACE_BITS; i++) {
		if (bitmap_test(map, bit_of(i)) != model->set[i])
			return "bitmap_test()";
		if (!model->set[i])
			continue;
		count++;
		at = bitmap_next(map, at);
		if (at++ != bit_of(i))
			return "bitmap_next()";
	}
	if (bitmap_next(map, at) != UINT64_MAX)
		return "bitmap_next() behind the last";
	return bitmap_count(map) == count ? "" : "bitmap_count()";
}

static void change(struct bitmap *map, struct model *model, unsigned *seed)
{
	unsigned first = random_below(seed, PLACES * PLACE_BITS);
	unsigned left = PLACE_BITS - first % PLACE_BITS, count = 1 + random_below(seed, left);
	bool set = random_below(seed, 2), one = random_below(seed, 3);

	if (one)
		count = 1;
	if (one && set)
		bitmap_set(map, bit_of(first));
	else if (one)
		bitmap_clear(map, bit_of(first));
	else if (set)
		bitmap_set_range(map, bit_of(first), count);
	else
		bitmap_clear_range(map, bit_of(first), count);
	for (unsigned i = 0; i < count; i++)
		model->set[first + i] = set;
}

TEST(bitmaps_are_what_was_set_in_them)
{
	struct model here = {{false}}, there = {{false}};
	struct bitmap map, other;
	unsigned seed = 7;

	ASSERT_EQ(0, bitmap_init(&map, BITS));
	ASSERT_EQ(0, bitmap_init(&other, BITS));
	for (unsigned round = 0; round < 3000; round++) {
		change(&map, &here, &seed);
		change(&other, &there, &seed);
		switch (random_below(&seed, 40)) {
		case 0:
			bitmap_merge(&map, &other);
			for (unsigned i = 0; i < PLACES * PLACE_BITS; i++)
				here.set[i] |= there.set[i];
			break;
		case 1:
			bitmap_clear_all(&map);
			here = (struct model){{false}};
			break;
		case 2:
			bitmap_clear_all(&other);
			there = (struct model){{false}};
			break;
		default:
			break;
		}
		if (round % 16 == 0 || round < 100) {
			ASSERT_STREQ("", differs(&map, &here));
			ASSERT_STREQ("", differs(&other, &there));
		}
	}
	bitmap_free(&map);
	bitmap_free(&other);
}

/* More than is kept is given back to the kernel when all is cleared. */
TEST(many_parts_are_cleared)
{
	struct bitmap map;

	ASSERT_EQ(0, bitmap_init(&map, BITS));
	for (unsigned again = 0; again < 2; again++) {
		for (uint64_t i = 0; i < 4 * BITMAP_PARTS_KEPT; i++)
			bitmap_set(&map, i * 4099 * BITMAP_PART_BITS % BITS + i);
		EXPECT_EQ(4 * BITMAP_PARTS_KEPT, bitmap_count(&map));
		bitmap_clear_all(&map);
		EXPECT_EQ(UINT64_MAX, bitmap_next(&map, 0));
		EXPECT_EQ(0, bitmap_count(&map));
	}
	bitmap_free(&map);
}

TEST_HARNESS_MAIN
