// SPDX-License-Identifier: MIT
/*
 * outlets.c - what a descriptor of the guest's is, and whether it leads outside.
 *
 * A number that is known is remembered until it is closed or replaced. The thread that does so is told to go on, and
 * does it at some moment after that: until it makes another call that we see, or is gone, nothing is remembered of
 * such a number, and it is looked up at each call. What leads nowhere outside is not remembered at all: nobody says when
 * that ends (the other end of a pipe is closed, and a child has it).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "process/descriptors/unix_diagnosis.h"
#include "process/output/internal.h"

/* ---- Numbers that are changing */

static bool is_gone(const struct output *output, pid_t tid)
{
	return syscall(SYS_tgkill, output->pid, tid, 0) && errno == ESRCH;
}

void changes_settle(struct output *output, pid_t tid)
{
	for (unsigned i = 0; i < output->change_count;)
		if (output->changes[i].tid == tid)
			output->changes[i] = output->changes[--output->change_count];
		else
			i++;
}

void changes_add(struct output *output, const struct changing *change)
{
	for (unsigned i = 0; output->change_count == CHANGES_MOST && i < CHANGES_MOST;)
		if (is_gone(output, output->changes[i].tid))
			output->changes[i] = output->changes[--output->change_count];
		else
			i++;
	if (output->change_count == CHANGES_MOST)
		output->changes_lost =
			true; /* so many threads have closed something, and wait since */
	else
		output->changes[output->change_count++] = *change;
}

static bool is_changing(struct output *output, uint32_t number)
{
	for (unsigned i = 0; i < output->change_count;) {
		const struct changing *change = &output->changes[i];

		if (change->from > number || change->to < number) {
			i++;
		} else if (is_gone(output, change->tid)) {
			output->changes[i] = output->changes[--output->change_count];
		} else {
			return true;
		}
	}
	return output->changes_lost;
}

/* ---- The outlets there are */

static struct outlet **hash_of(struct output *output, uint64_t inode)
{
	return &output->hashes[inode % OUTLET_HASHES];
}

struct outlet *outlet_numbered(struct output *output, uint32_t number)
{
	struct outlet *outlet = output->numbered[number % OUTLET_HASHES];

	while (outlet && outlet->number != number)
		outlet = outlet->next_numbered;
	return outlet;
}

static bool same_description(int a, int b)
{
	pid_t self = (pid_t)syscall(SYS_gettid);

	return syscall(SYS_kcmp, self, self, KCMP_FILE, a, b) == 0;
}

/* Sockets, pipes and terminals have one queue, whoever has opened them; a file has one for each description. */
static struct outlet *find_outlet(struct output *output, const struct stat *stat, int fd)
{
	uint64_t inode = outlet_inode(stat);

	for (struct outlet *outlet = *hash_of(output, inode); outlet; outlet = outlet->next)
		if (outlet->inode == inode && outlet->device == outlet_device(stat) &&
		    (outlet->kind != OUTLET_FILE || same_description(outlet->fd, fd)))
			return outlet;
	return NULL;
}

static void free_outlet(struct output *output, struct outlet *outlet)
{
	struct outlet **at = hash_of(output, outlet->inode);

	while (*at != outlet)
		at = &(*at)->next;
	*at = outlet->next;
	at = &output->numbered[outlet->number % OUTLET_HASHES];
	while (*at != outlet)
		at = &(*at)->next_numbered;
	*at = outlet->next_numbered;
	for (at = &output->queued; *at && outlet->is_queued; at = &(*at)->queued)
		if (*at == outlet) {
			*at = outlet->queued;
			break;
		}
	queue_drop(output, outlet);
	outlet->broken = true;
	outlet_refresh(output, outlet);
	release_forget(output, outlet);
	if (outlet->sending != outlet->fd)
		close(outlet->sending);
	close(outlet->fd);
	free(outlet);
}

/* close(2) waits for the peer where that is asked for; its data is sent in any case. */
static void do_not_linger(const struct outlet *outlet)
{
	struct linger linger;
	socklen_t bytes = sizeof(linger);

	if (outlet->kind != OUTLET_STREAM ||
	    getsockopt(outlet->fd, SOL_SOCKET, SO_LINGER, &linger, &bytes) || !linger.l_onoff ||
	    !linger.l_linger)
		return;
	linger.l_onoff = 0;
	setsockopt(outlet->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void outlet_drop_unused(struct output *output, struct outlet *outlet)
{
	if (outlet->numbers || outlet->first || outlet->busy)
		return;
	do_not_linger(outlet);
	free_outlet(output, outlet);
}

void outlets_free(struct output *output)
{
	for (unsigned i = 0; i < OUTLET_HASHES; i++)
		while (output->hashes[i])
			free_outlet(output, output->hashes[i]);
}

/* ---- What it is */

static int stream_of(const struct output *output, const struct stat *stat, int fd)
{
	static const int order[] = {1, 2, 0};
	struct stat other;

	for (int i = 0; i < 3; i++) {
		int stream = output->streams[order[i]];

		if (stream < 0 || fstat(stream, &other) ||
		    (other.st_mode & S_IFMT) != (stat->st_mode & S_IFMT))
			continue;
		if (S_ISCHR(stat->st_mode)
			    ? other.st_rdev == stat->st_rdev
			    : other.st_ino == stat->st_ino && other.st_dev == stat->st_dev &&
				      (!S_ISREG(stat->st_mode) || same_description(stream, fd)))
			return order[i];
	}
	return -1;
}

/* The guest's descriptors: is one of them what `inode` of this kind names, and can it be read? */
static bool guest_reads(const struct output *output, const char *kind, uint64_t inode)
{
	char path[64], name[64], link[64];
	const struct dirent *entry;
	struct stat stat;
	bool found = false;
	ssize_t bytes;
	DIR *list;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)output->pid);
	snprintf(name, sizeof(name), "%s:[%llu]", kind, (unsigned long long)inode);
	list = opendir(path);
	while (list && !found && (entry = readdir(list))) {
		bytes = readlinkat(dirfd(list), entry->d_name, link, sizeof(link) - 1);
		if (bytes <= 0)
			continue;
		link[bytes] = '\0';
		found = !strcmp(link, name) &&
			!fstatat(dirfd(list), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) &&
			stat.st_mode & S_IRUSR;
	}
	if (list)
		closedir(list);
	return found;
}

#define PEER_UNKNOWN UINT64_MAX

/* With whom a Unix socket is connected; 0: nobody; PEER_UNKNOWN: the kernel does not say (CONFIG_UNIX_DIAG). */
static uint64_t unix_peer(uint64_t inode)
{
	struct unix_diagnosis diagnosis;
	int netlink = -1, code = unix_diagnose(&netlink, inode, &diagnosis);

	if (netlink >= 0)
		close(netlink);
	return code ? PEER_UNKNOWN : diagnosis.peer;
}

static int socket_option(int fd, int option)
{
	int value = -1;
	socklen_t bytes = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &bytes) ? -1 : value;
}

/* Who made the other end: of a pair, this program. */
static bool peer_is_guest(const struct output *output, int fd)
{
	struct ucred peer = {0};
	socklen_t bytes = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) && peer.pid == output->pid;
}

/*
 * Of a socket for bytes that nobody is connected to: what a write would say. The kernel is not asked to make it: it might be
 * connected by then.
 */
static struct ruling unconnected(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

	if (poll(&poll_fd, 1, 0) > 0 && poll_fd.revents & (POLLHUP | POLLERR)) {
		ssize_t sent = send(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL);

		return (struct ruling){VERDICT_ANSWER, sent < 0 ? -errno : -EPIPE,
				       sent >= 0 || errno == EPIPE};
	}
	return fcntl(fd, F_GETFL) & O_NONBLOCK ? answer(-EAGAIN)
					       : (struct ruling){.verdict = VERDICT_WAIT};
}

/* False: it is no outlet, or *ruling says what the call comes to. */
static bool is_socket_outlet(const struct output *output, int fd, const struct stat *stat,
			     enum outlet_kind *kind, struct ruling *ruling)
{
	int domain = socket_option(fd, SO_DOMAIN), type = socket_option(fd, SO_TYPE);
	struct sockaddr_storage peer;
	socklen_t bytes = sizeof(peer);
	uint64_t other;

	if (domain == AF_NETLINK || domain == AF_ALG || stat->st_ino == output->stub_socket)
		return false;
	*kind = type == SOCK_STREAM ? OUTLET_STREAM : OUTLET_MESSAGES;
	if (type == SOCK_STREAM || type == SOCK_SEQPACKET) {
		if (socket_option(fd, SO_ACCEPTCONN) == 1)
			return false;
		if (getpeername(fd, (struct sockaddr *)&peer, &bytes)) {
			*ruling = unconnected(fd);
			return false;
		}
	}
	if (domain != AF_UNIX)
		return true;
	other = unix_peer(stat->st_ino);
	if (other == PEER_UNKNOWN)
		return !peer_is_guest(output, fd);
	return !other || !guest_reads(output, "socket", other);
}

static bool is_outlet(struct output *output, int fd, const struct stat *stat, int stream,
		      enum outlet_kind *kind, struct ruling *ruling)
{
	unsigned type = major(stat->st_rdev);

	switch (stat->st_mode & S_IFMT) {
	case S_IFSOCK:
		return is_socket_outlet(output, fd, stat, kind, ruling);
	case S_IFIFO:
		*kind = OUTLET_PIPE;
		return stream >= 0 || !guest_reads(output, "pipe", stat->st_ino);
	case S_IFCHR:
		*kind = OUTLET_TERMINAL;
		/*
		 * Others than the one that people see are terminals that it has made itself (pty(7)), with which there
		 * is no generation: what waits for one would wait for ever.
		 */
		if (stream >= 0 || (stat->st_rdev == makedev(5, 0) && isatty(fd)))
			return isatty(fd);
		if (type != 1 && type != 10) /* null, zero ...; misc */
			output_tell(output, HOLE_DEVICES);
		return false;
	case S_IFREG:
		*kind = OUTLET_FILE;
		if (stream < 0)
			output_tell(output, HOLE_FILES);
		return stream >= 0;
	default:
		return false;
	}
}

/* The same pipe or terminal once more, for writes that do not wait, whatever the guest's descriptor does. */
static int open_again(int fd, enum outlet_kind kind)
{
	char path[32];
	int again;

	if (kind != OUTLET_PIPE && kind != OUTLET_TERMINAL)
		return fd;
	snprintf(path, sizeof(path), "/proc/thread-self/fd/%d", fd);
	again = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return again < 0 ? fd : again;
}

/* Takes `fd`. */
static struct outlet *make_outlet(struct output *output, int fd, const struct stat *stat,
				  enum outlet_kind kind, int stream)
{
	struct outlet *outlet = calloc(1, sizeof(*outlet)), **hash;

	if (!outlet)
		return NULL;
	*outlet = (struct outlet){
		.number = ++output->next_number,
		.fd = fd,
		.kind = kind,
		.device = outlet_device(stat),
		.inode = outlet_inode(stat),
		.stream = stream,
	};
	if (kind == OUTLET_FILE)
		outlet->position = fcntl(fd, F_GETFL) & O_APPEND ? (uint64_t)stat->st_size
								 : (uint64_t)lseek(fd, 0, SEEK_CUR);
	outlet->sending = open_again(fd, kind);
	if (outlet->sending != fd && outlet->sending < output->least) {
		int high = fcntl(outlet->sending, F_DUPFD_CLOEXEC, output->least);

		close(outlet->sending);
		outlet->sending = high < 0 ? fd : high;
	}
	hash = hash_of(output, outlet->inode);
	outlet->next = *hash;
	*hash = outlet;
	hash = &output->numbered[outlet->number % OUTLET_HASHES];
	outlet->next_numbered = *hash;
	*hash = outlet;
	return outlet;
}

int guest_descriptor(const struct output *output, int number)
{
	int fd = (int)syscall(SYS_pidfd_getfd, output->pidfd, number, 0), high;

	if (fd < 0 || fd >= output->least)
		return fd < 0 ? -errno : fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, output->least);
	if (high < 0)
		high = -errno;
	close(fd);
	return high;
}

/* `*inside`: it is nothing that ever leads outside. */
static struct outlet *outlet_of_taken(struct output *output, int fd, struct ruling *ruling,
				      bool *inside)
{
	struct outlet *outlet;
	enum outlet_kind kind;
	struct stat stat;
	int stream, flags = fcntl(fd, F_GETFL);

	*inside = false;
	if (fstat(fd, &stat)) {
		*ruling = answer(-errno);
	} else if (flags & O_PATH || (flags & O_ACCMODE) == O_RDONLY) {
		*ruling = answer(-EBADF);
	} else if ((outlet = find_outlet(output, &stat, fd))) {
		close(fd);
		return outlet;
	} else {
		stream = stream_of(output, &stat, fd);
		if (is_outlet(output, fd, &stat, stream, &kind, ruling)) {
			outlet = make_outlet(output, fd, &stat, kind, stream);
			if (outlet)
				return outlet;
			*ruling = answer(-ENOMEM);
		}
		*inside = ruling->verdict == VERDICT_GO_ON && !S_ISSOCK(stat.st_mode) &&
			  !S_ISFIFO(stat.st_mode);
	}
	close(fd);
	return NULL;
}

void outlet_refresh(struct output *output, struct outlet *outlet)
{
	bool fast = output->ring && outlet->kind != OUTLET_MESSAGES && !outlet->broken &&
		    !outlet->shut && !outlet->error && outlet_room(output, outlet);

	if (fast == outlet->fast)
		return;
	outlet->fast = fast;
	ring_fast(output->ring, outlet->number, fast);
}

/* False: nobody would tell of its close. */
static bool note_held(struct output *output, int number, uint64_t seen, const struct outlet *outlet)
{
	bool is_socket = outlet->kind == OUTLET_STREAM || outlet->kind == OUTLET_MESSAGES;

	return !output->ring ||
	       ring_held(output->ring, (unsigned)number, seen, outlet->number, is_socket);
}

static void forget(struct output *output, uint32_t number, bool interests)
{
	struct outlet *outlet = output->known[number];

	if (!outlet)
		return;
	output->known[number] = NULL;
	outlet->numbers--;
	if (interests && outlet->first)
		interests_remove(output, outlet, (int)number);
	outlet_drop_unused(output, outlet);
}

/*
 * Nobody would tell of its close, or has told: it may be another connection by now. While somebody is closing it, or the
 * notifier is asked anyway, it is told.
 */
static bool is_unwatched(const struct output *output, int number)
{
	uint64_t entry = output->ring ? ring_seen(output->ring, (unsigned)number) : ENTRY_HELD;

	return (entry & ENTRY_KIND) != ENTRY_HELD && !(entry & (ENTRY_ASK | ENTRY_CLOSERS));
}

struct outlet *outlet_of(struct output *output, int number, struct ruling *ruling)
{
	struct outlet *outlet = NULL;
	uint64_t seen = 0;
	bool inside;
	int fd;

	*ruling = (struct ruling){.verdict = VERDICT_GO_ON};
	if (number < 0)
		return NULL;
	if (number < (int)NUMBERS_KNOWN && output->known[number] && is_unwatched(output, number))
		forget(output, (uint32_t)number, false);
	if (number < (int)NUMBERS_KNOWN && output->known[number]) {
		outlet_refresh(output, output->known[number]);
		return output->known[number];
	}
	if (output->ring)
		seen = ring_seen(output->ring, (unsigned)number);
	fd = guest_descriptor(output, number);
	if (fd == -EBADF || fd == -ESRCH)
		return NULL; /* the kernel says so */
	if (fd < 0) {
		output_tell(output, HOLE_DESCRIPTORS);
		*ruling = answer(-ENOBUFS);
		return NULL;
	}
	outlet = outlet_of_taken(output, fd, ruling, &inside);
	if (number >= (int)NUMBERS_KNOWN || is_changing(output, (uint32_t)number))
		return outlet;
	if (outlet && note_held(output, number, seen, outlet)) {
		output->known[number] = outlet;
		outlet->numbers++;
		outlet_refresh(output, outlet);
	} else if (inside && output->ring) {
		ring_direct(output->ring, (unsigned)number, seen);
	}
	return outlet;
}

struct outlet *outlet_of_stream(struct output *output, int stream)
{
	struct ruling ruling = {.verdict = VERDICT_GO_ON};
	bool inside;
	int fd = output->streams[stream] < 0
			 ? -1
			 : fcntl(output->streams[stream], F_DUPFD_CLOEXEC, output->least);

	return fd < 0 ? NULL : outlet_of_taken(output, fd, &ruling, &inside);
}

/* ---- Closed */

void outlets_close(struct output *output, const struct call_notice *call, uint32_t from,
		   uint32_t to, bool interests)
{
	for (uint32_t i = from; i <= to && i < NUMBERS_KNOWN; i++)
		forget(output, i, interests);
	if (output->ring)
		ring_forget(output->ring, from, to);
	if (call)
		changes_add(output, &(struct changing){.tid = call->tid, .from = from, .to = to});
}
