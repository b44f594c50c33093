/* SPDX-License-Identifier: MIT */
/*
 * streams.c - the standard streams, and terminals.
 *
 * The guest inherits the supervisor's descriptors 0, 1 and 2; what is the same open file description, or the same
 * pipe or terminal opened once more, belongs to the start and not to the program: after a restore it is the
 * supervisor's of the new start, whatever that is. Any other terminal has somebody at its other end whom nothing
 * brings back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "process/descriptors/descriptors.h"

/* Opened once more: the same terminal or pipe, but not a duplicate. */
static bool same_device(const struct descriptor_object *object, const struct stat *stream)
{
	if (S_ISCHR(stream->st_mode) && S_ISCHR(object->stat.st_mode))
		return stream->st_rdev == object->stat.st_rdev && major(stream->st_rdev) >= 136 &&
		       major(stream->st_rdev) <= 143;
	return S_ISFIFO(stream->st_mode) && S_ISFIFO(object->stat.st_mode) &&
	       stream->st_ino == object->stat.st_ino && stream->st_dev == object->stat.st_dev;
}

static void streams_look(struct descriptor_capture *capture)
{
	for (int i = 0; i < 3; i++)
		capture->stream_flags[i] = fstat(i, &capture->streams[i]) ? -1 : fcntl(i, F_GETFL);
	capture->have_streams = true;
}

/* Which stream it is, and whether it is a duplicate of that; -1: none. */
static int stream_of(struct descriptor_capture *capture, const struct descriptor_object *object,
		     bool *duplicate)
{
	int device = -1;

	if (!capture->have_streams)
		streams_look(capture);
	for (int i = 0; i < 3; i++) {
		const struct stat *stream = &capture->streams[i];
		uint32_t flags = (uint32_t)capture->stream_flags[i];

		if (capture->stream_flags[i] < 0)
			continue;
		if (stream->st_ino == object->stat.st_ino &&
		    stream->st_dev == object->stat.st_dev &&
		    descriptors_same(capture, object->here, i)) {
			*duplicate = true;
			return i;
		}
		if (device < 0 && same_device(object, stream) &&
		    (!S_ISFIFO(stream->st_mode) ||
		     (flags & O_ACCMODE) == (object->flags & O_ACCMODE)))
			device = i;
	}
	*duplicate = false;
	return device;
}

bool stream_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	bool duplicate;

	return !(object->flags & O_PATH) && stream_of(capture, object, &duplicate) >= 0;
}

int stream_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		   struct record_writer *writer)
{
	bool duplicate;
	int stream = stream_of(capture, object, &duplicate);

	record_put(writer, (uint64_t)stream);
	record_put(writer, duplicate);
	return 0;
}

int stream_make(struct descriptor_restore *restore, struct descriptor_object *object,
		struct record_reader *reader)
{
	int stream = (int)record_take_up_to(reader, 2);
	bool duplicate = record_take_up_to(reader, 1);
	struct stat stat;
	int flags;

	if (fcntl(stream, F_GETFD) < 0) {
		descriptor_tell(restore, object, "stream %d is closed now; it is /dev/null",
				stream);
		object->here = open("/dev/null", O_RDWR | O_CLOEXEC);
	} else if (!duplicate && !fstat(stream, &stat) &&
		   (isatty(stream) || S_ISFIFO(stat.st_mode))) {
		object->here = descriptor_reopen(stream, object);
	}
	if (object->here < 0)
		object->here = descriptor_keep(stream);
	if (object->here < 0)
		return descriptor_fail(restore, object, object->here, "stream %d: %s", stream,
				       thaw_strerror(object->here));
	/* Whoever starts the program says where its file is written: at the end, or where its offset is. */
	flags = fcntl(object->here, F_GETFL);
	if (flags >= 0)
		object->flags = (object->flags & ~(uint32_t)O_APPEND) |
				((uint32_t)flags & O_APPEND);
	return 0;
}

void stream_describe(const struct descriptor_object *object, struct record_reader *reader,
		     char *text, size_t room)
{
	static const char *const names[] = {"standard input", "standard output", "standard error"};

	(void)object;
	snprintf(text, room, "%s of the new start", names[record_take_up_to(reader, 2)]);
}

/* ---- Terminals: always refused, but recognised, to be told by name */

bool terminal_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	unsigned type = major(object->stat.st_rdev);

	(void)capture;
	return S_ISCHR(object->stat.st_mode) &&
	       ((type >= 136 && type <= 143) || (type == 5 && minor(object->stat.st_rdev) == 2));
}

int terminal_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		     struct record_writer *writer)
{
	(void)writer;
	return descriptor_refuse(
		capture, object,
		"a terminal other than the one it was started at (%s): the program has to "
		"close it",
		object->link);
}

int terminal_make(struct descriptor_restore *restore, struct descriptor_object *object,
		  struct record_reader *reader)
{
	(void)reader;
	return descriptor_fail(restore, object, THAW_EDAMAGED, "no image has one");
}

void terminal_describe(const struct descriptor_object *object, struct record_reader *reader,
		       char *text, size_t room)
{
	(void)object, (void)reader;
	snprintf(text, room, "refused");
}
