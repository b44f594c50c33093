/* SPDX-License-Identifier: MIT */
/*
 * help.c - thaw help: the manual, as man(1) shows it, of this very binary: also where its pages are not installed.
 * Where there is no man(1), what --help prints. One thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "manual.h"

/* A page, to be read from its beginning by whoever gets the descriptor. NULL: see errno. */
static FILE *page_file(const char *name)
{
	FILE *page = tmpfile();

	if (!page)
		return NULL;
	manual_page(page, name);
	if (fflush(page) || lseek(fileno(page), 0, SEEK_SET)) {
		fclose(page);
		return NULL;
	}
	return page;
}

/* What came of it, as our own output: whether that arrives, man(1) does not tell. */
static bool copy(FILE *shown)
{
	char block[4096];
	size_t bytes;

	rewind(shown);
	while ((bytes = fread(block, 1, sizeof(block), shown)))
		cli_write(block, bytes);
	return !ferror(shown);
}

/* Into `to`, or if that is NULL to where our output goes. False: nobody has shown it. */
static bool show_in(FILE *page, FILE *to)
{
	char *const arguments[] = {"man", "-l", "-", NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status = 0, failed;

	if (posix_spawn_file_actions_init(&actions))
		return false;
	failed = posix_spawn_file_actions_adddup2(&actions, fileno(page), STDIN_FILENO);
	if (!failed && to)
		failed = posix_spawn_file_actions_adddup2(&actions, fileno(to), STDOUT_FILENO);
	if (!failed)
		failed = posix_spawnp(&pid, "man", &actions, NULL, arguments, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (failed)
		return false;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	/* Who leaves the pager by a signal has seen enough. */
	return WIFSIGNALED(status) || !WEXITSTATUS(status);
}

/* On a terminal with man(1)'s pager. */
static bool show(FILE *page)
{
	FILE *shown;
	bool good;

	if (isatty(STDOUT_FILENO))
		return show_in(page, NULL);
	shown = tmpfile();
	good = shown && show_in(page, shown) && copy(shown);
	if (shown)
		fclose(shown);
	return good;
}

static int help_page(const char *name, const struct cli_command *command)
{
	FILE *page;
	bool shown;

	cli_flush();
	page = page_file(name);
	shown = page && show(page);
	if (page)
		fclose(page);
	if (shown)
		return 0;
	if (!command)
		return cli_fail(EXIT_IO,
				"man(1) could not show it; its source: thaw help --roff %s", name);
	cli_help(command);
	return 0;
}

/* ---- All pages, for who installs them ---- */

static int write_page(const char *directory, const char *name, unsigned section)
{
	char path[PATH_MAX];
	bool failed;
	FILE *to;
	int made;

	made = snprintf(path, sizeof(path), "%s/man%u", directory, section);
	if (made < 0 || (size_t)made + 64 > sizeof(path))
		return cli_fail(EXIT_IO, "%s: %s", directory, strerror(ENAMETOOLONG));
	if (mkdir(path, 0777) && errno != EEXIST)
		return cli_fail(EXIT_IO, "%s: %s", path, strerror(errno));
	snprintf(path + made, sizeof(path) - (size_t)made, "/thaw%s%s.%u", *name ? "-" : "", name,
		 section);
	to = fopen(path, "we");
	if (!to)
		return cli_fail(EXIT_IO, "%s: %s", path, strerror(errno));
	manual_page(to, *name ? name : section == 1 ? "thaw" : "concepts");
	failed = ferror(to);
	if (fclose(to) || failed)
		return cli_fail(EXIT_IO, "%s: not all of it could be written", path);
	return 0;
}

static int write_all(const char *directory)
{
	const struct cli_command *command;
	int code = write_page(directory, "", 1);

	if (!code)
		code = write_page(directory, "", 7);
	for (unsigned i = 0; !code && (command = cli_command_at(i)); i++)
		code = write_page(directory, cli_command_name(command), 1);
	return code;
}

static int help(const struct cli_options *options, int count, char **operands)
{
	const struct cli_command *command = count ? cli_command_of(operands[0]) : NULL;

	if (options->output)
		return count ? cli_fail(EXIT_USAGE, "--write writes all pages, not that of '%s'",
					operands[0])
			     : write_all(options->output);
	if (!count) {
		cli_usage(stdout);
		return 0;
	}
	if (!command && strcmp(operands[0], "thaw") != 0 && strcmp(operands[0], "concepts") != 0)
		return cli_unknown_command(operands[0]);
	if (!options->all)
		return help_page(operands[0], command);
	manual_page(stdout, operands[0]);
	return 0;
}

static const struct cli_option help_options[] = {
	{"roff", 0, NULL, CLI_FLAG, CLI_FIELD(all), "print the source of the page, for man(1)"},
	{"write", 0, "DIRECTORY", CLI_TEXT, CLI_FIELD(output),
	 "write the sources of all pages there, as man(1) finds them: man1/thaw-run.1 and so on"},
	CLI_HELP,
	{0},
};

const struct cli_command command_help = {
	.name = "help",
	.synopsis = "[options] [COMMAND|thaw|concepts]",
	.summary = "the manual of a command",
	.description =
		"Shows the manual page of COMMAND with man(1), or where that is not installed what COMMAND --help prints.\n"
		"The pages are those of this binary, whatever is installed.\n"
		"  thaw      the overview: commands, environment, exit codes\n"
		"  concepts  thaw(7): generations, images, files, output, clocks, randomness, security",
	.examples = "  thaw help run\n"
		    "  thaw help concepts\n"
		    "  thaw help --roff exec | groff -mdoc -Tutf8 | less -R\n",
	.options = help_options,
	.operands_max = 1,
	.run = help,
};
