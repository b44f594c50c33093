/* SPDX-License-Identifier: MIT */
/*
 * tokens.h - JavaScript's text as a list of tokens with their places, for whoever looks for an expression in
 * it (expression.c, import_lines.c).
 */
#ifndef VM_JS_SOURCE_TOKENS_H
#define VM_JS_SOURCE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum token_kind {
	TOKEN_WORD, /* a name, also a keyword behind a dot */
	TOKEN_KEYWORD,
	TOKEN_NUMBER,
	TOKEN_STRING,
	TOKEN_REGEX,
	TOKEN_TEMPLATE, /* all of one; or a part, up to the next ${, whose } is its match */
	TOKEN_PRIVATE,	/* #name */
	TOKEN_PUNCTUATOR,
};

struct token {
	uint32_t at, bytes;    /* in the text */
	uint32_t line, column; /* from 1; in bytes, as the engine counts */
	int32_t match;	       /* of a bracket: the index of the other one; -1: it is none */
	uint8_t kind;
	bool first; /* in its line */
};

struct tokens { /* starts zeroed; tokens_free() */
	const char *text;
	struct token *list;
	size_t count, room;
};

/* False: it is too long, no memory, or nothing that can be told apart without a parser. */
bool tokens_scan(struct tokens *tokens, const char *text, size_t bytes);
void tokens_free(struct tokens *tokens);

bool token_is(const struct tokens *tokens, size_t index, const char *text);
/* One of these; the list ends with NULL. */
bool token_is_any(const struct tokens *tokens, size_t index, const char *const *texts);
/* Could what ends with this token be divided, called, or have a property? */
bool token_ends_value(const struct tokens *tokens, size_t index);
static inline bool token_opens(const struct tokens *tokens, size_t index)
{
	return tokens->list[index].match > (int32_t)index;
}
static inline bool token_closes(const struct tokens *tokens, size_t index)
{
	return tokens->list[index].match >= 0 && tokens->list[index].match < (int32_t)index;
}
/* An opening brace: of an object, not of a block or a body. */
bool token_opens_object(const struct tokens *tokens, size_t index);

#endif
