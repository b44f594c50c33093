/* SPDX-License-Identifier: MIT */
/*
 * import_lines.h - the import declarations of a text.
 */
#ifndef VM_JS_SOURCE_IMPORT_LINES_H
#define VM_JS_SOURCE_IMPORT_LINES_H

#include <stddef.h>

/*
 * Each thing that is imported from elsewhere, also by import() and `export from`: `name` is NULL for the module itself, whose
 * specifier stands at that place. In the order of the text.
 */
struct import_line {
	const char *specifier, *name; /* without quotes; not terminated */
	size_t specifier_bytes, name_bytes;
	unsigned line, column; /* from 1; in bytes */
};
void import_lines_visit(const char *text, size_t bytes,
			void (*visit)(void *arg, const struct import_line *import), void *arg);

/*
 * A script cannot have import declarations: the same with `await import()`, line by line at the same places as far as that is
 * possible. What is imported is a constant with the value of now. malloc'ed; NULL: there are none, or no memory.
 */
char *import_lines_rewrite(const char *text, size_t bytes, size_t *new_bytes);

#endif
