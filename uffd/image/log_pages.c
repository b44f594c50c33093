/* SPDX-License-Identifier: MIT */
/*
 * log_pages.c - the pages whose newest contents are in memory: those that the commit under way has staged,
 * those that are durable in the log alone, and those that were in it last time and may be again, of which an
 * entry holds what changed. The thread that commits, and who opens an image. Never does I/O.
 *
 *	  stage         logged                    folded
 *	 ------> staged -------> pending, known ---------> known --- not in the log in one cycle: forgotten
 *	            `--- unstage, or folded
 *
 * Until all is folded, a pending page has no other place than the log, where there may be only what changed
 * of it, and this memory. So it stays here, whatever becomes of the commits after it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define BUCKETS 4096u /* some pages for each of them at most, usually (LOG_HELD_MOST) */

static struct log_page **bucket_of(const struct log_pages *pages, uint64_t page)
{
	return &pages->buckets[(page ^ page >> 12 ^ page >> 24) % BUCKETS];
}

struct log_page *log_pages_find(const struct log_pages *pages, uint64_t page)
{
	struct log_page *at = pages->buckets ? *bucket_of(pages, page) : NULL;

	while (at && at->page != page)
		at = at->next_in_bucket;
	return at;
}

static struct log_page *page_add(struct log_pages *pages, uint64_t page)
{
	struct log_page *added, **bucket;

	if (!pages->buckets)
		pages->buckets = calloc(BUCKETS, sizeof(*pages->buckets));
	added = pages->buckets ? calloc(1, sizeof(*added)) : NULL;
	if (!added)
		return NULL;
	bucket = bucket_of(pages, page);
	added->page = page;
	added->next_in_bucket = *bucket;
	*bucket = added;
	pages->count++;
	return added;
}

static void bytes_free(struct log_pages *pages, uint8_t **bytes)
{
	if (*bytes)
		pages->held -= pages->page_bytes;
	free(*bytes);
	*bytes = NULL;
}

static void page_free(struct log_pages *pages, struct log_page *page)
{
	bytes_free(pages, &page->bytes);
	bytes_free(pages, &page->next_bytes);
	pages->count--;
	free(page);
}

int log_pages_stage(struct log_pages *pages, uint64_t page, const struct extent *extent,
		    const void *bytes)
{
	struct log_page *at = log_pages_find(pages, page);

	if (!at)
		at = page_add(pages, page);
	if (!at)
		return -ENOMEM;
	if (!at->staged) {
		if (pages->staged_count == pages->staged_room) {
			size_t room = pages->staged_room ? 2 * pages->staged_room : 64;
			struct log_page **more = realloc(pages->staged, room * sizeof(*more));

			if (!more)
				return -ENOMEM;
			pages->staged = more;
			pages->staged_room = room;
		}
		pages->staged[pages->staged_count++] = at;
		at->staged = true;
		at->next = (struct extent){0};
	}
	if (extent->encoding != EXTENT_RAW) {
		bytes_free(pages, &at->next_bytes);
	} else {
		if (!at->next_bytes) {
			at->next_bytes = malloc(pages->page_bytes);
			if (!at->next_bytes)
				return -ENOMEM;
			pages->held += pages->page_bytes;
		}
		memcpy(at->next_bytes, bytes, pages->page_bytes);
	}
	at->written = false;
	at->next = *extent;
	return 0;
}

void log_pages_wrote(struct log_pages *pages, uint64_t page)
{
	struct log_page *at = log_pages_find(pages, page);

	if (!at)
		return;
	at->written = true;
	if (!at->staged)
		return;
	bytes_free(pages, &at->next_bytes);
	at->staged = false;
	for (size_t i = 0; i < pages->staged_count; i++)
		if (pages->staged[i] == at) {
			pages->staged[i] = pages->staged[--pages->staged_count];
			break;
		}
}

/* What was staged is the contents now. */
static void page_advance(struct log_pages *pages, struct log_page *at)
{
	bytes_free(pages, &at->bytes);
	at->bytes = at->next_bytes;
	at->next_bytes = NULL;
	at->extent = at->next;
	at->extent.own = false;
	at->staged = false;
	at->known = true;
}

void log_pages_logged(struct log_pages *pages)
{
	for (size_t i = 0; i < pages->staged_count; i++) {
		struct log_page *at = pages->staged[i];

		page_advance(pages, at);
		pages->pending += !at->pending;
		at->pending = true;
		at->cycle = pages->cycle;
	}
	pages->staged_count = 0;
}

void log_pages_spilled(struct log_pages *pages)
{
	for (size_t i = 0; i < pages->staged_count; i++) {
		bytes_free(pages, &pages->staged[i]->next_bytes);
		pages->staged[i]->staged = false;
		pages->staged[i]->written = true;
	}
	pages->staged_count = 0;
}

void log_pages_unstage(struct log_pages *pages)
{
	for (size_t i = 0; i < pages->staged_count; i++) {
		bytes_free(pages, &pages->staged[i]->next_bytes);
		pages->staged[i]->staged = false;
	}
	pages->staged_count = 0;
	for (size_t i = 0; pages->buckets && i < BUCKETS; i++)
		for (struct log_page *at = pages->buckets[i]; at; at = at->next_in_bucket)
			at->written = false;
}

void log_pages_folded(struct log_pages *pages)
{
	for (size_t i = 0; pages->buckets && i < BUCKETS; i++) {
		struct log_page **link = &pages->buckets[i], *at;

		while ((at = *link)) {
			bool elsewhere = at->written && !at->staged;

			if (at->staged) {
				page_advance(pages, at);
				at->cycle = pages->cycle;
			} else if (at->pending && !at->written) {
				at->extent = at->next;
				at->extent.own = false;
			}
			at->written = at->pending = false;
			if (at->known && !elsewhere && at->cycle == pages->cycle) {
				link = &at->next_in_bucket;
				continue;
			}
			*link = at->next_in_bucket;
			page_free(pages, at);
		}
	}
	pages->staged_count = pages->pending = 0;
	pages->cycle++;
}

static int page_compare(const void *a, const void *b)
{
	const struct log_page *const *left = a, *const *right = b;

	return ((*left)->page > (*right)->page) - ((*left)->page < (*right)->page);
}

struct log_page **log_pages_unplaced(const struct log_pages *pages, size_t *count)
{
	struct log_page **list = malloc((pages->count + 1) * sizeof(*list));

	*count = 0;
	for (size_t i = 0; list && pages->buckets && i < BUCKETS; i++)
		for (struct log_page *at = pages->buckets[i]; at; at = at->next_in_bucket)
			if ((at->staged || at->pending) && !at->written)
				list[(*count)++] = at;
	if (list)
		qsort(list, *count, sizeof(*list), page_compare);
	return list;
}

void log_pages_free(struct log_pages *pages)
{
	for (size_t i = 0; pages->buckets && i < BUCKETS; i++)
		for (struct log_page *at = pages->buckets[i], *next; at; at = next) {
			next = at->next_in_bucket;
			page_free(pages, at);
		}
	free(pages->buckets);
	free(pages->staged);
	memset(pages, 0, sizeof(*pages));
}
