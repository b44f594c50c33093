/* SPDX-License-Identifier: MIT */
/*
 * numbers.h - what is told of a running program: as metrics in Prometheus' text format, and as the object of `status`.
 *
 * Counters are written by the program's owner and read by whoever asks, word by word, without a lock: a capture never waits for
 * who looks at it.
 */
#ifndef VM_CONTROL_NUMBERS_H
#define VM_CONTROL_NUMBERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "thaw.h"

#define NUMBERS_BUCKETS 14u /* and one for what is longer */

/* Read by anybody; set and added to by one alone: stores, and no lock. */
static inline uint64_t number_get(const _Atomic uint64_t *number)
{
	return atomic_load_explicit(number, memory_order_relaxed);
}
static inline void number_set(_Atomic uint64_t *number, uint64_t value)
{
	atomic_store_explicit(number, value, memory_order_relaxed);
}
static inline void number_add(_Atomic uint64_t *number, uint64_t more)
{
	number_set(number, number_get(number) + more);
}

struct histogram { /* of times */
	_Atomic uint64_t counts[NUMBERS_BUCKETS + 1], sum_ns, last_ns, most_ns;
};
/* One writer at a time. */
void histogram_add(struct histogram *histogram, uint64_t ns);

struct counters { /* of the life of a supervisor, over all starts of its program */
	_Atomic uint64_t generation, generation_time_ns; /* newest durable one; wall clock */
	_Atomic uint64_t checkpoints, failed,
		failing;		/* made durable; failed, and of these in a row */
	_Atomic uint64_t written_bytes; /* to the image */
	_Atomic uint64_t dirty_pages, stored_pages;
	_Atomic uint64_t dirty_ns; /* the time that the dirty pages are of */
	_Atomic uint64_t starts;   /* of the program */
	struct histogram pause, durable;
};

enum numbers_state {
	NUMBERS_STARTING, /* or between two starts */
	NUMBERS_RUNNING,
	NUMBERS_IN_TURN, /* that has lasted for `state_ns` */
	NUMBERS_STOPPED, /* by a signal */
	NUMBERS_ENDING,
};

struct numbers_replica {   /* the copy of the image in an object store */
	const char *place; /* NULL: there is none, and nothing else is set */
	const char *state;
	bool durable;	     /* only what it has is durable */
	uint64_t generation; /* the newest that it has */
	uint64_t behind_ns;  /* for how long it has not had the newest; 0: it has */
	uint64_t lag_ns;     /* of the newest that it has: from in the image to in the store */
	uint64_t outage_ns;  /* for how long it has not answered; 0: it does */
	uint64_t epoch, record;
	uint64_t records, objects;	       /* put since the start: records, and others */
	uint64_t requests, bytes_sent;	       /* over the wire */
	uint64_t objects_stored, bytes_stored; /* of the newest record, in all */
	/* Of an image that lives there: what has not arrived yet; requests that somebody waited for; threads that do. */
	uint64_t missing_bytes, needed, waiting;
	char why[504]; /* it does not answer, or not go on; empty: all is well */
};

struct moment {					      /* what else there is to tell, now */
	const char *kind, *image, *program, *failure; /* program, failure: NULL: none */
	const char *id;
	int pid, guest_pid; /* 0: it is the same process */
	enum numbers_state state;
	uint64_t state_ns, started_ns /* wall clock */, every_ns;
	uint64_t page_bytes;
	struct thaw_counters served; /* over all starts */
	uint64_t restores;
	uint64_t held_bytes, held_ns; /* output that waits, and for how long */
	bool commits_output;
	struct numbers_replica replica;
};

void numbers_metrics(const struct counters *counters, const struct moment *moment, FILE *to);
/* One object, without a newline. */
void numbers_status(const struct counters *counters, const struct moment *moment, FILE *to);

#endif
