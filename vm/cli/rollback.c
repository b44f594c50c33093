/* SPDX-License-Identifier: MIT */
/*
 * rollback.c - thaw rollback: an old generation becomes the newest. This is a commit of the image
 * (thaw_image_rollback); of an image in use, its program's (ctl.h).
 */
#include "ctl.h"
#include "store.h"

static void print_json(const struct thaw_generation *made, uint64_t from)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_number(&json, "generation", made->number);
	json_number(&json, "from", from);
	if (!generation_is_process(made))
		json_number(&json, "heapBytes", made->heap_bytes);
	json_text(&json, "kind", kind_word(made));
	json_close(&json, '}');
	putchar('\n');
}

static int rollback(const struct cli_options *options, int count, char **operands)
{
	struct thaw_generation made = {0};
	struct thaw_error error = {0};
	uint64_t from;
	unsigned tries = 0;
	bool taken;
	int code = cli_whole(operands[0], true);

	(void)count;
	if (!code)
		code = cli_generation(operands[0], operands[1], &from);
	if (code)
		return code;
	do
		code = thaw_image_rollback(operands[0], from, &made, &error);
	while (ctl_again(operands[0], code, &tries, &taken) ||
	       (taken &&
		(code = ctl_rollback(options, operands[0], operands[1], &tries)) == CTL_ENDED));
	if (taken)
		return code;
	if (code)
		return cli_fail_change(operands[0], NULL, &error, code);
	if (options->json)
		print_json(&made, from);
	else
		printf("generation %llu is made, with the contents of %llu: thaw %s continues from it\n",
		       (unsigned long long)made.number, (unsigned long long)from,
		       generation_is_process(&made) ? "exec" : "run");
	return 0;
}

static const struct cli_option rollback_options[] = {CLI_JSON, CLI_IMAGE_KEY, CLI_HELP, {0}};

const struct cli_command command_rollback = {
	.name = "rollback",
	.synopsis = "[options] IMAGE GENERATION",
	.summary = "make an old generation the newest",
	.description =
		"Makes a new generation with the contents of GENERATION (a number or a name): thaw run or exec continues from it.\n"
		"Nothing is lost: the generations between stay until --retain drops them, and another rollback undoes this\n"
		"one. It takes no longer for a large heap than for a small one.\n"
		"A program that has the image open takes one more generation, and goes on from the one that was made (thaw ctl).\n"
		"To continue from an old generation only once, use thaw run --at, or thaw exec --at.",
	.examples = "  thaw rollback app.thaw 41\n"
		    "  thaw rollback app.thaw before-migration && thaw run app.js\n",
	.options = rollback_options,
	.operands_min = 2,
	.operands_max = 2,
	.run = rollback,
};
