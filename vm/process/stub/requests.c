// SPDX-License-Identifier: MIT
/*
 * requests.c - what the program asks of the supervisor: the functions that Thaw's modules for languages find in the stub.
 *
 *	int thaw_stub_checkpoint(const char *name, uint64_t *generation, char *text, size_t room)
 *	unsigned thaw_stub_restored(void)
 *	uint64_t thaw_stub_generation(void)
 *	int thaw_stub_effect_id(char *text, size_t room)
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

#include "process/stub/gate.h"
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

/*
 * An id for the next effect of the program. The number is the program's memory's, so it is the same when that is restored
 * and asks again; the rest is the supervisor's to change, while all threads are parked. -ENOTCONN: there is none here.
 */
STUB_PUBLIC int thaw_stub_effect_id(char *text, size_t room)
{
	char branch[sizeof(stub_memory.branch)];
	unsigned restored;
	uint64_t number;

	if (!stub_active())
		return -ENOTCONN;
	number = __atomic_add_fetch(&stub_memory.effects, 1, __ATOMIC_SEQ_CST);
	do {
		restored = thaw_stub_restored();
		memcpy(branch, stub_memory.branch, sizeof(branch));
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	} while (thaw_stub_restored() != restored);
	snprintf(text, room, "%.*s-%llu", (int)sizeof(branch) - 1, branch,
		 (unsigned long long)number);
	return 0;
}

/* An answer, and with it (`fds` not NULL) two descriptors. As recv(2); descriptors that nobody wants are closed. */
static ssize_t stub_receive(int socket, struct answer *answer, int *fds)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} ancillary;
	struct iovec data = {.iov_base = answer, .iov_len = sizeof(*answer)};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = fds ? &ancillary : NULL,
				 .msg_controllen = fds ? sizeof(ancillary) : 0};
	ssize_t got = recvmsg(socket, &message, MSG_DONTWAIT);

	if (fds && got > 0) {
		fds[0] = fds[1] = -1;
		if (message.msg_controllen >= CMSG_LEN(2 * sizeof(int)))
			memcpy(fds, CMSG_DATA(&ancillary.header), 2 * sizeof(int));
	}
	return got;
}

static int stub_ask(const struct request *request, struct answer *answer, int *fds)
{
	unsigned restored = thaw_stub_restored();
	int64_t sent;

	sent = gate_call(SYS_sendto, (uint64_t)stub_memory.socket, (uintptr_t)request,
			 sizeof(*request), MSG_NOSIGNAL, 0, 0);
	if (raw_failed(sent))
		return (int)sent;
	for (;;) {
		struct pollfd ready = {.fd = stub_memory.socket, .events = POLLIN};
		ssize_t got = 0;

		poll(&ready, 1, LOOK_MS);
		if (thaw_stub_restored() != restored) {
			*answer = (struct answer){.generation = thaw_stub_generation()};
			return fds ? -EAGAIN : 0;
		}
		if (!(ready.revents & (POLLIN | POLLHUP)))
			continue;
		got = stub_receive(ready.fd, answer, fds);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			return got ? -errno : -EPIPE;
		/* One to a question before that, which nobody waits for any more, is passed over. */
		if (got == sizeof(*answer) && answer->number == request->number)
			return 0;
	}
}

/* They wait in line. */
static int stub_ask_in_line(struct request *request, struct answer *answer, int *fds)
{
	static pthread_mutex_t line = PTHREAD_MUTEX_INITIALIZER;
	static uint32_t number;
	int result;

	pthread_mutex_lock(&line);
	request->number = ++number;
	result = stub_ask(request, answer, fds);
	pthread_mutex_unlock(&line);
	return result;
}

int stub_take_descriptors(int fds[2])
{
	struct request request = {.kind = REQUEST_DESCRIPTORS};
	struct answer answer = {0};
	int result;

	do
		result = stub_ask_in_line(&request, &answer, fds);
	while (result == -EAGAIN); /* restored meanwhile: the new supervisor has them, too */
	if (!result)
		result = answer.code;
	return !result && (fds[0] < 0 || fds[1] < 0) ? -EBADF : result;
}

void stub_wait_for_supervisor(void)
{
	struct request request = {.kind = REQUEST_EXECUTED};
	struct answer answer;

	stub_ask_in_line(&request, &answer, NULL);
}

/*
 * Take a generation now, with this name (NULL: none), and return when it is durable: 0, here or in a process that was
 * restored from it; a negative code, and in `text` (NULL: not wanted) why not.
 */
STUB_PUBLIC int thaw_stub_checkpoint(const char *name, uint64_t *generation, char *text,
				     size_t room)
{
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
	result = stub_ask_in_line(&request, &answer, NULL);
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
