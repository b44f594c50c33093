/* SPDX-License-Identifier: MIT */
/* capture.h - what checkpoint.c and capture.c need of each other: the two halves of struct checkpointer. */
#ifndef UFFD_CAPTURE_H
#define UFFD_CAPTURE_H

#include "checkpoint.h"

void checkpoint_phase_set(struct checkpointer *checkpointer, enum thaw_phase phase);
/* There is memory to collect: ours, or that of a process that is there. */
bool checkpoint_memory_is_there(const struct checkpointer *checkpointer);
int checkpoint_cannot_collect(int code, struct thaw_error *error);
/* To DONE, with or without success. */
void checkpoint_done(struct checkpointer *checkpointer, int code);
/* WRITING: up to DONE. */
void checkpoint_write(struct checkpointer *checkpointer);
/*
 * The owner, while the checkpoint's thread waits: does work(arg, first, end) for all of [0, count), in parts of `batch`, by
 * both of them if there are more than `alone`.
 */
void checkpointer_share(struct checkpointer *checkpointer,
			void (*work)(void *arg, uint64_t first, uint64_t end), void *arg,
			uint64_t count, uint64_t batch, uint64_t alone);

#endif
