// SPDX-License-Identifier: MIT
/*
 * export.c - thaw export: the contents of a generation, as JSON for people or as a heap snapshot
 * for Chrome's DevTools. Reads only, and as data: no code of the program runs. The image may be in
 * use.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "areas.h"
#include "atomic_output.h"
#include "inspect/export_json.h"
#include "inspect/heap_snapshot.h"

/* Nobody reads a snapshot on a terminal: it goes to a file beside the image then. */
static char *default_path(const char *image, bool snapshot)
{
	const char *slash = strrchr(image, '/'), *dot = strrchr(image, '.');
	size_t stem = strlen(image);
	char *path;

	if (!snapshot || !isatty(STDOUT_FILENO))
		return NULL;
	if (dot && (!slash || dot > slash + 1) && dot != image)
		stem = (size_t)(dot - image);
	return asprintf(&path, "%.*s.heapsnapshot", (int)stem, image) < 0 ? NULL : path;
}

static int export_to(const struct cli_options *options, struct inspection *inspection,
		     bool snapshot, struct thaw_error *error)
{
	const struct export_json_options json = {options->depth, options->limit, options->all};
	char *chosen = options->output ? NULL : default_path(inspection->path, snapshot);
	const char *path = options->output ? options->output : chosen;
	struct atomic_output output;
	uint64_t dropped;
	int code = atomic_output_open(&output, path, inspection->path, error);

	if (!code)
		code = snapshot ? heap_snapshot_write(inspection->graph, output.to, error)
				: export_json_write(inspection, &json, output.to, error);
	code = atomic_output_close(&output, code, error);
	dropped = graph_dropped(inspection->graph);
	if (!code && dropped)
		cli_fail(0, "%s: %llu references of generation %llu lead nowhere and were left out",
			 inspection->path, (unsigned long long)dropped,
			 (unsigned long long)inspection->generation);
	if (!code && chosen)
		fprintf(stderr, "thaw: wrote %s: load it in Chrome's DevTools, Memory\n", chosen);
	free(chosen);
	return code;
}

static int export_image(const struct cli_options *options, int operand_count, char **operands)
{
	const char *format = options->format ? options->format : "json";
	bool snapshot = !strcmp(format, "heapsnapshot");
	struct thaw_error error = {0};
	struct thaw_image *image;
	struct inspection inspection;
	struct progress bar;
	uint64_t generation = 0;
	int code;

	(void)operand_count;
	if (!snapshot && strcmp(format, "json"))
		return cli_fail(EXIT_USAGE, "--format %s: not a format: it is json or heapsnapshot",
				format);
	code = cli_open(operands[0], &image);
	if (!code && image_is_process(image))
		code = refuse_process(operands[0], "export");
	if (!code && options->at)
		code = cli_find(image, options->at, &generation);
	if (code) {
		thaw_image_close(image);
		return code;
	}
	code = inspection_open(&inspection, image, operands[0], generation, &error);
	thaw_image_close(image);
	if (code)
		return cli_fail_error(&error, code);
	progress_begin(&bar, "export", options);
	inspection_watch(&inspection, progress_show, &bar);
	code = export_to(options, &inspection, snapshot, &error);
	progress_clear(&bar);
	inspection_close(&inspection);
	return code ? atomic_output_fail(&error, code) : 0;
}

static const struct cli_option export_options[] = {
	CLI_AT("export"),
	{"output", 'o', "FILE", CLI_TEXT, CLI_FIELD(output),
	 "write there, for you only (default: standard output, or -; a snapshot at a terminal: beside the image)"},
	{"format", 'f', "json|heapsnapshot", CLI_TEXT, CLI_FIELD(format), "(default json)"},
	{"depth", 0, "N", CLI_NUMBER, CLI_FIELD(depth),
	 "json: objects inside one another (default 64)"},
	{"limit", 0, "N", CLI_NUMBER, CLI_FIELD(limit),
	 "json: entries of one object, characters of a text (default 100000)"},
	{"all", 0, NULL, CLI_FLAG, CLI_FIELD(all),
	 "json: built-ins, hidden properties and variables of closures, too"},
	CLI_QUIET,
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_export = {
	.name = "export",
	.synopsis = "[options] IMAGE",
	.summary = "what is in a generation, as JSON or for Chrome's DevTools",
	.description =
		"Writes the global variables and the variables of modules as JSON, or the whole heap as a .heapsnapshot,\n"
		"which the Memory panel of Chrome's DevTools loads: every object, what refers to it, and its size.\n"
		"The heap is read as data: no getter, no proxy trap and no other code of the program runs, and the image\n"
		"may be in use. A value that JSON has no form for is written as an object with a \"$type\"; an object that was\n"
		"written before as {\"$ref\": path}; \"$cut\" and \"$more\" say what was left out.",
	.examples = "  thaw export app.thaw | jq .globals\n"
		    "  thaw export --format heapsnapshot -o app.heapsnapshot app.thaw\n"
		    "  thaw export --at 41 --depth 3 app.thaw\n",
	.options = export_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = export_image,
};
