/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef THAW_FILL_H
#define THAW_FILL_H

#include "region.h"

/* Why the kernel could not bring a page, and where it had looked. */
struct thaw_absence {
	enum thaw_kmod_why why;
	struct thaw_place place;
};

/*
 * The image for the region's own use; an error pointer if the descriptor is none of a file that can
 * be read.
 */
struct file *thaw_image_open(int fd);
bool thaw_image_readable(const struct file *image);

/*
 * Brings a page that is touched, and what is absent around it. 0: it has arrived, or is poisoned;
 * -ENODATA: only user space can bring it; -EAGAIN: it may not wait, but has to; -EINTR: a signal
 * that kills; -ENOMEM.
 */
int thaw_fill_touched(struct thaw_region *region, u64 page, bool may_wait,
		      struct thaw_absence *absence);

/* A page of a block that the caller holds; the same results. */
int thaw_fill_page(struct thaw_region *region, struct thaw_chunk *chunk, u64 page, bool may_wait,
		   struct thaw_absence *absence);
/* Starts reading what these pages need, and does not wait. */
void thaw_fill_read_ahead(struct thaw_region *region, u64 first, u64 count);

int thaw_fill_accessed(struct thaw_region *region, struct thaw_kmod_accessed *accessed);

/* The first page behind the block of a page, and behind all that are restored. */
u64 thaw_block_end(const struct thaw_region *region, u64 page);
/* -EINTR: a signal that kills. */
int thaw_block_lock(struct thaw_region *region, struct thaw_chunk *chunk, u64 page);
void thaw_block_unlock(struct thaw_region *region, struct thaw_chunk *chunk, u64 page);

#endif
