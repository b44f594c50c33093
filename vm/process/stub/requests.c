// SPDX-License-Identifier: MIT
/*
 * requests.c - what the program asks of the supervisor: the functions that Thaw's modules for languages find in the stub.
 *
 *	int thaw_stub_checkpoint(const char *name, uint64_t *generation, char *text, size_t room)
 *	unsigned thaw_stub_restored(void)
 *	uint64_t thaw_stub_generation(void)
 *
 * On any thread of the program; they wait in line. The one that waits for an answer may be captured, and be restored in
 * a process whose socket has never heard of the question: then the generation that it was restored from is the answer.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "process/stub/stub.h"

/* The answer comes when a generation is durable. Without one, after so long: has this process been restored? */
#define LOOK_MS 100

STUB_PUBLIC unsigned thaw_stub_restored(void)
{
	return __atomic_load_n(&stub_memory.restored, __ATOMIC_SEQ_CST);
}

STUB_PUBLIC uint64_t thaw_stub_generation(void)
{
	return __atomic_load_n(&stub_memory.generation, __ATOMIC_SEQ_CST);
}

static int stub_ask(const struct request *request, struct answer *answer)
{
	unsigned restored = thaw_stub_restored();

	if (send(stub_memory.socket, request, sizeof(*request), MSG_NOSIGNAL) < 0)
		return -errno;
	for (;;) {
		struct pollfd ready = {.fd = stub_memory.socket, .events = POLLIN};
		ssize_t got = 0;

		poll(&ready, 1, LOOK_MS);
		if (thaw_stub_restored() != restored) {
			*answer = (struct answer){.generation = thaw_stub_generation()};
			return 0;
		}
		if (!(ready.revents & (POLLIN | POLLHUP)))
			continue;
		got = recv(ready.fd, answer, sizeof(*answer), MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			return got ? -errno : -EPIPE;
		/* One to a question before that, which nobody waits for any more, is passed over. */
		if (got == sizeof(*answer) && answer->number == request->number)
			return 0;
	}
}

/*
 * Take a generation now, with this name (NULL: none), and return when it is durable: 0, here or in a process that was
 * restored from it; a negative code, and in `text` (NULL: not wanted) why not.
 */
STUB_PUBLIC int thaw_stub_checkpoint(const char *name, uint64_t *generation, char *text,
				     size_t room)
{
	static pthread_mutex_t line = PTHREAD_MUTEX_INITIALIZER;
	static uint32_t number;
	struct request request = {.kind = REQUEST_CHECKPOINT};
	struct answer answer = {0};
	int result;

	if (text && room)
		*text = '\0';
	if (!stub_active() || stub_memory.socket < 0) {
		if (text)
			snprintf(text, room, "this process was not started by thaw exec");
		return -ENOTCONN;
	}
	if (name && strlen(name) >= sizeof(request.name)) {
		if (text)
			snprintf(text, room, "a name has at most %zu characters",
				 sizeof(request.name) - 1);
		return -EINVAL;
	}
	if (name)
		snprintf(request.name, sizeof(request.name), "%s", name);
	pthread_mutex_lock(&line);
	request.number = ++number;
	result = stub_ask(&request, &answer);
	pthread_mutex_unlock(&line);
	if (!result)
		result = answer.code;
	else if (text)
		snprintf(text, room, "the supervisor does not answer: %s", strerror(-result));
	if (answer.code && text)
		snprintf(text, room, "%.*s", (int)sizeof(answer.text), answer.text);
	if (!result && generation)
		*generation = answer.generation;
	return result;
}
