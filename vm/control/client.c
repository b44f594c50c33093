/* SPDX-License-Identifier: MIT */
/*
 * client.c - see client.h. The abstract address comes first: it is that of the image itself, whatever it is called; the
 * one beside it is for who is in another network namespace. Whoever answers is this user, the image's owner, or root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "control/client.h"

/* A program that has just begun listens in a moment. */
#define START_NS 2000000000ull
#define START_PAUSE_NS 10000000
#define READ_BYTES 65536u

static int no_one(const char *image, uint64_t holder, struct thaw_error *error)
{
	if (holder)
		return failure(
			error, -ESRCH,
			"%s: process %llu has it open, and cannot be talked to: it is no thaw "
			"run, exec or repl, or one of an older version",
			image, (unsigned long long)holder);
	return failure(error, -ESRCH, "%s: no program runs from it", image);
}

/* ---- Connecting */

static int is_trusted(int fd, const struct stat *image, const char *path, struct ucred *who,
		      struct thaw_error *error)
{
	socklen_t bytes = sizeof(*who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, who, &bytes))
		return failure(error, -errno, "%s: who answers is not known: %s", path,
			       strerror(errno));
	return who->uid == geteuid() || who->uid == image->st_uid || who->uid == 0
		       ? 0
		       : failure(error, -EPERM,
				 "%s: user %u listens in place of its program: not trusted", path,
				 (unsigned)who->uid);
}

/*
 * Of a program that was killed, the socket may be open for a moment yet, like the image (process/remote/keeper.h). One of
 * another process namespace is not known.
 */
static bool has_ended(pid_t pid)
{
	struct pollfd end = {(int)syscall(SYS_pidfd_open, pid, 0), POLLIN, 0};
	bool ended = end.fd < 0 ? errno == ESRCH : poll(&end, 1, 0) > 0;

	if (end.fd >= 0)
		close(end.fd);
	return ended;
}

/* A socket, or -errno. */
static int connect_to(const struct sockaddr_un *address, socklen_t length)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), code;

	if (fd < 0 || !connect(fd, (const struct sockaddr *)address, length))
		return fd < 0 ? -errno : fd;
	code = -errno;
	close(fd);
	return code;
}

static int try_address(const struct sockaddr_un *address, socklen_t length, const char *path,
		       const struct stat *image, struct ucred *who, struct thaw_error *error)
{
	int fd = connect_to(address, length), code;

	if (fd == -EACCES || fd == -EPERM)
		return failure(error, -EPERM,
			       "%s: only the user who runs its program, and root, may ask", path);
	if (fd < 0)
		return -ESRCH;
	code = is_trusted(fd, image, path, who, error);
	if (!code && !has_ended(who->pid))
		return fd;
	code = code ? code : -ESRCH;
	close(fd);
	return code;
}

/* -ESRCH without a line: nobody listens. */
static int try_all(const char *path, const char *id, const struct stat *image, struct ucred *who,
		   struct thaw_error *error)
{
	struct control_place place;
	struct sockaddr_un address;
	socklen_t length = control_abstract_address(id, &address);
	int fd = try_address(&address, length, path, image, who, error), code;

	if (fd >= 0)
		return fd;
	if (control_place_open(path, &place))
		return fd;
	code = try_address(&place.address, place.length, path, image, who, error);
	control_place_close(&place);
	return code == -ESRCH ? fd : code;
}

static uint64_t holder_of(const char *path)
{
	struct thaw_image_info info = {0};
	struct thaw_image *image;

	if (!thaw_image_open(path, &image, NULL))
		thaw_image_info(image, false, &info, NULL);
	thaw_image_close(image);
	return info.holder;
}

static int reach(const char *path, const char *id, const struct stat *image, struct ucred *who,
		 struct thaw_error *error)
{
	uint64_t until = clock_monotonic_ns() + START_NS, holder;
	int fd;

	for (;;) {
		fd = try_all(path, id, image, who, error);
		if (fd != -ESRCH)
			return fd;
		holder = holder_of(path);
		if (!holder || clock_monotonic_ns() >= until)
			return no_one(path, holder, error);
		nanosleep(&(struct timespec){.tv_nsec = START_PAUSE_NS}, NULL);
	}
}

/* ---- One line, and one in answer */

static int say(int fd, const char *text, size_t bytes)
{
	while (bytes) {
		ssize_t put = send(fd, text, bytes, MSG_NOSIGNAL);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0) /* it may have said why */
			return errno == EPIPE || errno == ECONNRESET ? 0 : -errno;
		text += put;
		bytes -= (size_t)put;
	}
	return 0;
}

static int wait_for(int fd, uint64_t until_ns)
{
	struct pollfd ready = {fd, POLLIN, 0};

	for (;;) {
		uint64_t now = clock_monotonic_ns();
		int count;

		if (now >= until_ns)
			return -ETIMEDOUT;
		count = poll(&ready, 1, (int)((until_ns - now) / 1000000) + 1);
		if (count > 0)
			return 0;
		if (count < 0 && errno != EINTR)
			return -errno;
	}
}

static int hear(int fd, uint64_t until_ns, struct control_reply *reply)
{
	size_t room = 0;

	for (;;) {
		char *end, *more;
		ssize_t got;
		int code = wait_for(fd, until_ns);

		if (code)
			return code;
		if (reply->bytes > CONTROL_ANSWER_BYTES)
			return -EMSGSIZE;
		if (reply->bytes + READ_BYTES > room) {
			room = 2 * room + READ_BYTES;
			more = realloc(reply->text, room + 1);
			if (!more)
				return -ENOMEM;
			reply->text = more;
		}
		got = recv(fd, reply->text + reply->bytes, READ_BYTES, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == ECONNRESET && !reply->bytes)
			return -ENOTCONN; /* so a socket is closed in which there is what nobody has read (unix(7)) */
		if (got <= 0)
			return -ECONNRESET;
		end = memchr(reply->text + reply->bytes, '\n', (size_t)got);
		reply->bytes += (size_t)got;
		if (!end)
			continue;
		*end = '\0';
		reply->bytes = (size_t)(end - reply->text);
		return 0;
	}
}

static int explain(const char *path, int code, uint64_t timeout_ns, struct thaw_error *error)
{
	if (code == -ECONNRESET || code == -ENOTCONN)
		return failure(error, code, "%s: its program has ended without an answer", path);
	if (code == -ETIMEDOUT)
		return failure(error, code, "%s: its program has not answered for %.3g s", path,
			       (double)timeout_ns / 1e9);
	return failure(error, code, "%s: its program cannot be talked to: %s", path,
		       strerror(-code));
}

/* -ENOTCONN: who listened has ended, or has closed the connection, before it had read all that was asked. */
static int ask_once(const char *path, const char *id, const struct stat *image, const char *line,
		    size_t bytes, uint64_t timeout_ns, struct control_reply *reply,
		    struct thaw_error *error)
{
	struct ucred who = {0};
	int fd = reach(path, id, image, &who, error), code;

	if (fd < 0)
		return fd;
	*reply = (struct control_reply){.pidfd = (int)syscall(SYS_pidfd_open, who.pid, 0)};
	code = say(fd, line, bytes);
	if (!code)
		code = hear(fd, clock_monotonic_ns() + timeout_ns, reply);
	close(fd);
	if (!code)
		return 0;
	free(reply->text);
	if (reply->pidfd >= 0)
		close(reply->pidfd);
	*reply = (struct control_reply){.pidfd = -1};
	return explain(path, code, timeout_ns, error);
}

/* Who ended before he had read the question has done nothing: somebody else is asked, or nobody is there. */
int control_ask(const char *path, const char *members, uint64_t timeout_ns,
		struct control_reply *reply, struct thaw_error *error)
{
	uint64_t until = clock_monotonic_ns() + START_NS;
	char id[CONTROL_ID_ROOM], *line;
	struct stat image;
	int code, bytes;

	*reply = (struct control_reply){.pidfd = -1};
	if (stat(path, &image))
		return failure(error, -errno, "%s: %s", path, strerror(errno));
	control_id(&image, id);
	bytes = asprintf(&line, "{\"image\":\"%s\",%s}\n", id, members);
	if (bytes < 0)
		return explain(path, -ENOMEM, timeout_ns, error);
	for (;;) {
		code = ask_once(path, id, &image, line, (size_t)bytes, timeout_ns, reply, error);
		if (code != -ENOTCONN || clock_monotonic_ns() >= until)
			break;
		nanosleep(&(struct timespec){.tv_nsec = START_PAUSE_NS}, NULL);
	}
	free(line);
	return code == -ENOTCONN ? -ECONNRESET : code;
}

bool control_is_there(const char *path)
{
	char id[CONTROL_ID_ROOM];
	struct thaw_error error;
	struct stat image;
	struct ucred who;
	int fd;

	if (stat(path, &image))
		return false;
	control_id(&image, id);
	fd = try_all(path, id, &image, &who, &error);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}
