/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * store_server.h - an object store for a test: the small one of tests/store/server, in a process of its own, which ends with the test.
 * The environment names it (AWS_ENDPOINT_URL and so on), also to programs that the test starts. What can be ordered of it
 * stands in tests/store/server/control.c.
 *
 * With THAW_TEST_STORE=s3://BUCKET[/PREFIX] in the environment, and what AWS's programs want besides, it is that store, in a
 * place that nobody has: what needs faults is left out there (STORE_SKIP_REAL).
 */
#ifndef TESTS_STORE_SERVER_H
#define TESTS_STORE_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "support.h"

struct store_server {
	bool real;
	pid_t pid;
	int in;			/* it ends when this is closed */
	unsigned port, control; /* ports */
	char *directory;	/* where its objects are */
	char place[600];	/* s3://... */
};

/* What needs no more than a wire that fails goes with a real store, too, if that is on this machine. */
#define STORE_SKIP_UNWIRED(server)            \
	if ((server)->real && !(server)->pid) \
	SKIP(return, "a real store elsewhere: there is no wire that can be ordered to fail")
#define STORE_SKIP_REAL(server) \
	if ((server)->real)     \
	SKIP(return, "a real store has no faults that can be ordered")

SUPPORT void store_server_place(struct store_server *server, const char *below)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		support_die("getrandom");
	snprintf(server->place, sizeof(server->place), "%s/t-%016llx", below,
		 (unsigned long long)number);
}

SUPPORT void store_server_run(struct store_server *server)
{
	int in[2], out[2];
	char port[16], line[64] = "";
	size_t got = 0;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		support_die("pipe");
	snprintf(port, sizeof(port), "%u", server->port);
	server->pid = support_fork();
	if (!server->pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(STORE_SERVER, "store-server", server->directory, port, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	server->in = in[1];
	while (got < sizeof(line) - 1 && read(out[0], line + got, 1) == 1 && line[got] != '\n')
		got++;
	close(out[0]);
	if (sscanf(line, "%u %u", &server->port, &server->control) != 2)
		support_die(STORE_SERVER);
}

SUPPORT void store_server_endpoint(const struct store_server *server)
{
	char *endpoint = support_format("http%s://127.0.0.1:%u",
					getenv("STORE_SERVER_TLS") ? "s" : "", server->port);

	setenv("AWS_ENDPOINT_URL", endpoint, 1);
	free(endpoint);
}

SUPPORT void store_server_begin(struct store_server *server)
{
	const char *real = getenv("THAW_TEST_STORE");

	*server = (struct store_server){.real = real && *real};
	if (server->real) {
		store_server_place(server, real);
		return;
	}
	server->directory = support_directory();
	store_server_run(server);
	store_server_place(server, "s3://test");
	store_server_endpoint(server);
	setenv("AWS_ACCESS_KEY_ID", "thaw-test", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "thaw/test+secret", 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null", 1);
	setenv("AWS_CONFIG_FILE", "/dev/null", 1);
	setenv("NO_PROXY", "127.0.0.1", 1);
	unsetenv("AWS_ENDPOINT_URL_S3");
	unsetenv("AWS_SESSION_TOKEN");
	unsetenv("AWS_PROFILE");
	unsetenv("AWS_REGION");
	unsetenv("AWS_DEFAULT_REGION");
	unsetenv("AWS_CA_BUNDLE");
}

/* Of a real store on this machine: what comes next goes over a wire that can fail. Else nothing. */
SUPPORT void store_server_wire(struct store_server *server)
{
	const char *endpoint = getenv("AWS_ENDPOINT_URL");
	char forward[16];
	unsigned port;

	if (!server->real || !endpoint || sscanf(endpoint, "http://127.0.0.1:%u", &port) != 1)
		return;
	snprintf(forward, sizeof(forward), "%u", port);
	setenv("STORE_SERVER_FORWARD", forward, 1);
	server->directory = support_directory();
	store_server_run(server);
	unsetenv("STORE_SERVER_FORWARD");
	store_server_endpoint(server);
}

SUPPORT void store_server_end(struct store_server *server)
{
	if (!server->pid)
		return;
	kill(server->pid, SIGKILL);
	waitpid(server->pid, NULL, 0);
	close(server->in);
	support_remove(server->directory);
}

/* Dies, and is there again with what it has stored: it has forgotten its orders and its log. */
SUPPORT void store_server_restart(struct store_server *server)
{
	kill(server->pid, SIGKILL);
	waitpid(server->pid, NULL, 0);
	close(server->in);
	store_server_run(server);
}

/* What it answers, freed by the caller. Ends the test if that is an error. */
SUPPORT char *store_server_ask(const struct store_server *server, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
SUPPORT char *store_server_ask(const struct store_server *server, const char *format, ...)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)server->control),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t got = 0, room = 65536;
	char path[1024], *text = malloc(room), *body;
	va_list arguments;
	ssize_t bytes;

	va_start(arguments, format);
	vsnprintf(path, sizeof(path), format, arguments);
	va_end(arguments);
	if (!text || connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    dprintf(fd, "GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", path) < 0)
		support_die("store-server");
	while ((bytes = read(fd, text + got, room - 1 - got)) > 0) {
		got += (size_t)bytes;
		if (room - got < 4096 && !(text = realloc(text, room *= 2)))
			support_die("realloc");
	}
	close(fd);
	text[got] = '\0';
	body = strstr(text, "\r\n\r\n");
	if (strncmp(text, "HTTP/1.1 200", 12) || !body) {
		fprintf(stderr, "# store-server: %s: %.40s\n", path, text);
		abort();
	}
	body = strdup(body + 4);
	free(text);
	return body;
}

#define store_server_order(server, ...) free(store_server_ask(server, __VA_ARGS__))

struct store_request { /* of its log */
	unsigned number, status;
	char verb[8], name[1100]; /* "LIST"; bucket/key */
	bool has_range;		  /* of what was read or stored */
	unsigned long long first, last, bytes;
};

/* Each that came since the beginning, or /forget. Freed by the caller. */
SUPPORT struct store_request *store_server_log(const struct store_server *server, size_t *count)
{
	char *text = store_server_ask(server, "/log"), *state = NULL;
	struct store_request *all = calloc(strlen(text) + 1, 1);
	size_t room = 0;

	*count = 0;
	for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		struct store_request one = {0};
		char range[64];

		if (*count == room) {
			room = room ? 2 * room : 64;
			all = realloc(all, room * sizeof(*all));
		}
		if (!all || sscanf(line, "%u %7s %1099s %63s %u %llu", &one.number, one.verb,
				   one.name, range, &one.status, &one.bytes) != 6)
			support_die(line);
		one.has_range = sscanf(range, "%llu-%llu", &one.first, &one.last) == 2;
		all[(*count)++] = one;
	}
	free(text);
	return all;
}

/* How many of a verb came, whatever became of them, in whose names there is `part`. */
SUPPORT unsigned store_server_count(const struct store_server *server, const char *verb,
				    const char *part)
{
	size_t all;
	struct store_request *requests = store_server_log(server, &all);
	unsigned count = 0;

	for (size_t i = 0; i < all; i++)
		count += !strcmp(requests[i].verb, verb) && strstr(requests[i].name, part);
	free(requests);
	return count;
}

/* Was any byte of an object sent twice? The first such request, or NULL; static storage. */
SUPPORT const struct store_request *store_server_sent_twice(const struct store_server *server)
{
	static struct store_request found;
	size_t all;
	struct store_request *requests = store_server_log(server, &all);
	const struct store_request *twice = NULL;

	for (size_t i = 0; i < all && !twice; i++)
		for (size_t j = 0; j < i && !twice; j++) {
			const struct store_request *a = &requests[i], *b = &requests[j];

			if (strcmp(a->verb, "GET") || strcmp(b->verb, "GET") || !a->has_range ||
			    !b->has_range || strcmp(a->name, b->name) || a->first > b->last ||
			    b->first > a->last)
				continue;
			found = *a;
			twice = &found;
		}
	free(requests);
	return twice;
}

#endif
