/* SPDX-License-Identifier: MIT */
/*
 * files.c - descriptors of what has a path: regular files, directories, devices, and paths themselves
 * (O_PATH).
 *
 * A regular file is opened again where it is, as it is: files are not rolled back (but see rollback.c). One that nobody can open any more
 * is kept by copy. What has changed since is told in a line; what cannot be opened fails the restore.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/descriptors/descriptors.h"

/* Is the file still what its path leads to? */
static bool has_path(const struct descriptor_object *object, bool follow)
{
	struct stat now;

	return object->link[0] == '/' && !(follow ? stat : lstat)(object->link, &now) &&
	       now.st_ino == object->stat.st_ino && now.st_dev == object->stat.st_dev;
}

/* /proc/PID of the process itself is another directory after a restore. malloc'ed. */
static char *path_now(const struct descriptor_restore *restore, char *path)
{
	char prefix[32], *now = NULL;
	size_t bytes;

	bytes = (size_t)snprintf(prefix, sizeof(prefix), "/proc/%d/", (int)restore->old_pid);
	if (!path || strncmp(path, prefix, bytes))
		return path;
	if (asprintf(&now, "/proc/%d/%s", (int)restore->process->remote.pid, path + bytes) < 0)
		return path;
	free(path);
	return now;
}

static int open_again(struct descriptor_restore *restore, struct descriptor_object *object,
		      const char *path, int extra)
{
	int flags = descriptor_open_flags(object) | extra;
	int fd = open(path, flags);

	if (fd < 0 && errno == EPERM && flags & O_NOATIME)
		fd = open(path, flags & ~O_NOATIME);
	if (fd < 0)
		return descriptor_fail(
			restore, object, -errno,
			"%s cannot be opened again: %s; put it back, or start anew (--fresh)", path,
			strerror(errno));
	object->here = fd;
	return 0;
}

/* ---- Paths */

bool path_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return object->flags & O_PATH;
}

int path_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		 struct record_writer *writer)
{
	if (!has_path(object, false))
		return descriptor_refuse(
			capture, object,
			"a path that is not there any more (%s): the program has to close it",
			object->link);
	record_put_text(writer, object->link);
	return 0;
}

int path_make(struct descriptor_restore *restore, struct descriptor_object *object,
	      struct record_reader *reader)
{
	char *path = path_now(restore, record_take_text(reader));
	int code = path ? open_again(restore, object, path, O_NOFOLLOW) : 0;

	free(path);
	return code;
}

void path_describe(const struct descriptor_object *object, struct record_reader *reader, char *text,
		   size_t room)
{
	char *path = record_take_text(reader);

	(void)object;
	snprintf(text, room, "%s, opened again", path ? path : "");
	free(path);
}

/* ---- Regular files: path, locks, offset, size, time, copy or not, copy */

struct regular {
	char *path;
	uint64_t offset, size, first;
	int64_t modified_ns;
	bool copied;
};

bool regular_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return S_ISREG(object->stat.st_mode) && object->link[0] == '/';
}

static int copy_put(struct descriptor_capture *capture, struct descriptor_object *object,
		    struct record_writer *writer)
{
	int fd = object->here, code;

	if ((object->flags & O_ACCMODE) == O_WRONLY) {
		char path[48];

		snprintf(path, sizeof(path), "/proc/self/fd/%d", object->here);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return descriptor_refuse(
				capture, object,
				"%s, which has no name and cannot be read (%s): the program "
				"has to close it",
				object->link, strerror(errno));
	}
	code = descriptor_put_contents(capture, fd, (uint64_t)object->stat.st_size, writer);
	if (fd != object->here)
		close(fd);
	if (code == -EFBIG)
		return descriptor_refuse(
			capture, object,
			"%s: files without a name are kept by copy up to %llu MiB, and it "
			"has more: the program has to close it",
			object->link, DESCRIPTOR_COPY_BYTES >> 20);
	if (code)
		return failure(capture->error, code, "descriptor %d, %s: %s", object->number,
			       object->link, thaw_strerror(code));
	return 0;
}

int regular_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		    struct record_writer *writer)
{
	unsigned first = descriptor_first_of(capture->descriptors, object);
	bool copied = !object->stat.st_nlink;
	off_t offset = lseek(object->here, 0, SEEK_CUR);
	int code;

	if (!copied && !has_path(object, true))
		return descriptor_refuse(
			capture, object,
			"%s, which cannot be found there, but has another name: the program "
			"has to close it",
			object->link);
	record_put_text(writer, object->link);
	record_put(writer, offset < 0 ? 0 : (uint64_t)offset);
	record_put(writer, (uint64_t)object->stat.st_size);
	record_put(writer, (uint64_t)object->stat.st_mtim.tv_sec * 1000000000ull +
				   (uint64_t)object->stat.st_mtim.tv_nsec);
	record_put(writer, copied);
	record_put(writer, first);
	code = descriptor_put_locks(capture, object, writer);
	if (!code && copied && &capture->descriptors->objects[first] == object)
		code = copy_put(capture, object, writer);
	return code;
}

static void regular_take(struct regular *file, struct record_reader *reader)
{
	file->path = record_take_text(reader);
	file->offset = record_take_up_to(reader, INT64_MAX);
	file->size = record_take_up_to(reader, INT64_MAX);
	file->modified_ns = (int64_t)record_take(reader);
	file->copied = record_take_up_to(reader, 1);
	file->first = record_take_up_to(reader, UINT32_MAX);
}

bool regular_length(const struct descriptor_object *object, char **path, uint64_t *length)
{
	struct record_reader reader = {object->record, object->record + object->bytes, false};
	struct regular file;

	if (object->kind->make != regular_make)
		return false;
	regular_take(&file, &reader);
	*length = file.size;
	*path = file.path;
	if (file.path && !file.copied && !reader.failed)
		return true;
	free(file.path);
	return false;
}

/* A file without a name in the directory where it was; where that cannot be, in memory. */
static int unnamed_file(struct descriptor_restore *restore, struct descriptor_object *object,
			const char *path)
{
	char *directory = strdup(path), *slash = directory ? strrchr(directory, '/') : NULL;
	int fd = -1;

	if (slash) {
		slash[slash == directory] = 0;
		fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, object->stat.st_mode & 07777);
	}
	free(directory);
	if (fd >= 0)
		return fd;
	fd = memfd_create("thaw: a file without a name", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	descriptor_tell(restore, object, "%s: a copy of it is in memory now", path);
	return fd;
}

static int copy_make(struct descriptor_restore *restore, struct descriptor_object *object,
		     const struct regular *file, struct record_reader *reader)
{
	const struct descriptors *descriptors = restore->descriptors;
	struct record_reader locks = *reader;
	int fd, code = 0;

	if (file->first >= descriptors->object_count)
		return descriptor_fail(restore, object, THAW_EDAMAGED, "its record is not one");
	if (&descriptors->objects[file->first] != object) {
		object->here = descriptor_reopen(descriptors->objects[file->first].here, object);
		return object->here < 0 ? descriptor_fail(restore, object, object->here, "%s: %s",
							  file->path, thaw_strerror(object->here))
					: 0;
	}
	for (uint64_t count = record_take_count(&locks, 32); count-- && !locks.failed;)
		for (int i = 0; i < 4; i++)
			record_take(&locks);
	fd = unnamed_file(restore, object, file->path);
	code = fd < 0 ? fd : descriptor_take_contents(fd, &locks);
	if (!code) {
		object->here = descriptor_reopen(fd, object);
		code = object->here < 0 ? object->here : 0;
	}
	if (fd >= 0)
		close(fd);
	if (code)
		return descriptor_fail(restore, object, code, "a copy of %s cannot be made: %s",
				       file->path, thaw_strerror(code));
	return locks.failed ? THAW_EDAMAGED : 0;
}

static void changes_tell(struct descriptor_restore *restore, struct descriptor_object *object,
			 const struct regular *file)
{
	struct stat now;

	if (fstat(object->here, &now) || !strncmp(file->path, "/proc/", 6))
		return;
	if (now.st_ino != object->stat.st_ino || now.st_dev != object->stat.st_dev)
		descriptor_tell(restore, object, "%s is another file now", file->path);
	else if ((uint64_t)now.st_size < file->size && (uint64_t)now.st_size < file->offset)
		descriptor_tell(
			restore, object,
			"%s is shorter now (%lld bytes) than where the program was in it (%llu)",
			file->path, (long long)now.st_size, (unsigned long long)file->offset);
}

int regular_make(struct descriptor_restore *restore, struct descriptor_object *object,
		 struct record_reader *reader)
{
	struct regular file;
	int code;

	regular_take(&file, reader);
	file.path = path_now(restore, file.path);
	if (!file.path || reader->failed) {
		free(file.path);
		return descriptor_fail(restore, object, THAW_EDAMAGED, "its record is not one");
	}
	code = file.copied ? copy_make(restore, object, &file, reader)
			   : open_again(restore, object, file.path, 0);
	if (!code && !file.copied)
		changes_tell(restore, object, &file);
	if (!code)
		lseek(object->here, (off_t)file.offset, SEEK_SET);
	if (!code)
		code = descriptor_take_locks(restore, object, reader, false);
	free(file.path);
	return code;
}

int regular_place(struct descriptor_restore *restore, struct descriptor_object *object,
		  struct record_reader *reader)
{
	struct regular file;

	regular_take(&file, reader);
	free(file.path);
	return descriptor_take_locks(restore, object, reader, true);
}

void regular_describe(const struct descriptor_object *object, struct record_reader *reader,
		      char *text, size_t room)
{
	struct regular file;
	uint64_t locks;

	(void)object;
	regular_take(&file, reader);
	locks = record_take_count(reader, 32);
	snprintf(text, room, "%s at %llu of %llu bytes%s, %s", file.path ? file.path : "",
		 (unsigned long long)file.offset, (unsigned long long)file.size,
		 locks ? ", locked" : "", file.copied ? "a copy of it" : "opened again");
	free(file.path);
}

/* ---- Directories */

bool directory_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return S_ISDIR(object->stat.st_mode);
}

int directory_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		      struct record_writer *writer)
{
	off_t offset = lseek(object->here, 0, SEEK_CUR);

	if (!has_path(object, true))
		return descriptor_refuse(
			capture, object,
			"a directory that was removed (%s): the program has to close it",
			object->link);
	record_put_text(writer, object->link);
	record_put(writer, offset < 0 ? 0 : (uint64_t)offset);
	return 0;
}

int directory_make(struct descriptor_restore *restore, struct descriptor_object *object,
		   struct record_reader *reader)
{
	char *path = path_now(restore, record_take_text(reader));
	uint64_t offset = record_take_up_to(reader, INT64_MAX);
	int code = path ? open_again(restore, object, path, O_DIRECTORY) : 0;

	if (path && !code)
		lseek(object->here, (off_t)offset, SEEK_SET);
	free(path);
	return code;
}

void directory_describe(const struct descriptor_object *object, struct record_reader *reader,
			char *text, size_t room)
{
	path_describe(object, reader, text, room);
}

/* ---- Devices */

static const struct {
	unsigned major, minor;
	const char *path;
} devices[] = {
	{1, 3, "/dev/null"},   {1, 5, "/dev/zero"},    {1, 7, "/dev/full"},
	{1, 8, "/dev/random"}, {1, 9, "/dev/urandom"}, {5, 0, "/dev/tty"},
};
#define DEVICES (sizeof(devices) / sizeof(devices[0]))

static size_t device_index(const struct descriptor_object *object)
{
	size_t i = 0;

	while (i < DEVICES && (devices[i].major != major(object->stat.st_rdev) ||
			       devices[i].minor != minor(object->stat.st_rdev)))
		i++;
	return i;
}

bool device_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return S_ISCHR(object->stat.st_mode) && device_index(object) < DEVICES;
}

int device_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		   struct record_writer *writer)
{
	(void)capture;
	record_put(writer, device_index(object));
	return 0;
}

int device_make(struct descriptor_restore *restore, struct descriptor_object *object,
		struct record_reader *reader)
{
	size_t index = record_take_up_to(reader, DEVICES - 1);

	object->here = open(devices[index].path, descriptor_open_flags(object));
	if (object->here < 0 && (errno == ENXIO || errno == EIO || errno == ENOENT) &&
	    index == DEVICES - 1) {
		descriptor_tell(restore, object, "there is no terminal now; it is /dev/null");
		object->here = open("/dev/null", descriptor_open_flags(object));
	}
	if (object->here < 0)
		return descriptor_fail(restore, object, -errno, "%s: %s", devices[index].path,
				       strerror(errno));
	return 0;
}

void device_describe(const struct descriptor_object *object, struct record_reader *reader,
		     char *text, size_t room)
{
	(void)object;
	snprintf(text, room, "%s, opened again",
		 devices[record_take_up_to(reader, DEVICES - 1)].path);
}
