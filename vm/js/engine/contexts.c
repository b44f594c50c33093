// SPDX-License-Identifier: MIT
/*
 * contexts.c - several contexts (realms) in one VM: made, selected, found again in a restored heap.
 *
 * Owns the table of contexts, a block of the heap that its note leads to: only a VM that has a second context has one. What is
 * read there may be of a hostile image: an entry is taken only if its context is an address of the heap that belongs to the
 * runtime, so that what is written there costs the program its own data at most. Owner's thread.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "heap_layout.h"
#include "state.h"

#define NAME_BYTES 64u /* with the zero */
#define TABLE_MAGIC 0x58544354u

/* In the heap. The first context has no entry: qjs_get_context_ptr() knows it. */
struct table {
	u32 magic, count;
	struct {
		u32 context;
		js_value entry;
		char name[NAME_BYTES];
	} contexts[JS_CONTEXTS_MAX - 1];
};

static struct table *table_of(const struct js_engine *engine)
{
	const struct heap_note *note = vm_at(engine, engine->note);

	return note->contexts ? vm_at(engine, note->contexts) : NULL;
}

/* ---- A restored heap ---- */

static bool is_possible(const struct js_engine *engine, u32 context)
{
	return context % 8 == 0 && context && context < engine->wasm.w2c_memory.size - 4096 &&
	       vm_load32(engine, context + CX_RUNTIME) == engine->runtime;
}

bool engine_find_contexts(struct js_engine *engine)
{
	const u32 size = engine->wasm.w2c_memory.size;
	const u32 at = ((const struct heap_note *)vm_at(engine, engine->note))->contexts;
	const struct table *table;

	engine->contexts[0] = engine->context;
	engine->context_count = 1;
	if (!at)
		return true;
	if (at % 8 || at > size - sizeof(*table))
		return false;
	table = table_of(engine);
	if (table->magic != TABLE_MAGIC || table->count > JS_CONTEXTS_MAX - 1)
		return false;
	for (u32 i = 0; i < table->count; i++) {
		u32 context = table->contexts[i].context;
		js_value entry = table->contexts[i].entry;

		if (!is_possible(engine, context) || entry % 8 || entry > size - 16)
			return false;
		engine->contexts[engine->context_count++] = context;
	}
	return true;
}

/* ---- Another one ---- */

struct making {
	struct js_engine *engine;
	const char *name;
	u64 seed; /* of its Math.random(); not 0 */
	int result;
};

static bool make_table(struct js_engine *engine)
{
	struct heap_note *note;
	u32 at;

	if (table_of(engine))
		return true;
	at = VM(engine, malloc, sizeof(struct table));
	if (!at)
		return false;
	memset(vm_at(engine, at), 0, sizeof(struct table));
	((struct table *)vm_at(engine, at))->magic = TABLE_MAGIC;
	note = vm_at(engine, engine->note);
	note->contexts = at;
	return true;
}

static void run_new(void *arg)
{
	struct making *making = arg;
	struct js_engine *engine = making->engine;
	struct table *table;
	u32 context = make_table(engine) ? VM(engine, JS_NewContext, engine->runtime) : 0;

	making->result = -ENOMEM;
	if (!context)
		return;
	/* JS_NewContext() makes this one for the first context of a runtime only. */
	if ((s32)VM(engine, JS_AddIntrinsicDOMException, context) < 0) {
		VM(engine, JS_FreeContext, context);
		return;
	}
	vm_store64(engine, context + CONTEXT_RANDOM_STATE, making->seed);
	table = table_of(engine);
	table->contexts[table->count].context = context;
	snprintf(table->contexts[table->count].name, NAME_BYTES, "%s", making->name);
	table->count++;
	making->result = (int)engine->context_count;
	engine->contexts[engine->context_count++] = context;
}

int js_context_new(struct js_engine *engine, const char *name)
{
	struct making making = {.engine = engine, .name = name, .result = -ENOMEM};

	if (!*name || strlen(name) >= NAME_BYTES)
		return -EINVAL;
	if (js_context_find(engine, name) >= 0)
		return -EEXIST;
	if (engine->context_count == JS_CONTEXTS_MAX)
		return -ENOSPC;
	if (getrandom(&making.seed, sizeof(making.seed), 0) != sizeof(making.seed))
		return -EIO;
	making.seed |= !making.seed;
	engine_enter(engine, run_new, &making);
	return making.result;
}

/* ---- Which ---- */

unsigned js_context_count(const struct js_engine *engine)
{
	return engine->context_count;
}

unsigned js_context_current(const struct js_engine *engine)
{
	unsigned index = 0;

	while (index + 1 < engine->context_count && engine->contexts[index] != engine->context)
		index++;
	return engine->contexts[index] == engine->context ? index : 0;
}

unsigned js_context_select(struct js_engine *engine, unsigned index)
{
	unsigned before = js_context_current(engine);

	if (index < engine->context_count)
		engine->context = engine->contexts[index];
	return before;
}

u32 engine_use_context(struct js_engine *engine, u32 context)
{
	u32 before = engine->context;

	for (unsigned i = 0; i < engine->context_count; i++)
		if (engine->contexts[i] == context)
			engine->context = context;
	return before;
}

const char *js_context_name(const struct js_engine *engine, unsigned index, char name[NAME_BYTES])
{
	name[0] = '\0';
	if (index && index < engine->context_count)
		memcpy(name, table_of(engine)->contexts[index - 1].name, NAME_BYTES);
	name[NAME_BYTES - 1] = '\0';
	return name;
}

int js_context_find(struct js_engine *engine, const char *name)
{
	char other[NAME_BYTES];

	for (unsigned i = 0; i < engine->context_count; i++)
		if (!strcmp(js_context_name(engine, i, other), name))
			return (int)i;
	return -ENOENT;
}

js_value js_context_entry(const struct js_engine *engine, unsigned index)
{
	return index && index < engine->context_count ? table_of(engine)->contexts[index - 1].entry
						      : 0;
}

void js_context_set_entry(struct js_engine *engine, unsigned index, js_value entry)
{
	if (index && index < engine->context_count)
		table_of(engine)->contexts[index - 1].entry = entry;
}
