/* SPDX-License-Identifier: MIT */
/*
 * diff_process.c - thaw diff of two generations of a process: threads and descriptors that came, went or changed, and
 * of each area of the address space how many of its pages did. Reads only; the image may be in use. One thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "areas.h"
#include "base/failure.h"
#include "page_changes.h"

#define LIMIT_DEFAULT 1000u

struct changes { /* numbers of pages */
	uint64_t appeared, vanished, changed, lost;
};

struct comparing {
	const struct description *sides[2];
	struct changes *pages
		[2]; /* of each area of the newer side; of the older one, those that are gone */
	struct changes all;
	uint32_t page_bytes;
	const struct thaw_page_change *change;
	struct json *json; /* NULL: for people */
	FILE *to;
	uint64_t limit, told, found;
};

/* ---- Pages */

static void changes_add(struct changes *to, enum thaw_change_kind kind, uint64_t pages)
{
	switch (kind) {
	case THAW_CHANGE_APPEARED:
		to->appeared += pages;
		break;
	case THAW_CHANGE_VANISHED:
		to->vanished += pages;
		break;
	case THAW_CHANGE_CHANGED:
		to->changed += pages;
		break;
	default:
		to->lost += pages;
		break;
	}
}

static void add_older(void *arg, const struct area *area, uint64_t first, uint64_t pages)
{
	struct comparing *comparing = arg;

	(void)first;
	if (area)
		changes_add(&comparing->pages[0][area - comparing->sides[0]->areas],
			    comparing->change->kind, pages);
}

static void add_newer(void *arg, const struct area *area, uint64_t first, uint64_t pages)
{
	struct comparing *comparing = arg;

	if (area)
		changes_add(&comparing->pages[1][area - comparing->sides[1]->areas],
			    comparing->change->kind, pages);
	else
		description_split(comparing->sides[0], comparing->page_bytes, first, pages,
				  add_older, comparing);
}

static int add_change(void *arg, const struct thaw_page_change *change)
{
	struct comparing *comparing = arg;

	comparing->change = change;
	changes_add(&comparing->all, change->kind, change->pages);
	description_split(comparing->sides[1], comparing->page_bytes, change->first, change->pages,
			  add_newer, comparing);
	return 0;
}

static void json_changes(struct json *json, const struct changes *pages)
{
	json_number(json, "appeared", pages->appeared);
	json_number(json, "vanished", pages->vanished);
	json_number(json, "changed", pages->changed);
	json_number(json, "lost", pages->lost);
}

/* ---- Telling */

/* One more difference: is there room for its line? */
static bool may_tell(struct comparing *comparing)
{
	comparing->found++;
	if (comparing->found > comparing->limit)
		return false;
	comparing->told++;
	return true;
}

static const char *change_word(char sign)
{
	return sign == '+' ? "appeared" : sign == '-' ? "vanished" : "changed";
}

/* For people: escaped, since it comes from an image. */
static void put(struct comparing *comparing, const char *text)
{
	size_t room = thaw_escape(text, NULL, 0) + 1;
	char *escaped = malloc(room);

	if (!escaped)
		return;
	thaw_escape(text, escaped, room);
	fputs(escaped, comparing->to);
	free(escaped);
}

/* ---- Threads */

static const struct thread *find_thread(const struct process_state *state, int32_t remembered)
{
	for (unsigned i = 0; i < state->thread_count; i++)
		if (state->threads[i].remembered == remembered)
			return &state->threads[i];
	return NULL;
}

static void tell_thread(struct comparing *comparing, char sign, const struct thread *thread,
			const char *before)
{
	struct json *json = comparing->json;

	if (!may_tell(comparing))
		return;
	if (json) {
		json_open(json, NULL, '{');
		json_text(json, "change", change_word(sign));
		json_number(json, "tid", (uint64_t)thread->remembered);
		json_text(json, "name", thread->name);
		json_close(json, '}');
		return;
	}
	fprintf(comparing->to, "%c thread %d: ", sign, thread->remembered);
	if (before) {
		put(comparing, before);
		fputs(" -> ", comparing->to);
	}
	put(comparing, thread->name);
	fputc('\n', comparing->to);
}

static void compare_threads(struct comparing *comparing)
{
	const struct process_state *older = &comparing->sides[0]->state;
	const struct process_state *newer = &comparing->sides[1]->state;

	for (unsigned i = 0; i < older->thread_count; i++)
		if (!find_thread(newer, older->threads[i].remembered))
			tell_thread(comparing, '-', &older->threads[i], NULL);
	for (unsigned i = 0; i < newer->thread_count; i++) {
		const struct thread *thread = &newer->threads[i];
		const struct thread *before = find_thread(older, thread->remembered);

		if (!before)
			tell_thread(comparing, '+', thread, NULL);
		else if (strcmp(before->name, thread->name) != 0)
			tell_thread(comparing, '~', thread, before->name);
	}
}

/* ---- Descriptors */

static void tell_descriptor(struct comparing *comparing, const struct described_descriptor *before,
			    const struct described_descriptor *after)
{
	const struct described_descriptor *descriptor = after ? after : before;
	char sign = before && after ? '~' : after ? '+' : '-';
	struct json *json = comparing->json;

	if (!may_tell(comparing))
		return;
	if (json) {
		json_open(json, NULL, '{');
		json_text(json, "change", change_word(sign));
		json_number(json, "number", (uint64_t)descriptor->number);
		json_text(json, "kind", descriptor->kind);
		if (before)
			json_text(json, "from", before->what);
		if (after)
			json_text(json, "to", after->what);
		json_close(json, '}');
		return;
	}
	fprintf(comparing->to, "%c descriptor %d: ", sign, descriptor->number);
	if (before && after && !strcmp(before->kind, after->kind)) {
		put(comparing, after->kind);
		fputs(", ", comparing->to);
		put(comparing, before->what);
		fputs(" -> ", comparing->to);
		put(comparing, after->what);
	} else if (before && after) {
		put(comparing, before->kind);
		fputs(" -> ", comparing->to);
		put(comparing, after->kind);
		fputs(", ", comparing->to);
		put(comparing, after->what);
	} else {
		put(comparing, descriptor->kind);
		fputs(", ", comparing->to);
		put(comparing, descriptor->what);
	}
	fputc('\n', comparing->to);
}

/* Both lists are in the order of the numbers. */
static void compare_descriptors(struct comparing *comparing)
{
	const struct description *older = comparing->sides[0], *newer = comparing->sides[1];
	size_t i = 0, j = 0;

	while (i < older->descriptor_count || j < newer->descriptor_count) {
		const struct described_descriptor *before =
			i < older->descriptor_count ? &older->descriptors[i] : NULL;
		const struct described_descriptor *after =
			j < newer->descriptor_count ? &newer->descriptors[j] : NULL;

		if (before && after && before->number != after->number)
			*(before->number < after->number ? &after : &before) = NULL;
		i += !!before;
		j += !!after;
		if (!before || !after || strcmp(before->kind, after->kind) != 0 ||
		    strcmp(before->what, after->what) != 0)
			tell_descriptor(comparing, before, after);
	}
}

/* ---- Areas */

static bool changed(const struct changes *pages)
{
	return pages->appeared || pages->vanished || pages->changed || pages->lost;
}

static void json_area(struct comparing *comparing, char sign, const struct area *before,
		      const struct area *area, const struct changes *pages)
{
	struct json *json = comparing->json;

	json_open(json, NULL, '{');
	json_text(json, "change", change_word(sign));
	json_number(json, "start", area->start);
	json_number(json, "end", area->end);
	if (before)
		json_number(json, "endBefore", before->end);
	json_text(json, "kind", area_kind_name(area->kind));
	json_text(json, "name", area->name);
	json_text(json, "protection", area_protection(area->protection).s);
	if (before)
		json_text(json, "protectionBefore", area_protection(before->protection).s);
	json_open(json, "pages", '{');
	json_changes(json, pages);
	json_close(json, '}');
	json_close(json, '}');
}

static void print_count(FILE *to, const char **comma, uint64_t pages, const char *word)
{
	if (!pages)
		return;
	fprintf(to, "%s%s %s", *comma, format_count(pages).s, word);
	*comma = ", ";
}

/* `before`: NULL, or what the area was before. */
static void tell_area(struct comparing *comparing, char sign, const struct area *before,
		      const struct area *area, const struct changes *pages)
{
	uint64_t bytes = (pages->appeared + pages->vanished + pages->changed + pages->lost) *
			 comparing->page_bytes;
	const char *comma = "";
	FILE *to = comparing->to;

	if (!may_tell(comparing))
		return;
	if (comparing->json) {
		json_area(comparing, sign, before, area, pages);
		return;
	}
	fprintf(to, "%c %llx ", sign, (unsigned long long)area->start);
	put(comparing, area_short_name(area));
	if (before && before->end != area->end)
		fprintf(to, ", %s -> %s", format_bytes(before->end - before->start).s,
			format_bytes(area->end - area->start).s);
	else if (sign != '~')
		fprintf(to, ", %s", format_bytes(area->end - area->start).s);
	if (before && before->protection != area->protection)
		fprintf(to, ", %s -> %s", area_protection(before->protection).s,
			area_protection(area->protection).s);
	if (bytes) {
		fputs(": pages ", to);
		print_count(to, &comma, pages->appeared, "appeared");
		print_count(to, &comma, pages->vanished, "vanished");
		print_count(to, &comma, pages->changed, "changed");
		print_count(to, &comma, pages->lost, "lost");
		fprintf(to, " (%s)", format_bytes(bytes).s);
	}
	fputc('\n', to);
}

/* Both lists are in the order of the addresses. */
static void compare_areas(struct comparing *comparing)
{
	const struct description *older = comparing->sides[0], *newer = comparing->sides[1];
	size_t i = 0, j = 0;

	while (i < older->area_count || j < newer->area_count) {
		const struct area *before = i < older->area_count ? &older->areas[i] : NULL;
		const struct area *after = j < newer->area_count ? &newer->areas[j] : NULL;

		if (before && after &&
		    (before->start != after->start || strcmp(before->name, after->name) != 0))
			*(before->start <= after->start ? &after : &before) = NULL;
		if (before && after) {
			if (before->end != after->end || before->protection != after->protection ||
			    changed(&comparing->pages[1][j]))
				tell_area(comparing, '~', before, after, &comparing->pages[1][j]);
		} else if (after) {
			tell_area(comparing, '+', NULL, after, &comparing->pages[1][j]);
		} else {
			tell_area(comparing, '-', NULL, before, &comparing->pages[0][i]);
		}
		i += !!before;
		j += !!after;
	}
}

/* ---- All of it */

/* A program that has ended has no process: that is all that is to say. */
static bool ended(const struct comparing *comparing)
{
	return comparing->sides[0]->state.finished || comparing->sides[1]->state.finished;
}

static void print_end(const struct comparing *comparing)
{
	const struct process_state *older = &comparing->sides[0]->state;
	const struct process_state *newer = &comparing->sides[1]->state;

	if (newer->finished && !older->finished)
		fprintf(comparing->to, "- the process: the program ended with exit code %d\n",
			newer->exit_code);
	else if (!newer->finished)
		fputs("+ the process: the program had ended before\n", comparing->to);
	else if (newer->exit_code != older->exit_code)
		fprintf(comparing->to, "~ the exit code: %d -> %d\n", older->exit_code,
			newer->exit_code);
}

static void print_all(struct comparing *comparing)
{
	const struct changes *all = &comparing->all;

	fprintf(comparing->to, "pages: %s appeared, %s vanished, %s changed",
		format_count(all->appeared).s, format_count(all->vanished).s,
		format_count(all->changed).s);
	if (all->lost)
		fprintf(comparing->to, ", %s lost", format_count(all->lost).s);
	fprintf(comparing->to, " (%s)\n",
		format_bytes((all->appeared + all->vanished + all->changed + all->lost) *
			     comparing->page_bytes)
			.s);
	if (ended(comparing)) {
		print_end(comparing);
		return;
	}
	compare_threads(comparing);
	compare_descriptors(comparing);
	compare_areas(comparing);
	if (comparing->found > comparing->told)
		fprintf(comparing->to, "and %s more (--limit)\n",
			format_count(comparing->found - comparing->told).s);
}

static void write_all(struct comparing *comparing, const char *path)
{
	struct json *json = comparing->json;

	json_open(json, NULL, '{');
	json_text(json, "image", path);
	json_number(json, "from", comparing->sides[0]->generation);
	json_number(json, "to", comparing->sides[1]->generation);
	json_number(json, "pageBytes", comparing->page_bytes);
	json_open(json, "pages", '{');
	json_changes(json, &comparing->all);
	json_close(json, '}');
	for (unsigned i = 0; i < 2; i++)
		if (comparing->sides[i]->state.finished)
			json_number(json, i ? "exitCode" : "exitCodeBefore",
				    (uint64_t)comparing->sides[i]->state.exit_code);
	json_open(json, "threads", '[');
	compare_threads(comparing);
	json_close(json, ']');
	json_open(json, "descriptors", '[');
	compare_descriptors(comparing);
	json_close(json, ']');
	json_open(json, "areas", '[');
	compare_areas(comparing);
	json_close(json, ']');
	json_number(json, "notShown", comparing->found - comparing->told);
	json_close(json, '}');
	fputc('\n', comparing->to);
}

static int compare(struct comparing *comparing, struct thaw_image *image, const char *path,
		   struct thaw_error *error)
{
	int code;

	for (unsigned i = 0; i < 2; i++) {
		comparing->pages[i] =
			calloc(comparing->sides[i]->area_count + 1, sizeof(struct changes));
		if (!comparing->pages[i])
			return failure(error, -ENOMEM, "no memory to compare");
	}
	code = thaw_image_diff(image, comparing->sides[0]->generation,
			       comparing->sides[1]->generation, add_change, comparing, error);
	if (code && code != THAW_EDAMAGED)
		return code;
	if (comparing->json)
		write_all(comparing, path);
	else
		print_all(comparing);
	return code;
}

int process_diff(struct thaw_image *image, const char *path, const uint64_t generations[2],
		 const struct cli_options *options, FILE *to, struct thaw_error *error)
{
	struct json json = {.to = to};
	struct description sides[2];
	struct comparing comparing = {
		.sides = {&sides[0], &sides[1]},
		.json = options->json ? &json : NULL,
		.to = to,
		.limit = options->limit ? options->limit : LIMIT_DEFAULT,
	};
	struct thaw_image_info info;
	int code = thaw_image_info(image, false, &info, error);

	if (code < 0)
		return code;
	comparing.page_bytes = info.page_bytes;
	code = description_read(image, generations[0], path, &sides[0], error);
	if (code)
		return code;
	code = description_read(image, generations[1], path, &sides[1], error);
	if (!code) {
		code = compare(&comparing, image, path, error);
		description_free(&sides[1]);
	}
	description_free(&sides[0]);
	free(comparing.pages[0]);
	free(comparing.pages[1]);
	return code;
}
