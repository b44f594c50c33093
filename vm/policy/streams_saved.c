/* SPDX-License-Identifier: MIT */
/*
 * streams_saved.c - what a program has printed and is not written yet, in a generation: saving it, and in the process that
 * goes on from there printing it, before anything else.
 *
 * Owns nothing. Owner's thread. Must never lose any of it. What goes to a pipe or a terminal may be printed again, since
 * nobody knows how much the process before had brought out. A regular file tells: where in it the pieces begin is saved,
 * too, and what it has from there on is not printed again (base/already_written.h).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/already_written.h"
#include "base/output_pieces.h"
#include "streams_queue.h"

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
	struct file_place place;
};

/* With the lock. The thread has no regular file to write to, or its position would not be that of the first piece. */
static struct saving saving_of(const struct streams *streams, const struct queue *queue)
{
	struct saving saving = {
		.queue = queue, .streams = streams_of(streams, queue), .bytes = piece_bytes(queue)};

	saving.placed =
		saving.bytes && !queue->writing &&
		file_place(saving.streams & 1 ? STDOUT_FILENO : STDERR_FILENO, &saving.place);
	if (saving.placed)
		saving.bytes += OUTPUT_HEAD_BYTES + OUTPUT_POSITION_BYTES;
	return saving;
}

static uint8_t *save(const struct saving *saving, uint8_t *at)
{
	if (saving->placed) {
		const uint64_t values[2] = {htole64(saving->place.inode),
					    htole64(saving->place.at)};

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

/*
 * How many bytes of the pieces from `at` to the next position, as far as they are of these streams, their file has. Their
 * position is `values`.
 */
static size_t written_before(const uint8_t *at, const uint8_t *end, unsigned streams,
			     const uint64_t *values)
{
	struct file_place from = {le64toh(values[0]), le64toh(values[1])};
	char *all = malloc((size_t)(end - at) + 1);
	size_t bytes = 0;

	while (all && at < end) {
		const void *piece;
		uint32_t length;
		int stream;

		at = output_piece_get(at, &stream, &piece, &length);
		if (output_piece_is_position((unsigned)stream))
			break;
		if (!(streams & (unsigned)stream))
			continue;
		memcpy(all + bytes, piece, length);
		bytes += length;
	}
	bytes = all ? already_written(streams & 1 ? STDOUT_FILENO : STDERR_FILENO, from, all, bytes)
		    : 0;
	free(all);
	return bytes;
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
	unsigned placed = 0; /* streams, of whose pieces the file has: */
	size_t written = 0;

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
			placed = (unsigned)stream - OUTPUT_POSITION;
			written = written_before(at, end, placed, values);
			continue;
		}
		if (placed & (unsigned)stream)
			there = written < length ? written : length;
		written -= there;
		streams_put(streams, stream, false, (const char *)piece + there, length - there);
	}
	return 0;
}
