// SPDX-License-Identifier: GPL-2.0-only
/*
 * process_memory.c - the memory of another process in an image: what it wrote, gave up, unmapped, moved and closed
 * is in the next generation as it was, with each way of tracking and delivery. The guest: told_guest.h.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/resource.h>
#include <sys/syscall.h>

#include "stored_pages.h"
#include "support.h"
#include "thaw_process.h"
#include "told_guest.h"

#define MIB (1ull << 20)
#define TIB (1ull << 40)
#define LOW 0x100000000ull     /* 4 GiB */
#define HIGH 0x600000000000ull /* 96 TiB */
#define SPARSE 0x500000000000ull

/* ---- the heap */

FIXTURE(memory)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
	struct thaw_result result;
	struct guest guest;
};
FIXTURE_VARIANT(memory)
{
	const char *delivery, *tracker, *without;
};
FIXTURE_VARIANT_ADD(memory, best){0};
FIXTURE_VARIANT_ADD(memory, eager){.delivery = "eager"};
FIXTURE_VARIANT_ADD(memory, user_mode){.without = "privileged-userfaultfd"};
FIXTURE_VARIANT_ADD(memory, hashed){.tracker = "hashed"};
FIXTURE_VARIANT_ADD(memory, old_kernel){.without = "pagemap-scan"};

static int open_heap(FIXTURE_DATA(memory) * self)
{
	struct thaw_options options = {
		.image = self->path,
		.flags = THAW_CREATE | THAW_PROCESS,
		.engine = "process_memory",
	};

	return thaw_open(&options, &self->heap, &self->error);
}

static int take_userfaultfd(FIXTURE_DATA(memory) * self)
{
	uint64_t features, number;
	int flags, process, fd;

	if (!thaw_process_userfaultfd(self->heap, &flags, &features))
		return -1;
	number = guest_does(&self->guest, USERFAULTFD, (uint64_t)flags, features, 0, 0);
	if (number == UINT64_MAX)
		support_die("the guest cannot make a userfaultfd");
	process = (int)syscall(SYS_pidfd_open, self->guest.pid, 0);
	fd = (int)syscall(SYS_pidfd_getfd, process, (int)number, 0);
	if (fd < 0)
		support_die("pidfd_getfd");
	close(process);
	return fd;
}

static int attach(FIXTURE_DATA(memory) * self, const struct thaw_range *ranges, size_t count)
{
	struct thaw_process process = {.pid = self->guest.pid,
				       .userfaultfd = take_userfaultfd(self)};

	return thaw_process_attach(self->heap, &process, ranges, count, &self->error);
}

#define COUNT(ranges) (sizeof(ranges) / sizeof((ranges)[0]))

/* A generation of these ranges; what the checkpoint came to. */
static int capture(FIXTURE_DATA(memory) * self, const struct thaw_range *ranges, size_t count,
		   const char *state)
{
	int code = thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST);

	if (code)
		return code;
	if (thaw_checkpoint_wait(self->heap) == THAW_READY) {
		code = ranges ? thaw_process_ranges(self->heap, ranges, count, &self->error) : 0;
		if (code)
			thaw_checkpoint_abandon(self->heap, code, self->error.text);
		else
			thaw_checkpoint_capture(self->heap, THAW_KIND_BOUND, state, strlen(state));
		thaw_checkpoint_wait(self->heap);
	}
	thaw_checkpoint_poll(self->heap, &self->result);
	return self->result.code;
}

/* The supervisor and its guest are gone; another guest has memory in these ranges. */
static int restore(FIXTURE_DATA(memory) * self, const struct thaw_range *ranges, size_t count)
{
	int code;

	guest_end(&self->guest);
	thaw_close(self->heap);
	self->heap = NULL;
	code = open_heap(self);
	if (code)
		return code;
	guest_start(&self->guest);
	for (size_t i = 0; i < count; i++)
		if (guest_does(&self->guest, MAP, ranges[i].start, ranges[i].end - ranges[i].start,
			       PROT_READ | PROT_WRITE, 0))
			support_die("the guest cannot map memory");
	return attach(self, ranges, count);
}

FIXTURE_SETUP(memory)
{
	if (variant->delivery)
		setenv("THAW_DELIVERY", variant->delivery, 1);
	if (variant->tracker)
		setenv("THAW_TRACKER", variant->tracker, 1);
	if (variant->without)
		setenv("THAW_WITHOUT", variant->without, 1);
	self->directory = support_directory();
	self->path = support_format("%s/guest.thaw", self->directory);
	self->heap = NULL;
	self->guest.pid = 0;
	ASSERT_EQ(0, open_heap(self)) TH_LOG("%s", self->error.text);
	guest_start(&self->guest);
	ASSERT_EQ(0, attach(self, NULL, 0)) TH_LOG("%s", self->error.text);
}

FIXTURE_TEARDOWN(memory)
{
	guest_end(&self->guest);
	thaw_close(self->heap);
	support_remove(self->directory);
	free(self->path);
}

#define DO(order, ...) ASSERT_EQ(0, does(self, order, __VA_ARGS__, 0, 0, 0))
#define does(self, order, a, b, c, d, ...) guest_does(&(self)->guest, order, a, b, c, d)
#define SUM_OF(a, b) guest_does(&self->guest, SUM, a, b, 0, 0)
#define CAPTURE(ranges)                                        \
	ASSERT_EQ(0, capture(self, ranges, COUNT(ranges), "")) \
	TH_LOG("%s %s", self->result.error.text, self->error.text)
#define RESTORE(ranges) \
	ASSERT_EQ(0, restore(self, ranges, COUNT(ranges))) TH_LOG("%s", self->error.text)

#define RW (PROT_READ | PROT_WRITE)

TEST_F(memory, written)
{
	const struct thaw_range ranges[] = {{LOW, LOW + MIB}, {HIGH, HIGH + 4 * MIB}};
	uint64_t low, high;

	DO(MAP, LOW, MIB, RW);
	DO(MAP, HIGH, 4 * MIB, RW);
	DO(FILL, LOW, MIB, 1);
	DO(FILL, HIGH + MIB, 2 * MIB, 2);
	CAPTURE(ranges);
	EXPECT_EQ(3 * MIB / PAGE, self->result.generation.pages_stored);
	EXPECT_EQ(5 * MIB, thaw_size(self->heap));
	CAPTURE(ranges);
	EXPECT_TRUE(self->result.unchanged);
	DO(FILL, LOW + 16 * PAGE, 3 * PAGE, 3);
	DO(FILL, HIGH, PAGE, 4);
	CAPTURE(ranges);
	EXPECT_EQ(4, self->result.generation.pages_stored);
	low = SUM_OF(LOW, MIB);
	high = SUM_OF(HIGH, 4 * MIB);
	for (unsigned turn = 0; turn < 3; turn++) {
		RESTORE(ranges);
		EXPECT_EQ(low, SUM_OF(LOW, MIB));
		EXPECT_EQ(high, SUM_OF(HIGH, 4 * MIB));
		CAPTURE(ranges);
		EXPECT_TRUE(self->result.unchanged);
		DO(FILL, HIGH + 3 * MIB, 2 * PAGE, turn);
		CAPTURE(ranges);
		EXPECT_EQ(2, self->result.generation.pages_stored);
		high = SUM_OF(HIGH, 4 * MIB);
	}
}

TEST_F(memory, given_up)
{
	const struct thaw_range ranges[] = {{LOW, LOW + MIB}};
	uint64_t before;

	DO(MAP, LOW, MIB, RW);
	DO(FILL, LOW, MIB, 1);
	CAPTURE(ranges);
	DO(GIVE_UP, LOW, MIB / 4, MADV_DONTNEED);
	DO(FILL, LOW + PAGE, PAGE, 2); /* one of them is there again, with other contents */
	CAPTURE(ranges);
	DO(GIVE_UP, LOW + MIB / 2, MIB / 4, MADV_DONTNEED);
	before = SUM_OF(LOW + MIB / 2, PAGE); /* and read */
	CAPTURE(ranges);
	RESTORE(ranges);
	EXPECT_EQ(before, SUM_OF(LOW + MIB / 2, PAGE));
	EXPECT_EQ(before, SUM_OF(LOW, PAGE));
	EXPECT_EQ(before, SUM_OF(LOW + 3 * MIB / 4 - PAGE, PAGE));
	EXPECT_NE(before, SUM_OF(LOW + PAGE, PAGE));
	/* Before it has arrived. */
	RESTORE(ranges);
	DO(GIVE_UP, LOW + MIB / 4, MIB / 4, MADV_DONTNEED);
	EXPECT_EQ(before, SUM_OF(LOW + MIB / 4, PAGE));
	CAPTURE(ranges);
	RESTORE(ranges);
	EXPECT_EQ(before, SUM_OF(LOW + MIB / 4, PAGE));
	EXPECT_EQ(before, SUM_OF(LOW + MIB / 2 - PAGE, PAGE));
	EXPECT_NE(before, SUM_OF(LOW + 3 * MIB / 4, PAGE));
}

/* Every other page, and of those every fourth is there again. */
TEST_F(memory, given_up_in_many_pieces)
{
	const struct thaw_range ranges[] = {{LOW, LOW + 4 * MIB}};
	uint64_t whole;

	DO(MAP, LOW, 4 * MIB, RW);
	DO(FILL, LOW, 4 * MIB, 1);
	CAPTURE(ranges);
	for (uint64_t page = 0; page < 4 * MIB / PAGE; page += 2) {
		DO(GIVE_UP, LOW + page * PAGE, PAGE, MADV_DONTNEED);
		if (page % 8 == 0)
			DO(FILL, LOW + page * PAGE, PAGE, 2);
	}
	CAPTURE(ranges);
	EXPECT_EQ(4 * MIB / PAGE / 8, self->result.generation.pages_stored);
	EXPECT_EQ(4 * MIB / PAGE / 2 + 4 * MIB / PAGE / 8, stored_pages(self->heap));
	whole = SUM_OF(LOW, 4 * MIB);
	RESTORE(ranges);
	EXPECT_EQ(whole, SUM_OF(LOW, 4 * MIB));
}

TEST_F(memory, unmapped_and_mapped_anew)
{
	const struct thaw_range ranges[] = {{LOW, LOW + MIB}};
	const struct thaw_range less[] = {{LOW, LOW + MIB / 2}};
	uint64_t whole, zero;

	DO(MAP, LOW, MIB, RW);
	zero = SUM_OF(LOW, PAGE);
	DO(FILL, LOW, MIB, 1);
	CAPTURE(ranges);
	DO(UNMAP, LOW + MIB / 4, MIB / 4);
	DO(MAP, LOW + MIB / 4, MIB / 4, RW);
	DO(FILL, LOW + MIB / 4, PAGE, 2);
	DO(MAP, LOW, PAGE, RW); /* over what is there */
	CAPTURE(ranges);
	whole = SUM_OF(LOW, MIB);
	/* Is what came anew watched? */
	DO(FILL, LOW + MIB / 4, 2 * PAGE, 3);
	CAPTURE(ranges);
	EXPECT_EQ(2, self->result.generation.pages_stored);
	EXPECT_NE(whole, SUM_OF(LOW, MIB));
	whole = SUM_OF(LOW, MIB);
	RESTORE(ranges);
	EXPECT_EQ(whole, SUM_OF(LOW, MIB));
	EXPECT_EQ(zero, SUM_OF(LOW, PAGE));
	/* What is not in a range any more is in no generation, also when it comes back. */
	CAPTURE(less);
	DO(UNMAP, LOW + MIB / 2, MIB / 2);
	DO(MAP, LOW + MIB / 2, MIB / 2, RW);
	CAPTURE(ranges);
	whole = SUM_OF(LOW, MIB);
	RESTORE(ranges);
	EXPECT_EQ(whole, SUM_OF(LOW, MIB));
	EXPECT_EQ(zero, SUM_OF(LOW + MIB / 2, PAGE));
}

TEST_F(memory, moved)
{
	const struct thaw_range before[] = {{LOW, LOW + MIB}};
	const struct thaw_range after[] = {{LOW, LOW + MIB / 2}, {HIGH, HIGH + MIB}};
	uint64_t moved, stayed;

	DO(MAP, LOW, MIB, RW);
	DO(FILL, LOW, MIB, 1);
	CAPTURE(before);
	moved = SUM_OF(LOW + MIB / 2, MIB / 2);
	stayed = SUM_OF(LOW, MIB / 2);
	DO(MOVE, LOW + MIB / 2, MIB / 2, MIB, HIGH);
	EXPECT_EQ(moved, SUM_OF(HIGH, MIB / 2));
	CAPTURE(after);
	RESTORE(after);
	EXPECT_EQ(moved, SUM_OF(HIGH, MIB / 2));
	EXPECT_EQ(stayed, SUM_OF(LOW, MIB / 2));
	/* Before it has arrived, and back, over what is there. */
	RESTORE(after);
	DO(MOVE, HIGH, MIB / 2, MIB / 2, LOW);
	const struct thaw_range last[] = {{LOW, LOW + MIB / 2}, {HIGH + MIB / 2, HIGH + MIB}};
	CAPTURE(last);
	EXPECT_EQ(moved, SUM_OF(LOW, MIB / 2));
	RESTORE(last);
	EXPECT_EQ(moved, SUM_OF(LOW, MIB / 2));
}

TEST_F(memory, closed)
{
	const struct thaw_range ranges[] = {{LOW, LOW + MIB}};
	uint64_t whole;

	DO(MAP, LOW, MIB, RW);
	DO(FILL, LOW, MIB, 1);
	whole = SUM_OF(LOW, MIB);
	DO(PROTECT, LOW + MIB / 4, MIB / 4, PROT_NONE);
	DO(PROTECT, LOW + MIB / 2, PAGE, PROT_READ);
	CAPTURE(ranges);
	EXPECT_EQ(MIB / PAGE, self->result.generation.pages_stored);
	RESTORE(ranges);
	EXPECT_EQ(whole, SUM_OF(LOW, MIB));
	DO(FILL, LOW + MIB / 4, PAGE, 2);
	whole = SUM_OF(LOW, MIB);
	DO(PROTECT, LOW, MIB, PROT_NONE);
	CAPTURE(ranges);
	EXPECT_EQ(1, self->result.generation.pages_stored);
	RESTORE(ranges);
	EXPECT_EQ(whole, SUM_OF(LOW, MIB));
}

TEST_F(memory, sparse)
{
	const struct thaw_range ranges[] = {
		{LOW, LOW + MIB},
		{SPARSE, SPARSE + TIB},
	};
	uint64_t whole = 0;

	/* Before Linux 6.7 each page of it has to be looked at. */
	if (variant->without && strstr(variant->without, "pagemap-scan"))
		SKIP(return, "without PAGEMAP_SCAN");
	DO(MAP, SPARSE, TIB, RW);
	DO(MAP, LOW, MIB, RW);
	for (unsigned i = 0; i < 16; i++)
		DO(FILL, SPARSE + i * (TIB / 16), PAGE, i);
	CAPTURE(ranges);
	EXPECT_EQ(16, self->result.generation.pages_stored);
	DO(FILL, SPARSE + TIB - PAGE, PAGE, 99);
	DO(GIVE_UP, SPARSE, TIB / 2, MADV_DONTNEED);
	CAPTURE(ranges);
	EXPECT_EQ(1, self->result.generation.pages_stored);
	RESTORE(ranges);
	for (unsigned i = 0; i < 16; i++)
		whole += SUM_OF(SPARSE + i * (TIB / 16), PAGE) !=
			 SUM_OF(SPARSE + i * (TIB / 16) + PAGE, PAGE);
	EXPECT_EQ(8, whole);
	EXPECT_NE(SUM_OF(SPARSE + TIB - PAGE, PAGE), SUM_OF(LOW, PAGE));
}

/* A private mapping of a file: also what nobody has touched is memory of the guest. */
TEST_F(memory, file)
{
	const struct thaw_range ranges[] = {{LOW, LOW + MIB}};
	char *path = support_format("%s/file", self->directory);
	uint64_t whole, original;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), number;
	static char bytes[MIB];

	free(path);
	for (unsigned i = 0; i < MIB; i++)
		bytes[i] = (char)(i * 7 + i / 4096);
	ASSERT_EQ(MIB, write(fd, bytes, MIB));
	/* The guest has it under the same number: it was forked before, so another one is. */
	guest_end(&self->guest);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(self));
	guest_start(&self->guest);
	ASSERT_EQ(0, attach(self, NULL, 0)) TH_LOG("%s", self->error.text);
	number = fd;
	DO(MAP_FROM_FILE, LOW, MIB, RW, (uint64_t)number);
	original = SUM_OF(LOW + 64 * PAGE, PAGE);
	DO(FILL, LOW + 64 * PAGE, PAGE, 1);
	CAPTURE(ranges);
	whole = SUM_OF(LOW, MIB);
	DO(FILL, LOW + 65 * PAGE, PAGE, 1);
	DO(GIVE_UP, LOW + 64 * PAGE, PAGE, MADV_DONTNEED);
	CAPTURE(ranges);
	EXPECT_EQ(2, self->result.generation.pages_stored);
	EXPECT_NE(whole, SUM_OF(LOW, MIB));
	whole = SUM_OF(LOW, MIB);
	close(fd);
	RESTORE(ranges);
	EXPECT_EQ(whole, SUM_OF(LOW, MIB));
	EXPECT_EQ(original, SUM_OF(LOW + 64 * PAGE, PAGE));
}

TEST_F(memory, detached)
{
	const struct thaw_range ranges[] = {{LOW, LOW + 16 * MIB}};
	uint64_t whole;
	size_t bytes;

	DO(MAP, LOW, 16 * MIB, RW);
	DO(FILL, LOW, 16 * MIB, 1);
	CAPTURE(ranges);
	whole = SUM_OF(LOW, 16 * MIB);
	/* What was copied before the guest ended is of no generation. */
	DO(FILL, LOW, 16 * MIB, 2);
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	guest_end(&self->guest);
	thaw_process_detach(self->heap);
	ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_BOUND, "last", 4));
	thaw_checkpoint_wait(self->heap);
	thaw_checkpoint_poll(self->heap, &self->result);
	ASSERT_EQ(0, self->result.code) TH_LOG("%s", self->result.error.text);
	EXPECT_EQ(0, self->result.generation.pages_stored);
	EXPECT_EQ(-ESRCH, thaw_process_ranges(self->heap, ranges, 1, &self->error));
	RESTORE(ranges);
	EXPECT_EQ(0, memcmp(thaw_state(self->heap, &bytes), "last", 4));
	EXPECT_EQ(whole, SUM_OF(LOW, 16 * MIB));
	/* A heap that never had a process: its memory is that of the one before. */
	guest_end(&self->guest);
	thaw_close(self->heap);
	ASSERT_EQ(0, open_heap(self));
	EXPECT_EQ(0, capture(self, NULL, 0, "state"));
	EXPECT_EQ(0, self->result.generation.pages_stored);
	RESTORE(ranges);
	EXPECT_EQ(whole, SUM_OF(LOW, 16 * MIB));
}

/* The guest becomes another program: nothing of the memory before is left. */
TEST_F(memory, replaced)
{
	const struct thaw_range ranges[] = {{LOW, LOW + 16 * MIB}};
	const struct thaw_range others[] = {{LOW + 8 * MIB, LOW + 32 * MIB}};
	uint64_t whole, zero;

	DO(MAP, LOW, 16 * MIB, RW);
	zero = SUM_OF(LOW, PAGE);
	DO(FILL, LOW, 16 * MIB, 1);
	CAPTURE(ranges);
	RESTORE(ranges);
	DO(FILL, LOW, 12 * MIB, 2);
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	thaw_process_detach(self->heap);
	guest_end(&self->guest);
	guest_start(&self->guest);
	ASSERT_EQ(0, attach(self, NULL, 0)) TH_LOG("%s", self->error.text);
	DO(MAP, LOW + 8 * MIB, 24 * MIB, RW);
	DO(FILL, LOW + 12 * MIB, 2 * MIB, 3);
	ASSERT_EQ(0, thaw_process_ranges(self->heap, others, 1, &self->error));
	ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_BOUND, "", 0));
	thaw_checkpoint_wait(self->heap);
	thaw_checkpoint_poll(self->heap, &self->result);
	ASSERT_EQ(0, self->result.code) TH_LOG("%s", self->result.error.text);
	whole = SUM_OF(LOW + 8 * MIB, 24 * MIB);
	RESTORE(others);
	EXPECT_EQ(whole, SUM_OF(LOW + 8 * MIB, 24 * MIB));
	EXPECT_EQ(zero, SUM_OF(LOW + 8 * MIB, PAGE));
}

/* Killed at any moment of a checkpoint: it fails, and the generation before is what is there. */
TEST_F(memory, killed)
{
	const struct thaw_range ranges[] = {{LOW, LOW + 16 * MIB}};
	uint64_t whole;

	DO(MAP, LOW, 16 * MIB, RW);
	DO(FILL, LOW, 16 * MIB, 1);
	CAPTURE(ranges);
	whole = SUM_OF(LOW, 16 * MIB);
	for (unsigned when = 0; when < 3; when++) {
		int code = 0;

		DO(FILL, LOW, 16 * MIB, 2);
		if (when == 0)
			guest_end(&self->guest);
		ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
		if (thaw_checkpoint_wait(self->heap) == THAW_READY) {
			if (when == 1)
				guest_end(&self->guest);
			code = thaw_process_ranges(self->heap, ranges, 1, &self->error);
			EXPECT_EQ(when == 2 ? 0 : -ESRCH, code);
			if (when == 2)
				guest_end(&self->guest);
			EXPECT_EQ(-ESRCH,
				  thaw_checkpoint_capture(self->heap, THAW_KIND_BOUND, "", 0));
		}
		thaw_checkpoint_wait(self->heap);
		thaw_checkpoint_poll(self->heap, &self->result);
		EXPECT_EQ(-ESRCH, self->result.code);
		RESTORE(ranges);
		EXPECT_EQ(whole, SUM_OF(LOW, 16 * MIB));
	}
}

/* Much memory that is new is copied while the guest runs. */
TEST_F(memory, much_new)
{
	const struct thaw_range ranges[] = {{LOW, LOW + 64 * MIB}};
	struct thaw_status status;
	uint64_t whole;

	DO(MAP, LOW, 64 * MIB, RW);
	DO(FILL, LOW, 64 * MIB, 1);
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	ASSERT_EQ(0, thaw_process_ranges(self->heap, ranges, 1, &self->error));
	if (thaw_process_copies_first(self->heap)) {
		DO(FILL, LOW, MIB, 2);
		DO(GIVE_UP, LOW + MIB, MIB, MADV_DONTNEED);
		ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
		ASSERT_EQ(0, thaw_process_ranges(self->heap, ranges, 1, &self->error));
		EXPECT_FALSE(thaw_process_copies_first(self->heap));
	} else {
		/* What was written meanwhile would not be known. */
		thaw_status(self->heap, &status);
		EXPECT_STREQ("hashed", status.tracker);
	}
	ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_BOUND, "", 0));
	thaw_checkpoint_wait(self->heap);
	thaw_checkpoint_poll(self->heap, &self->result);
	ASSERT_EQ(0, self->result.code) TH_LOG("%s", self->result.error.text);
	whole = SUM_OF(LOW, 64 * MIB);
	RESTORE(ranges);
	EXPECT_EQ(whole, SUM_OF(LOW, 64 * MIB));
}

/* A checkpoint that fails loses neither what was written nor what was given up. */
TEST_F(memory, failed)
{
	const struct thaw_range ranges[] = {{LOW, LOW + MIB}};
	uint64_t whole, zero;

	DO(MAP, LOW, MIB, RW);
	zero = SUM_OF(LOW, PAGE);
	DO(FILL, LOW, MIB, 1);
	CAPTURE(ranges);
	DO(FILL, LOW, 2 * PAGE, 2);
	DO(GIVE_UP, LOW + MIB / 2, MIB / 2, MADV_DONTNEED);
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	ASSERT_EQ(0, thaw_process_ranges(self->heap, ranges, 1, &self->error));
	ASSERT_EQ(0, thaw_checkpoint_abandon(self->heap, -EIO, "on purpose"));
	thaw_checkpoint_poll(self->heap, NULL);
	/* The file cannot grow. */
	struct rlimit limit, none = {0, RLIM_INFINITY};
	getrlimit(RLIMIT_FSIZE, &limit);
	none.rlim_max = limit.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &none);
	EXPECT_GT(0, capture(self, ranges, 1, "a"));
	setrlimit(RLIMIT_FSIZE, &limit);
	CAPTURE(ranges);
	whole = SUM_OF(LOW, MIB);
	RESTORE(ranges);
	EXPECT_EQ(whole, SUM_OF(LOW, MIB));
	EXPECT_EQ(zero, SUM_OF(LOW + MIB / 2, PAGE));
}

/* While the guest writes and gives up its memory, and is not asked: what a stop finds is what is restored. */
TEST_F(memory, running)
{
	const struct thaw_range ranges[] = {{LOW, LOW + 32 * MIB}};
	static uint8_t there[32 * MIB], restored[32 * MIB];

	DO(MAP, LOW, 32 * MIB, RW);
	guest_order(&self->guest, CHURN, LOW, 32 * MIB, 1, 0);
	for (unsigned turn = 0; turn < 8; turn++) {
		int status;

		ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
		ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
		kill(self->guest.pid, SIGSTOP);
		waitpid(self->guest.pid, &status, WUNTRACED);
		ASSERT_EQ(0, thaw_process_ranges(self->heap, ranges, 1, &self->error));
		ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_BOUND, &turn, 4));
		thaw_checkpoint_wait(self->heap);
		thaw_checkpoint_poll(self->heap, &self->result);
		ASSERT_EQ(0, self->result.code) TH_LOG("%s", self->result.error.text);
		if (turn < 7)
			kill(self->guest.pid, SIGCONT);
	}
	ASSERT_TRUE(guest_shows(&self->guest, LOW, there, sizeof(there)));
	RESTORE(ranges);
	SUM_OF(LOW, 32 * MIB);
	ASSERT_TRUE(guest_shows(&self->guest, LOW, restored, sizeof(restored)));
	EXPECT_EQ(0, memcmp(there, restored, sizeof(there)));
}

TEST(options)
{
	struct thaw_options options = {.flags = THAW_PROCESS, .engine = "process_memory"};
	struct thaw_error error;
	struct thaw *heap;

	EXPECT_EQ(-EINVAL, thaw_open(&options, &heap, &error));
}

TEST_HARNESS_MAIN
