/* SPDX-License-Identifier: MIT */
/*
 * source_map.c - reads the map that a bundler or compiler left for a file, and looks places up in it.
 *
 * Owns nothing but what it returns; any thread. A map may be anything: its size is bounded, each number is checked, and
 * what is not well-formed is a place without a source. Nothing is decoded before it is asked for: a lookup goes through
 * the text once, up to its line. Maps of sections are not read.
 */
#define _GNU_SOURCE
#include "source_map.h"

#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "js/modules/json_scan.h"
#include "js/modules/module_name.h"
#include "js/modules/resolve.h"

#define MAP_BYTES_MAX (64u << 20)
#define TAIL_BYTES 4096u /* where a comment is looked for that is no inline map */

struct source_map {
	char *path;	/* what its sources are relative to: the file that it came from */
	char *mappings; /* decoded from JSON, nothing more */
	char *sources;	/* JSON */
	char *root;	/* NULL: none */
};

/* ---- The file that has it ---- */

/* Behind the last "//# sourceMappingURL=" that begins a line; NULL: there is none. */
static const char *last_comment(const char *text, size_t bytes)
{
	static const char words[] = "//# sourceMappingURL=";
	const size_t length = sizeof(words) - 1;
	const char *end = text + bytes, *line;

	/* From the end: only lines without code may come after it. */
	while (end > text) {
		line = memrchr(text, '\n', (size_t)(end - text));
		line = line ? line + 1 : text;
		if ((size_t)(end - line) > length && !memcmp(line, words, length))
			return line + length;
		for (const char *at = line; at < end; at++)
			if (!strchr(" \t\r", *at) && !(at[0] == '/' && at[1] == '/'))
				return NULL;
			else if (*at == '/')
				break;
		end = line > text ? line - 1 : text;
	}
	return NULL;
}

/* "data:application/json;charset=utf-8;base64,..." */
static char *inline_map(const char *url, size_t length)
{
	const char *comma = memchr(url, ',', length);
	char *text;
	size_t bytes = 0;

	if (!comma || !memmem(url, (size_t)(comma - url), ";base64", 7))
		return NULL;
	length -= (size_t)(comma + 1 - url);
	text = malloc(length / 4 * 3 + 4);
	if (!text || sodium_base642bin((unsigned char *)text, length / 4 * 3 + 3, comma + 1, length,
				       NULL, &bytes, NULL, sodium_base64_VARIANT_ORIGINAL)) {
		free(text);
		return NULL;
	}
	text[bytes] = 0;
	return text;
}

/* Of a relative URL; the text, and its path. */
static char *map_beside(const char *path, const char *url, char **map_path)
{
	struct stat status;
	char *specifier = NULL, *text = NULL;
	size_t bytes;

	if (strstr(url, "://") ? strncmp(url, "file://", 7) != 0 : url[0] == '\0')
		return NULL;
	if (!strncmp(url, "file://", 7))
		*map_path = module_path(url);
	else if (asprintf(&specifier, "%s%s", url[0] == '/' ? "" : "./", url) >= 0)
		*map_path = resolve_lexically(path, specifier);
	free(specifier);
	if (*map_path && !stat(*map_path, &status) && S_ISREG(status.st_mode) &&
	    status.st_size <= MAP_BYTES_MAX)
		text = resolve_read_file(*map_path, &bytes);
	return text;
}

static struct source_map *parse(const char *json, char *path)
{
	const char *object = json_value(json), *sources, *end;
	struct source_map *map = calloc(1, sizeof(*map));

	if (map && path && object && *object == '{' && json_behind(object)) {
		map->path = path;
		map->mappings = json_decoded(json_member(object, "mappings"));
		map->root = json_decoded(json_member(object, "sourceRoot"));
		sources = json_member(object, "sources");
		end = sources && *sources == '[' ? json_behind(sources) : NULL;
		map->sources = end ? strndup(sources, (size_t)(end - sources)) : NULL;
		if (map->mappings && map->sources)
			return map;
	} else {
		free(path);
	}
	source_map_free(map);
	return NULL;
}

struct source_map *source_map_of(const char *path, const char *text, size_t bytes)
{
	const char *url = last_comment(text, bytes);
	size_t length = url ? strcspn(url, " \t\r\n") : 0;
	struct source_map *map = NULL;
	char *json = NULL, *name = NULL, *copy;

	if (!length || length > MAP_BYTES_MAX)
		return NULL;
	if (!strncmp(url, "data:", 5)) {
		json = inline_map(url, length);
		name = strdup(path);
	} else if (length < TAIL_BYTES && (copy = strndup(url, length))) {
		json = map_beside(path, copy, &name);
		free(copy);
	}
	if (json)
		map = parse(json, name);
	else
		free(name);
	free(json);
	return map;
}

void source_map_free(struct source_map *map)
{
	if (!map)
		return;
	free(map->path);
	free(map->mappings);
	free(map->sources);
	free(map->root);
	free(map);
}

/* ---- Looking up ---- */

/* One number of a segment. False: there is none, or it is no number. */
static bool read_number(const char **at, int64_t *sum)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint64_t value = 0;

	for (unsigned shift = 0; shift <= 30; shift += 5) {
		const char *digit = **at ? strchr(digits, **at) : NULL;

		if (!digit)
			return false;
		(*at)++;
		value |= (uint64_t)((digit - digits) & 31) << shift;
		if ((digit - digits) & 32)
			continue;
		*sum += value & 1 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
		return *sum >= 0 && *sum <= INT32_MAX;
	}
	return false;
}

struct place {
	int64_t generated, source, line, column; /* from 0 */
};

/* The last segment of that line which begins at the column or before it. */
static bool find_segment(const char *at, unsigned line, unsigned column, struct place *found)
{
	struct place now = {0, 0, 0, 0};
	bool any = false;

	for (unsigned here = 1; *at && here <= line;) {
		if (*at == ';') {
			here++;
			now.generated = 0;
			at++;
			continue;
		}
		if (*at == ',') {
			at++;
			continue;
		}
		bool has_source = false;

		if (!read_number(&at, &now.generated))
			return any;
		if (*at && *at != ',' && *at != ';') {
			if (!read_number(&at, &now.source) || !read_number(&at, &now.line) ||
			    !read_number(&at, &now.column))
				return any;
			has_source = true;
			at += strcspn(at, ",;"); /* a name */
		}
		if (here < line)
			continue;
		if (now.generated >= column)
			break;
		any = has_source;
		*found = now;
	}
	return any;
}

/* The path of one of the sources, absolute, or a URL that is no file's. */
static char *source_path(const struct source_map *map, int64_t index)
{
	const char *at = json_first(map->sources, NULL);
	char *source, *whole = NULL, *path;
	const char *root = map->root ? map->root : "";

	while (at && index--)
		at = json_next(at, false, NULL);
	source = at ? json_decoded(at) : NULL;
	if (!source)
		return NULL;
	if (asprintf(&whole, "%s%s%s", root, *root && root[strlen(root) - 1] != '/' ? "/" : "",
		     source) < 0)
		whole = NULL;
	free(source);
	if (!whole || (strstr(whole, "://") && strncmp(whole, "file://", 7)))
		return whole;
	if (!strncmp(whole, "file://", 7)) {
		path = module_path(whole);
	} else {
		char *relative = NULL;

		if (asprintf(&relative, "%s%s", whole[0] == '/' ? "" : "./", whole) < 0)
			relative = NULL;
		path = relative ? resolve_lexically(map->path, relative) : NULL;
		free(relative);
	}
	free(whole);
	return path;
}

char *source_map_find(const struct source_map *map, unsigned *line, unsigned *column)
{
	struct place found = {0, 0, 0, 0};
	char *path;

	if (!find_segment(map->mappings, *line, *column, &found))
		return NULL;
	path = source_path(map, found.source);
	/* It is going to stand in a line of a stack. */
	if (path && (!*path || strpbrk(path, "\r\n"))) {
		free(path);
		path = NULL;
	}
	if (path) {
		*line = (unsigned)found.line + 1;
		*column = (unsigned)found.column + 1;
	}
	return path;
}
