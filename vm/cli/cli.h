/* SPDX-License-Identifier: MIT */
/*
 * cli.h - what the subcommands of the command line share: their table, their options, and how they
 * speak to people and to programs. Data goes to stdout, everything else to stderr. One thread.
 */
#ifndef VM_CLI_H
#define VM_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "policy/runtime.h"
#include "base/format.h"
#include "base/json.h"

/* ---- Options (options.c) ---- */

/* What --retain says. */
struct cli_retention {
	unsigned newest; /* 0: the default */
	unsigned rule_count;
	struct thaw_thinning rules[THAW_THINNING_MAX];
};

/* Everything any command can be told. A command's table says which of it are its own. */
struct cli_options {
	const char *image;
	const char *code; /* -e or -p */
	const char *prefetch;
	const char *output;    /* a file; NULL: standard output */
	const char *remove;    /* a name */
	const char *at;	       /* a generation, as cli_generation() takes it */
	const char *format;    /* of what is written */
	uint64_t depth, limit; /* of what is shown; 0: the command's default */
	uint64_t every_ns;
	struct cli_retention retention;
	bool print;  /* the code came with -p */
	bool newest; /* only that */
	bool fresh, trust, force, stats, json, quiet, verbose, help, all, pages;
};

enum cli_option_kind {
	CLI_FLAG,      /* bool: true when given */
	CLI_TEXT,      /* const char *: the argument, borrowed from argv */
	CLI_NUMBER,    /* uint64_t: decimal, at least 1 */
	CLI_DURATION,  /* uint64_t: nanoseconds; "250ms", "1s", "2min", "0" */
	CLI_CODE,      /* code and print: -e and -p */
	CLI_RETENTION, /* struct cli_retention */
};

struct cli_option {
	const char *name;     /* without the dashes; NULL ends the table */
	char letter;	      /* short form; 0: none */
	const char *argument; /* how the help calls its argument; NULL: takes none */
	enum cli_option_kind kind;
	size_t offset; /* into struct cli_options */
	const char *help;
};

#define CLI_FIELD(field) offsetof(struct cli_options, field)
#define CLI_HELP                                                          \
	{                                                                 \
		"help", 'h', NULL, CLI_FLAG, CLI_FIELD(help), "show this" \
	}
#define CLI_AT(verb)                                                                    \
	{                                                                               \
		"at", 0, "GENERATION", CLI_TEXT, CLI_FIELD(at),                         \
			verb " from this one (a number or a name), not from the newest" \
	}
#define CLI_RETAIN                                                                                \
	{                                                                                         \
		"retain", 0, "N,COUNT/PERIOD...", CLI_RETENTION, CLI_FIELD(retention),            \
			"keep the N newest generations (default 8), and one of each of the last " \
			"COUNT periods"                                                           \
	}
#define CLI_TRUST                                                                                   \
	{                                                                                           \
		"trust", 0, NULL, CLI_FLAG, CLI_FIELD(trust),                                       \
			"continue also what was not made with your key, or belongs to another user" \
	}
#define CLI_STATS                                             \
	{                                                     \
		"stats", 0, NULL, CLI_FLAG, CLI_FIELD(stats), \
			"at the end, what it cost, to stderr" \
	}
#define CLI_VERBOSE                                                        \
	{                                                                  \
		"verbose", 'v', NULL, CLI_FLAG, CLI_FIELD(verbose),        \
			"a line on stderr for each generation and restore" \
	}
#define CLI_IMAGE(help)                                                \
	{                                                              \
		"image", 'i', "PATH", CLI_TEXT, CLI_FIELD(image), help \
	}
#define CLI_EVERY(help)                                                     \
	{                                                                   \
		"every", 0, "TIME", CLI_DURATION, CLI_FIELD(every_ns), help \
	}
#define CLI_FRESH                                              \
	{                                                      \
		"fresh", 0, NULL, CLI_FLAG, CLI_FIELD(fresh),  \
			"start anew, whatever the image holds" \
	}
/*
 * What every command that runs a program takes: from which image it starts and what stays of it, and how
 * much it tells. `verb`: what is done from the generation of --at.
 */
#define CLI_RUN_FROM(image_help, every_help, verb) \
	CLI_IMAGE(image_help), CLI_EVERY(every_help), CLI_FRESH, CLI_AT(verb), CLI_RETAIN, CLI_TRUST
#define CLI_RUN_TELL(json_help, quiet_help)                                                \
	CLI_STATS, {"json", 0, NULL, CLI_FLAG, CLI_FIELD(json), json_help},                \
		{"quiet", 'q', NULL, CLI_FLAG, CLI_FIELD(quiet), quiet_help}, CLI_VERBOSE, \
		CLI_HELP
#define CLI_JSON                                                                   \
	{                                                                          \
		"json", 0, NULL, CLI_FLAG, CLI_FIELD(json), "write JSON to stdout" \
	}
#define CLI_QUIET                                                                               \
	{                                                                                       \
		"quiet", 'q', NULL, CLI_FLAG, CLI_FIELD(quiet), "no progress bar on a terminal" \
	}

struct cli_command {
	const char *name;
	const char *synopsis;	 /* what follows 'thaw NAME' */
	const char *summary;	 /* half a line, for 'thaw --help' */
	const char *description; /* for 'thaw NAME --help' */
	const char *examples;	 /* lines, each ending in a newline */
	const struct cli_option *options;
	unsigned operands_min, operands_max;
	bool passes_on; /* what follows the first operand belongs to the program that is run */
	/* The options are parsed; the operands follow. Returns the exit code. */
	int (*run)(const struct cli_options *options, int count, char **operands);
};

extern const struct cli_command command_run, command_repl, command_eval, command_check, command_log,
	command_tag, command_rollback, command_inspect, command_map, command_verify, command_clone,
	command_compact, command_repair, command_export, command_diff;

/* Parse argv (argv[0] is skipped) by the command's table, then run it. Returns an exit code. */
int cli_dispatch(const struct cli_command *command, int argc, char **argv);
/* The full help of one command, to stdout. */
void cli_help(const struct cli_command *command);
/* The candidate that `word` is probably a misspelling of, or NULL. `candidates` ends with NULL. */
const char *cli_nearest(const char *word, const char *const *candidates);

/* One line on stderr, "thaw: ...". Returns `exit_code`, so that a caller can return it at once. */
int cli_fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/*
 * The same for a failed library call: the error's text, and the exit code that stands for its
 * code.
 */
int cli_fail_error(const struct thaw_error *error, int code);
/* The runtime's options as far as they come straight from the command line. */
struct runtime_options cli_runtime_options(const struct cli_options *options);
/*
 * The generation of the image that a word on the command line means: a number or a name. Returns 0 or
 * an exit code, and then it has said why.
 */
int cli_find(const struct thaw_image *image, const char *word, uint64_t *generation);
/* For commands that then change the image, or run from it; those that look ask the image they have open. */
int cli_generation(const char *path, const char *word, uint64_t *generation);
/* Open an image to look at. Returns 0 or an exit code, and then it has said why. */
int cli_open(const char *path, struct thaw_image **image);
/*
 * An image could not be changed. Where a program has it open, says what to do about it; `instead`: what
 * else, or NULL.
 */
int cli_fail_change(const char *image, const char *instead, const struct thaw_error *error,
		    int code);
/*
 * Was it in use, and is it worth another try? A process that was just killed holds its lock until the
 * kernel has taken its memory apart. Waits a little, and half a second in all.
 */
bool cli_again(int code, unsigned *tries);
/*
 * What cli_generation() is for an operand, for --at, if it was given, once it is known which image is meant (NULL: none). Also an exit
 * code if it was given together with --fresh.
 */
int cli_at(const struct cli_options *options, struct runtime_options *runtime_options);
/* With --stats or --json: the runtime's numbers, to stderr. */
void cli_stats(struct runtime *runtime, const struct cli_options *options);
/* Is there a regular file of this name with something in it? */
bool cli_file_exists(const char *path);

/* ---- Generations, for people ---- */

/* "8", "8,10/min,4/15min" (retain.c). False: `why` says what is wrong, with at most `room` bytes. */
bool parse_retention(const char *word, struct cli_retention *retention, char *why, size_t room);

/* "between turns", "mid-turn": what the kinds of generations (enum thaw_kind) mean here. */
const char *kind_word(uint32_t kind);
/* The generations of an image with their names, for people (log.c). Returns 0 or an exit code. */
int log_print(const char *image);

/* ---- Working through whole images (progress.c) ---- */

/* A bar on stderr, if that is a terminal and nobody asked for quiet. */
struct progress {
	const char *verb;
	bool bar, shown;
	uint64_t time_ns; /* when it was drawn last */
};
void progress_begin(struct progress *progress, const char *verb, const struct cli_options *options);
/* Returns non-zero once the program was asked to end (after interrupt_catch). */
int progress_show(struct progress *progress, uint64_t done, uint64_t total);
void progress_clear(struct progress *progress);
/* From now on the first SIGINT, SIGTERM or SIGHUP only makes progress_show() say so. */
void interrupt_catch(void);
/* cli_fail_change(), or, if that is why it failed, what a program ended by the signal exits with. */
int interrupt_fail(const char *image, const struct thaw_error *error, int code);
/* "generation 3, pages 5 to 7: ...", without a newline; and as an object. */
void damage_print(const struct thaw_damage *damage);
void damage_json(struct json *json, const char *key, const struct thaw_damage *damage);

#endif
