/* SPDX-License-Identifier: MIT */
/*
 * thaw.h - the public interface of libthaw; thaw_image.h, which it includes, is the part about images without a heap.
 *
 * libthaw gives a program one region of memory whose pages survive kill -9. A *heap* (struct thaw)
 * is that region, the image file it is checkpointed to, and the threads that serve both:
 *
 *	open   -> the region is reserved; nothing of the image is mapped or read up front
 *	touch  -> a missing page is read from the image, checked and mapped, a small cluster at a time
 *	write  -> the kernel remembers which pages were written
 *	checkpoint -> those pages, if their contents changed, become a new *generation* of the image
 *
 * It knows the kernel and files; it knows no language.
 *
 * Caveats, stated first:
 *  - fork(): the child has no fault service, and the region is not mapped in it: touching it raises
 *    SIGSEGV. It must exec or _exit: until then it also holds the image's lock.
 *  - Threads: one thread at a time may call into a heap (the owner). Any number of threads may read and
 *    write the region's memory, except during thaw_checkpoint_capture(), when nobody may write it.
 *  - A page that cannot be read from the image is never zero and never hangs its reader: touching it
 *    raises SIGBUS or SIGSEGV; thaw_explain_fault() tells a signal handler what happened.
 *  - A page that is missing, or protected to notice the first write to it, is served to system calls, too,
 *    where thaw_status.delivery is "kmod", or "userfaultfd" and the tracker not "mprotect".
 *    Elsewhere a system call that is handed such memory fails with EFAULT, or does a part of its
 *    work: see thaw_touch().
 *  - The library prints nothing, and installs no signal handler but one: where pages come or are
 *    tracked by SIGSEGV (thaw_status), it catches that, and hands on what is not its own. There no
 *    thread that touches a region may block SIGSEGV; nobody may touch one while it holds malloc's
 *    lock or the like; and the protection of the region's pages is the library's.
 *
 * Errors: every int function returns 0 (or a count) or a negative code: -errno, or one of THAW_E*
 * below. Where a struct thaw_error is taken, it receives one line that names what, where, why and
 * what to do.
 */
#ifndef THAW_H
#define THAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define THAW_PUBLIC __attribute__((visibility("default")))

/* Codes of our own, far from any errno (the kernel's end at 4095). */
enum {
	THAW_EDAMAGED = -20001, /* a checksum, or a value that cannot be, inside a Thaw image */
	THAW_EFOREIGN = -20002, /* not a Thaw image at all */
	THAW_EFORMAT =
		-20003, /* a Thaw image of another format, or with pages smaller than the kernel's */
	THAW_EENGINE = -20004, /* a Thaw image of another engine */
	THAW_EINUSE = -20005,  /* another process holds the image */
	THAW_EKERNEL = -20006, /* this kernel, or these privileges, lack what is needed */
	THAW_EOWNER = -20012,  /* the image belongs to another user (THAW_OWN) */
	THAW_EKEY =
		-20013, /* its contents are authenticated with a key that is not at hand; or they
				* have to be, and are not (THAW_KEYED) */
	THAW_ENOGEN = -20007, /* the generation asked for is not (or no longer) in the image */
	/* What others did to the file while the image was in use. Nothing can be made durable in it then: */
	THAW_EGONE = -20008, /* it was removed, or renamed; once it is back, it is as before */
	THAW_EREPLACED =
		-20009, /* another file has its name; once that is away, and this back ... */
	THAW_EOVERWRITTEN = -20010, /* somebody shortened it or wrote into it; this stays so */
};

struct thaw_error {
	int code;	/* negative, as above; 0 when there was none */
	char text[504]; /* one line, no newline at its end, always terminated */
};

/* A short sentence for any code that the library returns. Never NULL; static storage; any thread. */
THAW_PUBLIC const char *thaw_strerror(int code);

/*
 * Text that somebody else chose (thaw_image_info.engine, a path) as it can be printed on a terminal: control
 * characters, what turns the direction of writing, and what is not UTF-8 become \n, \t, \x1b or \u202e;
 * all else stays. Returns the length of the whole, as snprintf() does; at most room - 1 bytes of it are
 * written, whole characters, and a terminator. What a struct thaw_error holds has been through this. Any
 * thread; async-signal-safe.
 */
THAW_PUBLIC size_t thaw_escape(const char *text, char *escaped, size_t room);

struct thaw;	    /* a heap; opaque, owned by whoever opened it */
struct thaw_frozen; /* what one was at an instant: thaw_frozen.h */

enum thaw_reason { /* why a generation was taken; stored in the image */
		   THAW_REASON_TIMER = 1,
		   THAW_REASON_EXIT = 2,
		   THAW_REASON_SIGNAL = 3,
		   THAW_REASON_REQUEST = 4,
		   THAW_REASON_OUTPUT = 5, /* something waits for it before it leaves the program */
		   THAW_REASON_ROLLBACK = 6, /* thaw_image_rollback() made it */
		   THAW_REASON_UPGRADE = 7,  /* the program's code was replaced in it */
};

/* "timer", "exit", "signal", "request", "output", "rollback", "upgrade", or "unknown". Static storage; any thread. */
THAW_PUBLIC const char *thaw_reason_name(uint32_t reason);

/*
 * Who can go on from a generation. The library only keeps the word: what makes a state blob one or
 * the other is its owner's business.
 */
enum thaw_kind {
	THAW_KIND_PORTABLE = 0, /* whoever may open the image */
	THAW_KIND_BOUND = 1,	/* only the very program that wrote it: a stack is in it, say */
};

/* What the image remembers of one generation. */
struct thaw_generation {
	uint64_t number;      /* counts from 1 and never goes back */
	uint64_t parent;      /* the generation it was made from, listed or not; 0: a fresh heap */
	uint64_t ancestor;    /* the nearest one in its line of descent that is listed; 0: none */
	uint64_t portable;    /* the newest portable one in its line of descent: itself, if it is
					   * portable; 0: there was none. It may have been dropped since */
	uint64_t time_ns;     /* CLOCK_REALTIME when it was captured */
	uint64_t heap_bytes;  /* the region's size in it (thaw_resize) */
	uint64_t state_bytes; /* the caller's state blob */
	uint64_t pages_written; /* pages that write tracking reported */
	uint64_t pages_stored;	/* of those, the pages whose contents had changed */
	uint64_t bytes_written; /* bytes this checkpoint wrote to the file: pages, index, records */
	uint64_t pause_ns;	/* from thaw_checkpoint_stopped(), or the capture, to its end */
	uint64_t
		durable_ns; /* from begin to durable; in the file, the newest one's lacks the syncs */
	uint32_t reason;    /* enum thaw_reason */
	uint32_t restores; /* how often its line of descent had been restored before it */
	uint32_t kind;	   /* enum thaw_kind */
};

/* A name that was given to a generation, which is kept for as long as it has one. */
struct thaw_name {
	uint64_t generation;
	/*
	 * 1 to 63 of A-Z a-z 0-9 . _ / : @ + - and a zero: not beginning with '-', not of digits only.
	 * No two are the same; a generation may have several. An image has at most THAW_NAMES_MAX.
	 */
	char name[64];
};
#define THAW_NAMES_MAX 1000u

/* Can that be the name of a generation? Any thread. */
THAW_PUBLIC bool thaw_name_valid(const char *name);

/* A rule of retention by age: the newest generation of each of the last `count` periods that had one. */
struct thaw_thinning {
	unsigned count;
	uint64_t period_ns; /* not 0; periods begin where CLOCK_REALTIME is a multiple of it */
};
#define THAW_THINNING_MAX 8u

#define THAW_CREATE 0x1u /* make the image where there is none */
/* Start from an empty heap even if the image holds generations: they stay readable until retention
 * drops them. */
#define THAW_FRESH 0x2u
#define THAW_PREFETCH 0x4u /* after opening, stream in all that is stored, in the background */
/*
 * Open the newest whole generation that is portable and in the newest one's line of descent, however
 * many bound ones came after it: they stay readable until retention drops them. Never one of a line
 * that was abandoned for an older generation or a fresh heap. THAW_ENOGEN if the image holds none in
 * that line. Not together with a `generation`.
 */
#define THAW_OPEN_PORTABLE 0x8u
/*
 * After opening, stream in the pages that an earlier start touched first, in that order and in the
 * background. Starts record that order by themselves: which clusters of 64 KiB were demanded after a
 * restore, until the first generation that becomes durable 2 s later or more, with which it is stored.
 * None, or a damaged one: nothing is streamed. With THAW_PREFETCH, the rest follows.
 */
#define THAW_PREFETCH_WORKING_SET 0x10u
/*
 * Refuse an image that somebody else owns: neither the effective user of this process nor root. Looked
 * up for the file that was opened, before anything in it is read or written: THAW_EOWNER, and the
 * error names the owner. For images that the user did not name himself.
 */
#define THAW_OWN 0x20u
/*
 * Accept only an image whose contents are authenticated with the user's key (thaw_use_key), and make one so:
 * for programs whose image is as powerful as a program. THAW_EKEY: it is not; the key is another, or not there.
 */
#define THAW_KEYED 0x80u

/*
 * Accept only an image whose contents are enciphered, and make one so: an image that is, is opened without it, too. It is
 * authenticated as with THAW_KEYED, but the key is its own, which up to 8 others open (thaw_image_key_add); of a new one
 * the user's (thaw_use_key). THAW_EKEY: it is not, or no key that opens it is at hand.
 */
#define THAW_ENCRYPTED 0x400u

/*
 * The program hands memory of the heap to system calls only after thaw_touch(), as it must where the tracker is "mprotect".
 * Then a capture need not copy what was written before the program goes on, whatever the tracker: a write to a page that
 * has to be copied first raises SIGSEGV, which the library catches (see the caveats above), and copies what that
 * piece of 256 KiB has of them. Without it, so it is only where the tracker is "wp-sync" or "mprotect".
 */
#define THAW_TOUCHES 0x100u
/*
 * Small generations that follow each other quickly (17 and more, each begun within 50 ms after the one before it was
 * durable) are made durable with one write and one fdatasync, in a log inside the image: those of reason TIMER, REQUEST and OUTPUT,
 * without a name, of the same kind as the one before. They are as durable as others, and their numbers are theirs
 * alone, but of each second the newest one is listed, and of what was in the log the newest at a close:
 * thaw_image_log(), readers and commands see no others (thaw_image_settle()). An open for writing goes on from the newest.
 * The image is longer by 4 MiB, or by 32 MiB where some of them are larger than 256 KiB, if there is room for that.
 */
#define THAW_LOG 0x200u

/*
 * Who begins a checkpoint captures it right then, and waits until he can: nothing is copied first while the program would run,
 * where writers can be stopped instead (THAW_TOUCHES, or a tracker that does it anyway). Without it, so much is copied first
 * that the program then stands still for little; and it may run until then.
 */
#define THAW_AT_ONCE 0x800u

/*
 * How pages are stored that are written from now on, each by itself; what is stored stays as it is. A page that does not
 * become an eighth shorter is stored as it is. Levels of Zstandard: 1 to 19. Measured on a process of Node.js: the image
 * has 0.42 (LZ4) and 0.26 (Zstandard) of the heap's bytes, a first touch takes 1.5 and 5 us more, and to compress a page 3
 * and 10 us of processors, for which the program does not wait: of large generations of all that it may use. With two of them
 * it takes 1.2 and 2.5 times as long until a large one is durable; where others use them, two to three, and five times.
 */
#define THAW_COMPRESS_NONE 0u
#define THAW_COMPRESS_LZ4 1u
#define THAW_COMPRESS_ZSTD(level) (0x100u + (level))

struct thaw_options {
	const char
		*image; /* path; NULL: a heap without an image, for programs that do not persist */
	unsigned flags; /* THAW_CREATE ... */
	uint64_t generation; /* which generation to open; 0: the newest that is whole */
	size_t max_bytes;    /* the region's largest size; a multiple of 64 KiB */
	size_t guard_bytes;  /* address space kept inaccessible behind max_bytes */
	/*
	 * Where the region should lie, a multiple of 2 MiB, for programs whose heap holds pointers
	 * into itself. Where something else lies there, or with NULL, it lies anywhere: thaw_base()
	 * tells.
	 */
	void *address;
	/*
	 * Generations to keep, the newest included; 0: 8; at most 2000. Besides them, every one that has
	 * a name, the portable one that the newest one names (thaw_generation.portable), and those of
	 * the rules, of which there are at most THAW_THINNING_MAX, for at most 1000 generations.
	 */
	unsigned retain;
	const struct thaw_thinning *thinning;
	unsigned thinning_count;
	const char *engine; /* who may open it again: at most 63 bytes, compared exactly */
	unsigned compress;  /* THAW_COMPRESS_NONE ...; another number: -EINVAL */
	/* Without an image: the contents, the size and the state that the heap begins with (thaw_frozen.h). NULL: none. */
	struct thaw_frozen *frozen;
	/*
	 * Memory for copies of pages that are made after a capture, while the program runs: who wants to write one first,
	 * when it is full, waits until some are in the file. 0: a sixteenth of the machine's, 64 MiB to 1 GiB.
	 */
	size_t copy_bytes;

	/*
	 * Called from a thread of the library's, never while the owner holds anything, whenever
	 * thaw_checkpoint_poll() has something new to say. Must only wake the owner up. May be
	 * NULL.
	 */
	void (*notify)(void *arg);
	void *notify_arg;

	/*
	 * Called from the fault service when a page can neither be served nor poisoned, or the
	 * service itself cannot go on. Must not return: whoever waits for that page would wait
	 * for ever. NULL: abort().
	 */
	void (*fatal)(void *arg, const struct thaw_error *error);
	void *fatal_arg;
};

/*
 * Open a heap. With an image that holds a generation, the region's contents are that
 * generation's: lazily, at a cost that does not depend on the heap's size. Writes to the file
 * only if it creates it. A newest generation that is damaged is passed over for the one before;
 * thaw_status.fallback says so.
 */
THAW_PUBLIC int thaw_open(const struct thaw_options *options, struct thaw **heap,
			  struct thaw_error *error);

/* Stop the threads, give up the lock and the memory. Takes no checkpoint. NULL is allowed. */
THAW_PUBLIC void thaw_close(struct thaw *heap);
/*
 * The same, for a program that has failed at its start: an image that this heap has made, and in which no
 * generation has become durable, is removed. Never a file that somebody else has made or put there.
 */
THAW_PUBLIC void thaw_discard(struct thaw *heap);

/*
 * The region's first byte; page aligned; constant for the life of the heap; thaw_options.address if
 * that was free.
 */
THAW_PUBLIC void *thaw_base(const struct thaw *heap);
/* The region's current size in bytes: 0 for a fresh heap, the generation's size after a restore. */
THAW_PUBLIC size_t thaw_size(const struct thaw *heap);
/*
 * Grow the region to `bytes` (a multiple of 64 KiB, at most max_bytes, never less than now). New
 * bytes are zero. Bytes beyond the size are inaccessible: touching them raises SIGSEGV.
 */
THAW_PUBLIC int thaw_resize(struct thaw *heap, size_t bytes);

/*
 * Give back memory whose contents nobody needs: the pages that lie wholly inside of the range become zero, take
 * no memory until they are touched, and no bytes of the generations to come. For the free memory of an allocator,
 * when it is enough to be worth it (some 0.3 us for each page; calling it again for pages that are zero still is
 * cheaper). A page that is missing is not read of the image, but where pages come by SIGSEGV; with the kernel module
 * the memory is kept. A page that could not be read of a damaged image stays so.
 *
 * Owner thread, in any phase of a checkpoint: a generation that was captured before still has what was there. No
 * other thread may access the range meanwhile. -ERANGE: it is not inside of the region; -EINVAL: the heap is the
 * memory of another process, or its pages are locked in memory (mlock(2)); -errno. After a failure, what is in the range is
 * not defined.
 */
THAW_PUBLIC int thaw_release(struct thaw *heap, size_t offset, size_t bytes);

/*
 * The state blob of the generation that was opened; NULL and 0 for a fresh heap. Owned by the
 * heap.
 */
THAW_PUBLIC const void *thaw_state(const struct thaw *heap, size_t *bytes);

/* The generation the heap was opened from (number 0: none, a fresh heap). Owned by the heap. */
THAW_PUBLIC const struct thaw_generation *thaw_opened(const struct thaw *heap);

/* Where in an image's history a heap stands that was opened, before its first checkpoint. */
struct thaw_history {
	uint8_t uuid[16]; /* the image's: a clone has another */
	uint64_t next;	  /* number that the next generation has at least; it is not made twice */
	bool newest; /* what was opened is the newest generation, and nothing newer was damaged */
};
/* All zero for a heap without an image. */
THAW_PUBLIC void thaw_history(const struct thaw *heap, struct thaw_history *history);

/*
 * Is the newest generation that this heap knows, the one that was opened or the last that was made durable, on
 * the disk, in the file that stands under the image's name? What was opened need not be: the process that
 * wrote it may have been killed between its last write and the sync after it, and then a power cut may still
 * take it. This makes sure of it (one small write and its sync, once for each heap): for programs that
 * acknowledge what they find after a restore. A checkpoint does the same before it reports anything.
 *
 * Waits for a checkpoint whose copying or writing is under way. 0; THAW_EGONE, THAW_EREPLACED,
 * THAW_EOVERWRITTEN, -errno: nothing may be told durable. 0 for a heap without an image or a generation.
 */
THAW_PUBLIC int thaw_settle(struct thaw *heap, struct thaw_error *error);

struct thaw_status {
	/* Newest durable one; 0: none. The one that was opened counts once it is settled (thaw_settle). */
	uint64_t generation;
	uint64_t generation_time_ns; /* its time_ns */
	uint64_t checkpoints;	     /* made durable by this heap since it was opened */
	uint64_t checkpoints_failed; /* of which the error of the last is in `checkpoint_error` */
	uint64_t checkpoint_bytes;   /* written by those made durable */
	uint64_t checkpoint_pages;   /* stored by those made durable */
	uint64_t pause_ns_max, pause_ns_total;
	uint64_t faults;	 /* page faults the service, or the kernel module, answered */
	uint64_t pages_restored; /* pages that have arrived from the image */
	uint64_t pages_poisoned; /* pages that could not be read */
	uint64_t restore_bytes;	 /* bytes read from the image for them */
	uint64_t image_bytes;	 /* size of the image file */
	bool in_flight;		 /* a checkpoint is under way */
	/* Which backends it uses (struct thaw_backend); "none": it has no image. Static storage. */
	const char *delivery, *tracker, *backing, *reader, *poison;
	/* Why that is not the best one that needs no module; empty: it is. Owned by the heap. */
	const char *delivery_why;
	struct thaw_error poison_error; /* why the last such page could not be read; code 0: none */
	struct thaw_error checkpoint_error; /* last failure; code 0 after a later success */
	struct thaw_error fallback; /* why an older generation was opened; code 0: it was not */
};

/* A consistent copy of the heap's counters. Owner thread. */
THAW_PUBLIC void thaw_status(struct thaw *heap, struct thaw_status *status);

struct thaw_counters { /* as in struct thaw_status */
	uint64_t faults, pages_restored, pages_poisoned, restore_bytes;
};
/* What was served up to now, for who watches. Any thread, while the heap is open; waits for no checkpoint. */
THAW_PUBLIC void thaw_counters(struct thaw *heap, struct thaw_counters *counters);

/*
 * Checkpoints. At most one is in flight:
 *
 *	idle --begin--> copying --(notify)--> ready --capture--> writing --(notify)--> done --poll--> idle
 *
 * While `copying` and `writing` the program runs and may write the region. `capture` must be
 * called when the region is consistent and nobody writes it: it takes the pages written since and
 * the state blob, and that instant is the generation. Failure at any point loses nothing: every
 * page is dirty again.
 */
enum thaw_phase { THAW_IDLE, THAW_COPYING, THAW_READY, THAW_WRITING, THAW_DONE };

struct thaw_result {
	int code;	/* 0: `generation` is durable; else why it is not */
	bool unchanged; /* nothing had changed, nor the kind: nothing was written, and `generation` is
					    * the one before, which still describes this heap */
	struct thaw_generation generation; /* valid if code is 0 */
	uint64_t durable_ns;		   /* from begin to the last fdatasync */
	struct thaw_error error;	   /* valid if code is not 0 */
};

/*
 * Start one. -EBUSY: one is in flight. -EROFS: the heap has no image. With THAW_LOG it may be `ready` when this returns, of
 * which nobody is notified; and of a process it may be `done` when thaw_checkpoint_poll() returns, which has written it.
 */
THAW_PUBLIC int thaw_checkpoint_begin(struct thaw *heap, enum thaw_reason reason);
/*
 * The owner has stopped its program for the following capture: the pause is measured from this call
 * on. For owners that collect their state first.
 */
THAW_PUBLIC void thaw_checkpoint_stopped(struct thaw *heap);
/* Take the generation; phase must be THAW_READY. The state blob, at most 320 MiB, is copied. */
THAW_PUBLIC int thaw_checkpoint_capture(struct thaw *heap, enum thaw_kind kind, const void *state,
					size_t state_bytes);
/*
 * Instead of the capture, if the owner cannot make it: the checkpoint fails with `code`, for the
 * reason `why` (half a line), and all its pages are dirty again. Phase as above, else -EINVAL.
 */
THAW_PUBLIC int thaw_checkpoint_abandon(struct thaw *heap, int code, const char *why);
/*
 * Name the generation that is being taken, or the next one; the name is taken from another
 * generation if necessary. Called again, it adds one more name. A named generation is made even if
 * nothing has changed. Before the capture. -EINVAL: not a valid name; -EBUSY: captured already;
 * -ENOSPC: more names than an image can have; -ENOMEM. If the checkpoint fails, also because the
 * image has no room for a name, its names are dropped.
 */
THAW_PUBLIC int thaw_checkpoint_name(struct thaw *heap, const char *name);
/*
 * The same for the generation that the heap was opened from: it has that name, and so is kept, from the moment on that the one
 * that is being taken is durable. THAW_ENOGEN: it was opened from none.
 */
THAW_PUBLIC int thaw_checkpoint_keep(struct thaw *heap, const char *name);
/*
 * Name a listed generation (*generation; 0: the newest durable one, whose number it receives), or take the name away, in the
 * image of an open heap, as thaw_image_tag() and thaw_image_untag() do without one. Durable when it returns: two writes and their
 * syncs. Owner thread, while no checkpoint is under way, else -EBUSY.
 */
THAW_PUBLIC int thaw_tag(struct thaw *heap, const char *name, uint64_t *generation, unsigned flags,
			 struct thaw_error *error);
THAW_PUBLIC int thaw_untag(struct thaw *heap, const char *name, struct thaw_error *error);
/*
 * Have the newest generation listed, if only the image's log has it (THAW_LOG): who reads the image finds it, and it can be
 * named and gone back to. One commit. When it may be called, as thaw_tag().
 */
THAW_PUBLIC int thaw_list(struct thaw *heap, struct thaw_error *error);
/* Where it stands. In THAW_DONE, `result` (may be NULL) is filled and the phase becomes idle. */
THAW_PUBLIC enum thaw_phase thaw_checkpoint_poll(struct thaw *heap, struct thaw_result *result);
/* Block until the phase is THAW_READY or THAW_DONE (or THAW_IDLE). Returns it, without consuming. */
THAW_PUBLIC enum thaw_phase thaw_checkpoint_wait(struct thaw *heap);
/*
 * All of it at once, a portable generation, for callers that have nothing to do meanwhile. Waits
 * for one in flight first.
 */
THAW_PUBLIC int thaw_checkpoint(struct thaw *heap, enum thaw_reason reason, const void *state,
				size_t state_bytes, struct thaw_result *result);

/*
 * Repeated failures. A program that continues from a generation and fails before it has made a
 * newer one will fail again at every start, if its state is the reason. So it reports the failure
 * before it ends; the next start asks, and may continue from an older generation.
 *
 * thaw_failed(): the program that was restored from the opened generation has failed. Waits for a
 * capture that is being written. Returns how many times in a row that generation has failed,
 * including this time (an open heap counts once); 0, recording nothing, if a newer generation
 * became durable since the heap was opened, or there was none to open; -errno if it could not be
 * recorded. It becomes durable with one small write and one fdatasync; the image is not changed
 * otherwise. The next durable generation removes the record, and so does a failure of another
 * generation: the image has room for one.
 */
THAW_PUBLIC int thaw_failed(struct thaw *heap);
/*
 * The same for failures of different kinds. `what` identifies the kind (for example a hash of its
 * message); only failures with the same number in a row are counted: another one starts at 1. 0 is
 * thaw_failed()'s.
 */
THAW_PUBLIC int thaw_failed_with(struct thaw *heap, uint64_t what);
/*
 * How many times in a row thaw_failed() was called for the generation that the heap was opened
 * from.
 */
THAW_PUBLIC unsigned thaw_failures(const struct thaw *heap);

/*
 * For a SIGBUS or SIGSEGV handler: async-signal-safe. If `address` lies in a page of some open
 * heap that could not be served, writes one line (no newline) that names image, generation, page
 * and cause and returns true; false for every other address.
 */
THAW_PUBLIC bool thaw_explain_fault(const void *address, char *line, size_t line_bytes);
/*
 * For the SIGSEGV handler that a program installed after thaw_open(), with or without SA_ONSTACK:
 * async-signal-safe; call it first. True: the page is present now, or writable; return from the
 * handler. May wait for a read of the image.
 */
THAW_PUBLIC bool thaw_handle_fault(const void *address);

/*
 * Prepare memory of a heap for a system call: every page of it present and, if `write`, writable.
 * The contents do not change; with `write` the pages count as written. Needed where the kernel's
 * own faults are not served (see the caveats above), harmless elsewhere; for buffers, paths, and
 * structs alike.
 *
 * Once present, pages stay present. They stay writable until the next checkpoint: under "wp-sync"
 * and "mprotect" its copying, which begins with thaw_checkpoint_begin(), may protect them again
 * before the system call uses them, which then fails with EFAULT (or is short): touch and call
 * again. A datagram that was to be received would be lost: receive it into other memory.
 *
 * 0; -EFAULT: the range is not inside the accessible part of one open heap. A page that cannot be
 * read from the image raises the same signal as accessing it. Any thread; async-signal-safe.
 */
THAW_PUBLIC int thaw_touch(const void *address, size_t bytes, bool write);

/*
 * Keyed images (THAW_KEYED). Every checksum in such an image, from the newest record down to each page, is a MAC
 * under a key that is derived from the user's: who has no key can change no byte of a generation, nor put one together
 * from parts of others; what he can do is to destroy the image, or to put back as a whole what the file was
 * before. Whoever opens a keyed image, to go on from it, to read it or to change it, needs the key.
 */
#define THAW_KEY_BYTES 32
struct thaw_key_source {
	/*
	 * Fill in the user's key: 0, or a negative code and a line in `error`. `make`: an image is being made, so
	 * that a key may be made too. Called once, when the first keyed image is opened or made, or again after
	 * a failure; never by two threads at a time, and must not call the library.
	 */
	int (*get)(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *error);
	void *arg;
	const char *name; /* "the key in ...": for messages; must stay. NULL: "the one at hand" */
	/*
	 * Of enciphered images (THAW_ENCRYPTED), where the user's key opens none of their slots: another key, or
	 * -ENOKEY: there is none; NULL: the same.
	 */
	int (*other)(void *arg, uint8_t key[THAW_KEY_BYTES], struct thaw_error *error);
	/*
	 * At last, and only for an image that has such a slot: a passphrase, of at most `room` bytes; how many it has. `attempt`
	 * counts from 0. -ENOKEY: there is none, or no other one. NULL: the same.
	 */
	int (*passphrase)(void *arg, const char *image, unsigned attempt, char *passphrase,
			  size_t room, struct thaw_error *error);
};
#define THAW_PASSPHRASE_BYTES 1024 /* more is never asked for */
/*
 * Where this process's key comes from; copied. NULL: there is none any more. The library keeps the key in locked memory that
 * core dumps leave out, and wipes it with the next call. Images that are open stay so. Any thread.
 */
THAW_PUBLIC void thaw_use_key(const struct thaw_key_source *source);

/* ---- What this kernel and these privileges allow ---- */

/* None is required: where one is missing, a slower backend is used instead (struct thaw_backend). */
struct thaw_capability {
	const char *name; /* "wp-async", "io_uring", ...: as THAW_WITHOUT denies it */
	bool present;
	const char *since; /* the kernel it came in, "6.7" */
	char detail[120];  /* why it is absent, as far as the kernel says */
};
/* Asks the kernel, once per process; static storage, any thread; returns how many. */
THAW_PUBLIC int thaw_capabilities(const struct thaw_capability **list);

/*
 * For each thing that a heap needs of the kernel there are several backends, each the fallback of the one
 * before. A heap uses the best one that is available, or the one that the environment forces: THAW_DELIVERY,
 * THAW_TRACKER, THAW_BACKING and THAW_READER name one (ignored in a program with more privileges than its user).
 */
struct thaw_backend {
	const char *kind; /* "delivery", "tracker", "backing", "reader", "poison" */
	const char *name; /* as struct thaw_status names it, and the environment */
	bool present;	  /* it could be used here */
	bool used;	  /* by a heap that is opened now: one of each kind */
	const char *
		cost; /* half a line: what it is, or what it costs compared with the first of its kind */
};
/*
 * All of them, `count`, kind by kind, best first. Static storage; any thread. Negative: thaw_open()
 * would fail, for the reason that `error` has; the list is there all the same, with none in use.
 */
THAW_PUBLIC int thaw_backends(const struct thaw_backend **list, unsigned *count,
			      struct thaw_error *error);

#ifdef __cplusplus
}
#endif

#include "thaw_image.h"

#endif
