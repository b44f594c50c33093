/* SPDX-License-Identifier: MIT */
/*
 * output.h - output commit of a process guest: what the program sends to the outside leaves when the generation that
 * contains its cause is durable.
 *
 * A seccomp filter (filter.c) brings every call that could send something to the supervisor's notifier (notifier.c), which
 * answers 'success' and keeps the bytes: an *outlet* (outlets.c) is an open file description that leads outside, with its
 * queue of *pieces* (queue.c); release.c sends what is durable. The guest's own memory can hand over bytes without a call,
 * too (ring.c, the stub): with output_append().
 *
 *	appended --output_captured()--> taken --output_durable()--> released --the peer reads--> gone
 *
 * output_append() and the functions with `struct output_state` may be called by any thread; the others are the owner's. Nothing here waits
 * for a generation: the guest has to be able to stop.
 */
#ifndef VM_PROCESS_OUTPUT_H
#define VM_PROCESS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "process/process.h"

struct output; /* of one guest */

struct output_owner { /* who has it; functions are called by any thread, and only wake somebody up */
	void *arg;
	/* So many bytes more are held, which no capture has taken; 0: something else that has to wait its turn. */
	void (*held)(void *arg, size_t bytes);
	/* A line for people; `kind` (a static text) is told once. */
	void (*tell)(void *arg, const char *text);
	bool quiet;
};

/* ---- The owner's thread */

/*
 * All threads of the guest are parked: install the filter, start the notifier. THAW_EKERNEL: this kernel or these
 * privileges do not allow it. The guest may have been started or restored just now; nothing of it has run.
 */
int output_open(struct process *process, const struct output_owner *owner, struct output **output,
		struct thaw_error *error);
/* What is not released is dropped. NULL is allowed. The guest has ended, or is about to be ended. */
void output_close(struct output *output);

/* Before process_stop(), and after process_continue() or its failure: calls that wait for room let their threads park. */
void output_stop_begins(struct output *output);
void output_stop_ends(struct output *output);
/* All threads are parked: what has been appended so far belongs to this generation. */
void output_captured(struct output *output);
/* What the newest capture came to: its generation is durable (or nothing had changed), or it is not. */
void output_durable(struct output *output);
void output_failed(struct output *output);
/* Is there something that no capture has taken? */
bool output_waits(struct output *output);
/* How many bytes are held, or released and not read yet. */
size_t output_bytes(struct output *output);

/* It has become another program (execve): numbers that it has closed are gone. */
void output_executed(struct output *output);

enum output_end {
	OUTPUT_ALL,	/* it has finished, and that is durable */
	OUTPUT_STREAMS, /* it has failed: what it has to say to people */
};
/* The guest has ended: release what it has left, and wait for its readers until `stop()` says so. True: all is out. */
bool output_finish(struct output *output, enum output_end end, bool (*stop)(void *arg), void *arg);

/* ---- The image: what standard streams have not got yet */

struct output_stream {
	int stream;		/* 1, 2 (or 0, where that is a terminal) */
	uint64_t device, inode; /* of a regular file; 0: it is none */
	uint64_t position;	/* where the first of the bytes goes in it */
	uint8_t *data;		/* malloc'ed */
	size_t bytes;
};
struct output_saved {
	struct output_stream streams[3];
	unsigned count;
};
/* Of what output_captured() has taken. 0, -ENOMEM. */
int output_save(struct output *output, struct output_saved *saved);
void output_saved_encode(const struct output_saved *saved, struct record_writer *writer);
bool output_saved_decode(struct output_saved *saved, struct record_reader *reader);
void output_saved_free(struct output_saved *saved);
/* Before anything of the restored program runs: to be written first, but for what a file has already. */
int output_restore(struct output *output, const struct output_saved *saved);

/* ---- ring.c: bytes that come without a call */

/*
 * Called with the output's lock, by the notifier before it looks at a call, and by output_captured(): whatever the guest has
 * published is appended, in order. `drain` returns when there is nothing more.
 */
void output_set_ring(struct output *output, void (*drain)(void *arg), void *arg);
/* For whom there is something in the ring: drains it under the lock, and wakes up whom that concerns. */
void output_drain(struct output *output);
/*
 * In drain(): bytes for the outlet with this number, as the guest has seen it. What an outlet that is gone would get is
 * dropped: its descriptor has been closed. `flags`: MSG_EOR and the like.
 */
int output_append(struct output *output, uint32_t outlet, const void *data, size_t bytes,
		  int flags);

#endif
