// SPDX-License-Identifier: GPL-2.0-only
/*
 * program.c - a program that commits at random to an image that is replicated. Whatever becomes durable is noted before a replica can
 * have it: where the library tells the mirror so (ld's --wrap), and no take has begun yet.
 */
#define _GNU_SOURCE
#include "history.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/mirror.h"
#include "store/format.h"
#include "store/place.h"
#include "store/replicate.h"

#define PATIENCE_NS 600000000000ull

void __real_mirror_window_close(struct thaw_mirror *mirror, enum mirror_outcome outcome);
void __wrap_mirror_window_close(struct thaw_mirror *mirror, enum mirror_outcome outcome);
void __real_mirror_logged(struct thaw_mirror *mirror);
void __wrap_mirror_logged(struct thaw_mirror *mirror);

static struct program { /* of this process */
	struct line *line;
	const struct history_options *options;
	struct dice dice;
	struct image *image;
	struct thaw_mirror *mirror;
	struct replication *_Atomic replication;
	struct place *place; /* NULL: the file was there */
	struct contents now;
	unsigned
		news; /* so many points when there was news last: what a store has to have at the end */
	uint64_t time_ns;
	struct thaw_error error;
} program;

static unsigned below(unsigned limit)
{
	return dice_below(&program.dice, limit);
}

void line_problem(struct line *line, const char *format, ...)
{
	va_list arguments;

	if (line->problem[0])
		return;
	va_start(arguments, format);
	vsnprintf(line->problem, sizeof(line->problem), format, arguments);
	va_end(arguments);
}

/* ---- Points */

static void know(struct line *line, uint64_t number)
{
	if (!number || (number < NUMBERS_MAX && line->known[number]))
		return;
	if (number >= NUMBERS_MAX || !line->has_next) {
		line_problem(line, "generation %lu is there, and nobody has made it", number);
		return;
	}
	line->contents[number] = line->next;
	line->known[number] = true;
	line->has_next = false;
}

/* What was begun, or is lost, leaves its number to be used. */
static void forget_from(struct line *line, uint64_t number)
{
	for (; number < NUMBERS_MAX; number++)
		line->known[number] = false;
}

/* What the file is from here on. `opened`: the newest, perhaps in the log alone; 0: the newest that is listed. */
static void point_add(struct line *line, uint64_t sequence, uint64_t opened)
{
	unsigned count = line->count;
	struct point *point = &line->points[count];
	struct thaw_error error;

	if (count == POINTS) {
		line_problem(line, "too many points");
		return;
	}
	if (listing_read(line->path, &point->listing, &error)) {
		line_problem(line, "it cannot be listed: %s", error.text);
		return;
	}
	if (opened)
		point->listing.opened = opened;
	point->sequence = sequence;
	for (int i = 0; i < point->listing.count; i++)
		know(line, point->listing.generation[i].number);
	know(line, point->listing.opened);
	line->count = count + 1;
}

/* `news`: a store has to have it at the end; else it is the same, listed otherwise. */
static void note(const struct thaw_mirror *mirror, bool news)
{
	if (!mirror || mirror != program.mirror)
		return;
	point_add(program.line, mirror->image->identity.sequence,
		  image_newest(mirror->image)->number);
	if (news)
		program.news = program.line->count;
}

void __wrap_mirror_window_close(struct thaw_mirror *mirror, enum mirror_outcome outcome)
{
	if (outcome == MIRROR_NEWS || outcome == MIRROR_FOLDED)
		note(mirror, outcome == MIRROR_NEWS);
	__real_mirror_window_close(mirror, outcome);
}

void __wrap_mirror_logged(struct thaw_mirror *mirror)
{
	note(mirror, true);
	__real_mirror_logged(mirror);
}

/* The first point that is as new as what the store has. Called from the replication's threads. */
static void acknowledge(void *arg)
{
	struct replication *replication = program.replication;
	struct line *line = program.line;
	struct replication_status status;
	unsigned count = line->count, i;

	(void)arg;
	if (!replication)
		return;
	replicate_status(replication, &status);
	for (i = line->acknowledged ? line->acknowledged - 1 : 0; i < count; i++)
		if (line->points[i].sequence >= status.sequence &&
		    line->points[i].listing.opened >= status.generation)
			break;
	if (status.generation && i < count && i + 1 > line->acknowledged)
		line->acknowledged = i + 1;
}

/* ---- What it does */

struct image_options history_image(const struct history_options *options, const char *path)
{
	static const struct thaw_thinning thinning = {2, 3000000000};

	return (struct image_options){.path = path,
				      .create = true,
				      .engine = CRASH_ENGINE,
				      .compress = THAW_COMPRESS_LZ4,
				      .keyed = options->keyed,
				      .encrypted = options->encrypted,
				      .page_bytes = options->page_bytes,
				      .thinning = &thinning,
				      .thinning_count = options->thinned,
				      .retain = options->retain};
}

static void contents_change(struct contents *contents)
{
	unsigned count = 1 + below(6), from = below(HEAP_PAGES);

	switch (below(7)) {
	case 0: /* a run of pages */
		count = 10 + below(60);
		break;
	case 1: /* zeros: room becomes free */
		for (unsigned i = 10 + below(80); i; i--)
			contents->version[from++ % HEAP_PAGES] = 0;
		count = 0;
		break;
	case 2: /* the far ones: the tree grows */
		for (unsigned i = below(8); i < 8; i++)
			contents->version[i] = (uint32_t)dice_next(&program.dice);
		break;
	case 3: /* a state of many blocks, or none any more */
		contents->state_bytes = below(2) ? 100000 + below(1000000) : 0;
		/* What is encrypted stays as long: it takes objects of its own, besides the record. */
		if (program.options->encrypted && !below(3))
			contents->state_bytes = STORE_RECORD_FRAMES + below(3u << 20);
		break;
	default: /* the same few, and a state of some length */
		from = 8;
		contents->state_bytes = below(9000);
	}
	contents->state = (uint32_t)dice_next(&program.dice);
	while (count--)
		contents->version[from++ % HEAP_PAGES] = (uint32_t)dice_next(&program.dice);
}

static int commit(void)
{
	struct contents next = program.now;
	struct commit_extras extras = {.kind = below(4) ? THAW_KIND_PORTABLE : THAW_KIND_BOUND,
				       .twice = !below(4),
				       .touched = below(4) ? 0 : below(HEAP_PAGES)};
	char name[16];
	int code;

	contents_change(&next);
	if (!below(8)) {
		snprintf(name, sizeof(name), "name-%u", below(5));
		extras.name = name;
	}
	extras.time_ns = program.time_ns += below(2000000000);
	if (program.options->log && below(8)) {
		extras.log = program.options->log;
		if (image_newest(program.image)->number && below(8)) {
			extras.kind = image_newest(program.image)->kind;
			extras.name = NULL;
			extras.touched = 0;
		}
	}
	program.line->next = next;
	program.line->has_next = true;
	code = contents_commit(program.image, &program.now, &next, &extras, &program.dice,
			       &program.error);
	if (!code)
		program.now = next;
	return code;
}

static uint64_t deadline(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + PATIENCE_NS;
}

/* Until the store has all that there is. */
static int wait_for_store(void)
{
	struct thaw_mirror_news news;

	thaw_mirror_news(program.mirror, &news);
	return replicate_wait(program.replication, news.generation, deadline(), &program.error);
}

static int step(const struct life *life)
{
	struct line *line = program.line;
	unsigned doubtful = line->count - line->acknowledged;

	if (doubtful >= POINTS_IN_DOUBT - 4)
		return wait_for_store();
	switch (below(10)) {
	case 0:
		return image_fold(program.image, &program.error);
	case 1:
		return life->quiet ? 0 : wait_for_store();
	default:
		return commit();
	}
}

/* ---- Its life */

static void goes_on_from(uint64_t number)
{
	struct line *line = program.line;

	know(line, number);
	forget_from(line, program.image->next);
	line->has_next = false;
	if (number)
		program.now = line->contents[number];
}

/* Up to the point that the store had when it became this program's; the other one may go on meanwhile. */
static int line_fork(struct line *line, const struct line *from, uint64_t opened)
{
	static struct listing listing;
	unsigned i = from->count;

	if (listing_read(line->path, &listing, &program.error))
		return program.error.code;
	while (i && !(listing_same(&from->points[i - 1].listing, &listing) &&
		      from->points[i - 1].listing.opened == opened))
		i--;
	if (!i) {
		line_problem(line, "what was taken over, generation %lu, never was", opened);
		return THAW_EDAMAGED;
	}
	line->found = i - 1;
	memcpy(line->points, from->points, i * sizeof(*line->points));
	memcpy(line->contents, from->contents, sizeof(line->contents));
	memcpy(line->known, from->known, sizeof(line->known));
	line->count = line->acknowledged = i;
	return 0;
}

static int place_begin(const struct life *life, struct replicate_options *replicate)
{
	const struct place_options options = {.place = program.options->place,
					      .cache = program.line->path,
					      .program = "history",
					      .flags = life->whole ? PLACE_WHOLE : 0};
	int code = place_open(&options, &program.place, &program.error);

	if (code)
		return code;
	replicate->s3 = place_store(program.place);
	replicate->claim = place_claim(program.place);
	return 0;
}

static int image_begin(const struct life *life)
{
	struct image_options options = history_image(program.options, program.line->path);
	struct thaw_error fallback;
	int code = image_open(&options, &program.image, &fallback, &program.error);

	if (!code && fallback.code) {
		line_problem(program.line, "something is passed over: %s", fallback.text);
		return THAW_EDAMAGED;
	}
	if (!code && life->from)
		code = line_fork(program.line, life->from, image_opened(program.image)->number);
	if (code)
		return code;
	goes_on_from(image_opened(program.image)->number);
	return mirror_open(program.image, 0, &program.mirror, &program.error);
}

static int begin(const struct life *life)
{
	struct replicate_options replicate = {.place = program.options->place,
					      .image = program.line->path,
					      .program = "history",
					      .flags = life->flags,
					      .connect_ns = PATIENCE_NS,
					      .changed = acknowledge};
	struct replication *replication = NULL;
	int code = life->from ? place_begin(life, &replicate) : 0;

	if (!code)
		code = replicate_open(&replicate, &replication, &program.error);
	program.replication = replication;
	if (!code)
		code = image_begin(life);
	if (code)
		return code;
	if (image_newest(program.image)->number)
		point_add(program.line, program.image->identity.sequence,
			  image_newest(program.image)->number);
	if (program.place)
		code = place_fill(program.place, &program.error);
	return code ? code : replicate_start(replication, program.mirror, &program.error);
}

/* Until nothing of the file is missing: the next program opens it as any other. */
static void place_end(void)
{
	struct place_status status = {0};

	while (program.place && !status.complete) {
		place_status(program.place, &status);
		usleep(2000);
	}
	place_close(program.place);
}

_Noreturn void life_run(struct line *line, const struct history_options *options,
			const struct life *life)
{
	int code;

	program = (struct program){
		.line = line, .options = options, .dice = {life->seed}, .time_ns = line->count};
	code = begin(life);
	for (line->steps = 0; !code && line->steps < life->steps; line->steps++)
		code = step(life);
	if (!code && life->killed)
		raise(SIGKILL);
	if (!code)
		code = replicate_finish(program.replication, below(2), deadline(), &program.error);
	if (code == -EBUSY)
		_exit(PROGRAM_FENCED);
	if (code)
		line_problem(line, "step %u: %d: %s", line->steps, code, program.error.text);
	if (line->problem[0])
		_exit(PROGRAM_WRONG);
	if (program.news > line->acknowledged)
		line->acknowledged = program.news;
	replicate_close(program.replication);
	thaw_mirror_close(program.mirror);
	program.mirror = NULL;
	image_close(program.image);
	place_end();
	_exit(PROGRAM_ENDED);
}

/* ---- Between two programs */

static uint64_t sequence_of(const struct line *line)
{
	struct image_options options = {.path = line->path, .read_only = true};
	struct thaw_error error, fallback;
	struct image *image;
	uint64_t sequence;

	if (image_open(&options, &image, &fallback, &error))
		return 0;
	sequence = image->identity.sequence;
	image_close(image);
	return sequence;
}

static int key_change(const char *path, struct thaw_error *error)
{
	static const uint8_t other[THAW_KEY_BYTES] = {9};
	const struct thaw_key_secret secret = {THAW_KEY_FILE, other, sizeof(other), "another"};
	int code = thaw_image_key_add(path, &secret, error);

	return code > 0 ? thaw_image_key_remove(path, (unsigned)code, error) : code;
}

void change_offline(struct line *line, const struct history_options *options, struct dice *dice)
{
	static struct listing listing;
	struct thaw_generation made;
	struct thaw_error error;
	char name[16];
	uint64_t number;
	int code = thaw_image_settle(line->path, &error);

	if (code || listing_read(line->path, &listing, &error) || !listing.count)
		return;
	know(line, listing.generation[listing.count - 1].number);
	forget_from(line, listing.generation[listing.count - 1].number + 1);
	number = listing.generation[dice_below(dice, (unsigned)listing.count)].number;
	snprintf(name, sizeof(name), "name-%u", dice_below(dice, 5));
	switch (dice_below(dice, 5)) {
	case 0:
		code = thaw_image_tag(line->path, name, number, THAW_TAG_MOVE, &error);
		break;
	case 1:
		if (listing.name_count)
			code = thaw_image_untag(line->path, listing.name[0].name, &error);
		break;
	case 2:
		line->next = line->contents[number];
		line->has_next = true;
		code = thaw_image_rollback(line->path, number, &made, &error);
		break;
	case 3:
		code = thaw_image_compact(line->path, dice_below(dice, 2) ? 0 : THAW_COMPACT_NEWEST,
					  NULL, NULL, &error);
		break;
	default:
		if (options->encrypted)
			code = key_change(line->path, &error);
	}
	if (code)
		line_problem(line, "a change of the file fails: %s", error.text);
	point_add(line, sequence_of(line), 0);
}
