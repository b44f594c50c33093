/* SPDX-License-Identifier: MIT */
/*
 * map.h - what the files of thaw map share: map.c counts pages, resident.c asks the kernel,
 * map_draw.c draws.
 */
#ifndef VM_CLI_MAP_H
#define VM_CLI_MAP_H

#include "cli.h"

#define MAP_CELLS_MAX 5120u /* keeps the picture below 300 KB */

/* Numbers of pages. Each page is in exactly one of the first four. */
struct map_counts {
	uint64_t free;	 /* never stored, or zero */
	uint64_t stored; /* before this generation */
	uint64_t dirty;	 /* written by this generation */
	uint64_t lost;	 /* the part of the index that has them is damaged */
	uint64_t set;	 /* in the working set */
	uint64_t resident;
};

struct map_cell {
	struct map_counts counts;
	uint32_t rank; /* the first one touched of its working set; THAW_RANK_NONE: it has none */
};

struct map {
	const char *path;
	struct thaw_image_info info;
	struct thaw_generation generation; /* that is drawn */
	const struct thaw_name *name;	   /* the names of all generations; the image owns them */
	unsigned name_count;
	char names[200]; /* of the generation drawn, with commas between */
	bool newest;	 /* it is the newest generation */
	uint32_t page_bytes;
	uint64_t pages; /* of the heap */
	struct map_counts counts;
	bool running;		  /* `resident` is known */
	const char *not_resident; /* why it is not known */
	uint64_t cell_pages,
		cells; /* how many pages a cell stands for; the last one may have fewer */
	struct map_cell *cell;
};

/* The whole picture. */
void map_draw(const struct map *map, FILE *to);

/*
 * Which pages of the heap are in the memory of the process that has it open: calls `run` for each
 * run of them (resident.c). Returns NULL, or why that cannot be known (static text).
 */
const char *resident_pages(uint64_t pid, uint64_t pages, uint32_t page_bytes,
			   void (*run)(void *arg, uint64_t first, uint64_t pages), void *arg);

#endif
