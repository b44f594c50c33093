/* SPDX-License-Identifier: MIT */
/*
 * guest.h - the wall between the programs that are run (guests) and the policy that runs them.
 *
 * The policy (vm/policy) decides when a generation is taken, how many are kept and what they are called; it
 * has the keys, the signals, the output, the failures and the numbers. A guest (vm/js, vm/process) has the program: its
 * memory is one heap of libthaw, and its loop, turns, timers and values are its own business. No value of a
 * language crosses this header, and nobody includes a header of the other side.
 *
 * A *turn* is what the program does without coming back to its loop. Between two turns nothing of it is on
 * any stack. A guest that knows no such moment is always in a turn.
 *
 * First half: struct guest_type, what the policy asks of a guest. Second half: owner_*(), what a guest asks
 * of its owner, the policy. All on the owner's thread, but for what says otherwise.
 */
#ifndef VM_GUEST_H
#define VM_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>

#include "thaw.h"

struct guest;
struct runtime; /* the owner of a guest: vm/policy */

/*
 * Guests that are shared objects of another version (vm/engines) have been compiled with another copy of this header. What
 * crosses it has one layout for one number: struct guest_type, and the table of the owner's functions, are appended to, and
 * never reordered, while the number is the same; a function that is missing in a smaller table is as one that is NULL. All
 * other structs of this header, and those of thaw.h that it or a guest uses, stay as they are (tests/engines/guest_abi.c).
 * Another number: none of the engines from before can be loaded, and each image of theirs needs the thaw of its time.
 */
#define GUEST_ABI 1u

/* The most of a script, a module, a line of a shell: what has no size and might have no end. */
#define GUEST_SOURCE_MAX_BYTES (256ull << 20)
/* A state saved in the middle of a turn ends with so many bytes for the policy's MAC of the rest. */
#define GUEST_MAC_BYTES 32u
#define GUEST_BRANCH_BYTES 16u
/* guest_branch_text(), with its end. */
#define GUEST_BRANCH_TEXT (2 * GUEST_BRANCH_BYTES + 1)

struct guest_options {	    /* what a guest has to know of how it was started; outlives it */
	const char *image;  /* NULL: nothing persists */
	const char *script; /* absolute path; NULL: a shell, or code from the command line */
	bool keep_result; /* a shell: the program's variable _ is the last result of an evaluation */
	bool shows_later; /* ... of a person: what a promise was settled with is shown when it is */
	bool colours; /* results of evaluations are shown with the control sequences of a terminal */
	bool plain_result;   /* an evaluation that gives a string gives just that */
	bool self_contained; /* the image holds also what is in the program's files */
	bool roll_back;	     /* at a restore, files that it appends to are cut back */
	bool commit_output;  /* what leaves it waits for the generation that has its cause */
	bool upgrades;	     /* upgrade() is called next: changed files are what is asked for */
	bool quiet, verbose;
	int argument_count;
	char **arguments;
};

/*
 * The policy's part of a generation's state. The guest stores it beside its own part, and knows `restores` and
 * `finished` only to tell them.
 */
struct guest_common {
	bool finished; /* the program called exit(): its heap is kept, it does not go on */
	/* It begins as a fork: what it was forked of may go on beside it. Set by the policy before prepare(); not stored. */
	bool forked;
	int exit_code;	   /* with `finished` */
	uint64_t restores; /* how often this program was restored before this generation */
	/*
	 * The line of the program's history that its effects are numbered in, and the image that it is the line of. Changed
	 * by the policy before prepare().
	 */
	uint8_t branch[GUEST_BRANCH_BYTES], home[GUEST_BRANCH_BYTES];
	/* What was printed and not read yet (base/output_pieces.h); NULL: nothing. Borrowed. */
	const void *output;
	size_t output_bytes;
};

/*
 * save(): not now, the library copies more of the memory first while the program runs (THAW_COPYING again). It is called
 * again once that is done.
 */
#define GUEST_AGAIN -30201

struct guest { /* the first member of each guest's own struct */
	const struct guest_type *type;
	struct runtime *owner;
	struct guest_common common; /* the policy's; decoded by restore(), stored by save() */

	/* Written by the guest, for its owner to look at. The first also in signal handlers and by any thread. */
	volatile bool in_turn;
	uint64_t turn_began_ns; /* monotonic clock; with `in_turn` */
	volatile bool
		stopped; /* by a signal: it does nothing, nor can it be captured. Any thread looks */
	volatile int pid;	/* of the process that it is; 0: this one */
	bool runs_own;		/* what runs was begun by the program, not by evaluate() */
	bool exiting;		/* the program called exit(): nothing more of its turn runs */
	bool hears_checkpoints; /* it is told of each generation, also of one it did not ask for */
	bool hears_restores;	/* ... of each restore, which so may change its heap */
	bool mid_turn;		/* restore(): the generation was taken in the middle of a turn */
	/* Signals, as bits, that the program listens to, and of those the ones that it has not been told of. */
	volatile uint32_t hears_signals, signals_come;
	uint64_t turns, reactions; /* that have ended: turns; callbacks queued within them */
	uint64_t first_turn_ns;	   /* monotonic clock: the end of the first turn in this process */
	bool output_saved; /* the newest saved state has output that has left since, see deliver() */
	size_t saved_stack_bytes; /* save() in the middle of a turn: of its stack */
	size_t answer_head; /* answer() with an exception: bytes before what was thrown itself */
};

/* What a checkpoint came to, for the program. */
struct guest_outcome {
	uint64_t last;	 /* settles those who wait up to this number (owner_checkpoint()) */
	bool waited_for; /* there were some */
	enum thaw_reason reason;
	struct thaw_result result;
};

/* New code for old state. A *module* is a file that a program was made of. */
struct guest_upgrade {
	const char *check; /* a file of code that fails if something is wrong; NULL: none */
	bool dry_run;	   /* only tell what would change */
	bool force;	   /* let state go about which nobody says anything */
};

enum guest_change_kind { GUEST_SAME, GUEST_CHANGED, GUEST_ADDED, GUEST_REMOVED, GUEST_GONE };

struct guest_change { /* of one module; all malloc'ed */
	char *name;
	enum guest_change_kind kind;
	char *hooks;		    /* which it has, for people; NULL: none */
	char *state;		    /* variables that would be lost without; NULL: none */
	unsigned timers, listeners; /* that it has registered, and that end with it */
};

struct guest_changes {
	struct guest_change *list; /* malloc'ed; without those that are the same */
	unsigned count, unchanged;
};

#define GUEST_UNCHANGED 1 /* upgrade(): no file has changed, and nothing was done */

struct guest_numbers { /* what the guest adds to the numbers behind --stats */
	uint64_t heap_bytes;
	uint64_t collections; /* garbage collections */
};

/* Until when run() runs; in any case only until owner_stops() or owner_interrupted(). */
enum guest_until {
	GUEST_UNTIL_IDLE,      /* nothing is pending */
	GUEST_UNTIL_EVALUATED, /* nothing is pending, or evaluate() has its result */
	GUEST_UNTIL_READABLE,  /* the descriptor is readable, also while nothing is pending */
};

enum guest_question {
	GUEST_COMPLETIONS, /* of this text: the part that is completed, then what it could become */
	GUEST_TIMERS, /* number, milliseconds from now, every how many, "unref", function, its place; tabs between */
};

enum guest_evaluation {
	GUEST_FAILED,  /* it could not begin: answer() has why */
	GUEST_PENDING, /* it awaits something */
	GUEST_SETTLED, /* answer() has what it came to */
};

/*
 * What the policy asks of a guest. A function that is optional is NULL where the guest cannot do it: the policy
 * refuses what needs it in one line.
 */
struct guest_type {
	uint32_t size, abi;   /* sizeof(struct guest_type), GUEST_ABI */
	const char *identity; /* goes into images: only the same one continues them */
	void *address;	      /* the heap, as thaw_open() wants it */
	uint64_t max_bytes, guard_bytes;
	bool process; /* the heap is the memory of another process (THAW_PROCESS) */
	/*
	 * A generation holds native state wherever it was taken, between turns, too (such a guest may have none):
	 * its image is authenticated (THAW_KEYED).
	 */
	bool bound;

	/* ---- Life: open(), then restore() (and restore_turn()) if the heap came out of an image, then prepare() */

	/* Host memory only: the heap is not looked at. NULL: no memory. */
	struct guest *(*open)(struct runtime *owner, const struct guest_options *options,
			      struct thaw *heap);
	/* Ends all it has in this process. The heap may be gone; what cannot be ended is left, see left_threads(). */
	void (*close)(struct guest *guest);
	/* The generation that the heap was opened from: trust nothing of its state. Fills common and mid_turn. */
	int (*restore)(struct guest *guest, const void *state, size_t bytes,
		       struct thaw_error *error);
	/* Optional. Why this process cannot continue that turn, the rest of a sentence; NULL: it can. */
	const char *(*turn_refusal)(struct guest *guest);
	/* Optional. Put the turn's stack in place. 0 or THAW_EDAMAGED. */
	int (*restore_turn)(struct guest *guest);
	/* Ready to run: for a fresh heap make the program's world, for another say what of its sources changed. */
	int (*prepare)(struct guest *guest, struct thaw_error *error);

	/* Read the program's file; may take for ever. */
	int (*load)(struct guest *guest, struct thaw_error *error);
	/* Begin what load() has read: a turn. */
	void (*start)(struct guest *guest);
	/* Optional. The rest of the turn that a program was restored in. */
	void (*resume_turn)(struct guest *guest);
	/*
	 * Tell a program that it was restored: a turn. What waits for a checkpoint with a number below
	 * `first_waiter` (0: whatever waits) is settled: that generation is this one.
	 */
	void (*resume)(struct guest *guest, uint64_t first_waiter);
	/*
	 * Run, and call owner_advance() between turns, owner_poll() in those that last. True: until what was
	 * asked for; false: something else ended it.
	 */
	bool (*run)(struct guest *guest, enum guest_until until, int fd);
	/* Tell the program what its checkpoints came to, now. */
	void (*tell_outcomes)(struct guest *guest);
	/* Anything that it waits for, or that is left to do? */
	bool (*has_work)(struct guest *guest);
	/* It waits for what nothing can bring any more: it did not end, it got stuck. */
	bool (*unsettled)(struct guest *guest);
	/* The end, when nothing is told any more: wait a moment for what is under way outside. */
	void (*settle)(struct guest *guest);
	/* The path of what runs, of this start or of the one that the image is from; NULL: a shell's session. */
	const char *(*name)(const struct guest *guest);
	/* Optional. Is a thread still in something that a closed guest has begun? Then exit() would wait for it. */
	bool (*left_threads)(void);

	/* ---- Generations */

	/* In a turn, at owner_poll(): can it be captured, and be ended, where it stands? Optional: never. */
	bool (*stoppable)(struct guest *guest);
	/*
	 * Everything a restore needs that is not in the heap, with `common`; malloc'ed. NULL: this checkpoint fails,
	 * for the reason in `error` (code 0: no memory). In the middle of a turn it ends with GUEST_MAC_BYTES. `changed`: the program may have run since the last.
	 */
	void *(*save)(struct guest *guest, bool changed, size_t *bytes, struct thaw_error *error);
	/* Optional. After save(), once the memory was captured too (0), or one of the two failed: it may run on. */
	void (*captured)(struct guest *guest, int code);
	/*
	 * Optional, with guest_options.commit_output. All output that was held up to the newest capture that succeeded
	 * may leave now, in order: the generation that has its cause is durable (0), also where that had
	 * nothing to write. Else that generation has failed (-errno): what was held joins the next one. Called
	 * once after each captured() with 0, and again for a generation that failed before its capture.
	 */
	void (*output_settled)(struct guest *guest, int code);
	/*
	 * Optional. The program has ended, and its final generation, if it has one, is durable: bring out what may leave, however
	 * long its readers take, unless a signal asks for the end. False: not all of it could be.
	 */
	bool (*deliver)(struct guest *guest);
	/* In a turn, at owner_poll(): end the program here. Optional: run() returns where owner_poll() is true. */
	void (*abandon)(struct guest *guest, const char *why) __attribute__((noreturn));
	/* Poll as soon as possible. Signal handlers of the owner's thread. May be lost. */
	void (*poll_soon)(struct guest *guest);
	/* The next thing it does is poll. */
	void (*poll_next)(struct guest *guest);
	/* Wake run() up. Any thread, signal handlers. */
	void (*wake)(struct guest *guest);
	/*
	 * Optional. A signal came that asks the program for something (SIGTERM, SIGINT, SIGUSR2 ...): it is the
	 * program's to answer, not the policy's. Signal handlers, once the guest is prepared.
	 */
	void (*signalled)(struct guest *guest, int signo, const siginfo_t *info);
	/* Optional. Put work off that is not the program's (collections), until it has got on. */
	void (*hold_back)(struct guest *guest, bool hold);
	/* Its world is not sound any more, for this reason; NULL while all is well. Then nothing else may be asked. */
	const char *(*trapped)(struct guest *guest);

	/* ---- Optional, together: code from outside */

	/* Begin it: in a turn of its own, or inside of the one that polls. */
	enum guest_evaluation (*evaluate)(struct guest *guest, const char *code, size_t bytes,
					  const char *name);
	enum guest_evaluation (*evaluation)(struct guest *guest); /* how far that has come */
	/* What it came to, malloc'ed; false: it is an exception. The evaluation is over. */
	bool (*answer)(struct guest *guest, char **text, size_t *bytes);
	/* The evaluation is over, and nobody wants to know. */
	void (*forget)(struct guest *guest);
	/* What is wrong with the code, malloc'ed; NULL: it could run. */
	char *(*complaint)(struct guest *guest, const char *code, size_t bytes);
	/* What somebody at a shell asks, in lines, malloc'ed; NULL: it cannot be told. Runs no code of the program. */
	char *(*ask)(struct guest *guest, enum guest_question question, const char *text,
		     size_t bytes);

	void (*numbers)(struct guest *guest, struct guest_numbers *numbers);

	/*
	 * Optional. Load the program's files that have changed into its heap, between turns, and let the old code hand
	 * over its state. 0; GUEST_UNCHANGED; or why not: then the heap is neither old nor new, and no generation may be
	 * made of it. `changes` is filled as far as it came.
	 */
	int (*upgrade)(struct guest *guest, const struct guest_upgrade *options,
		       struct guest_changes *changes, struct thaw_error *error);
	/*
	 * Optional. Poll where the signal has found it, which handed over this ucontext_t, also inside of what knows no polls. It
	 * must not be entered then. True at owner_poll() ends the turn once it can. Signal handlers of the owner's thread.
	 */
	bool (*poll_here)(struct guest *guest, void *context);
};

/* The guests there are. */
extern const struct guest_type javascript_guest; /* vm/js/program */
extern const struct guest_type process_guest;	 /* vm/process */

/* ---- What a guest asks of its owner (implemented by vm/policy) ---- */

/* No turn will follow. */
bool owner_ended(const struct runtime *rt);
/* An exception now is not the program's: it is being ended. */
bool owner_unwinding(const struct runtime *rt);
/* exit() was called; a `code` outside 0 to 255 is a failure. The turn shall end. */
void owner_exit(struct runtime *rt, double code);
/* ... and has. */
void owner_exited(struct runtime *rt);
/*
 * A guest that is a process has ended: by itself, with this code, or by this signal, which it may have sent itself.
 * With code 0, and unless a signal asked it to end, it has finished. Else the next start goes on from its newest
 * generation.
 */
void owner_left(struct runtime *rt, int code);
/* It is about to get a signal that asks for its end: one more generation, which is waited for. */
void owner_before_end(struct runtime *rt);
void owner_killed(struct runtime *rt, int signo);
/* The sandbox stopped the program, for that reason. More than once is fine. */
void owner_trapped(struct runtime *rt, const char *reason);
/* Nobody caught an exception, which looks like this. May end the program. */
void owner_uncaught(struct runtime *rt, const char *prefix, const char *text);
/* A line of the runtime's on stderr. */
void owner_tell(struct runtime *rt, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Between turns, before each round of the loop. Generations go on. */
void owner_advance(struct runtime *rt);
/* The program is to end. */
bool owner_stops(struct runtime *rt);
/* Somebody at a terminal has enough: run() returns. */
bool owner_interrupted(const struct runtime *rt);
/* The owner has something to do then (monotonic clock), and wants owner_advance() to be called; 0: never. */
uint64_t owner_due_ns(const struct runtime *rt);
/* Somebody waits for a checkpoint, or shall be told of one. */
bool owner_has_work(const struct runtime *rt);
/* What a checkpoint came to that the program is to be told, the oldest first. False: nothing. */
bool owner_take_outcome(struct runtime *rt, struct guest_outcome *outcome);

/*
 * The program's memory is new (execve): its effects are numbered from the first again, in a line of their own. The same one
 * if it comes to that again in another process.
 */
void owner_branches(struct runtime *rt);
/* The first half of an effect's id. */
void guest_branch_text(const struct guest *guest, char text[GUEST_BRANCH_TEXT]);

/* The same, in a line that `data` decides. */
void owner_branches_by(struct runtime *rt, const void *data, size_t bytes);
/*
 * In an upgrade: has it to end? 0; or why: a signal (-EINTR), the time limit (-ETIMEDOUT), or what was reported by
 * owner_uncaught() and the like (-ECANCELED).
 */
int owner_upgrade_over(struct runtime *rt, struct thaw_error *error);

/* A turn begins, or goes on in this process. */
void owner_turn_begins(struct runtime *rt);
/* In the middle of a turn, where it can be captured if stoppable() says so. True: the script ends here. */
bool owner_poll(struct runtime *rt);
/* Between two steps of a turn. False: the rest waits for the next turn. */
bool owner_step_done(struct runtime *rt);

/*
 * The program listens to that signal, or does not any more: then it is told of it, instead of what the signal does else,
 * unless it comes again before that and asks for the end.
 */
void owner_hear(struct runtime *rt, int signo, bool hear);
/* One that has come since; 0: none. */
int owner_take_signal(struct runtime *rt);

/* What the program prints. Copied. */
void owner_write(struct runtime *rt, int fd, const char *data, size_t bytes);
/* It has printed more than its readers have read, and has to wait: for owner_poll(), or owner_wait_output(). */
bool owner_output_full(struct runtime *rt);
void owner_wait_output(struct runtime *rt);

/*
 * With guest_options.commit_output: so many bytes more are held (0: something else that has to wait its turn, as the
 * end of a connection). A generation is begun for them, which captures all that was held before it stopped the guest
 * and calls output_settled(). Any thread; cheap.
 */
void owner_output_held(struct runtime *rt, size_t bytes);

/*
 * Waiter number `waiter`, counted in the heap, wants a checkpoint, perhaps with a name (else NULL). -EROFS: there
 * is no image; -ENOSPC: one name too many waits for a generation; -EINVAL; -ENOMEM.
 */
int owner_checkpoint(struct runtime *rt, uint64_t waiter, const char *name);

/* The numbers behind --stats, .stats, and what a program is told. */
struct runtime_stats {
	struct thaw_status heap;
	bool process;	     /* a guest of that kind: it has no turns */
	uint64_t heap_bytes; /* of a process: all that is mapped, and could be in an image */
	uint64_t turns;
	uint64_t output_bytes;	/* what the program wrote to stdout and stderr */
	uint64_t collections;	/* garbage collections by our policy */
	uint64_t restore_ns;	/* process start to the first instruction of the restored VM */
	uint64_t first_turn_ns; /* ... to the end of the first turn */
	uint64_t restores;
	uint64_t turn_stops;		/* generations captured in the middle of a turn */
	uint64_t stack_bytes_max;	/* largest stack among them */
	uint64_t stack_ns_total;	/* copying stacks and computing their MACs */
	uint64_t failing;		/* checkpoints that have failed in a row, up to now */
	uint64_t failing_ns;		/* since the first of them */
	uint64_t every_ns, achieved_ns; /* the interval: asked for; on average, 0: not known yet */
	const char *failure; /* why the last one failed; empty: it did not. The runtime's */
	struct thaw_generation opened;
	/* Output commit: off, or what it came to. */
	bool commits_output;
	uint64_t output_generations; /* made durable because something was held */
	uint64_t output_held;	     /* bytes held now */
	uint64_t output_committed;   /* bytes that could leave */
	/* From when the first of a generation's output was held until it could leave; 0: there was none. */
	uint64_t held_ns_p50, held_ns_p99, held_ns_max;
};
void owner_stats(struct runtime *rt, struct runtime_stats *stats);

#endif
