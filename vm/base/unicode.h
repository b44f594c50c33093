/* SPDX-License-Identifier: MIT */
/*
 * unicode.h - single characters: read from UTF-16 and UTF-8, written as UTF-8; which control a
 * terminal.
 */
#ifndef VM_BASE_UNICODE_H
#define VM_BASE_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Returns the units taken, 1 or 2. A surrogate without its other half is a character, too. `count`
 * > 0.
 */
static inline size_t utf16_next(const uint16_t *units, size_t count, uint32_t *character)
{
	*character = units[0];
	if (count > 1 && units[0] >> 10 == 0xd800 >> 10 && units[1] >> 10 == 0xdc00 >> 10) {
		*character = 0x10000 + ((units[0] & 0x3ffu) << 10) + (units[1] & 0x3ffu);
		return 2;
	}
	return 1;
}

/* Of text that is well-formed. Returns the bytes taken, 1 to 4. */
static inline size_t utf8_next(const char *text, uint32_t *character)
{
	const uint8_t *at = (const uint8_t *)text;
	size_t bytes = at[0] < 0x80 ? 1 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;

	*character = bytes == 1 ? at[0] : at[0] & (0xffu >> (bytes + 1));
	for (size_t i = 1; i < bytes; i++)
		*character = *character << 6 | (at[i] & 0x3f);
	return bytes;
}

/* Returns the bytes written, 1 to 4. */
static inline size_t utf8_put(uint32_t c, char to[4])
{
	size_t bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = bytes - 1; i > 0; i--, c >>= 6)
		to[i] = (char)(0x80 | (c & 0x3f));
	to[0] = (char)(bytes == 1 ? c : (0xff00 >> bytes) | c);
	return bytes;
}

static inline bool is_surrogate(uint32_t character)
{
	return character >= 0xd800 && character <= 0xdfff;
}

/*
 * A control character, or one that changes the direction of the text around it (see thaw_escape).
 */
static inline bool steers_terminal(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

#endif
