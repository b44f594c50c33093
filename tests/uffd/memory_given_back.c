// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that its owner gives back (thaw_release()), with each backend: it is zero, takes neither memory nor bytes of
 * the image, is not read only to be dropped, and never comes back; what is written there later is kept; a generation
 * that was captured before has what was there; and what lies beside it stays.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#include "image/image.h"
#include "stored_pages.h"
#include "support.h"
#include "thaw.h"

#define PAGES 2208u /* enough of them to be copied before a capture, too */
#define FIRST 100u  /* of what is given back; not where a cluster begins */
#define END 1900u

FIXTURE(given)
{
	char *directory, *image;
	struct thaw *heap;
	char *base;
	size_t page_bytes, bytes;
	bool memory_stays;
};
FIXTURE_VARIANT(given)
{
	const char *delivery, *tracker, *page_bytes;
};
FIXTURE_VARIANT_ADD(given, kmod){"kmod", "kmod"};
FIXTURE_VARIANT_ADD(given, userfaultfd_wp_async){"userfaultfd", "wp-async"};
FIXTURE_VARIANT_ADD(given, userfaultfd_wp_sync){"userfaultfd", "wp-sync"};
FIXTURE_VARIANT_ADD(given, userfaultfd_mprotect){"userfaultfd", "mprotect"};
FIXTURE_VARIANT_ADD(given, user_mode_wp_async){"user-mode", "wp-async"};
FIXTURE_VARIANT_ADD(given, user_mode_wp_sync){"user-mode", "wp-sync"};
FIXTURE_VARIANT_ADD(given, user_mode_mprotect){"user-mode", "mprotect"};
FIXTURE_VARIANT_ADD(given, sigsegv){"sigsegv", "mprotect"};
FIXTURE_VARIANT_ADD(given, eager){"eager", "mprotect"};
FIXTURE_VARIANT_ADD(given, pages_of_16_kib){"userfaultfd", "wp-async", "16384"};
FIXTURE_VARIANT_ADD(given, sigsegv_pages_of_16_kib){"sigsegv", "mprotect", "16384"};

static unsigned refusals; /* of zero pages, still to come */

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	void *argument;

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	if (request != UFFDIO_ZEROPAGE || !refusals)
		return __real_ioctl(fd, request, argument);
	refusals--;
	errno = ENOMEM;
	return -1;
}

static char expected(size_t at)
{
	return (char)(1 + (at * 2654435761u >> 7) % 251);
}

static int open_heap(struct thaw **heap, const char *image, struct thaw_error *error)
{
	struct thaw_options options = {
		.image = image, .flags = THAW_CREATE, .max_bytes = 256u << 20, .engine = "test"};

	*heap = NULL;
	return thaw_open(&options, heap, error);
}

static void fill(char *base, size_t from, size_t to)
{
	for (size_t at = from; at < to; at += 64)
		base[at] = expected(at);
}

/* The first place in a range that has not what fill() left there; or `to`. */
static size_t first_other(const char *base, size_t from, size_t to)
{
	for (; from < to; from += 64)
		if (base[from] != expected(from))
			break;
	return from < to ? from : to;
}

static size_t first_not_zero(const char *base, size_t from, size_t to)
{
	for (; from < to && !base[from]; from++)
		;
	return from;
}

#define AT(page) ((page)*self->page_bytes)
#define EXPECT_FILLED(from, to) EXPECT_EQ(to, first_other(self->base, from, to))
#define EXPECT_ZERO(from, to) EXPECT_EQ(to, first_not_zero(self->base, from, to))

FIXTURE_SETUP(given)
{
	struct thaw_status status;
	struct thaw_error error;
	int code;

	setenv("THAW_DELIVERY", variant->delivery, 1);
	setenv("THAW_TRACKER", variant->tracker, 1);
	if (variant->page_bytes)
		setenv("THAW_PAGE_BYTES", variant->page_bytes, 1);
	self->page_bytes = variant->page_bytes ? strtoul(variant->page_bytes, NULL, 10)
					       : (size_t)sysconf(_SC_PAGESIZE);
	self->bytes = PAGES * self->page_bytes;
	self->directory = support_directory();
	self->image = support_format("%s/heap.thaw", self->directory);
	self->memory_stays = !strcmp(variant->delivery, "kmod");
	code = open_heap(&self->heap, self->image, &error);
	if (code == THAW_EKERNEL) {
		SKIP(return, "%s", error.text);
	}
	ASSERT_EQ(0, code) TH_LOG("%s", error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, self->bytes));
	self->base = thaw_base(self->heap);
	fill(self->base, 0, self->bytes);
	thaw_status(self->heap, &status);
	ASSERT_STREQ(variant->delivery, status.delivery);
	ASSERT_STREQ(variant->tracker, status.tracker);
}
FIXTURE_TEARDOWN(given)
{
	thaw_close(self->heap);
	free(self->image);
	support_remove(self->directory);
}

#define CHECKPOINT() ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, "s", 2, NULL))
#define REOPEN()                                                          \
	do {                                                              \
		struct thaw_error error;                                  \
                                                                          \
		thaw_close(self->heap);                                   \
		ASSERT_EQ(0, open_heap(&self->heap, self->image, &error)) \
		TH_LOG("%s", error.text);                                 \
		self->base = thaw_base(self->heap);                       \
	} while (0)
#define RELEASE(first, end) ASSERT_EQ(0, thaw_release(self->heap, AT(first), AT(end) - AT(first)))

static uint64_t status_pages(const char *name)
{
	char line[256];
	unsigned long long kib = 0;
	FILE *file = fopen("/proc/self/status", "re");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			kib = strtoull(line + strlen(name) + 1, NULL, 10);
	if (file)
		fclose(file);
	return kib << 10;
}

static uint64_t resident(void)
{
	return status_pages("RssAnon") + status_pages("RssShmem");
}

TEST_F(given, is_zero_and_takes_no_memory)
{
	uint64_t before = resident(), now;

	RELEASE(FIRST, END);
	now = resident();
	if (!self->memory_stays)
		EXPECT_LE(now + AT(END - FIRST) * 9 / 10, before);
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_ZERO(AT(FIRST), AT(END));
	EXPECT_FILLED(AT(END), self->bytes);
}

TEST_F(given, is_not_stored_any_more_and_never_comes_back)
{
	CHECKPOINT();
	EXPECT_EQ(PAGES, stored_pages(self->heap));
	RELEASE(FIRST, END);
	CHECKPOINT();
	EXPECT_EQ(PAGES - (END - FIRST), stored_pages(self->heap));
	REOPEN();
	EXPECT_ZERO(AT(FIRST), AT(END));
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_FILLED(AT(END), self->bytes);
}

/* Nothing has arrived: it is not read, and its neighbours in the same clusters come all the same. */
TEST_F(given, is_not_read_to_be_dropped)
{
	struct thaw_status status;
	uint64_t before;

	CHECKPOINT();
	REOPEN();
	thaw_status(self->heap, &status);
	before = status.pages_restored;
	RELEASE(FIRST, END);
	thaw_status(self->heap, &status);
	if (strcmp(variant->delivery, "sigsegv") && strcmp(variant->delivery, "kmod"))
		EXPECT_EQ(before, status.pages_restored);
	EXPECT_ZERO(AT(FIRST), AT(END));
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_FILLED(AT(END), self->bytes);
	CHECKPOINT();
	EXPECT_EQ(PAGES - (END - FIRST), stored_pages(self->heap));
	REOPEN();
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_ZERO(AT(FIRST), AT(END));
}

/* In a heap that was restored, with pages that have arrived, some of them written, and some that have not. */
TEST_F(given, of_a_restored_heap)
{
	CHECKPOINT();
	REOPEN();
	EXPECT_FILLED(AT(50), AT(600));
	memset(self->base + AT(300), 7, AT(200));
	RELEASE(FIRST, END);
	EXPECT_ZERO(AT(FIRST), AT(END));
	fill(self->base, AT(400), AT(500));
	CHECKPOINT();
	fill(self->base, AT(1000), AT(1010));
	CHECKPOINT();
	REOPEN();
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_ZERO(AT(FIRST), AT(400));
	EXPECT_FILLED(AT(400), AT(500));
	EXPECT_ZERO(AT(500), AT(1000));
	EXPECT_FILLED(AT(1000), AT(1010));
	EXPECT_ZERO(AT(1010), AT(END));
	EXPECT_FILLED(AT(END), self->bytes);
}

TEST_F(given, again_and_again)
{
	for (unsigned round = 0; round < 4; round++) {
		RELEASE(FIRST, END);
		RELEASE(FIRST, END);
		EXPECT_ZERO(AT(FIRST), AT(END));
		if (round != 1)
			CHECKPOINT();
		fill(self->base, AT(FIRST + round), AT(END - round));
		if (round != 2)
			CHECKPOINT();
	}
	REOPEN();
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_ZERO(AT(FIRST), AT(FIRST + 3));
	EXPECT_FILLED(AT(FIRST + 3), AT(END - 3));
	EXPECT_ZERO(AT(END - 3), AT(END));
}

/* Once it is stored, it is not written: nothing dirty means nothing written. */
TEST_F(given, leaves_nothing_dirty)
{
	struct thaw_result result;

	CHECKPOINT();
	RELEASE(FIRST, END);
	CHECKPOINT();
	EXPECT_ZERO(AT(FIRST), AT(END));
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, "s", 2, &result));
	EXPECT_TRUE(result.unchanged);
	RELEASE(FIRST, END);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, "s", 2, &result));
	EXPECT_TRUE(result.unchanged);
}

/* Between the beginning of a checkpoint and its capture: the generation is the moment of that. */
TEST_F(given, before_a_capture)
{
	CHECKPOINT();
	fill(self->base, 0, self->bytes);
	self->base[AT(FIRST) + 1] = 1;
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
	RELEASE(FIRST, 1000);
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	RELEASE(1000, END);
	ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_PORTABLE, "s", 2));
	ASSERT_EQ(THAW_DONE, thaw_checkpoint_wait(self->heap));
	thaw_checkpoint_poll(self->heap, NULL);
	REOPEN();
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_ZERO(AT(FIRST), AT(END));
	EXPECT_FILLED(AT(END), self->bytes);
}

/* After the capture, while the generation is being written: that has what was there. */
TEST_F(given, after_a_capture)
{
	struct thaw_result result = {0};

	CHECKPOINT();
	for (size_t at = 0; at < self->bytes; at += 64)
		self->base[at] = (char)~expected(at);
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	fill(self->base, 0, self->bytes);
	ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_PORTABLE, "s", 2));
	RELEASE(FIRST, END);
	EXPECT_ZERO(AT(FIRST), AT(END));
	ASSERT_EQ(THAW_DONE, thaw_checkpoint_wait(self->heap));
	thaw_checkpoint_poll(self->heap, &result);
	ASSERT_EQ(0, result.code);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(&self->heap, self->image, NULL));
	self->base = thaw_base(self->heap);
	EXPECT_FILLED(0, self->bytes);
	RELEASE(FIRST, END);
	CHECKPOINT();
	REOPEN();
	EXPECT_ZERO(AT(FIRST), AT(END));
}

/* A checkpoint that fails takes nothing of it back. */
TEST_F(given, when_a_checkpoint_fails)
{
	CHECKPOINT();
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
	RELEASE(FIRST, END);
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	ASSERT_EQ(0, thaw_checkpoint_abandon(self->heap, -EIO, "for this test"));
	thaw_checkpoint_poll(self->heap, NULL);
	CHECKPOINT();
	REOPEN();
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_ZERO(AT(FIRST), AT(END));
}

static int find_page(void *arg, const struct thaw_page_run *run)
{
	uint64_t *offset = arg;

	if (run->kind == THAW_PAGE_STORED && run->first <= FIRST + 5 &&
	    FIRST + 5 < run->first + run->pages)
		*offset = run->offset + (FIRST + 5 - run->first) * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

/* Its bytes in the image are damaged: nobody needs them any more. */
TEST_F(given, although_the_image_is_damaged_there)
{
	struct thaw_image *image;
	uint64_t offset = 0;

	if (variant->page_bytes || !strcmp(variant->delivery, "eager") ||
	    !strcmp(variant->delivery, "sigsegv"))
		SKIP(return,
			   "damage is found before anything can be given back, or another page is meant");
	CHECKPOINT();
	ASSERT_EQ(0, thaw_image_of(self->heap, &image, NULL));
	ASSERT_EQ(0, thaw_image_pages(image, 0, find_page, &offset, NULL));
	thaw_image_close(image);
	ASSERT_LT(0, offset);
	support_flip(self->image, offset + 64, 1);
	REOPEN();
	RELEASE(FIRST, END);
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_ZERO(AT(FIRST), AT(END));
	self->base[AT(FIRST + 5)] = 1; /* what was there would be taken for what is stored */
	CHECKPOINT();
	REOPEN();
	EXPECT_FILLED(0, AT(FIRST));
	EXPECT_EQ(1, self->base[AT(FIRST + 5)]);
	EXPECT_ZERO(AT(FIRST + 5) + 1, AT(END));
}

struct neighbour {
	const char *base;
	size_t from, to;
	_Atomic bool stop;
	_Atomic unsigned rounds;
	size_t wrong; /* 0: none */
};

static void *read_on(void *arg)
{
	struct neighbour *neighbour = arg;

	do {
		size_t other = first_other(neighbour->base, neighbour->from, neighbour->to);

		if (other != neighbour->to)
			neighbour->wrong = other;
		neighbour->rounds++;
	} while (!neighbour->stop);
	return NULL;
}

/* Another thread touches what lies beside it, while pages of the same clusters are on their way. */
TEST_F(given, while_its_neighbours_arrive)
{
	struct neighbour neighbour = {0};
	pthread_t thread;

	CHECKPOINT();
	REOPEN();
	neighbour = (struct neighbour){.base = self->base, .from = AT(1000), .to = AT(1001)};
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_on, &neighbour));
	for (unsigned page = FIRST; page + 1 < END; page += 2) {
		if (page == 1000)
			continue;
		RELEASE(page, page + 1);
		if (page % 100 == 0)
			fill(self->base, AT(page), AT(page + 1));
	}
	while (neighbour.rounds < 2)
		sched_yield();
	neighbour.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, neighbour.wrong);
	CHECKPOINT();
	for (unsigned again = 0; again < 2; again++) {
		for (unsigned page = FIRST; page + 1 < END; page += 2) {
			if (page == 1000 || page % 100 == 0) {
				EXPECT_FILLED(AT(page), AT(page + 1));
			} else {
				EXPECT_ZERO(AT(page), AT(page + 1));
			}
			EXPECT_FILLED(AT(page + 1), AT(page + 2));
		}
		REOPEN();
	}
}

/* Of a heap that has grown since it was restored. */
TEST_F(given, across_the_end_of_what_was_restored)
{
	CHECKPOINT();
	REOPEN();
	ASSERT_EQ(0, thaw_resize(self->heap, 2 * self->bytes));
	fill(self->base, self->bytes, 2 * self->bytes);
	ASSERT_EQ(0, thaw_release(self->heap, AT(END), 2 * AT(PAGES - END)));
	EXPECT_FILLED(0, AT(END));
	EXPECT_ZERO(AT(END), AT(2 * PAGES - END));
	EXPECT_FILLED(AT(2 * PAGES - END), 2 * self->bytes);
	CHECKPOINT();
	REOPEN();
	EXPECT_FILLED(0, AT(END));
	EXPECT_ZERO(AT(END), AT(2 * PAGES - END));
	EXPECT_FILLED(AT(2 * PAGES - END), 2 * self->bytes);
}

TEST_F(given, whole_pages_only)
{
	ASSERT_EQ(0, thaw_release(self->heap, AT(10) + 1, AT(2)));
	EXPECT_FILLED(0, AT(11));
	EXPECT_ZERO(AT(11), AT(12));
	EXPECT_FILLED(AT(12), self->bytes);
	EXPECT_EQ(0, thaw_release(self->heap, AT(20) + 64, self->page_bytes));
	EXPECT_EQ(0, thaw_release(self->heap, self->bytes, 0));
	EXPECT_FILLED(AT(12), self->bytes);
	EXPECT_EQ(-ERANGE, thaw_release(self->heap, self->bytes, 1));
	EXPECT_EQ(-ERANGE, thaw_release(self->heap, AT(1), SIZE_MAX));
}

TEST_F(given, although_the_kernel_refuses_it_for_a_while)
{
	CHECKPOINT();
	REOPEN();
	EXPECT_FILLED(0, AT(500));
	refusals = 20;
	RELEASE(FIRST, END);
	EXPECT_ZERO(AT(FIRST), AT(END));
	EXPECT_FILLED(0, AT(FIRST));
}

TEST(a_heap_without_an_image)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct thaw *heap;
	char *base;

	ASSERT_EQ(0, open_heap(&heap, NULL, NULL));
	ASSERT_EQ(0, thaw_resize(heap, 1u << 20));
	base = thaw_base(heap);
	fill(base, 0, 1u << 20);
	EXPECT_EQ(0, thaw_release(heap, page, (1u << 20) - 2 * page));
	EXPECT_EQ(page, first_other(base, 0, page));
	EXPECT_EQ((1u << 20) - page, first_not_zero(base, page, (1u << 20) - page));
	thaw_close(heap);
}

TEST_HARNESS_MAIN
