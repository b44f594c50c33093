/* SPDX-License-Identifier: MIT */
/*
 * internal.h - what the files of output commit share (output.h).
 *
 *	filter.c	the seccomp filter, and its listener
 *	notifier.c	a thread that answers the guest's calls
 *	calls.c		what each call comes to; messages.c: those with addresses, control data, several messages
 *	outlets.c	which descriptors lead outside, and what is known of numbers
 *	interests.c	closed descriptors that our duplicate keeps in the guest's epolls
 *	queue.c		pieces, and what a capture takes of them
 *	release.c	a thread that sends what is durable
 *	streams.c	standard streams in the image
 *
 * The two threads share a descriptor table that is not the supervisor's (hundreds of connections, and numbers of the
 * guest's own for a moment). All of struct output is under its lock, but for what says otherwise; nobody waits with it for
 * a peer, a disk or the guest.
 */
#ifndef VM_PROCESS_OUTPUT_INTERNAL_H
#define VM_PROCESS_OUTPUT_INTERNAL_H

#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "process/output/output.h"
#include "process/output/ring.h"

/* The instruction pointer of what is called through the gate: behind `syscall`. */
#define GATE_RETURN (GATE_ADDRESS + 2)

/* Of one outlet, and of all: a writer waits for room then. */
#define OUTLET_MOST (4u << 20)
#define OUTPUT_MOST (256u << 20)
#define PIECE_BYTES 16384u /* a small write begins one, and others join it */
#define MESSAGE_FDS 253u   /* the kernel's SCM_MAX_FD */
#define CONTROL_MOST 20480u

/* ---- Pieces (queue.c) */

enum piece_kind {
	PIECE_BYTES_OF, /* of a stream: any part of it can be sent */
	PIECE_MESSAGE,	/* one call's; with an address, control data, descriptors */
	PIECE_SHUTDOWN, /* shutdown(2), SHUT_WR */
};

struct piece {
	struct piece *next;
	uint64_t epoch; /* how many captures had been taken */
	enum piece_kind kind;
	int flags; /* MSG_... */
	struct sockaddr_storage *address;
	socklen_t address_bytes;
	uint8_t *control; /* its descriptors are ours: `fds` */
	size_t control_bytes;
	int *fds;
	unsigned fd_count;
	size_t bytes, done, room;
	uint8_t data[];
};

/* ---- Outlets */

enum outlet_kind {
	OUTLET_STREAM,	 /* a socket, of bytes */
	OUTLET_MESSAGES, /* ... of datagrams, or packets */
	OUTLET_PIPE,
	OUTLET_TERMINAL,
	OUTLET_FILE, /* a standard stream into a regular file */
};

struct outlet {
	struct outlet *next, *next_numbered; /* of its hashes */
	struct outlet *queued;		     /* output->queued: something is in its queue */
	bool fast;			     /* its writers may use their rings */
	bool is_queued, busy;		     /* busy: release.c is sending, without the lock */
	uint32_t number;
	int fd; /* ours */
	int sending; /* ours, to be written without waiting: `fd`, or the same pipe or terminal opened once more */
	enum outlet_kind kind;
	uint64_t device, inode;
	int stream;	  /* 0, 1, 2: a standard stream; -1: none */
	unsigned numbers; /* of the guest's, that are known to be this one */
	struct piece *first, *last;
	size_t bytes;	   /* in the queue */
	int error;	   /* of sending: the guest's next call has it */
	bool shut;	   /* SHUT_WR: its writes fail from then on */
	bool broken;	   /* nothing can be sent any more */
	bool stuck;	   /* its reader does not read: release.c waits for the kernel to say so */
	bool polled;	   /* is in output->poll */
	uint64_t position; /* of a file: where its queue's first byte goes */
};

/* ---- Calls of the guest */

struct call_notice {
	uint64_t id;
	pid_t tid;
	int number;
	uint64_t arguments[6];
	uint64_t taken; /* bytes of it that are appended already, or messages */
	bool is_child;	/* of a process that the guest has started, since then */
	uint64_t since_ns;
	uint64_t until_ns; /* its socket has no more patience (SO_SNDTIMEO); 0: for ever */
};

enum verdict {
	VERDICT_ANSWER, /* `value`: as the kernel returns it, -errno in [-4095, -1] */
	VERDICT_GO_ON,	/* the kernel makes it */
	VERDICT_WAIT,	/* there is no room: again later */
};
struct ruling {
	enum verdict verdict;
	int64_t value;
	bool signal; /* SIGPIPE with it */
};

/* A thread that has been told to go on with a call that changes numbers, and may not have made it yet. */
struct changing {
	pid_t tid;
	uint32_t from, to;
	bool makes_epoll;
};

#define OUTLET_NUMBERS_FROM 16u /* those below mean something else (stub/control.h) */
#define OUTLET_HASHES 1024u
#define NUMBERS_KNOWN 65536u
#define CHANGES_MOST 256u
#define EPOLLS_MOST 64u

struct output {
	pthread_mutex_t lock;
	pthread_cond_t idle; /* no outlet is busy; the threads have begun, or ended */
	struct output_owner owner;
	struct process *process;
	pid_t pid;
	int listener, pidfd; /* in the threads' table, as all that follow */
	int wake_notifier, wake_release, poll;
	int wake_owner;
	int owner_wakes[2]; /* the same two in the owner's table */
	int streams[3];	    /* duplicates of the supervisor's; -1: closed */
	ino_t stub_socket;
	int least; /* our numbers begin here */
	pthread_t notifier, release;
	bool begun, started, ended, stopping;
	uint64_t stopping_ns; /* since when */
	/* Bit n - 1: signal n ends a call that waits; its handler has no SA_RESTART. As of the newest capture. */
	uint64_t interrupts;
	int start_error;

	struct outlet *hashes[OUTLET_HASHES], *numbered[OUTLET_HASHES]; /* by inode; by number */
	struct outlet *queued; /* those with something in their queue */
	struct outlet *known[NUMBERS_KNOWN];
	uint32_t next_number;
	struct changing changes[CHANGES_MOST];
	unsigned change_count;
	bool changes_lost; /* there were more: nothing is known for good until they are fewer */
	int epolls[EPOLLS_MOST];
	unsigned epoll_count;
	bool epolls_stale;

	uint64_t epoch;	   /* captures taken */
	uint64_t captured; /* pieces of epochs before it are in the newest capture */
	uint64_t released; /* ... before it can be sent */
	size_t bytes;	   /* in all queues */
	bool waits;	   /* something is of this epoch */

	struct call_notice *waiting; /* for room */
	unsigned waiting_count;
	bool room; /* there may be some now */

	struct ring *ring;
	int (*drain)(void *arg);
	void *drain_arg;
	uint64_t holes, told;		     /* bits: enum hole; has begun, and was told */
	const struct output_saved *restored; /* while it starts */
};

/* With the lock: what the guest has published is appended. */
static inline int take_published(struct output *output)
{
	return output->drain ? output->drain(output->drain_arg) : 0;
}

/* With its device, by which outlets are known: a terminal has many files. */
static inline uint64_t outlet_inode(const struct stat *stat)
{
	return S_ISCHR(stat->st_mode) ? stat->st_rdev : stat->st_ino;
}

static inline uint64_t outlet_device(const struct stat *stat)
{
	return S_ISCHR(stat->st_mode) ? 0 : stat->st_dev;
}

/* ---- What is told, once each (output.c) */
enum hole {
	HOLE_FILES,
	HOLE_SHARED_MEMORY,
	HOLE_CHILDREN,
	HOLE_QUEUES,
	HOLE_DEVICES,
	HOLE_DESCRIPTORS,
	HOLE_TABLES,
};
void output_tell(struct output *output, enum hole hole);

/* ---- filter.c */

/* In the guest's parked thread, for all: the listener's number there, and what it is here. Negative: a code. */
int filter_install(struct process *process, int *listener, struct thaw_error *error);

/* ---- notifier.c: the two threads */

int notifier_start(struct output *output, struct thaw_error *error);
void notifier_stop(struct output *output);
void output_wake(int fd);
/* In each of the two threads. */
void notifier_enter(const struct output *output);

/* ---- streams.c */

/* In the notifier's thread, before anything else: what the image has for streams. */
void restore_streams(struct output *output);

/* ---- calls.c, messages.c */

struct ruling call_rule(struct output *output, struct call_notice *call);
struct ruling call_message(struct output *output, struct call_notice *call);  /* sendmsg, sendto */
struct ruling call_messages(struct output *output, struct call_notice *call); /* sendmmsg */
/* The bytes of `iov` (addresses of the guest's), all in all `total`, to an outlet of bytes. */
struct ruling call_bytes(struct output *output, struct call_notice *call, struct outlet *outlet,
			 const struct iovec *iov, unsigned count, size_t total, int flags);
/* What a call on an outlet comes to that is not usable any more; verdict GO_ON: it is. */
struct ruling outlet_fails(struct outlet *outlet, int flags);
/* ... that has no room. */
struct ruling outlet_full(const struct outlet *outlet, int flags);
size_t outlet_room(const struct output *output, const struct outlet *outlet);
/* Bytes read; -EFAULT: none. */
ssize_t guest_read(pid_t tid, uint64_t address, void *to, size_t bytes);
bool guest_write(pid_t tid, uint64_t address, const void *from, size_t bytes);
int guest_iov(pid_t tid, uint64_t address, uint64_t count, struct iovec **iov, size_t *total);

static inline struct ruling answer(int64_t value)
{
	return (struct ruling){VERDICT_ANSWER, value, false};
}

/* ---- outlets.c */

/* A duplicate of the guest's descriptor, above the numbers that the guest may have; or -errno. */
int guest_descriptor(const struct output *output, int number);
/* What a descriptor of the guest's is. NULL and *ruling: no outlet (GO_ON), or an error. */
struct outlet *outlet_of(struct output *output, int number, struct ruling *ruling);
/* For a stream of the supervisor's (streams.c). NULL: it is closed, or no memory. */
struct outlet *outlet_of_stream(struct output *output, int stream);
struct outlet *outlet_numbered(struct output *output, uint32_t number);
/* The guest closes or replaces these numbers; `call`: not yet. `interests`: also in its epolls. */
void outlets_close(struct output *output, const struct call_notice *call, uint32_t from,
		   uint32_t to, bool interests);
/* A thread that makes a call has come behind the one before. */
void changes_settle(struct output *output, pid_t tid);
void changes_add(struct output *output, const struct changing *change);
/* Its queue, or what became of it, has changed: may its writers use their rings? */
void outlet_refresh(struct output *output, struct outlet *outlet);
/* Nobody needs it any more: it is closed. */
void outlet_drop_unused(struct output *output, struct outlet *outlet);
void outlets_free(struct output *output);

/* ---- interests.c */

void interests_remove(struct output *output, struct outlet *outlet, int number);

/* ---- queue.c */

/* Appended bytes are counted by queue_added(). NULL: no memory. */
struct piece *piece_make(enum piece_kind kind, size_t room);
void piece_free(struct piece *piece);
/* Room at the queue's end, of this epoch: where it is, and how much. */
struct piece *queue_room(struct output *output, struct outlet *outlet, size_t wanted, int flags);
void queue_added(struct output *output, struct outlet *outlet, struct piece *piece, size_t bytes);
void queue_append(struct output *output, struct outlet *outlet, struct piece *piece);
void queue_pop(struct output *output, struct outlet *outlet);
void queue_drop(struct output *output, struct outlet *outlet);
bool queue_is_released(const struct output *output, const struct outlet *outlet);

/* ---- release.c */

void *release_run(void *arg);
/* It is about to be closed. */
void release_forget(struct output *output, struct outlet *outlet);

#endif
