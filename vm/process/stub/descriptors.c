// SPDX-License-Identifier: MIT
/*
 * descriptors.c - the stub's descriptors stay open whatever the program closes, and the program may have any number that
 * it wants.
 *
 * Programs close what they do not know: daemons all descriptors, others those that they once have opened before a
 * restore. And dup2(2) may ask for the very number that one of ours has.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <unistd.h>

#include "process/stub/gate.h"
#include "process/stub/output.h"

static int stub_return_errno(int64_t result)
{
	if (!raw_failed(result))
		return (int)result;
	errno = (int)-result;
	return -1;
}

static bool stub_is_ours(int fd)
{
	return fd >= 0 && stub_active() && (fd == stub_memory.socket || fd == stub_memory.uffd);
}

/* The program wants this number for itself. */
static void stub_make_way(int fd)
{
	/* A child of vfork(2) has descriptors of its own, and the guest's memory: there ours may just go. */
	if (raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0) != CONTROL->pid)
		return;
	for (int to = fd - 1; to > 2; to--) {
		if (raw_call(SYS_fcntl, (uint64_t)to, F_GETFD, 0, 0, 0, 0) != -EBADF)
			continue;
		if (raw_failed(gate_call(SYS_dup3, (uint64_t)fd, (uint64_t)to, O_CLOEXEC, 0, 0, 0)))
			return;
		if (fd == stub_memory.uffd)
			stub_memory.uffd = to;
		if (fd == stub_memory.socket)
			stub_memory.socket = CONTROL->socket = to;
		return;
	}
}

/* The call that closes or replaces one number (`fd`). */
static int64_t stub_replace(int fd, long number, uint64_t a, uint64_t b, uint64_t c)
{
	struct closing closing = output_closing((unsigned)fd, (unsigned)fd);
	int64_t result = output_close_call(closing, number, a, b, c);

	output_closed(closing);
	return result;
}

/* Not of ours. */
STUB_PUBLIC int close(int fd)
{
	if (stub_is_ours(fd))
		return stub_return_errno(-EBADF);
	if (!output_on())
		return stub_real()->close(fd);
	pthread_testcancel();
	return stub_return_errno(stub_replace(fd, SYS_close, (uint64_t)fd, 0, 0));
}

STUB_PUBLIC int __close(int fd) __attribute__((alias("close")));

/* Around ours, in output_closing(). That they are close-on-exec they are anyway. */
static int64_t stub_close_around(struct closing closing, unsigned first, unsigned last, int flags)
{
	int ours[] = {stub_memory.socket, stub_memory.uffd};

	if (stub_active() && !(flags & CLOSE_RANGE_CLOEXEC))
		for (int i = 0; i < 2; i++) {
			unsigned fd = (unsigned)ours[i];
			int64_t result = 0;

			if (ours[i] < 0 || fd < first || fd > last)
				continue;
			if (fd > first)
				result = stub_close_around(closing, first, fd - 1, flags);
			if (!result && fd < last)
				result = stub_close_around(closing, fd + 1, last, flags);
			return result;
		}
	return output_close_call(closing, SYS_close_range, first, last, (uint64_t)flags);
}

static int64_t stub_close_range(unsigned first, unsigned last, int flags)
{
	struct closing closing;
	int64_t result;

	if (flags & CLOSE_RANGE_UNSHARE && !output_thread.vforked)
		output_off();
	/* The other flag closes nothing. */
	if (flags & CLOSE_RANGE_CLOEXEC)
		return raw_call(SYS_close_range, first, last, (uint64_t)flags, 0, 0, 0);
	closing = output_closing(first, last);
	result = stub_close_around(closing, first, last, flags);
	output_closed(closing);
	return result;
}

STUB_PUBLIC int close_range(unsigned first, unsigned last, int flags)
{
	return stub_return_errno(first > last ? -EINVAL : stub_close_range(first, last, flags));
}

STUB_PUBLIC void closefrom(int first)
{
	struct rlimit limit = {.rlim_cur = CONTROL_FD_END};

	if (first < 0)
		first = 0;
	if (!stub_close_range((unsigned)first, ~0u, 0))
		return;
	getrlimit(RLIMIT_NOFILE, &limit); /* before Linux 5.9 */
	for (int fd = first; fd < (int)limit.rlim_cur; fd++)
		if (!stub_is_ours(fd))
			stub_replace(fd, SYS_close, (uint64_t)fd, 0, 0);
}

/* The program does not know ours, and gets the number that it wants. */
STUB_PUBLIC int dup3(int from, int to, int flags)
{
	if (stub_is_ours(from))
		return stub_return_errno(-EBADF);
	if (stub_is_ours(to))
		stub_make_way(to);
	return stub_return_errno(
		stub_replace(to, SYS_dup3, (uint64_t)from, (uint64_t)to, (uint64_t)flags));
}

STUB_PUBLIC int dup2(int from, int to)
{
	if (from == to) /* it is only asked whether it is open; dup3(2) refuses that */
		return fcntl(from, F_GETFD) < 0 ? -1 : to;
	return dup3(from, to, 0);
}

STUB_PUBLIC int __dup2(int from, int to) __THROW __attribute__((alias("dup2")));

/*
 * libuv closes by syscall(2), so that it is no cancellation point; and its rings of io_uring are memory that is shared
 * with the kernel, which no image has: libuv does without when there is none.
 */
STUB_PUBLIC long syscall(long number, ...)
{
	uint64_t arguments[6];
	int64_t result;
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(list, uint64_t);
	va_end(list);
	if (stub_active())
		switch (number) {
		case SYS_io_uring_setup:
			return stub_return_errno(-ENOSYS);
		case SYS_close:
			if (stub_is_ours((int)arguments[0]))
				return stub_return_errno(-EBADF);
			return stub_return_errno(
				stub_replace((int)arguments[0], SYS_close, arguments[0], 0, 0));
		case SYS_close_range:
			return close_range((unsigned)arguments[0], (unsigned)arguments[1],
					   (int)arguments[2]);
		case SYS_execve:
			return execve((const char *)arguments[0], (char *const *)arguments[1],
				      (char *const *)arguments[2]);
		case SYS_dup2:
			return dup2((int)arguments[0], (int)arguments[1]);
		case SYS_dup3:
			if (arguments[0] == arguments[1])
				break;
			return dup3((int)arguments[0], (int)arguments[1], (int)arguments[2]);
		case SYS_getpid:
			return stub_seen_pid();
		case SYS_gettid:
			return stub_seen_tid();
		case SYS_tgkill:
			arguments[1] = (uint64_t)stub_tid_now((int32_t)arguments[1]);
			if ((int32_t)arguments[0] == stub_memory.remembered_pid)
				arguments[0] = (uint64_t)raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
			break;
		case SYS_tkill:
			arguments[0] = (uint64_t)stub_tid_now((int32_t)arguments[0]);
			break;
		default:
			break;
		}
	if (!output_system_call(number, arguments, &result))
		result = raw_call(number, arguments[0], arguments[1], arguments[2], arguments[3],
				  arguments[4], arguments[5]);
	if (raw_failed(result)) {
		errno = (int)-result;
		return -1;
	}
	return result;
}
