// SPDX-License-Identifier: GPL-2.0-only
/*
 * clients.h - clients of a server that counts its requests and is killed under `thaw exec`: what it had when a generation
 * was durable is there afterwards, each of its answers is the one that it gave before to the same, and nobody who was
 * connected before is answered by it.
 */
#ifndef TESTS_CLIENTS_H
#define TESTS_CLIENTS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "free_port.h"
#include "process/kills.h"

struct server {
	const char *program, *script; /* NULL: redis; else a script of tests/programs/exec */
	const char *kind;	      /* the script's first argument, before the port; NULL: none */
	const char *request, *until;
	const char *before; /* the number stands behind it */
};

#define GET_COUNT \
	.request = "GET /count HTTP/1.1\r\nHost: x\r\n\r\n", .until = "}", .before = "\"count\":"

static inline int dial(unsigned port)
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
static inline ssize_t ask(int fd, const char *request, const char *until, char *answer, size_t room)
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

static inline unsigned free_port(void)
{
	unsigned port = find_free_port();

	if (!port)
		support_die("a port");
	return port;
}

static inline struct program server_start(const struct server *server, const char *image,
					  unsigned number, const char *every)
{
	char *port = support_format("%u", number);
	char *script = support_format("%s/tests/programs/exec/%s", THAW_SOURCE,
				      server->script ? server->script : "");
	struct program program;

	if (!server->script)
		program = program_start(THAW("exec", "-v", "--every", every, "--image", image,
					     server->program, "--port", port, "--save", "",
					     "--appendonly", "no"));
	else
		program = program_start(THAW(
			"exec", "-v", "--every", every, "--image", image, server->program, script,
			server->kind ? server->kind : port, server->kind ? port : NULL));
	free(script);
	free(port);
	return program;
}

/* The number in the next answer; or what ask() says. */
static inline long count_of(int fd, const struct server *server, char *answer, size_t room)
{
	ssize_t got = ask(fd, server->request, server->until, answer, room);
	const char *at = got > 0 ? strstr(answer, server->before) : NULL;

	return got <= 0 ? (long)got : at ? atol(at + strlen(server->before)) : -EPROTO;
}

/* Until it answers: its first answer. */
static inline long first_answer(unsigned port, const struct server *server, int *fd, char *answer,
				size_t room)
{
	double end = support_deadline(20);
	long count = -ECONNREFUSED;

	for (*fd = -1; support_seconds() < end; support_sleep(0.01)) {
		*fd = dial(port);
		count = *fd < 0 ? *fd : count_of(*fd, server, answer, room);
		if (count > 0)
			break;
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
	return count;
}

/* The process ends a little after its supervisor, and then its connections do. False: somebody went on answering. */
static inline bool connection_ends(int fd)
{
	char bytes[4096];
	ssize_t got;

	do
		got = recv(fd, bytes, sizeof(bytes), 0);
	while (got > 0);
	close(fd);
	return !got || errno == ECONNRESET;
}

#define CLIENTS 4

/* It is the next one, or one that it gave before. */
static inline bool check_answer(const struct server *server, struct lives *lives, long count,
				const char *answer)
{
	const char *text = count > 0 ? strstr(answer, server->before) : NULL;

	if (!text || count > lives->last + 1 ||
	    !kills_remember(&lives->answers, count, text,
			    (size_t)(strstr(text, server->until) - text))) {
		printf("# the answer is %ld, after %ld\n", count, lives->last);
		return false;
	}
	lives->last = count > lives->last ? count : lives->last;
	return true;
}

/* Requests on connections that stay open, for so long. False: an answer is not what it has to be. */
static inline bool talk(const struct server *server, unsigned port, int fds[CLIENTS],
			struct lives *lives, double seconds)
{
	double end = support_seconds() + seconds;
	char answer[4096];

	while (support_seconds() < end) {
		int *fd = &fds[random() % CLIENTS];

		if (*fd < 0)
			*fd = dial(port);
		if (!check_answer(server, lives,
				  *fd < 0 ? *fd : count_of(*fd, server, answer, sizeof(answer)),
				  answer))
			return false;
	}
	return true;
}

/* Killed behind `thaw checkpoint`: what it had then is there, what came after is not. False, having said why. */
static inline bool server_keeps(const struct server *server, const char *image, int kills)
{
	unsigned port = free_port();
	long kept = 0, count = 0;
	bool fine = true;
	int fd;

	for (int life = 0; life < kills && fine; life++) {
		struct program program = server_start(server, image, port, "0"), checkpoint;
		char answer[4096] = "";

		count = first_answer(port, server, &fd, answer, sizeof(answer));
		for (int i = 2; i <= 20 && count == kept + i - 1; i++)
			count = count_of(fd, server, answer, sizeof(answer));
		if (count != kept + 20) {
			fine = kills_failed(life, &program, "the count is another one");
			printf("# %ld instead of %ld\n", count, kept + 20);
		}
		if (program_run(&checkpoint, NULL, THAW("checkpoint", image))) {
			printf("# %s", checkpoint.errors);
			fine = kills_failed(life, &program, "no checkpoint");
		}
		program_free(&checkpoint);
		kept = count;
		if (fine && count_of(fd, server, answer, sizeof(answer)) !=
				    kept + 1) /* which nothing keeps */
			fine = kills_failed(life, &program,
					    "it does not go on after the checkpoint");
		program_kill(&program);
		if (fd >= 0 && !connection_ends(fd))
			fine = kills_failed(life, &program, "a connection is still there");
		program_free(&program);
	}
	printf("# %s: %d kills, %ld answers\n", server->kind ? server->kind : server->program,
	       kills, count);
	return fine;
}

/* Killed at random moments, while clients that keep their connections ask. False, having said why. */
static inline bool server_has_clients(const struct server *server, const char *image, int kills)
{
	unsigned port = free_port(), seed = kills_seed();
	struct lives lives = {0};
	int fds[CLIENTS];
	bool fine = true;

	memset(fds, -1, sizeof(fds));
	for (int life = 0; life < kills && fine; life++) {
		struct program program = server_start(server, image, port, "50ms");
		char answer[4096] = "";
		long count = first_answer(port, server, &fds[0], answer, sizeof(answer));

		double end = support_deadline(60);

		/* They go on asking: where nothing changes, there is no generation. */
		fine = check_answer(server, &lives, count, answer);
		while (fine && kills_generations(&program) < (life ? 1 : 2))
			fine = talk(server, port, fds, &lives, 0.01) && support_seconds() < end;
		fine = fine && talk(server, port, fds, &lives, (double)(random() % 300) / 1000);
		program_kill(&program);
		fine = kills_check_generation(&lives, program.errors) && fine;
		for (int i = 0; i < CLIENTS; i++) {
			fine = (fds[i] < 0 || connection_ends(fds[i])) && fine;
			fds[i] = -1;
		}
		if (!fine)
			kills_failed(life, &program, answer);
		program_free(&program);
	}
	printf("# %s: %d kills, %ld answers, %llu generations, seed %u\n",
	       server->kind ? server->kind : server->program, kills, lives.last, lives.generation,
	       seed);
	lives_free(&lives);
	return fine;
}

#endif
