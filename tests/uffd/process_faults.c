// SPDX-License-Identifier: GPL-2.0-only
/*
 * process_faults.c - another process sees its restored memory, whatever it does to it before that has arrived: it gives
 * pages up, moves and unmaps them, has the kernel touch them, dies. With both readers. Its children: process_children.c.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "served_guest.h"

/* ---- touches */

static void *touch_randomly(void *seed)
{
	uint64_t state = (uint64_t)(uintptr_t)seed * 88172645463325252ull;

	for (unsigned i = 0; i < 1500; i++) {
		uint64_t page = NEAR + random_word(&state) % NEAR_PAGES * SERVED_PAGE;

		CHECK(page_is(page, page));
	}
	return NULL;
}

static void touches(void)
{
	pthread_t threads[6];

	for (uint64_t i = 0; i < 6; i++)
		CHECK(!pthread_create(&threads[i], NULL, touch_randomly, (void *)(i + 1)));
	for (unsigned i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	CHECK(pages_are(FAR, FAR, FAR_PAGES));
	CHECK(pages_are(NEAR, NEAR, NEAR_PAGES));
}

TEST_F(served, what_is_touched_is_there)
{
	START(touches);
	EXPECT_RIGHT();
	EXPECT_EQ(STORED_PAGES, fault_service_counters(self->it.service).pages_restored);
}

static void writes(void)
{
	for (uint64_t page = 0; page < NEAR_PAGES; page += 3) {
		uint64_t *words = near_page(page);

		words[1] = 42;
		CHECK(words[0] == stored_word(NEAR + page * SERVED_PAGE));
	}
	for (uint64_t page = 0; page < NEAR_PAGES; page++) {
		CHECK(((uint64_t *)near_page(page))[1] ==
		      (page % 3 ? stored_word(NEAR + page * SERVED_PAGE + 8) : 42));
		CHECK(page_is(NEAR + page * SERVED_PAGE, NEAR + page * SERVED_PAGE));
	}
}

TEST_F(served, a_write_changes_nothing_beside_it)
{
	START(writes);
	EXPECT_RIGHT();
}

static void kernel_touches(void)
{
	int ends[2];
	static char buffer[3 * SERVED_PAGE];
	uint64_t *words;

	CHECK(!pipe(ends));
	for (uint64_t page = 0; page + 16 < NEAR_PAGES; page += 64) {
		/* write(2) from three that are missing. */
		CHECK(write(ends[1], near_page(page), 3 * SERVED_PAGE) == 3 * SERVED_PAGE);
		CHECK(read(ends[0], buffer, sizeof(buffer)) == sizeof(buffer));
		CHECK(!memcmp(buffer, near_page(page), sizeof(buffer)));
		CHECK(pages_are(NEAR + page * SERVED_PAGE, NEAR + page * SERVED_PAGE, 3));
		/* read(2) into the middle of two others. */
		CHECK(write(ends[1], buffer, SERVED_PAGE) == SERVED_PAGE);
		words = near_page(page + 32);
		CHECK(read(ends[0], words + WORDS / 2, SERVED_PAGE) == SERVED_PAGE);
		CHECK(!memcmp(words + WORDS / 2, buffer, SERVED_PAGE));
		CHECK(words[0] == stored_word(address_of(words)));
		CHECK(words[2 * WORDS - 1] == stored_word(address_of(words) + 2 * SERVED_PAGE - 8));
	}
}

TEST_F(served, the_kernel_touches_it_like_the_program)
{
	START(kernel_touches);
	EXPECT_RIGHT();
}

/* ---- given up */

static void gives_up(void)
{
	static const unsigned lengths[] = {1, 3, 16, 40, 300};

	for (uint64_t page = 8, i = 0; page + 300 < NEAR_PAGES; page += 320, i++) {
		uint64_t length = lengths[i % 5];

		if (i % 3 == 1) /* there already; or half of it */
			CHECK(pages_are(NEAR + page * SERVED_PAGE, NEAR + page * SERVED_PAGE,
					length));
		if (i % 3 == 2)
			CHECK(page_is(NEAR + (page + length / 2) * SERVED_PAGE,
				      NEAR + (page + length / 2) * SERVED_PAGE));
		CHECK(!madvise(near_page(page), length * SERVED_PAGE,
			       i % 2 ? MADV_DONTNEED : MADV_REMOVE) ||
		      !madvise(near_page(page), length * SERVED_PAGE, MADV_DONTNEED));
		CHECK(pages_are_zero(NEAR + page * SERVED_PAGE, length));
		*(uint64_t *)near_page(page) = 7;
		CHECK(!madvise(near_page(page), SERVED_PAGE, MADV_DONTNEED));
		CHECK(page_is_zero(NEAR + page * SERVED_PAGE));
		CHECK(page_is(NEAR + (page - 1) * SERVED_PAGE, NEAR + (page - 1) * SERVED_PAGE));
		CHECK(page_is(NEAR + (page + length) * SERVED_PAGE,
			      NEAR + (page + length) * SERVED_PAGE));
	}
}

TEST_F(served, what_is_given_up_is_zero)
{
	START(gives_up);
	EXPECT_RIGHT();
}

static void unmaps(void)
{
	int ends[2];

	CHECK(!pipe(ends));
	for (uint64_t page = 64; page + 64 < NEAR_PAGES; page += 128) {
		CHECK(page_is(NEAR + page * SERVED_PAGE, NEAR + page * SERVED_PAGE));
		CHECK(!munmap(near_page(page - 8), 40 * SERVED_PAGE));
		CHECK(write(ends[1], near_page(page), 1) == -1 && errno == EFAULT);
		CHECK(write(ends[1], near_page(page + 31), 1) == -1 && errno == EFAULT);
		CHECK(page_is(NEAR + (page + 32) * SERVED_PAGE, NEAR + (page + 32) * SERVED_PAGE));
		CHECK(mmap(near_page(page), 8 * SERVED_PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == near_page(page));
		CHECK(pages_are_zero(NEAR + page * SERVED_PAGE, 8));
		/* Over what is still missing. */
		CHECK(mmap(near_page(page + 40), 8 * SERVED_PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == near_page(page + 40));
		CHECK(pages_are_zero(NEAR + (page + 40) * SERVED_PAGE, 8));
	}
}

TEST_F(served, what_is_unmapped_is_gone_and_new_mappings_are_new)
{
	START(unmaps);
	EXPECT_RIGHT();
}

/* Memory grows where it is (brk, mremap): new pages are zero. */
static void grows(void)
{
	void *far = far_page(0);
	uint64_t end = FAR + FAR_PAGES * SERVED_PAGE;

	CHECK(mremap(far, FAR_PAGES * SERVED_PAGE, 2 * FAR_PAGES * SERVED_PAGE, 0) == far);
	CHECK(pages_are_zero(end, FAR_PAGES / 2));
	CHECK(pages_are(FAR, FAR, FAR_PAGES));
	CHECK(pages_are_zero(end, FAR_PAGES));
	CHECK(mremap(far, 2 * FAR_PAGES * SERVED_PAGE, 10 * SERVED_PAGE, 0) == far);
	CHECK(mremap(far, 10 * SERVED_PAGE, FAR_PAGES * SERVED_PAGE, 0) == far);
	CHECK(pages_are(FAR, FAR, 10));
	CHECK(pages_are_zero(FAR + 10 * SERVED_PAGE, FAR_PAGES - 10));
}

TEST_F(served, memory_that_grows_is_zero)
{
	START(grows);
	EXPECT_RIGHT();
}

/* ---- moved */

static void moves(void)
{
	uint64_t at, back;

	for (uint64_t page = 0; page < 512; page += 5) /* some have arrived */
		CHECK(page_is(NEAR + page * 2 * SERVED_PAGE, NEAR + page * 2 * SERVED_PAGE));
	at = move_to(near_page(0), 1000, 1500, NULL);
	CHECK(pages_are_zero(at + 1000 * SERVED_PAGE, 500));
	CHECK(page_is(at + 999 * SERVED_PAGE, NEAR + 999 * SERVED_PAGE));
	/* Twice, and its old place is used by others that have not arrived. */
	back = move_to((void *)(uintptr_t)at, 1000, 1000, NULL);
	CHECK(move_to(near_page(2000), 500, 500, near_page(100)) == NEAR + 100 * SERVED_PAGE);
	CHECK(pages_are(NEAR + 100 * SERVED_PAGE, NEAR + 2000 * SERVED_PAGE, 500));
	CHECK(pages_are(back, NEAR, 1000));
	/* Two change places. */
	at = move_to(near_page(3000), 64, 64, NULL);
	CHECK(move_to(far_page(0), 64, 64, near_page(3000)) == NEAR + 3000 * SERVED_PAGE);
	CHECK(move_to((void *)(uintptr_t)at, 64, 64, far_page(0)) == FAR);
	CHECK(pages_are(FAR, NEAR + 3000 * SERVED_PAGE, 64));
	CHECK(pages_are(NEAR + 3000 * SERVED_PAGE, FAR, 64));
	/* Over others that are missing; and what was moved is given up, in part. */
	CHECK(move_to(near_page(3200), 50, 50, near_page(3300)) == NEAR + 3300 * SERVED_PAGE);
	CHECK(!madvise(near_page(3310), 5 * SERVED_PAGE, MADV_DONTNEED));
	CHECK(pages_are_zero(NEAR + 3310 * SERVED_PAGE, 5));
	CHECK(pages_are(NEAR + 3300 * SERVED_PAGE, NEAR + 3200 * SERVED_PAGE, 10));
	CHECK(pages_are(NEAR + 3315 * SERVED_PAGE, NEAR + 3215 * SERVED_PAGE, 35));
	CHECK(pages_are(NEAR + 3350 * SERVED_PAGE, NEAR + 3350 * SERVED_PAGE, 100));
	/* The old place stays, and is empty. */
	at = address_of(mremap(near_page(3600), 64 * SERVED_PAGE, 64 * SERVED_PAGE,
			       MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
	if (at != address_of(MAP_FAILED)) {
		CHECK(pages_are_zero(NEAR + 3600 * SERVED_PAGE, 64));
		CHECK(pages_are(at, NEAR + 3600 * SERVED_PAGE, 64));
	}
}

TEST_F(served, what_is_moved_comes_to_its_new_place)
{
	START(moves);
	EXPECT_RIGHT();
}

/* ---- before a capture */

static void moves_and_waits(void)
{
	uint64_t at = move_to(near_page(0), 1000, 1000, NULL), back;

	CHECK(page_is(at, NEAR));
	shared->value[0] = at;
	stage_reach(1);
	stage_await(2);
	CHECK(pages_are(at, NEAR, 1000));
	back = move_to((void *)(uintptr_t)at, 1000, 1000, NULL);
	CHECK(pages_are(back, NEAR, 1000));
	CHECK(page_is(NEAR + 2000 * SERVED_PAGE, NEAR + 2000 * SERVED_PAGE));
}

/* Where it was stored, the next generation has other contents. */
TEST_F(served, what_was_moved_is_there_before_a_capture)
{
	struct thaw_error error;
	struct commit *commit;

	START(moves_and_waits);
	stage_await(1);
	ASSERT_EQ(0, fault_service_settle(self->it.service, &error)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, commit_begin(self->it.image, &commit, &error));
	ASSERT_EQ(0, store_range(commit, NEAR, 1000, 0x5555));
	EXPECT_LE(875, fault_service_counters(self->it.service).pages_restored);
	stage_reach(2);
	EXPECT_RIGHT();
	commit_abort(commit);
}

/* ---- all at once */

static _Atomic unsigned ready;

/* One of four quarters, in which only this thread does things. */
static void *disturb(void *arg)
{
	uint64_t quarter = NEAR_PAGES / 4, first = (uint64_t)(uintptr_t)arg * quarter;
	uint64_t state = first * 77 + 12345;
	uint64_t place[NEAR_PAGES / 4 / 16];
	bool gone[NEAR_PAGES / 4 / 16] = {false};

	for (uint64_t i = 0; i < quarter / 16; i++)
		place[i] = NEAR + (first + i * 16) * SERVED_PAGE;
	ready++;
	while (ready < 4)
		sched_yield();
	for (unsigned round = 0; round < 600; round++) {
		uint64_t i = random_word(&state) % (quarter / 16),
			 stored = NEAR + (first + i * 16) * SERVED_PAGE;
		uint64_t page = random_word(&state) % 16;

		if (gone[i])
			CHECK(pages_are_zero(place[i], 16));
		else
			CHECK(page_is(place[i] + page * SERVED_PAGE, stored + page * SERVED_PAGE));
		switch (random_word(&state) % 4) {
		case 0:
			place[i] = move_to((void *)(uintptr_t)place[i], 16, 16, NULL);
			break;
		case 1:
			if (random_word(&state) % 4)
				break;
			CHECK(!madvise((void *)(uintptr_t)place[i], 16 * SERVED_PAGE,
				       MADV_DONTNEED));
			gone[i] = true;
			break;
		case 2:
			if (round % 20 == 0) {
				pid_t child = fork();

				if (!child) {
					for (uint64_t j = 0; j < quarter / 16; j++)
						CHECK(gone[j] ? pages_are_zero(place[j], 16)
							      : pages_are(
									place[j],
									NEAR + (first + j * 16) *
											SERVED_PAGE,
									16));
					_exit(0);
				}
				wait_right(child);
			}
			break;
		}
	}
	for (uint64_t i = 0; i < quarter / 16; i++)
		CHECK(gone[i] ? pages_are_zero(place[i], 16)
			      : pages_are(place[i], NEAR + (first + i * 16) * SERVED_PAGE, 16));
	return NULL;
}

static void storm(void)
{
	pthread_t threads[4];

	for (uint64_t i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, disturb, (void *)i));
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

TEST_F(served, many_threads_do_all_of_it)
{
	START(storm);
	EXPECT_RIGHT();
}

/* ---- ends */

TEST_F(served, the_guest_is_killed_in_the_middle)
{
	struct thaw_error error;

	START(storm);
	while (fault_service_counters(self->it.service).pages_restored < 300)
		support_sleep(0.0005);
	kill(self->it.guest, SIGKILL);
	waitpid(self->it.guest, NULL, 0);
	self->it.guest = -1;
	fault_service_settle(self->it.service, &error);
	EXPECT_EQ(0, atomic_load(&shared->wrong));
}

/* ---- damage */

static void damage(struct served *served, uint64_t address)
{
	struct extent extents[IMAGE_LEAF_PAGES];
	uint64_t page = address / SERVED_PAGE, leaf = page - page % IMAGE_LEAF_PAGES;

	if (image_lookup(served->image, leaf, extents, NULL))
		support_die("look a page up");
	support_flip(served->path, extents[page - leaf].offset + 100, 4);
}

static void touches_damage(void)
{
	CHECK(page_is(NEAR + 31 * SERVED_PAGE, NEAR + 31 * SERVED_PAGE));
	CHECK(page_is(NEAR + 33 * SERVED_PAGE, NEAR + 33 * SERVED_PAGE));
	*(volatile char *)near_page(32);
}

TEST_F(served, a_page_that_cannot_be_read_is_a_bus_error)
{
	struct thaw_error error = {0};
	int status;

	damage(&self->it, NEAR + 32 * SERVED_PAGE);
	START(touches_damage);
	EXPECT_EQ(-1, served_finish(&self->it, &status));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGBUS, WTERMSIG(status));
	EXPECT_EQ(1, fault_service_counters(self->it.service).pages_poisoned);
	ASSERT_TRUE(fault_service_last_poison(self->it.service, &error));
	EXPECT_EQ(THAW_EDAMAGED, error.code);
	EXPECT_NE(NULL, strstr(error.text, "checksum")) TH_LOG("%s", error.text);
}

static void moves_damage(void)
{
	uint64_t at = move_to(near_page(0), 64, 64, NULL);

	stage_reach(1);
	stage_await(2);
	CHECK(!madvise((void *)(uintptr_t)(at + 32 * SERVED_PAGE), SERVED_PAGE, MADV_DONTNEED));
	CHECK(page_is_zero(at + 32 * SERVED_PAGE));
	stage_reach(3);
	stage_await(4);
}

TEST_F(served, damage_that_was_moved_is_in_no_generation)
{
	struct thaw_error error = {0};

	damage(&self->it, NEAR + 32 * SERVED_PAGE);
	START(moves_damage);
	stage_await(1);
	EXPECT_EQ(THAW_EDAMAGED, fault_service_settle(self->it.service, &error));
	EXPECT_NE(NULL, strstr(error.text, "checksum")) TH_LOG("%s", error.text);
	stage_reach(2);
	stage_await(3);
	EXPECT_EQ(0, fault_service_settle(self->it.service, &error));
	stage_reach(4);
	EXPECT_RIGHT();
}

/* ---- before they are touched */

static void waits(void)
{
	stage_await(1);
	CHECK(pages_are(NEAR, NEAR, NEAR_PAGES));
	CHECK(pages_are(FAR, FAR, FAR_PAGES));
}

TEST_F(served, all_is_prefetched_where_that_is_wanted)
{
	ASSERT_EQ(0, served_start(&self->it, waits, true));
	while (fault_service_counters(self->it.service).pages_restored < STORED_PAGES)
		support_sleep(0.001);
	stage_reach(1);
	EXPECT_RIGHT();
}

/* Only clusters of the working set come by themselves; what is touched is recorded, once for each cluster. */
TEST_F(served, a_working_set_is_prefetched_and_recorded)
{
	static const uint64_t set[] = {NEAR / SERVED_PAGE + 40, FAR / SERVED_PAGE + 3, 7};
	struct working_set_recorder recorder = {0};

	ASSERT_EQ(0, working_set_start(&recorder, 1, PROCESS_BYTES, SERVED_PAGE, set, 2));
	self->it.options.working_set = set;
	self->it.options.working_set_count = 3;
	self->it.options.recorder = &recorder;
	ASSERT_EQ(0, served_start(&self->it, waits, false));
	while (fault_service_counters(self->it.service).pages_restored < 28)
		support_sleep(0.001);
	EXPECT_EQ(0, fault_service_counters(self->it.service).faults);
	stage_reach(1);
	EXPECT_RIGHT();
	fault_service_stop(self->it.service);
	self->it.service = NULL;
	/* But for what readahead brings unnoticed. */
	EXPECT_GE((NEAR_PAGES + FAR_PAGES) / 16, atomic_load(&recorder.count));
	EXPECT_LE((NEAR_PAGES + FAR_PAGES) / 16 - 16, atomic_load(&recorder.count));
	EXPECT_EQ(set[0], set_entry_page(recorder.pages[0]));
	EXPECT_EQ(set[1], set_entry_page(recorder.pages[1]));
	working_set_free(&recorder);
}

TEST(without_userfaultfd_all_is_there_before_it_runs)
{
	struct served it;
	int status;

	setenv("THAW_DELIVERY", "eager", 1);
	ASSERT_TRUE(served_prepare(&it)) TH_LOG("%s", it.error.text);
	ASSERT_EQ(0, served_start(&it, waits, false)) TH_LOG("%s", it.error.text);
	stage_reach(1);
	EXPECT_EQ(0, served_finish(&it, &status));
	served_end(&it);
}

TEST(what_cannot_be_read_then_is_an_error_at_once)
{
	struct served it;

	setenv("THAW_DELIVERY", "eager", 1);
	ASSERT_TRUE(served_prepare(&it)) TH_LOG("%s", it.error.text);
	damage(&it, NEAR + 32 * SERVED_PAGE);
	EXPECT_EQ(THAW_EDAMAGED, served_start(&it, waits, false));
	EXPECT_NE(NULL, strstr(it.error.text, "checksum")) TH_LOG("%s", it.error.text);
	served_end(&it);
}

TEST_HARNESS_MAIN
