/* SPDX-License-Identifier: MIT */
/*
 * pipes.c - pipes and FIFOs.
 *
 * What is in a pipe is copied without being consumed (tee(2)), and written into the new one. Ends that the guest does
 * not have were another process's: a child's, which is gone with the guest. Then a reader finds the bytes and the
 * end of file, and a writer EPIPE, as when the child was killed.
 *
 * All objects of one pipe have its inode; the first one makes it, and the others are opened from it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/descriptors/descriptors.h"

struct pipe_record { /* then the bytes, of the first object alone: a count of pieces, each with its length */
	char *path; /* of a FIFO; empty: it has none */
	uint64_t first, capacity;
	bool reader, writer; /* the guest has such an end */
	uint64_t pieces;
};

static bool reads(const struct descriptor_object *object)
{
	return (object->flags & O_ACCMODE) != O_WRONLY;
}

static bool writes(const struct descriptor_object *object)
{
	return (object->flags & O_ACCMODE) != O_RDONLY;
}

bool pipe_end_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return S_ISFIFO(object->stat.st_mode);
}

/* Ends of the same pipe, as the capture goes on: kinds of later objects are not known yet. */
static void ends_find(const struct descriptors *descriptors, const struct descriptor_object *object,
		      struct pipe_record *record, int *reader, bool *packets)
{
	record->first = UINT64_MAX;
	for (size_t i = 0; i < descriptors->object_count; i++) {
		const struct descriptor_object *other = &descriptors->objects[i];

		if (!S_ISFIFO(other->stat.st_mode) || other->stat.st_ino != object->stat.st_ino ||
		    other->stat.st_dev != object->stat.st_dev || other->flags & O_PATH ||
		    (other->kind && other->kind != object->kind))
			continue;
		if (record->first == UINT64_MAX)
			record->first = i;
		if (reads(other))
			*reader = other->here;
		record->reader |= reads(other);
		record->writer |= writes(other);
		*packets |= writes(other) && other->flags & O_DIRECT;
	}
}

/* One piece for all bytes, or one for each packet. */
static int pieces_put(int from, size_t bytes, bool packets, struct record_writer *writer)
{
	char *buffer = malloc(bytes);
	size_t got = 0, count = 0, *lengths = calloc(packets ? bytes : 1, sizeof(*lengths)), at = 0;
	int code = buffer && lengths ? 0 : -ENOMEM;

	while (!code && got < bytes) {
		ssize_t n = read(from, buffer + got, bytes - got);

		if (n <= 0)
			code = n ? -errno : -EIO;
		else if (packets || !count)
			lengths[count++] = (size_t)n;
		else
			lengths[0] += (size_t)n;
		got += n > 0 ? (size_t)n : 0;
	}
	record_put(writer, code ? 0 : count);
	for (size_t i = 0; i < count && !code; at += lengths[i++])
		record_put_bytes(writer, buffer + at, lengths[i]);
	free(lengths);
	free(buffer);
	return code;
}

static int bytes_put(int reader, uint64_t capacity, bool packets, struct record_writer *writer)
{
	int bytes = 0, copy[2], code = 0;
	ssize_t got;

	if (ioctl(reader, FIONREAD, &bytes) || !bytes) {
		record_put(writer, 0);
		return 0;
	}
	if (pipe2(copy, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	if (fcntl(copy[1], F_SETPIPE_SZ, (int)capacity) < 0 && (uint64_t)bytes > 65536)
		code = -errno;
	if (!code) {
		got = tee(reader, copy[1], (size_t)bytes, SPLICE_F_NONBLOCK);
		code = got < 0	      ? -errno
		       : got == bytes ? pieces_put(copy[0], (size_t)bytes, packets, writer)
				      : -EMSGSIZE;
	}
	close(copy[0]);
	close(copy[1]);
	return code;
}

int pipe_end_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		     struct record_writer *writer)
{
	struct pipe_record record = {0};
	int reader = -1, capacity = fcntl(object->here, F_GETPIPE_SZ), code = 0;
	bool packets = false, named = object->link[0] == '/';
	struct stat now;

	ends_find(capture->descriptors, object, &record, &reader, &packets);
	if (named && (stat(object->link, &now) || now.st_ino != object->stat.st_ino))
		return descriptor_refuse(
			capture, object,
			"a FIFO that was removed (%s): the program has to close it", object->link);
	record_put_text(writer, named ? object->link : NULL);
	record_put(writer, record.first);
	record_put(writer, capacity < 0 ? 65536 : (uint64_t)capacity);
	record_put(writer, record.reader);
	record_put(writer, record.writer);
	if (&capture->descriptors->objects[record.first] == object && reader >= 0)
		code = bytes_put(reader, capacity < 0 ? 65536 : (uint64_t)capacity, packets,
				 writer);
	else
		record_put(writer, 0);
	if (code)
		return failure(
			capture->error, PROCESS_EREFUSED,
			"descriptor %d is a pipe whose bytes cannot be copied: %s; a later checkpoint "
			"may find it empty",
			object->number, thaw_strerror(code));
	return 0;
}

static void pipe_take(struct pipe_record *record, struct record_reader *reader)
{
	record->path = record_take_text(reader);
	record->first = record_take_up_to(reader, UINT32_MAX);
	record->capacity = record_take_up_to(reader, INT32_MAX);
	record->reader = record_take_up_to(reader, 1);
	record->writer = record_take_up_to(reader, 1);
	record->pieces = record_take_count(reader, 8);
}

bool pipe_is_still(const struct descriptor_object *object, const struct look *look)
{
	struct record_reader reader = {object->record, object->record + object->bytes, false};
	struct pipe_record record;
	bool still;

	pipe_take(&record, &reader);
	still = record.path && !*record.path && !record.pieces;
	if (look)
		still = still && look->capacity == (int64_t)record.capacity &&
			(!record.reader || (!look->counted && !look->waiting));
	free(record.path);
	return still;
}

static int pieces_write(int fd, const struct pipe_record *record, struct record_reader *reader)
{
	for (uint64_t i = 0; i < record->pieces && !reader->failed; i++) {
		size_t bytes;
		const void *data = record_take_bytes(reader, &bytes);
		ssize_t put = bytes ? write(fd, data, bytes) : 0;

		if (put != (ssize_t)bytes)
			return put < 0 ? -errno : -EMSGSIZE;
	}
	return 0;
}

/* All ends that the guest has of this pipe, out of `reader` and `writer`. */
static int ends_make(struct descriptor_restore *restore, struct descriptor_object *first,
		     int reader, int writer)
{
	const struct descriptors *descriptors = restore->descriptors;
	bool named = reader == writer, reader_used = false, writer_used = false;

	for (size_t i = 0; i < descriptors->object_count; i++) {
		struct descriptor_object *other = &descriptors->objects[i];
		int *made = reads(other) ? &reader : &writer;
		bool both = reads(other) && writes(other);

		if (other->kind != first->kind || other->stat.st_ino != first->stat.st_ino ||
		    other->stat.st_dev != first->stat.st_dev)
			continue;
		/* Each end itself for one object; others are opened from it: descriptions of their own. */
		if (!both && (reads(other) ? !reader_used : !writer_used) && !named) {
			other->here = descriptor_keep(*made);
			*(reads(other) ? &reader_used : &writer_used) = true;
		} else {
			other->here = descriptor_reopen(*made, other);
		}
		if (other->here < 0)
			return other->here;
	}
	return 0;
}

static int pipe_new(struct descriptor_restore *restore, struct descriptor_object *object,
		    const struct pipe_record *record, struct record_reader *reader)
{
	int ends[2], code;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK | (int)(object->flags & O_DIRECT)))
		return -errno;
	if (record->pieces > 1) /* of packets */
		fcntl(ends[1], F_SETFL, O_NONBLOCK | O_DIRECT);
	if (fcntl(ends[1], F_GETPIPE_SZ) != (int)record->capacity &&
	    fcntl(ends[1], F_SETPIPE_SZ, (int)record->capacity) < 0)
		descriptor_tell(restore, object, "its size of %llu bytes is not allowed: %s",
				(unsigned long long)record->capacity, strerror(errno));
	code = pieces_write(ends[1], record, reader);
	if (!code)
		code = ends_make(restore, object, ends[0], ends[1]);
	close(ends[0]);
	close(ends[1]);
	return code;
}

static int fifo_open(struct descriptor_restore *restore, struct descriptor_object *object,
		     const struct pipe_record *record, struct record_reader *reader)
{
	int fd = open(record->path, O_RDWR | O_NONBLOCK | O_CLOEXEC), code = 0, bytes;
	struct stat now;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &now) || !S_ISFIFO(now.st_mode))
		code = -ENOTSUP;
	if (!code && record->pieces && !ioctl(fd, FIONREAD, &bytes) && !bytes)
		code = pieces_write(fd, record, reader);
	if (!code)
		code = ends_make(restore, object, fd, fd);
	close(fd);
	return code;
}

int pipe_end_make(struct descriptor_restore *restore, struct descriptor_object *object,
		  struct record_reader *reader)
{
	struct pipe_record record;
	int code = 0;

	pipe_take(&record, reader);
	if (!record.path || record.first >= restore->descriptors->object_count)
		code = THAW_EDAMAGED;
	else if (object->here < 0)
		code = *record.path ? fifo_open(restore, object, &record, reader)
				    : pipe_new(restore, object, &record, reader);
	if (code)
		code = descriptor_fail(restore, object, code, "%s%scannot be made again: %s",
				       record.path ? record.path : "",
				       record.path && *record.path ? " " : "", thaw_strerror(code));
	free(record.path);
	return code;
}

void pipe_end_describe(const struct descriptor_object *object, struct record_reader *reader,
		       char *text, size_t room)
{
	struct pipe_record record;
	uint64_t bytes = 0;

	pipe_take(&record, reader);
	for (uint64_t i = 0; i < record.pieces && !reader->failed; i++) {
		size_t more;

		record_take_bytes(reader, &more);
		bytes += more;
	}
	if (record.path && *record.path)
		snprintf(text, room, "%s, opened again", record.path);
	else if (record.reader && record.writer)
		snprintf(text, room, "%s end, with %llu bytes", reads(object) ? "read" : "write",
			 (unsigned long long)bytes);
	else
		snprintf(text, room, "%s",
			 reads(object) ? "end of file: the other end is not the program's"
				       : "EPIPE: the other end is not the program's");
	free(record.path);
}
