/* SPDX-License-Identifier: MIT */
/*
 * sample.h - the running Thaw programs and their figures, at one time and since the time before.
 * One thread.
 *
 * Where each figure comes from: /proc/PID (process.h), the log of the image (image_log.h), the
 * kernel's delay accounting and, where it is loaded, the kernel module (kernel_counts.h). thaw-top(1)
 * defines each of them, with its unit.
 */
#ifndef VM_TOP_SAMPLE_H
#define VM_TOP_SAMPLE_H

#include "image_log.h"
#include "kernel_counts.h"
#include "programs.h"

#define UNKNOWN UINT64_MAX

struct figures { /* UNKNOWN where a figure is not known, NAN where a rate is not */
	uint64_t generation, generation_time_ns;
	uint64_t heap_bytes;	      /* of that generation */
	uint64_t resident_bytes;      /* of the process */
	uint64_t heap_resident_bytes; /* of the heap: the module's */
	uint64_t pause_ns, pause_mean_ns;
	uint64_t every_ns; /* from one generation to the next, lately */
	/* Within the interval. */
	uint64_t generations, faults, faults_served, faults_passed;
	uint64_t delay_ns[DELAYS];
	double dirty_pages, checkpoint_bytes; /* a second */
	bool dirty_by_module;
};

struct sample_row {
	const struct running_program *program;
	struct figures figures;
	/* The object store that has a copy of its image, as the file beside that says (store/sidefile.h); empty: none. */
	char replica[1040];

	/* To compare with. */
	uint64_t serial, faults;
	struct image_log log;
	struct kernel_counts counts;
};

struct sample {			 /* all zero: nothing was looked at yet */
	struct sample_row *rows; /* in the order in which programs were found */
	size_t count, room;
	uint64_t time_ns;     /* CLOCK_REALTIME */
	uint64_t interval_ns; /* since the sample before; 0: this is the first */

	uint64_t clock_ns;
	struct programs programs;
	struct kernel_source kernel;
};

/* Look again. 0; -errno, with an error that says what could not be read. */
int sample_take(struct sample *sample, struct thaw_error *error);
void sample_free(struct sample *sample);

/* A number of the interval as one a second; NAN: not known. */
double sample_rate(const struct sample *sample, uint64_t number);

#endif
