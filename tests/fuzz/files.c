/* SPDX-License-Identifier: MIT */
/*
 * files.c - the files of the fuzz targets: those they work on, and the text that an input is kept as.
 *
 * The text: lines of '#' are comments; then "bytes N"; then any number of "OFFSET: DIGITS", both
 * hexadecimal, in any order. What no line names is zero.
 *
 * One thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../in_memory.h"
#include "fuzz.h"

#define LINE_BYTES 32u

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SANITIZED 1 /* its shadow memory is beyond any limit */
#else
#define SANITIZED 0
#endif

/* Readers without the lock pause before they look once more at what seems damaged. Not here (ld's --wrap). */
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);

int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left)
{
	(void)wanted, (void)left;
	return 0;
}

static char directory[256];
static pid_t directory_of;

static void directory_remove(void)
{
	char command[300];

	if (directory_of != getpid())
		return;
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	if (system(command))
		fprintf(stderr, "fuzz: %s stays\n", directory);
}

const char *fuzz_path(const char *name)
{
	static char path[PATH_MAX];

	if (directory_of != getpid()) {
		const char *root = getenv("THAW_FUZZ_DIRECTORY");

		if (!root)
			root = in_memory();
		if (!directory_of)
			atexit(directory_remove);
		snprintf(directory, sizeof(directory), "%s/thaw-fuzz-XXXXXX", root);
		if (!mkdtemp(directory))
			fuzz_fail("%s: %s", directory, strerror(errno));
		directory_of = getpid();
	}
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

void fuzz_limit(const struct fuzz_target *target)
{
	const struct rlimit file = {target->file_limit, target->file_limit};
	const struct rlimit memory = {target->memory_limit, target->memory_limit};

	signal(SIGXFSZ, SIG_IGN); /* an image that claims more gets an error, not the disk */
	if (target->file_limit && setrlimit(RLIMIT_FSIZE, &file))
		fuzz_fail("RLIMIT_FSIZE: %s", strerror(errno));
	if (target->memory_limit && !SANITIZED && setrlimit(RLIMIT_AS, &memory))
		fuzz_fail("RLIMIT_AS: %s", strerror(errno));
}

void fuzz_write_file(const char *path, const uint8_t *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || close(fd))
		fuzz_fail("%s: %s", path, strerror(errno));
}

void fuzz_write_more(const char *path, const uint8_t *bytes, size_t size, uint64_t offset)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || pwrite(fd, bytes, size, (off_t)offset) != (ssize_t)size || close(fd))
		fuzz_fail("%s: %s", path, strerror(errno));
}

size_t fuzz_read_file(const char *path, uint8_t *bytes, size_t max)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return 0;
	got = read(fd, bytes, max);
	close(fd);
	return got > 0 ? (size_t)got : 0;
}

static bool all_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i])
			return false;
	return true;
}

void fuzz_text_write(FILE *file, const uint8_t *bytes, size_t size)
{
	fprintf(file, "bytes %zu\n", size);
	for (size_t at = 0; at < size; at += LINE_BYTES) {
		size_t count = size - at < LINE_BYTES ? size - at : LINE_BYTES;

		if (all_zero(bytes + at, count))
			continue;
		while (!bytes[at + count - 1])
			count--;
		fprintf(file, "%zx: ", at);
		for (size_t i = 0; i < count; i++)
			fprintf(file, "%02x", bytes[at + i]);
		fputc('\n', file);
	}
}

static bool line_read(const char *line, uint8_t *bytes, size_t size)
{
	unsigned byte;
	size_t at;
	int used;

	if (sscanf(line, "%zx: %n", &at, &used) != 1)
		return false;
	for (line += used; sscanf(line, "%2x", &byte) == 1; line += 2, at++) {
		if (at >= size)
			return false;
		bytes[at] = (uint8_t)byte;
	}
	return !*line || *line == '\n';
}

size_t fuzz_text_read(FILE *file, uint8_t *bytes, size_t max)
{
	char line[256];
	size_t size = 0;

	while (fgets(line, sizeof(line), file)) {
		if (*line == '#' || *line == '\n')
			continue;
		if (!size) {
			if (sscanf(line, "bytes %zu", &size) != 1 || size > max)
				return 0;
			memset(bytes, 0, size);
		} else if (!line_read(line, bytes, size)) {
			return 0;
		}
	}
	return size;
}
