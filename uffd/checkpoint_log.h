/* SPDX-License-Identifier: MIT */
/* checkpoint_log.h - generations that follow each other quickly. See checkpoint_log.c. */
#ifndef UFFD_CHECKPOINT_LOG_H
#define UFFD_CHECKPOINT_LOG_H

#include "checkpoint.h"

/* Is the one under way, if it is as small as those before, going to be an entry of the log behind another one? */
bool checkpoint_log_follows(const struct checkpointer *checkpointer);
/*
 * Begin the commit, where nothing is copied before the capture: the thread need not be woken. With the lock. False: it is
 * the thread's to do, or to tell why it cannot.
 */
bool checkpoint_log_begin(struct checkpointer *checkpointer);
/* Write what the capture has left to its owner. Owner thread. */
void checkpoint_log_owner_writes(struct checkpointer *checkpointer);
/* Finish the commit: in the log, or as commit_finish() does. */
int checkpoint_log_write(struct checkpointer *checkpointer, struct thaw_error *error);
/*
 * Wait for a change, and fold the log when it is time. With the lock. True: nothing has changed until `until`
 * (monotonic; 0: for ever).
 */
bool checkpoint_log_wait(struct checkpointer *checkpointer, uint64_t until);

#endif
