// SPDX-License-Identifier: GPL-2.0-only
/*
 * process_children.c - the children of a process whose memory is being restored see what it had when they were forked,
 * whatever becomes of it, of the image, and of the service. With both readers.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <spawn.h>
#include <sys/resource.h>

#include "served_guest.h"

static void child_reads(uint64_t from, uint64_t count)
{
	for (uint64_t page = from; page < from + count; page++)
		CHECK(page_is(NEAR + page * SERVED_PAGE, NEAR + page * SERVED_PAGE));
}

static void forks(void)
{
	pid_t child;

	child_reads(0, 100);
	child = fork();
	if (!child) {
		pid_t grandchild;

		stage_await(1);
		child_reads(0, 1000);
		CHECK(!madvise(near_page(1000), 10 * SERVED_PAGE, MADV_DONTNEED));
		CHECK(!munmap(near_page(3500), 10 * SERVED_PAGE));
		grandchild = fork();
		if (!grandchild) {
			CHECK(pages_are_zero(NEAR + 1000 * SERVED_PAGE, 10));
			child_reads(1010, 2000);
			_exit(0);
		}
		*(uint64_t *)near_page(2000) = 9; /* not in the grandchild */
		wait_right(grandchild);
		child_reads(2001, 1499);
		CHECK(pages_are_zero(NEAR + 1000 * SERVED_PAGE, 10));
		CHECK(*(uint64_t *)near_page(2000) == 9);
		child_reads(3510, NEAR_PAGES - 3510);
		CHECK(pages_are(FAR, FAR, FAR_PAGES));
		_exit(0);
	}
	/* All of it changes here, in one way or another. */
	memset(near_page(0), 1, 500 * SERVED_PAGE);
	CHECK(!madvise(near_page(500), 500 * SERVED_PAGE, MADV_DONTNEED));
	CHECK(!munmap(near_page(1000), 1000 * SERVED_PAGE));
	shared->value[0] = move_to(near_page(2000), 1000, 1000, NULL);
	memset((void *)(uintptr_t)shared->value[0], 2, 500 * SERVED_PAGE);
	stage_reach(1);
	wait_right(child);
	CHECK(pages_are_zero(NEAR + 500 * SERVED_PAGE, 500));
	CHECK(pages_are(shared->value[0] + 500 * SERVED_PAGE, NEAR + 2500 * SERVED_PAGE, 500));
	CHECK(pages_are(NEAR + 3500 * SERVED_PAGE, NEAR + 3500 * SERVED_PAGE, 10));
}

TEST_F(served, a_forked_child_misses_nothing)
{
	START(forks);
	EXPECT_RIGHT();
}

static void forks_and_gives_up(void)
{
	pid_t child = fork();

	if (!child) {
		stage_await(2);
		child_reads(0, NEAR_PAGES);
		_exit(0);
	}
	*(uint64_t *)near_page(5) = 1; /* never stored */
	CHECK(!madvise(near_page(100), 1000 * SERVED_PAGE, MADV_DONTNEED));
	*(uint64_t *)near_page(101) = 1;
	stage_reach(1);
	wait_right(child);
}

/* A generation stores what the guest has now; its child still has what was. */
TEST_F(served, a_child_keeps_what_a_capture_overwrites)
{
	struct thaw_error error;
	struct commit *commit;
	uint64_t page[WORDS] = {1};
	bool stored;

	START(forks_and_gives_up);
	stage_await(1);
	ASSERT_EQ(0, fault_service_settle(self->it.service, &error));
	ASSERT_EQ(0, commit_begin(self->it.image, &commit, &error));
	ASSERT_EQ(0, commit_page(commit, NEAR / SERVED_PAGE + 5, page, &stored, &error));
	for (uint64_t i = 100; i < 1100; i++)
		ASSERT_EQ(0, commit_page(commit, NEAR / SERVED_PAGE + i, page, &stored, &error));
	stage_reach(2);
	EXPECT_RIGHT();
	commit_abort(commit);
}

static void executes(void)
{
	extern char **environ;
	char *arguments[] = {"true", NULL};

	for (unsigned i = 0; i < 20; i++) {
		pid_t child;

		child_reads(i * 50, 10);
		CHECK(!posix_spawnp(&child, "true", NULL, NULL, arguments, environ));
		wait_right(child);
		child = fork();
		if (!child) {
			child_reads(i * 50 + 10, 10);
			execvp("true", arguments);
			_exit(1);
		}
		wait_right(child);
		CHECK(!madvise(near_page(i * 50 + 5), 10 * SERVED_PAGE, MADV_DONTNEED));
		CHECK(pages_are_zero(NEAR + (i * 50 + 5) * SERVED_PAGE, 10));
	}
}

static unsigned open_files(void)
{
	return support_files("/proc/self/fd");
}

TEST_F(served, children_that_run_other_programs_are_forgotten)
{
	unsigned before, after;

	START(executes);
	before = open_files();
	EXPECT_RIGHT();
	after = open_files();
	/* Besides theirs: the two of the thread that reads ahead. */
	EXPECT_LE(after, before + 2 + 2);
}

static void forks_many(void)
{
	pid_t children[8];

	stage_await(1);
	for (unsigned i = 0; i < 8; i++) {
		children[i] = fork();
		if (!children[i]) {
			child_reads(i * 100, 300);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < 8; i++)
		wait_right(children[i]);
}

/* There is one for each child, up to the hard limit. */
TEST_F(served, no_descriptor_is_left_for_a_child)
{
	struct rlimit limit;

	START(forks_many);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = (rlim_t)dup(0);
	close((int)limit.rlim_cur);
	setrlimit(RLIMIT_NOFILE, &limit);
	stage_reach(1);
	EXPECT_RIGHT();
}

static void orphan(void)
{
	if (!fork()) {
		stage_await(1);
		child_reads(0, NEAR_PAGES);
		stage_reach(2);
		_exit(0);
	}
}

/* Whoever ends the service does not leave the guest's children with zeros. */
TEST_F(served, a_child_outlives_the_service)
{
	START(orphan);
	EXPECT_RIGHT();
	fault_service_stop(self->it.service);
	self->it.service = NULL;
	close(self->it.region.uffd);
	self->it.region.uffd = -1;
	stage_reach(1);
	stage_await(2);
	EXPECT_EQ(0, atomic_load(&shared->wrong)) TH_LOG("line %d", shared->wrong);
}

static void parent_of_one(void)
{
	pid_t child = fork();

	if (!child) {
		stage_await(1);
		_exit(0);
	}
	wait_right(child);
}

/* Nobody serves it when this process is killed. */
TEST_F(served, a_child_that_lives_on_is_given_everything)
{
	START(parent_of_one);
	while (fault_service_counters(self->it.service).pages_restored < STORED_PAGES)
		support_sleep(0.001);
	stage_reach(1);
	EXPECT_RIGHT();
	EXPECT_EQ(0, fault_service_counters(self->it.service).faults);
}

TEST_HARNESS_MAIN
