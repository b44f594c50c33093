/* SPDX-License-Identifier: MIT */
/*
 * unix.c - Unix sockets.
 *
 * Which socket is connected with which is known by inode from the kernel's socket diagnosis (NETLINK_SOCK_DIAG), for
 * which nobody needs privileges. What becomes of one:
 *
 *	PAIR	  its peer is the guest's, too: made again together, with what is queued in both and shut down
 *	LISTENS	  bound and listening again
 *	ALONE	  never connected, or datagrams: bound, and connected to the same address again
 *	ENDED	  its peer was a child's, by socketpair(2), or is closed: the rest of its bytes, then the end
 *	RESET	  a connection to another process: ECONNRESET
 *
 * What is queued is read by MSG_PEEK. Descriptors on their way in a message cannot be continued.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/descriptors/descriptors.h"
#include "process/descriptors/unix_diagnosis.h"

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif
#define QUEUE_BYTES (1u << 22) /* more than a socket's buffer can be without privileges */
#define MESSAGES_MOST 65536u
#define TCP_ESTABLISHED_STATE 1
#define TCP_LISTEN_STATE 10

enum fate { FATE_PAIR = 1, FATE_LISTENS, FATE_ALONE, FATE_ENDED, FATE_RESET };

struct unix_record { /* then the queue: count of messages, each with its length */
	uint64_t fate, type, peer, shutdown, backlog;
	const void *name, *peer_name;
	size_t name_bytes, peer_bytes;
	bool existed; /* its path was there */
	uint64_t mode;
};

/* ---- Captured */

bool unix_socket_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	int domain = 0;
	socklen_t bytes = sizeof(domain);

	(void)capture;
	return S_ISSOCK(object->stat.st_mode) && !(object->flags & O_PATH) &&
	       !getsockopt(object->here, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) &&
	       domain == AF_UNIX;
}

static bool has_name(int fd, bool peer)
{
	struct sockaddr_un address;
	socklen_t bytes = sizeof(address);
	int code = peer ? getpeername(fd, (struct sockaddr *)&address, &bytes)
			: getsockname(fd, (struct sockaddr *)&address, &bytes);

	return !code && bytes > offsetof(struct sockaddr_un, sun_path);
}

static uint64_t peer_object(const struct descriptors *descriptors, uint64_t inode)
{
	for (size_t i = 0; i < descriptors->object_count && inode; i++)
		if (descriptors->objects[i].stat.st_ino == inode &&
		    S_ISSOCK(descriptors->objects[i].stat.st_mode))
			return i;
	return UINT32_MAX;
}

/* A connection that was reset, which the program has not heard of. */
static bool has_failed(int fd)
{
	struct pollfd wait = {fd, 0, 0};

	return poll(&wait, 1, 0) > 0 && wait.revents & POLLERR;
}

static enum fate fate_of(struct descriptor_capture *capture, const struct descriptor_object *object,
			 int type, const struct unix_diagnosis *facts, uint64_t *peer)
{
	struct unix_diagnosis other;

	*peer = peer_object(capture->descriptors, facts->peer);
	if (facts->state == TCP_LISTEN_STATE)
		return FATE_LISTENS;
	if (*peer != UINT32_MAX && !unix_diagnose(&capture->netlink, facts->peer, &other) &&
	    other.peer == object->stat.st_ino)
		return FATE_PAIR;
	if (type == SOCK_DGRAM)
		return facts->peer && !has_name(object->here, true) ? FATE_ENDED : FATE_ALONE;
	if (facts->state == TCP_ESTABLISHED_STATE || facts->shutdown)
		return has_name(object->here, false) || has_name(object->here, true) ||
				       has_failed(object->here)
			       ? FATE_RESET
			       : FATE_ENDED;
	return FATE_ALONE;
}

/* Closes what came with a message; true: there was something. */
static bool rights_close(struct msghdr *head)
{
	bool found = false;

	for (struct cmsghdr *entry = CMSG_FIRSTHDR(head); entry; entry = CMSG_NXTHDR(head, entry)) {
		size_t bytes = entry->cmsg_len - CMSG_LEN(0);

		if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS)
			continue;
		found = true;
		for (size_t i = 0; i < bytes / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(entry) + i * sizeof(int), sizeof(fd));
			close(fd);
		}
	}
	return found || head->msg_flags & MSG_CTRUNC;
}

/* One message, or all of a stream, not taken out. -EXFULL: it carries descriptors. */
static ssize_t peek(int fd, void *buffer, size_t room)
{
	char control[2048] __attribute__((aligned(8)));
	struct iovec piece = {buffer, room};
	struct msghdr head = {.msg_iov = &piece,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control)};
	ssize_t got = recvmsg(fd, &head, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (got < 0)
		return -errno;
	return rights_close(&head) ? -EXFULL : got;
}

static int messages_put(int fd, int type, char *buffer, struct record_writer *writer)
{
	struct record_writer messages = {0};
	uint64_t count = 0;
	int off = 0, before = -1;
	socklen_t bytes = sizeof(before);
	ssize_t got;

	getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &before, &bytes);
	if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)))
		return -errno;
	/* Each is the next one; an empty one is a message, too. */
	while (count < MESSAGES_MOST && (got = peek(fd, buffer, QUEUE_BYTES)) >= 0) {
		record_put_bytes(&messages, buffer, (size_t)got);
		count++;
		if (!got && type == SOCK_SEQPACKET)
			break; /* perhaps the end: nothing follows */
	}
	setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &before, sizeof(before));
	record_put(writer, count);
	for (struct record_reader reader = {messages.data, messages.data + messages.bytes, false};
	     count; count--) {
		size_t length;
		const void *data = record_take_bytes(&reader, &length);

		record_put_bytes(writer, data, length);
	}
	if (messages.failed)
		got = -ENOMEM;
	free(messages.data);
	return got < 0 && got != -EAGAIN ? (int)got : 0;
}

static int queue_put(int fd, int type, struct record_writer *writer)
{
	struct pollfd wait = {fd, POLLIN, 0};
	char *buffer = NULL;
	int waiting = 0, code = 0;
	ssize_t got;

	if (type == SOCK_STREAM ? ioctl(fd, FIONREAD, &waiting) || !waiting
				: poll(&wait, 1, 0) <= 0 || !(wait.revents & POLLIN)) {
		record_put(writer, 0);
		return 0;
	}
	buffer = malloc(QUEUE_BYTES);
	if (!buffer)
		return -ENOMEM;
	if (type != SOCK_STREAM) {
		code = messages_put(fd, type, buffer, writer);
	} else {
		got = peek(fd, buffer, QUEUE_BYTES);
		code = got < 0 ? (int)got : got < waiting ? -EXFULL : 0;
		record_put(writer, code ? 0 : 1);
		if (!code)
			record_put_bytes(writer, buffer, (size_t)got);
	}
	free(buffer);
	return code;
}

/* Is the path that it is bound to there, and this socket's? Relative ones are to the guest's directory. */
static void path_put(struct descriptor_capture *capture, int fd, struct record_writer *writer)
{
	struct sockaddr_un address = {0};
	socklen_t bytes = sizeof(address) - 1;
	char path[200];
	struct stat stat_now;
	bool there = false;

	if (!getsockname(fd, (struct sockaddr *)&address, &bytes) &&
	    bytes > offsetof(struct sockaddr_un, sun_path) && *address.sun_path) {
		if (*address.sun_path == '/')
			snprintf(path, sizeof(path), "%s", address.sun_path);
		else
			snprintf(path, sizeof(path), "/proc/%d/cwd/%s",
				 (int)capture->process->remote.pid, address.sun_path);
		there = !lstat(path, &stat_now) && S_ISSOCK(stat_now.st_mode);
	}
	record_put(writer, there);
	record_put(writer, there ? stat_now.st_mode & 07777 : 0);
}

int unix_socket_capture(struct descriptor_capture *capture, struct descriptor_object *object,
			struct record_writer *writer)
{
	struct unix_diagnosis facts;
	int type = 0, code = unix_diagnose(&capture->netlink, object->stat.st_ino, &facts);
	socklen_t bytes = sizeof(type);
	uint64_t peer;
	enum fate fate;

	if (code)
		return descriptor_refuse(
			capture, object,
			"a Unix socket, and the kernel does not say what it is connected with "
			"(NETLINK_SOCK_DIAG: %s)",
			thaw_strerror(code));
	getsockopt(object->here, SOL_SOCKET, SO_TYPE, &type, &bytes);
	fate = fate_of(capture, object, type, &facts, &peer);
	record_put(writer, fate);
	record_put(writer, (uint64_t)type);
	record_put(writer, peer);
	record_put(writer, facts.shutdown);
	record_put(writer, facts.backlog);
	socket_put_name(object->here, false, writer);
	socket_put_name(object->here, true, writer);
	path_put(capture, object->here, writer);
	socket_options_put(object->here, AF_UNIX, type, writer);
	if (fate == FATE_PAIR || fate == FATE_ENDED)
		code = queue_put(object->here, type, writer);
	else
		record_put(writer, 0);
	if (code == -EXFULL)
		return descriptor_refuse(
			capture, object,
			"a Unix socket with descriptors on their way in a message: a later "
			"checkpoint may find it empty");
	if (code)
		return failure(capture->error, PROCESS_EREFUSED,
			       "descriptor %d is a Unix socket whose bytes cannot be copied: %s",
			       object->number, thaw_strerror(code));
	return 0;
}

/* ---- Made again */

static void unix_take(struct unix_record *record, struct record_reader *reader)
{
	record->fate = record_take_up_to(reader, FATE_RESET);
	record->type = record_take_up_to(reader, SOCK_PACKET);
	record->peer = record_take_up_to(reader, UINT32_MAX);
	record->shutdown = record_take_up_to(reader, 3);
	record->backlog = record_take_up_to(reader, UINT32_MAX);
	record->name = record_take_bytes(reader, &record->name_bytes);
	record->peer_name = record_take_bytes(reader, &record->peer_bytes);
	record->existed = record_take_up_to(reader, 1);
	record->mode = record_take_up_to(reader, 07777);
	if (record->name_bytes > sizeof(struct sockaddr_un) ||
	    record->peer_bytes > sizeof(struct sockaddr_un))
		reader->failed = true;
}

int unix_reset_socket(int type)
{
	int pair[2];

	if (socketpair(AF_UNIX, (type == SOCK_DGRAM ? SOCK_STREAM : type) | SOCK_CLOEXEC, 0, pair))
		return -errno;
	/* A peer that closes with bytes that it has not read: unix_release_sock() of the kernel. */
	if (send(pair[0], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		int code = -errno;

		close(pair[0]);
		close(pair[1]);
		return code;
	}
	close(pair[1]);
	return pair[0];
}

/* Does anybody answer at this address? */
static bool in_use(const void *address, size_t bytes, uint64_t type)
{
	int fd = socket(AF_UNIX, (int)type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), code;

	if (fd < 0)
		return false;
	code = connect(fd, address, (socklen_t)bytes) ? errno : 0;
	close(fd);
	return !code || code == EAGAIN || code == EPROTOTYPE || code == EACCES;
}

/* bind(2) in the guest's directory: in a child, which shares the socket, since other threads are here. */
static int bind_there(pid_t pid, int fd, const struct unix_record *record)
{
	struct sockaddr_un address = {0};
	char directory[48];
	int status;
	pid_t child;

	memcpy(&address, record->name, record->name_bytes);
	snprintf(directory, sizeof(directory), "/proc/%d/cwd", (int)pid);
	child = fork();
	if (child < 0)
		return -errno;
	if (!child) {
		if (*address.sun_path && *address.sun_path != '/' && chdir(directory))
			_exit(errno);
		if (*address.sun_path) {
			if (in_use(record->name, record->name_bytes, record->type))
				_exit(EADDRINUSE);
			unlink(address.sun_path);
		}
		if (bind(fd, record->name, (socklen_t)record->name_bytes))
			_exit(errno);
		if (*address.sun_path && !record->existed)
			unlink(address.sun_path);
		else if (*address.sun_path)
			chmod(address.sun_path, (mode_t)record->mode);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static int bind_again(struct descriptor_restore *restore, struct descriptor_object *object,
		      const struct unix_record *record)
{
	char text[200];
	int code;

	if (record->name_bytes <= offsetof(struct sockaddr_un, sun_path))
		return 0;
	socket_address_text(record->name, record->name_bytes, text, sizeof(text));
	do
		code = bind_there(restore->process->remote.pid, object->here, record);
	while (code == -EADDRINUSE && descriptor_wait(restore));
	if (code == -EADDRINUSE)
		return descriptor_fail(
			restore, object, code,
			"%s is another process's now: end that, or start anew (--fresh)", text);
	if (code)
		return descriptor_fail(restore, object, code, "%s cannot be bound again: %s", text,
				       thaw_strerror(code));
	return 0;
}

static int pair_make(struct descriptor_restore *restore, struct descriptor_object *object,
		     const struct unix_record *record)
{
	struct descriptor_object *peer;
	int pair[2];

	if (object->here >= 0)
		return 0; /* by its peer */
	if (record->peer >= restore->descriptors->object_count)
		return descriptor_fail(restore, object, THAW_EDAMAGED, "its record is not one");
	peer = &restore->descriptors->objects[record->peer];
	if (peer == object || peer->kind != object->kind || peer->here >= 0)
		return descriptor_fail(restore, object, THAW_EDAMAGED, "its record is not one");
	if (socketpair(AF_UNIX, (int)record->type | SOCK_CLOEXEC, 0, pair))
		return descriptor_fail(restore, object, -errno, "%s", strerror(errno));
	object->here = pair[0];
	peer->here = pair[1];
	return 0;
}

static int send_queue(int from, struct record_reader *reader)
{
	uint64_t count = record_take_count(reader, 8);

	while (count-- && !reader->failed) {
		size_t bytes;
		const char *data = record_take_bytes(reader, &bytes);

		do {
			ssize_t sent = send(from, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

			if (sent < 0)
				return -errno;
			data += sent;
			bytes -= (size_t)sent;
		} while (bytes); /* once for an empty message */
	}
	return 0;
}

/* The rest of its bytes, then the end. */
static int ended_make(struct descriptor_restore *restore, struct descriptor_object *object,
		      const struct unix_record *record, struct record_reader *reader)
{
	int pair[2], code;

	if (socketpair(AF_UNIX, (int)record->type | SOCK_CLOEXEC, 0, pair))
		return descriptor_fail(restore, object, -errno, "%s", strerror(errno));
	object->here = pair[0];
	socket_options_take(object->here, reader);
	code = send_queue(pair[1], reader);
	if (record->shutdown & 2)
		shutdown(pair[0], SHUT_WR);
	close(pair[1]);
	return code ? descriptor_fail(restore, object, code, "%s", thaw_strerror(code)) : 0;
}

int unix_socket_make(struct descriptor_restore *restore, struct descriptor_object *object,
		     struct record_reader *reader)
{
	struct unix_record record;
	int code = 0;

	unix_take(&record, reader);
	if (reader->failed)
		return 0;
	if (record.fate == FATE_PAIR) {
		code = pair_make(restore, object, &record);
		return code || record.type != SOCK_DGRAM ? code
							 : bind_again(restore, object, &record);
	}
	if (record.fate == FATE_ENDED)
		return ended_make(restore, object, &record, reader);
	object->here = record.fate == FATE_RESET
			       ? unix_reset_socket((int)record.type)
			       : socket(AF_UNIX, (int)record.type | SOCK_CLOEXEC, 0);
	if (object->here < 0)
		return descriptor_fail(restore, object, -EMFILE, "it cannot be made again");
	socket_options_take(object->here, reader);
	if (record.fate == FATE_RESET)
		return 0;
	code = bind_again(restore, object, &record);
	if (!code && record.fate == FATE_LISTENS && listen(object->here, (int)record.backlog))
		code = descriptor_fail(restore, object, -errno, "it cannot listen again: %s",
				       strerror(errno));
	return code;
}

/* All sockets are there: what was queued is sent again, datagrams are connected. */
int unix_socket_join(struct descriptor_restore *restore, struct descriptor_object *object,
		     struct record_reader *reader)
{
	struct unix_record record;
	int code = 0;

	unix_take(&record, reader);
	if (record.fate == FATE_ALONE &&
	    record.peer_bytes > offsetof(struct sockaddr_un, sun_path) &&
	    connect(object->here, record.peer_name, (socklen_t)record.peer_bytes)) {
		char text[200];

		socket_address_text(record.peer_name, record.peer_bytes, text, sizeof(text));
		descriptor_tell(restore, object, "%s cannot be connected again: %s", text,
				strerror(errno));
	}
	if (record.fate != FATE_PAIR)
		return 0;
	socket_options_take(object->here, reader);
	code = send_queue(restore->descriptors->objects[record.peer].here, reader);
	if (code)
		return descriptor_fail(restore, object, code, "what it had received: %s",
				       thaw_strerror(code));
	return 0;
}

/* Nothing is sent any more. */
int unix_socket_place(struct descriptor_restore *restore, struct descriptor_object *object,
		      struct record_reader *reader)
{
	struct unix_record record;

	(void)restore;
	unix_take(&record, reader);
	if (record.fate == FATE_PAIR && record.shutdown)
		shutdown(object->here, record.shutdown == 3   ? SHUT_RDWR
				       : record.shutdown == 1 ? SHUT_RD
							      : SHUT_WR);
	return 0;
}

void unix_socket_describe(const struct descriptor_object *object, struct record_reader *reader,
			  char *text, size_t room)
{
	struct unix_record record;
	char name[200];

	(void)object;
	unix_take(&record, reader);
	socket_address_text(record.name, record.name_bytes, name, sizeof(name));
	if (record.fate == FATE_PAIR)
		snprintf(text, room, "a pair within the process, with what is queued");
	else if (record.fate == FATE_LISTENS)
		snprintf(text, room, "listens at %s again", name);
	else if (record.fate == FATE_ALONE)
		snprintf(text, room, "%s, made again", name);
	else if (record.fate == FATE_ENDED)
		snprintf(text, room, "end of file: the other end was a child's, or is closed");
	else
		snprintf(text, room, "ECONNRESET: a connection to another process");
}
