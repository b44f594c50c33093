/* SPDX-License-Identifier: MIT */
/*
 * frozen_image.c - thaw_frozen_open(): a generation of an image as a flat copy, which processes share by the page cache.
 *
 * The first process that wants it writes it into a file without a name, checking all that it reads, and gives it its
 * name when it is whole; the others wait for that, as long as it gets on. Users hold a shared flock(2); the last one, who gets an exclusive one, removes the
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
#include <time.h>
#include <unistd.h>

#include "frozen.h"
#include "sys.h"

#define READ_BYTES (256u << 10)
#define TRIES 100u
#define WAITED_NS 2000000	/* between two looks at who makes the file ... */
#define WAITED_MOST 5000000000u /* ... which may stand still for so long */
#define TOLD_BYTES (4u << 20)	/* it says how far it is as often as this */

struct source {
	struct thaw_image *image;
	struct thaw_image_info info;
	struct thaw_view *view;
	struct thaw_generation generation;
	char path[PATH_MAX];	   /* of the flat file */
	char maker[PATH_MAX + 8];  /* of the file that its maker holds meanwhile */
	char prefix[NAME_MAX + 1]; /* of the names of all of this image's */
	int maker_fd;		   /* -1: another process makes it, or nobody */
	uint64_t copied, told;	   /* bytes */
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

/* As the size of the file that it holds: those who wait look at that. */
static void tell_progress(struct source *source)
{
	if (source->maker_fd < 0 || source->copied - source->told < TOLD_BYTES)
		return;
	source->told = source->copied;
	(void)sys_truncate(source->maker_fd, source->copied);
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
		copying->source->copied += part;
		tell_progress(copying->source);
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
	if (used + 48 > sizeof(source->prefix) ||
	    snprintf(source->path, sizeof(source->path), "%s/%s%llu-%u", real, source->prefix,
		     (unsigned long long)source->generation.number,
		     (unsigned)geteuid()) >= (int)sizeof(source->path))
		return -ENAMETOOLONG;
	snprintf(source->maker, sizeof(source->maker), "%s-making", source->path);
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

/* ---- who makes it */

/* This user's, and the one that has the name now; locked: 0, -EAGAIN: another process has it. */
static int lock_maker(struct source *source, uint64_t *told)
{
	int fd = sys_open(source->maker, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600);
	struct stat status = {0};
	int code = fd < 0 ? fd : 0;

	if (code)
		return code;
	if (fstat(fd, &status) || !S_ISREG(status.st_mode) || status.st_uid != geteuid())
		code = -EEXIST;
	*told = (uint64_t)status.st_size;
	if (!code && flock(fd, LOCK_EX | LOCK_NB))
		code = errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (!code && !has_name(fd, source->maker)) { /* it went just now */
		*told = UINT64_MAX;
		code = -EAGAIN;
	}
	if (code)
		close(fd);
	else
		source->maker_fd = fd;
	return code;
}

/*
 * Become the one who makes it (-ENOENT), or wait for the one who does: the file. One that stands still is not waited for:
 * it may have been stopped.
 */
static int wait_or_make(struct source *source)
{
	const struct timespec pause = {.tv_nsec = WAITED_NS};
	uint64_t since = sys_monotonic_ns(), last = 0, told = 0;

	for (;;) {
		int code = lock_maker(source, &told), fd = join_file(source);

		if (fd != -ENOENT || (code && code != -EAGAIN))
			return fd != -ENOENT ? fd : code;
		if (!code)
			return -ENOENT;
		if (told != last)
			since = sys_monotonic_ns();
		last = told;
		if (sys_monotonic_ns() - since > WAITED_MOST)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
}

static void end_making(struct source *source)
{
	if (source->maker_fd < 0)
		return;
	unlink(source->maker); /* while it is locked: whoever has it open finds that it has no name */
	close(source->maker_fd);
	source->maker_fd = -1;
}

static int make_file(struct source *source, struct base **made, struct thaw_error *error)
{
	int fd = new_file(source), code;

	if (fd < 0)
		return fd;
	*made = base_of_file(fd, source->generation.heap_bytes, NULL);
	if (!*made) {
		close(fd);
		return -ENOMEM;
	}
	code = fill(source, *made, error);
	if (!code)
		code = give_name(fd, source->path);
	return code ? code : reopen(&(*made)->fd);
}

/*
 * A base in a file that others share: 0, or why not in `alone`, and a code, THAW_EDAMAGED and the like for what no
 * memory of one's own would help against.
 */
static int shared_base(struct source *source, struct base **made, struct thaw_error *alone,
		       struct thaw_error *error)
{
	char *path = strdup(source->path);
	int fd = path ? join_file(source) : -ENOMEM, code;

	*made = NULL;
	if (fd == -ENOENT)
		fd = wait_or_make(source);
	code = fd < 0 ? fd : 0;
	if (fd >= 0) {
		*made = base_of_file(fd, source->generation.heap_bytes, NULL);
		code = *made ? 0 : -ENOMEM;
		if (code)
			close(fd);
	} else if (code == -ENOENT) {
		code = make_file(source, made, error);
	}
	end_making(source);
	if (!code) {
		(*made)->path = path;
		return 0;
	}
	base_drop(*made);
	*made = NULL;
	free(path);
	error_set(alone, code, "%s: no file that other processes share: %s", source->path,
		  code == -ETIMEDOUT ? "the process that makes it stands still"
				     : thaw_strerror(code));
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
	struct source source = {.maker_fd = -1};
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
