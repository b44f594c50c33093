/* SPDX-License-Identifier: MIT */
/* page_batch.h - pages read in the order in which they lie in the file. See page_batch.c. */
#ifndef UFFD_PAGE_BATCH_H
#define UFFD_PAGE_BATCH_H

#include "image.h"

struct batched_page { /* that waits to be read */
	uint64_t page;
	struct extent extent; /* EXTENT_RAW */
	uint64_t to;	      /* the caller's: where it goes, if it goes anywhere */
	const char *wrong;    /* once it was read: NULL: it is right */
};

struct page_batch {
	int fd;
	uint32_t page_bytes;
	size_t count, room;
	struct batched_page *pages;
	uint8_t *buffer;
};

/* -ENOMEM. */
int page_batch_open(struct page_batch *batch, int fd, uint32_t page_bytes, size_t room);
void page_batch_close(struct page_batch *batch);

/* There must be room. */
void page_batch_add(struct page_batch *batch, uint64_t page, const struct extent *extent,
		    uint64_t to);

/*
 * Read all that wait and compare them with their checksums. With `into`, each goes to where `to` lies
 * behind `base` there. Says of each what is wrong with it, and leaves them in the order in which they lie
 * in the file; setting batch->count to 0 starts anew.
 */
void page_batch_read(struct page_batch *batch, uint8_t *into, uint64_t base);

#endif
