/* SPDX-License-Identifier: MIT */
/*
 * address.c - see address.h.
 *
 * A path of a socket has 107 bytes. One that is longer is named through the directory's descriptor in /proc. A socket that a
 * killed program has left is taken over: whoever listens holds the image's lock, so nobody else can be the program
 * of what has this name. What is no socket, or another user's, stays as it is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "control/address.h"

#define BACKLOG 64

void control_id(const struct stat *image, char id[CONTROL_ID_ROOM])
{
	snprintf(id, CONTROL_ID_ROOM, "%x:%x:%llx", major(image->st_dev), minor(image->st_dev),
		 (unsigned long long)image->st_ino);
}

socklen_t control_abstract_address(const char *id, struct sockaddr_un *address)
{
	int length;

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	length = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "thaw-control/%s",
			  id);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static bool fill(struct control_place *place, const char *path)
{
	size_t bytes = strlen(path) + 1;

	place->address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (bytes > sizeof(place->address.sun_path))
		return false;
	memcpy(place->address.sun_path, path, bytes);
	place->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
	return true;
}

int control_place_open(const char *image, struct control_place *place)
{
	char real[PATH_MAX], path[PATH_MAX], *slash;

	place->directory = AT_FDCWD;
	if (!realpath(image, real))
		return -errno;
	if (snprintf(place->name, sizeof(place->name), "%s" CONTROL_SUFFIX, real) >=
	    (int)sizeof(place->name))
		return -ENAMETOOLONG;
	if (fill(place, place->name))
		return 0;
	slash = strrchr(real, '/');
	snprintf(place->name, sizeof(place->name), "%s" CONTROL_SUFFIX, slash + 1);
	slash[slash == real] = '\0';
	place->directory = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (place->directory < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", place->directory, place->name);
	if (fill(place, path))
		return 0;
	control_place_close(place);
	return -ENAMETOOLONG;
}

void control_place_close(struct control_place *place)
{
	if (place->directory >= 0)
		close(place->directory);
	place->directory = AT_FDCWD;
}

/* ---- Listening */

/* Nobody can connect between bind(2) and listen(2). The mode of the socket is that of the file (Linux). */
static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		fchmod(fd, 0600);
	return fd < 0 ? -errno : fd;
}

static int close_with(int fd, int code)
{
	close(fd);
	return code;
}

/* A socket of this user's: of a program that was killed, or of one whose image has another name by now. */
static bool is_left(const struct control_place *place)
{
	struct stat status;

	return !fstatat(place->directory, place->name, &status, AT_SYMLINK_NOFOLLOW) &&
	       S_ISSOCK(status.st_mode) && status.st_uid == geteuid();
}

int control_listen_at(struct control_place *place, struct stat *made)
{
	const struct sockaddr *address = (const struct sockaddr *)&place->address;
	int fd = new_socket(), code;

	if (fd < 0)
		return fd;
	code = bind(fd, address, place->length) ? -errno : 0;
	if (code == -EADDRINUSE && is_left(place) && !unlinkat(place->directory, place->name, 0))
		code = bind(fd, address, place->length) ? -errno : 0;
	if (code)
		return close_with(fd, code);
	if (fstatat(place->directory, place->name, made, AT_SYMLINK_NOFOLLOW))
		return close_with(fd, -errno);
	if (made->st_mode & 0077 || listen(fd, BACKLOG)) {
		code = made->st_mode & 0077 ? -EPERM : -errno;
		control_remove(place, made);
		return close_with(fd, code);
	}
	return fd;
}

int control_listen_abstract(const char *id)
{
	struct sockaddr_un address;
	socklen_t length = control_abstract_address(id, &address);
	int fd = new_socket();

	if (fd < 0)
		return fd;
	return !bind(fd, (const struct sockaddr *)&address, length) && !listen(fd, BACKLOG)
		       ? fd
		       : close_with(fd, -errno);
}

void control_remove(const struct control_place *place, const struct stat *made)
{
	struct stat now;

	if (!fstatat(place->directory, place->name, &now, AT_SYMLINK_NOFOLLOW) &&
	    now.st_dev == made->st_dev && now.st_ino == made->st_ino)
		unlinkat(place->directory, place->name, 0);
}

bool control_may_ask(int fd)
{
	struct ucred who;
	socklen_t bytes = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) &&
	       (who.uid == geteuid() || who.uid == 0);
}
