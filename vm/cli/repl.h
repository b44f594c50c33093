/* SPDX-License-Identifier: MIT */
/*
 * repl.h - the three parts of the shell: repl.c (what it does), repl_input.c (lines),
 * repl_syntax.c (is it finished?).
 */
#ifndef VM_CLI_REPL_H
#define VM_CLI_REPL_H

#include <stdbool.h>

#include "cli.h"

/* More lines are needed before this can be evaluated. */
bool repl_unfinished(const char *code);
/* Nothing but white space. */
bool repl_blank(const char *code);

struct repl_input; /* lines from a terminal (libedit, history) or from a pipe or file */

enum repl_event {
	REPL_LINE,	  /* a line, without its newline */
	REPL_INTERRUPTED, /* Ctrl-C: forget what was typed */
	REPL_END,	  /* Ctrl-D, or the end of the pipe */
	REPL_ENDED,	  /* the program ended (exit(), a signal) while it waited */
	REPL_TOO_LONG,	  /* a line of more than JS_SOURCE_MAX_BYTES, or than memory has room for */
};

/*
 * `history`: file of earlier lines; NULL: none. NULL on failure (errno). While it waits, the
 * runtime's loop goes on.
 */
struct repl_input *repl_input_open(struct runtime *runtime, const char *history);
void repl_input_close(struct repl_input *input);
bool repl_input_is_terminal(const struct repl_input *input);
/* The next line; malloc'ed into *line for REPL_LINE. */
enum repl_event repl_input_line(struct repl_input *input, const char *prompt, char **line);
/* Remember a line, in this session and in the file. */
void repl_input_remember(struct repl_input *input, const char *line);

#endif
