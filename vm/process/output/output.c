// SPDX-License-Identifier: MIT
/*
 * output.c - the output of a guest, as its owner sees it: opened, captured, released, finished.
 *
 * The owner's thread, but for output_tell(). Descriptors in struct output are the threads' own (notifier.c): nothing here
 * touches one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "process/output/internal.h"

/* ---- Holes */

static const char *const hole_texts[] = {
	[HOLE_FILES] = "it writes into files: that is done at once, and not held",
	[HOLE_SHARED_MEMORY] =
		"it has a file mapped that it shares with others (MAP_SHARED): what it "
		"writes there is seen at once",
	[HOLE_CHILDREN] =
		"a child of it writes to its standard streams: children's output is not held",
	[HOLE_QUEUES] = "it sends to a message queue (msgsnd, mq_send): that is done at once",
	[HOLE_DEVICES] = "it writes to a device: that is done at once",
	[HOLE_DESCRIPTORS] =
		"it has more connections than thaw may have descriptors: writes fail with "
		"ENOBUFS: raise the hard limit (ulimit -Hn)",
	[HOLE_TABLES] = "a thread of it wants a descriptor table of its own, which is refused with "
			"--commit output",
};

void output_tell(struct output *output, enum hole hole)
{
	if (output->told >> hole & 1 || output->holes >> hole & 1)
		return;
	output->holes |= 1ull << hole;
	if (output->owner.hole)
		output->owner.hole(output->owner.arg);
}

const char *output_hole(struct output *output)
{
	const char *text = NULL;

	pthread_mutex_lock(&output->lock);
	for (unsigned i = 0; i < sizeof(hole_texts) / sizeof(*hole_texts) && !text; i++)
		if (output->holes >> i & 1) {
			output->holes &= ~(1ull << i);
			output->told |= 1ull << i;
			text = hole_texts[i];
		}
	pthread_mutex_unlock(&output->lock);
	return text;
}

/* ---- Opening and closing */

static void close_owned(struct output *output)
{
	for (int i = 0; i < 2; i++)
		if (output->owner_wakes[i] >= 0)
			close(output->owner_wakes[i]);
}

int output_open(struct process *process, const struct output_owner *owner,
		const struct output_saved *restored, struct output **opened,
		struct thaw_error *error)
{
	struct output *output = calloc(1, sizeof(*output));
	int code = 0, there, listener = -1;

	*opened = NULL;
	if (!output)
		return failure(error, -ENOMEM, "out of memory");
	pthread_mutex_init(&output->lock, NULL);
	pthread_cond_init(&output->idle, NULL);
	if (owner)
		output->owner = *owner;
	output->process = process;
	output->pid = process->remote.pid;
	output->pidfd = process->remote.pidfd;
	output->restored = restored;
	output->next_number = OUTLET_NUMBERS_FROM;
	output->epolls_stale = true;
	for (int i = 0; i < 2; i++)
		output->owner_wakes[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	output->wake_notifier = output->owner_wakes[0];
	output->wake_release = output->owner_wakes[1];
	if (output->owner_wakes[0] < 0 || output->owner_wakes[1] < 0)
		code = failure(error, -errno, "descriptors for held output: %s", strerror(errno));
	there = code ? code : filter_install(process, &listener, error);
	output->listener = listener;
	code = there < 0 ? there : ring_open(&output->ring, output, process);
	if (there >= 0 && code)
		failure(error, code, "held output: its thread: %s", strerror(-code));
	if (!code)
		code = notifier_start(output, error);
	if (listener >= 0)
		close(listener); /* the threads have it */
	if (there >= 0 && !code)
		remote_call(&process->remote, 0, SYS_close, (uint64_t)there, 0, 0, 0, 0, 0);
	if (code && !remote_alive(&process->remote))
		code = failure(error, -ESRCH, "the program has ended");
	if (code)
		output_close(output);
	else
		*opened = output;
	return code;
}

void output_close(struct output *output)
{
	if (!output)
		return;
	notifier_stop(output);
	ring_close(output->ring);
	close_owned(output);
	free(output->waiting);
	pthread_cond_destroy(&output->idle);
	pthread_mutex_destroy(&output->lock);
	free(output);
}

/* ---- Generations */

void output_stop_begins(struct output *output)
{
	bool wake;

	pthread_mutex_lock(&output->lock);
	output->stopping = true;
	output->stopping_ns = clock_monotonic_ns();
	wake = output->waiting_count;
	pthread_mutex_unlock(&output->lock);
	if (wake)
		output_wake(output->owner_wakes[0]);
}

void output_stop_ends(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	output->stopping = false;
	pthread_mutex_unlock(&output->lock);
}

/* 0: it cannot be had. */
static uint64_t interrupting_signals(struct process *process)
{
	const struct kernel_action *actions = kernel_facts_actions(process);
	uint64_t signals = 0;

	for (int i = 1; actions && i <= 64; i++)
		if (actions[i].handler > (uint64_t)(uintptr_t)SIG_IGN &&
		    !(actions[i].flags & SA_RESTART) && i != CONTROL_SIGNAL)
			signals |= 1ull << (i - 1);
	return signals;
}

void output_captured(struct output *output)
{
	uint64_t interrupts = interrupting_signals(output->process);

	pthread_mutex_lock(&output->lock);
	output->interrupts = interrupts;
	take_published(output);
	if (output->ring)
		ring_parked(output->ring);
	output->change_count = 0; /* nobody is in such a call any more */
	output->changes_lost = false;
	output->captured = ++output->epoch;
	output->waits = false;
	pthread_mutex_unlock(&output->lock);
}

void output_durable(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	if (output->released < output->captured)
		output->released = output->captured;
	pthread_mutex_unlock(&output->lock);
	output_wake(output->owner_wakes[1]);
	ring_rearm(output->ring);
}

void output_failed(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	output->waits |= output->released < output->captured && output->bytes;
	pthread_mutex_unlock(&output->lock);
	ring_rearm(output->ring);
}

bool output_waits(struct output *output)
{
	bool waits;

	pthread_mutex_lock(&output->lock);
	waits = output->waits;
	pthread_mutex_unlock(&output->lock);
	return waits;
}

size_t output_bytes(struct output *output)
{
	size_t bytes;

	pthread_mutex_lock(&output->lock);
	bytes = output->bytes;
	pthread_mutex_unlock(&output->lock);
	return bytes;
}

void output_executed(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	output->epolls_stale = true; /* of numbers it has forgotten all when execve(2) was called */
	take_published(output);
	ring_executed(output->ring);
	pthread_mutex_unlock(&output->lock);
}

/* ---- The end */

#define FINISH_LOOK_NS 20000000ull

/* Is there anything that can be sent, and has not been? */
static bool is_sending(const struct output *output, enum output_end end)
{
	for (const struct outlet *outlet = output->queued; outlet; outlet = outlet->queued)
		if (queue_is_released(output, outlet) && (end == OUTPUT_ALL || outlet->stream >= 0))
			return true;
	return false;
}

bool output_finish(struct output *output, enum output_end end, bool (*stop)(void *arg), void *arg)
{
	bool done;

	pthread_mutex_lock(&output->lock);
	take_published(output);
	for (struct outlet *outlet = output->queued; outlet; outlet = outlet->queued)
		for (struct piece *piece = outlet->first;
		     piece && end == OUTPUT_STREAMS && outlet->stream >= 0; piece = piece->next)
			piece->epoch = 0;
	output_wake(output->owner_wakes[1]);
	while (!(done = !is_sending(output, end)) && !stop(arg)) {
		uint64_t end = clock_monotonic_ns() + FINISH_LOOK_NS;
		struct timespec until = {(time_t)(end / 1000000000), (long)(end % 1000000000)};

		pthread_cond_clockwait(&output->idle, &output->lock, CLOCK_MONOTONIC, &until);
	}
	pthread_mutex_unlock(&output->lock);
	return done;
}

/* ---- Bytes that come without a call */

void output_set_ring(struct output *output, int (*drain)(void *arg), void *arg)
{
	pthread_mutex_lock(&output->lock);
	output->drain_arg = arg;
	output->drain = drain;
	pthread_mutex_unlock(&output->lock);
}

void output_drain(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	take_published(output);
	pthread_mutex_unlock(&output->lock);
}

int output_append(struct output *output, uint32_t number, const void *data, size_t bytes, int flags)
{
	struct outlet *outlet = outlet_numbered(output, number);
	struct piece *piece;

	if (!outlet || outlet->broken || !bytes)
		return 0; /* closed, or its reader has gone: as what is on its way then */
	piece = queue_room(output, outlet, bytes, flags & (MSG_OOB | MSG_EOR));
	if (!piece)
		return -ENOMEM;
	memcpy(piece->data + piece->bytes, data, bytes);
	queue_added(output, outlet, piece, bytes);
	return 0;
}
