/* SPDX-License-Identifier: MIT */
/*
 * check.c - thaw check: what this kernel and these privileges allow, and what it costs without.
 */
#include "cli.h"

static void print_json(const struct thaw_capability *list, int count, bool enough)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_bool(&json, "ok", enough);
	json_open(&json, "capabilities", '[');
	for (int i = 0; i < count; i++) {
		json_open(&json, NULL, '{');
		json_text(&json, "name", list[i].name);
		json_bool(&json, "present", list[i].present);
		json_bool(&json, "required", list[i].required);
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

	table_init(&table, "lllrl");
	table_cell(&table, "capability");
	table_cell(&table, "here");
	table_cell(&table, "needed");
	table_cell(&table, "since");
	table_cell(&table, "note");
	for (int i = 0; i < count; i++) {
		table_cell(&table, list[i].name);
		table_cell(&table, list[i].present ? "yes" : "no");
		table_cell(&table, list[i].required ? "yes" : "");
		table_cell(&table, list[i].since);
		table_cell(&table, list[i].detail);
	}
	table_print(&table, stdout);
}

static int check(const struct cli_options *options, int operand_count, char **operands)
{
	const struct thaw_capability *list;
	const char *missing = NULL;
	int count = thaw_capabilities(&list);

	(void)operand_count;
	(void)operands;
	if (count < 0)
		return cli_fail(runtime_exit_code(count), "cannot probe the kernel: %s",
				thaw_strerror(count));
	for (int i = 0; i < count; i++)
		if (list[i].required && !list[i].present && !missing)
			missing = list[i].name;
	if (options->json)
		print_json(list, count, !missing);
	else
		print_table(list, count);
	if (missing)
		return cli_fail(EXIT_NO_KERNEL, "%s is needed and not here", missing);
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
		"Tries each thing Thaw can use of the kernel and says what is used instead where it is missing.\n"
		"Exit code 0 if programs can run here, 69 if not.",
	.examples = "  thaw check\n"
		    "  thaw check --json | jq '.capabilities[] | select(.present | not)'\n",
	.options = check_options,
	.run = check,
};
