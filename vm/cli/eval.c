/* SPDX-License-Identifier: MIT */
/*
 * eval.c - thaw -e CODE and thaw -p CODE: one piece of code, over an image if one is named.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

/* `left`: there is nothing to run on. */
static int evaluate(struct runtime *runtime, const struct cli_options *options, bool *left)
{
	struct runtime_answer answer;
	int code = runtime_eval(runtime, options->code, strlen(options->code),
				options->print ? "[print]" : "[eval]", &answer);

	*left = code || !answer.text;
	cli_tell_answer(&answer, code, options->print);
	free(answer.text);
	return code;
}

static int eval(const struct cli_options *options, int count, char **operands)
{
	struct runtime_options runtime_options = cli_runtime_options(options);
	struct runtime *runtime;
	struct thaw_error error = {0};
	bool left;
	int code;

	if (!options->code)
		return cli_fail(EXIT_USAGE,
				"nothing to do: -e CODE or a command is missing; see thaw --help");
	runtime_options.plain_result = true;
	runtime_options.asks = options->print && options->image;
	runtime_options.argument_count = count;
	runtime_options.arguments = operands;
	code = cli_at(options, &runtime_options);
	if (code)
		return code;
	code = runtime_open(&runtime_options, &runtime, &error);
	if (options->print && options->image && ctl_takes_over(options->image, code))
		return ctl_eval(options, options->image, options->code);
	if (code)
		return cli_fail_error(&error, code);
	code = evaluate(runtime, options, &left);
	/* As in the repl: what the code did before it threw, or was stopped, is done. */
	if (left || runtime_options.asks)
		code = runtime_leave(runtime, code);
	else
		code = runtime_run(runtime);
	cli_stats(runtime, options);
	runtime_close(runtime);
	return code;
}

static const struct cli_option eval_options[] = {
	{"eval", 'e', "CODE", CLI_CODE, 0, "evaluate this (top-level await is allowed)"},
	{"print", 'p', "CODE", CLI_CODE, 0,
	 "evaluate this and print the result, as console.log does"},
	CLI_RUN_FROM("an image to work on (default: nothing persists)",
		     "checkpoint this often while it runs (default 1s)", "start"),
	CLI_RUN_TELL("the same as one JSON object", "no notes on stderr, only errors"),
	{0},
};

const struct cli_command command_eval = {
	.name = "",
	.synopsis = "-e CODE | -p CODE [options] [arguments]",
	.summary = "evaluate one piece of code",
	.description =
		"Evaluates CODE in the global scope and waits for what it started (timers, promises).\n"
		"With --image it sees and changes what the image holds, as a line in thaw repl does. Then -e runs on\n"
		"the program in it, but -p only asks: it prints and leaves. What CODE changed is a new generation, and\n"
		"all that waits in the image (timers, promises, files) waits until thaw run, repl or -e. Only while\n"
		"CODE itself awaits something, the program goes on. A program that was stopped in the middle of a turn\n"
		"is asked there by -p, and ends its turn first for -e. Ctrl-C or SIGTERM ends both; what CODE did is kept.\n"
		"To look without changing anything, also while the program runs, use thaw eval.",
	.examples =
		"  thaw -p '2n ** 64n'                      no image: nothing persists\n"
		"  thaw --image app.thaw -p 'state.size'    ask a program that was stopped\n"
		"  thaw -i counter.thaw -e 'globalThis.n = (globalThis.n ?? 0) + 1; console.log(n)'\n",
	.options = eval_options,
	.operands_max = 1000000,
	.passes_on = true,
	.run = eval,
};
