/* SPDX-License-Identifier: MIT */
/*
 * sources.h - the files that a program's modules were loaded from, with their size, time and hash.
 * The list is in the heap, so every generation has it, at no cost once it is stored.
 */
#ifndef VM_JS_SOURCES_H
#define VM_JS_SOURCES_H

#include "js/engine/engine.h"

struct js_source {
	const char *path; /* absolute */
	uint64_t bytes;
	int64_t mtime_ns;
	uint8_t hash[16]; /* XXH3-128 of the contents */
};

/* Call it inside of `module_load`. If the heap has no room, the file is not remembered. */
void js_source_remember(struct js_engine *engine, const struct js_source *source);
/*
 * Calls `visit` for each, in the order in which they were loaded; its argument is valid until it
 * returns. Call it outside of the VM. 0; -ENOMEM; THAW_EDAMAGED: the list in the heap is
 * impossible.
 */
int js_sources(const struct js_engine *engine,
	       void (*visit)(void *arg, const struct js_source *source), void *arg);

/*
 * For module.c: the length of the list, and cutting it back to that (the module did not compile).
 */
uint32_t sources_mark(const struct js_engine *engine);
void sources_forget(struct js_engine *engine, uint32_t mark);

#endif
