/* SPDX-License-Identifier: MIT */
/*
 * streams.c - what a program prints, on its way to readers that may be slow, or may never come.
 *
 * Owns a queue for each of stdout and stderr (one for both where they are the same file, so that what is said in turns
 * stays in order), and a thread for each queue that has ever waited for a reader. Owner's thread, but for write_queue().
 * Must never let a reader stop the owner: where a write could block, it is the queue's thread that is blocked, since the
 * flag that would prevent it (O_NONBLOCK) belongs to everybody who shares the file. Once a queue is full, the program's
 * turns wait (streams_wait()), with checkpoints and signals going on.
 *
 * What is queued when a generation is captured goes into its state (streams_saved.c). With output commit all that the
 * program prints is queued, and cannot be written before that generation is durable.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "streams_queue.h"

/* Turns wait above, and go on below. A pipe holds 64 KiB besides. */
#define QUEUE_FULL (256u << 10)
#define QUEUE_ROOM (QUEUE_FULL / 2)
/* What goes into a generation must have an end: a single text that is longer waits inside its turn. */
#define QUEUE_MOST (64u << 20)
/* ... and where it cannot wait, since only a generation would make room: the program ends. */
#define HELD_MOST (256u << 20)
#define PIECE_BYTES 8192u
/* What a pipe takes whole or not at all: so nothing that it took is printed again after an end in order. */
#define WRITE_BYTES PIPE_BUF
/* Once a signal has asked for the end, a reader gets so long. */
#define END_PATIENCE_NS 400000000u
/* For what is said at the very end. */
#define CLOSE_PATIENCE_NS 100000000u
/* A turn that writes on for so long after its reader has gone is not waited for. */
#define BROKEN_PATIENCE_NS 1000000000u
#define LOOK_AGAIN_NS 100000000u

static struct queue *queue_of(struct streams *streams, int fd)
{
	return streams->queue_of[fd == STDERR_FILENO];
}

/* ---- The thread's half ---- */

/* With the lock. */
static void drop_all(struct queue *queue)
{
	while (queue->first) {
		struct piece *piece = queue->first;

		queue->first = piece->next;
		free(piece);
	}
	queue->last = queue->last_free = NULL;
	queue->bytes = queue->held = 0;
}

/* With the lock. The owner is told when there is room again, and when there is nothing left. */
static void wrote(struct queue *queue, size_t bytes)
{
	struct piece *piece = queue->first;
	size_t before = queue->bytes;
	struct runtime *rt = queue->streams->rt;

	if (!piece)
		return; /* dropped meanwhile */
	piece->written += bytes;
	queue->bytes -= bytes;
	if (piece->written == piece->bytes) {
		queue->first = piece->next;
		if (!queue->first)
			queue->last = NULL;
		if (queue->last_free == piece)
			queue->last_free = NULL;
		free(piece);
	}
	if (rt && (!queue->bytes || (before > QUEUE_ROOM && queue->bytes <= QUEUE_ROOM)))
		streams_wake(rt);
}

/* Whole lines, if there are any, so that several programs can share a pipe. */
static size_t some_bytes(const struct piece *piece)
{
	const char *from = piece->data + piece->written;
	size_t bytes = piece->bytes - piece->written;

	if (bytes <= WRITE_BYTES)
		return bytes;
	bytes = WRITE_BYTES;
	while (bytes && from[bytes - 1] != '\n')
		bytes--;
	return bytes ? bytes : WRITE_BYTES;
}

/* With the lock. */
static void failed(struct queue *queue, int fd, int error)
{
	drop_all(queue);
	if (fd == STDOUT_FILENO)
		queue->error = error;
	if (queue->streams->rt)
		streams_wake(queue->streams->rt);
}

static void *write_queue(void *arg)
{
	struct queue *queue = arg;
	char some[WRITE_BYTES];
	int fd;

	pthread_setname_np(pthread_self(), "thaw-output");
	pthread_mutex_lock(&queue->lock);
	while (!queue->quit) {
		size_t bytes;
		ssize_t put;
		int error;

		if (!queue->last_free) {
			pthread_cond_wait(&queue->more, &queue->lock);
			continue;
		}
		bytes = some_bytes(queue->first);
		memcpy(some, queue->first->data + queue->first->written, bytes);
		fd = queue->first->fd;
		queue->writing = true;
		pthread_mutex_unlock(&queue->lock);
		put = write(fd, some, bytes);
		error = put < 0 ? errno : 0;
		if (error == EAGAIN) /* whoever shares the file has set O_NONBLOCK */
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
		pthread_mutex_lock(&queue->lock);
		queue->writing = false;
		if (put > 0)
			wrote(queue, (size_t)put);
		else if (error && error != EAGAIN && error != EINTR)
			failed(queue, fd, error);
	}
	pthread_mutex_unlock(&queue->lock);
	return NULL;
}

/* Signals are the owner's; but for that of a terminal that stops who writes in the background. */
static bool start_thread(struct queue *queue)
{
	sigset_t set, before;

	if (queue->started)
		return true;
	sigfillset(&set);
	sigdelset(&set, SIGTTOU);
	pthread_sigmask(SIG_SETMASK, &set, &before);
	queue->started = !pthread_create(&queue->thread, NULL, write_queue, queue);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return queue->started;
}

/* ---- The owner's half ---- */

static size_t queued(struct queue *queue)
{
	size_t bytes;

	pthread_mutex_lock(&queue->lock);
	bytes = queue->bytes;
	pthread_mutex_unlock(&queue->lock);
	return bytes;
}

/* Of that, what could be written now. */
static size_t writable(struct queue *queue)
{
	size_t bytes;

	pthread_mutex_lock(&queue->lock);
	bytes = queue->bytes - queue->held;
	pthread_mutex_unlock(&queue->lock);
	return bytes;
}

static size_t longest_queue(struct streams *streams)
{
	size_t a = queued(streams->queue_of[0]), b = queued(streams->queue_of[1]);

	return a > b ? a : b;
}

/* After `before` (NULL: first of all). */
static struct piece *new_piece(struct queue *queue, struct piece *before, size_t bytes)
{
	size_t size = bytes > PIECE_BYTES ? bytes : PIECE_BYTES;
	struct piece *piece = malloc(sizeof(*piece) + size), **link;

	if (!piece)
		return NULL;
	link = before ? &before->next : &queue->first;
	*piece = (struct piece){.next = *link, .room = size};
	*link = piece;
	if (queue->last == before)
		queue->last = piece;
	return piece;
}

/* At the end of the queue, or of what can be written. False: no memory. */
static bool append(struct queue *queue, int fd, bool ours, bool hold, const char *data,
		   size_t bytes)
{
	enum piece_state state = hold ? PIECE_HELD : PIECE_FREE;
	struct piece *piece;

	pthread_mutex_lock(&queue->lock);
	piece = hold ? queue->last : queue->last_free;
	if (!piece || piece->state != state || piece->fd != fd || piece->ours != ours ||
	    piece->room - piece->bytes < bytes)
		piece = new_piece(queue, piece, bytes);
	if (piece) {
		piece->fd = fd;
		piece->ours = ours;
		piece->state = state;
		memcpy(piece->data + piece->bytes, data, bytes);
		piece->bytes += bytes;
		queue->bytes += bytes;
		queue->held += hold ? bytes : 0;
		queue->last_free = hold ? queue->last_free : piece;
		if (!hold)
			pthread_cond_signal(&queue->more);
	}
	pthread_mutex_unlock(&queue->lock);
	return piece;
}

/* As much as can be written now, without waiting for anybody. Bytes, or -errno. */
static ssize_t write_now(struct streams *streams, int fd, const char *data, size_t bytes)
{
	enum way *way = &streams->way[fd == STDERR_FILENO];
	struct iovec vector = {(void *)data, bytes};
	ssize_t put;

	if (*way == WAY_THREAD)
		return 0;
	do
		put = *way == WAY_FILE ? write(fd, data, bytes)
				       : pwritev2(fd, &vector, 1, -1, RWF_NOWAIT);
	while (put < 0 && errno == EINTR);
	if (put >= 0)
		return put;
	if (*way == WAY_NOWAIT && errno != EAGAIN && errno != EPIPE)
		*way = WAY_THREAD; /* before Linux 6.4, pipes know no RWF_NOWAIT */
	else if (errno != EAGAIN)
		return -errno;
	return 0;
}

/* Where no thread can be had, it is the owner that waits, as any other program would. */
static void write_waiting(struct streams *streams, int fd, const char *data, size_t bytes)
{
	while (bytes) {
		ssize_t put = write(fd, data, bytes);

		if (put >= 0) {
			data += put;
			bytes -= (size_t)put;
		} else if (errno == EAGAIN) {
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
		} else if (errno != EINTR) {
			struct queue *queue = queue_of(streams, fd);

			pthread_mutex_lock(&queue->lock);
			failed(queue, fd, errno);
			pthread_mutex_unlock(&queue->lock);
			return;
		}
	}
}

void streams_put(struct streams *streams, int fd, bool ours, const char *data, size_t bytes)
{
	struct queue *queue = queue_of(streams, fd);

	while (bytes && !writable(queue)) {
		ssize_t done = write_now(streams, fd, data, bytes);

		if (done < 0) {
			pthread_mutex_lock(&queue->lock);
			failed(queue, fd, (int)-done);
			pthread_mutex_unlock(&queue->lock);
			return;
		}
		if (!done)
			break;
		data += done;
		bytes -= (size_t)done;
	}
	if (bytes && (!start_thread(queue) || !append(queue, fd, ours, false, data, bytes)))
		write_waiting(streams, fd, data, bytes);
}

/* Neither can it be said now, nor kept until it can: what comes after it must not be durable without it. */
static void cannot_hold(struct runtime *rt, const char *why)
{
	owner_tell(rt,
		   "thaw: %s for what the program prints before it is durable; the next start "
		   "goes on from its newest generation\n",
		   why);
	_exit(EXIT_IO);
}

static void hold(struct runtime *rt, int fd, const char *data, size_t bytes)
{
	struct queue *queue = queue_of(rt->output.streams, fd);

	if (!append(queue, fd, false, true, data, bytes))
		cannot_hold(rt, "there is no memory");
	if (queued(queue) > HELD_MOST)
		cannot_hold(rt, "256 MiB in one turn, which cannot be stopped, are too much");
	output_commit_note(rt, bytes); /* the owner looks before it waits for anything */
}

/*
 * Nobody reads stdout any more. A filter would have died of SIGPIPE at this point; a program with a
 * durable heap finishes its turn, is checkpointed and ends with the same code.
 */
static void broken_pipe(struct runtime *rt)
{
	uint64_t now = clock_monotonic_ns();

	if (!rt->output.broken_pipe_ns)
		rt->output.broken_pipe_ns = now;
	else if (now - rt->output.broken_pipe_ns > BROKEN_PATIENCE_NS)
		_exit(128 + SIGPIPE);
	rt->output.streams->broken = true;
	runtime_stop(rt, SIGPIPE);
}

void streams_check(struct runtime *rt)
{
	struct queue *queue = queue_of(rt->output.streams, STDOUT_FILENO);
	int error;

	pthread_mutex_lock(&queue->lock);
	error = queue->error;
	queue->error = 0;
	pthread_mutex_unlock(&queue->lock);
	if (error == EPIPE)
		broken_pipe(rt);
	else if (error && error != EBADF && !rt->output.failed)
		owner_tell(rt, "thaw: cannot write to stdout: %s; the program goes on\n",
			   strerror(error));
	rt->output.failed |= error != 0;
	/* Whoever closed it wants none; whose reader has left has had enough. */
	rt->output.lost |= error && error != EPIPE && error != EBADF;
}

void owner_write(struct runtime *rt, int fd, const char *data, size_t bytes)
{
	struct streams *streams = rt->output.streams;

	rt->output.bytes += bytes;
	evaluate_around_output(rt, true);
	if (fd == STDOUT_FILENO && streams->broken) {
		broken_pipe(rt);
		return;
	}
	while (bytes) {
		size_t part = bytes < QUEUE_MOST ? bytes : QUEUE_MOST;

		while (writable(queue_of(streams, fd)) > QUEUE_MOST)
			streams_pause(rt);
		if (rt->options.commit_output)
			hold(rt, fd, data, part);
		else
			streams_put(streams, fd, false, data, part);
		data += part;
		bytes -= part;
	}
	evaluate_around_output(rt, false);
	streams_check(rt);
}

void streams_tell(struct runtime *rt, const char *text, size_t bytes)
{
	/* Whoever does not read them has enough of them. */
	evaluate_around_output(rt, true);
	if (writable(queue_of(rt->output.streams, STDERR_FILENO)) <= 2 * QUEUE_FULL)
		streams_put(rt->output.streams, STDERR_FILENO, true, text, bytes);
	evaluate_around_output(rt, false);
}

bool streams_full(struct runtime *rt)
{
	struct streams *streams = rt->output.streams;
	size_t bytes = longest_queue(streams);

	if (streams->unbounded)
		return bytes > QUEUE_MOST;
	streams->full = bytes > (streams->full ? QUEUE_ROOM : QUEUE_FULL);
	return streams->full;
}

void streams_lift_limit(struct runtime *rt)
{
	rt->output.streams->unbounded = true;
}

bool streams_idle(struct runtime *rt)
{
	struct streams *streams = rt->output.streams;

	return !writable(streams->queue_of[0]) && !writable(streams->queue_of[1]);
}

void streams_wake(struct runtime *rt)
{
	if (rt->guest)
		rt->type->wake(rt->guest);
	sem_post(&rt->output.attention);
}

void streams_pause(struct runtime *rt)
{
	uint64_t until = clock_monotonic_ns() + LOOK_AGAIN_NS;
	const struct timespec when = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};

	/* Each post stands for something that the caller looks at before the next pause. */
	if (!sem_clockwait(&rt->output.attention, CLOCK_MONOTONIC, &when))
		while (!sem_trywait(&rt->output.attention))
			;
}

bool streams_flush(struct runtime *rt, uint64_t patience_ns)
{
	uint64_t began = clock_monotonic_ns(), *asked = &rt->output.streams->asked_ns;

	while (!streams_idle(rt)) {
		uint64_t now = clock_monotonic_ns();

		if (signals_stop() && !*asked && patience_ns == UINT64_MAX)
			*asked = now;
		if (now - began >= patience_ns || (*asked && now - *asked >= END_PATIENCE_NS) ||
		    (rt->options.interactive && signals_interrupted()))
			break;
		streams_pause(rt);
	}
	streams_check(rt);
	return streams_idle(rt);
}

/* ---- Waiting, while all else goes on ---- */

/* Signals and checkpoints, in the middle of a turn that waits or in between. False: it need not any more. */
static bool advance_while_waiting(struct runtime *rt)
{
	if (!rt->guest->in_turn) {
		checkpoints_advance(rt);
		return !owner_stops(rt);
	}
	poll_timer_polled(rt);
	checkpoints_advance_mid_turn(rt);
	if (!signals_stop())
		return true;
	midturn_end(rt);
	if (midturn_can_end(rt))
		return true;
	if (!rt->options.image)
		return !owner_stops(rt); /* nothing of it is kept: it ends here */
	streams_lift_limit(rt);		 /* it can only be left to its own end */
	return true;
}

/*
 * What is held makes room only once it is durable: so the turn is captured where it stands, if it can be. If not, it goes on,
 * and what it prints is held.
 */
static bool can_make_room(struct runtime *rt)
{
	if (!rt->options.commit_output || !rt->guest->in_turn || !output_commit_waits(rt))
		return true;
	rt->checkpoints.urgent = true;
	return rt->options.image && midturn_possible(rt);
}

bool streams_wait(struct runtime *rt)
{
	if (!can_make_room(rt))
		return false;
	rt->output.stalled = true;
	rt->output.stalls++;
	while (!rt->ending.ended && streams_full(rt) && advance_while_waiting(rt) &&
	       streams_full(rt) && !(rt->options.interactive && signals_interrupted()))
		streams_pause(rt);
	rt->output.stalled = false;
	return rt->ending.ended || (rt->options.interactive && signals_interrupted());
}

void streams_drain(struct runtime *rt)
{
	while (!rt->ending.ended && longest_queue(rt->output.streams) &&
	       advance_while_waiting(rt) && !(rt->options.interactive && signals_interrupted()))
		streams_pause(rt);
}

/* ---- Output commit ---- */

/* With the lock. */
static void change_state(struct queue *queue, enum piece_state from, enum piece_state to)
{
	for (struct piece *piece = queue->first; piece; piece = piece->next) {
		if (piece->state != from)
			continue;
		piece->state = to;
		if (to == PIECE_FREE) {
			queue->held -= piece->bytes;
			queue->last_free = piece;
		}
	}
}

void streams_captured(struct runtime *rt)
{
	for (unsigned i = 0; i < 2; i++) {
		struct queue *queue = &rt->output.streams->queues[i];

		pthread_mutex_lock(&queue->lock);
		change_state(queue, PIECE_HELD, PIECE_CAPTURED);
		pthread_mutex_unlock(&queue->lock);
	}
}

/* With the lock: what nobody has to wait for is written here, which spares the thread's wakeup. */
static void write_released(struct streams *streams, struct queue *queue)
{
	while (queue->last_free && !queue->writing) {
		struct piece *piece = queue->first;
		ssize_t done = write_now(streams, piece->fd, piece->data + piece->written,
					 some_bytes(piece));

		if (done < 0) {
			failed(queue, piece->fd, (int)-done);
			return;
		}
		if (!done)
			break;
		wrote(queue, (size_t)done);
	}
	if (queue->last_free && start_thread(queue))
		pthread_cond_signal(&queue->more);
	while (queue->last_free && !queue->started) { /* no thread can be had: the owner waits */
		struct piece *piece = queue->first;
		size_t bytes = piece->bytes - piece->written;

		pthread_mutex_unlock(&queue->lock);
		write_waiting(streams, piece->fd, piece->data + piece->written, bytes);
		pthread_mutex_lock(&queue->lock);
		wrote(queue, bytes);
	}
}

void streams_settled(struct runtime *rt, int code)
{
	struct streams *streams = rt->output.streams;

	for (unsigned i = 0; streams && i < 2; i++) {
		struct queue *queue = &streams->queues[i];

		pthread_mutex_lock(&queue->lock);
		change_state(queue, PIECE_CAPTURED, code ? PIECE_HELD : PIECE_FREE);
		if (!code)
			write_released(streams, queue);
		pthread_mutex_unlock(&queue->lock);
	}
}

/* With the lock: what is held of stdout goes, the rest can be written. Returns how many bytes are gone. */
static size_t drop_held(struct queue *queue)
{
	struct piece **link = &queue->first, *piece;
	size_t dropped = 0;

	queue->last = NULL;
	while ((piece = *link)) {
		bool held = piece->state != PIECE_FREE;

		queue->held -= held ? piece->bytes : 0;
		if (held && piece->fd == STDOUT_FILENO) {
			*link = piece->next;
			queue->bytes -= piece->bytes;
			dropped += piece->bytes;
			free(piece);
			continue;
		}
		piece->state = PIECE_FREE;
		queue->last = queue->last_free = piece;
		link = &piece->next;
	}
	return dropped;
}

bool streams_drop_held(struct runtime *rt)
{
	struct streams *streams = rt->output.streams;
	size_t dropped = 0;

	for (unsigned i = 0; i < 2; i++) {
		struct queue *queue = &streams->queues[i];

		pthread_mutex_lock(&queue->lock);
		if (queue->held)
			dropped += drop_held(queue);
		write_released(streams, queue);
		pthread_mutex_unlock(&queue->lock);
	}
	if (dropped)
		owner_tell(rt,
			   "thaw: %zu bytes that it printed to stdout are dropped: "
			   "what led to them is not durable\n",
			   dropped);
	return dropped;
}

/* ---- Opening and closing ---- */

static enum way way_to(int fd)
{
	struct stat status;

	if (fstat(fd, &status))
		return WAY_FILE; /* it fails at once */
	if (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode))
		return WAY_NOWAIT;
	return isatty(fd) ? WAY_THREAD : WAY_FILE;
}

static bool same_file(void)
{
	struct stat a, b;

	return !fstat(STDOUT_FILENO, &a) && !fstat(STDERR_FILENO, &b) && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

int streams_open(struct runtime *rt)
{
	struct streams *streams = calloc(1, sizeof(*streams));

	if (!streams)
		return -ENOMEM;
	streams->rt = rt;
	for (unsigned i = 0; i < 2; i++) {
		struct queue *queue = &streams->queues[i];

		queue->streams = streams;
		pthread_mutex_init(&queue->lock, NULL);
		pthread_cond_init(&queue->more, NULL);
		streams->way[i] = way_to(i ? STDERR_FILENO : STDOUT_FILENO);
		streams->queue_of[i] = queue;
	}
	if (same_file())
		streams->queue_of[1] = streams->queue_of[0];
	sem_init(&rt->output.attention, 0, 0);
	rt->output.streams = streams;
	return 0;
}

/* A thread that is blocked ends with the process; until then it has what it needs. */
void streams_close(struct runtime *rt)
{
	struct streams *streams = rt->output.streams;
	bool blocked = false;

	if (!streams)
		return;
	streams_flush(rt, CLOSE_PATIENCE_NS);
	rt->output.streams = NULL;
	for (unsigned i = 0; i < 2; i++) {
		struct queue *queue = &streams->queues[i];
		bool idle;

		pthread_mutex_lock(&queue->lock);
		streams->rt = NULL;
		queue->quit = true;
		idle = !queue->first;
		pthread_cond_signal(&queue->more);
		pthread_mutex_unlock(&queue->lock);
		if (queue->started && idle)
			pthread_join(queue->thread, NULL);
		blocked |= queue->started && !idle;
	}
	if (blocked)
		return;
	free(streams->held);
	free(streams);
}
