// SPDX-License-Identifier: GPL-2.0-only
/*
 * A heap lies where it was asked to lie if all of that is free, keeps what lies there if it is not,
 * and works the same either way.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mman.h>

#include "support.h"
#include "thaw.h"

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define ALIGNMENT (2ul << 20)
#define MAX_BYTES (64ul << 20)
#define GUARD_BYTES (16ul << 20)

FIXTURE(address)
{
	char *directory, *path, *wanted;
	struct thaw *heap;
	struct thaw_error error;
};
FIXTURE_VARIANT(address)
{
	const char *tracker, *backing;
	bool plain; /* without an image */
};
FIXTURE_VARIANT_ADD(address, kmod){.tracker = "kmod", .backing = "kmod"};
FIXTURE_VARIANT_ADD(address, wp_async){.tracker = "wp-async", .backing = "anonymous"};
FIXTURE_VARIANT_ADD(address, wp_sync){.tracker = "wp-sync", .backing = "anonymous"};
FIXTURE_VARIANT_ADD(address, sigsegv){.tracker = "mprotect", .backing = "memfd"};
FIXTURE_VARIANT_ADD(address,
		    no_image){.tracker = "wp-async", .backing = "anonymous", .plain = true};

static int open_at(struct thaw **heap, const char *path, void *address, struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path,
		.flags = THAW_CREATE,
		.max_bytes = MAX_BYTES,
		.guard_bytes = GUARD_BYTES,
		.address = address,
		.engine = "test",
	};
	int code;

	*heap = NULL;
	code = thaw_open(&options, heap, error);
	if (code)
		*heap = NULL;
	return code;
}

/* Somewhere that is free now, with room around it. */
static char *free_range(void)
{
	size_t bytes = MAX_BYTES + GUARD_BYTES + 4 * ALIGNMENT;
	char *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		support_die("mmap");
	munmap(at, bytes);
	return (char *)(((uintptr_t)at + 2 * ALIGNMENT - 1) & ~(ALIGNMENT - 1));
}

FIXTURE_SETUP(address)
{
	setenv("THAW_TRACKER", variant->tracker, 1);
	setenv("THAW_BACKING", variant->backing, 1);
	self->directory = support_directory();
	self->path = variant->plain ? NULL : support_format("%s/heap.thaw", self->directory);
	self->wanted = free_range();
	if (open_at(&self->heap, self->path, self->wanted, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
}
FIXTURE_TEARDOWN(address)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

/* Every page is written, read back, and after it nothing can be touched. */
static void use(struct __test_metadata *_metadata, struct thaw *heap)
{
	char *base = thaw_base(heap);

	ASSERT_EQ(0, (uintptr_t)base % ALIGNMENT);
	ASSERT_EQ(0, thaw_resize(heap, MAX_BYTES));
	for (size_t at = 0; at < MAX_BYTES; at += PAGE)
		base[at] = (char)(at / PAGE % 100 + 1);
	for (size_t at = 0; at < MAX_BYTES; at += PAGE)
		ASSERT_EQ((char)(at / PAGE % 100 + 1), base[at]);
	ASSERT_EQ(MAP_FAILED, mmap(base + MAX_BYTES, GUARD_BYTES, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
}

TEST_F(address, is_the_one_asked_for_if_it_is_free)
{
	ASSERT_EQ(self->wanted, thaw_base(self->heap)) TH_LOG("%s", self->error.text);
	use(_metadata, self->heap);
}

TEST_F(address, is_the_same_in_the_next_heap)
{
	int code;

	if (variant->plain)
		SKIP(return, "nothing of it comes back");
	ASSERT_EQ(0, thaw_resize(self->heap, MAX_BYTES));
	*(void **)thaw_base(self->heap) = (char *)thaw_base(self->heap) + 4711;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, NULL, 0, NULL));
	for (int round = 0; round < 5; round++) {
		thaw_close(self->heap);
		code = open_at(&self->heap, self->path, self->wanted, &self->error);
		ASSERT_EQ(0, code) TH_LOG("%s", self->error.text);
		ASSERT_EQ(self->wanted, thaw_base(self->heap));
		ASSERT_EQ(self->wanted + 4711, *(char **)thaw_base(self->heap));
	}
}

/* One page that is taken, at the start, in the middle, or in the guard at the very end. */
TEST_F(address, that_is_taken_is_left_alone)
{
	const size_t places[] = {0, MAX_BYTES / 2, MAX_BYTES + GUARD_BYTES - PAGE};

	for (int i = 0; i < 3; i++) {
		char *taken;

		thaw_close(self->heap);
		taken = mmap(self->wanted + places[i], PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		ASSERT_EQ(self->wanted + places[i], taken);
		*taken = 42;
		ASSERT_EQ(0, open_at(&self->heap, self->path, self->wanted, &self->error))
		TH_LOG("%s", self->error.text);
		EXPECT_NE(self->wanted, thaw_base(self->heap));
		use(_metadata, self->heap);
		EXPECT_EQ(42, *taken);
		munmap(taken, PAGE);
	}
	/* Just behind the guard is not in the way. */
	thaw_close(self->heap);
	ASSERT_NE(MAP_FAILED, mmap(self->wanted + MAX_BYTES + GUARD_BYTES, PAGE, PROT_READ,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	ASSERT_EQ(0, open_at(&self->heap, self->path, self->wanted, &self->error));
	EXPECT_EQ(self->wanted, thaw_base(self->heap));
}

/* Addresses that no program has: as good as taken. */
TEST_F(address, that_cannot_be_is_as_good_as_taken)
{
	const uintptr_t beyond[] = {-ALIGNMENT, 1ul << 62, 1ul << 47, (1ul << 47) - ALIGNMENT};

	for (int i = 0; i < 4; i++) {
		thaw_close(self->heap);
		ASSERT_EQ(0, open_at(&self->heap, self->path, (void *)beyond[i], &self->error))
		TH_LOG("%s", self->error.text);
		use(_metadata, self->heap);
	}
}

TEST_F(address, has_to_be_a_multiple_of_2_mib)
{
	thaw_close(self->heap);
	EXPECT_EQ(-EINVAL, open_at(&self->heap, self->path, self->wanted + PAGE, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "2 MiB"));
	EXPECT_EQ(-EINVAL,
		  open_at(&self->heap, self->path, self->wanted + ALIGNMENT / 2, &self->error));
}

TEST_HARNESS_MAIN
