/* SPDX-License-Identifier: MIT */
/*
 * process.h - a guest that is a whole process, from the inside: what the files of this folder share.
 *
 *	guest.c		struct guest_type for such a guest: its life; guest_state.h: what the next six share
 *	attach.c	its memory becomes the heap's
 *	capture.c	one generation: stop, collect, encode, go on
 *	continue.c	a restore, in order
 *	idle.c		has it run since?
 *	holds.c		it must not fork yet
 *	orphans.c	what a killed one has left behind
 *	requests.c	who asks for a generation, from outside and from within
 *	state.c		the state as a whole; record.c: as bytes; describe.c: for people (inspect, map, diff)
 *
 * and the parts, each in a folder:
 *
 *	identity/	which program a command is, and whether it can be one; what must be the same to go on
 *	remote/		starting it, the restorer that becomes it, system calls and memory of the guest; keeper.c
 *	threads/	all threads park, and go on; their registers, storage and signals; interrupted system calls
 *	memory/		its address space: read, recorded, made again
 *	kernel/		dispositions, limits, timers, masks, directories ... of the process; clocks that do not go back
 *	descriptors/	the table of kinds of descriptors; a file for each kind
 *	output/		output commit: what it sends is held
 *	stub/		what runs inside of the guest
 *	modules/	what programs of Node.js and Python may import
 *
 * A part that is captured has three functions: capture (all threads are parked, calls are made through remote.h),
 * encode and decode. One that is made again has restore(), called in the order of guest.c: the threads of the
 * new process are the restorer's, parked. All on the owner's thread.
 *
 * Errors: 0 or a negative code, and one line in struct thaw_error. What a capture refuses for good reason
 * (PROCESS_EREFUSED) fails that checkpoint, with the line; the program goes on.
 */
#ifndef VM_PROCESS_PROCESS_H
#define VM_PROCESS_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "process/record.h"
#include "process/remote/keeper.h"
#include "process/remote/proc_files.h"
#include "process/remote/remote.h"
#include "thaw_process.h"

/* A capture was refused; beyond the library's codes. */
#define PROCESS_EREFUSED -30101

#define PAGE 4096ull

/* ---- Threads (stop.c, threads.c) */

struct thread {
	unsigned mailbox;
	int32_t tid;	    /* in this process */
	int32_t remembered; /* what its pthread_t has, in its first process: *tid_address */
	uint64_t context;   /* address of its ucontext_t */
	/*
	 * What it was doing when it was asked to stop, as /proc/PID/task/TID/syscall had it; interrupted.c. The number
	 * is recorded, for people.
	 */
	int64_t call; /* number; -1: it was running, or that is not known */
	uint64_t call_arguments[6], call_stack, call_program;
	uint64_t call_since, call_migrations; /* interrupted_sample() */
	/* ---- recorded */
	uint64_t thread_pointer; /* FS base */
	uint64_t gs_base;
	uint64_t tid_address; /* set_tid_address(2) */
	uint64_t robust_list, robust_bytes;
	uint64_t alternate_stack, alternate_bytes;
	int32_t alternate_flags;
	char name[16];
	uint32_t policy, priority, nice, flags; /* sched_getattr(2) */
	uint64_t runtime, deadline, period;
	uint8_t affinity[128];
	uint32_t affinity_bytes;
	uint32_t parent_death_signal, no_new_privileges, timer_slack_ns;
	siginfo_t *pending; /* for this thread alone; malloc'ed */
	unsigned pending_count;
	uint64_t xsave_features; /* the components that its saved state has */
};

/* ---- Mappings (mappings.c) */

enum mapping_kind {
	MAPPING_MEMORY,	     /* its contents are in the image */
	MAPPING_FILE,	     /* pages of a file, none of which was written */
	MAPPING_SHARED_FILE, /* MAP_SHARED of a file that others may see */
	MAPPING_SPECIAL,     /* vdso, vvar: the kernel's */
};

#define MAPPING_SHARED 0x1u /* MAP_SHARED: of MAPPING_MEMORY shared within the process alone */
#define MAPPING_GROWS_DOWN 0x2u
#define MAPPING_WIPE_ON_FORK 0x4u
#define MAPPING_DONT_FORK 0x8u
#define MAPPING_HUGE 0x10u /* MADV_HUGEPAGE */
#define MAPPING_NO_HUGE 0x20u
#define MAPPING_DONT_DUMP 0x40u
#define MAPPING_LOCKED 0x80u
#define MAPPING_HEAP 0x100u	 /* [heap]: brk(2) */
#define MAPPING_DROPPABLE 0x200u /* MAP_DROPPABLE, 6.11: may be empty at any time */

struct mapping {
	uint64_t start, end;
	uint32_t protection; /* PROT_... */
	uint32_t flags;	     /* MAPPING_... */
	enum mapping_kind kind;
	char *name; /* path, [vdso], [anon:...]; NULL */
	uint64_t offset;
	uint64_t device, inode, file_bytes, modified_ns; /* of the file */
	char build_id[41];				 /* hexadecimal; empty: none */
	uint32_t key;					 /* pkeys(7); 0: none */
	unsigned object; /* MAPPING_SHARED: mappings of one object have the same number, not 0 */
};

struct mappings {
	struct mapping *list;
	size_t count, room;
	uint64_t vdso, vdso_bytes, vvar, vvar_bytes;
	unsigned *users; /* of the list, malloc'ed; NULL: it is nobody else's */
};

/* ---- Kernel facts (kernel_facts.c) */

struct kernel_action { /* struct sigaction as the kernel has it */
	uint64_t handler, flags, restorer, mask;
};

struct kernel_timer { /* timer_create(2) */
	int32_t id, clock, notify, signal, tid;
	uint64_t value;
	struct itimerspec time;
};

struct kernel_facts {
	/* prctl(PR_SET_MM_MAP) */
	uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
	uint64_t arg_start, arg_end, env_start, env_end;
	uint8_t auxv[1024];
	uint32_t auxv_bytes;
	struct kernel_action actions[65];
	struct {
		uint64_t soft, hard;
	} limits[16];
	uint64_t timers
		[3]
		[4]; /* struct itimerval of ITIMER_REAL, _VIRTUAL, _PROF: interval and value, s and us */
	struct kernel_timer *posix_timers;
	unsigned posix_timer_count;
	siginfo_t *pending; /* for the process; malloc'ed */
	unsigned pending_count;
	char *directory, *executable;
	uint32_t umask, dumpable, child_subreaper, no_new_privileges, personality;
	int32_t pid, parent, group, session; /* as they were */
	int32_t *children;		     /* that nobody has waited for; malloc'ed */
	unsigned child_count;
	uint32_t oom_score_adj;
};

struct identity;     /* identity.c */
struct output_saved; /* output/output.h */
struct descriptors;  /* descriptors.c */
struct clocks {	     /* clocks.c */
	char boot_id[40];
	uint64_t monotonic_ns, boottime_ns, realtime_ns; /* at the capture */
	uint8_t *vdso;					 /* its contents; malloc'ed */
	size_t vdso_bytes;
};

/* What is known of one generation, or of the one that is being captured. */
struct process_state {
	char **arguments; /* the command, malloc'ed, as malloc'ed strings */
	int argument_count;
	bool finished;
	int exit_code; /* as the shell has it */
	uint64_t restores;
	uint64_t stub;	    /* address of struct stub_memory */
	uint64_t branch[4]; /* branch and home of struct guest_common */
	struct identity *identity;
	struct mappings mappings;
	struct thread *threads; /* the first one is the process's main thread */
	unsigned thread_count;
	struct kernel_facts kernel;
	struct descriptors *descriptors;
	struct clocks clocks;
	struct output_saved *output; /* also of one that has ended; NULL: there is none */
};

struct process {
	struct remote remote;
	struct proc_files files;
	struct keeper keeper; /* of a guest that was restored, and misses pages */
	struct thaw *heap;
	uint64_t stub;	       /* address of struct stub_memory in the guest */
	uint32_t executions;   /* control->executions that was taken notice of */
	uint64_t executing_ns; /* since when it has been executing another program; 0: it is not */
	bool stopped;
	uint64_t continued_ns; /* when its threads went on last; 0: never */
	/* A thread did not park, for this reason: until when nobody is stopped for it again; 0: all did. */
	uint64_t stop_again_ns;
	char stop_text[512];
	char clock_offsets
		[160]; /* of its time namespace, as the kernel reads them; empty: it has none of its own */
	struct thread *threads; /* parked, while it is stopped; the first one is the main thread */
	unsigned thread_count, thread_room;
	struct address_space *space; /* what mappings.c has found out so far; mappings_forget() */
	struct interrupted *interrupted; /* interrupted_forget() */
	struct connections *connections; /* connections_forget() */
	struct unchanged *unchanged;	 /* likewise; descriptors/unchanged.c */
	/* What the threads, and the main thread, were asked in this stop: threads_ask(), threads_forget_asked(). */
	struct thread_asked *thread_asked;
	struct kernel_asked *kernel_asked; /* malloc'ed */
	/*
	 * MADV_DONTFORK as it was read until then is none of the program's (holds.c); 0: all is; UINT64_MAX: it is held.
	 */
	uint64_t held_until_ns;
	uint32_t hidden;     /* 1 + what PR_GET_DUMPABLE was, while it is open; mappings_hide() */
	bool self_contained; /* pages of files are in the image, too */
	bool roll_back;	     /* files that are appended to are cut back (rollback.c) */
	bool quiet, verbose;
	unsigned filters; /* seccomp filters that are ours */
};

/* ---- spawn.c */

/*
 * Start `arguments` (found in PATH) with the stub in it: the standard streams, session and process group are the
 * supervisor's. Returns with the guest stopped (as process_stop() leaves it: one thread, parked in the stub's
 * constructor), before anything of the program has run but constructors of libraries before it.
 */
int process_spawn(struct process *process, char *const *arguments, char *const *environment,
		  struct thaw_error *error);
/* Start the restorer: one parked thread, mailbox 0. `pid`: what it should be where that is possible; 0: any. */
int process_spawn_restorer(struct process *process, pid_t pid, struct thaw_error *error);

/*
 * REQUEST_EXECUTED: the process has become another program by execve(2), in which the stub has started again and waits for
 * the answer. All that was known of its memory is void: a new heap is to be attached (process_stop() first). Until
 * this is called, process_stop() refuses.
 */
int process_executed(struct process *process, struct thaw_error *error);
/*
 * The guest's end: killed if it lives, and waited for. All that the supervisor has for it is closed and freed. Who has
 * waited for it himself has set remote.pid to 0.
 */
void process_close(struct process *process);

/* ---- stop.c */

/*
 * All threads park; `threads` is set, with what each was doing. -ETIMEDOUT: one does not, and all go on again (the
 * error names it), for ten times as long at least. -EAGAIN: it is stopped by a signal (job control). PROCESS_EREFUSED: the stub is not there any more
 * (the program has called execve(2)).
 */
int process_stop(struct process *process, struct thaw_error *error);
/* They go on. */
void process_continue(struct process *process);

/* ---- interrupted.c */

/* All threads are parked. */
/* Calls that this stop has interrupted, and that the kernel does not restart, are made again when they go on. */
int interrupted_restart(struct process *process, struct thaw_error *error);
/* Before the thread is asked to stop: since when it has been waiting in `call`, if that has a timeout that matters. */
void interrupted_sample(const struct process *process, struct thread *thread);
/* What is remembered between stops: the guest is gone. */
void interrupted_forget(struct process *process);
/*
 * In the restorer, once the memory is there, and before threads_resume(): calls that would be made again end with EINTR
 * where one of the program's signals that interrupts them is pending: those that were captured, and `signals` (bit
 * n - 1: signal n), which somebody sends before they go on.
 */
int interrupted_restored(struct process *process, const struct process_state *state,
			 uint64_t signals, struct thaw_error *error);

/* ---- The parts */

int mappings_capture(struct process *process, struct mappings *mappings, struct thaw_error *error);
void mappings_encode(const struct mappings *mappings, struct record_writer *writer);
bool mappings_decode(struct mappings *mappings, struct record_reader *reader);
void mappings_free(struct mappings *mappings);
/*
 * Optional, before process_stop(), while the guest runs: what takes too long while it is stopped (the flags that only
 * /proc/PID/smaps has). Costs at most a hundredth of the time.
 */
void mappings_look(struct process *process);
/* Before it goes on: a program that may not be looked into (PR_SET_DUMPABLE) was opened for the capture. */
void mappings_hide(struct process *process);
/* The guest is gone: frees process->space. */
void mappings_forget(struct process *process);
/* What libthaw keeps: all of MAPPING_MEMORY, neighbours joined; malloc'ed. */
int mappings_ranges(const struct mappings *mappings, struct thaw_range **ranges, size_t *count);
/* Parts of the restored address space in which there is nothing else; malloc'ed. */
int mappings_spans(const struct mappings *mappings, struct thaw_range **spans, size_t *count);
/*
 * In the restorer: everything else goes, and all of this comes, empty; files are checked. Where `writable`, the memory
 * is made readable and writable for now: mappings_protect() sets what it really is. The vdso comes to where it was;
 * one of another kernel is reached by jumps in a copy of the old one (clocks->vdso).
 */
int mappings_restore(struct process *process, const struct mappings *mappings,
		     const struct clocks *clocks, bool writable, struct thaw_error *error);
/*
 * After mappings_restore(): the descriptor, in the guest, of the memory that is mapped shared and was this inode
 * (a memfd's); -1: none. All are closed by mappings_close_objects(), which descriptors_restore() comes before.
 */
int mappings_object(const struct process *process, uint64_t device, uint64_t inode);
int mappings_close_objects(struct process *process, struct thaw_error *error);
int mappings_protect(struct process *process, const struct mappings *mappings,
		     struct thaw_error *error);

/*
 * Once a stop, optional: all threads are asked for what threads_capture() and kernel_facts_capture() want to know, and nobody
 * waits for them. Their order stays from here on.
 */
int threads_ask(struct process *process);
/* They go on. */
void threads_forget_asked(struct process *process);
/* Of process->threads: the recorded fields. */
int threads_capture(struct process *process, struct thaw_error *error);
/* Once more, of what waits for each thread alone: something may have come since. */
int threads_take_pending(struct process *process);
void threads_encode(const struct thread *threads, unsigned count, struct record_writer *writer);
bool threads_decode(struct thread **threads, unsigned *count, struct record_reader *reader);
void threads_free(struct thread *threads, unsigned count);
/*
 * In the restorer, whose mailbox 0 is the main thread: make the others, and give each what it had. They stay parked;
 * threads_resume() lets all go on where their frames were made.
 */
int threads_restore(struct process *process, const struct process_state *state,
		    struct thaw_error *error);
int threads_resume(struct process *process, struct thaw_error *error);
/* Which thread has another number than its pthread_t remembers: the tids of `memory`. */
void threads_fill_tids(const struct process *process, struct stub_memory *memory);

int kernel_facts_capture(struct process *process, struct kernel_facts *facts,
			 struct thaw_error *error);
/* Its part of threads_ask(): calls for the main thread's batch, and what they fill. */
size_t kernel_facts_room(void);
int kernel_facts_ask(struct process *process, uint64_t there, void *here);
void kernel_facts_answered(struct process *process, int code);
/* What was asked of dispositions, by signal; NULL: nothing was. */
const struct kernel_action *kernel_facts_actions(struct process *process);
/* PROCESS_EREFUSED: the process has given up rights that a restored one would have. */
int kernel_facts_refusal(struct process *process, struct thaw_error *error);
void kernel_facts_encode(const struct kernel_facts *facts, struct record_writer *writer);
bool kernel_facts_decode(struct kernel_facts *facts, struct record_reader *reader);
void kernel_facts_free(struct kernel_facts *facts);
/*
 * Before mappings_restore(): the restorer becomes memory that is no file's, or /proc/PID/exe could not be the program's.
 * (kernel_facts_restore() does it, too, but by then there may be many mappings to read.)
 */
void kernel_facts_detach(struct process *process);
int kernel_facts_restore(struct process *process, const struct kernel_facts *facts,
			 struct thaw_error *error);
/* What needs the threads, and what must come last: POSIX timers, timers, pending signals. By threads_restore(). */
int kernel_facts_restore_late(struct process *process, const struct kernel_facts *facts,
			      struct thaw_error *error);

int clocks_capture(struct process *process, const struct mappings *mappings, struct clocks *clocks,
		   struct thaw_error *error);
void clocks_encode(const struct clocks *clocks, struct record_writer *writer);
bool clocks_decode(struct clocks *clocks, struct record_reader *reader);
void clocks_free(struct clocks *clocks);
/*
 * They were captured before the memory was, which is of `realtime_ns` (as where nothing but the clocks had changed): as
 * they were then.
 */
void clocks_advance(struct clocks *clocks, uint64_t realtime_ns);
/* Before the restorer is spawned: its clocks do not go back behind these. */
int clocks_prepare(struct process *process, const struct clocks *clocks, struct thaw_error *error);
/* process.clock_offsets, in the child that becomes the restorer: system calls only. 0 or -errno. */
int clocks_enter(const char *offsets);

int identity_capture(struct process *process, const struct mappings *mappings,
		     struct identity **identity, struct thaw_error *error);
void identity_encode(const struct identity *identity, struct record_writer *writer);
bool identity_decode(struct identity **identity, struct record_reader *reader);
void identity_free(struct identity *identity);
/* Can this machine go on with it? THAW_EENGINE: what differs, and what to do. */
int identity_check(const struct identity *identity, const struct mappings *mappings,
		   struct thaw_error *error);

int descriptors_capture(struct process *process, struct descriptors **descriptors,
			struct thaw_error *error);
void descriptors_encode(const struct descriptors *descriptors, struct record_writer *writer);
bool descriptors_decode(struct descriptors **descriptors, struct record_reader *reader);
void descriptors_free(struct descriptors *descriptors);
/*
 * Its part of threads_ask(): what tells whether descriptors are as the capture before had them, in the batch of the main
 * thread. unchanged_room(): 0: there is nothing to ask.
 */
size_t unchanged_room(const struct process *process);
int unchanged_ask(struct process *process, unsigned mailbox, uint64_t there, void *here);
void unchanged_answered(struct process *process, int code);
/* They go on: what was answered is not so any more. */
void unchanged_forget_asked(struct process *process);
/* What captures remember of descriptors: the guest is gone. */
void connections_forget(struct process *process);
/* Standard streams are those that the restorer was given. */
int descriptors_restore(struct process *process, const struct descriptors *descriptors,
			struct thaw_error *error);
/* With roll_back, once nothing refuses the restore any more, and before anything of the program runs. */
void descriptors_roll_back(struct process *process, const struct descriptors *descriptors);

/* ---- program.c */

/* The file that a command is, malloc'ed. -ENOENT, -EACCES; PROCESS_EREFUSED: it is static, setuid, of another C library ... */
int program_find(const char *command, char **path, struct thaw_error *error);
/*
 * How a command is really to be started: program_find() of its first word, and where that is a script of env(1) (as
 * npm installs), what env would execute. `path` is what to execute, `resolved` its arguments, both malloc'ed; free
 * the latter with program_arguments_free().
 */
int program_command(char *const *arguments, char **path, char ***resolved,
		    struct thaw_error *error);
void program_arguments_free(char **resolved);
/*
 * Where its image is when nobody says, malloc'ed: beside the first argument that is a file (or was one: its image
 * is there), with .thaw in place of its extension; else the program's name with .thaw, in the current directory.
 */
char *program_default_image(int argument_count, char *const *arguments);

/* ---- state.c */

int process_state_encode(const struct process_state *state, void **data, size_t *bytes);
/* Trusts nothing. THAW_EDAMAGED, -ENOMEM. */
int process_state_decode(struct process_state *state, const void *data, size_t bytes,
			 struct thaw_error *error);
void process_state_free(struct process_state *state);

#endif
