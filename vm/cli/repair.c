/* SPDX-License-Identifier: MIT */
/* repair.c - thaw repair: copies the undamaged generations of an image to a new one. */
#include "cli.h"
#include "store.h"

struct repairing {
	struct progress bar;
	bool as_json;
	struct json json;
};

static int show(void *arg, uint64_t done, uint64_t total)
{
	struct repairing *repairing = arg;

	return progress_show(&repairing->bar, done, total);
}

static void salvage_json(struct json *json, const struct thaw_salvage *salvage)
{
	json_open(json, NULL, '{');
	json_number(json, "generation", salvage->generation.number);
	json_bool(json, "kept", salvage->kept);
	json_open(json, "names", '[');
	for (unsigned i = 0; i < salvage->name_count; i++)
		json_text(json, NULL, salvage->names[i].name);
	json_close(json, ']');
	if (!salvage->kept)
		damage_json(json, "cause", &salvage->cause);
	json_close(json, '}');
}

static void salvaged(void *arg, const struct thaw_salvage *salvage)
{
	struct repairing *repairing = arg;

	progress_clear(&repairing->bar);
	if (repairing->as_json) {
		salvage_json(&repairing->json, salvage);
		return;
	}
	if (salvage->kept)
		printf("whole: generation %llu", (unsigned long long)salvage->generation.number);
	else
		printf("lost: "), damage_print(&salvage->cause);
	for (unsigned i = 0; i < salvage->name_count; i++)
		printf("%s%s", i ? ", " : "; named ", salvage->names[i].name);
	putchar('\n');
}

static void summary_json(struct json *json, const struct thaw_copy_summary *summary, bool ok)
{
	json_close(json, ']');
	json_bool(json, "ok", ok);
	json_number(json, "kept", summary->generations);
	json_number(json, "lost", summary->generations_lost);
	json_number(json, "newest", summary->newest);
	json_number(json, "names", summary->names);
	json_number(json, "namesLost", summary->names_lost);
	json_bool(json, "workingSetLost", summary->working_set_lost);
	json_number(json, "pages", summary->pages);
	json_number(json, "bytesBefore", summary->bytes_before);
	json_number(json, "bytesAfter", summary->bytes_after);
	json_close(json, '}');
	putchar('\n');
}

static int repair(const struct cli_options *options, int operand_count, char **operands)
{
	struct repairing repairing = {.as_json = options->json, .json = {.to = stdout}};
	const struct thaw_copy_ops ops = {show, salvaged, &repairing};
	struct thaw_copy_summary summary;
	struct thaw_error error = {0};
	int code;

	(void)operand_count;
	code = cli_whole(operands[0], false);
	if (code)
		return code;
	cli_settle(operands[0]);
	progress_begin(&repairing.bar, "repair", options);
	interrupt_catch();
	if (options->json) {
		json_open(&repairing.json, NULL, '{');
		json_text(&repairing.json, "image", operands[0]);
		json_text(&repairing.json, "new", operands[1]);
		json_open(&repairing.json, "generations", '[');
	}
	code = thaw_image_repair(operands[0], operands[1], &ops, &summary, &error);
	progress_clear(&repairing.bar);
	if (options->json)
		summary_json(&repairing.json, &summary, !code);
	if (code)
		return interrupt_fail(operands[0], &error, code);
	if (!options->json)
		printf("%s: %s of %s generations, the newest is %llu; %s before, %s after\n",
		       operands[1], format_count(summary.generations).s,
		       format_count(summary.generations + summary.generations_lost).s,
		       (unsigned long long)summary.newest, format_bytes(summary.bytes_before).s,
		       format_bytes(summary.bytes_after).s);
	if (!options->json && summary.working_set_lost)
		puts("the order of first touches was damaged: the first start will be slower");
	return 0;
}

static const struct cli_option repair_options[] = {
	CLI_JSON, CLI_QUIET, CLI_IMAGE_KEY, CLI_HELP, {0}};

const struct cli_command command_repair = {
	.name = "repair",
	.synopsis = "[options] IMAGE NEW",
	.summary = "save the undamaged generations of a damaged image",
	.description =
		"Copies every generation that is not damaged anywhere to a new image. Prints for each generation that it\n"
		"is whole, or else its first damage. If both headers of the file are damaged, or what they lead to, searches\n"
		"the file for the newest list of its generations. The old file is only read. Exits 0 if a generation was\n"
		"saved, else 65, and then there is no new file.",
	.examples = "  thaw repair app.thaw saved.thaw && mv saved.thaw app.thaw\n",
	.options = repair_options,
	.operands_min = 2,
	.operands_max = 2,
	.run = repair,
};
