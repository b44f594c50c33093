/* SPDX-License-Identifier: MIT */
/*
 * fetch.h - brings what is missing of an image file from a store: at once what somebody waits for, and the rest in the
 * background. What a file lacks are the blocks that the store's index has, and that are holes in the file.
 *
 *	missing --fetch_need(), fetch_fill()--> asked for --> in the file
 *	   `------------fetch_writes()---------------------------^
 *
 * 1. A block that is in the file, or was written since, is never overwritten.
 * 2. A frame is asked for once, unless it came damaged or the store gave none of it up.
 * 3. fetch_need() returns 0 only if each block of it is in the file, or is in no index and so means nothing.
 *
 * Threads: any, but the store's (done()). None of the memory that it touches is a heap's.
 */
#ifndef VM_STORE_FETCH_H
#define VM_STORE_FETCH_H

#include "store/index.h"
#include "store/record.h"
#include "store/s3.h"

struct fetch;

struct fetch_options {
	struct s3 *s3; /* the caller's, as all here, until fetch_close() */
	/* Of the file, to read and write. What is data in it, and no hole, is there already. */
	int fd;
	const struct store_level *level; /* where each block is: all levels as one */
	uint64_t bytes;			 /* of the image file */
	/* A store that does not answer for so long has failed: whoever waits is told. 0: 5 min. */
	uint64_t patience_ns;
	/*
	 * What the hot object of the record has, and the number of the record that it is of: it is asked for right away. Blocks of it
	 * that are outdated, or that the file has, are not used. NULL: there is none.
	 */
	const struct store_level *hot;
	uint64_t hot_record;
	/* What comes is kept in memory, and nothing is written, until fetch_release(). */
	bool held;
};

int fetch_open(const struct fetch_options *options, struct fetch **fetch, struct thaw_error *error);
/* The file is as long as it has to be. */
void fetch_release(struct fetch *fetch);
/*
 * While it is on, whoever waits in fetch_need(), or would, gets -ECANCELED at once: for a program that ends although the store does not
 * answer. What is there is served, and everything else goes on.
 */
void fetch_interrupt(struct fetch *fetch, bool on);
/* Everybody who waits, or will, gets -ECANCELED; nothing more is written to the file once this has returned. Any number of times. */
void fetch_stop(struct fetch *fetch);
/* Stops; nobody is in a call of it any more. NULL is allowed. */
void fetch_close(struct fetch *fetch);

/* ---- What the file's readers and writers ask: thaw_fill_ops, whose `arg` is the struct fetch */

int fetch_need(void *fetch, uint64_t offset, uint64_t bytes);
bool fetch_has(void *fetch, uint64_t offset, uint64_t bytes);
int fetch_writes(void *fetch, uint64_t offset, uint64_t bytes);

/* ---- In the background */

/* These bytes will be needed soon: they come before everything that nobody waits for. Returns at once. */
void fetch_ask(struct fetch *fetch, uint64_t offset, uint64_t bytes);

enum fetch_pace {
	FETCH_POLITE, /* so little under way that whoever needs something waits hardly longer for it */
	FETCH_FAST, /* as much as the store gives */
};
/*
 * Brings everything, the newest objects first, and returns when all of it is there. A store that fails is asked again, for ever
 * (FETCH_POLITE), or until it has failed for as long as the patience lasts. -ECANCELED: fetch_stop(); codes as fetch_need().
 * `progress`: each 100 ms or so; if it returns false: -ECANCELED; may be NULL. One thread.
 */
int fetch_fill(struct fetch *fetch, enum fetch_pace pace, bool (*progress)(void *arg), void *arg,
	       struct thaw_error *error);

struct fetch_status {
	uint64_t blocks,
		missing; /* all that the index has; of these, those that are not in the file yet */
	uint64_t needed; /* requests that somebody waited for */
	uint64_t frames; /* that came */
	uint64_t hot_blocks;	 /* that came with the hot object */
	uint64_t waiting;	 /* threads in fetch_need(), right now */
	struct thaw_error error; /* the last failure that somebody was told of; code 0: none was */
};
void fetch_status(struct fetch *fetch, struct fetch_status *status);

#endif
