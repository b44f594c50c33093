/* SPDX-License-Identifier: MIT */
/*
 * text.c - checks, repairs and measures UTF-8.
 *
 * Owns nothing; any thread. Used where text enters or leaves the VM: files that are read as text,
 * TextDecoder, and output, since QuickJS encodes a lone surrogate in three bytes, which are not
 * UTF-8.
 */
#define _GNU_SOURCE
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "text.h"

/*
 * The length of the sequence at `at`. Negative: it is malformed, and that many bytes are its
 * maximal subpart, the longest start of a well-formed sequence (Unicode 15, table 3-7 and section
 * 3.9).
 */
static int sequence(const uint8_t *at, const uint8_t *end)
{
	uint8_t first = at[0], low = 0x80, high = 0xbf;
	int length;

	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return -1;
	length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	if (first == 0xe0)
		low = 0xa0; /* else overlong */
	else if (first == 0xed)
		high = 0x9f; /* else a surrogate */
	else if (first == 0xf0)
		low = 0x90; /* else overlong */
	else if (first == 0xf4)
		high = 0x8f; /* else beyond U+10FFFF */
	for (int i = 1; i < length; i++) {
		if (at + i == end || at[i] < low || at[i] > high)
			return -i;
		low = 0x80;
		high = 0xbf;
	}
	return length;
}

size_t text_valid_prefix(const char *text, size_t bytes)
{
	const uint8_t *start = (const uint8_t *)text, *at = start, *end = start + bytes;

	while (at < end) {
		uint64_t word;
		int length;

		if (end - at >= 8) {
			memcpy(&word, at, 8);
			if (!(word & 0x8080808080808080u)) {
				at += 8;
				continue;
			}
		}
		length = sequence(at, end);
		if (length < 0)
			break;
		at += length;
	}
	return (size_t)(at - start);
}

/*
 * Each maximal subpart of what is malformed becomes U+FFFD, three bytes. `copy` NULL: only counted.
 */
static size_t replace_malformed(const char *text, size_t bytes, size_t done, char *copy)
{
	size_t put = done;

	if (copy)
		memcpy(copy, text, done);
	while (done < bytes) {
		int bad = -sequence((const uint8_t *)text + done, (const uint8_t *)text + bytes);
		size_t good;

		if (copy)
			memcpy(copy + put, "\xef\xbf\xbd", 3);
		put += 3;
		done += (size_t)bad;
		good = text_valid_prefix(text + done, bytes - done);
		if (copy)
			memcpy(copy + put, text + done, good);
		put += good;
		done += good;
	}
	return put;
}

size_t text_valid_bytes(const char *text, size_t bytes)
{
	return replace_malformed(text, bytes, text_valid_prefix(text, bytes), NULL);
}

char *text_make_valid(char *text, size_t bytes, size_t *valid_bytes)
{
	size_t done = text_valid_prefix(text, bytes);
	char *copy;

	*valid_bytes = bytes;
	if (done == bytes)
		return text;
	if (bytes > SIZE_MAX / 3)
		return NULL;
	/* Count first: memory for the worst case, three times a large file, might not be there. */
	*valid_bytes = replace_malformed(text, bytes, done, NULL);
	copy = malloc(*valid_bytes + 1);
	if (!copy)
		return NULL;
	replace_malformed(text, bytes, done, copy);
	copy[*valid_bytes] = '\0';
	return copy;
}

/*
 * The C library's table (Unicode's East_Asian_Width and categories), whatever the user's locale is.
 */
static locale_t unicode(void)
{
	static locale_t unicode;

	if (!unicode)
		unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
	return unicode;
}

static int width_of(wchar_t character)
{
	int columns = wcwidth(character);

	if (columns >= 0)
		return columns;
	/* A control character; or an unassigned one, for which fonts have a glyph. */
	return character < 0x20 || (character >= 0x7f && character < 0xa0) ? 0 : 1;
}

size_t text_width(const char *text, size_t bytes)
{
	const uint8_t *at = (const uint8_t *)text, *end = at + bytes;
	locale_t there = unicode(), before = there ? uselocale(there) : NULL;
	size_t columns = 0;

	while (at < end) {
		int length = sequence(at, end);
		wchar_t character = length == 4	  ? at[0] & 0x07
				    : length == 3 ? at[0] & 0x0f
				    : length == 2 ? at[0] & 0x1f
						  : at[0];

		if (length < 1) {
			at -= length;
			columns++;
			continue;
		}
		for (int i = 1; i < length; i++)
			character = character << 6 | (at[i] & 0x3f);
		columns += there ? (size_t)width_of(character) : 1;
		at += length;
	}
	if (there)
		uselocale(before);
	return columns;
}

void text_cut(char *text, size_t room, size_t length)
{
	if (length >= room)
		strcpy(text + text_valid_prefix(text, strnlen(text, room - 4)), "...");
}
