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
 * The owner's thread, but for output_append(). Nothing here waits for a generation: the guest has to be able to stop.
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
	/* output_hole() has something. */
	void (*hole)(void *arg);
	int wake_fd; /* an eventfd: see output_wake_fd() */
};

/*
 * Who wakes the owner up writes there: owner.wake_fd, in the descriptor table of the calling thread; `wake_fd` in
 * those that share the owner's.
 */
int output_wake_fd(int wake_fd);

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
/* Where output is not held any more: write it to the streams now. 0 or -errno. */
int output_saved_write(const struct output_saved *saved);

/* ---- The owner's thread */

/*
 * All threads of the guest are parked: install the filter, start the notifier; `restored` (or NULL) is written first,
 * but for what a file has already. THAW_EKERNEL: this kernel or these
 * privileges do not allow it. The guest may have been started or restored just now; nothing of it has run.
 */
int output_open(struct process *process, const struct output_owner *owner,
		const struct output_saved *restored, struct output **output,
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
/* Something that is not held has begun: a line for people, once for each kind; NULL: nothing new. */
const char *output_hole(struct output *output);

/* It has become another program (execve): numbers that it has closed are gone. */
void output_executed(struct output *output);

enum output_end {
	OUTPUT_ALL,	/* it has finished, and that is durable */
	OUTPUT_STREAMS, /* it has failed: what it has to say to people */
};
/* The guest has ended: release what it has left, and wait for its readers until `stop()` says so. True: all is out. */
bool output_finish(struct output *output, enum output_end end, bool (*stop)(void *arg), void *arg);

/* ---- ring.c: bytes that come without a call */

/*
 * Called with the output's lock, by the notifier before it looks at a call, and by output_captured(): whatever the guest has
 * published is appended, in order. `drain` returns when there is nothing more.
 */
void output_set_ring(struct output *output, int (*drain)(void *arg), void *arg);
/* For whom there is something in the ring: drains it under the lock, and wakes up whom that concerns. */
void output_drain(struct output *output);
/*
 * In drain(): bytes for the outlet with this number, as the guest has seen it. What an outlet that is gone would get is
 * dropped: its descriptor has been closed. `flags`: MSG_EOR and the like.
 */
int output_append(struct output *output, uint32_t outlet, const void *data, size_t bytes,
		  int flags);

#endif
