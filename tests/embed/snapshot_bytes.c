// SPDX-License-Identifier: GPL-2.0-only
/*
 * A snapshot as bytes comes back as it was, whole or as a chain of deltas; the same contents give the same id and bytes; what
 * is cut off, changed in any bit, of another engine, version or base is refused with its own code.
 */
#include "kselftest_harness.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "../../vm/embed/snapshot_codec.h"
#include "../../vm/embed/snapshot_format.h"

#define ENGINE "engine 1"

static uint64_t next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

/* A heap of words that resemble each other, with pages of zeros between. The caller frees heap and state. */
static struct snapshot_contents make(uint64_t pages, uint64_t seed)
{
	struct snapshot_contents made = {
		.engine = ENGINE, .heap_bytes = pages * SNAPSHOT_PAGE, .state_bytes = 100};
	uint8_t *heap = calloc(pages + 1, SNAPSHOT_PAGE), *state = malloc(100);

	for (uint64_t page = 0; page < pages; page++)
		for (unsigned at = 0; page % 3 && at < SNAPSHOT_PAGE; at += 4) {
			uint32_t word = (uint32_t)(next(&seed) % 50 * 8);

			memcpy(heap + page * SNAPSHOT_PAGE + at, &word, 4);
		}
	memset(state, (int)seed, 100);
	made.heap = heap;
	made.state = state;
	snapshot_sum(&made);
	return made;
}

static struct snapshot_contents changed(const struct snapshot_contents *from, uint64_t pages,
					uint64_t seed)
{
	struct snapshot_contents made = make(pages, 1);
	uint64_t least = from->heap_bytes < made.heap_bytes ? from->heap_bytes : made.heap_bytes;
	uint8_t *heap = (uint8_t *)made.heap;

	memset(heap, 0, made.heap_bytes);
	memcpy(heap, from->heap, least);
	memcpy((uint8_t *)made.state, from->state, 100);
	((uint8_t *)made.state)[7]++;
	for (unsigned i = 0; i < 30; i++)
		heap[next(&seed) % made.heap_bytes]++;
	memset(heap, 0, SNAPSHOT_PAGE);			      /* one that vanishes ... */
	memset(heap + made.heap_bytes - 8, (int)seed | 1, 8); /* and one that may appear */
	snapshot_sum(&made);
	return made;
}

static void drop(struct snapshot_contents *contents)
{
	free((void *)contents->heap);
	free((void *)contents->state);
}

/* Opened by itself or over a base; the caller drops it if that is 0. */
static int opened(const void *data, size_t bytes, const struct snapshot_contents *base,
		  struct snapshot_contents *made, struct thaw_error *error)
{
	struct snapshot_info info;
	uint8_t *heap, *state;
	int code = snapshot_describe(data, bytes, &info, error);

	if (code)
		return code;
	heap = calloc(1, info.heap_bytes + 1);
	state = malloc(info.state_bytes + 1);
	if (base && info.delta)
		memcpy(heap, base->heap,
		       base->heap_bytes < info.heap_bytes ? base->heap_bytes : info.heap_bytes);
	code = snapshot_decode(data, bytes, ENGINE, base, heap, state, made, error);
	if (code) {
		free(heap);
		free(state);
	}
	return code;
}

static bool same(const struct snapshot_contents *a, const struct snapshot_contents *b)
{
	uint8_t id[2][16];

	snapshot_id(a, id[0]);
	snapshot_id(b, id[1]);
	return a->heap_bytes == b->heap_bytes && !memcmp(a->heap, b->heap, a->heap_bytes) &&
	       a->state_bytes == b->state_bytes && !memcmp(a->state, b->state, a->state_bytes) &&
	       !memcmp(id[0], id[1], 16);
}

TEST(whole_comes_back)
{
	static const uint64_t sizes[] = {0, 1, 16, 255, 400, 1000};

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct snapshot_contents contents = make(sizes[i], i), back;
		struct thaw_error error = {0};
		size_t bytes, again_bytes;
		void *data, *again;

		ASSERT_EQ(0, snapshot_encode(&contents, NULL, 0, &data, &bytes, &error));
		ASSERT_EQ(0, opened(data, bytes, NULL, &back, &error)) TH_LOG("%s", error.text);
		EXPECT_TRUE(same(&contents, &back));
		/* Equal contents, equal bytes. */
		ASSERT_EQ(0, snapshot_encode(&back, NULL, 0, &again, &again_bytes, &error));
		EXPECT_TRUE(bytes == again_bytes && !memcmp(data, again, bytes));
		if (sizes[i] > 15)
			EXPECT_LT(bytes, contents.heap_bytes / 2);
		free(data);
		free(again);
		drop(&back);
		drop(&contents);
	}
}

TEST(zero_pages_take_nothing)
{
	struct snapshot_contents contents = make(2, 1), large = make(50000, 1), back;
	struct thaw_error error;
	size_t small_bytes, bytes;
	void *small, *data;

	memset((void *)large.heap, 0, large.heap_bytes);
	memcpy((void *)large.heap, contents.heap, contents.heap_bytes);
	snapshot_sum(&large);
	ASSERT_EQ(0, snapshot_encode(&contents, NULL, 0, &small, &small_bytes, &error));
	ASSERT_EQ(0, snapshot_encode(&large, NULL, 0, &data, &bytes, &error));
	EXPECT_EQ(small_bytes, bytes);
	ASSERT_EQ(0, opened(data, bytes, NULL, &back, &error));
	EXPECT_TRUE(same(&large, &back));
	free(small);
	free(data);
	drop(&back);
	drop(&contents);
	drop(&large);
}

/* What was opened of a delta is a base like any other; the heap grows, and is smaller again. */
TEST(chain_of_deltas_comes_back)
{
	static const uint64_t sizes[] = {350, 350, 600, 592, 100, 352};
	struct snapshot_contents now = make(sizes[0], 3), here;
	struct thaw_error error = {0};
	size_t bytes;
	void *data;

	ASSERT_EQ(0, snapshot_encode(&now, NULL, 0, &data, &bytes, &error));
	ASSERT_EQ(0, opened(data, bytes, NULL, &here, &error));
	free(data);
	for (unsigned i = 1; i < ARRAY_SIZE(sizes); i++) {
		struct snapshot_contents then = now, there = here;

		now = changed(&then, sizes[i], i);
		ASSERT_EQ(0, snapshot_encode(&now, &then, 0, &data, &bytes, &error));
		if (sizes[i] == sizes[i - 1])
			EXPECT_LT(bytes, 2048);
		ASSERT_EQ(0, opened(data, bytes, &there, &here, &error)) TH_LOG("%s", error.text);
		EXPECT_TRUE(same(&now, &here));
		free(data);
		drop(&then);
		drop(&there);
	}
	drop(&now);
	drop(&here);
}

TEST(damage_is_found)
{
	struct snapshot_contents from = make(20, 4), to = changed(&from, 20, 5), back;
	struct thaw_error error;

	for (unsigned delta = 0; delta < 2; delta++) {
		size_t bytes;
		uint8_t *data;

		/* Few pages: each bit is tried. */
		memset((void *)(to.heap + 3 * SNAPSHOT_PAGE), 0, 17 * SNAPSHOT_PAGE);
		snapshot_sum(&to);
		ASSERT_EQ(0, snapshot_encode(&to, delta ? &from : NULL, 0, (void **)&data, &bytes,
					     &error));
		for (size_t cut = 0; cut < bytes; cut++) {
			uint8_t *part = malloc(cut + 1);

			memcpy(part, data, cut);
			ASSERT_GT(0, opened(part, cut, &from, &back, &error)) TH_LOG("%zu", cut);
			free(part);
		}
		for (size_t bit = 0; bit < 8 * bytes; bit++) {
			data[bit / 8] ^= 1u << bit % 8;
			ASSERT_GT(0, opened(data, bytes, &from, &back, &error))
			TH_LOG("bit %zu", bit);
			data[bit / 8] ^= 1u << bit % 8;
		}
		data = realloc(data, bytes + 1);
		data[bytes] = 0;
		EXPECT_EQ(THAW_EDAMAGED, opened(data, bytes + 1, &from, &back, &error));
		EXPECT_EQ(0, opened(data, bytes, &from, &back, &error));
		drop(&back);
		free(data);
	}
	drop(&from);
	drop(&to);
}

/* Right checksums over values that cannot be. */
TEST(hostile_values_are_refused)
{
	struct snapshot_contents contents = make(20, 6);
	struct thaw_error error;
	struct snapshot_info info;
	size_t bytes;
	uint8_t *data;
	struct disk_snapshot header;
	struct disk_snapshot_run runs[2];
	struct {
		size_t at;
		uint32_t value;
	} values[] = {
		{144, 0xfffffff0u}, /* first page */
		{148, 0},	    /* an empty run */
		{148, 0xffffffffu}, /* beyond the heap */
		{152, 1},	    /* overlaps the first */
		{12, 2},	    /* kind */
		{112, 4095},	    /* size of the heap */
		{116, 0xffffu},
		{124, 1},
		{132, 0},
		{132, 3},	    /* frames */
		{128, 0xffffffffu}, /* runs */
	};

	ASSERT_EQ(0, snapshot_encode(&contents, NULL, 0, (void **)&data, &bytes, &error));
	memcpy(runs, data + 144, sizeof(runs));
	ASSERT_EQ(1, runs[0].first);
	ASSERT_EQ(2, runs[0].pages);
	for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
		uint8_t *copy = malloc(bytes);
		size_t head;
		XXH3_state_t state;

		memcpy(copy, data, bytes);
		memcpy(copy + values[i].at, &values[i].value, 4);
		memcpy(&header, copy, sizeof(header));
		head = 144 + (size_t)header.runs * 8 + (size_t)header.frames * 16;
		if (head <= bytes) {
			XXH3_64bits_reset(&state);
			XXH3_64bits_update(&state, copy, 136);
			XXH3_64bits_update(&state, copy + 144, head - 144);
			header.checksum = XXH3_64bits_digest(&state);
			memcpy(copy, &header, sizeof(header));
		}
		EXPECT_EQ(THAW_EDAMAGED, snapshot_describe(copy, bytes, &info, &error))
		TH_LOG("value %u", i);
		free(copy);
	}
	free(data);
	drop(&contents);
}

TEST(who_cannot_go_on_is_told)
{
	struct snapshot_contents from = make(20, 7), to = changed(&from, 20, 8), back,
				 other = make(20, 9), foreign = from;
	struct thaw_error error;
	size_t bytes;
	uint8_t *data;

	ASSERT_EQ(0, snapshot_encode(&to, &from, 0, (void **)&data, &bytes, &error));
	EXPECT_EQ(THAW_ENOGEN, opened(data, bytes, NULL, &back, &error));
	EXPECT_EQ(THAW_ENOGEN, opened(data, bytes, &other, &back, &error));
	data[8]++;
	EXPECT_EQ(THAW_EFORMAT, opened(data, bytes, &from, &back, &error));
	data[0]++;
	EXPECT_EQ(THAW_EFOREIGN, opened(data, bytes, &from, &back, &error));
	free(data);
	foreign.engine = "engine 2";
	EXPECT_EQ(THAW_EENGINE, snapshot_encode(&to, &foreign, 0, (void **)&data, &bytes, &error));
	ASSERT_EQ(0, snapshot_encode(&foreign, NULL, 0, (void **)&data, &bytes, &error));
	EXPECT_EQ(THAW_EENGINE, opened(data, bytes, NULL, &back, &error));
	free(data);
	drop(&from);
	drop(&to);
	drop(&other);
}

TEST_HARNESS_MAIN
