/* SPDX-License-Identifier: MIT */
/*
 * top_screen.c - the screen of `thaw top`: draws it with VT100 sequences, takes keys and signals.
 * One thread.
 *
 * Owns the terminal while it shows: whatever ends the process, the terminal is as it was before,
 * but for SIGKILL. Signals are blocked but for the time of waiting and of writing, so that flags
 * are all that handlers have to set.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "top.h"
#include "top_frame.h"

#define FIRST_NS 1000000000u /* after which the first rates are shown, if the interval is longer */

/* The other screen, no cursor; and back. */
static const char enter_sequence[] = "\033[?1049h\033[?25l";
static const char leave_sequence[] = "\033[m\033[?25h\033[?1049l";

/* ---- The terminal: for signal handlers, too ---- */

static struct termios terminal_before;
static volatile sig_atomic_t terminal_raw, terminal_entered;

/* A process in the background must not change it: who is in the foreground has it. */
static bool in_foreground(void)
{
	return tcgetpgrp(STDOUT_FILENO) == getpgrp();
}

/* Async-signal-safe. */
static void terminal_leave(void)
{
	int saved = errno;
	ssize_t put;

	if (terminal_entered && in_foreground()) {
		put = write(STDOUT_FILENO, leave_sequence, sizeof(leave_sequence) - 1);
		(void)put; /* the terminal may be gone */
		if (terminal_raw)
			tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_before);
	}
	terminal_entered = terminal_raw = 0;
	errno = saved;
}

/* Keys come one by one, and unseen; Ctrl-C and Ctrl-Z stay signals. */
static void terminal_enter(void)
{
	struct termios raw;

	if (!terminal_raw && isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &terminal_before))
		terminal_raw = 1;
	if (terminal_raw) {
		raw = terminal_before;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		raw.c_cc[VMIN] = 1;
		raw.c_cc[VTIME] = 0;
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	terminal_entered = 1;
}

/* ---- Signals ---- */

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGXCPU};
#define ENDING (sizeof(ending) / sizeof(ending[0]))
#define FATAL (sizeof(fatal) / sizeof(fatal[0]))

static volatile sig_atomic_t ended, stop_wanted, continued, resized;
static sigset_t mask_waiting; /* while it waits: what it was before */

static void on_signal(int number)
{
	if (number == SIGTSTP)
		stop_wanted = 1;
	else if (number == SIGCONT)
		continued = 1;
	else if (number == SIGWINCH)
		resized = 1;
	else
		ended = number;
}

/* Its default action comes when the handler returns. */
static void on_fatal(int number)
{
	terminal_leave();
	raise(number);
}

/* What was ignored stays ignored (nohup). */
static void signal_catch(int number, void (*handler)(int), int flags, sigset_t *blocked)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, before;

	if (!sigaction(number, NULL, &before) && before.sa_handler == SIG_IGN)
		return;
	sigemptyset(&action.sa_mask);
	sigaction(number, &action, NULL);
	if (blocked)
		sigaddset(blocked, number);
}

static void signals_take(void)
{
	sigset_t blocked;

	sigemptyset(&blocked);
	for (size_t i = 0; i < ENDING; i++)
		signal_catch(ending[i], on_signal, 0, &blocked);
	signal_catch(SIGTSTP, on_signal, 0, &blocked);
	signal_catch(SIGCONT, on_signal, 0, &blocked);
	signal_catch(SIGWINCH, on_signal, 0, &blocked);
	for (size_t i = 0; i < FATAL; i++)
		signal_catch(fatal[i], on_fatal, (int)SA_RESETHAND, NULL);
	sigprocmask(SIG_BLOCK, &blocked, &mask_waiting);
}

/* ---- Drawing ---- */

struct screen {
	struct top *top;
	struct top_frame frame;
	bool help;
	/* An escape sequence that a key has sent a part of. */
	char pending[16];
	size_t pending_bytes;
};

static void screen_size(struct screen *screen)
{
	struct winsize size;

	screen->frame.columns = 80;
	screen->frame.lines = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size))
		return;
	if (size.ws_col)
		screen->frame.columns = size.ws_col;
	if (size.ws_row)
		screen->frame.lines = size.ws_row;
}

/*
 * Signals come meanwhile: somebody may have stopped the terminal with Ctrl-S. False: it failed, or
 * has to end.
 */
static bool screen_write(const char *text, size_t bytes)
{
	while (bytes && !ended) {
		struct pollfd ready = {STDOUT_FILENO, POLLOUT, 0};
		sigset_t mask;
		ssize_t put;

		if (ppoll(&ready, 1, NULL, &mask_waiting) < 0) {
			if (errno != EINTR)
				return false;
			continue;
		}
		sigprocmask(SIG_SETMASK, &mask_waiting, &mask);
		put = write(STDOUT_FILENO, text, bytes);
		sigprocmask(SIG_SETMASK, &mask, NULL);
		if (put < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		text += put > 0 ? put : 0;
		bytes -= put > 0 ? (size_t)put : 0;
	}
	return !ended;
}

/* Where it can be read. */
static int screen_fail(const char *what, int error)
{
	terminal_leave();
	return cli_fail(EXIT_IO, "%s: %s", what, strerror(error));
}

static int screen_draw(struct screen *screen)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	int code = 0;

	if (!to)
		return screen_fail("cannot draw", ENOMEM);
	fputs("\033[H", to);
	if (screen->help)
		top_frame_help(&screen->frame, to);
	else
		top_frame_draw(&screen->frame, screen->top, to);
	fputs("\033[J", to);
	if (fclose(to))
		code = ENOMEM;
	else if (!screen_write(text, bytes) && !ended)
		code = errno;
	free(text);
	return code ? screen_fail("cannot write to the terminal", code) : 0;
}

static int screen_enter(struct screen *screen)
{
	terminal_enter();
	screen_size(screen);
	resized = continued = 0;
	if (!screen_write(enter_sequence, sizeof(enter_sequence) - 1))
		return 0;
	return screen_draw(screen);
}

/* Ctrl-Z: until it is continued, the terminal is the shell's. */
static int screen_stop(struct screen *screen)
{
	struct sigaction before, action = {.sa_handler = SIG_DFL};
	sigset_t mask;

	stop_wanted = 0;
	terminal_leave();
	sigaction(SIGTSTP, &action, &before);
	raise(SIGTSTP);
	sigprocmask(SIG_SETMASK, &mask_waiting, &mask);
	/* Stopped, and continued. */
	sigprocmask(SIG_SETMASK, &mask, NULL);
	sigaction(SIGTSTP, &before, NULL);
	return ended ? 0 : screen_enter(screen);
}

/* ---- Keys ---- */

enum answer { NOTHING, DRAW, REFRESH, QUIT };

static enum answer sort_by(struct top *top, const struct top_column *column)
{
	/* Its key again: the other way. */
	top->reverse = column == top->sort && !top->reverse;
	top->sort = column;
	top_sort(top);
	return DRAW;
}

/* To the next column on the left (-1) or right (1) that can be seen. */
static enum answer sort_beside(struct screen *screen, int step)
{
	struct top *top = screen->top;
	long at = top->sort - top_columns;

	do
		at = (at + step + (long)top_column_count) % (long)top_column_count;
	while (!screen->frame.shown[at] && &top_columns[at] != top->sort);
	top->reverse = false;
	top->sort = &top_columns[at];
	top_sort(top);
	return DRAW;
}

static enum answer key_pressed(struct screen *screen, char key)
{
	const struct top_column *column;

	if (screen->help) {
		screen->help = false;
		return DRAW;
	}
	switch (key) {
	case 'q':
		return QUIT;
	case ' ':
		return REFRESH;
	case 'h':
	case '?':
		screen->help = true;
		return DRAW;
	case '<':
		return sort_beside(screen, -1);
	case '>':
		return sort_beside(screen, 1);
	case 'r':
	case 'R':
		screen->top->reverse = !screen->top->reverse;
		top_sort(screen->top);
		return DRAW;
	case '\f':
		return DRAW;
	}
	column = top_column_with_key(key);
	return column && top_column_is_used(column, &screen->top->sample)
		       ? sort_by(screen->top, column)
		       : NOTHING;
}

/* The arrows, page up and down, home and end. */
static enum answer cursor_moved(struct screen *screen, char key, char parameter)
{
	size_t page = screen->frame.rows > 1 ? screen->frame.rows - 1 : 1;
	long first = (long)screen->frame.first;

	if (key == 'A')
		first--;
	else if (key == 'B')
		first++;
	else if (key == '~' && parameter == '5')
		first -= (long)page;
	else if (key == '~' && parameter == '6')
		first += (long)page;
	else if (key == 'H' || (key == '~' && (parameter == '1' || parameter == '7')))
		first = 0;
	else if (key == 'F' || (key == '~' && (parameter == '4' || parameter == '8')))
		first = (long)screen->top->count;
	else
		return NOTHING;
	screen->frame.first = first < 0 ? 0 : (size_t)first; /* the frame knows the end */
	return DRAW;
}

/* One byte more. "\033[A", "\033OA", "\033[5~". */
static enum answer byte_typed(struct screen *screen, char byte)
{
	char *pending = screen->pending;

	if (byte == '\033') {
		pending[0] = byte;
		screen->pending_bytes = 1;
		return NOTHING;
	}
	if (screen->pending_bytes == 1 && byte != '[' && byte != 'O')
		screen->pending_bytes = 0; /* the key Escape, and another one */
	if (!screen->pending_bytes)
		return key_pressed(screen, byte);
	if (screen->pending_bytes < sizeof(screen->pending))
		pending[screen->pending_bytes++] = byte;
	if (screen->pending_bytes == 2 || byte < '@' || byte > '~')
		return NOTHING;
	screen->pending_bytes = 0;
	return cursor_moved(screen, byte, pending[2]);
}

/* All that was typed. */
static enum answer keys_take(struct screen *screen)
{
	enum answer most = NOTHING;
	char bytes[64];
	ssize_t got = read(STDIN_FILENO, bytes, sizeof(bytes));

	if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
		return QUIT; /* the terminal is gone */
	for (ssize_t i = 0; i < got && most != QUIT; i++) {
		enum answer answer = byte_typed(screen, bytes[i]);

		most = answer > most ? answer : most;
	}
	return most;
}

/* ---- The loop ---- */

/* Waits for a key or a signal, at most until then. `key`: there is one. */
static int screen_wait(uint64_t until_ns, bool *key)
{
	/* Some come while it draws. */
	bool signalled = ended || stop_wanted || continued || resized;
	uint64_t now = clock_monotonic_ns();
	uint64_t left = until_ns > now && !signalled ? until_ns - now : 0;
	struct timespec timeout = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
	struct pollfd ready = {terminal_raw ? STDIN_FILENO : -1, POLLIN, 0};
	int count = ppoll(&ready, 1, &timeout, &mask_waiting);

	*key = count > 0;
	return count < 0 && errno != EINTR ? screen_fail("cannot wait for keys", errno) : 0;
}

static int screen_refresh(struct screen *screen)
{
	struct thaw_error error = {0};
	int code = top_refresh(screen->top, &error);

	if (!code)
		return screen_draw(screen);
	terminal_leave();
	return cli_fail_error(&error, code);
}

/* What signals have asked for. */
static int screen_signalled(struct screen *screen)
{
	if (stop_wanted)
		return screen_stop(screen);
	if (continued) /* after SIGSTOP: the shell has used the terminal */
		return screen_enter(screen);
	if (!resized)
		return 0;
	resized = 0;
	screen_size(screen);
	return screen_draw(screen);
}

static int screen_loop(struct screen *screen, uint64_t count)
{
	struct top *top = screen->top;
	uint64_t first_ns = top->interval_ns < FIRST_NS ? top->interval_ns : FIRST_NS;
	uint64_t next_ns = top->sample.clock_ns + first_ns, refreshes = 0;
	int code = 0;

	while (!code && !ended && (!count || refreshes < count)) {
		enum answer answer = NOTHING;
		bool key;

		code = screen_wait(next_ns, &key);
		if (!code && !ended)
			code = screen_signalled(screen);
		if (code || ended)
			break;
		if (key)
			answer = keys_take(screen);
		if (answer == QUIT)
			break;
		if (answer == REFRESH || clock_monotonic_ns() >= next_ns) {
			code = screen_refresh(screen);
			next_ns = top->sample.clock_ns + top->interval_ns;
			refreshes++;
		} else if (answer == DRAW) {
			code = screen_draw(screen);
		}
	}
	return code;
}

bool top_screen_possible(void)
{
	const char *terminal = getenv("TERM");

	return isatty(STDOUT_FILENO) && terminal && *terminal && strcmp(terminal, "dumb") != 0;
}

int top_screen_run(struct top *top, uint64_t count)
{
	struct screen screen = {.top = top};
	struct thaw_error error = {0};
	int code = top_refresh(top, &error);

	if (code)
		return cli_fail_error(&error, code);
	signals_take();
	code = screen_enter(&screen);
	if (!code)
		code = screen_loop(&screen, count);
	terminal_leave();
	/* What was asked for stays to be read. */
	if (!code && !ended && count)
		top_frame_print(&screen.frame, top, stdout);
	return ended ? 128 + ended : code;
}
