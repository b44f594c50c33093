/* SPDX-License-Identifier: MIT */
/* sys.c - see sys.h. Any thread. */
#define _GNU_SOURCE
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "compat.h"
#include "fill.h"

int sys_open(const char *path, int flags, unsigned mode)
{
	int fd = sys_injected(SYS_CALL_OPEN);

	if (fd)
		return fd;
	do
		fd = open(path, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

int sys_pread(int fd, void *buffer, size_t bytes, uint64_t offset)
{
	char *at = buffer;
	int error = sys_injected(SYS_CALL_READ);

	if (!error)
		error = fill_need(fd, offset, bytes);
	if (error)
		return error;
	while (bytes) {
		ssize_t got = pread(fd, at, bytes, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			return -ENODATA;
		at += got;
		bytes -= (size_t)got;
		offset += (uint64_t)got;
	}
	return 0;
}

int sys_pread_cached(int fd, void *buffer, size_t bytes, uint64_t offset)
{
	struct iovec vector = {buffer, bytes};
	int error = sys_injected(SYS_CALL_CACHED);
	ssize_t got;

	if (error)
		return error;
	if (!fill_has(fd, offset, bytes))
		return -EAGAIN;
	do
		got = preadv2(fd, &vector, 1, (off_t)offset, RWF_NOWAIT);
	while (got < 0 && errno == EINTR);
	/* 0 is the end of the file, or (5.9, 5.10) what others answer with EAGAIN. */
	if (!got || (got < 0 && errno == EAGAIN))
		return -EAGAIN;
	return got < 0 ? -EOPNOTSUPP : (int)got;
}

bool sys_is_cached(int fd, uint64_t offset, uint64_t bytes)
{
	struct {
		uint64_t offset, bytes;
	} range = {offset, bytes};
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} answer = {0};

	if (!fill_has(fd, offset, bytes))
		return false;
	if (syscall(SYS_cachestat, fd, &range, &answer, 0))
		return true;
	return answer.cached * (uint64_t)sysconf(_SC_PAGESIZE) >= bytes;
}

int sys_pwrite(int fd, const void *buffer, size_t bytes, uint64_t offset)
{
	const char *at = buffer;
	int error = sys_injected(SYS_CALL_WRITE);

	if (!error)
		error = fill_writes(fd, offset, bytes);
	if (error)
		return error;
	while (bytes) {
		ssize_t put = pwrite(fd, at, bytes, (off_t)offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		if (!put)
			return -EIO;
		at += put;
		bytes -= (size_t)put;
		offset += (uint64_t)put;
	}
	return 0;
}

/* The errors of file systems, and of the kernel for them, that cannot do it with these files. */
static int cannot(int error)
{
	return error == EXDEV || error == EINVAL || error == ENOSYS || error == ENOTTY ||
			       error == EOPNOTSUPP || error == ETXTBSY
		       ? -EOPNOTSUPP
		       : -error;
}

int sys_copy_range(int from, int to, uint64_t offset, uint64_t bytes)
{
	off_t in = (off_t)offset, out = (off_t)offset;
	int error = sys_injected(SYS_CALL_WRITE);
	ssize_t copied;

	if (!error)
		error = fill_writes(to, offset, bytes);
	if (error)
		return error;
	do
		copied = copy_file_range(from, &in, to, &out, bytes, 0);
	while (copied < 0 && errno == EINTR);
	return copied < 0 ? cannot(errno) : (int)copied;
}

int sys_reflink(int from, int to)
{
	int error = sys_injected(SYS_CALL_IOCTL), code;

	if (error)
		return cannot(-error);
	do
		code = ioctl(to, FICLONE, from);
	while (code < 0 && errno == EINTR);
	return code < 0 ? cannot(errno) : 0;
}

int sys_fdatasync(int fd)
{
	int error = sys_injected(SYS_CALL_FDATASYNC);

	if (error)
		return error;
	/* Not retried on EINTR: after a failed sync nothing it covered counts as durable. */
	return fdatasync(fd) ? -errno : 0;
}

int sys_fsync_directory_of(const char *path)
{
	char copy[PATH_MAX];
	int fd, error = 0;

	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
		return -ENAMETOOLONG;
	fd = sys_open(dirname(copy), O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	/* Some file systems do not sync directories and say so; they promise nothing more. */
	if (fsync(fd) && errno != EINVAL && errno != ENOTSUP)
		error = -errno;
	close(fd);
	return error;
}

int sys_truncate(int fd, uint64_t bytes)
{
	int error = sys_injected(SYS_CALL_TRUNCATE);
	struct stat stat;

	if (!error && fill_any() && !fstat(fd, &stat) && (uint64_t)stat.st_size > bytes)
		error = fill_writes(fd, bytes, (uint64_t)stat.st_size - bytes);
	if (error)
		return error;
	do
		error = ftruncate(fd, (off_t)bytes);
	while (error && errno == EINTR);
	return error ? -errno : 0;
}

void sys_write_back(int fd, uint64_t offset, uint64_t bytes)
{
	(void)sync_file_range(fd, (off_t)offset, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
}

int sys_punch(int fd, uint64_t offset, uint64_t bytes)
{
	int error = sys_injected(SYS_CALL_PUNCH);

	if (!error)
		error = fill_writes(fd, offset, bytes);
	if (error)
		return error;
	do
		error = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
				  (off_t)bytes);
	while (error && errno == EINTR);
	return error ? -errno : 0;
}

int sys_mprotect(void *address, size_t bytes, int protection)
{
	int error = sys_injected(SYS_CALL_MPROTECT);

	if (error)
		return error;
	return mprotect(address, bytes, protection) ? -errno : 0;
}

int sys_advise(void *address, size_t bytes, int advice)
{
	int error = sys_injected(SYS_CALL_ADVISE);

	if (error)
		return error;
	return madvise(address, bytes, advice) ? -errno : 0;
}

int sys_ioctl_once(int fd, unsigned long request, void *argument)
{
	int result = sys_injected(SYS_CALL_IOCTL);

	if (result)
		return result;
	result = ioctl(fd, request, argument);
	return result < 0 ? -errno : result;
}

int sys_ioctl(int fd, unsigned long request, void *argument)
{
	int result = sys_injected(SYS_CALL_IOCTL);

	if (result)
		return result;
	do
		result = ioctl(fd, request, argument);
	while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : result;
}

int sys_memfd(const char *name)
{
	/* Where vm.memfd_noexec is 2, only those that say so may be made; before Linux 6.3, none may. */
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool sys_kernel_is(unsigned major, unsigned minor)
{
	struct utsname kernel;
	unsigned its_major, its_minor;

	return !uname(&kernel) && sscanf(kernel.release, "%u.%u", &its_major, &its_minor) == 2 &&
	       (its_major > major || (its_major == major && its_minor >= minor));
}

uint64_t sys_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t sys_realtime_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}
