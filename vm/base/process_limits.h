/* SPDX-License-Identifier: MIT */
/*
 * process_limits.h - the limits that a process has been given, where a program needs more.
 */
#ifndef VM_BASE_PROCESS_LIMITS_H
#define VM_BASE_PROCESS_LIMITS_H

#include "thaw.h"

/* What failed with `code`, as `error` says: add which limits there are to what was lacking, if any. */
void limits_explain(struct thaw_error *error, int code);
/* Are so many more descriptors to be had, at most 16? 0, -EMFILE or -ENFILE. */
int limits_want_descriptors(unsigned count);
/* Is one more thread to be had? 0, -EAGAIN or -ENOMEM. */
int limits_want_thread(void);
/* Are the threads of libuv's pool to be had? 0, -EAGAIN or -ENOMEM. */
int limits_want_pool(void);

#endif
