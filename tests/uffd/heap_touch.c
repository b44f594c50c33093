// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of a heap in the hands of the kernel, with each backend: where the kernel's faults
 * are served it is right; where they are not the call fails or is short, and never is a byte wrong; and
 * what was touched first is right everywhere, and what the kernel wrote is in the next generation.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <signal.h>
#include <sys/uio.h>

#include "support.h"
#include "thaw.h"

#define PAGES 64u

static size_t page_bytes;

FIXTURE(hands)
{
	char *directory, *image, *path;
	struct thaw *heap;
	char *base, *copy;
	size_t bytes;
	int fd;
	bool served; /* the kernel's faults, too */
};
FIXTURE_VARIANT(hands)
{
	const char *delivery, *tracker;
};
#define VARIANT(name, delivery_name, tracker_name)                 \
	FIXTURE_VARIANT_ADD(hands, name)                           \
	{                                                          \
		.delivery = delivery_name, .tracker = tracker_name \
	}
VARIANT(kmod, "kmod", "kmod");
VARIANT(userfaultfd_wp_async, "userfaultfd", "wp-async");
VARIANT(userfaultfd_wp_sync, "userfaultfd", "wp-sync");
VARIANT(userfaultfd_mprotect, "userfaultfd", "mprotect");
VARIANT(user_mode_wp_async, "user-mode", "wp-async");
VARIANT(user_mode_wp_sync, "user-mode", "wp-sync");
VARIANT(user_mode_mprotect, "user-mode", "mprotect");
VARIANT(sigsegv, "sigsegv", "mprotect");
VARIANT(eager, "eager", "mprotect");

static char expected(size_t offset)
{
	return (char)(1 + (offset * 2654435761u >> 7) % 251);
}

static int open_heap(struct thaw **heap, const char *image, struct thaw_error *error)
{
	struct thaw_options options = {
		.image = image, .flags = THAW_CREATE, .max_bytes = 64u << 20, .engine = "test"};

	*heap = NULL;
	return thaw_open(&options, heap, error);
}

/* A heap none of whose pages is there yet, unless it is an eager one. */
FIXTURE_SETUP(hands)
{
	struct thaw_status status;
	struct thaw_error error;
	int code;

	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	self->bytes = PAGES * page_bytes;
	setenv("THAW_DELIVERY", variant->delivery, 1);
	setenv("THAW_TRACKER", variant->tracker, 1);
	self->fd = -1;
	self->directory = support_directory();
	self->image = support_format("%s/heap.thaw", self->directory);
	self->path = support_format("%s/file", self->directory);
	self->copy = calloc(1, self->bytes);
	code = open_heap(&self->heap, self->image, &error);
	if (code == THAW_EKERNEL) {
		SKIP(return, "%s", error.text);
	}
	ASSERT_EQ(0, code) TH_LOG("%s", error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, self->bytes));
	for (size_t at = 0; at < self->bytes; at++)
		self->copy[at] = ((char *)thaw_base(self->heap))[at] = expected(at);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, NULL));
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->image, &error)) TH_LOG("%s", error.text);
	self->base = thaw_base(self->heap);
	thaw_status(self->heap, &status);
	ASSERT_STREQ(variant->delivery, status.delivery);
	ASSERT_STREQ(variant->tracker, status.tracker);
	self->served =
		!strcmp(variant->delivery, "kmod") ||
		(!strcmp(variant->delivery, "userfaultfd") && strcmp(variant->tracker, "mprotect"));
	self->fd = open(self->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_LE(0, self->fd);
}
FIXTURE_TEARDOWN(hands)
{
	thaw_close(self->heap);
	if (self->fd >= 0)
		close(self->fd);
	free(self->copy);
	free(self->image);
	free(self->path);
	support_remove(self->directory);
}

/* Are the first `bytes` of the file those of the heap at `offset`? */
static bool file_has(int fd, const char *copy, size_t offset, size_t bytes)
{
	char *got = malloc(bytes + 1);
	bool same = pread(fd, got, bytes + 1, 0) == (ssize_t)bytes &&
		    !memcmp(got, copy + offset, bytes);

	free(got);
	return same;
}

/* From the middle of a page to the middle of another, 8 pages on. */
#define FROM(first) ((size_t)(first)*page_bytes + page_bytes / 2)
#define SOME (8 * page_bytes)

TEST_F(hands, out_of_missing_pages)
{
	ssize_t put = write(self->fd, self->base + FROM(3), SOME);
	bool refused = true;

	if (!strcmp(variant->delivery, "kmod") || !strcmp(variant->delivery, "userfaultfd") ||
	    !strcmp(variant->delivery, "eager"))
		refused = false;
	EXPECT_TRUE(refused ? put < 0 && errno == EFAULT : put == (ssize_t)SOME)
	TH_LOG("%zd", put);
	EXPECT_TRUE(file_has(self->fd, self->copy, FROM(3), put < 0 ? 0 : (size_t)put));
}

TEST_F(hands, out_of_touched_pages)
{
	ASSERT_EQ(0, thaw_touch(self->base + FROM(3), SOME, false));
	EXPECT_EQ((ssize_t)SOME, write(self->fd, self->base + FROM(3), SOME));
	EXPECT_TRUE(file_has(self->fd, self->copy, FROM(3), SOME));
}

/* The first pages are there, what follows is not: as much as there is, or nothing. */
TEST_F(hands, out_of_pages_that_are_there_in_part)
{
	ssize_t put;

	ASSERT_EQ(0, thaw_touch(self->base, page_bytes, false));
	put = write(self->fd, self->base, self->bytes);
	EXPECT_TRUE(put == (ssize_t)self->bytes ||
		    (put > 0 && put < (ssize_t)self->bytes && !self->served) ||
		    (put < 0 && errno == EFAULT && !self->served))
	TH_LOG("%zd", put);
	EXPECT_TRUE(file_has(self->fd, self->copy, 0, put < 0 ? 0 : (size_t)put));
}

/* What the kernel was to write, and all around it. */
static bool heap_has(const char *base, const char *copy, size_t bytes)
{
	for (size_t at = 0; at < bytes; at++)
		if (base[at] != copy[at])
			return false;
	return true;
}

static void prepare_file(int fd, char *news)
{
	for (size_t at = 0; at < SOME; at++)
		news[at] = (char)(at % 100 + 3);
	if (pwrite(fd, news, SOME, 0) != (ssize_t)SOME)
		support_die("pwrite");
}

/* Closed and opened again, the heap has what `copy` has. */
static void next_generation_has(struct __test_metadata *_metadata, FIXTURE_DATA(hands) * self)
{
	struct thaw_result result;
	struct thaw_error error;

	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, &result))
	TH_LOG("%s", result.error.text);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->image, &error)) TH_LOG("%s", error.text);
	self->base = thaw_base(self->heap);
	EXPECT_TRUE(heap_has(self->base, self->copy, self->bytes));
}

TEST_F(hands, into_missing_pages)
{
	char *news = malloc(SOME);
	ssize_t got;

	prepare_file(self->fd, news);
	got = pread(self->fd, self->base + FROM(3), SOME, 0);
	EXPECT_TRUE(self->served ? got == (ssize_t)SOME : got < 0 && errno == EFAULT)
	TH_LOG("%zd", got);
	if (got > 0)
		memcpy(self->copy + FROM(3), news, (size_t)got);
	EXPECT_TRUE(heap_has(self->base, self->copy, self->bytes));
	next_generation_has(_metadata, self);
	free(news);
}

TEST_F(hands, into_touched_pages)
{
	char *news = malloc(SOME);

	prepare_file(self->fd, news);
	ASSERT_EQ(0, thaw_touch(self->base + FROM(3), SOME, true));
	EXPECT_TRUE(heap_has(self->base, self->copy, self->bytes)); /* touching changes nothing */
	ASSERT_EQ((ssize_t)SOME, pread(self->fd, self->base + FROM(3), SOME, 0));
	memcpy(self->copy + FROM(3), news, SOME);
	EXPECT_TRUE(heap_has(self->base, self->copy, self->bytes));
	next_generation_has(_metadata, self);
	free(news);
}

/* Clean pages, which a checkpoint has protected: what the kernel writes there is noticed or refused. */
TEST_F(hands, into_pages_that_a_checkpoint_protected)
{
	struct thaw_result result;
	char *news = malloc(SOME);
	ssize_t got;

	prepare_file(self->fd, news);
	ASSERT_EQ(0, thaw_touch(self->base, self->bytes, true));
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "t", 2, &result));
	got = pread(self->fd, self->base + FROM(3), SOME, 0);
	EXPECT_TRUE(self->served || !strcmp(variant->tracker, "wp-async")
			    ? got == (ssize_t)SOME
			    : got < 0 && errno == EFAULT)
	TH_LOG("%zd", got);
	if (got < 0) {
		ASSERT_EQ(0, thaw_touch(self->base + FROM(3), SOME, true));
		ASSERT_EQ((ssize_t)SOME, pread(self->fd, self->base + FROM(3), SOME, 0));
	}
	memcpy(self->copy + FROM(3), news, SOME);
	EXPECT_TRUE(heap_has(self->base, self->copy, self->bytes));
	next_generation_has(_metadata, self);
	free(news);
}

/* Memory that the heap has never had before. */
TEST_F(hands, into_fresh_pages)
{
	char *news = malloc(SOME), *more = realloc(self->copy, 2 * self->bytes);

	ASSERT_NE(NULL, more);
	self->copy = more;
	memset(more + self->bytes, 0, self->bytes);
	prepare_file(self->fd, news);
	ASSERT_EQ(0, thaw_resize(self->heap, 2 * self->bytes));
	ASSERT_EQ(0, thaw_touch(self->base + self->bytes, SOME, true));
	ASSERT_EQ((ssize_t)SOME, pread(self->fd, self->base + self->bytes, SOME, 0));
	memcpy(self->copy + self->bytes, news, SOME);
	self->bytes *= 2;
	EXPECT_TRUE(heap_has(self->base, self->copy, self->bytes));
	next_generation_has(_metadata, self);
	free(news);
}

/* Names and structs are memory, too. */
TEST_F(hands, a_path_and_vectors)
{
	struct iovec *vectors = (struct iovec *)(self->base + 9 * page_bytes);
	char *path = self->base + 30 * page_bytes - 7; /* across two pages */
	size_t length = strlen(self->path) + 1;
	int fd;

	ASSERT_EQ(0, thaw_touch(path, length, true));
	memcpy(path, self->path, length);
	memcpy(self->copy + 30 * page_bytes - 7, path, length);
	*vectors = (struct iovec){self->base + FROM(40), SOME};
	ASSERT_EQ(0, thaw_touch(self->base + FROM(40), SOME, false));
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ((ssize_t)SOME, writev(fd, vectors, 1));
	EXPECT_TRUE(file_has(fd, self->copy, FROM(40), SOME));
	close(fd);
}

TEST_F(hands, what_is_not_in_a_heap_is_not_touched)
{
	char *outside = self->copy;

	EXPECT_EQ(-EFAULT, thaw_touch(outside, 1, false));
	EXPECT_EQ(-EFAULT, thaw_touch(NULL, 1, false));
	EXPECT_EQ(-EFAULT, thaw_touch(self->base + self->bytes, 1, false));
	EXPECT_EQ(-EFAULT, thaw_touch(self->base + self->bytes - 1, 2, true));
	EXPECT_EQ(-EFAULT, thaw_touch(self->base + 1, SIZE_MAX, false));
	EXPECT_EQ(0, thaw_touch(self->base + self->bytes, 0, false));
	EXPECT_EQ(0, thaw_touch(self->base, self->bytes, false));
	EXPECT_TRUE(heap_has(self->base, self->copy, self->bytes));
}

TEST_HARNESS_MAIN
