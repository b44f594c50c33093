/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef THAW_DIRTY_LOG_H
#define THAW_DIRTY_LOG_H

#include "region.h"

/* By REGISTER, once; `entries` is valid. */
int thaw_log_open(struct thaw_region *region, u32 entries);
/* At THAW_KMOD_RING_OFFSET of the device. */
int thaw_log_mmap(struct thaw_region *region, struct vm_area_struct *vma);
/* So many entries wait that poll() should say it. */
bool thaw_log_is_long(struct thaw_region *region);

/* A page is about to be written; the caller holds the folio's lock until its entry is dirty. */
void thaw_log_write(struct thaw_region *region, struct thaw_chunk *chunk, u64 page);

int thaw_log_reset(struct thaw_region *region, struct thaw_kmod_reset *reset);
int thaw_log_overflow(struct thaw_region *region, struct thaw_kmod_overflow *overflow);

#endif
