// SPDX-License-Identifier: GPL-2.0-only
/*
 * scenario.c - a program that commits, fails, is killed, goes back, and loses power, at random; and at
 * every call that changes the disk, the states that a power cut there could leave, each checked
 * (scenario_states.c).
 *
 * What happens is a table (operations); what the program changes there, too (scenario_changes.c).
 *
 * Everything follows from the seed: a scenario run again takes the same course, and its states have the
 * same numbers. A state's own dice are not the scenario's, so that one state alone can be checked.
 */
#define _GNU_SOURCE
#include "scenario.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../in_memory.h"
#include "image/store.h"
#include "../support.h"

static void change(void)
{
	if (change_any())
		violation(NULL, "a commit fails, and nothing else did: %s", scenario.error.text);
}

/* Little changes for a while: what stays free is given back. */
static void changes_small(void)
{
	for (unsigned i = 3 + below(10); i && !scenario.over; i--) {
		struct contents next = scenario.now;

		next.version[8 + below(4)] = (uint32_t)dice_next(&scenario.dice);
		if (i == 9) /* and this makes room */
			for (unsigned page = 12; page < HEAP_PAGES; page++)
				next.version[page] = 0;
		if (commit_contents(&next))
			violation(NULL, "a commit fails, and nothing else did: %s",
				  scenario.error.text);
	}
}

/* A disk that fails once or more, and is well again. */
static void change_failing(void)
{
	static const struct disk_failure failures[] = {
		{.calls = 1u << DISK_WRITE, .error = -ENOSPC},
		{.calls = 1u << DISK_WRITE, .error = -EIO},
		{.calls = 1u << DISK_SYNC, .error = -EIO},
		{.calls = 1u << DISK_SYNC, .error = -EIO, .skip = 1},
		{.calls = 1u << DISK_SYNC, .error = -ENOSPC, .skip = 1},
		{.calls = 1u << DISK_TRUNCATE | 1u << DISK_PUNCH, .error = -EIO},
		{.calls = 1u << DISK_DIRECTORY_SYNC, .error = -EIO},
	};
	struct disk_failure failure = failures[below(sizeof(failures) / sizeof(failures[0]))];

	failure.skip += failure.calls == 1u << DISK_WRITE ? below(5) : 0;
	failure.count = 1 + below(3);
	disk_fail(&failure);
	for (unsigned tries = 1 + below(3); tries && change_any(); tries--)
		;
	disk_failed();
}

static void commit_given_up(void)
{
	struct thaw_error error;
	struct commit *begun;
	uint64_t page[65536 / 8];
	bool stored;

	disk_resume();
	if (!commit_begin(scenario.image, &begun, &error)) {
		memset(page, 1 + (int)below(200), sizeof(page));
		for (unsigned i = 8 + below(40); i < heap_pages(scenario.truth.page_bytes);
		     i += 1 + below(9))
			if (commit_page(begun, heap_page(i), page, &stored, &error))
				break;
		commit_abort(begun);
	}
	disk_pause();
	scenario.tally->aborted++;
}

static void failure_noted(void)
{
	uint64_t opened = image_opened(scenario.image)->number;
	unsigned before = image_failures(scenario.image);
	int code;

	/* What the owner of a heap asks only if nothing newer is durable (heap.c). */
	if (!opened || image_newest(scenario.image)->number != opened)
		return;
	if (!below(3))
		disk_fail(&(struct disk_failure){.calls = 1u << (below(2) ? DISK_WRITE : DISK_SYNC),
						 .count = 1,
						 .error = -EIO});
	/* An open image counts once: the second time, the same is written. */
	note_add((struct failures_note){opened, scenario.image->failures.failures + 1});
	disk_resume();
	code = image_failed(scenario.image, 0);
	disk_pause();
	disk_failed();
	scenario.tally->notes++;
	if (code < 0)
		return;
	if ((unsigned)code != scenario.image->failures.failures + 1 || (unsigned)code < before)
		violation(NULL, "failure %u is counted as %d", before + 1, code);
	scenario.truth.note_count = 0;
	note_add((struct failures_note){opened, (unsigned)code});
}

static void restart(void)
{
	writer_restart(image_options());
}

static void restart_older(void)
{
	struct image_options options = image_options();
	static struct listing listing;

	if (listing_now(&listing))
		options.generation = any_listed(&listing);
	writer_restart(options);
}

static void restart_afresh(void)
{
	struct image_options options = image_options();

	options.fresh = true;
	writer_restart(options);
}

static void restart_retaining(void)
{
	static const unsigned retain[] = {1, 2, 3, 5};

	scenario.truth.retain = retain[below(4)];
	restart();
}

/* The process is killed at some call; the machine goes on. */
static void killed(void)
{
	disk_fail(&(struct disk_failure){.calls = UINT_MAX,
					 .skip = below(10),
					 .count = UINT_MAX,
					 .error = -EIO,
					 .dead = true});
	while (!change_any() && !scenario.over)
		if (!below(3))
			break;
	writer_end();
	scenario.tally->kills += disk_failed() != 0;
	if (!writer_start(image_options()))
		violation(NULL, "killed, it does not open");
	else if (below(2) && !scenario.over && acknowledged())
		violation(NULL, "killed, it cannot make sure of what it finds: %s",
			  scenario.error.text);
}

/* Start a program on what there is, which may not be an image yet; some are killed, some fail. */
static void create(void)
{
	for (unsigned tries = 0;; tries++) {
		if (below(2) && tries < 4)
			disk_fail(&(struct disk_failure){.calls = UINT_MAX,
							 .skip = below(6),
							 .count = 1,
							 .error = below(2) ? -EIO : -ENOSPC,
							 .dead = below(2)});
		scenario.tally->creations++;
		if (writer_start(image_options())) {
			if (disk_failed())
				violation(NULL,
					  "a call failed, and the image is made all the same");
			return;
		}
		if (!disk_failed()) {
			violation(NULL, "no image can be made");
			return;
		}
	}
}

/* What a program goes on from, by a copy of the file. */
static void opened_find(const struct cut *cut)
{
	struct image_options options = image_options();
	struct thaw_error error, fallback;
	struct image *image;

	cut_make(cut);
	options.path = cut_path(cut);
	options.create = false;
	if (image_open(&options, &image, &fallback, &error))
		return; /* an empty file */
	scenario.truth.durable.opened = image_opened(image)->number;
	image_close(image);
}

/* The power is cut, and everything goes on from what is left. */
static void power_cut(void)
{
	struct truth *truth = &scenario.truth;
	struct dice dice = {dice_next(&scenario.dice)};
	const char *result = NULL;
	struct thaw_error error;
	struct cut cut;

	cut_choose(&cut, below(LEAVES_KINDS), dice_next(&dice));
	scenario.tally->cuts++;
	if (!scenario.options->only) {
		result = check_cut(truth, &cut, &dice);
		if (result)
			violation(&cut, "%s", result);
	}
	disk_fail(&(struct disk_failure){
		.calls = UINT_MAX, .count = UINT_MAX, .error = -EIO, .dead = true});
	writer_end();
	disk_failed();
	if (scenario.over)
		return;
	cut_apply(&cut);
	truth->maybe_count = 0;
	truth->slot_suspect |= cut.torn_slot;
	if (!cut.named)
		memset(&truth->durable, 0, sizeof(truth->durable));
	else if (listing_read(scenario.path, &truth->durable, &error) && !truth->empty)
		violation(NULL, "%s", error.text);
	else
		opened_find(&cut);
	for (unsigned number = 0; number < NUMBERS_MAX; number++) {
		bool listed = number && number == truth->durable.opened;

		for (int i = 0; i < truth->durable.count; i++)
			listed |= truth->durable.generation[i].number == number;
		if (!listed)
			generation_know(number, NULL);
	}
	create();
	if (scenario.over)
		return;
	truth->note_count = 0;
	note_add((struct failures_note){image_opened(scenario.image)->number,
					image_failures(scenario.image)});
}

/* In the middle of a commit, not between two. */
static void power_cut_in_commit(void)
{
	disk_fail(&(struct disk_failure){.calls = UINT_MAX,
					 .skip = below(10),
					 .count = UINT_MAX,
					 .error = -EIO,
					 .dead = true});
	change_any();
	/* The process has died with the power: nothing else reaches the disk. */
	power_cut();
}

static const struct operation {
	const char *name;
	unsigned weight;
	void (*run)(void);
} operations[] = {
	{"change", 46, change},
	{"small changes", 4, changes_small},
	{"change on a failing disk", 14, change_failing},
	{"commit, given up", 4, commit_given_up},
	{"note of a failure", 6, failure_noted},
	{"restart", 4, restart},
	{"restart from an older generation", 5, restart_older},
	{"restart afresh", 2, restart_afresh},
	{"restart, retaining more or less", 3, restart_retaining},
	{"killed", 8, killed},
	{"power cut", 4, power_cut},
	{"power cut during a change", 8, power_cut_in_commit},
};
#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static const struct operation *operation_choose(void)
{
	unsigned total = 0, which;

	for (unsigned i = 0; i < OPERATIONS; i++)
		total += operations[i].weight;
	which = below(total);
	for (unsigned i = 0;; i++) {
		if (which < operations[i].weight)
			return &operations[i];
		which -= operations[i].weight;
	}
}

static void directory_make(void)
{
	snprintf(scenario.directory, sizeof(scenario.directory), "%s/thaw-crash-XXXXXX",
		 in_memory());
	if (!mkdtemp(scenario.directory))
		support_die(scenario.directory);
	snprintf(scenario.path, sizeof(scenario.path), "%s/heap.thaw", scenario.directory);
}

static void directory_remove(void)
{
	DIR *directory = opendir(scenario.directory);
	struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
	rmdir(scenario.directory);
}

/* A state so long that what comes behind it has to be moved once it is gone. */
static void long_file(void)
{
	struct contents next = scenario.now;

	scenario.doing = "a long file";
	scenario.tally->long_files++;
	scenario.truth.retain = 1;
	scenario.thinned = false;
	restart();
	scenario.quiet = true;
	for (unsigned i = 0; i < 5 && !scenario.over; i++) {
		for (unsigned page = 0; page < HEAP_PAGES && i < 3; page++)
			next.version[page] = (uint32_t)dice_next(&scenario.dice);
		next.state = i;
		next.state_bytes = i == 1 ? STATE_MAX : 1000;
		if (commit_contents(&next))
			violation(NULL, "a commit fails, and nothing else did: %s",
				  scenario.error.text);
	}
	scenario.quiet = false;
	changes_small();
	if (!scenario.over)
		scenario.tally->relocated += scenario.image->relocation.cut != 0;
}

static int give_key(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *error)
{
	(void)arg, (void)make, (void)error;
	memset(key, 7, THAW_KEY_BYTES);
	return 0;
}

static void scenario_begin(void)
{
	struct truth *truth = &scenario.truth;

	truth->path = scenario.path;
	truth->page_bytes = below(4) ? 4096 : 65536;
	truth->keyed = !below(3);
	truth->encrypted = !truth->keyed && below(2);
	scenario.tally->keyed += truth->keyed;
	scenario.tally->encrypted += truth->encrypted;
	thaw_use_key(&(struct thaw_key_source){.get = give_key});
	truth->retain = 1 + below(4);
	scenario.bound = below(11);
	scenario.log = below(3) ? (64u << 10) << below(4) : 0;
	scenario.thinned = !below(3);
	scenario.time_ns = 1;
	disk_nameless(below(3) != 0);
	note_add((struct failures_note){0});
	if (!below(4)) {
		disk_adopt_empty();
		truth->exists = truth->empty = true;
	}
	scenario.doing = "creation";
	create();
	if (!below(20) && !scenario.over)
		long_file();
}

void scenario_run(const struct scenario_options *options, struct tally *tally)
{
	const struct disk_hooks hooks = {moment, header_written};
	unsigned steps;

	memset(&scenario, 0, sizeof(scenario));
	scenario.options = options;
	scenario.tally = tally;
	scenario.dice.state = mix(mix(options->seed) + options->number);
	directory_make();
	disk_open(scenario.path, options->lie, &hooks, dice_next(&scenario.dice));
	tally->scenarios++;
	scenario_begin();
	steps = 10 + below(25);
	for (scenario.step = 1; scenario.step <= steps && !scenario.over; scenario.step++) {
		const struct operation *operation = operation_choose();

		scenario.doing = operation->name;
		operation->run();
		if (!scenario.image && !scenario.over && !writer_start(image_options()))
			violation(NULL, "without a crash it does not open");
	}
	if (!scenario.over && options->lie == LIE_NONE && !disk_is_complete())
		violation(NULL, "the file was written to by a call that is not recorded");
	disk_count(&tally->punches, &tally->truncates);
	image_close(scenario.image);
	for (unsigned number = 0; number < NUMBERS_MAX; number++)
		generation_know(number, NULL);
	disk_close();
	directory_remove();
	free(scenario.seen);
}
