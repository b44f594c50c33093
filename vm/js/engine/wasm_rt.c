// SPDX-License-Identifier: MIT
/*
 * wasm_rt.c - the runtime that wasm2c's output (wabt 1.0.32) is linked against, in place of
 * wabt's own.
 *
 * Owns: function types and tables. Linear memory is the heap's region; here it only moves its
 * limit. Called by the generated code on the owner's thread. Must never hand the module memory
 * that libthaw does not track.
 *
 * The module is always instantiated over scratch memory, because instantiation writes its data
 * segments: engine.c copies that into a fresh heap, and throws it away when the heap was
 * restored.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "state.h"

#define MAX_TYPES 256
#define MAX_TYPE_VALUES 24
#define MAX_PAGES 65535u /* one less than WebAssembly allows: wasm_rt_memory_t.size is 32 bits */

struct function_type {
	u32 parameters, results;
	wasm_rt_type_t values[MAX_TYPE_VALUES];
};

/* Filled once per process, under engine.c's pthread_once. */
static struct function_type types[MAX_TYPES];
static u32 type_count;
static u32 native_types[NATIVE_COUNT];

static struct js_engine *engine_of_memory(wasm_rt_memory_t *memory)
{
	return (struct js_engine *)((char *)memory - offsetof(struct js_engine, wasm.w2c_memory));
}

void wasm_rt_init(void)
{
	native_types[NATIVE_HOST_FUNCTION] =
		wasm_rt_register_func_type(6, 1, WASM_RT_I32, WASM_RT_I64, WASM_RT_I32, WASM_RT_I32,
					   WASM_RT_I32, WASM_RT_I32, WASM_RT_I64);
	native_types[NATIVE_MODULE_RESOLVE] = wasm_rt_register_func_type(
		4, 1, WASM_RT_I32, WASM_RT_I32, WASM_RT_I32, WASM_RT_I32, WASM_RT_I32);
	native_types[NATIVE_MODULE_LOAD] = wasm_rt_register_func_type(
		3, 1, WASM_RT_I32, WASM_RT_I32, WASM_RT_I32, WASM_RT_I32);
	native_types[NATIVE_JSON_MODULE_INIT] =
		wasm_rt_register_func_type(2, 1, WASM_RT_I32, WASM_RT_I32, WASM_RT_I32);
	native_types[NATIVE_SHARED_ALLOCATE] = native_types[NATIVE_JSON_MODULE_INIT];
	native_types[NATIVE_SHARED_FREE] = native_types[NATIVE_SHARED_USE] =
		wasm_rt_register_func_type(2, 0, WASM_RT_I32, WASM_RT_I32);
}

bool wasm_rt_is_initialized(void)
{
	return native_types[0] != 0;
}

void wasm_rt_free(void)
{
}

const char *wasm_rt_strerror(wasm_rt_trap_t trap)
{
	switch (trap) {
	case WASM_RT_TRAP_OOB:
		return "memory access out of bounds";
	case WASM_RT_TRAP_INT_OVERFLOW:
		return "integer overflow";
	case WASM_RT_TRAP_DIV_BY_ZERO:
		return "integer divide by zero";
	case WASM_RT_TRAP_INVALID_CONVERSION:
		return "invalid conversion to integer";
	case WASM_RT_TRAP_UNREACHABLE:
		return "unreachable code";
	case WASM_RT_TRAP_CALL_INDIRECT:
		return "indirect call type mismatch";
	case WASM_RT_TRAP_EXHAUSTION:
		return "call stack exhausted";
	default:
		return "unknown trap";
	}
}

void wasm_rt_trap(wasm_rt_trap_t trap)
{
	engine_trap(engine_current(), wasm_rt_strerror(trap));
}

uint32_t wasm_rt_register_func_type(uint32_t parameters, uint32_t results, ...)
{
	struct function_type type = {.parameters = parameters, .results = results};
	va_list list;

	if (parameters + results > MAX_TYPE_VALUES || type_count == MAX_TYPES)
		abort(); /* the module is a part of the build: if it does not fit, no build of it ever worked */
	va_start(list, results);
	for (u32 i = 0; i < parameters + results; i++)
		type.values[i] = va_arg(list, wasm_rt_type_t);
	va_end(list);
	for (u32 i = 0; i < type_count; i++) {
		if (!memcmp(&types[i], &type, sizeof(type)))
			return i + 1;
	}
	types[type_count] = type;
	return ++type_count;
}

void wasm_rt_allocate_memory(wasm_rt_memory_t *memory, uint32_t initial_pages, uint32_t max_pages)
{
	void *scratch = mmap(NULL, (size_t)initial_pages << 16, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (scratch == MAP_FAILED) {
		perror("thaw: memory for the JavaScript engine");
		abort(); /* the interface cannot report an error */
	}
	memory->data = scratch;
	memory->pages = initial_pages;
	memory->max_pages = max_pages < MAX_PAGES ? max_pages : MAX_PAGES;
	memory->size = initial_pages << 16;
}

void wasm_rt_free_memory(wasm_rt_memory_t *memory)
{
	(void)memory; /* the region belongs to the heap */
}

/*
 * Frees the reserve in the middle of the VM's malloc. This is safe, since sys_alloc of dlmalloc
 * changes no state between a memory.grow that failed and its return of NULL: this allocation fails,
 * and there is memory for the error that it causes.
 */
static void release_reserve(struct js_engine *engine)
{
	struct heap_note *note;
	u32 reserve;

	engine->memory_refused = true;
	if (!engine->note)
		return;
	note = vm_at(engine, engine->note);
	reserve = note->reserve;
	note->reserve = 0;
	if (reserve)
		VM(engine, free, reserve);
}

static u64 resize_heap(void *arg)
{
	struct js_engine *engine = arg;

	return thaw_resize(engine->heap, (size_t)engine->pages_wanted << 16) == 0;
}

uint32_t wasm_rt_grow_memory(wasm_rt_memory_t *memory, uint32_t delta)
{
	struct js_engine *engine = engine_of_memory(memory);
	u32 before = memory->pages;
	u64 pages = (u64)before + delta;

	if (delta == 0)
		return before;
	engine->pages_wanted = (u32)pages;
	if (pages > memory->max_pages || !engine_call_host(engine, resize_heap, engine)) {
		release_reserve(engine);
		return UINT32_MAX;
	}
	memory->pages = (u32)pages;
	memory->size = (u32)pages << 16;
	return before;
}

void wasm_rt_allocate_funcref_table(wasm_rt_funcref_table_t *table, uint32_t elements,
				    uint32_t max_elements)
{
	struct js_engine *engine =
		(struct js_engine *)((char *)table - offsetof(struct js_engine,
							      wasm.w2c___indirect_function_table));

	if (elements + NATIVE_COUNT > TABLE_ROOM)
		abort(); /* the module is a part of the build: if it does not fit, no build of it ever worked */
	table->size = elements + NATIVE_COUNT;
	table->max_size = max_elements;
	table->data = engine->table;
}

void wasm_rt_free_funcref_table(wasm_rt_funcref_table_t *table)
{
	table->data = NULL;
}

/*
 * Adds the functions of the host after those of the module. The type check of indirect calls covers
 * them, too.
 */
void wasm_rt_set_native(struct js_engine *engine)
{
	wasm_rt_funcref_table_t *table = &engine->wasm.w2c___indirect_function_table;
	const wasm_rt_function_ptr_t functions[NATIVE_COUNT] = {
		[NATIVE_HOST_FUNCTION] = (wasm_rt_function_ptr_t)native_host_function,
		[NATIVE_MODULE_RESOLVE] = (wasm_rt_function_ptr_t)native_module_resolve,
		[NATIVE_MODULE_LOAD] = (wasm_rt_function_ptr_t)native_module_load,
		[NATIVE_JSON_MODULE_INIT] = (wasm_rt_function_ptr_t)native_json_module_init,
		[NATIVE_SHARED_ALLOCATE] = (wasm_rt_function_ptr_t)native_shared_allocate,
		[NATIVE_SHARED_FREE] = (wasm_rt_function_ptr_t)native_shared_free,
		[NATIVE_SHARED_USE] = (wasm_rt_function_ptr_t)native_shared_use,
	};

	engine->native_base = table->size - NATIVE_COUNT;
	for (u32 i = 0; i < NATIVE_COUNT; i++) {
		wasm_rt_funcref_t *entry = &table->data[engine->native_base + i];

		entry->func_type = native_types[i];
		entry->func = functions[i];
		entry->module_instance = engine;
	}
}
