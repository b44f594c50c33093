/* SPDX-License-Identifier: MIT */
/*
 * guest_state.h - what the files of the guest itself share: guest.c (its life), capture.c, continue.c, attach.c,
 * requests.c. Owner's thread, but for guest_signalled() and guest_wake().
 */
#ifndef VM_PROCESS_GUEST_STATE_H
#define VM_PROCESS_GUEST_STATE_H

#include <signal.h>

#include "guest.h"
#include "process/output/output.h"
#include "process/process.h"
#include "process/requests.h"
#include "process/steps.h"

struct process_guest {
	struct guest guest; /* first */
	const struct guest_options *options;
	struct thaw *heap;
	struct process process;
	/*
	 * Of the generation that was opened, until the guest goes on; then of the newest capture, as far as the next
	 * one needs it (arguments, stub, identity, clocks, restores).
	 */
	struct process_state state;
	bool alive;	  /* there is a process, which is not known to have ended */
	bool job_stopped; /* by a signal */
	volatile sig_atomic_t asked_to_end; /* SIGTERM waits for one more generation */
	uint64_t asked_ns;		    /* when it was passed on; 0: never */
	volatile uint64_t end_asked_ns; /* a signal asked for the end, of whatever is left of it */
	struct output *output;		/* NULL: it is not held */
	int wake_fd;			/* eventfd */
	int kept_userfaultfd; /* its number in the guest, which keeps missing pages missing; -1: none */
	/*
	 * Is it idle? (idle.c) Its processor time when it went on after the newest capture, and once its threads were
	 * back where they wait, which is looked at at settle_ns; 0: that was noted.
	 */
	uint64_t cpu_ns, settled_cpu_ns, settle_ns;
	bool quiet;	/* the newest capture came after an interval in which it did not run */
	bool was_quiet; /* ... so will be the next, if there is one */
	/* The newest captured state, malloc'ed. */
	void *captured;
	size_t captured_bytes;
	struct requests requests;
	bool asked;	    /* there may be a request: what was waited for says so */
	struct steps steps; /* of the newest stop, or the restore */
};

static inline struct process_guest *process_of(struct guest *guest)
{
	return (struct process_guest *)guest;
}

/* ---- guest.c */

/* SIGTERM, if that waits. */
void guest_pass_on_end(struct process_guest *own);

/* ---- attach.c */

/* The heap's process, with what its generation had in `ranges`; it is stopped, or the restorer. */
int guest_attach(struct process_guest *own, const struct thaw_range *ranges, size_t count,
		 struct thaw_error *error);

/* ---- capture.c: save() and captured() of guest.h */

void *guest_save(struct guest *guest, bool changed, size_t *bytes, struct thaw_error *error);
void guest_captured(struct guest *guest, int code);

/* ---- idle.c: a guest that does not run is not stopped again and again */

/* It is about to go on after a capture. */
void idle_captured(struct process_guest *own);
/* When idle_look() wants to be called (monotonic clock); 0: it does not. */
uint64_t idle_due_ns(const struct process_guest *own);
void idle_look(struct process_guest *own);
/* A generation is due: may there be anything in it? */
bool idle_has_run(struct process_guest *own);

/* ---- holds.c: a guest that must not fork yet */

/* Can the memory of this state be kept from children, and be given back? Not where the program does so itself. */
bool holds_can(const struct mappings *mappings);
/* All of its memory is mapped, and nothing has run. Nothing where forks are told of. */
int holds_begin(struct process_guest *own, struct thaw_error *error);
void holds_look(struct process_guest *own);
/* When that is to be called (monotonic clock); 0: it need not. */
uint64_t holds_due_ns(const struct process_guest *own);
/* While it is stopped: what is there now. */
void holds_captured(struct process_guest *own, const struct mappings *mappings);
/* It has become another program. */
void holds_forget(struct process_guest *own);

/* ---- guest_output.c: output that is held */

/* All threads are parked; nothing has run. */
int guest_output_begin(struct process_guest *own, struct thaw_error *error);
/* What standard streams have not got yet. -ENOMEM. */
int guest_output_save(struct process_guest *own, struct process_state *state);
/* output_settled() and deliver() of guest.h. */
void guest_output_settled(struct guest *guest, int code);
bool guest_output_deliver(struct guest *guest);
/* It has ended by a failure of its own: what it has to say to people is not held. */
void guest_output_failed(struct process_guest *own);
/* What is not held is said. */
void guest_output_tell(struct process_guest *own);

/* ---- orphans.c */

/* What the process of the opened generation has left behind. */
void orphans_end(const struct process_state *state);

/* ---- continue.c */

/* A process of the opened generation, parked where it was captured. */
int guest_continue(struct process_guest *own, struct thaw_error *error);
/* It goes on. */
int guest_resume(struct process_guest *own, struct thaw_error *error);

#endif
