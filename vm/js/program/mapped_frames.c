/* SPDX-License-Identifier: MIT */
/*
 * mapped_frames.c - the frames of a stack, by the source maps of their modules.
 *
 * Owns the maps that were needed last. Called when a stack is put together, on the owner's thread: a program whose
 * errors are never looked at reads no map. Only the map of what was loaded is used: a file that is another now, or is
 * gone, has none (excerpt.c compares).
 */
#define _GNU_SOURCE
#include "mapped_frames.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "excerpt.h"
#include "js/modules/module_name.h"
#include "js/source/source_map.h"

#define KEPT 8u
#define FRAMES_MAX 200u /* of one stack that are looked up */

static struct kept {
	char *name; /* of the module */
	struct stat status;
	struct source_map *map; /* NULL: it has none */
} kept[KEPT];
static unsigned next_kept;

/* Borrowed; NULL: the module has none. */
static const struct source_map *map_of(struct program *program, const char *name)
{
	char *path = module_path(name);
	struct kept *entry = NULL;
	struct stat status;
	const char *text;
	size_t bytes;

	if (!path || path[0] != '/' || stat(path, &status) || !S_ISREG(status.st_mode)) {
		free(path);
		return NULL;
	}
	for (unsigned i = 0; i < KEPT && !entry; i++)
		if (kept[i].name && !strcmp(kept[i].name, name))
			entry = &kept[i];
	if (!entry)
		entry = &kept[next_kept++ % KEPT];
	else if (excerpt_same_file(&entry->status, &status)) {
		free(path);
		return entry->map;
	}
	free(entry->name);
	source_map_free(entry->map);
	text = excerpt_source(program, name, &bytes);
	*entry =
		(struct kept){strdup(name), status, text ? source_map_of(path, text, bytes) : NULL};
	free(path);
	return entry->map;
}

/* A frame. True: it was written otherwise. */
static bool map_frame(struct program *program, FILE *out, const char *line, const char *end)
{
	const struct source_map *map;
	struct frame_place place;
	char *file, *source;

	if (!excerpt_frame(line, end, &place))
		return false;
	file = strndup(place.name, place.name_bytes);
	map = file ? map_of(program, file) : NULL;
	source = map ? source_map_find(map, &place.line, &place.column) : NULL;
	free(file);
	if (!source)
		return false;
	fwrite(line, 1, (size_t)(place.name - line), out);
	fprintf(out, "%s:%u:%u%s\n", source, place.line, place.column, end[-1] == ')' ? ")" : "");
	free(source);
	return true;
}

char *mapped_frames(struct program *program, const char *frames)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);
	bool any = false;
	unsigned count = 0;

	if (!out)
		return NULL;
	for (const char *line = frames, *end; *line; line = *end ? end + 1 : end) {
		end = strchrnul(line, '\n');
		if (count++ < FRAMES_MAX && map_frame(program, out, line, end))
			any = true;
		else
			fwrite(line, 1, (size_t)(end - line) + (*end == '\n'), out);
	}
	any = !ferror(out) && any;
	if (!fclose(out) && any)
		return text;
	free(text);
	return NULL;
}
