/* SPDX-License-Identifier: MIT */
/*
 * module_name.h - what a module is called: its identity in a heap, and what import.meta and stack traces say.
 *
 * The absolute path of its file; or, where it was imported with a query or a fragment, the file:// URL with it: each is a
 * module of its own. "thaw" and "<eval>" are called so.
 */
#ifndef VM_JS_MODULE_NAME_H
#define VM_JS_MODULE_NAME_H

#include <stddef.h>

/* Where the query or fragment of a specifier begins: its length if it has none. "#internal" has none. */
size_t module_suffix(const char *specifier);
/* The name of `path` with a suffix, which may be "". malloc'ed; NULL: no memory. */
char *module_name(const char *path, const char *suffix);
/* The path of a name, or what a file:// URL means; other names are their own. malloc'ed; NULL: none of this machine's files. */
char *module_path(const char *name);
/* file:// URL of a name, as node's pathToFileURL; other names are their own. malloc'ed; NULL: no memory. */
char *module_url(const char *name);

#endif
