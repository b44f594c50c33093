// SPDX-License-Identifier: GPL-2.0-only
/*
 * scenario.c - a program that commits, fails, is killed, goes back, and loses power, at random; and at
 * every call that changes the disk, the states that a power cut there could leave, each checked
 * (check.c).
 *
 * What the program does is a table (operations): a new operation of the library is one line there,
 * and a function of a few. What a commit is going to list is not predicted here but read from the image
 * as the page cache has it, right after its header slot was written (header_written()): so the
 * scenarios know nothing of retention rules, which have their own tests. What each generation holds is
 * the model's.
 *
 * Everything follows from the seed: a scenario run again takes the same course, and its states have the
 * same numbers. A state's own dice are not the scenario's, so that one state alone can be checked.
 */
#define _GNU_SOURCE
#include "crash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../in_memory.h"
#include "image/store.h"
#include "../support.h"

static struct scenario {
	const struct scenario_options *options;
	struct tally *tally;
	struct dice dice;
	char directory[128], path[192];
	struct truth truth;
	struct image *image;
	struct contents now;	     /* what the program has in memory */
	const struct contents *next; /* what a generation that appears holds */
	const char *doing;
	unsigned step;
	uint64_t states; /* tried so far */
	uint64_t *seen;	 /* hashes of states */
	size_t seen_capacity, seen_count;
	uint64_t time_ns;	 /* the clock */
	bool thinned;		 /* older generations are kept by their age */
	unsigned bound;		 /* of ten generations, so many are bound */
	uint64_t log;		 /* bytes of a log; 0: none is made */
	bool over;		 /* something was wrong: the rest means nothing */
	bool naming;		 /* the commit under way makes no generation */
	bool quiet;		 /* no power cut for now */
	struct thaw_error error; /* of the last change */
} scenario;

static unsigned below(unsigned limit)
{
	return dice_below(&scenario.dice, limit);
}

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

__attribute__((format(printf, 2, 3))) static void violation(const struct cut *cut,
							    const char *format, ...)
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

/* The power may be cut here. */
static void moment(const char *what, bool sync)
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

static void generation_know(uint64_t number, const struct contents *contents)
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

static void note_add(struct failures_note note)
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

static void header_written(bool note)
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

/* Something new may be found from here on: an entry of the log, if that is what the commit writes. */
static void log_expect(uint64_t number)
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

/* The library said so. */
static void reported_durable(void)
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

/* ---- The program */

static struct image_options image_options(void)
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

/* A process is started, or another after it. False: it failed, as it was meant to. */
static bool writer_start(struct image_options options)
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

static void writer_end(void)
{
	disk_resume();
	image_close(scenario.image);
	disk_pause();
	scenario.image = NULL;
}

static void writer_restart(struct image_options options)
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

/* One commit. Its code; whatever it is, the program goes on. */
static int commit_contents(const struct contents *to)
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

/* ---- Operations */

static int writer_commit(void)
{
	struct contents next = scenario.now;

	contents_change(&next);
	return commit_contents(&next);
}

/* The listing as a reader sees it now. False: it is empty. */
static bool listing_now(struct listing *listing)
{
	struct thaw_error error;

	if (listing_read(scenario.path, listing, &error))
		violation(NULL, "without a crash: %s", error.text);
	return listing->count > 0;
}

static uint64_t any_listed(const struct listing *listing)
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

/* By a process that was started again, before it does anything else. */
static int acknowledged(void)
{
	return acknowledge(settle);
}

/* Everything that makes something durable, and may fail. */
static const struct change {
	unsigned weight;
	int (*run)(void);
} changes[] = {
	{12, writer_commit},   {2, history_tag},     {1, history_untag},
	{1, history_rollback}, {1, history_compact}, {1, history_keys},
	{2, unchanged},	       {2, acknowledged},    {2, fold},
};

static int change_any(void)
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
