/* SPDX-License-Identifier: MIT */
/*
 * main.c - the program `thaw`: finds the subcommand and runs it. Everything else is in the file
 * named after it.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "policy/key.h"

#ifndef THAW_VERSION
#define THAW_VERSION "0.1"
#endif

static const struct cli_command *const commands[] = {
	&command_run, &command_exec,	 &command_checkpoint, &command_repl,	&command_log,
	&command_tag, &command_rollback, &command_inspect,    &command_diff,	&command_export,
	&command_map, &command_verify,	 &command_clone,      &command_compact, &command_repair,
	&command_top, &command_check,
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *to)
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
	table_cell(&table, "help COMMAND");
	table_cell(&table, "options and examples of a command (also: thaw COMMAND --help)");
	table_cell(&table, "");
	table_cell(&table, "--version");
	table_cell(&table, "version and engine");
	table_print(&table, to);
	fputs("\nexamples:\n"
	      "  thaw run app.js           run app.js, or continue it from app.thaw\n"
	      "  thaw exec node app.js     any program: the whole process survives\n"
	      "  thaw repl notes.thaw      a shell whose variables survive\n"
	      "  thaw log app.thaw         the generations an image holds\n\n"
	      "exit codes: the program's own; 1 uncaught exception; 9 usage; 13 nothing settles what is awaited;\n"
	      "  65 image damaged; 66 no such file; 69 this kernel or these privileges do not suffice;\n"
	      "  70 engine stopped; 74 I/O error; 75 image in use;\n"
	      "  76 image of another engine, format or user; 128+N ended by signal N\n",
	      to);
}

static const struct cli_command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return !strcmp(name, "-e") || !strcmp(name, "-p") || !strcmp(name, "eval") ? &command_eval
										   : NULL;
}

static int unknown_command(const char *name)
{
	const char *names[COMMANDS + 2], *nearest, *dot = strrchr(name, '.');

	if (dot && (!strcmp(dot, ".js") || !strcmp(dot, ".mjs")))
		return cli_fail(EXIT_USAGE, "unknown command '%s'; to run a script: thaw run %s",
				name, name);
	if (dot && !strcmp(dot, ".thaw"))
		return cli_fail(EXIT_USAGE,
				"unknown command '%s'; to look at an image: thaw log %s", name,
				name);
	for (size_t i = 0; i < COMMANDS; i++)
		names[i] = commands[i]->name;
	names[COMMANDS] = "help";
	names[COMMANDS + 1] = NULL;
	nearest = cli_nearest(name, names);
	if (nearest)
		return cli_fail(EXIT_USAGE,
				"unknown command '%s' (did you mean %s?); see thaw --help", name,
				nearest);
	return cli_fail(EXIT_USAGE, "unknown command '%s'; see thaw --help", name);
}

static int start(const struct cli_command *command, int argc, char **argv)
{
	signals_begin(command == &command_run || command == &command_exec ||
		      command == &command_repl || command == &command_eval);
	return cli_dispatch(command, argc, argv);
}

static int too_many(const char *argument)
{
	return cli_fail(EXIT_USAGE, "'%s' is one argument too many; see thaw --help", argument);
}

static int help(int argc, char **argv)
{
	const struct cli_command *command;

	if (argc > 3)
		return too_many(argv[3]);
	if (argc < 3 || !strcmp(argv[2], "help")) {
		usage(stdout);
		return 0;
	}
	command = find_command(argv[2]);
	if (!command)
		return unknown_command(argv[2]);
	cli_help(command);
	return 0;
}

static int dispatch(int argc, char **argv)
{
	const struct cli_command *command;

	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return help(argc, argv);
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		if (argc > 2)
			return too_many(argv[2]);
		printf("thaw %s (%s", THAW_VERSION, runtime_identity(0));
		for (unsigned i = 1; runtime_identity(i); i++)
			printf(", %s", runtime_identity(i));
		puts(")");
		return 0;
	}
	/* Options before any command are those of -e. */
	if (argv[1][0] == '-' && argv[1][1])
		return start(&command_eval, argc, argv);
	command = find_command(argv[1]);
	if (!command)
		return unknown_command(argv[1]);
	return start(command, argc - 1, argv + 1);
}

/*
 * Whoever starts a program with a standard stream closed gets the next file it opens in its place: what is
 * printed would go into the image. As the C library does for programs with privileges, each gets a file
 * that can no more be read or written than a closed one.
 */
static bool keep_standard_streams(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	int code;

	signals_hold();
	if (!keep_standard_streams())
		return EXIT_IO; /* and nowhere to say so */
	key_take_environment();
	key_serve_images();
	setlocale(LC_CTYPE, "");
	code = dispatch(argc, argv);
	/* Output that did not arrive is a failure, whatever else went well. */
	if (!code)
		code = cli_output_end();
	if (runtime_left_threads())
		_exit(code);
	return code;
}
