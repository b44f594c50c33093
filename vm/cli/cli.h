/* SPDX-License-Identifier: MIT */
/*
 * cli.h - what the commands share: the table of a command, its options, errors and exit codes. Data
 * goes to stdout, everything else to stderr. One thread.
 */
#ifndef VM_CLI_H
#define VM_CLI_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "policy/control.h"
#include "policy/runtime.h"
#include "base/format.h"
#include "base/json.h"

/* ---- Options (options.c) ---- */

/* The argument of --retain. */
struct cli_retention {
	unsigned newest; /* 0: the default */
	unsigned rule_count;
	struct thaw_thinning rules[THAW_THINNING_MAX];
};

/* The options of all commands. The table of a command says which of them it takes. */
struct cli_options {
	const char *image;
	const char *code; /* -e or -p */
	const char *prefetch;
	const char *compress;	     /* how pages are stored */
	const char *output;	     /* a file; NULL: standard output */
	const char *key;	     /* the file with the user's key */
	const char *key_file;	     /* another one, of an image */
	const char *remove;	     /* a name */
	const char *at;		     /* a generation: a number or a name */
	const char *fork_of;	     /* an image */
	const char *format;	     /* of the output */
	const char *interval, *sort; /* of thaw top */
	const char *set;	     /* tunables of the kernel module */
	const char *time;	     /* how a time is shown */
	const char *name;	     /* of a generation */
	const char *restart;	     /* when thaw exec continues a program by itself */
	const char *files;	     /* what thaw exec does with files at a restore */
	const char *color;	     /* when results are in colours */
	const char *commit;	     /* what leaves a program only once its cause is durable */
	uint64_t commit_interval_ns;
	const char *replicate; /* a place in an object store */
	const char *durable;   /* where what is durable has to be */
	const char *cache;     /* the file of an image that lives in a store */
	/* CLI_REPLICATE_DEFAULT: nobody said so. */
	uint64_t replicate_every_ns, store_timeout_ns, durable_timeout_ns;
	const char *metrics;	/* where they are served */
	uint64_t timeout_ns;	/* of what is asked of a program; 0: the command's default */
	uint64_t depth, limit;	/* limits of the output; 0: the command's default */
	uint64_t count;		/* how often; 0: until somebody ends it */
	const char *check;	/* what looks at an upgraded program */
	uint64_t time_limit_ns; /* of an upgrade */
	uint64_t every_ns;
	struct cli_retention retention;
	bool print;  /* the code came with -p */
	bool newest; /* keep only the newest generation */
	bool self_contained;
	bool fresh, trust, force, stats, json, quiet, verbose, help, all, pages, once;
	bool upgrade, dry_run;
	bool encrypt, decrypt, passphrase;
	bool replace; /* what a store has */
};

#define CLI_REPLICATE_DEFAULT UINT64_MAX

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
	const char *argument; /* the name of its argument in the help; NULL: it takes none */
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
#define CLI_KEY                                                                                   \
	{                                                                                         \
		"key", 0, "FILE", CLI_TEXT, CLI_FIELD(key),                                       \
			"your key, or where to make it (default THAW_KEY, or ~/.config/thaw/key)" \
	}
/* Of who looks at an image, or changes it, that is authenticated. */
#define CLI_IMAGE_KEY                                                       \
	{                                                                   \
		"key", 0, "FILE", CLI_TEXT, CLI_FIELD(key),                 \
			"its key (default THAW_KEY, or ~/.config/thaw/key)" \
	}
/* Of who makes an image. */
#define CLI_ENCRYPT                                                                             \
	{                                                                                       \
		"encrypt", 0, NULL, CLI_FLAG, CLI_FIELD(encrypt),                               \
			"make the image so that only a key opens it; refuse one that is not so" \
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
#define CLI_COMMIT                                                                             \
	{"commit",                                                                             \
	 0,                                                                                    \
	 "none|output",                                                                        \
	 CLI_TEXT,                                                                             \
	 CLI_FIELD(commit),                                                                    \
	 "output: hold what the program says until what led to it is durable (default none)"}, \
	{                                                                                      \
		"commit-interval", 0, "TIME", CLI_DURATION, CLI_FIELD(commit_interval_ns),     \
			"with it, begin such generations at most this often (default 0)"       \
	}
#define CLI_METRICS                                                                            \
	{                                                                                      \
		"metrics-listen", 0, "unix:PATH|127.0.0.1:PORT", CLI_TEXT, CLI_FIELD(metrics), \
			"serve metrics for Prometheus there, over HTTP"                        \
	}
#define CLI_STORE_TIMEOUT(help)                                                             \
	{                                                                                   \
		"store-timeout", 0, "TIME", CLI_DURATION, CLI_FIELD(store_timeout_ns), help \
	}
#define CLI_REPLACE                                                                              \
	{                                                                                        \
		"replace", 0, NULL, CLI_FLAG, CLI_FIELD(replace),                                \
			"give the store this image's state, although it was continued elsewhere" \
	}
/* Of who runs a program whose image has a copy in an object store (thaw help thaw.7). */
#define CLI_STORE                                                                                   \
	{"replicate",                                                                               \
	 0,                                                                                         \
	 "PLACE",                                                                                   \
	 CLI_TEXT,                                                                                  \
	 CLI_FIELD(replicate),                                                                      \
	 "keep a copy of the image in an object store (s3://BUCKET/PREFIX) while it runs"},         \
		{"replicate-every",                                                                 \
		 0,                                                                                 \
		 "TIME",                                                                            \
		 CLI_DURATION,                                                                      \
		 CLI_FIELD(replicate_every_ns),                                                     \
		 "store at most one record in this time (default 100ms; with --durable remote 0)"}, \
		{"durable",                                                                         \
		 0,                                                                                 \
		 "local|remote",                                                                    \
		 CLI_TEXT,                                                                          \
		 CLI_FIELD(durable),                                                                \
		 "remote: nothing is durable before the store has it (default local)"},             \
		{"durable-timeout",                                                                 \
		 0,                                                                                 \
		 "TIME",                                                                            \
		 CLI_DURATION,                                                                      \
		 CLI_FIELD(durable_timeout_ns),                                                     \
		 "with it, end when nothing was so for this long (default 0: never)"},              \
		CLI_STORE_TIMEOUT(                                                                  \
			"how long a start waits for the store, and an end (default 30s)"),          \
		CLI_REPLACE,                                                                        \
	{                                                                                           \
		"cache", 0, "PATH", CLI_TEXT, CLI_FIELD(cache),                                     \
			"of --image s3://...: the local file (default in ~/.cache/thaw)"            \
	}
#define CLI_COLOR                                                                             \
	{                                                                                     \
		"color", 0, "auto|always|never", CLI_TEXT, CLI_FIELD(color),                  \
			"results in colours (default: on a terminal, unless NO_COLOR is set)" \
	}
#define CLI_FRESH                                              \
	{                                                      \
		"fresh", 0, NULL, CLI_FLAG, CLI_FIELD(fresh),  \
			"start anew, whatever the image holds" \
	}
/*
 * What every command that runs a program takes: from which image it starts and what stays of it,
 * and how much it tells. `verb`: what is done from the generation of --at.
 */
#define CLI_RUN_FROM(image_help, every_help, verb)                                         \
	CLI_IMAGE(image_help), CLI_EVERY(every_help), CLI_FRESH, CLI_AT(verb), CLI_RETAIN, \
		CLI_TRUST, CLI_KEY
#define CLI_RUN_TELL(json_help, quiet_help)                                                \
	CLI_STATS, {"json", 0, NULL, CLI_FLAG, CLI_FIELD(json), json_help},                \
		{"quiet", 'q', NULL, CLI_FLAG, CLI_FIELD(quiet), quiet_help}, CLI_VERBOSE, \
		CLI_HELP
#define CLI_PREFETCH                                                                                      \
	{                                                                                                 \
		"prefetch", 0, "none|working-set|all", CLI_TEXT, CLI_FIELD(prefetch),                     \
			"read in the background what earlier starts touched first, or all (default none)" \
	}
#define CLI_COMPRESS(help)                                                                  \
	{                                                                                   \
		"compress", 0, "none|lz4|zstd[:LEVEL]", CLI_TEXT, CLI_FIELD(compress), help \
	}
#define CLI_COMPRESS_RUN CLI_COMPRESS("store pages so that are written from now on (default none)")
#define CLI_UPGRADE                                                                      \
	{"check",                                                                        \
	 0,                                                                              \
	 "FILE.js",                                                                      \
	 CLI_TEXT,                                                                       \
	 CLI_FIELD(check),                                                               \
	 "run this module in the upgraded program; if it throws, nothing has happened"}, \
		{"time-limit",                                                           \
		 0,                                                                      \
		 "TIME",                                                                 \
		 CLI_DURATION,                                                           \
		 CLI_FIELD(time_limit_ns),                                               \
		 "an upgrade that takes longer has not happened (default 30s)"},         \
	{                                                                                \
		"force", 0, NULL, CLI_FLAG, CLI_FIELD(force),                            \
			"let go the state of modules that say nothing about it"          \
	}
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
	bool takes_places; /* where an image is wanted, s3://... will do */
	bool passes_on;	   /* what follows the first operand belongs to the program that is run */
	/* The options are parsed; the operands follow. Returns the exit code. */
	int (*run)(const struct cli_options *options, int count, char **operands);
};

extern const struct cli_command command_exec, command_checkpoint, command_run, command_repl,
	command_eval, command_look, command_ctl, command_check, command_log, command_tag,
	command_rollback, command_inspect, command_map, command_verify, command_clone,
	command_compact, command_repair, command_export, command_diff, command_top, command_help,
	command_completion, command_upgrade, command_key, command_push, command_pull;

/* ---- All commands, and exit codes (commands.c) ---- */

/* In the order of thaw --help, the one of -e and -p last. NULL: there are no more. */
const struct cli_command *cli_command_at(unsigned index);
/* NULL: there is none of that name. */
const struct cli_command *cli_command_of(const char *name);
/* As its manual is called: "e" for that of -e and -p. */
const char *cli_command_name(const struct cli_command *command);
struct cli_exit {
	const char *code, *means; /* NULL, NULL: the last */
};
extern const struct cli_exit cli_exits[];
void cli_usage(FILE *to);
/* Says so, and what was meant. Returns EXIT_USAGE. */
int cli_unknown_command(const char *name);

/* Parse argv (argv[0] is skipped) by the command's table, then run it. Returns an exit code. */
int cli_dispatch(const struct cli_command *command, int argc, char **argv);
/* The full help of one command, to stdout. */
void cli_help(const struct cli_command *command);
/* The candidate that was probably meant by `word`, or NULL. `candidates` ends with NULL. */
const char *cli_nearest(const char *word, const char *const *candidates);

/* One line on stderr, "thaw: ...". Returns `exit_code`, so that a caller can return it at once. */
int cli_fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Write what was printed. What failed is remembered: errno is another's by the end. */
void cli_flush(void);
/* Text of any length, of which a part may be written, and fail, at once. */
void cli_write(const void *bytes, size_t count);
/* At the end: has all that was printed arrived? If not, says why; an exit code. */
int cli_output_end(void);
/*
 * The same for a library call that failed: prints the text of the error and returns the exit code
 * for its code.
 */
int cli_fail_error(const struct thaw_error *error, int code);
/* So that the program of these options can be talked to: control_close() at its end. 0, or an exit code after printing why not. */
int cli_control(const struct cli_options *options, struct runtime_options *runtime_options);
/* What a piece of code came to with this exit code: its exception, or if `shows` its value. */
void cli_tell_answer(const struct runtime_answer *answer, int code, bool shows);
/* The options of the runtime, as far as they are options of the command line. */
struct runtime_options cli_runtime_options(const struct cli_options *options);
/*
 * Finds the generation that a word of the command line means: a number or a name. Returns 0, or an
 * exit code after printing why.
 */
int cli_find(const struct thaw_image *image, const char *word, uint64_t *generation);
/* The same for an image that is not open, for commands that then change it or run from it. */
int cli_generation(const char *path, const char *word, uint64_t *generation);
/* What --commit and --commit-interval mean. 0, or EXIT_USAGE after printing why. */
int cli_commit(const struct cli_options *options, struct runtime_options *runtime_options);
/* What --color, NO_COLOR and FORCE_COLOR mean. 0, or EXIT_USAGE after printing why. */
int cli_colours(const struct cli_options *options, bool terminal, bool *colours);
/* The flags of thaw_open() that the argument of --prefetch means. 0, or EXIT_USAGE after printing why. */
int cli_prefetch(const char *prefetch, unsigned *flags);
/* THAW_COMPRESS_NONE ..., which the argument of --compress means; NULL: none. 0, or EXIT_USAGE after printing why. */
int cli_compress(const char *compress, unsigned *how);
/* A file with a key, as vm/policy/key.h wants it: with a / in it. 0, or EXIT_USAGE after printing that `option` wants it. */
int cli_key_path(const char *option, const char *file, char path[PATH_MAX]);
/* Have all that is durable listed, if it can be: else say that there is more (thaw_image_settle()). */
void cli_settle(const char *path);
/* Open an image for reading. Returns 0, or an exit code after printing why. */
int cli_open(const char *path, struct thaw_image **image);
/*
 * Prints why an image could not be changed. If a program has it open, adds what to do about it;
 * `instead` is another way, or NULL. Returns the exit code.
 */
int cli_fail_change(const char *image, const char *instead, const struct thaw_error *error,
		    int code);
/*
 * After a change failed with `code`: was the image in use, and should the caller try again? A
 * process that was killed keeps its lock until the kernel has freed its memory. Waits 10 ms each
 * time, half a second in all.
 */
bool cli_again(int code, unsigned *tries);
/*
 * cli_generation() for --at, once the image is known (NULL: there is none). Does nothing without
 * --at; an exit code if --fresh was given, too.
 */
int cli_at(const struct cli_options *options, struct runtime_options *runtime_options);
/* With --stats or --json: print the numbers of the runtime to stderr. */
void cli_stats(struct runtime *runtime, const struct cli_options *options);
/* Is there a regular file of this name that is not empty? */
bool cli_file_exists(const char *path);

/* ---- New code for old state (upgrade.c) ---- */

/*
 * Upgrade the program that was restored, and say what came of it. 0: it is durable, or nothing has changed; else an exit code,
 * and the runtime is to be closed.
 */
int cli_upgrade(struct runtime *runtime, const struct cli_options *options, const char *image);
/* Before the image is opened for it. */
void cli_upgrade_prepare(const char *image);
/* Of an image of thaw exec: what there is instead. Returns the exit code. */
int cli_upgrade_process(void);

/* ---- Generations, for people ---- */

/*
 * "8", "8,10/min,4/15min" (retain.c). False: `why` says what is wrong, with at most `room` bytes.
 */
bool parse_retention(const char *word, struct cli_retention *retention, char *why, size_t room);

/* "between turns", "mid-turn", or of an image of thaw exec "process": which kind it is of. */
const char *kind_word(const struct thaw_generation *generation);
/* Is it of a whole process (thaw exec)? Its heap has no size: it is an address space. */
bool generation_is_process(const struct thaw_generation *generation);
/* The generations of an image with their names, for people (log.c). Returns 0 or an exit code. */
int log_print(const char *image);

/* ---- Reading or writing whole images (progress.c) ---- */

/* A bar on stderr after a second, if that is a terminal and --quiet was not given. */
struct progress {
	const char *verb;
	bool bar, shown;
	uint64_t begun_ns, time_ns; /* when that was, and when it was drawn last */
};
void progress_begin(struct progress *progress, const char *verb, const struct cli_options *options);
/*
 * Draw the bar, as thaw_copy_ops.progress; `progress` is a struct progress. Returns non-zero once a
 * signal has asked the program to end (see interrupt_catch).
 */
int progress_show(void *progress, uint64_t done, uint64_t total);
void progress_clear(struct progress *progress);
/* From now on, the first SIGINT, SIGTERM or SIGHUP only makes progress_show() return non-zero. */
void interrupt_catch(void);
/* cli_fail_change(); but if a signal was the reason, the exit code of a program that it ended. */
int interrupt_fail(const char *image, const struct thaw_error *error, int code);
/* Print "generation 3, pages 5 to 7: ..." without a newline; or write it as an object. */
void damage_print(const struct thaw_damage *damage);
void damage_json(struct json *json, const char *key, const struct thaw_damage *damage);

#endif
