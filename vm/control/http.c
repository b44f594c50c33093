/* SPDX-License-Identifier: MIT */
/*
 * http.c - see http.h. No thread of its own: libmicrohttpd waits in an epoll instance, and does what is to be done when it is
 * told (MHD_run). It looks at its listening socket no more while it has as many connections as it may, and only a further
 * MHD_run makes it look again: it does not come to that, as the oldest connection makes room for a new one, and each has its
 * time for a request, however slowly that comes. Must never listen where another machine can reach it: metrics tell what a program does, and
 * there is no password.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/format.h"
#include "control/http.h"
#include "control/microhttpd.h"

#define CONNECTIONS 32u
/* Those that were ended, and are still to be closed, too. */
#define CONNECTIONS_MOST (2 * CONNECTIONS)
/* For the first request of a connection, or the next one, and to read the answer. */
#define PATIENCE_NS 10000000000ull
#define REST_NS 100000000ull
#define MEMORY_BYTES (32u << 10) /* of a connection: what a request's head may have */
#define BACKLOG 64

struct client {
	bool used, ended;
	int fd; /* the library's, which closes it */
	uint64_t until_ns;
};

struct http {
	struct MHD_Daemon *daemon;
	struct client clients[CONNECTIONS_MOST];
	uint64_t started, closed; /* connections, ever */
	bool rests;
	void (*write)(void *arg, FILE *to);
	void *arg;
	char address[160];
	char *path; /* of the Unix socket; NULL: there is none */
	struct stat made;
	uint64_t due_ns;
};

/* ---- Where */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

static int refuse(const char *where, struct thaw_error *error)
{
	return failure(
		error, -EINVAL,
		"--metrics-listen is unix:PATH, 127.0.0.1:PORT or [::1]:PORT, not '%s': metrics "
		"are for this machine alone",
		where);
}

static bool take_port(const char *text, in_port_t *port)
{
	uint64_t number;

	if (!parse_number(text, &number) || number > 65535)
		return false;
	*port = htons((in_port_t)number);
	return true;
}

static int take_inet(const char *where, union address *address, socklen_t *length,
		     struct thaw_error *error)
{
	const char *colon = strrchr(where, ':');
	char host[64];

	*address = (union address){0};
	if (!colon || (size_t)(colon - where) >= sizeof(host))
		return refuse(where, error);
	snprintf(host, sizeof(host), "%.*s", (int)(colon - where), where);
	*length = sizeof(address->v4);
	address->v4.sin_family = AF_INET;
	if (inet_pton(AF_INET, host, &address->v4.sin_addr) == 1)
		return ntohl(address->v4.sin_addr.s_addr) >> 24 == 127 &&
				       take_port(colon + 1, &address->v4.sin_port)
			       ? 0
			       : refuse(where, error);
	*length = sizeof(address->v6);
	address->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	return !strcmp(host, "[::1]") && take_port(colon + 1, &address->v6.sin6_port)
		       ? 0
		       : refuse(where, error);
}

static int take_path(const char *path, union address *address, socklen_t *length,
		     struct thaw_error *error)
{
	size_t bytes = strlen(path) + 1;

	*address = (union address){.local = {.sun_family = AF_UNIX}};
	if (bytes == 1 || bytes > sizeof(address->local.sun_path))
		return failure(error, -EINVAL,
			       "--metrics-listen unix:%s: a socket's path has 1 to %zu bytes", path,
			       sizeof(address->local.sun_path) - 1);
	memcpy(address->local.sun_path, path, bytes);
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
	return 0;
}

/* ---- The socket */

static int fail(int fd, const char *where, struct thaw_error *error)
{
	int code = -errno;

	if (fd >= 0)
		close(fd);
	return failure(error, code, "--metrics-listen %s: %s", where, strerror(-code));
}

/* Of this user, and nobody listens there. */
static bool is_left(const struct sockaddr *address, socklen_t length, const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat status;
	bool left;

	left = fd >= 0 && !lstat(path, &status) && S_ISSOCK(status.st_mode) &&
	       status.st_uid == geteuid() && connect(fd, address, length) && errno == ECONNREFUSED;
	if (fd >= 0)
		close(fd);
	return left;
}

static int listen_at(struct http *http, const union address *address, socklen_t length,
		     const char *where, struct thaw_error *error)
{
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const char *path = address->local.sun_path;
	bool local = address->any.sa_family == AF_UNIX;
	int one = 1;

	if (fd < 0)
		return fail(fd, where, error);
	if (local)
		fchmod(fd, 0600);
	else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (local && is_left(&address->any, length, path))
		unlink(path);
	if (bind(fd, &address->any, length))
		return fail(fd, where, error);
	if (local && !lstat(path, &http->made))
		http->path = strdup(path);
	return listen(fd, BACKLOG) ? fail(fd, where, error) : fd;
}

static void note_address(struct http *http, int fd, const char *where)
{
	union address address;
	socklen_t length = sizeof(address);

	if (!strncmp(where, "unix:", 5) || getsockname(fd, &address.any, &length))
		snprintf(http->address, sizeof(http->address), "%s", where);
	else
		snprintf(http->address, sizeof(http->address), "http://%.*s:%u/metrics",
			 (int)(strrchr(where, ':') - where), where,
			 ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port
								: address.v6.sin6_port));
}

/* ---- Connections */

/* The library finds the end of it, as if the client had left, and closes it. */
static void end(struct client *client)
{
	client->ended = true;
	shutdown(client->fd, SHUT_RDWR);
}

/* Where there are more than so many: the oldest. False: there are not. */
static bool make_room(struct http *http, unsigned most)
{
	struct client *oldest = NULL;
	unsigned count = 0;

	for (unsigned i = 0; i < CONNECTIONS_MOST; i++) {
		struct client *client = &http->clients[i];

		if (!client->used || client->ended)
			continue;
		count++;
		if (!oldest || client->until_ns < oldest->until_ns)
			oldest = client;
	}
	if (count > most)
		end(oldest);
	return count > most;
}

static void begin(struct http *http, struct MHD_Connection *connection, void **state)
{
	unsigned i = 0;

	http->started++;
	while (i < CONNECTIONS_MOST && http->clients[i].used)
		i++;
	if (i == CONNECTIONS_MOST) /* the library has no more of them */
		return;
	http->clients[i] = (struct client){
		.used = true,
		.fd = microhttpd.get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
			      ->connect_fd,
		.until_ns = clock_monotonic_ns() + PATIENCE_NS,
	};
	*state = &http->clients[i];
	make_room(http, CONNECTIONS);
}

static void connection_changed(void *arg, struct MHD_Connection *connection, void **state,
			       enum MHD_ConnectionNotificationCode what)
{
	struct http *http = arg;
	struct client *client = *state;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		begin(http, connection, state);
		return;
	}
	http->closed++;
	if (client)
		client->used = false;
}

static void request_ended(void *arg, struct MHD_Connection *connection, void **state,
			  enum MHD_RequestTerminationCode how)
{
	struct client *client =
		microhttpd.get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
			->socket_context;

	(void)arg, (void)state, (void)how;
	if (client)
		client->until_ns = clock_monotonic_ns() + PATIENCE_NS;
}

/* Returns when the next one has had its time. */
static uint64_t end_late_ones(struct http *http)
{
	uint64_t now = clock_monotonic_ns(), next = UINT64_MAX;

	for (unsigned i = 0; i < CONNECTIONS_MOST; i++) {
		struct client *client = &http->clients[i];

		if (!client->used || client->ended)
			continue;
		if (client->until_ns <= now)
			end(client);
		else if (client->until_ns < next)
			next = client->until_ns;
	}
	return next;
}

/* ---- Answers */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
			      char *text, size_t bytes, enum MHD_ResponseMemoryMode memory)
{
	struct MHD_Response *response = microhttpd.create_response_from_buffer(bytes, text, memory);
	enum MHD_Result result;

	if (!response) {
		if (memory == MHD_RESPMEM_MUST_FREE)
			free(text);
		return MHD_NO;
	}
	microhttpd.add_response_header(response, "Content-Type", type);
	result = microhttpd.queue_response(connection, status, response);
	microhttpd.destroy_response(response);
	return result;
}

static enum MHD_Result answer_metrics(struct http *http, struct MHD_Connection *connection)
{
	char *text = NULL;
	size_t bytes;
	FILE *to = open_memstream(&text, &bytes);

	if (!to)
		return MHD_NO;
	http->write(http->arg, to);
	if (ferror(to) | fclose(to)) {
		free(text);
		return MHD_NO;
	}
	return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text,
		      bytes, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result take(void *arg, struct MHD_Connection *connection, const char *url,
			    const char *method, const char *version, const char *upload,
			    size_t *upload_bytes, void **state)
{
	static char elsewhere[] = "metrics are at /metrics\n", wrong[] = "GET and HEAD only\n";
	static char seen;

	(void)version, (void)upload;
	if (strcmp(method, "GET") && strcmp(method, "HEAD")) {
		*upload_bytes = 0; /* whatever it is */
		return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", wrong,
			      sizeof(wrong) - 1, MHD_RESPMEM_PERSISTENT);
	}
	if (!*state) { /* the head has come; an answer is wanted at the second call */
		*state = &seen;
		return MHD_YES;
	}
	if (strcmp(url, "/metrics"))
		return answer(connection, MHD_HTTP_NOT_FOUND, "text/plain", elsewhere,
			      sizeof(elsewhere) - 1, MHD_RESPMEM_PERSISTENT);
	return answer_metrics(arg, connection);
}

/* ---- */

static int start(struct http *http, int fd, const char *where, struct thaw_error *error)
{
	http->daemon = microhttpd.start_daemon(
		MHD_USE_EPOLL, 0, NULL, NULL, take, http, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MOST, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)MEMORY_BYTES, MHD_OPTION_NOTIFY_CONNECTION, connection_changed, http,
		MHD_OPTION_NOTIFY_COMPLETED, request_ended, http, MHD_OPTION_END);
	if (http->daemon)
		return 0;
	close(fd);
	return failure(error, -EIO, "--metrics-listen %s: libmicrohttpd cannot serve it", where);
}

int http_open(const char *where, struct http **http, struct thaw_error *error)
{
	bool local = !strncmp(where, "unix:", 5);
	struct http *made = calloc(1, sizeof(*made));
	union address address;
	socklen_t length = 0;
	int code, fd = -1;

	*http = NULL;
	if (!made)
		return failure(error, -ENOMEM, "out of memory");
	made->due_ns = UINT64_MAX;
	code = local ? take_path(where + 5, &address, &length, error)
		     : take_inet(where, &address, &length, error);
	if (!code)
		code = microhttpd_load(error);
	if (!code)
		code = fd = listen_at(made, &address, length, where, error);
	if (fd >= 0) {
		note_address(made, fd, where);
		code = start(made, fd, where, error);
	}
	if (code) {
		http_close(made);
		return code;
	}
	*http = made;
	return 0;
}

void http_answer_with(struct http *http, void (*write)(void *arg, FILE *to), void *arg)
{
	http->write = write;
	http->arg = arg;
}

const char *http_address(const struct http *http)
{
	return http->address;
}

int http_fd(const struct http *http)
{
	return microhttpd.get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

uint64_t http_due_ns(const struct http *http)
{
	return http->due_ns;
}

bool http_rests(const struct http *http)
{
	return http->rests;
}

static bool somebody_waits(const struct http *http)
{
	struct pollfd listener = {
		.fd = microhttpd.get_daemon_info(http->daemon, MHD_DAEMON_INFO_LISTEN_FD)
			      ->listen_fd,
		.events = POLLIN};

	return poll(&listener, 1, 0) > 0;
}

void http_serve(struct http *http)
{
	uint64_t started = http->started, closed = http->closed, next;
	bool waits = somebody_waits(http);
	MHD_UNSIGNED_LONG_LONG wait_ms;

	end_late_ones(http);
	microhttpd.run(http->daemon);
	http->due_ns = microhttpd.get_timeout(http->daemon, &wait_ms) == MHD_YES
			       ? clock_monotonic_ns() + wait_ms * 1000000ull
			       : UINT64_MAX;
	http->rests = false;
	if (http->closed != closed) { /* there is room: it looks whether others wait for that */
		http->due_ns = 0;
	} else if (waits && http->started == started && !make_room(http, 0)) {
		/* The process has no descriptor for it. */
		http->rests = true;
		http->due_ns = clock_monotonic_ns() + REST_NS;
	}
	next = end_late_ones(http);
	if (next < http->due_ns)
		http->due_ns = next;
}

void http_close(struct http *http)
{
	struct stat now;

	if (!http)
		return;
	if (http->daemon)
		microhttpd.stop_daemon(http->daemon); /* closes the socket, too */
	if (http->path && !lstat(http->path, &now) && now.st_dev == http->made.st_dev &&
	    now.st_ino == http->made.st_ino)
		unlink(http->path);
	free(http->path);
	free(http);
}
