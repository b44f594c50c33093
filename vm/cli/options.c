/* SPDX-License-Identifier: MIT */
/*
 * options.c - reads argv into struct cli_options by the table of the command, and prints the
 * command's help from the same table. It knows no command.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "control/numbers.h"
#include "policy/key.h"
#include "store.h"
#include "store/place.h"

#define OPTIONS_MAX 40

/* Escaped: the name of a file, or what an image contains, must not control the terminal. */
static int output_error; /* of the first write that failed */

void cli_flush(void)
{
	if (fflush(stdout) && !output_error)
		output_error = errno;
}

void cli_write(const void *bytes, size_t count)
{
	if (fwrite(bytes, 1, count, stdout) < count && !output_error)
		output_error = errno;
}

int cli_output_end(void)
{
	cli_flush();
	if (output_error == EPIPE)
		return 128 + SIGPIPE; /* nobody reads, and nobody wants to hear of it */
	if (output_error)
		return cli_fail(EXIT_IO, "standard output: %s", strerror(output_error));
	if (ferror(stdout))
		return cli_fail(EXIT_IO, "standard output: not all of it could be written");
	return 0;
}

int cli_fail(int exit_code, const char *format, ...)
{
	char *line = NULL, *escaped = NULL;
	va_list arguments;
	size_t length;

	va_start(arguments, format);
	if (vasprintf(&line, format, arguments) < 0)
		line = NULL;
	va_end(arguments);
	length = line ? thaw_escape(line, NULL, 0) + 1 : 0;
	escaped = length ? malloc(length) : NULL;
	if (escaped)
		thaw_escape(line, escaped, length);
	cli_flush();
	fprintf(stderr, "thaw: %s\n", escaped ? escaped : "out of memory");
	free(escaped);
	free(line);
	return exit_code;
}

int cli_fail_error(const struct thaw_error *error, int code)
{
	return cli_fail(runtime_exit_code(code), "%s",
			error->text[0] ? error->text : thaw_strerror(code));
}

bool cli_file_exists(const char *path)
{
	struct stat status;

	return !stat(path, &status) && S_ISREG(status.st_mode) && status.st_size > 0;
}

/*
 * Edits (insert, delete, replace) between two short words; Wagner and Fischer 1974, one row kept.
 */
static unsigned distance(const char *a, const char *b)
{
	size_t columns = strlen(b);
	unsigned row[64];

	if (columns >= 64)
		return 64;
	for (size_t j = 0; j <= columns; j++)
		row[j] = (unsigned)j;
	for (size_t i = 0; a[i]; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i + 1;
		for (size_t j = 0; j < columns; j++) {
			unsigned best = diagonal + (a[i] != b[j]);

			diagonal = row[j + 1];
			if (diagonal + 1 < best)
				best = diagonal + 1;
			if (row[j] + 1 < best)
				best = row[j] + 1;
			row[j + 1] = best;
		}
	}
	return row[columns];
}

const char *cli_nearest(const char *word, const char *const *candidates)
{
	const char *nearest = NULL;
	unsigned best = 3; /* with more edits, it is another word */

	for (; *candidates; candidates++) {
		unsigned d = distance(word, *candidates);

		if (d < best && d < strlen(*candidates)) {
			best = d;
			nearest = *candidates;
		}
	}
	return nearest;
}

/* ---- Help ---- */

void cli_help(const struct cli_command *command)
{
	struct table table;

	printf("usage: thaw %s%s%s\n\n%s\n", command->name, *command->name ? " " : "",
	       command->synopsis, command->description);
	printf("\noptions:\n");
	table_init(&table, "ll");
	for (const struct cli_option *option = command->options; option->name; option++) {
		char left[80];

		snprintf(left, sizeof(left), "  %c%c%s--%s%s%s", option->letter ? '-' : ' ',
			 option->letter ? option->letter : ' ', option->letter ? ", " : "  ",
			 option->name, option->argument ? " " : "",
			 option->argument ? option->argument : "");
		table_cell(&table, left);
		table_cell(&table, option->help);
	}
	table_print(&table, stdout);
	if (command->examples)
		printf("\nexamples:\n%s", command->examples);
}

/* The command line for help, to be put in an error message. */
static const char *help_hint(const struct cli_command *command)
{
	static char hint[64];

	snprintf(hint, sizeof(hint), "thaw %s%s--help", command->name, *command->name ? " " : "");
	return hint;
}

/* ---- Parsing ---- */

static int unknown_option(const struct cli_command *command, const char *given)
{
	const char *names[OPTIONS_MAX + 1], *nearest;
	unsigned count = 0;
	char word[64];

	for (const struct cli_option *option = command->options; option->name; option++)
		names[count++] = option->name;
	names[count] = NULL;
	snprintf(word, sizeof(word), "%s", given + strspn(given, "-"));
	word[strcspn(word, "=")] = '\0';
	nearest = given[0] == '-' && given[1] == '-' ? cli_nearest(word, names) : NULL;
	if (nearest)
		return cli_fail(EXIT_USAGE, "unknown option %s (did you mean --%s?); see %s", given,
				nearest, help_hint(command));
	return cli_fail(EXIT_USAGE, "unknown option %s; see %s", given, help_hint(command));
}

/* Store one option. Returns 0 or EXIT_USAGE. */
static int take(const struct cli_option *option, const char *argument, struct cli_options *options)
{
	void *field = (char *)options + option->offset;
	char why[160];

	switch (option->kind) {
	case CLI_FLAG:
		*(bool *)field = true;
		return 0;
	case CLI_CODE:
		if (options->code)
			return cli_fail(EXIT_USAGE, "-e and -p: one piece of code at a time");
		options->code = argument;
		options->print = option->letter == 'p';
		return 0;
	case CLI_TEXT:
		*(const char **)field = argument;
		return 0;
	case CLI_NUMBER:
		if (parse_number(argument, field) && *(uint64_t *)field > 0)
			return 0;
		return cli_fail(EXIT_USAGE, "--%s wants a number from 1 up, not '%s'", option->name,
				argument);
	case CLI_DURATION:
		if (parse_duration(argument, field))
			return 0;
		return cli_fail(EXIT_USAGE,
				"--%s wants a time such as 250ms, 1s, 2min or 0, not '%s'",
				option->name, argument);
	case CLI_RETENTION:
		if (parse_retention(argument, field, why, sizeof(why)))
			return 0;
		return cli_fail(EXIT_USAGE,
				"--%s: %s; it wants N or COUNT/PERIOD, with commas between: "
				"8,10/min,24/hour,4/15min (s, min, hour, day, week)",
				option->name, why);
	}
	return EXIT_USAGE;
}

/*
 * Makes getopt's tables from ours. The value of an option is its index + 256. '+' makes getopt stop
 * at the first operand; '-' makes it return each operand as the argument of an option 1.
 */
static void getopt_tables(const struct cli_command *command, struct option *long_options,
			  char *letters)
{
	unsigned count = 0;

	*letters++ = command->passes_on ? '+' : '-';
	*letters++ = ':';
	for (const struct cli_option *option = command->options; option->name; option++, count++) {
		int argument = option->argument ? required_argument : no_argument;

		long_options[count] =
			(struct option){option->name, argument, NULL, (int)count + 256};
		if (!option->letter)
			continue;
		*letters++ = option->letter;
		if (option->argument)
			*letters++ = ':';
	}
	long_options[count] = (struct option){0};
	*letters = '\0';
}

static const struct cli_option *find(const struct cli_command *command, int value)
{
	if (value >= 256)
		return &command->options[value - 256];
	for (const struct cli_option *option = command->options; option->name; option++)
		if (option->letter == value)
			return option;
	return NULL;
}

/*
 * Options may stand before, between and after the operands. The operands are moved to argv[1] and
 * so on; `operands` is how many there are.
 */
static int parse(const struct cli_command *command, int argc, char **argv,
		 struct cli_options *options, int *operands)
{
	struct option long_options[OPTIONS_MAX + 1];
	char letters[2 * OPTIONS_MAX + 3];
	int value, code;

	getopt_tables(command, long_options, letters);
	opterr = 0;
	optind = 1;
	*operands = 0;
	for (;;) {
		int at = optind;

		value = getopt_long(argc, argv, letters, long_options, NULL);
		if (value == 1) { /* an operand; getopt has passed it */
			argv[++*operands] = optarg;
			continue;
		}
		if (value == -1) {
			while (optind < argc)
				argv[++*operands] = argv[optind++];
			return 0;
		}
		if (value == '?' && optopt >= 256) /* --json=yes */
			return cli_fail(EXIT_USAGE, "%s: the option takes no argument; see %s",
					argv[at], help_hint(command));
		if (value == '?')
			return unknown_option(command, argv[at]);
		if (value == ':')
			return cli_fail(EXIT_USAGE, "%s wants %s; see %s", argv[at],
					find(command, optopt)->argument, help_hint(command));
		code = take(find(command, value), optarg, options);
		if (code)
			return code;
	}
}

/* A name without a directory would be a key to THAW_KEY. */
int cli_key_path(const char *option, const char *file, char path[PATH_MAX])
{
	if (snprintf(path, PATH_MAX, "%s%s", strchr(file, '/') ? "" : "./", file) >= PATH_MAX ||
	    !*file)
		return cli_fail(EXIT_USAGE, "%s wants the path of a file", option);
	return 0;
}

static int use_key(const char *file)
{
	static char path[PATH_MAX];
	int code = cli_key_path("--key", file, path);

	if (!code)
		key_use_file(path);
	return code;
}

/* Where a file is wanted, and a place in an object store is named. 0, or EXIT_USAGE after printing what there is. */
static int in_a_store(const struct cli_command *command, const struct cli_options *options,
		      int count, char **operands)
{
	const char *place = options->image && cli_is_place(options->image) ? options->image
			    : count && !command->passes_on && cli_is_place(*operands) ? *operands
										      : NULL;

	if (options->image && !place && !strncasecmp(options->image, "s3:/", 4))
		return cli_fail(EXIT_USAGE,
				"'%s' is neither s3://BUCKET/PREFIX nor the path of a file (./%s)",
				options->image, options->image);
	if (options->fork_of && cli_is_place(options->fork_of))
		return cli_fail(EXIT_USAGE,
				"--fork-of wants a file, not %s: thaw pull fetches what it has",
				options->fork_of);
	if (!place || command->takes_places)
		return 0;
	return cli_fail(
		EXIT_USAGE,
		"thaw %s wants a file: thaw run or exec --image %s go on from a store, thaw pull fetches "
		"what it has, thaw log tells what that is",
		command->name, place);
}

int cli_dispatch(const struct cli_command *command, int argc, char **argv)
{
	struct cli_options options = {.every_ns = 1000000000,
				      .time_limit_ns = 30000000000,
				      .store_timeout_ns = 30000000000,
				      .replicate_every_ns = CLI_REPLICATE_DEFAULT};
	int operands, code;

	code = parse(command, argc, argv, &options, &operands);
	if (code)
		return code;
	if (options.help) {
		cli_help(command);
		return 0;
	}
	if ((unsigned)operands < command->operands_min)
		return cli_fail(EXIT_USAGE, "usage: thaw %s %s; see %s", command->name,
				command->synopsis, help_hint(command));
	if ((unsigned)operands > command->operands_max)
		return cli_fail(EXIT_USAGE, "'%s' is one argument too many; see %s",
				argv[command->operands_max + 1], help_hint(command));
	code = in_a_store(command, &options, operands, argv + 1);
	if (code)
		return code;
	code = options.key ? use_key(options.key) : 0;
	if (command != &command_top &&
	    command != &command_completion) /* they look at what there is */
		key_ask_for_passphrases();
	return code ? code : command->run(&options, operands, argv + 1);
}

/* ---- What several commands need ---- */

void cli_tell_answer(const struct runtime_answer *answer, int code, bool shows)
{
	if (code == EXIT_EXCEPTION) {
		runtime_tell_exception(answer);
	} else if (answer->text && shows) {
		cli_write(answer->text, answer->bytes);
		putchar('\n');
	}
	cli_flush();
}

struct runtime_options cli_runtime_options(const struct cli_options *options)
{
	return (struct runtime_options){
		.image = options->image,
		.fresh = options->fresh,
		.encrypt = options->encrypt,
		.trust = options->trust,
		.retain = options->retention.newest,
		.thinning = options->retention.rules,
		.thinning_count = options->retention.rule_count,
		.every_ns = options->every_ns,
		.quiet = options->quiet,
		.verbose = options->verbose,
		.self_contained = options->self_contained,
	};
}

int cli_control(const struct cli_options *options, struct runtime_options *runtime_options)
{
	const struct control_options how = {
		.metrics = options->metrics, .quiet = options->quiet, .verbose = options->verbose};
	struct thaw_error error = {0};
	int code = runtime_options->image ? control_open(&how, &runtime_options->control, &error)
					  : 0;

	return code ? cli_fail(code == -ENOENT ? EXIT_NO_KERNEL : runtime_exit_code(code), "%s",
			       error.text)
		    : 0;
}

int cli_commit(const struct cli_options *options, struct runtime_options *runtime_options)
{
	const char *commit = options->commit ? options->commit : "none";

	runtime_options->commit_output = !strcmp(commit, "output");
	runtime_options->commit_interval_ns = options->commit_interval_ns;
	if (!runtime_options->commit_output && strcmp(commit, "none"))
		return cli_fail(EXIT_USAGE, "--commit is none or output, not '%s'", commit);
	if (!runtime_options->commit_output && options->commit_interval_ns)
		return cli_fail(EXIT_USAGE,
				"--commit-interval is for --commit output, which was not given");
	return 0;
}

static bool is_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value;
}

/* no-color.org and force-color.org; FORCE_COLOR=0 as in node. */
int cli_colours(const struct cli_options *options, bool terminal, bool *colours)
{
	const char *when = options->color ? options->color : "auto", *type = getenv("TERM");

	if (strcmp(when, "auto") && strcmp(when, "always") && strcmp(when, "never"))
		return cli_fail(EXIT_USAGE, "--color is auto, always or never, not '%s'", when);
	if (strcmp(when, "auto"))
		*colours = !strcmp(when, "always");
	else if (is_set("FORCE_COLOR"))
		*colours = strcmp(getenv("FORCE_COLOR"), "0") != 0;
	else
		*colours = terminal && !is_set("NO_COLOR") && type && strcmp(type, "dumb");
	return 0;
}

int cli_prefetch(const char *prefetch, unsigned *flags)
{
	if (!prefetch || !strcmp(prefetch, "none"))
		*flags = 0;
	else if (!strcmp(prefetch, "working-set"))
		*flags = THAW_PREFETCH_WORKING_SET;
	else if (!strcmp(prefetch, "all"))
		*flags = THAW_PREFETCH_WORKING_SET | THAW_PREFETCH;
	else
		return cli_fail(EXIT_USAGE, "--prefetch is none, working-set or all, not '%s'",
				prefetch);
	return 0;
}

int cli_compress(const char *compress, unsigned *how)
{
	unsigned level = 3;
	char end;

	if (!compress || !strcmp(compress, "none"))
		*how = THAW_COMPRESS_NONE;
	else if (!strcmp(compress, "lz4"))
		*how = THAW_COMPRESS_LZ4;
	else if (!strcmp(compress, "zstd") ||
		 (!strncmp(compress, "zstd:", 5) && compress[5] >= '0' && compress[5] <= '9' &&
		  sscanf(compress, "zstd:%2u%c", &level, &end) == 1 && level >= 1 && level <= 19))
		*how = THAW_COMPRESS_ZSTD(level);
	else
		return cli_fail(
			EXIT_USAGE,
			"--compress is none, lz4, or zstd or zstd:LEVEL with a level from 1 to 19, not '%s'",
			compress);
	return 0;
}

void cli_settle(const char *path)
{
	struct thaw_error error = {0};

	if (thaw_image_settle(path, &error))
		cli_fail(0, "newer generations than these are in its log: %s", error.text);
}

static int open_settled(const char *path, struct thaw_image **image)
{
	struct thaw_error error = {0};
	int code;

	cli_settle(path);
	code = thaw_image_open(path, image, &error);

	return code ? cli_fail_error(&error, code) : 0;
}

int cli_open(const char *path, struct thaw_image **image)
{
	struct thaw_error error = {0};

	if (place_is_incomplete(path, &error) > 0)
		cli_fail(0, "%s", error.text);
	return open_settled(path, image);
}

int cli_find(const struct thaw_image *image, const char *word, uint64_t *generation)
{
	struct thaw_error error = {0};
	int code = thaw_image_find(image, word, generation, &error);

	return code ? cli_fail_error(&error, code) : 0;
}

int cli_generation(const char *path, const char *word, uint64_t *generation)
{
	struct thaw_image *image;
	int code = cli_open(path, &image);

	if (!code)
		code = cli_find(image, word, generation);
	thaw_image_close(image);
	return code;
}

int cli_fail_change(const char *image, const char *instead, const struct thaw_error *error,
		    int code)
{
	char holder[48] = "a program";
	struct thaw_image_info info;
	struct thaw_image *opened;

	if (code != THAW_EINUSE)
		return cli_fail(code == -EEXIST ? EXIT_USAGE : runtime_exit_code(code), "%s",
				error->text[0] ? error->text : thaw_strerror(code));
	if (!thaw_image_open(image, &opened, NULL) &&
	    !thaw_image_info(opened, false, &info, NULL) && info.holder)
		snprintf(holder, sizeof(holder), "process %llu", (unsigned long long)info.holder);
	thaw_image_close(opened);
	return cli_fail(EXIT_IMAGE_IN_USE, "%s: %s has it open: stop it first%s%s", image, holder,
			instead ? ", " : "", instead ? instead : "");
}

bool cli_again(int code, unsigned *tries)
{
	if (code != THAW_EINUSE || ++*tries > 50)
		return false;
	nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	return true;
}

int cli_at(const struct cli_options *options, struct runtime_options *runtime_options)
{
	struct thaw_image *image;
	int code;

	if (!options->at)
		return 0;
	if (options->fresh)
		return cli_fail(EXIT_USAGE, "--fresh and --at exclude each other");
	if (!runtime_options->image)
		return cli_fail(EXIT_USAGE, "--at %s: of which image? Name it with --image",
				options->at);
	/* What is missing of an image that lives in a store comes when it is read. */
	code = open_settled(runtime_options->image, &image);
	if (!code)
		code = cli_find(image, options->at, &runtime_options->generation);
	thaw_image_close(image);
	return code;
}

void cli_stats(struct runtime *runtime, const struct cli_options *options)
{
	struct numbers_replica replica;
	struct runtime_stats stats;

	if (!options->stats && !options->json)
		return;
	fflush(stdout);
	runtime_stats(runtime, &stats);
	runtime_replica(runtime, &replica);
	runtime_stats_print(&stats, &replica, options->json, STDERR_FILENO);
}
