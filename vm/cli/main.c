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

#include "check_engines.h"
#include "cli.h"
#include "policy/key.h"

static int start(const struct cli_command *command, int argc, char **argv)
{
	signals_begin(command == &command_run || command == &command_exec ||
		      command == &command_repl || command == &command_eval ||
		      command == &command_upgrade || command == &command_look);
	return cli_dispatch(command, argc, argv);
}

static int too_many(const char *argument)
{
	return cli_fail(EXIT_USAGE, "'%s' is one argument too many; see thaw --help", argument);
}

static int dispatch(int argc, char **argv)
{
	const struct cli_command *command;

	if (argc < 2) {
		cli_usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		if (argc > 2)
			return too_many(argv[2]);
		cli_usage(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		if (argc > 2)
			return too_many(argv[2]);
		printf("thaw %s (%s", THAW_VERSION, runtime_identity(0));
		for (unsigned i = 1; runtime_identity(i); i++)
			printf(", %s", runtime_identity(i));
		puts(")");
		engines_version();
		return 0;
	}
	if (argc == 3 && !strcmp(argv[1], "help") &&
	    (!strcmp(argv[2], "-e") || !strcmp(argv[2], "-p"))) {
		cli_help(&command_eval);
		return 0;
	}
	/* Options before any command are those of -e. */
	if (argv[1][0] == '-' && argv[1][1])
		return start(&command_eval, argc, argv);
	command = cli_command_of(argv[1]);
	if (!command)
		return cli_unknown_command(argv[1]);
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
