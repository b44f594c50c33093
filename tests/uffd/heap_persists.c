// SPDX-License-Identifier: GPL-2.0-only
/*
 * A heap that is closed, or whose process is killed, comes back as it was at its last durable
 * generation: contents, size and state; over many rounds, on every kind of memory and tracking, and
 * also if its pages are larger than the kernel's; older generations stay readable; an unchanged heap writes nothing.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "by_path.h"
#include "support.h"
#include "thaw.h"

#define UNIT 65536u

FIXTURE(heap)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
};
FIXTURE_VARIANT(heap)
{
	const char *tracker, *backing, *delivery;
	const char *page_bytes; /* of the kernel that made the image; NULL: this one */
};
FIXTURE_VARIANT_ADD(heap, kmod){.backing = "kmod"};
FIXTURE_VARIANT_ADD(heap, kmod_pages_of_64_kib){.backing = "kmod", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(heap, wp_async_anonymous){.tracker = "wp-async", .backing = "anonymous"};
FIXTURE_VARIANT_ADD(heap, wp_sync_anonymous){.tracker = "wp-sync", .backing = "anonymous"};
FIXTURE_VARIANT_ADD(heap, mprotect){.tracker = "mprotect", .backing = "anonymous"};
FIXTURE_VARIANT_ADD(heap, sigsegv){.delivery = "sigsegv"};
FIXTURE_VARIANT_ADD(heap, eager){.delivery = "eager"};
FIXTURE_VARIANT_ADD(heap, pages_of_64_kib){
	.tracker = "wp-async", .backing = "anonymous", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(heap, wp_sync_pages_of_16_kib){
	.tracker = "wp-sync", .backing = "anonymous", .page_bytes = "16384"};

static int open_heap(struct thaw **heap, const char *path, uint64_t generation, unsigned flags,
		     struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path,
		.flags = THAW_CREATE | flags,
		.generation = generation,
		.max_bytes = 256u << 20,
		.engine = "test",
	};

	return thaw_open(&options, heap, error);
}

FIXTURE_SETUP(heap)
{
	setenv("THAW_TRACKER", variant->tracker ? variant->tracker : "", 1);
	setenv("THAW_BACKING", variant->backing ? variant->backing : "", 1);
	setenv("THAW_DELIVERY", variant->delivery ? variant->delivery : "", 1);
	if (variant->page_bytes)
		setenv("THAW_PAGE_BYTES", variant->page_bytes, 1);
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_heap(&self->heap, self->path, 0, 0, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_NE(NULL, self->heap)
	{
		TH_LOG("%s", self->error.text);
	}
	unsetenv("THAW_PAGE_BYTES"); /* from here on, on this kernel */
}
FIXTURE_TEARDOWN(heap)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static int save(struct thaw *heap, const char *state, struct thaw_result *result)
{
	return thaw_checkpoint(heap, THAW_REASON_REQUEST, state, strlen(state) + 1, result);
}

TEST_F(heap, starts_empty)
{
	size_t bytes;

	EXPECT_EQ(0, thaw_size(self->heap));
	EXPECT_EQ(0, thaw_opened(self->heap)->number);
	EXPECT_EQ(NULL, thaw_state(self->heap, &bytes));
}

TEST_F(heap, comes_back_over_many_rounds)
{
	uint64_t random = 777;
	char *model = calloc(1, 48u << 20);
	size_t size = 0;

	for (int round = 1; round <= 40; round++) {
		struct thaw_result result;
		char state[64];
		size_t state_bytes;

		if (size < (48u << 20) && round % 3 == 1) {
			size += UNIT * (1 + next_random(&random) % 60);
			size = size > (48u << 20) ? 48u << 20 : size;
			ASSERT_EQ(0, thaw_resize(self->heap, size));
		}
		for (unsigned i = 0; i < next_random(&random) % 3000; i++) {
			size_t at = next_random(&random) % (size / 8) * 8;
			uint64_t value = next_random(&random) % 5 ? next_random(&random) : 0;

			memcpy(model + at, &value, 8);
			memcpy((char *)thaw_base(self->heap) + at, &value, 8);
		}
		snprintf(state, sizeof(state), "round %d", round);
		ASSERT_EQ(0, save(self->heap, state, &result))
		{
			TH_LOG("%s", result.error.text);
		}
		EXPECT_EQ(round, result.generation.number);
		EXPECT_EQ(size, result.generation.heap_bytes);
		if (round % 2)
			continue;
		thaw_close(self->heap);
		self->heap = NULL;
		ASSERT_EQ(0, open_heap(&self->heap, self->path, 0,
				       round % 8 == 0 ? THAW_PREFETCH : 0, &self->error))
		{
			TH_LOG("%s", self->error.text);
		}
		ASSERT_EQ(size, thaw_size(self->heap));
		EXPECT_EQ(round, thaw_opened(self->heap)->number);
		EXPECT_STREQ(state, thaw_state(self->heap, &state_bytes));
		/*
		 * Half of the rounds look at everything, the others go on with most of it still
		 * in the file.
		 */
		if (round % 4 == 0)
			ASSERT_EQ(0, memcmp(model, thaw_base(self->heap), size))
			{
				TH_LOG("round %d", round);
			}
	}
	EXPECT_EQ(0, memcmp(model, thaw_base(self->heap), size));
	free(model);
}

TEST_F(heap, unchanged_writes_nothing)
{
	struct thaw_image_info info;
	struct thaw_result result;
	uint64_t before;
	size_t pages;

	ASSERT_EQ(0, path_info(self->path, false, &info, &self->error));
	if (variant->page_bytes)
		ASSERT_EQ(strtoul(variant->page_bytes, NULL, 10), info.page_bytes);
	pages = (16u << 20) / info.page_bytes;
	ASSERT_EQ(0, thaw_resize(self->heap, 16u << 20));
	memset(thaw_base(self->heap), 7, 16u << 20);
	ASSERT_EQ(0, save(self->heap, "s", &result));
	EXPECT_EQ(pages, result.generation.pages_stored);
	before = support_size(self->path);

	/* Written, but with what was there: found by tracking, refused by comparison. */
	for (size_t page = 0; page < pages; page += 2)
		((volatile char *)thaw_base(self->heap))[page * info.page_bytes] = 7;
	ASSERT_EQ(0, save(self->heap, "s", &result));
	EXPECT_TRUE(result.unchanged);
	EXPECT_EQ(1, result.generation.number);
	EXPECT_EQ(before, support_size(self->path));

	/* One page of those changed: one page stored. */
	for (size_t page = 0; page < pages; page += 2)
		((volatile char *)thaw_base(self->heap))[(page + 1) * info.page_bytes - 1] =
			page == 200 ? 8 : 7;
	ASSERT_EQ(0, save(self->heap, "s", &result));
	EXPECT_FALSE(result.unchanged);
	EXPECT_EQ(2, result.generation.number);
	EXPECT_EQ(pages / 2, result.generation.pages_written);
	EXPECT_EQ(1, result.generation.pages_stored);

	/* Another state is a change, though no page is. */
	ASSERT_EQ(0, save(self->heap, "t", &result));
	EXPECT_FALSE(result.unchanged);
	EXPECT_EQ(0, result.generation.pages_stored);
}

TEST_F(heap, older_generations_open_and_branch)
{
	struct thaw_generation *log;
	struct thaw_result result;
	int count;

	ASSERT_EQ(0, thaw_resize(self->heap, UNIT));
	for (int round = 1; round <= 12; round++) {
		*(int *)thaw_base(self->heap) = round;
		ASSERT_EQ(0, save(self->heap, "s", &result));
	}
	thaw_close(self->heap);
	self->heap = NULL;
	count = path_log(self->path, &log, &self->error);
	ASSERT_EQ(8, count);
	EXPECT_EQ(5, log[0].number);
	EXPECT_EQ(12, log[7].number);
	free(log);
	EXPECT_EQ(THAW_ENOGEN, open_heap(&self->heap, self->path, 4, 0, &self->error));
	self->heap = NULL;
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 6, 0, &self->error));
	EXPECT_EQ(6, *(int *)thaw_base(self->heap));
	*(int *)thaw_base(self->heap) = 600;
	ASSERT_EQ(0, save(self->heap, "s", &result));
	EXPECT_EQ(13, result.generation.number);
	EXPECT_EQ(6, result.generation.parent);
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 12, 0, &self->error));
	EXPECT_EQ(12, *(int *)thaw_base(self->heap));
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error));
	EXPECT_EQ(600, *(int *)thaw_base(self->heap));
}

TEST_F(heap, fresh_starts_anew_and_keeps_the_old)
{
	struct thaw_result result;

	ASSERT_EQ(0, thaw_resize(self->heap, UNIT));
	*(int *)thaw_base(self->heap) = 1;
	ASSERT_EQ(0, save(self->heap, "s", &result));
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, THAW_FRESH, &self->error));
	EXPECT_EQ(0, thaw_size(self->heap));
	ASSERT_EQ(0, thaw_resize(self->heap, UNIT));
	EXPECT_EQ(0, *(int *)thaw_base(self->heap));
	*(int *)thaw_base(self->heap) = 2;
	ASSERT_EQ(0, save(self->heap, "s", &result));
	EXPECT_EQ(2, result.generation.number);
	EXPECT_EQ(0, result.generation.parent);
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 1, 0, &self->error));
	EXPECT_EQ(1, *(int *)thaw_base(self->heap));
}

/*
 * The child checkpoints as fast as it can and reports each durable generation; the image must
 * never be older than the report.
 */
TEST_F(heap, survives_being_killed)
{
	thaw_close(self->heap);
	self->heap = NULL;
	for (int round = 0; round < 25; round++) {
		uint64_t reported = 0, number, *words;
		size_t bytes;
		int channel[2];
		pid_t child;

		ASSERT_EQ(0, pipe(channel));
		child = fork();
		if (!child) {
			struct thaw *heap;
			struct thaw_error error;

			close(channel[0]);
			if (open_heap(&heap, self->path, 0, 0, &error) ||
			    (!thaw_size(heap) && thaw_resize(heap, 4u << 20)))
				_exit(1);
			for (;;) {
				uint64_t *words = thaw_base(heap), counter = words[0] + 1;
				struct thaw_result result;

				/* The invariant: every word of every page holds the same counter. */
				for (size_t at = 0; at < (4u << 20) / 8; at += 64)
					words[at] = counter;
				if (thaw_checkpoint(heap, THAW_REASON_TIMER, &counter,
						    sizeof(counter), &result) ||
				    write(channel[1], &result.generation.number, 8) != 8)
					_exit(2);
			}
		}
		close(channel[1]);
		for (int i = 0; i < 1 + round % 4; i++)
			ASSERT_EQ(8, read(channel[0], &number, 8));
		support_sleep(0.001 * (round * 7 % 23));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		/* What it had still said before it died; a number that did not fit is no report. */
		do
			reported = number;
		while (read(channel[0], &number, 8) == 8);
		close(channel[0]);

		ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error))
		{
			TH_LOG("%s", self->error.text);
		}
		ASSERT_LE(reported, thaw_opened(self->heap)->number);
		words = thaw_base(self->heap);
		for (size_t at = 0; at < (4u << 20) / 8; at += 64)
			ASSERT_EQ(words[0], words[at]);
		EXPECT_EQ(words[0], *(const uint64_t *)thaw_state(self->heap, &bytes));
		thaw_close(self->heap);
		self->heap = NULL;
	}
}

/*
 * The program writes while checkpoints are copied and written: each generation is exactly one of
 * the moments of capture.
 */
TEST_F(heap, a_generation_is_the_moment_of_its_capture)
{
	uint64_t *words, counter = 0;
	struct thaw_result result;

	ASSERT_EQ(0, thaw_resize(self->heap, 64u << 20));
	words = thaw_base(self->heap);
	for (int checkpoint = 0; checkpoint < 6; checkpoint++) {
		ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_TIMER));
		EXPECT_EQ(-EBUSY, thaw_checkpoint_begin(self->heap, THAW_REASON_TIMER));
		for (bool captured = false;;) {
			enum thaw_phase phase = thaw_checkpoint_poll(self->heap, &result);

			if (phase == THAW_DONE)
				break;
			if (phase == THAW_READY && !captured) {
				uint64_t at_capture = counter;

				ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_PORTABLE,
								     &at_capture, 8));
				captured = true;
			}
			counter++;
			for (size_t at = 0; at < (64u << 20) / 8; at += 512)
				words[at] = counter;
		}
		ASSERT_EQ(0, result.code);
	}
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, 0, &self->error));
	words = thaw_base(self->heap);
	{
		size_t bytes;
		uint64_t at_capture = *(const uint64_t *)thaw_state(self->heap, &bytes);

		for (size_t at = 0; at < (64u << 20) / 8; at += 512)
			ASSERT_EQ(at_capture, words[at]);
	}
}

TEST_F(heap, without_an_image_is_plain_memory)
{
	struct thaw_options options = {
		.max_bytes = 1u << 30, .guard_bytes = 1u << 30, .engine = "test"};
	struct thaw *plain;

	ASSERT_EQ(0, thaw_open(&options, &plain, &self->error));
	ASSERT_EQ(0, thaw_resize(plain, 1u << 20));
	memset(thaw_base(plain), 1, 1u << 20);
	EXPECT_EQ(-EROFS, thaw_checkpoint_begin(plain, THAW_REASON_REQUEST));
	EXPECT_EQ(-EINVAL, thaw_resize(plain, 123));
	EXPECT_EQ(-EINVAL, thaw_resize(plain, UNIT));
	thaw_close(plain);
}

TEST_HARNESS_MAIN
