/* SPDX-License-Identifier: MIT */
/*
 * json.h - JSON (RFC 8259), written to a stream as it comes: the one writer of all commands. It keeps track
 * of commas; brackets are the caller's. One thread. Whether the stream took it is the caller's to ask
 * (ferror).
 */
#ifndef VM_BASE_JSON_H
#define VM_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json { /* all zero but for `to`: compact */
	FILE *to;
	bool spaced; /* a blank after each comma and colon, for people */
	/* The writer's own. */
	bool comma; /* a member stands before what comes next */
	bool named; /* the name of what comes next is written */
	bool line;  /* what comes next begins a line */
	size_t indent;
};

/* `key`: the name of a member of an object; NULL inside arrays, at the top, and after its name was written. */
void json_open(struct json *json, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *json, char bracket);		  /* '}' or ']' */
/* UTF-8; each byte that is not is written as \ufffd. */
void json_text(struct json *json, const char *key, const char *value);
/* UTF-16; a surrogate without its other half is written as \uXXXX. */
void json_units(struct json *json, const char *key, const uint16_t *units, size_t count);
void json_number(struct json *json, const char *key, uint64_t value);
void json_bool(struct json *json, const char *key, bool value);
/* A value that is JSON already: a number with a fraction, null. */
void json_raw(struct json *json, const char *key, const char *value);
/* The name of the member that comes next. */
void json_name(struct json *json, const char *name);
void json_name_units(struct json *json, const uint16_t *units, size_t count);
/* What comes next, a member or a closing bracket, begins a line, after `indent` times two blanks. */
void json_line(struct json *json, size_t indent);

/*
 * UTF-8 as a string with its quotes, in memory: for those that must not allocate, as a stream would. At least 3
 * bytes of room; what has no room is left out. Returns the bytes without the terminator.
 */
size_t json_quote(const char *text, char *to, size_t room);
/* A character as it stands between the quotes. Returns the bytes written. */
size_t json_character(uint32_t character, char to[8]);

#endif
