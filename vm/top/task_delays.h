/* SPDX-License-Identifier: MIT */
/*
 * task_delays.h - how long the threads of a process had to wait for disks and memory, as the
 * kernel's delay accounting counts it (TASKSTATS over generic netlink;
 * Documentation/accounting/delay-accounting.rst).
 *
 * A struct delay_reader belongs to one thread. Needs CAP_NET_ADMIN in the first user namespace,
 * and the sysctl kernel.task_delayacct.
 */
#ifndef VM_TOP_TASK_DELAYS_H
#define VM_TOP_TASK_DELAYS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "thaw.h"

struct task_delay {
	uint64_t count,
		nanoseconds; /* since the process began, of all its threads, ended ones too */
};

struct task_delays {
	struct task_delay block_io; /* reading and writing, synchronously */
	struct task_delay swap_in;
	struct task_delay thrashing; /* waits for pages of files that were in memory not long ago */
	struct task_delay reclaim;   /* freeing memory for an allocation of its own */
	struct task_delay write_protect_copy; /* copies of pages at a write: fork, wp-sync */
	bool has_thrashing;		      /* this kernel counts it (since 4.20) */
	bool has_write_protect_copy;	      /* this kernel counts it (since 5.19) */
};

struct delay_reader; /* opaque */

/*
 * -ENOENT: no TASKSTATS here. -EPERM: not with these privileges. -ENODATA: delay accounting is off:
 * everything would be 0. -EPROTO: Linux 6.14 and 6.15 put the fields elsewhere. The error says what
 * to do.
 */
int delay_reader_open(struct delay_reader **reader, struct thaw_error *error);
void delay_reader_close(struct delay_reader *reader); /* NULL is allowed */
/*
 * Of a process, by its TGID. -ESRCH: there is none (any more). -EPERM. A process that began while
 * accounting was off counts from nothing: its delays stay 0.
 */
int task_delays_read(struct delay_reader *reader, pid_t process, struct task_delays *delays,
		     struct thaw_error *error);

#endif
