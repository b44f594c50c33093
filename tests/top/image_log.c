// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_log.c - what is told of the generations between two looks at an image: sums of all of them,
 * or of those that the image still lists; and nothing that was not seen, where the image could not
 * be read or is another one.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "by_path.h"
#include "support.h"
#include "thaw.h"
#include "top/image_log.h"

#define PAGE 4096u

FIXTURE(log)
{
	char *directory, *path;
	struct thaw *heap;
	struct image_log log;
	struct thaw_generation *list; /* what the image lists */
	int count;
};
FIXTURE_SETUP(log)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
}
FIXTURE_TEARDOWN(log)
{
	thaw_close(self->heap);
	free(self->list);
	free(self->path);
	support_remove(self->directory);
}

static int heap_open(FIXTURE_DATA(log) * self, unsigned retain)
{
	struct thaw_options options = {.image = self->path,
				       .flags = THAW_CREATE,
				       .max_bytes = 1u << 20,
				       .retain = retain,
				       .engine = "test"};
	int code = thaw_open(&options, &self->heap, NULL);

	return code ? code : thaw_resize(self->heap, 256u << 10);
}

/* Generations, each of which has written one page more than the one before. */
static int generations(FIXTURE_DATA(log) * self, unsigned count)
{
	static unsigned char value;
	struct thaw_result result;
	int code = 0;

	for (unsigned n = 0; n < count && !code; n++) {
		value++;
		for (unsigned page = 0; page <= n; page++)
			memset((char *)thaw_base(self->heap) + page * PAGE, value, PAGE);
		code = thaw_checkpoint(self->heap, THAW_REASON_REQUEST, NULL, 0, &result);
	}
	return code;
}

static void look(FIXTURE_DATA(log) * self)
{
	struct thaw_error error;

	image_log_update(&self->log, self->path);
	free(self->list);
	self->count = path_log(self->path, &self->list, &error);
}

/* The sums are those of the listed generations from `first` on. */
#define EXPECT_SUMS(first)                                    \
	do {                                                  \
		uint64_t pages = 0, bytes = 0;                \
                                                              \
		for (int i = first; i < self->count; i++) {   \
			pages += self->list[i].pages_written; \
			bytes += self->list[i].bytes_written; \
		}                                             \
		EXPECT_EQ(pages, self->log.pages_written);    \
		EXPECT_EQ(bytes, self->log.bytes_written);    \
	} while (0)

#define OPEN(retain)                                                \
	do {                                                        \
		int code = heap_open(self, retain);                 \
                                                                    \
		if (code == THAW_EKERNEL)                           \
			SKIP(return, "no heap can be opened here"); \
		ASSERT_EQ(0, code);                                 \
	} while (0)

TEST_F(log, everything_that_was_made_is_counted)
{
	const struct thaw_generation *newest;

	OPEN(8);
	look(self);
	EXPECT_EQ(0, self->log.code);
	EXPECT_EQ(0, self->log.listed);
	EXPECT_EQ(1, self->log.looks);
	/* From the first generation on. */
	ASSERT_EQ(0, generations(self, 2));
	look(self);
	ASSERT_EQ(2, self->count);
	EXPECT_EQ(2, self->log.looks);
	EXPECT_EQ(2, self->log.made);
	EXPECT_TRUE(self->log.complete);
	EXPECT_SUMS(0);
	EXPECT_LE(3, self->log.pages_written);
	ASSERT_EQ(0, generations(self, 3));
	look(self);
	ASSERT_EQ(5, self->count);
	newest = &self->list[4];
	EXPECT_EQ(3, self->log.made);
	EXPECT_TRUE(self->log.complete);
	EXPECT_SUMS(2);
	EXPECT_EQ(5, self->log.pauses);
	EXPECT_EQ(newest->number, self->log.generation);
	EXPECT_EQ(newest->time_ns, self->log.time_ns);
	EXPECT_EQ(newest->pause_ns, self->log.pause_ns);
	EXPECT_EQ(newest->heap_bytes, self->log.heap_bytes);
	EXPECT_EQ(newest->time_ns - newest[-1].time_ns, self->log.every_ns);
	/* Nothing was made since, however often it is looked at. */
	for (unsigned n = 0; n < 3; n++) {
		look(self);
		EXPECT_EQ(0, self->log.made);
		EXPECT_TRUE(self->log.complete);
		EXPECT_EQ(0, self->log.pages_written);
		EXPECT_EQ(0, self->log.bytes_written);
		EXPECT_EQ(5, self->log.pauses);
	}
}

/* Nor does the time between two runs say how often one of them makes generations. */
TEST_F(log, a_run_tells_its_interval)
{
	OPEN(8);
	ASSERT_EQ(0, generations(self, 1));
	look(self);
	EXPECT_EQ(0, self->log.every_ns);
	ASSERT_EQ(0, generations(self, 2));
	look(self);
	EXPECT_LT(0, self->log.every_ns);
	thaw_close(self->heap);
	OPEN(8);
	ASSERT_EQ(0, generations(self, 1));
	look(self);
	EXPECT_EQ(0, self->log.every_ns);
	ASSERT_EQ(0, generations(self, 1));
	look(self);
	EXPECT_EQ(self->list[4].time_ns - self->list[3].time_ns, self->log.every_ns);
}

TEST_F(log, what_the_image_has_dropped_is_not_in_the_sums)
{
	OPEN(3);
	ASSERT_EQ(0, generations(self, 2));
	look(self);
	ASSERT_EQ(0, generations(self, 10));
	look(self);
	ASSERT_EQ(3, self->count);
	EXPECT_EQ(10, self->log.made);
	EXPECT_FALSE(self->log.complete);
	/* The oldest that is listed is where the time begins. */
	EXPECT_SUMS(1);
	EXPECT_EQ(self->list[2].time_ns - self->list[0].time_ns, self->log.span_ns);
	EXPECT_EQ(3, self->log.pauses);
	/* One that has a name is still there, but not what came between. */
	ASSERT_EQ(0, thaw_checkpoint_name(self->heap, "kept"));
	ASSERT_EQ(0, generations(self, 1));
	look(self);
	EXPECT_TRUE(self->log.complete);
	ASSERT_EQ(0, generations(self, 10));
	look(self);
	ASSERT_EQ(4, self->count);
	EXPECT_FALSE(self->log.complete);
	EXPECT_SUMS(2);
	EXPECT_EQ(self->list[3].time_ns - self->list[1].time_ns, self->log.span_ns);
}

TEST_F(log, only_the_newest_is_retained)
{
	OPEN(1);
	ASSERT_EQ(0, generations(self, 2));
	look(self);
	ASSERT_EQ(0, generations(self, 1));
	look(self);
	ASSERT_EQ(1, self->count);
	EXPECT_TRUE(self->log.complete);
	EXPECT_SUMS(0);
	ASSERT_EQ(0, generations(self, 5));
	look(self);
	EXPECT_EQ(5, self->log.made);
	EXPECT_FALSE(self->log.complete);
	EXPECT_EQ(0, self->log.span_ns); /* no time is known in which something was written */
	EXPECT_EQ(0, self->log.pages_written);
}

TEST_F(log, what_was_not_seen_is_not_told)
{
	char *other = support_format("%s/other.thaw", self->directory);

	OPEN(8);
	ASSERT_EQ(0, generations(self, 4));
	look(self);
	EXPECT_EQ(4, self->log.generation);
	/* It is away for a while: what was made meanwhile is not of one interval. */
	ASSERT_EQ(0, rename(self->path, other));
	look(self);
	EXPECT_EQ(-ENOENT, self->log.code);
	ASSERT_EQ(0, rename(other, self->path));
	ASSERT_EQ(0, generations(self, 1));
	look(self);
	EXPECT_EQ(0, self->log.code);
	EXPECT_EQ(1, self->log.looks);
	EXPECT_EQ(5, self->log.generation);
	/* Another image has its name, with fewer generations. */
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, unlink(self->path));
	OPEN(8);
	ASSERT_EQ(0, generations(self, 2));
	look(self);
	EXPECT_EQ(1, self->log.looks);
	EXPECT_EQ(2, self->log.generation);
	/* And a file that is no image at all. */
	support_write(self->path, "no image");
	look(self);
	EXPECT_EQ(THAW_EFOREIGN, self->log.code);
	free(other);
}

/* A file that has long not changed is not read again, and read again once it has. */
TEST_F(log, an_image_rests_and_goes_on)
{
	struct timespec before[2];

	OPEN(8);
	ASSERT_EQ(0, generations(self, 2));
	clock_gettime(CLOCK_REALTIME, &before[0]);
	before[0].tv_sec -= 60;
	before[1] = before[0];
	ASSERT_EQ(0, utimensat(AT_FDCWD, self->path, before, 0));
	look(self);
	look(self);
	EXPECT_EQ(2, self->log.looks);
	EXPECT_EQ(0, self->log.made);
	ASSERT_EQ(0, generations(self, 1));
	look(self);
	EXPECT_EQ(1, self->log.made);
	EXPECT_TRUE(self->log.complete);
	EXPECT_SUMS(2);
}

TEST_HARNESS_MAIN
