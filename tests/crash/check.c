// SPDX-License-Identifier: GPL-2.0-only
/*
 * check.c - is an image that a power cut left what it has to be?
 *
 *  1. The image opens, for reading and for writing, and without a word about damage.
 *  2. It lists what the last commit that was reported durable listed, or what one that was under way
 *     since then would have listed: nothing between, and nothing older.
 *  3. Every generation that it lists has exactly its pages and its state.
 *  4. thaw_image_verify() finds nothing. A power cut is no damage: who is told that an image is damaged
 *     goes looking for a backup. So whatever a crash leaves in blocks that nothing names must not
 *     show, and a header slot may only ever be the old one or the new one.
 *  5. The note of failures is the one that was reported, or one that was being written.
 *  6. Another commit goes through, and then all of this holds again.
 *
 * One disk is let off from 4, for the header alone (generation 0 in the report): one that tears a
 * sector. That breaks what the format is built on, and still costs nothing but a word: the generations
 * are whole, the other slot is opened, and the next commit heals the header: 6 is as strict here.
 */
#define _GNU_SOURCE
#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store.h"

static char message[1024];

__attribute__((format(printf, 1, 2))) static const char *wrong(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	return message;
}

/* ---- Contents */

#define SCATTERED 16u /* pages, the last ones */

unsigned heap_pages(uint32_t page_bytes)
{
	return page_bytes > 4096 ? SCATTERED + 4 : HEAP_PAGES;
}

uint64_t heap_page(unsigned i)
{
	if (i < SCATTERED / 2) /* seldom written, and far up: six levels */
		return 1ull << (8 + 2 * i);
	return i - SCATTERED / 2;
}

void contents_fill_page(const struct contents *contents, unsigned i, uint32_t page_bytes,
			void *page)
{
	uint64_t *words = page, base = mix(contents->version[i] ^ (uint64_t)i << 32);

	if (!contents->version[i]) {
		memset(page, 0, page_bytes);
		return;
	}
	for (unsigned word = 0; word < page_bytes / 8; word++)
		words[word] = base + word * 0x9e3779b97f4a7c15ull;
}

void contents_fill_state(const struct contents *contents, void *state)
{
	uint8_t *bytes = state;

	for (uint32_t i = 0; i < contents->state_bytes; i++)
		bytes[i] = (uint8_t)(i * 31 + contents->state + (i >> 8));
}

static const char *state_compare(struct image *image, const struct contents *contents)
{
	static uint8_t wanted[STATE_MAX]; /* its end is touched by few */
	struct thaw_error error;
	const char *result = NULL;
	size_t bytes;
	void *state;

	if (image_read_state(image, &state, &bytes, &error))
		return wrong("state of generation %lu: %s", image_opened(image)->number,
			     error.text);
	contents_fill_state(contents, wanted);
	if (bytes != contents->state_bytes || (bytes && memcmp(state, wanted, bytes)))
		result = wrong("generation %lu has another state", image_opened(image)->number);
	free(state);
	return result;
}

const char *contents_compare(struct image *image, const struct contents *contents, bool state,
			     uint32_t page_bytes)
{
	static uint64_t page[65536 / 8], wanted[65536 / 8];
	struct extent extents[IMAGE_LEAF_PAGES];
	uint64_t looked_up = UINT64_MAX;
	struct thaw_error error;

	for (unsigned i = 0; i < heap_pages(page_bytes); i++) {
		uint64_t number = heap_page(i), first = number - number % IMAGE_LEAF_PAGES;
		const struct extent *extent = &extents[number % IMAGE_LEAF_PAGES];

		if (first != looked_up && image_lookup(image, first, extents, &error))
			return wrong("page %lu of generation %lu: %s", number,
				     image_opened(image)->number, error.text);
		looked_up = first;
		contents_fill_page(contents, i, page_bytes, wanted);
		memset(page, 0, page_bytes);
		if (extent->encoding == EXTENT_RAW &&
		    pread(image_fd(image), page, page_bytes, (off_t)extent->offset) !=
			    (ssize_t)page_bytes)
			return wrong("page %lu of generation %lu at offset %lu cannot be read",
				     number, image_opened(image)->number, extent->offset);
		if (!extent_matches(extent, page, page_bytes))
			return wrong("page %lu of generation %lu at offset %lu: wrong checksum",
				     number, image_opened(image)->number, extent->offset);
		if (memcmp(page, wanted, page_bytes))
			return wrong("page %lu of generation %lu is another page", number,
				     image_opened(image)->number);
	}
	return state ? state_compare(image, contents) : NULL;
}

/* Nothing static from here on: while a commit writes, the power may be cut, and another one is made. */
static int pages_store(struct commit *commit, const struct contents *before,
		       const struct contents *contents, uint32_t page_bytes,
		       struct thaw_error *error)
{
	uint64_t page[65536 / 8];
	int code = 0;

	for (unsigned i = 0; !code && i < heap_pages(page_bytes); i++) {
		bool stored;

		/* Some that did not change: they have to be found unchanged. */
		if (before->version[i] == contents->version[i] && i % 8)
			continue;
		contents_fill_page(contents, i, page_bytes, page);
		code = commit_page(commit, heap_page(i), page, &stored, error);
	}
	return code;
}

int contents_commit(struct image *image, const struct contents *before,
		    const struct contents *contents, uint32_t kind, bool twice, struct dice *dice,
		    struct thaw_error *error)
{
	uint8_t *state = malloc(contents->state_bytes + 1);
	struct thaw_generation generation = {
		.time_ns = 1, .heap_bytes = 65536, .reason = THAW_REASON_TIMER, .kind = kind};
	uint32_t page_bytes = image->identity.page_bytes;
	struct contents passing = *contents;
	struct commit *commit;
	int code = state ? commit_begin(image, &commit, error) : -ENOMEM;

	if (code) {
		free(state);
		return code;
	}
	if (twice) { /* as pre-copy does: the program changes pages that were written */
		for (unsigned i = 0; i < HEAP_PAGES; i++)
			if (!dice_below(dice, 6))
				passing.version[i] = dice_below(dice, 4) ? (uint32_t)dice_next(dice)
									 : 0;
		code = pages_store(commit, before, &passing, page_bytes, error);
	}
	if (!code)
		code = pages_store(commit, twice ? &passing : before, contents, page_bytes, error);
	if (!code) {
		contents_fill_state(contents, state);
		code = commit_finish(commit, &generation, state, contents->state_bytes, error);
	}
	if (code)
		commit_abort(commit);
	free(state);
	return code;
}

/* ---- Listings */

int listing_read(const char *path, struct listing *listing, struct thaw_error *error)
{
	struct thaw_generation *log;
	struct thaw_name *names;
	int count = thaw_image_log(path, &log, error), name_count;

	listing->count = count < 0 ? 0 : count;
	if (count < 0)
		return count;
	name_count = thaw_image_names(path, &names, error);
	if (count > (int)LISTED_MAX || name_count > (int)LISTED_MAX)
		abort();
	memcpy(listing->generation, log, (size_t)count * sizeof(*log));
	free(log);
	if (name_count < 0)
		return name_count;
	listing->name_count = name_count;
	memcpy(listing->name, names, (size_t)name_count * sizeof(*names));
	free(names);
	return 0;
}

static bool listing_same(const struct listing *a, const struct listing *b)
{
	if (a->count != b->count || a->name_count != b->name_count ||
	    memcmp(a->name, b->name, (size_t)a->name_count * sizeof(*a->name)))
		return false;
	for (int i = 0; i < a->count; i++) {
		const struct thaw_generation *left = &a->generation[i], *right = &b->generation[i];

		if (left->number != right->number || left->parent != right->parent ||
		    left->portable != right->portable || left->kind != right->kind ||
		    left->ancestor != right->ancestor || left->heap_bytes != right->heap_bytes ||
		    left->state_bytes != right->state_bytes)
			return false;
	}
	return true;
}

static const char *listing_text(const struct listing *listing)
{
	static char text[2][512];
	static unsigned turn;
	char *to = text[turn++ % 2];
	size_t used = 0;

	to[0] = '\0';
	for (int i = 0; i < listing->count && used < 480; i++)
		used += (size_t)snprintf(to + used, 512 - used, "%s%lu", i ? "," : "",
					 listing->generation[i].number);
	return to;
}

static const char *check_listing(const struct truth *truth, const struct listing *found)
{
	if (listing_same(found, &truth->durable))
		return NULL;
	for (unsigned i = 0; i < truth->maybe_count; i++)
		if (listing_same(found, &truth->maybe[i]))
			return NULL;
	return wrong("it lists [%s], and [%s] was reported durable (%u more were under way)",
		     listing_text(found), listing_text(&truth->durable), truth->maybe_count);
}

/* ---- One state */

struct damages {
	unsigned count, beyond_header;
	struct thaw_damage first;
};

static void damage_count(void *arg, const struct thaw_damage *damage)
{
	struct damages *damages = arg;

	if (!damages->count++)
		damages->first = *damage;
	damages->beyond_header += damage->generation != 0;
}

static const char *check_verify(const char *path, bool header_suspect)
{
	struct damages damages = {0};
	const struct thaw_verify_ops ops = {.damage = damage_count, .arg = &damages};
	struct thaw_verify_summary summary;
	struct thaw_error error;
	int code = thaw_image_verify(path, &ops, &summary, &error);

	if (!code)
		return NULL;
	if (code == THAW_EDAMAGED && header_suspect && !damages.beyond_header)
		return NULL;
	return wrong("verify: %s (generation %lu, pages %lu+%lu, offset %lu: %s)", error.text,
		     damages.first.generation, damages.first.first_page, damages.first.pages,
		     damages.first.offset, damages.first.what);
}

static const struct contents *contents_of(const struct truth *truth, uint64_t number)
{
	return number < NUMBERS_MAX ? truth->known[number] : NULL;
}

static const char *check_generation(const struct truth *truth, const char *path, uint64_t number,
				    const struct contents *contents)
{
	struct image_options options = {.path = path, .read_only = true, .generation = number};
	struct thaw_error error, fallback;
	struct image *image;
	const char *result;

	if (!contents)
		return wrong("generation %lu was never committed", number);
	if (image_open(&options, &image, &fallback, &error))
		return wrong("generation %lu does not open: %s", number, error.text);
	result = contents_compare(image, contents, true, truth->page_bytes);
	image_close(image);
	return result;
}

static bool note_possible(const struct truth *truth, uint64_t generation, unsigned count)
{
	if (truth->slot_suspect)
		return true;
	for (unsigned i = 0; i < truth->note_count; i++)
		if (truth->note[i].generation == generation ? truth->note[i].count == count
							    : !count)
			return true;
	return false;
}

/* The commit after the crash; and whether all that was there still is. */
static const char *check_next_commit(const struct truth *truth, const char *path,
				     struct image *image, const struct contents *opened,
				     struct dice *dice)
{
	struct contents next = *opened;
	struct thaw_error error;
	struct listing listing;
	const char *result;
	uint64_t number;

	for (unsigned i = 1 + dice_below(dice, 6); i; i--)
		next.version[dice_below(dice, HEAP_PAGES)] =
			dice_below(dice, 5) ? (uint32_t)dice_next(dice) : 0;
	next.state = (uint32_t)dice_next(dice);
	next.state_bytes = dice_below(dice, 3) ? dice_below(dice, 9000) : 0;
	if (contents_commit(image, opened, &next, dice_below(dice, 2), false, dice, &error))
		return wrong("the next commit: %s", error.text);
	number = image_newest(image)->number;
	if (contents_compare(image, &next, false, truth->page_bytes))
		return wrong("the writer after the next commit: %s", message);
	image_close(image);
	result = check_verify(path, false);
	if (result)
		return wrong("after the next commit %s", result);
	if (listing_read(path, &listing, &error))
		return wrong("after the next commit: %s", error.text);
	if (!listing.count || listing.generation[listing.count - 1].number != number)
		return wrong("the next commit made generation %lu, and [%s] are listed", number,
			     listing_text(&listing));
	for (int i = 0; i < listing.count; i++) {
		uint64_t listed = listing.generation[i].number;

		if (listed != number && dice_below(dice, 3)) /* verify has read them all */
			continue;
		result = check_generation(truth, path, listed,
					  listed == number ? &next : contents_of(truth, listed));
		if (result)
			return wrong("after the next commit: %s", result);
	}
	return NULL;
}

static const char *check_writer(const struct truth *truth, const char *path, bool torn,
				const struct listing *listing, struct dice *dice)
{
	struct image_options options = {.path = path,
					.engine = CRASH_ENGINE,
					.page_bytes = truth->page_bytes,
					.retain = truth->retain};
	static const struct contents empty;
	const struct contents *contents = &empty;
	struct thaw_error error, fallback;
	struct image *image;
	const char *result;
	uint64_t newest = 0;

	if (listing->count)
		newest = listing->generation[listing->count - 1].number;
	if (image_open(&options, &image, &fallback, &error))
		return wrong("it does not open: %s", error.text);
	if (image_opened(image)->number != newest)
		result = wrong("generation %lu is opened, not %lu", image_opened(image)->number,
			       newest);
	else if (fallback.code && !torn)
		result = wrong("something is passed over: %s", fallback.text);
	else if (newest && !note_possible(truth, newest, image_failures(image)))
		result = wrong("generation %lu failed %u times, says its note", newest,
			       image_failures(image));
	else
		result = NULL;
	if (newest)
		contents = contents_of(truth, newest);
	if (!contents)
		result = wrong("generation %lu was never committed", newest);
	if (!result)
		result = contents_compare(image, contents, newest != 0, truth->page_bytes);
	if (!result)
		return check_next_commit(truth, path, image, contents, dice);
	image_close(image);
	return result;
}

/* Where there is no image, one can be made. */
static const char *check_creation(const struct truth *truth, const char *path)
{
	struct image_options options = {.path = path,
					.create = true,
					.engine = CRASH_ENGINE,
					.page_bytes = truth->page_bytes};
	struct thaw_error error, fallback;
	struct image *image;

	if (image_open(&options, &image, &fallback, &error))
		return wrong("no image can be made: %s", error.text);
	image_close(image);
	unlink(path);
	return NULL;
}

const char *check_cut(const struct truth *truth, const struct cut *cut, struct dice *dice)
{
	static struct listing listing;
	const char *path, *result;
	struct thaw_error error;
	struct stat status;
	char empty[300];

	cut_make(cut);
	path = cut_path(cut);
	if (!cut->named)
		return truth->exists ? wrong("the image's name is gone")
				     : check_creation(truth, path);
	if (truth->empty && !stat(path, &status) && !status.st_size) {
		snprintf(empty, sizeof(empty), "%s.empty", path);
		close(open(empty, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		return check_creation(truth, empty);
	}
	if (listing_read(path, &listing, &error))
		return wrong("it cannot be listed: %s", error.text);
	result = check_listing(truth, &listing);
	if (!result)
		result = check_verify(path, truth->slot_suspect || cut->torn_slot);
	/* The newest is the writer's to look at. */
	for (int i = 0; !result && i + 1 < listing.count; i++)
		result = check_generation(truth, path, listing.generation[i].number,
					  contents_of(truth, listing.generation[i].number));
	return result ? result
		      : check_writer(truth, path, truth->slot_suspect || cut->torn_slot, &listing,
				     dice);
}
