/* SPDX-License-Identifier: MIT */
/*
 * requests.c - see requests.h.
 *
 * Each request is a waiter of the policy's (owner_checkpoint()), which says what its checkpoint came to. Called by the
 * guest's loop. Must never wait for a client: who does not read its answer has none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "guest.h"
#include "process/remote/remote.h"
#include "process/requests.h"

socklen_t requests_address(const struct stat *image, struct sockaddr_un *address)
{
	int length;

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	length = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1,
			  "thaw-checkpoint/%x:%x/%llx", major(image->st_dev), minor(image->st_dev),
			  (unsigned long long)image->st_ino);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static int listen_at(const char *image)
{
	struct sockaddr_un address;
	struct stat status;
	socklen_t length;
	int fd;

	if (!image || stat(image, &status))
		return -1;
	length = requests_address(&status, &address);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (!bind(fd, (struct sockaddr *)&address, length) && !listen(fd, 8))
		return fd;
	close(fd);
	return -1;
}

void requests_open(struct requests *requests, struct runtime *owner, struct remote *remote,
		   const char *image)
{
	requests->owner = owner;
	requests->remote = remote;
	requests->listener = listen_at(image);
}

void requests_close(struct requests *requests)
{
	for (unsigned i = 0; i < requests->count; i++)
		if (requests->list[i].fd >= 0)
			close(requests->list[i].fd);
	requests->count = 0;
	requests->remote = NULL;
	if (requests->listener >= 0)
		close(requests->listener);
	requests->listener = -1;
}

unsigned requests_poll(const struct requests *requests, struct pollfd *list)
{
	unsigned count = 0;

	if (requests->listener >= 0)
		list[count++] = (struct pollfd){requests->listener, POLLIN, 0};
	if (requests->remote && requests->remote->socket >= 0)
		list[count++] = (struct pollfd){requests->remote->socket, POLLIN, 0};
	for (unsigned i = 0; i < requests->count; i++)
		if (requests->list[i].fd >= 0)
			list[count++] = (struct pollfd){requests->list[i].fd, POLLIN, 0};
	return count;
}

/* ---- Answers */

static void answer(struct requests *requests, struct requester *requester, int code,
		   uint64_t generation, const char *text)
{
	struct answer what = {.number = requester->number, .code = code, .generation = generation};

	snprintf(what.text, sizeof(what.text), "%s", text ? text : "");
	if (requester->fd >= 0)
		send(requester->fd, &what, sizeof(what), MSG_DONTWAIT | MSG_NOSIGNAL);
	else if (requests->remote)
		remote_answer(requests->remote, &what);
}

static void forget(struct requests *requests, unsigned index)
{
	if (requests->list[index].fd >= 0)
		close(requests->list[index].fd);
	requests->list[index] = requests->list[--requests->count];
}

void requests_tell(struct requests *requests)
{
	struct guest_outcome outcome;

	while (owner_take_outcome(requests->owner, &outcome)) {
		const struct thaw_result *result = &outcome.result;

		for (unsigned i = 0; outcome.waited_for && i < requests->count;) {
			struct requester *requester = &requests->list[i];

			if (!requester->waiter || requester->waiter > outcome.last) {
				i++;
				continue;
			}
			answer(requests, requester, result->code, result->generation.number,
			       result->code ? result->error.text : NULL);
			forget(requests, i);
		}
	}
}

/* ---- Requests */

/* False: it was answered at once, with why not. */
static bool ask(struct requests *requests, struct requester *requester, struct request *request)
{
	int code = -EINVAL;

	request->name[sizeof(request->name) - 1] = '\0';
	requester->number = request->number;
	if (request->kind == REQUEST_EXECUTED && requester->fd < 0) {
		code = requests->executed(requests->executed_arg);
		answer(requests, requester, code, 0, NULL);
		return false;
	}
	if (request->kind == REQUEST_CHECKPOINT)
		code = owner_checkpoint(requests->owner, requests->waiters + 1,
					request->name[0] ? request->name : NULL);
	if (code) {
		answer(requests, requester, code, 0,
		       code == -EINVAL	 ? "that cannot be the name of a generation"
		       : code == -ENOSPC ? "too many names wait for a generation"
					 : thaw_strerror(code));
		return false;
	}
	requester->waiter = ++requests->waiters;
	return true;
}

static bool may_ask(int fd)
{
	struct ucred who;
	socklen_t bytes = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) &&
	       (who.uid == geteuid() || who.uid == 0);
}

static void accept_clients(struct requests *requests)
{
	int fd;

	while (requests->count < REQUESTS_CLIENTS &&
	       (fd = accept4(requests->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct requester client = {.fd = fd};

		if (!may_ask(fd)) {
			answer(requests, &client, -EPERM, 0,
			       "only the user who runs the program, and root, may ask");
			close(fd);
			continue;
		}
		requests->list[requests->count++] = client;
	}
}

/* False: it has gone, or has its answer. */
static bool hear(struct requests *requests, struct requester *client)
{
	struct request request;
	ssize_t got = recv(client->fd, &request, sizeof(request), MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	return got == (ssize_t)sizeof(request) && !client->waiter &&
	       ask(requests, client, &request);
}

/* Has it closed its end? A program that has replaced itself by another one (execve) has. */
static bool is_left(int socket)
{
	struct pollfd end = {socket, POLLHUP, 0};

	return poll(&end, 1, 0) > 0 && (end.revents & (POLLHUP | POLLERR | POLLNVAL));
}

void requests_serve(struct requests *requests)
{
	struct request request;

	if (requests->remote && is_left(requests->remote->socket))
		requests->remote = NULL;

	if (requests->listener >= 0)
		accept_clients(requests);
	for (unsigned i = 0; i < requests->count;) {
		if (requests->list[i].fd < 0 || hear(requests, &requests->list[i]))
			i++;
		else
			forget(requests, i);
	}
	while (requests->remote && requests->count < REQUESTS_CLIENTS &&
	       remote_next_request(requests->remote, &request)) {
		struct requester program = {.fd = -1};

		if (ask(requests, &program, &request))
			requests->list[requests->count++] = program;
	}
}
