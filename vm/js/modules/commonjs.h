/* SPDX-License-Identifier: MIT */
/*
 * commonjs.h - is a source CommonJS, which cannot be a module here?
 */
#ifndef VM_JS_COMMONJS_H
#define VM_JS_COMMONJS_H

#include <stdbool.h>

#include "thaw.h"

/* By its name (.cjs), or by what stands in it: it would fail, and say less. */
bool commonjs_is(const char *name, const char *text);
/* Says what to do; returns NULL. */
char *commonjs_refuse(const char *name, struct thaw_error *error);

#endif
