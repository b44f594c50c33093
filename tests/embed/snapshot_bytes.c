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

struct model {
	uint64_t pages;
	uint8_t *heap, state[100];
};

static struct snapshot_contents frozen_of(struct model *model,
					  const struct snapshot_contents *under)
{
	struct snapshot_contents made = {.engine = ENGINE};
	uint64_t bytes = model->pages * SNAPSHOT_PAGE;

	if (!(under ? thaw_frozen_begin_over(under->frozen, bytes, &made.frozen, NULL)
		    : thaw_frozen_begin(bytes, &made.frozen, NULL)) &&
	    !thaw_frozen_write(made.frozen, 0, model->heap, bytes, NULL))
		thaw_frozen_end(made.frozen, model->state, sizeof(model->state), NULL);
	return made;
}

/* A heap of words that resemble each other, with pages of zeros between: 16 pages are the unit. */
static struct model make(uint64_t pages, uint64_t seed)
{
	struct model made = {.pages = (pages + 15) / 16 * 16};

	made.heap = calloc(made.pages + 1, SNAPSHOT_PAGE);
	for (uint64_t page = 0; page < pages; page++)
		for (unsigned at = 0; page % 3 && at < SNAPSHOT_PAGE; at += 4) {
			uint32_t word = (uint32_t)(next(&seed) % 50 * 8);

			memcpy(made.heap + page * SNAPSHOT_PAGE + at, &word, 4);
		}
	memset(made.state, (int)seed, sizeof(made.state));
	return made;
}

static struct snapshot_contents contents_of(uint64_t pages, uint64_t seed)
{
	struct model model = make(pages, seed);
	struct snapshot_contents made = frozen_of(&model, NULL);

	free(model.heap);
	return made;
}

static struct model model_of(const struct snapshot_contents *from, uint64_t pages)
{
	struct model model = {.pages = pages};
	uint64_t bytes = thaw_frozen_bytes(from->frozen), most = pages * SNAPSHOT_PAGE;
	size_t state_bytes;

	model.heap = calloc(pages + 1, SNAPSHOT_PAGE);
	thaw_frozen_read(from->frozen, 0, model.heap, bytes < most ? bytes : most, NULL);
	memcpy(model.state, thaw_frozen_state(from->frozen, &state_bytes), sizeof(model.state));
	return model;
}

/* Bytes here and there; over the other, or with no relation to it. */
static struct snapshot_contents changed(const struct snapshot_contents *from, uint64_t pages,
					uint64_t seed, bool related)
{
	struct model model = model_of(from, pages);
	struct snapshot_contents made;

	model.state[7]++;
	for (unsigned i = 0; i < 30; i++)
		model.heap[next(&seed) % (pages * SNAPSHOT_PAGE)]++;
	memset(model.heap, 0, SNAPSHOT_PAGE); /* one that vanishes ... */
	memset(model.heap + pages * SNAPSHOT_PAGE - 8, (int)seed | 1, 8); /* and one that appears */
	made = frozen_of(&model, related ? from : NULL);
	free(model.heap);
	return made;
}

static void drop(struct snapshot_contents *contents)
{
	thaw_frozen_drop(contents->frozen);
}

/* The caller drops it if that is 0. */
static int opened(const void *data, size_t bytes, struct snapshot_contents *base,
		  struct snapshot_contents *made, struct thaw_error *error)
{
	const struct snapshot_source source = {.data = data, .bytes = bytes};

	return snapshot_decode(&source, ENGINE, 0, base, made, error);
}

static bool same(struct snapshot_contents *a, struct snapshot_contents *b)
{
	uint64_t pages = thaw_frozen_bytes(a->frozen) / SNAPSHOT_PAGE;
	struct model one, other;
	uint8_t id[2][16];
	uint64_t sum[2];
	bool same = pages == thaw_frozen_bytes(b->frozen) / SNAPSHOT_PAGE;

	one = model_of(a, pages);
	other = model_of(b, pages);
	same = same && !memcmp(one.heap, other.heap, pages * SNAPSHOT_PAGE) &&
	       !memcmp(one.state, other.state, sizeof(one.state));
	free(one.heap);
	free(other.heap);
	/* What was computed by changes is what it is. */
	same = same && !thaw_frozen_sum(b->frozen, sum, NULL) && b->summed &&
	       !memcmp(sum, b->sum, sizeof(sum));
	snapshot_summed(a, NULL);
	snapshot_id(a, id[0]);
	snapshot_id(b, id[1]);
	return same && !memcmp(id[0], id[1], 16);
}

TEST(whole_comes_back)
{
	static const uint64_t sizes[] = {0, 1, 16, 255, 400, 4000};

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct snapshot_contents contents = contents_of(sizes[i], i), back;
		struct thaw_error error = {0};
		size_t bytes, again_bytes;
		void *data, *again;

		ASSERT_EQ(0, snapshot_encode(&contents, NULL, &data, &bytes, &error))
		TH_LOG("%s", error.text);
		ASSERT_EQ(0, opened(data, bytes, NULL, &back, &error)) TH_LOG("%s", error.text);
		EXPECT_TRUE(same(&contents, &back));
		/* Equal contents, equal bytes; and by another way than a sum that is known. */
		back.summed = false;
		ASSERT_EQ(0, snapshot_encode(&back, NULL, &again, &again_bytes, &error));
		EXPECT_TRUE(bytes == again_bytes && !memcmp(data, again, bytes));
		if (sizes[i] > 15)
			EXPECT_LT(bytes, sizes[i] * SNAPSHOT_PAGE / 2);
		free(data);
		free(again);
		drop(&back);
		drop(&contents);
	}
}

TEST(zero_pages_take_nothing)
{
	struct model model = make(16, 1);
	struct snapshot_contents contents = frozen_of(&model, NULL), large, back;
	struct thaw_error error;
	size_t small_bytes, bytes;
	void *small, *data;

	model.pages = 50000 / 16 * 16;
	model.heap = realloc(model.heap, model.pages * SNAPSHOT_PAGE);
	memset(model.heap + 16 * SNAPSHOT_PAGE, 0, (model.pages - 16) * SNAPSHOT_PAGE);
	large = frozen_of(&model, NULL);
	ASSERT_EQ(0, snapshot_encode(&contents, NULL, &small, &small_bytes, &error));
	ASSERT_EQ(0, snapshot_encode(&large, NULL, &data, &bytes, &error));
	EXPECT_EQ(small_bytes, bytes);
	ASSERT_EQ(0, opened(data, bytes, NULL, &back, &error));
	EXPECT_TRUE(same(&large, &back));
	free(small);
	free(data);
	free(model.heap);
	drop(&back);
	drop(&contents);
	drop(&large);
}

/*
 * What was opened of a delta is a base like any other; the heap grows, and is smaller again; whether libthaw knows of a
 * relation, or all has to be compared: the bytes are the same.
 */
TEST(chain_of_deltas_comes_back)
{
	static const uint64_t sizes[] = {352, 352, 608, 592, 112, 352, 2000};
	struct snapshot_contents now = contents_of(sizes[0], 3), here;
	struct thaw_error error = {0};
	size_t bytes, again_bytes;
	void *data, *again;

	ASSERT_EQ(0, snapshot_encode(&now, NULL, &data, &bytes, &error));
	ASSERT_EQ(0, opened(data, bytes, NULL, &here, &error));
	free(data);
	for (unsigned i = 1; i < ARRAY_SIZE(sizes); i++) {
		struct snapshot_contents then = now, there = here, stranger;

		now = changed(&then, sizes[i], i, true);
		stranger = changed(&then, sizes[i], i, false);
		ASSERT_EQ(0, snapshot_encode(&now, &then, &data, &bytes, &error));
		ASSERT_EQ(0, snapshot_encode(&stranger, &then, &again, &again_bytes, &error));
		EXPECT_TRUE(bytes == again_bytes && !memcmp(data, again, bytes));
		if (sizes[i] == sizes[i - 1])
			EXPECT_LT(bytes, 2048);
		ASSERT_EQ(0, opened(data, bytes, &there, &here, &error)) TH_LOG("%s", error.text);
		EXPECT_TRUE(same(&now, &here));
		free(data);
		free(again);
		drop(&then);
		drop(&there);
		drop(&stranger);
	}
	drop(&now);
	drop(&here);
}

/* Few bytes that change cost few bytes; so does what moves by some. */
TEST(what_moves_is_found)
{
	struct model model = make(2000, 10);
	struct snapshot_contents from, to, back;
	struct thaw_error error;
	size_t bytes;
	void *data;

	for (size_t i = 0; i < 200 * SNAPSHOT_PAGE; i += 4)
		memcpy(model.heap + 300 * SNAPSHOT_PAGE + i, &(uint32_t){(uint32_t)i * 48271u}, 4);
	from = frozen_of(&model, NULL);
	memmove(model.heap + 300 * SNAPSHOT_PAGE, model.heap + 300 * SNAPSHOT_PAGE + 24,
		200 * SNAPSHOT_PAGE);
	to = frozen_of(&model, &from);
	ASSERT_EQ(0, snapshot_encode(&to, &from, &data, &bytes, &error));
	EXPECT_LT(bytes, 4096);
	ASSERT_EQ(0, opened(data, bytes, &from, &back, &error));
	EXPECT_TRUE(same(&to, &back));
	free(data);
	free(model.heap);
	drop(&from);
	drop(&to);
	drop(&back);
}

TEST(damage_is_found)
{
	struct model model = make(3, 4);
	struct snapshot_contents from = contents_of(20, 4), to = frozen_of(&model, NULL), back;
	struct thaw_error error;

	free(model.heap);
	for (unsigned delta = 0; delta < 2; delta++) {
		size_t bytes;
		uint8_t *data;

		/* Few pages: each bit is tried. */
		ASSERT_EQ(0, snapshot_encode(&to, delta ? &from : NULL, (void **)&data, &bytes,
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
	struct snapshot_contents contents = contents_of(20, 6), back;
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
		{112, 4096},	    /* not a unit */
		{116, 0xffffu},
		{124, 1},
		{132, 0},
		{132, 3},	    /* frames */
		{132, 0xffffffffu}, /* more than there can be */
		{128, 0xffffffffu}, /* runs */
		{0, 0},		    /* how a frame of a whole one is read, see below */
	};

	ASSERT_EQ(0, snapshot_encode(&contents, NULL, (void **)&data, &bytes, &error));
	memcpy(runs, data + 144, sizeof(runs));
	memcpy(&header, data, sizeof(header));
	ASSERT_EQ(1, runs[0].first);
	ASSERT_EQ(2, runs[0].pages);
	values[ARRAY_SIZE(values) - 1].at = 144 + header.runs * 8 + 16 + 4;
	values[ARRAY_SIZE(values) - 1].value = SNAPSHOT_XOR;
	for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
		uint8_t *copy = malloc(bytes);
		const struct snapshot_source source = {.data = copy, .bytes = bytes};
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
		EXPECT_EQ(THAW_EDAMAGED, snapshot_describe(&source, &info, &error))
		TH_LOG("value %u", i);
		EXPECT_EQ(THAW_EDAMAGED, opened(copy, bytes, NULL, &back, &error));
		free(copy);
	}
	free(data);
	drop(&contents);
}

TEST(who_cannot_go_on_is_told)
{
	struct snapshot_contents from = contents_of(20, 7), to = changed(&from, 32, 8, true), back,
				 other = contents_of(20, 9), foreign = from;
	struct thaw_error error;
	size_t bytes;
	uint8_t *data;

	ASSERT_EQ(0, snapshot_encode(&to, &from, (void **)&data, &bytes, &error));
	EXPECT_EQ(THAW_ENOGEN, opened(data, bytes, NULL, &back, &error));
	EXPECT_EQ(THAW_ENOGEN, opened(data, bytes, &other, &back, &error));
	EXPECT_EQ(NULL, back.frozen);
	data[8]++;
	EXPECT_EQ(THAW_EFORMAT, opened(data, bytes, &from, &back, &error));
	data[0]++;
	EXPECT_EQ(THAW_EFOREIGN, opened(data, bytes, &from, &back, &error));
	free(data);
	foreign.engine = "engine 2";
	EXPECT_EQ(THAW_EENGINE, snapshot_encode(&to, &foreign, (void **)&data, &bytes, &error));
	ASSERT_EQ(0, snapshot_encode(&foreign, NULL, (void **)&data, &bytes, &error));
	EXPECT_EQ(THAW_EENGINE, opened(data, bytes, NULL, &back, &error));
	free(data);
	drop(&from);
	drop(&to);
	drop(&other);
}

TEST_HARNESS_MAIN
