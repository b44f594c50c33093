/* SPDX-License-Identifier: MIT */
/* relocate.h - moving what lies at the end of a file that is too long. See relocate.c. */
#ifndef UFFD_RELOCATE_H
#define UFFD_RELOCATE_H

#include "commit.h"

/*
 * Move some more, if there is something to move, in a commit whose pages are all stored and whose
 * nodes are not written yet. `set`: the working set that its record will name, which may be moved as
 * well; NULL: that is yet to be written. What cannot be read stays where it is. -ENOMEM, -errno of a
 * write.
 */
int relocate_some(struct commit *commit, struct working_set *set);
/* Is it time to? Asked instead by each commit that moves nothing. */
bool relocate_due(struct image *image);
/* A commit failed: move nothing for some commits, since moving may have been the reason. */
void relocate_pause(struct relocation *relocation);
void relocate_free(struct relocation *relocation);

#endif
