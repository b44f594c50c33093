/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef THAW_MEMORY_H
#define THAW_MEMORY_H

#include "region.h"

/* At offset 0 of the device. */
int thaw_memory_mmap(struct thaw_region *region, struct vm_area_struct *vma);

/* The kernel page, in the page cache, locked, and with a reference; or an error pointer. */
struct page *thaw_memory_lock_page(struct thaw_region *region, pgoff_t index);

/*
 * An image page gets write-protected in all page tables, after a full barrier behind what made that
 * necessary.
 */
void thaw_memory_watch(struct thaw_region *region, u64 page);
/* ... is removed from all page tables; the same. */
void thaw_memory_unmap(struct thaw_region *region, u64 page);
/* ... that is absent, and whose block the caller holds, reads as zero. */
void thaw_memory_discard(struct thaw_region *region, u64 page);

#endif
