/* SPDX-License-Identifier: MIT */
/*
 * server.c - see server.h.
 *
 *	line --> ask() --> answered
 *	           \--> taken --control_server_answer()--> answered
 *	                  \--(time is over, or client gone) give_up()--> forgotten, or answered to nobody
 *
 * One request of each connection at a time. Where all connections are in use, a new client takes the place of the one
 * that has been silent longest; if all of them wait for an answer, it is told so and closed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/json.h"
#include "base/text.h"
#include "control/connection.h"
#include "control/server.h"

#define CONNECTIONS 32u
#define ACCEPTED_AT_ONCE 64u
/* A client has so long for a line, for the next one, and to read an answer. */
#define PATIENCE_NS 10000000000ull
/* ... and at the end. */
#define LAST_PATIENCE_NS 1000000000ull
/* How long it looks at no listener when the process has no descriptor for who comes. */
#define REST_NS 100000000ull
#define STACK_BYTES (1u << 20)

enum listener { BESIDE, ABSTRACT, LISTENERS };

struct control_server {
	struct control_ops ops;
	struct http *http;
	pthread_t thread;
	int epoll, wake;

	/* The thread's. */
	struct connection connections[CONNECTIONS];
	int listeners[LISTENERS];
	struct control_place place;
	struct stat made;	 /* the socket at that place; with the listener */
	uint64_t rests_until_ns; /* 0: it does not */
	bool http_rests;
	bool ends;
	uint64_t ends_ns;

	pthread_mutex_t lock;		  /* for what follows */
	struct control_request *answered; /* the newest first */
	bool listens;			  /* ... for another image from now on */
	char image[PATH_MAX], id[CONTROL_ID_ROOM];
	bool quit;
};

/* ---- Answers */

struct json control_well(FILE *answer)
{
	struct json json = {.to = answer};

	json_open(&json, NULL, '{');
	json_bool(&json, "ok", true);
	return json;
}

void control_refuse(FILE *answer, int code, const char *format, ...)
{
	struct json json = {.to = answer};
	char text[600];
	va_list arguments;

	va_start(arguments, format);
	text_cut(text, sizeof(text), (size_t)vsnprintf(text, sizeof(text), format, arguments));
	va_end(arguments);
	json_open(&json, NULL, '{');
	json_bool(&json, "ok", false);
	json_number(&json, "code", (uint64_t)code);
	json_text(&json, "error", text);
	json_close(&json, '}');
}

bool control_line_begin(struct control_line *line)
{
	*line = (struct control_line){0};
	line->to = open_memstream(&line->text, &line->bytes);
	return line->to;
}

bool control_line_end(struct control_line *line)
{
	bool whole;

	putc('\n', line->to);
	whole = !ferror(line->to);
	if (!fclose(line->to) && whole)
		return true;
	free(line->text);
	line->text = NULL;
	return false;
}

/* ---- Connections */

static void watch(struct control_server *server, struct connection *connection)
{
	struct epoll_event event = {.events = connection_events(connection),
				    .data.ptr = connection};

	if (event.events == connection->events)
		return;
	connection->events = event.events;
	epoll_ctl(server->epoll, EPOLL_CTL_MOD, connection->fd, &event);
}

static void leave(struct control_server *server, struct connection *connection)
{
	struct control_request *request = connection->request;

	if (request) {
		request->connection = NULL;
		if (server->ops.give_up(server->ops.arg, request, NULL))
			control_request_free(request);
	}
	connection_close(connection); /* which takes it out of the epoll instance */
}

static void say(struct connection *connection, struct control_line *line)
{
	if (control_line_end(line))
		connection_say(connection, line->text, line->bytes);
	else
		connection->closes = true; /* without an answer */
	connection->deadline_ns = clock_monotonic_ns() + PATIENCE_NS;
}

static void refuse_line(struct connection *connection, const struct thaw_error *error)
{
	struct control_line line;

	if (!control_line_begin(&line)) {
		connection->closes = true;
		return;
	}
	control_refuse(line.to, 9, "%s", error->text);
	say(connection, &line);
}

static void ask(struct control_server *server, struct connection *connection)
{
	struct control_request *request;
	struct thaw_error error;
	struct control_line line;
	size_t bytes;
	const char *text = connection_line(connection, &bytes);

	request = control_request_parse(text, bytes, &error);
	connection_line_done(connection);
	if (!request) {
		refuse_line(connection, &error);
		return;
	}
	if (!control_line_begin(&line)) {
		control_request_free(request);
		connection->closes = true;
		return;
	}
	/* Before it is taken: the answer may be on its way when ask() returns. */
	request->connection = connection;
	connection->request = request;
	connection->deadline_ns = clock_monotonic_ns() + request->timeout_ns;
	if (!server->ops.ask(server->ops.arg, request, line.to)) {
		fclose(line.to);
		free(line.text);
		return;
	}
	connection->request = NULL;
	control_request_free(request);
	say(connection, &line);
}

/* As far as it goes without waiting: lines in, answers out. */
static void go_on(struct control_server *server, struct connection *connection, enum heard heard)
{
	struct thaw_error error;

	for (;;) {
		if (!connection_send(connection)) {
			leave(server, connection);
			return;
		}
		if (connection->request || !connection_has_said(connection))
			break;
		if (connection->closes || heard == HEARD_END) {
			leave(server, connection);
			return;
		}
		if (heard == HEARD_NOTHING)
			break;
		if (heard == HEARD_TOO_LONG) {
			failure(&error, -EMSGSIZE, "a line has at most %u bytes",
				CONTROL_LINE_BYTES);
			refuse_line(connection, &error);
			connection->closes = true;
			continue;
		}
		ask(server, connection);
		heard = connection_next(connection);
	}
	watch(server, connection);
}

static void ready(struct control_server *server, struct connection *connection, uint32_t events)
{
	enum heard heard = connection_next(connection);

	if (connection->fd < 0)
		return; /* it left in this round */
	if (events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN)) {
		leave(server, connection);
		return;
	}
	if (events & EPOLLIN)
		heard = connection_hear(connection);
	go_on(server, connection, heard);
}

/* A free place; or that of who has said nothing for the longest time. NULL: all wait for an answer. */
static struct connection *find_place(struct control_server *server)
{
	struct connection *silent = NULL;

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct connection *connection = &server->connections[i];

		if (connection->fd < 0)
			return connection;
		if (!connection->request &&
		    (!silent || connection->deadline_ns < silent->deadline_ns))
			silent = connection;
	}
	if (silent)
		leave(server, silent);
	return silent;
}

static void turn_away(int fd, int code, const char *why)
{
	struct control_line line;

	if (control_line_begin(&line)) {
		control_refuse(line.to, code, "%s", why);
		if (control_line_end(&line) &&
		    send(fd, line.text, line.bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			errno = 0; /* it has gone, then */
		free(line.text);
	}
	close(fd);
}

static void watch_listeners(struct control_server *server, uint32_t events)
{
	for (unsigned i = 0; i < LISTENERS; i++) {
		struct epoll_event event = {.events = events, .data.ptr = &server->listeners[i]};

		if (server->listeners[i] >= 0)
			epoll_ctl(server->epoll, EPOLL_CTL_MOD, server->listeners[i], &event);
	}
}

/* Nobody came after all, or for now there is nothing for who did: a listener would say so all the time. */
static void note_no_client(struct control_server *server)
{
	if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
		return;
	server->rests_until_ns = clock_monotonic_ns() + REST_NS;
	watch_listeners(server, 0);
}

static void accept_clients(struct control_server *server, int listener)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct connection *connection;

	for (unsigned i = 0; i < ACCEPTED_AT_ONCE; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			note_no_client(server);
			return;
		}
		if (!control_may_ask(fd)) {
			turn_away(fd, 66, "only the user who runs the program, and root, may ask");
			continue;
		}
		connection = find_place(server);
		if (!connection) {
			turn_away(fd, 75, "too many others wait for an answer: try again later");
			continue;
		}
		connection_open(connection, fd);
		connection->deadline_ns = clock_monotonic_ns() + PATIENCE_NS;
		connection->events = event.events;
		event.data.ptr = connection;
		if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event))
			connection_close(connection);
	}
}

/* ---- What others ask of the thread */

static void stop_listening(struct control_server *server)
{
	if (server->listeners[BESIDE] >= 0)
		control_remove(&server->place, &server->made);
	control_place_close(&server->place);
	for (unsigned i = 0; i < LISTENERS; i++) {
		if (server->listeners[i] >= 0)
			close(server->listeners[i]);
		server->listeners[i] = -1;
	}
}

/* What cannot be had is done without: there are two of them. */
static void start_listening(struct control_server *server, const char *image, const char *id)
{
	/* Who has connected to what is closed now is heard. */
	for (unsigned i = 0; i < LISTENERS; i++)
		if (server->listeners[i] >= 0)
			accept_clients(server, server->listeners[i]);
	stop_listening(server);
	if (!control_place_open(image, &server->place))
		server->listeners[BESIDE] = control_listen_at(&server->place, &server->made);
	server->listeners[ABSTRACT] = control_listen_abstract(id);
	for (unsigned i = 0; i < LISTENERS; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &server->listeners[i]};

		if (server->listeners[i] >= 0)
			epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->listeners[i], &event);
	}
}

static void bring(struct control_server *server, struct control_request *request)
{
	struct connection *connection = request->connection;

	if (connection) {
		connection->request = NULL;
		if (request->answer)
			connection_say(connection, request->answer, request->answer_bytes);
		else
			connection->closes = true;
		request->answer = NULL;
		connection->deadline_ns = clock_monotonic_ns() + PATIENCE_NS;
		go_on(server, connection, connection_next(connection));
	}
	control_request_free(request);
}

static void look(struct control_server *server)
{
	struct control_request *answered;
	char image[PATH_MAX], id[CONTROL_ID_ROOM];
	uint64_t woken;
	bool listens;

	while (read(server->wake, &woken, sizeof(woken)) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&server->lock);
	answered = server->answered;
	server->answered = NULL;
	listens = server->listens;
	server->listens = false;
	memcpy(image, server->image, sizeof(image));
	memcpy(id, server->id, sizeof(id));
	if (server->quit && !server->ends) {
		server->ends = true;
		server->ends_ns = clock_monotonic_ns() + LAST_PATIENCE_NS;
	}
	pthread_mutex_unlock(&server->lock);
	if (listens) /* no memory of the heap's is touched: the first such use by a thread costs more than all the rest */
		start_listening(server, image, id);
	while (answered) {
		struct control_request *next = answered->next;

		bring(server, answered);
		answered = next;
	}
}

/* ---- Time */

static void expire(struct control_server *server, struct connection *connection)
{
	struct control_request *request = connection->request;
	struct control_line line;
	bool forgotten;

	if (!request || !control_line_begin(&line)) {
		leave(server, connection);
		return;
	}
	connection->request = NULL;
	request->connection = NULL;
	forgotten = server->ops.give_up(server->ops.arg, request, line.to);
	say(connection, &line);
	if (forgotten)
		control_request_free(request);
	go_on(server, connection, connection_next(connection));
}

/* Until when there is nothing to do; UINT64_MAX: for ever. */
static uint64_t next_deadline(const struct control_server *server)
{
	uint64_t due = server->ends ? server->ends_ns : UINT64_MAX;
	uint64_t http = server->http ? http_due_ns(server->http) : UINT64_MAX;

	for (unsigned i = 0; i < CONNECTIONS; i++)
		if (server->connections[i].fd >= 0 && server->connections[i].deadline_ns < due)
			due = server->connections[i].deadline_ns;
	if (server->rests_until_ns && server->rests_until_ns < due)
		due = server->rests_until_ns;
	return http < due ? http : due;
}

static int milliseconds_to(uint64_t due_ns)
{
	uint64_t now = clock_monotonic_ns(), wait = due_ns > now ? due_ns - now : 0;

	if (due_ns == UINT64_MAX)
		return -1;
	return wait > 3600000000000ull ? 3600000 : (int)((wait + 999999) / 1000000);
}

/* ---- The thread */

static bool has_answers_to_bring(const struct control_server *server)
{
	for (unsigned i = 0; i < CONNECTIONS; i++)
		if (server->connections[i].fd >= 0 && !connection_has_said(&server->connections[i]))
			return true;
	return false;
}

static bool is_listener(const struct control_server *server, const void *what)
{
	return what == &server->listeners[BESIDE] || what == &server->listeners[ABSTRACT];
}

static void serve_http(struct control_server *server)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &server->http};

	http_serve(server->http);
	if (http_rests(server->http) == server->http_rests)
		return;
	server->http_rests = !server->http_rests;
	event.events = server->http_rests ? 0 : EPOLLIN;
	epoll_ctl(server->epoll, EPOLL_CTL_MOD, http_fd(server->http), &event);
}

static void handle(struct control_server *server, const struct epoll_event *event)
{
	if (event->data.ptr == &server->wake)
		look(server);
	else if (event->data.ptr == &server->http)
		serve_http(server);
	else if (!is_listener(server, event->data.ptr))
		ready(server, event->data.ptr, event->events);
}

/* New clients last: they may be given places that events of this round are for. */
static void handle_all(struct control_server *server, const struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++)
		handle(server, &events[i]);
	for (int i = 0; i < count; i++)
		if (is_listener(server, events[i].data.ptr) && *(int *)events[i].data.ptr >= 0)
			accept_clients(server, *(int *)events[i].data.ptr);
}

static void *serve(void *arg)
{
	struct control_server *server = arg;
	struct epoll_event events[16];

	pthread_setname_np(pthread_self(), "thaw-control");
	while (!server->ends ||
	       (has_answers_to_bring(server) && clock_monotonic_ns() < server->ends_ns)) {
		int count = epoll_wait(server->epoll, events, 16,
				       milliseconds_to(next_deadline(server)));
		uint64_t now;

		handle_all(server, events, count);
		now = clock_monotonic_ns();
		for (unsigned i = 0; i < CONNECTIONS; i++)
			if (server->connections[i].fd >= 0 &&
			    server->connections[i].deadline_ns <= now)
				expire(server, &server->connections[i]);
		if (server->http && http_due_ns(server->http) <= now)
			serve_http(server);
		if (server->rests_until_ns && server->rests_until_ns <= now) {
			server->rests_until_ns = 0;
			watch_listeners(server, EPOLLIN);
		}
	}
	return NULL;
}

static bool start_thread(struct control_server *server)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	code = pthread_create(&server->thread, &attributes, serve, server);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = code;
	return !code;
}

static bool open_events(struct control_server *server)
{
	struct epoll_event wake = {.events = EPOLLIN, .data.ptr = &server->wake};
	struct epoll_event http = {.events = EPOLLIN, .data.ptr = &server->http};

	server->epoll = epoll_create1(EPOLL_CLOEXEC);
	server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return server->epoll >= 0 && server->wake >= 0 &&
	       !epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->wake, &wake) &&
	       (!server->http ||
		!epoll_ctl(server->epoll, EPOLL_CTL_ADD, http_fd(server->http), &http));
}

static void free_server(struct control_server *server)
{
	if (server->epoll >= 0)
		close(server->epoll);
	if (server->wake >= 0)
		close(server->wake);
	http_close(server->http);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

int control_server_open(const struct control_ops *ops, struct http *http,
			struct control_server **server, struct thaw_error *error)
{
	struct control_server *made = calloc(1, sizeof(*made));

	*server = NULL;
	if (!made) {
		http_close(http);
		return failure(error, -ENOMEM, "out of memory");
	}
	made->ops = *ops;
	made->http = http;
	made->epoll = made->wake = -1;
	made->place.directory = AT_FDCWD;
	for (unsigned i = 0; i < LISTENERS; i++)
		made->listeners[i] = -1;
	for (unsigned i = 0; i < CONNECTIONS; i++)
		made->connections[i].fd = -1;
	pthread_mutex_init(&made->lock, NULL);
	if (!open_events(made) || !start_thread(made)) {
		int code = errno ? -errno : -EIO;

		free_server(made);
		return failure(error, code, "%s", thaw_strerror(code));
	}
	*server = made;
	return 0;
}

/* With the lock. */
static void wake(struct control_server *server)
{
	uint64_t one = 1;

	while (write(server->wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void control_server_listen(struct control_server *server, const char *image, const char *id)
{
	pthread_mutex_lock(&server->lock);
	server->listens = true;
	snprintf(server->image, sizeof(server->image), "%s", image);
	snprintf(server->id, sizeof(server->id), "%s", id);
	wake(server);
	pthread_mutex_unlock(&server->lock);
}

void control_server_answer(struct control_server *server, struct control_request *request,
			   char *line, size_t bytes)
{
	pthread_mutex_lock(&server->lock);
	request->answer = line;
	request->answer_bytes = bytes;
	request->next = server->answered;
	server->answered = request;
	wake(server);
	pthread_mutex_unlock(&server->lock);
}

void control_server_close(struct control_server *server)
{
	if (!server)
		return;
	pthread_mutex_lock(&server->lock);
	server->quit = true;
	wake(server);
	pthread_mutex_unlock(&server->lock);
	pthread_join(server->thread, NULL);
	stop_listening(server);
	for (unsigned i = 0; i < CONNECTIONS; i++)
		if (server->connections[i].fd >= 0)
			leave(server, &server->connections[i]);
	while (server->answered) {
		struct control_request *next = server->answered->next;

		control_request_free(server->answered);
		server->answered = next;
	}
	free_server(server);
}
