/* SPDX-License-Identifier: MIT */
/*
 * checkpoint.h - turning written pages into a generation: the thread behind thaw_checkpoint_*().
 *
 *	        begin            few enough, or enough passes       capture               durable, or failed
 *	 IDLE ---------> COPYING --------------------------> READY ---------> WRITING ----------------------> DONE --poll--> IDLE
 *	                  pre-copy: pages go                 the owner copies           residual pages, index,
 *	                  straight into the file             the residual               record, header slot
 *
 * Invariants:
 *  1. Every page collected from the tracker since `begin` is in `taken` until the generation is durable. On failure `taken` goes back.
 *  2. The generation is what the region and the state blob were during `capture`, nothing earlier and nothing later: a page that
 *     was pre-copied and written again is collected again by capture, and its later contents win in the commit.
 *  3. What a process gave up since the last capture is in `gone` from the capture on, until the generation is durable; on failure it goes
 *     back. Once a process has gone, generations have the memory of the one before, with another state.
 *  4. Memory: pre-copy needs one page; the residual is preserved (preserve.h), since the program goes on while it is written.
 */
#ifndef UFFD_CHECKPOINT_H
#define UFFD_CHECKPOINT_H

#include <pthread.h>
#include <stdatomic.h>

#include "cold.h"
#include "fault.h"
#include "image/image.h"
#include "preserve.h"
#include "region.h"
#include "working_set.h"
#include "tracker.h"

/* Work in parts [first, end) of [0, count), which the owner and the checkpoint's thread share. */
struct checkpoint_job {
	void (*work)(void *arg, uint64_t first, uint64_t end);
	void *arg;
	uint64_t count, batch;
	_Atomic uint64_t next;
	bool helped; /* just now; with the lock */
};

struct checkpointer {
	struct region *region;
	struct tracker *tracker;
	struct image *image;
	struct fault_service *service;	       /* of another process, to be settled; else NULL */
	struct working_set_recorder *recorder; /* stored with a generation, once; may be NULL */
	void (*notify)(void *arg);
	void *notify_arg;
	bool touches;	   /* THAW_TOUCHES */
	bool at_once;	   /* THAW_AT_ONCE */
	size_t copy_bytes; /* struct thaw_options */

	pthread_t thread;
	/* Protects phase, stop, and names, which the owner adds until the capture. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum thaw_phase phase;
	bool stop, started;
	bool helps;		    /* there is a processor for it */
	struct checkpoint_job *job; /* of the owner's, with which the thread may help */

	/*
	 * Of the checkpoint under way; owned by the thread, except between READY and WRITING,
	 * when the owner has them.
	 */
	struct commit *commit;
	struct bitmap taken, residual;
	struct bitmap
		gone; /* of another process: what was given up, and is stored no more; but for the residual */
	bool captured;	  /* its memory, and not its state alone */
	bool void_copies; /* of the pre-copy: that process has gone */
	bool anew;	  /* so the commit begins again */
	/* Of the memory that was captured, and of what is durable: if they differ, nothing stored is of this process. */
	uint64_t epoch, durable_epoch;
	unsigned rounds;	/* of pre-copying */
	uint64_t precopied;	/* pages, in its last pass */
	unsigned precopy_rests; /* for so many generations */
	struct preserver preserver;
	struct cold cold; /* the thread's */
	uint64_t done_ns; /* when the thread had nothing to do last */
	uint64_t begun_ns;
	uint64_t stopped_ns;	   /* thaw_checkpoint_stopped(); 0: the capture sets it */
	_Atomic uint64_t pause_ns; /* up to the end of the capture; 0: it has not ended yet */
	struct thaw_generation generation;
	struct thaw_name *names; /* for the generation: room for all, from the first one on */
	unsigned name_count;
	void *state;
	size_t state_bytes;
	uint32_t restores;
	struct thaw_result result;

	void *durable_state; /* of the newest durable generation: an equal one changes nothing */
	size_t durable_state_bytes;
	uint64_t durable_heap_bytes;
	uint32_t durable_kind;
	bool logs;	    /* THAW_LOG */
	uint64_t made_ns;   /* when the last generation was durable */
	unsigned soon;	    /* how many were begun soon after the one before, in a row */
	uint64_t folded_ns; /* when the log was folded last, or that failed */
	bool folding, held; /* with the lock: it is folded; it is not to be */
	bool busy;	    /* with the lock: the thread has the tracker between two checkpoints */
	/*
	 * From the capture on: not the thread writes this one, but who asks what has become of it. It is small, of a process
	 * that goes on meanwhile, and done in the time that it takes to hand it on.
	 */
	bool owner_writes;
	bool fold_waits; /* with the lock: the thread could not look whether it is time to fold */
	bool durable;	 /* this heap descends from some durable generation */
};

/* With the lock: none is under way. */
static inline bool checkpointer_rests(const struct checkpointer *checkpointer)
{
	return checkpointer->phase == THAW_IDLE || checkpointer->phase == THAW_DONE;
}

int checkpointer_start(struct checkpointer *checkpointer, struct thaw_error *error);
/* Gives up a checkpoint under way. */
void checkpointer_stop(struct checkpointer *checkpointer);

int checkpointer_begin(struct checkpointer *checkpointer, enum thaw_reason reason);
/* See thaw_process_copies_first(). */
bool checkpointer_copy_again(struct checkpointer *checkpointer);
/* See thaw_checkpoint_name(): COMMIT_ITSELF; and thaw_checkpoint_keep(): one that is there already. */
int checkpointer_name(struct checkpointer *checkpointer, const char *name, uint64_t generation);
int checkpointer_capture(struct checkpointer *checkpointer, enum thaw_kind kind, const void *state,
			 size_t state_bytes);
/* See thaw_checkpoint_abandon(). */
int checkpointer_abandon(struct checkpointer *checkpointer, int code, const char *why);
enum thaw_phase checkpointer_poll(struct checkpointer *checkpointer, struct thaw_result *result);
enum thaw_phase checkpointer_wait(struct checkpointer *checkpointer);
/* The process has gone: nobody copies its memory any more on return, and what was copied before it was stopped is void. */
void checkpointer_left(struct checkpointer *checkpointer);
/*
 * What was captured has become durable, or failed. Unlike wait(), does not wait for copying. From here to go_on() the
 * thread does nothing with the image but what a checkpoint asks of it.
 */
void checkpointer_settle(struct checkpointer *checkpointer);
void checkpointer_go_on(struct checkpointer *checkpointer);

#endif
