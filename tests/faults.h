// SPDX-License-Identifier: GPL-2.0-only
/*
 * faults.h - calls that fail one by one: libc's, below uffd/sys.c, so that short and interrupted
 * transfers are among them, and every allocation. For programs that the Makefile links with --wrap for
 * these calls (TEST_WRAPS); it is for one file of a program, and defines what --wrap asks for.
 *
 * Any thread: counters and the table of pointers are atomic. Setting a fault is for when nobody else runs.
 */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash/disk.h"
#include "in_memory.h"

enum kind {
	FAULT_NONE,
	FAULT_ALLOCATION,
	FAULT_OPEN,
	FAULT_READ,
	FAULT_WRITE,
	FAULT_SYNC, /* of a file or a directory */
	FAULT_TRUNCATE,
	FAULT_PUNCH,
	FAULT_RENAME, /* or a link, which is how a new file gets its name */
	FAULT_KINDS,
};

static struct fault {
	enum kind kind;
	long at, count; /* the at-th call fails (from 0), and so many in all */
	int error;
	bool on_full; /* FAULT_WRITE: only what makes the file longer, or fills a hole */
} fault;

static atomic_bool counting; /* calls: they may fail */
static atomic_bool tracking; /* memory: it is the library's */
static atomic_long calls[FAULT_KINDS];
static atomic_int fired;
static bool short_transfers; /* every read and write is cut short or interrupted now and then */

static bool faulty(enum kind kind)
{
	long number;

	if (!counting)
		return false;
	number = atomic_fetch_add(&calls[kind], 1);
	if (fault.kind != kind || number < fault.at || number - fault.at >= fault.count)
		return false;
	fired++;
	errno = fault.error;
	return true;
}

/* ---- Memory */

#define POINTERS (1u << 16)
static void *_Atomic pointers[POINTERS]; /* what the library has got and not given back */
static atomic_long outstanding, strangers;

static void pointer_add(void *pointer)
{
	size_t at = mix((uintptr_t)pointer) % POINTERS;

	if (!tracking || !pointer)
		return;
	outstanding++;
	for (;; at = (at + 1) % POINTERS) {
		void *expected = NULL;

		if (atomic_compare_exchange_strong(&pointers[at], &expected, pointer))
			return;
		expected = &pointers; /* a place that was given up */
		if (atomic_compare_exchange_strong(&pointers[at], &expected, pointer))
			return;
	}
}

/* False: the library never got it. */
static bool pointer_remove(void *pointer)
{
	size_t at = mix((uintptr_t)pointer) % POINTERS;

	for (size_t i = 0; i < POINTERS && pointers[at]; i++, at = (at + 1) % POINTERS) {
		if (pointers[at] != pointer)
			continue;
		pointers[at] = &pointers;
		outstanding--;
		return true;
	}
	return false;
}

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__real_realpath(const char *path, char *resolved);
char *__wrap_realpath(const char *path, char *resolved);
void __real_free(void *pointer);
void __wrap_free(void *pointer);

void *__wrap_malloc(size_t bytes)
{
	void *pointer = faulty(FAULT_ALLOCATION) ? NULL : __real_malloc(bytes);

	pointer_add(pointer);
	return pointer;
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	void *pointer = faulty(FAULT_ALLOCATION) ? NULL : __real_calloc(count, bytes);

	pointer_add(pointer);
	return pointer;
}

void *__wrap_realloc(void *old, size_t bytes)
{
	void *pointer;

	if (faulty(FAULT_ALLOCATION))
		return NULL;
	pointer_remove(old);
	pointer = __real_realloc(old, bytes);
	pointer_add(pointer);
	return pointer;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
	void *pointer = faulty(FAULT_ALLOCATION) ? NULL : __real_aligned_alloc(alignment, bytes);

	pointer_add(pointer);
	return pointer;
}

char *__wrap_strdup(const char *text)
{
	char *pointer = faulty(FAULT_ALLOCATION) ? NULL : __real_strdup(text);

	pointer_add(pointer);
	return pointer;
}

char *__wrap_realpath(const char *path, char *resolved)
{
	char *pointer = faulty(FAULT_ALLOCATION) ? NULL : __real_realpath(path, resolved);

	if (!resolved)
		pointer_add(pointer);
	return pointer;
}

void __wrap_free(void *pointer)
{
	if (pointer && !pointer_remove(pointer) && tracking)
		strangers++; /* freed twice, or not its own */
	__real_free(pointer);
}

/* ---- Files */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
ssize_t __real_pread(int fd, void *buffer, size_t bytes, off_t offset);
ssize_t __wrap_pread(int fd, void *buffer, size_t bytes, off_t offset);
ssize_t __real_pwrite(int fd, const void *buffer, size_t bytes, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buffer, size_t bytes, off_t offset);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __real_ftruncate(int fd, off_t bytes);
int __wrap_ftruncate(int fd, off_t bytes);
int __real_fallocate(int fd, int mode, off_t offset, off_t bytes);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t bytes);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __real_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);

int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {
		va_list arguments;

		va_start(arguments, flags);
		mode = va_arg(arguments, mode_t);
		va_end(arguments);
	}
	return faulty(FAULT_OPEN) ? -1 : __real_open(path, flags, mode);
}

/* How much of it goes through; -1: it is interrupted. */
static ssize_t transfer(size_t bytes)
{
	static atomic_uint turn;

	if (!short_transfers || !counting)
		return (ssize_t)bytes;
	switch (turn++ % 4) {
	case 0:
		errno = EINTR;
		return -1;
	case 1:
		return 1;
	case 2:
		return (ssize_t)(bytes + 1) / 2;
	default:
		return (ssize_t)bytes;
	}
}

ssize_t __wrap_pread(int fd, void *buffer, size_t bytes, off_t offset)
{
	ssize_t part = transfer(bytes);

	if (part < 0 || faulty(FAULT_READ))
		return -1;
	return __real_pread(fd, buffer, (size_t)part, offset);
}

static bool allocates(int fd, size_t bytes, off_t offset)
{
	struct stat status;

	if (fstat(fd, &status) || offset + (off_t)bytes > status.st_size)
		return true;
	return lseek(fd, offset, SEEK_HOLE) < offset + (off_t)bytes;
}

ssize_t __wrap_pwrite(int fd, const void *buffer, size_t bytes, off_t offset)
{
	ssize_t part = transfer(bytes);

	if (part < 0)
		return -1;
	if ((!fault.on_full || allocates(fd, bytes, offset)) && faulty(FAULT_WRITE))
		return -1;
	return __real_pwrite(fd, buffer, (size_t)part, offset);
}

/*
 * What a sync does for good shows after a power cut, of which there are none here: it is told that it was
 * done. 100,000 of them in each test took minutes of a disk that others use as well.
 */
static int synced(int fd)
{
	if (faulty(FAULT_SYNC))
		return -1;
	return fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

int __wrap_fdatasync(int fd)
{
	return synced(fd);
}

int __wrap_fsync(int fd)
{
	return synced(fd);
}

int __wrap_ftruncate(int fd, off_t bytes)
{
	return faulty(FAULT_TRUNCATE) ? -1 : __real_ftruncate(fd, bytes);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t bytes)
{
	return faulty(FAULT_PUNCH) ? -1 : __real_fallocate(fd, mode, offset, bytes);
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	return faulty(FAULT_RENAME) ? -1 : __real_renameat2(from_fd, from, to_fd, to, flags);
}

int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	return faulty(FAULT_RENAME) ? -1 : __real_linkat(from_fd, from, to_fd, to, flags);
}

/* ---- The image whose calls fail, in a directory of its own */

static char directory[224], path[256];

static bool directory_make(void)
{
	snprintf(directory, sizeof(directory), "%s/thaw-faults-XXXXXX", in_memory());
	if (!mkdtemp(directory))
		return false;
	snprintf(path, sizeof(path), "%s/heap.thaw", directory);
	return true;
}

/* False: something else was left in it. */
static bool directory_remove(void)
{
	unlink(path);
	return !rmdir(directory);
}

#endif
