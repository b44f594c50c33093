// SPDX-License-Identifier: GPL-2.0-only
/*
 * A heap may be closed at every moment of a checkpoint: it returns, the image verifies, and what
 * opens next is the generation before or the one that was captured, whole. And an empty state is a
 * state.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"
#include "thaw.h"

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define PAGES 4096u /* more than are left to the capture: pre-copy takes part */

FIXTURE(closing)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
};
FIXTURE_VARIANT(closing)
{
	const char *tracker;
};
FIXTURE_VARIANT_ADD(closing, kmod){.tracker = "kmod"};
FIXTURE_VARIANT_ADD(closing, wp_async){.tracker = "wp-async"};
FIXTURE_VARIANT_ADD(closing, wp_sync){.tracker = "wp-sync"};

static int open_heap(struct thaw **heap, const char *path, struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = 256u << 20, .engine = "test"};

	return thaw_open(&options, heap, error);
}

static void fill(struct thaw *heap, uint64_t value)
{
	for (size_t page = 0; page < PAGES; page++)
		*(uint64_t *)((char *)thaw_base(heap) + page * PAGE) = value;
}

FIXTURE_SETUP(closing)
{
	setenv("THAW_TRACKER", variant->tracker, 1);
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_heap(&self->heap, self->path, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, PAGES * PAGE));
}
FIXTURE_TEARDOWN(closing)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

TEST_F(closing, loses_nothing_at_any_moment)
{
	struct thaw_verify_summary summary;
	uint64_t durable = 0, captured = 0;

	for (uint64_t round = 1; round <= 60; round++) {
		fill(self->heap, round);
		if (round == 1)
			ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, &round,
						     sizeof(round), NULL));
		durable = round == 1 ? 1 : durable;
		ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_TIMER));
		captured = durable;
		if (round % 3) { /* else while it is copying */
			support_sleep(round % 7 * 1e-3);
			ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
		}
		if (round % 3 == 2) { /* while it is writing; else ready */
			ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_PORTABLE, &round,
							     sizeof(round)));
			captured = round;
			support_sleep(round % 11 * 1e-3);
		}
		thaw_close(self->heap);
		self->heap = NULL;
		ASSERT_EQ(0, thaw_image_verify(self->path, NULL, &summary, &self->error))
		{
			TH_LOG("%s", self->error.text);
		}
		ASSERT_EQ(0, open_heap(&self->heap, self->path, &self->error))
		{
			TH_LOG("%s", self->error.text);
		}
		size_t bytes;
		uint64_t state = *(const uint64_t *)thaw_state(self->heap, &bytes);

		ASSERT_TRUE(state == durable || state == captured);
		durable = state;
		for (size_t page = 0; page < PAGES; page += 97)
			ASSERT_EQ(durable,
				  *(uint64_t *)((char *)thaw_base(self->heap) + page * PAGE));
	}
}

TEST_F(closing, an_empty_state_is_a_state)
{
	struct thaw_result result;
	size_t bytes = 1;

	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, NULL, 0, &result));
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, &self->error));
	EXPECT_EQ(NULL, thaw_state(self->heap, &bytes));
	EXPECT_EQ(0, bytes);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, NULL, 0, &result));
	EXPECT_TRUE(result.unchanged);
}

TEST_F(closing, a_state_that_is_too_large_is_refused_and_nothing_lost)
{
	size_t large = (320u << 20) + 1;
	char *state = calloc(large, 1);
	struct thaw_result result;

	for (size_t i = 0; i < large; i += 4093)
		state[i] = (char)i;
	fill(self->heap, 7);
	ASSERT_EQ(-EFBIG, thaw_checkpoint(self->heap, THAW_REASON_TIMER, state, large, &result));
	TH_LOG("%s", result.error.text);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, state, large - 1, &result));
	EXPECT_EQ(PAGES, result.generation.pages_stored);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, &self->error));
	size_t bytes;
	const char *found = thaw_state(self->heap, &bytes);

	ASSERT_EQ(large - 1, bytes);
	EXPECT_EQ(0, memcmp(state, found, bytes));
	free(state);
}

TEST_HARNESS_MAIN
