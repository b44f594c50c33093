/* SPDX-License-Identifier: MIT */
/*
 * text.h - checks, repairs and measures UTF-8 that comes from outside.
 */
#ifndef VM_BASE_TEXT_H
#define VM_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The number of bytes at the start of `text` that are well-formed UTF-8 (no surrogates, no
 * overlong forms).
 */
size_t text_valid_prefix(const char *text, size_t bytes);

/* How many bytes text_make_valid() would give. */
size_t text_valid_bytes(const char *text, size_t bytes);
/*
 * Replaces what is not UTF-8 by U+FFFD as WHATWG says (one per maximal subpart). Returns `text`
 * itself if it is valid, else a malloc'ed copy with a 0 behind it; NULL when out of memory.
 */
char *text_make_valid(char *text, size_t bytes, size_t *valid_bytes);

/*
 * Of `length` bytes of UTF-8, what fits was put into `room` bytes, at least 8. If that is not all, it ends behind a whole
 * character, and says so: "...".
 */
void text_cut(char *text, size_t room, size_t length);

/*
 * How many columns well-formed UTF-8 takes on a terminal: two for wide characters (CJK, emoji),
 * none for combining marks and characters that are not drawn. One thread.
 */
size_t text_width(const char *text, size_t bytes);

#endif
