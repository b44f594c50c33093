// SPDX-License-Identifier: GPL-2.0-only
/*
 * scenario_changes.c - the program of a scenario: it is started, commits, and goes on from what it finds; and everything
 * that it, or a command, changes durably is a line of a table (changes): a new operation of the library is one more
 * there, and a function of a few. Any of them may fail as the disk does.
 */
#define _GNU_SOURCE
#include "scenario.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/store.h"
#include "../support.h"

/* ---- The program */

struct image_options image_options(void)
{
	static const struct thaw_thinning thinning = {2, 3000000000};
	/* Whoever goes on from an image may store pages otherwise than the one before. */
	static const unsigned ways[] = {THAW_COMPRESS_NONE, THAW_COMPRESS_LZ4, THAW_COMPRESS_LZ4,
					THAW_COMPRESS_ZSTD(1)};

	return (struct image_options){.thinning = &thinning,
				      .thinning_count = scenario.thinned,
				      .path = scenario.path,
				      .create = true,
				      .engine = CRASH_ENGINE,
				      .compress = ways[below(4)],
				      .keyed = scenario.truth.keyed,
				      .encrypted = scenario.truth.encrypted,
				      .page_bytes = scenario.truth.page_bytes,
				      .retain = scenario.truth.retain};
}

static void writer_goes_on_from(uint64_t number)
{
	const struct contents *contents = number < NUMBERS_MAX ? scenario.truth.known[number]
							       : NULL;

	memset(&scenario.now, 0, sizeof(scenario.now));
	if (number && !contents)
		violation(NULL, "generation %lu is opened, and nobody has made it", number);
	else if (number)
		scenario.now = *contents;
}

/* The same file under a name in another directory. */
static const char *path_by_link(void)
{
	static char directory[PATH_MAX], link[PATH_MAX + 8];

	snprintf(directory, sizeof(directory), "%s.links", scenario.path);
	snprintf(link, sizeof(link), "%s/image", directory);
	if ((mkdir(directory, 0700) && errno != EEXIST) ||
	    (symlink(scenario.path, link) && errno != EEXIST))
		support_die(link);
	return link;
}

bool writer_start(struct image_options options)
{
	struct truth *truth = &scenario.truth;
	struct thaw_error error, fallback;
	const char *result;
	struct stat status;
	int code;

	truth->creating = stat(scenario.path, &status) || !status.st_size;
	if (!truth->creating && below(4) == 0)
		options.path = path_by_link();
	disk_resume();
	code = image_open(&options, &scenario.image, &fallback, &error);
	disk_pause();
	if (code) {
		scenario.image = NULL;
		return false;
	}
	if (truth->creating) {
		truth->exists = true;
		truth->empty = truth->creating = false;
		disk_reported();
	}
	if (fallback.code && !truth->slot_suspect)
		violation(NULL, "without a crash something is passed over: %s", fallback.text);
	scenario.tally->log_replayed += log_pending(scenario.image);
	/* What another process has begun to make, and is not there, leaves its number to be used. */
	for (uint64_t number = scenario.image->next; number < NUMBERS_MAX; number++)
		generation_know(number, NULL);
	writer_goes_on_from(image_opened(scenario.image)->number);
	if (scenario.over || below(3))
		return true;
	result = contents_compare(scenario.image, &scenario.now,
				  image_opened(scenario.image)->number != 0, truth->page_bytes);
	if (result)
		violation(NULL, "without a crash %s", result);
	return true;
}

void writer_end(void)
{
	disk_resume();
	image_close(scenario.image);
	disk_pause();
	scenario.image = NULL;
}

void writer_restart(struct image_options options)
{
	writer_end();
	scenario.tally->reopened++;
	if (!writer_start(options))
		violation(NULL, "without a crash it does not open");
}

/* What the program does to its memory between two generations. */
static void contents_change(struct contents *contents)
{
	unsigned count = 1 + below(6), from = below(HEAP_PAGES);

	switch (below(9)) {
	case 0: /* nothing */
		return;
	case 1: /* a run of pages */
		count = 10 + below(60);
		break;
	case 2: /* zeros: the file becomes smaller */
		for (unsigned i = 10 + below(80); i; i--)
			contents->version[from++ % HEAP_PAGES] = 0;
		count = 0;
		break;
	case 3: /* the far ones: the tree grows */
		for (unsigned i = below(8); i < 8; i++)
			contents->version[i] = (uint32_t)dice_next(&scenario.dice);
		break;
	case 4: /* a state of many blocks, or none any more */
		contents->state_bytes = below(2) ? 100000 + below(STATE_USUAL - 100000) : 0;
		break;
	default: /* the same few, and a state of some length */
		from = 8;
		contents->state_bytes = below(9000);
	}
	contents->state = (uint32_t)dice_next(&scenario.dice);
	while (count--)
		contents->version[from++ % HEAP_PAGES] = (uint32_t)dice_next(&scenario.dice);
}

int commit_contents(const struct contents *to)
{
	struct contents next = *to;
	struct commit_extras extras = {
		.kind = below(10) < scenario.bound ? THAW_KIND_BOUND : THAW_KIND_PORTABLE,
		.twice = !below(4),
		.touched = below(4) ? 0 : below(HEAP_PAGES),
	};
	char name[16];
	const char *result;
	bool logged = false;
	uint64_t number = scenario.image->next;
	int code;

	if (scenario.quiet) { /* what is not kept for long */
		extras.kind = THAW_KIND_PORTABLE;
	} else if (!below(12)) {
		snprintf(name, sizeof(name), "name-%u", below(5));
		extras.name = name;
	}
	scenario.time_ns += below(2000000000);
	extras.time_ns = scenario.time_ns;
	scenario.next = &next;
	if (scenario.log && below(8)) {
		extras.log = scenario.log;
		extras.logged = &logged;
		extras.logging = disk_logging;
		if (image_newest(scenario.image)->number && !scenario.quiet && below(8)) {
			extras.kind = image_newest(scenario.image)->kind;
			extras.name = NULL;
			extras.touched = 0;
		}
		log_expect(scenario.image->next);
	}
	disk_resume();
	code = contents_commit(scenario.image, &scenario.now, &next, &extras, &scenario.dice,
			       &scenario.error);
	disk_pause();
	scenario.next = NULL;
	if (code &&
	    scenario.image->next == number) /* nothing can be found, and the next one is that */
		generation_know(number, NULL);
	if (!code) {
		scenario.now = next;
		scenario.tally->commits++;
		scenario.tally->logged += logged;
		reported_durable();
		if (scenario.options->lie == LIE_EARLY_REUSE) {
			ranges_subtract(&scenario.image->garbage, &scenario.image->space);
			ranges_free(&scenario.image->garbage);
		}
		return 0;
	}
	scenario.tally->failed_commits++;
	if (scenario.options->lie == LIE_LOG_DOUBT && scenario.image->record.log.bytes)
		scenario.image->log.usable = true;
	if (scenario.options->lie == LIE_DOUBT_FORGOTTEN) {
		ranges_subtract(&scenario.image->doubt, &scenario.image->space);
		ranges_free(&scenario.image->doubt);
	}
	if (!below(2)) {
		result = contents_compare(scenario.image, &scenario.now, false,
					  scenario.truth.page_bytes);
		if (result)
			violation(NULL, "after a commit that failed (%s): %s", scenario.error.text,
				  result);
	}
	return code;
}

/* ---- What makes something durable, and may fail */

static int writer_commit(void)
{
	struct contents next = scenario.now;

	contents_change(&next);
	return commit_contents(&next);
}

bool listing_now(struct listing *listing)
{
	struct thaw_error error;

	if (listing_read(scenario.path, listing, &error))
		violation(NULL, "without a crash: %s", error.text);
	return listing->count > 0;
}

uint64_t any_listed(const struct listing *listing)
{
	return listing->generation[below((unsigned)listing->count)].number;
}

/* They refuse an image with a damaged header slot, and leave it to the program that owns it. */
static int history_tag(void)
{
	static struct listing listing;
	char name[16];
	int code;

	if (!listing_now(&listing) || scenario.truth.slot_suspect)
		return 0;
	writer_end();
	snprintf(name, sizeof(name), "name-%u", below(5));
	scenario.naming = true;
	disk_resume();
	code = thaw_image_tag(scenario.path, name, any_listed(&listing), THAW_TAG_MOVE,
			      &scenario.error);
	disk_pause();
	scenario.naming = false;
	scenario.tally->named += !code;
	if (!code)
		reported_durable();
	return code;
}

static int history_untag(void)
{
	static struct listing listing;
	int code;

	if (!listing_now(&listing) || !listing.name_count || scenario.truth.slot_suspect)
		return 0;
	writer_end();
	scenario.naming = true;
	disk_resume();
	code = thaw_image_untag(scenario.path,
				listing.name[below((unsigned)listing.name_count)].name,
				&scenario.error);
	disk_pause();
	scenario.naming = false;
	if (!code)
		reported_durable();
	return code;
}

/*
 * A generation in doubt that whoever opens the image next does not find leaves its number to be used. By a copy: to
 * open is to write.
 */
static void numbers_forget(void)
{
	struct image_options options = image_options();
	struct thaw_error error, fallback;
	struct image *image;
	char command[512], copy[256];

	snprintf(copy, sizeof(copy), "%s.copy", scenario.path);
	snprintf(command, sizeof(command), "cp '%s' '%s'", scenario.path, copy);
	if (system(command))
		support_die(command);
	options.path = copy;
	if (!image_open(&options, &image, &fallback, &error)) {
		for (uint64_t number = image->next; number < NUMBERS_MAX; number++)
			generation_know(number, NULL);
		image_close(image);
	}
	unlink(copy);
}

static int history_rollback(void)
{
	static struct listing listing;
	struct thaw_generation made;
	struct contents contents;
	uint64_t number;
	int code;

	if (!listing_now(&listing) || scenario.truth.slot_suspect)
		return 0;
	number = any_listed(&listing);
	contents = *scenario.truth.known[number];
	writer_end();
	numbers_forget();
	scenario.next = &contents;
	disk_resume();
	code = thaw_image_rollback(scenario.path, number, &made, &scenario.error);
	disk_pause();
	scenario.next = NULL;
	scenario.tally->rolled_back += !code;
	if (!code)
		reported_durable();
	return code;
}

/* Another file takes the name: the old one or the new one is there, and both are whole. */
static int history_compact(void)
{
	static struct listing listing;
	unsigned flags = below(3) ? 0 : THAW_COMPACT_NEWEST;
	int code;

	if (scenario.truth.encrypted && below(2))
		flags |= THAW_COMPACT_ENCRYPT; /* with a new key */

	if (!listing_now(&listing) || scenario.truth.slot_suspect)
		return 0;
	writer_end();
	disk_resume();
	code = thaw_image_compact(scenario.path, flags, NULL, NULL, &scenario.error);
	disk_pause();
	scenario.tally->compacted += !code;
	if (!code)
		reported_durable();
	return code;
}

/* Another key opens it, and then does not: two commits each time. */
static int history_keys(void)
{
	static const uint8_t other[THAW_KEY_BYTES] = {9};
	const struct thaw_key_secret secret = {THAW_KEY_FILE, other, sizeof(other), "another"};
	static struct listing listing;
	int code;

	if (!listing_now(&listing) || scenario.truth.slot_suspect || !scenario.truth.encrypted)
		return 0;
	writer_end();
	disk_resume();
	code = thaw_image_key_add(scenario.path, &secret, &scenario.error);
	if (code > 0)
		code = thaw_image_key_remove(scenario.path, (unsigned)code, &scenario.error);
	disk_pause();
	scenario.tally->key_changes += !code;
	if (!code)
		reported_durable();
	return code;
}

/* As the checkpoint's thread does after a while. */
static int fold(void)
{
	int code;

	if (!log_pending(scenario.image))
		return 0;
	disk_resume();
	code = image_fold(scenario.image, &scenario.error);
	disk_pause();
	scenario.tally->folded += !code;
	if (!code)
		reported_durable();
	return code;
}

/* Would a program that is told what it was restored from be told what is on the disk? */
static bool acknowledgeable(void)
{
	const struct record *record = &scenario.image->record;
	static struct listing listing;

	/* Not of one that this program has written itself, and that is in doubt since. */
	return listing_now(&listing) && image_newest(scenario.image)->number &&
	       (scenario.image->log.found || !scenario.image->record.log.bytes ||
		scenario.image->log.usable ||
		image_opened(scenario.image)->number == listing.opened) &&
	       record->generations[record->count - 1].info.number ==
		       listing.generation[listing.count - 1].number;
}

/* What the program had found when it was started is said to be durable. */
static int acknowledge(int (*make_sure)(void))
{
	bool suspect = scenario.truth.slot_suspect;
	int code;

	if (!acknowledgeable())
		return 0;
	scenario.truth.note_gone = false;
	disk_resume();
	code = make_sure();
	disk_pause();
	scenario.tally->settled += !code;
	if (!code)
		reported_durable();
	scenario.truth.slot_suspect = suspect; /* the other one is as it was */
	return code;
}

static int begin_and_abort(void)
{
	struct commit *begun;
	int code = commit_begin(scenario.image, &begun, &scenario.error);

	if (!code)
		commit_abort(begun);
	return code;
}

/* By a checkpoint: nothing has changed. */
static int unchanged(void)
{
	return acknowledge(begin_and_abort);
}

static int settle(void)
{
	return scenario.options->lie == LIE_UNSETTLED
		       ? 0
		       : image_settle(scenario.image, &scenario.error);
}

int acknowledged(void)
{
	return acknowledge(settle);
}

static const struct change {
	unsigned weight;
	int (*run)(void);
} changes[] = {
	{12, writer_commit},   {2, history_tag},     {1, history_untag},
	{1, history_rollback}, {1, history_compact}, {1, history_keys},
	{2, unchanged},	       {2, acknowledged},    {2, fold},
};

int change_any(void)
{
	unsigned total = 0, which, i = 0;

	for (; i < sizeof(changes) / sizeof(changes[0]); i++)
		total += changes[i].weight;
	for (which = below(total), i = 0; which >= changes[i].weight; i++)
		which -= changes[i].weight;
	if (!scenario.image && !writer_start(image_options())) {
		if (disk_fired()) /* what an open finds in the log, it writes elsewhere */
			return -EIO;
		violation(NULL, "without a crash it does not open");
		return 0;
	}
	scenario.truth.note_gone = false;
	return changes[i].run();
}
