/* SPDX-License-Identifier: MIT */
/*
 * descriptors.h - the descriptors of a process guest: what descriptors.c and descriptors_*.c share, and what
 * describe.c reads.
 *
 * A *descriptor* is a number; an *object* is what it refers to, the kernel's open file description: descriptors that
 * were made by dup(2) share one. Each object is of one *kind*, a row of the table in descriptors.c. While all threads
 * of the guest are parked, the supervisor holds a duplicate of every object (SCM_RIGHTS) and asks it with ordinary
 * calls; what a kind has to know to make it again is bytes that the kind writes and reads itself. For a restore the
 * objects are made in the supervisor, and given to the guest in the same way. Only what belongs to a process and its
 * numbers is done by the guest's own calls, once all numbers are in place: interests of epoll, locks, timers.
 */
#ifndef VM_PROCESS_DESCRIPTORS_H
#define VM_PROCESS_DESCRIPTORS_H

#include <sys/stat.h>

#include "process/process.h"

/* What a file that nobody can open any more may hold, to be kept by copy; all of a guest's memfds and such files. */
#define DESCRIPTOR_COPY_BYTES (64ull << 20)
/* A guest has no more numbers than these which are not the program's. */
#define CAPTURE_OTHERS 8u

struct descriptor_object {
	const struct descriptor_kind *kind;
	uint32_t flags; /* F_GETFL */
	int number; /* of a descriptor that refers to it: the first one, for messages and fdinfo */
	/* F_GETOWN_EX and F_GETSIG; owner_kind -1: none. */
	int32_t owner_kind, owner, owner_signal;
	uint8_t *record; /* the kind's; malloc'ed */
	size_t bytes;
	/* ---- while it is captured, or made */
	int here;		   /* the supervisor's duplicate; -1 */
	uint64_t cut_from, cut_to; /* lengths in bytes; cut_from 0: it is not cut (rollback.c) */
	struct stat stat;
	char *link;	 /* /proc/PID/fd/N; malloc'ed */
	char *text;	 /* of some kinds, /proc/PID/fdinfo/N before it was captured; malloc'ed */
	uint64_t cookie; /* SO_COOKIE of a TCP socket; 0: not known */
	/* It is as it was in the capture before, which has its record; `here` is -1. NULL: it is asked. */
	const struct connection *known;
};

struct descriptor {
	int number;
	bool close_on_exec;
	unsigned object;
};

struct descriptors {
	struct descriptor *list; /* by number */
	size_t count, room;
	struct descriptor_object *objects;
	size_t object_count, object_room;
	pid_t pid;	/* of the process that they were of */
	unsigned users; /* beside the one who frees it */
};

/* ---- For describe.c */

/* Each descriptor, by number: its kind, and one line of what would become of it. */
void descriptors_describe(const struct descriptors *descriptors,
			  void (*row)(void *arg, int number, const char *kind, const char *what),
			  void *arg);
/* The table: row `index`, what it is called and what happens to it; false: there is none. */
bool descriptors_table(unsigned index, const char **kind, const char **happens);

/* ---- A capture, a restore */

struct descriptor_capture {
	struct process *process;
	struct descriptors *descriptors;
	struct thaw_error *error;
	unsigned mailbox;
	uint64_t copied; /* bytes of files, up to DESCRIPTOR_COPY_BYTES */
	char *locks;	 /* /proc/locks; NULL: not read yet, or empty */
	bool have_locks, no_kcmp;
	int netlink; /* NETLINK_SOCK_DIAG; -1: not open */
	bool have_streams;
	int stream_flags[3]; /* of the supervisor's 0, 1, 2; -1: closed */
	struct stat streams[3];
	int others[CAPTURE_OTHERS]; /* numbers that are not the program's */
	unsigned other_count;	    /* may be more */
	bool have_clocks;
	uint64_t clocks_ns[3]; /* the guest's: real time, monotonic, boot time */
	char *text;	       /* fdinfo; malloc'ed */
	size_t text_room;
};

struct descriptor_restore {
	struct process *process;
	const struct descriptors *descriptors; /* as decoded: not changed but for `here` */
	struct thaw_error *error;
	unsigned waited; /* of descriptor_wait() */
	int listener;	 /* for connections that are reset; -1: not made yet */
	pid_t old_pid;
};

/* One row of the table. Functions that are NULL: nothing to do. Codes as everywhere; the error is set. */
struct descriptor_kind {
	uint32_t code; /* in images: a number never gets another meaning */
	const char *name;
	const char *happens; /* after a restore: the manual's table */
	bool (*is)(struct descriptor_capture *capture, struct descriptor_object *object);
	int (*capture)(struct descriptor_capture *capture, struct descriptor_object *object,
		       struct record_writer *writer);
	/* Sets `here`; a kind whose objects come in pairs also that of the other one. */
	int (*make)(struct descriptor_restore *restore, struct descriptor_object *object,
		    struct record_reader *reader);
	/* All are made; none is the guest's yet. */
	int (*join)(struct descriptor_restore *restore, struct descriptor_object *object,
		    struct record_reader *reader);
	/* All numbers are in place. */
	int (*place)(struct descriptor_restore *restore, struct descriptor_object *object,
		     struct record_reader *reader);
	/* The rest of a line: what would become of it. */
	void (*describe)(const struct descriptor_object *object, struct record_reader *reader,
			 char *text, size_t room);
};

#define DESCRIPTOR_FUNCTIONS(kind)                                                                 \
	bool kind##_is(struct descriptor_capture *capture, struct descriptor_object *object);      \
	int kind##_capture(struct descriptor_capture *capture, struct descriptor_object *object,   \
			   struct record_writer *writer);                                          \
	int kind##_make(struct descriptor_restore *restore, struct descriptor_object *object,      \
			struct record_reader *reader);                                             \
	int kind##_join(struct descriptor_restore *restore, struct descriptor_object *object,      \
			struct record_reader *reader);                                             \
	int kind##_place(struct descriptor_restore *restore, struct descriptor_object *object,     \
			 struct record_reader *reader);                                            \
	void kind##_describe(const struct descriptor_object *object, struct record_reader *reader, \
			     char *text, size_t room);

DESCRIPTOR_FUNCTIONS(stream)
DESCRIPTOR_FUNCTIONS(terminal)
DESCRIPTOR_FUNCTIONS(path)
DESCRIPTOR_FUNCTIONS(memfd)
DESCRIPTOR_FUNCTIONS(regular)
DESCRIPTOR_FUNCTIONS(directory)
DESCRIPTOR_FUNCTIONS(device)
DESCRIPTOR_FUNCTIONS(pipe_end)
DESCRIPTOR_FUNCTIONS(unix_socket)
DESCRIPTOR_FUNCTIONS(tcp)
DESCRIPTOR_FUNCTIONS(udp)
DESCRIPTOR_FUNCTIONS(netlink)
DESCRIPTOR_FUNCTIONS(event)
DESCRIPTOR_FUNCTIONS(timer)
DESCRIPTOR_FUNCTIONS(signals)
DESCRIPTOR_FUNCTIONS(watches)
DESCRIPTOR_FUNCTIONS(pidfd)
DESCRIPTOR_FUNCTIONS(epoll)

/* ---- list.c */

/* All objects of the guest, each with a duplicate here. */
int descriptors_list(struct descriptor_capture *capture);
/* What the object's duplicate here says of itself: stat, flags, link. */
int descriptor_look(struct descriptor_capture *capture, struct descriptor_object *object);
/* This process may have so many more descriptors. */
int descriptors_room(size_t more, struct thaw_error *error);

/* ---- unchanged.c: descriptors that are as the capture before had them */

/* All of them, or what there is now of those that are not. NULL: everything is to be captured. */
struct descriptors *unchanged_capture(struct descriptor_capture *capture);
/* Everything was. */
void unchanged_remember(struct descriptor_capture *capture, struct descriptors *descriptors);
void unchanged_forget(struct process *process);
/* object->text, before it is captured. */
char *unchanged_text(struct descriptor_capture *capture, const struct descriptor_object *object);

/* ---- descriptors.c, list.c: what kinds ask for */

/* One object that has its duplicate here, and what that says of itself. */
int descriptor_capture_one(struct descriptor_capture *capture, struct descriptor_object *object);

/* PROCESS_EREFUSED: "descriptor 7 is ... ". The format: the rest of the line, with what to do. */
__attribute__((format(printf, 3, 4))) int descriptor_refuse(struct descriptor_capture *capture,
							    const struct descriptor_object *object,
							    const char *format, ...);
/* A restore fails at this descriptor, with that code. */
__attribute__((format(printf, 4, 5))) int descriptor_fail(struct descriptor_restore *restore,
							  const struct descriptor_object *object,
							  int code, const char *format, ...);
/* One line on stderr: something is not quite as it was. */
__attribute__((format(printf, 3, 4))) void descriptor_tell(struct descriptor_restore *restore,
							   const struct descriptor_object *object,
							   const char *format, ...);
/* /proc/PID/fdinfo/N, terminated; the capture's until the next call. NULL: it cannot be read. */
char *descriptor_fdinfo(struct descriptor_capture *capture, int number);
/* The number after "name:" in there; false: there is no such line. */
bool descriptor_field(const char *fdinfo, const char *name, int base, uint64_t *value);
/* Do two descriptors of this process refer to the same open file description? */
bool descriptors_same(struct descriptor_capture *capture, int a, int b);
/* The first object with this inode: of files, pipes and memfds that several objects are of. */
unsigned descriptor_first_of(const struct descriptors *descriptors,
			     const struct descriptor_object *object);
/* Opens the object behind `fd` once more, with the flags of `object`. Negative: -errno. */
int descriptor_reopen(int fd, const struct descriptor_object *object);
/* A duplicate of `fd` that is close-on-exec and not 0, 1 or 2. */
int descriptor_keep(int fd);
/* What of F_GETFL goes into open(2). */
int descriptor_open_flags(const struct descriptor_object *object);
/*
 * An address or a lock is taken: perhaps by the process before, which is still ending. Waits for a moment; false: it has ended,
 * or takes too long.
 */
bool descriptor_wait(struct descriptor_restore *restore);
/* One call by the guest's first parked thread. */
int64_t descriptor_call(struct process *process, unsigned mailbox, int64_t number, uint64_t a,
			uint64_t b, uint64_t c, uint64_t d);

/* ---- copies.c: bytes of files in records */

/* Data between holes, up to `size`. -EFBIG: more than is left of DESCRIPTOR_COPY_BYTES. */
int descriptor_put_contents(struct descriptor_capture *capture, int fd, uint64_t size,
			    struct record_writer *writer);
/* Writes them into `fd`, and gives it its size. */
int descriptor_take_contents(int fd, struct record_reader *reader);

/* ---- files.c */

/* Its path, malloc'ed, and how long it was when it was captured. False: not a file that is opened again at a path. */
bool regular_length(const struct descriptor_object *object, char **path, uint64_t *length);

/* ---- rollback.c */

/* Before any object is made: which files are to be cut back later (descriptors_roll_back()). The others are told. */
void rollback_look(struct descriptor_restore *restore);

/* ---- locks.c */

int descriptor_put_locks(struct descriptor_capture *capture, struct descriptor_object *object,
			 struct record_writer *writer);
/* `placed` false: flock(2) and those of open file descriptions; true: those of the process. */
int descriptor_take_locks(struct descriptor_restore *restore, struct descriptor_object *object,
			  struct record_reader *reader, bool placed);

/* ---- connections.c: TCP connections that a capture has seen before */

struct connection {
	int number;
	size_t bytes;
	struct stat stat;
	uint64_t cookie;
	uint8_t record[232];
};

struct known_connection {
	int number;			     /* of a descriptor */
	const struct connection *connection; /* NULL: it is none, or not known */
	uint32_t flags;
	bool close_on_exec;
};

/* Which of these, by number, are known and as they were. -ESRCH. */
int connections_recall(struct descriptor_capture *capture, struct known_connection *list,
		       size_t count);
/* Those of a capture, for the next one. */
void connections_remember(struct process *process, const struct descriptors *descriptors);

/* ---- pipes.c, epoll.c: what unchanged.c asks of a record */

/* An empty pipe without a name; with `look`: which it still is, as large as it was. */
bool pipe_is_still(const struct descriptor_object *object, const struct look *look);
/* Of all interests the object is known by number and inode, or by its own id. */
bool epoll_is_plain(const struct descriptors *descriptors, const struct descriptor_object *object);

/* ---- inet.c */

struct tcp_names { /* of a connection, in its record */
	const void *name, *peer;
	size_t name_bytes, peer_bytes;
};

/* Is that the record of a TCP socket that is connected, and will be reset? */
bool tcp_is_connection(const uint8_t *record, size_t bytes, struct tcp_names *names);
/* descriptors.c */
bool descriptor_is_tcp(const struct descriptor_object *object);

/* ---- transfer.c */

/* What a sandbox may not allow; set by tests. */
extern struct descriptors_forbidden {
	bool getfd, kcmp;
} descriptors_forbidden;

/* Duplicates of the guest's descriptors `numbers` in this process: `here`, in the same order; all or none. */
int descriptors_take(struct process *process, unsigned mailbox, const int *numbers, size_t count,
		     int *here, struct thaw_error *error);
/*
 * The opposite, into a process that has none but ours: `here[i]` becomes `numbers[i]`, which ascend; with
 * close-on-exec where close_on_exec[i].
 */
int descriptors_give(struct process *process, unsigned mailbox, const int *here, const int *numbers,
		     const bool *close_on_exec, size_t count, struct thaw_error *error);

/* ---- options.c: what setsockopt(2) sets */

#define OPTIONS_BEFORE_BIND 1u
#define OPTIONS_AFTER 2u
void socket_options_put(int fd, int domain, int type, struct record_writer *writer);
bool socket_options_take(int fd, struct record_reader *reader);
/* An address as people write it. */
void socket_address_text(const void *address, size_t bytes, char *text, size_t room);
/* getsockname(2), getpeername(2): bytes of a sockaddr; empty where there is none. */
void socket_put_name(int fd, bool peer, struct record_writer *writer);

/* ---- unix.c */

/* Gives a socket whose next call says ECONNRESET: a Unix one. */
int unix_reset_socket(int type);

#endif
