/* SPDX-License-Identifier: MIT */
/*
 * index.h - where in a store each block of an image file is: levels of the index in memory, how one is laid over another, and
 * their stored form (format.h), of which every bound is checked, since a store may be hostile. No requests: record.h reads levels.
 *
 * A level does not change once it is made, and any number of threads may read it.
 */
#ifndef VM_STORE_INDEX_H
#define VM_STORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/format.h"
#include "thaw.h"

enum store_object_kind { STORE_IN_RECORD, STORE_IN_DATA, STORE_IN_HOT, STORE_IN_INDEX };

struct store_object { /* all that its name consists of, and its length */
	uint64_t record;
	uint64_t bytes;
	uint8_t epoch[STORE_EPOCH_BYTES]; /* of a record: 0 */
	uint32_t part;			  /* of a record: 0 */
	uint32_t kind;			  /* enum store_object_kind */
};

struct store_frame {
	uint32_t object;  /* of the level's */
	uint32_t offset;  /* in it */
	uint32_t bytes;	  /* that it takes there, 1 to STORE_FRAME_BYTES */
	uint8_t blocks;	  /* that are in it, 1 to STORE_FRAME_BLOCKS */
	bool compressed;  /* else bytes are blocks * STORE_BLOCK */
	uint64_t check;	  /* XXH3-64 of the stored bytes */
	uint64_t content; /* XXH3-64 of the blocks */
};

#define STORE_NOWHERE UINT32_MAX

struct store_run { /* blocks that follow each other, in the file and in a frame */
	uint64_t first;
	uint32_t count;
	uint32_t frame; /* of the level's; STORE_NOWHERE: these blocks are free, zeros do */
	uint32_t at;	/* number of the first of them in the frame */
};

struct store_level { /* all zero: it is empty */
	struct store_object *objects;
	struct store_frame *frames;
	struct store_run *runs; /* by first block; none overlap */
	uint32_t object_count, frame_count, run_count;
};

void level_free(struct store_level *level); /* and it is empty */

/* The run that has this block, or else the first one behind it; level->run_count: there is none. */
size_t level_find(const struct store_level *level, uint64_t block);

/*
 * `result`: what `newer` says, and what `older` says of other blocks; of their objects and frames, those that a run is in. With
 * `whole`, runs that are nowhere are left out: nothing lies below. -ENOMEM, -E2BIG (2^32 runs).
 */
int level_merge(const struct store_level *older, const struct store_level *newer, bool whole,
		struct store_level *result);
/* Only what is below a block: the file was made shorter, or longer again. Nothing else of it changes. */
void level_cut(struct store_level *level, uint64_t blocks);

/*
 * The runs of each frame: those of frame f are level->runs[order[start[f]]] up to order[start[f + 1] - 1]. malloc's, of
 * run_count and frame_count + 1. -ENOMEM.
 */
int level_by_frame(const struct store_level *level, uint32_t **order, uint32_t **start);

/* Its stored form, of malloc's; an empty level's is 0 bytes. -ENOMEM, -E2BIG: longer than any reader reads. */
int level_encode(const struct store_level *level, void **bytes, size_t *count);
/*
 * Blocks at `file_blocks` and behind are an error, as all is that breaks a rule of format.h. `kinds`: of enum store_object_kind,
 * one bit for each that is allowed. -ENOMEM, THAW_EDAMAGED, THAW_EFORMAT.
 */
int level_decode(const void *bytes, size_t count, uint64_t file_blocks, unsigned kinds,
		 struct store_level *level, struct thaw_error *error);

struct store_index { /* what one record refers to */
	struct store_level level[3];
};
void index_free(struct store_index *index);
/* All levels as one. -ENOMEM, -E2BIG. */
int index_merge(const struct store_index *index, struct store_level *merged);

/* Of epochs, images and readers: 32 lower-case hex digits. */
void store_id_print(const uint8_t id[STORE_EPOCH_BYTES], char text[STORE_ID_TEXT]);
/* The reverse, of the first 32 bytes of a text. False: they are others. */
bool store_id_parse(const char *text, uint8_t id[STORE_EPOCH_BYTES]);

/* Its name below the store's prefix, of at most STORE_NAME_BYTES. */
void store_object_name(const struct store_object *object, char name[STORE_NAME_BYTES]);
void store_record_name(uint64_t number, char name[STORE_NAME_BYTES]);
/* The reverse, of names that a list gave. False: it is none of these; of a record only kind and record are filled. */
bool store_object_parse(const char *name, struct store_object *object);

#endif
