// SPDX-License-Identifier: MIT
/*
 * streams.c - standard streams outlive the process: what they have not got yet at a capture is a part of the generation,
 * and whoever goes on from it writes that first.
 *
 * Exactly once into a regular file: where its bytes begin is known, and what stands there already was written by the
 * process before (base/already_written.h). A pipe or a terminal may get it twice.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/already_written.h"
#include "process/output/internal.h"

/* ---- A capture */

static int save_outlet(const struct outlet *outlet, struct output_stream *stream)
{
	size_t at = 0;

	*stream = (struct output_stream){.stream = outlet->stream, .data = malloc(outlet->bytes)};
	if (!stream->data)
		return -ENOMEM;
	if (outlet->kind == OUTLET_FILE) {
		stream->device = outlet->device;
		stream->inode = outlet->inode;
		stream->position = outlet->position;
	}
	for (const struct piece *piece = outlet->first; piece; piece = piece->next) {
		if (piece->kind == PIECE_SHUTDOWN)
			continue;
		memcpy(stream->data + at, piece->data + piece->done, piece->bytes - piece->done);
		at += piece->bytes - piece->done;
	}
	stream->bytes = at;
	return 0;
}

int output_save(struct output *output, struct output_saved *saved)
{
	int code;

	*saved = (struct output_saved){.count = 0};
	pthread_mutex_lock(&output->lock);
	code = take_published(output);
	for (struct outlet *outlet = output->queued; outlet && !code;) {
		if (outlet->stream < 0 || !outlet->bytes || saved->count == 3) {
			outlet = outlet->queued;
		} else if (outlet->busy && outlet->kind == OUTLET_FILE) {
			pthread_cond_wait(&output->idle, &output->lock);
			output_saved_free(saved); /* the list may be another */
			outlet = output->queued;
		} else {
			code = save_outlet(outlet, &saved->streams[saved->count]);
			saved->count += !code;
			outlet = outlet->queued;
		}
	}
	pthread_mutex_unlock(&output->lock);
	if (code)
		output_saved_free(saved);
	return code;
}

void output_saved_free(struct output_saved *saved)
{
	for (unsigned i = 0; i < saved->count; i++)
		free(saved->streams[i].data);
	saved->count = 0;
}

void output_saved_encode(const struct output_saved *saved, struct record_writer *writer)
{
	record_put(writer, saved->count);
	for (unsigned i = 0; i < saved->count; i++) {
		const struct output_stream *stream = &saved->streams[i];

		record_put(writer, (uint64_t)stream->stream);
		record_put(writer, stream->device);
		record_put(writer, stream->inode);
		record_put(writer, stream->position);
		record_put_bytes(writer, stream->data, stream->bytes);
	}
}

bool output_saved_decode(struct output_saved *saved, struct record_reader *reader)
{
	uint64_t count = record_take_up_to(reader, 3);

	for (uint64_t i = 0; i < count && !reader->failed; i++) {
		struct output_stream *stream = &saved->streams[i];
		const void *data;

		*stream = (struct output_stream){.stream = (int)record_take_up_to(reader, 2)};
		stream->device = record_take(reader);
		stream->inode = record_take(reader);
		stream->position = record_take(reader);
		data = record_take_bytes(reader, &stream->bytes);
		if (reader->failed)
			break;
		stream->data = malloc(stream->bytes + 1);
		if (!stream->data)
			return false;
		memcpy(stream->data, data, stream->bytes);
		saved->count++;
	}
	return !reader->failed;
}

/* ---- A restore */

/* So many of its bytes are in the file already. */
static size_t written_before(const struct output_stream *stream, int fd)
{
	struct file_place from = {stream->inode, stream->position};

	return stream->inode ? already_written(fd, from, stream->data, stream->bytes) : 0;
}

void restore_streams(struct output *output)
{
	const struct output_saved *saved = output->restored;

	for (unsigned i = 0; saved && i < saved->count; i++) {
		const struct output_stream *stream = &saved->streams[i];
		size_t skip = output->streams[stream->stream] < 0
				      ? stream->bytes
				      : written_before(stream, output->streams[stream->stream]);
		struct outlet *outlet =
			skip < stream->bytes ? outlet_of_stream(output, stream->stream) : NULL;
		struct piece *piece = outlet ? piece_make(PIECE_BYTES_OF, stream->bytes - skip)
					     : NULL;

		if (!piece)
			continue; /* closed, or a device that keeps nothing */
		memcpy(piece->data, stream->data + skip, stream->bytes - skip);
		piece->bytes = stream->bytes - skip;
		queue_append(output, outlet, piece);
	}
	/* What was restored is durable. */
	output->released = ++output->epoch;
	output->waits = false;
	output->restored = NULL;
	output_wake(output->wake_release);
}

int output_saved_write(const struct output_saved *saved)
{
	for (unsigned i = 0; i < saved->count; i++) {
		const struct output_stream *stream = &saved->streams[i];
		size_t done = fcntl(stream->stream, F_GETFD) < 0
				      ? stream->bytes
				      : written_before(stream, stream->stream);

		while (done < stream->bytes) {
			ssize_t sent =
				write(stream->stream, stream->data + done, stream->bytes - done);

			if (sent < 0 && errno != EINTR && errno != EAGAIN)
				return -errno;
			done += sent > 0 ? (size_t)sent : 0;
		}
	}
	return 0;
}
