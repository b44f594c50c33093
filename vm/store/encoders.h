/* SPDX-License-Identifier: MIT */
/*
 * encoders.h - many frames are made at once, by the thread that asks for it and another one. One core compresses some 300 MB/s, of
 * which a line of 1 Gbit/s would take more.
 */
#ifndef VM_STORE_ENCODERS_H
#define VM_STORE_ENCODERS_H

#include "store/frames.h"

#define ENCODERS_JOBS 32u

struct encoder_job {
	uint8_t *blocks, *stored; /* STORE_FRAME_BYTES each */
	unsigned count;		  /* of the blocks */
	struct store_frame frame; /* made of them */
};

struct encoders {
	struct encoder_job jobs[ENCODERS_JOBS];
	unsigned count; /* of those that are to be made; the caller's */
	struct encoders_private *private;
};

struct encoders *encoders_new(void); /* NULL: no memory */
void encoders_free(struct encoders *encoders);
/* All of `count`. */
void encoders_run(struct encoders *encoders);

#endif
