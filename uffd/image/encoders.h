/* SPDX-License-Identifier: MIT */
/* encoders.h - the pages of a commit are compared and encoded, here or by threads. See encoders.c. */
#ifndef UFFD_ENCODERS_H
#define UFFD_ENCODERS_H

#include "extent_codec.h"

/* How an image stores pages. */
struct encoding {
	const struct checksum_key *key;
	struct extent_codec codec;
	uint32_t page_bytes;
};

/* A page on its way into the file. */
struct encoded_page {
	uint64_t number;
	bool known; /* its commit has staged it: it has changed, and the checksum is there */

	struct extent old;    /* as the index has it */
	struct extent extent; /* its birth; and what is found, which is all but its place */
	bool changed;	      /* else it is as the index has it */
	const void *stored;   /* extent_room() bytes; NULL: it is zero, or has not changed */
	int code;	      /* -ENOMEM: it could not be encoded */
};

/* Is it another one than before? Finds `changed`, and of the extent whether it is zero (raw otherwise) and the checksum. */
void page_compare(const struct encoding *encoding, struct encoded_page *page, const void *bytes);
/* ... and how is it stored? `to` has room for a page. Any thread, with a scratch of its own. */
void page_encode(const struct encoding *encoding, struct extent_scratch *scratch,
		 struct encoded_page *page, const void *bytes, void *to);

/*
 * Threads that do that, for the thread that commits. `done` is called by it, for one page after the other in the order in which
 * they were added; what it returns but 0 ends the commit. NULL: there is no memory, or no thread can be had.
 */
struct encoders;
typedef int (*encoded_fn)(void *arg, const struct encoded_page *page);
struct encoders *encoders_open(const struct encoding *encoding, encoded_fn done, void *arg);
/* Copies the bytes. No page is added again before encoders_wait(). Returns what `done` has returned for an earlier one. */
int encoders_add(struct encoders *encoders, const struct encoded_page *page, const void *bytes);
/* All that were added are done. */
int encoders_wait(struct encoders *encoders);
/* What was added is forgotten, but for what is done. Its threads have ended. NULL is allowed. */
void encoders_close(struct encoders *encoders);

#endif
