/* SPDX-License-Identifier: MIT */
/*
 * repl_syntax.c - is this piece of JavaScript finished, or does the shell have to ask for another
 * line?
 *
 * A scan for what is still open: brackets, template literals, block comments. It need not be a
 * parser: whatever it takes for finished goes to the engine, whose own complaint about an
 * unexpected end is the second opinion (repl.c). Pure functions.
 */
#include <ctype.h>
#include <string.h>

#include "repl.h"

#define DEPTH_MAX 512

struct scan {
	const char *at;
	char open[DEPTH_MAX]; /* '(', '[', '{', or '$' for the braces of ${...} */
	unsigned depth;
	bool broken;	   /* a closing bracket that closes nothing: the engine will say so */
	bool unfinished;   /* the end came inside a template, a comment, or after a backslash */
	bool value_before; /* what came last could be divided: a '/' now is no regular expression */
};

static void scan_line_comment(struct scan *scan)
{
	while (*scan->at && *scan->at != '\n')
		scan->at++;
}

static void scan_block_comment(struct scan *scan)
{
	const char *end = strstr(scan->at + 2, "*/");

	scan->unfinished = !end;
	scan->at = end ? end + 2 : scan->at + strlen(scan->at);
}

/* A string ends with its line, unless a backslash joins the next one to it. */
static void scan_string(struct scan *scan)
{
	char quote = *scan->at++;

	while (*scan->at && *scan->at != quote && *scan->at != '\n') {
		if (*scan->at == '\\' && scan->at[1]) {
			scan->at++;
			scan->unfinished = *scan->at == '\n' && !scan->at[1];
		}
		scan->at++;
	}
	if (*scan->at == quote)
		scan->at++;
	scan->value_before = true;
}

/*
 * From behind the opening ` or behind the } of a substitution, to the closing ` or to the next
 * ${.
 */
static void scan_template(struct scan *scan)
{
	while (*scan->at && *scan->at != '`') {
		if (*scan->at == '\\' && scan->at[1]) {
			scan->at += 2;
			continue;
		}
		if (scan->at[0] == '$' && scan->at[1] == '{') {
			if (scan->depth < DEPTH_MAX)
				scan->open[scan->depth++] = '$';
			scan->at += 2;
			scan->value_before = false;
			return;
		}
		scan->at++;
	}
	if (*scan->at)
		scan->at++;
	else
		scan->unfinished = true;
	scan->value_before = true;
}

static void scan_regex(struct scan *scan)
{
	bool in_class = false;

	for (scan->at++; *scan->at && *scan->at != '\n'; scan->at++) {
		if (*scan->at == '\\' && scan->at[1] && scan->at[1] != '\n')
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
static void scan_word(struct scan *scan)
{
	static const char *const keywords[] = {"return", "typeof", "case",  "in",	 "of",
					       "delete", "void",   "throw", "new",	 "await",
					       "yield",	 "else",   "do",    "instanceof"};
	const char *start = scan->at;
	size_t length;

	while (is_word(*scan->at))
		scan->at++;
	length = (size_t)(scan->at - start);
	scan->value_before = true;
	for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
		if (strlen(keywords[i]) == length && !memcmp(keywords[i], start, length))
			scan->value_before = false;
}

static void scan_close(struct scan *scan)
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

bool repl_unfinished(const char *code)
{
	struct scan scan = {.at = code};

	while (*scan.at && !scan.broken && !scan.unfinished) {
		char c = *scan.at;

		if (isspace((unsigned char)c)) {
			scan.at++;
		} else if (c == '/' && scan.at[1] == '/') {
			scan_line_comment(&scan);
		} else if (c == '/' && scan.at[1] == '*') {
			scan_block_comment(&scan);
		} else if (c == '"' || c == '\'') {
			scan_string(&scan);
		} else if (c == '`') {
			scan.at++;
			scan_template(&scan);
		} else if (c == '/' && !scan.value_before) {
			scan_regex(&scan);
		} else if (is_word(c)) {
			scan_word(&scan);
		} else if (strchr("([{", c)) {
			if (scan.depth < DEPTH_MAX)
				scan.open[scan.depth++] = c;
			scan.value_before = false;
			scan.at++;
		} else if (strchr(")]}", c)) {
			scan_close(&scan);
		} else {
			scan.value_before = false;
			scan.at++;
		}
	}
	return !scan.broken && (scan.unfinished || scan.depth > 0);
}

bool repl_blank(const char *code)
{
	return code[strspn(code, " \t\r\n")] == '\0';
}
