/* SPDX-License-Identifier: MIT */
/*
 * resolve.h - finds the file of an import specifier, and reads its source.
 */
#ifndef VM_JS_RESOLVE_H
#define VM_JS_RESOLVE_H

#include <stdbool.h>

#include "thaw.h"

/*
 * The absolute path (malloc'ed) of `specifier` in an import of module `base`; "thaw" for the
 * built-in module; NULL, and `error` is set. If the base is not an absolute path (code of the
 * repl), the current directory is used.
 */
char *resolve_specifier(const char *base, const char *specifier, struct thaw_error *error);
/*
 * The absolute name of a path, without looking for symbolic links; NULL if it is not a path.
 * malloc'ed.
 */
char *resolve_lexically(const char *base, const char *specifier);
/* The source (malloc'ed, terminated) of such a name; NULL and `error`. */
char *resolve_load(const char *name, size_t *bytes, struct thaw_error *error);
/*
 * A whole file, malloc'ed and terminated; NULL and errno. EFBIG: more than JS_SOURCE_MAX_BYTES, of
 * which no more has been read.
 */
char *resolve_read_file(const char *path, size_t *bytes);
/* A file that can be read to its end: neither a directory, nor a pipe or a device. */
bool resolve_is_file(const char *path);
/* strerror(), but EFBIG names that limit. Static storage. */
const char *resolve_strerror(int error);

#endif
