/* SPDX-License-Identifier: MIT */
/*
 * replicate.h - replicates the image of a running program to a store: each durable generation, or the newest of those that
 * came while one was under way, becomes a record. A thread does it; the program never waits for it but where it asks to.
 *
 *	replicate_open()   before the image is opened: may this file continue that store?
 *	replicate_start()  with its mirror: the thread begins
 *	replicate_finish() the last generation is there; replicate_stop(): no thread, nothing of the mirror is used
 *
 *	connecting --sealed--> in step <--> behind      a newer generation is durable here than there
 *	    `----------------------`--------`--> fenced   another program continues the store
 *	                                    `--> failed   it cannot ever go on: why
 *	                                    `--> ended    replicate_finish()
 *
 * A store that does not answer, or refuses (no bucket, no permission), is asked again for as long as the program runs.
 */
#ifndef VM_STORE_REPLICATE_H
#define VM_STORE_REPLICATE_H

#include "store/epoch.h"

struct thaw_mirror; /* thaw_mirror.h */

enum replication_state {
	REPLICATION_CONNECTING, /* the store was not asked yet, or does not answer: nothing of it is ours */
	REPLICATION_IN_STEP, /* the newest durable generation is there */
	REPLICATION_BEHIND,
	REPLICATION_FENCED, /* for ever: `error` says who continues it */
	REPLICATION_FAILED, /* for ever: `error` says why (another image is there; the file is older than the store) */
	REPLICATION_ENDED,
};
const char *replication_state_name(enum replication_state state);

struct replication_status {
	enum replication_state state;
	uint64_t
		generation; /* the newest that the store has, acknowledged; 0: none of this program's yet */
	uint64_t record;  /* in which it is */
	uint64_t durable; /* the newest that is durable here (thaw_mirror_news()) */
	uint64_t
		behind_since_ns; /* CLOCK_REALTIME since when there is one that the store has not; 0: in step */
	uint64_t
		lag_ns; /* of the last acknowledged one: from durable here to acknowledged there, at most */
	uint64_t sequence;	 /* of the image's commit in that record */
	uint64_t epoch;		 /* number of ours; 0: not sealed yet */
	uint64_t records;	 /* that were put since the start, seals included */
	uint64_t data_objects;	 /* and others than records */
	uint64_t requests;	 /* to the store */
	uint64_t bytes_sent;	 /* over the wire, and */
	uint64_t bytes_blocks;	 /* of blocks that were stored, before they were compressed */
	uint64_t bytes_stored;	 /* in all objects that the newest record refers to */
	uint64_t objects_stored; /* how many these are */
	uint64_t objects_deleted;
	uint64_t
		failing_since_ns; /* CLOCK_REALTIME since when nothing has succeeded; 0: all is well */
	struct thaw_error error; /* why; of fenced and failed: the last word. Code 0: none */
};

struct replicate_options {
	const char *place;   /* s3://BUCKET/PREFIX */
	const char *image;   /* path of its file */
	const char *program; /* for messages */
	unsigned flags;	     /* EPOCH_BEGIN, EPOCH_REPLACE */
	uint64_t
		connect_ns; /* replicate_open() waits for the store at most so long; 0: not at all */
	uint64_t
		interval_ns; /* from the start of a record to that of the next, at least; 0: one after the other */
	uint64_t least_age_ns; /* nothing is deleted that was still needed so long ago; 0: 1 h */
	/*
	 * A store that is sealed already (a restore has taken it over), and that claim, whose contents are taken. NULL: it is opened
	 * and claimed here. The store stays the caller's, who closes it after replicate_close(), and its `trouble` is his.
	 */
	struct s3 *s3;
	struct store_claim *claim;
	/*
	 * Something in the status is new. From threads of the replication's; must only wake somebody up. Never after
	 * replicate_close() has returned.
	 */
	void (*changed)(void *arg);
	void *arg;
};

struct replication;
/*
 * Texts are copied. 0; 1: the store does not answer, or does not let us in, by now: why is in `error`, and the thread will try for
 * as long as it takes. Else it is refused: what s3_open() and epoch_look() say, but -ESTALE.
 */
int replicate_open(const struct replicate_options *options, struct replication **replication,
		   struct thaw_error *error);
/*
 * Begins the thread, on the image's mirror, which is the caller's, until replicate_stop(). Waits for nothing. -ESTALE: the file is
 * older than what the store has; -EXDEV: another image. (If the store did not answer yet: the state becomes failed then.)
 * After replicate_stop() it may be called again, with another mirror of the same image.
 */
int replicate_start(struct replication *replication, struct thaw_mirror *mirror,
		    struct thaw_error *error);
/* Any thread. */
void replicate_status(struct replication *replication, struct replication_status *status);
/* The newest generation does not wait for the interval. Any thread. */
void replicate_hurry(struct replication *replication);
/*
 * Hurries, and waits until that generation or a newer one is acknowledged. 0; -ETIMEDOUT (deadline of the monotonic clock, 0:
 * none), or what ended it, in `error`: -EBUSY fenced. Any thread; several.
 */
int replicate_wait(struct replication *replication, uint64_t generation, uint64_t deadline_ns,
		   struct thaw_error *error);
/*
 * Nothing more becomes durable here: what is, is replicated, what is hot stored anew, and with `ended` the mark that the
 * program has ended. As replicate_wait(); after -ETIMEDOUT the store has what it has. replicate_stop() is next.
 */
int replicate_finish(struct replication *replication, bool ended, uint64_t deadline_ns,
		     struct thaw_error *error);
/* Cancels what is under way and ends the thread. What was acknowledged, is. */
void replicate_stop(struct replication *replication);
/* Stops it, too. NULL is allowed. */
void replicate_close(struct replication *replication);

#endif
