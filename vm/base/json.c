// SPDX-License-Identifier: MIT
/*
 * json.c - the writer of JSON, see json.h. Characters that control a terminal are escaped, whoever
 * chose the text: much of the output is printed there.
 */
#include <string.h>

#include "text.h"
#include "json.h"
#include "unicode.h"

size_t json_character(uint32_t c, char to[8])
{
	if (c == '"' || c == '\\' || c == '\n') {
		to[0] = '\\';
		to[1] = c == '\n' ? 'n' : (char)c;
		return 2;
	}
	if (steers_terminal(c) || is_surrogate(c))
		return (size_t)snprintf(to, 8, "\\u%04x", c);
	return utf8_put(c, to);
}

/*
 * ---- Strings: whole ones are written at once, so that they do not cost a call for each character
 */

struct quoted {
	FILE *to;
	size_t used;
	char bytes[512];
};

static void quoted_begin(struct quoted *quoted, FILE *to)
{
	quoted->to = to;
	quoted->bytes[0] = '"';
	quoted->used = 1;
}

static void quoted_flush(struct quoted *quoted)
{
	fwrite_unlocked(quoted->bytes, 1, quoted->used, quoted->to);
	quoted->used = 0;
}

/* Make room for one more character. */
static void quoted_room(struct quoted *quoted)
{
	if (quoted->used > sizeof(quoted->bytes) - 8)
		quoted_flush(quoted);
}

static void quoted_add(struct quoted *quoted, uint32_t character)
{
	quoted_room(quoted);
	quoted->used += json_character(character, quoted->bytes + quoted->used);
}

static void quoted_end(struct quoted *quoted)
{
	quoted_room(quoted);
	quoted->bytes[quoted->used++] = '"';
	quoted_flush(quoted);
}

/* Text to be read as UTF-8; it may be any bytes, a path for example. */
struct utf8 {
	const char *at;
	size_t left, valid; /* bytes: not read yet; at their start, well-formed */
};

static struct utf8 utf8_begin(const char *text)
{
	size_t left = strlen(text);

	return (struct utf8){text, left, text_valid_prefix(text, left)};
}

/*
 * Escape the next character, or a byte that is not UTF-8, as between quotes. Returns the bytes
 * written.
 */
static size_t utf8_escape(struct utf8 *text, char to[8])
{
	size_t taken = 1, put;
	uint32_t c;

	if (text->valid) {
		taken = utf8_next(text->at, &c);
		text->valid -= taken;
		put = json_character(c, to);
	} else {
		put = (size_t)sprintf(to, "\\ufffd");
		text->valid = text_valid_prefix(text->at + 1, text->left - 1);
	}
	text->at += taken;
	text->left -= taken;
	return put;
}

static void put_text(FILE *to, const char *text)
{
	struct utf8 utf8 = utf8_begin(text);
	struct quoted quoted;

	quoted_begin(&quoted, to);
	while (utf8.left) {
		quoted_room(&quoted);
		quoted.used += utf8_escape(&utf8, quoted.bytes + quoted.used);
	}
	quoted_end(&quoted);
}

size_t json_quote(const char *text, char *to, size_t room)
{
	struct utf8 utf8 = utf8_begin(text);
	size_t used = 0;

	to[used++] = '"';
	while (utf8.left && used + 8 <= room)
		used += utf8_escape(&utf8, to + used);
	to[used++] = '"';
	to[used] = '\0';
	return used;
}

static void put_units(FILE *to, const uint16_t *units, size_t count)
{
	struct quoted quoted;
	uint32_t c;

	quoted_begin(&quoted, to);
	for (size_t i = 0; i < count;) {
		i += utf16_next(units + i, count - i, &c);
		quoted_add(&quoted, c);
	}
	quoted_end(&quoted);
}

/* ---- What stands between values */

static bool begin_line(struct json *json)
{
	if (!json->line)
		return false;
	putc('\n', json->to);
	for (size_t i = 0; i < json->indent; i++)
		fputs("  ", json->to);
	json->line = false;
	return true;
}

static void begin_member(struct json *json)
{
	if (json->named) {
		json->named = false;
		return;
	}
	if (json->comma)
		putc(',', json->to);
	if (!begin_line(json) && json->comma && json->spaced)
		putc(' ', json->to);
	json->comma = true;
}

static void end_name(struct json *json)
{
	fputs(json->spaced ? ": " : ":", json->to);
	json->named = true;
}

void json_name(struct json *json, const char *name)
{
	begin_member(json);
	put_text(json->to, name);
	end_name(json);
}

void json_name_units(struct json *json, const uint16_t *units, size_t count)
{
	begin_member(json);
	put_units(json->to, units, count);
	end_name(json);
}

static void begin_value(struct json *json, const char *key)
{
	if (key)
		json_name(json, key);
	begin_member(json);
}

void json_line(struct json *json, size_t indent)
{
	json->line = true;
	json->indent = indent;
}

/* ---- Values */

void json_open(struct json *json, const char *key, char bracket)
{
	begin_value(json, key);
	putc(bracket, json->to);
	json->comma = false;
}

void json_close(struct json *json, char bracket)
{
	begin_line(json);
	putc(bracket, json->to);
	json->comma = true;
}

void json_text(struct json *json, const char *key, const char *value)
{
	begin_value(json, key);
	put_text(json->to, value);
}

void json_units(struct json *json, const char *key, const uint16_t *units, size_t count)
{
	begin_value(json, key);
	put_units(json->to, units, count);
}

void json_number(struct json *json, const char *key, uint64_t value)
{
	begin_value(json, key);
	fprintf(json->to, "%llu", (unsigned long long)value);
}

void json_bool(struct json *json, const char *key, bool value)
{
	json_raw(json, key, value ? "true" : "false");
}

void json_raw(struct json *json, const char *key, const char *value)
{
	begin_value(json, key);
	fputs(value, json->to);
}
