/* SPDX-License-Identifier: MIT */
/*
 * tag.c - thaw tag: the names of generations. Giving and removing one are commits of the image
 * (thaw_image_tag), or of an image in use its program's (ctl.h); listing them reads only.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "store.h"

static const struct thaw_generation *find(const struct thaw_generation *generations, int count,
					  uint64_t number)
{
	for (int i = 0; i < count; i++)
		if (generations[i].number == number)
			return &generations[i];
	return NULL;
}

static int by_generation(const void *a, const void *b)
{
	const struct thaw_name *left = a, *right = b;

	if (left->generation != right->generation)
		return left->generation < right->generation ? -1 : 1;
	return strcmp(left->name, right->name);
}

static void print_json(const struct thaw_name *names, int count)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '[');
	for (int i = 0; i < count; i++) {
		json_open(&json, NULL, '{');
		json_text(&json, "name", names[i].name);
		json_number(&json, "generation", names[i].generation);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	putchar('\n');
}

static void print_table(const struct thaw_name *names, int count,
			const struct thaw_generation *generations, int generation_count)
{
	struct table table;

	table_init(&table, "rrll");
	table_cell(&table, "generation");
	table_cell(&table, "age");
	table_cell(&table, "kind");
	table_cell(&table, "name");
	for (int i = 0; i < count; i++) {
		const struct thaw_generation *g =
			find(generations, generation_count, names[i].generation);

		table_cell(&table, format_number(names[i].generation).s);
		table_cell(&table, g ? format_age(g->time_ns).s : "-");
		table_cell(&table, g ? kind_word(g) : "-");
		table_cell(&table, names[i].name);
	}
	table_print(&table, stdout);
}

static int list(const struct cli_options *options, const char *image)
{
	const struct thaw_generation *generations;
	const struct thaw_name *listed;
	struct thaw_image *opened;
	struct thaw_name *names;
	int count, generation_count, code = cli_open(image, &opened);

	if (code)
		return code;
	generation_count = (int)thaw_image_log(opened, &generations);
	count = (int)thaw_image_names(opened, &listed);
	names = calloc((size_t)count + 1, sizeof(*names));
	if (!names) {
		thaw_image_close(opened);
		return cli_fail(EXIT_IO, "out of memory");
	}
	for (int i = 0; i < count; i++)
		names[i] = listed[i];
	qsort(names, (size_t)count, sizeof(*names), by_generation);
	if (options->json)
		print_json(names, count);
	else if (count)
		print_table(names, count, generations, generation_count);
	else
		puts("no names yet");
	free(names);
	thaw_image_close(opened);
	return 0;
}

void tag_tell(const char *name, uint64_t generation, bool given)
{
	unsigned long long number = generation;

	if (given)
		printf("generation %llu is named %s: it stays until the name is taken away\n",
		       number, name);
	else
		printf("%s no longer names generation %llu\n", name, number);
}

static int report(const struct cli_options *options, const char *key, const char *name,
		  uint64_t generation)
{
	struct json json = {.to = stdout};

	if (options->json) {
		json_open(&json, NULL, '{');
		json_text(&json, key, name);
		json_number(&json, "generation", generation);
		json_close(&json, '}');
		putchar('\n');
	} else {
		tag_tell(name, generation, !strcmp(key, "name"));
	}
	return 0;
}

static int take_away(const struct cli_options *options, const char *image)
{
	struct thaw_error error = {0};
	uint64_t generation = 0;
	unsigned tries = 0;
	bool taken;
	/* Finds it by its name: a name is never a number. */
	int code = cli_generation(image, options->remove, &generation);

	if (code)
		return code;
	do
		code = thaw_image_untag(image, options->remove, &error);
	while (ctl_again(image, code, &tries, &taken) ||
	       (taken && (code = ctl_untag(options, image, options->remove, &tries)) == CTL_ENDED));
	if (taken)
		return code;
	return code ? cli_fail_change(image, NULL, &error, code)
		    : report(options, "deleted", options->remove, generation);
}

static int give(const struct cli_options *options, const char *image, const char *name,
		const char *word)
{
	struct thaw_error error = {0};
	uint64_t generation = 0;
	unsigned tries = 0;
	bool taken;
	int code = word ? cli_generation(image, word, &generation) : 0;

	if (code)
		return code;
	do
		code = thaw_image_tag(image, name, generation, options->force ? THAW_TAG_MOVE : 0,
				      &error);
	while (ctl_again(image, code, &tries, &taken) ||
	       (taken && (code = ctl_tag(options, image, name, word, &tries)) == CTL_ENDED));
	if (taken)
		return code;
	if (code)
		return cli_fail_change(image, NULL, &error, code);
	code = cli_generation(image, name, &generation);
	return code ? code : report(options, "name", name, generation);
}

static int tag(const struct cli_options *options, int count, char **operands)
{
	int code;

	if (options->remove && count > 1)
		return cli_fail(EXIT_USAGE,
				"-d %s and '%s': take a name away or give one, not both at a time",
				options->remove, operands[1]);
	if (!options->remove && count == 1)
		return list(options, operands[0]);
	code = cli_whole(operands[0], true);
	if (code)
		return code;
	if (options->remove)
		return take_away(options, operands[0]);
	return give(options, operands[0], operands[1], count > 2 ? operands[2] : NULL);
}

static const struct cli_option tag_options[] = {
	{"delete", 'd', "NAME", CLI_TEXT, CLI_FIELD(remove), "take this name away"},
	{"force", 'f', NULL, CLI_FLAG, CLI_FIELD(force),
	 "move the name, if another generation has it"},
	CLI_JSON,
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_tag = {
	.name = "tag",
	.synopsis = "[options] IMAGE [NAME [GENERATION]]",
	.summary = "name a generation, which keeps it; or list the names",
	.description =
		"Gives GENERATION (a number or another of its names; default: the newest) a name. A generation that has a\n"
		"name is kept, whatever --retain says, and the name can be used wherever a number can. A generation may have\n"
		"several names. Without NAME, lists them.\n"
		"A name is 1 to 63 of A-Z a-z 0-9 . _ / : @ + -, does not begin with '-' and is not a number.\n"
		"While a program has the image open, it is that program which gives and takes names (thaw ctl); it can name its own\n"
		"generations, too: checkpoint({ name: 'NAME' }) of the module thaw.",
	.examples =
		"  thaw tag app.thaw before-migration       name the newest generation\n"
		"  thaw tag app.thaw good 41                name generation 41\n"
		"  thaw tag -f app.thaw good                ... and now the newest instead\n"
		"  thaw tag -d good app.thaw                remove the name: --retain decides again\n"
		"  thaw tag app.thaw                        which names are there?\n",
	.options = tag_options,
	.operands_min = 1,
	.operands_max = 3,
	.run = tag,
};
