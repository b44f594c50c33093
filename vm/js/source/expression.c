// SPDX-License-Identifier: MIT
/*
 * expression.c - which expression an error is about. The engine says "not a function" and where; the source
 * says what stands there.
 *
 * Its place of an operation is that of the last token before it which the engine notes: a variable that is read, the
 * name that is called (before its arguments), what follows `new`, `throw` or a binary operator, the begin of a function or
 * of a statement. So the operation lies between that token and the next noted one, in the same function. Where
 * more of these would fit the message, all are named, or nothing is said; what is taken for a
 * noted token may be none, never the other way round.
 *
 * Pure. Called when an error is shown or its stack is read.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "expression.h"
#include "tokens.h"

#define TEXT_MAX 100u /* a longer expression says nothing to anybody */
#define FOUND_MAX 3u  /* f(g(h())) may have failed in three ways */

enum failed { FAILED_CALL, FAILED_NEW, FAILED_READ, FAILED_WRITE };

struct search {
	struct tokens tokens;
	enum failed failed;
	const char *property; /* of a read or write */
	size_t property_bytes;
	size_t at; /* the token of the place */
	struct {
		size_t start, end; /* tokens */
		bool made;	   /* with `new` */
	} found[FOUND_MAX];
	unsigned count;
	bool unclear;
};

static const struct token *token(const struct search *search, size_t index)
{
	return &search->tokens.list[index];
}

static bool is(const struct search *search, size_t index, const char *text)
{
	return token_is(&search->tokens, index, text);
}

static bool is_any(const struct search *search, size_t index, const char *const *texts)
{
	return token_is_any(&search->tokens, index, texts);
}

static bool is_member(const struct search *search, size_t index)
{
	return index && (is(search, index - 1, ".") || is(search, index - 1, "?."));
}

/* Is this parenthesis that of a call? What precedes it is called, or made with `new`. */
static bool is_call(const struct search *search, size_t open)
{
	return open && is(search, open, "(") &&
	       (is(search, open - 1, "?.") || token_ends_value(&search->tokens, open - 1));
}

/* ---- What the engine notes ---- */

static bool begins_line_anew(const struct search *search, size_t index)
{
	return token(search, index)->first && token_ends_value(&search->tokens, index - 1) &&
	       token(search, index)->kind != TOKEN_PUNCTUATOR;
}

static bool begins_statement(const struct search *search, size_t index)
{
	static const char *const before[] = {";", "{", "}", ":", NULL};
	static const char *const declares[] = {"const", "let",	  "var", "return", "if",
					       "while", "switch", "do",	 "for",	   "else",
					       "case",	"}",	  "try", NULL};
	bool begins = !index ||
		      (token(search, index - 1)->kind == TOKEN_PUNCTUATOR &&
		       is_any(search, index - 1, before)) ||
		      begins_line_anew(search, index);

	return begins && !is_any(search, index, declares);
}

/* Is this name, or private name, called? */
static bool is_called(const struct search *search, size_t index)
{
	size_t open = index + 1 + is(search, index + 1, "?.");

	return is(search, open, "(") ||
	       (open < search->tokens.count && token(search, open)->kind == TOKEN_TEMPLATE);
}

static bool is_noted(const struct search *search, size_t index)
{
	static const char *const declares[] = {"const", "let", "var", NULL};
	static const char *const begins[] = {"class", "function", "async", NULL};
	static const char *const notes[] = {"new",     "throw",	 "in", "instanceof",
					    "extends", "import", NULL};
	static const char *const operators[] = {"*",   "/",   "%", "+",	 "-",  "<<", ">>",
						">>>", "<",   ">", "<=", ">=", "==", "!=",
						"===", "!==", "&", "^",	 "|",  "**", NULL};
	const struct token *here = token(search, index);

	if (is_member(search, index))
		return is_called(search, index);
	if (!index || here->kind == TOKEN_TEMPLATE || is_any(search, index, begins))
		return true; /* or more than is known of them */
	if (token(search, index - 1)->kind == TOKEN_KEYWORD && is_any(search, index - 1, notes))
		return true;
	if (token(search, index - 1)->kind == TOKEN_PUNCTUATOR &&
	    is_any(search, index - 1, operators))
		return true;
	if (begins_statement(search, index))
		return true;
	if (here->kind != TOKEN_WORD || is(search, index + 1, "=>"))
		return false;
	if (is(search, index + 1, ":") &&
	    (is(search, index - 1, ",") || token_opens_object(&search->tokens, index - 1)))
		return false;
	return !is_any(search, index - 1, declares);
}

/* ---- Functions inside: their code is not that of the place ---- */

/* Behind an arrow: the token after the function. */
static size_t after_body(const struct search *search, size_t index)
{
	static const char *const ends[] = {",", ";", ")", "]", "}", NULL};

	if (is(search, index, "{"))
		return (size_t)token(search, index)->match + 1;
	for (size_t first = index; index < search->tokens.count; index++) {
		if (token_opens(&search->tokens, index))
			index = (size_t)token(search, index)->match;
		else if (token(search, index)->kind == TOKEN_PUNCTUATOR &&
			 is_any(search, index, ends))
			break;
		else if (index > first && begins_line_anew(search, index))
			break;
	}
	return index;
}

/* The token after the function that begins here; 0: none does. */
static size_t after_function(const struct search *search, size_t index)
{
	static const char *const controls[] = {"if",	"for",	"while", "switch",
					       "catch", "with", NULL};
	size_t open = index, close;

	if (is(search, index, "async") && !is(search, index + 1, "=>") &&
	    index + 1 < search->tokens.count &&
	    (is(search, index + 1, "(") || is(search, index + 1, "function") ||
	     token(search, index + 1)->kind == TOKEN_WORD))
		open++;
	if (is(search, open, "function")) {
		while (open < search->tokens.count && !is(search, open, "("))
			open++;
	} else if (token(search, open)->kind == TOKEN_WORD) {
		return is(search, open + 1, "=>") ? after_body(search, open + 2) : 0;
	}
	if (!is(search, open, "(") || token(search, open)->match < 0)
		return 0;
	close = (size_t)token(search, open)->match;
	if (is(search, close + 1, "=>"))
		return after_body(search, close + 2);
	if (!is(search, close + 1, "{"))
		return 0;
	if (open && token(search, open - 1)->kind == TOKEN_KEYWORD &&
	    is_any(search, open - 1, controls))
		return 0;
	return after_body(search, close + 1);
}

/* Between the place and the bracket around it: does an arrow's body, an expression, begin there? */
static bool arrow_before(const struct search *search, size_t index)
{
	while (index-- > 0) {
		if (token_closes(&search->tokens, index))
			index = (size_t)token(search, index)->match;
		else if (token_opens(&search->tokens, index))
			return false;
		else if (is(search, index, "=>"))
			return true;
		else if (is(search, index, ",") || is(search, index, ";"))
			return false;
	}
	return false;
}

/* ---- What is called, or read from ---- */

/* The first token of the expression of names, calls and indexes that ends with this one. */
static bool chain_start(const struct search *search, size_t last, size_t *start)
{
	for (size_t at = last;;) {
		if (is(search, at, ")") || is(search, at, "]")) {
			size_t open = (size_t)token(search, at)->match;

			if (open && is(search, open - 1, "?.")) {
				at = open - 2;
				continue;
			}
			if (open && token_ends_value(&search->tokens, open - 1)) {
				at = open - 1;
				continue;
			}
			*start = open && is(search, open - 1, "new") ? open - 1 : open;
			return true;
		}
		if (!token_ends_value(&search->tokens, at) || is(search, at, "}") ||
		    token(search, at)->kind == TOKEN_TEMPLATE || is(search, at, "import"))
			return false;
		if (!is_member(search, at)) {
			*start = at && is(search, at - 1, "new") ? at - 1 : at;
			return true;
		}
		if (at < 2)
			return false;
		at -= 2;
	}
}

static void add(struct search *search, size_t start, size_t end, bool made)
{
	if (search->count == FOUND_MAX) {
		search->unclear = true;
		return;
	}
	search->found[search->count].made = made;
	search->found[search->count].start = start;
	search->found[search->count++].end = end;
}

static void add_chain(struct search *search, size_t last)
{
	size_t start;

	if (chain_start(search, last, &start) && start <= last)
		add(search, start, last, false);
	else
		search->unclear = true;
}

/* Are these the parentheses of a `new`? Then they are not noted. */
static bool is_made(const struct search *search, size_t open)
{
	size_t start;

	if (!open || is(search, open - 1, "?.") || !chain_start(search, open - 1, &start) ||
	    !is(search, start, "new"))
		return false;
	for (size_t at = start + 1; at < open; at++) {
		if (is_call(search, at) && at > start + 1)
			return false;
		if (token_opens(&search->tokens, at))
			at = (size_t)token(search, at)->match;
	}
	return true;
}

static bool spreads(const struct search *search, size_t open, size_t close)
{
	for (size_t at = open + 1; at < close; at++) {
		if (is(search, at, "..."))
			return true;
		if (token_opens(&search->tokens, at))
			at = (size_t)token(search, at)->match;
	}
	return false;
}

/* The end of a call, or of what is made with `new`. */
static void look_at_call(struct search *search, size_t open, size_t close)
{
	size_t last = is(search, open - 1, "?.") ? open - 2 : open - 1, start;
	const struct token *name = token(search, last);
	bool makes;

	if (!chain_start(search, last, &start) || spreads(search, open, close)) {
		search->unclear = true;
		return;
	}
	makes = is_made(search, open);
	/* The error may be what is made there, by the program. */
	if (is(search, last, "super") || is(search, last, "import") || is(search, last, "eval") ||
	    (name->bytes >= 5 &&
	     !memcmp(search->tokens.text + name->at + name->bytes - 5, "Error", 5)))
		search->unclear = true;
	else if (makes)
		add(search, start + 1, last, true);
	else if (search->failed == FAILED_CALL)
		add_chain(search, last);
}

static bool same_property(const struct search *search, size_t index)
{
	const struct token *here = token(search, index);
	const char *text = search->tokens.text + here->at;
	size_t bytes = here->bytes;

	if (here->kind == TOKEN_STRING) {
		text++;
		bytes -= 2;
	}
	return bytes == search->property_bytes && !memcmp(text, search->property, bytes);
}

static bool is_assigned(const struct search *search, size_t index)
{
	return is(search, index + 1, "=");
}

static void look_at_name(struct search *search, size_t index)
{
	if (!same_property(search, index))
		return;
	if (index < 2 || !is_member(search, index))
		search->unclear = true; /* taken apart: const { name } = ... */
	else if (!is(search, index - 1, "?.") &&
		 is_assigned(search, index) == (search->failed == FAILED_WRITE))
		add_chain(search, index - 2);
}

static void look_at_index(struct search *search, size_t open, size_t close)
{
	bool literal = close == open + 2 && (token(search, open + 1)->kind == TOKEN_STRING ||
					     token(search, open + 1)->kind == TOKEN_NUMBER);

	if (!open || !token_ends_value(&search->tokens, open - 1) ||
	    (literal && !same_property(search, open + 1)))
		return;
	if (is_assigned(search, close) == (search->failed == FAILED_WRITE))
		add_chain(search, open - 1);
}

/* A closing bracket, behind the place. False: what follows is of another function, or not known. */
static bool look_at_close(struct search *search, size_t close)
{
	size_t open = (size_t)token(search, close)->match;
	bool reads = search->failed == FAILED_READ || search->failed == FAILED_WRITE;

	if (open < search->at && arrow_before(search, search->at))
		return false;
	if (is(search, close, "]")) {
		if (reads)
			look_at_index(search, open, close);
		return true;
	}
	if (is(search, close, ")")) {
		if (!reads && is_call(search, open))
			look_at_call(search, open, close);
		return true;
	}
	if (token(search, open)->kind == TOKEN_TEMPLATE) {
		search->unclear |= !reads; /* a tag is called, too */
		return false;
	}
	return token_opens_object(&search->tokens, open);
}

/* What is called is no name: the engine notes the last name or literal before, again. False: that is another token. */
static bool same_place(struct search *search, size_t open)
{
	size_t at = open;

	while (at > search->at && (token(search, at)->kind == TOKEN_PUNCTUATOR))
		at--;
	search->unclear |= at == search->at ? is_member(search, at)
					    : is_member(search, at) && !is_called(search, at);
	return at == search->at;
}

/* False: what follows is noted anew. */
static bool look_at_open(struct search *search, size_t open)
{
	size_t before = open - 1 - (open > 1 && is(search, open - 1, "?."));

	if (before == search->at || !is_call(search, open) || is_made(search, open))
		return true;
	if (is(search, before, ")") || is(search, before, "]"))
		return same_place(search, open);
	return false;
}

/* One token behind the place. False: the end. */
static bool look_at(struct search *search, size_t at)
{
	bool reads = search->failed == FAILED_READ || search->failed == FAILED_WRITE;
	const struct token *here = token(search, at);

	if (!reads && (is(search, at, ";") || begins_line_anew(search, at)))
		return false;
	if (is_noted(search, at) && !is_member(search, at))
		return false;
	if (reads &&
	    (here->kind == TOKEN_WORD || (here->kind == TOKEN_STRING && !is(search, at - 1, "["))))
		look_at_name(search, at);
	if (is_noted(search, at) && !is_made(search, at + 1))
		return false;
	if (is(search, at, "(") && !look_at_open(search, at))
		return false;
	return !token_closes(&search->tokens, at) || look_at_close(search, at);
}

static void look(struct search *search)
{
	size_t at = search->at, after;

	/* new X, without parentheses */
	if (search->failed <= FAILED_NEW && at && is(search, at - 1, "new") &&
	    token(search, at)->kind == TOKEN_WORD && !is(search, at + 1, "(") &&
	    !is(search, at + 1, ".") && !is(search, at + 1, "["))
		add(search, at, at, true);
	search->unclear = token(search, at)->kind == TOKEN_TEMPLATE;
	for (; at < search->tokens.count && !search->unclear; at++) {
		after = after_function(search, at);
		if (after > at) {
			at = after - 1;
			continue;
		}
		if (at > search->at && !look_at(search, at))
			return;
	}
}

/* ---- Text ---- */

static void put(char *text, size_t *length, const char *from, size_t bytes)
{
	if (*length + bytes < TEXT_MAX)
		memcpy(text + *length, from, bytes);
	*length += bytes;
}

/* As V8 does it: f(...).x; on one line. */
static void render(const struct search *search, size_t start, size_t end, char text[TEXT_MAX],
		   size_t *length)
{
	for (size_t at = start; at <= end; at++) {
		const struct token *here = token(search, at);
		const char *from = search->tokens.text + here->at;

		if (at > start && !here->first && !is(search, at, ".") && !is(search, at, "?.") &&
		    (from[-1] == ' ' || from[-1] == '\t'))
			put(text, length, " ", 1);
		if (is_call(search, at) && here->match > (int32_t)at + 1) {
			put(text, length, "(...)", 5);
			at = (size_t)here->match;
		} else {
			put(text, length, from, here->bytes);
		}
	}
}

static char *compose(const struct search *search, const char *message)
{
	static const char or [] = " or ";
	char expression[TEXT_MAX], *composed = NULL;
	bool calls = search->failed == FAILED_CALL || search->failed == FAILED_NEW;
	size_t length = 0;
	int printed;

	if (search->unclear || !search->count || (!calls && search->count > 1))
		return NULL;
	for (unsigned i = 0; i < search->count; i++) {
		if (i)
			put(expression, &length, or, strlen(or));
		render(search, search->found[i].start, search->found[i].end, expression, &length);
	}
	if (length >= TEXT_MAX)
		return NULL;
	expression[length] = '\0';
	if (!strcmp(expression, "null") || !strcmp(expression, "undefined"))
		return NULL;
	if (calls)
		printed = asprintf(&composed, "%s is %s", expression,
				   search->count == 1 && search->found[0].made ? "not a constructor"
									       : message);
	else
		printed = asprintf(&composed, "%s (%s is %s)", message, expression,
				   !strcmp(strrchr(message, ' '), " null") ? "null" : "undefined");
	return printed < 0 ? NULL : composed;
}

/* What the message is about. */
static bool read_message(struct search *search, const char *message)
{
	static const char *const ends[] = {"' of undefined", "' of null"};
	static const char reading[] = "cannot read property '", writing[] = "cannot set property '";
	size_t bytes = strlen(message);

	if (!strcmp(message, "not a function")) {
		search->failed = FAILED_CALL;
		return true;
	}
	if (!strcmp(message, "not a constructor")) {
		search->failed = FAILED_NEW;
		return true;
	}
	if (!strncmp(message, reading, strlen(reading))) {
		search->failed = FAILED_READ;
		search->property = message + strlen(reading);
	} else if (!strncmp(message, writing, strlen(writing))) {
		search->failed = FAILED_WRITE;
		search->property = message + strlen(writing);
	} else {
		return false;
	}
	for (unsigned i = 0; i < 2; i++) {
		size_t end = strlen(ends[i]);

		if (bytes < end || strcmp(message + bytes - end, ends[i]))
			continue;
		search->property_bytes = (size_t)(message + bytes - end - search->property);
		return search->property_bytes > 0 && search->property <= message + bytes - end;
	}
	return false;
}

static bool find_place(struct search *search, unsigned line, unsigned column)
{
	size_t low = 0, high = search->tokens.count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct token *here = token(search, middle);

		if (here->line < line || (here->line == line && here->column < column))
			low = middle + 1;
		else
			high = middle;
	}
	/* In the first line, the engine counts what is no variable from 0. */
	if (line == 1 && low < search->tokens.count && token(search, low)->line == 1 &&
	    (token(search, low)->column > column || token(search, low)->kind != TOKEN_WORD ||
	     is_member(search, low))) {
		low += low < search->tokens.count && token(search, low)->column == column;
		column++;
	}
	search->at = low;
	return low < search->tokens.count && token(search, low)->line == line &&
	       token(search, low)->column == column;
}

char *expression_message(const char *text, size_t bytes, unsigned line, unsigned column,
			 const char *message, struct expression_place *place)
{
	struct search search = {0};
	char *composed = NULL;

	if (!read_message(&search, message))
		return NULL;
	if (tokens_scan(&search.tokens, text, bytes) && find_place(&search, line, column) &&
	    is_noted(&search, search.at)) {
		look(&search);
		composed = compose(&search, message);
		if (composed && place) {
			const struct token *last = token(&search, search.found[0].end);

			*place = (struct expression_place){last->line, last->column};
		}
	}
	tokens_free(&search.tokens);
	return composed;
}
