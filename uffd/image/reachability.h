/* SPDX-License-Identifier: MIT */
/* reachability.h - which blocks are in use, and which a dropped generation gives back. See reachability.c. */
#ifndef UFFD_REACHABILITY_H
#define UFFD_REACHABILITY_H

#include "store.h"

/* Fill image->space, and image->garbage with what only the other slot reaches. */
int reachability_find_all(struct image *image, struct thaw_error *error);

/*
 * What the new list of generations leaves out and nothing else reaches; the record before, and the
 * working set if there is a new one. Of `all`, those that `keep` does not mark are dropped: one by
 * one, each compared with what is adjacent to it among those that are still there. `kept` is the new
 * record. -ENOMEM.
 */
int reachability_find_dropped(struct image *image, const struct record *all, const bool *keep,
			      const struct record *kept, struct ranges *garbage);

#endif
