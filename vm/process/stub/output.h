/* SPDX-License-Identifier: MIT */
/*
 * output.h - the stub's part of output commit: calls that write (output.c), and calls that close or replace descriptors
 * (output_entries.c).
 */
#ifndef VM_PROCESS_STUB_OUTPUT_H
#define VM_PROCESS_STUB_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "process/stub/stub.h"

/* Of the calling thread; in the image, as all that the program has. */
struct output_thread {
	/* First (forks.c): it is a child of vfork(2), with the guest's memory, and descriptors of its own. */
	uint32_t vforked;
	uint32_t slot; /* 1 + number of the one that it owns; 0: none yet */
	uint32_t
		busy; /* it is in the middle of a record; who is called now is in a signal handler of its */
	/* It is where the control block is looked at, which a child that a signal's handler forks there has not got. */
	uint32_t inside;
};
extern __thread struct output_thread output_thread
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Is output commit on, and is this the guest? (Also true in a child of vfork.) */
bool output_on(void);
/* Once, when the stub starts. */
void output_set_up(void);
/* In a child that was forked. */
void output_in_child(void);
/* From here on threads do not all have the same descriptors: nothing goes through a ring any more. */
void output_off(void);

/*
 * Those of the calls that syscall(2) is asked for which output_call() knows, and whether one was made: its result as the
 * kernel's.
 */
bool output_system_call(long number, const uint64_t arguments[6], int64_t *result);

/* ---- Closing: between the two nothing is noted of these numbers */

enum closing_kind {
	CLOSING_PLAIN, /* output commit is off: make the plain call, that is all */
	CLOSING_ASKED, /* the supervisor keeps something for them: make the plain call, which it is asked about */
	CLOSING_GATE,  /* it does not: a call through the gate is enough */
	CLOSING_CHILD, /* likewise, and there is nothing to end: the descriptors are a child's */
};
struct closing {
	enum closing_kind kind;
	unsigned first, end;
	uint32_t inside; /* as output_thread had it */
};
struct closing output_closing(unsigned first, unsigned last);
void output_closed(struct closing closing);
/* The call in between. */
int64_t output_close_call(struct closing closing, long number, uint64_t a, uint64_t b, uint64_t c);

#endif
