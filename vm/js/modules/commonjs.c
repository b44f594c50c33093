/* SPDX-License-Identifier: MIT */
/*
 * commonjs.c - tells CommonJS from ES modules, so that a program hears what to do and not that `require` is not defined.
 *
 * Owns nothing; any thread. Must never refuse what could run: a source is CommonJS only if it uses require(), exports or
 * module.exports, neither asks whether they are there nor makes them, and has the words import and export nowhere.
 */
#include "commonjs.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/failure.h"
#include "module_name.h"

static bool in_name(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || (c & 0x80);
}

static const char *behind_space(const char *at)
{
	return at + strspn(at, " \t\r\n");
}

/* Is this word, which is neither a part of a name nor a property, here? Returns what is behind it. */
static const char *word(const char *text, const char *at, const char *name)
{
	size_t length = strlen(name);

	return (at == text || (!in_name(at[-1]) && at[-1] != '.')) && !strncmp(at, name, length) &&
			       !in_name(at[length])
		       ? at + length
		       : NULL;
}

struct evidence {
	bool commonjs, module;
};

/* What the word at `at` says. */
static void look(const char *text, const char *at, struct evidence *evidence)
{
	const char *behind;

	if ((behind = word(text, at, "import"))) {
		if (*behind_space(behind) != '(') /* import() is there in CommonJS, too */
			evidence->module = true;
	} else if (word(text, at, "export") || word(text, at, "await")) {
		evidence->module = true;
	} else if ((behind = word(text, at, "require"))) {
		behind = behind_space(behind);
		if (*behind == '(' && strchr("'\"`", *behind_space(behind + 1)) &&
		    *behind_space(behind + 1))
			evidence->commonjs = true;
		else if (*behind == '=')
			evidence->module = true;
	} else if ((behind = word(text, at, "module"))) {
		if (!strncmp(behind, ".exports", 8) && !in_name(behind[8]))
			evidence->commonjs = true;
	} else if ((behind = word(text, at, "exports"))) {
		if (*behind == '.' && in_name(behind[1]))
			evidence->commonjs = true;
	} else if ((behind = word(text, at, "typeof"))) {
		behind = behind_space(behind);
		if (word(text, behind, "module") || word(text, behind, "exports") ||
		    word(text, behind, "require"))
			evidence->module = true; /* or whatever: it asks */
	} else if ((behind = word(text, at, "function"))) {
		if (word(text, behind_space(behind), "require"))
			evidence->module = true;
	}
}

/* Behind a line, or lines, of nothing but a comment; NULL: none begins here. */
static const char *behind_comment(const char *line)
{
	const char *at = line + strspn(line, " \t"), *end;

	if (at[0] == '/' && at[1] == '/')
		return at + strcspn(at, "\n");
	if (at[0] != '/' || at[1] != '*')
		return NULL;
	end = strstr(at + 2, "*/");
	return end ? end + 2 : at + strlen(at);
}

bool commonjs_is(const char *name, const char *text)
{
	struct evidence evidence = {false, false};
	bool line = true;

	if (module_ends_with(name, ".cjs"))
		return true;
	if (!module_ends_with(name, ".js"))
		return false;
	for (const char *at = text; *at && !evidence.module;) {
		const char *behind = line ? behind_comment(at) : NULL;

		line = false;
		if (behind) {
			at = behind;
			continue;
		}
		line = *at == '\n';
		if (isalpha((unsigned char)*at)) {
			look(text, at, &evidence);
			while (in_name(*at))
				at++;
		} else {
			at++;
		}
	}
	return evidence.commonjs && !evidence.module;
}

char *commonjs_refuse(const char *name, struct thaw_error *error)
{
	failure(error, -EILSEQ,
		"%s is CommonJS, and only ES modules run here: 'thaw exec node FILE.js' runs the program as it is, or bundle it: esbuild FILE.js --bundle --format=esm --outfile=FILE.mjs",
		name);
	return NULL;
}
