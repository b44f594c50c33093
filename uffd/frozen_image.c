/* SPDX-License-Identifier: MIT */
/*
 * frozen_image.c - thaw_frozen_open(): a generation of an image as a flat copy, which processes share by the page cache.
 *
 * The first process that wants it writes it into a file without a name, checking all that it reads, and gives it its
 * name when it is whole. Users hold a shared flock(2); the last one, who gets an exclusive one, removes the
 * file (frozen_base.c). A file that nobody holds is what a killed process left, perhaps before a power cut: it is never
 * used, but removed. So nothing has to be synced, and nobody trusts a file that was not written by a program that is
 * running still. Only a file of this very user counts, and not for a keyed image, which it would not authenticate.
 *
 * Any thread.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frozen.h"
#include "sys.h"

#define READ_BYTES (256u << 10)
#define TRIES 100u

struct source {
	struct thaw_image *image;
	struct thaw_image_info info;
	struct thaw_view *view;
	struct thaw_generation generation;
	char path[PATH_MAX];	   /* of the flat file */
	char prefix[NAME_MAX + 1]; /* of the names of all of this image's */
};

/* ---- the generation */

static int open_source(struct source *source, const char *image, const char *generation,
		       struct thaw_error *error)
{
	uint64_t number = 0;
	int code = thaw_image_open(image, &source->image, error);

	if (!code)
		code = thaw_image_info(source->image, false, &source->info, error);
	if (!code && generation && *generation)
		code = thaw_image_find(source->image, generation, &number, error);
	if (!code)
		code = thaw_view_open(source->image, number, &source->view, error);
	if (!code)
		source->generation = *thaw_view_generation(source->view);
	if (!code && source->generation.heap_bytes % 65536)
		code = error_set(error, THAW_EDAMAGED, "%s: generation %llu is no heap", image,
				 (unsigned long long)source->generation.number);
	return code;
}

static void close_source(struct source *source)
{
	thaw_view_close(source->view);
	thaw_image_close(source->image);
}

struct copying {
	struct source *source;
	struct base *base;
	char *buffer;
	struct thaw_error *error;
};

static int copy_run(void *arg, const struct thaw_page_run *run)
{
	struct copying *copying = arg;
	uint64_t page_bytes = copying->source->info.page_bytes, part;
	uint64_t at = run->first * page_bytes, end = at + run->pages * page_bytes;
	int code = 0;

	if (run->kind == THAW_PAGE_LOST)
		return error_set(copying->error, THAW_EDAMAGED,
				 "generation %llu lacks pages: its index is damaged",
				 (unsigned long long)copying->source->generation.number);
	if (run->kind != THAW_PAGE_STORED)
		return 0;
	if (end > copying->base->bytes)
		end = copying->base->bytes;
	for (; !code && at < end; at += part) {
		part = end - at < READ_BYTES ? end - at : READ_BYTES;
		code = thaw_view_read(copying->source->view, at, copying->buffer, part,
				      copying->error);
		if (!code)
			code = base_write(copying->base, copying->buffer, part, at, copying->error);
	}
	return code;
}

/* All that is stored is read and checked; the rest stays holes. */
static int fill(struct source *source, struct base *base, struct thaw_error *error)
{
	struct copying copying = {source, base, malloc(READ_BYTES), error};
	int code = copying.buffer ? 0 : error_set(error, -ENOMEM, "no memory to read an image");

	if (!code)
		code = thaw_image_pages(source->image, source->generation.number, copy_run,
					&copying, error);
	free(copying.buffer);
	return code;
}

/* ---- the file */

static int name_file(struct source *source, const char *image)
{
	char real[PATH_MAX], *name, uuid[33];
	size_t used;

	if (!realpath(image, real))
		return -errno;
	for (unsigned i = 0; i < sizeof(source->info.uuid); i++)
		snprintf(uuid + 2 * i, 3, "%02x", source->info.uuid[i]);
	name = strrchr(real, '/');
	if (!name)
		return -EINVAL;
	*name++ = '\0';
	used = (size_t)snprintf(source->prefix, sizeof(source->prefix), ".%s.thaw-flat-%s-", name,
				uuid);
	if (used + 40 > sizeof(source->prefix) ||
	    snprintf(source->path, sizeof(source->path), "%s/%s%llu-%u", real, source->prefix,
		     (unsigned long long)source->generation.number,
		     (unsigned)geteuid()) >= (int)sizeof(source->path))
		return -ENAMETOOLONG;
	return 0;
}

static bool has_name(int fd, const char *path)
{
	struct stat mine, named;

	return !fstat(fd, &mine) && !lstat(path, &named) && mine.st_ino == named.st_ino &&
	       mine.st_dev == named.st_dev;
}

/* Remove the file if nobody uses it. */
static void sweep_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat status;

	if (fd < 0)
		return;
	if (!fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
	    !flock(fd, LOCK_EX | LOCK_NB) && has_name(fd, path))
		unlink(path);
	close(fd);
}

/* What killed processes left of this image's generations. */
static void sweep(const struct source *source)
{
	char directory[PATH_MAX], path[PATH_MAX];
	const struct dirent *entry;
	DIR *list;

	snprintf(directory, sizeof(directory), "%s", source->path);
	*strrchr(directory, '/') = '\0';
	list = opendir(*directory ? directory : "/");
	while (list && (entry = readdir(list)))
		if (!strncmp(entry->d_name, source->prefix, strlen(source->prefix)) &&
		    snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) <
			    (int)sizeof(path))
			sweep_file(path);
	if (list)
		closedir(list);
}

/* -ENOENT: nobody has it open. */
static int join_file(const struct source *source)
{
	for (unsigned tries = 0; tries < TRIES; tries++) {
		int fd = sys_open(source->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
		struct stat status;

		if (fd < 0)
			return fd;
		if (fstat(fd, &status) || !S_ISREG(status.st_mode) || status.st_uid != geteuid() ||
		    status.st_mode & 0277 ||
		    (uint64_t)status.st_size != source->generation.heap_bytes) {
			close(fd);
			return -EEXIST;
		}
		if (!flock(fd, LOCK_EX | LOCK_NB)) {
			if (has_name(fd, source->path))
				unlink(source->path);
			close(fd);
			return -ENOENT;
		}
		if (!flock(fd, LOCK_SH) && has_name(fd, source->path))
			return fd;
		close(fd); /* it went just now */
	}
	return -EAGAIN;
}

/* Without a name, and of the size that it will have. */
static int new_file(const struct source *source)
{
	char directory[PATH_MAX];
	struct rlimit limit;
	int fd, code;

	/* It would raise SIGXFSZ. */
	if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur < source->generation.heap_bytes)
		return -EFBIG;
	snprintf(directory, sizeof(directory), "%s", source->path);
	*strrchr(directory, '/') = '\0';
	fd = sys_open(*directory ? directory : "/", O_TMPFILE | O_RDWR, 0400);
	if (fd < 0)
		return fd;
	code = flock(fd, LOCK_SH) ? -errno : sys_truncate(fd, source->generation.heap_bytes);
	if (code)
		close(fd);
	return code ? code : fd;
}

static int give_name(int fd, const char *path)
{
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

/* Descriptors that write would change what others map: only this one reads, from here on. */
static int reopen(int *fd)
{
	char proc[64];
	int again;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", *fd);
	again = sys_open(proc, O_RDONLY, 0);
	if (again < 0)
		return again;
	if (flock(again, LOCK_SH)) {
		close(again);
		return -errno;
	}
	close(*fd);
	*fd = again;
	return 0;
}

/*
 * A base in a file that others share: 0, or why not in `alone`, and a code, THAW_EDAMAGED and the like for what no
 * memory of one's own would help against.
 */
static int shared_base(struct source *source, struct base **made, struct thaw_error *alone,
		       struct thaw_error *error)
{
	char *path = strdup(source->path);
	int fd = path ? join_file(source) : -ENOMEM, code = fd < 0 ? fd : 0;

	*made = NULL;
	if (fd == -ENOENT) {
		fd = new_file(source);
		code = fd < 0 ? fd : 0;
		if (!code) {
			*made = base_of_file(fd, source->generation.heap_bytes, NULL);
			code = *made ? fill(source, *made, error) : -ENOMEM;
			if (!*made)
				close(fd);
			if (!code)
				code = give_name(fd, source->path);
			if (!code)
				code = reopen(&(*made)->fd);
			if (code == -EEXIST) { /* another process was faster */
				base_drop(*made);
				*made = NULL;
				fd = join_file(source);
				code = fd < 0 ? fd : 0;
			}
		}
	}
	if (!code && !*made) {
		*made = base_of_file(fd, source->generation.heap_bytes, NULL);
		code = *made ? 0 : -ENOMEM;
		if (code)
			close(fd);
	}
	if (!code) {
		(*made)->path = path;
		return 0;
	}
	base_drop(*made);
	*made = NULL;
	free(path);
	error_set(alone, code, "%s: no file that other processes share: %s", source->path,
		  thaw_strerror(code));
	return code;
}

static int private_base(struct source *source, struct base **base, struct thaw_error *error)
{
	int code = base_new(source->generation.heap_bytes, base, error);

	if (!code)
		code = fill(source, *base, error);
	if (!code)
		base_seal(*base);
	return code;
}

static int find_base(struct source *source, const char *image, struct base **base,
		     struct thaw_error *alone, struct thaw_error *error)
{
	int code = source->info.keyed ? -EPERM : name_file(source, image);

	*base = NULL;
	if (!source->generation.heap_bytes)
		return 0;
	if (code) {
		error_set(alone, code, "%s: %s", image,
			  source->info.keyed ? "a keyed image is not shared" : thaw_strerror(code));
		return private_base(source, base, error);
	}
	sweep(source);
	code = shared_base(source, base, alone, error);
	/* Errors of the image stay what they are; those of the file do not matter. */
	if (!code || code == THAW_EDAMAGED || code == THAW_ENOGEN)
		return code;
	return private_base(source, base, error);
}

static int make(struct source *source, struct base *base, struct thaw_frozen **frozen,
		struct thaw_error *error)
{
	size_t state_bytes;
	const void *state = thaw_view_state(source->view, &state_bytes);

	*frozen = frozen_new(layers_new(base, source->generation.heap_bytes, NULL, 0),
			     source->generation.heap_bytes, state, state_bytes, error);
	if (!*frozen)
		return -ENOMEM;
	(*frozen)->generation = source->generation;
	return 0;
}

int thaw_frozen_open(const char *image, const char *generation, struct thaw_frozen **frozen,
		     struct thaw_error *alone, struct thaw_error *error)
{
	struct source source = {0};
	struct thaw_error unused, unused_too;
	struct base *base = NULL;
	int code;

	error = error ? error : &unused;
	alone = alone ? alone : &unused_too;
	alone->code = 0;
	*frozen = NULL;
	code = open_source(&source, image, generation, error);
	if (!code)
		code = find_base(&source, image, &base, alone, error);
	if (!code)
		code = make(&source, base, frozen, error);
	base_drop(base);
	close_source(&source);
	return code;
}
