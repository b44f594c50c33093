// SPDX-License-Identifier: GPL-2.0-only
/*
 * judge.c - what a store gives back, all by itself, is one of the points of a line, and no older than what was acknowledged: by the
 * rules that a power cut is judged by (crash/check.c).
 */
#define _GNU_SOURCE
#include "history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/pull.h"

static void truth_make(struct truth *truth, struct contents *contents, const struct line *line,
		       const struct history_options *options, const char *path)
{
	unsigned acknowledged = line->acknowledged, count = line->count,
		 first = acknowledged ? acknowledged - 1 : 0;

	*truth = (struct truth){.path = path,
				.page_bytes = options->page_bytes,
				.keyed = options->keyed,
				.encrypted = options->encrypted,
				.retain = options->retain,
				.exists = true,
				.note_count = 1};
	truth->durable = line->points[first].listing;
	for (unsigned i = first + 1; i < count && truth->maybe_count < MAYBE_MAX; i++)
		truth->maybe[truth->maybe_count++] = line->points[i].listing;
	for (unsigned number = 0; number < NUMBERS_MAX; number++) {
		if (!line->known[number])
			continue;
		contents[number] = line->contents[number];
		truth->known[number] = &contents[number];
	}
}

/* The newest one that lists this. */
static unsigned point_find(const struct line *line, const struct listing *listing)
{
	for (unsigned i = line->count; i--;)
		if (listing_same(&line->points[i].listing, listing))
			return i;
	return UINT32_MAX;
}

const char *judge_pull(const struct history_options *options, const char *path)
{
	const struct pull_options pull = {
		.place = options->place, .image = path, .flags = PULL_REPLACE};
	struct thaw_error error;
	int code = pull_image(&pull, NULL, &error);

	return code ? wrong("it does not come back: %d: %s", code, error.text) : NULL;
}

const char *judge(const struct line *line, const struct history_options *options, const char *path,
		  struct dice *dice, unsigned *found)
{
	static struct contents contents[NUMBERS_MAX];
	static struct listing listing;
	static struct truth truth;
	const struct pull_options pull = {
		.place = options->place, .image = path, .flags = PULL_REPLACE};
	struct pull_status status = {0};
	struct thaw_error error = {0};
	int code;

	*found = UINT32_MAX;
	code = pull_image(&pull, &status, &error);
	if (code == -ENOENT || (!code && !status.record.generation))
		return line->acknowledged
			       ? wrong("the store has no generation, and %u points were acknowledged",
				       line->acknowledged)
			       : NULL;
	if (code)
		return wrong("it does not come back: %d: %s", code, error.text);
	if (listing_read(path, &listing, &error))
		return wrong("it cannot be listed: %s", error.text);
	*found = point_find(line, &listing);
	truth_make(&truth, contents, line, options, path);
	return check_image(&truth, path, false, dice);
}

void line_cut(struct line *line, unsigned found)
{
	line->count = found + 1;
	if (line->acknowledged > line->count)
		line->acknowledged = line->count;
}
