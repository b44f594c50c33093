/* SPDX-License-Identifier: MIT */
/*
 * file.c - the file behind an image's name: creating it, opening it, checking its owner, locking it.
 * What is in it is read elsewhere (header.c, record.c).
 *
 * Called by whoever opens an image, on its own thread. A file is never seen half made: a new one gets
 * its name only when its header is on the disk. Must never write to a file that already is an image.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lock.h"
#include "newfile.h"
#include "store.h"
#include "sys.h"

#define OPEN_ATTEMPTS 10 /* when others create or replace the file at the same time */

/* ---- Creating */

static int slots_create(int fd, const struct image_options *options, struct thaw_error *error)
{
	struct slot slot = {.page_bytes = options->page_bytes};
	int code = 0;

	if (options->encrypted) {
		code = keys_make_enciphering(options->path, &slot.keys, error);
		slot.mark = slot.keys.mark;
		slot.enciphered = true;
	} else if (options->keyed) {
		code = keys_make(options->path, &slot.mark, error);
	}
	if (code)
		return code;
	if (getrandom(slot.uuid, sizeof(slot.uuid), 0) != sizeof(slot.uuid))
		return -EIO;
	snprintf(slot.engine, sizeof(slot.engine), "%s", options->engine);
	for (unsigned i = 0; i < 2 && !code; i++)
		code = header_write(fd, i, &slot);
	return code ? code : sys_fdatasync(fd);
}

/*
 * A new image, locked. The name appears with the whole header in place, or not at all. `empty`: the
 * empty file to replace; -1: no file may have the name.
 */
static int file_create(const struct image_options *options, int empty, struct thaw_error *error)
{
	struct newfile file;
	int code;

	newfile_sweep(options->path);
	code = newfile_open(&file, options->path);
	if (!code) {
		code = slots_create(file.fd, options, error);
		if (!code) {
			code = empty < 0 ? newfile_name(&file) : newfile_replace(&file, empty);
			if (code && empty < 0)
				newfile_unmake(file.fd, options->path);
		}
		if (!code)
			return file.fd;
		newfile_drop(&file);
	}
	if (code == THAW_EKEY) /* told already */
		return code;
	/* -EEXIST: another was faster. */
	return error_set(error, code, "%s: cannot create it: %s", options->path,
			 thaw_strerror(code));
}

/* ---- Opening */

/*
 * O_NONBLOCK, so that opening a FIFO without a writer does not wait. It is cleared afterwards,
 * since io_uring would honour it.
 */
int store_open(const char *path, int flags, struct thaw_error *error)
{
	int fd = sys_open(path, flags | O_NONBLOCK | O_NOCTTY, 0);
	struct stat stat = {0};

	if (fd < 0)
		return error_set(error, fd, "%s: cannot open it: %s", path, thaw_strerror(fd));
	if (!fstat(fd, &stat) && S_ISREG(stat.st_mode)) {
		fcntl(fd, F_SETFL, 0);
		return fd;
	}
	close(fd);
	if (S_ISDIR(stat.st_mode)) /* to whoever opens one for writing, the kernel says the same */
		return error_set(error, -EISDIR, "%s: cannot open it: %s", path,
				 thaw_strerror(-EISDIR));
	return error_set(error, THAW_EFOREIGN, "%s: not a regular file: name another", path);
}

bool file_is_same(int a, int b)
{
	struct stat one, other;

	return !fstat(a, &one) && !fstat(b, &other) && one.st_ino == other.st_ino &&
	       one.st_dev == other.st_dev;
}

int file_is_at(int fd, const char *path)
{
	struct stat opened, named;

	if (fstat(fd, &opened) || stat(path, &named))
		return -errno;
	return opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

/*
 * Checks the file that was opened, not its name. Root may do anything anyway; any other owner of
 * the file can change its contents at any time.
 */
static int check_owner(int fd, const char *path, struct thaw_error *error)
{
	struct passwd entry, *found = NULL;
	char buffer[4096];
	struct stat stat;

	if (fstat(fd, &stat))
		return error_set(error, -errno, "%s: cannot tell whose it is: %s", path,
				 thaw_strerror(-errno));
	if (stat.st_uid == geteuid() || !stat.st_uid)
		return 0;
	if (getpwuid_r(stat.st_uid, &entry, buffer, sizeof(buffer), &found))
		found = NULL;
	return error_set(
		error, THAW_EOWNER,
		"%s: the image belongs to %s%suid %u%s, not to you (uid %u), and its owner decides "
		"what is in it",
		path, found ? found->pw_name : "", found ? " (" : "", stat.st_uid, found ? ")" : "",
		geteuid());
}

/* One attempt: an open and locked file; -EAGAIN: it changed meanwhile. `made`: there was none. */
static int file_open_once(const struct image_options *options, bool *made, struct thaw_error *error)
{
	bool create = options->create;
	struct stat stat;
	int fd, code;

	fd = store_open(options->path, O_RDWR, error);
	if (fd == -ENOENT && create) {
		fd = file_create(options, -1, error);
		*made = fd >= 0;
		if (fd == -EEXIST && !lstat(options->path, &stat) && S_ISLNK(stat.st_mode))
			return error_set(error, -ENOENT, "%s: a symbolic link that leads nowhere",
					 options->path);
		return fd == -EEXIST ? -EAGAIN : fd;
	}
	if (fd < 0)
		return fd;
	code = options->own ? check_owner(fd, options->path, error) : 0;
	if (!code)
		code = lock_image(fd, options->path, error);
	if (!code && file_is_at(fd, options->path) != 1)
		code = -EAGAIN;
	if (!code && create && !fstat(fd, &stat) && !stat.st_size) {
		int created = file_create(options, fd, error);

		close(fd); /* only now: its lock kept others from doing the same */
		return created;
	}
	if (!code && options->fresh)
		newfile_sweep(options->path);
	if (!code)
		return fd;
	close(fd);
	return code;
}

int file_open_locked(const struct image_options *options, bool *made, struct thaw_error *error)
{
	for (int attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
		int fd = file_open_once(options, made, error);

		if (fd != -EAGAIN)
			return fd;
	}
	return error_set(error, -EAGAIN, "%s: the file is replaced again and again: who does that?",
			 options->path);
}
