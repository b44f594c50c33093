// SPDX-License-Identifier: GPL-2.0-only
/*
 * unchanged_descriptors.c - what a capture takes over from the one before of descriptors that it finds unchanged is what it
 * would find by asking each: whatever the program has done to them in between.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "kselftest_harness.h"
#include "process/continued.h"
#include "process/descriptors/descriptors.h"

/* ---- The guest: these numbers */

enum {
	LISTENER = 100,
	ACCEPTED,
	CONNECTED,
	ACCEPTED_TOO,
	CONNECTED_TOO,
	EMPTY_OUT, /* a pipe */
	EMPTY_IN,
	FILLED_OUT,
	FILLED_IN,
	ZERO, /* eventfds */
	THREE,
	ZERO_AGAIN, /* a duplicate */
	EPOLL,
	EMPTY_EPOLL,
	NULL_DEVICE,
	UNUSED,
	OTHER, /* not open yet */
};

static void guest_put(int fd, int number)
{
	if (fd < 0 || dup2(fd, number) < 0)
		_exit(50);
	close(fd);
}

static void guest_connect(const struct sockaddr_in *address, int accepted, int connected)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		_exit(51);
	guest_put(fd, connected);
	guest_put(accept(LISTENER, NULL, NULL), accepted);
}

static void guest_watch(int number)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = number};

	if (epoll_ctl(EPOLL, EPOLL_CTL_ADD, number, &event))
		_exit(52);
}

static void guest_role_server(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int ends[2];

	guest_put(socket(AF_INET, SOCK_STREAM, 0), LISTENER);
	if (bind(LISTENER, (struct sockaddr *)&address, bytes) || listen(LISTENER, 5) ||
	    getsockname(LISTENER, (struct sockaddr *)&address, &bytes))
		_exit(53);
	guest_connect(&address, ACCEPTED, CONNECTED);
	guest_connect(&address, ACCEPTED_TOO, CONNECTED_TOO);
	for (int i = 0; i < 2; i++) {
		if (pipe(ends))
			_exit(54);
		guest_put(ends[0], i ? FILLED_OUT : EMPTY_OUT);
		guest_put(ends[1], i ? FILLED_IN : EMPTY_IN);
	}
	if (write(FILLED_IN, "some", 4) != 4)
		_exit(55);
	guest_put(eventfd(0, EFD_NONBLOCK), ZERO);
	guest_put(eventfd(3, EFD_NONBLOCK), THREE);
	guest_put(dup(ZERO), ZERO_AGAIN);
	guest_put(epoll_create1(0), EPOLL);
	guest_put(epoll_create1(0), EMPTY_EPOLL);
	guest_put(open("/dev/null", O_RDWR), NULL_DEVICE);
	guest_put(timerfd_create(CLOCK_MONOTONIC, 0), UNUSED);
	guest_watch(LISTENER);
	guest_watch(ACCEPTED);
	guest_watch(EMPTY_OUT);
	guest_watch(ZERO);
	guest_capture_here();
}

static const struct guest_role guest_roles[] = {{"server", guest_role_server}, {NULL, NULL}};

/* ---- The supervisor */

FIXTURE(unchanged_descriptors)
{
	struct continued guest;
	struct descriptors *before;
};

static struct descriptors *capture(struct continued *guest, struct record_writer *writer)
{
	struct descriptors *descriptors = NULL;

	*writer = (struct record_writer){0};
	if (descriptors_capture(&guest->process, &descriptors, &guest->error))
		return NULL;
	descriptors_encode(descriptors, writer);
	return descriptors;
}

FIXTURE_SETUP(unchanged_descriptors)
{
	struct record_writer writer;
	struct stat status;

	if (continued_refusal())
		SKIP(return, "%s", continued_refusal());
	if (stat("/proc/self/fd", &status) || !status.st_size)
		SKIP(return,
			   "this kernel does not tell how many descriptors there are (Linux 6.2)");
	ASSERT_EQ(0, continued_start(&self->guest, "server"));
	ASSERT_EQ(0, process_stop(&self->guest.process, &self->guest.error));
	self->before = capture(&self->guest, &writer);
	ASSERT_NE(NULL, self->before);
	free(writer.data);
}

FIXTURE_TEARDOWN(unchanged_descriptors)
{
	descriptors_free(self->before);
	if (!continued_refusal())
		continued_free(&self->guest);
}

/* What the guest's thread is told to do. */
static int64_t call(FIXTURE_DATA(unchanged_descriptors) * self, int64_t number, uint64_t a,
		    uint64_t b, uint64_t c, uint64_t d)
{
	return remote_call(&self->guest.process.remote, 0, number, a, b, c, d, 0, 0);
}

static uint64_t there(FIXTURE_DATA(unchanged_descriptors) * self, const void *data, size_t bytes)
{
	return remote_copy(&self->guest.process.remote, data, bytes);
}

enum { WRONG, ALL_ASKED, SOME_TAKEN, ALL_TAKEN };

/* How much of a capture was taken over; WRONG: not what is there. */
static int compare(FIXTURE_DATA(unchanged_descriptors) * self)
{
	struct record_writer one, other;
	struct descriptors *now = capture(&self->guest, &one);
	int how = WRONG;

	if (now)
		how = now == self->before    ? ALL_TAKEN
		      : now->objects[0].link ? ALL_ASKED /* a name is looked for then */
					     : SOME_TAKEN;
	descriptors_free(now);
	connections_forget(&self->guest.process);
	descriptors_free(self->before);
	self->before = capture(&self->guest, &other);
	if (!one.bytes || one.bytes != other.bytes || memcmp(one.data, other.data, one.bytes))
		how = WRONG;
	free(one.data);
	free(other.data);
	return how;
}

TEST_F(unchanged_descriptors, nothing_is_asked_twice_of_what_is_the_same)
{
	EXPECT_EQ(ALL_TAKEN, compare(self));
	EXPECT_EQ(ALL_TAKEN, compare(self));
}

TEST_F(unchanged_descriptors, bytes_of_pipes_are_seen)
{
	uint64_t some = there(self, "more", 4);

	ASSERT_EQ(4, call(self, SYS_write, EMPTY_IN, some, 4, 0));
	EXPECT_EQ(SOME_TAKEN, compare(self));
	ASSERT_EQ(4, call(self, SYS_read, EMPTY_OUT, some, 4, 0));
	EXPECT_EQ(SOME_TAKEN, compare(self));
	ASSERT_EQ(2, call(self, SYS_read, FILLED_OUT, some, 2, 0));
	EXPECT_EQ(SOME_TAKEN, compare(self));
	ASSERT_EQ(1 << 20, call(self, SYS_fcntl, EMPTY_OUT, F_SETPIPE_SZ, 1 << 20, 0));
	EXPECT_EQ(SOME_TAKEN, compare(self));
}

TEST_F(unchanged_descriptors, counts_of_eventfds_are_seen)
{
	const uint64_t five = 5;
	uint64_t count = there(self, &five, sizeof(five));

	ASSERT_EQ(8, call(self, SYS_write, ZERO_AGAIN, count, 8, 0));
	EXPECT_EQ(SOME_TAKEN, compare(self));
	EXPECT_EQ(ALL_TAKEN, compare(self));
	ASSERT_EQ(8, call(self, SYS_read, ZERO, count, 8, 0));
	ASSERT_EQ(8, call(self, SYS_read, THREE, count, 8, 0));
	EXPECT_EQ(SOME_TAKEN, compare(self));
}

TEST_F(unchanged_descriptors, interests_of_epolls_are_seen)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.fd = ACCEPTED};

	ASSERT_EQ(0, call(self, SYS_epoll_ctl, EPOLL, EPOLL_CTL_MOD, ACCEPTED,
			  there(self, &event, sizeof(event))));
	EXPECT_EQ(ALL_ASKED, compare(self));
	EXPECT_EQ(ALL_TAKEN, compare(self));
	ASSERT_EQ(0, call(self, SYS_epoll_ctl, EPOLL, EPOLL_CTL_DEL, LISTENER, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	ASSERT_EQ(0, call(self, SYS_epoll_ctl, EPOLL, EPOLL_CTL_ADD, ACCEPTED_TOO,
			  there(self, &event, sizeof(event))));
	EXPECT_EQ(ALL_ASKED, compare(self));
	/* A timer has nothing that tells it from another one. */
	ASSERT_EQ(0, call(self, SYS_epoll_ctl, EPOLL, EPOLL_CTL_ADD, UNUSED,
			  there(self, &event, sizeof(event))));
	EXPECT_EQ(ALL_ASKED, compare(self));
	EXPECT_LE(ALL_ASKED, compare(self));
}

TEST_F(unchanged_descriptors, flags_and_owners_are_seen)
{
	ASSERT_EQ(0, call(self, SYS_fcntl, ACCEPTED, F_SETFL, O_NONBLOCK, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	ASSERT_EQ(0, call(self, SYS_fcntl, EPOLL, F_SETFD, FD_CLOEXEC, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	ASSERT_EQ(0, call(self, SYS_fcntl, EMPTY_OUT, F_SETFL, O_NONBLOCK, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	EXPECT_EQ(ALL_TAKEN, compare(self));
	ASSERT_EQ(0, call(self, SYS_fcntl, CONNECTED, F_SETOWN,
			  (uint64_t)self->guest.process.remote.pid, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	EXPECT_EQ(ALL_ASKED, compare(self));
}

TEST_F(unchanged_descriptors, another_one_under_the_same_number_is_seen)
{
	/* Connections. */
	ASSERT_EQ(ACCEPTED, call(self, SYS_dup2, ACCEPTED_TOO, ACCEPTED, 0, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	/* Of two eventfds one becomes the other; and then one of its own again, with the same count. */
	ASSERT_EQ(THREE, call(self, SYS_dup2, ZERO, THREE, 0, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	ASSERT_EQ(0, call(self, SYS_close, ZERO_AGAIN, 0, 0, 0));
	ASSERT_EQ(ZERO_AGAIN,
		  call(self, SYS_dup2, (uint64_t)call(self, SYS_eventfd2, 0, O_NONBLOCK, 0, 0),
		       ZERO_AGAIN, 0, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	/* An epoll in which there is nothing becomes a memfd, which has nothing to say for itself, either. */
	ASSERT_EQ(EMPTY_EPOLL,
		  call(self, SYS_dup2,
		       (uint64_t)call(self, SYS_memfd_create, there(self, "", 1), 0, 0, 0),
		       EMPTY_EPOLL, 0, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	/* A pipe's end becomes a device. */
	ASSERT_EQ(EMPTY_OUT, call(self, SYS_dup2, NULL_DEVICE, EMPTY_OUT, 0, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
}

TEST_F(unchanged_descriptors, one_for_another_is_seen)
{
	ASSERT_EQ(0, call(self, SYS_close, CONNECTED_TOO, 0, 0, 0));
	ASSERT_EQ(OTHER, call(self, SYS_dup2, NULL_DEVICE, OTHER, 0, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	ASSERT_EQ(OTHER + 1, call(self, SYS_dup2, NULL_DEVICE, OTHER + 1, 0, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	ASSERT_EQ(0, call(self, SYS_close, OTHER, 0, 0, 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
}

TEST_F(unchanged_descriptors, what_sockets_are_told_is_seen)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};
	const int one = 1;

	ASSERT_EQ(0,
		  remote_call(&self->guest.process.remote, 0, SYS_setsockopt, LISTENER, SOL_SOCKET,
			      SO_KEEPALIVE, there(self, &one, sizeof(one)), sizeof(one), 0));
	EXPECT_EQ(SOME_TAKEN, compare(self));
	ASSERT_EQ(0, call(self, SYS_listen, LISTENER, 7, 0, 0));
	EXPECT_EQ(SOME_TAKEN, compare(self));
	ASSERT_EQ(0, call(self, SYS_connect, CONNECTED, there(self, &none, sizeof(none)),
			  sizeof(none), 0));
	EXPECT_EQ(ALL_ASKED, compare(self));
	ASSERT_EQ(0, call(self, SYS_listen, CONNECTED, 5, 0, 0));
	EXPECT_LE(ALL_ASKED, compare(self));
}

TEST_HARNESS_MAIN
