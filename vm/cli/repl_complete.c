// SPDX-License-Identifier: MIT
/*
 * repl_complete.c - what could be typed next in the shell: its commands, names of files, what can be imported, and the
 * names of the program.
 *
 * Called by repl_input.c when Tab is pressed; owner thread only. Runs no code of the program.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "repl.h"

static bool add(struct repl_completions *completions, const char *text, size_t bytes,
		bool directory)
{
	char **list = realloc(completions->list, (completions->count + 1) * sizeof(*list)), *one;

	if (!list)
		return false;
	completions->list = list;
	if (asprintf(&one, "%.*s%s", (int)bytes, text, directory ? "/" : "") < 0)
		return false;
	list[completions->count++] = one;
	return true;
}

/* ---- Files ---- */

static bool is_directory(const char *directory, const char *name)
{
	struct stat status;
	char *path;
	bool is;

	if (asprintf(&path, "%s%s", *directory ? directory : "./", name) < 0)
		return false;
	is = !stat(path, &status) && S_ISDIR(status.st_mode);
	free(path);
	return is;
}

/* Names in `directory` ("" is the current one, else with a slash at its end) that begin like that. */
static void add_files(struct repl_completions *completions, const char *directory,
		      const char *prefix)
{
	DIR *open = opendir(*directory ? directory : ".");
	struct dirent *entry;

	while (open && (entry = readdir(open))) {
		const char *name = entry->d_name;

		if (strncmp(name, prefix, strlen(prefix)) || (*name == '.' && *prefix != '.') ||
		    !strcmp(name, ".") || !strcmp(name, "..") || strpbrk(name, "\n'\""))
			continue;
		add(completions, name, strlen(name), is_directory(directory, name));
	}
	if (open)
		closedir(open);
}

static void complete_path(struct repl_completions *completions, const char *text)
{
	const char *slash = strrchr(text, '/'), *name = slash ? slash + 1 : text;
	char *directory = strndup(text, (size_t)(name - text));

	completions->part = strlen(name);
	if (directory)
		add_files(completions, directory, name);
	free(directory);
}

/* Upward from here: what is in node_modules. */
static void complete_packages(struct repl_completions *completions, const char *text)
{
	char *at = getcwd(NULL, 0), *slash = NULL;

	completions->part = strlen(text);
	if (!strncmp("thaw", text, strlen(text)))
		add(completions, "thaw", 4, false);
	if (strchr(text, '/')) {
		completions->part = 0;
		free(at);
		return;
	}
	while (at && (slash = strrchr(at, '/'))) {
		char *directory;

		if (asprintf(&directory, "%s/node_modules/", at) < 0)
			break;
		add_files(completions, directory, text);
		free(directory);
		*slash = '\0';
	}
	free(at);
}

/* Is the cursor in the specifier of an import? Then where that begins. */
static const char *specifier_in(const char *text)
{
	const char *quote = NULL, *word;
	char open = 0;

	for (const char *c = text; *c; c++) {
		if (open && *c == open) {
			open = 0;
		} else if (!open && (*c == '"' || *c == '\'')) {
			open = *c;
			quote = c;
		}
	}
	if (!open)
		return NULL;
	for (word = quote; word > text && (isspace((unsigned char)word[-1]) || word[-1] == '(');)
		word--;
	if ((word - text >= 4 && !strncmp(word - 4, "from", 4)) ||
	    (word - text >= 6 && !strncmp(word - 6, "import", 6)))
		return quote + 1;
	return NULL;
}

/* ---- The rest ---- */

static void complete_command(struct repl_completions *completions, const char *text)
{
	completions->part = strlen(text);
	for (const struct repl_command *command = repl_commands; command->name; command++)
		if (!strncmp(command->name, text, strlen(text)))
			add(completions, command->name, strlen(command->name), false);
}

static void complete_names(struct repl_completions *completions, struct runtime *runtime,
			   const char *text)
{
	char *lines = runtime_ask(runtime, GUEST_COMPLETIONS, text, strlen(text));
	char *at = lines ? strchr(lines, '\n') : NULL;

	if (at)
		completions->part = (size_t)(at - lines);
	while (at) {
		char *end = strchrnul(++at, '\n');

		if (!add(completions, at, (size_t)(end - at), false))
			break;
		at = *end ? end : NULL;
	}
	free(lines);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(struct repl_completions *completions)
{
	size_t kept = 0;

	if (completions->count)
		qsort(completions->list, completions->count, sizeof(*completions->list), compare);
	for (size_t i = 0; i < completions->count; i++) {
		if (kept && !strcmp(completions->list[kept - 1], completions->list[i]))
			free(completions->list[i]);
		else
			completions->list[kept++] = completions->list[i];
	}
	completions->count = kept;
}

void repl_complete(struct repl_completions *completions, struct runtime *runtime, const char *text)
{
	const char *start = text + strspn(text, " \t"), *specifier = specifier_in(text);
	const char *space = strpbrk(start, " \t");

	*completions = (struct repl_completions){0};
	if (*start == '.' && (!start[1] || isalpha((unsigned char)start[1])) && !space)
		complete_command(completions, start);
	else if (space && (!strncmp(start, ".load", 5) || !strncmp(start, ".save", 5)))
		complete_path(completions, space + strspn(space, " \t"));
	else if (specifier && (*specifier == '.' || *specifier == '/'))
		complete_path(completions, specifier);
	else if (specifier)
		complete_packages(completions, specifier);
	else
		complete_names(completions, runtime, text);
	sort(completions);
}

/* How many bytes all of them begin with. */
size_t repl_completions_common(const struct repl_completions *completions)
{
	size_t common = completions->count ? strlen(completions->list[0]) : 0;

	for (size_t i = 1; i < completions->count; i++)
		for (size_t at = 0; at < common; at++)
			if (completions->list[i][at] != completions->list[0][at])
				common = at;
	while (common && ((unsigned char)completions->list[0][common] & 0xc0) == 0x80)
		common--; /* not within a character */
	return common;
}

void repl_completions_free(struct repl_completions *completions)
{
	for (size_t i = 0; i < completions->count; i++)
		free(completions->list[i]);
	free(completions->list);
	*completions = (struct repl_completions){0};
}
