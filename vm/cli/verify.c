/* SPDX-License-Identifier: MIT */
/*
 * verify.c - thaw verify: reads and checks every byte that belongs to a retained generation.
 * Reads only; the image may be in use.
 */
#include "cli.h"
#include "store.h"

struct verification {
	struct progress progress;
	bool as_json;
	struct json json;
};

static int progress(void *arg, uint64_t done, uint64_t total)
{
	struct verification *verification = arg;

	return progress_show(&verification->progress, done, total);
}

static void damage(void *arg, const struct thaw_damage *damage)
{
	struct verification *verification = arg;

	progress_clear(&verification->progress);
	if (verification->as_json) {
		damage_json(&verification->json, NULL, damage);
		return;
	}
	damage_print(damage);
	putchar('\n');
}

static void summary_json(struct json *json, const struct thaw_verify_summary *summary, bool ok)
{
	json_close(json, ']');
	json_bool(json, "ok", ok);
	json_number(json, "generations", summary->generations);
	json_number(json, "pages", summary->pages);
	json_number(json, "nodes", summary->nodes);
	json_number(json, "bytes", summary->bytes);
	json_close(json, '}');
	putchar('\n');
}

static int verify(const struct cli_options *options, int operand_count, char **operands)
{
	struct verification verification = {.as_json = options->json, .json = {.to = stdout}};
	struct thaw_verify_ops ops = {.progress = progress, .damage = damage, .arg = &verification};
	struct thaw_verify_summary summary = {0};
	struct thaw_error error = {0};
	int code;

	(void)operand_count;
	code = cli_whole(operands[0], false);
	if (code)
		return code;
	cli_settle(operands[0]);
	progress_begin(&verification.progress, "verify", options);
	interrupt_catch();
	if (options->json) {
		json_open(&verification.json, NULL, '{');
		json_text(&verification.json, "image", operands[0]);
		json_open(&verification.json, "damages", '[');
	}
	code = thaw_image_verify(operands[0], &ops, &summary, &error);
	progress_clear(&verification.progress);
	if (options->json)
		summary_json(&verification.json, &summary, code == 0);
	if (code == THAW_EDAMAGED && summary.damages)
		return cli_fail(EXIT_IMAGE_DAMAGED, "%s: %s damaged %s", operands[0],
				format_count(summary.damages).s,
				summary.damages == 1 ? "place" : "places");
	if (code < 0)
		return interrupt_fail(operands[0], &error, code);
	if (!options->json)
		printf("ok: %s %s, %s %s, %s checked\n", format_count(summary.generations).s,
		       summary.generations == 1 ? "generation" : "generations",
		       format_count(summary.pages).s, summary.pages == 1 ? "page" : "pages",
		       format_bytes(summary.bytes).s);
	return 0;
}

static const struct cli_option verify_options[] = {
	CLI_JSON, CLI_QUIET, CLI_IMAGE_KEY, CLI_HELP, {0},
};

const struct cli_command command_verify = {
	.name = "verify",
	.synopsis = "[options] IMAGE",
	.summary = "read and check every byte of an image",
	.description =
		"Checks headers, indexes and pages of every retained generation against their checksums.\n"
		"Prints 'ok: ...' and exits 0, or one line for each damaged place and exits 65.",
	.examples = "  thaw verify app.thaw\n"
		    "  thaw verify app.thaw && thaw clone app.thaw /backup/app.thaw\n",
	.options = verify_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = verify,
};
