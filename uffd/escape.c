/* SPDX-License-Identifier: MIT */
/*
 * escape.c - makes text from others safe to print: an image's engine, a path, error texts. A
 * terminal obeys control characters, so none is left. No state; any thread; async-signal-safe.
 */
#include <stdio.h>
#include <string.h>

#include "thaw.h"

#define LONGEST 6u /* "\u202e" */

/* The bytes of the well-formed UTF-8 character at `at` (Unicode 15, table 3-7); 0: there is none. */
static unsigned character(const unsigned char *at, uint32_t *code)
{
	unsigned bytes = at[0] < 0x80	? 1
			 : at[0] < 0xc2 ? 0
			 : at[0] < 0xe0 ? 2
			 : at[0] < 0xf0 ? 3
			 : at[0] < 0xf5 ? 4
					: 0;

	*code = bytes < 2 ? at[0] : at[0] & (0x7fu >> bytes);
	for (unsigned i = 1; i < bytes; i++) {
		if ((at[i] & 0xc0) != 0x80) /* the text's end is none either */
			return 0;
		*code = *code << 6 | (at[i] & 0x3fu);
	}
	if ((bytes == 3 && (*code < 0x800 || (*code >= 0xd800 && *code < 0xe000))) ||
	    (bytes == 4 && (*code < 0x10000 || *code > 0x10ffff)))
		return 0;
	return bytes;
}

/*
 * Characters without width that have an effect: controls, and those that change the direction of
 * the text.
 */
static bool obeyed(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x2028 && code <= 0x202e) ||
	       (code >= 0x2066 && code <= 0x2069);
}

static unsigned hexadecimal(char *to, char letter, uint32_t value, unsigned digits)
{
	*to++ = '\\';
	*to++ = letter;
	for (unsigned i = digits; i--;)
		*to++ = "0123456789abcdef"[value >> 4 * i & 0xf];
	return digits + 2;
}

/* How many bytes of the text the next piece stands for; the piece, and its length. */
static unsigned next_piece(const unsigned char *at, char piece[LONGEST], unsigned *length)
{
	uint32_t code;
	unsigned bytes = character(at, &code);

	if (!bytes) {
		*length = hexadecimal(piece, 'x', at[0], 2);
		return 1;
	}
	if (!obeyed(code)) {
		memcpy(piece, at, bytes);
		*length = bytes;
	} else if (code == '\n' || code == '\t') {
		piece[0] = '\\';
		piece[1] = code == '\n' ? 'n' : 't';
		*length = 2;
	} else if (code < 0x80) {
		*length = hexadecimal(piece, 'x', code, 2);
	} else {
		*length = hexadecimal(piece, 'u', code, 4);
	}
	return bytes;
}

size_t thaw_escape(const char *text, char *escaped, size_t room)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t total = 0, put = 0;
	char piece[LONGEST];
	bool fits = room != 0;
	unsigned length;

	while (*at) {
		at += next_piece(at, piece, &length);
		fits = fits && length < room - put;
		if (fits) {
			memcpy(escaped + put, piece, length);
			put += length;
		}
		total += length;
	}
	if (room)
		escaped[put] = '\0';
	return total;
}
