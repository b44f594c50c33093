/* SPDX-License-Identifier: MIT */
/*
 * map.h - what the files of thaw map share: map.c counts pages, resident.c asks the kernel,
 * map_draw.c draws.
 */
#ifndef VM_CLI_MAP_H
#define VM_CLI_MAP_H

#include "areas.h"
#include "inspect/heap_contents.h"

#define MAP_CELLS_MAX 5120u /* keeps the picture below 300 KB */
#define MAP_COLUMNS 128u
#define MAP_SHARES 8u /* of the contents, that are drawn */

/* Numbers of pages. Each page is in exactly one of the first five. */
struct map_counts {
	uint64_t free;	 /* never stored, or zero */
	uint64_t file;	 /* of a process: a file's, which the program has not written */
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

/* Areas of a process that are drawn together. Of what is empty in them, nothing is drawn. */
struct map_group {
	const struct area *first, *last;
	unsigned areas;		/* with anything in them */
	uint64_t bytes, stored; /* of these areas; pages in the image */
	uint64_t pages;		/* drawn */
	uint64_t cell, cells;
};

/* Clusters in a row in which anything is stored. */
struct map_span {
	uint64_t first, pages;
	uint32_t group;
	uint64_t at; /* of the first page among those of its group */
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
	unsigned columns; /* cells side by side */
	struct heap_contents
		contents;	 /* a piece for each row; empty: it is a process, or is not known */
	const char *no_contents; /* why it is not known; NULL: nobody asked, or it is */
	bool process;		 /* of thaw exec: */
	struct description description;
	struct map_group *group;
	size_t group_count, group_room;
	struct map_span *span; /* by page */
	size_t span_count, span_room;
	bool failed; /* no memory: used while spans are collected */
};

void map_counts_add(struct map_counts *to, const struct map_counts *kind, uint64_t pages);
/* `kind` is 1 in each count that the pages belong to, else 0. They belong to one cell or more from there on. */
void map_add(struct map *map, uint64_t cell, uint64_t offset, uint64_t pages,
	     const struct map_counts *kind, uint32_t rank);

/*
 * A process (map_areas.c): reads what it is and makes cells; then counts runs of pages, and those that are resident.
 * Codes as thaw_image_pages().
 */
int map_areas_open(struct map *map, struct thaw_image *image, struct thaw_error *error);
void map_areas_add(struct map *map, uint64_t first, uint64_t pages, const struct map_counts *kind,
		   uint32_t rank);
void map_areas_close(struct map *map);

/* The whole picture. */
void map_draw(const struct map *map, FILE *to);

/*
 * Which pages of the heap are in the memory of the process that has it open: calls `run` for each
 * run of them (resident.c). Returns NULL, or why that cannot be known (static text).
 */
const char *resident_pages(uint64_t pid, uint64_t pages, uint32_t page_bytes,
			   void (*run)(void *arg, uint64_t first, uint64_t pages), void *arg);
/* The same for a process: `pid` is of the one that serves its memory, whose child it is. */
const char *resident_areas(uint64_t pid, const struct description *description, uint32_t page_bytes,
			   void (*run)(void *arg, uint64_t first, uint64_t pages), void *arg);

#endif
