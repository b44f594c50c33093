/* SPDX-License-Identifier: MIT */
/*
 * heap_modules.h - the modules of a program as its heap has them, and the changes in them that an upgrade makes and
 * the engine has no function for.
 *
 * A module is named by its address in the heap, which is valid until heap_modules_drop(). All functions are called
 * outside of the VM, between turns, on the owner's thread. A heap that was made to do harm, or is damaged, makes the engine
 * trap: what they return then says that it failed.
 */
#ifndef VM_JS_HEAP_MODULES_H
#define VM_JS_HEAP_MODULES_H

#include "js/engine/engine.h"

struct heap_request {
	char *specifier;
	uint32_t target; /* a module; 0: it was not resolved */
};

struct heap_module {
	uint32_t address;
	char *name;
	bool evaluated; /* its code has run to its end, or thrown */
	bool waits;	/* for a module that it imports, whose top-level await is not over */
	bool code;	/* not JSON */
	struct heap_request *requests;
	unsigned request_count;
};

/* In the order in which they were loaded; malloc'ed. 0 or -ENOMEM. */
int heap_modules_read(struct js_engine *engine, struct heap_module **modules, unsigned *count);
void heap_modules_free(struct heap_module *modules, unsigned count);
/* The one with that address; NULL: none. */
struct heap_module *heap_modules_find(struct heap_module *modules, unsigned count,
				      uint32_t address);

int heap_module_rename(struct js_engine *engine, uint32_t module, const char *name);
/*
 * The same for modules whose files are elsewhere now, with all functions that were made of them: where they import from, and
 * what stack traces say.
 */
int heap_modules_move(struct js_engine *engine, const uint32_t *modules, const char **names,
		      unsigned count);
/* import.meta of it again, as for a module of that name; `main` as it is to be. */
int heap_module_meta(struct js_engine *engine, uint32_t module, const char *name, bool main);
void heap_module_retarget(struct js_engine *engine, uint32_t module, unsigned request,
			  uint32_t target);
bool heap_module_exports(struct js_engine *engine, uint32_t module, const char *name);
/* Evaluate a module that is linked: a promise, or 0 and an exception. */
js_value heap_module_evaluate(struct js_engine *engine, uint32_t module);
js_value heap_module_namespace(struct js_engine *engine, uint32_t module);
/*
 * An object without a prototype that has the exports of the module and its other top-level variables, by their names, as
 * they are now. What has no value yet is not in it.
 */
js_value heap_module_variables(struct js_engine *engine, uint32_t module);
/*
 * What it has that a new module would not have by itself: its variables that may have changed since it was evaluated.
 * Text for people ("count, cache (Map)"), malloc'ed; NULL and 0: none; NULL and -ENOMEM.
 */
int heap_module_state(struct js_engine *engine, uint32_t module, char **text);

/* ---- relink.c */

struct relink; /* the imports of modules that stay, and where they lead */

/*
 * Prepare the modules that stay for being linked anew: until relink_linked() none of their code may run. 0 or -ENOMEM.
 */
int relink_begin(struct js_engine *engine, const uint32_t *modules, unsigned count,
		 struct relink **relink);
/*
 * The source of a module that imports what these import, from "PREFIX0" and so on: what these are is in `targets`, borrowed.
 * malloc'ed; NULL: no memory.
 */
char *relink_text(struct relink *relink, const char *prefix, const uint32_t **targets,
		  unsigned *count);
/* It is linked (0: it could not be). Everything is as it was before, and what it was linked to is known. */
void relink_linked(struct relink *relink, uint32_t linked);
/*
 * From here on the modules that stay see what that module was linked to: their imports, what they export of them, and every
 * closure that was made in them. `replaced`: modules whose own closures keep what they have. How many imports changed.
 */
unsigned relink_apply(struct relink *relink, const uint32_t *replaced, unsigned count);
void relink_free(struct relink *relink);

/*
 * Give up those of these modules that nothing under way needs. How many; the others stay, under the names they have.
 */
unsigned heap_modules_drop(struct js_engine *engine, uint32_t *modules, unsigned count);

#endif
