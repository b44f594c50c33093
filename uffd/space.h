/* SPDX-License-Identifier: MIT */
/* space.h - which blocks of the image file are free. See space.c. */
#ifndef UFFD_SPACE_H
#define UFFD_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPACE_BLOCK 4096u

struct space {
	uint16_t *live; /* per block: bytes that something reachable occupies; 0: free */
	uint64_t blocks, capacity;
	uint64_t free;
	uint64_t cursor;     /* where the next search starts */
	uint64_t known_none; /* no run of this many free blocks exists; 0: not known */
};

/* Byte ranges of the file: what a commit took, what waits to be given back. */
struct range {
	uint64_t offset, bytes;
};
struct ranges {
	struct range *items;
	size_t count, capacity;
};

/* `blocks` of file, all free. -ENOMEM. */
int space_open(struct space *space, uint64_t blocks);
void space_close(struct space *space);

/* Something reachable occupies these bytes / no longer does. Parts outside the file are ignored. */
void space_add(struct space *space, uint64_t offset, uint64_t bytes);
void space_subtract(struct space *space, uint64_t offset, uint64_t bytes);

/*
 * Take a run of at least `least` and at most `most` blocks, all of their bytes, extending the file
 * if need be.
 */
int space_allocate(struct space *space, uint64_t least, uint64_t most, uint64_t *offset,
		   uint64_t *blocks);

/* The next search starts at the front of the file: once per commit. */
void space_restart(struct space *space);

/* Give up the free blocks at the end of the file. True if there were any. */
bool space_trim(struct space *space);

int ranges_reserve(struct ranges *ranges, size_t more);
/* -ENOMEM, which ranges_reserve() before rules out. */
int ranges_add(struct ranges *ranges, uint64_t offset, uint64_t bytes);
void ranges_subtract(const struct ranges *ranges, struct space *space);
uint64_t ranges_bytes(const struct ranges *ranges);
void ranges_free(struct ranges *ranges);

#endif
