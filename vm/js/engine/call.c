/* SPDX-License-Identifier: MIT */
/*
 * call.c - the ways into the program's code: evaluation, calls, and jobs (the reactions of
 * promises).
 *
 * Compiling runs on the VM's side stack. The program's code runs on the turn stack, which a
 * generation in the middle of a turn contains: the frames of the turn_*() functions must never hold
 * anything that differs from one process to the next, so all that they need is in engine->entry.
 * Owner's thread.
 */
#include <stdlib.h>
#include <string.h>

#include "heap_layout.h"
#include "state.h"

enum {
	EVAL_MODULE = 1 << 0,
	EVAL_COMPILE_ONLY = 1 << 5,
	EVAL_ASYNC = 1 << 7
}; /* JS_EVAL_* of quickjs.h */

/* ---- Compiling ---- */

/* A module: complete import.meta, load what it imports. Consumes it if that fails. */
static bool prepare_module(struct js_engine *engine, u64 module, const char *host_name)
{
	if (module_set_meta(engine, (u32)module, host_name, true) &&
	    (s32)VM(engine, JS_ResolveModule, engine->context, module) >= 0)
		return true;
	VM(engine, JS_FreeValue, engine->context, module);
	return false;
}

struct compile {
	struct js_engine *engine;
	const char *code, *name;
	size_t bytes;
	unsigned flags;
	u64 made;  /* the compiled code, to be evaluated */
	bool done; /* false: an exception is pending */
};

/* The first half of an evaluation, in which no code of the program runs. */
static void run_compile(void *arg)
{
	struct compile *compile = arg;
	struct js_engine *engine = compile->engine;
	u32 code = vm_string(engine, compile->code, compile->bytes);
	u32 name = code ? vm_string(engine, compile->name, strlen(compile->name)) : 0;
	u32 flags = EVAL_COMPILE_ONLY | (compile->flags & JS_EVAL_MODULE  ? EVAL_MODULE
					 : compile->flags & JS_EVAL_ASYNC ? EVAL_ASYNC
									  : 0);
	u64 made = VALUE_EXCEPTION;

	if (name)
		made = VM(engine, JS_Eval, engine->context, code, (u32)compile->bytes, name, flags);
	vm_free(engine, name);
	vm_free(engine, code);
	if (value_has_tag(made, TAG_EXCEPTION))
		return;
	compile->done = true;
	if (flags & EVAL_ASYNC)
		shield_completion(engine, made);
	if (compile->flags & JS_EVAL_COMPILE_ONLY)
		VM(engine, JS_FreeValue, engine->context, made);
	else if (compile->flags & JS_EVAL_MODULE)
		compile->done = prepare_module(engine, made, compile->name);
	else if (compile->flags & JS_EVAL_REDECLARE && !redeclare(engine, made)) {
		VM(engine, JS_FreeValue, engine->context, made);
		compile->done = false;
	}
	compile->made = made;
}

/*
 * ---- The three ways into the program's code: they run on the turn stack (see struct turn_entry)
 * ----
 */

static void turn_evaluate(void *arg)
{
	struct js_engine *engine = arg;

	engine->entry.result = value_box(
		engine, VM(engine, JS_EvalFunction, engine->context, engine->entry.function));
}

static void turn_call(void *arg)
{
	struct js_engine *engine = arg;
	u32 count = engine->entry.count, arguments = engine->entry.arguments;
	bool allocated = engine->entry.allocated;
	js_value result =
		value_box(engine, VM(engine, JS_Call, engine->context, engine->entry.function,
				     engine->entry.self, count, arguments));

	if (allocated)
		vm_free(engine, arguments);
	else
		vm_pop(engine, count * 8);
	engine->entry.result = result;
}

#define NO_JOB 1u /* no handle: those are multiples of 8 */

static void turn_job(void *arg)
{
	struct js_engine *engine = arg;
	u32 context = vm_push(engine, 4);
	s32 status = (s32)VM(engine, JS_ExecutePendingJob, engine->runtime, context);

	vm_pop(engine, 4);
	engine->entry.result =
		!status	     ? NO_JOB
		: status > 0 ? 0
			     : value_box(engine, VM(engine, JS_GetException, engine->context));
}

/* ---- From the host ---- */

js_value js_eval(struct js_engine *engine, const char *code, size_t bytes, const char *name,
		 unsigned flags)
{
	struct compile compile = {
		.engine = engine, .code = code, .bytes = bytes, .name = name, .flags = flags};

	if (!engine_enter(engine, run_compile, &compile) || !compile.done)
		return 0;
	if (flags & JS_EVAL_COMPILE_ONLY)
		return js_undefined(engine);
	engine->entry = (struct turn_entry){.function = compile.made};
	return engine_enter_turn(engine, turn_evaluate) ? engine->entry.result : 0;
}

struct reference {
	struct js_engine *engine;
	u64 value;
};

static void run_refer(void *arg)
{
	struct reference *reference = arg;

	VM(reference->engine, JS_DupValue, reference->engine->context, reference->value);
}

js_value js_evaluate_module(struct js_engine *engine, u32 module)
{
	struct reference reference = {engine, JSVALUE(BOX_MODULE, module)};

	if (!engine_enter(engine, run_refer, &reference))
		return 0;
	engine->entry = (struct turn_entry){.function = reference.value};
	return engine_enter_turn(engine, turn_evaluate) ? engine->entry.result : 0;
}

/* ---- Compiled before ---- */

/* JS_WRITE_OBJ_*, JS_READ_OBJ_* of quickjs.h */
enum { WRITE_BYTECODE = 1 << 0, WRITE_NO_SOURCE = 1 << 4, READ_BYTECODE = 1 << 0 };

struct code {
	struct js_engine *engine;
	u64 made; /* the compiled script */
	void *data;
	size_t bytes;
};

static void run_write(void *arg)
{
	struct code *code = arg;
	struct js_engine *engine = code->engine;
	u32 size_at = vm_push(engine, 8);
	u32 address = VM(engine, JS_WriteObject, engine->context, size_at, code->made,
			 WRITE_BYTECODE | WRITE_NO_SOURCE);

	code->bytes = vm_load32(engine, size_at);
	vm_pop(engine, 8);
	code->data = address ? malloc(code->bytes + 1) : NULL;
	if (code->data)
		memcpy(code->data, vm_at(engine, address), code->bytes);
	if (address)
		VM(engine, js_free, engine->context, address);
	VM(engine, JS_FreeValue, engine->context, code->made);
}

void *js_compile(struct js_engine *engine, const char *text, size_t bytes, const char *name,
		 size_t *made_bytes)
{
	struct compile compile = {.engine = engine, .code = text, .bytes = bytes, .name = name};
	struct code code = {.engine = engine};

	if (!engine_enter(engine, run_compile, &compile) || !compile.done)
		return NULL;
	code.made = compile.made;
	if (!engine_enter(engine, run_write, &code))
		return NULL;
	*made_bytes = code.bytes;
	return code.data;
}

static void run_read(void *arg)
{
	struct code *code = arg;
	struct js_engine *engine = code->engine;
	u32 address = VM(engine, js_malloc, engine->context, (u32)code->bytes);

	code->made = VALUE_EXCEPTION;
	if (!address)
		return;
	memcpy(vm_at(engine, address), code->data, code->bytes);
	code->made = VM(engine, JS_ReadObject, engine->context, address, (u32)code->bytes,
			READ_BYTECODE);
	VM(engine, js_free, engine->context, address);
}

js_value js_eval_compiled(struct js_engine *engine, const void *data, size_t bytes)
{
	struct code code = {.engine = engine, .data = (void *)data, .bytes = bytes};

	if (!engine_enter(engine, run_read, &code) || value_has_tag(code.made, TAG_EXCEPTION))
		return 0;
	engine->entry = (struct turn_entry){.function = code.made};
	return engine_enter_turn(engine, turn_evaluate) ? engine->entry.result : 0;
}

bool js_run_job(struct js_engine *engine, js_value *exception)
{
	bool ran;

	engine->entry = (struct turn_entry){.result = NO_JOB};
	ran = engine_enter_turn(engine, turn_job) && engine->entry.result != NO_JOB;
	*exception = ran ? engine->entry.result : 0;
	return ran;
}

struct allocate {
	struct js_engine *engine;
	u32 bytes, address; /* 0: an exception is pending */
};

static void run_allocate(void *arg)
{
	struct allocate *allocate = arg;
	struct js_engine *engine = allocate->engine;

	allocate->address = VM(engine, malloc, allocate->bytes);
	if (!allocate->address)
		VM(engine, JS_ThrowOutOfMemory, engine->context);
}

js_value js_call(struct js_engine *engine, js_value function, js_value self, unsigned count,
		 const js_value *arguments)
{
	struct allocate allocate = {.engine = engine, .bytes = count * 8};
	struct turn_entry entry = {.count = count, .allocated = count > 64};

	if (!entry.allocated)
		entry.arguments = vm_push(engine, count * 8);
	else if (engine_enter(engine, run_allocate, &allocate) && allocate.address)
		entry.arguments = allocate.address;
	else
		return 0;
	for (unsigned i = 0; i < count; i++)
		vm_store64(engine, entry.arguments + 8 * i, value_of(engine, arguments[i]));
	entry.function = value_of(engine, function);
	entry.self = value_of(engine, self);
	engine->entry = entry;
	return engine_enter_turn(engine, turn_call) ? engine->entry.result : 0;
}

js_value js_turn_continue(struct js_engine *engine)
{
	return engine_continue_turn(engine) ? engine->entry.result : 0;
}

struct jobs_pending {
	struct js_engine *engine;
	bool any;
};

static void run_jobs_pending(void *arg)
{
	struct jobs_pending *pending = arg;

	pending->any = VM(pending->engine, JS_IsJobPending, pending->engine->runtime);
}

bool js_jobs_pending(struct js_engine *engine)
{
	struct jobs_pending pending = {.engine = engine};

	return engine_enter(engine, run_jobs_pending, &pending) && pending.any;
}
