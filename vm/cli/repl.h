/* SPDX-License-Identifier: MIT */
/*
 * repl.h - the parts of the shell: repl.c (what it does), repl_commands.c (.help and its like), repl_input.c and
 * repl_paste.c (lines), repl_complete.c (Tab), repl_syntax.c (is it finished?).
 */
#ifndef VM_CLI_REPL_H
#define VM_CLI_REPL_H

#include <stdbool.h>
#include <stddef.h>

#include "cli.h"

/* Text with a terminator that is not counted; NULs in it are. */
struct repl_text {
	char *data; /* malloc'ed */
	size_t bytes;
};

/* ---- repl_syntax.c ---- */

/* How far a statement has come, line by line. Starts zeroed; repl_scan_end() frees what it took. */
struct repl_scan {
	const char *at, *end; /* of the line under way */
	char *open;	      /* '(', '[', '{', or '$' for the braces of ${...} */
	size_t depth, room;
	char inside; /* '`', '*' (a comment), '"' or '\'' (a joined string) at its end; 0: none */
	bool broken; /* a closing bracket that closes nothing: the engine will say so */
	bool value_before; /* what came last could be divided: a '/' now is no regular expression */
};

/* One more line, or several. True: more of them are needed before this can be evaluated. */
bool repl_scan_more(struct repl_scan *scan, const char *text, size_t bytes);
void repl_scan_end(struct repl_scan *scan);
/* Nothing but white space. */
bool repl_blank(const char *code, size_t bytes);

/* ---- repl_input.c ---- */

struct repl_input; /* lines from a terminal (libedit, history) or from a pipe or file */

enum repl_event {
	REPL_LINE,	  /* a line, without its newline */
	REPL_INTERRUPTED, /* Ctrl-C: forget what was typed */
	REPL_END,	  /* Ctrl-D, or the end of the pipe */
	REPL_ENDED,	  /* the program ended (exit(), a signal) while it waited */
	REPL_FAILED, /* it cannot be read (errno; EFBIG: a line above GUEST_SOURCE_MAX_BYTES) */
};

/*
 * `history`: file of earlier lines; NULL: none. NULL on failure (errno). While it waits, the
 * runtime's loop goes on.
 */
struct repl_input *repl_input_open(struct runtime *runtime, const char *history);
void repl_input_close(struct repl_input *input);
bool repl_input_is_terminal(const struct repl_input *input);
/* The next line; malloc'ed into *line for REPL_LINE. */
enum repl_event repl_input_line(struct repl_input *input, const char *prompt,
				struct repl_text *line);
/* Remember a line, in this session and in the file. */
void repl_input_remember(struct repl_input *input, const char *line);

/* The shell's loop reads the next line, or has read the last: what is written meanwhile makes room for it. */
void repl_input_around_output(void *input, bool before);

/* ---- repl_complete.c ---- */

struct repl_completions {
	char **list; /* sorted */
	size_t count;
	size_t part; /* bytes before the cursor that each of them stands for */
};
/* `text` is what stands before the cursor. */
void repl_complete(struct repl_completions *completions, struct runtime *runtime, const char *text);
size_t repl_completions_common(const struct repl_completions *completions);
void repl_completions_free(struct repl_completions *completions);

/* ---- repl_commands.c ---- */

struct repl;
struct repl_command {
	const char *name, *argument, *help;
	void (*run)(struct repl *repl, const char *argument);
};
extern const struct repl_command repl_commands[]; /* ends with {NULL} */
/* A line that begins with a dot. */
void repl_command_do(struct repl *repl, const char *line);

/* ---- repl.c ---- */

struct repl {
	struct runtime *runtime;
	struct repl_input *input;
	const struct cli_options *options;
	const char *image;
	bool terminal, colours;
	bool unsaved; /* the last checkpoint failed, and the user knows */
	bool failed;  /* a line did: what was typed can be typed again, what was piped cannot */
	uint64_t saved_turns; /* how many turns had run when it succeeded */
	bool leave;
	bool told; /* `code` is how the program ended, or why there are no more lines */
	int code;
	struct repl_text session; /* what was evaluated and did not fail, for .save */
};
/* Evaluate it, print, make it durable. False: it failed, or the program has ended. */
bool repl_evaluate(struct repl *repl, struct repl_text code, bool shows);
/* Is more needed before this line, the newest of the code, can be evaluated? */
bool repl_needs_more(struct repl *repl, struct repl_scan *scan, struct repl_text line,
		     struct repl_text code);
/* With a newline between. False: errno; EFBIG: it would be too long. */
bool repl_append(struct repl_text *code, struct repl_text line);

/* ---- repl_paste.c: bytes that came from the terminal before they are wanted ---- */

struct repl_paste {
	bool asked; /* the terminal shall mark what is pasted */
	char *data; /* as it came: a paste, then what was typed after it */
	size_t used, room;
	size_t at;  /* the first byte that was not taken */
	size_t end; /* of the paste; what is behind it was typed */
};

/* Ask the terminal to mark pastes, while a line is read; no-ops if it was never asked to. */
void repl_paste_begin(const struct repl_paste *paste);
void repl_paste_end(const struct repl_paste *paste);
/*
 * The mark of a beginning was read: take all up to that of the end. `read` is as read(2). 0, or an
 * errno: EFBIG if it is too long, EINTR; then nothing of it is left.
 */
int repl_paste_take(struct repl_paste *paste, ssize_t (*read)(void *arg, char *into, size_t room),
		    void *arg);
/* Is anything left of it? */
bool repl_paste_pending(const struct repl_paste *paste);
/*
 * Of the paste: text up to the next newline or its end, as wide characters, malloc'ed. `newline`:
 * one was taken with it. NULL: nothing is left of it, or there is no memory.
 */
wchar_t *repl_paste_line(struct repl_paste *paste, bool *newline);
/* A byte that was typed behind the paste. False: none. */
bool repl_paste_typed(struct repl_paste *paste, char *byte);
/* Forget all of it. */
void repl_paste_drop(struct repl_paste *paste);

#endif
