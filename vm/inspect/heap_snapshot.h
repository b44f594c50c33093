/* SPDX-License-Identifier: MIT */
/* heap_snapshot.h - a generation as a .heapsnapshot file, see heap_snapshot.c. */
#ifndef VM_INSPECT_HEAP_SNAPSHOT_H
#define VM_INSPECT_HEAP_SNAPSHOT_H

#include <stdio.h>

#include "graph.h"

/* Returns 0 or a negative code. Errors of `to` are not reported: the caller asks ferror(). */
int heap_snapshot_write(struct graph *graph, FILE *to, struct thaw_error *error);

#endif
