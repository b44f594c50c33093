/* SPDX-License-Identifier: MIT */
/*
 * program.h - a JavaScript program as a guest (guest.h), from the inside: what the files of this folder and
 * api/host.c share.
 *
 *	program.c	  begins, restores, saves and ends one; the guest's table of functions
 *	turn.c		  turns and their steps, exceptions, rejections: the only way into the VM
 *	loop.c		  the uv loop, timers, the program's clock, waiting
 *	evaluate.c	  code from outside, and what its result looks like
 *	io.c		  what the outside does meanwhile: holds on the loop, completions as turns
 *	files.c		  readFile, writeFile, appendFile and paths.c's on libuv's threads
 *	input.c		  standard input
 *	changed_sources.c a restored program's files are not what they were
 *
 * Everything runs on the owner's thread, but for what a comment names. All handles of values that the host
 * keeps are in struct program.
 */
#ifndef VM_JS_PROGRAM_H
#define VM_JS_PROGRAM_H

#include <uv.h>

#include "base/clock.h"
#include "base/failure.h"
#include "guest.h"
#include "io.h"
#include "js/state/blob.h"

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
	PRELUDE_MAIN_STATE = 12, /* -> 'none' | 'pending' | 'done' | 'failed' */
	PRELUDE_UNCAUGHT = 13,	 /* (exception) -> true: a listener of the program's has it */
	PRELUDE_SIGNAL = 14,	 /* (name) */
	PRELUDE_BEGIN = 15,	 /* a program begins: so does its time */
	PRELUDE_UPGRADE = 16,	 /* (what, name of a module, more): hot.js */
	PRELUDE_STATEMENT = 20,	 /* (code) -> the name that its frames get */
	PRELUDE_REPORT = 21,	 /* (exception) -> [frames, message, statement], undefined */
	PRELUDE_COMPLETE = 22,	 /* (what is before the cursor) -> lines */
	PRELUDE_TIMERS = 23	 /* -> lines */
};

struct program_clock {	/* loop.c: the clock that programs see */
	double base_ms; /* the clock is this, plus what the monotonic clock counted since base_ns */
	uint64_t base_ns;
};

struct events { /* loop.c: the uv loop */
	uv_loop_t loop;
	uv_timer_t timer;	    /* wakes the loop up for the earliest of the program's timers */
	uv_timer_t owner_timer;	    /* ... for what the owner has to do */
	uint64_t owner_due_ns;	    /* when that is set to; 0: it is not */
	uv_async_t wake;	    /* from signal handlers and from other threads */
	bool ready;		    /* `loop` is */
	volatile bool can_be_woken; /* `wake` is */
	bool keeps_alive;	    /* a timer that is not unref'ed is pending */
	double next_due;      /* of the earliest timer, on the program's clock; 0: there is none */
	unsigned due_context; /* whose timer that is */
};

struct turn {			/* turn.c: the one under way; see also struct guest */
	enum js_turn_step step; /* what the VM was entered for; NONE: for nothing that a turn is */
	js_value arguments[JS_TURN_ARGUMENTS]; /* of the call to the prelude under way */
	unsigned argument_count;
	struct js_rejection *rejections; /* from the callback until the end of the turn */
	unsigned rejection_count, rejection_room;
	bool collect;	       /* gc() was called in it */
	js_value main_failure; /* what the main module threw in it; 0: nothing */
	uint64_t collections;
};

#define WATCHED_MAX 16u
struct watched {	  /* a promise that a shell has shown: its value will be shown, too */
	js_value promise; /* 0: none */
	char label[48];	  /* what was typed */
};

struct evaluation {		     /* evaluate.c: code from outside, until its answer is known */
	js_value promise, exception; /* 0: none */
	char *code; /* who asks may be gone by then: its own, malloc'ed; NULL: none */
	char *name; /* as its frames have it, malloc'ed */
	struct watched watched[WATCHED_MAX];
};

struct loaded_source { /* the module that was read last: it is in no list if it could not be compiled */
	char *path; /* malloc'ed; NULL: none */
	uint8_t hash[16];
};

struct main_source { /* program.c: the main module, between load() and start() */
	char *text;
	size_t bytes;
};

/* A program inside of another one (vm/embed): it has nothing of this process but what its host gives. */
struct hosting {
	const struct js_host_binding *bindings; /* the prelude's, and the host's functions */
	/* As in struct js_host; their argument is the program. */
	js_value (*call)(struct js_engine *engine, void *arg, const struct js_host_binding *binding,
			 unsigned count, const js_value *arguments);
	char *(*resolve)(void *arg, const char *base, const char *specifier,
			 struct thaw_error *error);
	char *(*load)(void *arg, const char *name, size_t *bytes, struct thaw_error *error);
};

struct program {
	struct guest guest;
	struct guest_options options;
	struct thaw *heap;
	struct js_engine *engine; /* NULL: not made, or gone */
	struct js_blob blob;	  /* what the next generation's state blob will say */
	const struct hosting
		*hosting; /* NULL: none; borrowed, set before the program is restored or prepared */
	bool restored;	  /* the heap came out of the image */
	uint64_t synced_generation; /* what the live bindings of the module "thaw" say */
	struct program_clock clock;
	struct events events;
	struct turn turn;
	struct evaluation evaluation;
	struct main_source main;
	struct loaded_source loaded;
	struct io_list io;	 /* io.c */
	struct upgrade *upgrade; /* upgrade/upgrade.c: while one is under way */
};

static inline struct program *program_of(struct guest *guest)
{
	return (struct program *)guest;
}

/* ---- program.c ---- */

/* Did the sandbox stop the engine? Then the owner knows, and true: nothing may be asked of it any more. */
bool program_trapped(struct program *program);

/* ---- turn.c ---- */

/*
 * One turn: call the prelude, then run its jobs, report what nobody caught, collect garbage if it
 * pays. Consumes the arguments.
 */
void turn_run(struct program *program, enum prelude_operation operation, unsigned count,
	      js_value *arguments);
/*
 * Ask the prelude something that changes nothing, outside a turn. Consumes the arguments; an
 * owned handle or 0.
 */
js_value turn_ask(struct program *program, enum prelude_operation operation, unsigned count,
		  js_value *arguments);
/* A string, malloc'ed; NULL: it is 0, or none. Consumes it. */
char *turn_text(struct program *program, js_value value);
/*
 * A turn of another process, which a generation caught in the middle: go on with it, to its end.
 * `blob.turn` says how far it had come.
 */
void turn_resume(struct program *program);
/* Evaluate the main module: a turn. */
void turn_main(struct program *program, const char *source, size_t bytes, const char *name);
/* The main module cannot be evaluated: a turn in which it throws that. */
void turn_main_failed(struct program *program, const struct thaw_error *error);
/* The brackets of a turn, for those who enter the VM themselves (evaluate.c). */
void turn_begin(struct program *program);
void turn_end(struct program *program);
/*
 * Text of an exception: malloc'ed, never NULL, with its bytes (unless that is NULL). Does not
 * consume it.
 */
char *turn_describe(struct program *program, js_value exception, size_t *bytes);
/* What is shown before it: where it is in its source. malloc'ed; NULL: nothing. Does not consume it. */
char *turn_excerpt(struct program *program, js_value exception);
/* Callbacks of the VM (struct js_host). */
void turn_rejection(void *arg, js_value promise, js_value reason, bool handled);
bool turn_interrupt(void *arg);
/* Tell the program what its checkpoints came to, each in a turn. True: something was told. */
bool turn_tell_outcomes(struct program *program);
/* The same of signals that it listens to: one of them. */
bool turn_tell_signal(struct program *program);
/* "SIGTERM" -> its number; 0: none that can be listened to. */
int turn_signal_number(const char *name);

/* ---- loop.c ---- */

int loop_open(struct program *program, struct thaw_error *error);
/* Of a hosted program: one timer that is due is run, in a turn. False: there was none. */
bool loop_step(struct program *program);
void loop_close(struct program *program);
/* Milliseconds since 1970, as the program counts them: see loop.c. */
double loop_clock(const struct program *program);
bool loop_has_work(struct program *program);
/* guest_type.run, guest_type.wake */
bool loop_run(struct guest *guest, enum guest_until until, int fd);
/* Wait for what the outside does, or until that time (monotonic clock; 0: for ever), and tell it. No timer runs. */
void loop_wait(struct program *program, uint64_t until_ns);
void loop_wake(struct guest *guest);

/* ---- evaluate.c ---- */

enum guest_evaluation evaluate_begin(struct guest *guest, const char *code, size_t bytes,
				     const char *name);
enum guest_evaluation evaluate_state(struct guest *guest);
bool evaluate_answer(struct guest *guest, char **text, size_t *bytes);
void evaluate_forget(struct guest *guest);
/* At the end of a turn, before it is looked for: a rejection that is the evaluation's answer is nobody else's. */
void evaluate_take_failure(struct program *program);
/* At the end of a turn: what was promised, and is there. */
void evaluate_show_settled(struct program *program);
char *evaluate_complaint(struct guest *guest, const char *code, size_t bytes);
char *evaluate_ask(struct guest *guest, enum guest_question question, const char *text,
		   size_t bytes);

/* ---- files.c ---- */

/*
 * Begin operation `number` ("read", "write", "append"); copies everything. `text`: a read gives a
 * string.
 */
int files_begin(
	struct program *program, double number, const char *operation, const char *path, bool text,
	void *data,
	size_t bytes); /* consumes `data` (malloc'ed), also on failure: -ENOMEM or -EINVAL */

/* With output commit: what waits was captured; that is durable (0), or has failed. */
void files_captured(struct program *program);
/* What PRELUDE_FILE_DONE is given where something failed; `why` instead of what `error` (positive) says, unless NULL or empty. */
js_value files_failure(struct js_engine *engine, int error, const char *syscall, const char *why);
void files_settled(struct program *program, int code);

/* ---- input.c ---- */

/* Read standard input once, as operation `number`; 0 or -errno. */
int input_begin(struct program *program, double number);

/* ---- changed_sources.c ---- */

/*
 * A restored program: is it the one that was asked for (else THAW_EENGINE), and did its files change since
 * it loaded them? That is said, in one line.
 */
int changed_sources_check(struct program *program, struct thaw_error *error);

#endif
