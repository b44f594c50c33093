/* SPDX-License-Identifier: MIT */
/*
 * typescript.h - JavaScript out of TypeScript: types become blanks, so that lines and columns stay.
 */
#ifndef VM_JS_TYPESCRIPT_H
#define VM_JS_TYPESCRIPT_H

#include <stdbool.h>
#include <stddef.h>

#include "thaw.h"

/* Does a module of this name (module_name.h) hold TypeScript? */
bool typescript_is(const char *name);
/*
 * The JavaScript of `text` (malloc'ed, consumed), malloc'ed and terminated, with its bytes. NULL and `error`, which
 * names file, line and column: what cannot be erased is -EILSEQ.
 */
char *typescript_strip(const char *name, char *text, size_t *bytes, struct thaw_error *error);
/* Give up the engine that did it, until it is needed again. Cheap if there is none. */
void typescript_close(void);

#endif
