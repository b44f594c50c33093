/* SPDX-License-Identifier: MIT */
/*
 * commit_pages.c - the pages of a commit: which ones have changed, and where they go. The thread that commits, between
 * commit_begin() and commit_finish().
 *
 * A small commit is staged in memory, since it may become an entry of the log (log.c). Of others a page is encoded
 * (extent_codec.c) and written at once: what is whole by one writer, what is packed by another, so that both lie
 * together. A page that comes again takes the place that it has, if it is whole both times; else it gets another one.
 */
#include <errno.h>
#include <stdlib.h>

#include "commit.h"

#define RUN_LEAST (64u << 10)

/* As it goes to the file: *stored is valid until the next page. */
static int page_encode(struct image *image, uint64_t number, const void *page,
		       struct extent *extent, const void **stored)
{
	uint32_t page_bytes = image->identity.page_bytes;

	if (!image->encoded)
		image->encoded = malloc(page_bytes);
	if (!image->encoded)
		return -ENOMEM;
	return extent_encode(&image->scratch, &image->codec, image->identity.key, number, extent,
			     page, page_bytes, image->encoded, stored);
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

int commit_put(struct commit *commit, uint64_t number, const void *page, struct extent *extent)
{
	const void *stored;
	int code = page_encode(commit->image, number, page, extent, &stored);

	return code ? code : extent_append(commit, stored, extent);
}

/* What this commit has stored for the page before is not needed any more. */
static int page_supersede(struct commit *commit, const struct extent *old)
{
	bool again = extent_is_stored(old) && old->own && old->offset;

	return again ? ranges_add(&commit->superseded, old->offset, extent_room(old)) : 0;
}

static int page_store(struct commit *commit, uint64_t page, const void *bytes,
		      const struct extent *old, struct extent *extent)
{
	const void *stored;
	int code;

	if (!commit->large) {
		extent->bytes = extent_is_stored(extent) ? commit->image->identity.page_bytes : 0;
		return log_pages_stage(&commit->image->log.pages, page, extent, bytes);
	}
	log_pages_wrote(&commit->image->log.pages, page);
	if (!extent_is_stored(extent))
		return page_supersede(commit, old);
	code = page_encode(commit->image, page, bytes, extent, &stored);
	if (code)
		return code;
	if (extent_is_whole(old) && old->own && old->offset && extent_is_whole(extent)) {
		extent->offset = old->offset;
		return writer_rewrite(&commit->writer, old->offset, stored, extent->bytes);
	}
	code = page_supersede(commit, old);
	return code ? code : extent_append(commit, stored, extent);
}

int commit_page(struct commit *commit, uint64_t page, const void *bytes, bool *stored,
		struct thaw_error *error)
{
	struct image *image = commit->image;
	uint32_t count = image->identity.page_bytes;
	const struct extent zero = {.encoding = EXTENT_ZERO};
	struct extent extent = {.encoding = EXTENT_RAW, .birth = commit->number, .own = true};
	struct extent old;
	int code;

	*stored = false;
	if (page >= INDEX_PAGES_MAX)
		return commit_fail(commit, -EFBIG, "store a page above 2^40 in", error);
	code = log_has_room(commit) ? 0 : log_spill(commit, error);
	if (!code)
		code = index_get(&image->index, page, &old, error);
	if (code) {
		commit->failed = true;
		return code;
	}
	if (extent_matches(image->identity.key, &zero, bytes, count)) {
		if (!extent_is_stored(&old))
			return 0;
		extent.encoding = EXTENT_ZERO;
	} else {
		extent.checksum = checksum_of(image->identity.key, CHECKSUM_PAGE, bytes, count);
		if (extent_is_stored(&old) && checksum_same(old.checksum, extent.checksum))
			return 0;
	}
	code = page_store(commit, page, bytes, &old, &extent);
	if (code)
		return commit_fail(commit, code, "write a page of", error);
	commit->touched = true;
	code = index_set(&image->index, page, &extent, error);
	if (code) {
		commit->failed = true;
		return code;
	}
	commit->pages += !old.own;
	*stored = true;
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
	int code = 0;

	while (!code && first < end) {
		first = index_next(&commit->image->index, first);
		leaf_end = first < end ? first - first % IMAGE_LEAF_PAGES + IMAGE_LEAF_PAGES : end;
		for (; !code && first < leaf_end && first < end; first++)
			code = page_drop(commit, first, error);
	}
	commit->failed |= !!code;
	return code;
}
