/* SPDX-License-Identifier: MIT */
/*
 * log.c - thaw log: the generations an image holds, oldest first, and their names. Reads only; the
 * image may be in use.
 */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "store.h"
#include "thaw_process.h"

#define LINE_COLUMNS 120 /* names that do not fit continue on further lines */
#define NAMES_INDENT 12
#define ORIGIN_BYTES 40

enum time_form { TIME_RELATIVE, TIME_ABSOLUTE, TIME_ISO };

struct log {
	enum time_form times;
	struct thaw_image *image;
	struct thaw_image_info info;
	const struct thaw_generation *generations;
	const struct thaw_name *names;
	int count, name_count;
	bool compressed; /* one of them has written less than its pages have */
};

bool generation_is_process(const struct thaw_generation *generation)
{
	return generation->heap_bytes == THAW_PROCESS_BYTES;
}

const char *kind_word(const struct thaw_generation *generation)
{
	if (generation_is_process(generation))
		return "process";
	return generation->kind == THAW_KIND_BOUND ? "mid-turn" : "between turns";
}

/* Returns 0 or an exit code. */
static int log_read(const char *path, struct log *log)
{
	int code = cli_open(path, &log->image);

	if (code)
		return code;
	if (thaw_image_info(log->image, false, &log->info, NULL))
		log->info.page_bytes = 0; /* then that is not told */
	log->count = (int)thaw_image_log(log->image, &log->generations);
	log->name_count = (int)thaw_image_names(log->image, &log->names);
	for (int i = 0; i < log->count; i++)
		log->compressed |= log->generations[i].bytes_written <
				   log->generations[i].pages_stored * log->info.page_bytes;
	return 0;
}

static void print_json(const struct log *log)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '[');
	for (int i = 0; i < log->count; i++) {
		const struct thaw_generation *g = &log->generations[i];

		json_open(&json, NULL, '{');
		json_number(&json, "generation", g->number);
		json_number(&json, "parent", g->parent);
		json_number(&json, "ancestor", g->ancestor);
		json_number(&json, "timeNs", g->time_ns);
		if (!generation_is_process(g))
			json_number(&json, "heapBytes", g->heap_bytes);
		json_number(&json, "stateBytes", g->state_bytes);
		json_number(&json, "pagesWritten", g->pages_written);
		json_number(&json, "pagesStored", g->pages_stored);
		json_number(&json, "bytesWritten", g->bytes_written);
		if (log->info.page_bytes)
			json_number(&json, "bytesOfPages", g->pages_stored * log->info.page_bytes);
		json_number(&json, "pauseNs", g->pause_ns);
		json_number(&json, "durableNs", g->durable_ns);
		json_number(&json, "restores", g->restores);
		json_text(&json, "reason", thaw_reason_name(g->reason));
		json_open(&json, "names", '[');
		for (int n = 0; n < log->name_count; n++)
			if (log->names[n].generation == g->number)
				json_text(&json, NULL, log->names[n].name);
		json_close(&json, ']');
		json_text(&json, "kind", kind_word(g));
		json_close(&json, '}');
	}
	json_close(&json, ']');
	putchar('\n');
}

/* What was written, with the nodes of the index and the state, to the pages as they are in memory. */
static const char *of_raw(const struct log *log, const struct thaw_generation *g,
			  char text[ORIGIN_BYTES])
{
	uint64_t raw = g->pages_stored * log->info.page_bytes;

	snprintf(text, ORIGIN_BYTES, "-");
	if (raw)
		snprintf(text, ORIGIN_BYTES, "%.0f%%",
			 100.0 * (double)g->bytes_written / (double)raw);
	return text;
}

/* The generation that it descends from, unless that is the one in the line above. */
static const char *origin(const struct log *log, int i, char text[ORIGIN_BYTES])
{
	const struct thaw_generation *g = &log->generations[i];

	*text = '\0';
	if (g->ancestor && i && g->ancestor != log->generations[i - 1].number)
		snprintf(text, ORIGIN_BYTES, "from %llu", (unsigned long long)g->ancestor);
	else if (i && !g->ancestor && g->parent)
		snprintf(text, ORIGIN_BYTES, "from %llu (gone)", (unsigned long long)g->parent);
	else if (i && !g->ancestor)
		snprintf(text, ORIGIN_BYTES, "a fresh start");
	return text;
}

static void table_fill(struct table *table, const struct log *log)
{
	const char *const titles[] = {"generation",
				      log->times == TIME_RELATIVE ? "age" : "time",
				      "written",
				      "stored",
				      "bytes",
				      log->compressed ? "of raw" : NULL,
				      "pause",
				      "durable",
				      "reason",
				      "kind",
				      ""};

	table_init(table, log->compressed ? "rrrrrrrrlll" : "rrrrrrrlll");
	for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
		if (titles[i])
			table_cell(table, titles[i]);
	for (int i = 0; i < log->count; i++) {
		const struct thaw_generation *g = &log->generations[i];
		char text[ORIGIN_BYTES];

		table_cell(table, format_number(g->number).s);
		table_cell(table, log->times == TIME_RELATIVE	? format_age(g->time_ns).s
				  : log->times == TIME_ABSOLUTE ? format_time(g->time_ns).s
								: format_iso_time(g->time_ns).s);
		table_cell(table, format_count(g->pages_written).s);
		table_cell(table, format_count(g->pages_stored).s);
		table_cell(table, format_bytes(g->bytes_written).s);
		if (log->compressed)
			table_cell(table, of_raw(log, g, text));
		table_cell(table, format_duration(g->pause_ns).s);
		table_cell(table, format_duration(g->durable_ns).s);
		table_cell(table, thaw_reason_name(g->reason));
		table_cell(table, kind_word(g));
		table_cell(table, origin(log, i, text));
	}
}

/*
 * After a line of `length` columns: print its names from `column` on, or below it if they do not
 * fit.
 */
static void print_names(const struct log *log, uint64_t number, size_t length, size_t column)
{
	bool first = true;

	for (int n = 0; n < log->name_count; n++) {
		const char *name = log->names[n].name;

		if (log->names[n].generation != number)
			continue;
		if ((first ? column : length + 2) + strlen(name) > LINE_COLUMNS) {
			printf("%s\n%*s", first ? "" : ",", NAMES_INDENT, "");
			length = NAMES_INDENT;
		} else if (first) {
			length += (size_t)printf("%*s", (int)(column - length), "");
		} else {
			length += (size_t)printf(", ");
		}
		length += (size_t)printf("%s", name);
		first = false;
	}
}

/* The length of a line of the table without its trailing blanks. */
static size_t line_length(const char *line)
{
	size_t length = strcspn(line, "\n");

	while (length && line[length - 1] == ' ')
		length--;
	return length;
}

static void print_lines(const struct log *log, const char *text)
{
	size_t column = 0;

	for (const char *line = text; *line; line = strchr(line, '\n') + 1)
		if (line_length(line) + 2 > column)
			column = line_length(line) + 2;
	for (int i = -1; i < log->count && *text; i++, text = strchr(text, '\n') + 1) {
		size_t length = line_length(text);

		printf("%.*s", (int)length, text);
		if (i >= 0)
			print_names(log, log->generations[i].number, length, column);
		else if (log->name_count)
			printf("%*s", (int)(column - length) + 4, "name");
		putchar('\n');
	}
}

static int print_table(const struct log *log)
{
	char *text = NULL;
	struct table table;
	size_t bytes;
	FILE *memory = open_memstream(&text, &bytes);

	if (!memory)
		return cli_fail(EXIT_IO, "out of memory");
	table_fill(&table, log);
	table_print(&table, memory);
	if (fclose(memory) || !text) {
		free(text);
		return cli_fail(EXIT_IO, "out of memory");
	}
	print_lines(log, text);
	free(text);
	return 0;
}

static int print(const char *image, enum time_form times)
{
	struct log log = {.times = times};
	int code = log_read(image, &log);

	if (code)
		return code;
	if (log.count)
		code = print_table(&log);
	else
		puts("no generations yet");
	thaw_image_close(log.image);
	return code;
}

int log_print(const char *image)
{
	return print(image, TIME_RELATIVE);
}

static int take_times(const char *word, enum time_form *times)
{
	*times = TIME_RELATIVE;
	if (!word || !strcmp(word, "relative"))
		return 0;
	if (!strcmp(word, "absolute"))
		*times = TIME_ABSOLUTE;
	else if (!strcmp(word, "iso"))
		*times = TIME_ISO;
	else
		return cli_fail(EXIT_USAGE, "--time is relative, absolute or iso, not '%s'", word);
	return 0;
}

static int log_image(const struct cli_options *options, int operand_count, char **operands)
{
	struct log log = {0};
	int code = take_times(options->time, &log.times);

	(void)operand_count;
	if (code)
		return code;
	if (cli_is_place(operands[0]))
		return store_log(options, operands[0]);
	if (!options->json)
		return print(operands[0], log.times);
	code = log_read(operands[0], &log);
	if (code)
		return code;
	print_json(&log);
	thaw_image_close(log.image);
	return 0;
}

static const struct cli_option log_options[] = {
	{"time", 0, "relative|absolute|iso", CLI_TEXT, CLI_FIELD(time),
	 "when it was: how long ago (default), in local time, or in that as ISO 8601 has it, to the millisecond"},
	CLI_STORE_TIMEOUT("how long an object store is waited for (default 30s)"),
	CLI_JSON,
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_log = {
	.name = "log",
	.synopsis = "[options] IMAGE|PLACE",
	.summary = "the generations an image holds, or what an object store has",
	.description =
		"Lists the generations that are retained, oldest first.\n"
		"  written  pages that the program wrote since the generation before\n"
		"  stored   those of them whose contents had changed\n"
		"  bytes    how much was written to the file\n"
		"  of raw   where some are compressed: that to the stored pages as they are in memory\n"
		"  pause    how long the program was stopped\n"
		"  durable  from the start until it was on the disk (the newest: without its last syncs)\n"
		"  kind     any build of thaw continues a generation between turns; one that was taken mid-turn is continued\n"
		"           only by the build that took it; process: thaw exec continues it\n"
		"Of a PLACE (s3://BUCKET/PREFIX): its newest records, who wrote them, and what it has.\n"
		"'from N': it descends from generation N, not from the one above; 'gone': N is no longer in the image.",
	.examples = "  thaw log app.thaw\n"
		    "  thaw log --time iso app.thaw  when each was taken\n"
		    "  thaw run --at 41 app.js       continue from one of them\n"
		    "  thaw tag app.thaw good 41     name one, which keeps it\n",
	.options = log_options,
	.operands_min = 1,
	.operands_max = 1,
	.takes_places = true,
	.run = log_image,
};
