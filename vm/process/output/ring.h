/* SPDX-License-Identifier: MIT */
/*
 * ring.h - the supervisor's side of stub/output_memory.h: what is known of the guest's descriptors, and the bytes that
 * its threads have put into their rings.
 *
 * No locks: whoever keeps the queue that the bytes go to calls all of it under that queue's lock, but ring_wait(),
 * ring_wake() and the table's functions, which any thread may call. The memory is the guest's, too: nothing that is read
 * there is trusted.
 */
#ifndef VM_PROCESS_OUTPUT_RING_H
#define VM_PROCESS_OUTPUT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "process/stub/output_memory.h"

struct ring {
	struct output_memory *memory;
	uint32_t read[OUTPUT_SLOTS]; /* our own: the guest could change those in the memory */
	bool damaged[OUTPUT_SLOTS];
};

/* One call of the guest's: its bytes are copied before the function returns. */
struct ring_piece {
	uint32_t outlet;
	uint32_t flags; /* MSG_NOSIGNAL, MSG_DONTWAIT */
	const void *data;
	uint32_t bytes;
};
/* 0, or a negative code: it could not be taken, and stays where it is. */
typedef int ring_append_type(void *context, const struct ring_piece *piece);

/*
 * While no thread of the guest runs, or none has the stub yet: everything is forgotten, also what was not drained. Then
 * the ring may be used. A program that was executed has none before that.
 */
void ring_begin(struct ring *ring, struct output_memory *memory);
/* For good: all calls are plain ones (descriptors that not all threads share). */
void ring_off(struct ring *ring);

/*
 * All that was published before the call, each piece after all that happened before it. How many pieces; -EIO: the
 * guest has written into its control block, and what comes from one of its threads is lost from here on; or what
 * `append` has returned.
 */
int ring_drain(struct ring *ring, ring_append_type *append, void *context);
/* Is there something? */
bool ring_pending(const struct ring *ring);

/* The next who publishes wakes ring_wait(), and nobody after it; false: something is there already. */
bool ring_sleep(struct ring *ring);
/* Until that has happened since *seen, or ring_wake(), or so long (0: however long). */
bool ring_wait(const struct ring *ring, uint32_t *seen, uint64_t ns);
void ring_wake(struct ring *ring);

/* ---- The table. `seen`: what ring_seen() said before it was looked up what the descriptor is. */

uint64_t ring_seen(const struct ring *ring, unsigned fd);
/* Regular files, and whatever stays inside. */
void ring_direct(struct ring *ring, unsigned fd, uint64_t seen);
/* False: it is not noted; then whoever remembers the number would not be asked about its close. */
bool ring_held(struct ring *ring, unsigned fd, uint64_t seen, uint32_t outlet, bool is_socket);
/* They are being closed or replaced by a call of the guest's process that was asked about. */
void ring_forget(struct ring *ring, unsigned from, unsigned to);
/* All threads are parked: none is in such a call any more. */
void ring_parked(struct ring *ring);
/* May bytes for it go through the ring? Not for one that is full, has an error for its writer, is shut down, or gone. */
void ring_fast(struct ring *ring, uint32_t outlet, bool fast);

/* ---- ring_link.c: tied to an output */

struct output;
struct process;

/* Nothing of the guest runs, as for ring_begin(). 0, -ENOMEM, -EAGAIN. */
int ring_open(struct ring **ring, struct output *output, struct process *process);
/* It has become another program, and what the one before had published was drained. With the output's lock. */
void ring_executed(struct ring *ring);
/* Without the output's lock. NULL is allowed. */
void ring_close(struct ring *ring);
/* No generation is under way any more, whatever came of it. Without the output's lock. */
void ring_rearm(struct ring *ring);

#endif
