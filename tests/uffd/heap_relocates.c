// SPDX-License-Identifier: GPL-2.0-only
/*
 * heap_relocates.c - a file that has become too long is shortened while a restored heap still reads
 * from it: pages that have not arrived yet are moved under it, and arrive all the same.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>

#include "support.h"
#include "thaw.h"

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define HEAP (128u << 20)
#define PAGES (HEAP / PAGE)
#define MIB (1u << 20)

FIXTURE(relocates)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
	_Atomic bool stop;
	_Atomic unsigned wrong, read;
};
FIXTURE_VARIANT(relocates)
{
	const char *backing;
};
FIXTURE_VARIANT_ADD(relocates, memfd){.backing = "memfd"};
FIXTURE_VARIANT_ADD(relocates, kmod){.backing = "kmod"};
FIXTURE_VARIANT_ADD(relocates, anonymous){.backing = "anonymous"};

static volatile uint64_t *page_of(struct thaw *heap, unsigned page)
{
	return (volatile uint64_t *)((char *)thaw_base(heap) + (size_t)page * PAGE);
}

static int heap_open(struct __test_metadata *_metadata, FIXTURE_DATA(relocates) * self)
{
	const struct thaw_options options = {.image = self->path,
					     .flags = THAW_CREATE,
					     .max_bytes = HEAP,
					     .retain = 1,
					     .engine = "test"};

	(void)_metadata;
	return thaw_open(&options, &self->heap, &self->error);
}

/* A file of 128 MiB, of which every 16th page is in use. */
FIXTURE_SETUP(relocates)
{
	setenv("THAW_BACKING", variant->backing, 1);
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (heap_open(_metadata, self) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, HEAP));
	for (unsigned page = 0; page < PAGES; page++)
		*page_of(self->heap, page) = page + 1;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, "s", 2, NULL));
	for (unsigned page = 0; page < PAGES; page++)
		if (page % 16)
			*page_of(self->heap, page) = 0;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, "s", 2, NULL));
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_LT(HEAP, support_size(self->path));
}
FIXTURE_TEARDOWN(relocates)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

/* Touch every page that is in use, while the first commits move them. */
static void *reader(void *arg)
{
	FIXTURE_DATA(relocates) *self = arg;

	for (unsigned i = 0; i < PAGES / 16; i++) {
		unsigned page = i * 37 % (PAGES / 16) * 16;

		self->wrong += *page_of(self->heap, page) != page + 1;
		self->read++;
	}
	self->stop = true;
	return NULL;
}

TEST_F(relocates, under_a_heap_that_still_reads)
{
	unsigned commits = 0;
	pthread_t thread;

	ASSERT_EQ(0, heap_open(_metadata, self)) TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, pthread_create(&thread, NULL, reader, self));
	/* What the start touched is stored after two seconds, and moved, too, if need be. */
	for (; commits < 100 || !self->stop ||
	       (commits < 400 && support_size(self->path) >= 48 * MIB);
	     commits++) {
		*page_of(self->heap, 1) = commits + 1;
		ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, "s", 2, NULL));
	}
	pthread_join(thread, NULL);
	TH_LOG("%u commits, %u KiB of file", commits, (unsigned)(support_size(self->path) >> 10));
	EXPECT_EQ(PAGES / 16, atomic_load(&self->read));
	EXPECT_EQ(0, atomic_load(&self->wrong));
	EXPECT_GT(48 * MIB, support_size(self->path));
	thaw_close(self->heap);
	ASSERT_EQ(0, heap_open(_metadata, self)) TH_LOG("%s", self->error.text);
	for (unsigned page = 0; page < PAGES; page++)
		self->wrong += *page_of(self->heap, page) != (page == 1	  ? commits
							      : page % 16 ? 0
									  : page + 1);
	EXPECT_EQ(0, atomic_load(&self->wrong));
	EXPECT_EQ(0, thaw_image_verify(self->path, NULL, NULL, &self->error));
}

TEST_HARNESS_MAIN
