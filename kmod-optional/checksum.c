// SPDX-License-Identifier: GPL-2.0-only
/*
 * checksum.c - XXH3-128, seed 0, as the library computes it for each page of an image.
 *
 * The code is xxhash.h of libxxhash, compiled here without vector instructions: a kernel has no
 * xxh3, and may not use those registers without saving them. Called by fill.c, in the thread that
 * touched the page.
 */
#include <linux/bug.h>
#include <linux/highmem.h>
#include <linux/limits.h>
#include <linux/string.h>
#include <linux/types.h>

#include "checksum.h"

#define XXH_INLINE_ALL
#define XXH_VECTOR 0 /* XXH_SCALAR */
#define XXH_FORCE_ALIGN_CHECK 0
#define XXH_FORCE_MEMORY_ACCESS 1 /* or each 8 bytes are a call of memcpy() */
/* These are attributes there. */
#undef fallthrough
#undef noinline
#include THAW_XXHASH_H

static XXH128_hash_t pages_hash(struct page **pages, unsigned int count)
{
	XXH3_state_t state;
	unsigned int i;

	XXH3_128bits_reset(&state);
	for (i = 0; i < count; i++) {
		const void *bytes = kmap_local_page(pages[i]);

		XXH3_128bits_update(&state, bytes, PAGE_SIZE);
		kunmap_local(bytes);
	}
	return XXH3_128bits_digest(&state);
}

static XXH128_hash_t page_hash(struct page *page)
{
	const void *bytes = kmap_local_page(page);
	XXH128_hash_t hash = XXH3_128bits(bytes, PAGE_SIZE);

	kunmap_local(bytes);
	return hash;
}

bool thaw_checksum_right(struct page **pages, unsigned int count, const u64 checksum[2])
{
	XXH128_hash_t hash = count == 1 ? page_hash(pages[0]) : pages_hash(pages, count);

	return hash.low64 == checksum[0] && hash.high64 == checksum[1];
}
