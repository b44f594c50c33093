// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is cold becomes huge pages, and nothing else changes: what is written is found page by page, also what is written at the
 * very moment in which a huge page is made, given back, or refused by the kernel; and generations are what the heap was.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "cold.h"
#include "compat.h"
#include "heap.h"
#include "in_memory.h"
#include "support.h"
#include "thaw.h"

#define RANGES 8u
#define BYTES (RANGES * COLD_RANGE_BYTES)
#define PAGE 4096u
#define PAGES (BYTES / PAGE)

static bool kernel_makes_huge_pages(void)
{
	char *at = mmap(NULL, 2 * COLD_RANGE_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *start = (char *)(((uintptr_t)at + COLD_RANGE_BYTES - 1) & ~(COLD_RANGE_BYTES - 1));
	bool made;

	if (at == MAP_FAILED)
		return false;
	memset(start, 1, COLD_RANGE_BYTES);
	made = !madvise(start, COLD_RANGE_BYTES, MADV_COLLAPSE);
	munmap(at, 2 * COLD_RANGE_BYTES);
	return made;
}

/* Bytes of the region that are in huge pages. */
static uint64_t huge_bytes(const char *base)
{
	struct page_region found[RANGES];
	struct pm_scan_arg scan = {.size = sizeof(scan),
				   .start = (uintptr_t)base,
				   .end = (uintptr_t)base + BYTES,
				   .vec = (uintptr_t)found,
				   .vec_len = RANGES,
				   .category_mask = PAGE_IS_HUGE,
				   .return_mask = PAGE_IS_HUGE};
	int pagemap = open("/proc/self/pagemap", O_RDONLY), count;
	uint64_t bytes = 0;

	count = ioctl(pagemap, PAGEMAP_SCAN, &scan);
	close(pagemap);
	for (int i = 0; i < count; i++)
		bytes += found[i].end - found[i].start;
	return bytes;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

FIXTURE(cold)
{
	struct region region;
	struct tracker tracker;
	struct cold cold;
	struct bitmap pages;
	char *copy;
	_Atomic bool stop;
	_Atomic uint64_t written;
};
FIXTURE_VARIANT(cold)
{
	const char *page_bytes, *inject;
	bool refused;
};
FIXTURE_VARIANT_ADD(cold, memory){};
FIXTURE_VARIANT_ADD(cold, pages_of_16_kib){.page_bytes = "16384"};
FIXTURE_VARIANT_ADD(cold, some_advice_is_refused){.inject = "advise:ENOMEM:5:4"};
FIXTURE_VARIANT_ADD(cold, all_advice_is_refused){.inject = "advise:ENOMEM:0:0", .refused = true};
FIXTURE_VARIANT_ADD(cold, some_ioctls_are_refused){.inject = "ioctl:ENOMEM:60:30"};

FIXTURE_SETUP(cold)
{
	struct thaw_error error = {0};

	setenv("THAW_TRACKER", "wp-async", 1);
	if (variant->page_bytes)
		setenv("THAW_PAGE_BYTES", variant->page_bytes, 1);
	if (variant->inject)
		setenv("THAW_INJECT", variant->inject, 1);
	if (!kernel_makes_huge_pages())
		SKIP(return, "this kernel makes no huge pages when it is asked to");
	if (region_create(&self->region, NULL, BYTES, 0, false, &error))
		SKIP(return, "%s", error.text);
	ASSERT_EQ(0, region_register(&self->region, 0, &error));
	ASSERT_EQ(0, tracker_create(&self->tracker, &self->region, &error));
	ASSERT_EQ(0, region_resize(&self->region, BYTES));
	ASSERT_EQ(0, bitmap_init(&self->pages, PAGES));
	self->copy = malloc(BYTES);
	cold_init(&self->cold, &self->region, &self->tracker);
	if (!self->cold.used)
		SKIP(return, "not with this memory");
	self->cold.least = self->cold.tick_ns = 0;
	for (size_t at = 0; at < BYTES; at += PAGE)
		*(uint64_t *)(self->region.base + at) = at + 1;
	memcpy(self->copy, self->region.base, BYTES);
}
FIXTURE_TEARDOWN(cold)
{
	cold_free(&self->cold);
	tracker_destroy(&self->tracker);
	region_destroy(&self->region);
	bitmap_free(&self->pages);
	free(self->copy);
}

/* A generation: the copy is kept true by nothing but what is collected. */
static int generation(struct _test_data_cold *self)
{
	const uint32_t page_bytes = self->region.page_bytes;
	int code;

	bitmap_clear_all(&self->pages);
	while ((code = tracker_collect(&self->tracker, &self->pages)) == -ENOMEM)
		tracker_put_back(&self->tracker, &self->pages); /* as after a failed checkpoint */
	for (uint64_t page = 0; (page = bitmap_next(&self->pages, page)) != UINT64_MAX; page++)
		memcpy(self->copy + page * page_bytes, self->region.base + page * page_bytes,
		       page_bytes);
	cold_generation(&self->cold, &self->pages);
	return code;
}

static void generations_until_cold(struct _test_data_cold *self)
{
	for (int i = 0; i < 6; i++)
		generation(self);
	while (cold_due(&self->cold, 0) || self->cold.done_tick != self->cold.tick) {
		if (!self->cold.used)
			break;
		cold_work(&self->cold);
	}
}

TEST_F(cold, becomes_huge_and_what_is_written_is_found)
{
	const uint32_t page_bytes = self->region.page_bytes;

	generations_until_cold(self);
	if (variant->refused)
		EXPECT_EQ(0, huge_bytes(self->region.base));
	if (!variant->inject)
		EXPECT_EQ(BYTES, huge_bytes(self->region.base));
	generation(self);
	EXPECT_EQ(0, memcmp(self->copy, self->region.base, BYTES));
	ASSERT_EQ(0, generation(self));
	EXPECT_EQ(0, bitmap_count(&self->pages));
	for (int round = 0; round < 3; round++) {
		for (unsigned range = 0; range < RANGES; range += 2)
			self->region.base[range * COLD_RANGE_BYTES +
					  (range + 3u + (unsigned)round) * page_bytes]++;
		ASSERT_EQ(0, generation(self));
		EXPECT_EQ(RANGES / 2, bitmap_count(&self->pages));
		for (unsigned range = 0; range < RANGES; range += 2)
			EXPECT_TRUE(
				bitmap_test(&self->pages, range * (COLD_RANGE_BYTES / page_bytes) +
								  range + 3 + (unsigned)round));
	}
	EXPECT_EQ(0, memcmp(self->copy, self->region.base, BYTES));
	if (!variant->inject)
		EXPECT_EQ(BYTES / 2, huge_bytes(self->region.base));
}

/* What had to be split has to be cold for twice as long. */
TEST_F(cold, has_patience_with_what_was_written_again)
{
	if (variant->inject)
		return;
	generations_until_cold(self);
	ASSERT_EQ(BYTES, huge_bytes(self->region.base));
	self->region.base[0]++;
	generations_until_cold(self);
	EXPECT_EQ(BYTES - COLD_RANGE_BYTES, huge_bytes(self->region.base));
	generations_until_cold(self);
	EXPECT_EQ(BYTES, huge_bytes(self->region.base));
}

static void *writer_main(void *arg)
{
	struct _test_data_cold *self = arg;
	uint64_t random = 1234567891234567ull;

	while (!atomic_load(&self->stop)) {
		uint64_t at = next_random(&random) % (BYTES / 8);

		((volatile uint64_t *)self->region.base)[at] = random;
		if (++self->written % 16 == 0)
			sched_yield();
	}
	return NULL;
}

/* Everything counts as cold while it is written all the time. */
TEST_F(cold, loses_nothing_that_is_written_meanwhile)
{
	uint64_t tried = 0, before = 0;
	pthread_t thread;

	generation(self);
	ASSERT_EQ(0, pthread_create(&thread, NULL, writer_main, self));
	for (int round = 0; round < 100 || (tried < 20 && round < 20000); round++) {
		generation(self);
		if (!self->cold.patience)
			continue;
		memset(self->cold.written, 0, RANGES * sizeof(*self->cold.written));
		memset(self->cold.patience, 0, RANGES);
		bitmap_clear_all(&self->cold.huge);
		self->cold.tick += 100;
		before = bitmap_count(&self->tracker.put_back);
		cold_work(&self->cold);
		tried += bitmap_count(&self->tracker.put_back) != before;
		tried += self->cold.failures || !self->cold.used;
		if (round % 8 == 0) /* somebody has to be cold now and then */
			usleep(1000);
	}
	atomic_store(&self->stop, true);
	pthread_join(thread, NULL);
	generation(self);
	ASSERT_EQ(0, generation(self));
	EXPECT_GT(self->written, 0);
	EXPECT_EQ(0, memcmp(self->copy, self->region.base, BYTES));
	TH_LOG("%llu writes, %llu times something was written meanwhile, or refused",
	       (unsigned long long)self->written, (unsigned long long)tried);
}

FIXTURE(generations)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
	uint64_t now[PAGES];
};
FIXTURE_SETUP(generations)
{
	self->directory = support_format("%s/thaw-XXXXXX", in_memory());
	ASSERT_NE(NULL, mkdtemp(self->directory));
	self->path = support_format("%s/heap.thaw", self->directory);
	setenv("THAW_TRACKER", "wp-async", 1);
}
FIXTURE_TEARDOWN(generations)
{
	thaw_close(self->heap);
	support_remove(self->directory);
	free(self->path);
}

static int open_heap(struct _test_data_generations *self, unsigned flags)
{
	struct thaw_options options = {.image = self->path,
				       .flags = THAW_CREATE | flags,
				       .max_bytes = 2 * BYTES,
				       .engine = "test"};

	return thaw_open(&options, &self->heap, &self->error);
}

static void page_write(struct _test_data_generations *self, uint64_t page, uint64_t value)
{
	*(uint64_t *)((char *)thaw_base(self->heap) + page * PAGE + 8 * (page % 512)) = value;
	self->now[page] = value;
}

static unsigned differ(const struct _test_data_generations *self)
{
	const char *base = thaw_base(self->heap);
	unsigned wrong = 0;

	for (uint64_t page = 0; page < PAGES; page++)
		wrong += *(uint64_t *)(base + page * PAGE + 8 * (page % 512)) != self->now[page];
	return wrong;
}

/* The whole way: the thread of the checkpoints makes huge pages while the program writes and gives memory back. */
TEST_F(generations, of_a_heap_that_is_partly_cold)
{
	uint64_t random = 77, huge = 0;

	if (!kernel_makes_huge_pages())
		SKIP(return, "this kernel makes no huge pages when it is asked to");
	if (open_heap(self, 0))
		SKIP(return, "%s", self->error.text);
	if (!self->heap->checkpointer.cold.used)
		SKIP(return, "not with this memory");
	self->heap->checkpointer.cold.least = self->heap->checkpointer.cold.tick_ns = 0;
	ASSERT_EQ(0, thaw_resize(self->heap, BYTES));
	for (uint64_t page = 0; page < PAGES; page++)
		page_write(self, page, page + 1);
	for (int round = 0; round < 1000 && (round < 12 || huge < BYTES / 2); round++) {
		ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, "s", 2, NULL));
		for (int i = 0; i < 50; i++) /* one range in eight is warm */
			page_write(self, next_random(&random) % (PAGES / 8), random);
		usleep(30000);
		huge = huge_bytes(thaw_base(self->heap));
	}
	EXPECT_GE(huge, BYTES / 2);
	/* Into huge pages, and out of them; and part of one is given back. */
	for (int i = 0; i < 20; i++)
		page_write(self, next_random(&random) % PAGES, random);
	ASSERT_EQ(0, thaw_release(self->heap, BYTES / 2 + 3 * PAGE, 200 * PAGE));
	memset(&self->now[PAGES / 2 + 3], 0, 200 * sizeof(*self->now));
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, "s", 2, NULL));
	EXPECT_EQ(0, differ(self));
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(self, 0)) TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, differ(self));
}

TEST_HARNESS_MAIN
