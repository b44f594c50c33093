/* SPDX-License-Identifier: MIT */
/*
 * log.c - small generations, durable with one write and one sync. format.h says what an entry is, log_replay.c
 * how an open goes on from them. The thread that commits, only.
 *
 *	stage ... stage --> commit_log --> (durable; pages stay in memory)     first, larger, late, named, other
 *	                 `--> commit_finish: all that is in memory goes into the tree, and the log is void
 *
 * Invariants (tests/inject/checks.c executes them)
 *  1. Entries follow a record that this process wrote and synced, and no commit is in doubt since. So the first
 *     commit after an open, and the one after a failure, is never an entry.
 *  2. An entry is written behind durable ones only, and never over one that the record on the disk may need.
 *  3. Until they are folded, the pages of all entries are in memory, and the index says so: offset 0.
 *  4. An entry whose write or sync failed is in doubt, as a slot is: its number is not used again, and the commit
 *     after it, whose record voids it, is no entry.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "checks.h"
#include "commit.h"
#include "mirror.h"
#include "relocate.h"
#include "sys.h"

#define DISK_SHARE 4u /* a log becomes longer where so many of it would fit */

void image_log_wanted(struct image *image)
{
	image->log.wanted = !image->read_only;
	image->log.bytes_large = LOG_BYTES_LARGE;
	image->log.bytes = image->record.log.bytes == LOG_BYTES_LARGE ? LOG_BYTES_LARGE : LOG_BYTES;
	image->log.fold_ns = LOG_FOLD_NS;
	image->log.pages.page_bytes = image->identity.page_bytes;
}

bool log_pending(const struct image *image)
{
	return image->log.chain.position != 0;
}

uint64_t image_log_began(const struct image *image)
{
	return log_pending(image) ? image->log.first_ns : 0;
}

bool image_log_goes_on(const struct image *image)
{
	const struct log *log = &image->log;

	return log_pending(image) && log->usable && !log->found && !log->stale &&
	       log->used + log_entry_most(&image->record.log) <= image->record.log.bytes &&
	       log->pages.held + LOG_STAGED_MOST <= LOG_HELD_MOST &&
	       sys_monotonic_ns() - log->first_ns < log->fold_ns / 10 * 9;
}

static const struct generation *listed(const struct image *image)
{
	const struct generation *base = record_find(&image->record, image->base.info.number);

	return base || !log_pending(image) ? base : record_find(&image->record, image->log.listed);
}

uint64_t log_ancestor(const struct image *image)
{
	return listed(image) ? listed(image)->info.number : 0;
}

uint64_t log_portable(const struct image *image)
{
	if (!log_pending(image))
		return image->base.info.portable;
	return listed(image) ? listed(image)->info.portable : 0;
}

/* ---- Pages of the commit under way */

bool log_has_room(const struct commit *commit)
{
	const struct log_pages *pages = &commit->image->log.pages;

	return commit->large || (pages->staged_count + 1) * pages->page_bytes <= LOG_STAGED_MOST;
}

int log_spill(struct commit *commit, struct thaw_error *error)
{
	struct log_pages *pages = &commit->image->log.pages;
	int code = 0;

	for (size_t i = 0; !code && i < pages->staged_count; i++) {
		struct log_page *page = pages->staged[i];

		/* Of others the index knows all. */
		if (extent_is_stored(&page->next))
			code = commit_place(commit, page->page, &page->next, page->next_bytes);
	}
	if (code)
		return commit_fail(commit, code, "write a page of", error);
	log_pages_spilled(pages);
	commit->large = true;
	return 0;
}

int log_place(struct commit *commit)
{
	size_t count;
	struct log_page **list = log_pages_unplaced(&commit->image->log.pages, &count);
	int code = list ? 0 : -ENOMEM;

	for (size_t i = 0; !code && i < count; i++) {
		struct log_page *page = list[i];

		if (!page->staged)
			page->next = page->extent;
		if (extent_is_stored(&page->next))
			code = commit_put(commit, page->page,
					  page->staged ? page->next_bytes : page->bytes,
					  &page->next);
	}
	/* Those that an open found in the log may not have arrived in the heap: first the bytes, then the index. */
	if (!code && count)
		code = writer_flush(&commit->writer);
	if (!code && count)
		code = writer_flush(&commit->packed);
	for (size_t i = 0; !code && i < count; i++) {
		struct extent extent = list[i]->next;

		extent.own = true;
		code = index_set(&commit->image->index, list[i]->page, &extent, NULL);
	}
	free(list);
	return code;
}

int log_restore(struct image *image, struct thaw_error *error)
{
	size_t count;
	struct log_page **list = log_pages_unplaced(&image->log.pages, &count);
	int code = list ? 0 : error_set(error, -ENOMEM, "%s: no memory for its log", image->path);

	for (size_t i = 0; !code && i < count; i++)
		code = index_set(&image->index, list[i]->page, &list[i]->extent, error);
	free(list);
	image->log.stale = code != 0;
	index_restored(&image->index, code);
	return code;
}

/* ---- The place of the log */

/* Nothing else is there: an image that was made to do harm may say that something is. */
static bool area_is_sound(const struct image *image)
{
	const struct log_area *area = &image->record.log;

	if (area->offset + area->bytes > image->file_bytes)
		return false;
	for (uint64_t block = 0; block < area->bytes / SPACE_BLOCK; block++)
		if (image->space.live[area->offset / SPACE_BLOCK + block] != SPACE_BLOCK)
			return false;
	return true;
}

static bool area_find(struct image *image, uint64_t *run, uint64_t *blocks)
{
	const struct relocation *relocation = &image->relocation;
	uint64_t front = 0, wanted = image->log.bytes / SPACE_BLOCK;

	if (relocation->count || relocation->set) /* the file is to become shorter */
		return space_allocate_between(&image->space, &front, relocation->cut / SPACE_BLOCK,
					      wanted, wanted, run, blocks);
	return !space_allocate(&image->space, wanted, wanted, run, blocks);
}

/* It goes on with the one that it has, if it has one: there may be room for the generation all the same. */
static void area_not_found(struct image *image, struct log_area *area, const struct log_area *small)
{
	*area = *small;
	image->log.bytes_large = 0;
	if (small->bytes)
		image->log.bytes = small->bytes;
	else
		image->log.wanted = false;
}

int log_make(struct commit *commit, struct log_area *area)
{
	struct image *image = commit->image;
	const struct relocation *relocation = &image->relocation;
	struct log_area small = {0}; /* in use, and a longer one is wanted */
	uint64_t run, blocks;
	int code;

	if (area->bytes && !image->log.usable &&
	    (!area_is_sound(image) || (image->log.wanted && area->bytes != image->log.bytes)))
		*area = (struct log_area){0};
	if (area->bytes && (relocation->count || relocation->set) &&
	    area->offset + area->bytes > relocation->cut)
		*area = (struct log_area){0};
	if (area->bytes && image->log.wanted && area->bytes < image->log.bytes) {
		small = *area;
		*area = (struct log_area){0};
	}
	if (area->bytes || !image->log.wanted)
		return 0;
	code = writer_flush(&commit->writer);
	if (code)
		return code;
	writer_settle(&commit->writer);
	if (!area_find(image, &run, &blocks)) { /* else every generation is written as before */
		if (small.bytes)
			area_not_found(image, area, &small);
		return 0;
	}
	/* What is overwritten later needs no journal of the file system to be durable. */
	code = writer_zeros(&commit->writer, run, image->log.bytes);
	if (!code)
		*area = (struct log_area){run, image->log.bytes};
	if (code != -ENOSPC && code != -EDQUOT && code != -EFBIG)
		return code;
	area_not_found(image, area, &small);
	return 0;
}

/* ---- What becomes durable */

void log_follow(struct image *image)
{
	struct log *log = &image->log;

	log->chain = (struct log_chain){.key = image->identity.key,
					.seed = image->slots[image->slot].record_checksum};
	memcpy(log->chain.uuid, image->identity.uuid, sizeof(log->chain.uuid));
	log->used = log->first_ns = 0;
	log->found = false;
	log->usable = true;
}

void log_folded(struct image *image, struct log_state *state)
{
	struct log *log = &image->log;

	log_pages_folded(&log->pages);
	free(log->state.bytes);
	log->state = *state;
	*state = (struct log_state){0};
	log->listed = image->base.info.number;
	log_follow(image);
}

void log_close(struct image *image)
{
	log_pages_free(&image->log.pages);
	free(image->log.state.bytes);
	free(image->log.buffer);
	image->log = (struct log){0};
}

/* Is so much room on the disk that a longer log is no loss? Else the trees after it might not find any. */
static bool disk_is_wide(const struct image *image)
{
	struct statvfs disk;

	return !fstatvfs(image->fd, &disk) &&
	       (uint64_t)disk.f_bavail * disk.f_frsize / DISK_SHARE >= image->log.bytes_large;
}

/* Larger than any that fits: the log that the next tree comes with is longer. */
static void note_too_large(struct image *image, uint64_t room)
{
	struct log *log = &image->log;

	if (room < log_entry_most(&image->record.log) && log->used)
		return; /* only what is left of it is too short */
	if (log->bytes < log->bytes_large && disk_is_wide(image))
		log->bytes = log->bytes_large;
}

static bool log_takes(const struct commit *commit, const struct thaw_generation *generation,
		      size_t state_bytes)
{
	const struct image *image = commit->image;
	const struct log *log = &image->log;

	/* A file that is too long becomes shorter with each commit that is no entry. */
	return log->wanted && log->usable && !relocate_due(commit->image) && !commit->failed &&
	       !commit->large && !commit->renamed && !commit->working_set &&
	       image->base.info.number && generation->kind == image->base.info.kind &&
	       state_bytes <= LOG_STATE_MOST && commit->number <= STORE_NUMBER_MAX &&
	       log->pages.held <= LOG_HELD_MOST && log->used < image->record.log.bytes &&
	       (!log_pending(image) || sys_monotonic_ns() - log->first_ns < log->fold_ns);
}

/* What the commit made is the newest generation. Cannot fail: the leaves are in memory. */
static void log_adopt(struct commit *commit, const struct generation *made,
		      const struct log_chain *chain, struct log_state *state)
{
	struct image *image = commit->image;
	struct log *log = &image->log;

	for (size_t i = 0; i < log->pages.staged_count; i++) {
		struct extent extent = log->pages.staged[i]->next;

		extent.own = false;
		index_set(&image->index, log->pages.staged[i]->page, &extent, NULL);
	}
	log_pages_logged(&log->pages);
	if (!log_pending(image))
		log->first_ns = sys_monotonic_ns();
	log->chain = *chain;
	log->used += made->info.bytes_written;
	log->usable = true;
	free(log->state.bytes);
	log->state = *state;
	*state = (struct log_state){0};
	image->base.info = made->info;
	image->next = commit->number + 2;
	commit_free(commit);
	check_commit_logged(image);
}

int commit_log(struct commit *commit, struct thaw_generation *generation, const void *state,
	       size_t state_bytes, struct thaw_error *error)
{
	struct image *image = commit->image;
	struct log *log = &image->log;
	struct generation made = {.info = *generation};
	struct log_chain chain = log->chain;
	struct log_state copy = {0};
	uint64_t began = sys_monotonic_ns();
	uint64_t at = image->record.log.offset + log->used;
	uint64_t room = image->record.log.bytes - log->used;
	uint64_t most = log_entry_most(&image->record.log);
	const char *doing = "write to the log";
	size_t bytes;
	bool last;
	int code;

	if (!log_takes(commit, generation, state_bytes))
		return 1;
	if (log->buffer_bytes < most) {
		free(log->buffer);
		log->buffer = malloc(most);
		log->buffer_bytes = log->buffer ? most : 0;
	}
	if (!log->buffer || log_state_copy(&copy, state, state_bytes))
		return 1;
	made.info.number = commit->number;
	made.info.parent = image->base.info.number;
	made.info.ancestor = log_ancestor(image);
	made.info.portable = made.info.kind == THAW_KIND_PORTABLE ? commit->number
								  : log_portable(image);
	made.info.state_bytes = state_bytes;
	made.info.pages_stored = commit->pages;
	made.info.durable_ns += sys_monotonic_ns() - began;
	made.state_checksum = checksum_of(chain.key, CHECKSUM_STATE, copy.bytes, state_bytes);
	bytes = log_encode(&chain, &made, copy.bytes, &log->state, &log->pages, log->buffer,
			   room < most ? room : most);
	if (!bytes) {
		note_too_large(image, room);
		free(copy.bytes);
		return 1;
	}
	check_log_write(image, at, bytes);
	commit->in_doubt = true;
	log->usable = false;
	code = sys_pwrite(image->fd, log->buffer, bytes, at);
	mirror_wrote(image->space.mirror, at, bytes);
	if (!code) {
		doing = "sync the log of";
		code = sys_fdatasync(image->fd);
	}
	if (code) {
		free(copy.bytes);
		return commit_fail(commit, code, doing, error);
	}
	/* The log may be the last thing in the file. */
	last = image->tail.bytes && image->tail.offset >= at && image->tail.offset < at + bytes;
	if (last)
		image->tail.bytes = 0;
	code = image_check_file(image, error);
	if (code) {
		free(copy.bytes);
		commit->failed = true;
		return code;
	}
	made.info.durable_ns = generation->durable_ns + sys_monotonic_ns() - began;
	*generation = made.info;
	log_adopt(commit, &made, &chain, &copy);
	if (last)
		image_note_extent(image);
	mirror_logged(image->space.mirror);
	return 0;
}

int image_fold(struct image *image, struct thaw_error *error)
{
	return log_pending(image) ? commit_record(image, error) : 0;
}

void image_fold_own(struct image *image)
{
	struct thaw_error error;

	if (!image->log.found)
		image_fold(image, &error);
}
