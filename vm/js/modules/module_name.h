/* SPDX-License-Identifier: MIT */
/*
 * module_name.h - the name of a module: its identity in a heap, and what import.meta and stack
 * traces show.
 *
 * It is the absolute path of the file; for a module that was imported with a query or a fragment,
 * the file:// URL with that: each one is a module of its own. "thaw" and "<eval>" have these names.
 */
#ifndef VM_JS_MODULE_NAME_H
#define VM_JS_MODULE_NAME_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Where the query or fragment of a specifier begins; its length: it has none, as "#internal" has.
 */
size_t module_suffix(const char *specifier);
/* Does the file of a module have a name that ends with that, as ".json", and is longer? */
bool module_ends_with(const char *name, const char *ending);
/* The name of `path` with a suffix, which may be "". malloc'ed; NULL: no memory. */
char *module_name(const char *path, const char *suffix);
/*
 * The path of a name or of a file:// URL; any other name as it is. malloc'ed; NULL: not a local
 * file.
 */
char *module_path(const char *name);
/*
 * The file:// URL of a name, as node's pathToFileURL; any other name as it is. malloc'ed; NULL: no
 * memory.
 */
char *module_url(const char *name);

#endif
