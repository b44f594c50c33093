/* SPDX-License-Identifier: MIT */
/*
 * map.c - thaw map: a picture of a generation's heap, or its numbers. This file counts pages into
 * the cells of the picture; map_draw.c draws. Reads only; the image may be in use.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failure.h"
#include "inspect/inspection.h"
#include "map.h"
#include "atomic_output.h"

/* ---- Counting ---- */

void map_counts_add(struct map_counts *to, const struct map_counts *kind, uint64_t pages)
{
	to->free += kind->free * pages;
	to->file += kind->file * pages;
	to->stored += kind->stored * pages;
	to->dirty += kind->dirty * pages;
	to->lost += kind->lost * pages;
	to->set += kind->set * pages;
	to->resident += kind->resident * pages;
}

void map_add(struct map *map, uint64_t cells, uint64_t first, uint64_t pages,
	     const struct map_counts *kind, uint32_t rank)
{
	while (pages) {
		struct map_cell *cell = &map->cell[cells + first / map->cell_pages];
		uint64_t part = map->cell_pages - first % map->cell_pages;

		part = part < pages ? part : pages;
		map_counts_add(&cell->counts, kind, part);
		if (rank < cell->rank)
			cell->rank = rank;
		first += part;
		pages -= part;
	}
}

static void add_pages(struct map *map, uint64_t first, uint64_t pages,
		      const struct map_counts *kind, uint32_t rank)
{
	if (map->process) {
		map_areas_add(map, first, pages, kind, rank);
		return;
	}
	map_counts_add(&map->counts, kind, pages);
	map_add(map, 0, first, pages, kind, rank);
}

static int add_run(void *arg, const struct thaw_page_run *run)
{
	struct map *map = arg;
	struct map_counts kind = {.set = run->rank != THAW_RANK_NONE};

	if (run->kind == THAW_PAGE_LOST)
		kind.lost = 1;
	else if (run->birth == map->generation.number)
		kind.dirty = 1;
	else if (run->kind == THAW_PAGE_STORED)
		kind.stored = 1;
	else
		kind.free = 1;
	add_pages(map, run->first, run->pages, &kind, run->rank);
	return 0;
}

static void add_resident(void *arg, uint64_t first, uint64_t pages)
{
	add_pages(arg, first, pages, &(struct map_counts){.resident = 1}, THAW_RANK_NONE);
}

static void place_cells(struct map *map)
{
	map->pages = map->generation.heap_bytes / map->page_bytes;
	map->cell_pages = 1;
	while (map->pages / map->cell_pages >= MAP_CELLS_MAX)
		map->cell_pages *= 2;
	map->cells = (map->pages + map->cell_pages - 1) / map->cell_pages;
	/* Fewer cells get wider columns. */
	while (map->columns > 16 && map->cells <= map->columns * 3 / 2)
		map->columns /= 2;
}

static int make_cells(struct map *map)
{
	map->cell = calloc(map->cells + 1, sizeof(*map->cell));
	for (uint64_t i = 0; map->cell && i < map->cells; i++)
		map->cell[i].rank = THAW_RANK_NONE;
	return map->cell ? 0 : -ENOMEM;
}

/* ---- Gathering ---- */

static void find_names(struct map *map, const struct thaw_image *image)
{
	size_t used = 0;

	map->name_count = thaw_image_names(image, &map->name);
	for (unsigned i = 0; i < map->name_count && used < sizeof(map->names); i++)
		if (map->name[i].generation == map->generation.number)
			used += (size_t)snprintf(map->names + used, sizeof(map->names) - used,
						 "%s%s", used ? ", " : "", map->name[i].name);
}

/* `number` 0: the newest. */
static int find_generation(struct map *map, const struct thaw_image *image, uint64_t number,
			   struct thaw_error *error)
{
	const struct thaw_generation *generations;
	unsigned count = thaw_image_log(image, &generations);
	int code = THAW_ENOGEN;

	for (unsigned i = 0; i < count; i++) {
		if (number ? generations[i].number != number : i + 1 < count)
			continue;
		map->generation = generations[i];
		map->newest = i + 1 == count;
		code = 0;
	}
	return code ? failure(error, code, "%s: holds no generation yet", map->path) : 0;
}

/*
 * What the heap consists of, row by row, as far as it can be read: a picture of a damaged heap, or of another engine's, is
 * better than none.
 */
static void read_contents(struct map *map, struct thaw_image *image, struct progress *bar)
{
	struct inspection inspection;
	int code = inspection_open(&inspection, image, map->path, map->generation.number, NULL);

	if (!code) {
		inspection_watch(&inspection, progress_show, bar);
		code = heap_contents_read(inspection.graph, map->generation.heap_bytes,
					  map->cell_pages * map->columns * map->page_bytes,
					  &map->contents, NULL);
		inspection_close(&inspection);
		progress_clear(bar);
	}
	map->no_contents = code == THAW_EENGINE ? "another engine's objects"
			   : code == -ENOMEM	? "no memory to read its objects"
			   : code		? "its objects could not be read"
						: NULL;
}

/* THAW_EDAMAGED: a part is lost, and the rest can be drawn. */
static int gather(struct map *map, struct thaw_image *image, uint64_t number,
		  struct thaw_error *error)
{
	int code = thaw_image_info(image, true, &map->info, error);

	if (!code)
		code = find_generation(map, image, number, error);
	if (code < 0)
		return code;
	find_names(map, image);
	map->page_bytes = map->info.page_bytes;
	map->process = generation_is_process(&map->generation);
	if (map->process)
		code = map_areas_open(map, image, error);
	else
		place_cells(map);
	if (code)
		return code;
	if (make_cells(map))
		return failure(error, -ENOMEM, "%s: no memory for its map", map->path);
	map->not_resident = map->process ? resident_areas(map->info.holder, &map->description,
							  map->page_bytes, add_resident, map)
					 : resident_pages(map->info.holder, map->pages,
							  map->page_bytes, add_resident, map);
	map->running = !map->not_resident;
	code = thaw_image_pages(image, map->generation.number, add_run, map, error);
	if (map->process)
		map->pages = map->counts.free + map->counts.file + map->counts.stored +
			     map->counts.dirty + map->counts.lost;
	return code;
}

/* ---- The command ---- */

static void json_groups(struct json *json, const struct map *map)
{
	json_open(json, "areas", '[');
	for (size_t i = 0; i < map->group_count; i++) {
		const struct map_group *group = &map->group[i];

		json_open(json, NULL, '{');
		json_text(json, "name", area_short_name(group->first));
		json_number(json, "start", group->first->start);
		json_number(json, "end", group->last->end);
		json_number(json, "mappings", group->areas);
		json_number(json, "bytes", group->bytes);
		json_number(json, "storedPages", group->stored);
		json_close(json, '}');
	}
	json_close(json, ']');
}

static void json_contents(struct json *json, const struct map *map)
{
	json_open(json, "contents", '[');
	for (size_t i = 0; i < map->contents.share_count && i < 100; i++) {
		const struct heap_share *share = &map->contents.share[i];

		json_open(json, NULL, '{');
		json_text(json, "type", share->type);
		json_text(json, "holder", share->holder);
		json_number(json, "objects", share->count);
		json_number(json, "bytes", share->bytes);
		json_close(json, '}');
	}
	json_close(json, ']');
}

static void print_json(const struct map *map, FILE *to)
{
	const struct thaw_image_info *info = &map->info;
	struct json json = {.to = to};

	json_open(&json, NULL, '{');
	json_text(&json, "image", map->path);
	json_number(&json, "generation", map->generation.number);
	json_open(&json, "names", '[');
	for (unsigned i = 0; i < map->name_count; i++)
		if (map->name[i].generation == map->generation.number)
			json_text(&json, NULL, map->name[i].name);
	json_close(&json, ']');
	json_bool(&json, "newest", map->newest);
	json_number(&json, "timeNs", map->generation.time_ns);
	json_number(&json, "pageBytes", map->page_bytes);
	if (!map->process)
		json_number(&json, "heapBytes", map->generation.heap_bytes);
	json_number(&json, "pages", map->pages);
	json_number(&json, "freePages", map->counts.free);
	if (map->process)
		json_number(&json, "filePages", map->counts.file);
	json_number(&json, "storedPages", map->counts.stored);
	json_number(&json, "dirtyPages", map->counts.dirty);
	json_number(&json, "lostPages", map->counts.lost);
	json_number(&json, "workingSetPages", map->counts.set);
	json_number(&json, "holder", info->holder);
	if (map->running)
		json_number(&json, "residentPages", map->counts.resident);
	json_number(&json, "fileBytes", info->file_bytes);
	json_number(&json, "liveBytes", info->live_bytes);
	json_number(&json, "retainedBytes", info->retained_bytes);
	json_number(&json, "freeBytes", info->free_bytes);
	if (map->process)
		json_groups(&json, map);
	else if (map->contents.share)
		json_contents(&json, map);
	json_close(&json, '}');
	fputc('\n', to);
}

/* The whole picture is written at once: only the disk can fail by now. */
static int write_output(const struct map *map, const char *path, const char *bytes, size_t count)
{
	struct thaw_error error = {0};
	struct atomic_output output;
	int code = atomic_output_open(&output, path, map->path, &error);

	if (!code)
		fwrite(bytes, 1, count, output.to);
	code = atomic_output_close(&output, code, &error);
	return code ? atomic_output_fail(&error, code) : 0;
}

static int map_image(const struct cli_options *options, struct map *map, struct thaw_image *image)
{
	struct thaw_error error = {0};
	uint64_t generation = 0;
	struct progress bar;
	char *bytes = NULL;
	size_t count = 0;
	FILE *memory;
	int code, exit_code = options->at ? cli_find(image, options->at, &generation) : 0;

	if (exit_code)
		return exit_code;
	code = gather(map, image, generation, &error);
	if (code < 0 && !map->counts.lost)
		return cli_fail_error(&error, code);
	if (!map->process && !options->pages) {
		progress_begin(&bar, "map", options);
		read_contents(map, image, &bar);
	}
	memory = open_memstream(&bytes, &count);
	if (memory)
		(options->json ? print_json : map_draw)(map, memory);
	if (!memory || ferror(memory) | fclose(memory))
		exit_code = cli_fail(EXIT_IO, "no memory for the map");
	else
		exit_code = write_output(map, options->output, bytes, count);
	free(bytes);
	return exit_code || !code ? exit_code : cli_fail_error(&error, code);
}

static int map(const struct cli_options *options, int operand_count, char **operands)
{
	struct map map = {.path = operands[0], .columns = MAP_COLUMNS};
	struct thaw_image *image;
	int code = cli_open(map.path, &image);

	(void)operand_count;
	if (code)
		return code;
	code = map_image(options, &map, image);
	map_areas_close(&map);
	heap_contents_free(&map.contents);
	free(map.cell);
	thaw_image_close(image);
	return code;
}

static const struct cli_option map_options[] = {
	{"output", 'o', "FILE", CLI_TEXT, CLI_FIELD(output),
	 "where the picture goes (default: standard output, or -)"},
	CLI_AT("draw"),
	{"pages", 0, NULL, CLI_FLAG, CLI_FIELD(pages),
	 "only pages, and nothing of JavaScript: nothing of the heap is read"},
	{"json", 0, NULL, CLI_FLAG, CLI_FIELD(json), "the numbers as JSON, not the picture"},
	CLI_QUIET,
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_map = {
	.name = "map",
	.synopsis = "[options] IMAGE",
	.summary = "a picture of the heap, as SVG",
	.description =
		"Draws the heap of a generation in the order of its addresses: what is free (never stored, or zero), what\n"
		"is stored, what that generation wrote, what a start touches first (the working set, see --prefetch of\n"
		"thaw run), and, while a program runs from the image, what is in its memory.\n"
		"A table tells which types take most, and which variable holds them: the one from which the way to an object\n"
		"is the shortest. What a row of the picture consists of is shown where the mouse points.\n"
		"Of an image of thaw exec, what is stored of each part of the address space is drawn under its name; what\n"
		"nobody has touched is not.\n"
		"The picture is one SVG file without scripts. If the index is damaged, the rest is drawn, and the exit code\n"
		"is 65.",
	.examples = "  thaw map -o map.svg app.thaw\n"
		    "  thaw map --at before-import app.thaw > before.svg\n"
		    "  thaw map --json app.thaw | jq '.dirtyPages / .pages'\n",
	.options = map_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = map,
};
