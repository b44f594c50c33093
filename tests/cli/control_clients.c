// SPDX-License-Identifier: GPL-2.0-only
/*
 * control_clients.c - whoever connects to a program's socket: lines that are none, lines without an end, a thousand connections,
 * clients that sleep, other users, sockets that were left behind, paths that are too long: the program runs, and who
 * asks properly is answered.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <poll.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "support.h"

#define NOBODY 65534
#define CONNECTIONS 1000

FIXTURE(clients)
{
	char *directory, *script, *image, *socket;
	struct program program, ctl;
};

static void start(FIXTURE_DATA(clients) * self)
{
	program_free(&self->program);
	self->program = program_start(THAW("run", "--every", "0", self->script));
}

FIXTURE_SETUP(clients)
{
	char *why;

	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	self->socket = support_format("%s/app.thaw.ctl", self->directory);
	why = support_kernel_lacks(self->directory);
	if (why)
		SKIP(return, "%s", why);
	support_write(self->script, "globalThis.n = 0\nsetInterval(() => { n++ }, 5)\n"
				    "console.log('it runs')\n");
	start(self);
	ASSERT_TRUE(program_wait_for(&self->program, "it runs", 60));
	program_run(&self->ctl, NULL, THAW("ctl", self->image, "checkpoint"));
	ASSERT_NE(NULL, strstr(self->ctl.output, "is durable"))
	TH_LOG("%s", self->ctl.errors);
}
FIXTURE_TEARDOWN(clients)
{
	if (self->program.pid)
		program_kill(&self->program);
	program_free(&self->program);
	program_free(&self->ctl);
	free(self->script);
	free(self->image);
	free(self->socket);
	support_remove(self->directory);
}

#define CTL(...)                       \
	(program_free(&self->ctl),     \
	 program_run(&self->ctl, NULL, \
		     THAW("ctl", "--timeout", "1min", self->image, __VA_ARGS__)))

/* A program that was restored says nothing: until it listens. */
static bool is_heard(FIXTURE_DATA(clients) * self)
{
	double end = support_deadline(60);

	while (CTL("status")) {
		if (support_seconds() > end)
			return false;
		support_sleep(0.01);
	}
	return true;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* What is said to that; until the end of the connection, or of the line. */
static char *answer_to(const char *path, const char *text, bool ends)
{
	int fd = connect_to(path);
	char *answer = calloc(1, 65536);
	size_t bytes = 0;
	ssize_t got;

	if (fd < 0)
		support_die("connect");
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		support_die("send");
	if (ends)
		shutdown(fd, SHUT_WR);
	while (bytes < 65535 && !strchr(answer, '\n') &&
	       (got = recv(fd, answer + bytes, 65535 - bytes, 0)) > 0)
		bytes += (size_t)got;
	close(fd);
	return answer;
}

#define ANSWERED(text, ends, expected)                               \
	do {                                                         \
		char *answer_ = answer_to(self->socket, text, ends); \
                                                                     \
		EXPECT_NE(NULL, strstr(answer_, expected))           \
		{                                                    \
			TH_LOG("%.60s: %s", text, answer_);          \
		}                                                    \
		free(answer_);                                       \
	} while (0)

TEST_F(clients, a_line_of_anybody_is_answered)
{
	ANSWERED("{\"command\":\"status\"}\n", false, "{\"ok\":true,");
	ANSWERED("{\"command\":\"status\"}", true, "{\"ok\":true,");
	ANSWERED("\n", false, "{\"ok\":false,\"code\":9,");
	ANSWERED("nonsense\n", false, "no line of JSON");
	ANSWERED("[1]\n", false, "a line is an object");
	ANSWERED("{\"command\":7}\n", false, "which command?");
	ANSWERED("{\"command\":\"fly\",\"to\":\"the moon\"}\n", false, "no command 'fly'");
	ANSWERED("{\"command\":\"status\",\"image\":\"1:2:3\"}\n", false, "another image");
	ANSWERED("{\"command\":\"tag\",\"name\":\"a\\u0000b\"}\n", false, "\"ok\":false");
	ANSWERED("{\"command\":\"tag\"}\n", false, "name: which?");
	ANSWERED("{\"command\":\"eval\"}\n", false, "code: what");
	ANSWERED("{\"command\":\"rollback\",\"generation\":-1}\n", false, "count from 1");
	ANSWERED("{\"command\":\"checkpoint\",\"timeoutMs\":0}\n", false, "timeoutMs");
	ANSWERED("{\"command\":\"checkpoint\",\"name\":\"9\"}\n", false, "cannot be the name");
	ANSWERED("{\"command\":\"status\",\"command\":\"stop\"}\n", false, "no line of JSON");
	ANSWERED("{\"command\":\"eval\",\"code\":\"1 + 1\"}\n", false, "\"value\":\"2\"");
}

TEST_F(clients, several_lines_at_once_are_answered_in_their_order)
{
	int fd = connect_to(self->socket);
	static const char lines[] = "{\"command\":\"eval\",\"code\":\"'a'\"}\n"
				    "{\"command\":\"nothing\"}\n"
				    "{\"command\":\"eval\",\"code\":\"'b'\"}\n";
	char text[8192] = "", *first, *second, *third;
	size_t bytes = 0;
	ssize_t got;

	ASSERT_LE(0, fd);
	ASSERT_EQ(sizeof(lines) - 1, send(fd, lines, sizeof(lines) - 1, MSG_NOSIGNAL));
	shutdown(fd, SHUT_WR);
	while ((got = recv(fd, text + bytes, sizeof(text) - 1 - bytes, 0)) > 0)
		bytes += (size_t)got;
	close(fd);
	first = strstr(text, "\"value\":\"'a'\"");
	second = strstr(text, "no command 'nothing'");
	third = strstr(text, "\"value\":\"'b'\"");
	EXPECT_TRUE(first && second && third && first < second && second < third)
	{
		TH_LOG("%s", text);
	}
}

TEST_F(clients, ten_mebibytes_without_an_end_are_cut_short)
{
	char *text = malloc(10 << 20);
	int fd = connect_to(self->socket);
	char answer[512] = "";
	size_t sent = 0;
	ssize_t put;

	ASSERT_LE(0, fd);
	memset(text, 'x', 10 << 20);
	while (sent < 10 << 20 &&
	       (put = send(fd, text + sent, (10 << 20) - sent, MSG_NOSIGNAL)) > 0)
		sent += (size_t)put;
	EXPECT_GT(10 << 20, sent);
	if (recv(fd, answer, sizeof(answer) - 1, 0) > 0)
		EXPECT_NE(NULL, strstr(answer, "at most"));
	close(fd);
	free(text);
	EXPECT_EQ(0, CTL("status"));
}

/* Some say half of a line, and all then sleep. */
TEST_F(clients, a_thousand_sleepers_keep_nobody_out)
{
	static int fds[CONNECTIONS];

	for (int i = 0; i < CONNECTIONS; i++) {
		fds[i] = connect_to(self->socket);
		ASSERT_LE(0, fds[i]);
		if (i % 2 && send(fds[i], "{\"command\":", 11, MSG_NOSIGNAL) < 0)
			EXPECT_EQ(EPIPE, errno);
	}
	EXPECT_EQ(0, CTL("status"));
	EXPECT_EQ(0, CTL("eval", "1"));
	EXPECT_EQ(0, CTL("checkpoint"));
	for (int i = 0; i < CONNECTIONS; i++)
		close(fds[i]);
}

TEST_F(clients, who_leaves_before_the_answer_is_forgotten)
{
	static const char line[] =
		"{\"command\":\"eval\",\"code\":\"await new Promise(() => {})\"}\n";

	for (int i = 0; i < 40; i++) {
		int fd = connect_to(self->socket);

		ASSERT_LE(0, fd);
		ASSERT_LT(0, send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL));
		close(fd);
	}
	EXPECT_EQ(0, CTL("eval", "'free'"));
	EXPECT_STREQ("'free'\n", self->ctl.output);
}

TEST_F(clients, another_user_is_refused_by_the_file_and_by_name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;
	int length, end[2];
	char answer[512] = "";
	pid_t child;

	if (geteuid())
		SKIP(return, "only root can become another user");
	ASSERT_EQ(0, stat(self->socket, &status));
	EXPECT_EQ(0600, status.st_mode & 07777);
	ASSERT_EQ(0, stat(self->image, &status));
	length = snprintf(address.sun_path + 1, 100, "thaw-control/%x:%x:%llx",
			  major(status.st_dev), minor(status.st_dev),
			  (unsigned long long)status.st_ino);
	ASSERT_EQ(0, chmod(self->directory, 0755));
	ASSERT_EQ(0, pipe(end));
	child = fork();
	if (!child) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		ssize_t got;

		if (setgid(NOBODY) || setuid(NOBODY) || connect_to(self->socket) >= 0 ||
		    errno != EACCES)
			_exit(1);
		if (connect(fd, (struct sockaddr *)&address,
			    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)))
			_exit(2);
		got = recv(fd, answer, sizeof(answer), 0);
		_exit(got > 0 && write(end[1], answer, (size_t)got) == got ? 0 : 3);
	}
	ASSERT_EQ(child, waitpid(child, &length, 0));
	EXPECT_EQ(0, WEXITSTATUS(length));
	close(end[1]);
	ASSERT_LT(0, read(end[0], answer, sizeof(answer) - 1));
	EXPECT_NE(NULL, strstr(answer, "only the user who runs the program, and root"));
	close(end[0]);
}

TEST_F(clients, a_socket_that_was_left_is_taken_over_and_another_file_is_not)
{
	program_kill(&self->program);
	self->program.pid = 0;
	ASSERT_EQ(0, access(self->socket, F_OK));
	EXPECT_EQ(66, CTL("status"));
	start(self);
	ASSERT_TRUE(is_heard(self));
	EXPECT_EQ(0, CTL("eval", "n >= 0"));
	ANSWERED("{\"command\":\"status\"}\n", false, "{\"ok\":true,");
	EXPECT_EQ(0, CTL("stop"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	self->program.pid = 0;
	EXPECT_NE(0, access(self->socket, F_OK));
	/* It is reached all the same, by the image's inode. */
	support_write(self->socket, "a letter");
	start(self);
	ASSERT_TRUE(is_heard(self));
	EXPECT_EQ(0, CTL("eval", "n >= 0"));
	EXPECT_EQ(0, CTL("stop"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	self->program.pid = 0;
	EXPECT_EQ(8, support_size(self->socket));
}

TEST_F(clients, a_foreign_thing_behind_the_socket_is_told)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t child;

	EXPECT_EQ(0, CTL("stop"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	self->program.pid = 0;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", self->socket);
	ASSERT_EQ(0, bind(listener, (struct sockaddr *)&address, sizeof(address)));
	ASSERT_EQ(0, listen(listener, 4));
	child = fork();
	if (!child) {
		int fd = accept(listener, NULL, NULL);
		char line[256];

		_exit(recv(fd, line, sizeof(line), 0) > 0 &&
				      send(fd, "220 ready\n", 10, MSG_NOSIGNAL) == 10
			      ? 0
			      : 1);
	}
	EXPECT_EQ(76, CTL("status"));
	EXPECT_NE(NULL, strstr(self->ctl.errors, "does not speak as this version of thaw"));
	waitpid(child, NULL, 0);
	close(listener);
}

static int listen_on(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unlink(path);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4))
		support_die("listen");
	return listener;
}

/* As that of thaw exec may be for a moment. */
TEST_F(clients, a_socket_whose_program_has_ended_is_none)
{
	pid_t child;
	int end[2];
	char byte;

	program_kill(&self->program);
	self->program.pid = 0;
	ASSERT_EQ(0, pipe(end));
	child = fork();
	if (!child) { /* another holds what it listened on */
		listen_on(self->socket);
		if (fork())
			_exit(0);
		close(end[1]);
		_exit((int)read(end[0], &byte, 1));
	}
	ASSERT_EQ(child, waitpid(child, NULL, 0));
	program_free(&self->ctl);
	EXPECT_EQ(66, program_run(&self->ctl, NULL,
				  THAW("ctl", "--timeout", "1s", self->image, "status")));
	EXPECT_NE(NULL, strstr(self->ctl.errors, "no program runs from it"))
	{
		TH_LOG("%s", self->ctl.errors);
	}
	close(end[0]);
	close(end[1]);
}

TEST_F(clients, what_is_asked_of_a_program_that_ends_is_done_without_it)
{
	const char *const *const asked[] = {
		THAW("rollback", self->image, "1"),
		THAW("tag", self->image, "kept", "1"),
		THAW("tag", "-d", "kept", self->image),
		THAW("compact", self->image),
	};
	int status;

	program_kill(&self->program);
	self->program.pid = 0;
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		int ready[2];
		pid_t child;
		char byte;

		ASSERT_EQ(0, pipe(ready));
		child = fork();
		if (!child) {
			int image = open(self->image, O_RDWR | O_CLOEXEC);
			struct pollfd another = {.fd = listen_on(self->socket), .events = POLLIN};

			alarm(20);
			if (flock(image, LOCK_EX) || write(ready[1], "", 1) != 1)
				_exit(1);
			/* First whether it is there, then what is asked, which it does not read. */
			close(accept(another.fd, NULL, NULL));
			_exit(poll(&another, 1, -1) == 1 ? 0 : 2);
		}
		ASSERT_EQ(1, read(ready[0], &byte, 1));
		program_free(&self->ctl);
		EXPECT_EQ(0, program_run(&self->ctl, NULL, asked[i]))
		{
			TH_LOG("%s: %s", asked[i][1], self->ctl.errors);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(0, status);
		close(ready[0]);
		close(ready[1]);
	}
}

TEST_F(clients, a_path_that_no_address_can_hold_is_no_hindrance)
{
	char name[200], *deep, *script, *image;

	memset(name, 'd', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	deep = support_format("%s/%s", self->directory, name);
	script = support_format("%s/%s/a.js", self->directory, name);
	image = support_format("%s/%s/a.thaw", self->directory, name);
	ASSERT_EQ(0, mkdir(deep, 0700));
	support_write(script, "setInterval(() => {}, 1000000)\n");
	EXPECT_EQ(0, CTL("stop"));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	program_free(&self->program);
	self->program = program_start(THAW("run", "--every", "10ms", script));
	while (access(image, F_OK))
		support_sleep(0.01);
	program_free(&self->ctl);
	EXPECT_EQ(0, program_run(&self->ctl, NULL, THAW("ctl", image, "eval", "6 * 7")));
	EXPECT_STREQ("42\n", self->ctl.output)
	{
		TH_LOG("%s", self->ctl.errors);
	}
	free(image);
	image = support_format("%s/%s/a.thaw.ctl", self->directory, name);
	EXPECT_EQ(0, access(image, F_OK));
	free(deep);
	free(script);
	free(image);
}

TEST_HARNESS_MAIN
