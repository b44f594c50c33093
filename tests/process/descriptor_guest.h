// SPDX-License-Identifier: GPL-2.0-only
/*
 * descriptor_guest.h - the guests of descriptor_kinds.c: one that has every kind of descriptor, and one for each that is
 * refused. Included by that test alone: a guest is the same program.
 */
#ifndef TESTS_DESCRIPTOR_GUEST_H
#define TESTS_DESCRIPTOR_GUEST_H

#include <arpa/inet.h>
#include <linux/kcmp.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "support.h"

#define ROLE "DESCRIPTOR_KINDS_ROLE"
#define PLACE "DESCRIPTOR_KINDS_DIRECTORY"

/* ---- The guest: each descriptor at a number that both know */

enum number {
	N_FILE = 40,   /* at offset 3, O_APPEND, flock */
	N_FILE_DUP,    /* a duplicate of it */
	N_FILE_AGAIN,  /* opened on its own */
	N_FILE_GONE,   /* without a name, "gone but not forgotten" at 5 */
	N_FILE_LOCKED, /* fcntl and open file description locks */
	N_DIRECTORY,   /* read by half */
	N_PATH,	       /* O_PATH */
	N_NULL,
	N_URANDOM,
	N_PIPE_READ, /* "in the pipe" */
	N_PIPE_WRITE,
	N_PIPE_WRITE_DUP,
	N_PIPE_PACKETS_READ, /* "one", "three" */
	N_PIPE_PACKETS_WRITE,
	N_PIPE_ALONE_READ, /* "last" and the end */
	N_PIPE_ALONE_WRITE,
	N_FIFO_READ,
	N_FIFO_WRITE,
	N_PAIR_A, /* has received "to a"; does not send any more */
	N_PAIR_B, /* has received "to b" */
	N_DATAGRAM_A,
	N_DATAGRAM_B, /* has received "x", "", "yyy" */
	N_PACKET_A,   /* SOCK_SEQPACKET */
	N_PACKET_B,   /* has received "first", "second" */
	N_PAIR_ALONE, /* its other end was a child's */
	N_UNIX_LISTENER,
	N_UNIX_CLIENT, /* of the supervisor's listener */
	N_UNIX_ABSTRACT,
	N_TCP4_LISTENER,
	N_TCP6_LISTENER,
	N_TCP_CLIENT, /* connected with the supervisor */
	N_TCP6_CLIENT,
	N_TCP_NEW,
	N_UDP,
	N_UDP_CONNECTED,
	N_NETLINK,
	N_EVENT,     /* 5 */
	N_SEMAPHORE, /* 3 */
	N_TIMER,     /* 3600 s, every 7 s */
	N_TIMER_FIRED,
	N_TIMER_REAL,
	N_TIMER_OFF,
	N_SIGNALS, /* SIGUSR1 */
	N_WATCHES, /* the directory by 1 and 3 */
	N_PIDFD_SELF,
	N_PIDFD_GONE,
	N_MEMFD, /* sealed */
	N_MEMFD_AGAIN,
	N_EPOLL,
	N_EPOLL_OUTER,
	N_KEPT, /* an eventfd that is in the epoll by a number that is closed */
	N_STREAM_DUP,
	N_END,
	N_CLOSED = 150,
	N_REUSED,
};

static volatile uint64_t guest_phase;

static void place_at(int fd, int number, int cloexec)
{
	if (fd < 0 || (fd != number && dup3(fd, number, cloexec) < 0)) {
		fprintf(stderr, "# descriptor %d: %s\n", number, strerror(errno));
		_exit(5);
	}
	if (fd != number)
		close(fd);
}

static void need(bool well, int line)
{
	if (well)
		return;
	fprintf(stderr, "# line %d: %s\n", line, strerror(errno));
	_exit(6);
}
#define NEED(condition) need(condition, __LINE__)

static void guest_files(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 3};
	struct dirent *entry;
	DIR *directory;
	int fd;

	place_at(open("file", O_RDWR | O_CREAT | O_APPEND, 0600), N_FILE, 0);
	NEED(write(N_FILE, "0123456789", 10) == 10 && lseek(N_FILE, 3, SEEK_SET) == 3);
	NEED(!flock(N_FILE, LOCK_EX));
	NEED(dup3(N_FILE, N_FILE_DUP, O_CLOEXEC) >= 0);
	place_at(open("file", O_RDONLY), N_FILE_AGAIN, O_CLOEXEC);
	place_at(open("gone", O_RDWR | O_CREAT, 0640), N_FILE_GONE, 0);
	NEED(write(N_FILE_GONE, "gone but not forgotten", 22) == 22);
	NEED(lseek(N_FILE_GONE, 5, SEEK_SET) == 5 && !unlink("gone"));
	place_at(open("locked", O_RDWR | O_CREAT, 0600), N_FILE_LOCKED, 0);
	NEED(!fcntl(N_FILE_LOCKED, F_SETLK, &lock));
	lock.l_start = 100;
	lock.l_type = F_RDLCK;
	NEED(!fcntl(N_FILE_LOCKED, F_OFD_SETLK, &lock));
	for (int i = 0; i < 300; i++) {
		char name[40];

		snprintf(name, sizeof(name), "many/%d-%0*d", i, 20, 0);
		NEED((fd = open(name, O_CREAT | O_WRONLY, 0600)) >= 0);
		close(fd);
	}
	fd = open("many", O_RDONLY | O_DIRECTORY);
	directory = fdopendir(dup(fd));
	entry = directory ? readdir(directory) : NULL;
	NEED(entry);
	place_at(fd, N_DIRECTORY, 0);
	place_at(open("file", O_PATH), N_PATH, 0);
	place_at(open("/dev/null", O_RDWR), N_NULL, 0);
	place_at(open("/dev/urandom", O_RDONLY), N_URANDOM, O_CLOEXEC);
	closedir(directory);
}

static void guest_pipes(void)
{
	int ends[2];

	NEED(!pipe2(ends, O_NONBLOCK));
	place_at(ends[0], N_PIPE_READ, 0);
	place_at(ends[1], N_PIPE_WRITE, 0);
	NEED(dup2(N_PIPE_WRITE, N_PIPE_WRITE_DUP) >= 0);
	NEED(fcntl(N_PIPE_READ, F_SETPIPE_SZ, 16384) == 16384);
	NEED(write(N_PIPE_WRITE, "in the pipe", 11) == 11);
	NEED(!pipe2(ends, O_DIRECT | O_CLOEXEC));
	place_at(ends[0], N_PIPE_PACKETS_READ, O_CLOEXEC);
	place_at(ends[1], N_PIPE_PACKETS_WRITE, O_CLOEXEC);
	NEED(write(N_PIPE_PACKETS_WRITE, "one", 3) == 3);
	NEED(write(N_PIPE_PACKETS_WRITE, "three", 5) == 5);
	NEED(!pipe(ends) && write(ends[1], "last", 4) == 4 && !close(ends[1]));
	place_at(ends[0], N_PIPE_ALONE_READ, 0);
	NEED(!pipe(ends) && !close(ends[0]));
	place_at(ends[1], N_PIPE_ALONE_WRITE, 0);
	NEED(!mkfifo("fifo", 0600));
	place_at(open("fifo", O_RDONLY | O_NONBLOCK), N_FIFO_READ, 0);
	place_at(open("fifo", O_WRONLY), N_FIFO_WRITE, 0);
	NEED(write(N_FIFO_WRITE, "fifo", 4) == 4);
}

static struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, path);
	return address;
}

static void guest_unix(void)
{
	struct sockaddr_un mine = unix_address("listener.sock"),
			   theirs = unix_address("theirs.sock");
	struct sockaddr_un abstract = {.sun_family = AF_UNIX};
	int pair[2], fd;

	NEED(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	place_at(pair[0], N_PAIR_A, 0);
	place_at(pair[1], N_PAIR_B, O_CLOEXEC);
	NEED(send(N_PAIR_B, "to", 2, 0) == 2 && send(N_PAIR_B, " a", 2, 0) == 2);
	NEED(send(N_PAIR_A, "to b", 4, 0) == 4 && !shutdown(N_PAIR_A, SHUT_WR));
	NEED(!socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	place_at(pair[0], N_DATAGRAM_A, 0);
	place_at(pair[1], N_DATAGRAM_B, 0);
	NEED(send(N_DATAGRAM_A, "x", 1, 0) == 1 && send(N_DATAGRAM_A, "", 0, 0) == 0 &&
	     send(N_DATAGRAM_A, "yyy", 3, 0) == 3);
	NEED(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	place_at(pair[0], N_PACKET_A, 0);
	place_at(pair[1], N_PACKET_B, 0);
	NEED(send(N_PACKET_A, "first", 5, 0) == 5 && send(N_PACKET_A, "second", 6, 0) == 6);
	NEED(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	place_at(pair[0], N_PAIR_ALONE, 0);
	NEED(send(pair[1], "bye", 3, 0) == 3);
	/* pair[1] is a child's. */
	if (!support_fork())
		for (;;)
			pause();
	close(pair[1]);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(!bind(fd, (struct sockaddr *)&mine, sizeof(mine)) && !listen(fd, 33));
	place_at(fd, N_UNIX_LISTENER, 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(!connect(fd, (struct sockaddr *)&theirs, sizeof(theirs)));
	place_at(fd, N_UNIX_CLIENT, 0);
	snprintf(abstract.sun_path + 1, sizeof(abstract.sun_path) - 1, "thaw-test-%d", getpid());
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	NEED(!bind(fd, (struct sockaddr *)&abstract, sizeof(abstract)));
	place_at(fd, N_UNIX_ABSTRACT, 0);
}

static int any_port(int domain, int type)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(domain, type, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (domain == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	NEED(!bind(fd, domain == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6,
		   domain == AF_INET ? sizeof(in) : sizeof(in6)));
	return fd;
}

static void guest_inet(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 mapped = {.sin6_family = AF_INET6};
	struct timeval timeout = {3, 500000};
	int fd, one = 1, size = 50000;

	fd = any_port(AF_INET, SOCK_STREAM);
	NEED(!listen(fd, 77));
	place_at(fd, N_TCP4_LISTENER, O_CLOEXEC);
	fd = any_port(AF_INET6, SOCK_STREAM);
	NEED(!listen(fd, 5));
	place_at(fd, N_TCP6_LISTENER, 0);
	in.sin_port = htons((uint16_t)atoi(getenv("DESCRIPTOR_KINDS_PORT")));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	NEED(!connect(fd, (struct sockaddr *)&in, sizeof(in)));
	place_at(fd, N_TCP_CLIENT, 0);
	mapped.sin6_port = in.sin_port;
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	NEED(!connect(fd, (struct sockaddr *)&mapped, sizeof(mapped)));
	place_at(fd, N_TCP6_CLIENT, 0);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	NEED(!setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)));
	NEED(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	NEED(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)));
	NEED(!setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
	place_at(fd, N_TCP_NEW, 0);
	place_at(any_port(AF_INET, SOCK_DGRAM), N_UDP, 0);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	NEED(!connect(fd, (struct sockaddr *)&in, sizeof(in)));
	place_at(fd, N_UDP_CONNECTED, 0);
	place_at(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), N_NETLINK, 0);
}

static void guest_events(void)
{
	struct itimerspec hour = {{7, 0}, {3600, 0}}, soon = {{0, 0}, {0, 1}},
			  day = {{0, 0}, {0, 0}};
	struct timespec now;
	sigset_t mask;
	int fd;
	pid_t child;

	place_at(eventfd(5, EFD_NONBLOCK), N_EVENT, 0);
	place_at(eventfd(3, EFD_SEMAPHORE | EFD_CLOEXEC), N_SEMAPHORE, O_CLOEXEC);
	place_at(timerfd_create(CLOCK_MONOTONIC, 0), N_TIMER, 0);
	NEED(!timerfd_settime(N_TIMER, 0, &hour, NULL));
	place_at(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK), N_TIMER_FIRED, 0);
	NEED(!timerfd_settime(N_TIMER_FIRED, 0, &soon, NULL));
	clock_gettime(CLOCK_REALTIME, &now);
	day.it_value.tv_sec = now.tv_sec + 86400;
	place_at(timerfd_create(CLOCK_REALTIME, 0), N_TIMER_REAL, 0);
	NEED(!timerfd_settime(N_TIMER_REAL, TFD_TIMER_ABSTIME, &day, NULL));
	place_at(timerfd_create(CLOCK_MONOTONIC, 0), N_TIMER_OFF, 0);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	place_at(signalfd(-1, &mask, SFD_NONBLOCK), N_SIGNALS, 0);
	fd = inotify_init1(IN_NONBLOCK);
	NEED(inotify_add_watch(fd, ".", IN_CREATE | IN_ONLYDIR) == 1);
	NEED(inotify_add_watch(fd, "/dev", IN_DELETE) == 2 && !inotify_rm_watch(fd, 2));
	NEED(inotify_add_watch(fd, "file", IN_MODIFY) == 3);
	place_at(fd, N_WATCHES, 0);
	place_at((int)syscall(SYS_pidfd_open, getpid(), 0), N_PIDFD_SELF, 0);
	child = fork();
	if (!child)
		_exit(0);
	place_at((int)syscall(SYS_pidfd_open, child, 0), N_PIDFD_GONE, 0);
	NEED(waitpid(child, NULL, 0) == child);
}

static void guest_memory(void)
{
	char path[48];

	place_at(memfd_create("some memory", MFD_ALLOW_SEALING), N_MEMFD, 0);
	NEED(!ftruncate(N_MEMFD, 1 << 20) && pwrite(N_MEMFD, "far away", 8, 500000) == 8);
	NEED(lseek(N_MEMFD, 499996, SEEK_SET) == 499996);
	NEED(!fcntl(N_MEMFD, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", N_MEMFD);
	place_at(open(path, O_RDONLY), N_MEMFD_AGAIN, O_CLOEXEC);
}

static void epoll_put(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};

	NEED(!epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

/* Without it nobody can tell which eventfd an interest was in whose number is closed. */
static bool kcmp_allowed(void)
{
	return !getenv("DESCRIPTOR_KINDS_PLAIN") &&
	       !syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, 0, 0);
}

static void guest_epoll(void)
{
	place_at(epoll_create1(0), N_EPOLL, 0);
	place_at(epoll_create1(EPOLL_CLOEXEC), N_EPOLL_OUTER, O_CLOEXEC);
	epoll_put(N_EPOLL, N_PIPE_READ, EPOLLIN, 0x1122334455667788);
	epoll_put(N_EPOLL, N_PIPE_WRITE, EPOLLOUT | EPOLLET | EPOLLEXCLUSIVE, 2);
	epoll_put(N_EPOLL, N_PIPE_WRITE_DUP, EPOLLOUT | EPOLLONESHOT, 3);
	epoll_put(N_EPOLL, N_TIMER_FIRED, EPOLLIN, 4);
	epoll_put(N_EPOLL, N_TCP_CLIENT, EPOLLIN | EPOLLRDHUP, 5);
	epoll_put(N_EPOLL_OUTER, N_EPOLL, EPOLLIN, 6);
	/* By a number that is closed since, and by one that is something else since. */
	place_at(eventfd(9, 0), N_KEPT, 0);
	NEED(dup2(N_KEPT, N_CLOSED) >= 0 && dup2(N_KEPT, N_REUSED) >= 0);
	if (kcmp_allowed()) {
		epoll_put(N_EPOLL, N_CLOSED, EPOLLIN, 7);
		epoll_put(N_EPOLL, N_REUSED, EPOLLIN, 8);
	}
	close(N_CLOSED);
	close(N_REUSED);
	place_at(eventfd(0, 0), N_REUSED, O_CLOEXEC);
	epoll_put(N_EPOLL, N_REUSED, EPOLLIN, 9);
}

static void guest_role_all(void)
{
	NEED(!chdir(getenv(PLACE)) && !mkdir("many", 0700));
	guest_files();
	guest_pipes();
	guest_unix();
	guest_inet();
	guest_events();
	guest_memory();
	guest_epoll();
	NEED(dup3(1, N_STREAM_DUP, O_CLOEXEC) >= 0);
	guest_phase = 1;
	for (;;)
		pause();
}

#define MANY 700
#define MANY_FIRST 10

static void guest_role_many(void)
{
	for (int i = 0; i < MANY; i++)
		place_at(eventfd((unsigned)(1000 + i), EFD_NONBLOCK), MANY_FIRST + i,
			 i % 2 ? O_CLOEXEC : 0);
}

static void guest_role_pty(void)
{
	int master, slave;

	NEED(!openpty(&master, &slave, NULL, NULL, NULL));
	place_at(master, 60, 0);
	place_at(slave, 61, 0);
}

static void guest_role_rights(void)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec piece = {"x", 1};
	struct msghdr head = {.msg_iov = &piece,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control)};
	struct cmsghdr *entry = CMSG_FIRSTHDR(&head);
	int pair[2];

	NEED(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	entry->cmsg_level = SOL_SOCKET;
	entry->cmsg_type = SCM_RIGHTS;
	entry->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(entry), &pair[0], sizeof(int));
	NEED(sendmsg(pair[0], &head, 0) == 1);
	place_at(pair[0], 60, 0);
	place_at(pair[1], 61, 0);
}

static void guest_role_large(void)
{
	place_at(memfd_create("large", 0), 60, 0);
	for (off_t at = 0; at < 65 << 20; at += 4096)
		NEED(pwrite(60, "x", 1, at) == 1);
}

static void guest_role_raw(void)
{
	place_at(socket(AF_VSOCK, SOCK_STREAM, 0), 60, 0);
}

static void guest_role_removed(void)
{
	NEED(!chdir(getenv(PLACE)) && !mkdir("removed", 0700));
	place_at(open("removed", O_RDONLY | O_DIRECTORY), 60, 0);
	NEED(!rmdir("removed"));
}

static const struct {
	const char *name;
	void (*run)(void);
} guest_roles[] = {
	{"all", guest_role_all},	 {"many", guest_role_many},   {"pty", guest_role_pty},
	{"rights", guest_role_rights},	 {"large", guest_role_large}, {"raw", guest_role_raw},
	{"removed", guest_role_removed},
};

__attribute__((constructor)) static void guest_main(void)
{
	const char *role = getenv(ROLE);

	for (size_t i = 0; role && i < sizeof(guest_roles) / sizeof(*guest_roles); i++)
		if (!strcmp(role, guest_roles[i].name)) {
			guest_roles[i].run();
			guest_phase = 1;
			for (;;)
				pause();
		}
}

#endif
