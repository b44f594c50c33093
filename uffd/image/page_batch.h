/* SPDX-License-Identifier: MIT */
/* page_batch.h - pages read in the order in which they lie in the file. See page_batch.c. */
#ifndef UFFD_PAGE_BATCH_H
#define UFFD_PAGE_BATCH_H

#include "image.h"

struct batched_page { /* that waits to be read */
	uint64_t page;
	struct extent extent; /* EXTENT_RAW */
	uint64_t to;	      /* the caller's: its destination, if it has one */
	const char *wrong;    /* after reading: NULL, or what is wrong with it */
};

struct page_batch {
	int fd;
	const struct checksum_key *key;
	uint32_t page_bytes;
	size_t count, room;
	struct batched_page *pages;
	uint8_t *buffer;
};

/* -ENOMEM. */
int page_batch_open(struct page_batch *batch, int fd, const struct checksum_key *key,
		    uint32_t page_bytes, size_t room);
void page_batch_close(struct page_batch *batch);

/* There must be room. */
void page_batch_add(struct page_batch *batch, uint64_t page, const struct extent *extent,
		    uint64_t to);

/*
 * Read all pages of the batch and compare them with their checksums. With `into`, each is copied to
 * `into` + `to` - `base`. Sets `wrong` of each, and leaves them sorted by their offset in the file.
 * Setting batch->count to 0 starts a new batch.
 */
void page_batch_read(struct page_batch *batch, uint8_t *into, uint64_t base);

#endif
