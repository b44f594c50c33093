/* SPDX-License-Identifier: MIT */
/*
 * package.h - which file of which package an import means: node_modules, "exports", "imports", a package's own name.
 */
#ifndef VM_JS_PACKAGE_H
#define VM_JS_PACKAGE_H

#include "thaw.h"

/*
 * The path of 'name', 'name/subpath' or '#internal', imported by the file `base`: malloc'ed; nothing is known of what
 * lies there. NULL and `error`, whose text ends with node's name for it: "(ERR_...)".
 */
char *package_resolve(const char *base, const char *specifier, struct thaw_error *error);
/*
 * For both halves: the directory to resolve from, malloc'ed, without a slash at its end ("" is the root); the current
 * one if `base` is no absolute path.
 */
char *package_directory_of(const char *base);

#endif
