/* SPDX-License-Identifier: MIT */
/* connection.h - one client of the control socket: its bytes in and out, and until when they are waited for. The server's thread. */
#ifndef VM_CONTROL_CONNECTION_H
#define VM_CONTROL_CONNECTION_H

#include "control/protocol.h"

enum heard {
	HEARD_LINE,	/* the next one is complete: connection_line() */
	HEARD_NOTHING,	/* ... is not */
	HEARD_END,	/* there will be none */
	HEARD_TOO_LONG, /* it is longer than a line may be */
};

struct connection {
	int fd; /* -1: this place is free */
	char *in, *out;
	size_t in_bytes, in_room, out_bytes, out_done;
	struct control_request *request; /* under way */
	uint64_t deadline_ns;		 /* of the request, or of what the client has to do */
	uint32_t events;		 /* that are waited for */
	bool ended;			 /* the client says no more */
	bool closes;			 /* ... nor do we, once all is out */
};

void connection_open(struct connection *connection, int fd);
void connection_close(struct connection *connection);
/* Take what has come. */
enum heard connection_hear(struct connection *connection);
/* Is there another line in what was taken already? */
enum heard connection_next(const struct connection *connection);
/* The line, without its end; valid until connection_line_done(). */
const char *connection_line(const struct connection *connection, size_t *bytes);
void connection_line_done(struct connection *connection);
/* Say this, malloc'ed. Nothing else waits to be said. */
void connection_say(struct connection *connection, char *text, size_t bytes);
/* Bring out what can be. False: the client has gone. */
bool connection_send(struct connection *connection);
bool connection_has_said(const struct connection *connection);
/* What to wait for, as epoll(7) has it. */
uint32_t connection_events(const struct connection *connection);

#endif
