/* SPDX-License-Identifier: MIT */
/*
 * fault.h - the fault service: one thread that makes pages appear when they are accessed.
 *
 * A page of the restored part of a region is in one of these states; only the service's thread
 * changes it:
 *
 *	absent --demand, readahead or prefetch--> reading --checked, installed--> arrived
 *	   |                                         |
 *	   +--zero or never stored--> arrived        +--unreadable, or its checksum is wrong--> poisoned
 *
 * Faults on a page that is being read join that read: its installation wakes them.
 *
 * Without userfaultfd, accessing an absent page raises SIGSEGV, whose handler asks for the page
 * (fault_service_fetch). With eager delivery all pages are loaded before the heap is open, and
 * there is no thread.
 */
#ifndef UFFD_FAULT_H
#define UFFD_FAULT_H

#include <stdatomic.h>

#include "image/image.h"
#include "region.h"
#include "thaw_process.h"
#include "tracker.h"
#include "working_set.h"

struct fault_service;

struct fault_options {
	struct region *region;
	struct tracker *tracker;
	struct image *image; /* NULL for a fresh heap under wp-sync */
	/* Page numbers to prefetch, in this order; the caller's; any numbers are allowed. */
	const uint64_t *working_set;
	unsigned working_set_count;
	bool prefetch; /* prefetch the whole heap, after the demand faults */
	/* Of another process (region->process): what is restored of it; sorted; the caller's. */
	const struct thaw_range *ranges;
	size_t range_count;
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
/* With options.prefetch: nothing is missing any more. Any thread. */
bool fault_service_all_arrived(const struct fault_service *service);

struct fault_counters fault_service_counters(const struct fault_service *service);
/*
 * For the handler of SIGSEGV, on the thread that accessed the page: load a closed page
 * (tracker_mprotect.c). Returns when the page is accessible or poisoned; false: this page cannot be
 * loaded. Async-signal-safe.
 */
bool fault_service_fetch(struct fault_service *service, uint64_t page);
/*
 * For another process, while it is stopped and before its pages are collected: all that it and its
 * forked children did to its memory is known to the tracker, what was moved before it had arrived is
 * there, and what only children still need of the image is with them. THAW_EDAMAGED: something that was
 * moved cannot be read, so no generation can have it. NULL is fine. Any thread but the service's.
 */
int fault_service_settle(struct fault_service *service, struct thaw_error *error);
/* Why the page that was poisoned last cannot be read; false: none was. Any thread. */
bool fault_service_last_poison(const struct fault_service *service, struct thaw_error *error);
/* Async-signal-safe: why is this page poisoned? false if it is not. */
bool fault_service_explain(const struct fault_service *service, uint64_t page, char *line,
			   size_t line_bytes);

#endif
