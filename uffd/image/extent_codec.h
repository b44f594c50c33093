/* SPDX-License-Identifier: MIT */
/*
 * extent_codec.h - the bytes that a page is stored as. Every page that goes into the file goes through
 * extent_encode(), and whoever has read stored bytes makes a page of them with extent_decode(), which compares the
 * checksum. The log has encodings of its own (log_entry.c). See extent_codec.c.
 */
#ifndef UFFD_EXTENT_CODEC_H
#define UFFD_EXTENT_CODEC_H

#include "image.h"

#define EXTENT_UNIT 16u /* what is not whole begins at a multiple of it, and is padded to one */

/* How pages are to be stored that are written from now on: EXTENT_RAW, EXTENT_LZ4, EXTENT_ZSTD. */
struct extent_codec {
	uint8_t encoding;
	int level; /* of Zstandard: 1 to 19 */
};

/* Of THAW_COMPRESS_*: false: there is no such one. */
bool extent_codec_of(unsigned compress, struct extent_codec *codec);
/* The one that has encoded this, which has bytes. */
struct extent_codec extent_codec_again(const struct extent *extent);

/* It has bytes in the file. */
static inline bool extent_is_stored(const struct extent *extent)
{
	return extent->encoding >= EXTENT_RAW;
}

/* They are those of the page, at a block; else they are packed, several in a block. */
static inline bool extent_is_whole(const struct extent *extent)
{
	return extent->encoding == EXTENT_RAW;
}

static inline bool extent_is_packed(const struct extent *extent)
{
	return extent->encoding > EXTENT_RAW;
}

/* So many bytes of the file are its own. */
static inline uint64_t extent_room(const struct extent *extent)
{
	return (extent->bytes + EXTENT_UNIT - 1) & ~(uint64_t)(EXTENT_UNIT - 1);
}

/* Where the next one begins that lies right behind it. */
static inline uint64_t extent_end(const struct extent *extent)
{
	return extent->offset + extent_room(extent);
}

/*
 * What encoding and decoding need: zero at first, allocated when it is needed first, for one thread at a time.
 */
struct extent_scratch {
	void *lz4;
	struct ZSTD_CCtx_s *compress;
	struct ZSTD_DCtx_s *decompress;
	uint8_t *stored, *plain; /* PAGE_BYTES_MOST bytes each */
};
void extent_scratch_free(struct extent_scratch *scratch);

/*
 * How page `number` is stored, whose checksum and birth the extent has: sets its encoding and length. *stored is what
 * goes to the file, padded up to its room: the page itself, or `to`, which has room for a page. -ENOMEM.
 */
int extent_encode(struct extent_scratch *scratch, const struct extent_codec *codec,
		  const struct checksum_key *key, uint64_t number, struct extent *extent,
		  const void *page, uint32_t page_bytes, void *to, const void **stored);

/*
 * The page that these bytes stand for, which may be anything: 0, THAW_EDAMAGED: it is not the page that the extent
 * describes, and -ENOMEM. What is whole may be decoded in its place: `page` is `stored` then.
 */
int extent_decode(struct extent_scratch *scratch, const struct checksum_key *key, uint64_t number,
		  const struct extent *extent, const void *stored, void *page, uint32_t page_bytes);

/* The same of the file: and -ENODATA, -EINVAL: it ends before them; -errno. */
int extent_read(struct extent_scratch *scratch, int fd, const struct checksum_key *key,
		uint64_t number, const struct extent *extent, void *page, uint32_t page_bytes);

#endif
