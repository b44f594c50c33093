/* SPDX-License-Identifier: MIT */
/*
 * inet.c - TCP, UDP and netlink sockets.
 *
 * Listeners are bound before the program runs. A connection went down with the process that had it: its peer has been
 * told by the kernel, and the program is told as after a failure of the network, by a connection over the loopback
 * device that the other end resets: ECONNRESET from the kernel itself, once, and EPOLLERR and EPOLLHUP.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/descriptors/descriptors.h"

#define RESET_MS 2000

enum fate { FATE_LISTENS = 1, FATE_UNCONNECTED, FATE_RESET };

struct inet_record { /* then the options */
	uint64_t fate, domain, type, protocol, backlog;
	const void *name, *peer;
	size_t name_bytes, peer_bytes;
};

static int option(int fd, int name)
{
	int value = 0;
	socklen_t bytes = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &bytes) ? -1 : value;
}

static bool is_inet(const struct descriptor_object *object, int type, int protocol)
{
	int domain;

	if (!S_ISSOCK(object->stat.st_mode) || object->flags & O_PATH)
		return false;
	domain = option(object->here, SO_DOMAIN);
	return (domain == AF_INET || domain == AF_INET6) && option(object->here, SO_TYPE) == type &&
	       option(object->here, SO_PROTOCOL) == protocol;
}

static unsigned port_of(const void *address, size_t bytes)
{
	struct sockaddr_in in; /* its port is where that of sockaddr_in6 is */

	if (bytes < sizeof(in))
		return 0;
	memcpy(&in, address, sizeof(in));
	return ntohs(in.sin_port);
}

/* ---- Captured */

static void inet_put(const struct descriptor_object *object, enum fate fate, uint64_t backlog,
		     struct record_writer *writer)
{
	int domain = option(object->here, SO_DOMAIN), type = option(object->here, SO_TYPE);

	record_put(writer, fate);
	record_put(writer, (uint64_t)domain);
	record_put(writer, (uint64_t)type);
	record_put(writer, (uint64_t)option(object->here, SO_PROTOCOL));
	record_put(writer, backlog);
	socket_put_name(object->here, false, writer);
	socket_put_name(object->here, true, writer);
	if (fate == FATE_RESET) /* nothing goes through it any more */
		record_put(writer, 0);
	else
		socket_options_put(object->here, domain, type, writer);
}

static void inet_take(struct inet_record *record, struct record_reader *reader)
{
	record->fate = record_take_up_to(reader, FATE_RESET);
	record->domain = record_take_up_to(reader, AF_MAX);
	record->type = record_take_up_to(reader, SOCK_PACKET);
	record->protocol = record_take_up_to(reader, IPPROTO_MAX);
	record->backlog = record_take_up_to(reader, INT32_MAX);
	record->name = record_take_bytes(reader, &record->name_bytes);
	record->peer = record_take_bytes(reader, &record->peer_bytes);
	if (record->name_bytes > sizeof(struct sockaddr_storage) ||
	    record->peer_bytes > sizeof(struct sockaddr_storage))
		reader->failed = true;
}

bool tcp_is_connection(const uint8_t *record, size_t bytes, struct tcp_names *names)
{
	struct record_reader reader = {record, record + bytes, false};
	struct inet_record inet;

	inet_take(&inet, &reader);
	*names = (struct tcp_names){inet.name, inet.peer, inet.name_bytes, inet.peer_bytes};
	return !reader.failed && inet.fate == FATE_RESET;
}

bool tcp_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return is_inet(object, SOCK_STREAM, IPPROTO_TCP) ||
	       is_inet(object, SOCK_STREAM, IPPROTO_MPTCP);
}

/* Never connected; not: connected once, and reset, which the kernel calls closed, too. */
static bool never_connected(int fd)
{
	struct pollfd wait = {fd, POLLRDHUP, 0};

	return poll(&wait, 1, 0) >= 0 && !(wait.revents & (POLLRDHUP | POLLERR));
}

int tcp_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		struct record_writer *writer)
{
	struct tcp_info info = {0};
	socklen_t bytes = sizeof(info);

	if (getsockopt(object->here, IPPROTO_TCP, TCP_INFO, &info, &bytes))
		return failure(capture->error, -errno, "descriptor %d, a TCP socket: %s",
			       object->number, strerror(errno));
	if (info.tcpi_state == TCP_LISTEN)
		inet_put(object, FATE_LISTENS, info.tcpi_sacked,
			 writer); /* its backlog: tcp_get_info() */
	else if (info.tcpi_state == TCP_CLOSE && never_connected(object->here))
		inet_put(object, FATE_UNCONNECTED, 0, writer);
	else
		inet_put(object, FATE_RESET, 0, writer);
	return 0;
}

/* ---- Bound again */

static bool is_ephemeral(unsigned port)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	unsigned low = 32768, high = 60999;

	if (file) {
		if (fscanf(file, "%u %u", &low, &high) != 2)
			low = 32768;
		fclose(file);
	}
	return port >= low && port <= high;
}

static int bind_again(struct descriptor_restore *restore, struct descriptor_object *object,
		      const struct inet_record *record, bool listens)
{
	unsigned port = port_of(record->name, record->name_bytes);
	char text[100];
	int code, one = 1, before = option(object->here, SO_REUSEADDR);

	if (!port)
		return 0;
	/* Connections of the process before may still be on their way out under this port. */
	if (record->type == SOCK_STREAM)
		setsockopt(object->here, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	do
		code = bind(object->here, record->name, (socklen_t)record->name_bytes) ? -errno : 0;
	while (code == -EADDRINUSE && descriptor_wait(restore));
	if (record->type == SOCK_STREAM)
		setsockopt(object->here, SOL_SOCKET, SO_REUSEADDR, &before, sizeof(before));
	if (!code && listens && listen(object->here, (int)record->backlog))
		code = -errno;
	if (!code)
		return 0;
	socket_address_text(record->name, record->name_bytes, text, sizeof(text));
	if (code == -EADDRINUSE && !listens && is_ephemeral(port)) {
		descriptor_tell(restore, object,
				"%s is in use; it gets another port when it is used", text);
		return 0;
	}
	if (code == -EADDRINUSE)
		return descriptor_fail(
			restore, object, code,
			"%s is in use by another process: end that (ss -lnp shows it), or "
			"start anew (--fresh)",
			text);
	return descriptor_fail(restore, object, code, "%s cannot be bound again: %s", text,
			       thaw_strerror(code));
}

static int socket_make(struct descriptor_restore *restore, struct descriptor_object *object,
		       const struct inet_record *record)
{
	object->here = socket((int)record->domain, (int)record->type | SOCK_CLOEXEC,
			      (int)record->protocol);
	if (object->here < 0)
		return descriptor_fail(restore, object, -errno, "%s", strerror(errno));
	return 0;
}

/* ---- Reset */

/* A listener on the loopback device, for as long as a restore lasts. Its address, as IPv4 and mapped into IPv6. */
static int loopback(struct descriptor_restore *restore, struct sockaddr_in *address)
{
	socklen_t bytes = sizeof(*address);
	int fd = restore->listener;

	*address = (struct sockaddr_in){.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (fd < 0) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			return -errno;
		if (bind(fd, (struct sockaddr *)address, sizeof(*address)) || listen(fd, 16)) {
			int code = -errno;

			close(fd);
			return code;
		}
		restore->listener = fd;
	}
	return getsockname(fd, (struct sockaddr *)address, &bytes) ? -errno : 0;
}

static int loopback_connect(int fd, int domain, const struct sockaddr_in *address)
{
	struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = address->sin_port};
	int off = 0;

	if (domain == AF_INET)
		return connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
	memcpy(&mapped.sin6_addr.s6_addr[12], &address->sin_addr, 4);
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	return connect(fd, (struct sockaddr *)&mapped, sizeof(mapped)) ? -errno : 0;
}

/* The connection of `fd` and no other: somebody else may have found the port. */
static int accept_from(int listener, int fd)
{
	struct sockaddr_storage mine = {0}, peer = {0};
	socklen_t bytes = sizeof(mine), peer_bytes;
	struct pollfd wait = {listener, POLLIN, 0};

	if (getsockname(fd, (struct sockaddr *)&mine, &bytes))
		return -errno;
	while (poll(&wait, 1, RESET_MS) > 0) {
		int accepted;

		peer_bytes = sizeof(peer);
		accepted = accept4(listener, (struct sockaddr *)&peer, &peer_bytes, SOCK_CLOEXEC);
		if (accepted < 0)
			return -errno;
		if (port_of(&peer, peer_bytes) == port_of(&mine, bytes))
			return accepted;
		close(accepted);
	}
	return -ETIMEDOUT;
}

static int reset_make(struct descriptor_restore *restore, int fd, int domain)
{
	struct linger now = {1, 0};
	struct sockaddr_in address;
	struct pollfd wait = {fd, 0, 0};
	int code = loopback(restore, &address), accepted = -1;

	if (!code)
		code = loopback_connect(fd, domain, &address);
	if (!code) {
		accepted = accept_from(restore->listener, fd);
		code = accepted < 0 ? accepted : 0;
	}
	if (!code && setsockopt(accepted, SOL_SOCKET, SO_LINGER, &now, sizeof(now)))
		code = -errno;
	if (accepted >= 0)
		close(accepted);
	if (!code && poll(&wait, 1, RESET_MS) != 1)
		code = -ETIMEDOUT;
	return code;
}

int tcp_make(struct descriptor_restore *restore, struct descriptor_object *object,
	     struct record_reader *reader)
{
	struct inet_record record;
	int code;

	inet_take(&record, reader);
	if (reader->failed)
		return 0;
	code = socket_make(restore, object, &record);
	if (code)
		return code;
	if (record.fate != FATE_RESET) {
		socket_options_take(object->here, reader);
		return bind_again(restore, object, &record, record.fate == FATE_LISTENS);
	}
	code = reset_make(restore, object->here, (int)record.domain);
	socket_options_take(object->here, reader);
	if (!code)
		return 0;
	/* No loopback device: a Unix socket says ECONNRESET, too. */
	close(object->here);
	object->here = unix_reset_socket(SOCK_STREAM);
	return object->here < 0
		       ? descriptor_fail(restore, object, object->here, "%s", thaw_strerror(code))
		       : 0;
}

static void inet_describe(struct record_reader *reader, char *text, size_t room)
{
	struct inet_record record;
	char name[100], peer[100];

	inet_take(&record, reader);
	socket_address_text(record.name, record.name_bytes, name, sizeof(name));
	socket_address_text(record.peer, record.peer_bytes, peer, sizeof(peer));
	if (record.fate == FATE_LISTENS)
		snprintf(text, room, "listens at %s again", name);
	else if (record.fate == FATE_RESET)
		snprintf(text, room, "ECONNRESET: it was connected from %s to %s", name, peer);
	else if (!port_of(record.name, record.name_bytes))
		snprintf(text, room, "not bound");
	else if (record.peer_bytes)
		snprintf(text, room, "%s to %s, bound and connected again", name, peer);
	else
		snprintf(text, room, "%s, bound again", name);
}

void tcp_describe(const struct descriptor_object *object, struct record_reader *reader, char *text,
		  size_t room)
{
	(void)object;
	inet_describe(reader, text, room);
}

/* ---- UDP */

bool udp_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return is_inet(object, SOCK_DGRAM, IPPROTO_UDP);
}

int udp_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		struct record_writer *writer)
{
	(void)capture;
	inet_put(object, FATE_UNCONNECTED, 0, writer);
	return 0;
}

int udp_make(struct descriptor_restore *restore, struct descriptor_object *object,
	     struct record_reader *reader)
{
	struct inet_record record;
	int code;

	inet_take(&record, reader);
	if (reader->failed)
		return 0;
	code = socket_make(restore, object, &record);
	if (code)
		return code;
	socket_options_take(object->here, reader);
	return bind_again(restore, object, &record, false);
}

int udp_join(struct descriptor_restore *restore, struct descriptor_object *object,
	     struct record_reader *reader)
{
	struct inet_record record;
	char text[100];

	inet_take(&record, reader);
	socket_options_take(-1, reader);
	if (reader->failed || !record.peer_bytes ||
	    !connect(object->here, record.peer, (socklen_t)record.peer_bytes))
		return 0;
	socket_address_text(record.peer, record.peer_bytes, text, sizeof(text));
	descriptor_tell(restore, object, "%s cannot be connected again: %s", text, strerror(errno));
	return 0;
}

void udp_describe(const struct descriptor_object *object, struct record_reader *reader, char *text,
		  size_t room)
{
	(void)object;
	inet_describe(reader, text, room);
}

/* ---- Netlink: those who ask for addresses and routes */

bool netlink_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return S_ISSOCK(object->stat.st_mode) && !(object->flags & O_PATH) &&
	       option(object->here, SO_DOMAIN) == AF_NETLINK;
}

int netlink_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		    struct record_writer *writer)
{
	struct pollfd wait = {object->here, POLLIN, 0};
	struct sockaddr_nl name = {0};
	socklen_t bytes = sizeof(name);

	if (poll(&wait, 1, 0) > 0 && wait.revents & POLLIN)
		return descriptor_refuse(
			capture, object,
			"a netlink socket with an answer of the kernel under way: a later "
			"checkpoint will find it empty");
	getsockname(object->here, (struct sockaddr *)&name, &bytes);
	record_put(writer, (uint64_t)option(object->here, SO_TYPE));
	record_put(writer, (uint64_t)option(object->here, SO_PROTOCOL));
	record_put(writer, name.nl_pid != 0);
	record_put(writer, name.nl_groups);
	socket_options_put(object->here, AF_NETLINK, SOCK_RAW, writer);
	return 0;
}

int netlink_make(struct descriptor_restore *restore, struct descriptor_object *object,
		 struct record_reader *reader)
{
	int type = (int)record_take_up_to(reader, SOCK_PACKET);
	int protocol = (int)record_take_up_to(reader, INT32_MAX);
	bool bound = record_take_up_to(reader, 1);
	struct sockaddr_nl name = {.nl_family = AF_NETLINK,
				   .nl_groups = (uint32_t)record_take(reader)};

	object->here = socket(AF_NETLINK, type | SOCK_CLOEXEC, protocol);
	if (object->here < 0)
		return descriptor_fail(restore, object, -errno, "%s", strerror(errno));
	socket_options_take(object->here, reader);
	if (bound && bind(object->here, (struct sockaddr *)&name, sizeof(name)))
		return descriptor_fail(restore, object, -errno, "it cannot be bound again: %s",
				       strerror(errno));
	return 0;
}

void netlink_describe(const struct descriptor_object *object, struct record_reader *reader,
		      char *text, size_t room)
{
	(void)object, (void)reader;
	snprintf(text, room, "bound again");
}
