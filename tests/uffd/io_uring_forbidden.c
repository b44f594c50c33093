// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where io_uring is forbidden - by a seccomp filter, as container engines have one; to a program
 * kernel.io_uring_disabled looks the same - a heap is restored all the same, by threads, and says so.
 * Who insists on io_uring is told why it cannot be had.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "support.h"
#include "thaw.h"

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define PAGES 2048u

/* The three calls of io_uring, which follow each other, fail with EPERM from now on. */
static int forbid(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

FIXTURE(forbidden)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
};
FIXTURE_VARIANT(forbidden)
{
	const char *backing, *inject;
	unsigned flags;
};
FIXTURE_VARIANT_ADD(forbidden, anonymous){.backing = "anonymous"};
FIXTURE_VARIANT_ADD(forbidden, memfd){.backing = "memfd"};
FIXTURE_VARIANT_ADD(forbidden, not_cached){.backing = "anonymous", .inject = "cached:EAGAIN:0:0"};
FIXTURE_VARIANT_ADD(forbidden, prefetch){
	.backing = "anonymous", .inject = "cached:EAGAIN:3:0", .flags = THAW_PREFETCH};

static int open_heap(FIXTURE_DATA(forbidden) * self, unsigned flags)
{
	struct thaw_options options = {
		.image = self->path, .flags = flags, .max_bytes = 256u << 20, .engine = "test"};

	return thaw_open(&options, &self->heap, &self->error);
}

FIXTURE_SETUP(forbidden)
{
	setenv("THAW_BACKING", variant->backing, 1);
	setenv("THAW_INJECT", variant->inject ? variant->inject : "", 1);
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	ASSERT_EQ(0, forbid());
	EXPECT_EQ(-1, syscall(SYS_io_uring_setup, 2, NULL));
	EXPECT_EQ(EPERM, errno);
	if (open_heap(self, THAW_CREATE) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_NE(NULL, self->heap);
	ASSERT_EQ(0, thaw_resize(self->heap, PAGES * PAGE));
}
FIXTURE_TEARDOWN(forbidden)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

TEST_F(forbidden, threads_restore_the_heap)
{
	struct thaw_status status;
	size_t *words = thaw_base(self->heap);

	for (size_t page = 0; page < PAGES; page++)
		words[page * PAGE / sizeof(size_t)] = page + 1;
	for (size_t round = 0; round < 3; round++) {
		ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, NULL));
		thaw_close(self->heap);
		self->heap = NULL;
		ASSERT_EQ(0, open_heap(self, variant->flags));
		thaw_status(self->heap, &status);
		EXPECT_STREQ("threads", status.reader);
		words = thaw_base(self->heap);
		/* Backwards: no stream. */
		for (size_t page = PAGES; page--;)
			ASSERT_EQ(page + 1 + (page % 5 ? 0 : round),
				  words[page * PAGE / sizeof(size_t)]);
		for (size_t page = 0; page < PAGES; page += 5)
			words[page * PAGE / sizeof(size_t)]++;
	}
}

TEST_F(forbidden, who_insists_is_told_why_not)
{
	thaw_close(self->heap);
	self->heap = NULL;
	setenv("THAW_READER", "io_uring", 1);
	EXPECT_EQ(THAW_EKERNEL, open_heap(self, 0));
	EXPECT_NE(NULL, strstr(self->error.text, "io_uring"));
	EXPECT_NE(NULL, strstr(self->error.text, "seccomp"));
}

TEST_HARNESS_MAIN
