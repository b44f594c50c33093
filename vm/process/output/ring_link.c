// SPDX-License-Identifier: MIT
/*
 * ring_link.c - a guest's ring and the output that it belongs to: its entries are made, what it brings is appended, and a
 * thread waits for the first who publishes while nothing is under way.
 *
 * While a generation is, nobody wakes anybody: its capture drains the ring, and so does whoever asks for the next one.
 */
#define _GNU_SOURCE /* secure_getenv() */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/thread.h"
#include "process/output/output.h"
#include "process/output/ring.h"

struct ring_link {
	struct ring ring; /* first */
	struct output_memory
		*memory; /* mapped here, too: the control block may go before this does */
	struct output *output;
	pthread_t thread;
	bool threaded, closing;
};

static int append(void *context, const struct ring_piece *piece)
{
	struct ring_link *link = context;

	return output_append(link->output, piece->outlet, piece->data, piece->bytes,
			     (int)piece->flags);
}

static int drain(void *context)
{
	struct ring_link *link = context;
	int pieces = ring_drain(&link->ring, append, link);

	return pieces < 0 ? pieces : 0;
}

static void *wait_for_guest(void *context)
{
	struct ring_link *link = context;
	uint32_t seen = 0;

	/* Whoever has counted up before the first look is seen then. */
	while (!__atomic_load_n(&link->closing, __ATOMIC_SEQ_CST)) {
		if (!ring_wait(&link->ring, &seen, 0))
			continue;
		output_drain(link->output);
		/* All of it was for somebody who is gone: no generation follows, after which others would be heard again. */
		if (!output_waits(link->output))
			ring_rearm(&link->ring);
	}
	return NULL;
}

static int start_thread(struct ring_link *link)
{
	int code = thread_begin(&link->thread, wait_for_guest, link);

	link->threaded = !code;
	return code;
}

/* THAW_RING=none: the supervisor is asked about each call, as it is about those that no function of libc's makes. */
static void begin(struct ring_link *link)
{
	const char *wish = secure_getenv("THAW_RING");

	ring_begin(&link->ring, link->memory);
	if (wish && !strcmp(wish, "none"))
		ring_off(&link->ring);
	ring_sleep(&link->ring);
}

int ring_open(struct ring **ring, struct output *output, struct process *process)
{
	struct ring_link *link = calloc(1, sizeof(*link));
	int result;

	*ring = NULL;
	if (!link)
		return -ENOMEM;
	link->output = output;
	link->memory = mmap(NULL, sizeof(*link->memory), PROT_READ | PROT_WRITE, MAP_SHARED,
			    process->remote.control_fd, offsetof(struct control, output));
	if (link->memory == MAP_FAILED) {
		result = -errno;
		free(link);
		return result;
	}
	begin(link);
	result = start_thread(link);
	if (result) {
		munmap(link->memory, sizeof(*link->memory));
		free(link);
		return result;
	}
	output_set_ring(output, drain, link);
	*ring = &link->ring;
	return 0;
}

void ring_executed(struct ring *ring)
{
	if (ring)
		begin((struct ring_link *)ring);
}

void ring_rearm(struct ring *ring)
{
	struct ring_link *link = (struct ring_link *)ring;

	/* What is held asks for a generation, after which it is tried again. */
	while (ring && !ring_sleep(ring)) {
		output_drain(link->output);
		if (output_waits(link->output))
			return;
	}
}

void ring_close(struct ring *ring)
{
	struct ring_link *link = (struct ring_link *)ring;

	if (!ring)
		return;
	__atomic_store_n(&link->closing, true, __ATOMIC_SEQ_CST);
	ring_wake(ring);
	if (link->threaded)
		pthread_join(link->thread, NULL);
	output_set_ring(link->output, NULL, NULL);
	munmap(link->memory, sizeof(*link->memory));
	free(link);
}
