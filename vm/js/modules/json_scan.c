/* SPDX-License-Identifier: MIT */
/*
 * json_scan.c - a scanner over JSON text.
 *
 * Owns nothing; any thread. Used by resolve.c on package.json files, which may contain anything: it
 * must stop at the terminator and never nest deeper than DEPTH_MAX. It accepts some texts that are
 * not JSON, but never reads a value as something else.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "json_scan.h"

#define DEPTH_MAX 64

const char *json_value(const char *at)
{
	while (at && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	return at && *at ? at : NULL;
}

static const char *behind_string(const char *at)
{
	for (at++; *at && *at != '"'; at++)
		if (*at == '\\' && !*++at)
			return NULL;
	return *at ? at + 1 : NULL;
}

static const char *behind(const char *at, int depth)
{
	at = json_value(at);
	if (!at || depth > DEPTH_MAX)
		return NULL;
	if (*at == '"')
		return behind_string(at);
	if (*at != '{' && *at != '[') {
		const char *start = at;

		while (isalnum((unsigned char)*at) || (*at && strchr("+-.", *at)))
			at++;
		return at > start ? at : NULL;
	}
	const char close = *at == '{' ? '}' : ']';

	for (at = json_value(at + 1); at && *at != close;) {
		if (close == '}') {
			at = *at == '"' ? json_value(behind_string(at)) : NULL;
			if (!at || *at != ':')
				return NULL;
			at++;
		}
		at = json_value(behind(at, depth + 1));
		if (at && *at == ',')
			at = json_value(at + 1);
		else if (at && *at != close)
			return NULL;
	}
	return at ? at + 1 : NULL;
}

const char *json_behind(const char *at)
{
	return behind(at, 0);
}

static char *put_utf8(char *to, uint32_t code)
{
	if (code < 0x80) {
		*to++ = (char)code;
	} else if (code < 0x800) {
		*to++ = (char)(0xc0 | code >> 6);
		*to++ = (char)(0x80 | (code & 0x3f));
	} else if (code < 0x10000) {
		*to++ = (char)(0xe0 | code >> 12);
		*to++ = (char)(0x80 | (code >> 6 & 0x3f));
		*to++ = (char)(0x80 | (code & 0x3f));
	} else {
		*to++ = (char)(0xf0 | code >> 18);
		*to++ = (char)(0x80 | (code >> 12 & 0x3f));
		*to++ = (char)(0x80 | (code >> 6 & 0x3f));
		*to++ = (char)(0x80 | (code & 0x3f));
	}
	return to;
}

static bool hex4(const char *at, uint32_t *code)
{
	*code = 0;
	for (int i = 0; i < 4; i++) {
		if (!isxdigit((unsigned char)at[i]))
			return false;
		*code = *code << 4 |
			(uint32_t)(at[i] <= '9' ? at[i] - '0' : (at[i] | 32) - 'a' + 10);
	}
	return true;
}

/* Decode the escape after a backslash and move `at` past it. */
static char *unescape(const char **at, char *to)
{
	static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
	const char *simple = strchr(from, **at);
	uint32_t code, low;

	if (**at == 'u' && hex4(*at + 1, &code)) {
		*at += 5;
		if (code >= 0xd800 && code < 0xdc00 && (*at)[0] == '\\' && (*at)[1] == 'u' &&
		    hex4(*at + 2, &low) && low >= 0xdc00 && low < 0xe000) {
			code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
			*at += 6;
		}
		return put_utf8(to, code);
	}
	*to = simple && *simple ? into[simple - from] : **at;
	(*at)++;
	return to + 1;
}

char *json_decoded(const char *at)
{
	const char *end;
	char *text, *to;

	at = json_value(at);
	if (!at || *at != '"')
		return NULL;
	end = behind_string(at);
	text = end ? malloc((size_t)(end - at)) : NULL;
	if (!text)
		return NULL;
	to = text;
	for (at++; at < end - 1;) {
		if (*at == '\\') {
			at++;
			to = unescape(&at, to);
		} else {
			*to++ = *at++;
		}
	}
	*to = 0;
	return text;
}

/* `at` is at a key, an item, or the end of the container. */
static const char *item(const char *at, bool object, char **key)
{
	at = json_value(at);
	if (!at || *at == ']' || *at == '}')
		return NULL;
	if (!object)
		return at;
	if (*at != '"')
		return NULL;
	*key = json_decoded(at);
	at = json_value(behind_string(at));
	at = at && *at == ':' ? json_value(at + 1) : NULL;
	if (!at || !*key) {
		free(*key);
		*key = NULL;
		return NULL;
	}
	return at;
}

const char *json_first(const char *container, char **key)
{
	container = json_value(container);
	if (!container || (*container != '{' && *container != '['))
		return NULL;
	return item(container + 1, *container == '{', key);
}

const char *json_next(const char *at, bool object, char **key)
{
	at = json_value(json_behind(at));
	return at && *at == ',' ? item(at + 1, object, key) : NULL;
}

const char *json_member(const char *object, const char *key)
{
	char *name = NULL;

	object = json_value(object);
	if (!object || *object != '{')
		return NULL;
	for (const char *at = json_first(object, &name); at; at = json_next(at, true, &name)) {
		bool same = !strcmp(name, key);

		free(name);
		if (same)
			return at;
	}
	return NULL;
}
