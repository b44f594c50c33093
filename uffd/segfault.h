/* SPDX-License-Identifier: MIT */
/*
 * segfault.h - which heap a faulting address belongs to, and the library's handler of SIGSEGV, for
 * heaps whose pages are delivered or tracked by it.
 */
#ifndef UFFD_SEGFAULT_H
#define UFFD_SEGFAULT_H

#include "fault.h"
#include "preserve.h"
#include "region.h"
#include "tracker.h"

/* One open heap. Its owner keeps it in place until segfault_unwatch(). */
struct watched {
	const struct region *region;
	struct tracker *tracker;
	struct preserver *preserver;
	struct fault_service *service;				  /* may be NULL */
	void (*fatal)(void *arg, const struct thaw_error *error); /* never returns; NULL: abort() */
	void *fatal_arg;
};

/*
 * From now on its faults are recognised, and served if its pages are delivered or tracked by
 * SIGSEGV. -ENOMEM.
 */
int segfault_watch(const struct watched *watched);
void segfault_unwatch(const struct watched *watched);

/*
 * The region of the open heap that contains the address, in use there or not; NULL: none. Async-
 * signal-safe.
 */
const struct region *segfault_region(const void *address);

/* See thaw_handle_fault() and thaw_explain_fault(). Async-signal-safe. */
bool segfault_handle(const void *address);
bool segfault_explain(const void *address, char *line, size_t line_bytes);

#endif
