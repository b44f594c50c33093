// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel module's list of written pages is harvested whole: across the end of the ring and of
 * its counters, with overflow, while pages are written, and when a call fails or is interrupted
 * half way. The module is played by this test (what it answers is in uffd/kmod.h), so it runs
 * everywhere.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "kmod.h"
#include "sys.h"
#include "tracker.h"

#define PAGES 100000u
#define ENTRIES 64u

int __wrap_sys_ioctl_once(int fd, unsigned long request, void *argument);

/* The module's side. */
static struct {
	pthread_mutex_t lock;
	struct thaw_kmod_ring *ring;
	struct thaw_kmod_dirty *entries;
	bool logged[PAGES], overflow[PAGES];
	int fail, after;	    /* the error of the next call, and how much it does before */
	unsigned resets, overflows; /* calls */
} module = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void module_write(uint64_t page)
{
	struct thaw_kmod_ring *ring = module.ring;

	pthread_mutex_lock(&module.lock);
	if (module.logged[page]) {
		pthread_mutex_unlock(&module.lock);
		return;
	}
	module.logged[page] = true;
	if (ring->dirty - ring->reset == ring->entries) {
		module.overflow[page] = true;
		__atomic_store_n(&ring->overflowed, ring->overflowed + 1, __ATOMIC_RELEASE);
	} else {
		module.entries[ring->dirty % ring->entries] =
			(struct thaw_kmod_dirty){.flags = THAW_KMOD_DIRTY, .page = page};
		__atomic_store_n(&ring->dirty, ring->dirty + 1, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&module.lock);
}

static bool fails_now(unsigned done)
{
	return module.fail && done >= (unsigned)module.after;
}

static int fail_once(void)
{
	int code = module.fail;

	module.fail = 0;
	return code;
}

static int module_reset(struct thaw_kmod_reset *reset)
{
	struct thaw_kmod_ring *ring = module.ring;

	module.resets++;
	while (ring->reset != ring->dirty) {
		struct thaw_kmod_dirty *entry = &module.entries[ring->reset % ring->entries];

		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & THAW_KMOD_HARVESTED))
			break;
		if (fails_now(reset->done))
			return fail_once();
		module.logged[entry->page] = false;
		__atomic_store_n(&ring->reset, ring->reset + 1, __ATOMIC_RELEASE);
		reset->done++;
	}
	return module.fail ? fail_once() : 0;
}

static int module_overflow(struct thaw_kmod_overflow *overflow)
{
	uint64_t *pages = (void *)(uintptr_t)overflow->pages;

	module.overflows++;
	for (uint64_t page = overflow->first; page < PAGES && overflow->done < overflow->room;
	     page++) {
		if (!module.overflow[page])
			continue;
		if (fails_now(overflow->done))
			return fail_once();
		module.overflow[page] = module.logged[page] = false;
		pages[overflow->done++] = page;
		__atomic_store_n(&module.ring->overflowed, module.ring->overflowed - 1,
				 __ATOMIC_RELEASE);
	}
	return module.fail ? fail_once() : 0;
}

int __wrap_sys_ioctl_once(int fd, unsigned long request, void *argument)
{
	int code = -ENOTTY;

	(void)fd;
	pthread_mutex_lock(&module.lock);
	if (request == THAW_KMOD_RESET)
		code = module_reset(argument);
	else if (request == THAW_KMOD_OVERFLOW)
		code = module_overflow(argument);
	pthread_mutex_unlock(&module.lock);
	return code;
}

FIXTURE(ring)
{
	struct region region;
	struct tracker tracker;
	struct bitmap pages;
};
FIXTURE_SETUP(ring)
{
	const size_t bytes = THAW_KMOD_ENTRIES_AT + ENTRIES * sizeof(struct thaw_kmod_dirty);
	struct thaw_error error;

	self->region = (struct region){
		.page_bytes = 4096,
		.kernel_page_bytes = 4096,
		.max_bytes = PAGES * 4096ull,
		.bytes = PAGES * 4096ull,
		.backends = {.delivery = DELIVERY_KMOD,
			     .tracker = TRACKER_KMOD,
			     .backing = BACKING_KMOD},
		.uffd = -1,
		.memfd = -1,
		.image_fd = -1,
	};
	self->region.device = memfd_create("ring", MFD_CLOEXEC);
	ASSERT_LE(0, self->region.device);
	if (ftruncate(self->region.device, (off_t)(THAW_KMOD_RING_OFFSET + bytes)))
		SKIP(return, "no memory can be mapped at the module's offset: %s", strerror(errno));
	module.ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, self->region.device,
			   (off_t)THAW_KMOD_RING_OFFSET);
	ASSERT_NE(MAP_FAILED, module.ring);
	module.entries = (void *)((char *)module.ring + THAW_KMOD_ENTRIES_AT);
	/* It will pass 2^32 soon. */
	*module.ring = (struct thaw_kmod_ring){
		.entries = ENTRIES, .dirty = UINT32_MAX - 20, .reset = UINT32_MAX - 20};
	ASSERT_EQ(0, tracker_create(&self->tracker, &self->region, &error))
	TH_LOG("%s", error.text);
	ASSERT_EQ(0, bitmap_init(&self->pages, PAGES));
}
FIXTURE_TEARDOWN(ring)
{
	tracker_destroy(&self->tracker);
	bitmap_free(&self->pages);
	close(self->region.device);
}

/* Every page below `end` whose number is a multiple, and no other. */
static bool collected(const struct bitmap *pages, unsigned end, unsigned multiple)
{
	for (unsigned page = 0; page < PAGES; page++)
		if (bitmap_test(pages, page) != (page < end && page % multiple == 0))
			return false;
	return true;
}

TEST_F(ring, what_fits)
{
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned page = 0; page < 300; page += 10)
			module_write(page);
		EXPECT_EQ(30, tracker_count(&self->tracker, PAGES));
		EXPECT_EQ(7, tracker_count(&self->tracker, 7));
		bitmap_clear_all(&self->pages);
		ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
		EXPECT_TRUE(collected(&self->pages, 300, 10));
		EXPECT_EQ(0, tracker_count(&self->tracker, PAGES));
	}
	/* What costs nothing: nothing was written. */
	module.resets = 0;
	ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
	EXPECT_EQ(0, module.resets + module.overflows);
}

TEST_F(ring, what_does_not)
{
	for (unsigned page = 0; page < 6000; page += 3)
		module_write(page);
	EXPECT_EQ(2000, tracker_count(&self->tracker, PAGES));
	ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
	EXPECT_TRUE(collected(&self->pages, 6000, 3));
	EXPECT_EQ(0, tracker_count(&self->tracker, PAGES));
}

/* After a failure nothing is lost if the caller puts back what it got, as checkpoints do. */
TEST_F(ring, calls_that_fail)
{
	static const int errors[] = {-EINTR, -ENOMEM};

	for (unsigned i = 0; i < 2; i++)
		for (int after = 0; after < 700; after += after < 70 ? 1 : 97) {
			int code;

			for (unsigned page = 0; page < 6000; page += 3)
				module_write(page);
			module.fail = errors[i];
			module.after = after;
			bitmap_clear_all(&self->pages);
			code = tracker_collect(&self->tracker, &self->pages);
			EXPECT_EQ(errors[i] == -EINTR ? 0 : errors[i], code);
			if (code) {
				tracker_put_back(&self->tracker, &self->pages);
				EXPECT_LE(2000, tracker_count(&self->tracker, PAGES));
				bitmap_clear_all(&self->pages);
				ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
			}
			ASSERT_TRUE(collected(&self->pages, 6000, 3))
			TH_LOG("error %d after %d", errors[i], after);
			EXPECT_EQ(0, tracker_count(&self->tracker, PAGES));
		}
}

/* A program that scribbles over the ring harms itself only. */
TEST_F(ring, a_page_that_cannot_be)
{
	module_write(5);
	module.entries[(module.ring->dirty - 1) % ENTRIES].page = 1ull << 60;
	module.fail = -EINVAL;
	EXPECT_EQ(-EINVAL, tracker_collect(&self->tracker, &self->pages));
	EXPECT_EQ(0, bitmap_count(&self->pages));
}

static _Atomic uint64_t versions[PAGES];
static _Atomic bool stop;

/* As a program: the contents first, then what the page table would do. */
static void *write_all_the_time(void *arg)
{
	uint64_t random = 88172645463325252ull;

	(void)arg;
	while (!stop) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		atomic_fetch_add(&versions[random % PAGES], 1);
		module_write(random % PAGES);
	}
	return NULL;
}

/* What was saved is what is there in the end: no write was passed over. */
TEST_F(ring, while_pages_are_written)
{
	static uint64_t saved[PAGES];
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, write_all_the_time, NULL));
	for (unsigned round = 0; round < 300; round++) {
		if (round == 298) {
			stop = true;
			pthread_join(thread, NULL);
		}
		bitmap_clear_all(&self->pages);
		ASSERT_EQ(0, tracker_collect(&self->tracker, &self->pages));
		for (uint64_t page = 0; (page = bitmap_next(&self->pages, page)) != UINT64_MAX;
		     page++)
			saved[page] = versions[page];
	}
	for (unsigned page = 0; page < PAGES; page++)
		ASSERT_EQ(atomic_load(&versions[page]), saved[page]);
	EXPECT_EQ(0, tracker_count(&self->tracker, PAGES));
}

TEST_HARNESS_MAIN
