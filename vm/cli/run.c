/* SPDX-License-Identifier: MIT */
/*
 * run.c - thaw run: a program, from its script if there is no image of it, from the image if
 * there is.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "policy/key.h"

/* app.js -> app.thaw, beside the script. */
static void image_beside(const char *script, char *image, size_t room)
{
	const char *slash = strrchr(script, '/'), *dot = strrchr(script, '.');

	/* A dot that starts the name (.profile) or lies in a directory's is no extension. */
	if (dot && dot > (slash ? slash + 1 : script))
		snprintf(image, room, "%.*s.thaw", (int)(dot - script), script);
	else
		snprintf(image, room, "%s.thaw", script);
}

/* An absolute name, also for a script that is gone: its image remembers modules under such names. */
static void absolute_path(const char *path, char *absolute, size_t room)
{
	char real[PATH_MAX], directory[PATH_MAX];

	if (realpath(path, real))
		snprintf(absolute, room, "%s", real);
	else if (path[0] == '/' || !getcwd(directory, sizeof(directory)))
		snprintf(absolute, room, "%s", path);
	else
		snprintf(absolute, room, "%s/%s", directory, path);
}

/* What will not be there for the next start is told at this one, not in the middle of the first long turn. */
static void tell_key(const struct cli_options *options)
{
	struct thaw_error error;

	if (!options->quiet && options->every_ns && key_check(&error))
		fprintf(stderr,
			"thaw: %s; without it a turn is not checkpointed before it ends, however "
			"long it lasts\n",
			error.text);
}

/* From one start to the next, or to its end. */
static int live(const struct cli_options *options, const struct runtime_options *how)
{
	struct thaw_error error = {0};
	struct runtime *runtime;
	int code;

	if (how->upgrades)
		cli_upgrade_prepare(how->image);
	code = runtime_open(how, &runtime, &error);
	if (code)
		return cli_fail_error(&error, code);
	tell_key(options);
	code = !runtime_restored(runtime) ? runtime_start(runtime)
	       : how->upgrades		  ? cli_upgrade(runtime, options, how->image)
					  : 0;
	if (how->upgrades && code) {
		runtime_close(runtime);
		return code;
	}
	if (!code)
		code = runtime_run(runtime);
	cli_stats(runtime, options);
	runtime_close(runtime);
	return code;
}

static int run(const struct cli_options *options, int count, char **operands)
{
	struct runtime_options runtime_options = cli_runtime_options(options);
	char script[2 * PATH_MAX], image[PATH_MAX + 8];
	int code;

	if (cli_prefetch(options->prefetch, &runtime_options.prefetch) ||
	    cli_commit(options, &runtime_options))
		return EXIT_USAGE;
	absolute_path(operands[0], script, sizeof(script));
	image_beside(operands[0], image, sizeof(image));
	runtime_options.script = script;
	if (!runtime_options.image) {
		runtime_options.image = image;
		runtime_options.own = !options->trust;
	}
	code = cli_at(options, &runtime_options);
	if (code)
		return code;
	runtime_options.argument_count = count - 1;
	runtime_options.arguments = operands + 1;

	/* A program that was restored has its sources in its heap; only a new one needs the file. */
	if (access(script, R_OK)) {
		int reason = errno;

		if (options->fresh || !cli_file_exists(runtime_options.image))
			return cli_fail(EXIT_NO_INPUT, "%s: %s%s%s%s", operands[0],
					strerror(reason), options->fresh ? "" : " (and no image ",
					options->fresh ? "" : runtime_options.image,
					options->fresh ? "" : " to continue from)");
		runtime_options.must_exist = true;
	}
	code = cli_control(options, &runtime_options);
	if (code)
		return code;
	runtime_options.upgrades = options->upgrade;
	do {
		code = live(options, &runtime_options);
		runtime_options.fresh = runtime_options.upgrades = false;
		runtime_options.generation = 0;
	} while (control_resumes(runtime_options.control));
	control_close(runtime_options.control, code);
	return code;
}

static const struct cli_option run_options[] = {
	CLI_RUN_FROM("the image (default: beside the script, FILE.thaw)",
		     "checkpoint this often (default 1s; 0: only on request and at the end)",
		     "continue"),
	CLI_PREFETCH,
	CLI_COMMIT,
	CLI_METRICS,
	{"upgrade", 0, NULL, CLI_FLAG, CLI_FIELD(upgrade),
	 "first load the modules whose files have changed (thaw upgrade --help)"},
	CLI_UPGRADE,
	CLI_RUN_TELL("the same as one JSON object", "no notes on stderr, only errors"),
	{0},
};

const struct cli_command command_run = {
	.name = "run",
	.synopsis = "[options] FILE.js [arguments]",
	.summary = "run a program, or continue it where its image stopped",
	.description =
		"Runs FILE.js as a module. Its whole memory is checkpointed into an image: after kill -9, a crash or\n"
		"a reboot the same command continues the program, which does not notice, from the last generation that\n"
		"became durable, in the middle of a loop if need be. SIGTERM, SIGINT, SIGHUP and SIGXCPU end it after a last\n"
		"checkpoint; SIGUSR2 takes one now.\n"
		"A program that is continued needs its image only, not FILE.js. An image beside it that belongs to another\n"
		"user is refused, unless --image names it or --trust is given.\n"
		"--retain 8,10/min,24/hour,4/15min keeps, besides the 8 newest generations, the newest one of each of the\n"
		"last 10 minutes that have one, and so on. PERIOD is s, min, hour, day or week, or a number of those; days\n"
		"and weeks are those of UTC, weeks begin on Thursdays. Generations with a name (thaw tag) are kept anyway.",
	.examples =
		"  thaw run app.js                     images go to app.thaw\n"
		"  thaw run --every 250ms app.js       lose at most a quarter of a second\n"
		"  thaw run --fresh app.js in.csv      begin again; the program sees in.csv in thaw.args\n"
		"  thaw run --at 41 app.js             go back to generation 41, or --at NAME (thaw tag)\n"
		"  thaw run --upgrade app.js           go on with its state, and the code that is in the files now\n"
		"  thaw run --retain 8,60/min app.js   any minute of the last hour can be gone back to\n",
	.options = run_options,
	.operands_min = 1,
	.operands_max = 1000000,
	.passes_on = true,
	.run = run,
};
