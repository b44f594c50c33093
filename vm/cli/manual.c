/* SPDX-License-Identifier: MIT */
/*
 * manual.c - thaw help: the manual page of a command, in mdoc(7). It is made of the command's table, which --help prints,
 * too, so that they cannot differ, and of what is written by hand about it: vm/cli/manual/NAME.mdoc, which is part of
 * the binary (manual_pages). The pages thaw(1) and thaw(7) are written by hand, but for lists that stand in tables.
 *
 * A file of a command has sections. Examples, and what is missing of exit status and references, come before its SEE
 * ALSO or CAVEATS. In any file a line `.\"@commands` or `.\"@exits` stands for that list.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <string.h>

#include "cli.h"
#include "manual.h"

#define MANUAL_DATE "November 30, 2026"
#define LINE_COLUMNS 76

/* ---- Text, for roff ---- */

/* `quoted`: as an argument of a macro. */
static void put_escaped(FILE *to, const char *text, size_t bytes, bool quoted)
{
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] == '\\')
			fputs("\\e", to);
		else if (text[i] == '-')
			fputs("\\-", to);
		else if (text[i] == '"' && quoted)
			fputs("\\(dq", to);
		else
			fputc(text[i], to);
	}
}

/* One argument of a macro, whatever it contains; \& keeps it from being taken for a macro. */
static void put_argument(FILE *to, const char *text, size_t bytes)
{
	fputs(" \"\\&", to);
	put_escaped(to, text, bytes, true);
	fputc('"', to);
}

/* How much of a word is an option, or a page of the manual: what stands out in a text. */
static size_t bold_bytes(const char *word, size_t bytes)
{
	size_t length = 0;

	if (bytes > 2 && word[0] == '-' && word[1] == '-' && isalpha((unsigned char)word[2]))
		for (length = 2; length < bytes &&
				 (isalpha((unsigned char)word[length]) || word[length] == '-');
		     length++)
			;
	else if (bytes > 3 && isalpha((unsigned char)word[0]))
		for (length = 1; length < bytes && (isalpha((unsigned char)word[length]) ||
						    strchr("-_2", word[length]));
		     length++)
			;
	if (word[0] != '-' &&
	    (length + 3 > bytes || word[length] != '(' ||
	     !isdigit((unsigned char)word[length + 1]) || word[length + 2] != ')'))
		return 0;
	return length;
}

static void put_word(FILE *to, const char *word, size_t bytes)
{
	size_t bold = bold_bytes(word, bytes);

	if (bold) {
		fputs("\\fB", to);
		put_escaped(to, word, bold, false);
		fputs("\\fR", to);
	}
	put_escaped(to, word + bold, bytes - bold, false);
}

/* Words, in lines of roff: each sentence begins one. */
static void put_text(FILE *to, const char *text, size_t bytes)
{
	size_t column = 0;
	bool sentence = false;

	for (size_t i = 0; i < bytes;) {
		size_t length = strcspn(text + i, " \n");

		length = length < bytes - i ? length : bytes - i;
		if (!length) {
			i++;
			continue;
		}
		if (column && (sentence || column + length >= LINE_COLUMNS)) {
			fputc('\n', to);
			column = 0;
		}
		if (column)
			fputc(' ', to);
		else if (text[i] == '.' || text[i] == '\'')
			fputs("\\&", to);
		put_word(to, text + i, length);
		column += length + 1;
		i += length;
		sentence = strchr(".:;!?", text[i - 1]) && text[i - 1] != ':' && text[i - 1] != ';';
	}
	fputc('\n', to);
}

/* Where the second column of a line begins, behind two blanks or more; 0: it has none. */
static size_t second_column(const char *line, size_t length, size_t *first_bytes)
{
	for (size_t i = 2; i + 2 < length; i++)
		if (line[i] == ' ' && line[i + 1] == ' ') {
			*first_bytes = i;
			return i + strspn(line + i, " ");
		}
	return 0;
}

/*
 * The description of a command as --help has it: paragraphs, and lists of lines that are indented by two, in two
 * columns; what is indented by more goes on in the second one.
 */
struct describing {
	FILE *to;
	bool list;
};

static void describe_line(struct describing *describing, const char *line, size_t length)
{
	size_t first = 0, second;

	if (strncmp(line, "  ", 2) || !length) {
		if (describing->list)
			fputs(".El\n", describing->to);
		if (describing->list || !length)
			fputs(".Pp\n", describing->to);
		describing->list = false;
		put_text(describing->to, line, length);
		return;
	}
	second = line[2] == ' ' ? 0 : second_column(line, length, &first);
	if (!second) {
		put_text(describing->to, line, length);
		return;
	}
	if (!describing->list)
		fputs(".Bl -tag -width Ds\n", describing->to);
	describing->list = true;
	fputs(".It", describing->to);
	put_argument(describing->to, line + 2, first - 2);
	fputc('\n', describing->to);
	put_text(describing->to, line + second, length - second);
}

static void put_description(FILE *to, const char *text)
{
	struct describing describing = {.to = to};
	size_t length;

	/* Lines of a paragraph belong together: a text is broken anew. */
	for (const char *line = text; *line; line += length + (line[length] == '\n')) {
		length = strcspn(line, "\n");
		while (line[length] == '\n' && line[0] != ' ' && line[length + 1] != ' ' &&
		       line[length + 1] && line[length + 1] != '\n')
			length += 1 + strcspn(line + length + 1, "\n");
		describe_line(&describing, line, length);
	}
	if (describing.list)
		fputs(".El\n", to);
}

/* ---- The parts of a page that are made of a table ---- */

static void put_operand(FILE *to, const char *word, size_t bytes)
{
	if (bytes == 1 && *word == '|') {
		fputc('|', to);
	} else if (*word == '-') {
		fputs("Fl", to);
		put_argument(to, word + 1, bytes - 1);
	} else {
		fputs("Ar", to);
		put_argument(to, word, bytes);
	}
}

/* "[options] IMAGE [NAME [GENERATION]]" */
static void put_synopsis(FILE *to, const char *synopsis)
{
	for (const char *at = synopsis; *at;) {
		size_t length = strcspn(at, " []");

		if (*at == ' ') {
			at++;
			continue;
		}
		fputc(at == synopsis ? '.' : ' ', to);
		if (length)
			put_operand(to, at, length);
		else
			fputs(*at == '[' ? "Oo" : "Oc", to);
		at += length ? length : 1;
	}
	fputc('\n', to);
}

static void put_options(FILE *to, const struct cli_command *command)
{
	fputs(".Pp\nThe options are:\n.Bl -tag -width Ds\n", to);
	for (const struct cli_option *option = command->options; option->name; option++) {
		fputs(".It", to);
		if (option->letter)
			fprintf(to, " Fl %c ,", option->letter);
		fprintf(to, " Fl \\-%s", option->name);
		if (option->argument) {
			fputs(" Ar", to);
			put_argument(to, option->argument, strlen(option->argument));
		}
		fputc('\n', to);
		put_text(to, option->help, strlen(option->help));
	}
	fputs(".El\n", to);
}

/* Lines of a command and what it is for: the latter as a comment, above where both would be too long for a screen. */
static void put_examples(FILE *to, const char *examples)
{
	size_t length;

	fputs(".Sh EXAMPLES\n.Bd -literal\n", to);
	for (const char *line = examples; *line; line += length + (line[length] == '\n')) {
		size_t first = 0, second;

		length = strcspn(line, "\n");
		if (length < 3)
			continue;
		second = second_column(line, length, &first);
		if (second && length > LINE_COLUMNS) {
			fputs("# ", to);
			put_escaped(to, line + second, length - second, false);
			fputc('\n', to);
		}
		put_escaped(to, line + 2, (second ? first : length) - 2, false);
		if (second && length <= LINE_COLUMNS) {
			fprintf(to, "%*s# ", (int)(second - first), "");
			put_escaped(to, line + second, length - second, false);
		}
		fputc('\n', to);
	}
	fputs(".Ed\n", to);
}

static void put_commands(FILE *to)
{
	const struct cli_command *command;

	fputs(".Bl -tag -width Ds\n", to);
	for (unsigned i = 0; (command = cli_command_at(i)); i++) {
		fprintf(to, ".It Xr thaw\\-%s 1\n", cli_command_name(command));
		put_text(to, command->summary, strlen(command->summary));
	}
	fputs(".El\n", to);
}

static void put_exits(FILE *to)
{
	fputs(".Bl -tag -width 128+n -compact\n", to);
	for (const struct cli_exit *exit = cli_exits; exit->code; exit++) {
		fputs(".It", to);
		put_argument(to, exit->code, strlen(exit->code));
		fputc('\n', to);
		put_text(to, exit->means, strlen(exit->means));
	}
	fputs(".El\n", to);
}

/* ---- Pages ---- */

/* A name and a text, and so on, each with a zero behind it; an empty name ends them (vm/engine.mk). */
extern const char manual_pages[];

static const char *written(const char *file)
{
	for (const char *name = manual_pages; *name;) {
		const char *text = name + strlen(name) + 1;

		if (!strcmp(name, file))
			return text;
		name = text + strlen(text) + 1;
	}
	return NULL;
}

static bool begins(const char *line, const char *with)
{
	return !strncmp(line, with, strlen(with));
}

/* The lines that a table or the build has. False: it is none of them. */
static bool put_list(FILE *to, const char *line)
{
	if (begins(line, ".Dd"))
		fputs(".Dd " MANUAL_DATE "\n", to);
	else if (begins(line, ".\\\"@commands\n"))
		put_commands(to);
	else if (begins(line, ".\\\"@exits\n"))
		put_exits(to);
	else
		return false;
	return true;
}

static void put_lines(FILE *to, const char *text, const char *end)
{
	while (text < end) {
		const char *next = strchr(text, '\n');

		next = next ? next + 1 : end;
		if (!put_list(to, text))
			fwrite(text, 1, (size_t)(next - text), to);
		text = next;
	}
}

/* The sections that come last by the custom of manuals: from there on, or the end. */
static const char *last_sections(const char *text)
{
	for (const char *line = text; *line;) {
		const char *next = strchr(line, '\n');

		if (begins(line, ".Sh SEE ALSO") || begins(line, ".Sh CAVEATS"))
			return line;
		line = next ? next + 1 : line + strlen(line);
	}
	return text + strlen(text);
}

static void put_command_page(FILE *to, const struct cli_command *command)
{
	const char *name = cli_command_name(command), *text, *last;
	char file[64], title[32];

	snprintf(file, sizeof(file), "%s.mdoc", name);
	text = written(file);
	text = text ? text : "";
	last = last_sections(text);
	for (size_t i = 0; i < sizeof(title) && (i == 0 || name[i - 1]); i++)
		title[i] = (char)toupper((unsigned char)name[i]);
	fprintf(to, ".Dd " MANUAL_DATE "\n.Dt THAW-%s 1\n.Os Thaw " THAW_VERSION "\n", title);
	fprintf(to, ".Sh NAME\n.Nm thaw-%s\n.Nd ", name);
	put_text(to, command->summary, strlen(command->summary));
	fprintf(to, ".Sh SYNOPSIS\n.Nm thaw%s%s\n", *command->name ? " " : "", command->name);
	put_synopsis(to, command->synopsis);
	fputs(".Sh DESCRIPTION\n", to);
	put_description(to, command->description);
	put_options(to, command);
	put_lines(to, text, last);
	if (!strstr(text, "\n.Sh EXIT STATUS\n"))
		fputs(".Sh EXIT STATUS\nAs\n.Xr thaw 1\ntells them.\n", to);
	if (command->examples)
		put_examples(to, command->examples);
	if (!strstr(last, ".Sh SEE ALSO\n"))
		fputs(".Sh SEE ALSO\n.Xr thaw 1 ,\n.Xr thaw 7\n", to);
	put_lines(to, last, last + strlen(last));
}

bool manual_page(FILE *to, const char *name)
{
	const struct cli_command *command = cli_command_of(name);
	const char *text;

	if (command) {
		put_command_page(to, command);
		return true;
	}
	text = written(!strcmp(name, "thaw")	   ? "thaw.1"
		       : !strcmp(name, "concepts") ? "thaw.7"
						   : name);
	if (text)
		put_lines(to, text, text + strlen(text));
	return text;
}
