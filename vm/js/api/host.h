/* SPDX-License-Identifier: MIT */
/*
 * host.h - what JavaScript may call: the table of host functions, by the names that heaps remember.
 */
#ifndef VM_JS_HOST_H
#define VM_JS_HOST_H

#include "js/engine/engine.h"

struct program;

extern const struct js_host_binding host_bindings[];

/*
 * What the engine is given: the bindings, modules, interruption and rejections, all on behalf of
 * `program`.
 */
struct js_host host_for(struct program *program);

/*
 * Evaluate console.js and prelude.js in a fresh VM; returns the handle of the prelude's entry
 * function, or 0 and an exception.
 */
js_value host_install_prelude(struct js_engine *engine);

/*
 * Another context with a prelude of its own: its index, or as js_context_new(); -EIO: an exception, which is pending. Then, too,
 * the context is there, without a prelude.
 */
int host_new_context(struct js_engine *engine, const char *name);

#endif
