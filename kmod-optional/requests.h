/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef THAW_REQUESTS_H
#define THAW_REQUESTS_H

#include "fill.h"
#include "region.h"

/*
 * Waits until the page may be touched again: user space has said something about it, or a signal
 * came. `flags` are those of the fault, whose lock the caller has dropped.
 */
void thaw_request_wait(struct thaw_region *region, u64 page, const struct thaw_absence *absence,
		       unsigned int flags);
/* Whoever waits for one of these pages tries again. After what makes that worth it. */
void thaw_requests_wake(struct thaw_region *region, u64 first, u64 count);

bool thaw_requests_pending(struct thaw_region *region);
ssize_t thaw_requests_read(struct thaw_region *region, char __user *to, size_t bytes,
			   bool may_wait);

#endif
