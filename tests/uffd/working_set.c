// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a start touches first is kept with the image, in its order, and can be streamed in by the next
 * start before it is touched.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "image/store.h"
#include "support.h"
#include "thaw.h"

#define PLACE 4096u /* what the tests count the heap in */
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define HEAP (64u << 20)
#define CLUSTER (65536u / PAGE)
#define FULL 2.1 /* seconds after which a recording is one of a whole start */

struct start {
	char *directory, *path;
	struct thaw *heap;
	double opened;
	struct thaw_error error;
	uint64_t *pages; /* as stored */
	uint64_t generation, offset;
	int count;
};

static int open_heap(struct start *start, unsigned flags)
{
	struct thaw_options options = {.image = start->path,
				       .flags = flags,
				       .max_bytes = 2 * HEAP,
				       .engine = "test",
				       .retain = 3};

	thaw_close(start->heap);
	start->heap = NULL;
	start->opened = support_seconds();
	return thaw_open(&options, &start->heap, &start->error);
}

static size_t *word_at(struct start *start, uint64_t place)
{
	return (size_t *)((char *)thaw_base(start->heap) + place * PLACE);
}

/* What the image calls it. */
static uint64_t page_of(uint64_t place)
{
	return place * PLACE / PAGE;
}

/* Read one; false if it is not what it has to be. */
static bool touch(struct start *start, uint64_t place)
{
	return *(volatile size_t *)word_at(start, place) == place + 1;
}

/* A generation that has something new, in a place that no test touches otherwise. */
static int save(struct start *start, enum thaw_reason reason)
{
	static size_t value;
	struct thaw_result result;
	int code;

	word_at(start, 0)[1] = ++value;
	code = thaw_checkpoint(start->heap, reason, NULL, 0, &result);
	return code ? code : result.unchanged;
}

static void wait_until_full(struct start *start)
{
	double left = start->opened + FULL - support_seconds();

	if (left > 0)
		support_sleep(left);
}

/* So far, was the start too short to count? On a busy machine it may not have been. */
static bool was_short(const struct start *start)
{
	return support_seconds() - start->opened < 1.9;
}

/* What the image says. */
static int read_set(struct start *start)
{
	struct image_options options = {.path = start->path, .read_only = true};
	struct image *image;

	free(start->pages);
	start->pages = NULL;
	start->count = image_open(&options, &image, NULL, &start->error);
	if (start->count)
		return start->count;
	start->offset = image->record.working_set.offset;
	start->count =
		image_read_working_set(image, &start->pages, &start->generation, &start->error);
	image_close(image);
	return start->count;
}

/* Of the set that was read: how many pages it names. */
static unsigned set_pages(const struct start *start)
{
	unsigned pages = 0;

	for (int i = 0; i < start->count; i++)
		pages += (unsigned)__builtin_popcount(set_entry_mask(start->pages[i])) * CLUSTER /
			 16;
	return pages;
}

#define EXPECT_SET(wanted, wanted_count)                                                   \
	do {                                                                               \
		ASSERT_EQ(wanted_count, read_set(start));                                  \
		for (int i_ = 0; i_ < start->count; i_++) {                                \
			EXPECT_EQ(page_of((wanted)[i_]), set_entry_page(start->pages[i_])) \
			{                                                                  \
				TH_LOG("%d of %d", i_, start->count);                      \
			}                                                                  \
		}                                                                          \
	} while (0)

/* THAW_EKERNEL: this kernel cannot; else a heap full of pages, restored, of which none was touched. */
static int start_begin(struct start *start)
{
	int code;

	start->directory = support_directory();
	start->path = support_format("%s/heap.thaw", start->directory);
	code = open_heap(start, THAW_CREATE);
	if (!code)
		code = thaw_resize(start->heap, HEAP);
	for (size_t place = 0; !code && place < HEAP / PLACE; place++)
		*word_at(start, place) = place + 1;
	if (!code)
		code = save(start, THAW_REASON_REQUEST);
	return code ? code : open_heap(start, 0);
}

static void start_end(struct start *start)
{
	thaw_close(start->heap);
	free(start->pages);
	free(start->path);
	support_remove(start->directory);
}

FIXTURE(set)
{
	struct start start;
};
FIXTURE_SETUP(set)
{
	int code = start_begin(&self->start);

	if (code == THAW_EKERNEL)
		SKIP(return, "%s", self->start.error.text);
	ASSERT_EQ(0, code);
}
FIXTURE_TEARDOWN(set)
{
	start_end(&self->start);
}

/* Where the kinds of memory and tracking differ. */
FIXTURE(kinds)
{
	struct start start;
};
FIXTURE_VARIANT(kinds)
{
	const char *backing, *tracker, *reader, *inject;
};
FIXTURE_VARIANT_ADD(kinds, kmod){.backing = "kmod", .tracker = "kmod"};
FIXTURE_VARIANT_ADD(kinds, anonymous){.backing = "anonymous", .tracker = "wp-async"};
FIXTURE_VARIANT_ADD(kinds, sigsegv){.backing = "memfd", .tracker = "mprotect"};
FIXTURE_VARIANT_ADD(kinds, anonymous_wp_sync){.backing = "anonymous", .tracker = "wp-sync"};
/* Threads; the page cache has the image, or seems to have nothing of it. */
FIXTURE_VARIANT_ADD(kinds, anonymous_threads_cached){
	.backing = "anonymous", .tracker = "wp-async", .reader = "threads"};
FIXTURE_VARIANT_ADD(kinds, anonymous_threads){.backing = "anonymous",
					      .tracker = "wp-async",
					      .reader = "threads",
					      .inject = "cached:EAGAIN:0:0"};
FIXTURE_SETUP(kinds)
{
	int code;

	setenv("THAW_BACKING", variant->backing, 1);
	setenv("THAW_TRACKER", variant->tracker, 1);
	setenv("THAW_READER", variant->reader ? variant->reader : "", 1);
	setenv("THAW_INJECT", variant->inject ? variant->inject : "", 1);
	code = start_begin(&self->start);
	if (code == THAW_EKERNEL)
		SKIP(return, "%s", self->start.error.text);
	ASSERT_EQ(0, code);
}
FIXTURE_TEARDOWN(kinds)
{
	start_end(&self->start);
}

/* In no order that is a stream; some clusters twice. The first is where save() writes. */
static const uint64_t touched[] = {0,	 9007, 300, 15000, 301, 4711, 4705, 1234, 9001, 8000,
				   7983, 160,  77,  16383, 303, 0,    5000, 5100, 2222};
static const uint64_t first_touches[] = {0,    9007, 300, 15000, 4711, 1234, 8000,
					 7983, 160,  77,  16383, 5000, 5100, 2222};
#define FIRST_TOUCHES (int)(sizeof(first_touches) / sizeof(first_touches[0]))

static bool touch_all(struct start *start)
{
	for (unsigned i = 0; i < sizeof(touched) / sizeof(touched[0]); i++)
		if (!touch(start, touched[i]))
			return false;
	return true;
}

TEST_F(kinds, is_what_was_touched_first_in_its_order)
{
	struct start *start = &self->start;
	struct thaw_result result;
	bool was_over;

	EXPECT_SET(touched, 0);
	ASSERT_TRUE(touch_all(start));
	ASSERT_EQ(0, save(start, THAW_REASON_TIMER));
	was_over = !was_short(start);
	if (!was_over)
		EXPECT_SET(touched, 0);
	wait_until_full(start);
	/* Nothing has changed: no generation, and nothing is written. */
	ASSERT_EQ(0, thaw_checkpoint(start->heap, THAW_REASON_EXIT, NULL, 0, &result));
	EXPECT_TRUE(result.unchanged);
	if (!was_over)
		EXPECT_SET(touched, 0);
	ASSERT_EQ(0, save(start, THAW_REASON_TIMER));
	EXPECT_SET(first_touches, FIRST_TOUCHES);
	EXPECT_EQ(1, start->generation);
	/* It is recorded once, and stays: whatever is touched or made durable. */
	for (uint64_t place = 10000; place < 10100; place += 20)
		ASSERT_TRUE(touch(start, place));
	for (int i = 0; i < 6; i++) {
		ASSERT_EQ(0, save(start, THAW_REASON_EXIT));
		EXPECT_SET(first_touches, FIRST_TOUCHES);
	}
	EXPECT_EQ(0, thaw_image_verify(start->path, NULL, NULL, &start->error));
}

TEST_F(kinds, arrives_without_being_touched)
{
	struct start *start = &self->start;
	struct thaw_status status;
	unsigned wanted;
	double end;

	ASSERT_TRUE(touch_all(start));
	ASSERT_EQ(0, save(start, THAW_REASON_EXIT));
	ASSERT_EQ(FIRST_TOUCHES, read_set(start));
	wanted = set_pages(start);
	EXPECT_LE(FIRST_TOUCHES, wanted);
	ASSERT_EQ(0, open_heap(start, THAW_PREFETCH_WORKING_SET));
	end = support_deadline(30);
	do {
		support_sleep(0.01);
		thaw_status(start->heap, &status);
	} while (status.pages_restored < wanted && support_seconds() < end);
	EXPECT_EQ(wanted, status.pages_restored);
	ASSERT_TRUE(touch_all(start));
	thaw_status(start->heap, &status);
	EXPECT_EQ(0, status.faults);
	EXPECT_EQ(wanted, status.pages_restored);
	/* What it lacked is appended; it may all be needed again. */
	ASSERT_TRUE(touch(start, 11111));
	wait_until_full(start);
	ASSERT_EQ(0, save(start, THAW_REASON_TIMER));
	ASSERT_EQ(FIRST_TOUCHES + 1, read_set(start));
	for (int i = 0; i < FIRST_TOUCHES; i++)
		EXPECT_EQ(page_of(first_touches[i]), set_entry_page(start->pages[i]));
	EXPECT_EQ(page_of(11111), set_entry_page(start->pages[FIRST_TOUCHES]));
	EXPECT_EQ(2, start->generation);
}

static int by_number(const void *left, const void *right)
{
	uint64_t a = set_entry_page(*(const uint64_t *)left);
	uint64_t b = set_entry_page(*(const uint64_t *)right);

	return (a > b) - (a < b);
}

/* What readahead brings without a fault is in the set if the reader got past it. */
TEST_F(kinds, of_a_stream_has_no_holes)
{
	struct start *start = &self->start;
	for (uint64_t place = 320; place < 320 + 2048; place++)
		ASSERT_TRUE(touch(start, place));
	ASSERT_EQ(0, save(start, THAW_REASON_EXIT));
	/* But for the end of what was read ahead, which nobody asked for. */
	ASSERT_GE(read_set(start), 2048 / 16 - 64);
	ASSERT_LE(start->count, 2048 / 16 + 1);
	/*
	 * A reader that catches up with readahead is noted before the pages that it found there. The
	 * last one is where save() writes.
	 */
	EXPECT_EQ(0, set_entry_page(start->pages[start->count - 1]));
	qsort(start->pages, (size_t)start->count - 1, sizeof(*start->pages), by_number);
	for (int i = 0; i < start->count - 1; i++)
		EXPECT_EQ(page_of(320) + i * CLUSTER, set_entry_page(start->pages[i]));
}

TEST_F(set, of_a_short_life_replaces_only_a_smaller_one)
{
	struct start *start = &self->start;
	ASSERT_TRUE(touch_all(start));
	ASSERT_EQ(0, save(start, THAW_REASON_EXIT));
	EXPECT_SET(first_touches, FIRST_TOUCHES);
	ASSERT_EQ(0, open_heap(start, 0));
	ASSERT_TRUE(touch(start, 0) && touch(start, 8888));
	ASSERT_EQ(0, save(start, THAW_REASON_EXIT));
	if (was_short(start))
		EXPECT_SET(first_touches, FIRST_TOUCHES);
	ASSERT_EQ(0, open_heap(start, 0));
	for (uint64_t place = 0; place < HEAP / PLACE; place += 640)
		ASSERT_TRUE(touch(start, place));
	ASSERT_EQ(0, save(start, THAW_REASON_EXIT));
	ASSERT_EQ((HEAP / PLACE + 639) / 640, read_set(start));
	for (int i = 0; i < start->count; i++)
		EXPECT_EQ(page_of(i * 640), set_entry_page(start->pages[i]));
	/* A whole start counts, however little it needed. */
	ASSERT_EQ(0, open_heap(start, 0));
	ASSERT_TRUE(touch(start, 0) && touch(start, 8888));
	wait_until_full(start);
	ASSERT_EQ(0, save(start, THAW_REASON_TIMER));
	EXPECT_SET(((uint64_t[]){0, 8888}), 2);
	EXPECT_EQ(0, thaw_image_verify(start->path, NULL, NULL, &start->error));
}

TEST_F(set, of_a_process_that_is_killed_is_lost)
{
	struct start *start = &self->start;
	pid_t child;
	int status;

	thaw_close(start->heap);
	start->heap = NULL;
	child = fork();
	if (!child) {
		if (!open_heap(start, 0) && touch(start, 8888) && touch(start, 99))
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_SET(touched, 0);
}

TEST_F(set, that_is_damaged_is_ignored_and_reported)
{
	struct start *start = &self->start;
	struct thaw_verify_summary summary;
	struct thaw_status status;

	ASSERT_TRUE(touch_all(start));
	ASSERT_EQ(0, save(start, THAW_REASON_EXIT));
	ASSERT_EQ(FIRST_TOUCHES, read_set(start));
	thaw_close(start->heap);
	start->heap = NULL;
	support_flip(start->path, start->offset + 3, 0x10);
	EXPECT_EQ(THAW_EDAMAGED, read_set(start));
	EXPECT_EQ(THAW_EDAMAGED, thaw_image_verify(start->path, NULL, &summary, &start->error));
	EXPECT_EQ(1, summary.damages);
	ASSERT_EQ(0, open_heap(start, THAW_PREFETCH_WORKING_SET))
	TH_LOG("%s", start->error.text);
	ASSERT_TRUE(touch_all(start));
	thaw_status(start->heap, &status);
	EXPECT_EQ(0, status.fallback.code);
	/* None was there before it was touched. Whoever waits for a page may ask again. */
	EXPECT_LE(FIRST_TOUCHES, status.faults);
	/* And the start that did without it stores a new one. */
	wait_until_full(start);
	ASSERT_EQ(0, save(start, THAW_REASON_TIMER));
	EXPECT_SET(first_touches, FIRST_TOUCHES);
	EXPECT_EQ(0, thaw_image_verify(start->path, NULL, NULL, &start->error));
}

/* Numbers that were made to do harm: of pages that are not, and the same one for ever. */
TEST_F(set, that_names_pages_beyond_the_heap_does_no_harm)
{
	struct start *start = &self->start;
	static uint64_t hostile[STORE_WORKING_SET_MAX];
	struct image_options options = {.path = start->path, .engine = "test", .page_bytes = PAGE};
	struct thaw_generation generation = {.heap_bytes = HEAP};
	struct thaw_status status;
	struct commit *commit;
	struct image *image;
	double end;

	thaw_close(start->heap);
	start->heap = NULL;
	for (unsigned i = 0; i < STORE_WORKING_SET_MAX; i++)
		hostile[i] = i % 3 ? UINT64_MAX - i : HEAP / PAGE + i % 5;
	hostile[STORE_WORKING_SET_MAX - 1] = page_of(4711);
	ASSERT_EQ(0, image_open(&options, &image, NULL, &start->error));
	ASSERT_EQ(0, commit_begin(image, &commit, &start->error));
	ASSERT_EQ(0, commit_working_set(commit, hostile, STORE_WORKING_SET_MAX, 1, &start->error));
	ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &start->error));
	image_close(image);
	ASSERT_EQ(0, open_heap(start, THAW_PREFETCH_WORKING_SET));
	end = support_deadline(30);
	do {
		support_sleep(0.01);
		thaw_status(start->heap, &status);
	} while (status.pages_restored < CLUSTER && support_seconds() < end);
	EXPECT_EQ(CLUSTER, status.pages_restored);
	ASSERT_TRUE(touch_all(start));
	wait_until_full(start);
	ASSERT_EQ(0, save(start, THAW_REASON_TIMER));
	ASSERT_EQ(FIRST_TOUCHES, read_set(start));
	EXPECT_EQ(page_of(4711), set_entry_page(start->pages[0]));
}

TEST_F(set, is_none_of_a_heap_that_begins_anew)
{
	struct start *start = &self->start;
	ASSERT_TRUE(touch_all(start));
	ASSERT_EQ(0, save(start, THAW_REASON_EXIT));
	ASSERT_EQ(0, open_heap(start, THAW_FRESH));
	EXPECT_SET(first_touches, FIRST_TOUCHES);
	ASSERT_EQ(0, thaw_resize(start->heap, 65536));
	ASSERT_EQ(0, save(start, THAW_REASON_REQUEST));
	EXPECT_SET(touched, 0);
	ASSERT_EQ(0, save(start, THAW_REASON_REQUEST));
	EXPECT_EQ(0, thaw_image_verify(start->path, NULL, NULL, &start->error));
}

TEST_HARNESS_MAIN
