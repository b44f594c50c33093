/* SPDX-License-Identifier: MIT */
/*
 * page_batch.c - reading many pages: collected, sorted by their offset in the file, read in pieces
 * of up to 1 MiB, each page checked. One owner per batch; no other state.
 */
#include "page_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cipher.h"
#include "sys.h"

#define READ_BYTES (1u << 20)
#define GAP_BYTES (16u << 10) /* read along: less than another read would cost */

int page_batch_open(struct page_batch *batch, int fd, const struct checksum_key *key,
		    uint32_t page_bytes, size_t room)
{
	*batch = (struct page_batch){.fd = fd, .key = key, .page_bytes = page_bytes, .room = room};
	batch->pages = malloc(room * sizeof(*batch->pages));
	batch->buffer = malloc(READ_BYTES);
	batch->page = malloc(page_bytes);
	if (batch->pages && batch->buffer && batch->page)
		return 0;
	page_batch_close(batch);
	return -ENOMEM;
}

void page_batch_close(struct page_batch *batch)
{
	free(batch->pages);
	free(batch->buffer);
	free(batch->page);
	extent_scratch_free(&batch->scratch);
	memset(batch, 0, sizeof(*batch));
}

void page_batch_add(struct page_batch *batch, uint64_t page, const struct extent *extent)
{
	batch->pages[batch->count] =
		(struct batched_page){.page = page, .extent = *extent, .turn = batch->count};
	batch->count++;
}

static int by_offset(const void *a, const void *b)
{
	const struct batched_page *left = a, *right = b;

	return (left->extent.offset > right->extent.offset) -
	       (left->extent.offset < right->extent.offset);
}

/* Padding is zero, whatever the file has there. */
static int page_check(struct page_batch *batch, struct batched_page *page, uint8_t *stored,
		      int (*got)(void *arg, struct batched_page *page, const void *stored,
				 const void *contents),
		      void *arg)
{
	const struct extent *extent = &page->extent;
	bool same = extent_is_whole(extent) && !cipher_is_on(batch->key);
	uint8_t *contents = same ? stored : batch->page; /* what is stored stays what it is */
	int code = extent_decode(&batch->scratch, batch->key, page->page, extent, stored, contents,
				 batch->page_bytes);

	if (code == -ENOMEM)
		return code;
	if (code)
		page->wrong = extent_is_whole(extent)
				      ? "page has a wrong checksum"
				      : "page cannot be decoded, or has a wrong checksum";
	if (code || !got)
		return 0;
	memset(stored + extent->bytes, 0, extent_room(extent) - extent->bytes);
	return got(arg, page, stored, contents);
}

/* `count` pages that follow each other in the file. */
static int run_read(struct page_batch *batch, struct batched_page *first, size_t count,
		    int (*got)(void *arg, struct batched_page *page, const void *stored,
			       const void *contents),
		    void *arg)
{
	const struct extent *last = &first[count - 1].extent;
	uint64_t begin = first->extent.offset;
	int code = sys_pread(batch->fd, batch->buffer, last->offset + last->bytes - begin, begin);

	if (code && count > 1) { /* which one is it? */
		code = 0;
		for (size_t i = 0; !code && i < count; i++)
			code = run_read(batch, first + i, 1, got, arg);
		return code;
	}
	if (code) {
		first->wrong = code == -ENODATA || code == -EINVAL
				       ? "page lies beyond the end of the file"
				       : "page cannot be read";
		return 0;
	}
	for (size_t i = 0; !code && i < count; i++)
		code = page_check(batch, &first[i],
				  batch->buffer + (first[i].extent.offset - begin), got, arg);
	return code;
}

/* What lies between them is read along, if it is little. */
static bool page_joins(const struct batched_page *first, const struct batched_page *next)
{
	const struct extent *before = &next[-1].extent, *extent = &next->extent;

	return extent->offset >= extent_end(before) &&
	       extent->offset - extent_end(before) <= GAP_BYTES &&
	       extent_end(extent) - first->extent.offset <= READ_BYTES;
}

int page_batch_read(struct page_batch *batch,
		    int (*got)(void *arg, struct batched_page *page, const void *stored,
			       const void *contents),
		    void *arg)
{
	struct batched_page *pages = batch->pages;
	int code = 0;

	qsort(pages, batch->count, sizeof(*pages), by_offset);
	for (size_t i = 0, run; !code && i < batch->count; i += run) {
		for (run = 1; i + run < batch->count && page_joins(&pages[i], &pages[i + run]);)
			run++;
		code = run_read(batch, pages + i, run, got, arg);
	}
	return code;
}
