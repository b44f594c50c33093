// SPDX-License-Identifier: MIT
/*
 * mirror.c - what commits tell a mirror: which blocks they wrote and freed, and when something is durable.
 *
 *	committing thread:  write, note; write, note; [ header slot, sync, adopt ]  write, note ...
 *	take (any thread):              ^ here          the window: not here       ^ or here
 *
 * A block is noted *after* it was written. A take in between does not have it, and does not need it: what is written outside
 * of the window nothing durable refers to yet (commit.c, invariant 1). Noted before, it might be taken as it was, and be clean
 * when it is written. The header is written in place, in the window. A take that comes meanwhile is made by the committing thread at its
 * end, so that neither waits for the other to get the processor. An entry of the log is behind all that a take has of that.
 *
 * What is written again as it is (header_write_again(), log_settle()) needs no note, nor do blocks that are punched out or cut off:
 * they are free, and were told to be.
 */
#define _GNU_SOURCE
#include "mirror.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sys.h"

/* ---- told by the thread that commits */

/* With the lock. The part of it that has a place: count. */
static uint64_t clipped(struct thaw_mirror *mirror, uint64_t first, uint64_t count)
{
	if (first < MIRROR_BLOCKS_MOST && count <= MIRROR_BLOCKS_MOST - first)
		return count;
	mirror->beyond = true;
	return first < MIRROR_BLOCKS_MOST ? MIRROR_BLOCKS_MOST - first : 0;
}

void mirror_wrote(struct thaw_mirror *mirror, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset / SPACE_BLOCK;
	uint64_t count = (offset + bytes + SPACE_BLOCK - 1) / SPACE_BLOCK - first;

	if (!mirror || !bytes)
		return;
	pthread_mutex_lock(&mirror->lock);
	count = clipped(mirror, first, count);
	bitmap_set_range(&mirror->dirty, first, count);
	bitmap_clear_range(&mirror->freed, first, count);
	if (!mirror->taken)
		bitmap_set_range(&mirror->written, first, count);
	pthread_mutex_unlock(&mirror->lock);
}

void mirror_freed(struct thaw_mirror *mirror, uint64_t first, uint64_t count)
{
	if (!mirror)
		return;
	pthread_mutex_lock(&mirror->lock);
	count = clipped(mirror, first, count);
	bitmap_clear_range(&mirror->dirty, first, count);
	bitmap_set_range(&mirror->freed, first, count);
	pthread_mutex_unlock(&mirror->lock);
}

void mirror_cuts(struct thaw_mirror *mirror, uint64_t file_bytes)
{
	if (!mirror)
		return;
	pthread_mutex_lock(&mirror->lock);
	if (file_bytes < mirror->file_least)
		mirror->file_least = file_bytes;
	pthread_mutex_unlock(&mirror->lock);
}

void mirror_window_open(struct thaw_mirror *mirror, int slot)
{
	if (!mirror)
		return;
	pthread_mutex_lock(&mirror->lock);
	mirror->window = true;
	if (slot >= 0 && !mirror->before_known[slot]) {
		mirror->before_known[slot] = !sys_pread(mirror->fd, mirror->before[slot],
							SPACE_BLOCK, (uint64_t)slot * SPACE_BLOCK);
		mirror->blind = !mirror->before_known[slot];
	}
	pthread_mutex_unlock(&mirror->lock);
}

/* With the lock: what is durable, by what the image knows. */
static void note_image(struct thaw_mirror *mirror)
{
	const struct image *image = mirror->image;
	const struct record *record = &image->record;
	const XXH128_hash_t none = {0}, seed = image->log.chain.seed;
	uint64_t newest = record->count ? record->generations[record->count - 1].info.number : 0;
	uint64_t base = image->base.info.number;

	mirror->news.generation = base > newest ? base : newest;
	mirror->news.commit = image->identity.sequence;
	mirror->slot = image->slot;
	mirror->log = record->log;
	/* Of a log that this process neither wrote nor read, all there is. */
	mirror->log_used = checksum_same(seed, none) ? record->log.bytes : image->log.used;
}

static void tell(struct thaw_mirror *mirror)
{
	uint64_t one = 1;

	mirror->news.changes++;
	if (mirror->event >= 0)
		while (write(mirror->event, &one, sizeof(one)) < 0 && errno == EINTR)
			;
}

void mirror_window_close(struct thaw_mirror *mirror, enum mirror_outcome outcome)
{
	if (!mirror)
		return;
	pthread_mutex_lock(&mirror->lock);
	mirror->window = false;
	if (outcome == MIRROR_NEWS || outcome == MIRROR_FOLDED) {
		uint64_t commit = mirror->news.commit;

		note_image(mirror);
		if (mirror->news.commit !=
		    commit) { /* a record: both slots are sound, and the log begins anew */
			mirror->before_known[0] = mirror->before_known[1] = mirror->blind = false;
			mirror->log_cycle++;
		}
	}
	if (outcome == MIRROR_NEWS)
		tell(mirror);
	if (mirror->asked)
		mirror->asked->code = take_make(mirror, mirror->asked);
	mirror->asked = NULL;
	pthread_cond_broadcast(&mirror->changed);
	pthread_mutex_unlock(&mirror->lock);
}

void mirror_logged(struct thaw_mirror *mirror)
{
	if (!mirror)
		return;
	pthread_mutex_lock(&mirror->lock);
	note_image(mirror);
	tell(mirror);
	pthread_cond_broadcast(&mirror->changed);
	pthread_mutex_unlock(&mirror->lock);
}

bool mirror_holds(struct thaw_mirror *mirror)
{
	bool holds;

	if (!mirror)
		return false;
	pthread_mutex_lock(&mirror->lock);
	holds = mirror->take && !mirror->take->stale;
	pthread_mutex_unlock(&mirror->lock);
	return holds;
}

void mirror_overrun(struct thaw_mirror *mirror)
{
	if (!mirror)
		return;
	pthread_mutex_lock(&mirror->lock);
	if (mirror->take)
		mirror->take->stale = true;
	pthread_mutex_unlock(&mirror->lock);
}

uint64_t mirror_hold_most(const struct thaw_mirror *mirror, uint64_t usual)
{
	return mirror && mirror->hold_bytes > usual ? mirror->hold_bytes : usual;
}

/* ---- its owner's */

static int error_memory(const struct image *image, struct thaw_error *error)
{
	return error_set(error, -ENOMEM, "%s: no memory for a mirror", image_path(image));
}

/* All that is no hole. */
static void mark_all(struct thaw_mirror *mirror)
{
	uint64_t bytes = image_file_bytes(mirror->image), blocks;

	mirror->file_least = bytes;
	for (uint64_t at = 0, end; at < bytes; at = end) {
		off_t data = lseek(mirror->fd, (off_t)at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		hole = data < 0 ? -1 : lseek(mirror->fd, data, SEEK_HOLE);
		at = data < 0 ? at : (uint64_t)data;
		end = hole < 0 ? bytes : (uint64_t)hole;
		blocks = (end + SPACE_BLOCK - 1) / SPACE_BLOCK - at / SPACE_BLOCK;
		bitmap_set_range(&mirror->dirty, at / SPACE_BLOCK,
				 clipped(mirror, at / SPACE_BLOCK, blocks));
	}
}

static void mirror_free(struct thaw_mirror *mirror)
{
	bitmap_free(&mirror->dirty);
	bitmap_free(&mirror->freed);
	bitmap_free(&mirror->written);
	if (mirror->event >= 0)
		close(mirror->event);
	pthread_cond_destroy(&mirror->changed);
	pthread_mutex_destroy(&mirror->lock);
	free(mirror);
}

int mirror_open(struct image *image, uint64_t hold_bytes, struct thaw_mirror **out,
		struct thaw_error *error)
{
	struct thaw_mirror *mirror;
	int code;

	*out = NULL;
	if (image->space.mirror)
		return error_set(error, -EBUSY, "%s: it has a mirror already", image_path(image));
	if (!image->slots_known[0] || !image->slots_known[1] || image->doubt.count)
		return error_set(
			error, -EAGAIN,
			"%s: the last commit has failed and is in doubt: not before another one",
			image_path(image));
	code = image_settle(image, error);
	if (code)
		return code;
	mirror = calloc(1, sizeof(*mirror));
	if (!mirror)
		return error_memory(image, error);
	mirror->image = image;
	mirror->fd = image->fd;
	mirror->hold_bytes = hold_bytes;
	mirror->event = -1;
	pthread_mutex_init(&mirror->lock, NULL);
	pthread_cond_init(&mirror->changed, NULL);
	if (bitmap_init(&mirror->dirty, MIRROR_BLOCKS_MOST) ||
	    bitmap_init(&mirror->freed, MIRROR_BLOCKS_MOST) ||
	    bitmap_init(&mirror->written, MIRROR_BLOCKS_MOST)) {
		mirror_free(mirror);
		return error_memory(image, error);
	}
	mark_all(mirror);
	note_image(mirror);
	image->space.mirror = mirror;
	if (image->space_known)
		space_tell_free(&image->space, 0, UINT64_MAX);
	*out = mirror;
	return 0;
}

int thaw_mirror_open_file(const char *path, struct thaw_mirror **mirror, struct thaw_error *error)
{
	struct thaw_error unused;
	struct image *image;
	int code;

	*mirror = NULL;
	error = error ? error : &unused;
	code = image_open_tool(path, 0, &image, error);
	if (code)
		return code;
	code = mirror_open(image, 0, mirror, error);
	if (code)
		image_close(image);
	else
		(*mirror)->owns_image = true;
	return code;
}

void mirror_close(struct thaw_mirror *mirror)
{
	mirror->image->space.mirror = NULL;
	if (mirror->owns_image)
		image_close(mirror->image);
	mirror_free(mirror);
}

/* ---- any thread's */

void thaw_mirror_news(struct thaw_mirror *mirror, struct thaw_mirror_news *news)
{
	pthread_mutex_lock(&mirror->lock);
	*news = mirror->news;
	pthread_mutex_unlock(&mirror->lock);
}

int thaw_mirror_wait(struct thaw_mirror *mirror, uint64_t changes, int timeout_ms,
		     struct thaw_mirror_news *news)
{
	uint64_t at = sys_monotonic_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u;
	const struct timespec until = {.tv_sec = (time_t)(at / 1000000000u),
				       .tv_nsec = (long)(at % 1000000000u)};
	int code = 0;

	pthread_mutex_lock(&mirror->lock);
	while (!code && !mirror->woken && mirror->news.changes <= changes)
		code = timeout_ms < 0
			       ? pthread_cond_wait(&mirror->changed, &mirror->lock)
			       : pthread_cond_clockwait(&mirror->changed, &mirror->lock,
							CLOCK_MONOTONIC, &until);
	code = mirror->woken ? -EINTR : mirror->news.changes > changes;
	mirror->woken = false;
	if (news)
		*news = mirror->news;
	pthread_mutex_unlock(&mirror->lock);
	return code;
}

void thaw_mirror_wake(struct thaw_mirror *mirror)
{
	pthread_mutex_lock(&mirror->lock);
	mirror->woken = true;
	pthread_cond_broadcast(&mirror->changed);
	pthread_mutex_unlock(&mirror->lock);
}

int thaw_mirror_fd(struct thaw_mirror *mirror)
{
	int fd;

	pthread_mutex_lock(&mirror->lock);
	if (mirror->event < 0)
		mirror->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fd = mirror->event < 0 ? -errno : mirror->event;
	pthread_mutex_unlock(&mirror->lock);
	return fd;
}

int thaw_mirror_clean(struct thaw_mirror *mirror, uint64_t first, uint64_t count)
{
	uint64_t end = count < UINT64_MAX - first ? first + count : UINT64_MAX;
	int code;

	pthread_mutex_lock(&mirror->lock);
	code = mirror->taken ? -EBUSY : 0;
	for (; !code && (first = bitmap_next(&mirror->dirty, first)) < end; first++)
		if (!bitmap_test(&mirror->written, first))
			bitmap_clear(&mirror->dirty, first);
	pthread_mutex_unlock(&mirror->lock);
	return code;
}

int thaw_mirror_dirty(struct thaw_mirror *mirror, uint64_t first, uint64_t count)
{
	uint64_t end;

	pthread_mutex_lock(&mirror->lock);
	end = (mirror->file_least + SPACE_BLOCK - 1) / SPACE_BLOCK;
	end = first < end && count < end - first ? first + count : end;
	for (; first < end; first++)
		if (!bitmap_test(&mirror->freed, first))
			bitmap_set(&mirror->dirty, first);
	pthread_mutex_unlock(&mirror->lock);
	return 0;
}
