/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * served_guest.h - the fixture of process_faults.c and process_children.c: a process whose memory is restored, with each reader
 * (served_process.h), and what its body is made of.
 */
#ifndef TESTS_SERVED_GUEST_H
#define TESTS_SERVED_GUEST_H

#include "served_process.h"

FIXTURE(served)
{
	struct served it;
};
FIXTURE_VARIANT(served)
{
	const char *reader;
};
FIXTURE_VARIANT_ADD(served, io_uring){.reader = "io_uring"};
FIXTURE_VARIANT_ADD(served, threads){.reader = "threads"};

FIXTURE_SETUP(served)
{
	setenv("THAW_READER", variant->reader, 1);
	if (!served_prepare(&self->it))
		SKIP(return, "%s", self->it.error.text);
	if (self->it.region.backends.delivery == DELIVERY_EAGER)
		SKIP(return, "%s", self->it.region.backends.why);
}
FIXTURE_TEARDOWN(served)
{
	served_end(&self->it);
}

#define START(body) \
	ASSERT_EQ(0, served_start(&self->it, body, false)) TH_LOG("%s", self->it.error.text)
#define EXPECT_RIGHT()                                                             \
	do {                                                                       \
		int status, wrong = served_finish(&self->it, &status);             \
		EXPECT_EQ(0, wrong)                                                \
		TH_LOG("line %d is wrong, or the guest ended by signal %d", wrong, \
		       WIFSIGNALED(status) ? WTERMSIG(status) : 0);                \
	} while (0)

SUPPORT void *near_page(uint64_t page)
{
	return (void *)(uintptr_t)(NEAR + page * SERVED_PAGE);
}

SUPPORT void *far_page(uint64_t page)
{
	return (void *)(uintptr_t)(FAR + page * SERVED_PAGE);
}

SUPPORT uint64_t address_of(void *pointer)
{
	return (uint64_t)(uintptr_t)pointer;
}

SUPPORT void wait_right(pid_t child)
{
	int status;

	CHECK(child > 0);
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
}

/* To somewhere else, if no place is given. */
SUPPORT uint64_t move_to(void *from, uint64_t pages, uint64_t new_pages, void *to)
{
	void *at;

	if (!to)
		to = mmap(NULL, new_pages * SERVED_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	at = mremap(from, pages * SERVED_PAGE, new_pages * SERVED_PAGE,
		    MREMAP_MAYMOVE | MREMAP_FIXED, to);
	CHECK(at == to);
	return address_of(at);
}

#endif
