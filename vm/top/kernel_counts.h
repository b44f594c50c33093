/* SPDX-License-Identifier: MIT */
/*
 * kernel_counts.h - what the kernel counts of a program: the delays of its threads (task_delays.h),
 * and what the module does for its heap (kmod_regions.h), each as far as it can be had. One thread.
 */
#ifndef VM_TOP_KERNEL_COUNTS_H
#define VM_TOP_KERNEL_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "kmod_regions.h"
#include "programs.h"
#include "task_delays.h"
#include "thaw.h"

enum delay {
	DELAY_BLOCK_IO,
	DELAY_SWAP_IN,
	DELAY_THRASHING,
	DELAY_WRITE_PROTECT_COPY,
	DELAYS,
};

struct kernel_counts {		   /* UINT64_MAX: not known */
	uint64_t delay_ns[DELAYS]; /* since the process began */
	/* The module's, since the region was made. */
	uint64_t region; /* its id */
	uint64_t resident_bytes, pages_dirtied, faults_served, faults_passed;
};

struct kernel_source { /* all zero: not asked yet */
	struct delay_reader *delays;
	struct thaw_error no_delays; /* why there are none; code 0: there are */
	struct kmod *kmod;	     /* NULL: there is no module, or nobody may ask it */
	struct thaw_error no_kmod;   /* why; code 0: it answers */
	struct kmod_regions regions;
};

/*
 * Before the programs of one sample are asked for. What is not there is asked for again each time.
 */
void kernel_source_update(struct kernel_source *source);
void kernel_counts_read(struct kernel_source *source, const struct programs *programs,
			const struct running_program *program, struct kernel_counts *counts);
void kernel_source_free(struct kernel_source *source);

#endif
