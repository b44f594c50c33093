// SPDX-License-Identifier: GPL-2.0-only
/*
 * Generations are of two kinds, and the image remembers which: one that anybody may go on from, and
 * one that only the program can go on from that wrote it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "by_path.h"
#include "support.h"
#include "thaw.h"

#define UNIT 65536u

FIXTURE(kinds)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
	struct thaw_result result;
};

static int open_heap(struct thaw **heap, const char *path, unsigned flags, uint64_t generation,
		     struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path,
		.flags = THAW_CREATE | flags,
		.generation = generation,
		.max_bytes = 16u << 20,
		.retain = 3,
		.engine = "test",
	};
	int code;

	*heap = NULL;
	code = thaw_open(&options, heap, error);
	if (code)
		*heap = NULL;
	return code;
}

FIXTURE_SETUP(kinds)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_heap(&self->heap, self->path, 0, 0, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, UNIT));
}
FIXTURE_TEARDOWN(kinds)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

/* One generation of that kind, with that state. */
static int save(struct thaw *heap, enum thaw_kind kind, const char *state,
		struct thaw_result *result)
{
	int code = thaw_checkpoint_begin(heap, THAW_REASON_TIMER);

	if (!code && thaw_checkpoint_wait(heap) == THAW_READY)
		code = thaw_checkpoint_capture(heap, kind, state, strlen(state) + 1);
	if (code)
		return code;
	thaw_checkpoint_wait(heap);
	thaw_checkpoint_poll(heap, result);
	return result->code;
}

TEST_F(kinds, are_remembered)
{
	struct thaw_generation *log;

	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "a", &self->result));
	EXPECT_EQ(THAW_KIND_PORTABLE, self->result.generation.kind);
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b", &self->result));
	EXPECT_EQ(THAW_KIND_BOUND, self->result.generation.kind);
	ASSERT_EQ(2, path_log(self->path, &log, &self->error));
	EXPECT_EQ(THAW_KIND_PORTABLE, log[0].kind);
	EXPECT_EQ(THAW_KIND_BOUND, log[1].kind);
	free(log);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error));
	EXPECT_EQ(THAW_KIND_BOUND, thaw_opened(self->heap)->kind);
	/* All at once is always portable. */
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "c", 2, &self->result));
	EXPECT_EQ(THAW_KIND_PORTABLE, self->result.generation.kind);
}

/* The same heap and the same state of another kind are another generation. */
TEST_F(kinds, make_a_difference_of_their_own)
{
	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "a", &self->result));
	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "a", &self->result));
	EXPECT_TRUE(self->result.unchanged);
	EXPECT_EQ(1, self->result.generation.number);
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "a", &self->result));
	EXPECT_FALSE(self->result.unchanged);
	EXPECT_EQ(2, self->result.generation.number);
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "a", &self->result));
	EXPECT_TRUE(self->result.unchanged);
	/* Nor after a restore. */
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error));
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "a", &self->result));
	EXPECT_TRUE(self->result.unchanged);
	EXPECT_EQ(2, self->result.generation.number);
	EXPECT_EQ(THAW_KIND_BOUND, self->result.generation.kind);
	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "a", &self->result));
	EXPECT_FALSE(self->result.unchanged);
	EXPECT_EQ(3, self->result.generation.number);
}

TEST_F(kinds, that_do_not_exist_are_refused_and_nothing_is_lost)
{
	*(char *)thaw_base(self->heap) = 7;
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_TIMER));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	EXPECT_EQ(-EINVAL, thaw_checkpoint_capture(self->heap, (enum thaw_kind)2, "a", 2));
	EXPECT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	EXPECT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_BOUND, "a", 2));
	EXPECT_EQ(THAW_DONE, thaw_checkpoint_wait(self->heap));
	thaw_checkpoint_poll(self->heap, &self->result);
	EXPECT_EQ(0, self->result.code);
	EXPECT_EQ(1, self->result.generation.pages_stored);
}

TEST_F(kinds, the_newest_portable_one_can_be_opened)
{
	struct thaw_status status;
	size_t bytes;

	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "p1", &self->result));
	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "p2", &self->result));
	for (char state[] = "b0"; state[1] < '7'; state[1]++) {
		++*(char *)thaw_base(self->heap);
		ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, state, &self->result));
	}
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_OPEN_PORTABLE, 0, &self->error));
	EXPECT_EQ(2, thaw_opened(self->heap)->number);
	EXPECT_STREQ("p2", thaw_state(self->heap, &bytes));
	EXPECT_EQ(0, *(char *)thaw_base(self->heap));
	thaw_status(self->heap, &status);
	EXPECT_EQ(0, status.fallback.code);
	/* What is committed from there is the newest, and descends from it. */
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b", &self->result));
	EXPECT_EQ(10, self->result.generation.number);
	EXPECT_EQ(2, self->result.generation.parent);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error));
	EXPECT_STREQ("b", thaw_state(self->heap, &bytes));
	EXPECT_EQ(0, *(char *)thaw_base(self->heap));
	thaw_close(self->heap);
	/* The newest is portable: no difference. */
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error));
	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "p3", &self->result));
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_OPEN_PORTABLE, 0, &self->error));
	EXPECT_STREQ("p3", thaw_state(self->heap, &bytes));
	EXPECT_EQ(0, thaw_image_verify(self->path, NULL, NULL, &self->error));
}

TEST_F(kinds, without_a_portable_one_it_is_told)
{
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b1", &self->result));
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b2", &self->result));
	thaw_close(self->heap);
	ASSERT_EQ(THAW_ENOGEN,
		  open_heap(&self->heap, self->path, THAW_OPEN_PORTABLE, 0, &self->error));
	TH_LOG("%s", self->error.text);
	EXPECT_NE(NULL, strstr(self->error.text, self->path));
	EXPECT_EQ(NULL, strchr(self->error.text, '\n'));
	/* Nothing was lost by the attempt. */
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error));
	EXPECT_EQ(2, thaw_opened(self->heap)->number);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_OPEN_PORTABLE | THAW_FRESH, 0,
			       &self->error));
	EXPECT_EQ(0, thaw_opened(self->heap)->number);
}

/* Three are kept. Which are listed, by number? */
static bool lists(const char *path, const uint64_t *numbers)
{
	struct thaw_generation *log;
	struct thaw_error error;
	int count = path_log(path, &log, &error), same = 0;

	while (same < count && numbers[same] == log[same].number)
		same++;
	for (int i = 0; i < count && (same < count || numbers[same]); i++)
		fprintf(stderr, "# %lu is listed\n", log[i].number);
	if (count >= 0)
		free(log);
	return same == count && !numbers[same];
}
#define LISTS(...) lists(self->path, (const uint64_t[]){__VA_ARGS__, 0})

TEST_F(kinds, the_portable_one_it_descends_from_is_remembered)
{
	static const struct {
		const char *kinds;
		uint64_t portable[7];
	} is = {"BPBBPB", {0, 2, 2, 2, 5, 5}};
	struct thaw_generation *log;

	for (unsigned i = 0; is.kinds[i]; i++) {
		++*(char *)thaw_base(self->heap);
		ASSERT_EQ(0, save(self->heap, is.kinds[i] == 'B', "s", &self->result));
		EXPECT_EQ(is.portable[i], self->result.generation.portable);
	}
	ASSERT_EQ(3, path_log(self->path, &log, &self->error));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(is.portable[3 + i], log[i].portable);
	free(log);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 4, &self->error));
	EXPECT_EQ(2, thaw_opened(self->heap)->portable);
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b", &self->result));
	EXPECT_EQ(2, self->result.generation.portable);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_FRESH, 0, &self->error));
	EXPECT_EQ(0, thaw_opened(self->heap)->portable);
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b", &self->result));
	EXPECT_EQ(0, self->result.generation.portable);
}

TEST_F(kinds, a_fresh_start_abandons_the_portable_one)
{
	size_t bytes;

	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "old", &self->result));
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_FRESH, 0, &self->error));
	ASSERT_EQ(0, thaw_resize(self->heap, UNIT));
	for (unsigned i = 0; i < 4; i++) {
		++*(char *)thaw_base(self->heap);
		ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b", &self->result));
		if (i == 1)
			EXPECT_TRUE(LISTS(1, 2, 3));
		thaw_close(self->heap);
		EXPECT_EQ(THAW_ENOGEN,
			  open_heap(&self->heap, self->path, THAW_OPEN_PORTABLE, 0, &self->error));
		ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error));
	}
	TH_LOG("%s", self->error.text);
	EXPECT_TRUE(LISTS(3, 4, 5));
	/* One of its own stays, then. */
	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "own", &self->result));
	for (unsigned i = 0; i < 4; i++) {
		++*(char *)thaw_base(self->heap);
		ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b", &self->result));
	}
	EXPECT_TRUE(LISTS(6, 8, 9, 10));
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_OPEN_PORTABLE, 0, &self->error));
	EXPECT_STREQ("own", thaw_state(self->heap, &bytes));
}

TEST_F(kinds, an_older_generation_abandons_the_portable_one)
{
	size_t bytes;

	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "p1", &self->result));
	ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b2", &self->result));
	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "p3", &self->result));
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 2, &self->error));
	for (unsigned i = 0; i < 3; i++) {
		++*(char *)thaw_base(self->heap);
		ASSERT_EQ(0, save(self->heap, THAW_KIND_BOUND, "b", &self->result));
		thaw_close(self->heap);
		ASSERT_EQ(0,
			  open_heap(&self->heap, self->path, THAW_OPEN_PORTABLE, 0, &self->error));
		EXPECT_STREQ("p1", thaw_state(self->heap, &bytes));
		thaw_close(self->heap);
		ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error));
	}
	EXPECT_TRUE(LISTS(1, 4, 5, 6));
}

TEST_F(kinds, portable_and_a_number_exclude_each_other)
{
	ASSERT_EQ(0, save(self->heap, THAW_KIND_PORTABLE, "p", &self->result));
	thaw_close(self->heap);
	EXPECT_EQ(-EINVAL, open_heap(&self->heap, self->path, THAW_OPEN_PORTABLE, 1, &self->error));
	TH_LOG("%s", self->error.text);
}

TEST_F(kinds, a_new_image_is_fresh_however_it_is_opened)
{
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_OPEN_PORTABLE, 0, &self->error));
	EXPECT_EQ(0, thaw_opened(self->heap)->number);
}

TEST_HARNESS_MAIN
