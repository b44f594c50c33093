/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * filled.h - for tests of files of which parts are missing (thaw_fill.h): a file that is garbage but for its header, and the bytes
 * that belong there, which come block by block when they are needed. So what is read without having been asked for is wrong.
 */
#ifndef TESTS_FILLED_H
#define TESTS_FILLED_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"
#include "thaw_fill.h"

#define FILLED_BLOCK 4096u
#define FILLED_GARBAGE 0xdb

struct filled {
	struct thaw_fill *fill;
	int fd;
	uint8_t *bytes; /* what belongs there */
	uint64_t blocks;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool *there;
	uint64_t brought, written; /* blocks */
	unsigned waiting,
		most; /* calls of need() under way that bring something: now, and the most there were */
	bool shut; /* what is to be brought waits: for filled_open() */
	unsigned delay_us;
	uint64_t fails_from; /* blocks from there on do not come */
	int code;
};

/* With the lock. */
static int filled_bring(struct filled *filled, uint64_t block)
{
	if (block >= filled->fails_from)
		return filled->code;
	if (pwrite(filled->fd, filled->bytes + block * FILLED_BLOCK, FILLED_BLOCK,
		   (off_t)(block * FILLED_BLOCK)) != FILLED_BLOCK)
		return -EIO;
	filled->there[block] = true;
	filled->brought++;
	return 0;
}

static bool filled_lacks(struct filled *filled, uint64_t offset, uint64_t bytes)
{
	for (uint64_t block = offset / FILLED_BLOCK;
	     block * FILLED_BLOCK < offset + bytes && block < filled->blocks; block++)
		if (!filled->there[block])
			return true;
	return false;
}

static int filled_need(void *arg, uint64_t offset, uint64_t bytes)
{
	struct filled *filled = arg;
	int code = 0;

	pthread_mutex_lock(&filled->lock);
	if (!filled_lacks(filled, offset, bytes)) {
		pthread_mutex_unlock(&filled->lock);
		return 0;
	}
	if (++filled->waiting > filled->most)
		filled->most = filled->waiting;
	pthread_cond_broadcast(&filled->changed);
	while (filled->shut)
		pthread_cond_wait(&filled->changed, &filled->lock);
	if (filled->delay_us) {
		pthread_mutex_unlock(&filled->lock);
		usleep(filled->delay_us);
		pthread_mutex_lock(&filled->lock);
	}
	for (uint64_t block = offset / FILLED_BLOCK;
	     !code && block * FILLED_BLOCK < offset + bytes && block < filled->blocks; block++)
		if (!filled->there[block])
			code = filled_bring(filled, block);
	filled->waiting--;
	pthread_mutex_unlock(&filled->lock);
	return code;
}

static bool filled_has(void *arg, uint64_t offset, uint64_t bytes)
{
	struct filled *filled = arg;
	bool has;

	pthread_mutex_lock(&filled->lock);
	has = !filled_lacks(filled, offset, bytes);
	pthread_mutex_unlock(&filled->lock);
	return has;
}

static int filled_writes(void *arg, uint64_t offset, uint64_t bytes)
{
	struct filled *filled = arg;

	pthread_mutex_lock(&filled->lock);
	for (uint64_t block = offset / FILLED_BLOCK;
	     block * FILLED_BLOCK < offset + bytes && block < filled->blocks; block++) {
		filled->written += !filled->there[block];
		filled->there[block] = true;
	}
	pthread_mutex_unlock(&filled->lock);
	return 0;
}

SUPPORT void filled_open(struct filled *filled)
{
	pthread_mutex_lock(&filled->lock);
	filled->shut = false;
	pthread_cond_broadcast(&filled->changed);
	pthread_mutex_unlock(&filled->lock);
}

/* Until so many calls have been under way at once. */
SUPPORT void filled_await(struct filled *filled, unsigned waiting)
{
	pthread_mutex_lock(&filled->lock);
	while (filled->most < waiting)
		pthread_cond_wait(&filled->changed, &filled->lock);
	pthread_mutex_unlock(&filled->lock);
}

static const struct thaw_fill_ops filled_ops = {filled_need, filled_has, filled_writes};
static const struct thaw_fill_ops filled_ops_blind = {filled_need, NULL, filled_writes};

/* The file `from` becomes one of which all but the header is missing. */
SUPPORT void filled_make(struct filled *filled, const char *path, bool blind)
{
	struct thaw_error error;
	struct stat stat_;
	uint8_t *garbage;

	*filled = (struct filled){.fails_from = UINT64_MAX};
	pthread_mutex_init(&filled->lock, NULL);
	pthread_cond_init(&filled->changed, NULL);
	filled->fd = open(path, O_RDWR | O_CLOEXEC);
	if (filled->fd < 0 || fstat(filled->fd, &stat_))
		support_die("a file to be filled");
	filled->blocks = ((uint64_t)stat_.st_size + FILLED_BLOCK - 1) / FILLED_BLOCK;
	filled->bytes = calloc(filled->blocks, FILLED_BLOCK);
	filled->there = calloc(filled->blocks, sizeof(*filled->there));
	garbage = malloc(filled->blocks * FILLED_BLOCK);
	memset(garbage, FILLED_GARBAGE, filled->blocks * FILLED_BLOCK);
	if (pread(filled->fd, filled->bytes, (size_t)stat_.st_size, 0) != stat_.st_size ||
	    pwrite(filled->fd, garbage, (size_t)stat_.st_size - 2 * FILLED_BLOCK,
		   2 * FILLED_BLOCK) != stat_.st_size - 2 * (off_t)FILLED_BLOCK)
		support_die("a file to be filled");
	free(garbage);
	filled->there[0] = filled->there[1] = true;
	if (thaw_fill_attach(path, blind ? &filled_ops_blind : &filled_ops, filled, &filled->fill,
			     &error)) {
		fprintf(stderr, "# %s\n", error.text);
		support_die("attach");
	}
}

/* What is missing still comes now, and the file is one as any. */
SUPPORT void filled_complete(struct filled *filled)
{
	filled_need(filled, 0, filled->blocks * FILLED_BLOCK);
	thaw_fill_detach(filled->fill);
	filled->fill = NULL;
}

SUPPORT void filled_end(struct filled *filled)
{
	if (!filled->bytes)
		return;
	thaw_fill_detach(filled->fill);
	close(filled->fd);
	free(filled->bytes);
	free(filled->there);
	pthread_mutex_destroy(&filled->lock);
	pthread_cond_destroy(&filled->changed);
	*filled = (struct filled){0};
}

#endif
