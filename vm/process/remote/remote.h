/* SPDX-License-Identifier: MIT */
/*
 * remote.h - having system calls made by the parked threads of a guest (stub/control.h), and reading and writing its
 * memory.
 *
 * The owner's thread. Every function returns -ESRCH once the guest is gone, however that came about, and never waits
 * for a dead one. Room for arguments (remote_room) lasts until remote_forget().
 */
#ifndef VM_PROCESS_REMOTE_H
#define VM_PROCESS_REMOTE_H

#include <stdbool.h>
#include <sys/types.h>

#include "process/stub/control.h"
#include "thaw.h"

#define REMOTE_REQUESTS 16u

struct remote {
	struct control *control; /* the supervisor's mapping */
	int control_fd;
	pid_t pid;
	int pidfd;
	int socket;   /* the supervisor's end */
	int memory;   /* /proc/PID/mem, read and write; -1: not allowed */
	size_t used;  /* of control->data */
	size_t apart; /* of its end */
	/*
	 * Batches of several threads are under way: called before another call is added, once; it waits for them, and takes
	 * their results. NULL: none are.
	 */
	void (*settle)(void *arg);
	void *settle_arg;
	/* Requests that came while something else was expected on the socket. */
	struct request requests[REMOTE_REQUESTS];
	unsigned request_count;
};

/* Makes the control block and the socket pair; no process yet. `guest_socket`: the other end, the caller's. */
int remote_create(struct remote *remote, int *guest_socket, struct thaw_error *error);
/* The process exists: its pidfd (given to remote) and its memory. */
int remote_attach(struct remote *remote, pid_t pid, int pidfd, struct thaw_error *error);
void remote_close(struct remote *remote);

/* A descriptor of a program that is not in any file. -1: errno. */
int remote_memfd(const char *name, const uint8_t *bytes, size_t count);
/* Has it not ended? (It may be a zombie: no.) */
bool remote_alive(const struct remote *remote);
/* For the words of the control block: at most so long, or until it changes, or for no reason. */
void remote_futex_wait(const uint32_t *word, uint32_t seen, uint64_t ns);
void remote_futex_wake(const uint32_t *word);

/* ---- Arguments */

/* Room in the shared data: its address in the guest; `here`: where the supervisor sees it. 8-byte aligned. 0: full. */
uint64_t remote_room(struct remote *remote, size_t bytes, void **here);
uint64_t remote_copy(struct remote *remote, const void *data, size_t bytes);
uint64_t remote_string(struct remote *remote, const char *text);
/* All rooms are free again. */
void remote_forget(struct remote *remote);
/* Room that stays: for batches under way while others are made. 0 bytes: there is none any more. */
uint64_t remote_room_apart(struct remote *remote, size_t bytes, void **here);
/* What is under way is done, and its results are taken. */
void remote_settle(struct remote *remote);

/* ---- Calls. `thread`: the number of a mailbox with a parked thread. */

/*
 * Append a call to the thread's batch; its fields may be changed until remote_run(), its result is there after
 * that, until the next batch of that thread. NULL: CONTROL_CALLS are there already.
 */
struct call *remote_add(struct remote *remote, unsigned thread, int64_t number, uint64_t a,
			uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);
/* Post the batch; wait until it is done. Split for many threads at once. 0, -ESRCH, -ETIMEDOUT. */
int remote_post(struct remote *remote, unsigned thread);
int remote_wait(struct remote *remote, unsigned thread);
int remote_run(struct remote *remote, unsigned thread);
/* One call, alone: its result, or -ESRCH. */
int64_t remote_call(struct remote *remote, unsigned thread, int64_t number, uint64_t a, uint64_t b,
		    uint64_t c, uint64_t d, uint64_t e, uint64_t f);
/* A descriptor of the guest's, duplicated into the supervisor (SCM_RIGHTS). -errno. */
int remote_take_fd(struct remote *remote, unsigned thread, int fd);

/* ---- What the program asks for */

/* The next request, without waiting; false: there is none. (poll(2) `socket` for POLLIN; look after each stop, too.) */
bool remote_next_request(struct remote *remote, struct request *request);
/* Never waits: an answer that there is no room for is lost. */
void remote_answer(struct remote *remote, const struct answer *answer);

/* ---- Memory of the guest. All bytes, or -EFAULT, -ESRCH, -errno. Also of pages that are PROT_NONE or read-only. */

int remote_read(struct remote *remote, uint64_t address, void *to, size_t bytes);
struct remote_piece {
	uint64_t address;
	void *to;
	size_t bytes;
	int code; /* as of remote_read() */
};
/* Small pieces, in one call as far as that can be. */
void remote_read_pieces(struct remote *remote, struct remote_piece *pieces, size_t count);
int remote_write(struct remote *remote, uint64_t address, const void *from, size_t bytes);

#endif
