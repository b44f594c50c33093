/* SPDX-License-Identifier: MIT */
/*
 * completion.c - thaw completion: what a shell asks when Tab is pressed. The script of each shell asks this program, which
 * has the tables that --help is printed from, so that a shell knows what this build knows. What only shells know (files,
 * the commands of others) is left to them, by the first line of the answer:
 *
 *	none | files | files .EXTENSION | command N		N: which word, from 1, is the command of another
 *
 * The other lines are words that begin as what was typed, with a tab and what they mean. Reads images, changes nothing.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "control/protocol.h"
#include "top.h"

/* ---- The scripts ---- */

/*
 * Bash takes = and : for ends of words: completion_words() puts them together again, and answers with what is
 * behind the last of them, which is what bash replaces.
 */
static const char bash_script[] =
	"# bash completion for thaw(1)\n"
	"_thaw()\n"
	"{\n"
	"\tlocal thaw=${COMP_WORDS[0]/#\\~/$HOME} cur=${COMP_WORDS[COMP_CWORD]} how line lines found\n"
	"\tmapfile -t lines < <(\"$thaw\" completion --words -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
	"\thow=${lines[0]-}\n"
	"\tCOMPREPLY=()\n"
	"\tfor line in \"${lines[@]:1}\"; do\n"
	"\t\tCOMPREPLY+=(\"${line%%$'\\t'*}\")\n"
	"\tdone\n"
	"\t[[ $cur != [=:] ]] || cur=\n"
	"\tcase $how in\n"
	"\tfiles*)\n"
	"\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\tif [[ $how == files ]]; then\n"
	"\t\t\tmapfile -t found < <(compgen -f -- \"$cur\")\n"
	"\t\telse\n"
	"\t\t\tmapfile -t found < <(compgen -f -X \"!*${how#files }\" -- \"$cur\"; compgen -d -- \"$cur\")\n"
	"\t\tfi\n"
	"\t\tCOMPREPLY+=(\"${found[@]}\")\n"
	"\t\t;;\n"
	"\tcommand*)\n"
	"\t\tif declare -F _command_offset >/dev/null; then\n"
	"\t\t\t_command_offset \"${how#command }\"\n"
	"\t\telif ((COMP_CWORD == ${how#command })); then\n"
	"\t\t\tmapfile -t COMPREPLY < <(compgen -c -- \"$cur\" | sort -u)\n"
	"\t\telse\n"
	"\t\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	"\t\tfi\n"
	"\t\t;;\n"
	"\tesac\n"
	"}\n"
	"complete -F _thaw thaw\n";

static const char zsh_script[] =
	"#compdef thaw\n"
	"# zsh completion for thaw(1)\n"
	"_thaw()\n"
	"{\n"
	"\tlocal -a lines described\n"
	"\tlocal how line\n"
	"\tlines=(\"${(@f)$(${(Q)words[1]} completion --words -- \"${(@Q)words[2,CURRENT-1]}\" \"${(Q)PREFIX}\" 2>/dev/null)}\")\n"
	"\thow=${lines[1]-}\n"
	"\tfor line in \"${(@)lines[2,-1]}\"; do\n"
	"\t\tdescribed+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
	"\tdone\n"
	"\t(( $#described )) && _describe -V thaw described\n"
	"\tcase $how in\n"
	"\t(files) _files ;;\n"
	"\t(files*) _files -g \"*${how#files }(-.)\" ;;\n"
	"\t(command*) shift ${how#command } words; (( CURRENT -= ${how#command } )); _normal ;;\n"
	"\tesac\n"
	"}\n"
	"if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _thaw \"$@\"; else compdef _thaw thaw; fi\n";

static const char fish_script[] =
	"# fish completion for thaw(1)\n"
	"function __fish_thaw\n"
	"\tset -l words (commandline -opc) (commandline -ct)\n"
	"\tset -l lines ($words[1] completion --words -- $words[2..-1] 2>/dev/null)\n"
	"\tset -l how (string split ' ' -- $lines[1])\n"
	"\tset -q lines[2]; and printf '%s\\n' $lines[2..-1]\n"
	"\tswitch \"$how[1]\"\n"
	"\tcase files\n"
	"\t\tif set -q how[2]\n"
	"\t\t\t__fish_complete_suffix $how[2]\n"
	"\t\telse\n"
	"\t\t\t__fish_complete_path (commandline -ct)\n"
	"\t\tend\n"
	"\tcase command\n"
	"\t\tset -l rest $words[(math $how[2] + 1)..-1]\n"
	"\t\tcomplete -C (string join ' ' -- (string escape -- $rest[1..-2]) $rest[-1])\n"
	"\tend\n"
	"end\n"
	"complete -c thaw -f -a '(__fish_thaw)' -k\n";

/* ---- What is offered ---- */

struct completing {
	const char *prefix; /* what was typed of it */
	const char *lead;   /* what every answer begins with: --option= */
	unsigned lead_bytes;
	size_t known; /* bytes of the answers that the shell has already */
	char how[64];
	FILE *words;
};

static void offer(struct completing *completing, const char *word, const char *means)
{
	char *whole;
	size_t length = strlen(completing->prefix);

	if (strncmp(word, completing->prefix, length) != 0)
		return;
	if (asprintf(&whole, "%.*s%s", (int)completing->lead_bytes, completing->lead, word) < 0)
		return;
	if (strlen(whole) >= completing->known)
		fprintf(completing->words, "%s\t%s\n", whole + completing->known, means);
	free(whole);
}

/* "none|output" */
static void offer_choices(struct completing *completing, const char *choices, const char *means)
{
	while (*choices) {
		size_t length = strcspn(choices, "|");
		char word[32];

		snprintf(word, sizeof(word), "%.*s", (int)length, choices);
		offer(completing, word, means);
		choices += length + (choices[length] == '|');
	}
}

static void offer_generations(struct completing *completing, const char *path, bool numbers)
{
	const struct thaw_generation *generations;
	const struct thaw_name *names;
	struct thaw_image *image;
	unsigned count;
	char means[64];

	if (!path || thaw_image_open(path, &image, NULL))
		return;
	count = thaw_image_names(image, &names);
	for (unsigned i = 0; i < count; i++) {
		snprintf(means, sizeof(means), "generation %llu",
			 (unsigned long long)names[i].generation);
		offer(completing, names[i].name, means);
	}
	count = numbers ? thaw_image_log(image, &generations) : 0;
	while (count--) {
		snprintf(means, sizeof(means), "%s, %s ago",
			 thaw_reason_name(generations[count].reason),
			 format_age(generations[count].time_ns).s);
		offer(completing, format_number(generations[count].number).s, means);
	}
	thaw_image_close(image);
}

static void offer_options(struct completing *completing, const struct cli_command *command)
{
	char word[64];

	for (const struct cli_option *option = command->options; option->name; option++) {
		snprintf(word, sizeof(word), "--%s", option->name);
		offer(completing, word, option->help);
	}
	/* Short ones only where somebody looks for them: each has a long name. */
	for (const struct cli_option *option = command->options;
	     option->name && !strcmp(completing->prefix, "-"); option++) {
		if (!option->letter)
			continue;
		snprintf(word, sizeof(word), "-%c", option->letter);
		offer(completing, word, option->help);
	}
}

static void offer_commands(struct completing *completing)
{
	const struct cli_command *command;

	for (unsigned i = 0; (command = cli_command_at(i)); i++)
		if (*command->name)
			offer(completing, command->name, command->summary);
}

static void leave_files(struct completing *completing, const char *extension)
{
	snprintf(completing->how, sizeof(completing->how), "files%s%s", *extension ? " " : "",
		 extension);
}

static void offer_columns(struct completing *completing)
{
	for (unsigned i = 0; i < top_column_count; i++)
		offer(completing, top_columns[i].name, top_columns[i].title);
}

/* Of a program that runs (thaw ctl). */
static void offer_actions(struct completing *completing)
{
	for (unsigned i = 0; i < CONTROL_COMMANDS; i++)
		offer(completing, control_command_name(i), "of the program that runs");
}

/* What an argument is, by the word that stands for it in the help. */
static void offer_argument(struct completing *completing, const char *argument, const char *means,
			   const char *image)
{
	if (!strcmp(argument, "GENERATION"))
		offer_generations(completing, image, true);
	else if (!strcmp(argument, "NAME"))
		offer_generations(completing, image, false);
	else if (!strcmp(argument, "IMAGE") || !strcmp(argument, "PATH") ||
		 !strncmp(argument, "PID|IMAGE", 9))
		leave_files(completing, ".thaw");
	else if (!strcmp(argument, "FILE.js"))
		leave_files(completing, ".js");
	else if (!strcmp(argument, "FILE") || !strcmp(argument, "NEW") ||
		 !strcmp(argument, "DIRECTORY") || !strcmp(argument, "arguments"))
		leave_files(completing, "");
	else if (!strcmp(argument, "PLACE"))
		offer(completing, "s3://", "BUCKET/PREFIX of an object store");
	else if (!strcmp(argument, "IMAGE|PLACE"))
		leave_files(completing, ".thaw");
	else if (!strcmp(argument, "COLUMN"))
		offer_columns(completing);
	else if (!strcmp(argument, "ACTION"))
		offer_actions(completing);
	else if (!strncmp(argument, "COMMAND", 7))
		offer_commands(completing);
	if (!strncmp(argument, "COMMAND|", 8))
		offer_choices(completing, argument + 8, "a page of the manual");
	else if (islower((unsigned char)*argument) && strcmp(argument, "arguments") != 0)
		offer_choices(completing, argument, means);
}

/* ---- What was typed ---- */

struct typed {
	const struct cli_command *command;
	const char *image;
	const struct cli_option *wants; /* the option whose argument the last word is */
	unsigned operands;		/* before the last word */
	unsigned program;		/* of these the first one: which word it is, from 1 */
	bool only_operands;
};

/* "[options] IMAGE [NAME [GENERATION]]": the word for an operand, "" if there is none so far behind. */
static void operand_word(const char *synopsis, unsigned index, char *word, size_t room)
{
	bool of_option = false;

	*word = '\0';
	for (const char *at = synopsis; *at;) {
		size_t length = strcspn(at, " []");
		bool skipped = of_option || *at == '-' || *at == '|' || !strncmp(at, "options]", 8);

		of_option = length && *at == '-';
		if (length && !skipped) {
			snprintf(word, room, "%.*s", (int)length, at);
			if (!index--)
				return;
		}
		at += length ? length : 1;
	}
	if (!strstr(word, "...") && strcmp(word, "arguments") != 0)
		*word = '\0';
}

static const struct cli_option *option_of(const struct cli_command *command, const char *word)
{
	size_t length = strcspn(word, "=");

	for (const struct cli_option *option = command->options; option->name; option++)
		if (word[1] != '-' ? option->letter == word[1] && !word[2]
				   : strlen(option->name) + 2 == length &&
					     !strncmp(option->name, word + 2, length - 2))
			return option;
	return NULL;
}

static void take_operand(struct typed *typed, const char *word, unsigned number)
{
	char means[32];

	operand_word(typed->command->synopsis, typed->operands, means, sizeof(means));
	if (!strcmp(means, "IMAGE"))
		typed->image = word;
	if (!typed->operands++)
		typed->program = number;
	typed->only_operands |= typed->command->passes_on;
}

static bool names_image(const struct cli_option *option)
{
	return option->offset == CLI_FIELD(image) || option->offset == CLI_FIELD(fork_of);
}

static void take_word(struct typed *typed, const char *word, unsigned number)
{
	const struct cli_option *option = NULL;

	if (typed->wants) {
		if (names_image(typed->wants))
			typed->image = word;
		typed->wants = NULL;
	} else if (typed->only_operands || word[0] != '-' || !word[1]) {
		take_operand(typed, word, number);
	} else if (!strcmp(word, "--")) {
		typed->only_operands = true;
	} else {
		option = option_of(typed->command, word);
		if (option && option->argument && !strchr(word, '='))
			typed->wants = option;
		else if (option && names_image(option) && strchr(word, '='))
			typed->image = strchr(word, '=') + 1;
	}
}

static void answer_operand(struct completing *completing, const struct typed *typed,
			   unsigned number)
{
	char means[32];

	operand_word(typed->command->synopsis, typed->operands, means, sizeof(means));
	if (typed->command == &command_exec)
		snprintf(completing->how, sizeof(completing->how), "command %u",
			 typed->operands ? typed->program : number);
	else
		offer_argument(completing, means, "", typed->image);
}

/* `word`: the last one, which is completed, and is word `number`. */
static void answer(struct completing *completing, const struct typed *typed, const char *word,
		   unsigned number)
{
	const struct cli_option *option;
	const char *equals = strchr(word, '=');

	completing->prefix = word;
	if (typed->wants) {
		offer_argument(completing, typed->wants->argument, typed->wants->help,
			       typed->image);
	} else if (typed->only_operands || word[0] != '-') {
		answer_operand(completing, typed, number);
	} else if (word[1] == '-' && equals) {
		option = option_of(typed->command, word);
		completing->prefix = equals + 1;
		completing->lead = word;
		completing->lead_bytes = (unsigned)(equals + 1 - word);
		if (option && option->argument)
			offer_argument(completing, option->argument, option->help, typed->image);
	} else {
		offer_options(completing, typed->command);
	}
}

/* `numbers`: which word each was when it was typed, from 1. */
static void answer_all(struct completing *completing, unsigned count, char **words,
		       const unsigned *numbers)
{
	struct typed typed = {0};
	unsigned from = 1;

	completing->prefix = words[count - 1];
	if (count == 1 && words[0][0] != '-') {
		offer_commands(completing);
		return;
	}
	if (count == 1)
		offer(completing, "--version", "version and engine");
	if (words[0][0] == '-')
		from = 0; /* options before any command are those of -e */
	typed.command = from ? cli_command_of(words[0]) : &command_eval;
	if (!typed.command)
		return;
	for (unsigned i = from; i + 1 < count; i++)
		take_word(&typed, words[i], numbers[i]);
	answer(completing, &typed, words[count - 1], numbers[count - 1]);
}

/*
 * Puts words together that bash has taken apart at = and :, in place. Returns how many there are; `known` is how much
 * of the last one is not in its last piece.
 */
static unsigned join_words(unsigned count, char **words, unsigned *numbers, size_t *known)
{
	unsigned joined = 0;
	bool joins = false;

	*known = 0;
	for (unsigned i = 0; i < count; i++) {
		bool mark = !strcmp(words[i], "=") || !strcmp(words[i], ":");
		char *whole;

		if (!joined || (!mark && !joins)) {
			numbers[joined] = i + 1;
			words[joined++] = words[i];
			*known = 0;
		} else if (asprintf(&whole, "%s%s", words[joined - 1], words[i]) >= 0) {
			*known = strlen(words[joined - 1]) + mark;
			words[joined - 1] = whole;
		}
		joins = mark;
	}
	return joined;
}

static int complete(unsigned count, char **words)
{
	struct completing completing = {.how = "none"};
	unsigned *numbers = calloc(count + 1, sizeof(*numbers)), joined;
	char *text = NULL;
	size_t bytes;

	completing.words = open_memstream(&text, &bytes);
	if (!completing.words || !numbers)
		return cli_fail(EXIT_IO, "out of memory");
	joined = join_words(count, words, numbers, &completing.known);
	if (joined)
		answer_all(&completing, joined, words, numbers);
	free(numbers);
	if (fclose(completing.words) || !text)
		return cli_fail(EXIT_IO, "out of memory");
	printf("%s\n%s", completing.how, text);
	free(text);
	return 0;
}

static int completion(const struct cli_options *options, int count, char **operands)
{
	static const struct {
		const char *name, *script;
	} shells[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

	if (options->all)
		return complete((unsigned)count, operands);
	if (count == 1)
		for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++)
			if (!strcmp(operands[0], shells[i].name)) {
				fputs(shells[i].script, stdout);
				return 0;
			}
	return cli_fail(EXIT_USAGE, "which shell? thaw completion bash, zsh or fish");
}

static const struct cli_option completion_options[] = {
	{"words", 0, NULL, CLI_FLAG, CLI_FIELD(all),
	 "what the script of a shell asks: which words go on from those that follow"},
	CLI_HELP,
	{0},
};

const struct cli_command command_completion = {
	.name = "completion",
	.synopsis = "[options] bash|zsh|fish",
	.summary = "what makes a shell complete thaw's commands, options and names",
	.description =
		"Prints a script for the shell. With it Tab completes commands, options and their values, images, and the\n"
		"numbers and names of the generations in an image. make install puts the scripts where shells look for\n"
		"them; where thaw was only built, eval what it prints.",
	.examples =
		"  eval \"$(thaw completion bash)\"                    for this shell, or in ~/.bashrc\n"
		"  thaw completion fish > thaw.fish\n"
		"  thaw completion --words -- log --                 the options of thaw log\n",
	.options = completion_options,
	.operands_max = 1000000,
	.passes_on = true,
	.run = completion,
};
