/* SPDX-License-Identifier: MIT */
/*
 * atomic_output.h - the file that a command writes (-o), or standard output, see atomic_output.c.
 */
#ifndef VM_CLI_ATOMIC_OUTPUT_H
#define VM_CLI_ATOMIC_OUTPUT_H

#include "cli.h"

struct atomic_output {
	FILE *to;
	char *path, *temporary; /* NULL: stdout; or a file that is written in place */
};

/*
 * `path` NULL or "-": standard output. An image is never overwritten, neither `image` nor any
 * other: -EEXIST. Returns 0 or a negative code; call atomic_output_close() after either.
 */
int atomic_output_open(struct atomic_output *output, const char *path, const char *image,
		       struct thaw_error *error);

/*
 * `code` 0: the file takes its place; else it is removed. Returns `code`, or the code of what
 * failed here.
 */
int atomic_output_close(struct atomic_output *output, int code, struct thaw_error *error);

/* Print the error. Returns the exit code for it. */
int atomic_output_fail(const struct thaw_error *error, int code);

#endif
