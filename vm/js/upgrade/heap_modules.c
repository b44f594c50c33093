// SPDX-License-Identifier: MIT
/*
 * heap_modules.c - the modules of a program as its heap has them (heap_modules.h), by the layout of heap_layout.h.
 *
 * Owns nothing; owner's thread, outside of the VM, which each function enters. Must never run code of the program, but
 * for heap_module_evaluate().
 * The engine keeps every module for ever. So one that nothing needs any more is given up here, as the engine's own
 * js_free_module_def() would; what still refers to it by its address is looked for before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "heap_modules.h"
#include "js/engine/classes.h"
#include "js/engine/heap_layout.h"
#include "js/engine/state.h"
#include "upgrade_heap.h"

#define PARENTS_MAX (1ull << 30) /* that are looked at */

/* What crosses into the VM, and comes back. */
struct call {
	struct js_engine *engine;
	struct heap_module *modules;
	unsigned count, request;
	size_t room; /* of `modules` */
	uint32_t module, target;
	const char *name;
	bool main, good;
	js_value result;
	uint32_t *dropped;
};

u32 heap_next_link(struct js_engine *engine, u32 link)
{
	u32 next = vm_load32(engine, link + LIST_NEXT);

	/* So no block can be come to twice, and the walk ends. */
	if (vm_load32(engine, next + LIST_PREV) != link)
		engine_trap(engine, "a list of the heap is damaged");
	return next;
}

void heap_check_table(struct js_engine *engine, u32 table, u32 count, u32 entry_bytes)
{
	if (table + (u64)count * entry_bytes > engine->wasm.w2c_memory.size)
		engine_trap(engine, "a table of a module is damaged");
}

void heap_spend(struct js_engine *engine, u64 *left, u64 amount)
{
	if (amount > *left)
		engine_trap(engine, "the modules in the heap are too many, or damaged");
	*left -= amount;
}

static u32 module_after(struct js_engine *engine, u32 link)
{
	u32 at = heap_next_link(engine, link);

	return at == engine->context + CX_MODULES ? 0 : at - MODULE_LINK;
}

/* 0: none. */
static u32 first_module(struct js_engine *engine)
{
	return module_after(engine, engine->context + CX_MODULES);
}

static u32 next_module(struct js_engine *engine, u32 module)
{
	return module_after(engine, module + MODULE_LINK);
}

char *heap_atom_text(struct js_engine *engine, u32 atom)
{
	u64 value = VM(engine, JS_AtomToString, engine->context, atom);
	char *text = value_has_tag(value, TAG_EXCEPTION) ? NULL : value_text(engine, value, NULL);

	if (!text)
		exception_clear(engine);
	VM(engine, JS_FreeValue, engine->context, value);
	return text;
}

u32 heap_module_function(const struct js_engine *engine, u32 module)
{
	u64 function = vm_load64(engine, module + MODULE_FUNCTION);

	if (vm_load32(engine, module + MODULE_INIT) || !value_has_tag(function, TAG_OBJECT))
		return 0;
	return (u32)function;
}

/* ---- Reading ---- */

/* What the native memory of a list of modules is bounded by. */
struct bounds {
	u64 modules, requests, text;
};

static char *read_text(struct js_engine *engine, u32 atom, char **text, struct bounds *left)
{
	*text = heap_atom_text(engine, atom);
	if (*text)
		heap_spend(engine, &left->text, strlen(*text));
	return *text;
}

static bool read_requests(struct js_engine *engine, u32 module, struct heap_module *read,
			  struct bounds *left)
{
	u32 table = vm_load32(engine, module + MODULE_REQUESTS);
	u32 count = vm_load32(engine, module + MODULE_REQUEST_COUNT);

	heap_check_table(engine, table, count, REQUEST_BYTES);
	heap_spend(engine, &left->requests, count);
	read->requests = calloc((size_t)count + 1, sizeof(*read->requests));
	if (!read->requests)
		return false;
	atomic_signal_fence(memory_order_seq_cst);
	for (u32 i = 0; i < count; i++) {
		struct heap_request *request = &read->requests[i];
		u32 entry = table + i * REQUEST_BYTES;

		read->request_count = i + 1;
		request->target = vm_load32(engine, entry + REQUEST_MODULE);
		if (!read_text(engine, vm_load32(engine, entry + REQUEST_NAME), &request->specifier,
			       left))
			return false;
	}
	return true;
}

/* The VM may trap anywhere in it: what was read until then has to be such that it can be freed. */
static bool read_module(struct call *call, u32 at, struct bounds *left)
{
	struct js_engine *engine = call->engine;
	struct heap_module *more =
		array_grow(call->modules, call->count, &call->room, sizeof(*more));
	struct heap_module *read;
	u8 status;

	if (!more)
		return false;
	call->modules = more;
	read = &more[call->count++];
	*read = (struct heap_module){.address = at};
	atomic_signal_fence(memory_order_seq_cst);
	heap_spend(engine, &left->modules, 1);
	status = *(u8 *)vm_at(engine, at + MODULE_STATUS);
	read->evaluated = status == STATUS_EVALUATED;
	read->waits = status == STATUS_EVALUATING_ASYNC && vm_load32(engine, at + MODULE_PENDING);
	read->code = !vm_load32(engine, at + MODULE_INIT);
	return read_text(engine, vm_load32(engine, at + MODULE_NAME), &read->name, left) &&
	       read_requests(engine, at, read, left);
}

static void run_read(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	struct bounds left = {HEAP_MODULES_MAX, HEAP_IMPORTS_MAX, engine->wasm.w2c_memory.size};

	call->good = true;
	for (u32 at = first_module(engine); at && call->good; at = next_module(engine, at))
		call->good = read_module(call, at, &left);
}

int heap_modules_read(struct js_engine *engine, struct heap_module **modules, unsigned *count)
{
	struct call call = {.engine = engine};
	bool entered = engine_enter(engine, run_read, &call);

	if (!entered || !call.good) {
		heap_modules_free(call.modules, call.count);
		call.modules = NULL;
		call.count = 0;
	}
	*modules = call.modules;
	*count = call.count;
	return entered && call.good ? 0 : -ENOMEM;
}

void heap_modules_free(struct heap_module *modules, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		for (unsigned j = 0; j < modules[i].request_count; j++)
			free(modules[i].requests[j].specifier);
		free(modules[i].requests);
		free(modules[i].name);
	}
	free(modules);
}

struct heap_module *heap_modules_find(struct heap_module *modules, unsigned count, uint32_t address)
{
	for (unsigned i = 0; i < count; i++)
		if (modules[i].address == address)
			return &modules[i];
	return NULL;
}

/* ---- Names, import.meta, requests ---- */

static void run_rename(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 text = vm_string(engine, call->name, strlen(call->name));
	u32 atom = text ? VM(engine, JS_NewAtomLen, engine->context, text, (u32)strlen(call->name))
			: 0;

	if (atom) {
		VM(engine, JS_FreeAtom, engine->context,
		   vm_load32(engine, call->module + MODULE_NAME));
		vm_store32(engine, call->module + MODULE_NAME, atom);
		call->good = true;
	} else {
		exception_clear(engine);
	}
	vm_free(engine, text);
}

int heap_module_rename(struct js_engine *engine, uint32_t module, const char *name)
{
	struct call call = {.engine = engine, .module = module, .name = name};

	return engine_enter(engine, run_rename, &call) && call.good ? 0 : -ENOMEM;
}

struct move {
	struct js_engine *engine;
	const u32 *modules;
	const char **names;
	unsigned count;
	u32 *before; /* atoms */
	bool failed;
};

static void move_function(struct move *move, u32 code)
{
	struct js_engine *engine = move->engine;
	u32 file = vm_load32(engine, code + BC_FILE);

	for (unsigned i = 0; i < move->count; i++) {
		u32 after;

		if (move->before[i] != file)
			continue;
		after = vm_load32(engine, move->modules[i] + MODULE_NAME);
		VM(engine, JS_DupAtom, engine->context, after);
		vm_store32(engine, code + BC_FILE, after);
		VM(engine, JS_FreeAtom, engine->context, file);
		return;
	}
}

static void run_move(void *arg)
{
	struct move *move = arg;
	struct js_engine *engine = move->engine;
	u32 head = engine->runtime + RT_GC_OBJECTS;

	for (unsigned i = 0; i < move->count && !move->failed; i++) {
		u32 before = vm_load32(engine, move->modules[i] + MODULE_NAME);

		move->before[i] = (u32)VM(engine, JS_DupAtom, engine->context, before);
		move->failed = heap_module_rename(engine, move->modules[i], move->names[i]) != 0;
	}
	for (u32 at = heap_next_link(engine, head); at != head && !move->failed;
	     at = heap_next_link(engine, at))
		if ((*(u8 *)vm_at(engine, at + BLOCK_TYPE) & 0x7f) == GC_BYTECODE)
			move_function(move, at);
	for (unsigned i = 0; i < move->count; i++)
		VM(engine, JS_FreeAtom, engine->context, move->before[i]);
}

int heap_modules_move(struct js_engine *engine, const uint32_t *modules, const char **names,
		      unsigned count)
{
	struct move move = {.engine = engine, .modules = modules, .names = names, .count = count};
	int code = -ENOMEM;

	move.before = calloc(count, sizeof(*move.before));
	if (move.before && engine_enter(engine, run_move, &move) && !move.failed)
		code = 0;
	free(move.before);
	return code;
}

static void run_meta(void *arg)
{
	struct call *call = arg;

	call->good = module_place_meta(call->engine, call->module, call->name, call->main);
	if (!call->good)
		exception_clear(call->engine);
}

int heap_module_meta(struct js_engine *engine, uint32_t module, const char *name, bool main)
{
	struct call call = {.engine = engine, .module = module, .name = name, .main = main};

	return engine_enter(engine, run_meta, &call) && call.good ? 0 : -ENOMEM;
}

static void run_retarget(void *arg)
{
	struct call *call = arg;
	u32 table = vm_load32(call->engine, call->module + MODULE_REQUESTS);

	vm_store32(call->engine, table + call->request * REQUEST_BYTES + REQUEST_MODULE,
		   call->target);
}

void heap_module_retarget(struct js_engine *engine, uint32_t module, unsigned request,
			  uint32_t target)
{
	struct call call = {
		.engine = engine, .module = module, .request = request, .target = target};

	engine_enter(engine, run_retarget, &call);
}

static void run_exports(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 table = vm_load32(engine, call->module + MODULE_EXPORTS);
	u32 count = vm_load32(engine, call->module + MODULE_EXPORT_COUNT);

	heap_check_table(engine, table, count, EXPORT_BYTES);
	for (u32 i = 0; i < count && !call->good; i++) {
		char *name = heap_atom_text(
			engine, vm_load32(engine, table + i * EXPORT_BYTES + EXPORT_NAME));

		call->good = name && !strcmp(name, call->name);
		free(name);
	}
}

bool heap_module_exports(struct js_engine *engine, uint32_t module, const char *name)
{
	struct call call = {.engine = engine, .module = module, .name = name};

	return engine_enter(engine, run_exports, &call) && call.good;
}

/* ---- Running, and what it has ---- */

js_value heap_module_evaluate(struct js_engine *engine, uint32_t module)
{
	return js_evaluate_module(engine, module);
}

static void run_namespace(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->result =
		value_box(engine, VM(engine, JS_GetModuleNamespace, engine->context, call->module));
}

js_value heap_module_namespace(struct js_engine *engine, uint32_t module)
{
	struct call call = {.engine = engine, .module = module};

	return engine_enter(engine, run_namespace, &call) ? call.result : 0;
}

/* The i-th variable that the closure of a function has. */
struct variable heap_variable(const struct js_engine *engine, u32 function, u32 i)
{
	u32 code = vm_load32(engine, function + FUNC_BYTECODE);
	u32 entry = vm_load32(engine, code + BC_CLOSURE) + i * CLOSURE_BYTES;
	u32 flags = vm_load32(engine, entry + CLOSURE_KIND);

	return (struct variable){
		.kind = flags & 7,
		.constant = flags & CLOSURE_CONST,
		.name = vm_load32(engine, entry + CLOSURE_NAME),
		.cell = vm_load32(engine, vm_load32(engine, function + FUNC_CELLS) + 4 * i),
	};
}

u32 heap_variable_count(const struct js_engine *engine, u32 function)
{
	u32 code = vm_load32(engine, function + FUNC_BYTECODE);

	return vm_load32(engine, function + FUNC_CELLS) ? vm_load16(engine, code + BC_CLOSURE_COUNT)
							: 0;
}

u64 heap_cell_value(const struct js_engine *engine, u32 cell)
{
	return vm_load64(engine, vm_load32(engine, cell + CELL_POINTER));
}

static bool define(struct js_engine *engine, u64 object, u32 atom, u64 value)
{
	VM(engine, JS_DupValue, engine->context, value);
	return (s32)VM(engine, JS_DefinePropertyValue, engine->context, object, atom, value, 7) >=
	       0;
}

static void run_variables(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 function = heap_module_function(engine, call->module);
	u32 exports = vm_load32(engine, call->module + MODULE_EXPORTS);
	u32 count = vm_load32(engine, call->module + MODULE_EXPORT_COUNT);
	u64 object = VM(engine, JS_NewObjectProto, engine->context, VALUE_NULL);
	bool good = !value_has_tag(object, TAG_EXCEPTION);

	heap_check_table(engine, exports, count, EXPORT_BYTES);
	for (u32 i = 0; good && function && i < heap_variable_count(engine, function); i++) {
		struct variable variable = heap_variable(engine, function, i);

		if (variable.kind == CLOSURE_MODULE_DECLARATION && variable.cell &&
		    !value_has_tag(heap_cell_value(engine, variable.cell), BOX_UNINITIALIZED))
			good = define(engine, object, variable.name,
				      heap_cell_value(engine, variable.cell));
	}
	for (u32 i = 0; good && i < count; i++) {
		u32 entry = exports + i * EXPORT_BYTES, cell;

		cell = vm_load32(engine, entry + EXPORT_TYPE)
			       ? 0
			       : vm_load32(engine, entry + EXPORT_CELL);
		if (cell && !value_has_tag(heap_cell_value(engine, cell), BOX_UNINITIALIZED))
			good = define(engine, object, vm_load32(engine, entry + EXPORT_NAME),
				      heap_cell_value(engine, cell));
	}
	if (good)
		call->result = value_box(engine, object);
	else
		VM(engine, JS_FreeValue, engine->context, object);
}

js_value heap_module_variables(struct js_engine *engine, uint32_t module)
{
	struct call call = {.engine = engine, .module = module};

	return engine_enter(engine, run_variables, &call) ? call.result : 0;
}

/* ---- Giving modules up ---- */

static u32 reference_count(const struct js_engine *engine, u32 block)
{
	return vm_load32(engine, block + BLOCK_REFERENCES);
}

/* Does a module whose evaluation is under way tell it when that is over? */
static bool is_waited_for(struct js_engine *engine, u32 module, u64 *left)
{
	for (u32 at = first_module(engine); at; at = next_module(engine, at)) {
		u32 parents = vm_load32(engine, at + MODULE_PARENTS);
		u32 count = vm_load32(engine, at + MODULE_PARENT_COUNT);

		if (*(u8 *)vm_at(engine, at + MODULE_STATUS) != STATUS_EVALUATING_ASYNC)
			continue;
		heap_check_table(engine, parents, count, 4);
		heap_spend(engine, left, count);
		for (u32 i = 0; i < count; i++)
			if (vm_load32(engine, parents + 4 * i) == module)
				return true;
	}
	return false;
}

static bool can_be_dropped(struct js_engine *engine, u32 module, u64 *left)
{
	return *(u8 *)vm_at(engine, module + MODULE_STATUS) != STATUS_EVALUATING_ASYNC &&
	       reference_count(engine, module) == 1 && !is_waited_for(engine, module, left);
}

/* Out of the list that it is in. */
static void unlink_block(struct js_engine *engine, u32 link)
{
	u32 previous = vm_load32(engine, link + LIST_PREV),
	    next = vm_load32(engine, link + LIST_NEXT);

	vm_store32(engine, previous + LIST_NEXT, next);
	vm_store32(engine, next + LIST_PREV, previous);
}

/* A namespace may hold the address of another module until a property of it is asked for the first time. */
static void settle_namespace(struct js_engine *engine, u32 module)
{
	u64 space = vm_load64(engine, module + MODULE_NAMESPACE);
	u32 list = vm_push(engine, 8), names, count;

	if (value_has_tag(space, TAG_OBJECT) &&
	    (s32)VM(engine, JS_GetOwnPropertyNames, engine->context, list, list + 4, space, 1) >=
		    0) {
		names = vm_load32(engine, list);
		count = vm_load32(engine, list + 4);
		for (u32 i = 0; i < count; i++) {
			u64 value = VM(engine, JS_GetProperty, engine->context, space,
				       vm_load32(engine, names + 8 * i + 4));

			if (value_has_tag(value, TAG_EXCEPTION)) /* it has no value yet */
				exception_clear(engine);
			VM(engine, JS_FreeValue, engine->context, value);
		}
		VM(engine, JS_FreePropertyEnum, engine->context, names, count);
	}
	vm_pop(engine, 8);
}

void heap_release_cell(struct js_engine *engine, u32 cell)
{
	u32 references = cell ? vm_load32(engine, cell + BLOCK_REFERENCES) - 1 : 1;

	if (cell)
		vm_store32(engine, cell + BLOCK_REFERENCES, references);
	if (references)
		return;
	VM(engine, JS_FreeValue, engine->context, vm_load64(engine, cell + CELL_VALUE));
	unlink_block(engine, cell);
	VM(engine, js_free, engine->context, cell);
}

static void free_tables(struct js_engine *engine, u32 module)
{
	u32 requests = vm_load32(engine, module + MODULE_REQUESTS);
	u32 exports = vm_load32(engine, module + MODULE_EXPORTS);
	u32 imports = vm_load32(engine, module + MODULE_IMPORTS);

	heap_check_table(engine, requests, vm_load32(engine, module + MODULE_REQUEST_COUNT),
			 REQUEST_BYTES);
	heap_check_table(engine, exports, vm_load32(engine, module + MODULE_EXPORT_COUNT),
			 EXPORT_BYTES);
	heap_check_table(engine, imports, vm_load32(engine, module + MODULE_IMPORT_COUNT),
			 IMPORT_BYTES);
	for (u32 i = vm_load32(engine, module + MODULE_REQUEST_COUNT); i--;) {
		u32 at = requests + i * REQUEST_BYTES;

		VM(engine, JS_FreeAtom, engine->context, vm_load32(engine, at + REQUEST_NAME));
		VM(engine, JS_FreeValue, engine->context,
		   vm_load64(engine, at + REQUEST_ATTRIBUTES));
	}
	for (u32 i = vm_load32(engine, module + MODULE_EXPORT_COUNT); i--;) {
		u32 at = exports + i * EXPORT_BYTES;

		if (!vm_load32(engine, at + EXPORT_TYPE))
			heap_release_cell(engine, vm_load32(engine, at + EXPORT_CELL));
		VM(engine, JS_FreeAtom, engine->context, vm_load32(engine, at + EXPORT_NAME));
		VM(engine, JS_FreeAtom, engine->context, vm_load32(engine, at + EXPORT_LOCAL));
	}
	for (u32 i = vm_load32(engine, module + MODULE_IMPORT_COUNT); i--;)
		VM(engine, JS_FreeAtom, engine->context,
		   vm_load32(engine, imports + i * IMPORT_BYTES + IMPORT_NAME));
	VM(engine, js_free, engine->context, requests);
	VM(engine, js_free, engine->context, exports);
	VM(engine, js_free, engine->context, vm_load32(engine, module + MODULE_STARS));
	VM(engine, js_free, engine->context, imports);
	VM(engine, js_free, engine->context, vm_load32(engine, module + MODULE_PARENTS));
}

/* What js_free_module_def() of the engine does. */
static void free_module(struct js_engine *engine, u32 module)
{
	static const u32 values[] = {MODULE_VALUES,	 MODULE_NAMESPACE,    MODULE_FUNCTION,
				     MODULE_EXCEPTION,	 MODULE_META,	      MODULE_PROMISE,
				     MODULE_PROMISE + 8, MODULE_PROMISE + 16, MODULE_PRIVATE};

	VM(engine, JS_FreeAtom, engine->context, vm_load32(engine, module + MODULE_NAME));
	free_tables(engine, module);
	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		VM(engine, JS_FreeValue, engine->context, vm_load64(engine, module + values[i]));
	unlink_block(engine, module + MODULE_LINK);
	VM(engine, js_free, engine->context, module);
}

static bool is_one_of(const u32 *modules, unsigned count, u32 module)
{
	for (unsigned i = 0; i < count; i++)
		if (modules[i] == module)
			return true;
	return false;
}

static void run_drop(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 *dropped = call->dropped;
	u64 left = PARENTS_MAX;
	unsigned count = 0;

	for (u32 at = first_module(engine); at; at = next_module(engine, at))
		settle_namespace(engine, at);
	for (unsigned i = 0; i < call->count; i++)
		if (can_be_dropped(engine, dropped[i], &left))
			dropped[count++] = dropped[i];
	for (u32 at = first_module(engine); at; at = next_module(engine, at))
		if (is_one_of(dropped, count, vm_load32(engine, at + MODULE_CYCLE_ROOT)))
			vm_store32(engine, at + MODULE_CYCLE_ROOT, at);
	for (unsigned i = 0; i < count; i++)
		free_module(engine, dropped[i]);
	call->count = count;
}

unsigned heap_modules_drop(struct js_engine *engine, uint32_t *modules, unsigned count)
{
	struct call call = {.engine = engine, .dropped = modules, .count = count};

	return engine_enter(engine, run_drop, &call) ? call.count : 0;
}
