/* SPDX-License-Identifier: MIT */
/*
 * replication.h - what the files of a replication share: replicate.c (its life, and what others see of it), generation.c (one
 * generation becomes a record), upload.c (blocks become objects), levels.c (the index), catch_up.c, hot.c and clean.c.
 */
#ifndef VM_STORE_REPLICATION_H
#define VM_STORE_REPLICATION_H

#include <pthread.h>

#include "store/append.h"
#include "store/encoders.h"
#include "store/group.h"
#include "store/replicate.h"
#include "thaw_mirror.h"

/* An object that is put: it stays until the store has it. */
struct body {
	struct s3_request request;
	char name[STORE_NAME_BYTES];
	struct iovec piece;
	uint8_t *bytes; /* of malloc's */
	size_t count, room;
	bool started; /* and not known to be there */
};

#define STORE_LEAST_AGE_NS 3600000000000ull /* what replicate_options.least_age_ns is if it is 0 */

#define BODY_BYTES (16u << 20) /* of frames in a data object */
#define BODIES 8u	       /* of these in memory at once */

/* One take on its way into the store. */
struct upload {
	struct body bodies[BODIES];
	struct body *now; /* that frames go to */
	/* The level it makes: numbers of objects are those of `objects`, in the order of their parts, the one of `now` last. */
	struct store_object *objects;
	struct store_frame *frames;
	struct store_run *runs;
	size_t object_count, object_room, frame_count, frame_room, run_count, run_room;
	unsigned
		block_count; /* in the frame that is being filled: the encoders' job after the last */
	uint64_t block_total;
	uint64_t looked_ns; /* when it was last asked whether the next number is taken */
};

/* Blocks that are in the hot object, and which of them have changed since. */
struct hot {
	struct store_reference
		there;	  /* the newest that is stored whole; record 0: none of this process's */
	struct body body; /* the next one */
	struct heating *heating;     /* it is being made */
	struct store_reference next; /* which that is; record 0: none is under way */
	uint64_t *blocks;	     /* ascending */
	bool *stale;
	size_t count, stale_count;
	uint64_t time_ns;
};

struct replication {
	char *place, *image, *program;
	unsigned flags;
	uint64_t connect_ns, interval_ns, least_age_ns;
	void (*changed)(void *arg);
	void *arg;

	struct s3 *s3;
	bool own_s3;
	pthread_t thread, collector;
	bool running, collecting;

	/* ---- The thread's, or of whoever calls while there is none */
	struct thaw_mirror *mirror;
	struct store_claim claim;    /* the newest record, and its index */
	bool looked;		     /* claim is what the store had, and may be continued */
	bool compared;		     /* the index has all but what the mirror says to be dirty */
	uint64_t changes;	     /* of the mirror's, that the newest record has */
	uint64_t taken_ns;	     /* when the last take was */
	uint64_t put_ns, put_end_ns; /* how long the last record took, and until when */
	uint64_t breath_ns;	     /* when there was last time for another program to take over */
	uint64_t since_ns;	     /* what is not in the store became durable after that */
	uint64_t stored_blocks;	     /* since the epoch began */
	/* Blocks, as a level that says they are nowhere, which the next take was asked to have: those it has not are free. */
	struct store_level asked;
	uint32_t part;	     /* number of the next object; one is never used twice in an epoch */
	size_t level0_spent; /* bytes of level 0 that were sent since level 1 was made */
	struct group group;
	struct frame_encoder *encoder; /* of hot objects */
	struct encoders *encoders;
	struct upload *upload;
	struct hot hot;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t news;
	struct replication_status status;
	uint64_t acknowledged_changes, refused_since_ns;
	bool stop, finish, ended, hurry;
};

/* ---- replicate.c */
bool replication_stops(struct replication *r);
/* Waits, because of `error`, before something is tried again. False: it is to stop. */
bool replication_pause(struct replication *r, unsigned tries, const struct thaw_error *error);
void replication_works(struct replication *r); /* nothing is refused any more */

/* ---- generation.c */
/*
 * The image, as it is now, is in the store: a record was put. `closing`: the last one, with the mark that the program has ended,
 * and what is hot. -EAGAIN: try again; -ECANCELED: it stops; others end the replication, as epoch_look(), with a text in `error`.
 */
int generation_put(struct replication *r, bool closing, struct thaw_error *error);

/* Is there a record behind the newest that is known? Then another program's: -EBUSY, and who it is. Else 0, also if nobody answers. */
int generation_check(struct replication *r, struct thaw_error *error);

/* ---- pace.c */
/* Is the next record not due yet? Then it has waited, perhaps not long enough. `hurry`: somebody waits for it. */
bool pace_waits(struct replication *r, bool hurry);
/* A record has come to an end that began then. */
void pace_put(struct replication *r, uint64_t began_ns);

/* ---- upload.c */
int upload_begin(struct replication *r);
int upload_runs(struct replication *r, struct thaw_take *take, const struct thaw_mirror_run *runs,
		size_t count, struct thaw_error *error);
/* What `now` has is a data object, if it is too long for the record. The level of all of it, to be freed. */
int upload_level(struct replication *r, struct store_level *level);
/* All objects are in the store. */
int upload_wait(struct replication *r, struct thaw_error *error);
void upload_end(struct replication *r); /* frees what there is, whatever has become of it */

/* A body is begun to be put under that name; bytes are there. Until body_wait(), or 0 is returned by body_poll(). */
void body_start(struct replication *r, struct body *body, const struct store_object *object);
/* -EAGAIN: it is under way; 0: it is there; -EIO: failed, and to be started again: body->request.error */
int body_poll(struct replication *r, struct body *body);
int body_wait(struct replication *r, struct body *body, struct thaw_error *error);
void body_free(struct replication *r, struct body *body); /* stops it */

/* ---- levels.c */
struct levels { /* of the record to come */
	struct store_index index;
	bool made[3]; /* which of them are new; the others are as they were */
	void *bytes;  /* level 0, encoded */
	size_t count[3], spent;
	struct body body; /* of the new level 1 or 2 */
	struct store_object object;
	unsigned put; /* 1 or 2: the one that `body` is of; 0: none */
	struct store_reference reference[3];
};
int levels_make(struct replication *r, const struct store_level *change, struct levels *levels);
/* They are those of the newest record from now on. */
void levels_adopt(struct replication *r, struct levels *levels);
void levels_free(struct replication *r, struct levels *levels);

/* ---- catch_up.c */
/*
 * What of a first take is not in the store yet: runs of malloc's, and with `filled` a level of blocks that the store has and
 * the file has not. Reads the file. -ESTALE, -ECANCELED, -ENOMEM ...
 */
int catch_up(struct replication *r, struct thaw_take *take, bool filled,
	     struct thaw_mirror_run **runs, size_t *count, struct store_level *gone);

/* ---- hot.c */
bool hot_is_due(struct replication *r, bool closing);
/* As the record to come has the image. hot_start() has it stored. A failure is one of the take, or of memory. */
int hot_build(struct replication *r, struct thaw_take *take);
void hot_start(struct replication *r);
/* The one under way, if it is there by now, or with `wait` when it is. */
int hot_settle(struct replication *r, bool wait, struct thaw_error *error);
void hot_changed(struct replication *r, const struct store_level *change);
bool hot_is_news(const struct replication *r); /* there is one that no record tells */
void hot_drop(struct replication *r);	       /* the one that hot_start() was not called for */
void hot_free(struct replication *r);

/* ---- clean.c */
/* Counts what is stored, for the status; and with a budget (of blocks) has blocks of objects stored again that hold little or are many: thaw_mirror_dirty(). */
void clean(struct replication *r, uint64_t budget);

/* ---- garbage.c */
/*
 * Deletes what nobody needs; how many objects. `stops` ends it between two requests. Needs nothing of a replication: who it is that
 * collects does not matter.
 */
int garbage_collect(struct s3 *s3, uint64_t least_age_ns, bool (*stops)(void *arg), void *arg,
		    uint64_t *deleted, struct thaw_error *error);

#endif
