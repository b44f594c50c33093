/* SPDX-License-Identifier: MIT */
/*
 * requests.h - what a guest that is a process asks for over its way to the supervisor (stub/control.h): a generation, of
 * which it is told once that is durable. Whoever asks from outside does so by vm/control. The owner's thread.
 */
#ifndef VM_PROCESS_REQUESTS_H
#define VM_PROCESS_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

struct runtime;
struct remote;

#define REQUESTS_MOST 32u /* that wait at once; more wait in the socket */

struct requester {
	uint32_t number; /* of the program's request */
	uint64_t waiter; /* as owner_checkpoint() counts them */
};

struct requests {
	struct runtime *owner;
	struct remote *remote; /* the program's way; NULL: it is gone */
	/* REQUEST_EXECUTED: 0, and it goes on. */
	int (*executed)(void *arg);
	void *executed_arg;
	uint64_t waiters;
	struct requester list[REQUESTS_MOST];
	unsigned count;
};

/* The program is there, and may ask. */
void requests_open(struct requests *requests, struct runtime *owner, struct remote *remote);
/* It has gone: nobody waits any more. */
void requests_close(struct requests *requests);
/* What to wait for, to be read from; -1: nothing comes. */
int requests_fd(const struct requests *requests);
/* Take what came. Never waits. */
void requests_serve(struct requests *requests);
/* Tell those whose generation is durable, or cannot be. */
void requests_tell(struct requests *requests);

#endif
