/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * told_guest.h - a guest for tests: a forked child that does to its memory what it is told over a socket, so it is stopped
 * whenever it is not told anything.
 */
#ifndef TESTS_TOLD_GUEST_H
#define TESTS_TOLD_GUEST_H

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "support.h"

#define PAGE 4096ull

enum order {
	MAP,
	UNMAP,
	FILL,
	GIVE_UP,
	MOVE,
	PROTECT,
	SUM,
	USERFAULTFD,
	MAP_FROM_FILE,
	CHURN,
	DIE
};

struct request {
	enum order order;
	uint64_t a, b, c, d;
};

struct guest {
	pid_t pid;
	int socket, userfaultfd;
};

SUPPORT void fill(uint64_t address, uint64_t bytes, uint64_t seed)
{
	for (uint64_t *at = (uint64_t *)address, *end = at + bytes / 8; at < end; at += PAGE / 16)
		*at = (uint64_t)at * 0x9e3779b97f4a7c15ull + seed;
}

SUPPORT uint64_t sum(uint64_t address, uint64_t bytes)
{
	uint64_t result = 0;

	for (const uint64_t *at = (uint64_t *)address, *end = at + bytes / 8; at < end; at++)
		result = (result ^ *at) * 0x100000001b3ull + 1;
	return result;
}

SUPPORT uint64_t make_userfaultfd(int flags, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int fd = (int)syscall(SYS_userfaultfd, flags);

	return fd < 0 || ioctl(fd, UFFDIO_API, &api) ? UINT64_MAX : (uint64_t)fd;
}

SUPPORT uint64_t map(uint64_t address, uint64_t bytes, int protection, int fd)
{
	int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
	void *at = mmap((void *)address, bytes, protection, flags, fd, 0);

	if (at == MAP_FAILED)
		return (uint64_t)errno;
	madvise(at, bytes, MADV_NOHUGEPAGE);
	return 0;
}

SUPPORT uint64_t obey(const struct request *request)
{
	uint64_t a = request->a, b = request->b, c = request->c, d = request->d;

	switch (request->order) {
	case MAP:
		return map(a, b, (int)c, -1);
	case MAP_FROM_FILE:
		return map(a, b, (int)c, (int)d);
	case UNMAP:
		return (uint64_t)munmap((void *)a, b);
	case FILL:
		fill(a, b, c);
		return 0;
	case GIVE_UP:
		return (uint64_t)madvise((void *)a, b, (int)c);
	case MOVE:
		return mremap((void *)a, b, c, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)d) ==
				       (void *)d
			       ? 0
			       : (uint64_t)errno;
	case PROTECT:
		return (uint64_t)mprotect((void *)a, b, (int)c);
	case SUM:
		return sum(a, b);
	case USERFAULTFD:
		return make_userfaultfd((int)a, b);
	case CHURN: /* until it is killed */
		for (uint64_t seed = 0;; seed++) {
			fill(a, b, seed);
			if (c && seed % 4 == 3)
				madvise((void *)a, b / 2, MADV_DONTNEED);
		}
	case DIE:
		_exit(0);
	}
	return UINT64_MAX;
}

SUPPORT void guest_main(int socket)
{
	struct request request;
	uint64_t answer;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(socket, &request, sizeof(request)) == sizeof(request)) {
		answer = obey(&request);
		if (write(socket, &answer, sizeof(answer)) != sizeof(answer))
			break;
	}
	_exit(0);
}

SUPPORT void guest_start(struct guest *guest)
{
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		support_die("socketpair");
	guest->userfaultfd = -1;
	guest->socket = sockets[0];
	guest->pid = fork();
	if (!guest->pid) {
		close(sockets[0]);
		guest_main(sockets[1]);
	}
	close(sockets[1]);
}

SUPPORT void guest_order(struct guest *guest, enum order order, uint64_t a, uint64_t b, uint64_t c,
			 uint64_t d)
{
	struct request request = {order, a, b, c, d};

	if (write(guest->socket, &request, sizeof(request)) != sizeof(request))
		support_die("cannot tell the guest");
}

/* And it is stopped again. */
SUPPORT uint64_t guest_does(struct guest *guest, enum order order, uint64_t a, uint64_t b,
			    uint64_t c, uint64_t d)
{
	uint64_t answer;

	guest_order(guest, order, a, b, c, d);
	if (read(guest->socket, &answer, sizeof(answer)) != sizeof(answer))
		support_die("the guest does not answer");
	return answer;
}

/* By its file: a filter of a container's forbids process_vm_readv(2). */
SUPPORT bool guest_shows(const struct guest *guest, uint64_t address, uint8_t *to, size_t bytes)
{
	char *path = support_format("/proc/%d/mem", (int)guest->pid);
	int memory = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	ssize_t part = 1;

	free(path);
	for (; memory >= 0 && part > 0 && done<bytes; done += part> 0 ? (size_t)part : 0)
		part = pread(memory, to + done, bytes - done, (off_t)(address + done));
	if (memory >= 0)
		close(memory);
	return done == bytes;
}

SUPPORT void guest_end(struct guest *guest)
{
	if (guest->pid > 0) {
		kill(guest->pid, SIGKILL);
		waitpid(guest->pid, NULL, 0);
		close(guest->socket);
	}
	guest->pid = 0;
}

#endif
