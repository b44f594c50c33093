/* SPDX-License-Identifier: MIT */
/*
 * connections.c - TCP connections that a capture has seen before. A server has hundreds, and of each the same becomes:
 * it is reset. So what was recorded stays, as long as it is the same socket and still connected to the same peer; that the guest's
 * own thread is asked, in batches, where a duplicate in this process would take ten times as long.
 *
 * The same: number, device and inode. The inode of a socket is used again after 2^32 others; what was seen longer ago
 * than they take to be made is not known any more. The owner's thread, while all threads of the guest are parked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/array.h"
#include "base/clock.h"
#include "process/descriptors/descriptors.h"

#define KNOWN_NS 60000000000ull

struct connections {
	struct connection *list; /* by number */
	size_t count, room;
	uint64_t seen_ns;
};

struct answers { /* of one socket */
	struct stat stat;
	struct f_owner_ex owner;
	socklen_t name_bytes, peer_bytes;
	uint8_t name[128], peer[128];
};

enum { CALL_STAT, CALL_CLOEXEC, CALL_FLAGS, CALL_OWNER, CALL_NAME, CALL_PEER, CALLS };

/* As many sockets as one batch has calls for. */
#define AT_ONCE (CONTROL_CALLS / CALLS)

struct asking {
	struct call *calls[AT_ONCE][CALLS];
	struct answers *answers;
};

void connections_forget(struct process *process)
{
	if (process->connections)
		free(process->connections->list);
	free(process->connections);
	process->connections = NULL;
	unchanged_forget(process);
}

static const struct connection *find(const struct connections *known, int number)
{
	size_t low = 0, high = known->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (known->list[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < known->count && known->list[low].number == number ? &known->list[low] : NULL;
}

/* ---- Asked */

#define THERE(field) (there + offsetof(struct answers, field))

static bool ask(struct remote *remote, unsigned mailbox, int number, struct answers *answers,
		uint64_t there, uint64_t empty, struct call **calls)
{
	const struct {
		int64_t number;
		uint64_t arguments[3];
	} asked[CALLS] = {
		[CALL_STAT] = {SYS_newfstatat, {empty, THERE(stat), AT_EMPTY_PATH}},
		[CALL_CLOEXEC] = {SYS_fcntl, {F_GETFD}},
		[CALL_FLAGS] = {SYS_fcntl, {F_GETFL}},
		[CALL_OWNER] = {SYS_fcntl, {F_GETOWN_EX, THERE(owner)}},
		[CALL_NAME] = {SYS_getsockname, {THERE(name), THERE(name_bytes)}},
		[CALL_PEER] = {SYS_getpeername, {THERE(peer), THERE(peer_bytes)}},
	};

	memset(answers, 0, sizeof(*answers));
	answers->name_bytes = sizeof(answers->name);
	answers->peer_bytes = sizeof(answers->peer);
	for (unsigned i = 0; i < CALLS; i++) {
		const uint64_t *is = asked[i].arguments;

		calls[i] = remote_add(remote, mailbox, asked[i].number, (uint64_t)number, is[0],
				      is[1], is[2], 0, 0);
		if (!calls[i])
			return false;
		calls[i]->flags = CALL_MAY_FAIL;
	}
	return true;
}

static bool is_name(const uint8_t *name, socklen_t bytes, const void *recorded,
		    size_t recorded_bytes)
{
	return bytes == recorded_bytes && !memcmp(name, recorded, bytes);
}

/* One that does not listen, and is not closed: else it has no peer. */
static bool is_same(const struct connection *connection, const struct answers *answers,
		    struct call *const *calls)
{
	struct tcp_names names;

	for (unsigned i = 0; i < CALLS; i++)
		if (calls[i]->result < 0)
			return false;
	return answers->stat.st_ino == connection->stat.st_ino &&
	       answers->stat.st_dev == connection->stat.st_dev && !answers->owner.pid &&
	       tcp_is_connection(connection->record, connection->bytes, &names) &&
	       is_name(answers->name, answers->name_bytes, names.name, names.name_bytes) &&
	       is_name(answers->peer, answers->peer_bytes, names.peer, names.peer_bytes);
}

/* Of `wanted`, which one batch has room for. */
static int ask_some(struct descriptor_capture *capture, struct known_connection **wanted,
		    size_t count)
{
	struct remote *remote = &capture->process->remote;
	struct asking asking;
	uint64_t empty, there;
	bool all = true;
	int code;

	remote_forget(remote);
	empty = remote_string(remote, "");
	there = remote_room(remote, count * sizeof(struct answers), (void **)&asking.answers);
	if (!there || !empty)
		return 0;
	for (size_t i = 0; i < count && all; i++)
		all = ask(remote, capture->mailbox, wanted[i]->connection->number,
			  &asking.answers[i], there + i * sizeof(struct answers), empty,
			  asking.calls[i]);
	code = remote_run(remote, capture->mailbox);
	for (size_t i = 0; i < count; i++) {
		/* Once: the guest could write here, too. */
		struct answers answers = asking.answers[i];

		if (code || !all || !is_same(wanted[i]->connection, &answers, asking.calls[i])) {
			wanted[i]->connection = NULL;
			continue;
		}
		wanted[i]->flags = (uint32_t)asking.calls[i][CALL_FLAGS]->result;
		wanted[i]->close_on_exec = asking.calls[i][CALL_CLOEXEC]->result & FD_CLOEXEC;
	}
	remote_forget(remote);
	return code;
}

int connections_recall(struct descriptor_capture *capture, struct known_connection *list,
		       size_t count)
{
	struct connections *known = capture->process->connections;
	struct known_connection *wanted[AT_ONCE];
	size_t collected = 0;
	int code = 0;

	if (!known || clock_monotonic_ns() - known->seen_ns > KNOWN_NS)
		return 0;
	for (size_t i = 0; i < count && !code; i++) {
		list[i].connection = find(known, list[i].number);
		if (list[i].connection)
			wanted[collected++] = &list[i];
		if (collected && (collected == AT_ONCE || i + 1 == count)) {
			code = ask_some(capture, wanted, collected);
			collected = 0;
		}
	}
	return code;
}

/* ---- Remembered */

void connections_remember(struct process *process, const struct descriptors *descriptors)
{
	struct connections *known = process->connections;
	struct tcp_names names;

	if (!known)
		known = process->connections = calloc(1, sizeof(*known));
	if (!known)
		return;
	known->count = 0;
	known->seen_ns = clock_monotonic_ns();
	for (size_t i = 0; i < descriptors->object_count; i++) {
		const struct descriptor_object *object = &descriptors->objects[i];
		struct connection *list;

		if (object->bytes > sizeof(list->record) || !descriptor_is_tcp(object) ||
		    !tcp_is_connection(object->record, object->bytes, &names))
			continue;
		list = array_grow(known->list, known->count, &known->room, sizeof(*list));
		if (!list)
			return;
		known->list = list;
		list += known->count++;
		list->number = object->number;
		list->stat = object->stat;
		list->cookie = object->cookie;
		list->bytes = object->bytes;
		memcpy(list->record, object->record, object->bytes);
	}
}
