// SPDX-License-Identifier: MIT
/*
 * mirror_take.c - one take of a mirror (thaw_mirror.h): made at an instant when nothing is written in place, read while commits go on.
 *
 * The header and what is new in the log are copied at that instant, since they are overwritten in place. All other blocks that
 * one of the two header slots reaches are read from the file, where they stay: what commits drop from then on is held back
 * (garbage_release(), commit.c), as for pins, or the take is stale. So the copy that is made of takes is at each of them what the
 * file was: each block is in it as it was at the instant, or nothing refers to it.
 *
 * Blocks of the log behind its last durable entry are in no take: they mean nothing, and an entry that is written into them later must not
 * get into a copy that knows nothing else of it. They stay dirty.
 */
#include "mirror.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sys.h"

/* ---- made: with the mirror's lock */

static int headers_copy(struct thaw_mirror *mirror, struct thaw_take *take)
{
	struct slot slot;

	if (mirror->blind)
		return -EIO;
	for (unsigned i = 0; i < 2; i++) {
		int code = 0;

		if (mirror->before_known[i])
			memcpy(take->header[i], mirror->before[i], SPACE_BLOCK);
		else
			code = sys_pread(mirror->fd, take->header[i], SPACE_BLOCK,
					 (uint64_t)i * SPACE_BLOCK);
		if (code)
			return code == -ENODATA ? THAW_EOVERWRITTEN : code;
	}
	header_parse(take->header[mirror->slot], mirror->slot, &slot);
	if (slot.state != SLOT_VALID || slot.sequence != mirror->news.commit)
		return THAW_EOVERWRITTEN;
	memcpy(take->info.uuid, slot.uuid, sizeof(take->info.uuid));
	memcpy(take->info.engine, slot.engine, sizeof(take->info.engine));
	take->info.page_bytes = slot.page_bytes;
	return 0;
}

/* Of the log's blocks those that were written: their contents. */
static int log_copy(struct thaw_mirror *mirror, struct thaw_take *take)
{
	uint64_t first = take->log.offset / SPACE_BLOCK, count = take->log_used / SPACE_BLOCK;
	uint64_t end = first + take->log.bytes / SPACE_BLOCK, copied = 0;

	for (uint64_t block = first + count; block < end; block++)
		if (bitmap_test(&take->dirty, block)) {
			bitmap_clear(&take->dirty, block);
			bitmap_set(&mirror->dirty, block);
		}
	for (uint64_t block = first; block < first + count; block++)
		copied += bitmap_test(&take->dirty, block);
	if (!copied)
		return 0;
	take->log_places = calloc(count, sizeof(*take->log_places));
	take->log_copies = malloc(copied * SPACE_BLOCK);
	if (!take->log_places || !take->log_copies)
		return -ENOMEM;
	copied = 0;
	for (uint64_t block = first; block < first + count; block++) {
		int code;

		if (!bitmap_test(&take->dirty, block))
			continue;
		code = sys_pread(mirror->fd, take->log_copies + copied * SPACE_BLOCK, SPACE_BLOCK,
				 block * SPACE_BLOCK);
		if (code)
			return code;
		take->log_places[block - first] = (uint32_t)++copied;
	}
	return 0;
}

/* What it had is in the next one, but for what has been written or has become free since. */
static void give_back(struct thaw_mirror *mirror, struct thaw_take *take)
{
	for (uint64_t block = 0; (block = bitmap_next(&take->dirty, block)) != UINT64_MAX; block++)
		if (!bitmap_test(&mirror->freed, block))
			bitmap_set(&mirror->dirty, block);
	for (uint64_t block = 0; (block = bitmap_next(&take->freed, block)) != UINT64_MAX; block++)
		if (!bitmap_test(&mirror->dirty, block))
			bitmap_set(&mirror->freed, block);
}

static void swap(struct bitmap *a, struct bitmap *b)
{
	struct bitmap other = *a;

	*a = *b;
	*b = other;
}

int take_make(struct thaw_mirror *mirror, struct thaw_take *take)
{
	struct stat stat;
	int code;

	if (mirror->beyond)
		return -EFBIG;
	if (fstat(mirror->fd, &stat))
		return -errno;
	code = headers_copy(mirror, take);
	if (code)
		return code;
	take->info.news = mirror->news;
	take->info.file_bytes = mirror->file_least = (uint64_t)stat.st_size;
	take->slot = mirror->slot;
	take->log = mirror->log;
	take->log_used = mirror->log_used;
	take->log_cycle = mirror->log_cycle;
	swap(&take->dirty, &mirror->dirty);
	swap(&take->freed, &mirror->freed);
	code = log_copy(mirror, take);
	if (code) {
		give_back(mirror, take);
		return code;
	}
	mirror->taken = true;
	mirror->take = take;
	return 0;
}

/* ---- made: what is told of it */

int run_list_add(struct run_list *list, uint64_t first, uint64_t count)
{
	struct thaw_mirror_run *last = list->count ? &list->items[list->count - 1] : NULL;

	if (last && last->first + last->count == first) {
		last->count += count;
		return 0;
	}
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		struct thaw_mirror_run *more = realloc(list->items, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		list->items = more;
		list->room = room;
	}
	list->items[list->count++] = (struct thaw_mirror_run){first, count};
	return 0;
}

static int runs_list(const struct bitmap *blocks, const struct thaw_mirror_run **runs,
		     size_t *count, uint64_t *total)
{
	struct run_list list = {0};
	int code = 0;

	for (uint64_t block = 0, run; !code && (block = bitmap_next(blocks, block)) != UINT64_MAX;
	     block += run) {
		run = bitmap_run(blocks, block);
		code = run_list_add(&list, block, run);
		*total += run;
	}
	*runs = list.items;
	*count = list.count;
	return code;
}

static int take_tell(struct thaw_take *take)
{
	struct thaw_take_info *info = &take->info;
	int code;

	bitmap_set_range(&take->dirty, 0, STORE_HEADER_BYTES / SPACE_BLOCK);
	code = runs_list(&take->dirty, &info->dirty, &info->dirty_count, &info->dirty_blocks);
	if (!code)
		code = runs_list(&take->freed, &info->freed, &info->freed_count,
				 &info->freed_blocks);
	return code;
}

static void take_free(struct thaw_take *take)
{
	free((void *)take->info.dirty);
	free((void *)take->info.freed);
	bitmap_free(&take->dirty);
	bitmap_free(&take->freed);
	free(take->log_places);
	free(take->log_copies);
	free(take);
}

static int take_error(const struct thaw_mirror *mirror, int code, struct thaw_error *error)
{
	const char *path = image_path(mirror->image);

	if (code == -EBUSY)
		return error_set(error, code, "%s: there is a take already", path);
	if (code == THAW_EOVERWRITTEN)
		return error_set(
			error, code,
			"%s: somebody has overwritten the file's header, so nothing of it is copied",
			path);
	return error_set(error, code, "%s: cannot take what is new in it: %s", path,
			 thaw_strerror(code));
}

/* At once, or at the end of the window. */
static int take_wait(struct thaw_mirror *mirror, struct thaw_take *take)
{
	int code;

	pthread_mutex_lock(&mirror->lock);
	if (mirror->take || mirror->asked) {
		code = -EBUSY;
	} else if (!mirror->window) {
		code = take_make(mirror, take);
	} else {
		mirror->asked = take;
		while (mirror->asked)
			pthread_cond_wait(&mirror->changed, &mirror->lock);
		code = take->code;
	}
	pthread_mutex_unlock(&mirror->lock);
	return code;
}

int thaw_mirror_take(struct thaw_mirror *mirror, struct thaw_take **out, struct thaw_error *error)
{
	struct thaw_take *take = calloc(1, sizeof(*take));
	struct thaw_error unused;
	int code = take ? 0 : -ENOMEM;

	*out = NULL;
	error = error ? error : &unused;
	if (!code)
		code = bitmap_init(&take->dirty, MIRROR_BLOCKS_MOST);
	if (!code)
		code = bitmap_init(&take->freed, MIRROR_BLOCKS_MOST);
	if (!code) {
		take->mirror = mirror;
		code = take_wait(mirror, take);
	}
	if (!code) {
		code = take_tell(take);
		if (!code) {
			*out = take;
			return 0;
		}
		thaw_mirror_done(take, false);
		take = NULL;
	}
	if (take)
		take_free(take);
	return take_error(mirror, code, error);
}

const struct thaw_take_info *thaw_mirror_info(const struct thaw_take *take)
{
	return &take->info;
}

/* ---- read */

static bool is_stale(struct thaw_take *take, bool log)
{
	struct thaw_mirror *mirror = take->mirror;
	bool stale;

	pthread_mutex_lock(&mirror->lock);
	/* What was not copied of the log is in the file for as long as that goes on behind it. */
	stale = take->stale || (log && mirror->log_cycle != take->log_cycle);
	pthread_mutex_unlock(&mirror->lock);
	return stale;
}

/* From the file; what is behind its end, where this process has cut it, are zeros. */
static int file_read(struct thaw_take *take, uint64_t offset, uint8_t *to, size_t bytes)
{
	struct thaw_mirror *mirror = take->mirror;
	int code = sys_pread(mirror->fd, to, bytes, offset);
	uint64_t least, there;
	struct stat stat;

	if (code != -ENODATA)
		return code;
	pthread_mutex_lock(&mirror->lock);
	least = mirror->file_least;
	code = fstat(mirror->fd, &stat) ? -errno : 0;
	pthread_mutex_unlock(&mirror->lock);
	if (code)
		return code;
	if ((uint64_t)stat.st_size < least)
		return THAW_EOVERWRITTEN;
	there = (uint64_t)stat.st_size > offset ? (uint64_t)stat.st_size - offset : 0;
	there = there < bytes ? there : bytes;
	memset(to + there, 0, bytes - there);
	code = there ? sys_pread(mirror->fd, to, there, offset) : 0;
	return code == -ENODATA ? -ESTALE : code; /* it is being cut again and again */
}

static bool in_log(const struct thaw_take *take, uint64_t block)
{
	return block >= take->log.offset / SPACE_BLOCK &&
	       block < (take->log.offset + take->log.bytes) / SPACE_BLOCK;
}

/* The copy of that block, or NULL: it is in the file. */
static const uint8_t *copy_of(const struct thaw_take *take, uint64_t block)
{
	uint64_t at = block - take->log.offset / SPACE_BLOCK;

	if (block < 2)
		return take->header[block];
	if (!take->log_places || !in_log(take, block) || at >= take->log_used / SPACE_BLOCK ||
	    !take->log_places[at])
		return NULL;
	return take->log_copies + (size_t)(take->log_places[at] - 1) * SPACE_BLOCK;
}

/* Up to where the file has it, or a copy is, or the log begins or ends. */
static size_t part_of(const struct thaw_take *take, uint64_t offset, size_t bytes)
{
	uint64_t block = offset / SPACE_BLOCK;
	size_t part = SPACE_BLOCK - offset % SPACE_BLOCK;

	if (!copy_of(take, block))
		while (part < bytes && !copy_of(take, ++block) &&
		       in_log(take, block) == in_log(take, block - 1))
			part += SPACE_BLOCK;
	return part < bytes ? part : bytes;
}

int thaw_mirror_read(struct thaw_take *take, uint64_t offset, void *buffer, size_t bytes)
{
	uint8_t *to = buffer;
	bool log = false;

	while (bytes) {
		uint64_t block = offset / SPACE_BLOCK;
		const uint8_t *copy = copy_of(take, block);
		size_t part = part_of(take, offset, bytes);
		int code = 0;

		if (copy)
			memcpy(to, copy + offset % SPACE_BLOCK, part);
		else
			code = file_read(take, offset, to, part);
		if (code)
			return is_stale(take, false) ? -ESTALE : code;
		log |= !copy && in_log(take, block);
		to += part;
		offset += part;
		bytes -= part;
	}
	return is_stale(take, log) ? -ESTALE : 0;
}

int thaw_mirror_check(struct thaw_take *take)
{
	return is_stale(take, false) ? -ESTALE : 0;
}

void thaw_mirror_done(struct thaw_take *take, bool confirmed)
{
	struct thaw_mirror *mirror = take->mirror;

	pthread_mutex_lock(&mirror->lock);
	if (!confirmed || take->stale)
		give_back(mirror, take);
	mirror->take = NULL;
	pthread_mutex_unlock(&mirror->lock);
	take_free(take);
}
