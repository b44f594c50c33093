/* SPDX-License-Identifier: MIT */
/* connection.c - see connection.h. Never waits. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/connection.h"

#define ROOM_FIRST 4096u

void connection_open(struct connection *connection, int fd)
{
	*connection = (struct connection){.fd = fd};
}

void connection_close(struct connection *connection)
{
	close(connection->fd);
	free(connection->in);
	free(connection->out);
	*connection = (struct connection){.fd = -1};
}

static bool make_room(struct connection *connection)
{
	size_t room = connection->in_room ? 2 * connection->in_room : ROOM_FIRST;
	char *more;

	if (connection->in_bytes < connection->in_room)
		return true;
	more = realloc(connection->in, room);
	if (!more)
		return false;
	connection->in = more;
	connection->in_room = room;
	return true;
}

enum heard connection_next(const struct connection *connection)
{
	if (connection->in_bytes && memchr(connection->in, '\n', connection->in_bytes))
		return HEARD_LINE;
	if (connection->in_bytes > CONTROL_LINE_BYTES)
		return HEARD_TOO_LONG;
	if (connection->ended) /* the last one may lack its end */
		return connection->in_bytes ? HEARD_LINE : HEARD_END;
	return HEARD_NOTHING;
}

enum heard connection_hear(struct connection *connection)
{
	ssize_t got;

	while (connection->in_bytes <= CONTROL_LINE_BYTES) {
		if (!make_room(connection))
			return HEARD_TOO_LONG;
		got = recv(connection->fd, connection->in + connection->in_bytes,
			   connection->in_room - connection->in_bytes, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			break;
		if (got <= 0) {
			connection->ended = true;
			break;
		}
		connection->in_bytes += (size_t)got;
		if (memchr(connection->in + connection->in_bytes - got, '\n', (size_t)got))
			break;
	}
	return connection_next(connection);
}

const char *connection_line(const struct connection *connection, size_t *bytes)
{
	const char *end = memchr(connection->in, '\n', connection->in_bytes);

	*bytes = end ? (size_t)(end - connection->in) : connection->in_bytes;
	return connection->in;
}

void connection_line_done(struct connection *connection)
{
	size_t bytes;

	connection_line(connection, &bytes);
	bytes += bytes < connection->in_bytes; /* the newline */
	connection->in_bytes -= bytes;
	memmove(connection->in, connection->in + bytes, connection->in_bytes);
}

void connection_say(struct connection *connection, char *text, size_t bytes)
{
	free(connection->out);
	connection->out = text;
	connection->out_bytes = bytes;
	connection->out_done = 0;
}

bool connection_send(struct connection *connection)
{
	while (!connection_has_said(connection)) {
		ssize_t put = send(connection->fd, connection->out + connection->out_done,
				   connection->out_bytes - connection->out_done,
				   MSG_DONTWAIT | MSG_NOSIGNAL);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return errno == EAGAIN;
		connection->out_done += (size_t)put;
	}
	free(connection->out);
	connection->out = NULL;
	connection->out_bytes = connection->out_done = 0;
	return true;
}

bool connection_has_said(const struct connection *connection)
{
	return connection->out_done == connection->out_bytes;
}

uint32_t connection_events(const struct connection *connection)
{
	bool says = !connection_has_said(connection);
	bool hears = !says && !connection->request && !connection->ended && !connection->closes;

	return (says ? EPOLLOUT : 0u) | (hears ? EPOLLIN : 0u); /* and EPOLLHUP, always */
}
