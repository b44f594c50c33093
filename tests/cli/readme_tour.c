// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tour in the README can be typed as it stands: each line behind a "$" is run, in one shell and in that order, and what it
 * prints is what stands below it. A command without an answer in the README only has to succeed.
 *
 * What depends on when a program was killed is compared by its form: how often the counter counted, and numbers of
 * generations and pages. That the counter never goes back, and never skips a number, is checked by itself.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "transcript.h"

/* The indented lines of the section "A tour". */
static void tour_read(struct tour *tour, FILE *readme)
{
	bool inside = false, here = false;
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, readme) > 0) {
		bool indented = !strncmp(line, "    ", 4);

		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "## ", 3))
			inside = !strcmp(line, "## A tour");
		if (inside && (here || indented))
			tour_line(tour, line + (indented ? 4 : 0), &here);
	}
	free(line);
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

TEST_F(readme, the_tour_can_be_typed)
{
	char *script, *line, *why;
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

	why = tour_differs(&self->tour, self->program.output);
	EXPECT_EQ(NULL, why) TH_LOG("%s", why);
	free(why);
}

TEST_HARNESS_MAIN
