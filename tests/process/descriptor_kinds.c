// SPDX-License-Identifier: GPL-2.0-only
/*
 * descriptor_kinds.c - every kind of descriptor that a guest may have is recorded, made again in a process that has none,
 * and is what it was; those that cannot be are refused with a line that names them. The guests are this same program,
 * with a role (guest_main()).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "kselftest_harness.h"
#include "process/descriptors.h"
#include "process/stub/embedded.h"
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
		char name[32];

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
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
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
	epoll_put(N_EPOLL, N_CLOSED, EPOLLIN, 7);
	epoll_put(N_EPOLL, N_REUSED, EPOLLIN, 8);
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
	place_at(socket(AF_PACKET, SOCK_DGRAM, 0), 60, 0);
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
	{"all", guest_role_all},     {"pty", guest_role_pty}, {"rights", guest_role_rights},
	{"large", guest_role_large}, {"raw", guest_role_raw}, {"removed", guest_role_removed},
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

/* ---- The supervisor */

FIXTURE(kinds)
{
	struct process guest, restored;
	struct descriptors *captured, *decoded;
	struct thaw_error error;
	char *directory;
	int tcp, unix_listener;
};

static int listen_tcp(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t bytes = sizeof(in);
	char port[16];

	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) || listen(fd, 8) ||
	    getsockname(fd, (struct sockaddr *)&in, &bytes))
		support_die("listen");
	snprintf(port, sizeof(port), "%u", ntohs(in.sin_port));
	setenv("DESCRIPTOR_KINDS_PORT", port, 1);
	return fd;
}

static int listen_unix(const char *directory)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/theirs.sock", directory);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8))
		support_die(address.sun_path);
	return fd;
}

FIXTURE_SETUP(kinds)
{
	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
	self->directory = support_directory();
	setenv(PLACE, self->directory, 1);
	self->tcp = listen_tcp();
	self->unix_listener = listen_unix(self->directory);
}

FIXTURE_TEARDOWN(kinds)
{
	if (!process_stub_bytes)
		return;
	process_close(&self->guest);
	process_close(&self->restored);
	descriptors_free(self->captured);
	descriptors_free(self->decoded);
	close(self->tcp);
	close(self->unix_listener);
	support_remove(self->directory);
}

static uint64_t peek(struct process *process, volatile uint64_t *variable)
{
	uint64_t value = 0;

	if (remote_read(&process->remote, (uintptr_t)variable, &value, sizeof(value)))
		return ~0ull;
	return value;
}

/* The guest of this role, stopped when it has all it wants. */
static int start(struct process *process, const char *role, struct thaw_error *error)
{
	char *const arguments[] = {"/proc/self/exe", NULL};
	double end = support_deadline(20);
	int code;

	setenv(ROLE, role, 1);
	code = process_spawn(process, arguments, environ, error);
	unsetenv(ROLE);
	if (code)
		return code;
	process_continue(process);
	while (peek(process, &guest_phase) != 1) {
		if (support_seconds() > end || !remote_alive(&process->remote)) {
			snprintf(error->text, sizeof(error->text), "the guest does not begin");
			return -ETIMEDOUT;
		}
		support_sleep(0.0005);
	}
	return process_stop(process, error);
}

static void end_guest(struct process *process)
{
	kill(process->remote.pid, SIGKILL);
	process_close(process);
	*process = (struct process){0};
}

/* A duplicate here of what the process has under this number. */
static int taken(struct process *process, int number)
{
	struct thaw_error error;
	int here = -1;

	if (descriptors_take(process, process->thread_count ? process->threads[0].mailbox : 0,
			     &number, 1, &here, &error))
		fprintf(stderr, "# %d: %s\n", number, error.text);
	return here;
}

struct rows {
	char *text[256];
};

static void row_add(void *arg, int number, const char *kind, const char *what)
{
	struct rows *rows = arg;

	if (number < 256)
		rows->text[number] = support_format("%s: %s", kind, what);
}

static void rows_free(struct rows *rows)
{
	for (int i = 0; i < 256; i++)
		free(rows->text[i]);
}

static int decode_again(const struct descriptors *captured, struct descriptors **decoded)
{
	struct record_writer writer = {0};
	struct record_reader reader;
	bool well;

	descriptors_encode(captured, &writer);
	reader = (struct record_reader){writer.data, writer.data + writer.bytes, writer.failed};
	well = descriptors_decode(decoded, &reader) && reader.at == reader.end;
	free(writer.data);
	return well ? 0 : -EINVAL;
}

#define EXPECT_READS(text, fd)                                                    \
	do {                                                                      \
		char got_[256] = "";                                              \
		struct pollfd wait_ = {fd, POLLIN, 0};                            \
		ssize_t n_ = -1;                                                  \
		if (poll(&wait_, 1, 5000) == 1)                                   \
			n_ = read(fd, got_, sizeof(got_) - 1);                    \
		EXPECT_EQ((ssize_t)strlen(text), n_)                              \
		TH_LOG("line %d: %s", __LINE__, n_ < 0 ? strerror(errno) : got_); \
		EXPECT_STREQ(text, got_);                                         \
	} while (0)

/* Captured, encoded, decoded, and made again in another process; the first one is dead then. */
#define TRAVEL()                                                                                \
	do {                                                                                    \
		ASSERT_EQ(0, start(&self->guest, "all", &self->error))                          \
		TH_LOG("%s", self->error.text);                                                 \
		ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error))  \
		TH_LOG("%s", self->error.text);                                                 \
		ASSERT_EQ(0, decode_again(self->captured, &self->decoded));                     \
		end_guest(&self->guest);                                                        \
		ASSERT_EQ(0, process_spawn_restorer(&self->restored, 0, &self->error))          \
		TH_LOG("%s", self->error.text);                                                 \
		go_there(&self->restored, self->directory);                                     \
		ASSERT_EQ(0, descriptors_restore(&self->restored, self->decoded, &self->error)) \
		TH_LOG("%s", self->error.text);                                                 \
	} while (0)

/* What kernel_facts_restore() does for the directory. */
static void go_there(struct process *process, const char *directory)
{
	remote_call(&process->remote, 0, SYS_chdir, remote_string(&process->remote, directory), 0,
		    0, 0, 0, 0);
	remote_forget(&process->remote);
}

TEST_F(kinds, a_capture_of_all_changes_nothing)
{
	struct rows before = {0}, after = {0};
	struct descriptors *again = NULL;
	double seconds = 60;

	ASSERT_EQ(0, start(&self->guest, "all", &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error))
	TH_LOG("%s", self->error.text);
	for (int i = 0; i < 10; i++) {
		double begun = support_seconds();

		descriptors_free(again);
		again = NULL;
		ASSERT_EQ(0, descriptors_capture(&self->guest, &again, &self->error));
		begun = support_seconds() - begun;
		seconds = begun < seconds ? begun : seconds;
	}
	TH_LOG("%zu descriptors in %.0f us", again->count, seconds * 1e6);
	ASSERT_EQ(0, decode_again(self->captured, &self->decoded));
	descriptors_describe(self->decoded, row_add, &before);
	descriptors_describe(again, row_add, &after);
	for (int i = 0; i < 256; i++) {
		ASSERT_EQ(!before.text[i], !after.text[i]);
		if (!before.text[i])
			continue;
		TH_LOG("%d %s", i, before.text[i]);
		if (i < N_TIMER || i > N_TIMER_REAL)
			EXPECT_STREQ(before.text[i], after.text[i]);
	}
	/* All of the table; none of ours, or of its own making. */
	for (int i = 3; i < 256; i++) {
		bool expected = (i >= N_FILE && i < N_END) || i == N_REUSED ||
				fcntl(i, F_GETFD) == 0; /* inherited */

		EXPECT_EQ(expected, before.text[i] != NULL)
		TH_LOG("descriptor %d", i);
	}
	rows_free(&before);
	rows_free(&after);
	descriptors_free(again);
}

TEST_F(kinds, numbers_duplicates_and_close_on_exec_are_the_same)
{
	struct descriptors *again = NULL;

	TRAVEL();
	ASSERT_EQ(0, descriptors_capture(&self->restored, &again, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(self->decoded->count, again->count);
	for (size_t i = 0; i < again->count; i++) {
		const struct descriptor *was = &self->decoded->list[i], *is = &again->list[i];

		EXPECT_EQ(was->number, is->number);
		EXPECT_EQ(was->close_on_exec, is->close_on_exec)
		TH_LOG("descriptor %d", was->number);
		EXPECT_EQ(was->object, is->object)
		TH_LOG("descriptor %d", was->number);
		EXPECT_EQ(self->decoded->objects[was->object].flags & ~(uint32_t)O_NOFOLLOW,
			  again->objects[is->object].flags & ~(uint32_t)O_NOFOLLOW)
		TH_LOG("descriptor %d", was->number);
		EXPECT_EQ(self->decoded->objects[was->object].kind, again->objects[is->object].kind)
		TH_LOG("descriptor %d", was->number);
	}
	descriptors_free(again);
}

TEST_F(kinds, a_sandbox_without_kcmp_and_getfd_tells_duplicates_apart)
{
	struct descriptors *again = NULL;

	ASSERT_EQ(0, start(&self->guest, "all", &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error));
	descriptors_forbidden = (struct descriptors_forbidden){true, true};
	ASSERT_EQ(0, descriptors_capture(&self->guest, &again, &self->error))
	TH_LOG("%s", self->error.text);
	descriptors_forbidden = (struct descriptors_forbidden){false, false};
	ASSERT_EQ(self->captured->count, again->count);
	for (size_t i = 0; i < again->count; i++)
		EXPECT_EQ(self->captured->list[i].object, again->list[i].object);
	descriptors_free(again);
}

TEST_F(kinds, files_have_their_offsets_contents_and_locks)
{
	char text[64] = "", name[300];
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 1};
	struct stat stat;
	int fd, other;

	TRAVEL();
	fd = taken(&self->restored, N_FILE);
	EXPECT_EQ(3, lseek(fd, 0, SEEK_CUR));
	EXPECT_READS("3456789", fd);
	EXPECT_EQ(1, write(fd, "!", 1));
	EXPECT_EQ(11, lseek(fd, 0, SEEK_CUR));
	close(fd);
	fd = taken(&self->restored, N_FILE_DUP);
	EXPECT_EQ(11, lseek(fd, 0, SEEK_CUR));
	close(fd);
	fd = taken(&self->restored, N_FILE_AGAIN);
	EXPECT_EQ(0, lseek(fd, 0, SEEK_CUR));
	close(fd);
	snprintf(name, sizeof(name), "%s/file", self->directory);
	other = open(name, O_RDWR | O_CLOEXEC);
	EXPECT_EQ(-1, flock(other, LOCK_SH | LOCK_NB));
	close(other);
	snprintf(name, sizeof(name), "%s/locked", self->directory);
	other = open(name, O_RDWR | O_CLOEXEC);
	EXPECT_EQ(0, fcntl(other, F_GETLK, &lock));
	EXPECT_EQ(F_WRLCK, lock.l_type);
	EXPECT_EQ(self->restored.remote.pid, lock.l_pid);
	lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 102, .l_len = 1};
	EXPECT_EQ(0, fcntl(other, F_GETLK, &lock));
	EXPECT_EQ(F_RDLCK, lock.l_type);
	EXPECT_EQ(-1, lock.l_pid);
	close(other);
	fd = taken(&self->restored, N_FILE_GONE);
	EXPECT_EQ(5, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(22, pread(fd, text, sizeof(text), 0));
	EXPECT_STREQ("gone but not forgotten", text);
	EXPECT_EQ(0, fstat(fd, &stat));
	EXPECT_EQ(0, stat.st_nlink);
	EXPECT_EQ(0640, stat.st_mode & 0777);
	close(fd);
	fd = taken(&self->restored, N_URANDOM);
	EXPECT_EQ(8, read(fd, text, 8));
	close(fd);
}

TEST_F(kinds, pipes_have_their_bytes_sizes_and_ends)
{
	char text[64];
	int fd;

	TRAVEL();
	fd = taken(&self->restored, N_PIPE_READ);
	EXPECT_READS("in the pipe", fd);
	EXPECT_EQ(-1, read(fd, text, 1));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(16384, fcntl(fd, F_GETPIPE_SZ));
	close(fd);
	fd = taken(&self->restored, N_PIPE_PACKETS_READ);
	EXPECT_READS("one", fd);
	EXPECT_READS("three", fd);
	close(fd);
	fd = taken(&self->restored, N_PIPE_ALONE_READ);
	EXPECT_READS("last", fd);
	EXPECT_READS("", fd);
	close(fd);
	fd = taken(&self->restored, N_PIPE_ALONE_WRITE);
	signal(SIGPIPE, SIG_IGN);
	EXPECT_EQ(-1, write(fd, "x", 1));
	EXPECT_EQ(EPIPE, errno);
	close(fd);
	fd = taken(&self->restored, N_FIFO_READ);
	EXPECT_READS("fifo", fd);
	close(fd);
}

TEST_F(kinds, unix_pairs_have_their_queues_and_connections_are_reset)
{
	struct sockaddr_un name = {0};
	socklen_t bytes = sizeof(name);
	char text[64], path[300];
	struct stat stat;
	int fd, other;

	TRAVEL();
	fd = taken(&self->restored, N_PAIR_A);
	other = taken(&self->restored, N_PAIR_B);
	EXPECT_READS("to a", fd);
	EXPECT_READS("to b", other);
	EXPECT_READS("", other);
	EXPECT_EQ(1, write(other, "z", 1));
	EXPECT_READS("z", fd);
	close(fd);
	close(other);
	fd = taken(&self->restored, N_DATAGRAM_B);
	EXPECT_READS("x", fd);
	EXPECT_READS("", fd);
	EXPECT_READS("yyy", fd);
	close(fd);
	fd = taken(&self->restored, N_PACKET_B);
	EXPECT_READS("first", fd);
	EXPECT_READS("second", fd);
	close(fd);
	fd = taken(&self->restored, N_PAIR_ALONE);
	EXPECT_READS("bye", fd);
	EXPECT_READS("", fd);
	close(fd);
	fd = taken(&self->restored, N_UNIX_CLIENT);
	EXPECT_EQ(-1, read(fd, text, sizeof(text)));
	EXPECT_EQ(ECONNRESET, errno);
	close(fd);
	fd = taken(&self->restored, N_UNIX_LISTENER);
	EXPECT_EQ(0, getsockname(fd, (struct sockaddr *)&name, &bytes));
	EXPECT_STREQ("listener.sock", name.sun_path);
	snprintf(path, sizeof(path), "%s/listener.sock", self->directory);
	EXPECT_EQ(0, lstat(path, &stat));
	close(fd);
	strcpy(name.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT_EQ(0, connect(fd, (struct sockaddr *)&name, sizeof(name)));
	close(fd);
}

static int backlog_of(int fd)
{
	struct tcp_info info = {0};
	socklen_t bytes = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) ? -1 : (int)info.tcpi_sacked;
}

static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t bytes = sizeof(value);

	getsockopt(fd, level, name, &value, &bytes);
	return value;
}

TEST_F(kinds, listeners_listen_and_connections_are_reset)
{
	struct pollfd wait = {.events = POLLIN};
	struct timeval timeout;
	socklen_t bytes = sizeof(timeout);
	char text[8];
	int fd;

	TRAVEL();
	fd = taken(&self->restored, N_TCP4_LISTENER);
	EXPECT_EQ(77, backlog_of(fd));
	EXPECT_EQ(1, option_of(fd, SOL_SOCKET, SO_REUSEADDR));
	close(fd);
	fd = taken(&self->restored, N_TCP6_LISTENER);
	EXPECT_EQ(5, backlog_of(fd));
	EXPECT_EQ(1, option_of(fd, IPPROTO_IPV6, IPV6_V6ONLY));
	close(fd);
	for (int number = N_TCP_CLIENT; number <= N_TCP6_CLIENT; number++) {
		fd = taken(&self->restored, number);
		wait.fd = fd;
		EXPECT_EQ(1, poll(&wait, 1, 0));
		EXPECT_EQ(POLLIN | POLLERR | POLLHUP, wait.revents);
		EXPECT_EQ(-1, read(fd, text, sizeof(text)));
		EXPECT_EQ(ECONNRESET, errno);
		close(fd);
	}
	fd = taken(&self->restored, N_TCP_NEW);
	EXPECT_EQ(1, option_of(fd, SOL_SOCKET, SO_KEEPALIVE));
	EXPECT_EQ(1, option_of(fd, IPPROTO_TCP, TCP_NODELAY));
	EXPECT_EQ(100000, option_of(fd, SOL_SOCKET, SO_SNDBUF));
	EXPECT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &bytes));
	EXPECT_EQ(3, timeout.tv_sec);
	EXPECT_LE(500000, timeout.tv_usec);
	close(fd);
}

TEST_F(kinds, events_have_their_counts_times_and_masks)
{
	uint64_t value = 0;
	struct itimerspec time;
	struct pollfd wait = {.events = POLLIN};
	struct signalfd_siginfo signal_info;
	char events[4096], path[300];
	const struct inotify_event *event = (const struct inotify_event *)events;
	int fd;

	TRAVEL();
	fd = taken(&self->restored, N_EVENT);
	EXPECT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(5, value);
	close(fd);
	fd = taken(&self->restored, N_SEMAPHORE);
	EXPECT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(1, value);
	close(fd);
	fd = taken(&self->restored, N_TIMER);
	EXPECT_EQ(0, timerfd_gettime(fd, &time));
	EXPECT_EQ(7, time.it_interval.tv_sec);
	EXPECT_LE(3500, time.it_value.tv_sec);
	EXPECT_GT(3600, time.it_value.tv_sec);
	close(fd);
	fd = taken(&self->restored, N_TIMER_FIRED);
	EXPECT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(1, value);
	close(fd);
	fd = taken(&self->restored, N_TIMER_REAL);
	EXPECT_EQ(0, timerfd_gettime(fd, &time));
	EXPECT_LE(86300, time.it_value.tv_sec);
	EXPECT_GE(86400, time.it_value.tv_sec);
	close(fd);
	fd = taken(&self->restored, N_TIMER_OFF);
	EXPECT_EQ(0, timerfd_gettime(fd, &time));
	EXPECT_EQ(0, time.it_value.tv_sec + time.it_value.tv_nsec);
	close(fd);
	fd = taken(&self->restored, N_SIGNALS);
	EXPECT_EQ(-1, read(fd, &signal_info, sizeof(signal_info)));
	EXPECT_EQ(EAGAIN, errno);
	close(fd);
	fd = taken(&self->restored, N_PIDFD_GONE);
	wait.fd = fd;
	EXPECT_EQ(1, poll(&wait, 1, 0));
	close(fd);
	fd = taken(&self->restored, N_PIDFD_SELF);
	wait.fd = fd;
	EXPECT_EQ(0, poll(&wait, 1, 0));
	EXPECT_EQ(0, syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
	close(fd);
	fd = taken(&self->restored, N_WATCHES);
	EXPECT_EQ(-1, read(fd, events, sizeof(events)));
	snprintf(path, sizeof(path), "%s/file", self->directory);
	EXPECT_EQ(0, truncate(path, 1));
	EXPECT_LT(0, read(fd, events, sizeof(events)));
	EXPECT_EQ(3, event->wd);
	snprintf(path, sizeof(path), "%s/created", self->directory);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	EXPECT_LT(0, read(fd, events, sizeof(events)));
	EXPECT_EQ(1, event->wd);
	EXPECT_STREQ("created", event->name);
	close(fd);
}

TEST_F(kinds, a_memfd_has_its_contents_and_seals)
{
	struct stat stat;
	int fd;

	TRAVEL();
	fd = taken(&self->restored, N_MEMFD);
	EXPECT_EQ(0, fstat(fd, &stat));
	EXPECT_EQ(1 << 20, stat.st_size);
	EXPECT_EQ(499996, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(F_SEAL_SHRINK | F_SEAL_GROW, fcntl(fd, F_GET_SEALS));
	EXPECT_EQ(-1, ftruncate(fd, 0));
	close(fd);
	fd = taken(&self->restored, N_MEMFD_AGAIN);
	EXPECT_EQ(0, lseek(fd, 0, SEEK_CUR));
	lseek(fd, 500000, SEEK_SET);
	{
		char text[9] = "";

		EXPECT_EQ(8, read(fd, text, 8));
		EXPECT_STREQ("far away", text);
	}
	EXPECT_EQ(-1, write(fd, "x", 1));
	close(fd);
}

TEST_F(kinds, epoll_has_every_interest)
{
	struct epoll_event events[16], event = {.events = EPOLLIN};
	bool seen[10] = {false}, first = false;
	int fd, outer, got;

	TRAVEL();
	fd = taken(&self->restored, N_EPOLL);
	outer = taken(&self->restored, N_EPOLL_OUTER);
	got = epoll_wait(outer, events, 16, 0);
	EXPECT_EQ(1, got);
	EXPECT_EQ(6, events[0].data.u64);
	got = epoll_wait(fd, events, 16, 0);
	for (int i = 0; i < got; i++) {
		first |= events[i].data.u64 == 0x1122334455667788;
		if (events[i].data.u64 < 10)
			seen[events[i].data.u64] = true;
		if (events[i].data.u64 == 5)
			EXPECT_NE(0, events[i].events & EPOLLERR);
	}
	EXPECT_TRUE(first);
	for (int i = 2; i < 10; i++) {
		EXPECT_EQ(i != 6 && i != 9, seen[i])
		TH_LOG("interest %d", i);
	}
	/* By its number, the program finds it. */
	EXPECT_EQ(-EEXIST,
		  (int)remote_call(&self->restored.remote, 0, SYS_epoll_ctl, N_EPOLL, EPOLL_CTL_ADD,
				   N_REUSED,
				   remote_copy(&self->restored.remote, &event, sizeof(event)), 0,
				   0));
	close(fd);
	close(outer);
}

TEST_F(kinds, what_travelled_once_travels_again)
{
	struct rows before = {0}, after = {0};
	struct descriptors *again = NULL;

	TRAVEL();
	ASSERT_EQ(0, descriptors_capture(&self->restored, &again, &self->error))
	TH_LOG("%s", self->error.text);
	descriptors_describe(self->decoded, row_add, &before);
	descriptors_describe(again, row_add, &after);
	for (int i = 0; i < 256; i++)
		if (before.text[i] && after.text[i] && i != N_TCP_CLIENT && i != N_TCP6_CLIENT &&
		    i != N_FILE_GONE && (i < N_TIMER || i > N_TIMER_REAL))
			EXPECT_STREQ(before.text[i], after.text[i]);
	EXPECT_NE(NULL, strstr(after.text[N_TCP_CLIENT], "ECONNRESET"));
	rows_free(&before);
	rows_free(&after);
	descriptors_free(again);
}

/* ---- Refused */

static const struct refusal {
	const char *role, *line;
} refusals[] = {
	{"pty", "descriptor 60 is a terminal other than the one it was started at (/dev/ptmx)"},
	{"rights", "descriptor 61 is a Unix socket with descriptors on their way"},
	{"large", "descriptor 60 is /memfd:large, and files in memory are kept up to 64 MiB"},
	{"raw", "descriptor 60 is socket:["},
	{"removed", "descriptor 60 is a directory that was removed"},
};

TEST_F(kinds, what_cannot_be_made_again_is_refused_by_name)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		ASSERT_EQ(0, start(&self->guest, refusals[i].role, &self->error))
		TH_LOG("%s: %s", refusals[i].role, self->error.text);
		EXPECT_EQ(PROCESS_EREFUSED,
			  descriptors_capture(&self->guest, &self->captured, &self->error));
		EXPECT_NE(NULL, strstr(self->error.text, refusals[i].line))
		TH_LOG("%s: %s", refusals[i].role, self->error.text);
		end_guest(&self->guest);
	}
}

TEST_F(kinds, an_address_that_is_taken_fails_the_restore_by_name)
{
	struct sockaddr_storage address;
	socklen_t bytes = sizeof(address);
	int fd, listener;

	ASSERT_EQ(0, start(&self->guest, "all", &self->error));
	ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error));
	ASSERT_EQ(0, decode_again(self->captured, &self->decoded));
	fd = taken(&self->guest, N_TCP4_LISTENER);
	ASSERT_EQ(0, getsockname(fd, (struct sockaddr *)&address, &bytes));
	end_guest(&self->guest);
	close(fd);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_EQ(0, bind(listener, (struct sockaddr *)&address, bytes));
	ASSERT_EQ(0, listen(listener, 1));
	ASSERT_EQ(0, process_spawn_restorer(&self->restored, 0, &self->error));
	go_there(&self->restored, self->directory);
	EXPECT_EQ(-EADDRINUSE, descriptors_restore(&self->restored, self->decoded, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "is in use by another process"))
	TH_LOG("%s", self->error.text);
	close(listener);
}

TEST_F(kinds, a_file_that_is_missing_fails_the_restore_by_name)
{
	char path[300];

	ASSERT_EQ(0, start(&self->guest, "all", &self->error));
	ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error));
	ASSERT_EQ(0, decode_again(self->captured, &self->decoded));
	end_guest(&self->guest);
	snprintf(path, sizeof(path), "%s/file", self->directory);
	ASSERT_EQ(0, unlink(path));
	ASSERT_EQ(0, process_spawn_restorer(&self->restored, 0, &self->error));
	EXPECT_EQ(-ENOENT, descriptors_restore(&self->restored, self->decoded, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "/file cannot be opened again"))
	TH_LOG("%s", self->error.text);
}

TEST_HARNESS_MAIN
