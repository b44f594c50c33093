/* SPDX-License-Identifier: MIT */
/*
 * branch.h - which line of a program's history a process goes on with: the first half of what thaw.effectId() gives.
 *
 * The second half is a number that is counted in the program's own memory. So a process that goes on after a crash counts as
 * the one before would have, and asks for the same effects under the same ids. But who goes back to an older generation,
 * or goes on with a copy of the image, begins another line, in which the same numbers stand for other effects: there
 * the first half is another one. It is computed from the line before and the point at which it was left, not drawn: if the
 * new line crashes before its first generation is durable, its next start is at the same point, and has the same.
 */
#ifndef VM_BASE_BRANCH_H
#define VM_BASE_BRANCH_H

#include <stdbool.h>
#include <stdint.h>

#include "thaw.h"

#define BRANCH_BYTES 16u

/*
 * An image was opened; `restored`: the program goes on from a generation of it, and these two are that one's, else zeros.
 * They become what this process goes on with: in doubt a new line. True: `home` was another image.
 *
 * `replica`: the object store that only one file at a time continues (NULL: none), and which has this image: whichever file that
 * is, it is at home there.
 */
bool branch_open(struct thaw *heap, const char *image, const char *replica, bool restored,
		 uint8_t branch[BRANCH_BYTES], uint8_t home[BRANCH_BYTES]);
/* Another line, which `data` decides. */
void branch_by(uint8_t branch[BRANCH_BYTES], const void *data, size_t bytes);
void branch_again(uint8_t branch[BRANCH_BYTES]);

#endif
