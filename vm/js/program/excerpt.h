/* SPDX-License-Identifier: MIT */
/*
 * excerpt.h - where an error is in the program's sources.
 */
#ifndef VM_JS_PROGRAM_EXCERPT_H
#define VM_JS_PROGRAM_EXCERPT_H

#include <sys/stat.h>

#include "program.h"

/*
 * `frames`: of an error, as the engine has them; `statement`: what the first of them is in, if that was typed and is no file's.
 * All results are malloc'ed; NULL: it cannot be told, and then the plain message is the truth.
 */

/* "    at f (FILE:LINE:COLUMN)" or "    at FILE:LINE:COLUMN", without the end of its line. False: it is not like that. */
struct frame_place {
	const char *name; /* of the file; borrowed, not terminated */
	size_t name_bytes;
	unsigned line, column;
};
bool excerpt_frame(const char *line, const char *end, struct frame_place *place);
/* The engine's message with the expression that it is about. */
char *excerpt_message(struct program *program, const char *message, const char *frames,
		      const char *statement);
/* "FILE:LINE", the line, a caret below it, an empty line; of a statement, the line and the caret. */
char *excerpt_show(struct program *program, const char *message, const char *frames,
		   const char *statement);
/* The text of a module, if its file still is what was loaded. Borrowed, until the next call of any of these. */
const char *excerpt_source(struct program *program, const char *name, size_t *bytes);
/* Are these the same file, which nobody has changed meanwhile? */
bool excerpt_same_file(const struct stat *a, const struct stat *b);
/* A frame for what could not be imported: "    at import (FILE:LINE:COLUMN)\n". */
char *excerpt_importer(struct program *program, const char *base, const char *specifier);

#endif
