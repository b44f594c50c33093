/* SPDX-License-Identifier: MIT */
/* checkpoint.c - thaw checkpoint: asks the program that runs from an image for a generation, and waits until it is durable. */
#include "ctl.h"

static int checkpoint(const struct cli_options *options, int count, char **operands)
{
	(void)count;
	if (options->name && !thaw_name_valid(options->name))
		return cli_fail(EXIT_USAGE, "'%s' cannot be the name of a generation: see %s",
				options->name, "thaw tag --help");
	return ctl_checkpoint(options, operands[0], options->name);
}

static const struct cli_option checkpoint_options[] = {
	{"name", 0, "NAME", CLI_TEXT, CLI_FIELD(name),
	 "what the generation is called, which keeps it (thaw tag)"},
	{"timeout", 0, "TIME", CLI_DURATION, CLI_FIELD(timeout_ns),
	 "wait at most so long (default 60s)"},
	CLI_JSON,
	CLI_HELP,
	{0},
};

const struct cli_command command_checkpoint = {
	.name = "checkpoint",
	.synopsis = "[options] IMAGE",
	.summary = "ask a running program for a generation now",
	.description =
		"Asks the program that runs from IMAGE for a generation, and returns once it is durable: thaw ctl IMAGE checkpoint.\n"
		"For the user who runs it, and root.",
	.examples =
		"  thaw checkpoint server.thaw                        one now\n"
		"  thaw checkpoint --name before-deploy server.thaw   ... that is kept under a name\n",
	.options = checkpoint_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = checkpoint,
};
