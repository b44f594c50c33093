// SPDX-License-Identifier: GPL-2.0-only
/*
 * contents.c - what a generation holds, written to an image and compared with one; and what an image
 * lists. Nothing here is told what to expect of a crash (check.c).
 */
#define _GNU_SOURCE
#include "../by_path.h"
#include "crash.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/store.h"

const char *wrong(const char *format, ...)
{
	static char message[2][1024]; /* one may be told with the other in it */
	static unsigned turn;
	va_list arguments;

	turn = !turn;
	va_start(arguments, format);
	vsnprintf(message[turn], sizeof(message[turn]), format, arguments);
	va_end(arguments);
	return message[turn];
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
	unsigned period = base % 4 ? 16u << base % 5 : page_bytes; /* some cannot be compressed */

	if (!contents->version[i]) {
		memset(page, 0, page_bytes);
		return;
	}
	for (unsigned word = 0; word < page_bytes / 8; word++)
		words[word] = base + word % period * 0x9e3779b97f4a7c15ull;
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
	static struct extent_scratch scratch;
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
		if (extent->encoding == EXTENT_RAW && !extent->offset) { /* in the log alone */
			const struct log_page *known = log_pages_find(&image->log.pages, number);

			if (!known || !known->bytes)
				return wrong("page %lu of generation %lu is nowhere", number,
					     image_opened(image)->number);
			memcpy(page, known->bytes, page_bytes);
		} else if (extent_is_stored(extent) &&
			   extent_read(&scratch, image_fd(image), image_key(image), number, extent,
				       page, page_bytes))
			return wrong("page %lu of generation %lu at offset %lu is damaged", number,
				     image_opened(image)->number, extent->offset);
		if (!extent_matches(image_key(image), extent, page, page_bytes))
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
		if (!contents->version[i] && (i + contents->state) % 3 == 0) { /* given up */
			code = commit_drop(commit, heap_page(i), 1, error);
			continue;
		}
		contents_fill_page(contents, i, page_bytes, page);
		code = commit_page(commit, heap_page(i), page, &stored, error);
	}
	return code;
}

static int working_set_store(struct commit *commit, const struct image *image, unsigned touched,
			     struct thaw_error *error)
{
	uint64_t pages[HEAP_PAGES];

	for (unsigned i = 0; i < touched; i++)
		pages[i] = heap_page(i);
	return commit_working_set(commit, pages, touched, image_opened(image)->number, error);
}

int contents_commit(struct image *image, const struct contents *before,
		    const struct contents *contents, const struct commit_extras *extras,
		    struct dice *dice, struct thaw_error *error)
{
	uint8_t *state = malloc(contents->state_bytes + 1);
	struct thaw_generation generation = {.time_ns = extras->time_ns,
					     .heap_bytes = 65536,
					     .reason = THAW_REASON_TIMER,
					     .kind = extras->kind};
	uint32_t page_bytes = image->identity.page_bytes;
	struct contents passing = *contents;
	struct commit *commit;
	int code;

	if (extras->log) {
		image_log_wanted(image);
		image->log.bytes = extras->log;
		image->log.bytes_large = extras->log < (256u << 10) ? 4 * extras->log : 0;
		image->log.fold_ns = UINT64_MAX; /* everything follows from the seed */
	}
	code = state ? commit_begin(image, &commit, error) : -ENOMEM;

	if (code) {
		free(state);
		return code;
	}
	if (extras->twice) {
		for (unsigned i = 0; i < HEAP_PAGES; i++)
			if (!dice_below(dice, 6))
				passing.version[i] = dice_below(dice, 4) ? (uint32_t)dice_next(dice)
									 : 0;
		code = pages_store(commit, before, &passing, page_bytes, error);
	}
	if (!code)
		code = pages_store(commit, extras->twice ? &passing : before, contents, page_bytes,
				   error);
	if (!code && extras->name)
		code = commit_name(commit, extras->name, &(uint64_t){COMMIT_ITSELF}, error);
	if (!code && extras->touched && image_opened(image)->number)
		code = working_set_store(commit, image, extras->touched, error);
	if (!code) {
		contents_fill_state(contents, state);
		code = 1;
		if (extras->log) {
			if (extras->logging)
				extras->logging(true);
			code = commit_log(commit, &generation, state, contents->state_bytes, error);
			if (extras->logging)
				extras->logging(false);
		}
		if (extras->logged)
			*extras->logged = !code;
		if (code > 0)
			code = commit_finish(commit, &generation, state, contents->state_bytes,
					     error);
	}
	if (code)
		commit_abort(commit);
	free(state);
	return code;
}

const char *working_set_check(struct image *image)
{
	struct thaw_error error;
	uint64_t *pages, generation;
	int count = image_read_working_set(image, &pages, &generation, &error);
	const char *result = NULL;

	if (count < 0)
		return wrong("the working set: %s", error.text);
	for (int i = 0; i < count && !result; i++)
		if (i >= (int)HEAP_PAGES || pages[i] != heap_page((unsigned)i))
			result = wrong("the working set has another page at %d", i);
	free(pages);
	return result;
}

/* ---- Listings */

int listing_read(const char *path, struct listing *listing, struct thaw_error *error)
{
	struct thaw_generation *log;
	struct thaw_name *names;
	int count = path_log(path, &log, error), name_count;

	listing->count = count < 0 ? 0 : count;
	if (count < 0)
		return count;
	name_count = path_names(path, &names, error);
	if (count > (int)LISTED_MAX || name_count > (int)LISTED_MAX)
		abort();
	memcpy(listing->generation, log, (size_t)count * sizeof(*log));
	free(log);
	if (name_count < 0)
		return name_count;
	listing->name_count = name_count;
	listing->opened = count ? listing->generation[count - 1].number : 0;
	memcpy(listing->name, names, (size_t)name_count * sizeof(*names));
	free(names);
	return 0;
}
