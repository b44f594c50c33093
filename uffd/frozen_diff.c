/* SPDX-License-Identifier: MIT */
/*
 * frozen_diff.c - in which pages two frozen heaps differ. Candidates are the pages of either's overlay, and those in which
 * their bases may differ, if they are relations; else all that either has. Candidates are compared byte by byte.
 *
 * Any thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frozen.h"

struct diff {
	const struct layers *from, *to;
	size_t page_bytes;
	char *from_page, *to_page; /* what had to be read */
	struct thaw_page_change change;
	int (*visit)(void *arg, const struct thaw_page_change *change);
	void *arg;
};

static void add_overlay(const struct layers *layers, struct bitmap *pages)
{
	for (size_t i = 0; i < layers->own_count; i++)
		bitmap_set(pages, layers->own[i].page);
}

static int candidates(const struct diff *diff, struct bitmap *pages)
{
	const struct layers *from = diff->from, *to = diff->to;
	uint64_t shorter = from->base_bytes < to->base_bytes ? from->base_bytes : to->base_bytes;
	uint64_t longer = from->base_bytes ^ to->base_bytes ^ shorter;
	int code;

	if (!base_differences(from->base, to->base, pages)) {
		struct bitmap more;

		bitmap_clear_all(pages);
		code = bitmap_init(&more, pages->bits);
		if (code)
			return code;
		code = layers_data(from, pages, diff->page_bytes);
		if (!code)
			code = layers_data(to, &more, diff->page_bytes);
		bitmap_merge(pages, &more);
		bitmap_free(&more);
		return code;
	}
	add_overlay(from, pages);
	add_overlay(to, pages);
	if (shorter < longer)
		bitmap_set_range(pages, shorter / diff->page_bytes,
				 (longer - shorter) / diff->page_bytes);
	return 0;
}

static bool same_copy(const struct diff *diff, uint64_t page)
{
	size_t a = own_find(diff->from->own, diff->from->own_count, page),
	       b = own_find(diff->to->own, diff->to->own_count, page);

	return a < diff->from->own_count && b < diff->to->own_count &&
	       diff->from->own[a].page == page && diff->to->own[b].page == page &&
	       diff->from->own[a].copy == diff->to->own[b].copy;
}

/* -errno, 0: they are the same, or 1, and *kind. */
static int compare(const struct diff *diff, uint64_t page, enum thaw_change_kind *kind)
{
	const char *from, *to;
	int code;

	if (same_copy(diff, page))
		return 0;
	from = layers_page(diff->from, page, diff->from_page, diff->page_bytes, &code);
	if (code)
		return code;
	to = layers_page(diff->to, page, diff->to_page, diff->page_bytes, &code);
	if (code)
		return code;
	if (from && page_is_zero(from, diff->page_bytes))
		from = NULL;
	if (to && page_is_zero(to, diff->page_bytes))
		to = NULL;
	if (from == to || (from && to && !memcmp(from, to, diff->page_bytes)))
		return 0;
	*kind = !from ? THAW_CHANGE_APPEARED : !to ? THAW_CHANGE_VANISHED : THAW_CHANGE_CHANGED;
	return 1;
}

static int flush(struct diff *diff)
{
	int code = diff->change.pages ? diff->visit(diff->arg, &diff->change) : 0;

	diff->change.pages = 0;
	return code;
}

static int tell(struct diff *diff, uint64_t page, enum thaw_change_kind kind)
{
	struct thaw_page_change *change = &diff->change;
	int code = 0;

	if (change->pages && (change->first + change->pages != page || change->kind != kind))
		code = flush(diff);
	if (!change->pages)
		*change = (struct thaw_page_change){.first = page, .kind = kind};
	change->pages++;
	return code;
}

static int walk(struct diff *diff, uint64_t most)
{
	enum thaw_change_kind kind = THAW_CHANGE_CHANGED;
	struct bitmap pages;
	int code = bitmap_init(&pages, most + 1);

	if (code)
		return code;
	code = candidates(diff, &pages);
	for (uint64_t at = 0; !code && (at = bitmap_next(&pages, at)) != UINT64_MAX; at++) {
		code = compare(diff, at, &kind);
		if (code > 0)
			code = tell(diff, at, kind);
	}
	bitmap_free(&pages);
	return code ? code : flush(diff);
}

int thaw_frozen_diff(const struct thaw_frozen *from, const struct thaw_frozen *to,
		     int (*visit)(void *arg, const struct thaw_page_change *change), void *arg,
		     struct thaw_error *error)
{
	size_t page_bytes = frozen_page_bytes();
	struct layers *old = frozen_layers(from), *new = frozen_layers(to);
	uint64_t most = from->bytes > to->bytes ? from->bytes : to->bytes;
	struct diff diff = {
		old,	   new, page_bytes, malloc(page_bytes), malloc(page_bytes), .visit = visit,
		.arg = arg};
	int code = diff.from_page && diff.to_page ? 0 : -ENOMEM;

	/* A base may be longer than what is used of it. */
	if (old->base && old->base->bytes > most)
		most = old->base->bytes;
	if (new->base &&new->base->bytes > most)
		most = new->base->bytes;
	if (!code)
		code = old == new ? 0 : walk(&diff, most / page_bytes);
	if (code < 0)
		error_set(error, code, "cannot compare frozen heaps: %s", thaw_strerror(code));
	free(diff.from_page);
	free(diff.to_page);
	layers_drop(old);
	layers_drop(new);
	return code;
}
