/* SPDX-License-Identifier: MIT */
/* page_batch.h - pages read in the order in which they lie in the file. See page_batch.c. */
#ifndef UFFD_PAGE_BATCH_H
#define UFFD_PAGE_BATCH_H

#include "extent_codec.h"

struct batched_page { /* that waits to be read */
	uint64_t page;
	struct extent extent; /* stored */
	size_t turn;	      /* how many were added before it */
	size_t gathered;      /* the caller's */
	const char *wrong;    /* after reading: NULL, or what is wrong with it */
};

struct page_batch {
	int fd;
	const struct checksum_key *key;
	uint32_t page_bytes;
	size_t count, room;
	struct batched_page *pages;
	uint8_t *buffer, *page;
	struct extent_scratch scratch;
};

/* -ENOMEM. */
int page_batch_open(struct page_batch *batch, int fd, const struct checksum_key *key,
		    uint32_t page_bytes, size_t room);
void page_batch_close(struct page_batch *batch);

/* There must be room. */
void page_batch_add(struct page_batch *batch, uint64_t page, const struct extent *extent);

/*
 * Read all pages of the batch, in the order of the file, and compare them with their checksums. Sets `wrong` of each, and
 * leaves them sorted by their offset in the file. `got` may be NULL; else it is called for each that is right, with the
 * bytes as they are stored, padded up to the extent's room, and as the page that they stand for; its first error ends
 * it. -ENOMEM. Setting batch->count to 0 starts a new batch.
 */
int page_batch_read(struct page_batch *batch,
		    int (*got)(void *arg, struct batched_page *page, const void *stored,
			       const void *contents),
		    void *arg);

#endif
