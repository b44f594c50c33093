/* SPDX-License-Identifier: MIT */
/*
 * repl_paste.c - what is pasted into the shell's terminal is text, not keys: tabs in it are kept, and
 * so is every other character that would be an editing command.
 *
 * The terminal marks pastes (bracketed paste: xterm's control sequences, mode 2004; those that do not
 * know it ignore the request). One is taken as a whole while the terminal is raw: between two lines it
 * is not, and would edit, echo and cut off what arrives. Called by repl_input.c, owner thread only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "repl.h"

#define PASTE_END "\033[201~"
#define PASTE_END_BYTES (sizeof(PASTE_END) - 1)

void repl_paste_begin(const struct repl_paste *paste)
{
	if (paste->asked)
		fputs("\033[?2004h", stdout);
}

void repl_paste_end(const struct repl_paste *paste)
{
	if (!paste->asked)
		return;
	fputs("\033[?2004l", stdout);
	fflush(stdout);
}

static bool make_room(struct repl_paste *paste)
{
	size_t room = paste->room ? paste->room * 2 : 4096;
	char *data;

	if (paste->room > paste->used)
		return true;
	data = realloc(paste->data, room);
	if (!data)
		return false;
	paste->data = data;
	paste->room = room;
	return true;
}

/* Of what is there now; NULL: not yet. Looks only where it can have become complete. */
static char *find_end(const struct repl_paste *paste, size_t searched)
{
	size_t from = searched > PASTE_END_BYTES ? searched - PASTE_END_BYTES : 0;

	return memmem(paste->data + from, paste->used - from, PASTE_END, PASTE_END_BYTES);
}

static int take(struct repl_paste *paste, ssize_t (*read)(void *arg, char *into, size_t room),
		void *arg, char **end)
{
	size_t searched = 0;

	for (*end = NULL; !*end;) {
		ssize_t got;

		if (paste->used)
			*end = find_end(paste, searched);
		searched = paste->used;
		if (*end)
			break;
		if (paste->used > GUEST_SOURCE_MAX_BYTES)
			return EFBIG;
		if (!make_room(paste))
			return ENOMEM;
		got = read(arg, paste->data + paste->used, paste->room - paste->used);
		if (got <= 0)
			return got ? errno : EIO;
		paste->used += (size_t)got;
	}
	return 0;
}

int repl_paste_take(struct repl_paste *paste, ssize_t (*read)(void *arg, char *into, size_t room),
		    void *arg)
{
	size_t typed = paste->used - paste->at;
	char *end;
	int error;

	/* What was typed behind the last one may be the beginning of this one. */
	if (typed)
		memmove(paste->data, paste->data + paste->at, typed);
	paste->used = typed;
	paste->at = paste->end = 0;
	error = take(paste, read, arg, &end);
	if (error) {
		repl_paste_drop(paste);
		return error;
	}
	paste->end = (size_t)(end - paste->data);
	paste->used -= PASTE_END_BYTES;
	memmove(end, end + PASTE_END_BYTES, paste->used - paste->end);
	return 0;
}

/* A NUL would end the text for libedit: it is shown as what it is not, rather than cut the line. */
static wchar_t *widen(const char *text, size_t bytes)
{
	wchar_t *wide = malloc((bytes + 1) * sizeof(*wide)), *put = wide;
	mbstate_t state = {0};

	while (wide && bytes) {
		size_t length = mbrtowc(put, text, bytes, &state);

		if (!length || length > bytes) {
			*put = 0xfffd;
			length = 1;
			memset(&state, 0, sizeof(state));
		}
		put++;
		text += length;
		bytes -= length;
	}
	if (wide)
		*put = L'\0';
	return wide;
}

bool repl_paste_pending(const struct repl_paste *paste)
{
	return paste->at < paste->end;
}

wchar_t *repl_paste_line(struct repl_paste *paste, bool *newline)
{
	const char *text = paste->data + paste->at;
	size_t left = paste->end - paste->at, length = 0;
	wchar_t *wide;

	*newline = false;
	if (paste->at >= paste->end)
		return NULL;
	while (length < left && text[length] != '\n' && text[length] != '\r')
		length++;
	wide = widen(text, length);
	if (!wide)
		return NULL;
	if (length < left) {
		*newline = true;
		length += text[length] == '\r' && left - length > 1 && text[length + 1] == '\n' ? 2
												: 1;
	}
	paste->at += length;
	return wide;
}

bool repl_paste_typed(struct repl_paste *paste, char *byte)
{
	if (paste->at >= paste->used)
		return false;
	*byte = paste->data[paste->at++];
	if (paste->at == paste->used)
		repl_paste_drop(paste);
	return true;
}

void repl_paste_drop(struct repl_paste *paste)
{
	free(paste->data);
	*paste = (struct repl_paste){.asked = paste->asked};
}
