// SPDX-License-Identifier: GPL-2.0-only
/*
 * servers.c - a server goes on listening where it did after SIGKILL: what it had when `thaw checkpoint` said so is there,
 * what came after is not, and nobody who was connected before is answered by it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "support.h"

static int dial(unsigned port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 30};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -errno;
	}
	return fd;
}

/* One request and what comes until `until`, terminated. Bytes, 0: the end of file, or -errno. */
static ssize_t ask(int fd, const char *request, const char *until, char *answer, size_t room)
{
	size_t have = 0;
	ssize_t got;

	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		return -errno;
	do {
		got = recv(fd, answer + have, room - 1 - have, 0);
		if (got <= 0)
			return got ? -errno : 0;
		have += (size_t)got;
		answer[have] = '\0';
	} while (!strstr(answer, until));
	return (ssize_t)have;
}

static unsigned free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    getsockname(fd, (struct sockaddr *)&address, &bytes))
		support_die("a port");
	close(fd);
	return ntohs(address.sin_port);
}

FIXTURE(server)
{
	char *directory, *image;
	unsigned port;
	struct program program;
};
FIXTURE_VARIANT(server)
{
	const char *request, *until, *before; /* the number stands behind `before` */
};
FIXTURE_VARIANT_ADD(server, node){
	.request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", .until = "}\n", .before = "\"count\":"};
FIXTURE_VARIANT_ADD(server, redis){
	.request = "*2\r\n$4\r\nINCR\r\n$1\r\nx\r\n", .until = "\r\n", .before = ":"};

FIXTURE_SETUP(server)
{
	self->directory = support_directory();
	self->image = support_format("%s/server.thaw", self->directory);
	self->port = free_port();
}
FIXTURE_TEARDOWN(server)
{
	free(self->image);
	support_remove(self->directory);
}

/* The number in the next answer; or what ask() says. */
static long count_of(int fd, const FIXTURE_VARIANT(server) * variant)
{
	char answer[4096];
	ssize_t got = ask(fd, variant->request, variant->until, answer, sizeof(answer));
	const char *at = got > 0 ? strstr(answer, variant->before) : NULL;

	return got <= 0 ? (long)got : at ? atol(at + strlen(variant->before)) : -EPROTO;
}

/*
 * Until it answers: its first answer. Whoever is there before may be the process that was killed: it ends a little after
 * its supervisor.
 */
static long first_answer(unsigned port, const FIXTURE_VARIANT(server) * variant, int *fd)
{
	double end = support_deadline(20);
	long count = -ECONNREFUSED;

	for (*fd = -1; support_seconds() < end; support_sleep(0.01)) {
		*fd = dial(port);
		count = *fd < 0 ? *fd : count_of(*fd, variant);
		if (count > 0)
			break;
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
	return count;
}

TEST_F_TIMEOUT(server, goes_on_listening, 300)
{
	bool node = variant->request[0] == 'G';
	char *script = support_format("%s/tests/programs/exec/server.js", THAW_SOURCE);
	char *port = support_format("%u", self->port);
	const char *redis = getenv("THAW_REDIS") ? getenv("THAW_REDIS") : "redis-server";
	long kept = 0, count = 0;
	int fd, open_one = -1;

	for (int life = 0; life < 5; life++) {
		struct program checkpoint;

		if (node)
			self->program = program_start(THAW("exec", "--every", "0", "--image",
							   self->image, "node", script, port));
		else
			self->program = program_start(THAW("exec", "--every", "0", "--image",
							   self->image, redis, "--port", port,
							   "--save", "", "--appendonly", "no"));
		count = first_answer(self->port, variant, &fd);
		if (fd < 0 && !node && !life) {
			program_kill(&self->program);
			SKIP(return, "there is no redis-server here");
		}
		ASSERT_GE(fd, 0)
		{
			program_kill(&self->program);
			TH_LOG("life %d: %.2000s", life, self->program.errors);
		}
		ASSERT_EQ(count, kept + 1);
		if (open_one >= 0) {
			EXPECT_LE(count_of(open_one, variant), 0);
			close(open_one);
		}
		for (int i = 1; i < 20; i++) {
			count = count_of(fd, variant);
			ASSERT_EQ(count, kept + 1 + i);
		}
		ASSERT_EQ(program_run(&checkpoint, NULL, THAW("checkpoint", self->image)), 0)
		{
			TH_LOG("%s", checkpoint.errors);
		}
		program_free(&checkpoint);
		kept = count;
		EXPECT_EQ(count_of(fd, variant), kept + 1); /* which nothing keeps */
		program_kill(&self->program);
		program_free(&self->program);
		open_one = fd;
	}
	close(open_one);
	free(port);
	free(script);
}

TEST_HARNESS_MAIN
