/* SPDX-License-Identifier: MIT */
/*
 * mirror.h - what commits tell a mirror (thaw_mirror.h) of an image; and its insides, for mirror.c, mirror_take.c and hot.c.
 * A NULL mirror, of an image that has none, is told the same.
 */
#ifndef UFFD_MIRROR_H
#define UFFD_MIRROR_H

#include <pthread.h>

#include "bitmap.h"
#include "store.h"
#include "thaw_mirror.h"

#define MIRROR_BLOCKS_MOST (1ull << 32) /* of a file: more than file systems let it have */

enum mirror_outcome {
	MIRROR_NOTHING, /* no commit: a note of failures */
	MIRROR_FOLDED,	/* durable, and nothing new */
	MIRROR_NEWS,	/* a generation, or names */
	MIRROR_DOUBT,	/* it may be found on the disk or not */
};

struct thaw_mirror {
	struct image *image;
	bool owns_image;   /* thaw_mirror_open_file() */
	struct thaw *heap; /* thaw_mirror_open() */
	int fd;		   /* of the image: constant */
	uint64_t hold_bytes;

	pthread_mutex_t lock; /* all that follows */
	pthread_cond_t changed;
	struct bitmap dirty, freed; /* blocks, of which none is in both */
	struct bitmap written;	    /* since it was opened; until the first take */
	bool taken;		    /* there was one */
	bool beyond;		    /* a block had no place in the bitmaps */
	bool woken;
	int event; /* -1: nobody has asked for it */
	struct thaw_mirror_news news;
	uint64_t file_least; /* the file is as long, but for who else shortens it */

	/* What is written in place is being written: from mirror_window_open() to mirror_window_close(). */
	bool window;
	struct thaw_take *asked; /* waits for its end */
	unsigned slot;		 /* the newest */
	uint8_t before
		[2][SPACE_BLOCK]; /* header blocks, as they were before a commit that is in doubt */
	bool before_known[2], blind; /* blind: that could not be read */
	struct log_area log;
	uint64_t log_used, log_cycle; /* bytes; it begins anew with each record */
	struct thaw_take *take;	      /* under way */
};

struct thaw_take {
	struct thaw_mirror *mirror;
	struct thaw_take_info info;
	struct bitmap dirty, freed;
	int code;   /* of making it */
	bool stale; /* with the mirror's lock */
	unsigned slot;
	uint8_t header[2][SPACE_BLOCK];
	struct log_area log;
	uint64_t log_used, log_cycle;
	/* Blocks of the log that were copied: for each in use its place among the copies, counted from 1; 0: it is not copied. */
	uint32_t *log_places;
	uint8_t *log_copies;
};

struct run_list { /* zeroed: none */
	struct thaw_mirror_run *items;
	size_t count, room;
};

/* ---- mirror.c */

/* With no commit being written, and nobody else using the image. -EBUSY, -EAGAIN, -ENOMEM, what image_settle() says. */
int mirror_open(struct image *image, uint64_t hold_bytes, struct thaw_mirror **mirror,
		struct thaw_error *error);
void mirror_close(struct thaw_mirror *mirror);
/* These bytes of the file have just been written, or perhaps a part of them. After the write: see there. */
void mirror_wrote(struct thaw_mirror *mirror, uint64_t offset, uint64_t bytes);
/* Nothing reaches these blocks any more, by neither slot. */
void mirror_freed(struct thaw_mirror *mirror, uint64_t first, uint64_t count);
/* The file is going to be cut. */
void mirror_cuts(struct thaw_mirror *mirror, uint64_t file_bytes);
/* From here on no take begins. `slot`: which one is going to be overwritten; -1: none. */
void mirror_window_open(struct thaw_mirror *mirror, int slot);
/* The image is again as its files say, and `outcome` is what has become of it. */
void mirror_window_close(struct thaw_mirror *mirror, enum mirror_outcome outcome);
/* A generation is durable in the log. */
void mirror_logged(struct thaw_mirror *mirror);
/* Does a take need what is dropped? And: it is given up, so the take is void. */
bool mirror_holds(struct thaw_mirror *mirror);
void mirror_overrun(struct thaw_mirror *mirror);
/* The limit for what is held, of which `usual` is what pins have. */
uint64_t mirror_hold_most(const struct thaw_mirror *mirror, uint64_t usual);

/* ---- mirror_take.c */

/* With the lock, and no window. */
int take_make(struct thaw_mirror *mirror, struct thaw_take *take);
/* Blocks that follow the last run make that longer. -ENOMEM. */
int run_list_add(struct run_list *list, uint64_t first, uint64_t count);

#endif
