// SPDX-License-Identifier: MIT
/*
 * trainer.c FILE.js - runs a script in the engine that is linked with it, which is compiled to count what it executes: at
 * the exit gcc's library writes that down, and the engine proper is compiled by it (vm/engine.mk). A host that has
 * neither time nor chance nor anything else of the machine. The script leaves a text in `trained` once it is through.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "quickjs.h" /* made by wasm2c */

#define RESERVED (8ull << 30) /* an address and an offset of 32 bits each */
/* The same in every run, if it is free: values are counted, too. Where heaps of the program lie (engine.h). */
#define ADDRESS ((void *)0x200040000000ull)
#define MAX_TYPES 256
#define MAX_VALUES 24

static Z_quickjs_instance_t vm;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "trainer: %s\n", what);
	exit(1);
}

/* ---- The runtime of wasm2c's output */

static struct type {
	u32 parameters, results;
	wasm_rt_type_t values[MAX_VALUES];
} types[MAX_TYPES];
static u32 type_count;

bool wasm_rt_is_initialized(void)
{
	return true;
}

void wasm_rt_trap(wasm_rt_trap_t trap)
{
	(void)trap;
	fail("the engine has trapped");
}

uint32_t wasm_rt_register_func_type(uint32_t parameters, uint32_t results, ...)
{
	struct type type = {.parameters = parameters, .results = results};
	va_list list;

	if (parameters + results > MAX_VALUES || type_count == MAX_TYPES)
		fail("too many types");
	va_start(list, results);
	for (u32 i = 0; i < parameters + results; i++)
		type.values[i] = va_arg(list, wasm_rt_type_t);
	va_end(list);
	for (u32 i = 0; i < type_count; i++)
		if (!memcmp(&types[i], &type, sizeof(type)))
			return i + 1;
	types[type_count] = type;
	return ++type_count;
}

void wasm_rt_allocate_memory(wasm_rt_memory_t *memory, uint32_t pages, uint32_t max_pages)
{
	memory->data = mmap(ADDRESS, RESERVED, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory->data == MAP_FAILED)
		fail("no address space");
	memory->max_pages = max_pages;
	memory->pages = 0;
	wasm_rt_grow_memory(memory, pages);
}

uint32_t wasm_rt_grow_memory(wasm_rt_memory_t *memory, uint32_t delta)
{
	u32 before = memory->pages;

	if ((u64)before + delta >= 65536 ||
	    mprotect(memory->data, (size_t)(before + delta) << 16, PROT_READ | PROT_WRITE))
		return UINT32_MAX;
	memory->pages = before + delta;
	memory->size = memory->pages << 16;
	return before;
}

void wasm_rt_free_memory(wasm_rt_memory_t *memory)
{
	(void)memory;
}

void wasm_rt_allocate_funcref_table(wasm_rt_funcref_table_t *table, uint32_t elements,
				    uint32_t max_elements)
{
	table->data = calloc(elements, sizeof(*table->data));
	if (!table->data)
		fail("no memory");
	table->size = elements;
	table->max_size = max_elements;
}

void wasm_rt_free_funcref_table(wasm_rt_funcref_table_t *table)
{
	free(table->data);
}

/* ---- What the module imports */

#define ENV struct Z_env_instance_t *env
#define WASI struct Z_wasi_snapshot_preview1_instance_t *wasi

u32 Z_envZ_host_call(ENV, u32 a, u32 b, u32 c, u32 d, u32 e)
{
	(void)env, (void)a, (void)b, (void)c, (void)d, (void)e;
	return 0;
}

u32 Z_envZ_host_interrupt(ENV)
{
	(void)env;
	return 0;
}

u32 Z_envZ_host_module_load(ENV, u32 name, u32 bytes)
{
	(void)env, (void)name, (void)bytes;
	return 0;
}

u32 Z_envZ_host_module_normalize(ENV, u32 base, u32 name)
{
	(void)env, (void)base, (void)name;
	return 0;
}

void Z_envZ_host_promise_rejection(ENV, u32 promise, u32 reason, u32 handled)
{
	(void)env, (void)promise, (void)reason, (void)handled;
	fail("a promise was rejected");
}

u32 Z_envZ_host_get_timezone_offset(ENV, u32 high, u32 low)
{
	(void)env, (void)high, (void)low;
	return 0;
}

u32 Z_wasi_snapshot_preview1Z_clock_time_get(WASI, u32 clock, u64 precision, u32 result)
{
	(void)wasi, (void)clock, (void)precision;
	memset(vm.w2c_memory.data + result, 1, 8);
	return 0;
}

u32 Z_wasi_snapshot_preview1Z_random_get(WASI, u32 buffer, u32 bytes)
{
	(void)wasi;
	memset(vm.w2c_memory.data + buffer, 1, bytes);
	return 0;
}

u32 Z_wasi_snapshot_preview1Z_fd_write(WASI, u32 fd, u32 vectors, u32 count, u32 result)
{
	(void)wasi, (void)fd, (void)vectors, (void)count, (void)result;
	return 8;
}

u32 Z_wasi_snapshot_preview1Z_fd_close(WASI, u32 fd)
{
	(void)wasi, (void)fd;
	return 8;
}

u32 Z_wasi_snapshot_preview1Z_fd_fdstat_get(WASI, u32 fd, u32 result)
{
	(void)wasi, (void)fd, (void)result;
	return 8;
}

u32 Z_wasi_snapshot_preview1Z_fd_seek(WASI, u32 fd, u64 offset, u32 whence, u32 result)
{
	(void)wasi, (void)fd, (void)offset, (void)whence, (void)result;
	return 8;
}

/* ---- The script */

static u32 put(const char *text, size_t bytes)
{
	u32 at = Z_quickjsZ_malloc(&vm, (u32)bytes + 1);

	if (!at)
		fail("no memory");
	memcpy(vm.w2c_memory.data + at, text, bytes);
	vm.w2c_memory.data[at + bytes] = '\0';
	return at;
}

static u64 evaluate(u32 context, const char *text, size_t bytes)
{
	u32 code = put(text, bytes), name = put("training.js", 11);
	u64 result = Z_quickjsZ_JS_Eval(&vm, context, code, (u32)bytes, name, 0);

	Z_quickjsZ_free(&vm, name);
	Z_quickjsZ_free(&vm, code);
	if (result >> 32 == 6) /* JS_TAG_EXCEPTION */
		fail("the script has thrown");
	return result;
}

static char *read_all(const char *path, size_t *bytes)
{
	char *text = malloc(1u << 20);
	FILE *file = fopen(path, "re");

	if (!file || !text)
		fail("cannot read the script");
	*bytes = fread(text, 1, 1u << 20, file);
	fclose(file);
	return text;
}

int main(int count, char **arguments)
{
	u32 runtime, context, job;
	size_t bytes;
	char *text;
	s32 ran;

	if (count != 2)
		fail("which script?");
	text = read_all(arguments[1], &bytes);
	Z_quickjs_init_module();
	Z_quickjs_instantiate(&vm, NULL, NULL);
	Z_quickjsZ__initialize(&vm);
	if (Z_quickjsZ_qjs_init(&vm))
		fail("the engine does not start");
	runtime = Z_quickjsZ_qjs_get_runtime_ptr(&vm);
	context = Z_quickjsZ_qjs_get_context_ptr(&vm);
	Z_quickjsZ_qjs_set_interrupt_handler(&vm, 1);
	Z_quickjsZ_JS_FreeValue(&vm, context, evaluate(context, text, bytes));
	job = Z_quickjsZ_malloc(&vm, 4);
	while ((ran = (s32)Z_quickjsZ_JS_ExecutePendingJob(&vm, runtime, job)) > 0)
		;
	if (ran < 0 || evaluate(context, "+(trained.length > 100)", 23) != 1)
		fail("the script did not come to its end");
	Z_quickjsZ_qjs_run_gc(&vm);
	free(text);
	return 0;
}
