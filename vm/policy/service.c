/* SPDX-License-Identifier: MIT */
/*
 * service.c - the service manager that started this process (systemd, or whoever speaks like it: sd_notify(3)) is told that
 * the program runs, and again and again that generations of it are being made.
 *
 * Called by owner.c between turns and in those that last. One datagram each, and no library for it: that is the whole
 * protocol, which is documented to stay. Must never wait for the manager, nor say that all is well where it is not:
 * WATCHDOG=1 means that the loop, or the turn under way, has come by, that the newest checkpoint has not failed, and that
 * none has been due, or under way, for too long. A program that is restarted then goes on from its newest generation.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"

/* What the manager's queue had no room for is said again after so long. */
#define AGAIN_NS 100000000ull

/* Of this process, whatever it runs. Owner's thread. */
static struct {
	bool known, ready, stopping;
	int socket;
	struct sockaddr_un address;
	socklen_t address_bytes; /* 0: there is no manager */
	uint64_t patience_ns;	 /* WATCHDOG_USEC; 0: it does not watch */
	uint64_t due_ns;	 /* it is told something then; 0: no more */
} manager = {.socket = -1};

static uint64_t watchdog_ns(void)
{
	const char *time = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (!time || (pid && strtol(pid, NULL, 10) != getpid()))
		return 0;
	return strtoull(time, NULL, 10) * 1000;
}

/* A path, or an abstract name behind an @. */
static void find_manager(struct runtime *rt)
{
	const char *name = getenv("NOTIFY_SOCKET");
	size_t length = name ? strlen(name) : 0;

	manager.known = true;
	if (!length)
		return;
	if ((*name != '/' && *name != '@') || length >= sizeof(manager.address.sun_path)) {
		owner_tell(rt, "thaw: NOTIFY_SOCKET is no name of a Unix socket: the service "
			       "manager is told nothing\n");
		return;
	}
	manager.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (manager.socket < 0) {
		owner_tell(rt, "thaw: the service manager cannot be told anything: %s\n",
			   strerror(errno));
		return;
	}
	manager.address.sun_family = AF_UNIX;
	memcpy(manager.address.sun_path, name, length + 1);
	if (*name == '@')
		manager.address.sun_path[0] = '\0';
	manager.address_bytes =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (*name == '/'));
	manager.patience_ns = watchdog_ns();
}

static bool tell(const char *text)
{
	ssize_t sent;

	do
		sent = sendto(manager.socket, text, strlen(text), MSG_NOSIGNAL,
			      (const struct sockaddr *)&manager.address, manager.address_bytes);
	while (sent < 0 && errno == EINTR);
	return sent >= 0;
}

static bool makes_generations(const struct runtime *rt, uint64_t now)
{
	const struct checkpoints *own = &rt->checkpoints;
	uint64_t patience = manager.patience_ns / 2;

	if (!rt->options.image)
		return true;
	return !rt->failures.failing && (!own->in_flight || now - own->begun_ns < patience) &&
	       (!own->due_ns || now < own->due_ns + patience);
}

static bool tell_alive(struct runtime *rt)
{
	struct thaw_status status;
	char text[96];

	if (!rt->options.image)
		return tell("WATCHDOG=1");
	thaw_status(rt->heap, &status);
	snprintf(text, sizeof(text), "WATCHDOG=1\nSTATUS=generation %llu",
		 (unsigned long long)status.generation);
	return tell(text);
}

void service_advance(struct runtime *rt)
{
	uint64_t now;

	if (!manager.known)
		find_manager(rt);
	if (!manager.address_bytes || (manager.ready && !manager.due_ns))
		return;
	now = clock_monotonic_ns();
	if (now < manager.due_ns)
		return;
	manager.due_ns = now + AGAIN_NS;
	if (!manager.ready)
		manager.ready = tell("READY=1\nSTATUS=running");
	if (manager.ready && !manager.patience_ns)
		manager.due_ns = 0;
	/* It asks to be told twice as often. What is not well now is looked at again before its time is over. */
	if (manager.ready && manager.patience_ns)
		manager.due_ns = now + (makes_generations(rt, now) && tell_alive(rt)
						? manager.patience_ns / 2
						: manager.patience_ns / 8);
}

void service_stopping(void)
{
	if (manager.ready && !manager.stopping)
		manager.stopping = tell("STOPPING=1\nSTATUS=making the last generation");
}

uint64_t service_due_ns(void)
{
	return manager.due_ns;
}

void service_poll_in_time(struct runtime *rt)
{
	uint64_t due = manager.due_ns, set = rt->poll_timer.at_ns;

	if (due && (!set || due < set))
		poll_timer_set(rt, due);
}
