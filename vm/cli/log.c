/* SPDX-License-Identifier: MIT */
/*
 * log.c - thaw log: the generations an image holds, oldest first. Reads only; the image may be in
 * use.
 */
#include <stdlib.h>

#include "cli.h"

static void print_json(const struct thaw_generation *generations, int count)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '[');
	for (int i = 0; i < count; i++) {
		const struct thaw_generation *g = &generations[i];

		json_open(&json, NULL, '{');
		json_number(&json, "generation", g->number);
		json_number(&json, "parent", g->parent);
		json_number(&json, "timeNs", g->time_ns);
		json_number(&json, "heapBytes", g->heap_bytes);
		json_number(&json, "stateBytes", g->state_bytes);
		json_number(&json, "pagesWritten", g->pages_written);
		json_number(&json, "pagesStored", g->pages_stored);
		json_number(&json, "bytesWritten", g->bytes_written);
		json_number(&json, "pauseNs", g->pause_ns);
		json_number(&json, "durableNs", g->durable_ns);
		json_number(&json, "restores", g->restores);
		json_text(&json, "reason", thaw_reason_name(g->reason));
		json_text(&json, "kind", kind_word(g->kind));
		json_close(&json, '}');
	}
	json_close(&json, ']');
	putchar('\n');
}

static int log_image(const struct cli_options *options, int operand_count, char **operands)
{
	struct thaw_generation *generations = NULL;
	struct thaw_error error = {0};
	int count;

	(void)operand_count;
	count = thaw_image_log(operands[0], &generations, &error);
	if (count < 0)
		return cli_fail_error(&error, count);
	if (options->json)
		print_json(generations, count);
	else if (count)
		generations_print(generations, count, stdout);
	else
		puts("no generations yet");
	free(generations);
	return 0;
}

static const struct cli_option log_options[] = {CLI_JSON, CLI_HELP, {0}};

const struct cli_command command_log = {
	.name = "log",
	.synopsis = "[options] IMAGE",
	.summary = "the generations an image holds",
	.description =
		"Lists the generations that are retained, oldest first. written: pages the program wrote since the one\n"
		"before; stored: of those, pages whose contents had changed; bytes: what the file grew or reused;\n"
		"pause: how long the program stood still; durable: from the start to the disk (the newest: but for its syncs).\n"
		"kind: any build of thaw goes on from one that was taken between turns; from one that was taken mid-turn,\n"
		"only the build that took it.",
	.examples = "  thaw log app.thaw\n"
		    "  thaw run --at 41 app.js       continue from one of them\n",
	.options = log_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = log_image,
};
