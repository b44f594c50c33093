/* SPDX-License-Identifier: MIT */
/*
 * image_log.h - what the generations of an image that is in use tell of its program: the newest
 * one, and what was made since the last look. One thread.
 *
 * A reader costs the writer nothing but while it reads (uffd/image/pins.c), so the image is open
 * only for the reading of its log, and not at all where the file has not changed.
 */
#ifndef VM_TOP_IMAGE_LOG_H
#define VM_TOP_IMAGE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct image_log {	 /* all zero: not looked at yet */
	int code;	 /* why it cannot be read; 0: it was, and the rest is valid */
	unsigned listed; /* generations in it; 0: none yet */
	/* The newest one. */
	uint64_t generation, time_ns, heap_bytes, pause_ns;
	/* Between its capture and that of the one before, in the same run of the program; 0: not known. */
	uint64_t every_ns;

	/* Generations since the look before; meaningful if there was one (`looks` > 1). */
	unsigned looks;
	uint64_t made; /* by their numbers: how many at most */
	bool complete; /* all of them were still listed: the sums are theirs, else see span_ns */
	uint64_t pages_written, bytes_written;
	uint64_t
		span_ns; /* not complete: the sums are those of generations captured within this time;
			   * 0: there are none */

	/* Generations that were seen since the first look. */
	uint64_t pauses, pauses_ns;

	/* When the file was read, and how it was then. */
	uint64_t read_ns;
	struct timespec changed;
	off_t bytes;
};

/* Look again, at the image that `path` leads to now. */
void image_log_update(struct image_log *log, const char *path);

#endif
