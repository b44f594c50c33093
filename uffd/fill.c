// SPDX-License-Identifier: MIT
/*
 * fill.c - files of which parts are missing, by device and inode (thaw_fill.h): so a file is known whatever descriptor it is read
 * by, and however that was come by. Any thread.
 *
 * Each call of the owner's is counted, and made without the lock: it may take long. Who detaches waits for the last one. A
 * child of fork(2) has the list and not the threads that bring anything: its reads fail, and wait for nobody.
 */
#define _GNU_SOURCE
#include "fill.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "thaw_fill.h"

#define PIECE (8u << 20) /* asked for at once, of all */

struct thaw_fill {
	struct thaw_fill *next;
	const struct thaw_fill_ops *ops;
	void *arg;
	dev_t device;
	ino_t inode;
	pid_t owner;
	unsigned calls; /* under way */
	bool leaves;
};

_Atomic unsigned fill_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the list, and what changes in it */
static pthread_cond_t left = PTHREAD_COND_INITIALIZER;
static struct thaw_fill *fills;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

/* The lock is nobody's in a child. */
static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

static struct thaw_fill *find(const struct stat *stat)
{
	struct thaw_fill *fill = fills;

	while (fill && (fill->inode != stat->st_ino || fill->device != stat->st_dev))
		fill = fill->next;
	return fill;
}

/* The file's, and a call of it has begun; NULL: it has none. */
static struct thaw_fill *enter(int fd)
{
	struct thaw_fill *fill;
	struct stat stat;

	if (fstat(fd, &stat) || !S_ISREG(stat.st_mode))
		return NULL;
	pthread_mutex_lock(&lock);
	fill = find(&stat);
	if (fill)
		fill->calls++;
	pthread_mutex_unlock(&lock);
	return fill;
}

static void leave(struct thaw_fill *fill)
{
	pthread_mutex_lock(&lock);
	if (!--fill->calls && fill->leaves)
		pthread_cond_broadcast(&left);
	pthread_mutex_unlock(&lock);
}

/* Whose file it is: not this process's, if that was forked off. */
static bool is_child(const struct thaw_fill *fill)
{
	return fill->owner != getpid();
}

/* What the callers would take for something else: another try, or the end of the file. */
static int code_told(int code)
{
	return code == -EAGAIN || code == -EINTR || code == -ENODATA || code == -EINVAL ? -EIO
											: code;
}

static int ask(int fd, uint64_t offset, uint64_t bytes, bool writes)
{
	struct thaw_fill *fill = bytes ? enter(fd) : NULL;
	int code = -EIO;

	if (!fill)
		return 0;
	if (!is_child(fill))
		code = (writes ? fill->ops->writes : fill->ops->need)(fill->arg, offset, bytes);
	leave(fill);
	return code_told(code);
}

int fill_ask_need(int fd, uint64_t offset, uint64_t bytes)
{
	return ask(fd, offset, bytes, false);
}

int fill_ask_writes(int fd, uint64_t offset, uint64_t bytes)
{
	return ask(fd, offset, bytes, true);
}

bool fill_ask_has(int fd, uint64_t offset, uint64_t bytes)
{
	struct thaw_fill *fill = enter(fd);
	bool has;

	if (!fill)
		return true;
	has = !is_child(fill) && fill->ops->has && fill->ops->has(fill->arg, offset, bytes);
	leave(fill);
	return has;
}

int fill_need_all(int fd)
{
	struct stat stat;
	uint64_t end;
	int code = 0;

	if (!fill_any() || fstat(fd, &stat))
		return 0;
	end = (uint64_t)stat.st_size;
	for (uint64_t at = 0; !code && at < end; at += PIECE)
		code = fill_ask_need(fd, at, end - at < PIECE ? end - at : PIECE);
	return code;
}

static bool is_known(const struct stat *stat)
{
	bool known;

	pthread_mutex_lock(&lock);
	known = find(stat);
	pthread_mutex_unlock(&lock);
	return known;
}

bool fill_is_at(const char *path)
{
	struct stat found;

	return fill_any() && path && !stat(path, &found) && is_known(&found);
}

bool fill_is_of(int fd)
{
	struct stat found;

	return fill_any() && !fstat(fd, &found) && is_known(&found);
}

int thaw_fill_attach(const char *path, const struct thaw_fill_ops *ops, void *arg,
		     struct thaw_fill **out, struct thaw_error *error)
{
	struct thaw_fill *fill = calloc(1, sizeof(*fill));
	struct thaw_error unused;
	struct stat found;
	int code = fill ? 0 : -ENOMEM;

	*out = NULL;
	error = error ? error : &unused;
	if (!code && stat(path, &found))
		code = -errno;
	if (!code) {
		*fill = (struct thaw_fill){.ops = ops,
					   .arg = arg,
					   .device = found.st_dev,
					   .inode = found.st_ino,
					   .owner = getpid()};
		pthread_once(&fork_once, watch_forks);
		pthread_mutex_lock(&lock);
		code = find(&found) ? -EEXIST : 0;
		if (!code) {
			fill->next = fills;
			fills = fill;
			atomic_fetch_add(&fill_count, 1);
		}
		pthread_mutex_unlock(&lock);
	}
	if (code) {
		free(fill);
		return error_set(error, code, "%s: what is missing of it cannot be brought: %s",
				 path, thaw_strerror(code));
	}
	*out = fill;
	return 0;
}

void thaw_fill_detach(struct thaw_fill *fill)
{
	struct thaw_fill **at = &fills;

	if (!fill)
		return;
	pthread_mutex_lock(&lock);
	while (*at != fill)
		at = &(*at)->next;
	*at = fill->next;
	atomic_fetch_sub(&fill_count, 1);
	fill->leaves = true;
	while (fill->calls && !is_child(fill)) /* whose calls are under way in another process */
		pthread_cond_wait(&left, &lock);
	pthread_mutex_unlock(&lock);
	free(fill);
}
