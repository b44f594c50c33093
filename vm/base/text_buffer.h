/* SPDX-License-Identifier: MIT */
/* text_buffer.h - UTF-8 text that grows. One thread. */
#ifndef VM_BASE_TEXT_BUFFER_H
#define VM_BASE_TEXT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text_buffer { /* all zero: empty; the owner frees `s` */
	char *s;     /* terminated; NULL: nothing was added */
	size_t bytes, room;
	bool failed; /* no memory: some of the text is missing */
};
void text_buffer_add(struct text_buffer *text, const char *more);
/* At most 255 bytes. */
void text_buffer_printf(struct text_buffer *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* UTF-16. Characters that control a terminal are replaced by U+FFFD. */
void text_buffer_add_units(struct text_buffer *text, const uint16_t *units, size_t count);
/* The same as a JSON string, with its quotes and escapes. */
void text_buffer_add_quoted(struct text_buffer *text, const uint16_t *units, size_t count);

#endif
