/* SPDX-License-Identifier: MIT */
/*
 * json.h - writes JSON (RFC 8259) to a stream, value by value: all commands use it. It sets the
 * commas; the caller opens and closes brackets in order. Errors of the stream are not reported: the
 * caller asks ferror(). One thread.
 */
#ifndef VM_BASE_JSON_H
#define VM_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json { /* set `to`, and `spaced` if wanted; all else begins as zero */
	FILE *to;
	bool spaced; /* a blank after each comma and colon, for people */
	/* State of the writer. */
	bool comma; /* there was a value before, in the same brackets */
	bool named; /* the name of the next value is written */
	bool line;  /* the next value or bracket begins a line */
	size_t indent;
};

/*
 * `key`: the name of a member of an object; NULL inside arrays, at the top, and after its name was
 * written.
 */
void json_open(struct json *json, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *json, char bracket);		  /* '}' or ']' */
/* UTF-8; each byte that is malformed is written as \ufffd. */
void json_text(struct json *json, const char *key, const char *value);
/* UTF-16; a surrogate without its other half is written as \uXXXX. */
void json_units(struct json *json, const char *key, const uint16_t *units, size_t count);
void json_number(struct json *json, const char *key, uint64_t value);
void json_bool(struct json *json, const char *key, bool value);
/* A value that is JSON already, such as null or a number with a fraction. */
void json_raw(struct json *json, const char *key, const char *value);
/* The name of the member that comes next. */
void json_name(struct json *json, const char *name);
void json_name_units(struct json *json, const uint16_t *units, size_t count);
/* The next value or closing bracket begins a line, with `indent` times two blanks. */
void json_line(struct json *json, size_t indent);

/*
 * Writes UTF-8 as a JSON string into memory, with quotes and a terminator: for callers that must
 * not allocate. `room` is at least 3; the text is cut where the room ends. Returns the bytes
 * without the terminator.
 */
size_t json_quote(const char *text, char *to, size_t room);
/* Writes a character as it is between quotes, escaped if need be. Returns the bytes written. */
size_t json_character(uint32_t character, char to[8]);

#endif
