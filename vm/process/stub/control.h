/* SPDX-License-Identifier: MIT */
/*
 * control.h - the memory that the supervisor and its guest share, through which the supervisor has system calls
 * made by the guest's own threads.
 *
 * A guest is a process of an unmodified program. What runs inside of it for the supervisor's sake is one small
 * executor, without libc: in the preloaded stub (stub.c, in the handler of CONTROL_SIGNAL, which *parks* its
 * thread) and in the restorer (restorer.c, which a guest is built in). A parked thread waits for calls in its
 * mailbox, makes them, and goes on when it is told to:
 *
 *	         signal                posted             all done
 *	runs ------------> PARKED -----------> POSTED -------------> PARKED --LEAVING--> LEFT, runs
 *	                (registers are in the frame
 *	                 that the kernel made)
 *
 * Nothing of it is in an image: a restored guest has a control block of its own at the same address.
 * struct stub_memory is: it lies in the stub's data, and lives as long as the program does.
 */
#ifndef VM_PROCESS_CONTROL_H
#define VM_PROCESS_CONTROL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "process/stub/output_memory.h"

/*
 * Addresses of this process alone, which no image has: the control block, the restorer. Programs that choose
 * addresses themselves (V8, sanitizers) leave them alone, and so does the kernel.
 */
#define LOCAL_START 0x600000000000ull
#define LOCAL_END 0x680000000000ull
#define CONTROL_ADDRESS 0x610000000000ull
/* One page with the instructions `syscall; ret` (gate.h). */
#define GATE_ADDRESS 0x650000000000ull
#define GATE_BYTES 4096u

/* glibc's SIGCANCEL: no program of glibc's blocks it, or sees it. */
#define CONTROL_SIGNAL 32
/* Descriptors of ours in a guest have the highest numbers below this that its limit allows, all close-on-exec. */
#define CONTROL_FD_END 1024
#define CONTROL_MAGIC 0x6c6f72746e6f6374ull /* "tcontrol" */
#define CONTROL_VERSION 1u
#define CONTROL_THREADS 1024u /* parked at once */
#define PLACES_CLOSED 0x80000000ull
#define CONTROL_CALLS 112u /* in one batch of one thread */
#define CONTROL_DATA_BYTES (8u << 20)

/* Numbers from here on are not system calls. */
enum {
	/* memcpy in user mode, which userfaultfd serves in every mode: to, from, bytes. */
	CALL_COPY = 0x10000,
	/*
	 * A new thread: flags, the end of its stack, address of its tid, thread pointer, tid it should have (0: any),
	 * mailbox that it parks in. Result: its tid.
	 */
	CALL_CLONE,
	/*
	 * Restorer only: continue where a frame of CONTROL_SIGNAL was made (the address of its ucontext_t), as
	 * rt_sigreturn(2) does. Does not return; the mailbox becomes MAILBOX_FREE.
	 */
	CALL_RESUME,
	/* Each struct look of a list gets its answers: its address, how many. */
	CALL_LOOK,
};

/*
 * What a descriptor is asked that has been captured before (descriptors/unchanged.c), and the answers: results as the
 * kernel returns them. After EBADF nothing more is asked.
 */
enum look_kind { LOOK_PLAIN, LOOK_SOCKET, LOOK_PIPE };
struct look {
	int32_t number;
	uint32_t kind;
	int32_t descriptor_flags, flags, owned; /* F_GETFD, F_GETFL, F_GETOWN_EX */
	int32_t owner[2];			/* struct f_owner_ex */
	int32_t cookied, named;			/* SO_COOKIE, getpeername(2) */
	uint32_t cookie_bytes, peer_bytes;
	int32_t stated, capacity, counted, waiting; /* fstat(2), F_GETPIPE_SZ, FIONREAD */
	uint32_t unused;
	uint64_t cookie;
	uint8_t peer[32];
	struct stat stat;
};

#define CALL_MAY_FAIL 0x1u /* the batch goes on after it */

struct call {
	int64_t number; /* __NR_..., or CALL_... */
	uint64_t arguments[6];
	/* As the kernel returns it: -errno in [-4095, -1]. -ECANCELED: one before it failed, it was not made. */
	int64_t result;
	/* from[i]: 1 + index of an earlier call of the batch whose result is argument i; 0: arguments[i] is. */
	uint8_t from[6];
	uint8_t flags;
	uint8_t unused;
};

/* Also a futex (shared): whoever changes it wakes it. */
enum mailbox_state {
	MAILBOX_FREE,	 /* nobody's */
	MAILBOX_PARKED,	 /* a thread waits here; the last batch is done */
	MAILBOX_POSTED,	 /* there are calls */
	MAILBOX_LEAVING, /* the stop is over */
	MAILBOX_LEFT,	 /* who had it in the stop that is over will not look at it again */
};

struct mailbox {
	uint32_t state;
	uint32_t count; /* of calls */
	int32_t tid;
	uint32_t unused;
	uint64_t
		context; /* address of the ucontext_t in the frame of the signal; 0: of the restorer's own threads */
	uint64_t unused_too[5];
	struct call calls[CONTROL_CALLS];
} __attribute__((aligned(8192)));

/* Memory that a forked child would lack (MADV_DONTFORK), because pages are missing that it would read as zeros. */
enum hold {
	HOLD_NONE,
	HOLD_MISSING, /* who forks waits */
	HOLD_ARRIVED, /* nothing is missing any more: who forks makes it as it was before, as does the supervisor */
};

struct control {
	uint64_t magic;
	uint32_t version;
	uint32_t released; /* number of the newest stop that is over */
	/*
	 * Number of the stop << 32 | how many mailboxes are taken; PLACES_CLOSED: it is over, or there was none. A thread
	 * that has got CONTROL_SIGNAL takes the next one by comparing and exchanging all of that, so one that comes too
	 * late for a stop never takes a mailbox of another. It parks there until `released` has come so far.
	 */
	uint64_t places;
	uint32_t parked;     /* threads parked, of this stop and of none before; futex */
	uint32_t awaited;    /* `parked` is woken when it has come so far, or is 0 */
	uint32_t held;	     /* enum hold; futex */
	uint32_t executing;  /* the program is being replaced by another one (stub/execute.c) */
	uint32_t executions; /* how often the stub has started again in another one */
	int32_t pid;	     /* of the guest, as it sees itself */
	int32_t socket; /* number of the guest's end, as stub_memory.socket; whoever moves it says so here */
	uint64_t stub; /* address of the struct stub_memory, set by the stub when it has started */
	uint32_t
		started; /* futex: 1: the stub, or the restorer, is there; 2: it cannot be, for this reason: */
	int32_t start_error;
	char start_text[160];
	struct mailbox mailboxes[CONTROL_THREADS];
	/* Arguments of calls that are memory, and what calls fill. */
	uint8_t data[CONTROL_DATA_BYTES] __attribute__((aligned(4096)));
	struct output_memory output;
};

/* A thread whose pthread_t remembers another tid than it has now. */
struct stub_tid {
	int32_t remembered, now;
};
#define STUB_TIDS 1024u

/* A child of the process before, which nobody has waited for. */
struct stub_child {
	int32_t pid;
	int32_t waited; /* 1: reported */
};
#define STUB_CHILDREN 256u

/* A call that a stop has interrupted is made again (interrupted.c); one piece a mailbox. */
struct stub_restart {
	uint64_t timeout[2]; /* a struct timespec that its arguments point to */
	/*
	 * Bit n - 1: signal n would have interrupted it, and is caught by the program. If one of them is pending when
	 * the thread leaves, the call is not made again: -EINTR, behind it. 0: nothing to do. The stub clears it.
	 */
	uint64_t signals;
	uint64_t context; /* with `signals`: the address of the thread's ucontext_t */
	uint64_t unused[4];
};

/* In the stub's data, so in the image; the supervisor writes it while all threads are parked. */
struct stub_memory {
	uint64_t magic;
	uint32_t version;
	uint32_t restored; /* how often */
	uint64_t generation;
	int32_t remembered_pid; /* of the first process */
	int32_t socket;		/* to the supervisor; -1: none */
	int32_t uffd; /* a duplicate that keeps missing pages missing when the supervisor dies; -1: none */
	uint32_t rseq_bytes; /* of glibc's area of restartable sequences; 0: there is none */
	int64_t rseq_offset; /* from the thread pointer */
	/*
	 * Address of the page that a forked child has empty (MADV_WIPEONFORK); its first byte is 1 in the guest. It need
	 * not be in the image.
	 */
	uint64_t local;
	/* What the program asks ids of its effects for: the line of its history, as text, and how many it has had. */
	char branch[40];
	uint64_t effects;
	uint32_t tid_count, child_count;
	struct stub_tid tids[STUB_TIDS];
	struct stub_child children[STUB_CHILDREN];
	struct stub_restart scratch[CONTROL_THREADS];
};

/* ---- What the guest's program asks of the supervisor, over the socket (SOCK_SEQPACKET): `import thaw`. */

enum {
	REQUEST_CHECKPOINT = 1,
	/* The descriptors of the control block and the stub, with the answer: remote.c gives them. */
	REQUEST_DESCRIPTORS,
	/*
	 * The process has executed another program, in which the stub has started again: process_executed(). It waits for
	 * the answer.
	 */
	REQUEST_EXECUTED,
};

struct request {
	uint32_t kind;
	uint32_t number; /* the answer has the same */
	char name[64];	 /* of the generation; empty: none */
};

struct answer {
	uint32_t number;
	int32_t code; /* 0, or a code of thaw.h */
	uint64_t generation;
	char text[256]; /* why not */
};

#endif
