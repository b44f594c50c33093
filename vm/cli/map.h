/* SPDX-License-Identifier: MIT */
/* map.h - between the parts of thaw map: map.c gathers the numbers, map_draw.c draws them. */
#ifndef VM_CLI_MAP_H
#define VM_CLI_MAP_H

#include "cli.h"

#define MAP_CELLS_MAX 5120u /* keeps the picture below 300 KB */

/* Pages. The first four exclude each other and add up to all there are. */
struct map_counts {
	uint64_t free;	 /* never stored, or zero */
	uint64_t stored; /* before this generation */
	uint64_t dirty;	 /* written by this generation */
	uint64_t lost;	 /* whatever the index of them said */
	uint64_t set;	 /* in the working set */
	uint64_t resident;
};

struct map_cell {
	struct map_counts counts;
	uint32_t rank; /* the smallest of the working set; THAW_RANK_NONE */
};

struct map {
	const char *path;
	struct thaw_image_info info;
	struct thaw_generation generation; /* that is drawn */
	const struct thaw_name *name;	   /* of all generations; the image's */
	unsigned name_count;
	char names[200]; /* of it, with commas; "" */
	bool newest;	 /* no one is newer */
	uint32_t page_bytes;
	uint64_t pages; /* of the heap */
	struct map_counts counts;
	bool running;		  /* `resident` means something */
	const char *not_resident; /* why it does not */
	uint64_t cell_pages,
		cells; /* how many pages a cell stands for; the last one may have fewer */
	struct map_cell *cell;
};

/* The whole picture. */
void map_draw(const struct map *map, FILE *to);

/*
 * Which pages of the heap that a process has open are in its memory: `page` is called for each run of
 * them (resident.c). NULL, or why that cannot be known; static storage.
 */
const char *resident_pages(uint64_t pid, uint64_t pages, uint32_t page_bytes,
			   void (*run)(void *arg, uint64_t first, uint64_t pages), void *arg);

#endif
