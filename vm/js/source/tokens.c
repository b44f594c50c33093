// SPDX-License-Identifier: MIT
/*
 * tokens.c - cuts JavaScript's text into tokens (tokens.h).
 *
 * Not a parser: what needs one (is a slash a division?) is decided by the token before, and brackets that do
 * not match end it. Pure; for texts that the engine has compiled.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "tokens.h"

#define TEXT_MAX_BYTES (8u << 20)
#define DEPTH_MAX 1024u

struct scan {
	struct tokens *tokens;
	const char *at, *end, *line_start;
	uint32_t line;
	bool first;		  /* nothing of this line was a token */
	uint32_t open[DEPTH_MAX]; /* brackets, by index */
	size_t depth;
};

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

bool token_is(const struct tokens *tokens, size_t index, const char *text)
{
	const struct token *token = &tokens->list[index];

	return index < tokens->count && strlen(text) == token->bytes &&
	       !memcmp(tokens->text + token->at, text, token->bytes);
}

bool token_is_any(const struct tokens *tokens, size_t index, const char *const *texts)
{
	for (; *texts; texts++)
		if (token_is(tokens, index, *texts))
			return true;
	return false;
}

/* A parenthesis that closes what a statement begins with. */
static bool closes_condition(const struct tokens *tokens, size_t index)
{
	static const char *const words[] = {"if", "while", "for", "with", NULL};
	int32_t open = tokens->list[index].match;

	return open > 0 && tokens->list[open - 1].kind == TOKEN_KEYWORD &&
	       token_is_any(tokens, (size_t)open - 1, words);
}

bool token_opens_object(const struct tokens *tokens, size_t index)
{
	static const char *const before_blocks[] = {")", "]", "}", ";", "{", "=>", NULL};
	static const char *const before_objects[] = {"return", "typeof",  "in",	   "new",
						     "await",  "yield",	  "throw", "delete",
						     "void",   "default", "case",  NULL};
	const struct token *before = &tokens->list[index - 1];

	if (!index || !token_is(tokens, index, "{"))
		return false;
	if (before->kind == TOKEN_PUNCTUATOR)
		return !token_is_any(tokens, index - 1, before_blocks);
	return before->kind == TOKEN_KEYWORD && token_is_any(tokens, index - 1, before_objects);
}

bool token_ends_value(const struct tokens *tokens, size_t index)
{
	static const char *const values[] = {"this",  "super",	"null", "true",
					     "false", "import", NULL};
	const struct token *token = &tokens->list[index];

	switch (token->kind) {
	case TOKEN_KEYWORD:
		return token_is_any(tokens, index, values);
	case TOKEN_TEMPLATE:
		return !token_opens(tokens, index);
	case TOKEN_PUNCTUATOR:
		if (token_is(tokens, index, ")"))
			return !closes_condition(tokens, index);
		if (token_is(tokens, index, "}"))
			return token->match >= 0 &&
			       token_opens_object(tokens, (size_t)token->match);
		if (token_is(tokens, index, "++") || token_is(tokens, index, "--"))
			return index && !token->first && token_ends_value(tokens, index - 1);
		return token_is(tokens, index, "]");
	default:
		return true;
	}
}

/* ---- Scanning ---- */

static bool add(struct scan *scan, enum token_kind kind, const char *start)
{
	struct tokens *tokens = scan->tokens;
	struct token *list = array_grow(tokens->list, tokens->count, &tokens->room, sizeof(*list));

	if (!list)
		return false;
	tokens->list = list;
	tokens->list[tokens->count++] = (struct token){
		.at = (uint32_t)(start - tokens->text),
		.bytes = (uint32_t)(scan->at - start),
		.line = scan->line,
		.column = (uint32_t)(start - scan->line_start) + 1,
		.match = -1,
		.kind = kind,
		.first = scan->first,
	};
	scan->first = false;
	return true;
}

static bool open_bracket(struct scan *scan)
{
	if (scan->depth == DEPTH_MAX)
		return false;
	scan->open[scan->depth++] = (uint32_t)scan->tokens->count - 1;
	return true;
}

static char kind_of_open(const struct scan *scan)
{
	const struct token *token;

	if (!scan->depth)
		return 0;
	token = &scan->tokens->list[scan->open[scan->depth - 1]];
	return token->kind == TOKEN_TEMPLATE ? '`' : scan->tokens->text[token->at];
}

static void close_bracket(struct scan *scan)
{
	uint32_t open = scan->open[--scan->depth], close = (uint32_t)scan->tokens->count - 1;

	scan->tokens->list[open].match = (int32_t)close;
	scan->tokens->list[close].match = (int32_t)open;
}

static void newline(struct scan *scan)
{
	scan->line++;
	scan->line_start = scan->at;
	scan->first = true;
}

/* White space and comments. False: what some take for the end of a line. */
static bool skip_space(struct scan *scan)
{
	while (scan->at < scan->end) {
		size_t left = (size_t)(scan->end - scan->at);

		if (*scan->at == '\n') {
			scan->at++;
			newline(scan);
		} else if (isspace((unsigned char)*scan->at)) {
			scan->at++;
		} else if (left > 1 &&
			   (!memcmp(scan->at, "//", 2) ||
			    (scan->at == scan->tokens->text && !memcmp(scan->at, "#!", 2)))) {
			while (scan->at < scan->end && *scan->at != '\n')
				scan->at++;
		} else if (left > 1 && !memcmp(scan->at, "/*", 2)) {
			for (scan->at += 2; scan->at < scan->end; scan->at++) {
				if (*scan->at == '/' && scan->at[-1] == '*')
					break;
				if (*scan->at == '\n') {
					scan->line++;
					scan->line_start = scan->at + 1;
					scan->first = true;
				}
			}
			scan->at += scan->at < scan->end;
		} else if (left > 1 && !memcmp(scan->at, "\xc2\xa0", 2)) {
			scan->at += 2;
		} else if (left > 2 && !memcmp(scan->at, "\xef\xbb\xbf", 3)) {
			scan->at += 3;
		} else {
			return left < 3 || memcmp(scan->at, "\xe2\x80", 2);
		}
	}
	return true;
}

static bool scan_string(struct scan *scan)
{
	const char *start = scan->at++;

	for (; scan->at < scan->end && *scan->at != *start; scan->at++) {
		if (*scan->at == '\n')
			return false;
		if (*scan->at == '\\' && scan->end - scan->at > 1 && *++scan->at == '\n')
			return false; /* its place is not that of what follows */
	}
	if (scan->at == scan->end)
		return false;
	scan->at++;
	return add(scan, TOKEN_STRING, start);
}

/* From its `, or from behind the } of a part. */
static bool scan_template(struct scan *scan, const char *start)
{
	const char *line_start = scan->line_start;
	uint32_t line = scan->line;
	bool opens = false;

	for (;; scan->at++) {
		if (scan->at >= scan->end)
			return false;
		if (*scan->at == '`')
			break;
		if (*scan->at == '\n') {
			scan->line++;
			scan->line_start = scan->at + 1;
		} else if (*scan->at == '\\' && scan->end - scan->at > 1 && scan->at[1] != '\n') {
			scan->at++;
		} else if (*scan->at == '$' && scan->end - scan->at > 1 && scan->at[1] == '{') {
			scan->at++;
			opens = true;
			break;
		}
	}
	scan->at++;
	if (!add(scan, TOKEN_TEMPLATE, start))
		return false;
	scan->tokens->list[scan->tokens->count - 1].line = line;
	scan->tokens->list[scan->tokens->count - 1].column = (uint32_t)(start - line_start) + 1;
	return !opens || open_bracket(scan);
}

static bool scan_regex(struct scan *scan)
{
	const char *start = scan->at++;
	bool in_class = false;

	for (; scan->at < scan->end && (in_class || *scan->at != '/'); scan->at++) {
		if (*scan->at == '\n')
			return false;
		if (*scan->at == '\\')
			scan->at++;
		else if (*scan->at == '[' || *scan->at == ']')
			in_class = *scan->at == '[';
	}
	if (scan->at >= scan->end)
		return false;
	for (scan->at++; scan->at < scan->end && is_word(*scan->at);)
		scan->at++;
	return add(scan, TOKEN_REGEX, start);
}

static bool scan_word(struct scan *scan)
{
	static const char *const keywords[] = {
		"await",    "break",	  "case",    "catch", "class",	  "const",  "continue",
		"debugger", "default",	  "delete",  "do",    "else",	  "enum",   "export",
		"extends",  "false",	  "finally", "for",   "function", "if",	    "import",
		"in",	    "instanceof", "let",     "new",   "null",	  "return", "static",
		"super",    "switch",	  "this",    "throw", "true",	  "try",    "typeof",
		"var",	    "void",	  "while",   "with",  "yield",	  NULL};
	const char *start = scan->at;
	struct tokens *tokens = scan->tokens;

	while (scan->at < scan->end && is_word(*scan->at))
		scan->at++;
	if (scan->at < scan->end && *scan->at == '\\')
		return false;
	if (!add(scan, TOKEN_WORD, start))
		return false;
	if (token_is_any(tokens, tokens->count - 1, keywords) &&
	    (tokens->count < 2 || (!token_is(tokens, tokens->count - 2, ".") &&
				   !token_is(tokens, tokens->count - 2, "?."))))
		tokens->list[tokens->count - 1].kind = TOKEN_KEYWORD;
	return true;
}

static bool scan_number(struct scan *scan)
{
	const char *start = scan->at;
	bool hexadecimal = scan->end - start > 1 && start[0] == '0' &&
			   isalpha((unsigned char)start[1]);

	while (scan->at < scan->end && (is_word(*scan->at) || *scan->at == '.')) {
		bool exponent = !hexadecimal && (*scan->at | 32) == 'e';

		scan->at++;
		if (exponent && scan->at < scan->end && (*scan->at == '+' || *scan->at == '-'))
			scan->at++;
	}
	return add(scan, TOKEN_NUMBER, start);
}

static bool scan_punctuator(struct scan *scan)
{
	static const char *const long_ones[] = {
		">>>=", "...", "===", "!==", "**=", "<<=", ">>=", ">>>", "&&=", "||=", "?\?=", "=>",
		"==",	"!=",  "<=",  ">=",  "&&",  "||",  "??",  "?.",	 "++",	"--",  "+=",   "-=",
		"*=",	"/=",  "%=",  "&=",  "|=",  "^=",  "<<",  ">>",	 "**",	NULL};
	static const char closing[] = ")]}", opening[] = "([{";
	const char *start = scan->at, *close;

	scan->at++;
	for (const char *const *one = long_ones; *one; one++) {
		size_t bytes = strlen(*one);

		if ((size_t)(scan->end - start) < bytes || memcmp(start, *one, bytes))
			continue;
		/* a?.5:b */
		if (!strcmp(*one, "?.") && scan->end - start > 2 &&
		    isdigit((unsigned char)start[2]))
			continue;
		scan->at = start + bytes;
		break;
	}
	if (!add(scan, TOKEN_PUNCTUATOR, start))
		return false;
	if (scan->at - start > 1)
		return true;
	if (strchr(opening, *start))
		return open_bracket(scan);
	close = strchr(closing, *start);
	if (!close)
		return true;
	if (*start == '}' && kind_of_open(scan) == '`') {
		close_bracket(scan);
		return scan_template(scan, scan->at);
	}
	if (kind_of_open(scan) != opening[close - closing])
		return false;
	close_bracket(scan);
	return true;
}

static bool scan_token(struct scan *scan)
{
	const struct tokens *tokens = scan->tokens;
	char c = *scan->at, next = scan->end - scan->at > 1 ? scan->at[1] : '\0';

	if (!c)
		return false;
	if (c == '"' || c == '\'')
		return scan_string(scan);
	if (c == '`') {
		scan->at++;
		return scan_template(scan, scan->at - 1);
	}
	if (isdigit((unsigned char)c) || (c == '.' && isdigit((unsigned char)next)))
		return scan_number(scan);
	if (is_word(c))
		return scan_word(scan);
	if (c == '#' && is_word(next)) {
		const char *start = scan->at++;

		while (scan->at < scan->end && is_word(*scan->at))
			scan->at++;
		return add(scan, TOKEN_PRIVATE, start);
	}
	if (c == '/' && !(tokens->count && token_ends_value(tokens, tokens->count - 1) &&
			  (!scan->depth || scan->open[scan->depth - 1] != tokens->count - 1)))
		return scan_regex(scan);
	return c != '\\' && scan_punctuator(scan);
}

bool tokens_scan(struct tokens *tokens, const char *text, size_t bytes)
{
	struct scan scan = {.tokens = tokens,
			    .at = text,
			    .end = text + bytes,
			    .line_start = text,
			    .line = 1,
			    .first = true};

	*tokens = (struct tokens){.text = text};
	if (bytes > TEXT_MAX_BYTES)
		return false;
	for (;;) {
		if (!skip_space(&scan))
			return false;
		if (scan.at >= scan.end)
			return !scan.depth;
		if (!scan_token(&scan))
			return false;
	}
}

void tokens_free(struct tokens *tokens)
{
	free(tokens->list);
	*tokens = (struct tokens){0};
}
