/* SPDX-License-Identifier: MIT */
/* snapshot.h - a generation as a .heapsnapshot file, see snapshot.c. */
#ifndef VM_CLI_SNAPSHOT_H
#define VM_CLI_SNAPSHOT_H

#include "describe.h"

/* Returns 0 or a negative code; whether `to` could be written is the caller's to ask (ferror). */
int snapshot_write(struct graph *graph, FILE *to, struct thaw_error *error);

#endif
