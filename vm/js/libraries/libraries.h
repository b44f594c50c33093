/* SPDX-License-Identifier: MIT */
/*
 * libraries.h - the libraries of npm's that are part of the binary (libraries.S).
 *
 * Each is a compiled script (js_eval_compiled()) whose value is (module, need) => exports. It knows nothing of the runtime but what is standard: so a
 * program in an image can take the one of any later build. Names are for ever once an image may ask for them.
 */
#ifndef VM_JS_LIBRARIES_H
#define VM_JS_LIBRARIES_H

#define LIBRARIES(_) _(url) _(idna) _(streams) _(encodings) _(compression)

#define LIBRARY(name) extern const char library_##name##_start[], library_##name##_end[];
LIBRARIES(LIBRARY)
LIBRARY(typescript) /* not for programs: modules/typescript.c */
#undef LIBRARY

#endif
