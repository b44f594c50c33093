// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that fails again and again where it was restored can tell: the image counts how often in
 * a row, until a newer generation is durable. The note harms nothing, whatever happens to it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/resource.h>

#include "by_path.h"
#include "image/format.h"
#include "support.h"
#include "thaw.h"

#define UNIT 65536u
#define BLOCK 4096u
#define SECTOR 512u

FIXTURE(failures)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
};

static int open_heap(struct thaw **heap, const char *path, uint64_t generation,
		     struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path,
		.flags = THAW_CREATE,
		.generation = generation,
		.max_bytes = 16u << 20,
		.engine = "test",
	};
	int code;

	*heap = NULL;
	code = thaw_open(&options, heap, error);
	if (code)
		*heap = NULL;
	return code;
}

/* The next process, as it were. */
#define REOPEN(generation)                                                                 \
	do {                                                                               \
		thaw_close(self->heap);                                                    \
		ASSERT_EQ(0, open_heap(&self->heap, self->path, generation, &self->error)) \
		TH_LOG("%s", self->error.text);                                            \
	} while (0)

static int save(struct thaw *heap, const char *state)
{
	return thaw_checkpoint(heap, THAW_REASON_TIMER, state, strlen(state) + 1, NULL);
}

FIXTURE_SETUP(failures)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_heap(&self->heap, self->path, 0, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, UNIT));
	ASSERT_EQ(0, save(self->heap, "one"));
	ASSERT_EQ(0, save(self->heap, "two"));
	REOPEN(0);
}
FIXTURE_TEARDOWN(failures)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

TEST_F(failures, in_a_row_are_counted)
{
	struct thaw_generation *log;

	EXPECT_EQ(0, thaw_failures(self->heap));
	for (int i = 1; i <= 5; i++) {
		EXPECT_EQ(i, thaw_failed(self->heap));
		EXPECT_EQ(i, thaw_failures(self->heap));
		/* Of one start there is one failure. */
		EXPECT_EQ(i, thaw_failed(self->heap));
		EXPECT_EQ(i, thaw_failures(self->heap));
		REOPEN(0);
		EXPECT_EQ(2, thaw_opened(self->heap)->number);
		EXPECT_EQ(i, thaw_failures(self->heap));
	}
	/* To look at it, or to end well, changes nothing. */
	REOPEN(0);
	EXPECT_EQ(5, thaw_failures(self->heap));
	EXPECT_EQ(0, thaw_image_verify(self->path, NULL, NULL, &self->error));
	EXPECT_EQ(2, path_log(self->path, &log, &self->error));
	free(log);
}

/* Those of the same kind in a row count; the others are no part of thaw_failures(). */
TEST_F(failures, of_several_kinds_are_told_apart)
{
	static const struct {
		uint64_t what;
		int count;
		unsigned plain;
	} steps[] = {{7, 1, 0}, {7, 2, 0}, {8, 1, 0}, {7, 1, 0}, {0, 1, 1}, {0, 2, 2}, {7, 1, 0}};

	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		EXPECT_EQ(steps[i].count, thaw_failed_with(self->heap, steps[i].what));
		EXPECT_EQ(steps[i].count, thaw_failed_with(self->heap, steps[i].what));
		EXPECT_EQ(steps[i].plain, thaw_failures(self->heap));
		REOPEN(0);
		EXPECT_EQ(steps[i].plain, thaw_failures(self->heap));
	}
	EXPECT_EQ(0, thaw_image_verify(self->path, NULL, NULL, &self->error));
}

TEST_F(failures, after_progress_are_none)
{
	EXPECT_EQ(1, thaw_failed(self->heap));
	REOPEN(0);
	ASSERT_EQ(0, save(self->heap, "three"));
	EXPECT_EQ(0, thaw_failed(self->heap));
	EXPECT_EQ(1, thaw_failures(self->heap)); /* of what was opened, still */
	REOPEN(0);
	EXPECT_EQ(3, thaw_opened(self->heap)->number);
	EXPECT_EQ(0, thaw_failures(self->heap));
	/* And it took back what was said of the one before. */
	REOPEN(2);
	EXPECT_EQ(0, thaw_failures(self->heap));
}

TEST_F(failures, a_checkpoint_of_nothing_new_is_no_progress)
{
	struct thaw_result result;

	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, "two", 4, &result));
	ASSERT_TRUE(result.unchanged);
	EXPECT_EQ(1, thaw_failed(self->heap));
}

TEST_F(failures, of_another_generation_start_anew)
{
	EXPECT_EQ(1, thaw_failed(self->heap));
	REOPEN(0);
	EXPECT_EQ(2, thaw_failed(self->heap));
	REOPEN(1);
	EXPECT_EQ(0, thaw_failures(self->heap));
	EXPECT_EQ(1, thaw_failed(self->heap));
	REOPEN(1);
	EXPECT_EQ(1, thaw_failures(self->heap));
	REOPEN(2);
	EXPECT_EQ(0, thaw_failures(self->heap));
}

TEST_F(failures, of_a_fresh_heap_are_none)
{
	struct thaw_options options = {
		.image = self->path, .flags = THAW_FRESH, .max_bytes = 16u << 20, .engine = "test"};

	EXPECT_EQ(1, thaw_failed(self->heap));
	thaw_close(self->heap);
	ASSERT_EQ(0, thaw_open(&options, &self->heap, &self->error));
	EXPECT_EQ(0, thaw_failures(self->heap));
	EXPECT_EQ(0, thaw_failed(self->heap));
	thaw_close(self->heap);
	options.image = NULL;
	ASSERT_EQ(0, thaw_open(&options, &self->heap, &self->error));
	EXPECT_EQ(0, thaw_failures(self->heap));
	EXPECT_EQ(0, thaw_failed(self->heap));
}

TEST_F(failures, wait_for_what_was_captured)
{
	for (int round = 0; round < 20; round++) {
		memset(thaw_base(self->heap), round + 1, UNIT);
		ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_TIMER));
		ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
		ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_BOUND, "x", 2));
		ASSERT_EQ(0, thaw_failed(self->heap));
		REOPEN(0);
		ASSERT_EQ(3 + round, thaw_opened(self->heap)->number);
		ASSERT_EQ(0, thaw_failures(self->heap));
	}
}

TEST_F(failures, leave_a_capture_that_waits_alone)
{
	struct thaw_result result;

	memset(thaw_base(self->heap), 1, UNIT);
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_TIMER));
	EXPECT_EQ(1, thaw_failed(self->heap)); /* while it is copying, or ready already */
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	EXPECT_EQ(1, thaw_failed(self->heap));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_BOUND, "x", 2));
	ASSERT_EQ(THAW_DONE, thaw_checkpoint_wait(self->heap));
	ASSERT_EQ(THAW_DONE, thaw_checkpoint_poll(self->heap, &result));
	EXPECT_EQ(0, result.code);
	EXPECT_EQ(3, result.generation.number);
	REOPEN(2);
	EXPECT_EQ(0, thaw_failures(self->heap));
}

static uint8_t *contents(const char *path, size_t *bytes)
{
	uint8_t *all;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	*bytes = (size_t)support_size(path);
	all = malloc(*bytes);
	if (fd < 0 || !all || read(fd, all, *bytes) != (ssize_t)*bytes || close(fd))
		support_die(path);
	return all;
}

static unsigned newest_slot(const uint8_t *image)
{
	const struct disk_slot *slots[2] = {(const void *)image, (const void *)(image + BLOCK)};

	return slots[1]->sequence > slots[0]->sequence;
}

/* A disk that tears the block which is written tears no slot that anybody needs. */
TEST_F(failures, are_written_beside_the_slot_that_is_not_needed)
{
	for (int round = 0; round < 4; round++) {
		size_t bytes, bytes_after;
		uint8_t *before = contents(self->path, &bytes), *after;
		unsigned other = !newest_slot(before);

		ASSERT_EQ(1, thaw_failed(self->heap));
		after = contents(self->path, &bytes_after);
		ASSERT_EQ(bytes, bytes_after);
		ASSERT_NE(0, memcmp(before, after, bytes));
		memset(after + other * BLOCK + SECTOR, 0, SECTOR);
		memset(before + other * BLOCK + SECTOR, 0, SECTOR);
		ASSERT_EQ(0, memcmp(before, after, bytes));
		free(before);
		free(after);
		REOPEN(0);
		ASSERT_EQ(1, thaw_failures(self->heap));
		++*(char *)thaw_base(self->heap);
		ASSERT_EQ(0, save(self->heap, "next"));
		REOPEN(0);
		ASSERT_EQ(0, thaw_failures(self->heap));
	}
}

/* Whatever a note has become, the heap opens and is whole; and the next one is written. */
TEST_F(failures, that_are_damaged_are_forgotten)
{
	uint64_t at;
	size_t bytes;
	uint8_t *image;

	ASSERT_EQ(1, thaw_failed(self->heap));
	image = contents(self->path, &bytes);
	at = !newest_slot(image) * BLOCK + SECTOR;
	free(image);
	for (unsigned byte = 0; byte < SECTOR; byte += byte < 24 || byte >= 496 ? 1 : 31) {
		struct thaw_status status;
		struct thaw_image_info info;

		support_flip(self->path, at + byte, (uint8_t)(1u << byte % 8));
		REOPEN(0);
		ASSERT_EQ(2, thaw_opened(self->heap)->number);
		ASSERT_EQ(0, thaw_failures(self->heap)) TH_LOG("byte %u", byte);
		thaw_status(self->heap, &status);
		ASSERT_EQ(0, status.fallback.code);
		ASSERT_EQ(0, thaw_image_verify(self->path, NULL, NULL, &self->error));
		ASSERT_EQ(0, path_info(self->path, true, &info, &self->error));
		ASSERT_EQ(0, info.fallback.code);
		support_flip(self->path, at + byte, (uint8_t)(1u << byte % 8));
		REOPEN(0);
		ASSERT_EQ(1, thaw_failures(self->heap));
	}
	support_flip(self->path, at + 100, 1);
	REOPEN(0);
	EXPECT_EQ(1, thaw_failed(self->heap));
	REOPEN(0);
	EXPECT_EQ(1, thaw_failures(self->heap));
}

/* A file that ends behind the second slot is as good as one with an empty note. */
TEST_F(failures, are_none_where_the_file_ends)
{
	char *path = support_format("%s/empty.thaw", self->directory);

	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, path, 0, &self->error));
	ASSERT_EQ(0, thaw_failures(self->heap));
	thaw_close(self->heap);
	ASSERT_EQ(0, truncate(path, BLOCK + SECTOR + 7));
	ASSERT_EQ(0, open_heap(&self->heap, path, 0, &self->error)) TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, thaw_failures(self->heap));
	free(path);
}

TEST_F(failures, that_cannot_be_noted_are_an_error)
{
	struct rlimit limit, before;

	ASSERT_EQ(0, getrlimit(RLIMIT_FSIZE, &before));
	limit = before;
	limit.rlim_cur = 256;
	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	EXPECT_EQ(-EFBIG, thaw_failed(self->heap));
	EXPECT_EQ(0, thaw_failures(self->heap));
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &before));
	EXPECT_EQ(1, thaw_failed(self->heap));
}

/* Another descriptor was opened and closed: the image is still ours. */
TEST_F(failures, do_not_give_up_the_lock)
{
	struct thaw *second;

	ASSERT_EQ(1, thaw_failed(self->heap));
	EXPECT_EQ(THAW_EINUSE, open_heap(&second, self->path, 0, &self->error));
}

/* A name makes no progress: whoever only gave or took one away has not mended the program. */
TEST_F(failures, survive_names)
{
	static const char *const names[] = {"a", "b", "c"};

	for (unsigned i = 0; i < 3; i++) {
		ASSERT_EQ((int)i + 1, thaw_failed(self->heap));
		thaw_close(self->heap);
		self->heap = NULL;
		/* Of the generation that failed, and of another one. */
		ASSERT_EQ(0, thaw_image_tag(self->path, names[i], i == 1 ? 1 : 2, 0, &self->error));
		REOPEN(0);
		ASSERT_EQ(i + 1, thaw_failures(self->heap));
		thaw_close(self->heap);
		self->heap = NULL;
		if (i == 2)
			ASSERT_EQ(0, thaw_image_untag(self->path, "a", &self->error));
		REOPEN(0);
		ASSERT_EQ(i + 1, thaw_failures(self->heap));
	}
	/* A rollback makes a generation: that one has not failed yet. */
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, thaw_image_rollback(self->path, 1, NULL, &self->error));
	REOPEN(0);
	EXPECT_EQ(0, thaw_failures(self->heap));
	REOPEN(2);
	EXPECT_EQ(0, thaw_failures(self->heap));
}

TEST_HARNESS_MAIN
