/* SPDX-License-Identifier: MIT */
/*
 * output_pieces.h - what a program has printed and nobody has read yet, as bytes in a generation: one piece
 * after the other, each a head (1 byte for the stream, 1: stdout, 2: stderr; 4 for how many bytes follow, little
 * endian), then those bytes.
 *
 * Before the pieces of a stream that is a regular file there may be its position: a head (17: of stdout, 18: of stderr, 19:
 * they are the same file; length 16), then the file's inode and where in it the first byte of those pieces
 * goes (8 bytes each). What the file has from there on and is the same was written already.
 */
#ifndef VM_BASE_OUTPUT_PIECES_H
#define VM_BASE_OUTPUT_PIECES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define OUTPUT_HEAD_BYTES 5u
#define OUTPUT_POSITION 16u /* and the streams, 1 and 2 */
#define OUTPUT_POSITION_BYTES 16u

static inline bool output_piece_is_position(unsigned stream)
{
	return stream > OUTPUT_POSITION && stream <= OUTPUT_POSITION + 3;
}

/* One piece of what was printed to `stream`. Returns where it ends. */
static inline uint8_t *output_piece_put(uint8_t *at, int stream, const void *data, uint32_t bytes)
{
	uint32_t length = htole32(bytes);

	*at = (uint8_t)stream;
	memcpy(at + 1, &length, 4);
	memcpy(at + OUTPUT_HEAD_BYTES, data, bytes);
	return at + OUTPUT_HEAD_BYTES + bytes;
}

/* The piece at `at`, which is whole (output_pieces_valid()). Returns where it ends. */
static inline const uint8_t *output_piece_get(const uint8_t *at, int *stream, const void **data,
					      uint32_t *bytes)
{
	uint32_t length;

	*stream = *at;
	memcpy(&length, at + 1, 4);
	*bytes = le32toh(length);
	*data = at + OUTPUT_HEAD_BYTES;
	return at + OUTPUT_HEAD_BYTES + *bytes;
}

/* Whole pieces, and nothing else. Trusts nothing. */
static inline bool output_pieces_valid(const uint8_t *at, const uint8_t *end)
{
	while (at < end) {
		size_t left = (size_t)(end - at);
		uint32_t length;

		if (left < OUTPUT_HEAD_BYTES ||
		    (*at != 1 && *at != 2 && !output_piece_is_position(*at)))
			return false;
		memcpy(&length, at + 1, 4);
		length = le32toh(length);
		if (output_piece_is_position(*at) && length != OUTPUT_POSITION_BYTES)
			return false;
		if (length > left - OUTPUT_HEAD_BYTES)
			return false;
		at += OUTPUT_HEAD_BYTES + length;
	}
	return true;
}

#endif
