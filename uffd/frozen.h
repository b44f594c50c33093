/* SPDX-License-Identifier: MIT */
/*
 * frozen.h - frozen heaps (thaw_frozen.h), for the files that make, map, read and compare them.
 *
 *	struct thaw_frozen -> struct layers -> struct base      a memfd or file that heaps map privately
 *	                                    -> struct copy ...  the pages that differ from it, sorted; NULL: zero
 *	struct heap_frozen -> struct layers                     what the heap was when it was last frozen or reverted
 *
 * All of these are counted, and constant once others can see them, but which layers a struct thaw_frozen has: new ones with
 * the same contents may take their place (frozen_flatten()), under its lock. Numbers of pages are the kernel's.
 */
#ifndef UFFD_FROZEN_H
#define UFFD_FROZEN_H

#include <pthread.h>
#include <stdatomic.h>

#include "bitmap.h"
#include "region.h"
#include "thaw_frozen.h"

/* Which pages of a base differ from an older one, perhaps more; it is kept longer than that one. */
struct lineage {
	atomic_uint count;
	struct lineage *under;
	struct bitmap differs;
};

typedef unsigned __int128 frozen_sum;

struct base {
	atomic_uint count;
	int fd;
	uint64_t bytes;
	struct lineage *lineage;
	char *path; /* of a file that goes with its last user; NULL: a memfd */
	pthread_mutex_t
		lock; /* of what all of it comes to, once somebody has asked: frozen_sum.c */
	bool summed;
	frozen_sum sum;
};

struct copy {
	atomic_uint count;
	char bytes[];
};

struct layer_page {
	uint64_t page;
	struct copy *copy; /* NULL: zero */
};

struct layers {
	atomic_uint count;
	struct base *base;   /* NULL: there is none, all but the copies is zero */
	uint64_t base_bytes; /* so much of it; what lies behind is zero */
	size_t own_count;
	struct layer_page own[];
};

struct thaw_frozen {
	atomic_uint count;
	pthread_mutex_t lock; /* `layers`, `copied` */
	struct layers *layers;
	uint64_t copied; /* pages of the overlay that heaps have copied */
	uint64_t bytes;
	void *state;
	size_t state_bytes;
	struct thaw_generation generation;
	/* While it is made over another one: pages that were written, which count in the place of the layers' own. */
	bool making;
	struct layer_page *own;
	size_t own_count, own_room;
};

/* Pages [first, end) that are alike. */
struct page_run {
	uint64_t first, end;
};
struct page_runs {
	struct page_run *list;
	size_t count, room;
	uint64_t pages;
};

/* A heap's half. Owner thread. */
struct heap_frozen {
	struct layers *
		layers; /* NULL: never frozen. Those of a heap without an image are what is mapped */
	uint64_t looked;	 /* pages that were compared in vain since there is this base */
	struct page_runs zeroed; /* given back: anonymous memory in place of the base */
};

/* frozen.c */
struct layers *layers_hold(struct layers *layers);
void layers_drop(struct layers *layers);
/* The entries become its own, also if that fails (NULL). */
struct layers *layers_new(struct base *base, uint64_t base_bytes, struct layer_page *own,
			  size_t count);
struct layers *frozen_layers(const struct thaw_frozen *frozen); /* held */
struct copy *copy_new(const void *bytes, size_t page_bytes);
struct copy *copy_hold(struct copy *copy);
void copy_drop(struct copy *copy);
/* The index of the first entry at or behind that page. */
size_t own_find(const struct layer_page *own, size_t count, uint64_t page);
/* One page; `buffer` if it has to be read. NULL: zero. -errno in *code. */
const char *layers_page(const struct layers *layers, uint64_t page, char *buffer, size_t page_bytes,
			int *code);
/* Add what may be other than zero. 0 or -errno */
int layers_data(const struct layers *layers, struct bitmap *pages, size_t page_bytes);
/* The layers become its own, also if that fails (NULL, and error is set). */
struct thaw_frozen *frozen_new(struct layers *layers, uint64_t bytes, const void *state,
			       size_t state_bytes, struct thaw_error *error);
bool page_is_zero(const char *page, size_t bytes);
size_t frozen_page_bytes(void);

/* frozen_base.c */
int base_new(uint64_t bytes, struct base **base, struct thaw_error *error);
struct base *base_of_file(int fd, uint64_t bytes, char *path);
struct base *base_hold(struct base *base);
void base_drop(struct base *base);
int base_write(struct base *base, const void *bytes, size_t count, uint64_t offset,
	       struct thaw_error *error);
/* From here on nobody can change it. */
void base_seal(struct base *base);
/* It is `under` but for these pages, which become its own. */
void base_descends(struct base *base, struct base *under, struct bitmap *differs);
/* Add the pages in which the two may differ. False: they are no relations. */
bool base_differences(const struct base *a, const struct base *b, struct bitmap *pages);

/* frozen_scan.c */
int runs_add(struct page_runs *runs, uint64_t first, uint64_t end);
void runs_free(struct page_runs *runs);
/*
 * The pages of a region's first `bytes` that are its own: written since they were mapped. -errno, also where the kernel
 * does not tell.
 */
int scan_own(const struct region *region, uint64_t bytes, struct page_runs *runs);
/* Those that differ from the layers' base. Touches all of it. */
int scan_compare(const struct region *region, uint64_t bytes, const struct layers *layers,
		 struct page_runs *runs);

/* frozen_heap.c: for heap.c and release.c */
struct thaw;
int frozen_heap_open(struct thaw *heap, struct thaw_frozen *frozen, struct thaw_error *error);
void frozen_heap_close(struct heap_frozen *own);
/* Whole pages, in bytes of the region, become zero. */
int frozen_heap_release(struct thaw *heap, uint64_t start, uint64_t end);

/* frozen_make.c */
/* Its layers, held, for a heap that copies what differs; a new base when that has been copied often enough. */
struct layers *frozen_layers_to_copy(struct thaw_frozen *frozen);

#endif
