/* SPDX-License-Identifier: MIT */
/* upgrade_heap.h - what heap_modules.c, module_state.c and relink.c share: on the VM's stack. */
#ifndef VM_JS_UPGRADE_HEAP_H
#define VM_JS_UPGRADE_HEAP_H

#include "js/engine/state.h"

struct variable { /* of a function's closure */
	unsigned kind;
	bool constant;
	u32 name, cell;
};

u32 heap_first_module(const struct js_engine *engine); /* 0: none */
u32 heap_next_module(const struct js_engine *engine, u32 module);
/* The function object of a module's code; 0: it has none, or is not linked. */
u32 heap_module_function(const struct js_engine *engine, u32 module);
char *heap_atom_text(struct js_engine *engine, u32 atom); /* malloc'ed; NULL: no memory */
u32 heap_variable_count(const struct js_engine *engine, u32 function);
struct variable heap_variable(const struct js_engine *engine, u32 function, u32 i);
/* One reference to it less; 0: none. */
void heap_release_cell(struct js_engine *engine, u32 cell);

#endif
