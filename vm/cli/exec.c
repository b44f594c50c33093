/* SPDX-License-Identifier: MIT */
/*
 * exec.c - thaw exec: any program, whose whole process survives: started if there is no image of it, continued from the
 * image if there is; and with --restart continued again whenever it crashes.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli.h"
#include "process/process.h"
#include "store.h"

/* So often in a row without a new generation: it will not get any further. */
#define CRASHES_MAX 3u
#define WAIT_FIRST_S 1u
#define WAIT_MOST_S 60u

enum restart { RESTART_NEVER, RESTART_ON_FAILURE, RESTART_ALWAYS };

static int take_restart(const char *word, enum restart *restart)
{
	*restart = RESTART_NEVER;
	if (!word || !strcmp(word, "never"))
		return 0;
	if (!strcmp(word, "on-failure"))
		*restart = RESTART_ON_FAILURE;
	else if (!strcmp(word, "always"))
		*restart = RESTART_ALWAYS;
	else
		return cli_fail(EXIT_USAGE, "--restart is never, on-failure or always, not '%s'",
				word);
	return 0;
}

static int take_files(const char *word, bool *roll_back)
{
	*roll_back = word && !strcmp(word, "rollback");
	return !word || *roll_back || !strcmp(word, "keep")
		       ? 0
		       : cli_fail(EXIT_USAGE, "--files is keep or rollback, not '%s'", word);
}

/* What one start came to. */
struct life {
	int code;
	bool crashed;  /* it ended by a signal, or with an exit code that is not 0 */
	bool finished; /* it ended in another way */
	bool got_on;   /* a generation became durable, of a program that ran */
};

static struct life live(const struct cli_options *options, const struct runtime_options *how,
			bool tell_image)
{
	struct life life = {0};
	struct thaw_error error = {0};
	struct runtime_stats stats;
	struct runtime *runtime;

	life.code = runtime_open(how, &runtime, &error);
	if (life.code) {
		life.code = cli_fail_error(&error, life.code);
		return life;
	}
	if (tell_image && !runtime_restored(runtime))
		fprintf(stderr, "thaw: its image is %s\n", how->image);
	life.code = runtime_restored(runtime) ? 0 : runtime_start(runtime);
	if (!life.code)
		life.code = runtime_run(runtime);
	life.crashed = runtime_crashed(runtime);
	runtime_stats(runtime, &stats);
	life.finished = !life.crashed;
	/* The one that says that it has finished is no progress. */
	life.got_on = stats.heap.checkpoints > (life.finished ? 1 : 0);
	cli_stats(runtime, options);
	runtime_close(runtime);
	return life;
}

/* ... and again, where somebody has it go back (thaw ctl). */
static struct life live_on(const struct cli_options *options, struct runtime_options *how,
			   bool tell_image)
{
	struct life life = live(options, how, tell_image);

	while (control_resumes(how->control)) {
		how->fresh = false;
		how->generation = 0;
		life = live(options, how, false);
	}
	return life;
}

static bool goes_on(enum restart restart, const struct life *life)
{
	if (runtime_asked_to_end())
		return false;
	return restart != RESTART_NEVER &&
	       (life->crashed || (restart == RESTART_ALWAYS && life->finished));
}

static int keep_alive(const struct cli_options *options, struct runtime_options *how,
		      enum restart restart, bool tell_image)
{
	unsigned wait_s = WAIT_FIRST_S, crashes = 0;
	struct life life = live_on(options, how, tell_image);

	while (goes_on(restart, &life)) {
		wait_s = life.got_on ? WAIT_FIRST_S : wait_s;
		crashes = life.got_on || !life.crashed ? 0 : crashes + 1;
		if (crashes >= CRASHES_MAX)
			return cli_fail(
				life.code,
				"it crashed %u times in a row without a new generation, and is not started again",
				crashes);
		if (!options->quiet)
			fprintf(stderr, "thaw: it %s in %u s\n",
				life.crashed ? "goes on" : "starts anew", wait_s);
		nanosleep(&(struct timespec){.tv_sec = wait_s}, NULL);
		if (runtime_asked_to_end())
			break;
		wait_s = 2 * wait_s < WAIT_MOST_S ? 2 * wait_s : WAIT_MOST_S;
		/* From what it has made durable; else from where it began. One that has finished: from the beginning. */
		how->fresh = !life.crashed || (how->fresh && !life.got_on);
		how->generation = life.got_on ? 0 : how->generation;
		life = live_on(options, how, false);
	}
	return life.code;
}

/* Who can write to it can change nothing of what goes on, but can put back what went on before. */
static int check_image(const struct cli_options *options, const char *image)
{
	struct stat status;

	if (options->trust || stat(image, &status) || !(status.st_mode & (S_IWGRP | S_IWOTH)))
		return 0;
	return cli_fail(
		EXIT_IMAGE_FOREIGN,
		"%s: others can write to it, and what it holds runs as you: chmod go-w '%s' if only you did (--trust goes on all the same)",
		image, image);
}

/* All but the image and the store. */
static int take_options(const struct cli_options *options, struct runtime_options *how,
			enum restart *restart)
{
	int code = options->upgrade ? cli_upgrade_process()
				    : take_restart(options->restart, restart);

	if (!code)
		code = take_files(options->files, &how->roll_back);
	if (!code)
		code = cli_commit(options, how);
	if (!code)
		code = cli_prefetch(options->prefetch, &how->prefetch);
	if (!code)
		code = cli_compress(options->compress, &how->compress);
	return code;
}

static int exec_image(const struct cli_options *options, struct runtime_options *how,
		      enum restart restart, bool tell_image)
{
	int code = check_image(options, how->image);

	if (!code)
		code = cli_at(options, how);
	if (!code)
		code = cli_control(options, how);
	if (!code)
		code = keep_alive(options, how, restart, tell_image);
	control_close(how->control, code);
	return code;
}

static int exec(const struct cli_options *options, int count, char **operands)
{
	struct runtime_options how = cli_runtime_options(options);
	struct cli_store store;
	enum restart restart;
	char *image = NULL;
	int code = take_options(options, &how, &restart);

	if (code)
		return code;
	if (!count && !how.image)
		return cli_fail(
			EXIT_USAGE,
			"which program? Name a command, or the image that holds one with --image");
	if (!how.image) {
		image = program_default_image(count, operands);
		if (!image)
			return cli_fail(EXIT_IO, "out of memory");
		how.image = image;
	}
	how.guest = &process_guest;
	how.own = !options->trust; /* what it holds runs as this user */
	how.must_exist = !count;
	how.argument_count = count;
	how.arguments = operands;
	code = cli_store_open(options, count ? operands[0] : how.image, &how, &store);
	how.script = count ? operands[0] : how.image;
	if (!code)
		code = exec_image(options, &how, restart, image && !options->quiet);
	free(image);
	return cli_store_close(&store, code);
}

static const struct cli_option exec_options[] = {
	CLI_RUN_FROM(
		"the image (default: the script's or the program's name, with .thaw), or where it lives: s3://BUCKET/PREFIX",
		"checkpoint this often (default 1s; 0: only on request)", "continue"),
	CLI_ENCRYPT,
	CLI_PREFETCH,
	CLI_COMPRESS_RUN,
	CLI_COMMIT,
	CLI_METRICS,
	CLI_STORE,
	{"restart", 0, "never|on-failure|always", CLI_TEXT, CLI_FIELD(restart),
	 "continue it at once after a crash; always: start it anew after its end, too (default never)"},
	{"upgrade", 0, NULL, CLI_FLAG, CLI_FIELD(upgrade), "says what there is instead"},
	{"files", 0, "keep|rollback", CLI_TEXT, CLI_FIELD(files),
	 "rollback: cut files that it appends to back to their lengths at the generation (default keep)"},
	{"self-contained", 0, NULL, CLI_FLAG, CLI_FIELD(self_contained),
	 "keep the pages of the program's and its libraries' files in the image, too"},
	CLI_RUN_TELL("the same as one JSON object", "no notes on stderr, only errors"),
	{0},
};

const struct cli_command command_exec = {
	.name = "exec",
	.synopsis = "[options] PROGRAM [arguments]",
	.summary = "run any program, or continue its process where its image stopped",
	.description =
		"Runs PROGRAM (found as a shell finds it) unchanged. Its whole process is checkpointed into an image while it\n"
		"runs: memory, stacks, threads, timers, descriptors. After kill -9, a crash or a reboot the same command\n"
		"continues it from the last generation that became durable. Files that it wrote are not rolled back (but\n"
		"see --files), and connections are found broken, as after a network failure.\n"
		"Signals, the terminal and the standard streams are the program's; so is its exit code, or 128 and the number of\n"
		"the signal that ended it. A program that has ended with exit code 0 is finished: --fresh starts it anew. After\n"
		"any other end the same command goes on from the newest generation.\n"
		"What stands in an image runs as native code: all of it is authenticated with your key (thaw(1), THAW_KEY), and\n"
		"what was made or changed without that is refused. An image of another command, another build of the program or its libraries, or of a\n"
		"processor that could more is refused, too. Statically linked and setuid programs cannot be run this way.\n"
		"--replicate s3://BUCKET/PREFIX keeps a copy of the image in an object store while the program runs. With --image\n"
		"s3://BUCKET/PREFIX it lives there: any machine with your key, the same program and a like processor goes on with it, and\n"
		"whoever ran it before is fenced. --durable remote lets no output of --commit output go that the store has not.\n"
		"Without PROGRAM, whatever --image holds goes on.",
	.examples =
		"  thaw exec node server.js                     its image is server.thaw\n"
		"  thaw exec --every 200ms python3 train.py     lose at most a fifth of a second\n"
		"  thaw exec --restart on-failure redis-server  crash, and be there again\n"
		"  thaw exec --at 41 node server.js             go back to generation 41, or --at NAME (thaw tag)\n"
		"  thaw checkpoint server.thaw                  a generation now, from another terminal\n",
	.options = exec_options,
	.operands_min = 0,
	.operands_max = 1000000,
	.passes_on = true,
	.takes_places = true,
	.run = exec,
};
