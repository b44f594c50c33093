/* SPDX-License-Identifier: MIT */
/*
 * sys.h - the system calls that can fail for external reasons, mostly on files, and where tests
 * inject failures.
 *
 * Every function returns a value >= 0 or -errno, retries EINTR, and finishes short reads and
 * writes. All I/O of the library that must survive a bad disk goes through here, so that the tests
 * can make it fail (tests/inject/inject.c).
 */
#ifndef UFFD_SYS_H
#define UFFD_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sys_call {
	SYS_CALL_OPEN,
	SYS_CALL_READ,
	SYS_CALL_CACHED,
	SYS_CALL_WRITE,
	SYS_CALL_FDATASYNC,
	SYS_CALL_TRUNCATE,
	SYS_CALL_PUNCH,
	SYS_CALL_MMAP,
	SYS_CALL_IOCTL,
	SYS_CALL_MPROTECT,
	SYS_CALL_ADVISE,
	SYS_CALL_COUNT,
};

/*
 * 0, or the -errno that a test injects into this call; always 0 in the library (no_failures.c).
 * Also asked for calls that are made elsewhere (io_uring).
 */
int sys_injected(enum sys_call call);

int sys_open(const char *path, int flags, unsigned mode);
/* Exactly `bytes`; -ENODATA when the file ends before. */
int sys_pread(int fd, void *buffer, size_t bytes, uint64_t offset);
/*
 * Reads what is available without waiting, usually from the page cache: how many bytes, at least
 * one, or -EAGAIN; -EOPNOTSUPP: this file system does not support it.
 */
int sys_pread_cached(int fd, void *buffer, size_t bytes, uint64_t offset);
/*
 * Does the page cache have all of these bytes of a file? Also true where the kernel does not say (cachestat(2),
 * Linux 6.5, of one's own files). Reads nothing.
 */
bool sys_is_cached(int fd, uint64_t offset, uint64_t bytes);
int sys_pwrite(int fd, const void *buffer, size_t bytes, uint64_t offset);
/*
 * Copies the same bytes into another file, the fastest way; an injected write failure applies.
 * Returns how many, at least one; 0 at the end of the file; -EOPNOTSUPP: not supported between
 * these two files.
 */
int sys_copy_range(int from, int to, uint64_t offset, uint64_t bytes);
/*
 * Copies all of it by sharing blocks (FICLONE, an ioctl); -EOPNOTSUPP: not supported between these
 * two files.
 */
int sys_reflink(int from, int to);
int sys_fdatasync(int fd);
/* The disk may begin with these bytes; whether they are on it, only sys_fdatasync() says. */
void sys_write_back(int fd, uint64_t offset, uint64_t bytes);
int sys_fsync_directory_of(const char *path);
int sys_truncate(int fd, uint64_t bytes);
/* Give these bytes back to the file system; they read as zeros. -EOPNOTSUPP: it cannot. */
int sys_punch(int fd, uint64_t offset, uint64_t bytes);
int sys_mprotect(void *address, size_t bytes, int protection);
int sys_advise(void *address, size_t bytes, int advice);
int sys_ioctl(int fd, unsigned long request, void *argument);
/*
 * Does not retry EINTR: for those whose argument says how far they got, which a second call would
 * overwrite.
 */
int sys_ioctl_once(int fd, unsigned long request, void *argument);
/* Memory with a descriptor: never executable, closed by exec. */
int sys_memfd(const char *name);

/* Linux of that version or of a later one, as far as it tells. */
bool sys_kernel_is(unsigned major, unsigned minor);

uint64_t sys_monotonic_ns(void);
uint64_t sys_realtime_ns(void);

#endif
