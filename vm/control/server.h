/* SPDX-License-Identifier: MIT */
/*
 * server.h - the thread that answers whoever speaks to a running program: its sockets, its connections, its lines, and HTTP
 * for metrics. It knows what is asked (protocol.h), and whom to ask (struct control_ops), nothing of a program.
 *
 * It sleeps in epoll while nobody asks. Bounded: connections, lines, and the time that either has. So a client that says
 * nothing, or never reads, harms nobody but itself.
 */
#ifndef VM_CONTROL_SERVER_H
#define VM_CONTROL_SERVER_H

#include <stdio.h>

#include "base/json.h"
#include "control/http.h"
#include "control/protocol.h"

struct control_ops { /* all on the server's thread */
	void *arg;
	/*
	 * True: the line of the answer is in `answer`. False: the request is taken, and control_server_answer() follows.
	 */
	bool (*ask)(void *arg, struct control_request *request, FILE *answer);
	/*
	 * Its time is over, which `answer` is to be told; NULL: who asked has gone. True: it has not begun, and is not going to.
	 * False: it goes on, and control_server_answer() follows, though nobody hears it.
	 */
	bool (*give_up)(void *arg, struct control_request *request, FILE *answer);
};

struct control_server;

/* Its thread is started; nobody can connect yet. `http` is the server's from then on; may be NULL. */
int control_server_open(const struct control_ops *ops, struct http *http,
			struct control_server **server, struct thaw_error *error);
/* Listen for an image from now on, and for no other. Returns at once. Any thread. */
void control_server_listen(struct control_server *server, const char *image, const char *id);
/* What a taken request has come to: a line, malloc'ed; NULL: no memory. Both are the server's from then on. Any thread. */
void control_server_answer(struct control_server *server, struct control_request *request,
			   char *line, size_t bytes);
/* Bring the answers out, for a moment; remove the socket; end the thread. NULL is allowed. */
void control_server_close(struct control_server *server);

/* The line of an answer, as it is written. */
struct control_line {
	FILE *to;
	char *text; /* malloc'ed */
	size_t bytes;
};
bool control_line_begin(struct control_line *line);
/* Adds its end. False: no memory; there is no text. */
bool control_line_end(struct control_line *line);

/* An answer that all is well: its members follow, and json_close(). */
struct json control_well(FILE *answer);
/* An answer that says why not. `code`: an exit code. */
void control_refuse(FILE *answer, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
