// SPDX-License-Identifier: GPL-2.0-only
/*
 * connections.c - what a capture takes from the one before of TCP connections is what it would find by asking each: whatever
 * the program does to them in between.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "kselftest_harness.h"
#include "process/continued.h"
#include "process/descriptors/descriptors.h"

#define PAIRS 40
#define FIRST 100 /* numbers of the accepted ends; then those of the others */

/* ---- The guest */

static void guest_role_connections(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&address, bytes) || listen(listener, PAIRS) ||
	    getsockname(listener, (struct sockaddr *)&address, &bytes))
		_exit(50);
	for (int i = 0; i < PAIRS; i++) {
		int here = socket(AF_INET, SOCK_STREAM, 0), there;

		if (connect(here, (struct sockaddr *)&address, sizeof(address)))
			_exit(51);
		there = accept(listener, NULL, NULL);
		if (there < 0 || dup2(there, FIRST + i) < 0 || dup2(here, FIRST + PAIRS + i) < 0)
			_exit(52);
		close(there);
		close(here);
	}
	guest_capture_here();
}

static const struct guest_role guest_roles[] = {{"connections", guest_role_connections},
						{NULL, NULL}};

/* ---- The supervisor */

FIXTURE(connections)
{
	struct continued guest;
};

FIXTURE_SETUP(connections)
{
	if (continued_refusal())
		SKIP(return, "%s", continued_refusal());
	ASSERT_EQ(0, continued_start(&self->guest, "connections"));
	ASSERT_EQ(0, process_stop(&self->guest.process, &self->guest.error));
}

FIXTURE_TEARDOWN(connections)
{
	if (!continued_refusal())
		continued_free(&self->guest);
}

static int64_t call(struct continued *guest, int64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	return remote_call(&guest->process.remote, 0, number, a, b, c, 0, 0, 0);
}

static struct record_writer capture(struct continued *guest, unsigned *known)
{
	struct descriptors *descriptors = NULL;
	struct record_writer writer = {0};

	*known = 0;
	unchanged_forget(&guest->process); /* which would need none of it */
	if (descriptors_capture(&guest->process, &descriptors, &guest->error))
		return writer;
	for (size_t i = 0; i < descriptors->object_count; i++)
		*known += descriptors->objects[i].known != NULL;
	descriptors_encode(descriptors, &writer);
	descriptors_free(descriptors);
	return writer;
}

/* How many were taken from the capture before; -1: that is not what is there. */
static int compare(struct continued *guest)
{
	unsigned known, none;
	struct record_writer one = capture(guest, &known), other;
	bool same;

	connections_forget(&guest->process);
	other = capture(guest, &none);
	same = one.bytes && one.bytes == other.bytes && !memcmp(one.data, other.data, one.bytes) &&
	       !none;
	free(one.data);
	free(other.data);
	return same ? (int)known : -1;
}

TEST_F(connections, of_nothing_that_is_the_same_is_asked_again)
{
	EXPECT_EQ(0, compare(&self->guest));
	EXPECT_EQ(2 * PAIRS, compare(&self->guest));
	EXPECT_EQ(2 * PAIRS, compare(&self->guest));
}

TEST_F(connections, flags_that_were_set_are_seen)
{
	EXPECT_EQ(0, compare(&self->guest));
	ASSERT_EQ(0, call(&self->guest, SYS_fcntl, FIRST, F_SETFL, O_NONBLOCK));
	ASSERT_EQ(0, call(&self->guest, SYS_fcntl, FIRST + 1, F_SETFD, FD_CLOEXEC));
	EXPECT_EQ(2 * PAIRS, compare(&self->guest));
	/* Signals of it have somebody who gets them: all of it is asked. */
	ASSERT_EQ(0, call(&self->guest, SYS_fcntl, FIRST + 2, F_SETOWN,
			  (uint64_t)self->guest.process.remote.pid));
	EXPECT_EQ(2 * PAIRS - 1, compare(&self->guest));
}

TEST_F(connections, another_one_under_the_same_number_is_seen)
{
	EXPECT_EQ(0, compare(&self->guest));
	ASSERT_EQ(FIRST + 3, call(&self->guest, SYS_dup2, FIRST + 4, FIRST + 3, 0));
	ASSERT_EQ(0, call(&self->guest, SYS_close, FIRST + 5, 0, 0));
	ASSERT_LE(0, compare(&self->guest));
	ASSERT_EQ(FIRST + 6, call(&self->guest, SYS_dup2, 0, FIRST + 6, 0));
	EXPECT_LE(0, compare(&self->guest));
}

TEST_F(connections, what_is_not_connected_any_more_is_seen)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct linger now = {1, 0};
	uint64_t address, linger;
	int known;

	EXPECT_EQ(0, compare(&self->guest));
	address = remote_copy(&self->guest.process.remote, &none, sizeof(none));
	ASSERT_EQ(0, call(&self->guest, SYS_connect, FIRST + 7, address, sizeof(none)));
	known = compare(&self->guest); /* its peer is reset, some time */
	EXPECT_LE(0, known);
	EXPECT_GE(2 * PAIRS - 1, known);
	/* It listens now. */
	ASSERT_EQ(0, call(&self->guest, SYS_listen, FIRST + 7, 5, 0));
	EXPECT_LE(0, compare(&self->guest));
	/* The other end goes with a reset. */
	linger = remote_copy(&self->guest.process.remote, &now, sizeof(now));
	ASSERT_EQ(0, remote_call(&self->guest.process.remote, 0, SYS_setsockopt, FIRST + PAIRS + 8,
				 SOL_SOCKET, SO_LINGER, linger, sizeof(now), 0));
	ASSERT_EQ(0, call(&self->guest, SYS_close, FIRST + PAIRS + 8, 0, 0));
	known = compare(&self->guest);
	EXPECT_LE(0, known);
	EXPECT_GE(2 * PAIRS - 2, known);
}

TEST_HARNESS_MAIN
