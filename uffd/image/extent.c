/* SPDX-License-Identifier: MIT */
/* extent.c - from what the file has of a page to the page, and whether it is the right one. Any thread; no state. */
#include <string.h>

#include "cipher.h"

static bool page_is_zero(const void *page, uint32_t page_bytes)
{
	const char *bytes = page;

	/* The first byte is zero and each equals the one before. */
	return !bytes[0] && !memcmp(bytes, bytes + 1, page_bytes - 1);
}

bool extent_matches(const struct checksum_key *key, const struct extent *extent, const void *page,
		    uint32_t page_bytes)
{
	if (extent->encoding != EXTENT_RAW)
		return page_is_zero(page, page_bytes);
	return checksum_is(key, CHECKSUM_PAGE, page, page_bytes, extent->checksum);
}

bool extent_open(const struct checksum_key *key, uint64_t page, const struct extent *extent,
		 void *stored, void *to, uint32_t page_bytes)
{
	cipher_page(key, page, extent, stored, to, page_bytes);
	return extent_matches(key, extent, to, page_bytes);
}
