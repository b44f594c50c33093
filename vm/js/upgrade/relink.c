// SPDX-License-Identifier: MIT
/*
 * relink.c - lets modules that stay import from modules that have replaced others (heap_modules.h).
 *
 * The engine resolves an import to a cell, once, when it links the importer; every closure that is made in the importer
 * takes the address of that cell along. So what is exported by a new module is seen by an importer that stays only if
 * each of these addresses is replaced. Which cell an import leads to now, the engine itself says: it links a module of
 * ours that imports the same names. Meanwhile the old cells are taken out of the importers, so that what these export
 * again is resolved anew, too.
 *
 * Owns struct relink; outside of the VM, which each function enters. Must never run code of the program, and never
 * change what a replaced module's own functions see.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/json.h"
#include "heap_modules.h"
#include "js/engine/classes.h"
#include "js/engine/heap_layout.h"
#include "upgrade_heap.h"

#define STEPS_MAX (1ull << 30) /* that may be gone to find out what is exported again */

struct import {
	u32 module, request; /* the importer, and the index of what it imports from */
	u32 slot;	     /* address of the cell's address in the importer's closure */
	u32 before, after;   /* cells */
	u32 file;	     /* the atom that functions of the importer have */
	bool space; /* import * as: the cell is the importer's own, its value is the namespace */
	char *name; /* what is imported */
};

struct export
{ /* an import that is exported again */
	u32 slot, import;
};

struct relink {
	struct js_engine *engine;
	const u32 *modules;
	unsigned module_count;
	struct import *imports;
	unsigned count;
	size_t room;
	struct export *exports;
	unsigned export_count;
	size_t export_room;
	u32 *targets; /* of the imports */
	bool failed;
	u64 imports_left, exports_left, text_left; /* of what is noted */
	u64 steps_left;
	/* of the call under way */
	u32 linked;
	const u32 *replaced;
	u32 *replaced_files;
	unsigned replaced_count, changed;
};

static u32 file_of(const struct js_engine *engine, u32 function)
{
	return vm_load32(engine, vm_load32(engine, function + FUNC_BYTECODE) + BC_FILE);
}

/* ---- What they import ---- */

static bool note_exports(struct relink *relink, u32 module, u32 variable, u32 import)
{
	struct js_engine *engine = relink->engine;
	u32 table = vm_load32(engine, module + MODULE_EXPORTS);
	u32 count = vm_load32(engine, module + MODULE_EXPORT_COUNT);

	heap_check_table(engine, table, count, EXPORT_BYTES);
	heap_spend(engine, &relink->steps_left, count);
	for (u32 i = count; i--;) {
		u32 entry = table + i * EXPORT_BYTES;
		struct export *more;

		if (vm_load32(engine, entry + EXPORT_TYPE) ||
		    vm_load32(engine, entry + EXPORT_VARIABLE) != variable)
			continue;
		heap_spend(engine, &relink->exports_left, 1);
		more = array_grow(relink->exports, relink->export_count, &relink->export_room,
				  sizeof(*more));
		if (!more)
			return false;
		relink->exports = more;
		relink->exports[relink->export_count++] =
			(struct export){entry + EXPORT_CELL, import};
	}
	return true;
}

static bool note_import(struct relink *relink, u32 module, u32 function, u32 entry)
{
	struct js_engine *engine = relink->engine;
	u32 variable = vm_load32(engine, entry + IMPORT_VARIABLE);
	struct import *import =
		array_grow(relink->imports, relink->count, &relink->room, sizeof(*import));

	if (!import)
		return false;
	relink->imports = import;
	import = &relink->imports[relink->count];
	*import = (struct import){.module = module};
	atomic_signal_fence(memory_order_seq_cst); /* the VM may trap anywhere below */
	relink->count++;
	import->request = vm_load32(engine, entry + IMPORT_REQUEST);
	import->slot = vm_load32(engine, function + FUNC_CELLS) + 4 * variable;
	import->file = file_of(engine, function);
	import->name = heap_atom_text(engine, vm_load32(engine, entry + IMPORT_NAME));
	if (!import->name)
		return false;
	heap_spend(engine, &relink->text_left, strlen(import->name));
	import->before = vm_load32(engine, import->slot);
	import->space = !strcmp(import->name, "*");
	return import->space || note_exports(relink, module, variable, relink->count - 1);
}

/* What it exports of others is in its namespace, too, which the engine makes anew when it is asked for. */
static void forget_namespace(struct js_engine *engine, u32 module)
{
	u64 space = vm_load64(engine, module + MODULE_NAMESPACE);

	vm_store64(engine, module + MODULE_NAMESPACE, VALUE_UNDEFINED);
	VM(engine, JS_FreeValue, engine->context, space);
}

static bool passes_on(struct js_engine *engine, u32 module)
{
	u32 table = vm_load32(engine, module + MODULE_EXPORTS);
	u32 count = vm_load32(engine, module + MODULE_EXPORT_COUNT);

	heap_check_table(engine, table, count, EXPORT_BYTES);
	for (u32 i = count; i--;)
		if (vm_load32(engine, table + i * EXPORT_BYTES + EXPORT_TYPE))
			return true;
	return vm_load32(engine, module + MODULE_STAR_COUNT) != 0;
}

static bool note_module(struct relink *relink, u32 module)
{
	struct js_engine *engine = relink->engine;
	u32 function = heap_module_function(engine, module);
	u32 table = vm_load32(engine, module + MODULE_IMPORTS);
	u32 count = vm_load32(engine, module + MODULE_IMPORT_COUNT);
	unsigned exports = relink->export_count;

	if (!function)
		return true;
	heap_check_table(engine, table, count, IMPORT_BYTES);
	heap_spend(engine, &relink->imports_left, count);
	for (u32 i = 0; i < count; i++)
		if (!note_import(relink, module, function, table + i * IMPORT_BYTES))
			return false;
	if (passes_on(engine, module) || relink->export_count != exports)
		forget_namespace(engine, module);
	return true;
}

/* Take the cells out (0: put them back). */
static void set_slots(struct relink *relink, bool out)
{
	for (unsigned i = 0; i < relink->count; i++)
		if (!relink->imports[i].space)
			vm_store32(relink->engine, relink->imports[i].slot,
				   out ? 0 : relink->imports[i].before);
	for (unsigned i = 0; i < relink->export_count; i++)
		vm_store32(relink->engine, relink->exports[i].slot,
			   out ? 0 : relink->imports[relink->exports[i].import].before);
}

static void run_begin(void *arg)
{
	struct relink *relink = arg;

	relink->imports_left = HEAP_IMPORTS_MAX;
	relink->text_left = relink->engine->wasm.w2c_memory.size;
	/* Each of them belongs to one import. */
	relink->exports_left = relink->text_left / EXPORT_BYTES;
	relink->steps_left = STEPS_MAX;
	for (unsigned i = 0; i < relink->module_count && !relink->failed; i++)
		relink->failed = !note_module(relink, relink->modules[i]);
	if (!relink->failed)
		set_slots(relink, true);
}

int relink_begin(struct js_engine *engine, const uint32_t *modules, unsigned count,
		 struct relink **result)
{
	struct relink *relink = calloc(1, sizeof(*relink));

	*result = relink;
	if (!relink)
		return -ENOMEM;
	relink->engine = engine;
	relink->modules = modules;
	relink->module_count = count;
	return engine_enter(engine, run_begin, relink) && !relink->failed ? 0 : -ENOMEM;
}

/* ---- A module of ours that imports the same ---- */

static void run_targets(void *arg)
{
	struct relink *relink = arg;

	for (unsigned i = 0; i < relink->count; i++) {
		u32 table = vm_load32(relink->engine, relink->imports[i].module + MODULE_REQUESTS);

		relink->targets[i] = vm_load32(relink->engine,
					       table + relink->imports[i].request * REQUEST_BYTES +
						       REQUEST_MODULE);
	}
}

char *relink_text(struct relink *relink, const char *prefix, const uint32_t **targets,
		  unsigned *count)
{
	char *text = NULL;
	size_t bytes;
	FILE *to;

	relink->targets = calloc(relink->count + 1, sizeof(*relink->targets));
	if (!relink->targets || !engine_enter(relink->engine, run_targets, relink))
		return NULL;
	to = open_memstream(&text, &bytes);
	if (!to)
		return NULL;
	for (unsigned i = 0; i < relink->count; i++) {
		const struct import *import = &relink->imports[i];

		fputs("import ", to);
		if (import->space) {
			fprintf(to, "* as v%u", i);
		} else {
			struct json json = {.to = to}; /* its strings are JavaScript's, too */

			putc('{', to);
			json_text(&json, NULL, import->name);
			fprintf(to, " as v%u}", i);
		}
		fprintf(to, " from \"%s%u\"\n", prefix, i);
	}
	*targets = relink->targets;
	*count = relink->count;
	if (fclose(to)) {
		free(text);
		return NULL;
	}
	return text;
}

static void run_linked(void *arg)
{
	struct relink *relink = arg;
	struct js_engine *engine = relink->engine;
	u32 function = relink->linked ? heap_module_function(engine, relink->linked) : 0;
	u32 table = relink->linked ? vm_load32(engine, relink->linked + MODULE_IMPORTS) : 0;

	for (unsigned i = 0; i < relink->count && function; i++)
		relink->imports[i].after = vm_load32(
			engine,
			vm_load32(engine, function + FUNC_CELLS) +
				4 * vm_load32(engine, table + i * IMPORT_BYTES + IMPORT_VARIABLE));
	set_slots(relink, false);
}

void relink_linked(struct relink *relink, uint32_t linked)
{
	relink->linked = linked;
	engine_enter(relink->engine, run_linked, relink);
}

/* ---- Every closure ---- */

static int compare_imports(const void *a, const void *b)
{
	const struct import *left = a, *right = b;

	if (left->before != right->before)
		return left->before < right->before ? -1 : 1;
	return left->file < right->file ? -1 : left->file > right->file;
}

/* The first import that is not before these. */
static unsigned find_import(const struct relink *relink, u32 cell, u32 file)
{
	const struct import sought = {.before = cell, .file = file};
	unsigned low = 0, high = relink->count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (compare_imports(&relink->imports[middle], &sought) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Where an import of that cell leads now, for a function of that file; 0: as before. */
static u32 cell_now(const struct relink *relink, u32 cell, u32 file)
{
	unsigned i = find_import(relink, cell, file);

	if (i < relink->count && relink->imports[i].before == cell &&
	    relink->imports[i].file == file)
		return relink->imports[i].after;
	i = find_import(relink, cell, 0); /* code that eval() made in one of them */
	return i < relink->count && relink->imports[i].before == cell ? relink->imports[i].after
								      : 0;
}

static int compare_files(const void *a, const void *b)
{
	u32 left = *(const u32 *)a, right = *(const u32 *)b;

	return left < right ? -1 : left > right;
}

static bool is_replaced(const struct relink *relink, u32 file)
{
	return bsearch(&file, relink->replaced_files, relink->replaced_count, sizeof(file),
		       compare_files);
}

static void exchange(struct relink *relink, u32 slot, u32 before, u32 after)
{
	struct js_engine *engine = relink->engine;

	vm_store32(engine, after + BLOCK_REFERENCES,
		   vm_load32(engine, after + BLOCK_REFERENCES) + 1);
	vm_store32(engine, slot, after);
	heap_release_cell(engine, before);
}

static void renew_closure(struct relink *relink, u32 function)
{
	struct js_engine *engine = relink->engine;
	u32 cells = vm_load32(engine, function + FUNC_CELLS);
	u32 count = heap_variable_count(engine, function), file;

	if (!cells || !count)
		return;
	heap_spend(engine, &relink->steps_left, count);
	file = file_of(engine, function);
	for (u32 i = 0; i < count; i++) {
		u32 cell = vm_load32(engine, cells + 4 * i);
		u32 after = cell ? cell_now(relink, cell, file) : 0;

		if (after && after != cell && !is_replaced(relink, file))
			exchange(relink, cells + 4 * i, cell, after);
	}
}

static void renew_closures(struct relink *relink)
{
	struct js_engine *engine = relink->engine;
	u32 head = engine->runtime + RT_GC_OBJECTS;

	/* The cells of a closure are its own. */
	relink->steps_left = engine->wasm.w2c_memory.size / sizeof(u32);
	for (u32 at = heap_next_link(engine, head); at != head; at = heap_next_link(engine, at))
		if ((*(u8 *)vm_at(engine, at + BLOCK_TYPE) & 0x7f) == GC_OBJECT &&
		    class_has_bytecode(vm_load16(engine, at + OBJ_CLASS)) &&
		    vm_load32(engine, at + FUNC_BYTECODE))
			renew_closure(relink, at);
}

static void renew_space(struct relink *relink, const struct import *import)
{
	struct js_engine *engine = relink->engine;
	u64 before = vm_load64(engine, import->before + CELL_VALUE);
	u64 after = vm_load64(engine, import->after + CELL_VALUE);

	if (before == after)
		return;
	VM(engine, JS_DupValue, engine->context, after);
	vm_store64(engine, import->before + CELL_VALUE, after);
	VM(engine, JS_FreeValue, engine->context, before);
	relink->changed++;
}

/* export * as: each importer has a cell of its own with the namespace in it. */
static bool leads_elsewhere(const struct js_engine *engine, const struct import *import)
{
	if (import->space || import->before == import->after)
		return false;
	return vm_load32(engine, import->after + BLOCK_REFERENCES) > 1 ||
	       vm_load64(engine, import->before + CELL_VALUE) !=
		       vm_load64(engine, import->after + CELL_VALUE);
}

static void run_apply(void *arg)
{
	struct relink *relink = arg;
	struct js_engine *engine = relink->engine;
	unsigned kept = 0;

	for (unsigned i = 0; i < relink->replaced_count; i++) {
		u32 function = heap_module_function(engine, relink->replaced[i]);

		relink->replaced_files[i] = function ? file_of(engine, function) : 0;
	}
	qsort(relink->replaced_files, relink->replaced_count, sizeof(u32), compare_files);
	for (unsigned i = 0; i < relink->export_count; i++) {
		const struct import *import = &relink->imports[relink->exports[i].import];

		if (leads_elsewhere(engine, import))
			exchange(relink, relink->exports[i].slot, import->before, import->after);
	}
	for (unsigned i = 0; i < relink->count; i++) {
		struct import *import = &relink->imports[i];

		if (import->space)
			renew_space(relink, import);
		if (leads_elsewhere(engine, import)) {
			struct import swap = relink->imports[kept];

			relink->imports[kept++] = *import;
			*import = swap;
		}
	}
	relink->changed += kept;
	for (unsigned i = kept; i < relink->count; i++)
		free(relink->imports[i].name);
	relink->count = kept;
	if (!kept)
		return;
	qsort(relink->imports, kept, sizeof(*relink->imports), compare_imports);
	renew_closures(relink);
}

unsigned relink_apply(struct relink *relink, const uint32_t *replaced, unsigned count)
{
	relink->replaced = replaced;
	relink->replaced_count = count;
	relink->replaced_files = calloc(count + 1, sizeof(*relink->replaced_files));
	if (!relink->replaced_files)
		return 0;
	return engine_enter(relink->engine, run_apply, relink) ? relink->changed : 0;
}

void relink_free(struct relink *relink)
{
	if (!relink)
		return;
	for (unsigned i = 0; i < relink->count; i++)
		free(relink->imports[i].name);
	free(relink->imports);
	free(relink->exports);
	free(relink->targets);
	free(relink->replaced_files);
	free(relink);
}
