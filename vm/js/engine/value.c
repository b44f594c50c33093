// SPDX-License-Identifier: MIT
/*
 * value.c - values to and from the host, and their properties.
 *
 * Owns nothing; a handle belongs to the caller that received it. Each public function packs its
 * arguments into a struct call and enters the VM, where the run_* function of the same name does
 * the work. Owner's thread. Must never keep a pointer into linear memory across a call that may
 * free what it points to.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>

#include "state.h"

struct call {
	struct js_engine *engine;
	js_value value, other;
	unsigned count, state;
	const char *text;
	size_t bytes;
	double number;
	u64 word;
	js_value result;
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
 * A lone surrogate has no form in UTF-8, but QuickJS writes three bytes for it. They are replaced
 * by U+FFFD, which has three, too.
 */
void text_replace_surrogates(char *text, size_t bytes)
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
		text_replace_surrogates(copy, count);
		if (bytes)
			*bytes = count;
	}
	VM(engine, JS_FreeCString, engine->context, text);
	return copy;
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

enum { PROPERTY_ALL = 7 }; /* configurable, writable, enumerable */

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
	call->done = (s32)VM(engine, JS_DefinePropertyValueStr, engine->context,
			     value_of(engine, call->value), key, value, PROPERTY_ALL) >= 0;
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

	u32 key = VM(engine, JS_ValueToAtom, engine->context, JSVALUE(TAG_INT, call->count));

	call->done = (s32)VM(engine, JS_DefinePropertyValue, engine->context,
			     value_of(engine, call->value), key, value_unbox(engine, call->other),
			     PROPERTY_ALL) >= 0;
	VM(engine, JS_FreeAtom, engine->context, key);
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

	call->state = VM(engine, JS_PromiseState, engine->context, value_of(engine, call->value));
}

enum js_promise_state js_promise_state(struct js_engine *engine, js_value promise)
{
	struct call call = {.engine = engine, .value = promise};

	engine_enter(engine, run_promise_state, &call);
	return call.state == 1	 ? JS_PROMISE_FULFILLED
	       : call.state == 2 ? JS_PROMISE_REJECTED
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
