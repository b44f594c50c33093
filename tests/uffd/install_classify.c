// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every answer of a UFFDIO ioctl is understood: done, part of it, there already, try again, gone,
 * fatal; and the loop built on that understanding installs each page exactly once whatever was
 * there before.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "compat.h"
#include "install.h"
#include "page.h"

#define STEP 4096 /* what the answers are counted in */
#define HEAP (16 * PAGE_BYTES_MOST)
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

struct answer {
	const char *what;
	int result;
	int64_t done;
	enum install_outcome outcome;
	uint64_t advanced;
};

static const struct answer answers[] = {
	{"all of it", 0, 4 * STEP, INSTALL_DONE, 4 * STEP},
	{"half of it, as success", 0, 2 * STEP, INSTALL_PARTIAL, 2 * STEP},
	{"half of it, as EAGAIN", -EAGAIN, 2 * STEP, INSTALL_PARTIAL, 2 * STEP},
	{"nothing, address space changing", -EAGAIN, -EAGAIN, INSTALL_RETRY, 0},
	{"nothing, address space changing, not written back", -EAGAIN, 0, INSTALL_RETRY, 0},
	{"there already", -EEXIST, -EEXIST, INSTALL_EXISTS, 0},
	{"some, then one was there", -EEXIST, STEP, INSTALL_EXISTS, STEP},
	{"process gone", -ESRCH, -ESRCH, INSTALL_GONE, 0},
	{"not registered any more", -ENOENT, -ENOENT, INSTALL_GONE, 0},
	{"no memory", -ENOMEM, -ENOMEM, INSTALL_FATAL, 0},
	{"bad address", -EFAULT, -EFAULT, INSTALL_FATAL, 0},
	{"bad argument", -EINVAL, 0, INSTALL_FATAL, 0},
	{"more than was asked", 0, 8 * STEP, INSTALL_FATAL, 8 * STEP},
};

TEST(every_answer_is_classified)
{
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		const struct answer *answer = &answers[i];
		uint64_t advanced;

		TH_LOG("%s", answer->what);
		EXPECT_EQ(answer->outcome,
			  install_classify(answer->result, answer->done, 4 * STEP, &advanced));
		EXPECT_EQ(answer->advanced, advanced);
	}
}

FIXTURE(installing)
{
	struct region region;
};
FIXTURE_SETUP(installing)
{
	struct thaw_error error = {0};

	if (region_create(&self->region, NULL, HEAP, 0, false, &error))
		SKIP(return, "%s", error.text);
	/* It is about a userfaultfd's answers. */
	if (self->region.backends.delivery > DELIVERY_UFFD_USER)
		SKIP(region_destroy(&self->region); return, "%s", self->region.backends.why);
	ASSERT_EQ(0, region_register(&self->region, HEAP, &error));
	ASSERT_EQ(0, region_resize(&self->region, HEAP));
}
FIXTURE_TEARDOWN(installing)
{
	region_destroy(&self->region);
}

/* Contents beside the region, as installation wants them. */
static void *contents(char *buffer, unsigned count, char fill)
{
	return memset(buffer, fill, count * PAGE);
}

TEST_F(installing, pages_that_exist_are_skipped)
{
	static char buffer[16 * PAGE_BYTES_MOST];
	struct region *region = &self->region;

	ASSERT_EQ(0, install_pages(region, 3, 2, contents(buffer, 2, 'a')));
	ASSERT_EQ(0, install_zero(region, 9, 1));
	/* Over the holes and the pages in between: 3 and 4 keep what they have. */
	memset(buffer, 'b', sizeof(buffer));
	ASSERT_EQ(0, install_pages(region, 0, 16, buffer));
	for (int page = 0; page < 16; page++)
		EXPECT_EQ(page == 3 || page == 4 ? 'a'
			  : page == 9		 ? 0
						 : 'b',
			  region->base[page * PAGE + 100]);
}

static void *toucher(void *arg)
{
	return (void *)(long)*(volatile char *)arg;
}

TEST_F(installing, a_waiting_thread_is_woken)
{
	static char buffer[PAGE_BYTES_MOST];
	struct region *region = &self->region;
	struct uffd_msg message;
	pthread_t thread;
	void *seen;

	ASSERT_EQ(0, pthread_create(&thread, NULL, toucher, region->base + 7 * PAGE));
	while (read(region->uffd, &message, sizeof(message)) != sizeof(message)) {
		ASSERT_EQ(EAGAIN, errno);
	}
	ASSERT_EQ(UFFD_EVENT_PAGEFAULT, message.event);
	EXPECT_EQ(7, region_page(region, (void *)(uintptr_t)message.arg.pagefault.address));
	ASSERT_EQ(0, install_pages(region, 7, 1, contents(buffer, 1, 'x')));
	ASSERT_EQ(0, pthread_join(thread, &seen));
	EXPECT_EQ('x', (long)seen);
}

TEST_F(installing, outside_of_a_region_is_gone_not_fatal)
{
	static char buffer[PAGE_BYTES_MOST];
	struct region *region = &self->region;

	munmap(region->base, PAGE);
	EXPECT_EQ(-ESRCH, install_pages(region, 0, 1, contents(buffer, 1, 'x')));
}

TEST_HARNESS_MAIN
