// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each back end of write tracking finds exactly the pages that a comparison with a copy finds, on
 * each kind of memory, also while another thread writes, and also if a page is several of the
 * kernel's; and pages that were put back are found again.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "fault.h"
#include "segfault.h"
#include "tracker.h"

#define BYTES ((size_t)16 << 20)
#define KERNEL_PAGE 4096u

FIXTURE(tracking)
{
	struct region region;
	struct tracker tracker;
	struct fault_service *service;
	struct watched watched;
	struct bitmap pages;
	char *copy;
	size_t page_bytes;
	unsigned page_count;
};
FIXTURE_VARIANT(tracking)
{
	const char *tracker, *backing, *delivery;
	const char *page_bytes; /* NULL: the kernel's */
};
FIXTURE_VARIANT_ADD(tracking, kmod){.tracker = "kmod"};
FIXTURE_VARIANT_ADD(tracking, kmod_pages_of_16_kib){.tracker = "kmod", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(tracking, kmod_pages_of_64_kib){.tracker = "kmod", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(tracking, wp_async_anonymous){.tracker = "wp-async", .backing = "anonymous"};
FIXTURE_VARIANT_ADD(tracking, wp_sync_anonymous){.tracker = "wp-sync", .backing = "anonymous"};
FIXTURE_VARIANT_ADD(tracking, mprotect_anonymous){.tracker = "mprotect", .backing = "anonymous"};
FIXTURE_VARIANT_ADD(tracking, mprotect_sigsegv){.tracker = "mprotect", .delivery = "sigsegv"};
FIXTURE_VARIANT_ADD(tracking, mprotect_eager){.tracker = "mprotect", .delivery = "eager"};
FIXTURE_VARIANT_ADD(tracking, wp_async_anonymous_pages_of_16_kib){
	.tracker = "wp-async", .backing = "anonymous", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(tracking, wp_async_anonymous_pages_of_64_kib){
	.tracker = "wp-async", .backing = "anonymous", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(tracking, wp_sync_anonymous_pages_of_64_kib){
	.tracker = "wp-sync", .backing = "anonymous", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(tracking, wp_sync_anonymous_pages_of_16_kib){
	.tracker = "wp-sync", .backing = "anonymous", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(tracking, mprotect_anonymous_pages_of_16_kib){
	.tracker = "mprotect", .backing = "anonymous", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(tracking, mprotect_sigsegv_pages_of_64_kib){
	.tracker = "mprotect", .delivery = "sigsegv", .page_bytes = "65536"};

FIXTURE_SETUP(tracking)
{
	struct fault_options options = {.region = &self->region, .tracker = &self->tracker};
	struct thaw_error error = {0};

	setenv("THAW_TRACKER", variant->tracker, 1);
	if (variant->backing)
		setenv("THAW_BACKING", variant->backing, 1);
	if (variant->delivery)
		setenv("THAW_DELIVERY", variant->delivery, 1);
	if (variant->page_bytes)
		setenv("THAW_PAGE_BYTES", variant->page_bytes, 1);
	if (region_create(&self->region, NULL, BYTES, 0, false, &error))
		SKIP(return, "%s", error.text);
	self->page_bytes = self->region.page_bytes;
	self->page_count = (unsigned)(BYTES / self->page_bytes);
	if (variant->page_bytes)
		ASSERT_EQ(strtoul(variant->page_bytes, NULL, 10), self->page_bytes);
	ASSERT_EQ(0, region_register(&self->region, 0, &error));
	ASSERT_EQ(0, tracker_create(&self->tracker, &self->region, &error));
	if (fault_service_needed(&self->region))
		ASSERT_EQ(0, fault_service_start(&self->service, &options, &error));
	self->watched = (struct watched){
		.region = &self->region, .tracker = &self->tracker, .service = self->service};
	ASSERT_EQ(0, segfault_watch(&self->watched));
	ASSERT_EQ(0, region_resize(&self->region, BYTES));
	ASSERT_EQ(0, bitmap_init(&self->pages, self->page_count));
	self->copy = calloc(1, BYTES);
	ASSERT_NE(NULL, self->copy);
}
FIXTURE_TEARDOWN(tracking)
{
	segfault_unwatch(&self->watched);
	fault_service_stop(self->service);
	tracker_destroy(&self->tracker);
	region_destroy(&self->region);
	bitmap_free(&self->pages);
	free(self->copy);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

/* Everything present, nothing written. */
static int populate(struct region *region, struct tracker *tracker, struct bitmap *pages,
		    char *copy)
{
	for (size_t at = 0; at < BYTES; at += KERNEL_PAGE)
		*(uint64_t *)(region->base + at) = at / KERNEL_PAGE * 977u + 1;
	memcpy(copy, region->alias, BYTES);
	bitmap_clear_all(pages);
	return tracker_collect(tracker, pages);
}

TEST_F(tracking, finds_what_a_comparison_finds)
{
	const size_t page_bytes = self->page_bytes;
	const unsigned pages = self->page_count;
	uint64_t random = 88172645463325252ull;

	ASSERT_EQ(0, populate(&self->region, &self->tracker, &self->pages, self->copy));
	EXPECT_EQ(pages, bitmap_count(&self->pages));
	EXPECT_EQ(0, tracker_count(&self->tracker, pages));

	for (int round = 0; round < 20; round++) {
		unsigned writes = round == 7	? 0
				  : round == 13 ? pages
						: (unsigned)(next_random(&random) % 600);
		uint64_t differing = 0;

		for (unsigned i = 0; i < writes; i++) {
			unsigned page = round == 13 ? i : (unsigned)(next_random(&random) % pages);
			unsigned at = (unsigned)(next_random(&random) % (page_bytes / 8));

			((uint64_t *)(self->region.base + page * page_bytes))[at] += 1 + i;
		}
		/* Reading is not writing. */
		for (unsigned page = 0; page < pages; page += 3)
			atomic_signal_fence(memory_order_seq_cst),
				(void)*(volatile char *)(self->region.base + page * page_bytes);
		for (unsigned page = 0; page < pages; page++)
			differing += !!memcmp(self->copy + page * page_bytes,
					      self->region.alias + page * page_bytes, page_bytes);
		EXPECT_EQ(differing < 50 ? (int64_t)differing : 50,
			  tracker_count(&self->tracker, 50));
		bitmap_clear_all(&self->pages);
		ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
		EXPECT_EQ(differing, bitmap_count(&self->pages));
		for (unsigned page = 0; page < pages; page++) {
			bool differs = memcmp(self->copy + page * page_bytes,
					      self->region.alias + page * page_bytes, page_bytes);

			ASSERT_EQ(differs, bitmap_test(&self->pages, page))
			{
				TH_LOG("round %d page %u", round, page);
			}
			if (differs)
				memcpy(self->copy + page * page_bytes,
				       self->region.alias + page * page_bytes, page_bytes);
		}
	}
}

/* As many separate ones as there can be: more than the kernel tells of at a time. */
TEST_F(tracking, every_other_page_is_counted_once)
{
	const size_t page_bytes = self->page_bytes;
	const unsigned half = self->page_count / 2;

	ASSERT_EQ(0, populate(&self->region, &self->tracker, &self->pages, self->copy));
	for (unsigned page = 1; page < 2 * half; page += 2)
		((uint64_t *)(self->region.base + page * page_bytes))[0] += 1;
	EXPECT_EQ(half, tracker_count(&self->tracker, UINT32_MAX));
	bitmap_clear_all(&self->pages);
	ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
	EXPECT_EQ(half, bitmap_count(&self->pages));
	EXPECT_EQ(0, tracker_count(&self->tracker, UINT32_MAX));
}

TEST_F(tracking, fresh_pages_count_as_written)
{
	for (unsigned page = 5; page < self->page_count; page += 100)
		self->region.base[page * self->page_bytes] = 1;
	ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
	for (unsigned page = 5; page < self->page_count; page += 100)
		EXPECT_TRUE(bitmap_test(&self->pages, page));
	/*
	 * The kernel reports what it made; the others may give a few neighbours too, never the whole
	 * region.
	 */
	EXPECT_LE(bitmap_count(&self->pages), self->page_count - self->page_count / 8);
}

/* Where nothing was empty a search asks less; what is empty there later, because the region grows, is not written. */
TEST_F(tracking, a_region_grows_behind_what_was_full)
{
	const uint64_t half = self->page_count / 2, all = self->page_count;
	struct region *region = &self->region;

	__atomic_store_n(&region->bytes, half * self->page_bytes, __ATOMIC_RELAXED);
	for (uint64_t page = 0; page < half; page++)
		for (size_t at = 0; at < self->page_bytes; at += KERNEL_PAGE)
			region->base[page * self->page_bytes + at] = 1;
	for (int round = 0; round < 4; round++) {
		bitmap_clear_all(&self->pages);
		ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
		ASSERT_EQ(round ? 1 : half, bitmap_count(&self->pages));
		region->base[(uint64_t)(round + 7) * self->page_bytes]++;
	}
	ASSERT_EQ(0, region_resize(region, BYTES));
	region->base[(all - 2) * self->page_bytes] = 1;
	for (int round = 0; round < 3; round++) {
		bitmap_clear_all(&self->pages);
		ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
		EXPECT_TRUE(bitmap_test(&self->pages, round ? 9 : 10));
		EXPECT_EQ(!round, bitmap_test(&self->pages, all - 2));
		/* Those that make pages by themselves make some beside it. */
		EXPECT_GE(half / 2, bitmap_count(&self->pages));
		region->base[9 * self->page_bytes]++;
	}
}

TEST_F(tracking, pages_put_back_are_found_again)
{
	struct bitmap again;

	ASSERT_EQ(0, bitmap_init(&again, self->page_count));
	ASSERT_EQ(0, populate(&self->region, &self->tracker, &self->pages, self->copy));
	bitmap_clear_all(&self->pages);
	for (unsigned page = 1; page < self->page_count; page += 50)
		self->region.base[page * self->page_bytes + 9]++;
	ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
	tracker_put_back(&self->tracker, &self->pages);
	self->region.base[0] = 77;
	EXPECT_EQ(bitmap_count(&self->pages) + 1, tracker_count(&self->tracker, self->page_count));
	ASSERT_EQ(0, tracker_collect(&self->tracker, &again));
	EXPECT_EQ(bitmap_count(&self->pages) + 1, bitmap_count(&again));
	for (unsigned page = 1; page < self->page_count; page += 50)
		EXPECT_TRUE(bitmap_test(&again, page));
	EXPECT_EQ(0, tracker_count(&self->tracker, self->page_count));
	bitmap_free(&again);
}

struct writer {
	struct region *region;
	_Atomic bool stop;
	uint64_t written;
};

static void *writer_main(void *arg)
{
	struct writer *writer = arg;
	uint64_t random = 1234567891234567ull;

	while (!atomic_load_explicit(&writer->stop, memory_order_relaxed)) {
		((volatile uint64_t *)writer->region->base)[next_random(&random) % (BYTES / 8)] =
			++writer->written;
	}
	return NULL;
}

TEST_F(tracking, loses_nothing_while_a_thread_writes)
{
	struct writer writer = {.region = &self->region};
	uint64_t collections = 0, copied = 0;
	pthread_t thread;

	ASSERT_EQ(0, populate(&self->region, &self->tracker, &self->pages, self->copy));
	ASSERT_EQ(0, pthread_create(&thread, NULL, writer_main, &writer));
	/* The copy is kept true by nothing but what is collected. */
	for (bool last = false;;) {
		/* And as many more as it takes until the writer had its turn on a busy machine. */
		if (collections >= 300 && copied) {
			atomic_store(&writer.stop, true);
			pthread_join(thread, NULL);
			last = true;
		}
		bitmap_clear_all(&self->pages);
		ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
		for (uint64_t page = 0; (page = bitmap_next(&self->pages, page)) != UINT64_MAX;
		     page++, copied++)
			memcpy(self->copy + page * self->page_bytes,
			       self->region.alias + page * self->page_bytes, self->page_bytes);
		if (last)
			break;
		collections++;
		if (collections % 10 == 0)
			usleep(1000);
	}
	TH_LOG("%llu writes, %llu pages copied in %llu collections",
	       (unsigned long long)writer.written, (unsigned long long)copied,
	       (unsigned long long)collections);
	ASSERT_GT(writer.written, 0);
	ASSERT_GT(copied, 0);
	EXPECT_EQ(0, memcmp(self->copy, self->region.alias, BYTES));
}

TEST_HARNESS_MAIN
