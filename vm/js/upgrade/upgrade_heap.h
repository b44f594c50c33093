/* SPDX-License-Identifier: MIT */
/*
 * upgrade_heap.h - what heap_modules.c, module_state.c and relink.c share: on the VM's stack.
 *
 * The heap may have been made to do harm. The VM's memory is all that its words can reach, but what is allocated here, and
 * how long it takes, is decided here: counts are compared with the memory, lists with their links back, and what is left
 * of it traps.
 */
#ifndef VM_JS_UPGRADE_HEAP_H
#define VM_JS_UPGRADE_HEAP_H

#include "js/engine/state.h"

struct variable { /* of a function's closure */
	unsigned kind;
	bool constant;
	u32 name, cell;
};

#define HEAP_MODULES_MAX 65536u
#define HEAP_IMPORTS_MAX (1u << 20) /* of all modules together, and requests */

/* The next block of a list, after the list's head or a block of it. */
u32 heap_next_link(struct js_engine *engine, u32 link);
/* Trap unless a table of so many entries is inside of the memory. */
void heap_check_table(struct js_engine *engine, u32 table, u32 count, u32 entry_bytes);
/* Take so much from what is left; trap if that is less. */
void heap_spend(struct js_engine *engine, u64 *left, u64 amount);
/* The function object of a module's code; 0: it has none, or is not linked. */
u32 heap_module_function(const struct js_engine *engine, u32 module);
char *heap_atom_text(struct js_engine *engine, u32 atom); /* malloc'ed; NULL: no memory */
u32 heap_variable_count(const struct js_engine *engine, u32 function);
struct variable heap_variable(const struct js_engine *engine, u32 function, u32 i);
u64 heap_cell_value(const struct js_engine *engine, u32 cell);
/* One reference to it less; 0: none. */
void heap_release_cell(struct js_engine *engine, u32 cell);

#endif
