// SPDX-License-Identifier: GPL-2.0-only
/*
 * output_held.c - what a guest sends is held until its owner says that a generation is durable: by whatever call, in order,
 * once; and what the guest sees of that. The tests are the owner: no image, no policy. The guests are this program itself
 * (roles.h); their descriptors 100 and 101 are ends of pairs whose other ends the test has.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "kselftest_harness.h"

#include "process/output/output.h"
#include "roles.h"

#define OUTSIDE 100
#define OTHER 101
#define MUCH (9u << 20) /* more than an outlet holds, and a socket */

static volatile uint64_t guest_at, guest_result, guest_signals, test_says;

static void at(uint64_t step)
{
	__atomic_store_n(&guest_at, step, __ATOMIC_SEQ_CST);
}

static void await_test(uint64_t step)
{
	while (__atomic_load_n(&test_says, __ATOMIC_SEQ_CST) < step)
		usleep(500);
}

static void result(int64_t value)
{
	guest_result = value < 0 ? (uint64_t)errno : (uint64_t)value;
}

static void stay(void)
{
	for (;;)
		pause();
}

/* ---- Guests */

static void by_every_call(void)
{
	struct iovec two[2] = {{"c", 1}, {"d", 1}};
	struct msghdr head = {.msg_iov = two, .msg_iovlen = 2};
	struct mmsghdr heads[2] = {{.msg_hdr = head}, {.msg_hdr = head}};
	int file = memfd_create("file", 0);
	off_t offset = 1;
	int64_t sent = 0;

	sent += write(OUTSIDE, "a", 1);
	sent += syscall(SYS_write, OUTSIDE, "b", 1);
	sent += writev(OUTSIDE, two, 2);
	sent += send(OUTSIDE, "e", 1, 0);
	sent += syscall(SYS_sendto, OUTSIDE, "f", 1, 0, NULL, 0);
	sent += sendmsg(OUTSIDE, &head, 0);
	sent += sendmmsg(OUTSIDE, heads, 2, 0);
	sent += write(file, "xghi", 4) - 4;
	sent += sendfile(OUTSIDE, file, &offset, 3);
	sent += syscall(SYS_pwritev2, OUTSIDE, two, 2, -1l, -1l, 0);
	sent += heads[1].msg_len;
	result(offset == 4 ? sent : -1);
	at(1);
	stay();
}

static void by_messages(void)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec data = {"two", 3};
	struct msghdr head = {.msg_iov = &data,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control)};
	int ends[2];

	if (pipe(ends) || write(ends[1], "passed", 6) != 6)
		_exit(1);
	*CMSG_FIRSTHDR(&head) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
						 .cmsg_level = SOL_SOCKET,
						 .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&head)), &ends[0], sizeof(int));
	result(send(OUTSIDE, "one", 3, 0) + sendmsg(OUTSIDE, &head, 0) + write(OUTSIDE, "", 0) +
	       send(OUTSIDE, "four", 4, MSG_DONTWAIT));
	close(ends[0]);
	at(1);
	stay();
}

/* Closed, with an interest in an epoll that close(2) has to end. */
static void closes(void)
{
	int epoll = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLOUT | EPOLLIN};

	epoll_ctl(epoll, EPOLL_CTL_ADD, OUTSIDE, &event);
	if (write(OUTSIDE, "last", 4) != 4)
		_exit(1);
	close(OUTSIDE);
	result(epoll_wait(epoll, &event, 1, 50));
	at(1);
	stay();
}

static void shuts_down(void)
{
	result(write(OUTSIDE, "last", 4) + shutdown(OUTSIDE, SHUT_WR));
	at(1);
	await_test(1);
	result(send(OUTSIDE, "more", 4, MSG_NOSIGNAL));
	at(2);
	stay();
}

static void fill(int fd)
{
	char *data = malloc(MUCH);

	for (size_t i = 0; i < MUCH; i++)
		data[i] = (char)(i * 7 % 251);
	for (size_t done = 0; done < MUCH;) {
		ssize_t sent = write(fd, data + done, MUCH - done);

		if (sent <= 0)
			_exit(1);
		done += (size_t)sent;
		guest_result = done;
	}
}

static void blocks(void)
{
	at(1);
	fill(OUTSIDE);
	at(2);
	stay();
}

static void handled(int number)
{
	(void)number;
}

static void is_interrupted(void)
{
	struct sigaction action = {.sa_handler = handled};
	struct timeval patience = {.tv_usec = 1000};
	char data[65536] = "";
	ssize_t sent = 1;

	sigaction(SIGUSR1, &action, NULL);
	at(1);
	while (sent > 0)
		sent = write(OUTSIDE, data, sizeof(data));
	result(sent < 0 ? errno : 0);
	signal(SIGUSR1, SIG_IGN); /* more of them may be on their way */
	setsockopt(OUTSIDE, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	for (sent = 1; sent > 0 || (sent < 0 && errno == EINTR);)
		sent = write(OUTSIDE, data, sizeof(data));
	guest_signals = (uint64_t)(sent < 0 ? errno : 0);
	at(2);
	stay();
}

static void *fill_outside(void *unused)
{
	fill(OUTSIDE);
	return unused;
}

static void fills_one_writes_other(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, fill_outside, NULL);
	at(1);
	await_test(1);
	result(write(OTHER, "other", 5));
	at(2);
	stay();
}

/* As programs of edge-triggered epoll: until EAGAIN, then the next edge. */
static void fills_by_edges(void)
{
	struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
	int epoll = epoll_create1(0);
	char data[16384];
	size_t done = 0;

	fcntl(OUTSIDE, F_SETFL, O_NONBLOCK);
	epoll_ctl(epoll, EPOLL_CTL_ADD, OUTSIDE, &event);
	at(1);
	while (done < MUCH && epoll_wait(epoll, &event, 1, 20000) == 1)
		while (done < MUCH) {
			size_t bytes = MUCH - done < sizeof(data) ? MUCH - done : sizeof(data);
			ssize_t sent;

			for (size_t i = 0; i < bytes; i++)
				data[i] = (char)((done + i) * 7 % 251);
			sent = write(OUTSIDE, data, bytes);
			if (sent < 0 && errno == EAGAIN) {
				guest_signals++;
				break;
			}
			if (sent <= 0)
				_exit(1);
			done += (size_t)sent;
		}
	guest_result = done;
	at(2);
	stay();
}

static void wakes_itself(void)
{
	char byte[2];
	int ends[2], pair[2];

	if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
	    write(ends[1], "x", 1) != 1 || syscall(SYS_write, pair[1], "y", 1) != 1)
		_exit(1);
	result(read(ends[0], byte, 1) + read(pair[0], byte + 1, 1));
	at(1);
	stay();
}

static void count_signal(int number)
{
	(void)number;
	guest_signals++;
}

static void writes_to_nobody(void)
{
	signal(SIGPIPE, count_signal);
	at(1);
	await_test(1); /* the reader has gone */
	if (write(OUTSIDE, "lost", 4) != 4)
		_exit(1);
	at(2);
	await_test(2); /* that was found out */
	result(write(OUTSIDE, "more", 4));
	at(3);
	stay();
}

static void forks(void)
{
	pid_t child = fork();
	int status = 1;

	if (!child)
		_exit(write(OUTSIDE, "child", 5) == 5 ? 0 : 1);
	waitpid(child, &status, 0);
	result(status);
	at(1);
	stay();
}

static void replaces_number(void)
{
	if (write(OUTSIDE, "one", 3) != 3 || dup2(OTHER, OUTSIDE) != OUTSIDE ||
	    write(OUTSIDE, "two", 3) != 3)
		_exit(1);
	at(1);
	stay();
}

/* The number that is given to another connection after each of these calls. */
static void replaces_nothing(void)
{
	int first = fcntl(OUTSIDE, F_DUPFD, 200);
	bool right = first > 0;

	for (int way = 0; way < 3 && right; way++) {
		right = write(OUTSIDE, "one", 3) == 3;
		right &= way == 0   ? dup2(9999, OUTSIDE) < 0 && errno == EBADF
			 : way == 1 ? dup3(OUTSIDE, OUTSIDE, 0) < 0 && errno == EINVAL
				    : !close_range(OUTSIDE, OUTSIDE, CLOSE_RANGE_CLOEXEC);
		right &= !close(OUTSIDE) && fcntl(OTHER, F_DUPFD, OUTSIDE) == OUTSIDE &&
			 write(OUTSIDE, "two", 3) == 3;
		right &= !close(OUTSIDE) && fcntl(first, F_DUPFD, OUTSIDE) == OUTSIDE;
	}
	if (!right)
		_exit(1);
	at(1);
	stay();
}

static void asks_for_what_is_not_held(void)
{
	int one = 1, yes = 0;

	yes += setsockopt(OUTSIDE, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) < 0 &&
	       errno == EOPNOTSUPP;
	yes += syscall(SYS_io_uring_setup, 8, NULL) < 0 && errno == ENOSYS;
	yes += splice(OTHER, NULL, OUTSIDE, NULL, 1, 0) < 0 && errno == EINVAL;
	yes += setsockopt(OUTSIDE, IPPROTO_TCP, 31 /* TCP_ULP */, "tls", 4) < 0 && errno == ENOENT;
	guest_result = (uint64_t)yes;
	at(1);
	stay();
}

static const struct role roles[] = {{"by_every_call", by_every_call},
				    {"by_messages", by_messages},
				    {"closes", closes},
				    {"shuts_down", shuts_down},
				    {"blocks", blocks},
				    {"is_interrupted", is_interrupted},
				    {"fills_one_writes_other", fills_one_writes_other},
				    {"fills_by_edges", fills_by_edges},
				    {"wakes_itself", wakes_itself},
				    {"writes_to_nobody", writes_to_nobody},
				    {"forks", forks},
				    {"replaces_number", replaces_number},
				    {"replaces_nothing", replaces_nothing},
				    {"asks_for_what_is_not_held", asks_for_what_is_not_held}};

__attribute__((constructor)) static void guest_main(void)
{
	run_role(roles, sizeof(roles) / sizeof(*roles));
}

/* ---- The owner */

FIXTURE(held)
{
	struct process process;
	struct output *output;
	struct thaw_error error;
	int outside, other; /* the test's ends */
	bool cannot;
};
FIXTURE_SETUP(held)
{
	self->outside = self->other = -1;
}
FIXTURE_TEARDOWN(held)
{
	process_close(&self->process);
	output_close(self->output);
	close(self->outside);
	close(self->other);
}

static int make_end(int number, int type)
{
	int pair[2];

	if (type < 0) {
		if (pipe2(pair, O_CLOEXEC))
			return -1;
	} else if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair)) {
		return -1;
	}
	dup2(pair[1], number);
	close(pair[1]);
	return pair[0];
}

/* `type`: of the pairs; -1: a pipe. */
static bool begin(FIXTURE_DATA(held) * self, const char *role, int type)
{
	const struct output_owner owner = {.wake_fd = -1};
	int code;

	self->outside = make_end(OUTSIDE, type);
	self->other = make_end(OTHER, type);
	code = start_role(&self->process, role, &self->error);
	close(OUTSIDE);
	close(OTHER);
	if (!code)
		code = output_open(&self->process, &owner, NULL, &self->output, &self->error);
	self->cannot = code == THAW_EKERNEL;
	if (!code)
		process_continue(&self->process);
	return !code;
}

#define BEGIN(role, type)                                          \
	do {                                                       \
		bool begun = begin(self, role, type);              \
                                                                   \
		if (self->cannot)                                  \
			SKIP(return, "%s", self->error.text);      \
		ASSERT_TRUE(begun) TH_LOG("%s", self->error.text); \
	} while (0)

static bool arrives(FIXTURE_DATA(held) * self, uint64_t step)
{
	return wait_for(&self->process, &guest_at, step);
}

static void say(FIXTURE_DATA(held) * self, uint64_t step)
{
	remote_write(&self->process.remote, (uintptr_t)&test_says, &step, sizeof(step));
}

static int stop(FIXTURE_DATA(held) * self)
{
	int code;

	output_stop_begins(self->output);
	code = process_stop(&self->process, &self->error);
	if (!code)
		code = threads_ask(&self->process);
	if (!code)
		code = interrupted_restart(&self->process, &self->error);
	remote_forget(&self->process.remote);
	if (!code)
		output_captured(self->output);
	if (self->process.stopped)
		process_continue(&self->process);
	output_stop_ends(self->output);
	return code;
}

static int generation(FIXTURE_DATA(held) * self)
{
	int code = stop(self);

	if (!code)
		output_durable(self->output);
	return code;
}

/* What comes within a moment in which it would have come if it were not held. */
static bool is_silent(int fd)
{
	struct pollfd end = {.fd = fd, .events = POLLIN};

	return poll(&end, 1, 30) == 0;
}

/* The next bytes, as many as `text` has. */
static bool hears(int fd, const char *text)
{
	size_t bytes = strlen(text), done = 0;
	char got[64] = "";

	while (done < bytes) {
		struct pollfd end = {.fd = fd, .events = POLLIN};
		ssize_t more = poll(&end, 1, 20000) == 1 ? read(fd, got + done, bytes - done) : -1;

		if (more <= 0)
			break;
		done += (size_t)more;
	}
	if (done != bytes || memcmp(got, text, bytes))
		fprintf(stderr, "# heard '%s', not '%s'\n", got, text);
	return done == bytes && !memcmp(got, text, bytes);
}

static bool hears_end(int fd)
{
	struct pollfd end = {.fd = fd, .events = POLLIN};
	char byte;

	return poll(&end, 1, 20000) == 1 && read(fd, &byte, 1) == 0;
}

TEST_F(held, bytes_of_every_call_leave_in_order_when_durable)
{
	BEGIN("by_every_call", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	EXPECT_EQ(17, peek(&self->process, &guest_result));
	EXPECT_TRUE(is_silent(self->outside));
	EXPECT_TRUE(output_waits(self->output));
	ASSERT_EQ(0, stop(self)) TH_LOG("%s", self->error.text);
	EXPECT_TRUE(is_silent(self->outside)); /* captured is not durable */
	EXPECT_FALSE(output_waits(self->output));
	output_failed(self->output);
	EXPECT_TRUE(output_waits(self->output));
	EXPECT_TRUE(is_silent(self->outside)); /* a generation that fails lets nothing go */
	ASSERT_EQ(0, generation(self));
	EXPECT_TRUE(hears(self->outside, "abcdefcdcdcdghicd"));
	EXPECT_TRUE(is_silent(self->outside));
}

TEST_F(held, what_comes_after_a_capture_waits_for_the_next)
{
	BEGIN("shuts_down", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	ASSERT_EQ(0, stop(self));
	say(self, 1);
	ASSERT_TRUE(arrives(self, 2));
	output_durable(self->output);
	EXPECT_TRUE(hears(self->outside, "last"));
	EXPECT_TRUE(hears_end(self->outside));
}

TEST_F(held, a_shutdown_comes_after_the_bytes_and_ends_writing_at_once)
{
	BEGIN("shuts_down", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	EXPECT_EQ(4, peek(&self->process, &guest_result));
	EXPECT_TRUE(is_silent(self->outside));
	say(self, 1);
	ASSERT_TRUE(arrives(self, 2));
	EXPECT_EQ(EPIPE, peek(&self->process, &guest_result));
	ASSERT_EQ(0, generation(self));
	EXPECT_TRUE(hears(self->outside, "last"));
	EXPECT_TRUE(hears_end(self->outside));
}

TEST_F(held, a_close_comes_after_the_bytes_and_ends_the_interest_of_epolls)
{
	BEGIN("closes", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	EXPECT_EQ(0, peek(&self->process, &guest_result));
	EXPECT_TRUE(is_silent(self->outside));
	ASSERT_EQ(0, generation(self));
	EXPECT_TRUE(hears(self->outside, "last"));
	EXPECT_TRUE(hears_end(self->outside));
}

TEST_F(held, pipes_too)
{
	BEGIN("closes", -1);
	ASSERT_TRUE(arrives(self, 1));
	EXPECT_TRUE(is_silent(self->outside));
	ASSERT_EQ(0, generation(self));
	EXPECT_TRUE(hears(self->outside, "last"));
	EXPECT_TRUE(hears_end(self->outside));
}

TEST_F(held, messages_stay_whole_with_the_descriptors_they_bring)
{
	char data[16], control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {data, sizeof(data)};
	struct msghdr head = {.msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control)};
	int passed;

	BEGIN("by_messages", SOCK_SEQPACKET);
	ASSERT_TRUE(arrives(self, 1));
	EXPECT_EQ(10, peek(&self->process, &guest_result));
	EXPECT_TRUE(is_silent(self->outside));
	ASSERT_EQ(0, generation(self));
	ASSERT_TRUE(hears(self->outside, "one"));
	ASSERT_EQ(3, recvmsg(self->outside, &head, 0));
	ASSERT_NE(NULL, CMSG_FIRSTHDR(&head));
	memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&head)), sizeof(passed));
	EXPECT_TRUE(hears(passed, "passed"));
	close(passed);
}

/* Reads as many as `fill()` writes; generations go on meanwhile. */
static bool read_all(FIXTURE_DATA(held) * self)
{
	static uint8_t data[65536];
	double end = support_deadline(60);
	size_t done = 0;

	while (done < MUCH && support_seconds() < end) {
		struct pollfd ready = {.fd = self->outside, .events = POLLIN};
		ssize_t got;

		if (poll(&ready, 1, 0) <= 0) {
			if (generation(self))
				return false;
			continue;
		}
		got = read(self->outside, data, sizeof(data));
		for (ssize_t i = 0; i < got; i++)
			if (data[i] != (done + (size_t)i) * 7 % 251)
				return false;
		if (got <= 0)
			return false;
		done += (size_t)got;
	}
	return done == MUCH;
}

TEST_F_TIMEOUT(held, a_writer_without_room_waits_stops_and_goes_on, 120)
{
	BEGIN("blocks", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	while (output_bytes(self->output) < 4u << 20) /* it is full */
		support_sleep(0.001);
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, generation(self)) TH_LOG("%s", self->error.text);
	EXPECT_LT(peek(&self->process, &guest_at), 2);
	ASSERT_TRUE(read_all(self));
	ASSERT_TRUE(arrives(self, 2));
}

TEST_F_TIMEOUT(held, a_write_that_waits_ends_as_the_kernel_would_end_it, 120)
{
	BEGIN("is_interrupted", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	while (output_bytes(self->output) < 4u << 20)
		support_sleep(0.001);
	ASSERT_EQ(0, generation(self));
	while (peek(&self->process, &guest_at) < 2) {
		kill(self->process.remote.pid, SIGUSR1);
		support_sleep(0.001);
	}
	EXPECT_EQ(EINTR, peek(&self->process, &guest_result));
	EXPECT_EQ(EAGAIN, peek(&self->process, &guest_signals));
}

TEST_F_TIMEOUT(held, a_reader_that_does_not_read_holds_up_nobody_else, 120)
{
	BEGIN("fills_one_writes_other", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	while (output_bytes(self->output) < 4u << 20)
		support_sleep(0.001);
	ASSERT_EQ(0, generation(self));
	say(self, 1);
	ASSERT_TRUE(arrives(self, 2));
	ASSERT_EQ(0, generation(self));
	EXPECT_TRUE(hears(self->other, "other"));
}

TEST_F_TIMEOUT(held, edges_of_epoll_follow_each_EAGAIN, 120)
{
	BEGIN("fills_by_edges", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	while (!peek(&self->process, &guest_signals)) /* it has been told to wait */
		ASSERT_EQ(0, generation(self));
	ASSERT_TRUE(read_all(self));
	ASSERT_TRUE(arrives(self, 2));
	EXPECT_EQ(MUCH, peek(&self->process, &guest_result));
}

TEST_F(held, what_stays_inside_is_not_held)
{
	BEGIN("wakes_itself", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	EXPECT_EQ(2, peek(&self->process, &guest_result));
}

TEST_F(held, writing_to_nobody_is_told_by_the_next_call)
{
	BEGIN("writes_to_nobody", -1);
	ASSERT_TRUE(arrives(self, 1));
	close(self->outside);
	self->outside = -1;
	say(self, 1);
	ASSERT_TRUE(arrives(self, 2));
	ASSERT_EQ(0, generation(self));
	while (output_bytes(self->output))
		support_sleep(0.001);
	say(self, 2);
	ASSERT_TRUE(arrives(self, 3));
	EXPECT_EQ(EPIPE, peek(&self->process, &guest_result));
	EXPECT_EQ(1, peek(&self->process, &guest_signals));
}

TEST_F(held, children_go_on_and_are_not_held)
{
	BEGIN("forks", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	EXPECT_EQ(0, peek(&self->process, &guest_result));
	EXPECT_TRUE(hears(self->outside, "child"));
}

TEST_F(held, a_number_that_is_replaced_means_another_connection)
{
	BEGIN("replaces_number", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	ASSERT_EQ(0, generation(self));
	EXPECT_TRUE(hears(self->outside, "one"));
	EXPECT_TRUE(hears_end(self->outside));
	EXPECT_TRUE(hears(self->other, "two"));
}

TEST_F(held, a_call_that_replaces_nothing_leaves_nothing_behind)
{
	BEGIN("replaces_nothing", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	ASSERT_EQ(0, generation(self));
	EXPECT_TRUE(hears(self->outside, "oneoneone"));
	EXPECT_TRUE(hears(self->other, "twotwotwo"));
}

TEST_F(held, what_could_not_be_held_is_refused_as_if_it_were_not_there)
{
	BEGIN("asks_for_what_is_not_held", SOCK_STREAM);
	ASSERT_TRUE(arrives(self, 1));
	EXPECT_EQ(4, peek(&self->process, &guest_result));
}

TEST_HARNESS_MAIN
