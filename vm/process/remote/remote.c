// SPDX-License-Identifier: MIT
/*
 * remote.c - the supervisor's half of remote.h: the control block, batches, descriptors and memory of the guest.
 *
 * The guest may be killed at any moment. Who waits for it therefore waits for a while only, and then looks whether it
 * is still there; a guest that is alive may take as long as it wants (it may be stopped by SIGSTOP).
 */
#define _GNU_SOURCE /* memfd_create(), process_vm_readv() */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/remote/remote.h"
#include "process/stub/embedded.h"

/* After so long without an answer: is the guest still there? */
#define LOOK_NS 20000000
/* A call or two are made within this many looks: cheaper than sleeping. */
#define SPINS 200

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

/* Where a limit forbids that (ulimit -f), nobody is sent SIGXFSZ. */
static int resize(int fd, size_t bytes)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur >= bytes)
		return ftruncate(fd, (off_t)bytes);
	errno = EFBIG;
	return -1;
}

int remote_create(struct remote *remote, int *guest_socket, struct thaw_error *error)
{
	int pair[2];

	*remote = (struct remote){
		.control = MAP_FAILED, .control_fd = -1, .pidfd = -1, .socket = -1, .memory = -1};
	*guest_socket = -1;
	remote->control_fd = memfd_create("thaw-control", MFD_CLOEXEC);
	if (remote->control_fd < 0 || resize(remote->control_fd, sizeof(struct control)))
		goto fail;
	remote->control = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED,
			       remote->control_fd, 0);
	if (remote->control == MAP_FAILED)
		goto fail;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		goto fail;
	remote->socket = pair[0];
	*guest_socket = pair[1];
	remote->control->magic = CONTROL_MAGIC;
	remote->control->version = CONTROL_VERSION;
	remote->control->places = PLACES_CLOSED;
	remote->control->socket = -1;
	return 0;
fail:
	if (errno == EFBIG)
		failure(error, THAW_EKERNEL,
			"ulimit -f is lower than the %zu MiB that are shared with the program's "
			"process: raise it",
			(sizeof(struct control) >> 20) + 1);
	else
		failure(error, -errno,
			"cannot make the memory that is shared with the program's process: %s",
			strerror(errno));
	remote_close(remote);
	return error ? error->code : -EIO;
}

int remote_attach(struct remote *remote, pid_t pid, int pidfd, struct thaw_error *error)
{
	char path[32];

	(void)error;
	remote->pid = pid;
	remote->pidfd = pidfd;
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	remote->memory = open(path, O_RDWR | O_CLOEXEC);
	return 0;
}

void remote_close(struct remote *remote)
{
	if (remote->control != MAP_FAILED && remote->control)
		munmap(remote->control, sizeof(struct control));
	if (remote->control_fd >= 0)
		close(remote->control_fd);
	if (remote->pidfd >= 0)
		close(remote->pidfd);
	if (remote->socket >= 0)
		close(remote->socket);
	if (remote->memory >= 0)
		close(remote->memory);
	*remote = (struct remote){
		.control = NULL, .control_fd = -1, .pidfd = -1, .socket = -1, .memory = -1};
}

/* A program of ours, which a guest will execute or load. */
int remote_memfd(const char *name, const uint8_t *from, size_t bytes)
{
	size_t done = 0;
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_EXEC);

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC);
	while (fd >= 0 && done < bytes) {
		ssize_t written = write(fd, from + done, bytes - done);

		if (written < 0 && errno != EINTR) {
			int saved = errno;

			close(fd);
			errno = saved;
			return -1;
		}
		done += written > 0 ? (size_t)written : 0;
	}
	return fd;
}

/* ---- Arguments */

uint64_t remote_room(struct remote *remote, size_t bytes, void **here)
{
	size_t at = remote->used;

	if (at + remote->apart > CONTROL_DATA_BYTES ||
	    bytes > CONTROL_DATA_BYTES - remote->apart - at)
		return 0;
	remote->used += (bytes + 7) & ~(size_t)7; /* all of it is a multiple of 8, too */
	if (here)
		*here = remote->control->data + at;
	return CONTROL_ADDRESS + offsetof(struct control, data) + at;
}

uint64_t remote_copy(struct remote *remote, const void *data, size_t bytes)
{
	void *here;
	uint64_t there = remote_room(remote, bytes, &here);

	if (there)
		memcpy(here, data, bytes);
	return there;
}

uint64_t remote_string(struct remote *remote, const char *text)
{
	return remote_copy(remote, text, strlen(text) + 1);
}

void remote_forget(struct remote *remote)
{
	remote->used = 0;
}

uint64_t remote_room_apart(struct remote *remote, size_t bytes, void **here)
{
	size_t room = (bytes + 7) & ~(size_t)7;

	remote->apart = 0;
	if (!bytes || room > CONTROL_DATA_BYTES - remote->used)
		return 0;
	remote->apart = room;
	*here = remote->control->data + CONTROL_DATA_BYTES - room;
	return CONTROL_ADDRESS + offsetof(struct control, data) + CONTROL_DATA_BYTES - room;
}

void remote_settle(struct remote *remote)
{
	void (*settle)(void *arg) = remote->settle;

	remote->settle = NULL;
	if (settle)
		settle(remote->settle_arg);
}

/* ---- Waiting */

bool remote_alive(const struct remote *remote)
{
	struct pollfd gone = {.fd = remote->pidfd, .events = POLLIN};

	return remote->pidfd >= 0 && poll(&gone, 1, 0) == 0;
}

void remote_futex_wait(const uint32_t *word, uint32_t seen, uint64_t ns)
{
	struct timespec time = {.tv_sec = (time_t)(ns / 1000000000),
				.tv_nsec = (long)(ns % 1000000000)};

	syscall(SYS_futex, word, FUTEX_WAIT, seen, &time, NULL, 0);
}

void remote_futex_wake(const uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* ---- Calls */

struct call *remote_add(struct remote *remote, unsigned thread, int64_t number, uint64_t a,
			uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	struct mailbox *mailbox = &remote->control->mailboxes[thread];
	uint32_t count;

	remote_settle(remote);
	/* Once: the guest can write here, too. */
	count = __atomic_load_n(&mailbox->count, __ATOMIC_RELAXED);
	if (count >= CONTROL_CALLS)
		return NULL;
	mailbox->calls[count] =
		(struct call){.number = number, .arguments = {a, b, c, d, e, f}, .result = -EIO};
	__atomic_store_n(&mailbox->count, count + 1, __ATOMIC_RELAXED);
	return &mailbox->calls[count];
}

int remote_post(struct remote *remote, unsigned thread)
{
	struct mailbox *mailbox = &remote->control->mailboxes[thread];

	__atomic_store_n(&mailbox->state, MAILBOX_POSTED, __ATOMIC_SEQ_CST);
	remote_futex_wake(&mailbox->state);
	return 0;
}

int remote_wait(struct remote *remote, unsigned thread)
{
	struct mailbox *mailbox = &remote->control->mailboxes[thread];

	for (unsigned i = 0; i < SPINS; i++) {
		if (__atomic_load_n(&mailbox->state, __ATOMIC_SEQ_CST) != MAILBOX_POSTED)
			return 0;
#ifdef __x86_64__
		__builtin_ia32_pause();
#endif
	}
	while (__atomic_load_n(&mailbox->state, __ATOMIC_SEQ_CST) == MAILBOX_POSTED) {
		remote_futex_wait(&mailbox->state, MAILBOX_POSTED, LOOK_NS);
		if (__atomic_load_n(&mailbox->state, __ATOMIC_SEQ_CST) == MAILBOX_POSTED &&
		    !remote_alive(remote))
			return -ESRCH;
	}
	return 0;
}

int remote_run(struct remote *remote, unsigned thread)
{
	remote_post(remote, thread);
	return remote_wait(remote, thread);
}

int64_t remote_call(struct remote *remote, unsigned thread, int64_t number, uint64_t a, uint64_t b,
		    uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	struct call *call = remote_add(remote, thread, number, a, b, c, d, e, f);

	if (!call)
		return -ENOBUFS;
	if (remote_run(remote, thread))
		return -ESRCH;
	return call->result;
}

/* ---- The socket */

/* The program is about to execute another one, which the stub is to be in. */
static void remote_give_descriptors(struct remote *remote, const struct request *request)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} ancillary = {.header = {.cmsg_len = CMSG_LEN(2 * sizeof(int)),
				  .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS}};
	struct answer answer = {.number = request->number};
	struct iovec data = {.iov_base = &answer, .iov_len = sizeof(answer)};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
	int fds[2] = {remote->control_fd,
		      remote_memfd("thaw-stub", process_stub, process_stub_bytes)};

	if (fds[1] < 0) {
		answer.code = -errno;
	} else {
		memcpy(CMSG_DATA(&ancillary.header), fds, sizeof(fds));
		message.msg_control = &ancillary;
		message.msg_controllen = sizeof(ancillary);
	}
	if (sendmsg(remote->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		remote_answer(remote, &(struct answer){.number = request->number, .code = -errno});
	if (fds[1] >= 0)
		close(fds[1]);
}

/* A packet: a request is kept for later, and 0; a descriptor that came with it. -EAGAIN: there is none. */
static int remote_receive(struct remote *remote)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} ancillary;
	struct request request;
	struct iovec data = {.iov_base = &request, .iov_len = sizeof(request)};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = &ancillary,
				 .msg_controllen = sizeof(ancillary)};
	ssize_t got;
	int fd;

	do
		got = recvmsg(remote->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		return got < 0 ? -errno : -ESRCH;
	if (message.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    ancillary.header.cmsg_level == SOL_SOCKET && ancillary.header.cmsg_type == SCM_RIGHTS) {
		memcpy(&fd, CMSG_DATA(&ancillary.header), sizeof(fd));
		return fd;
	}
	if (got == sizeof(request) && request.kind == REQUEST_DESCRIPTORS)
		remote_give_descriptors(remote, &request);
	else if (got == sizeof(request) && remote->request_count < REMOTE_REQUESTS)
		remote->requests[remote->request_count++] = request;
	return 0;
}

int remote_take_fd(struct remote *remote, unsigned thread, int fd)
{
	struct {
		struct msghdr message;
		struct iovec data;
		uint64_t ancillary[CMSG_SPACE(sizeof(int)) / sizeof(uint64_t)];
		char byte;
	} * here;
	uint64_t there = remote_room(remote, sizeof(*here), (void **)&here);
	struct cmsghdr *header;
	int64_t result;
	int taken;

	if (!there)
		return -ENOBUFS;
	memset(here, 0, sizeof(*here));
	here->message.msg_iov = (void *)(there + ((char *)&here->data - (char *)here));
	here->message.msg_iovlen = 1;
	here->message.msg_control = (void *)(there + ((char *)here->ancillary - (char *)here));
	here->message.msg_controllen = sizeof(here->ancillary);
	here->data.iov_base = (void *)(there + ((char *)&here->byte - (char *)here));
	here->data.iov_len = 1;
	header = (struct cmsghdr *)here->ancillary;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	/* Whoever moved the socket said so. What is queued before it are at most a few requests. */
	result = remote_call(remote, thread, SYS_sendmsg, (uint64_t)remote->control->socket, there,
			     MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0, 0);
	if (result < 0)
		return (int)result;
	do
		taken = remote_receive(remote);
	while (!taken);
	return taken == -EAGAIN ? -EIO : taken;
}

bool remote_next_request(struct remote *remote, struct request *request)
{
	if (!remote->request_count && remote->socket >= 0) {
		int fd = remote_receive(remote);

		if (fd > 0)
			close(fd); /* nobody asked for it */
	}
	if (!remote->request_count)
		return false;
	*request = remote->requests[0];
	request->name[sizeof(request->name) - 1] = '\0';
	memmove(remote->requests, remote->requests + 1,
		--remote->request_count * sizeof(*remote->requests));
	return true;
}

void remote_answer(struct remote *remote, const struct answer *answer)
{
	if (remote->socket >= 0 &&
	    send(remote->socket, answer, sizeof(*answer), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

/* ---- Memory of the guest */

/* /proc/PID/mem, also of a guest that this process may not look into: its own thread opens it, and hands it over. */
static int remote_memory(struct remote *remote)
{
	size_t used = remote->used;
	uint64_t path;
	int64_t fd;

	if (remote->memory >= 0)
		return 0;
	if (__atomic_load_n(&remote->control->mailboxes[0].state, __ATOMIC_SEQ_CST) !=
	    MAILBOX_PARKED)
		return -EPERM;
	path = remote_string(remote, "/proc/self/mem");
	fd = path ? remote_call(remote, 0, SYS_openat, (uint64_t)AT_FDCWD, path, O_RDWR | O_CLOEXEC,
				0, 0, 0)
		  : -ENOBUFS;
	if (fd >= 0) {
		remote->memory = remote_take_fd(remote, 0, (int)fd);
		remote_call(remote, 0, SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
		fd = remote->memory < 0 ? remote->memory : 0;
	}
	remote->used = used;
	return (int)fd;
}

/* What process_vm_readv(2) does not do: protected memory, and all where it is not allowed. */
static int remote_transfer(struct remote *remote, bool out, uint64_t address, char *here,
			   size_t bytes)
{
	int result = remote_memory(remote);

	if (result)
		return result;
	while (bytes) {
		ssize_t done = out ? pwrite(remote->memory, here, bytes, (off_t)address)
				   : pread(remote->memory, here, bytes, (off_t)address);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			if (!remote_alive(remote))
				return -ESRCH;
			return done < 0 && errno != EIO ? -errno : -EFAULT;
		}
		here += done;
		address += (uint64_t)done;
		bytes -= (size_t)done;
	}
	return 0;
}

int remote_read(struct remote *remote, uint64_t address, void *to, size_t bytes)
{
	struct iovec here = {.iov_base = to, .iov_len = bytes},
		     there = {.iov_base = (void *)address, .iov_len = bytes};
	ssize_t done = process_vm_readv(remote->pid, &here, 1, &there, 1, 0);

	if (done == (ssize_t)bytes)
		return 0;
	if (done < 0 && errno == ESRCH)
		return -ESRCH;
	done = done < 0 ? 0 : done;
	return remote_transfer(remote, false, address + (uint64_t)done, (char *)to + done,
			       bytes - (size_t)done);
}

#define PIECES 64u

/* Did one call read all of them? */
static bool read_at_once(struct remote *remote, struct remote_piece *pieces, size_t count)
{
	struct iovec here[PIECES], there[PIECES];
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++) {
		here[i] = (struct iovec){pieces[i].to, pieces[i].bytes};
		there[i] = (struct iovec){(void *)pieces[i].address, pieces[i].bytes};
		bytes += pieces[i].bytes;
		pieces[i].code = 0;
	}
	return process_vm_readv(remote->pid, here, count, there, count, 0) == (ssize_t)bytes;
}

void remote_read_pieces(struct remote *remote, struct remote_piece *pieces, size_t count)
{
	for (size_t i = 0; i < count; i += PIECES) {
		size_t some = count - i < PIECES ? count - i : PIECES;

		if (read_at_once(remote, pieces + i, some))
			continue;
		for (size_t k = i; k < i + some; k++)
			pieces[k].code = remote_read(remote, pieces[k].address, pieces[k].to,
						     pieces[k].bytes);
	}
}

int remote_write(struct remote *remote, uint64_t address, const void *from, size_t bytes)
{
	struct iovec here = {.iov_base = (void *)from, .iov_len = bytes},
		     there = {.iov_base = (void *)address, .iov_len = bytes};
	ssize_t done = process_vm_writev(remote->pid, &here, 1, &there, 1, 0);

	if (done == (ssize_t)bytes)
		return 0;
	if (done < 0 && errno == ESRCH)
		return -ESRCH;
	done = done < 0 ? 0 : done;
	return remote_transfer(remote, true, address + (uint64_t)done, (char *)from + done,
			       bytes - (size_t)done);
}
