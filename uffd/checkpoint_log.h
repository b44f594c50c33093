/* SPDX-License-Identifier: MIT */
/* checkpoint_log.h - generations that follow each other quickly. See checkpoint_log.c. */
#ifndef UFFD_CHECKPOINT_LOG_H
#define UFFD_CHECKPOINT_LOG_H

#include "checkpoint.h"

/* Finish the commit: in the log, or as commit_finish() does. */
int checkpoint_log_write(struct checkpointer *checkpointer, struct thaw_error *error);
/*
 * Wait for a change, and fold the log when it is time. With the lock. True: nothing has changed until `until`
 * (monotonic; 0: for ever).
 */
bool checkpoint_log_wait(struct checkpointer *checkpointer, uint64_t until);

#endif
