/* SPDX-License-Identifier: MIT */
/*
 * requests.c - see requests.h.
 *
 * Each request is a waiter of the policy's (owner_checkpoint()), which says what its checkpoint came to. Called by the
 * guest's loop. Must never wait for the program: if it does not read its answer, it has none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "guest.h"
#include "process/remote/remote.h"
#include "process/requests.h"

void requests_open(struct requests *requests, struct runtime *owner, struct remote *remote)
{
	requests->owner = owner;
	requests->remote = remote;
}

void requests_close(struct requests *requests)
{
	requests->count = 0;
	requests->remote = NULL;
}

int requests_fd(const struct requests *requests)
{
	return requests->remote ? requests->remote->socket : -1;
}

/* ---- Answers */

static void answer(struct requests *requests, uint32_t number, int code, uint64_t generation,
		   const char *text)
{
	struct answer what = {.number = number, .code = code, .generation = generation};

	text_cut(what.text, sizeof(what.text),
		 (size_t)snprintf(what.text, sizeof(what.text), "%s", text ? text : ""));
	if (requests->remote)
		remote_answer(requests->remote, &what);
}

void requests_tell(struct requests *requests)
{
	struct guest_outcome outcome;

	while (owner_take_outcome(requests->owner, &outcome)) {
		const struct thaw_result *result = &outcome.result;

		for (unsigned i = 0; outcome.waited_for && i < requests->count;) {
			const struct requester *requester = &requests->list[i];

			if (requester->waiter > outcome.last) {
				i++;
				continue;
			}
			answer(requests, requester->number, result->code, result->generation.number,
			       result->code ? result->error.text : NULL);
			requests->list[i] = requests->list[--requests->count];
		}
	}
}

/* ---- Requests */

static void ask(struct requests *requests, struct request *request)
{
	int code = -EINVAL;

	request->name[sizeof(request->name) - 1] = '\0';
	if (request->kind == REQUEST_EXECUTED) {
		answer(requests, request->number, requests->executed(requests->executed_arg), 0,
		       NULL);
		return;
	}
	if (request->kind == REQUEST_CHECKPOINT)
		code = owner_checkpoint(requests->owner, requests->waiters + 1,
					request->name[0] ? request->name : NULL);
	if (code)
		answer(requests, request->number, code, 0,
		       code == -EINVAL	 ? "that cannot be the name of a generation"
		       : code == -ENOSPC ? "too many names wait for a generation"
					 : thaw_strerror(code));
	else
		requests->list[requests->count++] =
			(struct requester){request->number, ++requests->waiters};
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
	while (requests->remote && requests->count < REQUESTS_MOST &&
	       remote_next_request(requests->remote, &request))
		ask(requests, &request);
}
