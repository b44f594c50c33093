// SPDX-License-Identifier: MIT
/*
 * messages.c - send(2) and its kind: bytes of a connection, or messages with an address, control data and descriptors.
 *
 * A message is kept whole, as it would be sent: descriptors that go with it are taken from the guest now, because it may
 * close them. As calls.c: the notifier's thread, with the lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process/output/internal.h"

#define DATAGRAM_MOST 65535u
#define MESSAGE_MOST (2u << 20)

/* A call's message, as far as it has been read. */
struct message {
	struct msghdr head; /* addresses of the guest's */
	struct iovec *iov;
	size_t total;
	int flags;
};

static int read_message(const struct call_notice *call, struct message *message)
{
	const uint64_t *a = call->arguments;

	*message = (struct message){.flags = 0};
	switch (call->number) {
	case SYS_sendmsg:
		if (guest_read(call->tid, a[1], &message->head, sizeof(message->head)) !=
		    sizeof(message->head))
			return -EFAULT;
		message->flags = (int)a[2];
		return guest_iov(call->tid, (uint64_t)message->head.msg_iov,
				 message->head.msg_iovlen, &message->iov, &message->total);
	case SYS_writev:
	case SYS_pwritev2:
		message->head.msg_iovlen = a[2];
		return guest_iov(call->tid, a[1], a[2], &message->iov, &message->total);
	default: /* write, sendto */
		message->iov = calloc(1, sizeof(*message->iov));
		if (!message->iov)
			return -ENOMEM;
		message->total = a[2] < INT32_MAX ? a[2] : INT32_MAX;
		*message->iov = (struct iovec){(void *)a[1], message->total};
		message->head.msg_iovlen = 1;
		if (call->number == SYS_sendto) {
			message->flags = (int)a[3];
			message->head.msg_name = (void *)a[4];
			message->head.msg_namelen = (socklen_t)a[5];
		}
		return 0;
	}
}

/* ---- Address and control data */

static int take_address(pid_t tid, const struct message *message, struct piece *piece)
{
	socklen_t bytes = message->head.msg_namelen;

	if (!message->head.msg_name || !bytes)
		return 0;
	if (bytes > sizeof(*piece->address))
		return -EINVAL;
	piece->address = calloc(1, sizeof(*piece->address));
	if (!piece->address)
		return -ENOBUFS;
	piece->address_bytes = bytes;
	return guest_read(tid, (uint64_t)message->head.msg_name, piece->address, bytes) == bytes
		       ? 0
		       : -EFAULT;
}

/* Those of one header: from the guest's numbers to ours. */
static int take_descriptors(struct output *output, struct piece *piece, struct cmsghdr *header)
{
	unsigned count = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	int *numbers = (int *)CMSG_DATA(header), *more;

	if (count > MESSAGE_FDS - piece->fd_count)
		return -EINVAL;
	more = realloc(piece->fds, (piece->fd_count + count + 1) * sizeof(int));
	if (!more)
		return -ENOBUFS;
	piece->fds = more;
	for (unsigned i = 0; i < count; i++) {
		int fd = guest_descriptor(output, numbers[i]);

		if (fd < 0)
			return fd == -EBADF ? -EBADF : -ENOBUFS;
		numbers[i] = piece->fds[piece->fd_count++] = fd;
	}
	return 0;
}

static int take_control(struct output *output, pid_t tid, const struct message *message,
			struct piece *piece)
{
	struct msghdr head = {.msg_controllen = message->head.msg_controllen};
	int code = 0;

	if (!message->head.msg_control || !head.msg_controllen)
		return 0;
	if (head.msg_controllen > CONTROL_MOST)
		return -ENOBUFS;
	piece->control = calloc(1, head.msg_controllen + 1);
	if (!piece->control)
		return -ENOBUFS;
	piece->control_bytes = head.msg_controllen;
	if (guest_read(tid, (uint64_t)message->head.msg_control, piece->control,
		       head.msg_controllen) != (ssize_t)head.msg_controllen)
		return -EFAULT;
	head.msg_control = piece->control;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&head); header && !code;
	     header = CMSG_NXTHDR(&head, header)) {
		size_t left = piece->control_bytes - (size_t)((uint8_t *)header - piece->control);

		if (header->cmsg_len < CMSG_LEN(0) || header->cmsg_len > left)
			return -EINVAL;
		if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
			code = take_descriptors(output, piece, header);
		else if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS &&
			 geteuid() &&
			 header->cmsg_len >= CMSG_LEN(12)) /* who sends it is this process */
			memcpy(CMSG_DATA(header), &(int32_t){getpid()}, sizeof(int32_t));
	}
	return code;
}

/* ---- */

static int socket_option(const struct outlet *outlet, int option)
{
	int value = 0;
	socklen_t bytes = sizeof(value);

	return getsockopt(outlet->fd, SOL_SOCKET, option, &value, &bytes) ? 0 : value;
}

/* More than such a socket can send at once. */
static bool is_too_long(const struct outlet *outlet, size_t bytes)
{
	int domain = socket_option(outlet, SO_DOMAIN);

	if (domain == AF_INET || domain == AF_INET6)
		return bytes > DATAGRAM_MOST - 28;
	return bytes > MESSAGE_MOST || (int)bytes > socket_option(outlet, SO_SNDBUF) - 32;
}

static struct ruling keep_message(struct output *output, struct call_notice *call,
				  struct outlet *outlet, const struct message *message)
{
	struct piece *piece = piece_make(PIECE_MESSAGE, message->total);
	struct iovec here, *there = message->iov;
	int code;

	if (!piece)
		return answer(-ENOBUFS);
	piece->flags = message->flags & (MSG_OOB | MSG_EOR | MSG_DONTROUTE | MSG_CONFIRM);
	code = take_address(call->tid, message, piece);
	if (!code)
		code = take_control(output, call->tid, message, piece);
	here = (struct iovec){piece->data, message->total};
	if (!code && message->total &&
	    process_vm_readv(call->tid, &here, 1, there, message->head.msg_iovlen, 0) !=
		    (ssize_t)message->total)
		code = -EFAULT;
	if (code) {
		piece_free(piece);
		return answer(code);
	}
	piece->bytes = message->total;
	queue_append(output, outlet, piece);
	return answer((int64_t)message->total);
}

static struct ruling rule_message(struct output *output, struct call_notice *call,
				  struct outlet *outlet, const struct message *message)
{
	struct ruling ruling = {.verdict = VERDICT_GO_ON};
	struct sockaddr_storage peer;
	socklen_t peer_bytes = sizeof(peer);

	if (message->flags & MSG_FASTOPEN)
		return answer(-EOPNOTSUPP); /* connect(2) does it */
	if (outlet->kind == OUTLET_STREAM && !message->head.msg_controllen)
		return call_bytes(output, call, outlet, message->iov,
				  (unsigned)message->head.msg_iovlen, message->total,
				  message->flags);
	ruling = outlet_fails(outlet, message->flags);
	if (ruling.verdict != VERDICT_GO_ON)
		return ruling;
	if (outlet->kind == OUTLET_MESSAGES && !message->head.msg_name &&
	    getpeername(outlet->fd, (struct sockaddr *)&peer, &peer_bytes))
		return answer(errno == ENOTCONN && socket_option(outlet, SO_DOMAIN) != AF_UNIX
				      ? -EDESTADDRREQ
				      : -errno);
	if (outlet->kind == OUTLET_MESSAGES && is_too_long(outlet, message->total))
		return answer(-EMSGSIZE);
	if (outlet->kind == OUTLET_STREAM && message->total > OUTLET_MOST)
		return answer(-EMSGSIZE);
	if (!outlet_room(output, outlet))
		return outlet_full(outlet, message->flags);
	return keep_message(output, call, outlet, message);
}

struct ruling call_message(struct output *output, struct call_notice *call)
{
	struct message message;
	struct ruling ruling;
	struct outlet *outlet = outlet_of(output, (int)call->arguments[0], &ruling);
	int code;

	if (!outlet)
		return ruling;
	if (outlet->kind != OUTLET_STREAM && outlet->kind != OUTLET_MESSAGES)
		return answer(-ENOTSOCK);
	code = read_message(call, &message);
	ruling = code ? answer(code) : rule_message(output, call, outlet, &message);
	free(message.iov);
	return ruling;
}

/* sendmmsg(fd, struct mmsghdr *, count, flags): as so many of sendmsg(2), until one cannot be kept. */
struct ruling call_messages(struct output *output, struct call_notice *call)
{
	uint64_t count = call->arguments[2] < 1024 ? call->arguments[2] : 1024;
	struct ruling ruling = answer(0);
	unsigned sent;
	bool part;

	while (call->taken < count) {
		uint64_t there = call->arguments[1] + call->taken * sizeof(struct mmsghdr);
		struct call_notice one = {
			.tid = call->tid,
			.number = SYS_sendmsg,
			.arguments = {call->arguments[0], there, call->arguments[3]}};

		ruling = call_message(output, &one);
		part = ruling.verdict == VERDICT_WAIT && one.taken; /* of a stream's */
		if (part)
			ruling = answer((int64_t)one.taken);
		if (ruling.verdict != VERDICT_ANSWER || ruling.value < 0)
			break;
		sent = (unsigned)ruling.value;
		guest_write(call->tid, there + offsetof(struct mmsghdr, msg_len), &sent,
			    sizeof(sent));
		call->taken++;
		if (part)
			break;
	}
	/* One that fails after others is not told: it fails again. */
	return call->taken ? answer((int64_t)call->taken) : ruling;
}
