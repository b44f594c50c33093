/* SPDX-License-Identifier: MIT */
/*
 * inspect.c - thaw inspect: what an image is, and where its bytes go. Reads only; the image may
 * be in use.
 */
#include <stdlib.h>
#include <string.h>

#include "areas.h"
#include "engines/engines.h"

static void uuid_text(const uint8_t uuid[16], char text[37])
{
	char *out = text;

	for (int i = 0; i < 16; i++)
		out += sprintf(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			       uuid[i]);
}

/* The generation between turns that the newest one falls back to; NULL: there is none. */
static const struct thaw_generation *between_turns(const struct thaw_generation *generations,
						   int count)
{
	for (int i = count; i-- > 0;)
		if (generations[i].number == generations[count - 1].portable)
			return &generations[i];
	return NULL;
}

#define CLUSTER_BYTES 65536u
#define NAMES_SHOWN 8

struct inspected {
	const char *path;
	struct thaw_image_info info;
	const struct thaw_name *names;
	int name_count;
	const struct thaw_generation *newest, *between; /* NULL: there is none */
	bool process;					/* of thaw exec: no heap has a size in it */
	struct description description;			/* of the newest */
	struct area_pages *pages;			/* of its areas; NULL: not known */
	const char *
		engine_from; /* the object of an engine that is not this build's; NULL: there is none */
	struct thaw_error engine_lacks; /* ... why not; code 0: it is this build's */
};

/* The last cluster of a heap may be shorter. */
static uint64_t working_set_bytes(const struct thaw_image_info *info)
{
	return info->working_set_clusters * CLUSTER_BYTES;
}

static void print_json(const struct inspected *image)
{
	const struct thaw_generation *newest = image->newest, *between = image->between;
	const struct thaw_image_info *info = &image->info;
	struct json json = {.to = stdout};
	char uuid[37];

	uuid_text(info->uuid, uuid);
	json_open(&json, NULL, '{');
	json_text(&json, "image", image->path);
	json_number(&json, "format", info->format);
	json_text(&json, "engine", info->engine);
	if (image->engine_from)
		json_text(&json, "engineObject", image->engine_from);
	if (image->engine_lacks.code)
		json_text(&json, "engineLacks", image->engine_lacks.text);
	json_text(&json, "uuid", uuid);
	json_bool(&json, "keyed", info->keyed);
	json_bool(&json, "encrypted", info->encrypted);
	json_number(&json, "pageBytes", info->page_bytes);
	json_number(&json, "fileBytes", info->file_bytes);
	json_number(&json, "allocatedBytes", info->allocated_bytes);
	json_number(&json, "liveBytes", info->live_bytes);
	json_number(&json, "retainedBytes", info->retained_bytes);
	json_number(&json, "freeBytes", info->free_bytes);
	json_open(&json, "fragmentation", '{');
	json_number(&json, "newestPages", info->newest_pages);
	json_number(&json, "newestPieces", info->newest_pieces);
	json_number(&json, "newestPageBytes", info->newest_page_bytes);
	json_number(&json, "newestCompressed", info->newest_compressed);
	json_number(&json, "newestZstandard", info->newest_zstd);
	json_number(&json, "unusedBytes", info->unused_bytes);
	json_number(&json, "unusedPieces", info->unused_pieces);
	json_number(&json, "unusedSmallBytes", info->unused_small_bytes);
	json_close(&json, '}');
	json_open(&json, "workingSet", '{');
	json_number(&json, "clusters", info->working_set_clusters);
	json_number(&json, "bytes", working_set_bytes(info));
	json_number(&json, "generation", info->working_set_generation);
	json_close(&json, '}');
	json_number(&json, "generations", info->generations);
	json_open(&json, "names", '[');
	for (int i = 0; i < image->name_count; i++) {
		json_open(&json, NULL, '{');
		json_text(&json, "name", image->names[i].name);
		json_number(&json, "generation", image->names[i].generation);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_number(&json, "newest", newest ? newest->number : 0);
	if (newest)
		json_text(&json, "newestKind", kind_word(newest));
	if (!image->process) {
		json_number(&json, "newestBetweenTurns", between ? between->number : 0);
		json_number(&json, "heapBytes", newest ? newest->heap_bytes : 0);
	}
	json_number(&json, "holder", info->holder);
	if (info->fallback.code)
		json_text(&json, "fallback", info->fallback.text);
	if (image->pages)
		process_json(&json, &image->description, image->pages, info->page_bytes);
	json_close(&json, '}');
	putchar('\n');
}

static void row(struct table *table, const char *name, const char *value)
{
	table_cell(table, name);
	table_cell(table, value);
}

static void row_names(struct table *table, const struct inspected *image)
{
	char text[NAMES_SHOWN * 96 + 32];
	size_t used = 0;

	for (int i = 0; i < image->name_count && i < NAMES_SHOWN; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s (%s)",
					 i ? ", " : "", image->names[i].name,
					 format_number(image->names[i].generation).s);
	if (image->name_count > NAMES_SHOWN)
		snprintf(text + used, sizeof(text) - used, " and %d more",
			 image->name_count - NAMES_SHOWN);
	if (image->name_count)
		row(table, "names", text);
}

/* How the newest generation's pages are stored, if some are compressed. */
static void row_compressed(struct table *table, const struct thaw_image_info *info)
{
	uint64_t bytes = info->newest_pages * info->page_bytes;
	const char *how = !info->newest_zstd				? "lz4"
			  : info->newest_zstd < info->newest_compressed ? "lz4 and zstd"
									: "zstd";
	char text[192];

	if (!info->newest_compressed)
		return;
	snprintf(text, sizeof(text), "%s of %s pages, %s: %s in %s, %.0f%%",
		 format_count(info->newest_compressed).s, format_count(info->newest_pages).s, how,
		 format_bytes(bytes).s, format_bytes(info->newest_page_bytes).s,
		 bytes ? 100.0 * (double)info->newest_page_bytes / (double)bytes : 0);
	row(table, "compressed", text);
}

/* Fragmentation: of the pages of the newest generation, and of the free space. */
static void row_fragmentation(struct table *table, const struct thaw_image_info *info)
{
	uint64_t bytes = info->newest_pages * info->page_bytes;
	char text[192];

	snprintf(text, sizeof(text), "%s in %s %s of the file: %.1f per MiB", format_bytes(bytes).s,
		 format_count(info->newest_pieces).s, info->newest_pieces == 1 ? "piece" : "pieces",
		 bytes ? (double)info->newest_pieces * 1048576 / (double)bytes : 0);
	row(table, "scattered", text);
	if (!info->unused_bytes)
		return;
	snprintf(text, sizeof(text), "%s unused in %s %s, %.0f%% of it in pieces under 64 KiB",
		 format_bytes(info->unused_bytes).s, format_count(info->unused_pieces).s,
		 info->unused_pieces == 1 ? "piece" : "pieces",
		 100.0 * (double)info->unused_small_bytes / (double)info->unused_bytes);
	row(table, "", text);
}

static void row_working_set(struct table *table, const struct thaw_image_info *info)
{
	char text[192];

	if (info->working_set_clusters)
		snprintf(text, sizeof(text),
			 "%s in %s clusters, touched first after the restore of generation %s",
			 format_bytes(working_set_bytes(info)).s,
			 format_count(info->working_set_clusters).s,
			 format_number(info->working_set_generation).s);
	else
		snprintf(text, sizeof(text), "not recorded yet: a restored program does it");
	row(table, "working set", text);
}

/* Who can go on from the newest generation. */
static void row_newest(struct table *table, const struct inspected *image)
{
	const struct thaw_generation *newest = image->newest, *between = image->between;
	char text[192] = "none";

	snprintf(text, sizeof(text), "%s: %s goes on from it", kind_word(newest),
		 newest == between ? "any build" : "only the build that took it");
	row(table, "newest", text);
	if (newest != between) {
		snprintf(text, sizeof(text), "none");
		if (between)
			snprintf(text, sizeof(text), "the newest is %s (%s ago)",
				 format_number(between->number).s, format_age(between->time_ns).s);
		row(table, "between turns", text);
	}
	row(table, "heap", format_bytes(newest->heap_bytes).s);
}

/* One that is not this build's goes on by its object, if that is here. */
static void row_engine(struct table *table, const struct inspected *image)
{
	char text[sizeof(image->info.engine) + sizeof(image->engine_lacks.text) + PATH_MAX];

	if (image->engine_lacks.code)
		snprintf(text, sizeof(text), "%s, with which nothing goes on here: %s",
			 image->info.engine, image->engine_lacks.text);
	else if (image->engine_from)
		snprintf(text, sizeof(text), "%s, from %s", image->info.engine, image->engine_from);
	else
		snprintf(text, sizeof(text), "%s", image->info.engine);
	row(table, "engine", text);
}

static void look_for_engine(struct inspected *image)
{
	const char *engine = image->info.engine;
	const struct guest_type *guest;

	if (!image->process && strcmp(engine, javascript_guest.identity) &&
	    engines_load(engine, &guest, &image->engine_from, &image->engine_lacks))
		image->engine_from = NULL;
}

static void row_newest_process(struct table *table, const struct inspected *image)
{
	(void)image;
	row(table, "newest", "a process: thaw exec goes on from it, with your key");
}

static void print_table(const struct inspected *image)
{
	const struct thaw_generation *newest = image->newest;
	const struct thaw_image_info *info = &image->info;
	struct table table;
	char text[192];

	table_init(&table, "ll");
	row(&table, "image", image->path);
	/*
	 * Formats of development have a number no release uses: 0xd0000000 and up
	 * (uffd/image/format.h).
	 */
	if (info->format >> 28 == 0xd)
		snprintf(text, sizeof(text), "development %u, pages of %s",
			 info->format & 0xfffffff, format_bytes(info->page_bytes).s);
	else
		snprintf(text, sizeof(text), "%u, pages of %s", info->format,
			 format_bytes(info->page_bytes).s);
	row(&table, "format", text);
	row_engine(&table, image);
	uuid_text(info->uuid, text);
	row(&table, "uuid", text);
	if (info->keyed)
		row(&table, "key",
		    info->encrypted ? "encrypted with one of its own (thaw key)"
				    : "all of it is authenticated with yours");
	if (newest) {
		snprintf(text, sizeof(text), "%u, the newest is %s (%s, %s ago)", info->generations,
			 format_number(newest->number).s, format_time(newest->time_ns).s,
			 format_age(newest->time_ns).s);
		row(&table, "generations", text);
		row_names(&table, image);
		(image->process ? row_newest_process : row_newest)(&table, image);
	} else {
		row(&table, "generations", "none yet");
	}
	snprintf(text, sizeof(text), "%s (%s on disk)", format_bytes(info->file_bytes).s,
		 format_bytes(info->allocated_bytes).s);
	row(&table, "file", text);
	snprintf(text, sizeof(text), "%s reached from the newest generation",
		 format_bytes(info->live_bytes).s);
	row(&table, "live", text);
	row_compressed(&table, info);
	snprintf(text, sizeof(text), "%s reached from any generation",
		 format_bytes(info->retained_bytes).s);
	row(&table, "retained", text);
	snprintf(text, sizeof(text), "%s to be used again", format_bytes(info->free_bytes).s);
	row(&table, "free", text);
	row_fragmentation(&table, info);
	row_working_set(&table, info);
	if (info->holder)
		snprintf(text, sizeof(text), "process %llu", (unsigned long long)info->holder);
	else
		snprintf(text, sizeof(text), "no process");
	row(&table, "held by", text);
	table_print(&table, stdout);
}

/* A process: what its newest generation is. Codes as area_pages_count(). */
static int read_process(struct inspected *image, struct thaw_image *opened,
			struct thaw_error *error)
{
	int code;

	image->process = process_is_engine(image->info.engine);
	if (!image->process || !image->newest)
		return 0;
	code = description_read(opened, 0, image->path, &image->description, error);
	if (!code)
		image->pages = area_pages_count(opened, &image->description, image->info.page_bytes,
						&code, error);
	return code;
}

static int inspect(const struct cli_options *options, int operand_count, char **operands)
{
	struct inspected image = {.path = operands[0]};
	const struct thaw_generation *generations;
	struct thaw_error error = {0};
	struct thaw_image *opened;
	int code, count;

	(void)operand_count;
	code = cli_open(image.path, &opened);
	if (code)
		return code;
	code = thaw_image_info(opened, true, &image.info, &error);
	if (code) {
		thaw_image_close(opened);
		return cli_fail_error(&error, code);
	}
	count = (int)thaw_image_log(opened, &generations);
	image.name_count = (int)thaw_image_names(opened, &image.names);
	image.newest = count ? &generations[count - 1] : NULL;
	image.between = between_turns(generations, count);
	code = read_process(&image, opened, &error);
	look_for_engine(&image);
	(options->json ? print_json : print_table)(&image);
	if (image.pages && !options->json)
		process_print(&image.description, image.pages, image.info.page_bytes, options->all);
	free(image.pages);
	description_free(&image.description);
	thaw_image_close(opened);
	if (image.info.fallback.code)
		cli_fail(0, "note: %s", image.info.fallback.text);
	return code ? cli_fail_error(&error, code) : 0;
}

static const struct cli_option inspect_options[] = {
	{"all", 0, NULL, CLI_FLAG, CLI_FIELD(all),
	 "of a process: every mapping, thread and descriptor"},
	CLI_JSON,
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_inspect = {
	.name = "inspect",
	.synopsis = "[options] IMAGE",
	.summary = "what an image is and where its bytes go",
	.description =
		"Shows the image's format and engine, which build can continue the newest generation, the size of the file,\n"
		"how much of it the newest generation and all generations use, how fragmented it is, what a start touches\n"
		"first (see --prefetch of thaw run), and which process has it open.\n"
		"Of an image of thaw exec also: the command, what it needs of a machine, its address space by kinds, its files,\n"
		"threads and descriptors, and what would become of each descriptor after a restore.",
	.examples = "  thaw inspect app.thaw\n"
		    "  thaw inspect --json app.thaw | jq .holder\n",
	.options = inspect_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = inspect,
};
