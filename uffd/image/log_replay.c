/* SPDX-License-Identifier: MIT */
/*
 * log_replay.c - going on from what is in the log of an image that is opened for writing. Its owner, before
 * anybody else uses the image.
 *
 *	read  entry, entry, entry, (torn)	each follows the one before, the first one the newest record
 *	apply its pages, on top of those before	in memory, as they were when they were written
 *	place them behind the end of the file	where nothing is: whoever reads a page reads the file
 *
 * The first commit puts all of it into the tree; until then nothing refers to what lies behind the end, and
 * another open finds the same log. So nothing here is synced, and nothing that is in the file is changed.
 *
 * An entry that is torn was never reported durable, and ends the log. One that whole ones come after is damaged:
 * then the generation before it is opened, and the caller is told.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cipher.h"
#include "sys.h"
#include "store.h"

#define PIECE (1u << 20)

struct replay {
	struct image *image;
	struct log_chain chain;
	uint8_t *bytes; /* of the area, as many as there are */
	uint64_t count, at;
	uint64_t highest; /* number that was seen */
	struct generation newest;
	uint8_t *page, *opened;
};

static void chain_begin(const struct image *image, struct log_chain *chain)
{
	*chain = (struct log_chain){.key = image->identity.key,
				    .seed = image->slots[image->slot].record_checksum};
	memcpy(chain->uuid, image->identity.uuid, sizeof(chain->uuid));
}

/* Up to `most` bytes of the area, or as many as the file has. */
static int area_read(struct replay *replay, uint64_t most)
{
	const struct image *image = replay->image;
	const struct log_area *area = &image->record.log;
	uint64_t file = image_file_bytes(image);
	uint64_t there = file > area->offset ? file - area->offset : 0;

	if (cipher_is_on(image->identity.key) && !replay->opened) {
		replay->chain.opened_bytes = log_entry_most(area);
		replay->chain.opened = replay->opened = malloc(replay->chain.opened_bytes);
		if (!replay->opened)
			return -ENOMEM;
	}
	there = there < area->bytes ? there : area->bytes;
	replay->count = (there < most ? there : most) / SPACE_BLOCK * SPACE_BLOCK;
	free(replay->bytes);
	replay->bytes = malloc(replay->count + 1);
	if (!replay->bytes)
		return -ENOMEM;
	return replay->count ? sys_pread(image->fd, replay->bytes, replay->count, area->offset) : 0;
}

/* The number of a whole entry further on, which the writer has written behind durable ones only. 0: none. */
static uint64_t follower_find(const struct replay *replay)
{
	uint64_t end = replay->at + 2 * log_entry_most(&replay->image->record.log);

	for (uint64_t at = replay->at; at < end && at < replay->count; at += SPACE_BLOCK) {
		uint64_t number =
			log_follows(&replay->chain, replay->bytes + at, replay->count - at);

		if (number)
			return number;
	}
	return 0;
}

/* The highest number of all whole ones further on: who wrote them may have told somebody. */
static uint64_t highest_find(const struct replay *replay)
{
	uint64_t highest = 0;

	for (uint64_t at = replay->at; at < replay->count; at += SPACE_BLOCK) {
		uint64_t number =
			log_follows(&replay->chain, replay->bytes + at, replay->count - at);

		highest = number > highest ? number : highest;
	}
	return highest;
}

/* ---- Applying an entry */

/* The contents of a page before the entry. */
static int page_before(void *arg, uint64_t page, void *bytes)
{
	struct image *image = ((struct replay *)arg)->image;
	const struct log_page *known = log_pages_find(&image->log.pages, page);
	uint32_t count = image->identity.page_bytes;
	struct extent extent;
	int code;

	if (known && known->known) {
		memset(bytes, 0, count);
		if (known->bytes)
			memcpy(bytes, known->bytes, count);
		return 0;
	}
	memset(bytes, 0, count);
	code = index_get(&image->index, page, &extent, NULL);
	if (code || !extent_is_stored(&extent))
		return code;
	code = extent_read(&image->scratch, image->fd, image->identity.key, page, &extent, bytes,
			   count);
	return code == -ENODATA || code == -EINVAL ? THAW_EDAMAGED : code;
}

static bool generation_follows(const struct replay *replay, const struct generation *next)
{
	const struct thaw_generation *before = &replay->newest.info, *info = &next->info;

	return info->number > before->number && info->parent == before->number &&
	       info->kind == before->kind && info->number <= STORE_NUMBER_MAX;
}

static int entry_apply(struct replay *replay, const void *entry)
{
	struct log *log = &replay->image->log;
	struct log_change change = {.bytes = replay->page};
	struct generation next;
	size_t at = 0;
	int code;

	if (!log_decode(&replay->chain, entry, &next) || !generation_follows(replay, &next))
		return THAW_EDAMAGED;
	while ((code = log_decode_page(replay->chain.key, entry, &at,
				       replay->image->identity.page_bytes, page_before, replay,
				       &change)) > 0) {
		code = log_pages_stage(&log->pages, change.page, &change.extent, change.bytes);
		if (code)
			break;
		if (log->pages.held > 2 * LOG_HELD_MOST) { /* no writer lets it come to that */
			code = THAW_EDAMAGED;
			break;
		}
	}
	if (!code)
		code = log_decode_state(replay->chain.key, entry, &next, &log->state);
	if (code) {
		log_pages_unstage(&log->pages);
		return code;
	}
	log_pages_logged(&log->pages);
	replay->newest = next;
	return 0;
}

/* Until the log ends. THAW_EDAMAGED: it goes on behind something that is damaged. */
static int entries_apply(struct replay *replay)
{
	struct log *log = &replay->image->log;

	for (;;) {
		const void *entry;
		size_t bytes = log_check(&replay->chain, replay->bytes + replay->at,
					 replay->count - replay->at, &entry);
		uint64_t number;
		int code;

		if (!bytes && !follower_find(replay))
			return 0;
		if (!bytes) {
			replay->highest = highest_find(replay);
			return THAW_EDAMAGED;
		}
		number = log_number(entry);
		code = entry_apply(replay, entry);
		if (code) {
			replay->highest = highest_find(replay);
			if (replay->highest < number)
				replay->highest = number;
			return code;
		}
		log->chain = replay->chain;
		log->chain.opened = NULL;
		replay->at += bytes;
		log->used = replay->at;
	}
}

/* ---- Giving the pages a place */

static int pages_write(struct image *image, struct log_page **list, size_t count, uint64_t at)
{
	uint32_t page_bytes = image->identity.page_bytes;
	const struct extent_codec raw = {.encoding = EXTENT_RAW}; /* until the next commit */
	uint8_t *piece = malloc(PIECE);
	const void *stored;
	size_t filled = 0;
	int code = piece ? 0 : -ENOMEM;

	for (size_t i = 0; !code && i < count; i++) {
		struct log_page *page = list[i];

		if (page->extent.encoding == EXTENT_RAW) {
			code = extent_encode(&image->scratch, &raw, image->identity.key, page->page,
					     &page->extent, page->bytes, page_bytes, piece + filled,
					     &stored);
			if (code)
				break;
			if (stored != piece + filled)
				memcpy(piece + filled, stored, page_bytes);
			page->extent.offset = at + filled;
			filled += page_bytes;
		}
		if (filled && (filled == PIECE || i + 1 == count)) {
			code = sys_pwrite(image->fd, piece, filled, at);
			at += filled;
			image->log.tail.bytes += filled;
			filled = 0;
		}
	}
	free(piece);
	return code;
}

static int pages_place(struct image *image)
{
	uint64_t end = (image_file_bytes(image) + SPACE_BLOCK - 1) / SPACE_BLOCK * SPACE_BLOCK;
	size_t count;
	struct log_page **list = log_pages_unplaced(&image->log.pages, &count);
	int code;

	image->log.tail = (struct range){end, 0};
	code = list ? pages_write(image, list, count, end) : -ENOMEM;
	for (size_t i = 0; !code && i < count; i++)
		code = index_set(&image->index, list[i]->page, &list[i]->extent, NULL);
	free(list);
	if (!image->log.tail.bytes)
		image->log.tail.offset = 0;
	return code;
}

/* ---- All of it */

static void tell(const struct image *image, uint64_t at, uint64_t number,
		 struct thaw_error *fallback)
{
	error_set(fallback, THAW_EDAMAGED,
		  "%s: its log is damaged at offset %" PRIu64 ", and what came after generation "
		  "%" PRIu64 " is lost: that one is used",
		  image->path, image->record.log.offset + at, number);
}

/* As if there were no log: what it is for is damaged. */
static void forget(struct image *image)
{
	bool wanted = image->log.wanted;

	index_revert(&image->index, false);
	log_close(image);
	image->log.wanted = wanted;
	image->log.listed = image->base.info.number;
}

/* All of them, in memory. THAW_EDAMAGED: up to one that is damaged. */
static int replay_apply(struct replay *replay)
{
	struct image *image = replay->image;
	struct log *log = &image->log;
	int code = area_read(replay, UINT64_MAX);

	if (code)
		return code;
	replay->page = malloc(image->identity.page_bytes);
	if (!replay->page)
		return -ENOMEM;
	replay->newest = image->opened;
	log->pages.page_bytes = image->identity.page_bytes;
	if (image->opened.info.state_bytes <= LOG_STATE_MOST) {
		void *state;
		size_t bytes;

		if (!image_read_state(image, &state, &bytes, NULL)) {
			code = log_state_copy(&log->state, state, bytes);
			free(state);
		}
	}
	return code ? code : entries_apply(replay);
}

static int replay_run(struct replay *replay, struct thaw_error *fallback)
{
	struct image *image = replay->image;
	int code = 0, damaged = replay_apply(replay);

	if (damaged && damaged != THAW_EDAMAGED)
		return damaged;
	if (log_pending(image))
		code = pages_place(image);
	if (code == THAW_EDAMAGED) { /* the tree that the pages belong into */
		replay->at = 0;
		replay->newest = image->opened;
		forget(image);
		damaged = code;
		code = 0;
	}
	if (damaged && !code)
		tell(image, replay->at, replay->newest.info.number, fallback);
	return code;
}

/* Numbers that somebody may have been told do not stand for other generations. */
static void numbers_pass(struct image *image, uint64_t number)
{
	if (number > STORE_NUMBER_MAX)
		number = STORE_NUMBER_MAX;
	if (image->next <= number)
		image->next += (number - image->next + 2) / 2 * 2;
}

static void replay_free(struct replay *replay)
{
	free(replay->bytes);
	free(replay->page);
	free(replay->opened);
}

int log_replay(struct image *image, struct thaw_error *fallback, struct thaw_error *error)
{
	struct replay replay = {.image = image};
	const void *entry;
	int code;

	image->log.listed = image->base.info.number;
	if (!image->record.log.bytes || !image->opened.info.number)
		return 0;
	chain_begin(image, &replay.chain);
	code = area_read(&replay, 2 * log_entry_most(&image->record.log));
	if (!code && (log_check(&replay.chain, replay.bytes, replay.count, &entry) ||
		      follower_find(&replay))) {
		log_close(image);
		image->log.listed = image->base.info.number;
		chain_begin(image, &image->log.chain);
		code = replay_run(&replay, fallback);
		if (!code && log_pending(image)) {
			image->opened.info = image->base.info = replay.newest.info;
			image->log.first_ns = sys_monotonic_ns();
			image->log.found = true;
		}
		if (!code)
			numbers_pass(image, replay.highest > replay.newest.info.number
						    ? replay.highest
						    : replay.newest.info.number);
		image_note_extent(image);
	}
	replay_free(&replay);
	return code ? error_set(error, code,
				"%s: cannot go on from its log at offset %" PRIu64 ": %s",
				image->path, image->record.log.offset, thaw_strerror(code))
		    : 0;
}

int log_is_ahead(struct image *image, struct thaw_error *error)
{
	struct replay replay = {.image = image};
	const void *entry;
	int code;

	if (!image->record.log.bytes)
		return 0;
	chain_begin(image, &replay.chain);
	code = area_read(&replay, 2 * log_entry_most(&image->record.log));
	if (code)
		error_set(error, code, "%s: cannot read its log at offset %" PRIu64 ": %s",
			  image->path, image->record.log.offset, thaw_strerror(code));
	else
		code = log_check(&replay.chain, replay.bytes, replay.count, &entry) ||
		       follower_find(&replay);
	replay_free(&replay);
	return code;
}

int log_verify(struct image *image, uint64_t *bytes)
{
	struct replay replay = {.image = image};
	int code;

	*bytes = 0;
	chain_begin(image, &replay.chain);
	image->log.chain = replay.chain;
	code = replay_apply(&replay);
	*bytes = replay.at;
	replay_free(&replay);
	log_close(image);
	return code;
}

int log_settle(struct image *image)
{
	uint64_t at = image->record.log.offset, end = at + image->log.used;
	uint8_t *piece;
	int code = 0;

	if (!image->log.found)
		return 0;
	/* Where the disk has these bytes, writing them again cannot tear them: as header_write_again(). */
	piece = malloc(PIECE);
	if (!piece)
		return -ENOMEM;
	for (size_t part; !code && at < end; at += part) {
		part = end - at < PIECE ? end - at : PIECE;
		code = sys_pread(image->fd, piece, part, at);
		if (!code)
			code = sys_pwrite(image->fd, piece, part, at);
	}
	free(piece);
	return code;
}
