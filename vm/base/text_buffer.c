// SPDX-License-Identifier: MIT
/* text_buffer.c - text that grows, see text_buffer.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "text_buffer.h"
#include "unicode.h"

static bool text_room(struct text_buffer *text, size_t more)
{
	size_t room = text->room ? text->room : 64;
	char *grown;

	if (text->failed)
		return false;
	while (room - text->bytes <= more)
		room *= 2;
	if (room == text->room)
		return true;
	grown = realloc(text->s, room);
	if (!grown) {
		text->failed = true;
		return false;
	}
	text->s = grown;
	text->room = room;
	return true;
}

static void add_bytes(struct text_buffer *text, const char *bytes, size_t count)
{
	if (!text_room(text, count))
		return;
	memcpy(text->s + text->bytes, bytes, count);
	text->bytes += count;
	text->s[text->bytes] = '\0';
}

void text_buffer_add(struct text_buffer *text, const char *more)
{
	add_bytes(text, more, strlen(more));
}

void text_buffer_printf(struct text_buffer *text, const char *format, ...)
{
	char line[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	text_buffer_add(text, line);
}

static void add_character(struct text_buffer *text, uint32_t character)
{
	char bytes[4];

	add_bytes(text, bytes, utf8_put(character, bytes));
}

void text_buffer_add_units(struct text_buffer *text, const uint16_t *units, size_t count)
{
	uint32_t c;

	for (size_t i = 0; i < count;) {
		i += utf16_next(units + i, count - i, &c);
		/* The text may be printed. */
		add_character(text, is_surrogate(c) || steers_terminal(c) ? 0xfffd : c);
	}
}

void text_buffer_add_quoted(struct text_buffer *text, const uint16_t *units, size_t count)
{
	char bytes[8];
	uint32_t c;

	add_bytes(text, "\"", 1);
	for (size_t i = 0; i < count;) {
		i += utf16_next(units + i, count - i, &c);
		add_bytes(text, bytes, json_character(c, bytes));
	}
	add_bytes(text, "\"", 1);
}
