/* SPDX-License-Identifier: MIT */
/*
 * streams_queue.h - the queues of what is printed: what streams.c and streams_saved.c share, and nobody else includes.
 *
 * A queue holds pieces in this order: those that can be written, then what a generation in flight has captured, then
 * what none has. Without output commit all can be written at once.
 */
#ifndef VM_POLICY_STREAMS_QUEUE_H
#define VM_POLICY_STREAMS_QUEUE_H

#include "internal.h"

enum piece_state { PIECE_FREE, PIECE_CAPTURED, PIECE_HELD };

struct piece {
	struct piece *next;
	int fd;
	bool ours; /* the runtime's, and no part of what the program has printed */
	enum piece_state state;
	size_t bytes, written, room;
	char data[];
};

struct queue {
	struct streams *streams;
	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t more;
	pthread_t thread;
	bool started, quit;
	bool writing; /* the thread is, without the lock */
	struct piece *first, *last;
	struct piece *last_free; /* NULL: none can be written */
	size_t bytes;		 /* not written yet */
	size_t held;		 /* of them, those that cannot be written yet */
	int error;		 /* of stdout; the owner has not seen it */
};

enum way { WAY_FILE, WAY_NOWAIT, WAY_THREAD };

struct streams {
	struct runtime *rt; /* whom to wake; NULL: gone. Under every queue's lock. */
	struct queue queues[2];
	struct queue *queue_of[2];
	enum way way[2];
	bool full;	/* and not below QUEUE_ROOM since */
	bool unbounded; /* the end has to be reached, whoever reads */
	bool broken;	/* stdout's reader has gone */
	uint64_t
		asked_ns; /* when a flush without end first saw that a signal had asked for the end */
	void *held;	  /* of another's generation: kept, not printed */
	size_t held_bytes;
};

/* Write what can be written, without waiting for anybody, and queue the rest: no part of what is held. */
void streams_put(struct streams *streams, int fd, bool ours, const char *data, size_t bytes);

#endif
