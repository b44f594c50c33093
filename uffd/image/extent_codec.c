/* SPDX-License-Identifier: MIT */
/*
 * extent_codec.c - each page is encoded by itself: as it is, or as one LZ4 block or one Zstandard frame. Measured, frames of
 * 16 pages would save 3 to 7 % of what is stored more, and a dictionary nothing; and a fault would decode 16 pages,
 * a changed page would write 16, and one page that is still needed would keep the room of all.
 *
 * What is not an eighth shorter than the page stays as it is: whole pages are read in place and past the page cache.
 * Bytes to be decoded may be anything: decoders get the exact bounds, and what they make counts only if it has the
 * checksum. Any thread, each with a scratch of its own.
 */
#include "extent_codec.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "cipher.h"
#include "page.h"
#include "sys.h"

#define LEVEL_MOST 19 /* those above need much memory */
_Static_assert(EXTENT_ZSTD + LEVEL_MOST - 1 == EXTENT_ZSTD_LAST, "each level has a number");

bool extent_codec_of(unsigned compress, struct extent_codec *codec)
{
	*codec = (struct extent_codec){.encoding = EXTENT_RAW};
	if (compress == THAW_COMPRESS_NONE)
		return true;
	if (compress == THAW_COMPRESS_LZ4) {
		codec->encoding = EXTENT_LZ4;
		return true;
	}
	codec->encoding = EXTENT_ZSTD;
	codec->level = (int)(compress - THAW_COMPRESS_ZSTD(0));
	return compress > THAW_COMPRESS_ZSTD(0) && compress <= THAW_COMPRESS_ZSTD(LEVEL_MOST);
}

struct extent_codec extent_codec_again(const struct extent *extent)
{
	return extent->encoding < EXTENT_ZSTD
		       ? (struct extent_codec){.encoding = extent->encoding}
		       : (struct extent_codec){EXTENT_ZSTD, extent->encoding - EXTENT_ZSTD + 1};
}

void extent_scratch_free(struct extent_scratch *scratch)
{
	free(scratch->lz4);
	ZSTD_freeCCtx(scratch->compress);
	ZSTD_freeDCtx(scratch->decompress);
	free(scratch->stored);
	free(scratch->plain);
	memset(scratch, 0, sizeof(*scratch));
}

/* Their length, at most `room`; 0: they have no room in that. */
static int compress_lz4(struct extent_scratch *scratch, const void *page, uint32_t page_bytes,
			void *to, uint32_t room)
{
	if (!scratch->lz4)
		scratch->lz4 = malloc((size_t)LZ4_sizeofState());
	if (!scratch->lz4)
		return -ENOMEM;
	return LZ4_compress_fast_extState(scratch->lz4, page, to, (int)page_bytes, (int)room, 1);
}

static int compress_zstd(struct extent_scratch *scratch, int level, const void *page,
			 uint32_t page_bytes, void *to, uint32_t room)
{
	size_t bytes;

	if (!scratch->compress)
		scratch->compress = ZSTD_createCCtx();
	if (!scratch->compress)
		return -ENOMEM;
	bytes = ZSTD_compressCCtx(scratch->compress, to, room, page, page_bytes, level);
	/* Most likely there is no room; whatever it is, the page as it is will do. */
	return ZSTD_isError(bytes) ? 0 : (int)bytes;
}

int extent_encode(struct extent_scratch *scratch, const struct extent_codec *codec,
		  const struct checksum_key *key, uint64_t number, struct extent *extent,
		  const void *page, uint32_t page_bytes, void *to, const void **stored)
{
	uint32_t room = page_bytes - page_bytes / 8;
	int bytes = 0;

	if (codec->encoding == EXTENT_LZ4)
		bytes = compress_lz4(scratch, page, page_bytes, to, room);
	else if (codec->encoding == EXTENT_ZSTD)
		bytes = compress_zstd(scratch, codec->level, page, page_bytes, to, room);
	if (bytes < 0)
		return bytes;
	extent->encoding = bytes ? codec->encoding : EXTENT_RAW;
	if (extent->encoding == EXTENT_ZSTD)
		extent->encoding = (uint8_t)(EXTENT_ZSTD + codec->level - 1);
	extent->bytes = bytes ? (uint32_t)bytes : page_bytes;
	*stored = bytes ? to : page;
	if (cipher_is_on(key)) {
		cipher_page(key, number, extent, *stored, to, extent->bytes);
		*stored = to;
	}
	if (*stored == to)
		memset((uint8_t *)to + extent->bytes, 0, extent_room(extent) - extent->bytes);
	return 0;
}

static int decompress_lz4(const struct extent *extent, const void *stored, void *page,
			  uint32_t page_bytes)
{
	int bytes = LZ4_decompress_safe(stored, page, (int)extent->bytes, (int)page_bytes);

	return bytes == (int)page_bytes ? 0 : THAW_EDAMAGED;
}

/* One frame, of the format that this library writes: others would go to decoders of its older versions. */
static int decompress_zstd(struct extent_scratch *scratch, const struct extent *extent,
			   const void *stored, void *page, uint32_t page_bytes)
{
	uint32_t magic;

	if (extent->bytes < sizeof(magic))
		return THAW_EDAMAGED;
	memcpy(&magic, stored, sizeof(magic));
	if (magic != ZSTD_MAGICNUMBER ||
	    ZSTD_findFrameCompressedSize(stored, extent->bytes) != extent->bytes)
		return THAW_EDAMAGED;
	if (!scratch->decompress)
		scratch->decompress = ZSTD_createDCtx();
	if (!scratch->decompress)
		return -ENOMEM;
	return ZSTD_decompressDCtx(scratch->decompress, page, page_bytes, stored, extent->bytes) ==
			       page_bytes
		       ? 0
		       : THAW_EDAMAGED;
}

static int decode(struct extent_scratch *scratch, const struct extent *extent, const void *stored,
		  void *page, uint32_t page_bytes)
{
	if (extent->encoding >= EXTENT_ZSTD && extent->encoding <= EXTENT_ZSTD_LAST)
		return decompress_zstd(scratch, extent, stored, page, page_bytes);
	switch (extent->encoding) {
	case EXTENT_RAW:
		if (page != stored)
			memcpy(page, stored, page_bytes);
		return 0;
	case EXTENT_LZ4:
		return decompress_lz4(extent, stored, page, page_bytes);
	default:
		return THAW_EDAMAGED;
	}
}

static bool room_make(uint8_t **room)
{
	if (!*room)
		*room = malloc(PAGE_BYTES_MOST);
	return *room;
}

int extent_decode(struct extent_scratch *scratch, const struct checksum_key *key, uint64_t number,
		  const struct extent *extent, const void *stored, void *page, uint32_t page_bytes)
{
	int code;

	if (cipher_is_on(key)) {
		void *plain = page;

		if (extent_is_packed(extent)) {
			if (!room_make(&scratch->plain))
				return -ENOMEM;
			plain = scratch->plain;
		}
		cipher_page(key, number, extent, stored, plain, extent->bytes);
		stored = plain;
	}
	code = decode(scratch, extent, stored, page, page_bytes);
	if (!code && !extent_matches(key, extent, page, page_bytes))
		code = THAW_EDAMAGED;
	return code;
}

int extent_read(struct extent_scratch *scratch, int fd, const struct checksum_key *key,
		uint64_t number, const struct extent *extent, void *page, uint32_t page_bytes)
{
	void *stored = page;
	int code;

	if (extent_is_packed(extent)) {
		if (!room_make(&scratch->stored))
			return -ENOMEM;
		stored = scratch->stored;
	}
	code = sys_pread(fd, stored, extent->bytes, extent->offset);
	return code ? code : extent_decode(scratch, key, number, extent, stored, page, page_bytes);
}
