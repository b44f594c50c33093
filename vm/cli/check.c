/* SPDX-License-Identifier: MIT */
/*
 * check.c - thaw check: what this kernel and these privileges allow, what is used of it, and what it
 * costs to do without the rest.
 */
#include <string.h>

#include "cli.h"

struct findings {
	const struct thaw_capability *capabilities;
	const struct thaw_rung *rungs;
	unsigned capability_count, rung_count;
	struct thaw_error error; /* why nothing can be opened; code 0: it can */
};

static void print_json(const struct findings *found)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_bool(&json, "ok", !found->error.code);
	json_open(&json, "capabilities", '[');
	for (unsigned i = 0; i < found->capability_count; i++) {
		const struct thaw_capability *capability = &found->capabilities[i];

		json_open(&json, NULL, '{');
		json_text(&json, "name", capability->name);
		json_bool(&json, "present", capability->present);
		json_text(&json, "since", capability->since);
		json_text(&json, "detail", capability->detail);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_open(&json, "rungs", '[');
	for (unsigned i = 0; i < found->rung_count; i++) {
		const struct thaw_rung *rung = &found->rungs[i];

		json_open(&json, NULL, '{');
		json_text(&json, "ladder", rung->ladder);
		json_text(&json, "name", rung->name);
		json_bool(&json, "present", rung->present);
		json_bool(&json, "used", rung->used);
		json_text(&json, "cost", rung->cost);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_close(&json, '}');
	putchar('\n');
}

static void print_capabilities(const struct findings *found)
{
	struct table table;

	table_init(&table, "llrl");
	table_cell(&table, "capability");
	table_cell(&table, "here");
	table_cell(&table, "since");
	table_cell(&table, "why not");
	for (unsigned i = 0; i < found->capability_count; i++) {
		table_cell(&table, found->capabilities[i].name);
		table_cell(&table, found->capabilities[i].present ? "yes" : "no");
		table_cell(&table, found->capabilities[i].since);
		table_cell(&table, found->capabilities[i].detail);
	}
	table_print(&table, stdout);
}

/* What is used stands out; what is better and not here is seen above it. */
static void print_rungs(const struct findings *found)
{
	struct table table;

	table_init(&table, "lllll");
	table_cell(&table, "ladder");
	table_cell(&table, "rung");
	table_cell(&table, "here");
	table_cell(&table, "used");
	table_cell(&table, "what it costs");
	for (unsigned i = 0; i < found->rung_count; i++) {
		const struct thaw_rung *rung = &found->rungs[i];
		bool first = !i || strcmp(rung->ladder, rung[-1].ladder);

		table_cell(&table, first ? rung->ladder : "");
		table_cell(&table, rung->name);
		table_cell(&table, rung->present ? "yes" : "no");
		table_cell(&table, rung->used ? "used" : "");
		table_cell(&table, rung->cost);
	}
	putchar('\n');
	table_print(&table, stdout);
}

static int check(const struct cli_options *options, int operand_count, char **operands)
{
	struct findings found = {0};
	int code = thaw_capabilities(&found.capabilities);

	(void)operand_count;
	(void)operands;
	if (code < 0)
		return cli_fail(runtime_exit_code(code), "cannot probe the kernel: %s",
				thaw_strerror(code));
	found.capability_count = (unsigned)code;
	code = thaw_rungs(&found.rungs, &found.rung_count, &found.error);
	if (options->json) {
		print_json(&found);
	} else {
		print_capabilities(&found);
		print_rungs(&found);
	}
	if (code)
		return cli_fail_error(&found.error, code);
	if (!options->json)
		puts("\nok: thaw runs here");
	return 0;
}

static const struct cli_option check_options[] = {CLI_JSON, CLI_HELP, {0}};

const struct cli_command command_check = {
	.name = "check",
	.synopsis = "[options]",
	.summary = "what this kernel and these privileges allow",
	.description =
		"Tries each thing Thaw can use of the kernel. None is needed: below it stands, best first, what is\n"
		"used where one is missing, and what that costs. THAW_DELIVERY, THAW_TRACKER, THAW_BACKING and\n"
		"THAW_READER force one; THAW_WITHOUT=wp-async,io_uring does as if these were not here.\n"
		"Exit code 0 if programs can run here; 69 if what is forced is not here, 9 if it is no such thing.",
	.examples = "  thaw check\n"
		    "  THAW_DELIVERY=sigsegv thaw check\n"
		    "  thaw check --json | jq '.rungs[] | select(.used) | .name'\n",
	.options = check_options,
	.run = check,
};
