/* SPDX-License-Identifier: MIT */
/*
 * runtime.h - a running program: one heap, one guest (guest.h), and the policy of when to
 * checkpoint.
 *
 * The command line (vm/cli/) opens a runtime, gives it code, runs its loop and closes it. A
 * *turn* is one callback of the loop and the jobs it queued; checkpoints are captured between
 * turns, when no frame of the VM is on any stack, and in the middle of turns that last. Owner
 * thread only.
 */
#ifndef VM_RUNTIME_H
#define VM_RUNTIME_H

#include "guest.h"
#include "thaw.h"

/* Exit codes of every command (sysexits.h where one fits). */
enum {
	EXIT_EXCEPTION = 1,	 /* uncaught exception or unhandled rejection */
	EXIT_USAGE = 9,		 /* as node */
	EXIT_UNSETTLED = 13,	 /* as node: a top-level await that nothing will settle */
	EXIT_IMAGE_DAMAGED = 65, /* EX_DATAERR */
	EXIT_NO_INPUT = 66,	 /* EX_NOINPUT: a script or image that cannot be read */
	EXIT_NO_KERNEL = 69,	 /* EX_UNAVAILABLE: kernel or privileges lack what is needed */
	EXIT_ENGINE_TRAP = 70,	 /* EX_SOFTWARE: the sandbox stopped the engine */
	EXIT_IO = 74,		 /* EX_IOERR */
	EXIT_IMAGE_IN_USE = 75,	 /* EX_TEMPFAIL */
	EXIT_UPGRADE =
		78, /* EX_CONFIG: an upgrade failed or was refused, and the image is as it was */
	EXIT_IMAGE_FOREIGN =
		76, /* EX_PROTOCOL: another engine, format, or host functions this build lacks */
};

struct control;

struct place; /* store/place.h */

/* An object store that has a replica of the image. */
struct runtime_store {
	const char *place;   /* s3://BUCKET/PREFIX */
	const char *program; /* for messages to whoever loses it */
	struct place *
		lives; /* the image lives there, and was taken over; NULL: it is a local one. The caller's */
	uint64_t every_ns; /* a record begins at least so long after the one before */
	/* Nothing is durable before the store has it: what is promised to the program, and what lets output go. */
	bool durable;
	/* Until it has been done: whoever has continued it meanwhile, it becomes what this image is. */
	bool replace;
	bool over; /* the runtimes' own: it was continued elsewhere, and they go on without it */
	uint64_t wait_ns; /* so long a start waits for it, and an end */
	uint64_t
		outage_ns; /* with `durable`: if it has had nothing for so long, the program ends; 0: never */
};

struct runtime_options {
	const struct guest_type *guest; /* what kind of program it is; NULL: JavaScript */
	const char *image;		/* NULL: nothing persists */
	bool own;	    /* nobody named the image: refuse it if it is somebody else's */
	const char *script; /* absolute path of the main module; NULL for repl and -e */
	/*
	 * A fork, of the program that is in this image, whatever its script is (`script` is NULL). With `image`: that one is a
	 * clone, which this or an earlier start has made. Without: its pages are shared with all other forks of that
	 * generation, and nothing of it is kept.
	 */
	const char *fork_of;
	bool fresh;			      /* start anew even if the image holds a program */
	bool must_exist;		      /* do not create the image */
	bool encrypt;			      /* it is made encrypted, and must be */
	uint64_t generation;		      /* 0: newest */
	unsigned retain;		      /* 0: default (8) */
	const struct thaw_thinning *thinning; /* see thaw_options; read when it is opened */
	unsigned thinning_count;
	uint64_t every_ns; /* checkpoint interval; 0: only on request and at exit */
	/*
	 * What leaves the program waits until the generation that has its cause is durable. Such generations begin at
	 * least so long after each other; 0: the next as soon as the one before is durable.
	 */
	bool commit_output;
	uint64_t commit_interval_ns;
	unsigned prefetch; /* THAW_PREFETCH_WORKING_SET, THAW_PREFETCH */
	unsigned compress; /* THAW_COMPRESS_NONE ... */
	bool trust; /* continue in the middle of a turn without asking whose work the image is */
	bool self_contained; /* a process: its files' pages are in the image, too */
	bool roll_back; /* a process: what it appended to files since is cut off at a restore */
	bool upgrades; /* runtime_upgrade() follows: changed files, and generations that trap, are no reason to refuse */
	bool holds_output; /* what waits to be printed is left to who runs the program */
	bool quiet;	   /* no notes on stderr; errors are still printed */
	bool verbose;	   /* a line on stderr for each generation and restore */
	bool interactive; /* repl: SIGINT interrupts the running script instead of ending the program */
	bool plain_result; /* -p: runtime_eval() gives a string as it is, as console.log would */
	bool asks;	   /* -p on an image: its program does not go on, see runtime_eval() */
	bool keep_result; /* repl: globalThis._ is the last result of runtime_eval() that was not undefined */
	bool colours; /* answers have the control sequences of a terminal */
	bool looks;   /* thaw eval: no generation is made, whatever changes in memory */
	/*
	 * repl: called before (true) and after what the program or the runtime says is written, on the owner's thread: the
	 * line that is typed makes room.
	 */
	void (*around_output)(void *arg, bool before);
	void *around_arg;
	struct runtime_store *store; /* NULL: none. Outlives the runtime */
	struct control
		*control;   /* through which others talk to it (control.h); NULL: nobody does */
	int argument_count; /* what the program sees as thaw.args */
	char **arguments;
};

/*
 * Signals of a process that is going to run a program. signals_hold(): first of all in main(), they
 * wait. signals_begin(): once it is known whether there will be a program, which they can end or have
 * checkpointed as soon as it is there; where there is none, they do what they did before.
 */
void signals_hold(void);
void signals_begin(bool program);

/*
 * Open heap and VM: a fresh VM with the prelude evaluated, or the restored one. On failure prints
 * nothing; `error` says it in one line, and the return value's exit code is
 * runtime_exit_code(code).
 */
int runtime_open(const struct runtime_options *options, struct runtime **runtime,
		 struct thaw_error *error);
void runtime_close(struct runtime *runtime);
/* Does an image hold what can be forked? 0; or why not. */
int runtime_check_fork(const char *image, struct thaw_error *error);
int runtime_exit_code(int code);
/* What vm/store says of a place, as the same is said of an image. */
int runtime_store_code(int code);
/*
 * Is a thread still in a file operation that a closed runtime has begun? The process then has to be
 * left with _exit(): libuv waits for its threads in exit().
 */
bool runtime_left_threads(void);

/* Did it come out of an image (then the main module must not be loaded again)? */
bool runtime_restored(const struct runtime *runtime);
/* Was it a process, and has ended without having finished? Then it goes on from its newest generation. */
bool runtime_crashed(const struct runtime *runtime);
/* Has SIGINT, SIGTERM, SIGHUP or SIGQUIT come, also if the program was left to answer it? */
bool runtime_asked_to_end(void);
/* Did the sandbox stop it? Then its heap is not sound any more, and nothing may be asked of it. */
bool runtime_trapped(const struct runtime *runtime);
/* Which engines this build has, as images name them: 0 and up; NULL: no more. */
const char *runtime_identity(unsigned index);
struct thaw *runtime_heap(struct runtime *runtime);

/*
 * Load and start the main module of a fresh program. Returns 0 or an exit code (already printed:
 * unreadable, syntax error), or that of a signal that came before.
 */
int runtime_start(struct runtime *runtime);

/* What an evaluation came to: a rendering of the result, or of the exception with its stack trace. */
struct runtime_answer {
	char *text; /* malloc'ed, terminated; NULL: the program ended meanwhile */
	size_t bytes;
	size_t head; /* of an exception: where what was thrown itself begins, behind its place in its source */
};

/*
 * Evaluate a piece of code as the repl and -e do: a script in the global scope, top-level await
 * allowed; what it declares wins over what was declared before. Runs the loop until its promise
 * settles. With options.asks the restored program goes on only while the code awaits something.
 * Returns 0, EXIT_EXCEPTION, or another exit code if the program ended meanwhile.
 */
int runtime_eval(struct runtime *runtime, const char *code, size_t bytes, const char *name,
		 struct runtime_answer *answer);
/* What is wrong with a piece of code, as the engine says it, malloc'ed; NULL: it could be evaluated. */
char *runtime_complaint(struct runtime *runtime, const char *code, size_t bytes);
/* What somebody at a shell asks of the program; malloc'ed; NULL: it cannot be told. */
char *runtime_ask(struct runtime *runtime, enum guest_question question, const char *text,
		  size_t bytes);
/* Print the answer of an evaluation that returned EXIT_EXCEPTION, if it was not printed before. */
void runtime_tell_exception(const struct runtime_answer *answer);
/* How many exceptions nobody caught since it was opened, in what a shell went on from. */
/* Has something that the program printed not arrived, for another reason than that nobody wanted it? */
bool runtime_output_lost(const struct runtime *rt);
unsigned runtime_uncaught(const struct runtime *runtime);
/*
 * Leave: what has run is checkpointed, what waits (timers, promises) does so until the next process.
 * Returns the process's exit code: `code`, unless the program ended with its own, or the checkpoint
 * failed.
 */
int runtime_leave(struct runtime *runtime, int code);

/*
 * Run the loop until nothing is pending, exit() was called, or a signal asked for the end. Takes
 * the final checkpoint. Returns the process's exit code.
 */
int runtime_run(struct runtime *runtime);
/*
 * Serve the loop while waiting for terminal input: returns when fd is readable (1), when the
 * program ended (0), or, if interactive, when SIGINT came while no script was running (-1).
 */
int runtime_wait_input(struct runtime *runtime, int fd);

struct runtime_upgrade {
	struct guest_upgrade how;
	uint64_t time_limit_ns;
};

/*
 * Give a program that was restored, and of which nothing has run in this process, the code that is in its files now. 0: it is a
 * generation, `result`, and durable (with dry_run: it could be made so far); GUEST_UNCHANGED: there is nothing to do. Else
 * `error` says why not, the image is as it was, and nothing but runtime_abandon() may follow. `changes` is valid in
 * any case; the caller frees its list, and the texts in it.
 */
int runtime_upgrade(struct runtime *runtime, const struct runtime_upgrade *how,
		    struct guest_changes *changes, struct thaw_result *result,
		    struct thaw_error *error);
/* Of one that failed. */
int runtime_upgrade_exit_code(int code);
/* Leave it, without a generation; what it has said arrives. Returns the exit code: this one, unless output is lost. */
int runtime_abandon(struct runtime *runtime, int exit_code);

/* Take a checkpoint and wait for it. 0 or the error's code. */
int runtime_checkpoint(struct runtime *runtime, enum thaw_reason reason,
		       struct thaw_result *result);

/* What the next one is called, too. -EINVAL: that cannot be a name; -EROFS: there is no image. */
int runtime_checkpoint_name(struct runtime *runtime, const char *name);

void runtime_stats(struct runtime *runtime, struct runtime_stats *stats);

/* Of its replica in an object store. */
struct numbers_replica; /* control/numbers.h */
/* Any thread, while the runtime is open. */
void runtime_replica(struct runtime *runtime, struct numbers_replica *replica);

/* Write them: a table for people, or one JSON object. */
void runtime_stats_print(const struct runtime_stats *stats, const struct numbers_replica *replica,
			 bool json, int fd);

#endif
