/* SPDX-License-Identifier: MIT */
/*
 * internal.h - the policy from the inside: what the files of this folder share.
 *
 *	runtime.c	opens, restores, starts, closes
 *	open_heap.c	the heap, and images that are somebody else's
 *	fork.c		programs that begin as another is, beside it
 *	owner.c		what a guest asks of its owner; how a program ends
 *	evaluate.c	code from outside: the shell, -e and -p
 *	checkpoints.c	when a generation is taken, and who is told
 *	midturn.c	generations in the middle of a turn: taking them, continuing them
 *	output_commit.c	generations that output waits for
 *	replica.c	the copy in an object store: generations that are durable once it has them
 *	branch.c	which line of its history a program goes on with
 *	failures.c	what fails again and again, and who is told
 *	upgrade.c	new code for old state
 *	ending.c	the final generation, and the last of the output
 *	service.c	systemd, or who else has started it, is told how it is
 *	control.c	what others ask of a running program; control_jobs.c does it
 *	poll_timer.c	makes a turn that lasts poll at the right moment
 *	streams.c	what is printed, and readers that are slow
 *	streams_saved.c	... what of it goes into a generation, and comes out of one
 *	signals.c	SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGUSR2, and what a guest wants to have itself
 *
 * Everything runs on the owner's thread, but for what a comment names. The program itself is a guest (guest.h).
 */
#ifndef VM_POLICY_INTERNAL_H
#define VM_POLICY_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/failure.h"
#include "control.h"
#include "guest.h"
#include "key.h"
#include "runtime.h"

struct ending {	    /* owner.c, ending.c: how the program ends */
	bool ended; /* no turn will follow */
	bool final; /* ... and the heap is as a turn left it: it may be checkpointed */
	int exit_code;
	int exit_request;  /* exit() was called with this code */
	unsigned uncaught; /* exceptions that nobody caught and a shell went on from */
	int stop_signal;   /* ended by it */
	bool crashed;	   /* a process: by a signal, or as owner_left() says */
	bool rests;	   /* it is about to go on in another runtime of this process */
	/* What it had said was dropped: the newest generation may have it, for the next start to say, and no other may take that away. */
	bool dropped;
};

struct checkpoints {	   /* checkpoints.c */
	uint64_t due_ns;   /* the next interval's end, or the next try; monotonic clock; 0: none */
	uint64_t begun_ns; /* the one in flight, or the last */
	/* Of those that the interval made: how many, and from the first to the last. */
	uint64_t timed, timed_ns, timed_last_ns;
	uint64_t requested; /* highest number of a checkpoint() promise */
	/* ... when the generation in flight was captured; with `capture_taken` */
	uint64_t captured;
	uint64_t
		stored; /* ... that a generation in the image covers, or that was told of its failure */
	uint64_t settled;      /* ... that was settled */
	uint64_t first_waiter; /* lowest number handed out by this process; 0: none yet */
	/* guest.turns at capture, and at the newest capture that became durable */
	uint64_t captured_turns, durable_turns;
	/* Bytes of output in the newest capture; and in the newest durable one. */
	size_t captured_output, durable_output;
	/* output.stalls, if the turn was captured while it waited for a reader; 0: it was not. */
	uint64_t captured_stall;
	unsigned passing; /* so many have failed since for what passes by itself */
	uint64_t passing_since_ns;
	bool last; /* the one under way is the last: its failure is the end's to tell */
	bool in_flight;
	bool capture_taken;
	bool wanted;		 /* begin another as soon as none is in flight */
	bool urgent;		 /* ... and do not wait for the end of the turn (SIGUSR2) */
	enum thaw_reason reason; /* of the one in flight */
	/* What the loop has to tell, in this order. */
	struct guest_outcome *outcomes;
	unsigned outcome_count, outcome_room;
	/* What the generation that is captured next is called. */
	struct thaw_name *names;
	unsigned name_count, name_room;
};

/* A generation that is in the image: who waits for it, until it is durable as they were promised. */
struct durable {
	uint64_t waiters;	   /* of checkpoint(), up to this number */
	uint64_t tickets;	   /* of control_jobs.c */
	uint64_t begun_ns;	   /* monotonic clock */
	bool output;		   /* it has what was held up to its capture */
	bool wanted;		   /* somebody waits for it, or such output does */
	struct thaw_result result; /* success */
};

#define REPLICA_AWAITED 16u

struct replica {			 /* replica.c */
	struct thaw_mirror *mirror;	 /* of the heap */
	struct replication *replication; /* NULL: there is none, or it is over */
	struct replication_status *seen; /* the owner's newest; NULL: no store was named */
	/* With --durable remote: what is in the image and not in the store, the oldest first. */
	struct durable *awaited; /* REPLICA_AWAITED */
	unsigned awaited_count;
	uint64_t acknowledged; /* the newest generation that the store has */
	bool place_tells;      /* of outages: whoever fetches the image has the same connections */
	uint64_t trouble_ns; /* monotonic clock: since when the store does not answer; 0: it does */
	bool ends;	     /* it does not go on, and that was said */
	bool behind;	     /* at the end it did not get what was waited for */
	_Atomic bool changed; /* there is a newer status */
};

#define OUTPUT_COMMIT_BUCKETS 512u

struct output_commit { /* output_commit.c */
	/* By any thread: bytes that were ever held; when the oldest was that no capture has; 0: there is none. */
	_Atomic uint64_t held, oldest_ns;
	/* Of what is captured, and neither durable nor failed yet: up to which byte, and how old. */
	uint64_t captured, captured_oldest_ns;
	uint64_t committed;	/* bytes that could leave */
	uint64_t not_before_ns; /* the next may begin then */
	uint64_t generations;
	/* How long the oldest of each generation was held: so many for each eighth of a power of two. */
	uint32_t times[OUTPUT_COMMIT_BUCKETS];
	uint64_t time_count, time_max_ns;
};

struct failures {		   /* failures.c */
	uint64_t failing;	   /* so many checkpoints in a row have failed */
	uint64_t failing_since_ns; /* monotonic clock: the first of them; with `failing` */
	uint64_t next_warning_ns, warning_interval_ns;
	bool loss_told; /* at the end */
	bool noted;	/* in the image, of the generation that was opened */
	char text[504]; /* why the last one failed; empty: it did not */
};

struct midturn {	 /* midturn.c */
	struct key *key; /* NULL: not loaded yet */
	bool key_known;
	/* There was no key, and it was said: until then turns are not stopped. */
	uint64_t key_retry_ns;
	unsigned key_failures;
	bool script_cut;	    /* a script was ended by a signal: its exception says nothing */
	uint64_t stop_requested_ns; /* when this turn first saw SIGTERM or its like; 0: not yet */
	uint64_t count, stack_bytes_max, stack_ns_total;
};

struct output { /* streams.c */
	struct streams *streams;
	uint64_t bytes;
	bool failed, lost;	 /* it was said; and the end of the program says so, too */
	uint64_t broken_pipe_ns; /* when stdout's reader was first found gone */
	sem_t attention; /* posted by whoever has something for an owner that waits outside of the loop */
	bool stalled;	 /* the program's turns wait for a reader */
	uint64_t stalls; /* ... so often, with this time */
	bool held; /* what another process could not print is kept for whoever runs the program */
};

struct upgrade_state { /* upgrade.c */
	bool running;  /* no generation is taken, and nothing runs but what it needs */
	bool keeps;    /* the generation that is captured names the one before it */
	uint64_t limit_ns, deadline_ns;
	int code; /* it has to end, for this reason; 0: it has not */
	char why[160];
};

struct poll_timer { /* poll_timer.c */
	timer_t timer;
	pthread_t thread;
	bool ready;
	uint64_t at_ns;		       /* when it expires; 0: never; UINT64_MAX: not known */
	volatile sig_atomic_t expired; /* since the last poll */
};

struct evaluation {		   /* evaluate.c */
	bool used;		   /* runtime_eval() was called */
	bool running;		   /* ... and has not returned: see midturn_end() */
	bool asking;		   /* ... inside of a turn, see evaluate_mid_turn() */
	struct question *question; /* to be asked there */
	bool controlled;   /* a turn of somebody's who talks to the program (control_jobs.c) ... */
	uint64_t until_ns; /* ... has so long */
	bool cut;	   /* ... and was ended then */
};

struct runtime {
	struct runtime_options options;
	struct thaw *heap;
	const struct guest_type *type;
	const char *engine_from; /* the shared object that it is in; NULL: it is this build's */
	struct guest *guest;	 /* NULL: none yet, or gone */
	struct guest_options guest_options;
	bool prepared;		/* the guest can run */
	bool restored;		/* the heap came out of the image */
	bool turn_resumed;	/* ... and has ended the turn that it was stopped in */
	bool resumed;		/* ... and has had its first turn in this process */
	volatile bool starting; /* its script is being read, which may take for ever: a pipe, say */
	uint64_t restore_ns;
	struct ending ending;
	struct evaluation evaluation;
	struct checkpoints checkpoints;
	struct replica replica;
	struct output_commit output_commit;
	struct failures failures;
	struct midturn midturn;
	struct output output;
	struct poll_timer poll_timer;
	struct upgrade_state upgrade;
};

/* Why the program's world is not sound any more; NULL while all is well. */
static inline const char *guest_trapped(const struct runtime *rt)
{
	return rt->type->trapped(rt->guest);
}

/* ---- runtime.c ---- */

/* Once per process, before anything else of a restored program: no-ops afterwards. */
void runtime_resume_turn(struct runtime *rt);
void runtime_resume(struct runtime *rt);
/* Say that a turn goes on before anything is evaluated. */
void runtime_tell_turn(struct runtime *rt);
/* A signal asked for the end before anything of the program has run in this process: then it has ended. */
bool runtime_ended_early(struct runtime *rt);

/* ---- open_heap.c ---- */

/* thaw_open() as `options` and the guest want it, with more of its flags; `error` says what to do. */
int runtime_open_heap(struct runtime *rt, unsigned more_flags, struct thaw_error *error);
/* Another engine of JavaScript than this build's, of an image. True: it is here, and what runtime opens is of it. Else `error`. */
bool runtime_change_engine(struct runtime *rt, const char *engine, struct thaw_error *error);
/* After that: say which it is. */
void runtime_tell_engine(const struct runtime *rt);
/* What an image says of itself. */
int runtime_image_info(const char *path, struct thaw_image_info *info, struct thaw_error *error);
/* Is that engine of this kind of guest, in whichever version? The first word of an engine is the kind. */
bool runtime_is_kind(const struct guest_type *guest, const char *engine);
/* The library's fatal callback. */
void runtime_on_fatal(void *arg, const struct thaw_error *error);

/* ---- fork.c */

/* The image that it comes from, its own or another's, for messages. NULL: none. */
const char *fork_origin(const struct runtime *rt);
/* The heap of a fork without an image. */
int fork_open_heap(struct runtime *rt, struct thaw_error *error);
/* The program of the image is what runs. `error`: there is none. */
int fork_take_script(struct runtime *rt, struct thaw_error *error);
/* What there is instead of a generation that cannot be continued: the end of a sentence, in `text`. */
struct thaw_error fork_advice(const struct runtime *rt);

/* ---- evaluate.c ---- */

/*
 * At the first poll of a turn that goes on: ask it the question that waits. If that can be answered here,
 * the turn is captured again as it stands, and the program ends.
 */
void evaluate_mid_turn(struct runtime *rt);
/* Before (true) and after something is written to the standard streams: see runtime_options. */
void evaluate_around_output(struct runtime *rt, bool before);

/* ---- owner.c; see also guest.h ---- */

/*
 * Ask for the end of the program. `final`: what is in the heap may be checkpointed. The first
 * call counts.
 */
void runtime_end(struct runtime *rt, int exit_code, bool final);
/* A signal, or what is like one, ends the program at the next owner_stops(). */
void runtime_stop(struct runtime *rt, int signo);
/* runtime_open(): the generation traps whenever it is continued. Beyond the library's codes. */
#define RUNTIME_EREPEATS -30001
/* runtime_upgrade(): it went well, and could not be stored. */
#define RUNTIME_ENOTDURABLE -30002
/* Did the sandbox stop the program? Then says so, ends it, and returns true. */
bool runtime_note_trap(struct runtime *rt);

/* ---- checkpoints.c ---- */

int checkpoints_open(struct runtime *rt, struct thaw_error *error);
void checkpoints_close(struct runtime *rt);
/* The library's thread: wake the loop. */
void checkpoints_notify(void *rt);
/* Outside turns: capture or finish what is in flight, begin what is wanted. */
void checkpoints_advance(struct runtime *rt);
/* Inside one, at a poll: the same, but a capture stops the turn. */
void checkpoints_advance_mid_turn(struct runtime *rt);
/* The generation that is captured next shall have this name, too. -EINVAL: that cannot be one. */
int checkpoints_name(struct runtime *rt, const char *name);
/* Has the program run since the newest durable capture? */
bool checkpoints_heap_may_differ(const struct runtime *rt);
bool checkpoints_waited_for(const struct runtime *rt);
/* Wait for the one in flight. */
void checkpoints_complete(struct runtime *rt);
/* ... if it is captured already; no other is. */
void checkpoints_settle(struct runtime *rt);
/*
 * Wait for the one in flight, take one more, wait for it. `last`: no other will follow, and if it fails, what is lost is said.
 */
int checkpoints_now(struct runtime *rt, enum thaw_reason reason, struct thaw_result *result);
int checkpoints_last(struct runtime *rt, enum thaw_reason reason, struct thaw_result *result);

/* It is durable, wherever it was to be so: whoever waits for it is told, and what it has of held output may leave. */
void checkpoints_durable(struct runtime *rt, const struct durable *durable);

/* ---- replica.c: nothing without runtime_options.store ---- */

/* Before the heap is opened: may this image be continued, or did its replica go on elsewhere? */
int replica_look(struct runtime *rt, struct thaw_error *error);
/*
 * The heap is open, and nothing of the program has run. From here on it is replicated. Waits until the store is this image's
 * again; with --durable remote also until it has what the program goes on from.
 */
int replica_open(struct runtime *rt, struct thaw_error *error);
/* Before the heap is closed. */
void replica_close(struct runtime *rt);
/* At a moment when checkpoints may be begun: what has come of it since. */
void replica_advance(struct runtime *rt);
/* The store is to have a generation, and answers: the next one waits, and has all that comes until then. */
bool replica_holds(const struct runtime *rt);
/* ... whether it answers or not. */
bool replica_awaits(const struct runtime *rt);
/* When replica_advance() has something to do by itself; 0: never. */
uint64_t replica_due_ns(const struct runtime *rt);
/* One is captured now: the output that an older one has, and that nobody has seen, goes with it. */
void replica_capture(struct runtime *rt);
/* It is in the image. True: it is not durable before the store has it, and checkpoints_durable() follows then. */
bool replica_takes(struct runtime *rt, const struct durable *durable);
/* The program has ended. Where the store does not answer, its last generation does not wait for parts of the image. */
void replica_ending(struct runtime *rt);
/* No other generation will follow: with --durable remote, wait for the newest. Returns the exit code: `code`, or why not. */
int replica_settle(struct runtime *rt, int code);
/* The program has ended. The store is to have its last generation; says so if that takes time, or fails. Returns the exit code. */
int replica_finish(struct runtime *rt, int code);

/* ---- output_commit.c ---- */

/* So many bytes more are held. True: they are the first that no capture has. Any thread. */
bool output_commit_note(struct runtime *rt, size_t bytes);
/* Is anything held that no capture has? */
bool output_commit_waits(const struct runtime *rt);
/* When a generation is to begin for it (monotonic clock); 0: for nothing, or one is under way. */
uint64_t output_commit_due_ns(const struct runtime *rt);
/* One has begun, for whatever reason. */
void output_commit_begun(struct runtime *rt);
/* The guest stands still, and was captured: with all that is held. */
void output_commit_captured(struct runtime *rt);
/* What was captured is durable (0), or that has failed. */
void output_commit_settled(struct runtime *rt, int code);
void output_commit_stats(const struct runtime *rt, struct runtime_stats *stats);

/* ---- branch.c ---- */

/* The guest is open, and restored if there was anything to restore; the heap has made no checkpoint. */
void branch_begin(struct runtime *rt);

/* ---- failures.c ---- */

/*
 * A generation whose continuation trapped so often in a row is not continued by itself any more; one
 * that failed otherwise, in the same way so often in a row, is told from one that had bad luck.
 */
#define FAILURES_MAX 3
/* A checkpoint has failed; one has become durable. */
void failures_checkpoint(struct runtime *rt, const char *text);
void failures_recovered(struct runtime *rt, uint64_t generation);
/* How long to wait before one more try, where there is no interval. */
uint64_t failures_retry_ns(const struct runtime *rt);
/* The program ends, and its last checkpoint has failed. */
void failures_at_end(struct runtime *rt);
/* The engine trapped, for that reason. The program is about to end. */
void failures_trapped(struct runtime *rt, const char *reason);
/* It is about to end by a failure of its own: `how` is what was said of it, the same if it is the same. */
void failures_crashed(struct runtime *rt, const char *how);
/* A signal has ended it, because a page of it cannot be read: says why. */
bool failures_unreadable(struct runtime *rt, int signo);
/* A process has ended without having finished: says from where it goes on, and whether that has become a habit. */
void failures_ended(struct runtime *rt, const char *how, bool crashed);
/* What to do about a generation that does not get on: the end of a sentence, in `text`. */
struct thaw_error failures_advice(struct runtime *rt, uint64_t generation);

/* ---- midturn.c ---- */

void midturn_close(struct runtime *rt);
void midturn_turn_begins(struct runtime *rt);
/* Is there a key to sign with? Made on first use; why not is said. */
bool midturn_ensure_key(struct runtime *rt);

/*
 * At a poll: may this turn be captured now? What would not wait for its end (SIGUSR2, SIGTERM) may
 * always, the rest once the turn has lasted an interval; never inside a host function.
 */
bool midturn_allowed(struct runtime *rt, uint64_t now);
/* The same, for what would not wait, and takes the last generation of this process. */
bool midturn_possible(struct runtime *rt);
/* When that will be, if only patience is missing; 0: never. */
uint64_t midturn_allowed_at(const struct runtime *rt);
/* The state of a generation in the middle of a turn, with its MAC; as save() of guest.h. */
void *midturn_encode(struct runtime *rt, bool changed, size_t *bytes, struct thaw_error *error);
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
bool midturn_should_cut(struct runtime *rt);

/* The turn under way could be captured by midturn_end(), were there no patience. */
bool midturn_can_end(struct runtime *rt);

/* ---- upgrade.c; see also guest.h ---- */

/* What the generation is called from which an upgrade was made. */
#define UPGRADE_NAME "before-upgrade"
/* Something that ends a program has happened while one is under way. The first call counts. */
void upgrade_failed(struct runtime *rt, const char *why);

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

/* ---- control.c, control_jobs.c: nothing without runtime_options.control ---- */

/* What the program needs itself there is too little of: its thread ends. False: there was none. */
bool control_gives_way(struct runtime *rt);
/* The program can be talked to from now on; and not any more. */
void control_attach(struct runtime *rt);
void control_detach(struct runtime *rt);
/* Between turns: do what was asked. */
void control_advance(struct runtime *rt);
/* Somebody else evaluates something from now on: who has asked and has no answer yet is told so. */
void control_ends_evaluation(struct runtime *rt);
/* Does somebody want a generation, who waits for it? Once for each. */
bool control_take_checkpoints(struct runtime *rt);
/* What waits for a generation is captured, up to control_ticket(). */
void control_captured(struct runtime *rt);
uint64_t control_ticket(struct runtime *rt);
/* Does somebody wait for that one, or an older one; for a later one? */
bool control_waits(struct runtime *rt, uint64_t ticket);
bool control_asks_after(struct runtime *rt, uint64_t ticket);
/* A checkpoint is over: it is counted. */
void control_finished(struct runtime *rt, const struct thaw_result *result);
/* All up to that ticket: it is durable, or has failed. */
void control_settled(struct runtime *rt, uint64_t ticket, const struct thaw_result *result);
/* At a poll: what runs is not the program's own, and has had its time. */
bool control_cuts(struct runtime *rt);

/* ---- streams.c ---- */

int streams_open(struct runtime *rt);
/* Nothing more can be printed. Whoever wants all to be read first calls streams_flush(). */
void streams_close(struct runtime *rt);
/* What we say on stderr, after what was printed there before; no part of any generation. */
void streams_tell(struct runtime *rt, const char *text, size_t bytes);
/* Take note of what the queues' threads have found out: stdout's reader has gone, say. */
void streams_check(struct runtime *rt);
/* The program has printed more than its readers have read, and has to wait. */
bool streams_full(struct runtime *rt);
/* From now on it does so only far beyond: what is under way cannot be stopped, and has to end. */
void streams_lift_limit(struct runtime *rt);
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
/* Output commit: what is held was captured; that is durable (0: it can be written), or has failed. */
void streams_captured(struct runtime *rt);
void streams_settled(struct runtime *rt, int code);
/*
 * No generation will have what is still held: of stdout it is dropped, as it has not happened, and that is said; what was
 * said on stderr may tell why. True: something was.
 */
bool streams_drop_held(struct runtime *rt);
/* What has not been written, for guest_common.output: malloc'ed, or NULL and 0 bytes. 0 or -ENOMEM. */
int streams_save(struct runtime *rt, void **data, size_t *bytes);
/* Print what another process could not, and is not in its file already; or `hold` it, for the generations of this one. 0 or -ENOMEM. */
int streams_restore(struct runtime *rt, const void *data, size_t bytes, bool hold);

/* ---- service.c ---- */

/* The service manager hears what is to be said by now. */
void service_advance(struct runtime *rt);
/* A signal has asked for the end, and that begins: what follows may take its time. */
void service_stopping(void);
/* When there is more to be said to it; 0: there is not. */
uint64_t service_due_ns(void);
/* In a turn: poll no later than that. */
void service_poll_in_time(struct runtime *rt);

/* ---- poll_timer.c ---- */

void poll_timer_open(struct runtime *rt);
void poll_timer_close(struct runtime *rt);
/* Ring at that time (monotonic clock), if a turn lasts that long; 0: never. Owner. */
void poll_timer_set(struct runtime *rt, uint64_t when_ns);
/* Ring now, if a turn is under way. Any thread, signal handlers. */
void poll_timer_now(struct runtime *rt);
/* A poll has come. */
void poll_timer_polled(struct runtime *rt);

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
