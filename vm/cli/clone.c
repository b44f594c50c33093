/* SPDX-License-Identifier: MIT */
/* clone.c - thaw clone: copies an image with its generations. The old image may be in use. */
#include "cli.h"
#include "store.h"

static void print_json(char **operands, const struct thaw_copy_summary *summary)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_text(&json, "image", operands[0]);
	json_text(&json, "new", operands[1]);
	json_number(&json, "generations", summary->generations);
	json_number(&json, "newest", summary->newest);
	json_number(&json, "names", summary->names);
	json_number(&json, "generationsDropped", summary->generations_lost);
	json_number(&json, "namesDropped", summary->names_lost);
	json_number(&json, "bytesBefore", summary->bytes_before);
	json_number(&json, "bytesAfter", summary->bytes_after);
	json_bool(&json, "reflink", summary->reflink);
	json_close(&json, '}');
	putchar('\n');
}

static int clone_image(const struct cli_options *options, int operand_count, char **operands)
{
	struct progress bar;
	const struct thaw_copy_ops ops = {.progress = progress_show, .arg = &bar};
	struct thaw_copy_summary summary;
	struct thaw_error error = {0};
	uint64_t generation = 0;
	int code;

	(void)operand_count;
	code = cli_whole(operands[0], false);
	if (!code && options->at)
		code = cli_generation(operands[0], options->at, &generation);
	if (code)
		return code;
	cli_settle(operands[0]);
	progress_begin(&bar, "clone", options);
	interrupt_catch();
	code = thaw_image_clone(operands[0], operands[1], generation, &ops, &summary, &error);
	progress_clear(&bar);
	if (code)
		return interrupt_fail(operands[0], &error, code);
	if (options->json)
		print_json(operands, &summary);
	else
		printf("%s: %s %s, the newest is %llu; %s%s\n", operands[1],
		       format_count(summary.generations).s,
		       summary.generations == 1 ? "generation" : "generations",
		       (unsigned long long)summary.newest, format_bytes(summary.bytes_after).s,
		       summary.reflink ? ", shared with the old image until either changes" : "");
	if (summary.generations_lost)
		cli_fail(
			0,
			"note: the program that writes %s dropped %s %s meanwhile: not in the clone",
			operands[0], format_count(summary.generations_lost).s,
			summary.generations_lost == 1 ? "generation" : "generations");
	return 0;
}

static const struct cli_option clone_options[] = {CLI_AT("go on"), CLI_JSON, CLI_QUIET,
						  CLI_IMAGE_KEY,   CLI_HELP, {0}};

const struct cli_command command_clone = {
	.name = "clone",
	.synopsis = "[options] IMAGE NEW",
	.summary = "an independent image with the same generations",
	.description =
		"Copies an image, which may be in use, to a new file. Where the file system has reflinks, this takes no\n"
		"time and no space; elsewhere holes are not copied. With --at, that generation becomes the newest of the\n"
		"new image; the later ones are copied, too. Generations keep their numbers and names. An existing file is\n"
		"never overwritten.",
	.examples = "  thaw clone app.thaw backup.thaw\n"
		    "  thaw clone app.thaw experiment.thaw --at before-migration\n",
	.options = clone_options,
	.operands_min = 2,
	.operands_max = 2,
	.run = clone_image,
};
