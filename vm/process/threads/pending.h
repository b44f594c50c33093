/* SPDX-License-Identifier: MIT */
/*
 * pending.h - signals that wait for a thread, or for a process as a whole, with all that is known of each: threads.c,
 * kernel_facts.c. The thread that is asked is parked, and has blocked all of them.
 */
#ifndef VM_PROCESS_PENDING_H
#define VM_PROCESS_PENDING_H

#include "process/process.h"

/*
 * What is pending for this thread alone, or (`shared`, mailbox of the main thread) for the process; malloc'ed, in the
 * order of arrival for each signal. It is pending still when this returns. For the process: after all threads were asked.
 */
int pending_take(struct process *process, unsigned mailbox, int32_t tid, bool shared,
		 siginfo_t **list, unsigned *count);
/* Queue them. What the kernel refuses to one that is not privileged comes as if from this process. */
int pending_queue(struct process *process, unsigned mailbox, int32_t tid, bool shared,
		  const siginfo_t *list, unsigned count);

void pending_encode(const siginfo_t *list, unsigned count, struct record_writer *writer);
bool pending_decode(siginfo_t **list, unsigned *count, struct record_reader *reader);

#endif
