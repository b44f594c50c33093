/* SPDX-License-Identifier: MIT */
/*
 * options.c - what setsockopt(2) has set, and addresses of sockets.
 *
 * Options are recorded by level, name and value, and set again before a socket is bound: what the kernel does not take
 * is left as it is. Sizes of buffers only where the program has chosen them (SO_BUF_LOCK), since setting one ends the
 * kernel's own choice.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "process/descriptors/descriptors.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#define OPTION_BYTES 64u

enum { ANY, INET, INET6, STREAM }; /* which sockets have it */

static const struct option {
	int level, name, of;
	bool flag; /* not set where it is 0 */
} options[] = {
	{SOL_SOCKET, SO_REUSEADDR, ANY, true},
	{SOL_SOCKET, SO_REUSEPORT, ANY, true},
	{SOL_SOCKET, SO_KEEPALIVE, ANY, true},
	{SOL_SOCKET, SO_BROADCAST, ANY, true},
	{SOL_SOCKET, SO_OOBINLINE, ANY, true},
	{SOL_SOCKET, SO_PASSCRED, ANY, true},
	{SOL_SOCKET, SO_TIMESTAMP, ANY, true},
	{SOL_SOCKET, SO_DONTROUTE, ANY, true},
	{SOL_SOCKET, SO_PRIORITY, ANY, true},
	{SOL_SOCKET, SO_MARK, ANY, true},
	{SOL_SOCKET, SO_LINGER, ANY, true},
	{SOL_SOCKET, SO_RCVTIMEO, ANY, true},
	{SOL_SOCKET, SO_SNDTIMEO, ANY, true},
	{SOL_SOCKET, SO_RCVLOWAT, ANY, false},
	{SOL_SOCKET, SO_BINDTODEVICE, INET, true},
	{IPPROTO_IP, IP_TOS, INET, true},
	{IPPROTO_IP, IP_TTL, INET, false},
	{IPPROTO_IP, IP_FREEBIND, INET, true},
	{IPPROTO_IP, IP_PKTINFO, INET, true},
	{IPPROTO_IP, IP_RECVERR, INET, true},
	{IPPROTO_IP, IP_MULTICAST_TTL, INET, false},
	{IPPROTO_IP, IP_MULTICAST_LOOP, INET, false},
	{IPPROTO_IPV6, IPV6_V6ONLY, INET6, false},
	{IPPROTO_IPV6, IPV6_TCLASS, INET6, true},
	{IPPROTO_IPV6, IPV6_RECVPKTINFO, INET6, true},
	{IPPROTO_IPV6, IPV6_RECVERR, INET6, true},
	{IPPROTO_IPV6, IPV6_MULTICAST_LOOP, INET6, false},
	{IPPROTO_TCP, TCP_NODELAY, STREAM, true},
	{IPPROTO_TCP, TCP_CORK, STREAM, true},
	{IPPROTO_TCP, TCP_KEEPIDLE, STREAM, false},
	{IPPROTO_TCP, TCP_KEEPINTVL, STREAM, false},
	{IPPROTO_TCP, TCP_KEEPCNT, STREAM, false},
	{IPPROTO_TCP, TCP_USER_TIMEOUT, STREAM, true},
	{IPPROTO_TCP, TCP_DEFER_ACCEPT, STREAM, true},
	{IPPROTO_TCP, TCP_FASTOPEN, STREAM, true},
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static bool has_option(const struct option *option, int domain, int type)
{
	if (option->of == ANY)
		return true;
	if (option->of == INET6)
		return domain == AF_INET6;
	if (option->of == STREAM && type != SOCK_STREAM)
		return false;
	return domain == AF_INET || domain == AF_INET6;
}

static bool is_zero(const uint8_t *value, size_t bytes)
{
	while (bytes && !value[bytes - 1])
		bytes--;
	return !bytes;
}

static void option_put(int level, int name, const void *value, size_t bytes,
		       struct record_writer *writer)
{
	record_put(writer, (uint64_t)level + 1);
	record_put(writer, (uint64_t)name);
	record_put_bytes(writer, value, bytes);
}

void socket_options_put(int fd, int domain, int type, struct record_writer *writer)
{
	uint8_t value[OPTION_BYTES];
	socklen_t bytes;
	int locked = 0, size;

	for (size_t i = 0; i < OPTIONS; i++) {
		bytes = sizeof(value);
		if (has_option(&options[i], domain, type) &&
		    !getsockopt(fd, options[i].level, options[i].name, value, &bytes) &&
		    !(options[i].flag && is_zero(value, bytes)))
			option_put(options[i].level, options[i].name, value, bytes, writer);
	}
	bytes = sizeof(locked);
	if (getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &locked, &bytes))
		locked = 0;
	for (int i = 0; i < 2; i++) {
		int name = i ? SO_RCVBUF
			     : SO_SNDBUF; /* SOCK_SNDBUF_LOCK is 1, SOCK_RCVBUF_LOCK 2 */

		bytes = sizeof(size);
		if (!(locked & (1 << i)) || getsockopt(fd, SOL_SOCKET, name, &size, &bytes))
			continue;
		size /= 2; /* what is read is twice what is set: socket(7) */
		option_put(SOL_SOCKET, name, &size, sizeof(size), writer);
	}
	record_put(writer, 0);
}

bool socket_options_take(int fd, struct record_reader *reader)
{
	while (!reader->failed) {
		uint64_t level = record_take_up_to(reader, INT32_MAX), name;
		const void *value;
		size_t bytes;

		if (!level)
			break;
		name = record_take_up_to(reader, INT32_MAX);
		value = record_take_bytes(reader, &bytes);
		if (!reader->failed && bytes <= OPTION_BYTES && fd >= 0)
			setsockopt(fd, (int)level - 1, (int)name, value, (socklen_t)bytes);
	}
	return !reader->failed;
}

void socket_put_name(int fd, bool peer, struct record_writer *writer)
{
	struct sockaddr_storage address;
	socklen_t bytes = sizeof(address);
	int code = peer ? getpeername(fd, (struct sockaddr *)&address, &bytes)
			: getsockname(fd, (struct sockaddr *)&address, &bytes);

	record_put_bytes(writer, &address, code ? 0 : bytes);
}

void socket_address_text(const void *address, size_t bytes, char *text, size_t room)
{
	struct sockaddr_in in = {0};
	struct sockaddr_in6 in6 = {0};
	sa_family_t family = AF_UNSPEC;
	char host[INET6_ADDRSTRLEN] = "";

	if (bytes >= sizeof(family))
		memcpy(&family, address, sizeof(family));
	snprintf(text, room, "no address");
	if (family == AF_INET && bytes >= sizeof(in)) {
		memcpy(&in, address, sizeof(in));
		inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
		snprintf(text, room, "%s:%u", host, ntohs(in.sin_port));
	} else if (family == AF_INET6 && bytes >= sizeof(in6)) {
		memcpy(&in6, address, sizeof(in6));
		inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host));
		snprintf(text, room, "[%s]:%u", host, ntohs(in6.sin6_port));
	} else if (family == AF_UNIX && bytes > offsetof(struct sockaddr_un, sun_path)) {
		const char *path = (const char *)address + offsetof(struct sockaddr_un, sun_path);
		int length = (int)(bytes - offsetof(struct sockaddr_un, sun_path));

		if (*path)
			snprintf(text, room, "%.*s", length, path);
		else
			snprintf(text, room, "@%.*s", length - 1, path + 1);
	}
}
