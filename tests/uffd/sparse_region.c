// SPDX-License-Identifier: GPL-2.0-only
/*
 * sparse_region.c - what a heap costs follows what is in it, not the address space that is reserved for it: a
 * region of 16 TiB with some pages in it is opened, written, checkpointed, and restored with little memory and
 * few system calls, with every backend. Both are counted; nothing here depends on time.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "bitmap.h"
#include "support.h"
#include "thaw.h"

#define TIB ((uint64_t)1 << 40)
#define HEAP_BYTES (16 * TIB)
#define PAGES 17u
#define MEMORY_MOST ((uint64_t)48 << 20) /* a bit for each page of 16 TiB takes 512 MiB */
#define CALLS_MOST (100u * PAGES)	 /* of what changes mappings, in one step */

int __real_sys_ioctl(int fd, unsigned long request, void *argument);
int __real_sys_ioctl_once(int fd, unsigned long request, void *argument);
int __real_sys_mprotect(void *address, size_t bytes, int protection);
int __real_madvise(void *address, size_t bytes, int advice);

static _Atomic uint64_t calls;

int __wrap_sys_ioctl(int fd, unsigned long request, void *argument)
{
	calls++;
	return __real_sys_ioctl(fd, request, argument);
}

int __wrap_sys_ioctl_once(int fd, unsigned long request, void *argument)
{
	calls++;
	return __real_sys_ioctl_once(fd, request, argument);
}

int __wrap_sys_mprotect(void *address, size_t bytes, int protection)
{
	calls++;
	return __real_sys_mprotect(address, bytes, protection);
}

int __wrap_madvise(void *address, size_t bytes, int advice)
{
	calls++;
	return __real_madvise(address, bytes, advice);
}

/* What the process and its page tables took at most, in bytes. */
static uint64_t memory_most(void)
{
	static const char *const rows[] = {"VmHWM:", "VmPTE:"};
	FILE *status = fopen("/proc/self/status", "re");
	uint64_t sum = 0;
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		for (unsigned i = 0; i < 2; i++)
			if (!strncmp(line, rows[i], strlen(rows[i])))
				sum += strtoull(line + strlen(rows[i]), NULL, 10) << 10;
	if (status)
		fclose(status);
	return sum;
}

FIXTURE(sparse)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
	uint64_t memory;
};
FIXTURE_VARIANT(sparse)
{
	const char *delivery, *tracker, *backing;
	unsigned flags;
};
FIXTURE_VARIANT_ADD(sparse, kmod){.delivery = "kmod"};
FIXTURE_VARIANT_ADD(sparse, kmod_prefetched){.delivery = "kmod", .flags = THAW_PREFETCH};
FIXTURE_VARIANT_ADD(sparse, wp_async){.tracker = "wp-async"};
FIXTURE_VARIANT_ADD(sparse, wp_async_prefetched){.tracker = "wp-async", .flags = THAW_PREFETCH};
FIXTURE_VARIANT_ADD(sparse, wp_sync){.tracker = "wp-sync"};
FIXTURE_VARIANT_ADD(sparse, mprotect){.tracker = "mprotect"};
FIXTURE_VARIANT_ADD(sparse, mprotect_prefetched){.tracker = "mprotect", .flags = THAW_PREFETCH};
FIXTURE_VARIANT_ADD(sparse, sigsegv){.delivery = "sigsegv"};
FIXTURE_VARIANT_ADD(sparse, eager){.delivery = "eager"};

static int sparse_open(FIXTURE_DATA(sparse) * self, unsigned flags)
{
	struct thaw_options options = {.image = self->path,
				       .flags = THAW_CREATE | flags,
				       .max_bytes = HEAP_BYTES,
				       .engine = "sparse"};

	calls = 0;
	return thaw_open(&options, &self->heap, &self->error);
}

FIXTURE_SETUP(sparse)
{
	int code;

	if (variant->delivery)
		setenv("THAW_DELIVERY", variant->delivery, 1);
	if (variant->tracker)
		setenv("THAW_TRACKER", variant->tracker, 1);
	if (variant->backing)
		setenv("THAW_BACKING", variant->backing, 1);
	self->directory = support_directory();
	self->path = support_format("%s/sparse.thaw", self->directory);
	self->memory = memory_most();
	code = sparse_open(self, variant->flags);
	if (code == THAW_EKERNEL || code == -ENOMEM || code == -EFBIG)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, code) TH_LOG("%s", self->error.text);
	code = thaw_resize(self->heap, HEAP_BYTES);
	if (code == -ENOMEM) /* vm.overcommit_memory */
		SKIP(return, "16 TiB of memory cannot be promised here");
	ASSERT_EQ(0, code);
}
FIXTURE_TEARDOWN(sparse)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

/* All over the region, the last ones included. */
static volatile uint64_t *word(struct thaw *heap, unsigned i)
{
	uint64_t page = (HEAP_BYTES / 65536 - 1) / (PAGES - 1) * i * 16;

	return (volatile uint64_t *)((char *)thaw_base(heap) + page * 4096);
}

static void write_all(struct thaw *heap, uint64_t value)
{
	for (unsigned i = 0; i < PAGES; i++)
		*word(heap, i) = value + i;
}

#define EXPECT_CHEAP(what)                                                                       \
	do {                                                                                     \
		EXPECT_LE(atomic_load(&calls), CALLS_MOST) TH_LOG("%s: %lu calls", what, calls); \
		EXPECT_LE(memory_most() - self->memory, MEMORY_MOST)                             \
		TH_LOG("%s: %lu KiB more", what, (memory_most() - self->memory) >> 10);          \
		calls = 0;                                                                       \
	} while (0)

TEST_F(sparse, costs_follow_what_is_there)
{
	struct thaw_result result;

	EXPECT_CHEAP("open");
	for (uint64_t round = 1; round <= 3; round++) {
		write_all(self->heap, round * 1000);
		ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, NULL, 0, &result))
		TH_LOG("%s", result.error.text);
		EXPECT_EQ(PAGES, result.generation.pages_stored);
		EXPECT_EQ(HEAP_BYTES, result.generation.heap_bytes);
		EXPECT_CHEAP("checkpoint");
	}
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, NULL, 0, &result));
	EXPECT_TRUE(result.unchanged);
	thaw_close(self->heap);
	self->heap = NULL;
	EXPECT_CHEAP("close");

	ASSERT_EQ(0, sparse_open(self, variant->flags)) TH_LOG("%s", self->error.text);
	EXPECT_CHEAP("open again");
	for (unsigned i = 0; i < PAGES; i++) {
		ASSERT_EQ(3000 + i, *word(self->heap, i));
		ASSERT_EQ(0, word(self->heap, i)[600]); /* the page beside it was never stored */
		if (i)
			ASSERT_EQ(0, *(word(self->heap, i) - (1u << 28)));
	}
	EXPECT_CHEAP("restore");
	write_all(self->heap, 4000);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, NULL, 0, &result));
	EXPECT_EQ(PAGES, result.generation.pages_stored);
	EXPECT_CHEAP("checkpoint of what was restored");
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, sparse_open(self, variant->flags));
	for (unsigned i = PAGES; i-- > 0;)
		ASSERT_EQ(4000 + i, *word(self->heap, i));
	EXPECT_CHEAP("open at last");
}

/* A view of it, which keeps what it has read by clusters. */
TEST_F(sparse, and_so_do_those_of_a_view)
{
	struct thaw_image *image;
	struct thaw_view *view;
	uint64_t value;

	write_all(self->heap, 7);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, NULL, 0, NULL));
	ASSERT_EQ(0, thaw_image_open(self->path, &image, &self->error));
	ASSERT_EQ(0, thaw_view_open(image, 0, &view, &self->error)) TH_LOG("%s", self->error.text);
	calls = 0;
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t at =
			(uint64_t)((char *)word(self->heap, i) - (char *)thaw_base(self->heap));

		ASSERT_EQ(0, thaw_view_read(view, at, &value, sizeof(value), &self->error));
		EXPECT_EQ(7 + i, value);
	}
	thaw_view_close(view);
	thaw_image_close(image);
	EXPECT_CHEAP("view");
}

/* ---- The bitmap */

#define BITS 300000u

static bool model[BITS];

static void expect_same(struct __test_metadata *_metadata, const struct bitmap *map)
{
	uint64_t count = 0, next = bitmap_next(map, 0), clear = bitmap_next_clear(map, 0, BITS);

	for (uint64_t bit = 0; bit < BITS; bit++) {
		ASSERT_EQ(model[bit], bitmap_test(map, bit));
		count += model[bit];
		if (model[bit]) {
			ASSERT_EQ(bit, next);
			next = bitmap_next(map, bit + 1);
		} else {
			ASSERT_EQ(bit, clear);
			clear = bitmap_next_clear(map, bit + 1, BITS);
		}
	}
	ASSERT_EQ(UINT64_MAX, next);
	ASSERT_EQ(BITS, clear);
	ASSERT_EQ(count, bitmap_count(map));
}

TEST(a_bitmap_is_what_its_bits_are)
{
	struct bitmap map, other;
	uint64_t random = 88172645463325252ull;

	ASSERT_EQ(0, bitmap_init(&map, BITS));
	ASSERT_EQ(0, bitmap_init(&other, BITS));
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned i = 0; i < 20; i++) {
			uint64_t first, count;

			random ^= random << 13, random ^= random >> 7, random ^= random << 17;
			first = random % BITS;
			count = (random >> 32) % (i % 4 ? 200 : 70000);
			count = count < BITS - first ? count : BITS - first;
			if (i % 5 == 0 && count) {
				bitmap_clear_range(&map, first, count);
				memset(model + first, false, count);
			} else if (i % 5 == 1) {
				bitmap_set(&map, first);
				model[first] = true;
			} else if (i % 5 == 2) {
				bitmap_clear(&map, first);
				model[first] = false;
			} else if (i % 10 == 3) {
				bitmap_clear_all(&other);
				bitmap_set_range(&other, first, count);
				bitmap_merge(&map, &other);
				memset(model + first, true, count);
			} else {
				bitmap_set_range(&map, first, count);
				memset(model + first, true, count);
			}
		}
		expect_same(_metadata, &map);
		if (round % 7 == 6) {
			bitmap_clear_all(&map);
			memset(model, false, sizeof(model));
			expect_same(_metadata, &map);
		}
	}
	bitmap_free(&other);
	bitmap_free(&map);
}

/* So many parts are in use that they are given back when all is cleared. */
TEST(a_bitmap_of_much_is_empty_once_it_is_cleared)
{
	struct bitmap map;
	uint64_t most = memory_most();

	ASSERT_EQ(0, bitmap_init(&map, 1ull << 36));
	for (unsigned round = 0; round < 20; round++) {
		for (uint64_t i = 0; i < 1000; i++)
			bitmap_set(&map, (round * 1000 + i) * 3000017 % map.bits);
		ASSERT_EQ(1000, bitmap_count(&map));
		bitmap_clear_all(&map);
		ASSERT_EQ(0, bitmap_count(&map));
		ASSERT_EQ(UINT64_MAX, bitmap_next(&map, 0));
	}
#ifndef __SANITIZE_THREAD__ /* which has a shadow of each word that was ever looked at */
	EXPECT_LE(memory_most() - most, (uint64_t)24 << 20);
#endif
	bitmap_free(&map);
}

TEST_HARNESS_MAIN
