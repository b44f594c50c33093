/* SPDX-License-Identifier: MIT */
/* push.c - thaw push: stores an image that no program has open in an object store, or what has changed of it since. */
#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cli.h"
#include "control/numbers.h"
#include "store.h"
#include "store/push.h"

struct pushing {
	struct progress bar;
	uint64_t total; /* bytes that the file system holds for the image */
};

static bool progress(void *arg, const struct replication_status *status)
{
	struct pushing *pushing = arg;
	uint64_t done = status->bytes_blocks < pushing->total ? status->bytes_blocks
							      : pushing->total;

	return !progress_show(&pushing->bar, done, pushing->total);
}

static void print_json(char **operands, const struct replication_status *status)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_text(&json, "image", operands[0]);
	json_text(&json, "place", operands[1]);
	json_number(&json, "generation", status->generation);
	json_number(&json, "record", status->record);
	json_number(&json, "epoch", status->epoch);
	json_number(&json, "requests", status->requests);
	json_number(&json, "bytesSent", status->bytes_sent);
	json_number(&json, "bytesRead", status->bytes_blocks);
	json_number(&json, "objectsStored", status->objects_stored);
	json_number(&json, "bytesStored", status->bytes_stored);
	json_close(&json, '}');
	putchar('\n');
}

static int push(const struct cli_options *options, int operand_count, char **operands)
{
	struct pushing pushing = {.total = 1};
	const struct push_options how = {
		.place = operands[1],
		.image = operands[0],
		.flags = EPOCH_BEGIN | (options->replace ? EPOCH_REPLACE : 0),
		.progress = progress,
		.arg = &pushing,
	};
	struct replication_status status = {0};
	struct thaw_error error = {0};
	struct stat file;
	int code;

	(void)operand_count;
	if (!cli_is_place(operands[1]))
		return cli_fail(EXIT_USAGE,
				"where to? thaw push IMAGE s3://BUCKET/PREFIX, not '%s'",
				operands[1]);
	code = cli_whole(operands[0], false);
	if (code)
		return code;
	if (!stat(operands[0], &file) && file.st_blocks)
		pushing.total = (uint64_t)file.st_blocks * 512;
	progress_begin(&pushing.bar, "push", options);
	interrupt_catch();
	code = push_image(&how, &status, &error);
	progress_clear(&pushing.bar);
	if (code == -ECANCELED)
		return interrupt_fail(operands[0], &error, code);
	if (code == THAW_EINUSE)
		return cli_fail_change(
			operands[0],
			"or have it replicate itself (thaw run, exec --replicate), or push a clone (thaw clone)",
			&error, code);
	if (code)
		return cli_fail_store(&error, code);
	if (options->json)
		print_json(operands, &status);
	else
		printf("%s has generation %llu; %s sent in %s %s, it has %s\n", operands[1],
		       (unsigned long long)status.generation, format_bytes(status.bytes_sent).s,
		       format_count(status.requests).s,
		       status.requests == 1 ? "request" : "requests",
		       format_bytes(status.bytes_stored).s);
	return 0;
}

static const struct cli_option push_options[] = {
	CLI_REPLACE, CLI_JSON, CLI_QUIET, CLI_IMAGE_KEY, CLI_HELP, {0},
};

const struct cli_command command_push = {
	.name = "push",
	.synopsis = "[options] IMAGE PLACE",
	.summary = "store an image in an object store, or what has changed of it",
	.description =
		"Stores an image, with all its generations and names, at PLACE, s3://BUCKET/PREFIX, of which one image has all. What\n"
		"the store has already is not sent again. Elsewhere thaw run --image PLACE or thaw exec --image PLACE goes on from it\n"
		"at once, and thaw pull fetches it. A program that has the image open replicates it itself: thaw run --replicate.\n"
		"A store that was continued elsewhere since is refused, and so is one that has another image. --replace gives it this\n"
		"one's state all the same, if it is the same image; whoever continues it now is told, and replicates no more.\n"
		"What is stored is as encrypted as the image is. Credentials and endpoint come from the environment and the files of\n"
		"AWS's tools; thaw(7) has all of it, Object stores.",
	.examples = "  thaw push app.thaw s3://images/app\n",
	.options = push_options,
	.operands_min = 2,
	.operands_max = 2,
	.takes_places = true,
	.run = push,
};
