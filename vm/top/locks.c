/* SPDX-License-Identifier: MIT */
/* locks.c - see locks.h. */
#define _GNU_SOURCE
#include "locks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"

#define MARK_AT ((1ull << 62) - 1) /* as in uffd/image/lock.c */
#define FDINFO_BYTES 4096	   /* an image's has three lines, and one for each lock */

bool lock_file_same(const struct lock_file *a, const struct lock_file *b)
{
	return a->inode == b->inode && a->major == b->major && a->minor == b->minor;
}

/*
 * "7: FLOCK  ADVISORY  WRITE 4711 fe:01:393218 0 EOF". Those who wait for a lock have "->" after
 * the colon, and are no kind of their own.
 */
static void lock_parse(const char *line, struct lock *lock)
{
	unsigned long long from, to = UINT64_MAX;
	char kind[8], mode[8], end[24];
	bool writes;
	long pid;

	lock->kind = LOCK_OTHER;
	if (sscanf(line, "%*d: %7s ADVISORY %7s %ld %x:%x:%llu %llu %23s", kind, mode, &pid,
		   &lock->file.major, &lock->file.minor, &lock->file.inode, &from, end) != 8)
		return;
	lock->pid = (pid_t)pid;
	writes = !strcmp(mode, "WRITE");
	if (strcmp(end, "EOF"))
		to = strtoull(end, NULL, 10);
	if (!strcmp(kind, "FLOCK"))
		lock->kind = writes ? LOCK_FLOCK : LOCK_OTHER;
	else if (from == MARK_AT && to == MARK_AT && writes && !strcmp(kind, "OFDLCK"))
		lock->kind = LOCK_MARK;
	else if (from <= MARK_AT && to >= MARK_AT)
		lock->kind = LOCK_OVER_MARK;
}

int locks_read(struct locks *locks)
{
	FILE *file = fopen("/proc/locks", "re");
	int code = file ? 0 : -errno;
	char *line = NULL;
	size_t room = 0;

	locks->count = 0;
	while (file && !code && getline(&line, &room, file) > 0) {
		struct lock lock, *list;

		lock_parse(line, &lock);
		if (lock.kind == LOCK_OTHER)
			continue;
		list = array_grow(locks->list, locks->count, &locks->room, sizeof(*list));
		if (!list) {
			code = -ENOMEM;
			break;
		}
		locks->list = list;
		list[locks->count++] = lock;
	}
	if (!code && ferror(file))
		code = -EIO;
	free(line);
	if (file)
		fclose(file);
	return code;
}

bool locks_have(const struct locks *locks, enum lock_kind kind, const struct lock_file *file)
{
	for (size_t i = 0; i < locks->count; i++)
		if (locks->list[i].kind == kind && lock_file_same(&locks->list[i].file, file))
			return true;
	return false;
}

void locks_free(struct locks *locks)
{
	free(locks->list);
	*locks = (struct locks){0};
}

bool locks_of_descriptor(int directory, const char *name, struct lock_file *file, bool *marked)
{
	char text[FDINFO_BYTES], *rest = text, *line;
	unsigned flags = O_RDONLY;
	bool held = false;
	size_t length = 0;
	ssize_t got;
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);

	*marked = false;
	if (fd < 0)
		return false;
	while (length < sizeof(text) - 1 &&
	       (got = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)got;
	close(fd);
	text[length] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		struct lock lock;

		sscanf(line, "flags: %o", &flags);
		if (strncmp(line, "lock:", 5))
			continue;
		lock_parse(line + 5, &lock);
		if (lock.kind != LOCK_FLOCK && lock.kind != LOCK_MARK)
			continue;
		held = true;
		*marked |= lock.kind == LOCK_MARK;
		*file = lock.file;
	}
	return held && (flags & O_ACCMODE) != O_RDONLY;
}
