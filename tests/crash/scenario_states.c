// SPDX-License-Identifier: GPL-2.0-only
/*
 * scenario_states.c - the states that a power cut could leave at each call that changes the disk, each checked once
 * (check.c); and what may be found in them: what was written since, and what was reported durable.
 *
 * What a commit is going to list is not predicted here but read from the image as the page cache has it, right after its
 * header slot was written (header_written()): so the scenarios know nothing of retention rules, which have their own
 * tests. What each generation holds is the model's.
 */
#define _GNU_SOURCE
#include "scenario.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/store.h"
#include "../support.h"

struct scenario scenario;

/* ---- What is wrong */

static void state_keep(const struct cut *cut, char *kept, size_t bytes)
{
	char command[1024];

	if (!scenario.options->keep || !cut || !cut->named)
		return;
	snprintf(kept, bytes, "%s/%lu-%lu-%lu.thaw", scenario.options->keep, scenario.options->seed,
		 scenario.options->number, scenario.states);
	snprintf(command, sizeof(command), "mkdir -p '%s' && cp '%s' '%s'", scenario.options->keep,
		 cut_path(cut), kept);
	cut_make(cut); /* the checks have gone on with it */
	if (system(command))
		kept[0] = '\0';
}

void violation(const struct cut *cut, const char *format, ...)
{
	const struct scenario_options *options = scenario.options;
	char kept[512] = "";
	va_list arguments;

	scenario.tally->violations++;
	scenario.over = true;
	if (options->quiet)
		return;
	state_keep(cut, kept, sizeof(kept));
	fprintf(stderr, "# WRONG: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n#   seed %lu, scenario %lu, operation %u (%s), call %lu, state %lu\n",
		options->seed, options->number, scenario.step, scenario.doing, disk_events(),
		scenario.states);
	if (cut)
		cut_print(cut);
	if (kept[0])
		fprintf(stderr, "#   kept: %s\n", kept);
	fprintf(stderr, "#   again: %s --seed %lu --scenario %lu --state %lu\n", options->program,
		options->seed, options->number, scenario.states);
}

/* ---- States */

static bool seen_before(uint64_t hash)
{
	size_t at;

	if (scenario.seen_count * 2 >= scenario.seen_capacity) {
		uint64_t *old = scenario.seen;
		size_t capacity = scenario.seen_capacity;

		scenario.seen_capacity = capacity ? capacity * 2 : 4096;
		scenario.seen = calloc(scenario.seen_capacity, sizeof(*scenario.seen));
		if (!scenario.seen)
			support_die("calloc");
		scenario.seen_count = 0;
		for (size_t i = 0; i < capacity; i++)
			if (old[i])
				seen_before(old[i]);
		free(old);
	}
	hash += !hash;
	for (at = hash % scenario.seen_capacity; scenario.seen[at];
	     at = (at + 1) % scenario.seen_capacity)
		if (scenario.seen[at] == hash)
			return true;
	scenario.seen[at] = hash;
	scenario.seen_count++;
	return false;
}

static uint64_t state_seed(void)
{
	return mix(mix(scenario.options->seed * 3 + scenario.options->number) + scenario.states);
}

const char *check_cut(const struct truth *truth, const struct cut *cut, struct dice *dice)
{
	const char *path;
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
	return check_image(truth, path, truth->slot_suspect || cut->torn_slot, dice);
}

static void state_try(enum leaves leaves, bool sync)
{
	struct tally *tally = scenario.tally;
	struct dice dice;
	const char *result;
	struct cut cut;

	scenario.states++;
	dice.state = state_seed();
	cut_choose(&cut, leaves, dice_next(&dice));
	if (seen_before(cut.hash)) {
		tally->repeated++;
		return;
	}
	if (scenario.options->only && scenario.options->only != scenario.states)
		return;
	if (scenario.options->only) {
		fprintf(stderr, "# state %lu: operation %u (%s), call %lu\n", scenario.states,
			scenario.step, scenario.doing, disk_events());
		cut_print(&cut);
	}
	tally->states++;
	tally->by_kind[leaves]++;
	*(sync ? &tally->at_sync : &tally->elsewhere) += 1;
	tally->nameless += !cut.named;
	tally->torn += cut.torn_slot;
	result = check_cut(&scenario.truth, &cut, &dice);
	if (result)
		violation(&cut, "%s", result);
}

void moment(const char *what, bool sync)
{
	/* Each kind in turn, so that all are tried at all places. */
	unsigned tries = sync ? 6 : !below(6) ? 2 : 0;

	if (scenario.quiet)
		return;
	if (!strcmp(what, "synced") || !strcmp(what, "rename"))
		tries = 1;
	for (unsigned i = 0; i < tries && !scenario.over; i++) {
		enum leaves leaves = below(LEAVES_KINDS);

		if (sync && i < 2)
			leaves = i ? LEAVES_ALL : LEAVES_ALL_BUT_ONE;
		state_try(leaves, sync);
	}
}

/* ---- What was written, and what was reported */

void generation_know(uint64_t number, const struct contents *contents)
{
	struct truth *truth = &scenario.truth;

	if (number >= NUMBERS_MAX)
		support_die("a generation's number is beyond the model");
	free(truth->known[number]);
	truth->known[number] = NULL;
	if (!contents)
		return;
	truth->known[number] = malloc(sizeof(*contents));
	if (!truth->known[number])
		support_die("malloc");
	*truth->known[number] = *contents;
}

void note_add(struct failures_note note)
{
	struct truth *truth = &scenario.truth;

	for (unsigned i = 0; i < truth->note_count; i++)
		if (truth->note[i].generation == note.generation &&
		    truth->note[i].count == note.count)
			return;
	if (truth->note_count == MAYBE_MAX)
		support_die("too many notes at once");
	truth->note[truth->note_count++] = note;
}

void header_written(bool note)
{
	struct truth *truth = &scenario.truth;
	struct listing *listing = &truth->maybe[truth->maybe_count];
	struct thaw_error error;
	unsigned strangers = 0;

	if (truth->creating)
		return;
	if (listing_read(truth->path, listing, &error)) {
		violation(NULL, "after its header was written: %s", error.text);
		return;
	}
	if (listing_same(listing,
			 &truth->durable)) /* written again: what is in the log is still there */
		listing->opened = truth->durable.opened;
	if (note) { /* the block is written anew, without it; what is no progress writes it again */
		note_add((struct failures_note){0});
		truth->note_gone = !scenario.naming && listing->opened != truth->durable.opened;
	}
	for (int i = 0; i < listing->count; i++) {
		uint64_t number = listing->generation[i].number;

		if (number < NUMBERS_MAX && truth->known[number])
			continue;
		if (strangers++ || !scenario.next)
			violation(NULL, "generation %lu is listed, and nobody has made it", number);
		generation_know(number, scenario.next ? scenario.next : &scenario.now);
	}
	/* What was reported durable is in the newest ones: the oldest of many may go. */
	if (truth->maybe_count < MAYBE_MAX - 1)
		truth->maybe_count++;
	else
		support_die("too many commits in doubt");
}

void log_expect(uint64_t number)
{
	struct truth *truth = &scenario.truth;
	struct listing *listing = &truth->maybe[truth->maybe_count];

	if (!scenario.log || number >= NUMBERS_MAX)
		return;
	*listing = truth->durable;
	listing->opened = number;
	generation_know(number, scenario.next);
	if (truth->maybe_count < MAYBE_MAX - 1)
		truth->maybe_count++;
	else
		support_die("too many commits in doubt");
}

void reported_durable(void)
{
	struct truth *truth = &scenario.truth;
	struct thaw_error error;

	if (listing_read(truth->path, &truth->durable, &error))
		violation(NULL, "after a commit: %s", error.text);
	if (scenario.image && log_pending(scenario.image))
		truth->durable.opened = image_newest(scenario.image)->number;
	truth->maybe_count = 0;
	truth->exists = true;
	truth->empty = false;
	if (truth->note_gone) {
		truth->note_count = 0;
		note_add((struct failures_note){0});
	}
	truth->slot_suspect = false;
	disk_reported();
}
