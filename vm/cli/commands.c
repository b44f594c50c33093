/* SPDX-License-Identifier: MIT */
/*
 * commands.c - the commands there are, and the exit codes: what thaw --help, the manual and the completions of shells have
 * in common.
 */
#include <string.h>

#include "cli.h"

static const struct cli_command *const commands[] = {
	&command_run,	     &command_exec,    &command_ctl,	 &command_checkpoint,
	&command_repl,	     &command_look,    &command_log,	 &command_tag,
	&command_rollback,   &command_upgrade, &command_inspect, &command_diff,
	&command_export,     &command_map,     &command_verify,	 &command_clone,
	&command_compact,    &command_repair,  &command_push,	 &command_pull,
	&command_top,	     &command_check,   &command_key,	 &command_help,
	&command_completion,
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

const struct cli_exit cli_exits[] = {
	{"1", "uncaught exception or unhandled rejection"},
	{"9", "usage"},
	{"13", "nothing will ever settle what the top level awaits"},
	{"65", "the image is damaged"},
	{"66", "no such file"},
	{"69", "this kernel, these privileges or limits do not suffice"},
	{"70", "the sandbox stopped the engine"},
	{"74", "I/O error; also, the last checkpoint failed"},
	{"75", "the image is in use, or its replica was continued by another program"},
	{"76",
	 "the image is of another engine, build, format or user; of another command, program or processor"},
	{"78", "an upgrade failed or was refused: the program is as it was"},
	{"128+n", "ended by signal n"},
	{0},
};

const struct cli_command *cli_command_at(unsigned index)
{
	return index < COMMANDS ? commands[index] : index == COMMANDS ? &command_eval : NULL;
}

const struct cli_command *cli_command_of(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return !strcmp(name, "-e") || !strcmp(name, "-p") || !strcmp(name, "e") ? &command_eval
										: NULL;
}

const char *cli_command_name(const struct cli_command *command)
{
	return *command->name ? command->name : "e";
}

void cli_usage(FILE *to)
{
	struct table table;

	fputs("usage: thaw COMMAND [options] [arguments]\n"
	      "       thaw -e CODE | -p CODE\n\n"
	      "Runs programs whose memory survives: kill one at any instant, run the same command,\n"
	      "and the program goes on from its last checkpoint.\n\n",
	      to);
	table_init(&table, "lll");
	for (size_t i = 0; i < COMMANDS; i++) {
		table_cell(&table, "");
		table_cell(&table, commands[i]->name);
		table_cell(&table, commands[i]->summary);
	}
	table_cell(&table, "");
	table_cell(&table, "-e CODE");
	table_cell(&table, command_eval.summary);
	table_cell(&table, "");
	table_cell(&table, "-p CODE");
	table_cell(&table, "the same, and print the result");
	table_cell(&table, "");
	table_cell(&table, "--version");
	table_cell(&table, "version and engine");
	table_print(&table, to);
	fputs("\nexamples:\n"
	      "  thaw run app.js           run app.js, or continue it from app.thaw\n"
	      "  thaw exec node app.js     any program: the whole process survives\n"
	      "  thaw repl notes.thaw      a shell whose variables survive\n"
	      "  thaw log app.thaw         the generations an image holds\n\n"
	      "thaw COMMAND --help tells the options of one, thaw help COMMAND shows its manual.\n\n"
	      "exit codes: the program's own, or\n",
	      to);
	table_init(&table, "lll");
	for (const struct cli_exit *exit = cli_exits; exit->code; exit++) {
		table_cell(&table, "");
		table_cell(&table, exit->code);
		table_cell(&table, exit->means);
	}
	table_print(&table, to);
}

int cli_unknown_command(const char *name)
{
	const char *names[COMMANDS + 1], *nearest, *dot = strrchr(name, '.');

	if (dot && (!strcmp(dot, ".js") || !strcmp(dot, ".mjs") || !strcmp(dot, ".ts")))
		return cli_fail(EXIT_USAGE, "unknown command '%s'; to run a script: thaw run %s",
				name, name);
	if (dot && !strcmp(dot, ".thaw"))
		return cli_fail(EXIT_USAGE,
				"unknown command '%s'; to look at an image: thaw log %s", name,
				name);
	for (size_t i = 0; i < COMMANDS; i++)
		names[i] = commands[i]->name;
	names[COMMANDS] = NULL;
	nearest = cli_nearest(name, names);
	if (nearest)
		return cli_fail(EXIT_USAGE,
				"unknown command '%s' (did you mean %s?); see thaw --help", name,
				nearest);
	return cli_fail(EXIT_USAGE, "unknown command '%s'; see thaw --help", name);
}
