// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nothing is reported durable that is not in the file under the image's name: while a heap is open, that file
 * is removed, renamed, replaced, shortened, overwritten. Each is told from the others, nothing is lost in
 * memory, and what can be undone is as if it had never happened.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/file.h>

#include "support.h"
#include "thaw.h"

#define HEAP (1u << 20)

FIXTURE(image)
{
	char *directory, *path, *other;
	struct thaw *heap;
	struct thaw_error error;
};

static int open_as(struct thaw **heap, const char *path, unsigned flags, struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path, .flags = flags, .max_bytes = HEAP, .engine = "test"};

	*heap = NULL;
	return thaw_open(&options, heap, error);
}

static uint64_t *words(struct thaw *heap)
{
	return thaw_base(heap);
}

/* Change every page, so that the file becomes longer, and take a checkpoint. */
static int step(struct thaw *heap, struct thaw_error *error)
{
	struct thaw_result result = {0};
	int code;

	for (size_t i = 0; i < HEAP / sizeof(uint64_t); i += 512)
		words(heap)[i]++;
	code = thaw_checkpoint(heap, THAW_REASON_REQUEST, NULL, 0, &result);
	*error = result.error;
	return code;
}

FIXTURE_SETUP(image)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	self->other = support_format("%s/other", self->directory);
	ASSERT_EQ(0, open_as(&self->heap, self->path, THAW_CREATE, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, HEAP));
	ASSERT_EQ(0, step(self->heap, &self->error));
	ASSERT_EQ(0, step(self->heap, &self->error));
}
FIXTURE_TEARDOWN(image)
{
	thaw_close(self->heap);
	free(self->path);
	free(self->other);
	support_remove(self->directory);
}

static void copy(const char *from, const char *to)
{
	char *command = support_format("cat '%s' > '%s'", from, to);

	if (system(command))
		support_die(command);
	free(command);
}

static off_t length(const char *path)
{
	struct stat status;

	return stat(path, &status) ? -1 : status.st_size;
}

/* Every way to ask says the same, in one line that names the file. */
#define NOTHING_IS_DURABLE(expected)                                        \
	do {                                                                \
		EXPECT_EQ(expected, step(self->heap, &self->error))         \
		TH_LOG("%s", self->error.text);                             \
		EXPECT_EQ(expected, self->error.code);                      \
		EXPECT_NE(NULL, strstr(self->error.text, self->path));      \
		EXPECT_EQ(NULL, strchr(self->error.text, '\n'));            \
		EXPECT_EQ(expected, thaw_settle(self->heap, &self->error)); \
	} while (0)

/* Without the heap, the file has what the heap has now. */
#define ALL_IS_DURABLE()                                                           \
	do {                                                                       \
		uint64_t word = words(self->heap)[0];                              \
                                                                                   \
		thaw_close(self->heap);                                            \
		ASSERT_EQ(0, open_as(&self->heap, self->path, 0, &self->error))    \
		TH_LOG("%s", self->error.text);                                    \
		EXPECT_EQ(word, words(self->heap)[0]);                             \
		EXPECT_EQ(word, words(self->heap)[HEAP / sizeof(uint64_t) - 512]); \
	} while (0)

TEST_F(image, that_is_removed_is_gone)
{
	ASSERT_EQ(0, unlink(self->path));
	NOTHING_IS_DURABLE(THAW_EGONE);
	NOTHING_IS_DURABLE(THAW_EGONE);
}

TEST_F(image, that_is_renamed_is_gone_until_it_is_back)
{
	ASSERT_EQ(0, rename(self->path, self->other));
	NOTHING_IS_DURABLE(THAW_EGONE);
	ASSERT_EQ(0, rename(self->other, self->path));
	EXPECT_EQ(0, step(self->heap, &self->error))
	TH_LOG("%s", self->error.text);
	ALL_IS_DURABLE();
}

TEST_F(image, whose_directory_is_renamed_is_gone_until_it_is_back)
{
	char *moved = support_format("%s.moved", self->directory);

	ASSERT_EQ(0, rename(self->directory, moved));
	NOTHING_IS_DURABLE(THAW_EGONE);
	ASSERT_EQ(0, rename(moved, self->directory));
	EXPECT_EQ(0, step(self->heap, &self->error));
	ALL_IS_DURABLE();
	free(moved);
}

TEST_F(image, that_is_replaced_is_told_from_one_that_is_gone)
{
	char *kept = support_format("%s/kept", self->directory);

	copy(self->path, self->other);
	ASSERT_EQ(0, rename(self->path, kept));
	ASSERT_EQ(0, rename(self->other, self->path));
	NOTHING_IS_DURABLE(THAW_EREPLACED);
	ASSERT_EQ(0, rename(kept, self->path));
	EXPECT_EQ(0, step(self->heap, &self->error));
	ALL_IS_DURABLE();
	free(kept);
}

TEST_F(image, behind_a_link_that_leads_elsewhere_is_replaced)
{
	char *link = support_format("%s/link", self->directory);
	struct thaw *heap;

	thaw_close(self->heap);
	self->heap = NULL;
	copy(self->path, self->other);
	ASSERT_EQ(0, symlink(self->path, link));
	ASSERT_EQ(0, open_as(&heap, link, 0, &self->error));
	EXPECT_EQ(0, step(heap, &self->error));
	ASSERT_EQ(0, unlink(link));
	EXPECT_EQ(THAW_EGONE, step(heap, &self->error));
	ASSERT_EQ(0, symlink(self->other, link));
	EXPECT_EQ(THAW_EREPLACED, step(heap, &self->error));
	thaw_close(heap);
	free(link);
}

TEST_F(image, that_is_shortened_stays_so)
{
	const off_t before = length(self->path);
	const off_t lengths[] = {before - 1, before / 2, 8192, 4096, 0};

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		copy(self->path, self->other);
		ASSERT_EQ(0, truncate(self->path, lengths[i]));
		NOTHING_IS_DURABLE(THAW_EOVERWRITTEN);
		/* As long as before, with a hole in it. */
		ASSERT_EQ(0, truncate(self->path, before));
		NOTHING_IS_DURABLE(THAW_EOVERWRITTEN);
		thaw_close(self->heap);
		copy(self->other, self->path);
		ASSERT_EQ(0, open_as(&self->heap, self->path, 0, &self->error))
		TH_LOG("%s", self->error.text);
		words(self->heap)[0] += 0; /* it has arrived: the file is not needed any more */
		for (size_t at = 0; at < HEAP / sizeof(uint64_t); at += 512)
			((volatile uint64_t *)words(self->heap))[at];
		ASSERT_EQ(0, step(self->heap, &self->error));
	}
}

TEST_F(image, that_was_shortened_and_made_as_long_again_has_a_hole)
{
	off_t before = length(self->path);

	ASSERT_EQ(0, truncate(self->path, before / 2));
	ASSERT_EQ(0, truncate(self->path, before));
	NOTHING_IS_DURABLE(THAW_EOVERWRITTEN);
}

TEST_F(image, that_is_shortened_between_begin_and_capture_is_not_durable)
{
	struct thaw_result result;

	words(self->heap)[0]++;
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	ASSERT_EQ(0, truncate(self->path, length(self->path) / 2));
	ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_PORTABLE, NULL, 0));
	ASSERT_EQ(THAW_DONE, thaw_checkpoint_wait(self->heap));
	thaw_checkpoint_poll(self->heap, &result);
	EXPECT_EQ(THAW_EOVERWRITTEN, result.code)
	TH_LOG("%s", result.error.text);
}

TEST_F(image, that_an_older_copy_was_written_over_is_not_durable)
{
	copy(self->path, self->other);
	ASSERT_EQ(0, step(self->heap, &self->error));
	copy(self->other, self->path);
	NOTHING_IS_DURABLE(THAW_EOVERWRITTEN);
}

/* What was durable is not, although there is nothing new to write. */
TEST_F(image, that_is_gone_is_told_when_nothing_has_changed)
{
	struct thaw_result result;

	ASSERT_EQ(0, unlink(self->path));
	EXPECT_EQ(THAW_EGONE, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, NULL, 0, &result));
	EXPECT_FALSE(result.unchanged);
}

TEST_F(image, of_a_relative_path_is_found_from_any_directory)
{
	ASSERT_EQ(0, chdir(self->directory));
	thaw_close(self->heap);
	ASSERT_EQ(0, open_as(&self->heap, "heap.thaw", 0, &self->error));
	ASSERT_EQ(0, chdir("/"));
	EXPECT_EQ(0, step(self->heap, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, unlink(self->path));
	EXPECT_EQ(THAW_EGONE, step(self->heap, &self->error));
}

TEST_F(image, that_was_opened_counts_as_durable_once_it_is_settled)
{
	struct thaw_status status;

	thaw_status(self->heap, &status);
	EXPECT_EQ(2, status.generation);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_as(&self->heap, self->path, 0, &self->error));
	thaw_status(self->heap, &status);
	EXPECT_EQ(0, status.generation);
	EXPECT_EQ(2, thaw_opened(self->heap)->number);
	ASSERT_EQ(0, thaw_settle(self->heap, &self->error));
	thaw_status(self->heap, &status);
	EXPECT_EQ(2, status.generation);
}

/* ---- Nothing is removed but what this very process has made */

TEST_F(image, with_a_generation_is_not_discarded)
{
	thaw_discard(self->heap);
	self->heap = NULL;
	EXPECT_EQ(0, access(self->path, F_OK));
}

TEST_F(image, without_one_is_discarded_by_its_maker_alone)
{
	struct thaw *heap;

	ASSERT_EQ(0, open_as(&heap, self->other, THAW_CREATE, &self->error));
	EXPECT_EQ(0, access(self->other, F_OK));
	thaw_discard(heap);
	EXPECT_NE(0, access(self->other, F_OK));

	ASSERT_EQ(0, open_as(&heap, self->other, THAW_CREATE, &self->error));
	thaw_close(heap);
	ASSERT_EQ(0, open_as(&heap, self->other, THAW_CREATE | THAW_FRESH, &self->error));
	thaw_discard(heap);
	EXPECT_EQ(0, access(self->other, F_OK));
}

TEST_F(image, of_somebody_else_under_its_name_is_not_discarded)
{
	struct thaw *heap;

	ASSERT_EQ(0, open_as(&heap, self->other, THAW_CREATE, &self->error));
	ASSERT_EQ(0, rename(self->path, self->other));
	thaw_discard(heap);
	EXPECT_EQ(0, access(self->other, F_OK));
	EXPECT_EQ(1, support_files(self->directory));
}

/* ---- What a new one is */

TEST_F(image, is_its_owners_whatever_the_umask)
{
	static const mode_t masks[] = {0, 022, 0777};
	struct stat status;
	struct thaw *heap;

	for (unsigned i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		umask(masks[i]);
		ASSERT_EQ(0, open_as(&heap, self->other, THAW_CREATE, &self->error));
		ASSERT_EQ(0, stat(self->other, &status));
		EXPECT_EQ(0600, status.st_mode & 07777);
		thaw_discard(heap);
	}
}

/* What a killed maker left where files without a name cannot be made, or an older release anywhere. */
TEST_F(image, leftovers_of_one_are_cleared_up_by_a_new_one)
{
	char *left = support_format("%s.tmp.4711.00c0ffee", self->path);
	char *others = support_format("%s.tmp.4711", self->path);
	char *locked = support_format("%s.tmp.4712.00c0ffee", self->path);
	int fd;

	support_write(others, "");
	support_write(locked, "");
	fd = open(locked, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(0, flock(fd, LOCK_EX));
	for (unsigned flags = THAW_CREATE; flags; flags = flags == THAW_CREATE ? THAW_FRESH : 0) {
		support_write(left, "");
		thaw_close(self->heap);
		if (flags == THAW_CREATE)
			ASSERT_EQ(0, unlink(self->path));
		ASSERT_EQ(0, open_as(&self->heap, self->path, flags, &self->error));
		EXPECT_NE(0, access(left, F_OK));
		EXPECT_EQ(0, access(others, F_OK));
		EXPECT_EQ(0, access(locked, F_OK));
	}
	close(fd);
	free(left);
	free(others);
	free(locked);
}

TEST_HARNESS_MAIN
