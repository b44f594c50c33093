// SPDX-License-Identifier: MIT
/*
 * kinds.c - the class of an object, even if the program has changed its prototype or properties;
 * and the memory that several SharedArrayBuffers share.
 *
 * Owns nothing. Called by host.c, and by QuickJS through the VM's table, on the owner's thread. A
 * block of shared memory is in the heap, with a count of its users before it. Must never trust what
 * is read there further than that it is an address inside the heap.
 */
#define _GNU_SOURCE
#include <math.h>

#include "classes.h"
#include "heap_layout.h"
#include "state.h"

enum {
	SHARED_HEADER = 16
}; /* u32: how many SharedArrayBuffers use the block; aligned as malloc's */

struct kind_call {
	struct js_engine *engine;
	js_value value, result;
	struct js_view *view;
	u32 max_bytes;
	bool done;
};

/* ---- Classes ---- */

static void run_class_name(void *arg)
{
	struct kind_call *call = arg;
	struct js_engine *engine = call->engine;
	u64 value = value_of(engine, call->value), text;
	u32 class_id, atom;

	if (!value_has_tag(value, TAG_OBJECT)) {
		call->result = value_box(engine, VALUE_UNDEFINED);
		return;
	}
	class_id = VM(engine, JS_GetClassID, value);
	if (class_id == CLASS_PROXY) { /* the engine calls it an Object */
		call->result = value_box(engine, value_string(engine, "Proxy", 5));
		return;
	}
	atom = VM(engine, JS_GetClassName, engine->runtime, class_id);
	text = VM(engine, JS_AtomToString, engine->context, atom);
	VM(engine, JS_FreeAtom, engine->context, atom);
	call->result = value_box(engine, text);
}

js_value js_class_name(struct js_engine *engine, js_value value)
{
	struct kind_call call = {.engine = engine, .value = value};

	return engine_enter(engine, run_class_name, &call) ? call.result : 0;
}

/* ---- Views ---- */

static void run_view(void *arg)
{
	struct kind_call *call = arg;
	struct js_engine *engine = call->engine;
	u64 value = value_of(engine, call->value);
	u32 class_id, data;

	if (!value_has_tag(value, TAG_OBJECT))
		return;
	class_id = VM(engine, JS_GetClassID, value);
	if (class_id < CLASS_TYPED_FIRST || class_id > CLASS_DATA_VIEW)
		return;
	data = VM(engine, JS_GetOpaque, value, class_id);
	if (!data)
		return;
	*call->view = (struct js_view){
		.offset = vm_load32(engine, data + TYPED_OFFSET),
		.bytes = vm_load32(engine, data + TYPED_LENGTH),
		.tracks = *(const uint8_t *)vm_at(engine, data + TYPED_TRACKS),
	};
	call->done = true;
}

bool js_view(struct js_engine *engine, js_value value, struct js_view *view)
{
	struct kind_call call = {.engine = engine, .value = value, .view = view};

	return engine_enter(engine, run_view, &call) && call.done;
}

/* ---- Shared memory ---- */

u32 native_shared_allocate(struct js_engine *engine, u32 opaque, u32 bytes)
{
	u32 block = bytes < UINT32_MAX - SHARED_HEADER ? VM(engine, malloc, bytes + SHARED_HEADER)
						       : 0;

	(void)opaque;
	if (!block)
		return 0;
	vm_store32(engine, block, 1);
	return block + SHARED_HEADER;
}

void native_shared_use(struct js_engine *engine, u32 opaque, u32 data)
{
	(void)opaque;
	vm_store32(engine, data - SHARED_HEADER, vm_load32(engine, data - SHARED_HEADER) + 1);
}

void native_shared_free(struct js_engine *engine, u32 opaque, u32 data)
{
	u32 users = vm_load32(engine, data - SHARED_HEADER) - 1;

	(void)opaque;
	if (users)
		vm_store32(engine, data - SHARED_HEADER, users);
	else
		VM(engine, free, data - SHARED_HEADER);
}

void engine_share_memory(struct js_engine *engine)
{
	u32 functions = vm_push(engine, 16); /* JSSharedArrayBufferFunctions */

	vm_store32(engine, functions, engine->native_base + NATIVE_SHARED_ALLOCATE);
	vm_store32(engine, functions + 4, engine->native_base + NATIVE_SHARED_FREE);
	vm_store32(engine, functions + 8, engine->native_base + NATIVE_SHARED_USE);
	vm_store32(engine, functions + 12, 0);
	VM(engine, JS_SetSharedArrayBufferFunctions, engine->runtime, functions);
	vm_pop(engine, 16);
}

static void run_share(void *arg)
{
	struct kind_call *call = arg;
	struct js_engine *engine = call->engine;
	u64 value = value_of(engine, call->value);
	u32 size, data;

	if (!value_has_tag(value, TAG_OBJECT) ||
	    VM(engine, JS_GetClassID, value) != CLASS_SHARED_ARRAY_BUFFER) {
		exception_throw(engine, "TypeError", "this is not a SharedArrayBuffer");
		return;
	}
	size = vm_push(engine, 4);
	data = VM(engine, JS_GetArrayBuffer, engine->context, size, value);
	if (data)
		call->result =
			value_box(engine, VM(engine, JS_NewArrayBuffer, engine->context, data,
					     vm_load32(engine, size), call->max_bytes, 0, 0, true));
	vm_pop(engine, 4);
}

js_value js_share(struct js_engine *engine, js_value value, double max_bytes)
{
	struct kind_call call = {.engine = engine, .value = value};

	if (max_bytes > 0 && max_bytes <= INT32_MAX)
		call.max_bytes = (u32)max_bytes;
	return engine_enter(engine, run_share, &call) ? call.result : 0;
}
