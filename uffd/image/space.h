/* SPDX-License-Identifier: MIT */
/* space.h - which blocks of the image file are free. See space.c. */
#ifndef UFFD_SPACE_H
#define UFFD_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPACE_BLOCK 4096u

struct thaw_mirror;

struct space {
	uint16_t *live; /* per block: bytes that something reachable occupies; 0: free */
	uint8_t *idle;	/* per free block: enum space_idle */
	uint64_t blocks, capacity;
	uint64_t began; /* with so many blocks */
	bool beyond;	/* more was claimed than could be covered */
	bool cramped; /* the disk was full: no hole is too short any more, the file should not grow */
	uint64_t free;
	uint64_t bytes;	     /* in use of the others: at most all of each */
	uint64_t cursor;     /* where the next search starts */
	uint64_t known_none; /* no run of this many free blocks exists; 0: not known */
	uint64_t look;	     /* where the next look for idle blocks starts */
	struct thaw_mirror
		*mirror; /* is told what becomes free, and what is written (mirror.h); NULL: none */
};

/* Byte ranges of the file: what a commit took, what waits to be given back. */
struct range {
	uint64_t offset, bytes;
};
struct ranges {
	struct range *items;
	size_t count, capacity;
};

/* `blocks` of file, all free; of one that is zeroed or closed. Its mirror stays, whatever is opened or closed. -ENOMEM. */
int space_open(struct space *space, uint64_t blocks);
void space_close(struct space *space);

/*
 * Extend the map to byte `end` of the file, for ranges that are claimed there, but to at most
 * SPACE_BEYOND_BYTES beyond the blocks that it began with. Ranges behind that limit are never given
 * back.
 */
#define SPACE_BEYOND_BYTES (4ull << 30)
int space_cover(struct space *space, uint64_t end);

/* Something reachable occupies these bytes / no longer does. Parts outside the file are ignored. */
void space_add(struct space *space, uint64_t offset, uint64_t bytes);
void space_subtract(struct space *space, uint64_t offset, uint64_t bytes);
/* Its mirror, if any, is told what is free of these blocks. */
void space_tell_free(const struct space *space, uint64_t from, uint64_t end);

/*
 * Take a run of at least `least` and at most `most` blocks, all of their bytes, extending the file
 * if need be.
 */
int space_allocate(struct space *space, uint64_t least, uint64_t most, uint64_t *offset,
		   uint64_t *blocks);

/*
 * The same within blocks [*from, limit), for short runs that space_allocate() would not choose;
 * *from advances. False: there is none.
 */
bool space_allocate_between(struct space *space, uint64_t *from, uint64_t limit, uint64_t least,
			    uint64_t most, uint64_t *offset, uint64_t *blocks);

/* The next search starts at the front of the file: once per commit. */
void space_restart(struct space *space);

/*
 * Finds blocks that stay free. Each call scans a part of the file, all of it in about 32 calls. If
 * it finds a run of at least SPACE_IDLE_RUN blocks that were free at the last scan too, it stops
 * behind the run and returns true. space_returned(): the file system has those blocks back; they
 * are not found again.
 */
#define SPACE_IDLE_RUN 16u
bool space_find_idle(struct space *space, uint64_t *offset, uint64_t *bytes);
void space_returned(struct space *space, uint64_t offset, uint64_t bytes);

/* How many blocks there are up to the last one that is not free. */
uint64_t space_blocks_used(const struct space *space);

/* Give up the free blocks at the end of the file. True if there were any. */
bool space_trim(struct space *space);

int ranges_reserve(struct ranges *ranges, size_t more);
/* -ENOMEM, which ranges_reserve() before rules out. */
int ranges_add(struct ranges *ranges, uint64_t offset, uint64_t bytes);
int ranges_add_all(struct ranges *ranges, const struct ranges *more);
void ranges_subtract(const struct ranges *ranges, struct space *space);
uint64_t ranges_bytes(const struct ranges *ranges);
void ranges_free(struct ranges *ranges);

#endif
