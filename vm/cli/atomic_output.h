/* SPDX-License-Identifier: MIT */
/* atomic_output.h - where a command writes a file that it was asked for, see atomic_output.c. */
#ifndef VM_CLI_ATOMIC_OUTPUT_H
#define VM_CLI_ATOMIC_OUTPUT_H

#include "cli.h"

struct atomic_output {
	FILE *to;
	char *path, *temporary; /* NULL: stdout; or a file that is written in place */
};

/*
 * `path` NULL or "-": standard output. Neither the image that is read nor any other is written over:
 * -EEXIST. Returns 0 or a negative code; atomic_output_close() is due after either.
 */
int atomic_output_open(struct atomic_output *output, const char *path, const char *image,
		       struct thaw_error *error);

/* Keep what was written, or, if `code` says so, not. Returns `code`, or what went wrong now. */
int atomic_output_close(struct atomic_output *output, int code, struct thaw_error *error);

/* Say it, and choose the exit code. */
int atomic_output_fail(const struct thaw_error *error, int code);

#endif
