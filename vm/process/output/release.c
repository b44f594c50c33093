// SPDX-License-Identifier: MIT
/*
 * release.c - the thread that sends what is durable: each piece once, in order, without waiting for any peer. One that
 * does not read holds up its own queue alone.
 *
 * What is sent is at the front of a queue, and nobody else takes it away: the system call is made without the lock. The
 * flags of the guest's descriptors are never changed: sockets are told not to wait by the call, pipes and terminals are
 * opened once more; where that is not allowed, no more is written than poll(2) says there is room for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "process/output/internal.h"

#define AT_ONCE 64u	    /* pieces */
#define PATIENT_BYTES 4096u /* PIPE_BUF: so much has room where poll(2) says so */
#define EVENTS 64
#define AGAIN_MS \
	10 /* of what the kernel does not tell about: a full queue of a datagram's receiver, a file */

/* ---- Waiting for the kernel */

static void want_room(struct output *output, struct outlet *outlet)
{
	struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.u64 = outlet->number};
	int how = outlet->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	outlet->stuck = true;
	if (outlet->kind == OUTLET_FILE)
		return;
	if (!epoll_ctl(output->poll, how, outlet->sending, &event))
		outlet->polled = true;
}

void release_forget(struct output *output, struct outlet *outlet)
{
	if (outlet->polled)
		epoll_ctl(output->poll, EPOLL_CTL_DEL, outlet->sending, NULL);
	outlet->polled = false;
}

/* ---- Sending */

struct batch {
	struct iovec iov[AT_ONCE];
	unsigned count;
	size_t bytes;
};

/* Released bytes at the front, as many as one call can take. With the lock. */
static void gather(const struct output *output, const struct outlet *outlet, struct batch *batch)
{
	const struct piece *first = outlet->first;

	*batch = (struct batch){.count = 0};
	for (struct piece *piece = outlet->first; piece && batch->count < AT_ONCE;
	     piece = piece->next) {
		if (piece->kind != PIECE_BYTES_OF || piece->epoch >= output->released ||
		    piece->flags != first->flags)
			break;
		batch->iov[batch->count++] =
			(struct iovec){piece->data + piece->done, piece->bytes - piece->done};
		batch->bytes += piece->bytes - piece->done;
	}
}

/* A pipe or terminal that could not be opened once more: no more than there is room for. */
static ssize_t write_patiently(int fd, const struct batch *batch)
{
	struct pollfd room = {.fd = fd, .events = POLLOUT};
	size_t bytes = batch->iov[0].iov_len;

	if (poll(&room, 1, 0) <= 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(fd, batch->iov[0].iov_base, bytes < PATIENT_BYTES ? bytes : PATIENT_BYTES);
}

static ssize_t send_bytes(const struct outlet *outlet, int flags, struct batch *batch)
{
	struct msghdr head = {.msg_iov = batch->iov, .msg_iovlen = batch->count};

	switch (outlet->kind) {
	case OUTLET_STREAM:
	case OUTLET_MESSAGES:
		return sendmsg(outlet->fd, &head, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
	case OUTLET_PIPE:
	case OUTLET_TERMINAL:
		if (outlet->sending == outlet->fd && !(fcntl(outlet->fd, F_GETFL) & O_NONBLOCK))
			return write_patiently(outlet->fd, batch);
		break;
	default:
		break;
	}
	return writev(outlet->sending, batch->iov, (int)batch->count);
}

static ssize_t send_message(const struct outlet *outlet, const struct piece *piece)
{
	struct iovec data = {(void *)(piece->data + piece->done), piece->bytes - piece->done};
	struct msghdr head = {.msg_iov = &data,
			      .msg_iovlen = 1,
			      .msg_name = piece->address,
			      .msg_namelen = piece->address_bytes,
			      .msg_control = piece->done ? NULL : piece->control,
			      .msg_controllen = piece->done ? 0 : piece->control_bytes};

	return sendmsg(outlet->fd, &head, piece->flags | MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* With the lock: so many bytes of the front are away. */
static void advance(struct output *output, struct outlet *outlet, size_t bytes)
{
	while (outlet->first) {
		struct piece *piece = outlet->first;
		size_t left = piece->bytes - piece->done;

		if (left > bytes) {
			piece->done += bytes;
			outlet->bytes -= bytes;
			output->bytes -= bytes;
			return;
		}
		bytes -= left;
		queue_pop(output, outlet);
		if (!bytes)
			return;
	}
}

/* With the lock. A datagram is lost with its error; a connection is over. */
static void fail(struct output *output, struct outlet *outlet, int code)
{
	outlet->error = code;
	if (outlet->kind == OUTLET_MESSAGES) {
		queue_pop(output, outlet);
		return;
	}
	if (outlet->kind == OUTLET_FILE && (code == ENOSPC || code == EDQUOT)) {
		outlet->error = 0; /* somebody may make room: nothing is lost */
		outlet->stuck = true;
		return;
	}
	outlet->broken = true;
	queue_drop(output, outlet);
}

/*
 * One system call of an outlet whose front is released. With the lock, which is given up for the call. False: there is no
 * more to do for now.
 */
static bool send_front(struct output *output, struct outlet *outlet)
{
	struct piece *piece = outlet->first;
	struct batch batch;
	ssize_t sent;
	int code;

	if (piece->kind == PIECE_BYTES_OF)
		gather(output, outlet, &batch);
	outlet->busy = true;
	pthread_mutex_unlock(&output->lock);
	if (piece->kind == PIECE_BYTES_OF)
		sent = send_bytes(outlet, piece->flags, &batch);
	else if (piece->kind == PIECE_MESSAGE)
		sent = send_message(outlet, piece);
	else
		sent = shutdown(outlet->fd, SHUT_WR), sent = 0;
	code = errno;
	pthread_mutex_lock(&output->lock);
	outlet->busy = false;
	pthread_cond_broadcast(&output->idle);
	if (sent < 0 && code == EINTR)
		return true;
	if (sent < 0 && (code == EAGAIN || code == ENOBUFS || code == ENOMEM)) {
		want_room(output, outlet);
		return false;
	}
	if (sent < 0)
		fail(output, outlet, code);
	else if (piece->kind == PIECE_BYTES_OF || outlet->kind == OUTLET_STREAM)
		advance(output, outlet, (size_t)sent);
	else
		queue_pop(output, outlet);
	if (sent > 0 && outlet->kind == OUTLET_FILE)
		outlet->position = (uint64_t)lseek(outlet->fd, 0, SEEK_CUR);
	outlet_refresh(output, outlet);
	output->room = true;
	return queue_is_released(output, outlet) && !outlet->stuck;
}

/* ---- The thread */

/* All that can be sent, of all outlets; with the lock. How long until some are to be tried again, ms; -1: for ever. */
static int send_all(struct output *output)
{
	int again = -1;

	for (bool more = true; more && !output->ended;) {
		more = false;
		for (struct outlet **at = &output->queued, *outlet; (outlet = *at);) {
			if (queue_is_released(output, outlet) && !outlet->stuck) {
				/* Others may have put outlets in front: `at` is looked for anew. */
				while (send_front(output, outlet) && !output->ended)
					;
				more = true;
			}
			if (outlet->first) {
				if (outlet->stuck &&
				    (!outlet->polled || outlet->kind == OUTLET_MESSAGES))
					again = AGAIN_MS;
				at = &outlet->queued;
				continue;
			}
			for (at = &output->queued; *at != outlet;)
				at = &(*at)->queued;
			*at = outlet->queued;
			outlet->is_queued = false;
			outlet_drop_unused(output, outlet);
		}
	}
	return again;
}

static void take_events(struct output *output, int timeout)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(output->poll, events, EVENTS, timeout);
	uint64_t value;

	pthread_mutex_lock(&output->lock);
	for (int i = 0; i < count; i++) {
		struct outlet *outlet;

		if (!events[i].data.u64) {
			if (read(output->wake_release, &value, sizeof(value)) < 0)
				continue;
		} else if ((outlet = outlet_numbered(output, (uint32_t)events[i].data.u64))) {
			outlet->stuck = false;
		}
	}
	if (timeout < 0)
		return;
	for (struct outlet *outlet = output->queued; outlet; outlet = outlet->queued)
		if (!outlet->polled || outlet->kind == OUTLET_MESSAGES)
			outlet->stuck = false;
}

void *release_run(void *arg)
{
	struct output *output = arg;
	int timeout = -1;

	notifier_enter(output);
	for (;;) {
		take_events(output, timeout);
		timeout = output->ended ? -1 : send_all(output);
		pthread_cond_broadcast(&output->idle);
		if (output->ended)
			break;
		if (output->room && output->waiting_count)
			output_wake(output->wake_notifier);
		pthread_mutex_unlock(&output->lock);
	}
	pthread_mutex_unlock(&output->lock);
	return NULL;
}
