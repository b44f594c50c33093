// SPDX-License-Identifier: GPL-2.0-only
/*
 * check.c - is an image that a power cut left, or that came back from a store, what it has to be?
 *
 *  1. The image opens, for reading and for writing, and without a word about damage.
 *  2. It lists what the last commit that was reported durable listed, or what one that was under way
 *     since then would have listed: nothing between, and nothing older.
 *  3. Every generation that it lists has exactly its pages and its state; and a working set is one that
 *     was written.
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/store.h"

/* ---- Listings */

bool listing_same(const struct listing *a, const struct listing *b)
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

/* A few that are in the log, as whoever opens the image then finds them; and they are listed by the next. */
static const char *check_logging(const struct truth *truth, const char *path, struct image **image,
				 uint64_t number, struct contents *next, struct dice *dice)
{
	struct image_options options = {.path = path,
					.engine = CRASH_ENGINE,
					.keyed = truth->keyed,
					.encrypted = truth->encrypted,
					.page_bytes = truth->page_bytes,
					.retain = truth->retain};
	bool logged = true;
	struct commit_extras extras = {.kind = image_newest(*image)->kind,
				       .time_ns = 2,
				       .log = (*image)->log.bytes,
				       .logged = &logged};
	struct thaw_error error, fallback;
	const char *result;

	for (unsigned i = 1 + dice_below(dice, 3); i; i--) {
		struct contents before = *next;
		/* In a file that may be too long, commits make it shorter first. */
		bool shortens = (*image)->space.blocks >= 8192 || (*image)->relocation.count ||
				(*image)->relocation.set;

		next->version[dice_below(dice, HEAP_PAGES)] =
			dice_below(dice, 5) ? (uint32_t)dice_next(dice) : 0;
		next->state++;
		if (contents_commit(*image, &before, next, &extras, dice, &error))
			return wrong("%s", error.text);
		if (truth->page_bytes == 4096 && !shortens && !logged)
			return wrong("a small generation is not in the log");
		if (image_newest(*image)->number <= number)
			return wrong("generation %lu follows %lu", image_newest(*image)->number,
				     number);
		number = image_newest(*image)->number;
	}
	image_close(*image);
	*image = NULL;
	if (image_open(&options, image, &fallback, &error))
		return wrong("it does not open: %s", error.text);
	if (fallback.code)
		return wrong("something is passed over: %s", fallback.text);
	if (image_opened(*image)->number != number)
		return wrong("generation %lu is opened, and %lu was the last one",
			     image_opened(*image)->number, number);
	result = contents_compare(*image, next, true, truth->page_bytes);
	if (!result && image_fold(*image, &error))
		result = wrong("%s", error.text);
	return result ? result : contents_compare(*image, next, true, truth->page_bytes);
}

/* The commit after the crash; and whether all that was there still is. */
static const char *check_next_commit(const struct truth *truth, const char *path,
				     struct image *image, const struct contents *opened,
				     struct dice *dice)
{
	struct commit_extras extras = {.kind = dice_below(dice, 2),
				       .time_ns = 1,
				       .log = dice_below(dice, 3) ? 0 : 256u << 10};
	struct contents next = *opened, made;
	struct thaw_error error;
	struct listing listing;
	const char *result;
	uint64_t number, first;

	for (unsigned i = 1 + dice_below(dice, 6); i; i--)
		next.version[dice_below(dice, HEAP_PAGES)] =
			dice_below(dice, 5) ? (uint32_t)dice_next(dice) : 0;
	next.state = (uint32_t)dice_next(dice);
	next.state_bytes = dice_below(dice, 3) ? dice_below(dice, 9000) : 0;
	if (contents_commit(image, opened, &next, &extras, dice, &error))
		return wrong("the next commit: %s", error.text);
	number = image_newest(image)->number;
	result = contents_compare(image, &next, false, truth->page_bytes);
	if (result)
		return wrong("the writer after the next commit: %s", result);
	made = next;
	first = number;
	if (image->log.wanted) {
		result = check_logging(truth, path, &image, number, &next, dice);
		if (result)
			return wrong("logging after the next commit: %s", result);
		number = image_newest(image)->number;
	}
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

		if (listed < first && dice_below(dice, 3)) /* verify has read them all */
			continue;
		result = check_generation(truth, path, listed,
					  listed == number  ? &next
					  : listed == first ? &made
							    : contents_of(truth, listed));
		if (result)
			return wrong("after the next commit: %s", result);
	}
	return NULL;
}

/* A program that goes on from an image that lists this goes on from that one. */
static bool opened_possible(const struct truth *truth, const struct listing *listing,
			    uint64_t number)
{
	bool possible = listing_same(listing, &truth->durable) && truth->durable.opened == number;

	for (unsigned i = 0; i < truth->maybe_count; i++)
		possible |= listing_same(listing, &truth->maybe[i]) &&
			    truth->maybe[i].opened == number;
	return possible;
}

/* What is in the log is listed, by who does not go on from it. */
static const char *check_settling(const struct truth *truth, const char *path,
				  struct listing *listing)
{
	struct thaw_error error;
	struct listing *after = malloc(sizeof(*after));
	const char *result = NULL;

	if (!after)
		return wrong("no memory");
	if (thaw_image_settle(path, &error))
		result = wrong("its log cannot be listed: %s", error.text);
	else if (listing_read(path, after, &error))
		result = wrong("after its log was listed: %s", error.text);
	else if (!opened_possible(truth, listing, after->opened))
		result = wrong("of the log generation %lu is listed", after->opened);
	else if (after->opened)
		result = check_generation(truth, path, after->opened,
					  contents_of(truth, after->opened));
	*listing = *after;
	free(after);
	return result;
}

static const char *check_writer(const struct truth *truth, const char *path, bool torn,
				const struct listing *listing, bool settled, struct dice *dice)
{
	struct image_options options = {.path = path,
					.engine = CRASH_ENGINE,
					.keyed = truth->keyed,
					.encrypted = truth->encrypted,
					.page_bytes = truth->page_bytes,
					.retain = truth->retain};
	static const struct contents empty;
	const struct contents *contents = &empty;
	struct thaw_error error, fallback;
	struct image *image;
	const char *result;
	uint64_t newest;

	if (image_open(&options, &image, &fallback, &error))
		return wrong("it does not open: %s", error.text);
	newest = image_opened(image)->number;
	if (settled ? newest != listing->opened : !opened_possible(truth, listing, newest))
		result = wrong("generation %lu is opened, of [%s], and %lu was reported durable",
			       newest, listing_text(listing), truth->durable.opened);
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
		result = working_set_check(image);
	if (!result)
		return check_next_commit(truth, path, image, contents, dice);
	image_close(image);
	return result;
}

const char *check_creation(const struct truth *truth, const char *path)
{
	struct image_options options = {.path = path,
					.create = true,
					.engine = CRASH_ENGINE,
					.keyed = truth->keyed,
					.encrypted = truth->encrypted,
					.page_bytes = truth->page_bytes};
	struct thaw_error error, fallback;
	struct image *image;

	if (image_open(&options, &image, &fallback, &error))
		return wrong("no image can be made: %s", error.text);
	image_close(image);
	unlink(path);
	return NULL;
}

const char *check_image(const struct truth *truth, const char *path, bool torn, struct dice *dice)
{
	static struct listing listing;
	struct thaw_error error;
	const char *result;
	bool settled;

	if (listing_read(path, &listing, &error))
		return wrong("it cannot be listed: %s", error.text);
	result = check_listing(truth, &listing);
	if (!result)
		result = check_verify(path, torn);
	/* The newest is the writer's to look at. */
	for (int i = 0; !result && i + 1 < listing.count; i++)
		result = check_generation(truth, path, listing.generation[i].number,
					  contents_of(truth, listing.generation[i].number));
	settled = !dice_below(dice, 4) && !torn;
	if (!result && settled)
		result = check_settling(truth, path, &listing);
	return result ? result : check_writer(truth, path, torn, &listing, settled, dice);
}
