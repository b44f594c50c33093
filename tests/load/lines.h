/* SPDX-License-Identifier: MIT */
/*
 * lines.h - a line server, as small as one can be: epoll, one thread, a request and its answer are a line each (load.h).
 * What it does with a line is its user's; answers of one round of epoll_wait() can be held back until that user says so
 * (group commit). Included by one source file of a program.
 */
#ifndef TESTS_LOAD_LINES_H
#define TESTS_LOAD_LINES_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINES_ROOM 16384u
#define LINES_MOST 256u /* events of one round */

struct lines {
	uint64_t (*answer)(const char *request);
	void (*end_of_round)(
		void); /* before the answers of a round are sent; NULL: each is sent at once */
};

struct lines_peer {
	int fd;
	size_t in_bytes, out_bytes;
	char in[LINES_ROOM], out[LINES_ROOM];
};

static inline _Noreturn void lines_die(const char *what)
{
	perror(what);
	exit(1);
}

/* Everything, or the peer is gone: its requests are short, and it reads. False: it is gone. */
static inline bool lines_send(struct lines_peer *peer)
{
	size_t sent = 0;

	while (sent < peer->out_bytes) {
		ssize_t some =
			send(peer->fd, peer->out + sent, peer->out_bytes - sent, MSG_NOSIGNAL);

		if (some < 0 && errno != EINTR)
			return false;
		sent += some < 0 ? 0 : (size_t)some;
	}
	peer->out_bytes = 0;
	return true;
}

/* Answers the whole lines that are there, as many as there is room for; false: the peer is gone. */
static inline bool lines_take(const struct lines *lines, struct lines_peer *peer)
{
	char *line = peer->in, *end;

	while ((end = memchr(line, '\n', peer->in_bytes - (size_t)(line - peer->in)))) {
		*end = '\0';
		if (LINES_ROOM - peer->out_bytes < 32 && !lines_send(peer))
			return false;
		peer->out_bytes += (size_t)snprintf(peer->out + peer->out_bytes, 32, "%llu\n",
						    (unsigned long long)lines->answer(line));
		line = end + 1;
	}
	peer->in_bytes -= (size_t)(line - peer->in);
	memmove(peer->in, line, peer->in_bytes);
	return lines->end_of_round || lines_send(peer);
}

static inline bool lines_hear(const struct lines *lines, struct lines_peer *peer)
{
	ssize_t got = recv(peer->fd, peer->in + peer->in_bytes, LINES_ROOM - peer->in_bytes, 0);

	if (got < 0 && errno == EINTR)
		return true;
	if (got <= 0)
		return false;
	peer->in_bytes += (size_t)got;
	return lines_take(lines, peer);
}

static inline void lines_accept(int epoll, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
	struct lines_peer *peer = fd < 0 ? NULL : calloc(1, sizeof(*peer));
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};

	if (fd < 0)
		return;
	if (!peer)
		lines_die("calloc");
	peer->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		lines_die("epoll_ctl");
}

static inline void lines_end(struct lines_peer *peer)
{
	close(peer->fd);
	free(peer);
}

static inline void lines_round(const struct lines *lines, int epoll, int listener)
{
	struct epoll_event events[LINES_MOST];
	struct lines_peer *heard[LINES_MOST];
	int count = epoll_wait(epoll, events, LINES_MOST, -1), peers = 0;

	for (int i = 0; i < count; i++) {
		if (!events[i].data.ptr)
			lines_accept(epoll, listener);
		else if (lines_hear(lines, events[i].data.ptr))
			heard[peers++] = events[i].data.ptr;
		else
			lines_end(events[i].data.ptr);
	}
	if (peers && lines->end_of_round)
		lines->end_of_round();
	for (int i = 0; i < peers; i++)
		if (!lines_send(heard[i]))
			lines_end(heard[i]);
}

/* Serves on a port of 127.0.0.1, for ever; says 'listening on PORT'. */
static inline _Noreturn void lines_serve(const struct lines *lines, unsigned port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	    epoll = epoll_create1(EPOLL_CLOEXEC), one = 1;
	struct epoll_event event = {.events = EPOLLIN};

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (listener < 0 || epoll < 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 1024) || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
		lines_die("a port");
	printf("listening on %u\n", port);
	fflush(stdout);
	for (;;)
		lines_round(lines, epoll, listener);
}

#endif
