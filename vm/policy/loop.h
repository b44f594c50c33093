/* SPDX-License-Identifier: MIT */
/*
 * loop.h - a running program from the inside: what runtime.c, loop.c, checkpoints.c, files.c,
 * signals.c and js/host.c share.
 *
 *	runtime.c	opens, restores, starts, evaluates, closes: the policy
 *	loop.c		turns, timers, waiting: the only file that runs the uv loop
 *	checkpoints.c	when a generation is taken, and who is told
 *	midturn.c	generations in the middle of a turn: taking them, continuing them
 *	failures.c	what fails again and again, and who is told
 *	ending.c	the final generation, and the last of the output
 *	poll_timer.c		makes a turn that lasts poll at the right moment
 *	changed_sources.c	a restored program's files are not what they were
 *	streams.c	what is printed, and readers that are slow
 *	files.c		readFile, writeFile, appendFile on libuv's threads
 *	signals.c	SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGUSR2
 *	js/host.c	what JavaScript may call
 *
 * Everything runs on the owner's thread, but for what a comment names. A *turn* is one callback
 * of the loop and the jobs it queued. Only loop.c enters the VM, through loop_turn() and
 * loop_ask().
 */
#ifndef VM_LOOP_H
#define VM_LOOP_H

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>
#include <uv.h>

#include "base/clock.h"
#include "failure.h"
#include "js/state/blob.h"
#include "key.h"
#include "runtime.h"

/* What the host asks of the prelude's entry function (prelude.js, enter). Numbers are for ever. */
enum prelude_operation {
	PRELUDE_NEXT_DUE = 0,
	PRELUDE_RUN_ONE = 1,	/* (now) */
	PRELUDE_DURABLE = 2,	/* (last waiter, result) */
	PRELUDE_FAILED = 3,	/* (last waiter, text, code) */
	PRELUDE_RESTORED = 4,	/* (info for 'restore', info for waiters, what is this process's) */
	PRELUDE_FILE_DONE = 5,	/* (number, failure, data) */
	PRELUDE_MAIN = 6,	/* (promise of the main module) */
	PRELUDE_WATCH = 7,	/* (promise whose rejection the host looks at) */
	PRELUDE_INSPECT = 8,	/* (value) -> string */
	PRELUDE_DESCRIBE = 9,	/* (exception) -> string */
	PRELUDE_UNHANDLED = 10, /* ([[promise, reason]], [promise]) -> [reason] */
	PRELUDE_SYNC = 11,	/* (generation, restored) */
	PRELUDE_MAIN_STATE = 12 /* -> 'none' | 'pending' | 'done' | 'failed' */
};

/* What became of a checkpoint. */
struct checkpoint_outcome {
	uint64_t last;	 /* settles waiters up to this number */
	bool waited_for; /* there were some */
	enum thaw_reason reason;
	struct thaw_result result;
};

struct file_jobs { /* files.c */
	struct file_job *first, *last;
};

struct program_clock {	/* loop.c: the clock that programs see */
	double base_ms; /* the clock is this, plus what the monotonic clock counted since base_ns */
	uint64_t base_ns;
};

struct events { /* loop.c: the uv loop */
	uv_loop_t loop;
	uv_timer_t timer; /* wakes the loop up for the earliest of the program's timers */
	uv_async_t wake;  /* from signal handlers and from the library's threads */
	bool ready;
	bool keeps_alive; /* a timer that is not unref'ed is pending */
	double next_due;  /* of the earliest timer, on the program's clock; 0: there is none */
};

struct turn { /* loop.c: the one under way, and how many there were */
	volatile bool
		running; /* poll_timer.c's signal handler and checkpoints_notify() look, too */
	uint64_t began_ns;
	enum js_turn_step step; /* what the VM was entered for; NONE: for nothing that a turn is */
	js_value arguments[JS_TURN_ARGUMENTS]; /* of the call to the prelude under way */
	unsigned argument_count;
	struct js_rejection *rejections; /* from the callback until the end of the turn */
	unsigned rejection_count, rejection_room;
	bool exiting;	       /* exit() was called in it: nothing more of it runs */
	int exit_request;      /* ... with this code */
	bool collect;	       /* gc() was called in it */
	js_value main_failure; /* what the main module threw in it; 0: nothing */
	uint64_t count, jobs, collections;
};

struct ending {	    /* ending.c: how the program ends */
	bool ended; /* no turn will follow */
	bool final; /* ... and the heap is as a turn left it: it may be checkpointed */
	int exit_code;
	int stop_signal;	/* ended by it */
	bool cut;		/* a script was, by a signal: its exception says nothing */
	volatile bool starting; /* its script is being read, which may take for ever: a pipe, say */
};

struct checkpoints { /* checkpoints.c */
	uv_timer_t every;
	uint64_t due_ns;    /* the next interval's end, or the next try; monotonic clock; 0: none */
	uint64_t requested; /* highest number of a checkpoint() promise */
	/* ... when the generation in flight was captured; with `capture_taken` */
	uint64_t captured;
	uint64_t settled;      /* ... that was settled */
	uint64_t first_waiter; /* lowest number handed out by this process; 0: none yet */
	/* turn.count at capture, and at the newest capture that became durable */
	uint64_t captured_turns, durable_turns;
	bool capture_taken;
	bool wanted;		 /* begin another as soon as none is in flight */
	bool urgent;		 /* ... and do not wait for the end of the turn (SIGUSR2) */
	enum thaw_reason reason; /* of the one in flight */
	/* What the loop has to tell, in this order. */
	struct checkpoint_outcome *untold;
	unsigned untold_count, untold_room;
	/* What the generation that is captured next is called. */
	struct thaw_name *names;
	unsigned name_count, name_room;
};

struct failures {		   /* failures.c */
	uint64_t failing;	   /* so many checkpoints in a row have failed */
	uint64_t failing_since_ns; /* monotonic clock: the first of them; with `failing` */
	uint64_t warn_at_ns, warn_every_ns;
	bool loss_told;	      /* at the end */
	bool noted;	      /* in the image, of the generation that was opened */
	char text[504];	      /* why the last one failed; empty: it did not */
	bool last_checkpoint; /* the one under way is the last: its failure is the end's to tell */
};

struct midturn {	 /* midturn.c */
	struct key *key; /* NULL: not loaded yet */
	bool key_known;
	/* There was no key, and it was said: until then turns are not stopped. */
	uint64_t key_retry_ns;
	unsigned key_failures;
	uint64_t stop_requested_ns; /* when this turn first saw SIGTERM or its like; 0: not yet */
	uint64_t count, stack_bytes_max, stack_ns_total;
};

struct output { /* streams.c */
	struct streams *streams;
	uint64_t bytes;
	bool failed, lost;	 /* it was said; and the end of the program says so, too */
	uint64_t broken_pipe_ns; /* when stdout's reader was first found gone */
	sem_t attention; /* posted by whoever has something for an owner that waits outside of the loop */
	bool stalled;	       /* the program's turns wait for a reader */
	bool stalled_captured; /* ... and so did the turn under way when it was captured last */
	bool held; /* what another process could not print is kept for whoever runs the program */
	size_t captured, durable; /* bytes in the newest capture; and in the newest durable one */
};

struct poll_timer { /* poll_timer.c */
	timer_t timer;
	pthread_t thread;
	bool ready;
	uint64_t at_ns;		    /* when it expires; 0: never; UINT64_MAX: not known */
	volatile sig_atomic_t rang; /* since the last poll */
};

struct files {		    /* files.c */
	unsigned in_flight; /* begun, and not told yet */
	struct file_jobs begun, done;
	double first_number; /* lowest number begun by this process; 0: none yet */
};

struct evaluation {		   /* evaluate.c */
	bool used;		   /* runtime_eval() was called */
	bool running;		   /* ... and has not returned: see midturn_end() */
	bool asking;		   /* ... inside of a turn, see evaluate_inside() */
	struct question *question; /* to be asked there */
	unsigned uncaught;	   /* exceptions that nobody caught and a shell went on from */
};

struct runtime {
	struct runtime_options options;
	struct thaw *heap;
	struct js_engine *engine;
	struct js_blob blob; /* what the next generation's state blob will say */
	bool restored;	     /* the heap came out of the image */
	bool turn_resumed;   /* ... and has ended the turn that it was stopped in */
	bool resumed;	     /* ... and has had its first turn in this process */
	uint64_t restore_ns, first_turn_ns;
	uint64_t synced_generation; /* what the live bindings of the module "thaw" say */
	struct program_clock clock;
	struct events events;
	struct turn turn;
	struct ending ending;
	struct evaluation evaluation;
	struct checkpoints checkpoints;
	struct failures failures;
	struct midturn midturn;
	struct output output;
	struct poll_timer poll_timer;
	struct files files;
};

/* ---- runtime.c ---- */

/* Once per process, before anything else of a restored program: no-ops afterwards. */
void runtime_resume_turn(struct runtime *rt);
void runtime_resume(struct runtime *rt);
/* Say that a turn goes on before anything is evaluated. */
void runtime_tell_turn(struct runtime *rt);
/* A signal asked for the end before anything of the program has run in this process: then it has ended. */
bool runtime_ended_early(struct runtime *rt);

/* ---- evaluate.c ---- */

/*
 * At the first poll of a turn that goes on: ask it the question that waits. If that can be answered here,
 * the turn is captured again as it stands, and the program ends.
 */
void evaluate_inside(struct runtime *rt);

/* ---- loop.c ---- */

int loop_open(struct runtime *rt, struct thaw_error *error);
void loop_close(struct runtime *rt);
/* Milliseconds since 1970, as the program counts them: see loop.c. Any time, owner's thread. */
double loop_clock(const struct runtime *rt);

/*
 * One turn: call the prelude, then run its jobs, report what nobody caught, collect garbage if it
 * pays. Consumes the arguments.
 */
void loop_turn(struct runtime *rt, enum prelude_operation operation, unsigned count,
	       js_value *arguments);
/*
 * Ask the prelude something that changes nothing, outside a turn. Consumes the arguments; an
 * owned handle or 0.
 */
js_value loop_ask(struct runtime *rt, enum prelude_operation operation, unsigned count,
		  js_value *arguments);
/*
 * A turn of another process, which a generation caught in the middle: go on with it, to its end.
 * The runtime's `blob.turn` says how far it had come.
 */
void loop_turn_resume(struct runtime *rt);
/* Evaluate the main module: a turn. */
void loop_turn_main(struct runtime *rt, const char *source, size_t bytes, const char *name);
/* The brackets of a turn, for those who enter the VM themselves (runtime.c evaluates). */
void loop_turn_begin(struct runtime *rt);
void loop_turn_end(struct runtime *rt);
/*
 * Text of an exception: malloc'ed, never NULL, with its bytes (unless that is NULL). Does not
 * consume it.
 */
char *loop_describe(struct runtime *rt, js_value exception, size_t *bytes);
/* Write that text to stderr behind a prefix, and a newline if it has none. */
void loop_print_exception(const char *prefix, const char *text, size_t bytes);
/* Print an uncaught exception and end the program (interactive: go on). Consumes it. */
void loop_uncaught(struct runtime *rt, js_value exception, const char *prefix);
/*
 * Ask for the end of the program. `final`: what is in the heap may be checkpointed. The first
 * call counts.
 */
void loop_end(struct runtime *rt, int exit_code, bool final);
/* runtime_open(): the generation traps whenever it is continued. Beyond the library's codes. */
#define RUNTIME_EREPEATS -30001
/* Did the sandbox stop the engine? Then says so, ends the program, and returns true. */
bool loop_trapped(struct runtime *rt);

/* Has a signal, or a reader that is gone, asked for the end? The program has ended then. Outside turns. */
bool loop_stop_requested(struct runtime *rt);
/* Serve the loop until the program ended, `done` says so, or nothing is pending and `idle_ends`. */
void loop_serve(struct runtime *rt, bool (*done)(struct runtime *rt, void *arg), void *arg,
		bool idle_ends);
/* Between turns: tell the program what its checkpoints came to. True: something was told. */
bool loop_tell_outcomes(struct runtime *rt);
bool loop_has_work(const struct runtime *rt);
/* A line of ours on stderr. */
void loop_tell(struct runtime *rt, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* 1: fd is readable; 0: the program ended; -1: interrupted. */
int loop_wait_readable(struct runtime *rt, int fd);
/* Callbacks of the VM (struct js_host). */
void loop_rejection(void *arg, js_value promise, js_value reason, bool handled);
bool loop_interrupt(void *arg);

/* ---- checkpoints.c ---- */

int checkpoints_open(struct runtime *rt, struct thaw_error *error);
void checkpoints_close(struct runtime *rt);
/* The library's thread: wake the loop. */
void checkpoints_notify(void *rt);
/* Outside turns: capture or finish what is in flight, begin what is wanted. */
void checkpoints_advance(struct runtime *rt);
/* Inside one, at a poll: the same, but a capture stops the turn. */
void checkpoints_advance_inside(struct runtime *rt);
/*
 * checkpoint() was called, perhaps with a name (else NULL), which has been looked at. -EROFS: there is
 * no image; -ENOSPC: one name too many waits for a generation; -ENOMEM.
 */
int checkpoints_request(struct runtime *rt, uint64_t waiter, const char *name);
/* The generation that is captured next shall have this name, too. -EINVAL: that cannot be one. */
int checkpoints_name(struct runtime *rt, const char *name);
bool checkpoints_waited_for(const struct runtime *rt);
/* What one came to that somebody waits for, the oldest first. False: there is none. */
bool checkpoints_take_outcome(struct runtime *rt, struct checkpoint_outcome *outcome);
/* Wait for the one in flight. */
void checkpoints_complete(struct runtime *rt);
/*
 * Wait for the one in flight, take one more, wait for it. `last`: no other will follow, and if it fails, what is lost is said.
 */
int checkpoints_now(struct runtime *rt, enum thaw_reason reason, struct thaw_result *result);
int checkpoints_last(struct runtime *rt, enum thaw_reason reason, struct thaw_result *result);

/* ---- failures.c ---- */

/*
 * A generation whose continuation trapped so often in a row is not continued by itself any more; one
 * that failed otherwise, in the same way so often in a row, is told from one that had bad luck.
 */
#define FAILURES_MAX 3
/* A checkpoint has failed; one has become durable. */
void failures_checkpoint(struct runtime *rt, const char *text);
void failures_checkpoints_work(struct runtime *rt, uint64_t generation);
/* How long to wait before one more try, where there is no interval. */
uint64_t failures_retry_ns(const struct runtime *rt);
/* The program ends, and its last checkpoint has failed. */
void failures_at_end(struct runtime *rt);
/* The engine trapped, for that reason. The program is about to end. */
void failures_trapped(struct runtime *rt, const char *reason);
/* It is about to end by a failure of its own: `how` is what was said of it, the same if it is the same. */
void failures_crashed(struct runtime *rt, const char *how);
/* What to do about a generation that does not get on: the end of a sentence, in `text`. */
struct thaw_error failures_way_back(struct runtime *rt, uint64_t generation);

/* ---- changed_sources.c ---- */

/*
 * A restored program: is it the one that was asked for (else THAW_EENGINE), and did its files change since
 * it loaded them? That is said, in one line.
 */
int changed_sources_check(struct runtime *rt, struct thaw_error *error);

/* ---- midturn.c ---- */

/*
 * At a poll: may this turn be captured now? What would not wait for its end (SIGUSR2, SIGTERM) may
 * always, the rest once the turn has lasted an interval; never inside a host function.
 */
bool midturn_allowed(struct runtime *rt, uint64_t now);
/* The same, for what would not wait, and takes the last generation of this process. */
bool midturn_possible(struct runtime *rt);
/* When that will be, if only patience is missing; 0: never. */
uint64_t midturn_allowed_at(const struct runtime *rt);
/* Complete the blob of a generation in the middle of a turn, encoded: a MAC in `data`. */
void *midturn_encode(struct runtime *rt, size_t *bytes);
/*
 * Can this process continue the turn in the decoded blob? NULL, or why not: the rest of a sentence.
 * `data` is the blob as it was stored.
 */
const char *midturn_refusal(struct runtime *rt, const void *data, size_t bytes);
/*
 * At a poll, after a signal asked for the end: take the final generation here and end, also if it
 * fails. Returns where the turn has to be left to end by itself (false), or its script is to be ended
 * here (true).
 */
bool midturn_end(struct runtime *rt);
/*
 * After a signal asked for the end: has the turn had its time, and would nobody go on with it? Then
 * it is ended like any script that Ctrl-C stops in a shell, and what it did so far is done.
 */
bool midturn_cuts(struct runtime *rt);

/* The turn under way could be captured by midturn_end(), were there no patience. */
bool midturn_can_end(struct runtime *rt);

/* ---- ending.c ---- */

/* No turn will follow: the final generation, if there is to be one. Returns the exit code. */
int ending_finish(struct runtime *rt);
/*
 * All that the program has printed is durable or printed again by the next run. As any program, it waits
 * for its reader here, however long that takes, unless a signal asks for the end. What the last
 * generation holds of it, and was read since, is taken out of it again.
 * Returns the exit code: `code`, unless this says something else.
 */
int ending_deliver(struct runtime *rt, int code);

/* ---- streams.c ---- */

int streams_open(struct runtime *rt);
/* Nothing more can be printed. Whoever wants all to be read first calls streams_flush(). */
void streams_close(struct runtime *rt);
/* What the program prints to stdout or stderr. Copied. */
void streams_write(struct runtime *rt, int fd, const char *data, size_t bytes);
/* What we say on stderr, after what was printed there before; no part of any generation. */
void streams_tell(struct runtime *rt, const char *text, size_t bytes);
/* Take note of what the queues' threads have found out: stdout's reader has gone, say. */
void streams_check(struct runtime *rt);
/* The program has printed more than its readers have read, and has to wait. */
bool streams_full(struct runtime *rt);
/* From now on it does so only far beyond: what is under way cannot be stopped, and has to end. */
void streams_unbind(struct runtime *rt);
/* All has been written. */
bool streams_idle(struct runtime *rt);
/*
 * Wait until that is so (true), for so long; UINT64_MAX: until a signal asks for the end, and in all 0.4 s
 * from then on. Neither the loop nor checkpoints go on.
 */
bool streams_flush(struct runtime *rt, uint64_t patience_ns);
/*
 * Readers are slow: nothing more of the program runs until there is room, be it between turns or at a
 * poll of one, while checkpoints and signals go on. True: the script under way has to end.
 */
bool streams_wait(struct runtime *rt);
/* The same between turns, until all is written, the program ends, or somebody at a terminal has enough. */
void streams_drain(struct runtime *rt);
/* Wait a little, or until somebody calls streams_wake(). Owner; any thread, signal handlers. */
void streams_pause(struct runtime *rt);
void streams_wake(struct runtime *rt);
/* What has not been written, for js_blob.output: malloc'ed, or NULL and 0 bytes. 0 or -ENOMEM. */
int streams_save(struct runtime *rt, void **data, size_t *bytes);
/* Print what another process could not; or `hold` it, for the generations of this one. 0 or -ENOMEM. */
int streams_restore(struct runtime *rt, const void *data, size_t bytes, bool hold);

/* ---- poll_timer.c ---- */

void poll_timer_open(struct runtime *rt);
void poll_timer_close(struct runtime *rt);
/* Ring at that time (monotonic clock), if a turn lasts that long; 0: never. Owner. */
void poll_timer_set(struct runtime *rt, uint64_t when_ns);
/* Ring now, if a turn is under way. Any thread, signal handlers. */
void poll_timer_now(struct runtime *rt);
/* A poll has come. */
void poll_timer_polled(struct runtime *rt);

/* ---- files.c ---- */

/*
 * Begin operation `number` ("read", "write", "append"); copies everything. `text`: a read gives a
 * string.
 */
int files_begin(
	struct runtime *rt, double number, const char *operation, const char *path, bool text,
	void *data,
	size_t bytes); /* consumes `data` (malloc'ed), also on failure: -ENOMEM or -EINVAL */
/* Outside turns: one that is done is told, in a turn. False: there was none. */
bool files_tell(struct runtime *rt);
/* At the end, when nothing is told any more: wait a moment for what is under way. */
void files_settle(struct runtime *rt);

/* ---- signals.c ---- */

/* From here on act on what came since signals_begin(), and on what comes. */
void signals_open(struct runtime *rt);
void signals_close(struct runtime *rt);
/* The signal that asked for the end of the program; 0: none. */
int signals_stop(void);
/* An interactive SIGINT that nobody has taken yet. */
bool signals_interrupted(void);
bool signals_take_interrupt(void);
/* SIGUSR2 since the last call? */
bool signals_take_checkpoint(void);

#endif
