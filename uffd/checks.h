/* SPDX-License-Identifier: MIT */
/*
 * checks.h - the numbered invariants of commit.c, index.c, space.c and checkpoint.h, where they can be
 * executed. In the library these functions are empty (no_checks.c). A test program is linked with
 * tests/inject/checks.c instead, which ends it at the first invariant that does not hold.
 *
 * They never change anything, take no lock, and call nothing that a test can make fail.
 */
#ifndef UFFD_CHECKS_H
#define UFFD_CHECKS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct image;
struct space;
struct checkpointer;

/* The calling thread holds this lock. */
void check_locked(const pthread_mutex_t *lock);

/* Free space was computed from what is reachable: once per open image. */
void check_space_found(const struct image *image);
/* Nothing has been written yet. */
void check_commit_begun(const struct image *image);
/* These bytes of the file that the space describes are about to be written. */
void check_write(const struct space *space, uint64_t offset, uint64_t bytes);
/* From here on the commit may be found on the disk. */
void check_slot_write(const struct image *image);
/* An entry of the log is about to be written there. */
void check_log_write(const struct image *image, uint64_t offset, uint64_t bytes);
/* And it is durable. */
void check_commit_logged(const struct image *image);
/* The commit is durable, or was undone: index, space and slots agree with the file. */
void check_commit_ended(const struct image *image, bool durable);

/* The phase has just changed. With the checkpointer's lock. */
void check_phase(const struct checkpointer *checkpointer);
/* The residual is copied and the program has not continued yet. */
void check_captured(const struct checkpointer *checkpointer);
/* The checkpoint failed, and its pages went back to the tracker. */
void check_put_back(const struct checkpointer *checkpointer);

#endif
