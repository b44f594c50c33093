/* SPDX-License-Identifier: MIT */
/*
 * check.c - thaw check: what this kernel and these privileges allow, and what it costs without.
 */
#include "cli.h"

static void print_json(const struct thaw_capability *list, int count)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_open(&json, "capabilities", '[');
	for (int i = 0; i < count; i++) {
		json_open(&json, NULL, '{');
		json_text(&json, "name", list[i].name);
		json_bool(&json, "present", list[i].present);
		json_text(&json, "since", list[i].since);
		json_text(&json, "detail", list[i].detail);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_close(&json, '}');
	putchar('\n');
}

static void print_table(const struct thaw_capability *list, int count)
{
	struct table table;

	table_init(&table, "llrl");
	table_cell(&table, "capability");
	table_cell(&table, "here");
	table_cell(&table, "since");
	table_cell(&table, "note");
	for (int i = 0; i < count; i++) {
		table_cell(&table, list[i].name);
		table_cell(&table, list[i].present ? "yes" : "no");
		table_cell(&table, list[i].since);
		table_cell(&table, list[i].detail);
	}
	table_print(&table, stdout);
}

static int check(const struct cli_options *options, int operand_count, char **operands)
{
	const struct thaw_capability *list;
	int count = thaw_capabilities(&list);

	(void)operand_count;
	(void)operands;
	if (count < 0)
		return cli_fail(runtime_exit_code(count), "cannot probe the kernel: %s",
				thaw_strerror(count));
	if (options->json)
		print_json(list, count);
	else
		print_table(list, count);
	return 0;
}

static const struct cli_option check_options[] = {CLI_JSON, CLI_HELP, {0}};

const struct cli_command command_check = {
	.name = "check",
	.synopsis = "[options]",
	.summary = "what this kernel and these privileges allow",
	.description =
		"Tries each thing Thaw can use of the kernel and says what is used instead where it is missing.\n"
		"Exit code 0 if programs can run here, 69 if not.",
	.examples = "  thaw check\n"
		    "  thaw check --json | jq '.capabilities[] | select(.present | not)'\n",
	.options = check_options,
	.run = check,
};
