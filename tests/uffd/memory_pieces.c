// SPDX-License-Identifier: GPL-2.0-only
/*
 * memory_pieces.c - the list of which page of an address space comes from which stored page, against an array that
 * says the same.
 */
#include "kselftest_harness.h"

#include "pieces.h"

#define PAGES 400u
#define NONE 0u

static uint64_t model[PAGES]; /* 1 + the stored page; NONE */
static uint64_t state = 88172645463325252ull;

static uint64_t below(uint64_t limit)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (state >> 20) % limit;
}

static void expect_same(struct __test_metadata *_metadata, const struct pieces *pieces)
{
	size_t moved = 0;

	for (size_t i = 0; i < pieces->count; i++) {
		ASSERT_LT(pieces->list[i].first, pieces->list[i].end);
		if (i)
			ASSERT_LE(pieces->list[i - 1].end, pieces->list[i].first);
		moved += piece_moved(&pieces->list[i]);
	}
	ASSERT_EQ(moved, pieces->moved);
	for (uint64_t page = 0; page < PAGES; page++) {
		const struct piece *piece = pieces_at(pieces, page);
		uint64_t at = UINT64_MAX;

		ASSERT_EQ(model[page] != NONE, piece != NULL);
		if (!piece)
			continue;
		ASSERT_EQ(model[page], 1 + piece->stored + (page - piece->first));
		ASSERT_EQ(piece, pieces_with(pieces, model[page] - 1, &at));
		ASSERT_EQ(page, at);
	}
}

TEST(pieces_are_what_was_cut_and_moved)
{
	struct pieces pieces = {0}, copy;

	for (uint64_t page = 50; page < 350; page++)
		model[page] = page % 100 < 90 ? page + 1 : NONE;
	ASSERT_EQ(0, pieces_add(&pieces, (struct piece){250, 290, 250}));
	ASSERT_EQ(0, pieces_add(&pieces, (struct piece){50, 90, 50}));
	ASSERT_EQ(0, pieces_add(&pieces, (struct piece){100, 190, 100}));
	ASSERT_EQ(0, pieces_add(&pieces, (struct piece){200, 250, 200}));
	ASSERT_EQ(0, pieces_add(&pieces, (struct piece){300, 350, 300}));
	expect_same(_metadata, &pieces);
	for (unsigned round = 0; round < 3000; round++) {
		uint64_t length = 1 + below(round % 3 ? 8 : 60), from = below(PAGES - length);
		uint64_t to = below(PAGES - length), moving[64];
		struct pieces out = {0};

		if (round % 4 == 0 && round < 400) {
			ASSERT_EQ(0, pieces_cut(&pieces, from, from + length, NULL));
			for (uint64_t i = 0; i < length; i++)
				model[from + i] = NONE;
		} else if (from + length <= to || to + length <= from) {
			ASSERT_EQ(0, pieces_cut(&pieces, to, to + length, NULL));
			ASSERT_EQ(0, pieces_cut(&pieces, from, from + length, &out));
			for (size_t i = 0; i < out.count; i++)
				ASSERT_EQ(0,
					  pieces_add(&pieces,
						     (struct piece){out.list[i].first - from + to,
								    out.list[i].end - from + to,
								    out.list[i].stored}));
			memcpy(moving, model + from, length * sizeof(*moving));
			memset(model + from, 0, length * sizeof(*moving));
			memcpy(model + to, moving, length * sizeof(*moving));
			pieces_free(&out);
		}
		expect_same(_metadata, &pieces);
	}
	ASSERT_EQ(0, pieces_copy(&copy, &pieces));
	expect_same(_metadata, &copy);
	pieces_free(&copy);
	pieces_free(&pieces);
}

TEST_HARNESS_MAIN
