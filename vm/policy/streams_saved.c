/* SPDX-License-Identifier: MIT */
/*
 * streams_saved.c - what a program has printed and is not written yet, in a generation: saving it, and in the process that
 * goes on from there printing it, before anything else.
 *
 * Owns nothing. Owner's thread. Must never lose any of it. What goes to a pipe or a terminal may be printed again, since
 * nobody knows how much the process before had brought out. A regular file tells: its length at the capture is saved,
 * too, and what it has from there on and is the same as what is to be printed is not printed again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/output_pieces.h"
#include "streams_queue.h"

#define COMPARED_BYTES 16384u
/* A line of ours that came between, in a file that has stderr, too. */
#define OUR_LINE "thaw: "

/* ---- Where a stream stands in its file ---- */

struct position {
	uint64_t inode, at;
};

/* Where the next byte that is written goes. False: it is no regular file. */
static bool position_of(int fd, struct position *position)
{
	struct stat status;
	int flags = fcntl(fd, F_GETFL);
	off_t at;

	if (flags < 0 || fstat(fd, &status) || !S_ISREG(status.st_mode))
		return false;
	at = flags & O_APPEND ? status.st_size : lseek(fd, 0, SEEK_CUR);
	*position = (struct position){status.st_ino, (uint64_t)at};
	return at >= 0;
}

/* Which streams have their pieces in that queue. */
static unsigned streams_of(const struct streams *streams, const struct queue *queue)
{
	return (streams->queue_of[0] == queue) | (streams->queue_of[1] == queue) << 1;
}

/* ---- Saving ---- */

static size_t piece_bytes(const struct queue *queue)
{
	size_t bytes = 0;

	for (const struct piece *piece = queue->first; piece; piece = piece->next)
		if (!piece->ours)
			bytes += OUTPUT_HEAD_BYTES + piece->bytes - piece->written;
	return bytes;
}

/* What is saved of a queue: its pieces, and if `placed`, where they go in their file. */
struct saving {
	const struct queue *queue;
	unsigned streams;
	size_t bytes;
	bool placed;
	struct position position;
};

/* With the lock. The thread has no regular file to write to, or its position would not be that of the first piece. */
static struct saving saving_of(const struct streams *streams, const struct queue *queue)
{
	struct saving saving = {
		.queue = queue, .streams = streams_of(streams, queue), .bytes = piece_bytes(queue)};

	saving.placed =
		saving.bytes && !queue->writing &&
		position_of(saving.streams & 1 ? STDOUT_FILENO : STDERR_FILENO, &saving.position);
	if (saving.placed)
		saving.bytes += OUTPUT_HEAD_BYTES + OUTPUT_POSITION_BYTES;
	return saving;
}

static uint8_t *save(const struct saving *saving, uint8_t *at)
{
	if (saving->placed) {
		const uint64_t values[2] = {htole64(saving->position.inode),
					    htole64(saving->position.at)};

		at = output_piece_put(at, (int)(OUTPUT_POSITION + saving->streams), values,
				      sizeof(values));
	}
	for (const struct piece *piece = saving->queue->first; piece; piece = piece->next)
		if (!piece->ours)
			at = output_piece_put(at, piece->fd, piece->data + piece->written,
					      (uint32_t)(piece->bytes - piece->written));
	return at;
}

int streams_save(struct runtime *rt, void **data, size_t *bytes)
{
	struct streams *streams = rt->output.streams;
	struct queue *queues = streams->queues;
	struct saving first, second;
	uint8_t *at;
	int code = 0;

	pthread_mutex_lock(&queues[0].lock);
	pthread_mutex_lock(&queues[1].lock);
	first = saving_of(streams, &queues[0]);
	second = saving_of(streams, &queues[1]);
	*bytes = streams->held_bytes + first.bytes + second.bytes;
	*data = at = *bytes ? malloc(*bytes) : NULL;
	if (*bytes && !at)
		code = -ENOMEM;
	if (at && streams->held_bytes)
		memcpy(at, streams->held, streams->held_bytes);
	if (at) {
		at = save(&first, at + streams->held_bytes);
		save(&second, at);
	}
	pthread_mutex_unlock(&queues[1].lock);
	pthread_mutex_unlock(&queues[0].lock);
	return code;
}

/* ---- Restoring ---- */

/* The part of a file that may have what is to be printed. */
struct written {
	int fd; /* for reading; -1: there is none */
	unsigned streams;
	uint64_t at, end;
};

static void written_end(struct written *written)
{
	if (written->fd >= 0)
		close(written->fd);
	written->fd = -1;
}

static void written_begin(struct written *written, unsigned streams, const uint64_t *values)
{
	int fd = streams & 1 ? STDOUT_FILENO : STDERR_FILENO;
	struct position now;
	char path[32];

	written_end(written);
	if (!position_of(fd, &now) || now.inode != le64toh(values[0]) ||
	    now.at <= le64toh(values[1]))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd); /* that one may be for writing only */
	written->fd = open(path, O_RDONLY | O_CLOEXEC);
	written->streams = streams;
	written->at = le64toh(values[1]);
	written->end = now.at;
}

/* What we have said ourselves is passed over. */
static bool pass_our_line(struct written *written)
{
	char line[1024];
	ssize_t got = pread(written->fd, line, sizeof(line), (off_t)written->at);
	const char *end = got > 0 ? memchr(line, '\n', (size_t)got) : NULL;

	if (!end || strncmp(line, OUR_LINE, strlen(OUR_LINE)))
		return false;
	written->at += (size_t)(end - line) + 1;
	return true;
}

static size_t same_bytes(const char *a, const char *b, size_t most)
{
	size_t bytes = 0;

	while (bytes < most && a[bytes] == b[bytes])
		bytes++;
	return bytes;
}

/* How many of these bytes are in the file already. */
static size_t written_bytes(struct written *written, const char *data, size_t bytes)
{
	char there[COMPARED_BYTES];
	size_t done = 0;

	while (done < bytes && written->fd >= 0) {
		uint64_t left = written->end - written->at;
		size_t most = bytes - done < sizeof(there) ? bytes - done : sizeof(there), same;
		ssize_t got;

		most = left < most ? (size_t)left : most;
		got = most ? pread(written->fd, there, most, (off_t)written->at) : 0;
		same = got > 0 ? same_bytes(there, data + done, (size_t)got) : 0;
		if (same < most) /* another's from here on, or from the beginning of this line */
			while (same && there[same - 1] != '\n')
				same--;
		done += same;
		written->at += same;
		if (!most || (same < most && !pass_our_line(written)))
			written_end(written);
	}
	return done;
}

static int keep_for_others(struct streams *streams, const void *data, size_t bytes)
{
	streams->held = malloc(bytes);
	if (!streams->held)
		return -ENOMEM;
	memcpy(streams->held, data, bytes);
	streams->held_bytes = bytes;
	return 0;
}

int streams_restore(struct runtime *rt, const void *data, size_t bytes, bool hold)
{
	const uint8_t *at = data, *end = at + bytes;
	struct streams *streams = rt->output.streams;
	struct written written = {.fd = -1};

	rt->output.held = hold;
	if (hold)
		return keep_for_others(streams, data, bytes);
	while (at < end) { /* the guest has looked at it, output_pieces_valid() */
		const void *piece;
		uint32_t length;
		size_t there = 0;
		int stream;

		at = output_piece_get(at, &stream, &piece, &length);
		if (output_piece_is_position((unsigned)stream)) {
			uint64_t values[2];

			memcpy(values, piece, sizeof(values));
			written_begin(&written, (unsigned)stream - OUTPUT_POSITION, values);
			continue;
		}
		if (written.fd >= 0 && written.streams & (unsigned)stream)
			there = written_bytes(&written, piece, length);
		streams_put(streams, stream, false, (const char *)piece + there, length - there);
	}
	written_end(&written);
	return 0;
}
