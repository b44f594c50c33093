/* SPDX-License-Identifier: MIT */
/*
 * repl_input.c - where the shell's lines come from. On a terminal: libedit with history.
 * Otherwise: bytes cut at newlines, with no prompt and no echo. Both wait inside
 * runtime_wait_input(), so that timers and checkpoints go on meanwhile. Owner thread only.
 */
#include <errno.h>
#include <histedit.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "repl.h"

#define HISTORY_LINES 1000

struct repl_input {
	struct runtime *runtime;
	bool terminal;
	bool waitable; /* the event loop can wait for it: not a file, not /dev/null */
	bool ended;    /* the program ended while we waited */

	/* terminal */
	EditLine *edit;
	History *history;
	char *history_path;
	const char *prompt;
	mbstate_t multibyte;

	/* pipe or file */
	char *buffer;
	size_t used, room;
	bool at_end;
};

/*
 * One read, once there is something to read. > 0: bytes; 0: end of input or of the program; -1:
 * errno, EINTR for Ctrl-C.
 */
static ssize_t read_some(struct repl_input *input, char *into, size_t room)
{
	for (;;) {
		int ready = input->waitable ? runtime_wait_input(input->runtime, STDIN_FILENO) : 1;
		ssize_t got;

		if (ready < 0) {
			errno = EINTR;
			return -1;
		}
		if (ready == 0) {
			input->ended = true;
			return 0;
		}
		got = read(STDIN_FILENO, into, room);
		if (got >= 0 || (errno != EINTR && errno != EAGAIN))
			return got;
	}
}

/* ---- Terminal ---- */

static char *prompt_of(EditLine *edit)
{
	struct repl_input *input;

	el_get(edit, EL_CLIENTDATA, &input);
	return (char *)input->prompt;
}

/*
 * libedit's source of characters. A timer that printed meanwhile left the cursor on a line of its
 * own: draw again.
 */
static int next_character(EditLine *edit, wchar_t *character)
{
	struct runtime_stats before, after;
	struct repl_input *input;

	el_get(edit, EL_CLIENTDATA, &input);
	for (;;) {
		char byte;
		ssize_t got;
		size_t length;

		runtime_stats(input->runtime, &before);
		got = read_some(input, &byte, 1);
		if (got <= 0)
			return (int)got;
		runtime_stats(input->runtime, &after);
		if (after.output_bytes != before.output_bytes)
			el_set(edit, EL_REFRESH);
		length = mbrtowc(character, &byte, 1, &input->multibyte);
		if (length == (size_t)-2)
			continue;
		if (length == (size_t)-1) {
			memset(&input->multibyte, 0, sizeof(input->multibyte));
			*character = L'?';
		}
		return 1;
	}
}

static bool terminal_open(struct repl_input *input, const char *history_path)
{
	HistEvent event;

	input->edit = el_init("thaw", stdin, stdout, stderr);
	input->history = history_init();
	if (!input->edit || !input->history)
		return false;
	el_set(input->edit, EL_CLIENTDATA, input);
	el_set(input->edit, EL_PROMPT, prompt_of);
	el_set(input->edit, EL_EDITOR, "emacs");
	el_set(input->edit, EL_SIGNAL, 0); /* signals are the runtime's */
	el_set(input->edit, EL_GETCFN, next_character);
	el_set(input->edit, EL_HIST, history, input->history);
	el_set(input->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_source(input->edit, NULL); /* ~/.editrc, as people expect of libedit */
	history(input->history, &event, H_SETSIZE, HISTORY_LINES);
	history(input->history, &event, H_SETUNIQUE, 1);
	if (history_path) {
		input->history_path = strdup(history_path);
		history(input->history, &event, H_LOAD, history_path);
	}
	return true;
}

static enum repl_event terminal_line(struct repl_input *input, const char *prompt, char **line)
{
	const char *text;
	int count = 0;
	size_t length;

	input->prompt = prompt;
	fflush(stdout);
	memset(&input->multibyte, 0, sizeof(input->multibyte));
	text = el_gets(input->edit, &count);
	if (input->ended)
		return REPL_ENDED;
	if (!text && count < 0 && errno == EINTR) {
		puts("^C");
		return REPL_INTERRUPTED;
	}
	if (!text || count <= 0)
		return REPL_END;
	length = strcspn(text, "\r\n");
	*line = strndup(text, length);
	return *line ? REPL_LINE : REPL_END;
}

/* ---- Pipe ---- */

static bool pipe_room(struct repl_input *input)
{
	size_t room = input->room ? input->room * 2 : 4096;
	char *buffer;

	if (input->room - input->used >= 4096)
		return true;
	buffer = realloc(input->buffer, room + 4096);
	if (!buffer)
		return false;
	input->buffer = buffer;
	input->room = room + 4096;
	return true;
}

static enum repl_event pipe_line(struct repl_input *input, char **line)
{
	size_t searched = 0;

	for (;;) {
		char *newline = input->used > searched ? memchr(input->buffer + searched, '\n',
								input->used - searched)
						       : NULL;
		size_t length = newline ? (size_t)(newline - input->buffer) : input->used;
		ssize_t got;

		if (newline || (input->at_end && input->used)) {
			size_t taken = length + (newline ? 1 : 0);

			*line = strndup(input->buffer, length);
			memmove(input->buffer, input->buffer + taken, input->used - taken);
			input->used -= taken;
			return *line ? REPL_LINE : REPL_END;
		}
		if (input->at_end)
			return REPL_END;
		searched = input->used;
		if (input->used > JS_SOURCE_MAX_BYTES)
			return REPL_TOO_LONG;
		if (!pipe_room(input))
			return REPL_TOO_LONG;
		got = read_some(input, input->buffer + input->used, input->room - input->used);
		if (got < 0 && errno == EINTR)
			return REPL_INTERRUPTED;
		if (input->ended)
			return REPL_ENDED;
		if (got <= 0)
			input->at_end = true;
		else
			input->used += (size_t)got;
	}
}

/* ---- Either ---- */

struct repl_input *repl_input_open(struct runtime *runtime, const char *history_path)
{
	struct repl_input *input = calloc(1, sizeof(*input));
	struct stat status;

	if (!input)
		return NULL;
	input->runtime = runtime;
	input->terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	/* epoll refuses files and most devices (EPERM); they never make anyone wait. */
	input->waitable = isatty(STDIN_FILENO) ||
			  (!fstat(STDIN_FILENO, &status) &&
			   (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode)));
	if (input->terminal && !terminal_open(input, history_path)) {
		repl_input_close(input);
		errno = ENOMEM;
		return NULL;
	}
	return input;
}

void repl_input_close(struct repl_input *input)
{
	if (!input)
		return;
	if (input->edit)
		el_end(input->edit);
	if (input->history)
		history_end(input->history);
	free(input->history_path);
	free(input->buffer);
	free(input);
}

bool repl_input_is_terminal(const struct repl_input *input)
{
	return input->terminal;
}

enum repl_event repl_input_line(struct repl_input *input, const char *prompt, char **line)
{
	return input->terminal ? terminal_line(input, prompt, line) : pipe_line(input, line);
}

/* The file is replaced as a whole: a kill in the middle leaves the one before. */
void repl_input_remember(struct repl_input *input, const char *line)
{
	char temporary[4096 + 8];
	HistEvent event;

	if (!input->terminal || repl_blank(line))
		return;
	history(input->history, &event, H_ENTER, line);
	if (!input->history_path || snprintf(temporary, sizeof(temporary), "%s.new",
					     input->history_path) >= (int)sizeof(temporary))
		return;
	if (history(input->history, &event, H_SAVE, temporary) >= 0)
		rename(temporary, input->history_path);
}
