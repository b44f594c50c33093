// SPDX-License-Identifier: MIT
/*
 * diff.c - thaw diff: what is different between two generations. vm/inspect/heap_diff.c compares
 * the heaps. Reads only; the image may be in use.
 */
#include <stdlib.h>

#include "inspect/heap_diff.h"
#include "base/failure.h"
#include "areas.h"
#include "page_changes.h"

static int say(int code, const struct thaw_error *error)
{
	return code ? cli_fail_error(error, code) : 0;
}

/*
 * The generations to compare: two that are named, or the named one and the newest, or the two
 * newest. Returns 0 or an exit code.
 */
static int choose(const struct thaw_image *image, const char *path, int count, char **words,
		  uint64_t generations[2])
{
	const struct thaw_generation *log;
	struct thaw_error error = {0};
	int listed, code = 0;

	for (int i = 0; i < count && !code; i++)
		code = cli_find(image, words[i], &generations[i]);
	if (code || count == 2)
		return code;
	listed = (int)thaw_image_log(image, &log);
	if (!listed || (!count && listed < 2)) {
		code = failure(&error, THAW_ENOGEN,
			       "%s: it holds %d generations, and two are compared: see thaw log",
			       path, listed);
	} else {
		generations[1] = log[listed - 1].number;
		if (!count)
			generations[0] = log[listed - 2].number;
	}
	return say(code, &error);
}

static int count_pages(void *arg, const struct thaw_page_change *change)
{
	struct heap_diff_pages *pages = arg;

	switch (change->kind) {
	case THAW_CHANGE_APPEARED:
		pages->appeared += change->pages;
		break;
	case THAW_CHANGE_VANISHED:
		pages->vanished += change->pages;
		break;
	case THAW_CHANGE_CHANGED:
		pages->changed += change->pages;
		break;
	default:
		pages->lost += change->pages;
		break;
	}
	return 0;
}

static int compare_all(struct thaw_image *image, const char *path, const uint64_t generations[2],
		       struct heap_diff_options *options, struct progress *bar,
		       struct thaw_error *error)
{
	struct thaw_image_info info;
	struct inspection looks[2];
	uint64_t dropped = 0;
	int code = thaw_image_info(image, false, &info, error);

	if (code < 0)
		return code;
	options->pages.bytes_each = info.page_bytes;
	code = thaw_image_diff(image, generations[0], generations[1], count_pages, &options->pages,
			       error);
	/* Lost pages are counted. The comparison of the objects fails if it needs one of them. */
	if (code && code != THAW_EDAMAGED)
		return code;
	code = inspection_open(&looks[0], image, path, generations[0], error);
	if (code)
		return code;
	code = inspection_open(&looks[1], image, path, generations[1], error);
	if (!code) {
		/* Both are read side by side. */
		inspection_watch(&looks[1], progress_show, bar);
		code = heap_diff_write(looks, options, stdout, error);
		dropped = graph_dropped(looks[0].graph) + graph_dropped(looks[1].graph);
		inspection_close(&looks[1]);
	}
	inspection_close(&looks[0]);
	if (!code && dropped)
		cli_fail(0, "%s: %llu references lead nowhere and were not compared", path,
			 (unsigned long long)dropped);
	return code;
}

static int diff(const struct cli_options *options, int operand_count, char **operands)
{
	struct heap_diff_options how = {options->depth, options->limit, options->json, {0}};
	struct thaw_error error = {0};
	uint64_t generations[2] = {0};
	const char *path = operands[0];
	struct thaw_image *image;
	struct progress bar;
	int code = cli_open(path, &image);

	if (code)
		return code;
	progress_begin(&bar, "diff", options);
	code = choose(image, path, operand_count - 1, operands + 1, generations);
	if (!code) {
		if (options->pages)
			code = page_changes_list(image, path, generations, options->json, stdout,
						 &error);
		else if (image_is_process(image))
			code = process_diff(image, path, generations, options, stdout, &error);
		else
			code = compare_all(image, path, generations, &how, &bar, &error);
		progress_clear(&bar);
		code = say(code, &error);
	}
	thaw_image_close(image);
	return code;
}

static const struct cli_option diff_options[] = {
	{"pages", 0, NULL, CLI_FLAG, CLI_FIELD(pages),
	 "list the pages that differ, and nothing of JavaScript"},
	CLI_JSON,
	{"depth", 0, "N", CLI_NUMBER, CLI_FIELD(depth), "objects inside one another (default 64)"},
	{"limit", 0, "N", CLI_NUMBER, CLI_FIELD(limit),
	 "lines (default 1000); the rest is counted"},
	CLI_QUIET,
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_diff = {
	.name = "diff",
	.synopsis = "[options] IMAGE [GENERATION [GENERATION]]",
	.summary = "what is different between two generations",
	.description =
		"Prints how many pages differ, then the differences in the global variables, the variables of modules, and\n"
		"all that they lead to: + appeared, - vanished, ~ changed. A generation is a number or a name. Without any,\n"
		"the two newest are compared; with one, that one and the newest. A variable inside of a function is shown as\n"
		"path.(variables).name.\n"
		"Of an image of thaw exec: the threads, descriptors and areas of the address space that came, went or changed,\n"
		"and how many pages did in each.\n"
		"With --pages, lists the pages that differ; this works for images of any engine, and for damaged ones.\n"
		"The heap is read as data: no getter, no proxy trap and no other code of the program runs, and the image\n"
		"may be in use. The exit code is 0 whether they differ or not.",
	.examples = "  thaw diff app.thaw            the last step\n"
		    "  thaw diff app.thaw 41 44\n"
		    "  thaw diff app.thaw before-migration\n"
		    "  thaw diff --json app.thaw | jq -r '.differences[].path'\n",
	.options = diff_options,
	.operands_min = 1,
	.operands_max = 3,
	.run = diff,
};
