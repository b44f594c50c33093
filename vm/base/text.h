/* SPDX-License-Identifier: MIT */
/*
 * text.h - UTF-8 as the outside world has it, and as it ought to be.
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
 * itself if it is valid, else a malloc'ed copy; NULL when out of memory.
 */
char *text_make_valid(char *text, size_t bytes, size_t *valid_bytes);

/*
 * How many columns well-formed UTF-8 takes on a terminal: two for what is wide (CJK, emoji), none
 * for what is drawn into the character before it (combining marks) or not at all. One thread.
 */
size_t text_width(const char *text, size_t bytes);

#endif
