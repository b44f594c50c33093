/* SPDX-License-Identifier: MIT */
/*
 * kernel_timers.h - POSIX timers (timer_create(2)) of a guest: recorded, and made again with the numbers that they had.
 * Part of kernel_facts.c; the owner's thread.
 */
#ifndef VM_PROCESS_KERNEL_TIMERS_H
#define VM_PROCESS_KERNEL_TIMERS_H

#include "process/process.h"

/* PROCESS_EREFUSED: there are some, and this kernel does not say what they are for. */
int kernel_timers_capture(struct process *process, struct kernel_facts *facts,
			  struct thaw_error *error);
/* When the threads are there, whom signals of timers may be for. */
int kernel_timers_restore(struct process *process, const struct kernel_facts *facts,
			  struct thaw_error *error);

#endif
