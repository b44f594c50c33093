/* SPDX-License-Identifier: MIT */
/* pull.c - thaw pull: fetches an image from an object store, as a file of its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "cli.h"
#include "store.h"
#include "store/pull.h"

static bool progress(void *arg, const struct pull_status *status)
{
	const struct fetch_status *fetch = &status->fetch;

	return !progress_show(arg, fetch->blocks - fetch->missing,
			      fetch->blocks ? fetch->blocks : 1);
}

static void print_json(const char *place, const char *image, const struct pull_status *status)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_text(&json, "place", place);
	json_text(&json, "image", image);
	json_number(&json, "generation", status->record.generation);
	json_number(&json, "record", status->record.number);
	json_number(&json, "requests", status->counts.begun);
	json_number(&json, "bytesReceived", status->counts.received);
	json_number(&json, "fileBytes", status->record.file_bytes);
	json_close(&json, '}');
	putchar('\n');
}

/* s3://images/app -> app.thaw, here. */
static int image_of(const char *place, char image[PATH_MAX])
{
	size_t length = strlen(place);
	const char *name;

	while (length && place[length - 1] == '/')
		length--;
	name = memrchr(place, '/', length);
	name = name ? name + 1 : place;
	length -= (size_t)(name - place);
	if (!length || length > NAME_MAX - 5)
		return cli_fail(EXIT_USAGE,
				"%s: name the image that it shall become: thaw pull PLACE IMAGE",
				place);
	snprintf(image, PATH_MAX, "%.*s.thaw", (int)length, name);
	return 0;
}

static int pull(const struct cli_options *options, int operand_count, char **operands)
{
	char image[PATH_MAX];
	struct progress bar;
	struct pull_options how = {
		.place = operands[0],
		.image = image,
		.flags = options->force ? PULL_REPLACE : 0,
		.patience_ns = options->store_timeout_ns,
		.progress = progress,
		.arg = &bar,
	};
	struct pull_status status;
	struct thaw_error error = {0};
	int code;

	if (!cli_is_place(operands[0]))
		return cli_fail(EXIT_USAGE,
				"from where? thaw pull s3://BUCKET/PREFIX [IMAGE], not '%s'",
				operands[0]);
	if (operand_count > 1)
		how.image = operands[1];
	else if (image_of(operands[0], image))
		return EXIT_USAGE;
	progress_begin(&bar, "pull", options);
	interrupt_catch();
	code = pull_image(&how, &status, &error);
	progress_clear(&bar);
	if (code == -ECANCELED)
		return interrupt_fail(how.image, &error, code);
	if (code == THAW_EINUSE)
		return cli_fail_change(how.image, NULL, &error, code);
	if (code)
		return cli_fail_store(&error, code);
	if (options->json)
		print_json(operands[0], how.image, &status);
	else
		printf("%s: generation %llu; %s fetched in %s %s\n", how.image,
		       (unsigned long long)status.record.generation,
		       format_bytes(status.counts.received).s, format_count(status.counts.begun).s,
		       status.counts.begun == 1 ? "request" : "requests");
	return 0;
}

static const struct cli_option pull_options[] = {
	{"force", 0, NULL, CLI_FLAG, CLI_FIELD(force),
	 "replace a file that has the name, once the new one is whole"},
	CLI_STORE_TIMEOUT("give up once the store has failed for this long (default 30s)"),
	CLI_JSON,
	CLI_QUIET,
	CLI_HELP,
	{0},
};

const struct cli_command command_pull = {
	.name = "pull",
	.synopsis = "[options] PLACE [IMAGE]",
	.summary = "fetch an image from an object store",
	.description =
		"Fetches the newest state of the image at PLACE, s3://BUCKET/PREFIX, with all its generations and names, as a file of\n"
		"its own: without IMAGE, named as the end of PLACE, with .thaw, in this directory. The store is only read, and a program\n"
		"may be writing to it meanwhile; nobody is fenced. The file has its name once it is whole and durable. Its contents are\n"
		"checked when they are read, or by thaw verify.\n"
		"What was pulled replicates nothing: to go on with a store, use thaw run --image PLACE.",
	.examples = "  thaw pull s3://images/app            to app.thaw\n"
		    "  thaw pull s3://images/app old.thaw && thaw log old.thaw\n",
	.options = pull_options,
	.operands_min = 1,
	.operands_max = 2,
	.takes_places = true,
	.run = pull,
};
