// SPDX-License-Identifier: MIT
/*
 * link NS1 NS2 DELAY_MS MBIT - a line between two network namespaces that exist (ip netns add), 10.99.0.1 and 10.99.0.2: each packet
 * arrives DELAY_MS later than it was sent, and so many bits of each direction go in a second. Prints "ready", and ends with its
 * standard input. What tc's netem does, for kernels without it.
 *
 * The namespaces have a tun device each, and this carries what comes out of one into the other. Packets are as large as
 * TCP's segments are before they are cut (TUN_F_TSO4, with checksums left out), so that 1 Gbit/s is some 2,000 of them in a
 * second; TCP counts segments of 1460 bytes all the same, and starts as slowly as on a line. A packet that would wait longer than QUEUE_MS for
 * those before it is lost, as at a router.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MOST (sizeof(struct virtio_net_hdr) + 65536)
#define QUEUE_MS 100u

struct packet {
	struct packet *next;
	uint64_t due_ns;
	size_t bytes;
	char contents[];
};

struct way {
	int from, to;
	struct packet *first, **last;
	uint64_t free_ns; /* when the line has sent all that came so far */
	uint64_t carried, lost;
};

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void enter(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(path);
	close(fd);
}

static void run(const char *const *words)
{
	pid_t child = fork();
	int status;

	if (!child) {
		execvp(words[0], (char *const *)words);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		die("ip");
}

/* The namespace's end of the line. */
static int end_open(const char *name, const char *address)
{
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
	unsigned offload = TUN_F_CSUM | TUN_F_TSO4;
	int fd;

	enter(name);
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "line");
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETOFFLOAD, offload))
		die("/dev/net/tun");
	run((const char *[]){"ip", "addr", "add", address, "dev", "line", NULL});
	run((const char *[]){"ip", "link", "set", "line", "up", "txqueuelen", "10000", NULL});
	run((const char *[]){"ip", "link", "set", "lo", "up", NULL});
	return fd;
}

/* What has come out of one end waits for its time. */
static void take(struct way *way, uint64_t delay_ns, double ns_per_byte)
{
	static char buffer[PACKET_MOST];

	for (;;) {
		ssize_t bytes = read(way->from, buffer, sizeof(buffer));
		uint64_t now = now_ns();
		struct packet *packet;

		if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (bytes <= 0)
			die("read");
		if (way->free_ns < now)
			way->free_ns = now;
		if (way->free_ns - now > QUEUE_MS * 1000000ull) {
			way->lost++;
			continue;
		}
		way->free_ns += (uint64_t)((double)bytes * ns_per_byte);
		packet = malloc(sizeof(*packet) + (size_t)bytes);
		if (!packet)
			die("malloc");
		packet->next = NULL;
		packet->due_ns = way->free_ns + delay_ns;
		packet->bytes = (size_t)bytes;
		memcpy(packet->contents, buffer, (size_t)bytes);
		*way->last = packet;
		way->last = &packet->next;
		way->carried += (uint64_t)bytes;
	}
}

/* Delivers what is due. When the next one is; UINT64_MAX: none. */
static uint64_t give(struct way *way)
{
	while (way->first) {
		struct packet *packet = way->first;

		if (packet->due_ns > now_ns())
			return packet->due_ns;
		if (write(way->to, packet->contents, packet->bytes) < 0 && errno != EAGAIN &&
		    errno != EIO && errno != EINVAL)
			die("write");
		way->first = packet->next;
		if (!way->first)
			way->last = &way->first;
		free(packet);
	}
	return UINT64_MAX;
}

int main(int count, char **words)
{
	struct way ways[2] = {{0}};
	uint64_t delay_ns;
	double ns_per_byte;
	int ends[2];

	if (count != 5 || atof(words[4]) <= 0) {
		fprintf(stderr, "usage: link NS1 NS2 DELAY_MS MBIT\n");
		return 9;
	}
	delay_ns = (uint64_t)(atof(words[3]) * 1e6);
	ns_per_byte = 8000 / atof(words[4]);
	ends[0] = end_open(words[1], "10.99.0.1/24");
	ends[1] = end_open(words[2], "10.99.0.2/24");
	for (unsigned i = 0; i < 2; i++)
		ways[i] = (struct way){.from = ends[i], .to = ends[!i], .last = &ways[i].first};
	prctl(PR_SET_TIMERSLACK, 1);
	puts("ready");
	fflush(stdout);
	for (;;) {
		uint64_t due = give(&ways[0]), other = give(&ways[1]), now = now_ns();
		struct pollfd polls[] = {
			{ends[0], POLLIN, 0}, {ends[1], POLLIN, 0}, {0, POLLIN, 0}};
		struct timespec pause;
		char byte;

		due = due < other ? due : other;
		due = due == UINT64_MAX ? 1000000000 : due > now ? due - now : 0;
		pause = (struct timespec){(time_t)(due / 1000000000), (long)(due % 1000000000)};
		ppoll(polls, 3, &pause, NULL);
		if (polls[2].revents && read(0, &byte, 1) <= 0)
			break;
		for (unsigned i = 0; i < 2; i++)
			if (polls[i].revents)
				take(&ways[i], delay_ns, ns_per_byte);
	}
	fprintf(stderr, "link: %.1f MB carried to 2, %.1f to 1; packets lost: %llu, %llu\n",
		(double)ways[0].carried / 1e6, (double)ways[1].carried / 1e6,
		(unsigned long long)ways[0].lost, (unsigned long long)ways[1].lost);
	return 0;
}
