// SPDX-License-Identifier: MIT
/*
 * acknowledged BENCH MIB SECONDS CONNECTIONS[,CONNECTIONS...] PROTOCOL SERVER... - how many requests a second a server
 * answers, and how long one takes: samples for interleave. SERVER is started, with a free port behind it as its last word, and
 * asked by tests/load/load.c, each request adding one to one of the MIB * 1,000 counters at random, by so many connections
 * after the other; then it is killed. What is in BENCH's name before a colon is in those of the times, too.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../free_port.h"
#include "../load/load.h"
#include "bench.h"

#define START_SECONDS 300 /* the most that a server needs to make its data */

static unsigned free_port(void)
{
	unsigned port = find_free_port();

	if (!port)
		die("a port");
	return port;
}

/* In a process group of its own; returns once it listens. */
static pid_t start(char **server, int count, unsigned port)
{
	char **words = calloc((size_t)count + 2, sizeof(*words)), number[16], line[512];
	int channel[2];
	pid_t child;
	FILE *said;

	snprintf(number, sizeof(number), "%u", port);
	if (!words || pipe2(channel, O_CLOEXEC))
		die("pipe");
	memcpy(words, server, (size_t)count * sizeof(*words));
	words[count] = number;
	child = fork();
	if (!child) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(channel[1], 1);
		execvp(words[0], words);
		perror(words[0]);
		_exit(127);
	}
	setpgid(child, child);
	close(channel[1]);
	said = fdopen(channel[0], "r");
	alarm(START_SECONDS);
	while (fgets(line, sizeof(line), said))
		if (strstr(line, "listening on ")) {
			alarm(0);
			free(words);
			return child;
		}
	die("the server did not listen");
}

/* What is in front of the colon of the bench's name, or nothing. */
static void print_time(const char *bench, const char *what, const char *row, double us)
{
	const char *colon = strchr(bench, ':');

	printf("%.*s%s%s\t%s\t%.4f\tms\n", colon ? (int)(colon - bench) : 0, bench,
	       colon ? ": " : "", what, row, us / 1000);
}

static void measure(const char *bench, const char *mib, double seconds, unsigned connections,
		    enum load_protocol protocol, unsigned port)
{
	struct load *load = load_open(&(struct load_options){.protocol = protocol,
							     .port = port,
							     .connections = connections,
							     .keys = (unsigned)atoi(mib) * 1000,
							     .seed = connections});
	const uint32_t *times;
	char row[100];
	double start;
	size_t count;

	if (!load)
		die("no memory");
	/* A first part warms it up. */
	if (!load_run(load, seconds / 4, 0))
		die(load_wrong(load));
	load_times(load, &count);
	start = now_us();
	if (!load_run(load, seconds, 0))
		die(load_wrong(load));
	seconds = (now_us() - start) * 1e-6;
	times = load_times(load, &count);
	if (!count)
		die("nothing was answered");
	snprintf(row, sizeof(row), "%s MiB, %u connections", mib, connections);
	printf("%s\t%s\t%.1f\t/s\n", bench, row, (double)count / seconds);
	print_time(bench, "p50", row, times[count / 2]);
	print_time(bench, "p99", row, times[count - 1 - count / 100]);
	load_close(load);
}

int main(int argc, char **argv)
{
	unsigned port = free_port(), protocol = 0;
	pid_t server;

	while (argc > 6 && protocol < LOAD_PROTOCOLS &&
	       strcmp(load_protocol_names[protocol], argv[5]))
		protocol++;
	if (argc < 7 || protocol == LOAD_PROTOCOLS)
		die("usage: acknowledged BENCH MIB SECONDS CONNECTIONS[,CONNECTIONS...] PROTOCOL SERVER...");
	for (char *at = argv[1]; *at; at++) /* interleave splits its commands at blanks */
		*at = *at == '_' ? ' ' : *at;
	server = start(argv + 6, argc - 6, port);
	for (char *list = argv[4], *one; (one = strsep(&list, ","));)
		measure(argv[1], argv[2], atof(argv[3]), (unsigned)atoi(one), protocol, port);
	kill(-server, SIGKILL);
	waitpid(server, NULL, 0);
	return 0;
}
