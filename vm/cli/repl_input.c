/* SPDX-License-Identifier: MIT */
/*
 * repl_input.c - where the shell's lines come from. On a terminal: libedit with history.
 * Otherwise: bytes cut at newlines, with no prompt and no echo. Both wait inside
 * runtime_wait_input(), so that timers and checkpoints go on meanwhile. Owner thread only. Must never
 * leave out or cut off what it was given without saying so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/text.h"
#include "base/unicode.h"
#include "repl.h"

#define HISTORY_LINES 1000
#define LISTED_MOST 200u
#define PASTE_BEGIN "\033[200~"

struct repl_input {
	struct runtime *runtime;
	bool terminal;
	/*
	 * What is read: of a terminal another description, whose reads do not wait. For Ctrl-C takes back what was there to
	 * be read, and a read that waits then does not hear of the next one.
	 */
	int fd;
	bool waitable; /* the event loop can wait for it: not a file, not /dev/null */
	bool ended;    /* the program ended while we waited */

	/* terminal */
	EditLine *edit;
	History *history;
	char *history_path;
	const char *prompt;
	mbstate_t multibyte;
	struct repl_paste paste;
	const char *mark;   /* what is left to give out of the mark before a line of the paste */
	bool paste_newline; /* the line of the paste that was inserted is complete */
	int paste_error;    /* of one that could not be taken */
	bool editing;	    /* a line is being typed */
	bool erased;	    /* ... and is not on the screen just now */
	bool moves;	    /* the terminal can move its cursor */

	/* pipe or file */
	char *buffer;
	size_t taken, used, room; /* lines from `taken` on were not given out */
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
		got = read(input->fd, into, room);
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

static ssize_t read_for_paste(void *arg, char *into, size_t room)
{
	struct repl_input *input = arg;
	ssize_t got = read_some(input, into, room);

	if (!got && input->ended) {
		errno = EINTR;
		return -1;
	}
	return got;
}

/*
 * libedit has read the mark that a paste begins with, or the one that next_byte() puts before each
 * line of it: text goes into the line, whatever is in it.
 */
static unsigned char on_paste(EditLine *edit, int character)
{
	struct repl_input *input;
	wchar_t *text;

	(void)character;
	el_get(edit, EL_CLIENTDATA, &input);
	if (!repl_paste_pending(&input->paste))
		input->paste_error = repl_paste_take(&input->paste, read_for_paste, input);
	if (input->paste_error || !repl_paste_pending(&input->paste))
		return CC_NORM;
	text = repl_paste_line(&input->paste, &input->paste_newline);
	if (!text || (*text && el_winsertstr(edit, text)))
		input->paste_error = ENOMEM;
	free(text);
	return CC_REFRESH;
}

/* One byte, typed or of a paste's mark. As read(2). */
static ssize_t next_byte(struct repl_input *input, char *byte)
{
	if (!*input->mark && repl_paste_pending(&input->paste))
		input->mark = PASTE_BEGIN;
	if (*input->mark) {
		*byte = *input->mark++;
		return 1;
	}
	if (repl_paste_typed(&input->paste, byte))
		return 1;
	return read_some(input, byte, 1);
}

/* UTF-8 of so many characters, without the newline that ends them. */
static bool narrow(const wchar_t *text, size_t count, struct repl_text *line)
{
	char *put = malloc(count * 4 + 1);

	*line = (struct repl_text){.data = put};
	if (!put)
		return false;
	for (size_t i = 0; i < count && text[i] != L'\n' && text[i] != L'\r'; i++)
		put += utf8_put((uint32_t)text[i], put);
	*put = '\0';
	line->bytes = (size_t)(put - line->data);
	return true;
}

/* ---- The line makes room ---- */

static unsigned terminal_columns(void)
{
	struct winsize size;

	return !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col ? size.ws_col : 80;
}

/* How libedit shows a character: a tab up to the next stop, ^X, \\177 and its like. */
static unsigned width_of(wchar_t character, unsigned column)
{
	int width = wcwidth(character);

	if (character == L'\t')
		return 8 - column % 8;
	if (character < 0x20 || character == 0x7f)
		return 2;
	return width < 0 ? 8 : (unsigned)width;
}

/* The row of the cursor, from that of the prompt. */
static unsigned cursor_row(struct repl_input *input)
{
	const LineInfoW *line = el_wline(input->edit);
	unsigned columns = terminal_columns(), column = (unsigned)strlen(input->prompt), row;

	row = column / columns;
	column %= columns;
	for (const wchar_t *c = line->buffer; c < line->cursor; c++) {
		unsigned width = width_of(*c, column);

		if (column + width > columns) { /* a wide one does not begin in the last column */
			row++;
			column = 0;
		}
		column += width;
		if (column >= columns) {
			row++;
			column -= columns;
		}
	}
	return row;
}

static void erase(struct repl_input *input)
{
	unsigned row = cursor_row(input);

	if (!input->moves) {
		fputs("\n", stdout);
	} else {
		fputs("\r", stdout);
		if (row)
			fprintf(stdout, "\033[%uA", row);
		fputs("\033[J", stdout);
	}
	fflush(stdout);
}

void repl_input_around_output(void *arg, bool before)
{
	struct repl_input *input = *(struct repl_input **)arg;

	if (!input || !input->editing || input->erased == before)
		return;
	input->erased = before;
	if (before) {
		erase(input);
	} else {
		el_set(input->edit, EL_REFRESH);
		fflush(stdout);
	}
}

/* ---- Tab ---- */

static void insert_text(EditLine *edit, const char *text, size_t bytes)
{
	wchar_t *wide = malloc((bytes + 1) * sizeof(*wide));
	mbstate_t state = {0};
	size_t count;

	if (!wide)
		return;
	count = mbsnrtowcs(wide, &text, bytes, bytes, &state);
	if (count != (size_t)-1) {
		wide[count] = L'\0';
		el_winsertstr(edit, wide);
	}
	free(wide);
}

/* What the line could become, in columns; a screen of it at most. */
static void list_completions(struct repl_input *input, const struct repl_completions *completions)
{
	size_t longest = 1, across,
	       shown = completions->count < LISTED_MOST ? completions->count : LISTED_MOST;

	for (size_t i = 0; i < shown; i++) {
		size_t width = text_width(completions->list[i], strlen(completions->list[i]));

		longest = width > longest ? width : longest;
	}
	across = terminal_columns() / (longest + 2);
	across = across ? across : 1;
	erase(input);
	for (size_t i = 0; i < shown; i++) {
		const char *one = completions->list[i];
		size_t pad = longest + 2 - text_width(one, strlen(one));
		bool last = i % across == across - 1 || i == shown - 1;

		printf("%s%*s", one, last ? 0 : (int)pad, "");
		if (last)
			putchar('\n');
	}
	if (shown < completions->count)
		printf("... and %zu more\n", completions->count - shown);
	el_set(input->edit, EL_REFRESH);
	fflush(stdout);
}

/* The text before the cursor; malloc'ed. */
static char *before_cursor(const LineInfoW *line)
{
	size_t count = (size_t)(line->cursor - line->buffer);
	struct repl_text text;

	return narrow(line->buffer, count, &text) ? text.data : NULL;
}

/* More keys are there already: they were not pressed, but pasted, where the terminal does not mark that. */
static bool is_pasted(struct repl_input *input)
{
	int waiting = 0;

	return repl_paste_pending(&input->paste) ||
	       (!ioctl(STDIN_FILENO, FIONREAD, &waiting) && waiting > 0);
}

static unsigned char on_tab(EditLine *edit, int character)
{
	struct repl_completions completions;
	struct repl_input *input;
	unsigned char result = CC_REFRESH;
	size_t common;
	char *text;

	(void)character;
	el_get(edit, EL_CLIENTDATA, &input);
	text = before_cursor(el_wline(edit));
	if (!text || is_pasted(input) || repl_blank(text, strlen(text))) {
		free(text);
		return el_winsertstr(edit, L"\t") ? CC_ERROR : CC_REFRESH;
	}
	repl_complete(&completions, input->runtime, text);
	common = repl_completions_common(&completions);
	if (!completions.count)
		result = CC_ERROR; /* a bell */
	else if (common > completions.part)
		insert_text(edit, completions.list[0] + completions.part,
			    common - completions.part);
	else if (completions.count > 1)
		list_completions(input, &completions);
	repl_completions_free(&completions);
	free(text);
	return result;
}

/* libedit's source of characters. */
static int next_character(EditLine *edit, wchar_t *character)
{
	struct repl_input *input;

	el_get(edit, EL_CLIENTDATA, &input);
	for (;;) {
		char byte;
		ssize_t got;
		size_t length;

		if (input->paste_error) {
			errno = input->paste_error;
			return -1;
		}
		if (input->paste_newline) {
			input->paste_newline = false;
			*character = L'\n';
			return 1;
		}
		got = next_byte(input, &byte);
		if (got <= 0)
			return (int)got;
		length = mbrtowc(character, &byte, 1, &input->multibyte);
		if (length == (size_t)-2)
			continue;
		if (length == (size_t)-1) {
			memset(&input->multibyte, 0, sizeof(input->multibyte));
			*character = 0xfffd;
		}
		return 1;
	}
}

/*
 * A terminal marks pastes if it was asked to; one that cannot move its cursor was not made for that.
 * In libedit's vi mode, the mark's first byte is a command.
 */
static void bind_keys(struct repl_input *input)
{
	const char *terminal = getenv("TERM"), *editor = NULL;

	el_set(input->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_wset(input->edit, EL_ADDFN, L"thaw-complete", L"Complete what is before the cursor",
		on_tab);
	el_set(input->edit, EL_BIND, "^I", "thaw-complete", NULL);
	/* Wide, because libedit leaks its copies of narrow ones. */
	el_wset(input->edit, EL_ADDFN, L"thaw-paste", L"Take what is pasted as text", on_paste);
	el_source(input->edit, NULL); /* ~/.editrc, as people expect of libedit */
	el_get(input->edit, EL_EDITOR, &editor);
	input->moves = terminal && strcmp(terminal, "dumb");
	if (!input->moves || !editor || strcmp(editor, "emacs"))
		return;
	el_set(input->edit, EL_BIND, "\\e[200~", "thaw-paste", NULL);
	input->paste.asked = true;
}

static bool terminal_open(struct repl_input *input, const char *history_path)
{
	HistEvent event;

	/* JavaScript is UTF-8, and so is every terminal, also where the locale was never set. */
	if (MB_CUR_MAX == 1)
		setlocale(LC_CTYPE, "C.UTF-8");
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
	bind_keys(input);
	history(input->history, &event, H_SETSIZE, HISTORY_LINES);
	history(input->history, &event, H_SETUNIQUE, 1);
	if (history_path) {
		input->history_path = strdup(history_path);
		history(input->history, &event, H_LOAD, history_path);
	}
	return true;
}

static enum repl_event terminal_line(struct repl_input *input, const char *prompt,
				     struct repl_text *line)
{
	const wchar_t *text;
	int count = 0, error;

	input->prompt = prompt;
	input->mark = "";
	input->paste_newline = false;
	input->paste_error = 0;
	repl_paste_begin(&input->paste);
	fflush(stdout);
	input->editing = true;
	input->erased = false;
	memset(&input->multibyte, 0, sizeof(input->multibyte));
	text = el_wgets(input->edit, &count);
	error = errno;
	input->editing = false;
	repl_paste_end(&input->paste);
	if (input->ended)
		return REPL_ENDED;
	if (!text && count < 0) {
		repl_paste_drop(&input->paste);
		errno = error;
		if (error != EINTR)
			return REPL_FAILED;
		puts("^C");
		return REPL_INTERRUPTED;
	}
	if (!text || count <= 0)
		return REPL_END;
	return narrow(text, (size_t)count, line) ? REPL_LINE : REPL_FAILED;
}

/* ---- Pipe ---- */

static bool pipe_room(struct repl_input *input)
{
	size_t room = input->room ? input->room * 2 : 8192;
	char *buffer;

	if (input->taken) { /* once per buffer, not once per line */
		input->used -= input->taken;
		memmove(input->buffer, input->buffer + input->taken, input->used);
		input->taken = 0;
	}
	if (input->room - input->used >= 4096)
		return true;
	if (input->used > GUEST_SOURCE_MAX_BYTES) {
		errno = EFBIG;
		return false;
	}
	buffer = realloc(input->buffer, room);
	if (!buffer)
		return false;
	input->buffer = buffer;
	input->room = room;
	return true;
}

/* Of a line's bytes; what ends it on other systems (CR LF) is no part of it. */
static enum repl_event pipe_give(struct repl_input *input, size_t bytes, bool newline,
				 struct repl_text *line)
{
	const char *text = input->buffer + input->taken;

	input->taken += bytes + (newline ? 1 : 0);
	if (newline && bytes && text[bytes - 1] == '\r')
		bytes--;
	line->data = malloc(bytes + 1);
	if (!line->data)
		return REPL_FAILED;
	memcpy(line->data, text, bytes);
	line->data[bytes] = '\0';
	line->bytes = bytes;
	return REPL_LINE;
}

static enum repl_event pipe_line(struct repl_input *input, struct repl_text *line)
{
	size_t searched = 0;

	for (;;) {
		size_t bytes = input->used - input->taken;
		char *text = input->buffer + input->taken, *newline = NULL;
		ssize_t got;

		if (bytes > searched)
			newline = memchr(text + searched, '\n', bytes - searched);
		if (newline)
			return pipe_give(input, (size_t)(newline - text), true, line);
		if (input->at_end)
			return bytes ? pipe_give(input, bytes, false, line) : REPL_END;
		searched = bytes;
		if (!pipe_room(input))
			return REPL_FAILED;
		got = read_some(input, input->buffer + input->used, input->room - input->used);
		if (input->ended)
			return REPL_ENDED;
		if (got < 0)
			return errno == EINTR ? REPL_INTERRUPTED : REPL_FAILED;
		input->at_end = !got;
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
	input->fd = isatty(STDIN_FILENO)
			    ? open("/proc/self/fd/0", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
			    : STDIN_FILENO;
	if (input->fd < 0) /* somebody else's */
		input->fd = STDIN_FILENO;
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
	repl_paste_drop(&input->paste);
	free(input->buffer);
	if (input->fd != STDIN_FILENO)
		close(input->fd);
	free(input);
}

bool repl_input_is_terminal(const struct repl_input *input)
{
	return input->terminal;
}

enum repl_event repl_input_line(struct repl_input *input, const char *prompt,
				struct repl_text *line)
{
	return input->terminal ? terminal_line(input, prompt, line) : pipe_line(input, line);
}

/* The file is replaced as a whole: a kill in the middle leaves the one before. */
void repl_input_remember(struct repl_input *input, const char *line)
{
	char temporary[4096 + 8];
	HistEvent event;
	mode_t mask;
	int saved;

	if (!input->terminal || repl_blank(line, strlen(line)))
		return;
	history(input->history, &event, H_ENTER, line);
	if (!input->history_path || snprintf(temporary, sizeof(temporary), "%s.new",
					     input->history_path) >= (int)sizeof(temporary))
		return;
	mask = umask(077); /* what is typed is nobody else's */
	saved = history(input->history, &event, H_SAVE, temporary);
	umask(mask);
	if (saved >= 0)
		rename(temporary, input->history_path);
}
