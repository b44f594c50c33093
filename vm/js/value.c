// SPDX-License-Identifier: MIT
/*
 * value.c - evaluation, jobs, calls, properties, and values to and from the host.
 *
 * Owns: nothing; handles belong to whoever received them. Each public function packs its
 * arguments into a struct call and enters the VM, where the run_* function of the same name does
 * the work. Owner's thread. Must never keep a pointer into linear memory across a call that may
 * free what it points to.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>

#include "state.h"

enum {
	EVAL_MODULE = 1 << 0,
	EVAL_COMPILE_ONLY = 1 << 5,
	EVAL_ASYNC = 1 << 7
}; /* JS_EVAL_* of quickjs.h */

struct call {
	struct js_engine *engine;
	js_value value, self, other;
	const js_value *arguments;
	unsigned count, flags;
	const char *text, *name;
	size_t bytes;
	double number;
	u64 word;
	js_value result;
	js_value *exception;
	bool done;
	char *copy; /* malloc'ed result */
};

/* ---- Inside the VM ---- */

u32 vm_string(struct js_engine *engine, const char *text, size_t bytes)
{
	u32 copy = bytes < UINT32_MAX - 16 ? VM(engine, malloc, (u32)bytes + 1) : 0;

	if (!copy) {
		VM(engine, JS_ThrowOutOfMemory, engine->context);
		return 0;
	}
	if (bytes)
		memcpy(vm_at(engine, copy), text, bytes);
	*(char *)vm_at(engine, copy + (u32)bytes) = '\0';
	return copy;
}

void vm_free(struct js_engine *engine, u32 address)
{
	VM(engine, free, address);
}

js_value value_box(struct js_engine *engine, u64 value)
{
	u32 box;

	if (value_has_tag(value, TAG_EXCEPTION))
		return 0;
	box = VM(engine, malloc, 8);
	if (!box) {
		VM(engine, JS_FreeValue, engine->context, value);
		VM(engine, JS_ThrowOutOfMemory, engine->context);
		return 0;
	}
	vm_store64(engine, box, value);
	return box;
}

u64 value_unbox(struct js_engine *engine, js_value handle)
{
	u64 value = value_of(engine, handle);

	VM(engine, free, handle);
	return value;
}

u64 value_string(struct js_engine *engine, const char *text, size_t bytes)
{
	u32 copy = vm_string(engine, text, bytes);
	u64 value = copy ? VM(engine, JS_NewStringLen, engine->context, copy, (u32)bytes)
			 : VALUE_EXCEPTION;

	vm_free(engine, copy);
	return value;
}

/*
 * A lone surrogate has no UTF-8; QuickJS writes its three bytes nevertheless. U+FFFD has three,
 * too.
 */
static void replace_surrogates(char *text, size_t bytes)
{
	unsigned char *at = (unsigned char *)text, *end = at + bytes;

	for (; (at = memchr(at, 0xed, (size_t)(end - at))); at++) {
		if (end - at >= 3 && at[1] >= 0xa0)
			memcpy(at, "\xef\xbf\xbd", 3);
	}
}

char *value_text(struct js_engine *engine, u64 value, size_t *bytes)
{
	u32 length = vm_push(engine, 4);
	u32 text = VM(engine, JS_ToCStringLen2, engine->context, length, value, 0);
	u32 count = vm_load32(engine, length);
	char *copy = NULL;

	vm_pop(engine, 4);
	if (!text)
		return NULL;
	copy = malloc((size_t)count + 1);
	if (copy) {
		memcpy(copy, vm_at(engine, text), count);
		copy[count] = '\0';
		replace_surrogates(copy, count);
		if (bytes)
			*bytes = count;
	}
	VM(engine, JS_FreeCString, engine->context, text);
	return copy;
}

/* ---- Evaluation and jobs ---- */

/* Compile, complete import.meta, load what it imports, run. */
static u64 eval_module(struct js_engine *engine, u32 code, u32 bytes, u32 name,
		       const char *host_name, bool only_compile)
{
	u64 module = VM(engine, JS_Eval, engine->context, code, bytes, name,
			EVAL_MODULE | EVAL_COMPILE_ONLY);

	if (value_has_tag(module, TAG_EXCEPTION))
		return VALUE_EXCEPTION;
	if (only_compile) {
		VM(engine, JS_FreeValue, engine->context, module);
		return VALUE_UNDEFINED;
	}
	if (!module_set_meta(engine, (u32)module, host_name, true) ||
	    (s32)VM(engine, JS_ResolveModule, engine->context, module) < 0) {
		VM(engine, JS_FreeValue, engine->context, module);
		return VALUE_EXCEPTION;
	}
	return VM(engine, JS_EvalFunction, engine->context, module);
}

static void run_eval(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	bool only_compile = call->flags & JS_EVAL_COMPILE_ONLY;
	u32 code = vm_string(engine, call->text, call->bytes);
	u32 name = code ? vm_string(engine, call->name, strlen(call->name)) : 0;
	u64 value = VALUE_EXCEPTION;

	if (name && (call->flags & JS_EVAL_MODULE)) {
		value = eval_module(engine, code, (u32)call->bytes, name, call->name, only_compile);
	} else if (name) {
		u32 flags = (call->flags & JS_EVAL_ASYNC ? EVAL_ASYNC : 0) |
			    (only_compile ? EVAL_COMPILE_ONLY : 0);

		value = VM(engine, JS_Eval, engine->context, code, (u32)call->bytes, name, flags);
		if (only_compile && !value_has_tag(value, TAG_EXCEPTION)) {
			VM(engine, JS_FreeValue, engine->context, value);
			value = VALUE_UNDEFINED;
		}
	}
	vm_free(engine, name);
	vm_free(engine, code);
	call->result = value_box(engine, value);
}

js_value js_eval(struct js_engine *engine, const char *code, size_t bytes, const char *name,
		 unsigned flags)
{
	struct call call = {
		.engine = engine, .text = code, .bytes = bytes, .name = name, .flags = flags};

	return engine_enter(engine, run_eval, &call) ? call.result : 0;
}

static void run_jobs(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 context = vm_push(engine, 4);
	s32 status;

	while ((!call->flags || call->count < call->flags) &&
	       (status = (s32)VM(engine, JS_ExecutePendingJob, engine->runtime, context)) != 0) {
		call->count++;
		if (status > 0)
			continue;
		if (call->exception && !*call->exception)
			*call->exception =
				value_box(engine, VM(engine, JS_GetException, engine->context));
		else
			exception_clear(engine);
	}
	vm_pop(engine, 4);
}

unsigned js_run_jobs(struct js_engine *engine, unsigned budget, js_value *exception)
{
	struct call call = {.engine = engine, .flags = budget, .exception = exception};

	if (exception)
		*exception = 0;
	engine_enter(engine, run_jobs, &call);
	return call.count;
}

static void run_jobs_pending(void *arg)
{
	struct call *call = arg;

	call->done = VM(call->engine, JS_IsJobPending, call->engine->runtime);
}

bool js_jobs_pending(struct js_engine *engine)
{
	struct call call = {.engine = engine};

	return engine_enter(engine, run_jobs_pending, &call) && call.done;
}

static void run_call(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	bool many = call->count > 64;
	u32 arguments = many ? VM(engine, malloc, call->count * 8)
			     : vm_push(engine, call->count * 8);

	if (!arguments) {
		VM(engine, JS_ThrowOutOfMemory, engine->context);
		return;
	}
	for (unsigned i = 0; i < call->count; i++)
		vm_store64(engine, arguments + 8 * i, value_of(engine, call->arguments[i]));
	call->result = value_box(engine,
				 VM(engine, JS_Call, engine->context, value_of(engine, call->value),
				    value_of(engine, call->self), call->count, arguments));
	if (many)
		vm_free(engine, arguments);
	else
		vm_pop(engine, call->count * 8);
}

js_value js_call(struct js_engine *engine, js_value function, js_value self, unsigned count,
		 const js_value *arguments)
{
	struct call call = {.engine = engine,
			    .value = function,
			    .self = self,
			    .count = count,
			    .arguments = arguments};

	return engine_enter(engine, run_call, &call) ? call.result : 0;
}

/* ---- Handles ---- */

static void run_free(void *arg)
{
	struct call *call = arg;

	VM(call->engine, JS_FreeValue, call->engine->context,
	   value_unbox(call->engine, call->value));
}

void js_free(struct js_engine *engine, js_value value)
{
	struct call call = {.engine = engine, .value = value};

	if (value)
		engine_enter(engine, run_free, &call);
}

static void run_dup(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->result = value_box(
		engine, VM(engine, JS_DupValue, engine->context, value_of(engine, call->value)));
}

js_value js_dup(struct js_engine *engine, js_value value)
{
	struct call call = {.engine = engine, .value = value};

	return engine_enter(engine, run_dup, &call) ? call.result : 0;
}

/* ---- To the VM ---- */

static void run_box(void *arg)
{
	struct call *call = arg;

	call->result = value_box(call->engine, call->word);
}

static js_value box_word(struct js_engine *engine, u64 word)
{
	struct call call = {.engine = engine, .word = word};

	return engine_enter(engine, run_box, &call) ? call.result : 0;
}

js_value js_undefined(struct js_engine *engine)
{
	return box_word(engine, VALUE_UNDEFINED);
}

js_value js_null(struct js_engine *engine)
{
	return box_word(engine, VALUE_NULL);
}

js_value js_bool(struct js_engine *engine, bool value)
{
	return box_word(engine, JSVALUE(TAG_BOOL, value));
}

static void run_number(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->result = value_box(engine, VM(engine, JS_NewNumber, engine->context, call->number));
}

js_value js_number(struct js_engine *engine, double value)
{
	struct call call = {.engine = engine, .number = value};

	return engine_enter(engine, run_number, &call) ? call.result : 0;
}

static void run_string(void *arg)
{
	struct call *call = arg;

	call->result = value_box(call->engine, value_string(call->engine, call->text, call->bytes));
}

js_value js_string(struct js_engine *engine, const char *text, size_t bytes)
{
	struct call call = {.engine = engine, .text = text, .bytes = bytes};

	return engine_enter(engine, run_string, &call) ? call.result : 0;
}

static void run_object(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->result = value_box(engine, VM(engine, JS_NewObject, engine->context));
}

js_value js_object(struct js_engine *engine)
{
	struct call call = {.engine = engine};

	return engine_enter(engine, run_object, &call) ? call.result : 0;
}

static void run_array(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->result = value_box(engine, VM(engine, JS_NewArray, engine->context));
}

js_value js_array(struct js_engine *engine)
{
	struct call call = {.engine = engine};

	return engine_enter(engine, run_array, &call) ? call.result : 0;
}

static void run_bytes(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 copy = vm_string(engine, call->text, call->bytes);

	if (!copy)
		return;
	call->result = value_box(
		engine, VM(engine, JS_NewUint8ArrayCopy, engine->context, copy, (u32)call->bytes));
	vm_free(engine, copy);
}

js_value js_bytes(struct js_engine *engine, const void *data, size_t bytes)
{
	struct call call = {.engine = engine, .text = data, .bytes = bytes};

	return engine_enter(engine, run_bytes, &call) ? call.result : 0;
}

static void run_host_function(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 name = vm_string(engine, call->text, strlen(call->text));
	u32 data = vm_push(engine, 8);
	u64 text;

	if (name) {
		text = VM(engine, JS_NewStringLen, engine->context, name, (u32)strlen(call->text));
		if (!value_has_tag(text, TAG_EXCEPTION)) {
			vm_store64(engine, data, text);
			call->result =
				value_box(engine, VM(engine, JS_NewCFunctionData2, engine->context,
						     engine->native_base + NATIVE_HOST_FUNCTION,
						     name, 0, 0, 1, data));
			VM(engine, JS_FreeValue, engine->context, text);
		}
	}
	vm_pop(engine, 8);
	vm_free(engine, name);
}

js_value js_host_function_new(struct js_engine *engine, const char *name)
{
	struct call call = {.engine = engine, .text = name};

	return engine_enter(engine, run_host_function, &call) ? call.result : 0;
}

/* ---- Properties ---- */

static void run_global(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->result = value_box(engine, VM(engine, JS_GetGlobalObject, engine->context));
}

js_value js_global(struct js_engine *engine)
{
	struct call call = {.engine = engine};

	return engine_enter(engine, run_global, &call) ? call.result : 0;
}

static void run_get(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 key = vm_string(engine, call->text, strlen(call->text));

	if (!key)
		return;
	call->result = value_box(engine, VM(engine, JS_GetPropertyStr, engine->context,
					    value_of(engine, call->value), key));
	vm_free(engine, key);
}

js_value js_get(struct js_engine *engine, js_value object, const char *key)
{
	struct call call = {.engine = engine, .value = object, .text = key};

	return engine_enter(engine, run_get, &call) ? call.result : 0;
}

static void run_get_index(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->result = value_box(engine, VM(engine, JS_GetPropertyUint32, engine->context,
					    value_of(engine, call->value), call->count));
}

js_value js_get_index(struct js_engine *engine, js_value array, uint32_t index)
{
	struct call call = {.engine = engine, .value = array, .count = index};

	return engine_enter(engine, run_get_index, &call) ? call.result : 0;
}

static void run_set(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 key = vm_string(engine, call->text, strlen(call->text));
	u64 value = value_unbox(engine, call->other);

	if (!key) {
		VM(engine, JS_FreeValue, engine->context, value);
		return;
	}
	call->done = (s32)VM(engine, JS_SetPropertyStr, engine->context,
			     value_of(engine, call->value), key, value) >= 0;
	vm_free(engine, key);
}

bool js_set(struct js_engine *engine, js_value object, const char *key, js_value value)
{
	struct call call = {.engine = engine, .value = object, .text = key, .other = value};

	return value && engine_enter(engine, run_set, &call) && call.done;
}

static void run_set_index(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->done = (s32)VM(engine, JS_SetPropertyUint32, engine->context,
			     value_of(engine, call->value), call->count,
			     value_unbox(engine, call->other)) >= 0;
}

bool js_set_index(struct js_engine *engine, js_value array, uint32_t index, js_value value)
{
	struct call call = {.engine = engine, .value = array, .count = index, .other = value};

	return value && engine_enter(engine, run_set_index, &call) && call.done;
}

/* ---- From the VM ---- */

bool js_is_undefined(struct js_engine *engine, js_value value)
{
	u64 word = value_of(engine, value);

	return value_has_tag(word, TAG_UNDEFINED) || value_has_tag(word, TAG_NULL);
}

bool js_is_object(struct js_engine *engine, js_value value)
{
	return value_has_tag(value_of(engine, value), TAG_OBJECT);
}

static void run_is_function(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->done = VM(engine, JS_IsFunction, engine->context, value_of(engine, call->value));
}

bool js_is_function(struct js_engine *engine, js_value value)
{
	struct call call = {.engine = engine, .value = value};

	return engine_enter(engine, run_is_function, &call) && call.done;
}

static void run_is_string(void *arg)
{
	struct call *call = arg;

	call->done = VM(call->engine, qjs_is_string, call->value);
}

bool js_is_string(struct js_engine *engine, js_value value)
{
	struct call call = {.engine = engine, .value = value};

	return value && engine_enter(engine, run_is_string, &call) && call.done;
}

static void run_is_promise(void *arg)
{
	struct call *call = arg;

	call->done = VM(call->engine, JS_IsPromise, value_of(call->engine, call->value));
}

bool js_is_promise(struct js_engine *engine, js_value value)
{
	struct call call = {.engine = engine, .value = value};

	return engine_enter(engine, run_is_promise, &call) && call.done;
}

static void run_to_number(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u32 result = vm_push(engine, 8);

	if ((s32)VM(engine, JS_ToFloat64, engine->context, result, value_of(engine, call->value)) <
	    0)
		exception_clear(engine);
	else
		memcpy(&call->number, vm_at(engine, result), 8);
	vm_pop(engine, 8);
}

double js_to_number(struct js_engine *engine, js_value value)
{
	struct call call = {.engine = engine, .value = value, .number = NAN};

	engine_enter(engine, run_to_number, &call);
	return call.number;
}

static void run_to_bool(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->done = (s32)VM(engine, JS_ToBool, engine->context, value_of(engine, call->value)) > 0;
}

bool js_to_bool(struct js_engine *engine, js_value value)
{
	struct call call = {.engine = engine, .value = value};

	return engine_enter(engine, run_to_bool, &call) && call.done;
}

static void run_to_string(void *arg)
{
	struct call *call = arg;

	call->copy = value_text(call->engine, value_of(call->engine, call->value), &call->bytes);
	if (!call->copy)
		exception_clear(call->engine);
}

char *js_to_string(struct js_engine *engine, js_value value, size_t *bytes)
{
	static const char unprintable[] = "[cannot be converted to a string]";
	struct call call = {.engine = engine, .value = value};

	engine_enter(engine, run_to_string, &call);
	if (!call.copy) {
		call.copy = strdup(unprintable);
		call.bytes = strlen(unprintable);
	}
	if (bytes)
		*bytes = call.bytes;
	return call.copy;
}

/* The bytes of an ArrayBuffer. */
static bool buffer_bytes(struct js_engine *engine, u64 buffer, u32 *data, u32 *bytes)
{
	u32 size = vm_push(engine, 4);

	*data = VM(engine, JS_GetArrayBuffer, engine->context, size, buffer);
	*bytes = vm_load32(engine, size);
	vm_pop(engine, 4);
	if (VM(engine, JS_HasException, engine->context)) {
		exception_clear(engine); /* detached */
		return false;
	}
	return true;
}

static void run_to_bytes(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;
	u64 value = value_of(engine, call->value), buffer = VALUE_UNDEFINED;
	u32 data = 0, bytes = 0, offset = 0;
	bool good = false;

	if (!value_has_tag(value, TAG_OBJECT))
		return;
	if (VM(engine, JS_IsArrayBuffer, value)) {
		good = buffer_bytes(engine, value, &data, &bytes);
	} else if ((s32)VM(engine, JS_GetTypedArrayType, value) >= 0) {
		u32 view = vm_push(engine, 12);

		buffer = VM(engine, JS_GetTypedArrayBuffer, engine->context, value, view, view + 4,
			    view + 8);
		if (value_has_tag(buffer, TAG_EXCEPTION)) {
			exception_clear(engine);
		} else if (buffer_bytes(engine, buffer, &data, &bytes)) {
			offset = vm_load32(engine, view);
			good = offset <= bytes && vm_load32(engine, view + 4) <= bytes - offset;
			bytes = vm_load32(engine, view + 4);
		}
		vm_pop(engine, 12);
	}
	if (good)
		call->copy = malloc((size_t)bytes + 1);
	if (call->copy) {
		memcpy(call->copy, vm_at(engine, data + offset), bytes);
		call->copy[bytes] = '\0';
		call->bytes = bytes;
	}
	VM(engine, JS_FreeValue, engine->context, buffer);
}

void *js_to_bytes(struct js_engine *engine, js_value value, size_t *bytes)
{
	struct call call = {.engine = engine, .value = value};

	if (value)
		engine_enter(engine, run_to_bytes, &call);
	if (bytes)
		*bytes = call.bytes;
	return call.copy;
}

/* ---- Promises ---- */

static void run_promise_state(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->flags = VM(engine, JS_PromiseState, engine->context, value_of(engine, call->value));
}

enum js_promise_state js_promise_state(struct js_engine *engine, js_value promise)
{
	struct call call = {.engine = engine, .value = promise};

	engine_enter(engine, run_promise_state, &call);
	return call.flags == 1	 ? JS_PROMISE_FULFILLED
	       : call.flags == 2 ? JS_PROMISE_REJECTED
				 : JS_PROMISE_PENDING;
}

static void run_promise_result(void *arg)
{
	struct call *call = arg;
	struct js_engine *engine = call->engine;

	call->result = value_box(engine, VM(engine, JS_PromiseResult, engine->context,
					    value_of(engine, call->value)));
}

js_value js_promise_result(struct js_engine *engine, js_value promise)
{
	struct call call = {.engine = engine, .value = promise};

	return engine_enter(engine, run_promise_result, &call) ? call.result : 0;
}
