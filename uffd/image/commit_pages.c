/* SPDX-License-Identifier: MIT */
/*
 * commit_pages.c - the pages of a commit: which ones have changed, and where they go. The thread that commits, between
 * commit_begin() and commit_finish().
 *
 * A small commit is staged in memory, since it may become an entry of the log (log.c). Of others a page is encoded
 * (encoders.c), by threads where that takes long and there are many, and written in the order in which pages came: what is
 * whole by one writer, what is packed by another, so that both lie together. A page that comes again takes the place
 * that it has, if it is whole both times; else it gets another one.
 */
#include <errno.h>
#include <stdlib.h>

#include "commit.h"

#define RUN_LEAST (64u << 10)
/*
 * So many are encoded here before threads are made: some milliseconds. Measured beside other load, 1,000 pages are durable later
 * with threads, since this one soon waits for one that has begun and has no processor.
 */
#define ALONE_PAGES 1024u

static struct encoding encoding_of(const struct image *image)
{
	return (struct encoding){image->identity.key, image->codec, image->identity.page_bytes};
}

/* By this thread: it is valid until the next page. */
static int page_encode_here(struct image *image, struct encoded_page *page, const void *bytes)
{
	struct encoding encoding = encoding_of(image);

	if (!image->encoded)
		image->encoded = malloc(image->identity.page_bytes);
	if (!image->encoded)
		return -ENOMEM;
	page_encode(&encoding, &image->scratch, page, bytes, image->encoded);
	return page->code;
}

/* Where there are two writers, what each takes at once is as much as it has written. */
static int extent_append(struct commit *commit, const void *stored, struct extent *extent)
{
	struct writer *writer = extent_is_whole(extent) ? &commit->writer : &commit->packed;
	uint64_t wish = WRITER_BYTES;

	if (commit->image->codec.encoding != EXTENT_RAW && writer_bytes(writer) < wish)
		wish = writer_bytes(writer) + RUN_LEAST;
	return writer_append(writer, stored, extent_room(extent), wish, &extent->offset);
}

int commit_put(struct commit *commit, uint64_t number, const void *bytes, struct extent *extent)
{
	struct encoded_page page = {.number = number, .known = true, .extent = *extent};
	int code = page_encode_here(commit->image, &page, bytes);

	*extent = page.extent;
	return code ? code : extent_append(commit, page.stored, extent);
}

/* What this commit has stored for the page before is not needed any more. */
static int page_supersede(struct commit *commit, const struct extent *old)
{
	bool again = extent_is_stored(old) && old->own && old->offset;

	return again ? ranges_add(&commit->superseded, old->offset, extent_room(old)) : 0;
}

static int page_store(struct commit *commit, const struct encoded_page *page, struct extent *extent)
{
	const struct extent *old = &page->old;
	int code;

	if (!page->known)
		log_pages_wrote(&commit->image->log.pages, page->number);
	if (!extent_is_stored(extent))
		return page_supersede(commit, old);
	if (extent_is_whole(old) && old->own && old->offset && extent_is_whole(extent)) {
		extent->offset = old->offset;
		return writer_rewrite(&commit->writer, old->offset, page->stored, extent->bytes);
	}
	code = page_supersede(commit, old);
	return code ? code : extent_append(commit, page->stored, extent);
}

static int page_index(struct commit *commit, const struct encoded_page *page,
		      const struct extent *extent)
{
	commit->touched = true;
	commit->pages += !page->old.own && !page->known; /* it counts already */
	return index_set(&commit->image->index, page->number, extent, NULL);
}

/* It has been encoded. */
static int page_done(void *arg, const struct encoded_page *page)
{
	struct commit *commit = arg;
	struct extent extent = page->extent;
	int code;

	if (!page->changed)
		return 0;
	code = page_store(commit, page, &extent);
	return code ? code : page_index(commit, page, &extent);
}

/* ---- by threads */

/* Is it more work to encode a page than to hand it over? */
static bool encoding_takes_long(const struct image *image)
{
	return image->codec.encoding != EXTENT_RAW || image->identity.key;
}

/* Until no page from this one on is under way. */
static int commit_wait(struct commit *commit, uint64_t page)
{
	if (page >= commit->under_way_end)
		return 0;
	commit->under_way_end = 0;
	return encoders_wait(commit->encoders);
}

/* Without threads it is done here. */
static int page_add(struct commit *commit, struct encoded_page *page, const void *bytes)
{
	bool many = commit->added++ >= ALONE_PAGES && encoding_takes_long(commit->image);
	int code;

	if (many && !commit->encoders && !commit->alone) {
		struct encoding encoding = encoding_of(commit->image);

		commit->encoders = encoders_open(&encoding, page_done, commit);
		commit->alone = !commit->encoders;
	}
	if (commit->encoders) {
		if (page->number >= commit->under_way_end)
			commit->under_way_end = page->number + 1;
		page->changed = true; /* it may have */
		return encoders_add(commit->encoders, page, bytes);
	}
	code = page_encode_here(commit->image, page, bytes);
	return code ? code : page_done(commit, page);
}

void commit_pages_stop(struct commit *commit)
{
	encoders_close(commit->encoders);
	commit->encoders = NULL;
	commit->under_way_end = 0;
}

int commit_pages_settle(struct commit *commit, struct thaw_error *error)
{
	int code = commit_wait(commit, 0);

	commit_pages_stop(commit);
	return code ? commit_fail(commit, code, "write a page of", error) : 0;
}

int commit_place(struct commit *commit, uint64_t number, const struct extent *extent,
		 const void *bytes)
{
	struct encoded_page page = {.number = number, .known = true, .extent = *extent};

	commit->added += ALONE_PAGES; /* they are many */
	return page_add(commit, &page, bytes);
}

/* ---- */

/* In memory. */
static int page_stage(struct commit *commit, struct encoded_page *page, const void *bytes)
{
	struct encoding encoding = encoding_of(commit->image);
	struct extent *extent = &page->extent;
	int code;

	page_compare(&encoding, page, bytes);
	if (!page->changed)
		return 0;
	extent->bytes = extent_is_stored(extent) ? encoding.page_bytes : 0;
	code = log_pages_stage(&commit->image->log.pages, page->number, extent, bytes);
	return code ? code : page_index(commit, page, extent);
}

int commit_page(struct commit *commit, uint64_t number, const void *bytes, bool *stored,
		struct thaw_error *error)
{
	struct encoded_page page = {
		.number = number,
		.extent = {.encoding = EXTENT_RAW, .birth = commit->number, .own = true}};
	int code;

	*stored = false;
	if (number >= INDEX_PAGES_MAX)
		return commit_fail(commit, -EFBIG, "store a page above 2^40 in", error);
	code = log_has_room(commit) ? 0 : log_spill(commit, error);
	if (code)
		return code;
	code = commit_wait(commit, number);
	if (code)
		return commit_fail(commit, code, "write a page of", error);
	code = index_get(&commit->image->index, number, &page.old, error);
	if (code) {
		commit->failed = true;
		return code;
	}
	code = commit->large ? page_add(commit, &page, bytes) : page_stage(commit, &page, bytes);
	if (code)
		return commit_fail(commit, code, "write a page of", error);
	*stored = page.changed;
	return 0;
}

static int page_drop(struct commit *commit, uint64_t page, struct thaw_error *error)
{
	struct index *index = &commit->image->index;
	const struct extent absent = {.encoding = EXTENT_ABSENT};
	struct extent old;
	int code = index_get(index, page, &old, error);

	if (code || old.encoding == EXTENT_ABSENT)
		return code;
	code = log_has_room(commit) ? 0 : log_spill(commit, error);
	if (code)
		return code;
	if (commit->large)
		log_pages_wrote(&commit->image->log.pages, page);
	else
		code = log_pages_stage(&commit->image->log.pages, page, &absent, NULL);
	if (!code)
		code = page_supersede(commit, &old);
	if (code)
		return commit_fail(commit, code, "drop a page of", error);
	commit->dropped++;
	commit->touched = true;
	return index_set(index, page, &absent, error);
}

int commit_drop(struct commit *commit, uint64_t first, uint64_t count, struct thaw_error *error)
{
	uint64_t end = first + count, leaf_end;
	int code = commit_wait(commit, first);

	if (code)
		return commit_fail(commit, code, "write a page of", error);

	while (!code && first < end) {
		first = index_next(&commit->image->index, first);
		leaf_end = first < end ? first - first % IMAGE_LEAF_PAGES + IMAGE_LEAF_PAGES : end;
		for (; !code && first < leaf_end && first < end; first++)
			code = page_drop(commit, first, error);
	}
	commit->failed |= !!code;
	return code;
}
