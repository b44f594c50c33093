/* SPDX-License-Identifier: MIT */
/*
 * embedded.h - the JavaScript that is part of the binary (embedded.S).
 */
#ifndef VM_JS_EMBEDDED_H
#define VM_JS_EMBEDDED_H

extern const char js_console_start[], js_console_end[]; /* console.js: inspect and console */
extern const char js_prelude_start[],
	js_prelude_end[]; /* prelude.js: timers, files, the rest of the globals */
extern const char js_thaw_module_start[], js_thaw_module_end[]; /* thaw.js: the module "thaw" */

#endif
