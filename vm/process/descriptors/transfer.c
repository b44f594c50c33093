/* SPDX-License-Identifier: MIT */
/*
 * transfer.c - descriptors from the guest into the supervisor, and back.
 *
 * Into the supervisor by pidfd_getfd(2), which no thread of the guest has to wake up for; where yama or a sandbox
 * does not allow that, and always into the guest, over a pair of sockets of their own: its parked thread sends or
 * receives up to 253 with one call (SCM_RIGHTS). The channel's end in the guest is gone when these functions
 * return. The owner's thread.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/descriptors/descriptors.h"

struct descriptors_forbidden descriptors_forbidden;

#define AT_ONCE 253u /* the kernel's SCM_MAX_FD */

struct channel {
	struct process *process;
	unsigned mailbox;
	int here, there; /* the end in this process, the number of the one in the guest */
};

/* What a message with descriptors consists of, in memory that both see. */
struct letter {
	struct msghdr head;
	struct iovec piece;
	char byte[8];
	char control[CMSG_SPACE(AT_ONCE * sizeof(int))] __attribute__((aligned(16)));
};

static int64_t channel_call(struct channel *channel, int64_t number, uint64_t a, uint64_t b,
			    uint64_t c, uint64_t d)
{
	return descriptor_call(channel->process, channel->mailbox, number, a, b, c, d);
}

static int channel_open(struct channel *channel, struct process *process, unsigned mailbox)
{
	struct remote *remote = &process->remote;
	int64_t code = -ENOBUFS;
	int *pair;
	uint64_t room;

	*channel = (struct channel){process, mailbox, -1, -1};
	remote_forget(remote);
	room = remote_room(remote, 2 * sizeof(int), (void **)&pair);
	if (room)
		code = channel_call(channel, __NR_socketpair, AF_UNIX,
				    SOCK_SEQPACKET | SOCK_CLOEXEC, 0, room);
	if (code < 0)
		return (int)code;
	channel->there = pair[1];
	channel->here = remote_take_fd(remote, mailbox, pair[0]);
	channel_call(channel, __NR_close, (uint64_t)pair[0], 0, 0, 0);
	return channel->here < 0 ? channel->here : 0;
}

static void channel_close(struct channel *channel)
{
	if (channel->there >= 0)
		channel_call(channel, __NR_close, (uint64_t)channel->there, 0, 0, 0);
	if (channel->here >= 0)
		close(channel->here);
}

/* `base`: where this letter is for whoever sends or receives it. */
static void letter_address(struct letter *letter, uint64_t base, size_t count)
{
	memset(letter, 0, offsetof(struct letter, control));
	letter->piece.iov_base = (void *)(base + offsetof(struct letter, byte));
	letter->piece.iov_len = 1;
	letter->head.msg_iov = (void *)(base + offsetof(struct letter, piece));
	letter->head.msg_iovlen = 1;
	letter->head.msg_control = (void *)(base + offsetof(struct letter, control));
	letter->head.msg_controllen = CMSG_SPACE(count * sizeof(int));
}

static void letter_fill(struct letter *letter, const int *fds, size_t count)
{
	struct cmsghdr *head = (struct cmsghdr *)letter->control;

	memset(letter->control, 0, CMSG_SPACE(count * sizeof(int)));
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(head), fds, count * sizeof(int));
}

/* How many descriptors came, all of them or a failure. */
static int letter_read(const struct letter *letter, int *fds, size_t count)
{
	const struct cmsghdr *head = (const struct cmsghdr *)letter->control;

	if (letter->head.msg_flags & MSG_CTRUNC)
		return -EMFILE;
	if (letter->head.msg_controllen < CMSG_LEN(count * sizeof(int)) ||
	    head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
	    head->cmsg_len != CMSG_LEN(count * sizeof(int)))
		return -EPROTO;
	memcpy(fds, CMSG_DATA(head), count * sizeof(int));
	return 0;
}

/* ---- From the guest */

/* What came of a letter that is of no use. */
static void letter_drop(const struct letter *letter)
{
	const struct cmsghdr *head = (const struct cmsghdr *)letter->control;
	const int *fds = (const int *)CMSG_DATA(head);

	if (letter->head.msg_controllen < CMSG_LEN(0) || head->cmsg_type != SCM_RIGHTS)
		return;
	for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= head->cmsg_len; i++)
		close(fds[i]);
}

static int take_some(struct channel *channel, const int *numbers, size_t count, int *here)
{
	struct letter *theirs, mine;
	struct remote *remote = &channel->process->remote;
	uint64_t room;
	int64_t code;

	remote_forget(remote);
	room = remote_room(remote, sizeof(*theirs), (void **)&theirs);
	if (!room)
		return -ENOBUFS;
	letter_address(theirs, room, count);
	letter_fill(theirs, numbers, count);
	code = channel_call(channel, __NR_sendmsg, (uint64_t)channel->there, room, MSG_NOSIGNAL, 0);
	if (code < 0)
		return (int)code;
	letter_address(&mine, (uint64_t)(uintptr_t)&mine, count);
	if (recvmsg(channel->here, &mine.head, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0)
		return -errno;
	code = letter_read(&mine, here, count);
	if (code)
		letter_drop(&mine);
	return (int)code;
}

/* False: not allowed here, and nothing was taken. */
static bool take_by_pidfd(struct process *process, const int *numbers, size_t count, int *here)
{
	if (descriptors_forbidden.getfd)
		return false;
	for (size_t i = 0; i < count; i++) {
		here[i] = (int)syscall(SYS_pidfd_getfd, process->remote.pidfd, numbers[i], 0);
		if (here[i] >= 0)
			continue;
		while (i-- > 0)
			close(here[i]);
		for (i = 0; i < count; i++)
			here[i] = -1;
		return false;
	}
	return true;
}

int descriptors_take(struct process *process, unsigned mailbox, const int *numbers, size_t count,
		     int *here, struct thaw_error *error)
{
	struct channel channel;
	int code;

	if (take_by_pidfd(process, numbers, count, here))
		return 0;
	for (size_t i = 0; i < count; i++)
		here[i] = -1;
	code = channel_open(&channel, process, mailbox);
	for (size_t i = 0; i < count && !code; i += AT_ONCE)
		code = take_some(&channel, numbers + i, count - i < AT_ONCE ? count - i : AT_ONCE,
				 here + i);
	channel_close(&channel);
	for (size_t i = 0; code && i < count; i++)
		if (here[i] >= 0)
			close(here[i]);
	if (code)
		return failure(error, code, "descriptors of process %d: %s",
			       (int)process->remote.pid, thaw_strerror(code));
	return 0;
}

/* ---- Into the guest */

/*
 * Numbers that the process has now, but for 0, 1, 2: ours. One of them that a descriptor of the program's shall get is
 * in the way.
 */
static int ours_apart(struct process *process, const int *numbers, size_t count,
		      struct thaw_error *error)
{
	char path[48];
	const struct dirent *entry;
	DIR *directory;
	int code = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)process->remote.pid);
	directory = opendir(path);
	if (!directory)
		return failure(error, -errno, "%s: %s", path, strerror(errno));
	while (!code && (entry = readdir(directory))) {
		int number = entry->d_name[0] == '.' ? -1 : atoi(entry->d_name);

		for (size_t i = 0; i < count && number > 2 && !code; i++)
			if (numbers[i] == number)
				code = failure(
					error, -EBUSY,
					"descriptor %d is one that thaw needs in the process itself: "
					"raise the limit of descriptors (ulimit -n)",
					number);
	}
	closedir(directory);
	return code;
}

/* The channel's end goes above all that is to come, so that what is received gets the lowest free numbers. */
static int channel_lift(struct channel *channel, int above)
{
	struct rlimit limit;
	pid_t pid = channel->process->remote.pid;
	int64_t high;

	if (!prlimit(pid, RLIMIT_NOFILE, NULL, &limit) && limit.rlim_cur < (rlim_t)above + 64 &&
	    limit.rlim_cur < limit.rlim_max) {
		struct rlimit more = limit;

		more.rlim_cur = limit.rlim_max;
		prlimit(pid, RLIMIT_NOFILE, &more, NULL);
	}
	high = channel_call(channel, __NR_fcntl, (uint64_t)channel->there, F_DUPFD_CLOEXEC,
			    (uint64_t)above, 0);
	prlimit(pid, RLIMIT_NOFILE, &limit, NULL);
	if (high < 0)
		return (int)high;
	channel_call(channel, __NR_close, (uint64_t)channel->there, 0, 0, 0);
	channel->there = (int)high;
	return 0;
}

static int give_some(struct channel *channel, const int *here, size_t count, int *numbers)
{
	struct letter *theirs, mine;
	struct remote *remote = &channel->process->remote;
	uint64_t room;
	int64_t code;

	letter_address(&mine, (uint64_t)(uintptr_t)&mine, count);
	letter_fill(&mine, here, count);
	if (sendmsg(channel->here, &mine.head, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	remote_forget(remote);
	room = remote_room(remote, sizeof(*theirs), (void **)&theirs);
	if (!room)
		return -ENOBUFS;
	letter_address(theirs, room, count);
	code = channel_call(channel, __NR_recvmsg, (uint64_t)channel->there, room, MSG_CMSG_CLOEXEC,
			    0);
	return code < 0 ? (int)code : letter_read(theirs, numbers, count);
}

/*
 * Received descriptors have the lowest free numbers in order, and the wanted ones ascend: received[i] <= wanted[i], and
 * from the last to the first nothing that is still to be moved is overwritten.
 */
static int move_all(struct channel *channel, const int *received, const int *wanted,
		    const bool *close_on_exec, size_t count)
{
	struct remote *remote = &channel->process->remote;
	int code = 0;

	for (size_t i = count; i && !code;) {
		unsigned calls = 0;

		for (; i && calls + 2 <= CONTROL_CALLS; i--) {
			uint64_t from = (uint64_t)received[i - 1], to = (uint64_t)wanted[i - 1];
			bool closing = close_on_exec[i - 1];

			if (from > to)
				return -EBUSY;
			if (from == to) {
				remote_add(remote, channel->mailbox, __NR_fcntl, to, F_SETFD,
					   closing ? FD_CLOEXEC : 0, 0, 0, 0);
				calls++;
				continue;
			}
			remote_add(remote, channel->mailbox, __NR_dup3, from, to,
				   closing ? O_CLOEXEC : 0, 0, 0, 0);
			remote_add(remote, channel->mailbox, __NR_close, from, 0, 0, 0, 0, 0);
			calls += 2;
		}
		code = remote_run(remote, channel->mailbox);
		for (unsigned k = 0; k < calls && !code; k++) {
			int64_t result =
				remote->control->mailboxes[channel->mailbox].calls[k].result;

			if (result < 0)
				code = (int)result;
		}
	}
	return code;
}

int descriptors_give(struct process *process, unsigned mailbox, const int *here, const int *numbers,
		     const bool *close_on_exec, size_t count, struct thaw_error *error)
{
	int *received = calloc(count + 1, sizeof(*received));
	struct channel channel;
	int code;

	if (!received)
		return failure(error, -ENOMEM, "descriptors: no memory");
	code = ours_apart(process, numbers, count, error);
	if (code) {
		free(received);
		return code;
	}
	code = channel_open(&channel, process, mailbox);
	if (!code)
		code = channel_lift(&channel, count ? numbers[count - 1] + 1 : 3);
	for (uint64_t standard = 0; standard < 3 && !code; standard++)
		channel_call(&channel, __NR_close, standard, 0, 0, 0);
	for (size_t i = 0; i < count && !code; i += AT_ONCE)
		code = give_some(&channel, here + i, count - i < AT_ONCE ? count - i : AT_ONCE,
				 received + i);
	if (!code)
		code = move_all(&channel, received, numbers, close_on_exec, count);
	channel_close(&channel);
	free(received);
	if (code)
		return failure(error, code, "descriptors cannot be given to process %d: %s",
			       (int)process->remote.pid, thaw_strerror(code));
	return 0;
}
