/* SPDX-License-Identifier: MIT */
/*
 * memfd.c - files in memory, memfd_create(2): contents, size, seals, offset.
 *
 * One that is mapped shared is the same file in the mappings' part (mappings_object()), which has made it before;
 * others are made here. Several objects of one file: the first one makes it, and the others are opened from it.
 * Seals come last, when all has been written.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/descriptors/descriptors.h"

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

struct memfd_record { /* then the contents, of the first object alone */
	char *name;
	uint64_t first, offset, seals;
};

bool memfd_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return S_ISREG(object->stat.st_mode) && !strncmp(object->link, "/memfd:", 7);
}

int memfd_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		  struct record_writer *writer)
{
	unsigned first = descriptor_first_of(capture->descriptors, object);
	off_t offset = lseek(object->here, 0, SEEK_CUR);
	int seals = fcntl(object->here, F_GET_SEALS), code = 0;
	char *end = strstr(object->link, " (deleted)");

	if (object->stat.st_blksize > 65536)
		return descriptor_refuse(capture, object,
					 "%s, of huge pages: the program has to close it",
					 object->link);
	if (end)
		*end = 0;
	record_put_text(writer, object->link + 7);
	record_put(writer, first);
	record_put(writer, offset < 0 ? 0 : (uint64_t)offset);
	record_put(writer, seals < 0 ? F_SEAL_SEAL : (uint64_t)seals);
	if (&capture->descriptors->objects[first] == object)
		code = descriptor_put_contents(capture, object->here,
					       (uint64_t)object->stat.st_size, writer);
	if (code == -EFBIG)
		return descriptor_refuse(
			capture, object,
			"%s, and files in memory are kept up to %llu MiB: the program has to "
			"close it",
			object->link, DESCRIPTOR_COPY_BYTES >> 20);
	return code ? failure(capture->error, code, "descriptor %d, %s: %s", object->number,
			      object->link, thaw_strerror(code))
		    : 0;
}

static void memfd_take(struct memfd_record *record, struct record_reader *reader)
{
	record->name = record_take_text(reader);
	record->first = record_take_up_to(reader, UINT32_MAX);
	record->offset = record_take_up_to(reader, INT64_MAX);
	record->seals = record_take_up_to(reader, UINT32_MAX);
}

/* The file itself: that of the shared mappings, or a new one. */
static int file_make(struct descriptor_restore *restore, const struct descriptor_object *object,
		     const struct memfd_record *record)
{
	int there = mappings_object(restore->process, object->stat.st_dev, object->stat.st_ino);
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd;

	if (there >= 0)
		return remote_take_fd(&restore->process->remote, 0, there);
	if (record->seals & F_SEAL_EXEC)
		flags |= MFD_NOEXEC_SEAL;
	fd = memfd_create(record->name, flags);
	return fd < 0 ? -errno : fd;
}

static int memfd_first(struct descriptor_restore *restore, struct descriptor_object *object,
		       const struct memfd_record *record, struct record_reader *reader)
{
	int fd = file_make(restore, object, record), code = fd < 0 ? fd : 0;

	if (!code) {
		code = descriptor_take_contents(fd, reader);
		fchmod(fd, object->stat.st_mode & 07777);
	}
	if (!code) {
		/* The first one keeps its own description: those of others are opened from it. */
		object->here =
			(object->flags & O_ACCMODE) == O_RDWR ? fd : descriptor_reopen(fd, object);
		code = object->here < 0 ? object->here : 0;
	}
	if (fd >= 0 && fd != object->here)
		close(fd);
	return code;
}

int memfd_make(struct descriptor_restore *restore, struct descriptor_object *object,
	       struct record_reader *reader)
{
	const struct descriptors *descriptors = restore->descriptors;
	struct memfd_record record;
	int code = 0;

	memfd_take(&record, reader);
	if (!record.name || record.first >= descriptors->object_count)
		code = THAW_EDAMAGED;
	else if (&descriptors->objects[record.first] == object)
		code = memfd_first(restore, object, &record, reader);
	else
		object->here = descriptor_reopen(descriptors->objects[record.first].here, object);
	if (!code && object->here < 0)
		code = object->here;
	if (!code)
		lseek(object->here, (off_t)record.offset, SEEK_SET);
	else
		descriptor_fail(restore, object, code, "%s cannot be made again: %s",
				record.name ? record.name : "", thaw_strerror(code));
	free(record.name);
	return code;
}

int memfd_join(struct descriptor_restore *restore, struct descriptor_object *object,
	       struct record_reader *reader)
{
	struct memfd_record record;
	int seals, fd;

	memfd_take(&record, reader);
	free(record.name);
	seals = fcntl(object->here, F_GET_SEALS);
	if (seals < 0 || (uint64_t)seals == record.seals ||
	    &restore->descriptors->objects[record.first] != object)
		return 0;
	fd = object->here;
	if ((object->flags & O_ACCMODE) == O_RDONLY) { /* sealing needs a writer */
		char path[48];

		snprintf(path, sizeof(path), "/proc/self/fd/%d", object->here);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (fcntl(fd, F_ADD_SEALS, (int)record.seals & ~seals))
		descriptor_tell(restore, object, "its seals cannot be set again: %s",
				strerror(errno));
	if (fd >= 0 && fd != object->here)
		close(fd);
	return 0;
}

void memfd_describe(const struct descriptor_object *object, struct record_reader *reader,
		    char *text, size_t room)
{
	struct memfd_record record;

	(void)object;
	memfd_take(&record, reader);
	snprintf(text, room, "%s, made again with its contents", record.name ? record.name : "");
	free(record.name);
}
