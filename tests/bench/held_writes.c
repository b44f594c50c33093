// SPDX-License-Identifier: MIT
/*
 * held_writes.c - what write(2) of 64 bytes costs a program whose output is held: by libc, so through its ring, and by a
 * system call of its own, which the supervisor is asked about; to a connection and to a file, in turn. Beside it, both
 * without Thaw.
 *
 *	held_writes THAW [ROUNDS]	the table: nanoseconds for each write, median and quartiles
 *	held_writes writer PORT ROUNDS	the program in it
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH 200
#define BYTES 64
#define ROUNDS_MOST 500

static uint64_t now_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- The program */

/* All threads of the parent, which is the supervisor, if there is one. */
static uint64_t parent_ns(void)
{
	uint64_t sum = 0, ns;
	char path[400];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)getppid());
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)getppid(),
			 entry->d_name);
		file = fopen(path, "re");
		if (file && fscanf(file, "%lu", &ns) == 1)
			sum += ns;
		if (file)
			fclose(file);
	}
	if (tasks)
		closedir(tasks);
	return sum;
}

/* Not libc's: the instruction itself. */
static long write_itself(int fd, const void *data, size_t bytes)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(SYS_write), "D"(fd), "S"(data), "d"(bytes)
			 : "rcx", "r11", "memory");
	return result;
}

static const struct way {
	const char *name;
	bool to_file, itself;
} ways[] = {{"socket-libc", false, false},
	    {"socket-syscall", false, true},
	    {"file-libc", true, false},
	    {"file-syscall", true, true}};
#define WAYS 4

static void run_batch(const struct way *way, int fd, uint64_t *sample)
{
	static char data[BYTES] =
		"x"; /* not beside the frame of write(), of which is known that it is there */
	uint64_t wall = now_ns(CLOCK_MONOTONIC), own = now_ns(CLOCK_THREAD_CPUTIME_ID);

	for (int i = 0; i < BATCH; i++)
		if ((way->itself ? write_itself(fd, data, BYTES) : write(fd, data, BYTES)) != BYTES)
			die("write");
	sample[0] = (now_ns(CLOCK_MONOTONIC) - wall) / BATCH;
	sample[1] = (now_ns(CLOCK_THREAD_CPUTIME_ID) - own) / BATCH;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

static int writer(int port, int rounds)
{
	static uint64_t wall[WAYS][ROUNDS_MOST], own[WAYS][ROUNDS_MOST], parents[WAYS];
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fds[2] = {socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), open("/dev/null", O_WRONLY)};

	if (fds[0] < 0 || fds[1] < 0 ||
	    connect(fds[0], (struct sockaddr *)&address, sizeof(address)))
		die("connect");
	for (int round = -1; round < rounds; round++)
		for (int i = 0; i < WAYS; i++) {
			uint64_t sample[2], before = parent_ns();

			run_batch(&ways[i], fds[ways[i].to_file], sample);
			if (round < 0) /* the first of all */
				continue;
			parents[i] += parent_ns() - before;
			wall[i][round] = sample[0];
			own[i][round] = sample[1];
		}
	for (int i = 0; i < WAYS; i++) {
		qsort(wall[i], (size_t)rounds, sizeof(uint64_t), compare);
		qsort(own[i], (size_t)rounds, sizeof(uint64_t), compare);
		printf("%s %lu %lu %lu %lu %lu\n", ways[i].name, wall[i][rounds / 2],
		       wall[i][rounds / 4], wall[i][rounds * 3 / 4], own[i][rounds / 2],
		       parents[i] / (uint64_t)rounds / BATCH);
	}
	return 0;
}

/* ---- The table */

static int listen_here(int *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, bytes) || listen(fd, 16) ||
	    getsockname(fd, (struct sockaddr *)&address, &bytes))
		die("listen");
	*port = ntohs(address.sin_port);
	return fd;
}

/* Reads whatever comes on one connection after the other. */
static void sink(int listener)
{
	static char data[1 << 16];

	for (;;) {
		int fd = accept(listener, NULL, NULL);

		while (fd >= 0 && read(fd, data, sizeof(data)) > 0)
			;
		close(fd);
	}
}

int main(int count, char **arguments)
{
	char command[1024], self[512], image[] = "/tmp/held_writes.XXXXXX";
	int rounds = count > 2 ? atoi(arguments[2]) : 100, port, listener;
	ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);
	pid_t pid;

	if (count == 4 && !strcmp(arguments[1], "writer"))
		return writer(atoi(arguments[2]), atoi(arguments[3]));
	if (count < 2 || bytes < 0 || rounds < 4 || rounds > ROUNDS_MOST || !mkdtemp(image)) {
		fprintf(stderr, "held_writes THAW [ROUNDS]\n");
		return 2;
	}
	self[bytes] = '\0';
	listener = listen_here(&port);
	pid = fork();
	if (!pid)
		sink(listener);
	setvbuf(stdout, NULL, _IONBF, 0);
	printf("where what median q1 q3 own supervisor (ns for each write of %d bytes)\n", BYTES);
	for (int with = 0; with < 2; with++) {
		snprintf(command, sizeof(command), "%s %s writer %d %d | sed 's/^/%s /'",
			 with ? "" : "exec", self, port, rounds, with ? "held" : "plain");
		if (with)
			snprintf(command, sizeof(command),
				 "%s exec --commit output --commit-interval 60s --every 60s "
				 "--image %s/i.thaw %s writer %d %d | sed 's/^/held /'",
				 arguments[1], image, self, port, rounds);
		if (system(command))
			fprintf(stderr, "failed: %s\n", command);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	snprintf(command, sizeof(command), "rm -rf %s", image);
	return system(command) != 0;
}
