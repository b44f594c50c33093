// SPDX-License-Identifier: MIT
/*
 * engine.c - the life of a VM: creation, restoration, entering and leaving it, traps, limits, and
 * the collector's policy.
 *
 * Owns: struct js_engine. Called by runtime.c on the owner's thread. Must never run any code of the VM
 * after a trap, and never write to a restored heap before its small state has been validated.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/failure.h"
#include "state.h"

/*
 * The shadow stack (the wasm's own, in linear memory): QuickJS counts only this one. Its limit
 * leaves room for what runs below the last check: formatting the exception, and functions that do
 * not check.
 */
#define SHADOW_BYTES (8u << 20)
#define SHADOW_MARGIN (512u << 10)
#define SHADOW_LEAST (64u << 10) /* what the guest's own code does with */
#define RESERVE_BYTES (512u << 10)
#define SCRATCH_BYTES (4u << 20) /* more than the memory that the module begins with */

/*
 * Collector: between turns when the live bytes have grown by half since the last collection;
 * inside a turn that does not end, later.
 */
#define GC_FLOOR (32ull << 20)
#define GC_TURN_SLACK (32ull << 20)
/* With less than 512 MiB left, do not wait until the live bytes have doubled. */
#define GC_CEILING (3584ull << 20)

#define POLLS_CHECKED 5000u /* a value that the poll counter has only if it was set here */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static __thread struct js_engine *current;

/* ---- Entering, leaving, trapping ---- */

struct js_engine *engine_current(void)
{
	return current;
}

/* To the host that entered last. */
void engine_leave(struct js_engine *engine)
{
	/* A host function whose frames are below that returns by itself (engine_call_host()). */
	struct vm_stack *stack = engine->turn_stack.depth ? &engine->turn_stack
							  : &engine->side_stack;

	vm_stack_leave(engine->running ? engine->running : stack, engine->landing);
}

void engine_trap(struct js_engine *engine, const char *reason)
{
	if (!engine || !engine->landing)
		abort();
	snprintf(engine->trap, sizeof(engine->trap), "%s", reason);
	engine_leave(engine);
}

const char *js_trapped(const struct js_engine *engine)
{
	return engine->trap[0] ? engine->trap : NULL;
}

bool js_damaged(const struct js_engine *engine)
{
	return engine->damaged;
}

static bool note_is_whole(const struct js_engine *engine)
{
	const struct heap_note *note = vm_at(engine, engine->note);

	return note->magic == NOTE_MAGIC && note->stack_bytes == SHADOW_BYTES;
}

/* On a VM's stack. */
static void restore_reserve(void *arg)
{
	struct js_engine *engine = arg;
	struct heap_note *note = vm_at(engine, engine->note);

	if (engine->memory_refused && !note->reserve)
		note->reserve = VM(engine, malloc, RESERVE_BYTES);
	if (note->reserve)
		engine->memory_refused = false;
}

/* Run on `stack` and come back. `function` NULL: continue the turn whose frames are there. */
static void cross(struct js_engine *engine, struct vm_stack *stack, void (*function)(void *arg),
		  void *arg)
{
	struct js_engine *outer = current;
	struct vm_landing landing, *before = engine->landing;

	if (!before)
		engine->cut_ns = 0;
	current = engine;
	engine->running = stack;
	engine->landing = &landing;
	if (function)
		vm_stack_run(stack, &landing, function, arg);
	else
		vm_stack_resume(stack, &landing, 0);
	engine->landing = before;
	engine->running = NULL;
	current = outer;
}

/* False: the engine has trapped, now or before. */
static bool enter(struct js_engine *engine, struct vm_stack *stack, void (*function)(void *arg),
		  void *arg)
{
	if (engine->trap[0] || engine->between)
		return false;
	cross(engine, stack, function, arg);
	if (engine->landing || !engine->note || engine->trap[0])
		return !engine->trap[0];
	if (!note_is_whole(engine)) {
		snprintf(engine->trap, sizeof(engine->trap),
			 "call stack exhausted (the shadow stack overran its block)");
		return false;
	}
	if (engine->memory_refused)
		cross(engine, &engine->side_stack, restore_reserve, engine);
	return !engine->trap[0];
}

bool engine_enter(struct js_engine *engine, void (*function)(void *arg), void *arg)
{
	if (engine->running) {
		function(arg);
		return true;
	}
	return enter(engine, &engine->side_stack, function, arg);
}

bool engine_enter_turn(struct js_engine *engine, void (*function)(void *engine))
{
	return enter(engine, engine->landing ? &engine->side_stack : &engine->turn_stack, function,
		     engine);
}

bool engine_continue_turn(struct js_engine *engine)
{
	return enter(engine, &engine->turn_stack, NULL, NULL);
}

u64 engine_call_host(struct js_engine *engine, u64 (*function)(void *arg), void *arg)
{
	struct vm_stack *stack = engine->running;
	u64 result;

	engine->running = NULL;
	result = vm_stack_call_host(stack, function, arg);
	engine->running = stack;
	if (engine->trap[0]) /* in an entry of the host function's */
		vm_stack_leave(stack, engine->landing);
	return result;
}

struct side_call {
	struct js_engine *engine;
	void (*function)(void *arg);
	void *arg;
};

static u64 enter_side(void *arg)
{
	const struct side_call *call = arg;

	return engine_enter(call->engine, call->function, call->arg);
}

void engine_call_side(struct js_engine *engine, void (*function)(void *arg), void *arg)
{
	struct side_call call = {engine, function, arg};

	engine_call_host(engine, enter_side, &call);
}

static void initialize_process(void)
{
	wasm_rt_init();
	Z_quickjs_init_module();
}

/* ---- Creation and restoration ---- */

static int compare_bindings(const void *a, const void *b)
{
	const struct js_host_binding *const *left = a, *const *right = b;

	return strcmp((*left)->name, (*right)->name);
}

static int sort_bindings(struct js_engine *engine)
{
	const struct js_host_binding *binding = engine->host.bindings;

	while (binding && binding[engine->binding_count].name)
		engine->binding_count++;
	engine->bindings = calloc(engine->binding_count + 1, sizeof(*engine->bindings));
	if (!engine->bindings)
		return -ENOMEM;
	for (size_t i = 0; i < engine->binding_count; i++)
		engine->bindings[i] = &binding[i];
	qsort(engine->bindings, engine->binding_count, sizeof(*engine->bindings), compare_bindings);
	return 0;
}

static size_t engine_bytes(void)
{
	return (sizeof(struct js_engine) + 0xffff) & ~(size_t)0xffff;
}

/* The memory that the generated code allocates and cannot do without (wasm_rt_allocate_memory). */
static int scratch_is_there(void)
{
	void *scratch = mmap(NULL, SCRATCH_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (scratch == MAP_FAILED)
		return -errno;
	munmap(scratch, SCRATCH_BYTES);
	return 0;
}

/*
 * Everything but the heap: the module over scratch memory, its table with our functions in it, and
 * the stacks.
 */
static struct js_engine *engine_new(struct thaw *heap, const struct js_host *host,
				    struct thaw_error *error)
{
	struct js_engine *engine;
	struct vm_stack stack;
	int code = vm_stack_open(&stack, JS_PLACE_ADDRESS, engine_bytes());
	bool fixed = !code && thaw_base(heap) == JS_HEAP_ADDRESS;

	if (code) /* another engine of this process, 39-bit address spaces, ThreadSanitizer */
		code = vm_stack_open(&stack, NULL, engine_bytes());
	if (code) {
		failure(error, code,
			"JavaScript engine: no address space for its stack (see vm.max_map_count, and ulimit -v)");
		return NULL;
	}
	engine = (struct js_engine *)stack.top;
	engine->turn_stack = stack;
	engine->fixed = fixed;
	pthread_once(&once, initialize_process);
	engine->heap = heap;
	engine->host = *host;
	code = js_prepare_thread();
	if (code == 0)
		code = engine_announce(engine);
	if (code == 0)
		code = sort_bindings(engine);
	if (code == 0)
		code = vm_stack_open(&engine->side_stack, NULL, 0);
	if (code == 0)
		code = scratch_is_there();
	if (code < 0) {
		failure(error, code,
			"JavaScript engine: no address space for its stack (see vm.max_map_count, and ulimit -v)");
		js_engine_free(engine);
		return NULL;
	}
	Z_quickjs_instantiate(&engine->wasm, (struct Z_env_instance_t *)engine,
			      (struct Z_wasi_snapshot_preview1_instance_t *)engine);
	wasm_rt_set_native(engine);
	return engine;
}

void js_engine_free(struct js_engine *engine)
{
	struct vm_stack stack;

	if (!engine)
		return;
	engine_withdraw(engine);
	wasm_rt_free_funcref_table(&engine->wasm.w2c___indirect_function_table);
	vm_stack_close(&engine->side_stack, 0);
	free(engine->bindings);
	free(engine->import_base);
	free(engine->import_specifier);
	stack = engine->turn_stack;
	vm_stack_close(&stack, engine_bytes()); /* the engine is inside of it */
}

static void use_heap(struct js_engine *engine, u32 pages)
{
	engine->wasm.w2c_memory.data = thaw_base(engine->heap);
	engine->wasm.w2c_memory.pages = pages;
	engine->wasm.w2c_memory.size = pages << 16;
}

/* Copy the scratch memory into the (all zero) region; pages that stay zero are not touched. */
static int move_into_heap(struct js_engine *engine)
{
	static const char zeros[4096];
	wasm_rt_memory_t scratch = engine->wasm.w2c_memory;
	char *base;
	int code = thaw_resize(engine->heap, scratch.size);

	if (code == 0) {
		base = thaw_base(engine->heap);
		for (u32 offset = 0; offset < scratch.size; offset += sizeof(zeros)) {
			if (memcmp(scratch.data + offset, zeros, sizeof(zeros)) != 0)
				memcpy(base + offset, scratch.data + offset, sizeof(zeros));
		}
		use_heap(engine, scratch.pages);
	}
	munmap(scratch.data, scratch.size);
	return code;
}

/* Hooks and limits are in the heap, so a restore brings them back. */
static bool create_shadow_stack(struct js_engine *engine)
{
	u32 block = VM(engine, malloc, sizeof(struct heap_note) + SHADOW_BYTES + 16);
	struct heap_note *fields;

	if (!block)
		return false;
	engine->note = (block + 15) & ~15u;
	fields = vm_at(engine, engine->note);
	memset(fields, 0, sizeof(*fields));
	fields->magic = NOTE_MAGIC;
	fields->stack_bytes = SHADOW_BYTES;
	fields->reserve = VM(engine, malloc, RESERVE_BYTES);
	VM(engine, JS_SetRuntimeOpaque, engine->runtime, engine->note);

	engine->wasm.w2c___stack_pointer = engine->note + sizeof(*fields) + SHADOW_BYTES;
	VM(engine, JS_UpdateStackTop, engine->runtime);
	VM(engine, qjs_set_max_stack_size, SHADOW_BYTES - SHADOW_MARGIN);
	return true;
}

/* Check the words of QuickJS that are read and written here without its functions. */
static bool check_layout(struct js_engine *engine)
{
	static const char code[] = "Math.random()";
	u32 usage = vm_push(engine, 26 * 8);
	u64 before = vm_load64(engine, engine->context + CONTEXT_RANDOM_STATE), after;
	u32 text = vm_string(engine, code, strlen(code)), polls;
	u64 result;
	bool good;

	vm_store32(engine, engine->context + CONTEXT_POLL_COUNTER, POLLS_CHECKED);
	result = text ? VM(engine, JS_Eval, engine->context, text, sizeof(code) - 1, text, 0)
		      : VALUE_EXCEPTION;
	vm_free(engine, text);
	after = vm_load64(engine, engine->context + CONTEXT_RANDOM_STATE);
	before ^= before >> 12;
	before ^= before << 25;
	before ^= before >> 27;
	good = !value_has_tag(result, TAG_EXCEPTION) && after == before;
	polls = vm_load32(engine, engine->context + CONTEXT_POLL_COUNTER);
	good = good && polls < POLLS_CHECKED && polls > POLLS_CHECKED - 100;
	VM(engine, qjs_compute_memory_usage, usage);
	good = good &&
	       vm_load64(engine, usage) == vm_load32(engine, engine->runtime + RUNTIME_MALLOC_SIZE);
	VM(engine, qjs_set_gc_threshold, 0xffffffffu); /* never by itself: the host decides when */
	good = good && vm_load32(engine, engine->runtime + RUNTIME_GC_THRESHOLD) == 0xffffffffu;
	vm_pop(engine, 26 * 8);
	return good;
}

static bool reseed(struct js_engine *engine)
{
	u64 states[JS_CONTEXTS_MAX]; /* at most 256 bytes come without being interrupted */
	const size_t bytes = engine->context_count * sizeof(states[0]);

	if (getrandom(states, bytes, 0) != (ssize_t)bytes)
		return false;
	for (unsigned i = 0; i < engine->context_count; i++)
		vm_store64(engine, engine->contexts[i] + CONTEXT_RANDOM_STATE,
			   states[i] ? states[i] : 1);
	return true;
}

struct start {
	struct js_engine *engine;
	const char *problem;
	int code; /* the error code for it; 0: the one of the caller */
};

static void run_create(void *arg)
{
	struct start *start = arg;
	struct js_engine *engine = start->engine;

	start->problem = "cannot initialise QuickJS";
	VM(engine, _initialize);
	if (VM(engine, qjs_init) != 0)
		return;
	engine->runtime = VM(engine, qjs_get_runtime_ptr);
	engine->context = VM(engine, qjs_get_context_ptr);
	engine->contexts[0] = engine->context;
	engine->context_count = 1;
	start->problem = "not enough memory for its stack";
	start->code = -ENOMEM;
	if (!create_shadow_stack(engine))
		return;
	start->code = 0;
	VM(engine, JS_SetModuleLoaderFunc, engine->runtime,
	   engine->native_base + NATIVE_MODULE_RESOLVE, engine->native_base + NATIVE_MODULE_LOAD,
	   0);
	engine_share_memory(engine);
	start->problem =
		"this quickjs.wasm is laid out differently from the one the engine was written for";
	if (!check_layout(engine) || !engine_check_allocator(engine))
		return;
	start->problem = "no randomness from the kernel";
	if (!reseed(engine))
		return;
	VM(engine, qjs_run_gc);
	((struct heap_note *)vm_at(engine, engine->note))->live_bytes =
		vm_load32(engine, engine->runtime + RUNTIME_MALLOC_SIZE);
	/* Last, since callbacks of the host may rely on an engine that exists. */
	VM(engine, qjs_set_interrupt_handler, 1);
	VM(engine, qjs_set_promise_rejection_handler, 1);
	start->problem = NULL;
}

/* Of what is read here, nothing is trusted but that it is an address inside the heap. */
static void run_restore(void *arg)
{
	struct start *start = arg;
	struct js_engine *engine = start->engine;
	const u32 size = engine->wasm.w2c_memory.size;
	const u32 pointer = engine->wasm.w2c___stack_pointer;
	u32 note;

	engine->runtime = VM(engine, qjs_get_runtime_ptr);
	engine->context = VM(engine, qjs_get_context_ptr);
	start->problem = "its runtime is not where it should be";
	if (!engine->runtime || !engine->context || engine->runtime > size - 4096 ||
	    engine->context > size - 4096)
		return;
	start->problem = "its stack is not where it should be";
	note = VM(engine, JS_GetRuntimeOpaque, engine->runtime);
	if (!note || note % 16 || note > size - sizeof(struct heap_note) - SHADOW_BYTES)
		return;
	engine->note = note;
	if (!note_is_whole(engine) || pointer <= note + sizeof(struct heap_note) ||
	    pointer > note + sizeof(struct heap_note) + SHADOW_BYTES) {
		engine->note = 0;
		return;
	}
	start->problem = "its contexts are not where they should be";
	if (!engine_find_contexts(engine))
		return;
	start->problem = reseed(engine) ? NULL : "no randomness from the kernel";
}

/* The end of creating and restoring: run the part inside of the VM, or report why it failed. */
static int engine_start(struct js_engine *engine, void (*function)(void *arg), int code,
			struct js_engine **result, struct thaw_error *error)
{
	struct start start = {.engine = engine};
	char text[540];

	if (engine_enter(engine, function, &start) && !start.problem) {
		engine_watch_free(engine);
		*result = engine;
		return 0;
	}
	snprintf(text, sizeof(text), "JavaScript engine: %s",
		 engine->trap[0] ? engine->trap : start.problem);
	js_engine_free(engine);
	return failure(error, start.code ? start.code : code, "%s", text);
}

int js_engine_create(struct thaw *heap, const struct js_host *host, struct js_engine **engine,
		     struct thaw_error *error)
{
	struct js_engine *made = engine_new(heap, host, error);
	int code;

	if (!made)
		return -ENOMEM;
	code = move_into_heap(made);
	if (code < 0) {
		js_engine_free(made);
		return failure(error, code, "JavaScript engine: the heap is too small");
	}
	return engine_start(made, run_create, -ENOTSUP, engine, error);
}

int js_engine_restore(struct thaw *heap, const struct js_host *host, const struct js_small *small,
		      struct js_engine **engine, struct thaw_error *error)
{
	struct js_engine *made = engine_new(heap, host, error);
	wasm_rt_memory_t scratch;

	if (!made)
		return -ENOMEM;
	scratch = made->wasm.w2c_memory;
	munmap(scratch.data, scratch.size);
	if (small->memory_pages < scratch.pages || small->memory_pages > scratch.max_pages ||
	    (size_t)small->memory_pages << 16 != thaw_size(heap) || small->stack_pointer % 16 ||
	    small->stack_pointer > (u64)small->memory_pages << 16) {
		js_engine_free(made);
		return failure(error, THAW_EDAMAGED,
			       "JavaScript engine: the image's VM state cannot be");
	}
	use_heap(made, small->memory_pages);
	made->wasm.w2c___stack_pointer = small->stack_pointer;
	return engine_start(made, run_restore, THAW_EDAMAGED, engine, error);
}

struct js_small js_engine_small(const struct js_engine *engine)
{
	return (struct js_small){
		.stack_pointer = engine->wasm.w2c___stack_pointer,
		.memory_pages = engine->wasm.w2c_memory.pages,
	};
}

size_t js_heap_bytes(const struct js_engine *engine)
{
	return engine->wasm.w2c_memory.size;
}

/* ---- Collector ---- */

static u64 live_bytes(const struct js_engine *engine)
{
	return vm_load32(engine, engine->runtime + RUNTIME_MALLOC_SIZE);
}

uint64_t js_room(const struct js_engine *engine)
{
	return (JS_HEAP_MAX_BYTES - live_bytes(engine)) / 2;
}

static u64 live_after_collection(const struct js_engine *engine)
{
	return ((struct heap_note *)vm_at(engine, engine->note))->live_bytes;
}

static void run_collect(void *arg)
{
	struct js_engine *engine = arg;

	VM(engine, qjs_run_gc);
	((struct heap_note *)vm_at(engine, engine->note))->live_bytes = (u32)live_bytes(engine);
	restore_reserve(engine);
	engine->memory_refused = false;
}

void engine_collect(struct js_engine *engine)
{
	if (engine->collecting)
		return;
	engine->collecting = true;
	engine_enter(engine, run_collect, engine);
	engine->collecting = false;
}

/*
 * QuickJS itself may collect whenever it allocates an object, and a poll is as safe a place: frames
 * of the interpreter count their references, so no collection frees what they hold.
 */
void engine_collect_inside_turn(struct js_engine *engine)
{
	u64 live = live_bytes(engine), before = live_after_collection(engine);
	u64 bound = 2 * before + GC_TURN_SLACK;

	if (bound > GC_CEILING)
		bound = before + GC_TURN_SLACK > GC_CEILING ? before + GC_TURN_SLACK : GC_CEILING;
	if (engine->collection_held && live < GC_CEILING)
		bound = GC_CEILING;
	if (live > bound || engine->memory_refused)
		engine_collect(engine);
}

void js_hold_collections(struct js_engine *engine, bool hold)
{
	engine->collection_held = hold;
}

struct limit {
	struct js_engine *engine;
	u32 bytes;
};

static void run_limit(void *arg)
{
	const struct limit *limit = arg;

	VM(limit->engine, qjs_set_max_stack_size, limit->bytes);
}

void js_limit_stack(struct js_engine *engine, size_t bytes)
{
	const size_t most = SHADOW_BYTES - SHADOW_MARGIN;
	struct limit limit = {engine, (u32)(bytes < most ? bytes : most)};

	if (limit.bytes < SHADOW_LEAST)
		limit.bytes = SHADOW_LEAST;

	engine_enter(engine, run_limit, &limit);
}

bool js_gc_wanted(struct js_engine *engine)
{
	u64 before;

	if (engine->trap[0] || engine->collection_held)
		return false;
	before = live_after_collection(engine);
	before += before / 2;
	return live_bytes(engine) > (before > GC_FLOOR ? before : GC_FLOOR);
}

void js_gc(struct js_engine *engine)
{
	engine_collect(engine);
}
