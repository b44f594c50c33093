/* SPDX-License-Identifier: MIT */
/* extent.c - is that page in memory the one that an extent describes? Any thread; no state. */
#include <string.h>

#include "extent_codec.h"

static bool page_is_zero(const void *page, uint32_t page_bytes)
{
	const char *bytes = page;

	/* The first byte is zero and each equals the one before. */
	return !bytes[0] && !memcmp(bytes, bytes + 1, page_bytes - 1);
}

bool extent_matches(const struct checksum_key *key, const struct extent *extent, const void *page,
		    uint32_t page_bytes)
{
	if (!extent_is_stored(extent))
		return page_is_zero(page, page_bytes);
	return checksum_is(key, CHECKSUM_PAGE, page, page_bytes, extent->checksum);
}
