/* SPDX-License-Identifier: MIT */
/*
 * excerpt.c - where an error is in the program's sources: the line with a caret, the expression that the engine's
 * message is about, the import that failed.
 *
 * Owns a copy of the file that was read last. Called when an error is shown, or its stack is read; owner's
 * thread. Must never show what the program did not load: a file is compared with what is known of it, and
 * where it differs, or is gone, nothing is said.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"
#include "excerpt.h"
#include "js/modules/module_name.h"
#include "js/modules/resolve.h"
#include "js/modules/sources.h"
#include "js/source/expression.h"
#include "js/source/import_lines.h"

#define LINE_COLUMNS 160u /* of a longer line, what is around the place */

/* ---- Sources ---- */

static struct {
	char *path, *text;
	size_t bytes;
	struct stat status;
} last;

bool excerpt_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Borrowed, until the next call. */
static const char *read_again(const char *path, size_t *bytes)
{
	struct stat status;

	if (stat(path, &status) || !S_ISREG(status.st_mode))
		return NULL;
	if (!last.path || strcmp(last.path, path) || !excerpt_same_file(&last.status, &status)) {
		free(last.path);
		free(last.text);
		last.path = strdup(path);
		last.text = last.path ? resolve_read_file(path, &last.bytes) : NULL;
		last.status = status;
		if (!last.text) {
			free(last.path);
			last.path = NULL;
			return NULL;
		}
	}
	*bytes = last.bytes;
	return last.text;
}

struct known { /* what was loaded from a path */
	const char *path;
	uint8_t hash[16];
	unsigned count;
	bool differs; /* more than one thing */
};

static void note(struct known *known, const uint8_t hash[16])
{
	known->differs |= known->count && memcmp(known->hash, hash, sizeof(known->hash)) != 0;
	memcpy(known->hash, hash, sizeof(known->hash));
	known->count++;
}

static void note_source(void *arg, const struct js_source *source)
{
	struct known *known = arg;

	if (!strcmp(source->path, known->path))
		note(known, source->hash);
}

const char *excerpt_source(struct program *program, const char *name, size_t *bytes)
{
	const struct js_script *script = &program->blob.script;
	char *path = module_path(name);
	struct known known = {.path = path};
	const char *text = NULL;
	uint8_t hash[16];

	/* A hosted program has no files. */
	if (!program->hosting && path && path[0] == '/' &&
	    !js_sources(program->engine, note_source, &known)) {
		if (script->path && !strcmp(script->path, path))
			note(&known, script->hash);
		if (!known.count && program->loaded.path && !strcmp(program->loaded.path, path))
			note(&known, program->loaded.hash);
		if (known.count && !known.differs)
			text = read_again(path, bytes);
		if (text)
			js_source_hash(text, *bytes, hash);
		if (text && memcmp(hash, known.hash, sizeof(hash)))
			text = NULL;
	}
	free(path);
	return text;
}

/* ---- Places ---- */

bool excerpt_frame(const char *line, const char *end, struct frame_place *place)
{
	static const char begin[] = "    at ";
	const char *at, *open = NULL, *colons[2] = {NULL, NULL};

	if (strncmp(line, begin, strlen(begin)))
		return false;
	at = line + strlen(begin);
	if (end > at && end[-1] == ')') {
		open = memmem(at, (size_t)(end - at), " (", 2);
		for (const char *next = open; next;
		     next = memmem(next, (size_t)(end - next), " (", 2))
			open = next++;
		end--;
		at = open ? open + 2 : at;
	}
	for (const char *c = end; c > at && !colons[0]; c--) {
		if (c[-1] == ':')
			colons[colons[1] ? 0 : 1] = c - 1;
		else if (c[-1] < '0' || c[-1] > '9')
			return false;
	}
	if (!colons[0])
		return false;
	*place = (struct frame_place){at, (size_t)(colons[0] - at),
				      (unsigned)strtoul(colons[0] + 1, NULL, 10),
				      (unsigned)strtoul(colons[1] + 1, NULL, 10)};
	return place->line > 0 && place->column > 0;
}

/* Of the first frame that has one. `first`: whether the very first does. */
static bool find_place(const char *frames, struct frame_place *place, bool *first)
{
	*first = true;
	for (const char *line = frames; *line; *first = false) {
		const char *end = strchrnul(line, '\n');

		if (excerpt_frame(line, end, place) && strncmp(place->name, "thaw:", 5))
			return true;
		line = *end ? end + 1 : end;
	}
	return false;
}

static const char *text_of(struct program *program, const struct frame_place *place,
			   const char *statement, size_t *bytes)
{
	const struct evaluation *evaluation = &program->evaluation;
	const char *text;
	char *name;

	if (!statement && evaluation->code && evaluation->name &&
	    strlen(evaluation->name) == place->name_bytes &&
	    !memcmp(evaluation->name, place->name, place->name_bytes))
		statement = evaluation->code;
	*bytes = statement ? strlen(statement) : 0;
	if (statement)
		return statement;
	name = strndup(place->name, place->name_bytes);
	text = name ? excerpt_source(program, name, bytes) : NULL;
	free(name);
	return text;
}

char *excerpt_message(struct program *program, const char *message, const char *frames,
		      const char *statement)
{
	struct frame_place place;
	const char *text;
	size_t bytes;
	bool first;

	if (!find_place(frames, &place, &first) || !first)
		return NULL;
	text = text_of(program, &place, statement, &bytes);
	return text ? expression_message(text, bytes, place.line, place.column, message, NULL)
		    : NULL;
}

/* ---- Showing ---- */

static const char *find_line(const char *text, size_t bytes, unsigned line, size_t *length)
{
	const char *at = text, *end = text + bytes, *newline;

	while (--line > 0 && at) {
		at = memchr(at, '\n', (size_t)(end - at));
		at = at ? at + 1 : NULL;
	}
	if (!at || (at == end && bytes))
		return NULL;
	newline = memchr(at, '\n', (size_t)(end - at));
	*length = newline ? (size_t)(newline - at) : (size_t)(end - at);
	if (*length && at[*length - 1] == '\r')
		--*length;
	return at;
}

/* What is no UTF-8, or would move the cursor, is not printed as it is. */
static void put_safely(FILE *to, const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];

		fputc((c < 0x20 && c != '\t') || c == 0x7f ? '?' : c, to);
	}
}

static void put_line(FILE *to, const char *line, size_t length, size_t column)
{
	size_t from = 0;

	if (length > LINE_COLUMNS && column > LINE_COLUMNS / 2) {
		from = column - LINE_COLUMNS / 2;
		while (from < length && ((unsigned char)line[from] & 0xc0) == 0x80)
			from++;
	}
	if (length - from > LINE_COLUMNS) {
		length = from + LINE_COLUMNS;
		while (length > from && ((unsigned char)line[length] & 0xc0) == 0x80)
			length--;
	}
	put_safely(to, line + from, length - from);
	fputc('\n', to);
	for (size_t at = from; at < column;) { /* up to the next tab */
		size_t end = at;

		while (end < column && line[end] != '\t')
			end++;
		for (size_t width = text_width(line + at, end - at); width; width--)
			fputc(' ', to);
		if (end < column)
			fputc('\t', to);
		at = end + 1;
	}
	fputs("^\n", to);
}

static char *show(const struct frame_place *place, const char *text, size_t bytes, bool named)
{
	size_t length, made_bytes;
	const char *line = find_line(text, bytes, place->line, &length);
	char *made = NULL;
	FILE *to;

	if (!line || place->column - 1 > length || text_valid_prefix(line, length) != length)
		return NULL;
	to = open_memstream(&made, &made_bytes);
	if (!to)
		return NULL;
	if (named) {
		put_safely(to, place->name, place->name_bytes);
		fprintf(to, ":%u\n", place->line);
	}
	put_line(to, line, length, place->column - 1);
	fputs(named ? "\n" : "", to);
	if (fclose(to)) {
		free(made);
		return NULL;
	}
	return made;
}

/* ---- Imports ---- */

struct import_search {
	struct program *program;
	const char *specifier, *name, *module; /* what is looked for; NULL: any */
	size_t name_bytes;
	const char *base;
	unsigned line, column; /* 0: not found */
	char *found;	       /* its base, malloc'ed */
};

static bool imports_module(struct import_search *search, const struct import_line *import)
{
	char *specifier = strndup(import->specifier, import->specifier_bytes), *resolved;
	struct thaw_error error;
	bool same;

	resolved = specifier ? resolve_specifier(search->base, specifier, &error) : NULL;
	same = resolved && !strcmp(resolved, search->module);
	free(resolved);
	free(specifier);
	return same;
}

static void look_at_import(void *arg, const struct import_line *import)
{
	struct import_search *search = arg;

	if (search->line)
		return;
	if (search->specifier) {
		if (import->name || strlen(search->specifier) != import->specifier_bytes ||
		    memcmp(search->specifier, import->specifier, import->specifier_bytes))
			return;
	} else if (!import->name || import->name_bytes != search->name_bytes ||
		   memcmp(import->name, search->name, search->name_bytes) ||
		   !imports_module(search, import)) {
		return;
	}
	search->line = import->line;
	search->column = import->column;
}

static void look_into(struct import_search *search, const char *base)
{
	size_t bytes;
	const char *text = search->found ? NULL : excerpt_source(search->program, base, &bytes);
	char *copy = text ? malloc(bytes + 1) : NULL;

	if (!copy) /* a copy: resolving reads files, too */
		return;
	memcpy(copy, text, bytes);
	search->base = base;
	import_lines_visit(copy, bytes, look_at_import, search);
	if (search->line)
		search->found = strdup(base);
	free(copy);
}

/* A frame for what was found; NULL: nothing was. Frees it. */
static char *found_frame(struct import_search *search)
{
	char *frame = NULL;

	if (search->found && asprintf(&frame, "    at import (%s:%u:%u)\n", search->found,
				      search->line, search->column) < 0)
		frame = NULL;
	free(search->found);
	return frame;
}

static void look_into_source(void *arg, const struct js_source *source)
{
	look_into(arg, source->path);
}

char *excerpt_importer(struct program *program, const char *base, const char *specifier)
{
	struct import_search search = {.program = program, .specifier = specifier};

	look_into(&search, base);
	return found_frame(&search);
}

/* Nobody but the message says what was not found, and not who wanted it. */
static char *find_missing_export(struct program *program, const char *message)
{
	static const char begin[] = "Could not find export '", middle[] = "' in module '";
	const char *between = strstr(message, middle);
	struct import_search search = {.program = program};
	char *module, *frame;

	if (strncmp(message, begin, strlen(begin)) || !between)
		return NULL;
	search.name = message + strlen(begin);
	search.name_bytes = (size_t)(between - search.name);
	module = strdup(between + strlen(middle));
	if (!module)
		return NULL;
	if (*module)
		module[strlen(module) - 1] = '\0'; /* the quote */
	search.module = module;
	if (program->blob.script.path)
		look_into(&search, program->blob.script.path);
	js_sources(program->engine, look_into_source, &search);
	frame = found_frame(&search);
	free(module);
	return frame;
}

char *excerpt_show(struct program *program, const char *message, const char *frames,
		   const char *statement)
{
	char *importer = NULL, *shown = NULL, *better = NULL;
	struct expression_place precise;
	struct frame_place place;
	const char *text;
	size_t bytes;
	bool first, found = find_place(frames, &place, &first);

	if (!found) {
		importer = find_missing_export(program, message);
		found = importer && find_place(importer, &place, &first);
		statement = NULL;
	}
	text = found ? text_of(program, &place, statement, &bytes) : NULL;
	if (text) {
		if (first)
			better = expression_message(text, bytes, place.line, place.column, message,
						    &precise);
		if (better) {
			place.line = precise.line;
			place.column = precise.column;
		}
		shown = show(&place, text, bytes, !statement && place.name[0] != '[');
	}
	free(better);
	free(importer);
	return shown;
}
