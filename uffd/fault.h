/* SPDX-License-Identifier: MIT */
/*
 * fault.h - the fault service: one thread that makes pages appear when they are touched.
 *
 * A page of the restored part of a region is in one of these states; the service's thread alone
 * moves it:
 *
 *	absent --demand, readahead or prefetch--> reading --checked, installed--> arrived
 *	   |                                         |
 *	   +--zero or never stored--> arrived        +--unreadable, or its checksum is wrong--> poisoned
 *
 * Faults on a page that is being read join that read: they are woken by its installation.
 *
 * Without userfaultfd, a touch of a page that is absent raises SIGSEGV, and its handler asks for the page
 * (fault_service_fetch); or all of them are brought before the heap is open, and there is no thread.
 */
#ifndef UFFD_FAULT_H
#define UFFD_FAULT_H

#include <stdatomic.h>

#include "image/image.h"
#include "region.h"
#include "working_set.h"
#include "tracker.h"

struct fault_service;

struct fault_options {
	struct region *region;
	struct tracker *tracker;
	struct image *image; /* NULL for a fresh heap under wp-sync */
	/* Of pages, streamed in first, in this order; the caller's, and any numbers. */
	const uint64_t *working_set;
	unsigned working_set_count;
	bool prefetch;			       /* stream everything in behind the demand faults */
	struct working_set_recorder *recorder; /* of the restored pages; may be NULL */
	void (*fatal)(void *arg,
		      const struct thaw_error *error); /* never returns; may be NULL: abort() */
	void *fatal_arg;
};

struct fault_counters {
	uint64_t faults, pages_restored, pages_poisoned, restore_bytes;
};

/*
 * Does this region need a service at all? A fresh heap under wp-async has no fault that the
 * kernel does not serve itself.
 */
bool fault_service_needed(const struct region *region);
int fault_service_start(struct fault_service **service, const struct fault_options *options,
			struct thaw_error *error);
void fault_service_stop(struct fault_service *service);
struct fault_counters fault_service_counters(const struct fault_service *service);
/*
 * For the handler of SIGSEGV on the thread that touched it: bring a page that is closed (tracker_mprotect.c).
 * Returns when that has been done, or in vain; false: this page will not come. Async-signal-safe.
 */
bool fault_service_fetch(struct fault_service *service, uint64_t page);
/* Async-signal-safe: why is this page poisoned? false if it is not. */
bool fault_service_explain(const struct fault_service *service, uint64_t page, char *line,
			   size_t line_bytes);

#endif
