// SPDX-License-Identifier: GPL-2.0-only
/*
 * What another process does to its memory while pages of it have been read ahead and are not there yet: what it gave
 * up, unmapped or moved away never gets those contents, what it moved does, and so does a forked child. And "all has
 * arrived" is said of no page that is only missing since the index is damaged.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "reads_held.h"
#include "served_process.h"

FIXTURE(held)
{
	struct served it;
};
FIXTURE_VARIANT(held)
{
	const char *reader;
	bool direct;
};
FIXTURE_VARIANT_ADD(held, io_uring){.reader = "io_uring"};
FIXTURE_VARIANT_ADD(held, threads){.reader = "threads"};
FIXTURE_VARIANT_ADD(held, direct_io_uring){.reader = "io_uring", .direct = true};
FIXTURE_VARIANT_ADD(held, direct_threads){.reader = "threads", .direct = true};

FIXTURE_SETUP(held)
{
	int fd;

	setenv("THAW_READER", variant->reader, 1);
	held.direct = variant->direct;
	if (!served_prepare(&self->it))
		SKIP(return, "%s", self->it.error.text);
	if (self->it.region.backends.delivery == DELIVERY_EAGER)
		SKIP(return, "%s", self->it.region.backends.why);
	fd = variant->direct ? open(self->it.path, O_RDONLY | O_DIRECT | O_CLOEXEC) : -1;
	if (variant->direct && fd < 0)
		SKIP(return, "no O_DIRECT here");
	if (fd >= 0)
		close(fd);
}
FIXTURE_TEARDOWN(held)
{
	gate_open();
	served_end(&self->it);
}

#define UNDER_WAY 512ull /* pages that are certainly read ahead by then */
#define AT(page) ((void *)(uintptr_t)(NEAR + (page)*SERVED_PAGE))

/* Of each 64 pages: 8 given up, 8 unmapped, 8 unmapped and mapped anew, 8 moved far away, the others left alone. */
static void change_all(void)
{
	for (uint64_t page = 0; page < UNDER_WAY; page += 64) {
		uint64_t to = 0x400000000000ull + page * SERVED_PAGE;

		CHECK(!madvise(AT(page), 8 * SERVED_PAGE, MADV_DONTNEED));
		CHECK(!munmap(AT(page + 8), 8 * SERVED_PAGE));
		CHECK(mmap(AT(page + 16), 8 * SERVED_PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == AT(page + 16));
		CHECK(mremap(AT(page + 24), 8 * SERVED_PAGE, 8 * SERVED_PAGE,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED);
	}
}

static void compare_all(void)
{
	for (uint64_t page = 0; page < UNDER_WAY; page += 64) {
		CHECK(pages_are_zero(NEAR + page * SERVED_PAGE, 8));
		CHECK(msync(AT(page + 8), 8 * SERVED_PAGE, MS_ASYNC) && errno == ENOMEM);
		CHECK(pages_are_zero(NEAR + (page + 16) * SERVED_PAGE, 8));
		CHECK(pages_are(0x400000000000ull + page * SERVED_PAGE,
				NEAR + (page + 24) * SERVED_PAGE, 8));
		CHECK(pages_are(NEAR + (page + 32) * SERVED_PAGE, NEAR + (page + 32) * SERVED_PAGE,
				32));
	}
	CHECK(pages_are(NEAR + UNDER_WAY * SERVED_PAGE, NEAR + UNDER_WAY * SERVED_PAGE,
			NEAR_PAGES - UNDER_WAY));
}

static void changes_while_read(void)
{
	pid_t before, after;
	int status;

	stage_await(1);
	before = fork();
	if (!before) {
		stage_await(3);
		CHECK(pages_are(NEAR, NEAR, NEAR_PAGES));
		_exit(0);
	}
	change_all();
	after = fork();
	if (!after) {
		stage_await(3);
		compare_all();
		_exit(0);
	}
	stage_reach(2);
	stage_await(3);
	compare_all();
	CHECK(waitpid(before, &status, 0) == before && WIFEXITED(status) && !WEXITSTATUS(status));
	CHECK(waitpid(after, &status, 0) == after && WIFEXITED(status) && !WEXITSTATUS(status));
}

TEST_F(held, what_it_did_meanwhile_is_what_counts)
{
	double end = support_deadline(60);
	int status, wrong;

	gate_close();
	ASSERT_EQ(0, served_start(&self->it, changes_while_read, true))
	TH_LOG("%s", self->it.error.text);
	ASSERT_TRUE(gate_await());
	stage_reach(1);
	stage_await(2);
	gate_open();
	while (!fault_service_all_arrived(self->it.service) && support_seconds() < end)
		support_sleep(0.001);
	EXPECT_TRUE(fault_service_all_arrived(self->it.service));
	stage_reach(3);
	wrong = served_finish(&self->it, &status);
	EXPECT_EQ(0, wrong)
	TH_LOG("line %d is wrong, or the guest ended by signal %d", wrong,
	       WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	EXPECT_EQ(variant->direct, atomic_load(&held.direct_reads) > 0);
}

static void waits(void)
{
	stage_await(1);
	CHECK(pages_are(NEAR, NEAR, 16));
}

/* Who is forked without a word would find zeros there. */
TEST_F(held, all_has_arrived_but_what_is_poisoned)
{
	double end = support_deadline(60);
	int status;

	held.lost_leaf = NEAR / SERVED_PAGE + 2 * IMAGE_LEAF_PAGES;
	ASSERT_EQ(0, served_start(&self->it, waits, true)) TH_LOG("%s", self->it.error.text);
	while (!fault_service_all_arrived(self->it.service) && support_seconds() < end)
		support_sleep(0.001);
	EXPECT_TRUE(fault_service_all_arrived(self->it.service));
	EXPECT_EQ(IMAGE_LEAF_PAGES, fault_service_counters(self->it.service).pages_poisoned);
	EXPECT_LE(STORED_PAGES - IMAGE_LEAF_PAGES,
		  fault_service_counters(self->it.service).pages_restored);
	stage_reach(1);
	EXPECT_EQ(0, served_finish(&self->it, &status));
}

/* The last step of prefetch has nothing to wait for. */
TEST_F(held, all_has_arrived_where_nothing_was_read)
{
	double end = support_deadline(60);

	held.all_lost = true;
	ASSERT_EQ(0, served_start(&self->it, waits, true)) TH_LOG("%s", self->it.error.text);
	while (!fault_service_all_arrived(self->it.service) && support_seconds() < end)
		support_sleep(0.001);
	EXPECT_TRUE(fault_service_all_arrived(self->it.service));
	EXPECT_EQ(0, fault_service_counters(self->it.service).pages_restored);
}

static void waits_for_ever(void)
{
	stage_await(1);
}

TEST_F(held, it_is_killed_with_much_under_way)
{
	struct thaw_error error;

	gate_close();
	ASSERT_EQ(0, served_start(&self->it, waits_for_ever, true));
	ASSERT_TRUE(gate_await());
	kill(self->it.guest, SIGKILL);
	waitpid(self->it.guest, NULL, 0);
	self->it.guest = -1;
	EXPECT_EQ(0, fault_service_settle(self->it.service, &error));
	gate_open();
	EXPECT_GE(STORED_PAGES, fault_service_counters(self->it.service).pages_restored);
}

TEST_HARNESS_MAIN
