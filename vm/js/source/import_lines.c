// SPDX-License-Identifier: MIT
/*
 * import_lines.c - finds the import declarations of a text (import_lines.h): for errors that say who imports
 * something, and for the shell, where they are typed into a script.
 *
 * Pure. What is not understood is left as it is: the engine says what it thinks of it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import_lines.h"
#include "tokens.h"

#define NAMES_MAX 256u

struct name {
	size_t imported, local; /* tokens; the same: one word */
};

struct declaration {
	size_t first, specifier, last; /* tokens; `last` is the end, a semicolon perhaps */
	size_t attributes;	       /* the { behind `with`; 0: none */
	size_t whole;		       /* * as NAME, or 0 */
	size_t of_default;	       /* NAME, or 0 */
	struct name names[NAMES_MAX];
	unsigned count;
};

static const struct token *token(const struct tokens *tokens, size_t index)
{
	return &tokens->list[index];
}

static bool is_name(const struct tokens *tokens, size_t index)
{
	return index < tokens->count && (token(tokens, index)->kind == TOKEN_WORD ||
					 token(tokens, index)->kind == TOKEN_KEYWORD);
}

static bool is_string(const struct tokens *tokens, size_t index)
{
	return index < tokens->count && token(tokens, index)->kind == TOKEN_STRING;
}

/* { a, b as c, default as d, 'e f' as g }; at the brace. False: it is not like that. */
static bool read_names(const struct tokens *tokens, size_t *at, struct declaration *declaration)
{
	size_t index = *at + 1;

	while (index < tokens->count && !token_is(tokens, index, "}")) {
		struct name *name = &declaration->names[declaration->count];

		if (declaration->count == NAMES_MAX ||
		    (!is_name(tokens, index) && !is_string(tokens, index)))
			return false;
		declaration->count++;
		name->imported = name->local = index++;
		if (token_is(tokens, index, "as") && is_name(tokens, index + 1)) {
			name->local = index + 1;
			index += 2;
		}
		if (token_is(tokens, index, ","))
			index++;
	}
	*at = index + 1;
	return index < tokens->count;
}

/* At `import` or `export`. */
static bool read_declaration(const struct tokens *tokens, size_t index,
			     struct declaration *declaration)
{
	bool exports = token_is(tokens, index, "export");

	*declaration = (struct declaration){.first = index++};
	if (index >= tokens->count)
		return false;
	if (!exports && is_string(tokens, index)) {
		declaration->specifier = index;
	} else {
		if (!exports && token(tokens, index)->kind == TOKEN_WORD) {
			declaration->of_default = index++;
			if (token_is(tokens, index, ","))
				index++;
		}
		if (token_is(tokens, index, "*")) {
			index++;
			if (token_is(tokens, index, "as") && is_name(tokens, index + 1)) {
				declaration->whole = index + 1;
				index += 2;
			} else if (!exports) {
				return false;
			}
		} else if (token_is(tokens, index, "{") &&
			   !read_names(tokens, &index, declaration)) {
			return false;
		}
		if (!token_is(tokens, index, "from") || !is_string(tokens, index + 1))
			return false;
		declaration->specifier = index + 1;
	}
	declaration->last = declaration->specifier;
	if (token_is(tokens, declaration->last + 1, "with") &&
	    token_is(tokens, declaration->last + 2, "{")) {
		declaration->attributes = declaration->last + 2;
		declaration->last = (size_t)token(tokens, declaration->attributes)->match;
	}
	if (token_is(tokens, declaration->last + 1, ";"))
		declaration->last++;
	return true;
}

/* Where a statement may begin, outside of all brackets. */
static bool begins(const struct tokens *tokens, size_t index, size_t depth, const char *word)
{
	return !depth && token(tokens, index)->kind == TOKEN_KEYWORD &&
	       token_is(tokens, index, word) &&
	       (!index || token(tokens, index)->first || token_is(tokens, index - 1, ";") ||
		token_is(tokens, index - 1, "}"));
}

static size_t depth_after(const struct tokens *tokens, size_t index, size_t depth)
{
	return depth + token_opens(tokens, index) - token_closes(tokens, index);
}

/* ---- Visiting ---- */

static void inside(const struct tokens *tokens, size_t index, const char **text, size_t *bytes)
{
	const struct token *here = token(tokens, index);
	bool quoted = here->kind == TOKEN_STRING;

	*text = tokens->text + here->at + quoted;
	*bytes = here->bytes - 2 * quoted;
}

static void tell(const struct tokens *tokens, size_t specifier, size_t name,
		 void (*visit)(void *arg, const struct import_line *import), void *arg)
{
	const struct token *here = token(tokens, name ? name : specifier);
	struct import_line import = {.line = here->line, .column = here->column};

	inside(tokens, specifier, &import.specifier, &import.specifier_bytes);
	if (name)
		inside(tokens, name, &import.name, &import.name_bytes);
	visit(arg, &import);
}

static void tell_default(const struct tokens *tokens, const struct declaration *declaration,
			 void (*visit)(void *arg, const struct import_line *import), void *arg)
{
	const struct token *here = token(tokens, declaration->of_default);
	struct import_line import = {
		.name = "default", .name_bytes = 7, .line = here->line, .column = here->column};

	inside(tokens, declaration->specifier, &import.specifier, &import.specifier_bytes);
	visit(arg, &import);
}

void import_lines_visit(const char *text, size_t bytes,
			void (*visit)(void *arg, const struct import_line *import), void *arg)
{
	struct declaration *declaration = malloc(sizeof(*declaration));
	struct tokens tokens;
	size_t depth = 0;

	if (declaration && tokens_scan(&tokens, text, bytes)) {
		for (size_t i = 0; i < tokens.count; i++) {
			if (token_is(&tokens, i, "import") && token_is(&tokens, i + 1, "(") &&
			    is_string(&tokens, i + 2)) {
				tell(&tokens, i + 2, 0, visit, arg);
			} else if ((begins(&tokens, i, depth, "import") ||
				    begins(&tokens, i, depth, "export")) &&
				   read_declaration(&tokens, i, declaration)) {
				tell(&tokens, declaration->specifier, 0, visit, arg);
				if (declaration->of_default)
					tell_default(&tokens, declaration, visit, arg);
				for (unsigned n = 0; n < declaration->count; n++)
					tell(&tokens, declaration->specifier,
					     declaration->names[n].imported, visit, arg);
				i = declaration->last;
				continue;
			}
			depth = depth_after(&tokens, i, depth);
		}
	}
	if (declaration)
		tokens_free(&tokens);
	free(declaration);
}

/* ---- Rewriting ---- */

static void put(FILE *to, const struct tokens *tokens, size_t index)
{
	fwrite(tokens->text + token(tokens, index)->at, 1, token(tokens, index)->bytes, to);
}

static void put_import(FILE *to, const struct tokens *tokens, const struct declaration *declaration)
{
	fputs("await import(", to);
	put(to, tokens, declaration->specifier);
	if (declaration->attributes) {
		const struct token *open = token(tokens, declaration->attributes);
		const struct token *close = token(tokens, (size_t)open->match);

		fputs(", { with: ", to);
		fwrite(tokens->text + open->at, 1, close->at + 1 - open->at, to);
		fputs(" }", to);
	}
	fputs(")", to);
}

/* The name as a string. */
static void put_key(FILE *to, const struct tokens *tokens, size_t index)
{
	bool quoted = is_string(tokens, index);

	fputs(quoted ? "" : "'", to);
	put(to, tokens, index);
	fputs(quoted ? "" : "'", to);
}

static void put_check(FILE *to, const struct tokens *tokens, const struct declaration *declaration,
		      size_t name)
{
	fputs("if (!(", to);
	name ? put_key(to, tokens, name) : (void)fputs("'default'", to);
	fputs(" in all)) throw new SyntaxError(`Could not find export '${", to);
	name ? put_key(to, tokens, name) : (void)fputs("'default'", to);
	fputs("}' in module '${", to);
	put(to, tokens, declaration->specifier);
	fputs("}'`); ", to);
}

/* const { default: d, a, b: c } = (all => { if (!('a' in all)) throw ...; return all })(await import('m')); */
static void put_names(FILE *to, const struct tokens *tokens, const struct declaration *declaration)
{
	fputs("const { ", to);
	if (declaration->of_default) {
		fputs("default: ", to);
		put(to, tokens, declaration->of_default);
		fputs(", ", to);
	}
	for (unsigned i = 0; i < declaration->count; i++) {
		put(to, tokens, declaration->names[i].imported);
		if (declaration->names[i].local != declaration->names[i].imported) {
			fputs(": ", to);
			put(to, tokens, declaration->names[i].local);
		}
		fputs(", ", to);
	}
	fputs("} = (all => { ", to);
	if (declaration->of_default)
		put_check(to, tokens, declaration, 0);
	for (unsigned i = 0; i < declaration->count; i++)
		put_check(to, tokens, declaration, declaration->names[i].imported);
	fputs("return all; })(", to);
	put_import(to, tokens, declaration);
	fputs(");", to);
}

static void put_declaration(FILE *to, const struct tokens *tokens,
			    const struct declaration *declaration)
{
	const struct token *first = token(tokens, declaration->first),
			   *last = token(tokens, declaration->last);

	if (declaration->whole) {
		fputs("const ", to);
		put(to, tokens, declaration->whole);
		fputs(" = ", to);
		put_import(to, tokens, declaration);
		fputs("; ", to);
	}
	if (declaration->of_default || declaration->count)
		put_names(to, tokens, declaration);
	else if (!declaration->whole) {
		fputs("void ", to);
		put_import(to, tokens, declaration);
		fputs(";", to);
	}
	for (uint32_t line = first->line; line < last->line; line++)
		fputc('\n', to);
}

static void rewrite(FILE *to, const struct tokens *tokens, size_t bytes,
		    struct declaration *declaration)
{
	size_t depth = 0, copied = 0;

	for (size_t i = 0; i < tokens->count; i++) {
		if (begins(tokens, i, depth, "import") && i + 1 < tokens->count &&
		    read_declaration(tokens, i, declaration)) {
			fwrite(tokens->text + copied, 1, token(tokens, i)->at - copied, to);
			put_declaration(to, tokens, declaration);
			i = declaration->last;
			copied = token(tokens, i)->at + token(tokens, i)->bytes;
			continue;
		}
		depth = depth_after(tokens, i, depth);
	}
	if (copied)
		fwrite(tokens->text + copied, 1, bytes - copied, to);
}

char *import_lines_rewrite(const char *text, size_t bytes, size_t *new_bytes)
{
	struct declaration *declaration = NULL;
	struct tokens tokens = {0};
	char *made = NULL;
	FILE *to = NULL;

	if (!memmem(text, bytes, "import", 6))
		return NULL;
	declaration = malloc(sizeof(*declaration));
	if (declaration && tokens_scan(&tokens, text, bytes))
		to = open_memstream(&made, new_bytes);
	if (to) {
		bool good;

		rewrite(to, &tokens, bytes, declaration);
		good = !ferror(to);
		if (fclose(to) || !good || !*new_bytes) {
			free(made);
			made = NULL;
		}
	}
	tokens_free(&tokens);
	free(declaration);
	return made;
}
