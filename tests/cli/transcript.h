// SPDX-License-Identifier: GPL-2.0-only
/*
 * transcript.h - what stands in a document behind a "$" is typed, in one shell and in that order, and what it prints is compared
 * with what stands below it. A command without an answer in the document only has to succeed.
 *
 * What depends on when a program was killed is compared by its form: how often a counter counted, and numbers of
 * generations and pages.
 */
#ifndef TESTS_TRANSCRIPT_H
#define TESTS_TRANSCRIPT_H

#include <ctype.h>

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

SUPPORT void append(char **text, const char *line)
{
	char *longer = support_format("%s%s\n", *text ? *text : "", line);

	free(*text);
	*text = longer;
}

/* One more line of what is typed and answered. `here`: it belongs to a here-document. */
SUPPORT void tour_line(struct tour *tour, const char *text, bool *here)
{
	struct command *command = tour->count ? &tour->commands[tour->count - 1] : NULL;

	if (*here) {
		append(&command->text, text);
		*here = strcmp(text, "END") != 0;
	} else if (!strncmp(text, "$ ", 2) && tour->count < COMMANDS_MAX) {
		command = &tour->commands[tour->count++];
		append(&command->text, text + 2);
		*here = strstr(text, "<<'END'") != NULL;
	} else if (command) {
		append(&command->expected, text);
	}
}

SUPPORT void tour_free(struct tour *tour)
{
	for (unsigned i = 0; i < tour->count; i++) {
		free(tour->commands[i].text);
		free(tour->commands[i].expected);
	}
}

/* One script of all the commands, and a mark behind the answer of each. */
SUPPORT char *tour_script(const struct tour *tour)
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
SUPPORT char *form_of(const char *line)
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
SUPPORT char *forms_of(char *text)
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

/* The checkout, as the tour has it: with the build that is tested, a compiler that links a sanitizer, and more time. */
SUPPORT void checkout(const char *directory)
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

/* The answers, one by one, out of what the script printed. Returns why they are not those of the document, to be freed; NULL: they are. */
SUPPORT char *tour_differs(const struct tour *tour, char *printed)
{
	char *rest = printed;

	for (unsigned i = 0; i < tour->count; i++) {
		const struct command *command = &tour->commands[i];
		char *mark = strstr(rest, "@@ "), *answer = rest, *forms, *expected, *why = NULL;
		int code;

		if (!mark)
			return support_format("%s: no answer: %s", command->text, rest);
		*mark = '\0';
		code = (int)strtol(mark + 3, &rest, 10);
		rest += *rest == '\n';
		forms = forms_of(answer);
		expected = forms_of(command->expected ? command->expected : (char[]){""});
		if ((command->expected && strcmp(expected, forms)) ||
		    code != (strstr(expected, "Killed") ? 137 : 0))
			why = support_format("%s: exit code %d, and instead of\n%s\nit says\n%s",
					     command->text, code, expected, forms);
		free(expected);
		free(forms);
		if (why)
			return why;
	}
	return NULL;
}

#endif
