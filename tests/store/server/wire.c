// SPDX-License-Identifier: GPL-2.0-only
/*
 * wire.c - the wire between clients and the server: forwards the bytes of each connection, and fails on purpose: cuts a connection
 * after so many bytes of a request or an answer, lets it hang, or is not there at all. A fault is for the connection that
 * has the first byte in its direction after it was ordered; so a test that has one request under way knows where it strikes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/tcp.h>

#include "server.h"

#define CONNECTIONS 512

static struct connection {
	bool used, claimed[2], hangs[2];
	int fd[2];	  /* the client's, the server's */
	uint64_t left[2]; /* claimed: until it strikes; of requests, of answers */
	bool hang[2];
} connections[CONNECTIONS];

static struct order {
	unsigned count;
	uint64_t after;
	bool hang;
} orders[2];

static _Atomic size_t slowness;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int listener = -1, wakes[2];
static uint16_t port, inner;
static struct in_addr outer;

static int listen_at(uint16_t wanted)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(wanted), .sin_addr = outer};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	socklen_t bytes = sizeof(address);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 512) ||
	    getsockname(fd, (struct sockaddr *)&address, &bytes))
		die("port %u: %s", wanted, strerror(errno));
	port = ntohs(address.sin_port);
	return fd;
}

static int connect_to_server(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(inner),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	close(fd); /* a real store that is killed */
	return -1;
}

/* How many of `bytes` may pass, in one direction. Less: then the fault strikes. */
static size_t allowed(struct connection *connection, unsigned direction, size_t bytes)
{
	struct order *order = &orders[direction];

	if (connection->hangs[direction])
		return 0;
	if (!connection->claimed[direction]) {
		if (!order->count)
			return bytes;
		order->count--;
		connection->claimed[direction] = true;
		connection->left[direction] = order->after;
		connection->hang[direction] = order->hang;
	}
	if (bytes <= connection->left[direction] && connection->left[direction]) {
		connection->left[direction] -= bytes;
		/* With the last byte that it may have: the next one strikes. */
		return bytes;
	}
	bytes = connection->left[direction];
	connection->left[direction] = 0;
	return bytes;
}

static bool send_all(int fd, const char *bytes, size_t count)
{
	while (count) {
		ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		bytes += sent;
		count -= (size_t)sent;
	}
	return true;
}

/* False: it is over. */
static bool forward(struct connection *connection, unsigned direction)
{
	size_t slow = direction ? 0 : slowness, may;
	char bytes[65536];
	ssize_t got = recv(connection->fd[direction], bytes, slow ? slow : sizeof(bytes), 0);

	if (got <= 0)
		return false;
	if (slow)
		usleep(25000);
	pthread_mutex_lock(&lock);
	may = allowed(connection, direction, (size_t)got);
	if (may < (size_t)got && connection->hang[direction])
		connection->hangs[direction] = true;
	pthread_mutex_unlock(&lock);
	return send_all(connection->fd[!direction], bytes, may) &&
	       (may == (size_t)got || connection->hangs[direction]);
}

static void *carry(void *arg)
{
	struct connection *connection = arg;
	bool goes = true;

	while (goes) {
		struct pollfd wait[2] = {{connection->fd[0], POLLIN, 0},
					 {connection->fd[1], POLLIN, 0}};

		if (poll(wait, 2, -1) < 0)
			continue;
		for (unsigned i = 0; i < 2 && goes; i++)
			if (wait[i].revents)
				goes = forward(connection, i);
	}
	pthread_mutex_lock(&lock);
	close(connection->fd[0]);
	close(connection->fd[1]);
	*connection = (struct connection){0};
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void begin(int fd)
{
	struct connection *connection = NULL;
	int one = 1, server = connect_to_server();
	pthread_t thread;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < CONNECTIONS && !connection; i++)
		if (!connections[i].used)
			connection = &connections[i];
	if (!connection || server < 0) {
		pthread_mutex_unlock(&lock);
		close(fd);
		if (server >= 0)
			close(server);
		return;
	}
	*connection = (struct connection){.used = true, .fd = {fd, server}};
	setsockopt(connection->fd[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(connection->fd[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	pthread_mutex_unlock(&lock);
	if (pthread_create(&thread, NULL, carry, connection))
		die("no thread");
	pthread_detach(thread);
}

static void *accept_all(void *arg)
{
	(void)arg;
	for (;;) {
		struct pollfd wait[2] = {{wakes[0], POLLIN, 0}, {-1, POLLIN, 0}};
		char byte;

		pthread_mutex_lock(&lock);
		wait[1].fd = listener;
		pthread_mutex_unlock(&lock);
		if (poll(wait, 2, -1) <= 0)
			continue;
		if (wait[0].revents && read(wakes[0], &byte, 1) != 1)
			die("a pipe that is gone");
		if (wait[1].revents) {
			int fd = accept4(wait[1].fd, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				begin(fd);
		}
	}
	return NULL;
}

/* ---- */

void wire_begin(const char *address, uint16_t wanted, uint16_t to, uint16_t *got)
{
	pthread_t thread;

	inner = to;
	if (inet_pton(AF_INET, address, &outer) != 1)
		die("%s is not an address", address);
	if (pipe2(wakes, O_CLOEXEC))
		die("no pipe");
	listener = listen_at(wanted);
	*got = port;
	if (pthread_create(&thread, NULL, accept_all, NULL))
		die("no thread");
	pthread_detach(thread);
}

void wire_fault(bool response, uint64_t after, bool hang, unsigned count)
{
	pthread_mutex_lock(&lock);
	orders[response] = (struct order){.count = count, .after = after, .hang = hang};
	pthread_mutex_unlock(&lock);
}

void wire_slow(size_t bytes)
{
	slowness = bytes < 65536 ? bytes : 65536;
}

static void cut_all(bool only_those_that_hang)
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct connection *connection = &connections[i];

		if (!connection->used ||
		    (only_those_that_hang && !connection->hangs[0] && !connection->hangs[1]))
			continue;
		shutdown(connection->fd[0], SHUT_RDWR);
		shutdown(connection->fd[1], SHUT_RDWR);
	}
}

bool wire_is_armed(void)
{
	bool armed;

	pthread_mutex_lock(&lock);
	armed = orders[0].count || orders[1].count;
	for (unsigned i = 0; i < CONNECTIONS; i++)
		armed |= connections[i].used &&
			 (connections[i].claimed[0] || connections[i].claimed[1]) &&
			 !connections[i].hangs[0] && !connections[i].hangs[1];
	pthread_mutex_unlock(&lock);
	return armed;
}

void wire_clear(void)
{
	pthread_mutex_lock(&lock);
	memset(orders, 0, sizeof(orders));
	slowness = 0;
	for (unsigned i = 0; i < CONNECTIONS; i++)
		connections[i].claimed[0] = connections[i].claimed[1] = false;
	cut_all(true);
	pthread_mutex_unlock(&lock);
	wire_gone(false);
}

void wire_gone(bool gone)
{
	pthread_mutex_lock(&lock);
	if (gone && listener >= 0) {
		shutdown(listener, SHUT_RDWR);
		close(listener);
		listener = -1;
		cut_all(false);
	} else if (!gone && listener < 0) {
		listener = listen_at(port);
	}
	pthread_mutex_unlock(&lock);
	if (write(wakes[1], "x", 1) != 1)
		die("a pipe that is gone");
}
