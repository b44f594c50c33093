/* SPDX-License-Identifier: MIT */
/*
 * requests.h - who asks for a generation of a guest that is a process, and is told once it is durable: `thaw checkpoint`
 * in a process of its own, and the program itself (stub/control.h).
 *
 * From outside: a SOCK_SEQPACKET socket with an abstract name, made of the image's device and inode. One struct
 * request, one struct answer; for the user who runs the program, and root. The owner's thread.
 */
#ifndef VM_PROCESS_REQUESTS_H
#define VM_PROCESS_REQUESTS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct runtime;
struct remote;

#define REQUESTS_CLIENTS 32u

struct requester {
	int fd;		 /* a client's; -1: the program itself */
	uint32_t number; /* of its request */
	uint64_t waiter; /* as owner_checkpoint() counts them; 0: it has not asked yet */
};

struct requests {
	struct runtime *owner;
	struct remote *remote; /* the program's way; NULL: it is gone */
	/* REQUEST_EXECUTED: 0, and it goes on. */
	int (*executed)(void *arg);
	void *executed_arg;
	int listener; /* -1: nobody can ask from outside */
	uint64_t waiters;
	struct requester list[REQUESTS_CLIENTS];
	unsigned count;
};

/* The name that the image with this status has. */
socklen_t requests_address(const struct stat *image, struct sockaddr_un *address);

/* That nobody can ask from outside is no failure. */
void requests_open(struct requests *requests, struct runtime *owner, struct remote *remote,
		   const char *image);
void requests_close(struct requests *requests);
/* What to wait for; at most REQUESTS_POLLED. */
#define REQUESTS_POLLED (REQUESTS_CLIENTS + 2)
unsigned requests_poll(const struct requests *requests, struct pollfd *list);
/* Take what came. Never waits. */
void requests_serve(struct requests *requests);
/* Tell those whose generation is durable, or cannot be. */
void requests_tell(struct requests *requests);

#endif
