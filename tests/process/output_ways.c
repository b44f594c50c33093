// SPDX-License-Identifier: GPL-2.0-only
/*
 * output_ways.c - what a program under --commit output sends arrives as it has sent it: by calls of libc's, which use its
 * rings, by system calls of its own, which the supervisor is asked about, and by both in turn. Each test is run with
 * rings, and without any (THAW_RING=none).
 *
 * The guest is this program in a role; it connects to the test, which reads.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "kselftest_harness.h"
#include "process/stub/raw.h"
#include "roles.h"

#define PORT "THAW_TEST_PORT"

/* ---- The guest */

static int connect_home(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)atoi(getenv(PORT))),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		_exit(11);
	return fd;
}

/* All of it, by one of the ways. */
static void send_by(unsigned way, int fd, const char *text)
{
	size_t bytes = strlen(text);
	struct iovec halves[2] = {{(void *)text, bytes / 2},
				  {(void *)(text + bytes / 2), bytes - bytes / 2}};
	struct msghdr message = {.msg_iov = halves, .msg_iovlen = 2};
	struct mmsghdr messages = {.msg_hdr = message};
	ssize_t sent;

	switch (way % 9) {
	case 0:
		sent = write(fd, text, bytes);
		break;
	case 1:
		sent = raw_call(SYS_write, (uint64_t)fd, (uintptr_t)text, bytes, 0, 0, 0);
		break;
	case 2:
		sent = writev(fd, halves, 2);
		break;
	case 3:
		sent = send(fd, text, bytes, MSG_NOSIGNAL);
		break;
	case 4:
		sent = sendmsg(fd, &message, 0);
		break;
	case 5:
		sent = dprintf(fd, "%s", text);
		break;
	case 6:
		sent = syscall(SYS_sendto, fd, text, bytes, 0, NULL, 0);
		break;
	case 7:
		sent = sendmmsg(fd, &messages, 1, 0) == 1 ? (ssize_t)messages.msg_len : -1;
		break;
	default:
		sent = raw_call(SYS_sendmsg, (uint64_t)fd, (uintptr_t)&message, 0, 0, 0, 0);
		break;
	}
	if (sent != (ssize_t)bytes)
		_exit(12);
}

static void guest_role_order(void)
{
	int fd = connect_home(), idle = connect_home();
	char text[64];

	for (unsigned i = 0; i < 3000; i++) {
		snprintf(text, sizeof(text), "line %u\n", i);
		/* Long runs of one, and each beside each. */
		send_by(i % 300 < 100 ? i : i / 7, fd, text);
	}
	signal(SIGPIPE, SIG_IGN);
	if (shutdown(fd, SHUT_WR))
		_exit(13);
	if (write(fd, "late", 4) != -1 || errno != EPIPE)
		_exit(20);
	/* One that has nothing on its way, too. */
	if (write(idle, "x", 1) != 1 || read(idle, text, 1) != 1 || shutdown(idle, SHUT_WR) ||
	    write(idle, "late", 4) != -1 || errno != EPIPE)
		_exit(21);
	for (char byte; read(fd, &byte, 1) > 0;)
		;
	_exit(0);
}

/* By whatever it is closed, its number is another's at once. */
static void close_by(unsigned way, int fd)
{
	int null = way % 6 == 3 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
	FILE *file;

	switch (way % 6) {
	case 0:
		close(fd);
		break;
	case 1:
		raw_call(SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
		break;
	case 2:
		syscall(SYS_close, fd);
		break;
	case 3:
		dup2(null, fd);
		close(null);
		close(fd);
		break;
	case 4:
		close_range((unsigned)fd, (unsigned)fd, 0);
		break;
	default:
		file = fdopen(fd, "w");
		if (!file || fclose(file))
			_exit(14);
	}
}

static void *guest_connects(void *argument)
{
	unsigned me = (unsigned)(uintptr_t)argument;
	char text[64];

	for (unsigned round = 0; round < 48; round++) {
		int fd = connect_home();

		for (unsigned i = 0; i < 5; i++) {
			snprintf(text, sizeof(text), "%u/%u/%u\n", me, round, i);
			send_by(me + round / 3 + (i > 2 ? i : 0), fd, text);
		}
		close_by(round + me, fd);
	}
	return NULL;
}

/* Files whose numbers come in between. */
static void *guest_opens(void *argument)
{
	while (!*(volatile bool *)argument) {
		int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

		if (write(fd, "x", 1) != 1)
			_exit(15);
		raw_call(SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
		fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (write(fd, "x", 1) != 1)
			_exit(15);
		close(fd);
	}
	return NULL;
}

static bool guest_ended;
static void guest_role_numbers(void)
{
	pthread_t threads[4], opens;

	pthread_create(&opens, NULL, guest_opens, &guest_ended);
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, guest_connects, (void *)i);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	__atomic_store_n(&guest_ended, true, __ATOMIC_SEQ_CST);
	pthread_join(opens, NULL);
	_exit(0);
}

/* A reader that does not read: the writer is told so, and when that is over; nothing is lost between. */
static void guest_role_full(void)
{
	int full = connect_home(), told = connect_home();
	struct pollfd room = {.fd = full, .events = POLLOUT};
	uint64_t piece[128], number = 0;
	bool refused = false;
	size_t done = 0;

	fcntl(full, F_SETFL, O_NONBLOCK);
	while (number < (24u << 20) / sizeof(piece)) {
		ssize_t sent;

		for (unsigned i = 0; i < 128; i++)
			piece[i] = number * 128 + i;
		sent = write(full, (char *)piece + done, sizeof(piece) - done);
		if (sent < 0 && errno != EAGAIN)
			_exit(16);
		if (sent < 0) {
			if (!refused && write(told, "full\n", 5) != 5)
				_exit(17);
			refused = true;
			poll(&room, 1, -1);
			continue;
		}
		done += (size_t)sent; /* it may be a part */
		number += done == sizeof(piece);
		done %= sizeof(piece);
	}
	_exit(0);
}

static volatile sig_atomic_t guest_pipes;
static void guest_on_pipe(int signo)
{
	(void)signo;
	guest_pipes++;
}

/* The reader has gone: the writer learns it, as without Thaw: at first why, then EPIPE with its signal. */
static void guest_role_gone(void)
{
	int gone = connect_home(), told = connect_home(), codes[2] = {0};
	char text[64];

	signal(SIGPIPE, guest_on_pipe);
	if (read(gone, text, 1) != -1 && write(gone, "x", 1) < 0)
		_exit(18);
	for (int i = 0; i < 2; i++) {
		while (write(gone, "y", 1) == 1)
			poll(NULL, 0, 1);
		codes[i] = errno;
	}
	snprintf(text, sizeof(text), "%d %d %d\n", codes[0] == ECONNRESET || codes[0] == EPIPE,
		 codes[1] == EPIPE, guest_pipes > 0);
	if (write(told, text, strlen(text)) != (ssize_t)strlen(text))
		_exit(19);
	_exit(0);
}

/* Standard output by stdio, by libc's calls and by its own. */
static void guest_role_prints(void)
{
	for (unsigned i = 0; i < 900; i++) {
		char text[64];

		snprintf(text, sizeof(text), "line %u\n", i);
		if (i % 10 == 9) {
			fputs(text, stdout);
			fflush(stdout);
		} else {
			send_by(i % 3, 1, text);
		}
	}
	_exit(0);
}

static const struct role roles[] = {
	{"order", guest_role_order}, {"numbers", guest_role_numbers}, {"full", guest_role_full},
	{"gone", guest_role_gone},   {"prints", guest_role_prints},
};

__attribute__((constructor)) static void guest_main(void)
{
	run_role(roles, sizeof(roles) / sizeof(*roles));
}

/* ---- The test */

FIXTURE(ways)
{
	char *directory, *image;
	int listener;
	struct program program;
};

FIXTURE_VARIANT(ways)
{
	const char *ring;
};
FIXTURE_VARIANT_ADD(ways, rings){.ring = ""};
FIXTURE_VARIANT_ADD(ways, asked){.ring = "none"};

FIXTURE_SETUP(ways)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	char port[16];

	SKIP_SANITIZED();
	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
	self->directory = support_directory();
	self->image = support_format("%s/image.thaw", self->directory);
	self->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_EQ(0, bind(self->listener, (struct sockaddr *)&address, sizeof(address)));
	ASSERT_EQ(0, listen(self->listener, 64));
	ASSERT_EQ(0, getsockname(self->listener, (struct sockaddr *)&address, &bytes));
	snprintf(port, sizeof(port), "%d", ntohs(address.sin_port));
	setenv(PORT, port, 1);
	setenv("THAW_RING", variant->ring, 1);
}

FIXTURE_TEARDOWN(ways)
{
	if (!self->directory)
		return;
	if (self->program.pid > 0)
		program_kill(&self->program);
	program_free(&self->program);
	close(self->listener);
	free(self->image);
	support_remove(self->directory);
}

/* By its path, which is the image's of both. */
#define RUN(role)                                                                         \
	do {                                                                              \
		char exe[512];                                                            \
		ssize_t got = readlink("/proc/self/exe", exe, sizeof(exe) - 1);           \
                                                                                          \
		ASSERT_LT(0, got);                                                        \
		exe[got] = '\0';                                                          \
		setenv(ROLE, role, 1);                                                    \
		self->program = program_start(                                            \
			THAW("exec", "--commit", "output", "--image", self->image, exe)); \
		unsetenv(ROLE);                                                           \
	} while (0)

/* Everything up to the end, malloc'ed and terminated. */
static char *read_all(int fd, size_t *bytes)
{
	char *data = malloc(1 << 16);
	size_t room = 1 << 16;
	ssize_t got;

	*bytes = 0;
	while (data && (got = read(fd, data + *bytes, room - *bytes - 1)) > 0) {
		*bytes += (size_t)got;
		if (*bytes + 1 == room)
			data = realloc(data, room *= 2);
	}
	if (data)
		data[*bytes] = '\0';
	return data;
}

static int accept_one(FIXTURE_DATA(ways) * self)
{
	struct pollfd there = {.fd = self->listener, .events = POLLIN};

	return poll(&there, 1, 60000) == 1 ? accept4(self->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
}

/* Its exit code; it is not killed any more. */
static int finish(FIXTURE_DATA(ways) * self)
{
	int code = program_finish(&self->program, 60);

	self->program.pid = 0;
	return code;
}

TEST_F(ways, one_connection_gets_every_line_in_order)
{
	char *data, *at, line[64];
	size_t bytes;
	int fd, idle;

	RUN("order");
	fd = accept_one(self);
	idle = accept_one(self);
	ASSERT_LE(0, idle);
	at = data = read_all(fd, &bytes);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(line, sizeof(line), "line %u\n", i);
		ASSERT_EQ(0, strncmp(at, line, strlen(line)))
		TH_LOG("%s where there should be %s", at, line);
		at += strlen(line);
	}
	EXPECT_EQ('\0', *at);
	free(data);
	ASSERT_EQ(1, recv(idle, line, 1, 0)); /* released, so that nothing is on its way */
	ASSERT_EQ(1, send(idle, "x", 1, 0));
	EXPECT_EQ(0, recv(idle, line, 1, 0));
	close(idle);
	close(fd);
	EXPECT_EQ(0, finish(self)) TH_LOG("%s", self->program.errors);
}

TEST_F(ways, a_number_that_is_used_again_is_another_connection)
{
	bool seen[4][48] = {{false}};

	RUN("numbers");
	for (unsigned i = 0; i < 4 * 48; i++) {
		char *data, line[64], whole[512] = "";
		unsigned thread = 9, round = 99;
		size_t bytes;
		int fd = accept_one(self);

		ASSERT_LE(0, fd);
		data = read_all(fd, &bytes);
		close(fd);
		ASSERT_EQ(2, sscanf(data, "%u/%u/", &thread, &round)) TH_LOG("'%s'", data);
		ASSERT_GT(4, thread);
		ASSERT_GT(48, round);
		for (unsigned part = 0; part < 5; part++) {
			snprintf(line, sizeof(line), "%u/%u/%u\n", thread, round, part);
			strcat(whole, line);
		}
		EXPECT_STREQ(whole, data);
		EXPECT_FALSE(seen[thread][round]);
		seen[thread][round] = true;
		free(data);
	}
	EXPECT_EQ(0, finish(self)) TH_LOG("%s", self->program.errors);
}

TEST_F(ways, a_reader_that_does_not_read_stops_its_writer_and_loses_nothing)
{
	int full, told;
	uint64_t *data;
	char text[8] = "";
	size_t bytes;

	RUN("full");
	full = accept_one(self);
	told = accept_one(self);
	ASSERT_LE(0, told);
	ASSERT_EQ(5, recv(told, text, 5, MSG_WAITALL));
	EXPECT_STREQ("full\n", text);
	data = (uint64_t *)read_all(full, &bytes);
	EXPECT_EQ(24u << 20, bytes);
	for (uint64_t i = 0; i < bytes / 8; i++)
		ASSERT_EQ(i, data[i]);
	free(data);
	close(full);
	close(told);
	EXPECT_EQ(0, finish(self)) TH_LOG("%s", self->program.errors);
}

TEST_F(ways, a_reader_that_has_gone_is_an_error_of_its_writers)
{
	struct linger reset = {.l_onoff = 1};
	int gone, told;
	size_t bytes;
	char *text;

	RUN("gone");
	gone = accept_one(self);
	told = accept_one(self);
	ASSERT_LE(0, told);
	setsockopt(gone, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(gone);
	text = read_all(told, &bytes);
	EXPECT_STREQ("1 1 1\n", text);
	free(text);
	close(told);
	EXPECT_EQ(0, finish(self)) TH_LOG("%s", self->program.errors);
}

TEST_F(ways, standard_output_has_every_line_in_order)
{
	const char *at;
	char line[64];

	RUN("prints");
	EXPECT_EQ(0, finish(self)) TH_LOG("%s", self->program.errors);
	at = self->program.output;
	for (unsigned i = 0; i < 900; i++) {
		snprintf(line, sizeof(line), "line %u\n", i);
		ASSERT_EQ(0, strncmp(at, line, strlen(line))) TH_LOG("not %s", line);
		at += strlen(line);
	}
	EXPECT_EQ('\0', *at);
}

TEST_HARNESS_MAIN
