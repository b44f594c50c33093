/* SPDX-License-Identifier: MIT */
/*
 * locks.c - locks on files: recorded from fdinfo, taken again after a restore.
 *
 * Locks of flock(2) and of open file descriptions (F_OFD_SETLK) belong to the object, and are taken on it in the
 * supervisor; those of fcntl(2) belong to the process, which has to take them itself, once it has the descriptor. A
 * lock that another process has taken meanwhile is told, and the program goes on without it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "process/descriptors/descriptors.h"

#define LOCKS_MOST 1024u

enum { LOCK_OF_FILE = 1, LOCK_OF_PROCESS, LOCK_OF_OBJECT };

static void locks_read(struct descriptor_capture *capture)
{
	size_t room = 0, bytes = 0;
	FILE *file = fopen("/proc/locks", "re");

	capture->have_locks = true;
	if (file && getdelim(&capture->locks, &room, 0, file) <= 0)
		bytes = 0;
	else
		bytes = 1;
	if (!file || !bytes) {
		free(capture->locks);
		capture->locks = NULL;
	}
	if (file)
		fclose(file);
}

/*
 * Has anybody a lock on a file with this inode, or the guest on any? (Of a union of file systems the inode may differ.)
 * Most files have none, and fdinfo costs 8 us.
 */
static bool maybe_locked(struct descriptor_capture *capture, const struct stat *stat)
{
	char inode[32], pid[16];

	if (!capture->have_locks)
		locks_read(capture);
	snprintf(inode, sizeof(inode), ":%llu ", (unsigned long long)stat->st_ino);
	snprintf(pid, sizeof(pid), " %d ", (int)capture->process->remote.pid);
	return capture->locks && (strstr(capture->locks, inode) || strstr(capture->locks, pid));
}

/* "lock:\t1: POSIX  ADVISORY  WRITE 4711 fe:01:393218 0 EOF" */
static bool lock_put(const char *line, struct record_writer *writer)
{
	char kind[8], mode[8], end[24];
	unsigned long long from;

	if (sscanf(line, "lock: %*d: %7s %*s %7s %*d %*x:%*x:%*u %llu %23s", kind, mode, &from,
		   end) != 4)
		return false;
	record_put(writer, !strcmp(kind, "FLOCK")   ? LOCK_OF_FILE
			   : !strcmp(kind, "POSIX") ? LOCK_OF_PROCESS
						    : LOCK_OF_OBJECT);
	record_put(writer, !strcmp(mode, "WRITE"));
	record_put(writer, from);
	record_put(writer, strcmp(end, "EOF") ? strtoull(end, NULL, 10) : UINT64_MAX);
	return true;
}

int descriptor_put_locks(struct descriptor_capture *capture, struct descriptor_object *object,
			 struct record_writer *writer)
{
	char *info = NULL, *line;
	unsigned count = 0;

	if (maybe_locked(capture, &object->stat))
		info = descriptor_fdinfo(capture, object->number);
	for (line = info; line && (line = strstr(line, "lock:")); line += 5)
		count += line[-1] == '\n';
	if (count > LOCKS_MOST)
		return descriptor_refuse(capture, object, "%s, with more than %u locks",
					 object->link, LOCKS_MOST);
	record_put(writer, count);
	for (line = info; line && (line = strstr(line, "lock:")); line += 5)
		if (line[-1] == '\n' && !lock_put(line, writer))
			return descriptor_refuse(capture, object,
						 "%s, with a lock of no known kind", object->link);
	return 0;
}

/* 0, or -errno: EAGAIN, EACCES where somebody else has it. */
static int lock_again(struct descriptor_restore *restore, struct descriptor_object *object,
		      uint64_t kind, bool write, uint64_t from, uint64_t to)
{
	struct flock lock = {
		.l_type = write ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)from,
		.l_len = to == UINT64_MAX ? 0 : (off_t)(to - from + 1),
	};
	uint64_t address;

	if (kind == LOCK_OF_FILE)
		return flock(object->here, (write ? LOCK_EX : LOCK_SH) | LOCK_NB) ? -errno : 0;
	if (kind == LOCK_OF_OBJECT)
		return fcntl(object->here, F_OFD_SETLK, &lock) ? -errno : 0;
	remote_forget(&restore->process->remote);
	address = remote_copy(&restore->process->remote, &lock, sizeof(lock));
	return (int)descriptor_call(restore->process, 0, __NR_fcntl, (uint64_t)object->number,
				    F_SETLK, address, 0);
}

int descriptor_take_locks(struct descriptor_restore *restore, struct descriptor_object *object,
			  struct record_reader *reader, bool placed)
{
	uint64_t count = record_take_count(reader, 32);

	while (count-- && !reader->failed) {
		uint64_t kind = record_take_up_to(reader, LOCK_OF_OBJECT);
		bool write = record_take_up_to(reader, 1);
		uint64_t from = record_take(reader), to = record_take(reader);
		int code;

		if ((kind == LOCK_OF_PROCESS) != placed)
			continue;
		do
			code = lock_again(restore, object, kind, write, from, to);
		while ((code == -EAGAIN || code == -EACCES) && descriptor_wait(restore));
		if (code == -ESRCH)
			return descriptor_fail(restore, object, code, "the process is gone");
		if (code)
			descriptor_tell(
				restore, object,
				"a lock it had is another process's now (%s): it goes on without",
				thaw_strerror(code));
	}
	return 0;
}
