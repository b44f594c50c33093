/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef THAW_PAGES_H
#define THAW_PAGES_H

#include "region.h"

/*
 * What user space says of a range of pages, and asks for. All arguments come from user space and
 * are checked here; `done` is right also after an error. The region is registered.
 */
int thaw_pages_extents(struct thaw_region *region, struct thaw_kmod_extents *extents);
int thaw_pages_fill(struct thaw_region *region, struct thaw_kmod_pages *pages);
int thaw_pages_zero(struct thaw_region *region, struct thaw_kmod_pages *pages);
int thaw_pages_poison(struct thaw_region *region, struct thaw_kmod_pages *pages);
int thaw_pages_wake(struct thaw_region *region, struct thaw_kmod_pages *pages);
int thaw_pages_prefetch(struct thaw_region *region, struct thaw_kmod_pages *pages);

#endif
