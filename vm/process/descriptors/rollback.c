/* SPDX-License-Identifier: MIT */
/*
 * rollback.c - at a restore, files that the program appends to are cut back to the length that they had at the capture,
 * so that what it then writes once more is in them once (thaw exec --files rollback).
 *
 * Only what was open with O_APPEND for writing, is still the same file, and is longer than it was: of any other file
 * nobody knows what the program has put there, and when. What another process may have appended must not be lost, so a file
 * that somebody else can write to now is left alone, and so is one where that cannot be found out. Looked at before any
 * descriptor is made, as the program's own would be in the way; cut when nothing can refuse the restore any more.
 * Owner's thread, before anything of the program runs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process/descriptors/descriptors.h"

static bool is_same(const struct descriptor_object *object, const struct stat *now)
{
	return S_ISREG(now->st_mode) && now->st_ino == object->stat.st_ino &&
	       now->st_dev == object->stat.st_dev;
}

/* Files of the kernel's have no length that means anything. */
static bool is_appended(const struct descriptor_object *object, char **path, uint64_t *length)
{
	if (!(object->flags & O_APPEND) || (object->flags & O_ACCMODE) == O_RDONLY ||
	    !regular_length(object, path, length))
		return false;
	if (strncmp(*path, "/proc/", 6) && strncmp(*path, "/sys/", 5))
		return true;
	free(*path);
	return false;
}

/* One of several descriptors of it is enough. */
static bool is_seen(const struct descriptor_restore *restore,
		    const struct descriptor_object *object)
{
	const struct descriptor_object *other = restore->descriptors->objects;

	for (; other != object; other++)
		if (other->kind == object->kind && other->flags & O_APPEND &&
		    (other->flags & O_ACCMODE) != O_RDONLY && is_same(object, &other->stat))
			return true;
	return false;
}

/*
 * Why it must not be cut; NULL: nobody else can write to it, and then `now` is how it is. A lease for reading is given only
 * where nobody has it open for writing, or mapped (fcntl(2)); the process before may be ending still. Who opens it
 * meanwhile waits until the lease is given back, and the kernel tells us by a signal: by one that is ignored.
 */
static const char *reason_against(struct descriptor_restore *restore, int fd, struct stat *now)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	const char *reason = NULL;
	int code;

	if (fd < 0 || fcntl(fd, F_SETSIG, SIGURG))
		return "whether somebody else writes to it cannot be found out";
	do
		code = fcntl(fd, F_SETLEASE, F_RDLCK) ? errno : 0;
	while (code == EAGAIN && descriptor_wait(restore));
	if (code)
		return code == EAGAIN ? "somebody else has it open for writing"
				      : "whether somebody else writes to it cannot be found out";
	if (!fcntl(fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK)
		reason = "somebody else has locked it";
	if (fstat(fd, now))
		reason = strerror(errno);
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return reason;
}

static void file_look(struct descriptor_restore *restore, struct descriptor_object *object,
		      const char *path, uint64_t length)
{
	const char *reason;
	struct stat now;
	int fd;

	if (stat(path, &now) || !is_same(object, &now))
		return; /* which files.c tells of */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	reason = reason_against(restore, fd, &now);
	if (fd >= 0)
		close(fd);
	if (!is_same(object, &now))
		return;
	if ((uint64_t)now.st_size < length)
		descriptor_tell(
			restore, object,
			"%s is shorter now (%lld bytes) than at the generation (%llu): it stays as it is",
			path, (long long)now.st_size, (unsigned long long)length);
	else if ((uint64_t)now.st_size > length && reason)
		descriptor_tell(restore, object, "%s is not cut back from %lld to %llu bytes: %s",
				path, (long long)now.st_size, (unsigned long long)length, reason);
	else if ((uint64_t)now.st_size > length)
		object->cut_from = (uint64_t)now.st_size;
	object->cut_to = length;
}

void rollback_look(struct descriptor_restore *restore)
{
	const struct descriptors *descriptors = restore->descriptors;
	unsigned waited = restore->waited; /* locks have a time of their own */

	for (size_t i = 0; i < descriptors->object_count; i++) {
		struct descriptor_object *object = &descriptors->objects[i];
		uint64_t length;
		char *path;

		object->cut_from = 0;
		if (!is_appended(object, &path, &length))
			continue;
		if (!is_seen(restore, object))
			file_look(restore, object, path, length);
		free(path);
	}
	restore->waited = waited;
}

/*
 * Durable before the program appends to it again: else, after a power cut, it could be long enough for a later generation
 * with what was cut off here.
 */
static void file_cut(struct descriptor_restore *restore, const struct descriptor_object *object,
		     const char *path)
{
	unsigned long long from = object->cut_from, to = object->cut_to;
	struct stat now;
	int code;

	if (fstat(object->here, &now) || !is_same(object, &now) || (uint64_t)now.st_size != from) {
		descriptor_tell(
			restore, object,
			"%s is not cut back to %llu bytes: it was written to during the restore",
			path, to);
		return;
	}
	do
		code = ftruncate(object->here, (off_t)to) ? errno : 0;
	while (code == EINTR);
	if (code)
		descriptor_tell(restore, object, "%s is not cut back from %llu to %llu bytes: %s",
				path, from, to, strerror(code));
	else if (fsync(object->here))
		descriptor_tell(restore, object,
				"%s is cut back to %llu bytes, but a power cut may undo that: %s",
				path, to, strerror(errno));
	else if (restore->process->verbose)
		descriptor_tell(restore, object, "%s is cut back from %llu to %llu bytes", path,
				from, to);
}

void descriptors_roll_back(struct process *process, const struct descriptors *descriptors)
{
	struct descriptor_restore restore = {.process = process, .descriptors = descriptors};

	for (size_t i = 0; i < descriptors->object_count; i++) {
		struct descriptor_object *object = &descriptors->objects[i];
		uint64_t length;
		char *path;

		if (!object->cut_from)
			continue;
		if (is_appended(object, &path, &length)) {
			file_cut(&restore, object, path);
			free(path);
		}
		close(object->here);
		object->here = -1;
		object->cut_from = 0;
	}
}
