// SPDX-License-Identifier: GPL-2.0-only
/*
 * Restore touches only what it must: opening a heap of 1 GiB reads nothing of size, one touched
 * page brings one cluster, and what is resident is what was touched. (tests/js/javascript_restore.c
 * asks the same of a JavaScript heap.) It is bytes that count, not pages of the image, which may be
 * larger than the kernel's. For those, and where time is short (tests/patience.h), 64 MiB have to do.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mman.h>
#include <sys/mount.h>

#include "support.h"
#include "thaw.h"

#define PAGE 4096u /* of the kernel, if that of the image is larger */
#define CLUSTER 65536u
#define SMALL (8u << 20)
#define HEAP (test_patience() > 1 || !variant->large ? 64u << 20 : 1u << 30)

static uint64_t resident_pages(void)
{
	unsigned long size, resident;
	FILE *file = fopen("/proc/self/statm", "r");

	if (!file || fscanf(file, "%lu %lu", &size, &resident) != 2)
		support_die("/proc/self/statm");
	fclose(file);
	return resident;
}

FIXTURE(lazy)
{
	char *directory, *path;
	struct thaw *heap;
	uint32_t page_bytes; /* of the image */
	struct thaw_error error;
};
FIXTURE_VARIANT(lazy)
{
	const char *backing, *delivery, *tracker, *reader, *inject, *without;
	const char *page_bytes; /* of the kernel that made the image; NULL: this one */
	bool large;
};
FIXTURE_VARIANT_ADD(lazy, anonymous){.backing = "anonymous", .large = true};
FIXTURE_VARIANT_ADD(lazy, anonymous_pages_of_16_kib){.backing = "anonymous", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(lazy, anonymous_pages_of_64_kib){.backing = "anonymous", .page_bytes = "65536"};
/* As if the page cache had nothing of the image, so that the threads have something to do. */
FIXTURE_VARIANT_ADD(lazy, anonymous_threads){
	.backing = "anonymous", .reader = "threads", .inject = "cached:EAGAIN:0:0"};
/* As before Linux 5.13, whose io_uring polls once. */
FIXTURE_VARIANT_ADD(lazy, anonymous_polls_once){.backing = "anonymous", .without = "multishot"};
FIXTURE_VARIANT_ADD(lazy, anonymous_mprotect){.backing = "anonymous", .tracker = "mprotect"};
FIXTURE_VARIANT_ADD(lazy, sigsegv){.delivery = "sigsegv"};
FIXTURE_VARIANT_ADD(lazy, sigsegv_threads){.delivery = "sigsegv", .reader = "threads"};
FIXTURE_VARIANT_ADD(lazy, sigsegv_pages_of_64_kib){.delivery = "sigsegv", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(lazy, kmod){.delivery = "kmod", .large = true};
FIXTURE_VARIANT_ADD(lazy, kmod_threads){.delivery = "kmod", .reader = "threads"};
FIXTURE_VARIANT_ADD(lazy, kmod_pages_of_16_kib){.delivery = "kmod", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(lazy, kmod_pages_of_64_kib){.delivery = "kmod", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(lazy, eager){.delivery = "eager"};

FIXTURE_SETUP(lazy)
{
	struct thaw_options options = {.flags = THAW_CREATE, .max_bytes = HEAP, .engine = "test"};
	struct thaw_result result;

	setenv("THAW_BACKING", variant->backing ? variant->backing : "", 1);
	setenv("THAW_DELIVERY", variant->delivery ? variant->delivery : "", 1);
	setenv("THAW_TRACKER", variant->tracker ? variant->tracker : "", 1);
	setenv("THAW_READER", variant->reader ? variant->reader : "", 1);
	if (variant->without)
		setenv("THAW_WITHOUT", variant->without, 1);
	setenv("THAW_INJECT", variant->inject ? variant->inject : "", 1);
	if (variant->page_bytes)
		setenv("THAW_PAGE_BYTES", variant->page_bytes, 1);
	self->page_bytes = variant->page_bytes ? (uint32_t)strtoul(variant->page_bytes, NULL, 10)
					       : PAGE;
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	options.image = self->path;
	if (thaw_open(&options, &self->heap, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, HEAP));
	for (size_t page = 0; page < HEAP / PAGE; page++)
		*(size_t *)((char *)thaw_base(self->heap) + page * PAGE) = page + 1;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, &result))
	{
		TH_LOG("%s", result.error.text);
	}
	EXPECT_EQ(HEAP / self->page_bytes, result.generation.pages_stored);
	thaw_close(self->heap);
	self->heap = NULL;
	unsetenv("THAW_PAGE_BYTES");
	options.flags = 0;
	ASSERT_EQ(0, thaw_open(&options, &self->heap, &self->error))
	{
		TH_LOG("%s", self->error.text);
	}
}
FIXTURE_TEARDOWN(lazy)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

static size_t page_value(struct thaw *heap, size_t page)
{
	return *(volatile size_t *)((char *)thaw_base(heap) + page * PAGE);
}

TEST_F(lazy, only_what_is_touched_arrives)
{
	struct thaw_status status;
	uint64_t before = resident_pages();
	size_t touched = 0;

	thaw_status(self->heap, &status);
	if (!strcmp(status.delivery, "eager"))
		SKIP(return, "all of it is there before");
	EXPECT_EQ(0, status.pages_restored);
	for (size_t page = 7; page < HEAP / PAGE; page += 4099, touched++)
		ASSERT_EQ(page + 1, page_value(self->heap, page));
	thaw_status(self->heap, &status);
	EXPECT_EQ(touched, status.faults);
	/* The rest of a cluster is mapped while its reader goes on. */
	EXPECT_LE(status.pages_restored * self->page_bytes, status.restore_bytes);
	EXPECT_LE(status.restore_bytes, touched * CLUSTER);
	/* Under 2 % of the heap, or of a small one 4 MiB: the index nodes and the buffers count too. */
	EXPECT_LE(resident_pages() - before,
		  HEAP < 256u << 20 ? (4u << 20) / PAGE : HEAP / PAGE / 50);
}

TEST_F(lazy, a_sequential_reader_gets_readahead)
{
	struct thaw_status status;

	for (size_t page = 0; page < 8192; page++)
		ASSERT_EQ(page + 1, page_value(self->heap, page));
	thaw_status(self->heap, &status);
	/* The module's are cheap, and each brings one cluster. */
	EXPECT_LE(status.faults, strcmp(status.delivery, "kmod") ? 8192 / 32 : 8192 / 16);
	EXPECT_GE(status.restore_bytes, 8192 * PAGE);
}

TEST_F(lazy, a_checkpoint_of_a_lazy_heap_stores_only_what_changed)
{
	struct thaw_result result;

	for (size_t page = 11; page < HEAP / PAGE; page += 8209)
		*(size_t *)((char *)thaw_base(self->heap) + page * PAGE) += 1;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, &result));
	EXPECT_EQ((HEAP / PAGE - 11 + 8208) / 8209, result.generation.pages_stored);
	/* Pages that had not arrived are still what they were. */
	for (size_t page = 5; page < HEAP / PAGE; page += 4111)
		ASSERT_EQ(page + 1 + (page % 8209 == 11), page_value(self->heap, page));
}

/* As of all anonymous memory: what was given up is zero, and a checkpoint says so. */
TEST_F(lazy, pages_given_up_are_zero)
{
	struct thaw_status status;
	struct thaw_result result;

	thaw_status(self->heap, &status);
	if (strcmp(status.backing, "anonymous"))
		SKIP(return, "memory that is shared keeps its pages");
	if (!strcmp(status.tracker, "mprotect"))
		SKIP(return, "nobody tells mprotect(2) that pages were given up");
	for (size_t page = 100; page < 120; page++)
		ASSERT_EQ(page + 1, page_value(self->heap, page));
	ASSERT_EQ(0, madvise((char *)thaw_base(self->heap) + 100 * PAGE, 4 * PAGE, MADV_DONTNEED));
	for (size_t page = 100; page < 120; page++)
		ASSERT_EQ(page < 104 ? 0 : page + 1, page_value(self->heap, page));
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, &result));
	/* Four, or the one that they are a part of. */
	EXPECT_EQ((4 * PAGE + self->page_bytes - 1) / self->page_bytes,
		  result.generation.pages_stored);
}

TEST_F(lazy, prefetch_brings_everything)
{
	struct thaw_options options = {
		.image = self->path, .flags = THAW_PREFETCH, .max_bytes = HEAP, .engine = "test"};
	struct thaw_status status;
	double end = support_deadline(TEST_SECONDS / 2);

	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, thaw_open(&options, &self->heap, &self->error));
	/* The program goes on meanwhile. */
	for (size_t page = HEAP / PAGE; page > 0; page -= 4096)
		ASSERT_EQ(page, page_value(self->heap, page - 1));
	do {
		support_sleep(0.01);
		thaw_status(self->heap, &status);
	} while (status.pages_restored < HEAP / self->page_bytes && support_seconds() < end);
	EXPECT_EQ(HEAP / self->page_bytes, status.pages_restored);
	for (size_t page = 0; page < HEAP / PAGE; page++)
		ASSERT_EQ(page + 1, page_value(self->heap, page));
}

/*
 * A file system without a page cache of its own, which the module cannot read: the service reads every page for it, on
 * demand and ahead.
 */
FIXTURE(unreadable)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
};
FIXTURE_VARIANT(unreadable)
{
	const char *delivery;
};
FIXTURE_VARIANT_ADD(unreadable, kmod){.delivery = "kmod"};
FIXTURE_VARIANT_ADD(unreadable, userfaultfd){.delivery = "userfaultfd"};

/* Every ninth page is zero. */
#define SMALL_STORED (uint64_t)(SMALL / PAGE - (SMALL / PAGE + 8) / 9)

static int open_unreadable(FIXTURE_DATA(unreadable) * self, unsigned flags)
{
	struct thaw_options options = {
		.image = self->path, .flags = flags, .max_bytes = SMALL, .engine = "test"};

	thaw_close(self->heap);
	self->heap = NULL;
	return thaw_open(&options, &self->heap, &self->error);
}

FIXTURE_SETUP(unreadable)
{
	setenv("THAW_DELIVERY", variant->delivery, 1);
	self->directory = support_directory();
	if (mount("tmpfs", self->directory, "tmpfs", 0, "size=64m"))
		SKIP(return, "cannot mount a small tmpfs: %s", strerror(errno));
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_unreadable(self, THAW_CREATE) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, SMALL));
	for (size_t page = 0; page < SMALL / PAGE; page++)
		*(size_t *)((char *)thaw_base(self->heap) + page * PAGE) = page % 9 ? page + 1 : 0;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, NULL));
}
FIXTURE_TEARDOWN(unreadable)
{
	thaw_close(self->heap);
	umount2(self->directory, MNT_DETACH);
	free(self->path);
	support_remove(self->directory);
}

static bool unreadable_whole(struct thaw *heap)
{
	for (size_t page = SMALL / PAGE; page-- > 0;)
		if (page_value(heap, page) != (page % 9 ? page + 1 : 0))
			return false;
	return true;
}

TEST_F(unreadable, arrives_all_the_same)
{
	struct thaw_status status;

	ASSERT_EQ(0, open_unreadable(self, 0)) TH_LOG("%s", self->error.text);
	EXPECT_TRUE(unreadable_whole(self->heap));
	thaw_status(self->heap, &status);
	EXPECT_STREQ(variant->delivery, status.delivery);
	EXPECT_LE(SMALL_STORED, status.pages_restored);
	EXPECT_LE(SMALL_STORED * PAGE, status.restore_bytes);
	EXPECT_LT(0, status.faults);
}

TEST_F(unreadable, arrives_ahead)
{
	double end = support_deadline(TEST_SECONDS / 2);
	struct thaw_status status;

	ASSERT_EQ(0, open_unreadable(self, THAW_PREFETCH)) TH_LOG("%s", self->error.text);
	do {
		support_sleep(0.01);
		thaw_status(self->heap, &status);
	} while (status.pages_restored < SMALL_STORED && support_seconds() < end);
	EXPECT_LE(SMALL_STORED, status.pages_restored);
	EXPECT_TRUE(unreadable_whole(self->heap));
}

TEST_HARNESS_MAIN
