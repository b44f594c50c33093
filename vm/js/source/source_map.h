/* SPDX-License-Identifier: MIT */
/*
 * source_map.h - where a place of a compiled file was in its source (ECMA-426, "Source map format").
 */
#ifndef VM_JS_SOURCE_MAP_H
#define VM_JS_SOURCE_MAP_H

#include <stdbool.h>
#include <stddef.h>

struct source_map;

/*
 * The map that the last lines of a file name: inline, or a file beside it. NULL: none, or none that can be read.
 * `path` is that of the file, absolute.
 */
struct source_map *source_map_of(const char *path, const char *text, size_t bytes);
/*
 * Line and column, both from 1, become those of the source, whose path or URL is returned, malloc'ed. NULL: that place
 * has none, and nothing is changed.
 */
char *source_map_find(const struct source_map *map, unsigned *line, unsigned *column);
void source_map_free(struct source_map *map); /* NULL is allowed */

#endif
