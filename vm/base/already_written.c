/* SPDX-License-Identifier: MIT */
/*
 * already_written.c - comparing what a regular file has with what is to be printed; see already_written.h.
 *
 * Owns nothing; any thread. Must never count a byte that is not there: it would be lost. What is there and cannot be told
 * from another's is printed again. Lines are what people and programs read a log by, and what one call mostly writes; so
 * where the two differ, what is the same counts up to the last end of a line. Or up to the last end of a page: a write that
 * SIGKILL cuts short ends there. All of it counts where nothing more is in the file.
 */
#define _GNU_SOURCE
#include "base/already_written.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OTHERS_MOST (1u << 20) /* bytes that are not ours, between them and behind them */
#define WRITTEN_AT_ONCE 4096u  /* a page, on every machine */
/* Lines of our own, in a file that stderr goes to, too. */
#define OUR_LINE "thaw: "

bool file_place(int fd, struct file_place *place)
{
	struct stat status;
	int flags = fcntl(fd, F_GETFL);
	off_t at;

	if (flags < 0 || fstat(fd, &status) || !S_ISREG(status.st_mode))
		return false;
	at = flags & O_APPEND ? status.st_size : lseek(fd, 0, SEEK_CUR);
	*place = (struct file_place){status.st_ino, (uint64_t)at};
	return at >= 0;
}

static size_t same_bytes(const char *a, const char *b, size_t most)
{
	size_t bytes = 0;

	while (bytes < most && a[bytes] == b[bytes])
		bytes++;
	return bytes;
}

/* How many of the bytes that are the same, from this place in the file on, are there because we have written them. */
static size_t believed(const char *data, size_t same, uint64_t at)
{
	while (same && data[same - 1] != '\n' && (at + same) % WRITTEN_AT_ONCE)
		same--;
	return same;
}

/* What tells that ours go on: the lines up to the first one that is not empty. 0: nothing does. */
static size_t telling_bytes(const char *data, size_t bytes)
{
	bool tells = false;

	for (size_t i = 0; i < bytes; i++) {
		if (data[i] == '\n' && tells)
			return i + 1;
		tells |= !isspace((unsigned char)data[i]);
	}
	return 0;
}

static size_t line_bytes(const char *text, size_t bytes)
{
	const char *end = memchr(text, '\n', bytes);

	return end ? (size_t)(end - text) + 1 : bytes;
}

/* How many bytes of the file are to be passed over, until ours go on. 0: they do not. */
static size_t others_bytes(const char *text, size_t bytes, const char *data, size_t left)
{
	size_t telling = telling_bytes(data, left), at = line_bytes(text, bytes);

	if (bytes > strlen(OUR_LINE) && !memcmp(text, OUR_LINE, strlen(OUR_LINE)))
		return at; /* whatever comes behind it */
	for (; telling && bytes - at >= telling; at += line_bytes(text + at, bytes - at))
		if (!memcmp(text + at, data, telling))
			return at;
	return 0;
}

static size_t count(const char *text, size_t bytes, uint64_t from, const char *data, size_t wanted)
{
	size_t at = 0, done = 0;

	while (done < wanted && at < bytes) {
		size_t most = bytes - at < wanted - done ? bytes - at : wanted - done;
		size_t same = same_bytes(text + at, data + done, most), others;

		if (same == most)
			return done + same;
		same = believed(data + done, same, from + at);
		done += same;
		at += same;
		others = others_bytes(text + at, bytes - at, data + done, wanted - done);
		if (!others)
			break;
		at += others;
	}
	return done;
}

/* malloc'ed; NULL: nothing can be read, or there is no memory. */
static char *read_from(int fd, uint64_t from, size_t *bytes)
{
	char path[32], *text;
	size_t most = *bytes;
	ssize_t got = 1;
	int file;

	snprintf(path, sizeof(path), "/proc/thread-self/fd/%d", fd);
	file = open(path, O_RDONLY | O_CLOEXEC); /* that one may be for writing only */
	text = file < 0 ? NULL : malloc(most);
	for (*bytes = 0; text && got > 0 && *bytes<most; *bytes += got> 0 ? (size_t)got : 0)
		got = pread(file, text + *bytes, most - *bytes, (off_t)(from + *bytes));
	if (file >= 0)
		close(file);
	return text;
}

size_t already_written(int fd, struct file_place from, const void *data, size_t bytes)
{
	struct file_place now;
	size_t there, same = 0;
	char *text;

	if (!bytes || !file_place(fd, &now) || now.inode != from.inode || now.at <= from.at)
		return 0;
	there = now.at - from.at < bytes + OTHERS_MOST ? (size_t)(now.at - from.at)
						       : bytes + OTHERS_MOST;
	text = read_from(fd, from.at, &there);
	if (text)
		same = count(text, there, from.at, data, bytes);
	free(text);
	return same;
}
