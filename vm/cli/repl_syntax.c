/* SPDX-License-Identifier: MIT */
/*
 * repl_syntax.c - is this piece of JavaScript finished, or does the shell have to ask for another
 * line?
 *
 * A scan for what is still open: brackets, template literals, block comments. It need not be a
 * parser: whatever it takes for finished goes to the engine, whose own complaint about an
 * unexpected end is the second opinion (repl.c). It goes on where the line before ended, so that a
 * statement of many lines is looked at once. Pure functions.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "repl.h"

/* The character so far ahead; NUL behind the end. */
static char ahead(const struct repl_scan *scan, size_t distance)
{
	return (size_t)(scan->end - scan->at) > distance ? scan->at[distance] : '\0';
}

static void scan_open(struct repl_scan *scan, char bracket)
{
	if (scan->depth == scan->room) {
		size_t room = scan->room ? scan->room * 2 : 64;
		char *open = realloc(scan->open, room);

		if (!open) { /* let the engine say what it thinks of it */
			scan->broken = true;
			return;
		}
		scan->open = open;
		scan->room = room;
	}
	scan->open[scan->depth++] = bracket;
	scan->value_before = false;
}

static void scan_line_comment(struct repl_scan *scan)
{
	while (scan->at < scan->end && *scan->at != '\n')
		scan->at++;
}

/* From inside of it. */
static void scan_block_comment(struct repl_scan *scan)
{
	for (; scan->at < scan->end; scan->at++) {
		if (*scan->at == '*' && ahead(scan, 1) == '/') {
			scan->at += 2;
			scan->inside = 0;
			return;
		}
	}
	scan->inside = '*';
}

/* From inside of it. It ends with its line, unless a backslash joins the next one to it. */
static void scan_string(struct repl_scan *scan, char quote)
{
	scan->inside = 0;
	scan->value_before = true;
	while (scan->at < scan->end && *scan->at != quote && *scan->at != '\n') {
		if (*scan->at == '\\') {
			if (scan->end - scan->at <= 1 ||
			    (ahead(scan, 1) == '\n' && scan->end - scan->at == 2)) {
				scan->at = scan->end;
				scan->inside = quote;
				return;
			}
			scan->at++;
		}
		scan->at++;
	}
	if (scan->at < scan->end && *scan->at == quote)
		scan->at++;
}

/* From inside of it, to the closing ` or to the next ${. */
static void scan_template(struct repl_scan *scan)
{
	scan->inside = 0;
	scan->value_before = true;
	while (scan->at < scan->end && *scan->at != '`') {
		if (*scan->at == '\\' && scan->end - scan->at > 1) {
			scan->at += 2;
			continue;
		}
		if (*scan->at == '$' && ahead(scan, 1) == '{') {
			scan->at += 2;
			scan_open(scan, '$');
			return;
		}
		scan->at++;
	}
	if (scan->at < scan->end)
		scan->at++;
	else
		scan->inside = '`';
}

static void scan_regex(struct repl_scan *scan)
{
	bool in_class = false;

	for (scan->at++; scan->at < scan->end && *scan->at != '\n'; scan->at++) {
		if (*scan->at == '\\' && scan->end - scan->at > 1 && scan->at[1] != '\n')
			scan->at++;
		else if (*scan->at == '[')
			in_class = true;
		else if (*scan->at == ']')
			in_class = false;
		else if (*scan->at == '/' && !in_class) {
			scan->at++;
			break;
		}
	}
	scan->value_before = true;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

/* A word; after some keywords an expression begins, so a '/' there starts a regular expression. */
static void scan_word(struct repl_scan *scan)
{
	static const char *const keywords[] = {"return", "typeof", "case",  "in",	 "of",
					       "delete", "void",   "throw", "new",	 "await",
					       "yield",	 "else",   "do",    "instanceof"};
	const char *start = scan->at;
	size_t length;

	while (scan->at < scan->end && is_word(*scan->at))
		scan->at++;
	length = (size_t)(scan->at - start);
	scan->value_before = true;
	for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
		if (strlen(keywords[i]) == length && !memcmp(keywords[i], start, length))
			scan->value_before = false;
}

static void scan_close(struct repl_scan *scan)
{
	char open = scan->depth ? scan->open[scan->depth - 1] : 0, c = *scan->at++;

	scan->value_before = c != '}';
	if (c == '}' && open == '$') {
		scan->depth--;
		scan_template(scan);
	} else if ((c == ')' && open == '(') || (c == ']' && open == '[') ||
		   (c == '}' && open == '{')) {
		scan->depth--;
	} else {
		scan->broken = true;
	}
}

static void scan_token(struct repl_scan *scan)
{
	char c = *scan->at;

	if (isspace((unsigned char)c)) {
		scan->at++;
	} else if (c == '/' && ahead(scan, 1) == '/') {
		scan_line_comment(scan);
	} else if (c == '/' && ahead(scan, 1) == '*') {
		scan->at += 2;
		scan_block_comment(scan);
	} else if (c == '"' || c == '\'') {
		scan->at++;
		scan_string(scan, c);
	} else if (c == '`') {
		scan->at++;
		scan_template(scan);
	} else if (c == '/' && !scan->value_before) {
		scan_regex(scan);
	} else if (is_word(c)) {
		scan_word(scan);
	} else if (c == '(' || c == '[' || c == '{') {
		scan->at++;
		scan_open(scan, c);
	} else if (c == ')' || c == ']' || c == '}') {
		scan_close(scan);
	} else {
		scan->value_before = false;
		scan->at++;
	}
}

bool repl_scan_more(struct repl_scan *scan, const char *text, size_t bytes)
{
	scan->at = text;
	scan->end = text + bytes;
	if (scan->inside == '*')
		scan_block_comment(scan);
	else if (scan->inside == '`')
		scan_template(scan);
	else if (scan->inside)
		scan_string(scan, scan->inside);
	while (scan->at < scan->end && !scan->broken)
		scan_token(scan);
	return !scan->broken && (scan->inside || scan->depth > 0);
}

void repl_scan_end(struct repl_scan *scan)
{
	free(scan->open);
	*scan = (struct repl_scan){0};
}

bool repl_blank(const char *code, size_t bytes)
{
	while (bytes && strchr(" \t\r\n", *code) && *code) {
		code++;
		bytes--;
	}
	return !bytes;
}
