/* SPDX-License-Identifier: MIT */
/*
 * lock.c - who may write to an image: one process at a time. Any thread; no state but the kernel's, which goes
 * with the process, however that ends.
 *
 * A lock that a mere reader can take would let it keep the image's program from starting. flock(2) asks for no
 * right to write, and a read lock of fcntl(2) keeps others' write locks out. So there are two locks, a write lock of
 * the open file (F_OFD_SETLK, Linux 3.15), for which one must be able to write, and flock(), by which older
 * releases know us and /proc/locks tells our pid. One of them is enough if the other is taken by readers only, of
 * which the kernel tells: F_OFD_GETLK finds a write lock behind read locks, and /proc/PID/fdinfo (4.1) the file
 * that a flock() belongs to and whether it is open for writing. In doubt it is: two writers lose data, one
 * that waits loses time. Readers who hold both are refused, and named.
 */
#define _GNU_SOURCE
#include "lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sys.h"

#define MARK_AT \
	((1ull << 62) - 1) /* before the pins (pins.c), and far behind the end of any file */

enum holding { HOLDS_NOT, HOLDS_TO_READ, HOLDS_TO_WRITE };

static struct flock mark_of(short type)
{
	return (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)MARK_AT, .l_len = 1};
}

/*
 * Does another process have a write lock? It is found even behind read locks, although those would
 * prevent ours.
 */
static bool mark_is_taken(int fd)
{
	struct flock mark = mark_of(F_RDLCK);

	return !fcntl(fd, F_OFD_GETLK, &mark) && mark.l_type != F_UNLCK;
}

/* Of the file that `stat` is of? btrfs: stat() has another device than the kernel. */
static bool line_is_of(const char *line, const struct stat *stat, bool any_device, long *pid,
		       bool *exclusive)
{
	unsigned major_number, minor_number;
	unsigned long long inode;
	char kind[8];

	/* "7: FLOCK  ADVISORY  WRITE 4711 fe:01:393218 0 EOF"; waiters have "->" after the colon. */
	if (sscanf(line, "%*d: FLOCK ADVISORY %7s %ld %x:%x:%llu", kind, pid, &major_number,
		   &minor_number, &inode) != 5 ||
	    inode != stat->st_ino)
		return false;
	*exclusive = !strcmp(kind, "WRITE");
	return any_device || makedev(major_number, minor_number) == stat->st_dev;
}

/*
 * The access mode of the descriptor that this file of /proc/PID/fdinfo describes, if it holds the
 * lock.
 */
static enum holding fdinfo_holding(FILE *info, const struct stat *stat)
{
	enum holding holding = HOLDS_NOT;
	unsigned flags = O_RDWR;
	bool exclusive;
	char line[256];
	long pid;

	while (fgets(line, sizeof(line), info)) {
		sscanf(line, "flags: %o", &flags);
		if (!strncmp(line, "lock:", 5) &&
		    line_is_of(line + 5, stat, true, &pid, &exclusive))
			holding = (flags & O_ACCMODE) == O_RDONLY ? HOLDS_TO_READ : HOLDS_TO_WRITE;
	}
	return holding;
}

/*
 * If that process cannot be inspected, the answer is whether its user could open the file for
 * writing.
 */
static enum holding user_holding(long pid, const struct stat *stat)
{
	struct stat process;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld", pid);
	if (lstat(path, &process))
		return errno == ENOENT ? HOLDS_NOT : HOLDS_TO_WRITE;
	return !process.st_uid || process.st_uid == stat->st_uid || stat->st_mode & 0022
		       ? HOLDS_TO_WRITE
		       : HOLDS_TO_READ;
}

static enum holding process_holding(long pid, const struct stat *stat)
{
	enum holding holding = HOLDS_NOT, one;
	char path[320];
	struct dirent *entry;
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%ld/fdinfo", pid);
	directory = opendir(path);
	if (!directory)
		return user_holding(pid, stat);
	while ((entry = readdir(directory))) {
		FILE *info;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%ld/fdinfo/%s", pid, entry->d_name);
		info = fopen(path, "re");
		if (!info)
			continue;
		one = fdinfo_holding(info, stat);
		fclose(info);
		holding = one > holding ? one : holding;
	}
	closedir(directory);
	/* It was closed meanwhile, or another process inherited it. */
	return holding == HOLDS_NOT ? user_holding(pid, stat) : holding;
}

/*
 * Who holds the file by flock(). `pid`: a process that may write, or a reader if there is none
 * such; 0: none that is visible. Only exclusive locks count, since shared ones do not keep others
 * from reading; with `shared` they are reported too.
 */
static enum holding flock_holding(int fd, bool shared, uint64_t *pid)
{
	enum holding most = HOLDS_NOT;
	struct stat stat;

	*pid = 0;
	if (fstat(fd, &stat))
		return HOLDS_NOT;
	for (int any_device = 0; any_device < 2 && most == HOLDS_NOT; any_device++) {
		FILE *locks = fopen("/proc/locks", "re");
		char line[256];

		while (locks && fgets(line, sizeof(line), locks)) {
			enum holding one;
			bool exclusive;
			long holder;

			if (!line_is_of(line, &stat, any_device, &holder, &exclusive) ||
			    holder <= 0 || !(exclusive || shared))
				continue;
			one = process_holding(holder, &stat);
			if (one > most) {
				most = one;
				*pid = (uint64_t)holder;
			}
		}
		if (locks)
			fclose(locks);
	}
	return most;
}

uint64_t lock_holder(int fd)
{
	uint64_t pid;

	return flock_holding(fd, false, &pid) == HOLDS_TO_WRITE ? pid : 0;
}

bool lock_is_held(int fd)
{
	return mark_is_taken(fd) || lock_holder(fd);
}

void lock_release(int fd)
{
	struct flock mark = mark_of(F_UNLCK);

	fcntl(fd, F_OFD_SETLK, &mark);
	flock(fd, LOCK_UN);
}

int lock_take(int fd)
{
	struct flock mark = mark_of(F_WRLCK);
	int marked = fcntl(fd, F_OFD_SETLK, &mark) ? -errno : 0, code;
	uint64_t pid;

	if ((marked == -EAGAIN || marked == -EACCES) && mark_is_taken(fd))
		return -EWOULDBLOCK;
	do
		code = flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
	while (code == -EINTR);
	if (!code || marked) /* the one that this file system has, or that readers do not hold */
		return code;
	if (code != -EWOULDBLOCK || flock_holding(fd, true, &pid) == HOLDS_TO_READ)
		return 0;
	lock_release(fd);
	return code;
}

int lock_image(int fd, const char *path, struct thaw_error *error)
{
	int code = lock_take(fd);
	enum holding holding;
	uint64_t pid;

	if (code != -EWOULDBLOCK)
		return code ? error_set(error, code, "%s: cannot lock it: %s", path,
					thaw_strerror(code))
			    : 0;
	holding = flock_holding(fd, true, &pid);
	if (holding == HOLDS_TO_READ && !mark_is_taken(fd))
		return error_set(error, THAW_EINUSE,
				 "image %s is locked by process %" PRIu64
				 ", which only reads it: stop that first, or name another image",
				 path, pid);
	if (holding == HOLDS_TO_WRITE)
		return error_set(error, THAW_EINUSE,
				 "image %s is in use by process %" PRIu64
				 ": stop that first, or name another image",
				 path, pid);
	return error_set(
		error, THAW_EINUSE,
		"image %s is in use by another process: stop that first, or name another image",
		path);
}
