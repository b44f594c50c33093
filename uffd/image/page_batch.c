/* SPDX-License-Identifier: MIT */
/*
 * page_batch.c - reading many pages: collected, sorted by their offset in the file, read in pieces
 * of up to 1 MiB, each page checked. One owner per batch; no other state.
 */
#include "page_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"

#define READ_BYTES (1u << 20)

int page_batch_open(struct page_batch *batch, int fd, const struct checksum_key *key,
		    uint32_t page_bytes, size_t room)
{
	*batch = (struct page_batch){.fd = fd, .key = key, .page_bytes = page_bytes, .room = room};
	batch->pages = malloc(room * sizeof(*batch->pages));
	batch->buffer = malloc(READ_BYTES);
	if (batch->pages && batch->buffer)
		return 0;
	page_batch_close(batch);
	return -ENOMEM;
}

void page_batch_close(struct page_batch *batch)
{
	free(batch->pages);
	free(batch->buffer);
	memset(batch, 0, sizeof(*batch));
}

void page_batch_add(struct page_batch *batch, uint64_t page, const struct extent *extent,
		    uint64_t to)
{
	batch->pages[batch->count++] =
		(struct batched_page){.page = page, .extent = *extent, .to = to};
}

static int by_offset(const void *a, const void *b)
{
	const struct batched_page *left = a, *right = b;

	return (left->extent.offset > right->extent.offset) -
	       (left->extent.offset < right->extent.offset);
}

/* `count` pages that are adjacent in the file and at their destination. */
static void run_read(struct page_batch *batch, struct batched_page *first, size_t count,
		     uint8_t *into)
{
	uint32_t page_bytes = batch->page_bytes;
	int code = sys_pread(batch->fd, into, count * page_bytes, first->extent.offset);

	if (code && count > 1) { /* which one is it? */
		for (size_t i = 0; i < count; i++)
			run_read(batch, first + i, 1, into + i * page_bytes);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (code)
			first[i].wrong = code == -ENODATA || code == -EINVAL
						 ? "page lies beyond the end of the file"
						 : "page cannot be read";
		else if (!extent_open(batch->key, first[i].page, &first[i].extent,
				      into + i * page_bytes, into + i * page_bytes, page_bytes))
			first[i].wrong = "page has a wrong checksum";
	}
}

void page_batch_read(struct page_batch *batch, uint8_t *into, uint64_t base)
{
	struct batched_page *pages = batch->pages;
	uint32_t page_bytes = batch->page_bytes;

	qsort(pages, batch->count, sizeof(*pages), by_offset);
	for (size_t i = 0, run; i < batch->count; i += run) {
		for (run = 1; i + run < batch->count && (run + 1) * page_bytes <= READ_BYTES; run++)
			if (pages[i + run].extent.offset !=
				    pages[i].extent.offset + run * page_bytes ||
			    (into && pages[i + run].to != pages[i].to + run * page_bytes))
				break;
		run_read(batch, pages + i, run, into ? into + (pages[i].to - base) : batch->buffer);
	}
}
