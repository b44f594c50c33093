/* SPDX-License-Identifier: MIT */
/*
 * frozen_base.c - what frozen heaps are mapped from: a sealed memfd, or a file that processes share; and which base differs
 * from which older one in what.
 *
 * Any thread. A base is written by its maker only, and never after base_seal(). What is known of older bases needs none
 * of their memory: a bit for each page, and at most DEPTH_MOST of these in a line.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frozen.h"
#include "sys.h"

#define DEPTH_MOST 16u

static struct lineage *lineage_new(void)
{
	struct lineage *lineage = calloc(1, sizeof(*lineage));

	if (lineage)
		lineage->count = 1;
	return lineage;
}

static void lineage_drop(struct lineage *lineage)
{
	while (lineage && atomic_fetch_sub(&lineage->count, 1) == 1) {
		struct lineage *under = lineage->under;

		if (lineage->differs.words)
			bitmap_free(&lineage->differs);
		free(lineage);
		lineage = under;
	}
}

/* Writing more than `ulimit -f` would raise SIGXFSZ. */
static int size_allowed(uint64_t bytes, struct thaw_error *error)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur >= bytes)
		return 0;
	return error_set(error, -EFBIG,
			 "cannot freeze a heap of %llu MiB: ulimit -f allows %llu MiB, raise that",
			 (unsigned long long)bytes >> 20, (unsigned long long)limit.rlim_cur >> 20);
}

static int sealable_memfd(void)
{
	int fd = memfd_create("thaw-frozen", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create("thaw-frozen", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

struct base *base_of_file(int fd, uint64_t bytes, char *path)
{
	struct base *base = calloc(1, sizeof(*base));
	struct lineage *lineage = lineage_new();

	if (!base || !lineage) {
		free(base);
		lineage_drop(lineage);
		return NULL;
	}
	base->count = 1;
	base->fd = fd;
	base->bytes = bytes;
	base->path = path;
	base->lineage = lineage;
	pthread_mutex_init(&base->lock, NULL);
	return base;
}

int base_new(uint64_t bytes, struct base **base, struct thaw_error *error)
{
	int code = size_allowed(bytes, error), fd;

	*base = NULL;
	if (code)
		return code;
	fd = sys_injected(SYS_CALL_OPEN);
	if (!fd)
		fd = sealable_memfd();
	if (fd < 0)
		return error_set(error, fd, "cannot create a memfd for a frozen heap: %s%s",
				 thaw_strerror(fd), fd == -EMFILE ? " (see ulimit -n)" : "");
	code = sys_truncate(fd, bytes);
	if (!code) {
		*base = base_of_file(fd, bytes, NULL);
		code = *base ? 0 : -ENOMEM;
	}
	if (code) {
		close(fd);
		return error_set(error, code, "cannot make a frozen heap of %llu MiB: %s",
				 (unsigned long long)bytes >> 20, thaw_strerror(code));
	}
	return 0;
}

struct base *base_hold(struct base *base)
{
	if (base)
		atomic_fetch_add(&base->count, 1);
	return base;
}

/* Whoever is alone with the file removes it; who opens it then finds that it has no name (frozen_image.c). */
static void remove_file(struct base *base)
{
	if (!flock(base->fd, LOCK_EX | LOCK_NB)) {
		struct stat mine, named;

		if (!fstat(base->fd, &mine) && !lstat(base->path, &named) &&
		    mine.st_ino == named.st_ino && mine.st_dev == named.st_dev)
			unlink(base->path);
	}
	free(base->path);
}

void base_drop(struct base *base)
{
	if (!base || atomic_fetch_sub(&base->count, 1) != 1)
		return;
	if (base->path)
		remove_file(base);
	close(base->fd);
	lineage_drop(base->lineage);
	pthread_mutex_destroy(&base->lock);
	free(base);
}

int base_write(struct base *base, const void *bytes, size_t count, uint64_t offset,
	       struct thaw_error *error)
{
	int code = sys_pwrite(base->fd, bytes, count, offset);

	return code ? error_set(error, code, "no memory for a frozen heap of %llu MiB: %s",
				(unsigned long long)base->bytes >> 20, thaw_strerror(code))
		    : 0;
}

void base_seal(struct base *base)
{
	/* It fails on kernels whose memfds have no seals: then only this library's care protects it. */
	if (!base->path)
		(void)fcntl(base->fd, F_ADD_SEALS,
			    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
}

static unsigned depth_of(const struct lineage *lineage)
{
	unsigned depth = 0;

	for (; lineage->under; lineage = lineage->under)
		depth++;
	return depth;
}

void base_descends(struct base *base, struct base *under, struct bitmap *differs)
{
	struct lineage *older = under->lineage;

	base->lineage->differs = *differs;
	/* Too far back: it descends from what that one does, and differs in what either did. */
	while (depth_of(older) >= DEPTH_MOST) {
		if (older->differs.bits > base->lineage->differs.bits)
			return; /* no relation: then all is compared */
		bitmap_merge(&base->lineage->differs, &older->differs);
		older = older->under;
	}
	atomic_fetch_add(&older->count, 1);
	base->lineage->under = older;
}

static bool is_in_line(const struct lineage *older, const struct lineage *line)
{
	while (line && line != older)
		line = line->under;
	return line;
}

static bool add_up_to(const struct lineage *line, const struct lineage *older, struct bitmap *pages)
{
	for (; line != older; line = line->under) {
		if (line->differs.limit > pages->bits)
			return false;
		bitmap_merge(pages, &line->differs);
	}
	return true;
}

bool base_differences(const struct base *a, const struct base *b, struct bitmap *pages)
{
	const struct lineage *common;

	if (!a || !b)
		return a == b;
	common = a->lineage;
	while (common && !is_in_line(common, b->lineage))
		common = common->under;
	return common && add_up_to(a->lineage, common, pages) &&
	       add_up_to(b->lineage, common, pages);
}
