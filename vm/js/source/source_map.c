/* SPDX-License-Identifier: MIT */
/*
 * source_map.c - reads the map that a bundler or compiler left for a file, and looks places up in it.
 *
 * Owns nothing but what it returns; any thread. A map may be anything: its size is bounded, each number is checked, and
 * what is not well-formed is a place without a source. The mappings are gone through once, and marks made on the way:
 * a lookup goes from the last one before its place, since a stack has many frames.
 */
#define _GNU_SOURCE
#include "source_map.h"

#include <limits.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "js/modules/json_scan.h"
#include "js/modules/module_name.h"
#include "js/modules/resolve.h"

#define MAP_BYTES_MAX (64u << 20)
#define TAIL_BYTES 4096u /* where a comment is looked for that is no inline map */

#define MARK_STEPS 1024u

/* A place in the mappings: what was read before it. */
struct mark {
	const char *at;
	unsigned here;				 /* the line that it is in, from 1 */
	bool segment, has_source;		 /* of the last step */
	int64_t generated, source, line, column; /* from 0 */
};

struct section; /* of a map that is made of others */

struct source_map {
	struct section
		*sections; /* in the order of their places; NULL: it has mappings of its own */
	size_t section_count, section_room;
	char *path;	    /* what its sources are relative to: the file that it came from */
	char *mappings;	    /* decoded from JSON, nothing more */
	char *sources;	    /* JSON */
	char *root;	    /* NULL: none */
	struct mark *marks; /* after every so many steps */
	size_t mark_count;
};

struct section {
	unsigned line, column; /* where it begins, from 0 */
	struct source_map *map;
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

/* Is that no file's URL? */
static bool is_remote(const char *url)
{
	return strstr(url, "://") && strncmp(url, "file://", 7);
}

/* The path of a file's URL, which may be relative to `base`; malloc'ed. */
static char *path_of(const char *base, const char *url)
{
	char *specifier, *path;

	if (!strncmp(url, "file://", 7))
		return module_path(url);
	if (asprintf(&specifier, "%s%s", url[0] == '/' ? "" : "./", url) < 0)
		return NULL;
	path = resolve_lexically(base, specifier);
	free(specifier);
	return path;
}

/* The text, and its path. */
static char *map_beside(const char *path, const char *url, char **map_path)
{
	struct stat status;
	char *text = NULL;
	size_t bytes;

	if (is_remote(url))
		return NULL;
	*map_path = path_of(path, url);
	if (*map_path && !stat(*map_path, &status) && S_ISREG(status.st_mode) &&
	    status.st_size <= MAP_BYTES_MAX)
		text = resolve_read_file(*map_path, &bytes);
	return text;
}

static void make_marks(struct source_map *map);
static struct source_map *parse(const char *json, char *path, bool of_section);

static bool read_mappings(struct source_map *map, const char *object)
{
	const char *sources = json_member(object, "sources");
	const char *end = sources && *sources == '[' ? json_behind(sources) : NULL;

	map->mappings = json_decoded(json_member(object, "mappings"));
	map->root = json_decoded(json_member(object, "sourceRoot"));
	map->sources = end ? strndup(sources, (size_t)(end - sources)) : NULL;
	if (!map->mappings || !map->sources)
		return false;
	make_marks(map);
	return true;
}

static bool read_offset(const char *offset, const char *key, unsigned *number)
{
	const char *at = offset ? json_member(offset, key) : NULL;
	unsigned long value = at && *at >= '0' && *at <= '9' ? strtoul(at, NULL, 10) : ULONG_MAX;

	*number = (unsigned)value;
	return value <= INT32_MAX;
}

/* A section has no sections. */
static bool read_section(struct source_map *map, const char *object)
{
	const char *offset = json_member(object, "offset"), *inner = json_member(object, "map");
	struct section made = {0}, *more;
	const struct section *before = map->section_count ? &map->sections[map->section_count - 1]
							  : NULL;

	if (!inner || !read_offset(offset, "line", &made.line) ||
	    !read_offset(offset, "column", &made.column))
		return false;
	if (before && (made.line < before->line ||
		       (made.line == before->line && made.column <= before->column)))
		return false;
	more = array_grow(map->sections, map->section_count, &map->section_room, sizeof(*more));
	if (!more)
		return false;
	map->sections = more;
	made.map = parse(inner, strdup(map->path), true);
	map->sections[map->section_count++] = made;
	return made.map;
}

static bool read_sections(struct source_map *map, const char *list)
{
	const char *at = *list == '[' ? json_first(list, NULL) : NULL;
	bool good = at;

	for (; at && good; at = json_next(at, false, NULL))
		good = read_section(map, at);
	return good;
}

/* Owns `path`. */
static struct source_map *parse(const char *json, char *path, bool of_section)
{
	const char *object = json_value(json), *sections;
	struct source_map *map = calloc(1, sizeof(*map));

	if (map && path && object && *object == '{' && json_behind(object)) {
		map->path = path;
		sections = of_section ? NULL : json_member(object, "sections");
		if (sections ? read_sections(map, sections) : read_mappings(map, object))
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
		map = parse(json, name, false);
	else
		free(name);
	free(json);
	return map;
}

void source_map_free(struct source_map *map)
{
	if (!map)
		return;
	for (size_t i = 0; i < map->section_count; i++)
		source_map_free(map->sections[i].map);
	free(map->sections);
	free(map->path);
	free(map->mappings);
	free(map->sources);
	free(map->root);
	free(map->marks);
	free(map);
}

/* ---- Looking up ---- */

static int digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* One number of a segment. False: there is none, or it is no number. */
static bool read_number(const char **at, int64_t *sum)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift <= 30; shift += 5) {
		int bits = digit(**at);

		if (bits < 0)
			return false;
		(*at)++;
		value |= (uint64_t)(bits & 31) << shift;
		if (bits & 32)
			continue;
		*sum += value & 1 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
		return *sum >= 0 && *sum <= INT32_MAX;
	}
	return false;
}

/* To the next line, or behind the next segment. False: there is none that is well-formed. */
static bool step(struct mark *mark)
{
	mark->segment = false;
	while (*mark->at == ',')
		mark->at++;
	if (!*mark->at)
		return false;
	if (*mark->at == ';') {
		mark->at++;
		mark->here++;
		mark->generated = 0;
		mark->has_source = false;
		return true;
	}
	if (!read_number(&mark->at, &mark->generated))
		return false;
	mark->segment = true;
	mark->has_source = *mark->at && *mark->at != ',' && *mark->at != ';';
	if (!mark->has_source)
		return true;
	if (!read_number(&mark->at, &mark->source) || !read_number(&mark->at, &mark->line) ||
	    !read_number(&mark->at, &mark->column))
		return false;
	while (*mark->at && *mark->at != ',' && *mark->at != ';') /* a name */
		mark->at++;
	return true;
}

/* As far as there is memory: what is behind the last mark is looked for from there. */
static void make_marks(struct source_map *map)
{
	struct mark now = {.at = map->mappings, .here = 1};
	size_t room = 0, steps = 0;

	do {
		struct mark *more;

		if (steps++ % MARK_STEPS)
			continue;
		more = array_grow(map->marks, map->mark_count, &room, sizeof(*more));
		if (!more)
			return;
		map->marks = more;
		map->marks[map->mark_count++] = now;
	} while (step(&now));
}

static bool is_before(const struct mark *mark, unsigned line, unsigned column)
{
	return mark->here < line || (mark->here == line && mark->generated < column);
}

/* The last segment of that line which begins at the column or before it; both are from 1. */
static bool find_segment(const struct source_map *map, unsigned line, unsigned column,
			 struct mark *found)
{
	struct mark now = {.at = map->mappings, .here = 1};
	size_t low = 0, high = map->mark_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (is_before(&map->marks[middle], line, column))
			low = middle + 1;
		else
			high = middle;
	}
	if (low)
		now = map->marks[low - 1];
	*found = (struct mark){0};
	do {
		if (now.here > line || (now.here == line && now.segment && now.generated >= column))
			break;
		if (now.here == line)
			*found = now;
	} while (step(&now));
	return found->has_source;
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
	if (!whole || is_remote(whole))
		return whole;
	path = path_of(map->path, whole);
	free(whole);
	return path;
}

/* In which section that place is, and where in it; NULL: before the first. */
static const struct source_map *find_section(const struct source_map *map, unsigned *line,
					     unsigned *column)
{
	const struct section *found = NULL;
	size_t low = 0, high = map->section_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct section *section = &map->sections[middle];

		if (section->line < *line - 1 ||
		    (section->line == *line - 1 && section->column < *column)) {
			found = section;
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (!found)
		return NULL;
	if (found->line == *line - 1)
		*column -= found->column;
	*line -= found->line;
	return found->map;
}

static char *find_in_sections(const struct source_map *map, unsigned *line, unsigned *column)
{
	unsigned inner_line = *line, inner_column = *column;
	const struct source_map *inner = find_section(map, &inner_line, &inner_column);
	char *path = inner ? source_map_find(inner, &inner_line, &inner_column) : NULL;

	if (path) {
		*line = inner_line;
		*column = inner_column;
	}
	return path;
}

char *source_map_find(const struct source_map *map, unsigned *line, unsigned *column)
{
	struct mark found;
	char *path;

	if (map->sections)
		return find_in_sections(map, line, column);
	if (!find_segment(map, *line, *column, &found))
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
