/* SPDX-License-Identifier: MIT */
/*
 * resolve.h - from an import specifier to a file, and from a file to its source.
 */
#ifndef VM_JS_RESOLVE_H
#define VM_JS_RESOLVE_H

#include "thaw.h"

/*
 * The absolute path (malloc'ed) of what module `base` means by `specifier`, "thaw" for the built-
 * in module; NULL and `error`. A base that is no absolute path (code of the repl) resolves from
 * the current directory.
 */
char *resolve_specifier(const char *base, const char *specifier, struct thaw_error *error);
/*
 * The absolute name that a path means if no symbolic link is on its way; NULL if it is no path.
 * malloc'ed.
 */
char *resolve_lexically(const char *base, const char *specifier);
/* The source (malloc'ed, terminated) of such a name; NULL and `error`. */
char *resolve_load(const char *name, size_t *bytes, struct thaw_error *error);
/*
 * A whole file, malloc'ed and terminated; NULL and errno. EFBIG: more than JS_SOURCE_MAX_BYTES, of which
 * no more has been read.
 */
char *resolve_read_file(const char *path, size_t *bytes);
/* strerror() for that errno, which names that limit. Static storage. */
const char *resolve_strerror(int error);

#endif
