/* SPDX-License-Identifier: MIT */
/*
 * look.c - thaw eval: evaluates code in a program as its image has it, and leaves. No generation is made, whatever the
 * code changes in memory; the image of a program that runs is looked at in a copy.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failure.h"
#include "cli.h"

struct copy { /* of an image in use; empty: none was made */
	char directory[PATH_MAX], image[PATH_MAX + 8];
};

static void copy_remove(struct copy *copy)
{
	if (!*copy->directory)
		return;
	unlink(copy->image);
	rmdir(copy->directory);
	*copy->directory = '\0';
}

/* Beside the image, where it may share its blocks; else where files that nobody needs are. */
static bool copy_place(struct copy *copy, const char *image)
{
	const char *slash = strrchr(image, '/'), *temporary = getenv("TMPDIR");

	snprintf(copy->directory, sizeof(copy->directory), "%.*s.thaw-eval-XXXXXX",
		 slash ? (int)(slash + 1 - image) : 0, image);
	if (!mkdtemp(copy->directory)) {
		snprintf(copy->directory, sizeof(copy->directory), "%s/thaw-eval-XXXXXX",
			 temporary && *temporary ? temporary : "/tmp");
		if (!mkdtemp(copy->directory)) {
			*copy->directory = '\0';
			return false;
		}
	}
	snprintf(copy->image, sizeof(copy->image), "%s/image", copy->directory);
	return true;
}

/* Its newest generation, or that of --at. */
static int copy_make(struct copy *copy, const struct runtime_options *options,
		     struct thaw_error *error)
{
	int code;

	if (!copy_place(copy, options->image))
		return failure(error, -errno, "no place for a copy of %s: %s", options->image,
			       strerror(errno));
	code = thaw_image_clone(options->image, copy->image, options->generation, NULL, NULL,
				error);
	if (code)
		copy_remove(copy);
	return code;
}

/* What the program itself has by now, only it can tell. */
static void tell_use(const struct runtime_options *options, struct runtime *runtime)
{
	const struct thaw_generation *opened = thaw_opened(runtime_heap(runtime));

	cli_fail(
		0,
		"%s is in use: this is generation %llu, %s old; thaw ctl %s eval CODE asks the program itself",
		options->image, (unsigned long long)opened->number, format_age(opened->time_ns).s,
		options->image);
}

static int open_program(struct runtime_options *options, struct copy *copy,
			struct runtime **runtime, struct thaw_error *error)
{
	const struct runtime_options asked = *options;
	int code = runtime_open(options, runtime, error);
	bool used = code == THAW_EINUSE;

	/* In use, or not to be written to: it can be read. */
	if (code != THAW_EINUSE && code != -EACCES && code != -EPERM && code != -EROFS)
		return code;
	code = copy_make(copy, options, error);
	if (code)
		return code;
	options->image = copy->image;
	code = runtime_open(options, runtime, error);
	if (!code && used && !options->quiet)
		tell_use(&asked, *runtime);
	return code;
}

static void print_json(const char *image, const struct runtime_answer *answer, uint64_t generation,
		       bool good)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_text(&json, "image", image);
	json_number(&json, "generation", generation);
	json_bool(&json, "ok", good);
	json_text(&json, good ? "result" : "exception", answer->text + answer->head);
	json_close(&json, '}');
	putchar('\n');
}

static int look(const struct cli_options *options, int count, char **operands)
{
	struct runtime_options runtime_options = cli_runtime_options(options);
	struct runtime_answer answer;
	struct thaw_error error = {0};
	struct copy copy = {0};
	struct runtime *runtime;
	int code;

	runtime_options.image = operands[0];
	runtime_options.must_exist = runtime_options.looks = runtime_options.asks = true;
	runtime_options.plain_result = true;
	runtime_options.every_ns = 0;
	runtime_options.argument_count = count - 2;
	runtime_options.arguments = operands + 2;
	code = cli_colours(options, isatty(STDOUT_FILENO) && !options->json,
			   &runtime_options.colours);
	if (!code)
		code = cli_at(options, &runtime_options);
	if (code)
		return code;
	code = open_program(&runtime_options, &copy, &runtime, &error);
	if (code) {
		copy_remove(&copy);
		return cli_fail_error(&error, code);
	}
	code = runtime_eval(runtime, operands[1], strlen(operands[1]), "[eval]", &answer);
	if (answer.text && options->json)
		print_json(operands[0], &answer, thaw_opened(runtime_heap(runtime))->number, !code);
	else
		cli_tell_answer(&answer, code, true);
	cli_flush();
	free(answer.text);
	runtime_close(runtime);
	copy_remove(&copy);
	return code;
}

static const struct cli_option look_options[] = {
	CLI_AT("look at"),
	CLI_TRUST,
	CLI_COLOR,
	{"json", 0, NULL, CLI_FLAG, CLI_FIELD(json), "the result as one JSON object on stdout"},
	{"quiet", 'q', NULL, CLI_FLAG, CLI_FIELD(quiet), "no notes on stderr, only errors"},
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_look = {
	.name = "eval",
	.synopsis = "[options] IMAGE CODE [arguments]",
	.summary = "look at a program's variables; nothing is changed",
	.description =
		"Evaluates CODE in the program as its image has it, prints the result and leaves. Nothing of it is kept: no\n"
		"generation is made, and what CODE changes in memory is gone. The image may be in use: then a copy of\n"
		"its newest generation is looked at, which takes time and room where files cannot share their blocks.\n"
		"The program itself does not go on, unless CODE awaits something; what CODE does outside (files it writes) stays.\n"
		"thaw ctl IMAGE eval CODE asks the program that runs, instead, and what CODE changes there stays. So it does with\n"
		"thaw -i IMAGE -p CODE, which makes a generation.",
	.examples = "  thaw eval app.thaw 'state.size'          what the newest generation holds\n"
		    "  thaw eval --json app.thaw 'state.size'   the same as one JSON object\n",
	.options = look_options,
	.operands_min = 2,
	.operands_max = 1000000,
	.passes_on = false,
	.run = look,
};
