/* SPDX-License-Identifier: MIT */
/*
 * sources.h - which files a program's modules were loaded from, and what they were then. Remembered in the
 * heap, so that they are in every generation and cost it nothing once they are stored.
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

/* Inside `module_load`. Where the heap has no room for it, it is not remembered. */
void js_source_remember(struct js_engine *engine, const struct js_source *source);
/*
 * Each of them, in the order in which they were loaded; what is handed out is valid until `visit` returns.
 * Outside of the VM. 0; -ENOMEM; THAW_EDAMAGED: what the heap says of them cannot be.
 */
int js_sources(const struct js_engine *engine,
	       void (*visit)(void *arg, const struct js_source *source), void *arg);

/* For module.c: how much was remembered, and what came after that is forgotten (it did not compile). */
uint32_t sources_mark(const struct js_engine *engine);
void sources_forget(struct js_engine *engine, uint32_t mark);

#endif
