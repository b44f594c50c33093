/* SPDX-License-Identifier: MIT */
/*
 * repl_commands.c - what begins with a dot in the shell.
 *
 * Called by repl.c; owner thread only. A command that fails says why, and the shell goes on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "repl.h"

static void help_do(struct repl *repl, const char *argument);

static void checkpoint_do(struct repl *repl, const char *name)
{
	struct thaw_result result = {0};
	const struct thaw_generation *g = &result.generation;
	int code = *name ? runtime_checkpoint_name(repl->runtime, name) : 0;

	repl->failed |= code != 0;
	if (code == -EINVAL) {
		cli_fail(0, "'%s' cannot name a generation: see thaw tag --help", name);
		return;
	}
	if (!code)
		code = runtime_checkpoint(repl->runtime, THAW_REASON_REQUEST, &result);
	repl->failed |= code != 0;
	if (code)
		cli_fail(0, "checkpoint: %s",
			 result.error.text[0] ? result.error.text : thaw_strerror(code));
	else if (result.unchanged)
		printf("generation %s: nothing has changed since\n", format_count(g->number).s);
	else
		printf("generation %s: %s of %s written pages stored, %s, pause %s, durable after %s\n",
		       format_count(g->number).s, format_count(g->pages_stored).s,
		       format_count(g->pages_written).s, format_bytes(g->bytes_written).s,
		       format_duration(g->pause_ns).s, format_duration(result.durable_ns).s);
}

static void log_do(struct repl *repl, const char *argument)
{
	(void)argument;
	log_print(repl->image);
}

static void stats_do(struct repl *repl, const char *argument)
{
	struct runtime_stats stats;

	(void)argument;
	cli_flush();
	runtime_stats(repl->runtime, &stats);
	runtime_stats_print(&stats, NULL, repl->options->json, STDOUT_FILENO);
}

static void exit_do(struct repl *repl, const char *argument)
{
	(void)argument;
	repl->leave = true;
}

/* ---- Timers ---- */

/* A line of runtime_ask(): fields with tabs between. */
static void timer_row(struct table *table, char *line)
{
	char *fields[6] = {NULL};
	char repeat[48] = "";
	uint64_t ms;

	for (unsigned i = 0; i < 6; i++)
		fields[i] = strsep(&line, "\t");
	if (!fields[5])
		return;
	table_cell(table, fields[0]);
	if (!strcmp(fields[1], "now") || fields[1][0] == '-')
		table_cell(table, "now");
	else
		table_cell(table, parse_number(fields[1], &ms) ? format_duration(ms * 1000000).s
							       : fields[1]);
	if (parse_number(fields[2], &ms))
		snprintf(repeat, sizeof(repeat), "%s", format_duration(ms * 1000000).s);
	table_cell(table, repeat);
	table_cell(table, fields[4]);
	table_cell(table, fields[5]);
	table_cell(table, *fields[3] ? "keeps nothing alive" : "");
}

static void timers_do(struct repl *repl, const char *argument)
{
	char *lines = runtime_ask(repl->runtime, GUEST_TIMERS, NULL, 0), *rest = lines, *line;
	struct table table;

	(void)argument;
	if (!lines || !*lines) {
		puts(lines ? "no timer is pending"
			   : "this program was begun by a version that cannot tell");
		free(lines);
		return;
	}
	table_init(&table, "rrrlll");
	for (const char *const *title = (const char *const[]){"TIMER", "DUE IN", "EVERY",
							      "FUNCTION", "MADE AT", "", NULL};
	     *title; title++)
		table_cell(&table, *title);
	while ((line = strsep(&rest, "\n")))
		timer_row(&table, line);
	table_print(&table, stdout);
	free(lines);
}

/* ---- Several lines at once ---- */

static void editor_do(struct repl *repl, const char *argument)
{
	struct repl_text code = {0}, line = {0};
	enum repl_event event;

	(void)argument;
	if (repl->terminal)
		puts("// type what you like; Ctrl-D evaluates it, Ctrl-C forgets it");
	while ((event = repl_input_line(repl->input, "", &line)) == REPL_LINE) {
		repl_input_remember(repl->input, line.data);
		if (!repl_append(&code, line)) {
			cli_fail(0, ".editor: %s", strerror(errno));
			event = REPL_INTERRUPTED;
		}
		free(line.data);
		if (event != REPL_LINE)
			break;
	}
	if (event == REPL_ENDED) {
		repl->code = runtime_run(repl->runtime);
		repl->told = repl->leave = true;
	} else if (event == REPL_END && code.data && !repl_blank(code.data, code.bytes)) {
		if (repl->terminal)
			putchar('\n');
		repl_evaluate(repl, code, true);
	}
	free(code.data);
}

/* Statement by statement, as if they were typed. */
static void load(struct repl *repl, const char *name, char *text, size_t bytes)
{
	char *end = text + bytes;
	struct repl_scan scan = {0};
	struct repl_text code = {0};
	bool good = true;

	while (text < end && good && !repl->leave) {
		char *newline = memchr(text, '\n', (size_t)(end - text));
		struct repl_text line = {text, (size_t)((newline ? newline : end) - text)};

		text += line.bytes + 1;
		line.data[line.bytes] = '\0';
		good = repl_append(&code, line);
		if (!good)
			cli_fail(0, "%s: %s", name, strerror(errno));
		else if (!repl_needs_more(repl, &scan, line, code) || text >= end) {
			good = repl_blank(code.data, code.bytes) ||
			       repl_evaluate(repl, code, false);
			free(code.data);
			code = (struct repl_text){0};
			repl_scan_end(&scan);
		}
	}
	free(code.data);
	repl_scan_end(&scan);
}

static void load_do(struct repl *repl, const char *name)
{
	FILE *file = *name ? fopen(name, "re") : NULL;
	char *text = NULL;
	size_t bytes = 0, room = 0;
	ssize_t got;

	if (!*name || !file) {
		repl->failed = true;
		cli_fail(0, *name ? ".load %s: %s" : ".load wants the name of a file%.0s%.0s", name,
			 strerror(errno));
		return;
	}
	/* Up to a NUL, which no source has, and so to the end. */
	errno = 0;
	got = getdelim(&text, &room, '\0', file);
	if (got > 0)
		bytes = (size_t)got - (text[got - 1] == '\0');
	if (got < 0 && ferror(file)) {
		repl->failed = true;
		cli_fail(0, ".load %s: %s", name, strerror(errno));
	} else if (bytes > GUEST_SOURCE_MAX_BYTES) {
		repl->failed = true;
		cli_fail(0, ".load %s: %s", name, strerror(EFBIG));
	} else if (bytes) {
		load(repl, name, text, bytes);
	}
	free(text);
	fclose(file);
}

static void save_do(struct repl *repl, const char *name)
{
	FILE *file = *name ? fopen(name, "wxe") : NULL;
	bool good;

	if (!*name || !file) {
		repl->failed = true;
		cli_fail(0, *name ? ".save %s: %s" : ".save wants the name of a new file%.0s%.0s",
			 name, strerror(errno));
		return;
	}
	if (repl->session.bytes)
		fprintf(file, "%s\n", repl->session.data);
	good = !ferror(file);
	if (fclose(file) || !good) {
		repl->failed = true;
		cli_fail(0, ".save %s: %s", name, strerror(errno));
		unlink(name);
	} else {
		printf("%s: %s of what was evaluated in this session\n", name,
		       format_bytes(repl->session.bytes).s);
	}
}

/* ---- */

const struct repl_command repl_commands[] = {
	{".help", "", "this", help_do},
	{".checkpoint", "[NAME]", "make a generation now, name it, and say what it took",
	 checkpoint_do},
	{".log", "", "the generations of the image", log_do},
	{".stats", "", "what restoring and checkpointing has cost so far", stats_do},
	{".timers", "", "what is pending: when, how often, and which function", timers_do},
	{".editor", "", "type several lines, which Ctrl-D evaluates as one", editor_do},
	{".load", "FILE", "evaluate what is in a file, statement by statement", load_do},
	{".save", "FILE", "write what was evaluated in this session into a new file", save_do},
	{".exit", "", "leave (also Ctrl-D); timers go on the next time", exit_do},
	{NULL, NULL, NULL, NULL},
};

static void help_do(struct repl *repl, const char *argument)
{
	struct table table;

	(void)repl, (void)argument;
	puts("Type JavaScript; await and import lines are allowed; _ is the last result, _error the last exception.");
	table_init(&table, "lll");
	for (const struct repl_command *command = repl_commands; command->name; command++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", command->name, command->argument);
		table_cell(&table, "");
		table_cell(&table, left);
		table_cell(&table, command->help);
	}
	table_print(&table, stdout);
	puts("Tab completes names, commands and files. Ctrl-C forgets the line, or stops what is running.");
}

void repl_command_do(struct repl *repl, const char *line)
{
	const char *names[sizeof(repl_commands) / sizeof(repl_commands[0])], *nearest;
	char word[32] = "", name[4096] = "";
	unsigned count = 0;

	sscanf(line, "%31s %4095[^\n]", word, name);
	while (*name && strchr(" \t\r", name[strlen(name) - 1]))
		name[strlen(name) - 1] = '\0';
	for (const struct repl_command *command = repl_commands; command->name; command++) {
		names[count++] = command->name;
		if (!strcmp(word, command->name)) {
			command->run(repl, name);
			return;
		}
	}
	names[count] = NULL;
	repl->failed = true;
	nearest = cli_nearest(word, names);
	cli_fail(0, "no command %s%s%s%s; .help lists them", word, nearest ? " (did you mean " : "",
		 nearest ? nearest : "", nearest ? "?)" : "");
}
