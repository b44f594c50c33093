/* SPDX-License-Identifier: MIT */
/*
 * run.c - thaw run: a program, from its script if there is no image of it, from the image if
 * there is.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "policy/key.h"
#include "store.h"

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

static int live_on(const struct cli_options *options, struct runtime_options *how)
{
	int code;

	do {
		code = live(options, how);
		how->fresh = how->upgrades = false;
		how->generation = 0;
	} while (control_resumes(how->control));
	control_close(how->control, code);
	return code;
}

/* ---- Forks ---- */

/* What makes no sense with it. 0, or EXIT_USAGE after printing why. */
static int fork_usage(const struct cli_options *options)
{
	const struct cli_retention *retention = &options->retention;
	const char *needs = options->commit				 ? "--commit"
			    : options->commit_interval_ns		 ? "--commit-interval"
			    : options->metrics				 ? "--metrics-listen"
			    : options->replicate			 ? "--replicate"
			    : options->prefetch				 ? "--prefetch"
			    : options->compress				 ? "--compress"
			    : retention->newest || retention->rule_count ? "--retain"
									 : NULL;

	if (options->fresh || options->upgrade)
		return cli_fail(EXIT_USAGE, "--fork-of and --%s exclude each other",
				options->fresh ? "fresh" : "upgrade");
	if (options->encrypt)
		return cli_fail(
			EXIT_USAGE,
			"the image of a fork is encrypted if that is which it is of: thaw compact --encrypt");
	if (options->image && cli_is_place(options->image))
		return cli_fail(
			EXIT_USAGE,
			"the image of a fork is a local file: --image PATH, and --replicate %s",
			options->image);
	if (!options->image && needs)
		return cli_fail(
			EXIT_USAGE,
			"%s is for a fork that has an image of its own: name it with --image",
			needs);
	return 0;
}

static bool same_file(const char *path, const char *other)
{
	struct stat one, two;

	return !stat(path, &one) && !stat(other, &two) && one.st_ino == two.st_ino &&
	       one.st_dev == two.st_dev;
}

/* The image that it shall have, unless an earlier start has made it: then that goes on, and --at was for that start. */
static int fork_clone(const struct cli_options *options, struct runtime_options *how)
{
	struct thaw_error error = {0};
	int code = 0;

	if (same_file(how->image, how->fork_of))
		return cli_fail(EXIT_USAGE, "%s cannot be a fork of itself: name another --image",
				how->image);
	if (!cli_file_exists(how->image)) {
		code = runtime_check_fork(how->fork_of, &error);
		if (!code)
			code = thaw_image_clone(how->fork_of, how->image, how->generation, NULL,
						NULL, &error);
		/* Another start may have been faster. */
		if (code == -EEXIST && cli_file_exists(how->image))
			code = 0;
	} else if (!options->quiet) {
		cli_fail(0, "%s is there: it goes on", how->image);
	}
	how->generation = 0;
	how->must_exist = true;
	return code ? cli_fail_error(&error, code) : 0;
}

static int run_fork(const struct cli_options *options, struct runtime_options *how, int count,
		    char **operands)
{
	struct cli_store store = {0};
	int code = fork_usage(options);

	if (!code)
		code = cli_whole(options->fork_of, false);
	how->fork_of = options->fork_of;
	how->argument_count = count;
	how->arguments = operands;
	if (!code && options->at && !(how->image && cli_file_exists(how->image)))
		code = cli_generation(how->fork_of, options->at, &how->generation);
	if (!code && how->image)
		code = fork_clone(options, how);
	else if (!code)
		how->every_ns = 0;
	if (!code)
		code = cli_store_open(options, how->image ? how->image : how->fork_of, how, &store);
	if (!code)
		code = cli_control(options, how);
	return cli_store_close(&store, code ? code : live_on(options, how));
}

static int run_script(const struct cli_options *options, struct runtime_options *how, int count,
		      char **operands)
{
	int code = cli_at(options, how);

	if (code)
		return code;
	how->argument_count = count - 1;
	how->arguments = operands + 1;

	/* A program that was restored has its sources in its heap; only a new one needs the file. */
	if (access(how->script, R_OK)) {
		int reason = errno;

		if (options->fresh || !cli_file_exists(how->image))
			return cli_fail(EXIT_NO_INPUT, "%s: %s%s%s%s", operands[0],
					strerror(reason), options->fresh ? "" : " (and no image ",
					options->fresh ? "" : how->image,
					options->fresh ? "" : " to continue from)");
		how->must_exist = true;
	}
	code = cli_control(options, how);
	if (code)
		return code;
	how->upgrades = options->upgrade;
	return live_on(options, how);
}

static int run(const struct cli_options *options, int count, char **operands)
{
	struct runtime_options how = cli_runtime_options(options);
	char script[2 * PATH_MAX], image[PATH_MAX + 8];
	struct cli_store store;
	int code;

	if (cli_prefetch(options->prefetch, &how.prefetch) ||
	    cli_compress(options->compress, &how.compress) || cli_commit(options, &how))
		return EXIT_USAGE;
	if (options->fork_of)
		return run_fork(options, &how, count, operands);
	if (!count)
		return cli_fail(EXIT_USAGE, "usage: thaw run %s; see thaw run --help",
				command_run.synopsis);
	absolute_path(operands[0], script, sizeof(script));
	image_beside(operands[0], image, sizeof(image));
	how.script = script;
	code = cli_store_open(options, script, &how, &store);
	if (!code && !how.image) {
		how.image = image;
		how.own = !options->trust;
	}
	return cli_store_close(&store, code ? code : run_script(options, &how, count, operands));
}

static const struct cli_option run_options[] = {
	CLI_RUN_FROM(
		"the image (default: beside the script, FILE.thaw), or where it lives: s3://BUCKET/PREFIX",
		"checkpoint this often (default 1s; 0: only on request and at the end)",
		"continue"),
	CLI_ENCRYPT,
	CLI_PREFETCH,
	CLI_COMPRESS_RUN,
	CLI_COMMIT,
	CLI_METRICS,
	CLI_STORE,
	{"fork-of", 0, "IMAGE", CLI_TEXT, CLI_FIELD(fork_of),
	 "begin as the program in IMAGE is, beside it, and share its memory"},
	{"upgrade", 0, NULL, CLI_FLAG, CLI_FIELD(upgrade),
	 "first load the modules whose files have changed (thaw upgrade --help)"},
	CLI_UPGRADE,
	CLI_RUN_TELL("the same as one JSON object", "no notes on stderr, only errors"),
	{0},
};

const struct cli_command command_run = {
	.name = "run",
	.synopsis = "[options] FILE.js | --fork-of IMAGE [arguments]",
	.summary = "run a program, or continue it where its image stopped",
	.description =
		"Runs FILE.js as a module. Its whole memory is checkpointed into an image: after kill -9, a crash or\n"
		"a reboot the same command continues the program, which does not notice, from the last generation that\n"
		"became durable, in the middle of a loop if need be. SIGTERM, SIGINT, SIGHUP and SIGXCPU end it after a last\n"
		"checkpoint; SIGUSR2 takes one now.\n"
		"A program that is continued needs its image only, not FILE.js. An image beside it that belongs to another\n"
		"user is refused, unless --image names it or --trust is given.\n"
		"--fork-of IMAGE begins a program as the one in IMAGE is (in its newest generation, or that of --at), with\n"
		"randomness and effects of its own; IMAGE may be in use, and stays as it is. Without --image nothing of the fork is kept,\n"
		"and all forks of a generation share the memory that they do not write. With it, IMAGE is cloned to that one first.\n"
		"--replicate s3://BUCKET/PREFIX keeps a copy of the image in an object store while the program runs. With --image\n"
		"s3://BUCKET/PREFIX it lives there: any machine goes on with it at once, what is read of it comes first, and whoever ran\n"
		"it before is fenced. --durable remote makes nothing durable, for checkpoint() and --commit output, that the store has not.\n"
		"--retain 8,10/min,24/hour,4/15min keeps, besides the 8 newest generations, the newest one of each of the\n"
		"last 10 minutes that have one, and so on. PERIOD is s, min, hour, day or week, or a number of those; days\n"
		"and weeks are those of UTC, weeks begin on Thursdays. Generations with a name (thaw tag) are kept anyway.",
	.examples =
		"  thaw run app.js                     images go to app.thaw\n"
		"  thaw run --every 250ms app.js       lose at most a quarter of a second\n"
		"  thaw run --fresh app.js in.csv      begin again; the program sees in.csv in thaw.args\n"
		"  thaw run --at 41 app.js             go back to generation 41, or --at NAME (thaw tag)\n"
		"  thaw run --upgrade app.js           go on with its state, and the code that is in the files now\n"
		"  thaw run --fork-of app.thaw try     the same state in another process; it sees try in thaw.args\n"
		"  thaw run --image s3://images/app app.js   go on with it here, wherever it ran before\n"
		"  thaw run --retain 8,60/min app.js   any minute of the last hour can be gone back to\n",
	.options = run_options,
	.operands_min = 0,
	.operands_max = 1000000,
	.passes_on = true,
	.takes_places = true,
	.run = run,
};
