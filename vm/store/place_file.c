/* SPDX-License-Identifier: MIT */
/*
 * place_file.c - the file that an image of a store is placed in (place_file.h). What a user calls a cache may hold the only copy of
 * what was not replicated yet: so nothing here removes or shortens a file that an image was ever opened in.
 */
#define _GNU_SOURCE
#include "store/place_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/failure.h"
#include "store/format.h"

/* A byte far behind the end of any file, before those that libthaw locks. */
#define LOCK_AT ((1ull << 62) - 2)
#define ASIDE_MOST 1000u

/* ---- Where it is */

/* XDG Base Directory Specification 0.8: what is not absolute counts as unset. */
static int cache_folder(char folder[PATH_MAX], struct thaw_error *error)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	struct passwd entry, *found = NULL;
	char buffer[4096];
	int length;

	if (cache && cache[0] == '/') {
		length = snprintf(folder, PATH_MAX, "%s/thaw", cache);
	} else {
		if (!home || home[0] != '/') {
			if (getpwuid_r(geteuid(), &entry, buffer, sizeof(buffer), &found) ||
			    !found || found->pw_dir[0] != '/')
				return failure(
					error, -ENOENT,
					"no place for a copy of the image: set HOME or XDG_CACHE_HOME, or name a file (--cache PATH)");
			home = found->pw_dir;
		}
		length = snprintf(folder, PATH_MAX, "%s/.cache/thaw", home);
	}
	return length < PATH_MAX - 64 ? 0
				      : failure(error, -ENAMETOOLONG,
						"the path of the folder for copies is too long");
}

static int make_folders(char *folder, struct thaw_error *error)
{
	for (char *at = folder + 1;; at++) {
		char kept = *at;
		int code;

		if (kept && kept != '/')
			continue;
		*at = '\0';
		code = mkdir(folder, 0700) && errno != EEXIST ? -errno : 0;
		if (code && !access(folder, F_OK))
			code = 0;
		if (code)
			return failure(error, code, "%s: cannot make this folder: %s", folder,
				       thaw_strerror(code));
		*at = kept;
		if (!kept)
			return 0;
	}
}

int place_file_default(const char *place, char **path, struct thaw_error *error)
{
	XXH128_hash_t hash = XXH3_128bits(place, strlen(place));
	char folder[PATH_MAX];
	int code = cache_folder(folder, error);

	if (!code)
		code = make_folders(folder, error);
	if (code)
		return code;
	if (asprintf(path, "%s/%016" PRIx64 "%016" PRIx64 ".thaw", folder, hash.high64,
		     hash.low64) < 0) {
		*path = NULL;
		return failure(error, -ENOMEM, "%s: %s", place, thaw_strerror(-ENOMEM));
	}
	return 0;
}

/* ---- Whose it is */

static int lock(int fd)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)LOCK_AT, .l_len = 1};

	if (!fcntl(fd, F_OFD_SETLK, &lock))
		return 0;
	/* Where the file system has no such locks, there is the image's, which is taken later. */
	return errno == EAGAIN || errno == EACCES ? THAW_EINUSE : 0;
}

/* One attempt; -EAGAIN: it was replaced meanwhile. */
static int open_once(const char *path, bool *made, struct thaw_error *error)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), code;
	struct stat opened, named;

	*made = false;
	if (fd < 0 && errno == ENOENT) {
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		*made = fd >= 0;
		if (fd < 0 && errno == EEXIST)
			return -EAGAIN;
	}
	if (fd < 0)
		return failure(error, -errno, "%s: cannot open it: %s", path,
			       thaw_strerror(-errno));
	code = fstat(fd, &opened) ? -errno : 0;
	if (!code && !S_ISREG(opened.st_mode)) {
		code = failure(error, -EXDEV, "%s: not a regular file: name another", path);
	} else if (!code && opened.st_uid != geteuid() && opened.st_uid) {
		code = failure(error, THAW_EOWNER, "%s: the file belongs to uid %u, not to you",
			       path, opened.st_uid);
	} else {
		code = code ? code : lock(fd);
		if (code)
			failure(error, code,
				code == THAW_EINUSE
					? "image %s is in use by another process: stop that first, or name another file"
					: "%s: cannot lock it",
				path);
		else if (stat(path, &named) || named.st_ino != opened.st_ino ||
			 named.st_dev != opened.st_dev)
			code = -EAGAIN;
	}
	if (!code)
		return fd;
	close(fd);
	return code;
}

int place_file_open(const char *path, bool *made, struct thaw_error *error)
{
	for (unsigned i = 0; i < 10; i++) {
		int fd = open_once(path, made, error);

		if (fd != -EAGAIN)
			return fd;
	}
	return failure(error, -EAGAIN, "%s: the file is replaced again and again: who does that?",
		       path);
}

int place_file_unused(const char *path, struct thaw_error *error)
{
	struct thaw_image_info info = {0};
	struct thaw_image *image;

	if (thaw_image_open(path, &image, NULL))
		return 0;
	if (thaw_image_info(image, false, &info, NULL))
		info.holder = 0;
	thaw_image_close(image);
	return info.holder
		       ? failure(error, THAW_EINUSE,
				 "image %s is in use by process %llu: stop that first, or name another file",
				 path, (unsigned long long)info.holder)
		       : 0;
}

/* ---- Holes */

int place_file_scratch(const char *path, char **name)
{
	char *folder = strdup(path), *slash = folder ? strrchr(folder, '/') : NULL;
	int fd, code = -ENOMEM;

	*name = NULL;
	if (!folder)
		return code;
	if (slash)
		slash[slash == folder] = '\0';
	fd = open(slash ? folder : ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	free(folder);
	if (fd >= 0)
		return fd;
	if (asprintf(name, "%s.XXXXXX", path) > 0) {
		fd = mkostemp(*name, O_CLOEXEC);
		if (fd >= 0)
			return fd;
		code = -errno;
		free(*name);
	}
	*name = NULL;
	return code;
}

/* The block at `at` is all that is data. */
static int holes_told(int fd, off_t at)
{
	char block[STORE_BLOCK];
	off_t data, hole;

	memset(block, 1, sizeof(block));
	if (ftruncate(fd, at + 4 * STORE_BLOCK) ||
	    pwrite(fd, block, sizeof(block), at) != sizeof(block))
		return errno ? -errno : -EIO;
	data = lseek(fd, 0, SEEK_DATA);
	hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	/* -EINVAL: it has no such thing. */
	if (hole < 0)
		return errno == EINVAL || errno == ENXIO ? 0 : -errno;
	return data == at && hole == at + STORE_BLOCK;
}

int place_file_holes(const char *path, uint64_t bytes)
{
	/* The one that is written is the second of a pair of larger pages, wherever these may be used. */
	off_t at = (off_t)(bytes / STORE_BLOCK / 2 | 1) * STORE_BLOCK;
	char *name;
	int fd = place_file_scratch(path, &name), told;

	if (fd < 0)
		return fd;
	if (name)
		unlink(name);
	free(name);
	errno = 0;
	told = holes_told(fd, at);
	close(fd);
	return told;
}

int place_file_has_hole(int fd)
{
	off_t length = lseek(fd, 0, SEEK_END), hole;

	if (length <= 0)
		return length ? -errno : 0;
	hole = lseek(fd, 0, SEEK_HOLE);
	if (hole < 0)
		return errno == EINVAL ? 0 : -errno;
	return hole < length;
}

int place_file_begun(int fd)
{
	off_t data = lseek(fd, 0, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? 0 : -errno;
	return data == 0;
}

/* ---- What was there before */

static int rename_new(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) ? -errno : 0;
}

int place_file_aside(const char *path, char **aside, struct thaw_error *error)
{
	char *side = NULL, *side_aside = NULL;
	int code = -EEXIST;

	for (unsigned i = 1; i <= ASIDE_MOST && code == -EEXIST; i++) {
		if (asprintf(aside, "%s.aside-%u", path, i) < 0) {
			*aside = NULL;
			return failure(error, -ENOMEM, "%s: %s", path, thaw_strerror(-ENOMEM));
		}
		code = rename_new(path, *aside);
		if (code) {
			free(*aside);
			*aside = NULL;
		}
	}
	if (code)
		return failure(error, code, "%s: cannot be renamed: %s", path, thaw_strerror(code));
	/* What it said of the store stays with it, if it can. */
	if (asprintf(&side, "%s.store", path) > 0 &&
	    asprintf(&side_aside, "%s.store", *aside) > 0 && rename(side, side_aside))
		unlink(side);
	free(side);
	free(side_aside);
	return 0;
}

/* The newest generation that it lists; 0: none. Only read. */
static int listed(const char *path, uint64_t *generation, struct thaw_error *error)
{
	const struct thaw_generation *generations;
	struct thaw_image *image;
	unsigned count;
	int code = thaw_image_open(path, &image, error);

	if (code)
		return code;
	count = thaw_image_log(image, &generations);
	*generation = count ? generations[count - 1].number : 0;
	thaw_image_close(image);
	return 0;
}

int place_file_newest(const char *path, uint64_t wanted, uint64_t *generation,
		      struct thaw_error *error)
{
	int code;

	*generation = 0;
	code = listed(path, generation, error);
	if (code || *generation >= wanted)
		return code;
	code = thaw_image_settle(path, error);
	return code ? code : listed(path, generation, error);
}
