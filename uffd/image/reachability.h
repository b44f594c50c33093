/* SPDX-License-Identifier: MIT */
/* reachability.h - which blocks are in use, and which a dropped generation gives back. See reachability.c. */
#ifndef UFFD_REACHABILITY_H
#define UFFD_REACHABILITY_H

#include "store.h"

/* Fill image->space, and image->garbage with what only the other slot reaches. */
int reachability_find_all(struct image *image, struct thaw_error *error);

/*
 * The ranges that the new list of generations drops and nothing else reaches; the previous record,
 * and the working set if there is a new one. Generations of `all` that `keep` does not mark are
 * dropped one by one, each compared with its adjacent ones among those still left. `kept` is the
 * new record. -ENOMEM.
 */
int reachability_find_dropped(struct image *image, const struct record *all, const bool *keep,
			      const struct record *kept, struct ranges *garbage);

#endif
