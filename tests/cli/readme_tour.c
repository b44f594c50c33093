// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tour in the README can be typed as it stands: each line behind a "$" is run, in one shell and in that order, and what it
 * prints is what stands below it. A command without an answer in the README only has to succeed.
 *
 * What depends on when a program was killed is compared by its form: how often the counter counted, and numbers of
 * generations and pages. That the counter never goes back, and never skips a number, is checked by itself.
 */
#define _GNU_SOURCE
#include <ctype.h>

#include "kselftest_harness.h"

#include "support.h"

#define COMMANDS_MAX 64

struct command {
	char *text;	/* as it is typed, with the lines of a here-document */
	char *expected; /* what stands below it */
};

struct tour {
	struct command commands[COMMANDS_MAX];
	unsigned count;
};

static void append(char **text, const char *line)
{
	char *longer = support_format("%s%s\n", *text ? *text : "", line);

	free(*text);
	*text = longer;
}

/* The indented lines of the section "A tour". */
static void tour_read(struct tour *tour, FILE *readme)
{
	char *line = NULL, *text;
	struct command *command = NULL;
	bool inside = false, here = false;
	size_t room = 0;

	while (getline(&line, &room, readme) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "## ", 3))
			inside = !strcmp(line, "## A tour");
		if (!inside || (!here && strncmp(line, "    ", 4)))
			continue;
		text = line + (strncmp(line, "    ", 4) ? 0 : 4);
		if (!here && !strncmp(text, "$ ", 2)) {
			command = &tour->commands[tour->count++];
			if (tour->count == COMMANDS_MAX)
				break;
			append(&command->text, text + 2);
			here = strstr(text, "<<'END'") != NULL;
		} else if (here) {
			append(&command->text, text);
			here = strcmp(text, "END") != 0;
		} else if (command) {
			append(&command->expected, text);
		}
	}
	free(line);
}

static void tour_free(struct tour *tour)
{
	for (unsigned i = 0; i < tour->count; i++) {
		free(tour->commands[i].text);
		free(tour->commands[i].expected);
	}
}

/* One script of all the commands, and a mark behind the answer of each. */
static char *tour_script(const struct tour *tour)
{
	char *script = NULL;

	for (unsigned i = 0; i < tour->count; i++) {
		char *mark = support_format("echo \"@@ $?\"");

		append(&script, tour->commands[i].text);
		append(&script, mark);
		free(mark);
	}
	return script;
}

/* A line in the form in which it is compared; empty: it is not. */
static char *form_of(const char *line)
{
	char *form = support_format("%s", line), *to = form;

	if (!strncmp(line, "n is ", 5) || !strncmp(line, "continued from ", 15) ||
	    !strncmp(line, "visit ", 6)) {
		*form = '\0';
		return form;
	}
	/* bash -c and scripts say which process and which line, too. */
	if (strstr(line, " Killed ") || !strcmp(line, "Killed"))
		return strcpy(form, "Killed");
	if (strncmp(line, "generation ", 11))
		return form;
	for (const char *from = line; *from; from++) {
		if (isdigit((unsigned char)*from) ||
		    (*from == '.' && isdigit((unsigned char)from[1]))) {
			if (to == form || to[-1] != '#')
				*to++ = '#';
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return form;
}

/* The lines of a text in the form in which they are compared. Takes it apart. */
static char *forms_of(char *text)
{
	char *forms = NULL, *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		char *form = form_of(line);

		if (*form)
			append(&forms, form);
		free(form);
	}
	return forms ? forms : support_format("%s", "");
}

/*
 * What a counter printed behind `word`: no number is skipped, and after a kill some are printed again that had been
 * printed, but it never begins anew.
 */
static const char *counted_wrong(const char *output, const char *word)
{
	unsigned long last = 0, number;

	for (const char *line = output; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, word, strlen(word)))
			continue;
		number = strtoul(line + strlen(word), NULL, 10);
		if (number > last + 1)
			return "the counter skipped a number";
		if (last && number == 1)
			return "the counter began anew";
		last = number;
	}
	return last < 2 ? "the counter hardly counted" : NULL;
}

FIXTURE(readme)
{
	struct tour tour;
	struct program program;
	char *directory;
};
FIXTURE_SETUP(readme)
{
	self->directory = support_directory();
}
FIXTURE_TEARDOWN(readme)
{
	tour_free(&self->tour);
	program_free(&self->program);
	support_remove(self->directory);
}

/* The checkout, as the tour has it: with the build that is tested, a compiler that links a sanitizer, and more time. */
static void checkout(const char *directory)
{
	char *build = support_format("%s", THAW_BINARY), *line;
	struct program program = {0};
	unsigned patience = test_patience_now(), most = 4 * test_patience();

	*strrchr(build, '/') = '\0';
	line = support_format(
		"cd '%s' && mkdir bin home && ln -s '%s' build && ln -s '%s/uffd' uffd &&"
#ifdef __SANITIZE_ADDRESS__
		"printf '#!/bin/sh\\nexec /usr/bin/cc -fsanitize=address,undefined \"$@\"\\n' >bin/cc &&"
#endif
		"printf '#!/bin/sh\\ns=$(echo \"$3\" | awk \"{print \\\\$1 * %u}\"); a=$1 b=$2; shift 3\\n"
		"exec /usr/bin/timeout $a $b $s \"$@\"\\n' >bin/timeout && chmod 755 bin/*",
		directory, build, THAW_SOURCE, patience < most ? patience : most);
	if (program_run(&program, NULL, (const char *[]){"/bin/sh", "-c", line, NULL}))
		support_die(program.errors);
	program_free(&program);
	free(line);
	free(build);
}

TEST_F(readme, the_tour_can_be_typed)
{
	char *script, *line, *rest, *mark;
	FILE *readme = fopen(THAW_SOURCE "/README.md", "r");

	if (!readme || access("/bin/bash", X_OK) || access("/usr/bin/cc", X_OK)) {
		if (readme)
			fclose(readme);
		SKIP(return, "the README, bash or a compiler is not here");
	}
	tour_read(&self->tour, readme);
	fclose(readme);
	ASSERT_LT(10, self->tour.count);
	ASSERT_GT(COMMANDS_MAX, self->tour.count);
	checkout(self->directory);
	script = tour_script(&self->tour);
	line = support_format(
		"cd '%s' && PATH=$PWD/bin:$PATH HOME=$PWD/home TMPDIR=$PWD exec bash -c \"$0\" 2>&1",
		self->directory);
	program_run(&self->program, NULL, (const char *[]){"/bin/bash", "-c", line, script, NULL});
	free(line);
	free(script);
	EXPECT_EQ(NULL, counted_wrong(self->program.output, "n is "))
	TH_LOG("%s", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.output, "continued from "));
	EXPECT_EQ(NULL, counted_wrong(self->program.output, "visit "))
	TH_LOG("%s", self->program.output);

	rest = self->program.output;
	for (unsigned i = 0; i < self->tour.count; i++) {
		struct command *command = &self->tour.commands[i];
		char *answer = rest, *forms, *expected;
		int code;

		mark = strstr(rest, "@@ ");
		ASSERT_NE(NULL, mark) TH_LOG("%s: no answer: %s", command->text, rest);
		*mark = '\0';
		code = (int)strtol(mark + 3, &rest, 10);
		rest += *rest == '\n';
		forms = forms_of(answer);
		expected = forms_of(command->expected ? command->expected : (char[]){""});
		if (command->expected) {
			EXPECT_STREQ(expected, forms) TH_LOG("%s", command->text);
		}
		EXPECT_EQ(strstr(expected, "Killed") ? 137 : 0, code)
		TH_LOG("%s: %s", command->text, forms);
		free(expected);
		free(forms);
	}
}

TEST_HARNESS_MAIN
