/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what a fuzz target is, so that two can drive it: libFuzzer (driver.c, `make fuzz`), and
 * tests/image/fuzz_regressions.c, which is compiled as every other test and needs no clang.
 *
 * No input is kept as it is. The first inputs of a target are written by the library itself (`seed`):
 * so they are of today's format, and the repository holds no binary files. An input that once found
 * something is kept as text in tests/fuzz/regressions/TARGET/ (text.h): an image is mostly zeros, and a
 * page of hexadecimal digits can be read in a diff.
 *
 * A finding ends the process: a sanitizer's, a signal's, or fuzz_fail()'s.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct fuzz_target {
	const char *name;
	size_t max_bytes; /* of an input */
	/* Limits for the process: its files and its address space, without a sanitizer's. 0: none. */
	size_t file_limit, memory_limit;
	void (*one)(const uint8_t *bytes, size_t size);
	/* In place; returns the new size, at most `max` bytes. */
	size_t (*mutate)(uint8_t *bytes, size_t size, size_t max, uint64_t seed);
	/* Input `number` of those to begin with into at most max_bytes; 0: there are no more. */
	size_t (*seed)(unsigned number, uint8_t *bytes);
};

extern const struct fuzz_target fuzz_answers, fuzz_heap, fuzz_image, fuzz_process, fuzz_snapshot,
	fuzz_state;

static inline uint64_t fuzz_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* 0 to below - 1; 0 if below is 0. */
static inline uint64_t fuzz_below(uint64_t *state, uint64_t below)
{
	return below ? fuzz_next(state) % below : 0;
}

/*
 * A path in the memory file system (or where THAW_FUZZ_DIRECTORY says), of this process; what is there
 * is removed at its end, if it does not crash. Two with the same name are the same.
 */
const char *fuzz_path(const char *name);
/* For the life of the process. */
void fuzz_limit(const struct fuzz_target *target);
void fuzz_write_file(const char *path, const uint8_t *bytes, size_t size);
/* Into a file that is there. */
void fuzz_write_more(const char *path, const uint8_t *bytes, size_t size, uint64_t offset);
/* At most `max` bytes of it; 0 if it cannot be read. */
size_t fuzz_read_file(const char *path, uint8_t *bytes, size_t max);

#define fuzz_fail(...) \
	(fprintf(stderr, "fuzz: " __VA_ARGS__), fputc('\n', stderr), fflush(stderr), abort())

/*
 * The text of an input, see files.c: reading returns its size, 0 if that is no such text or has more
 * than `max` bytes.
 */
void fuzz_text_write(FILE *file, const uint8_t *bytes, size_t size);
size_t fuzz_text_read(FILE *file, uint8_t *bytes, size_t max);

#endif
