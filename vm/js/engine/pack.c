// SPDX-License-Identifier: MIT
/*
 * pack.c - what values are, and values as bytes, any number in one crossing: how hosts get structured data (the format is in
 * thaw_vm.h; unpack.c is the way back).
 *
 * Owns nothing. Owner's thread; runs on the side stack, where getters and proxies may run code of the program. What is packed is
 * bounded in depth, count and bytes: a program can make a small heap look like an endless tree. The block that grows belongs to
 * a frame of the host's, since a trap unwinds the VM's.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "classes.h"
#include "heap_layout.h"
#include "state.h"

enum { NAMES_STRINGS = 1 << 0, NAMES_ENUMERABLE = 1 << 4 }; /* JS_GPN_* of quickjs.h */

/* ---- Kinds ---- */

static enum js_kind kind_of_class(u32 class_id)
{
	switch (class_id) {
	case CLASS_ARRAY:
		return JS_KIND_ARRAY;
	case CLASS_ERROR:
		return JS_KIND_ERROR;
	case CLASS_DATE:
		return JS_KIND_DATE;
	case CLASS_PROMISE:
		return JS_KIND_PROMISE;
	case CLASS_OBJECT:
	case CLASS_ARGUMENTS:
	case CLASS_MAPPED_ARGUMENTS:
	case CLASS_NAMESPACE:
		return JS_KIND_OBJECT;
	case CLASS_ARRAY_BUFFER:
		return JS_KIND_BYTES;
	default:
		return class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_TYPED_LAST
			       ? JS_KIND_BYTES
			       : JS_KIND_OTHER;
	}
}

/* On the VM's stack. */
static enum js_kind kind_of(struct js_engine *engine, u64 value)
{
	switch ((s32)(value >> 32)) {
	case BOX_UNDEFINED:
	case BOX_UNINITIALIZED:
		return JS_KIND_UNDEFINED;
	case BOX_NULL:
		return JS_KIND_NULL;
	case BOX_BOOL:
		return JS_KIND_BOOLEAN;
	case BOX_BIGINT:
	case BOX_SHORT_BIGINT:
		return JS_KIND_BIGINT;
	case BOX_STRING:
	case BOX_ROPE:
		return JS_KIND_STRING;
	case BOX_SYMBOL:
		return JS_KIND_SYMBOL;
	case BOX_OBJECT:
		break;
	case BOX_MODULE:
	case BOX_BYTECODE:
	case TAG_EXCEPTION:
		return JS_KIND_OTHER;
	default:
		return JS_KIND_NUMBER;
	}
	return VM(engine, JS_IsFunction, engine->context, value)
		       ? JS_KIND_FUNCTION
		       : kind_of_class(VM(engine, JS_GetClassID, value));
}

struct pack {
	struct js_engine *engine;
	unsigned count;
	const js_value *values;
	uint8_t *data; /* malloc'ed */
	size_t bytes, room;
	unsigned packed, depth;
	bool done;
	enum js_kind kind;
};

static void run_kind(void *arg)
{
	struct pack *pack = arg;

	pack->kind = kind_of(pack->engine, value_of(pack->engine, pack->values[0]));
}

enum js_kind js_kind(struct js_engine *engine, js_value value)
{
	struct pack pack = {.engine = engine, .values = &value};

	return value && engine_enter(engine, run_kind, &pack) ? pack.kind : JS_KIND_NONE;
}

/* ---- To bytes: all of these return false with an exception pending ---- */

static bool refuse(struct pack *pack, const char *type, const char *why)
{
	exception_throw(pack->engine, type, why);
	return false;
}

static uint8_t *reserve(struct pack *pack, size_t bytes)
{
	size_t room = pack->room ? pack->room : 256;
	uint8_t *data;

	if (bytes > JS_PACK_BYTES_MAX || pack->bytes + bytes > JS_PACK_BYTES_MAX) {
		refuse(pack, "RangeError", "the value is too large to be passed to the host");
		return NULL;
	}
	while (room < pack->bytes + bytes)
		room *= 2;
	if (room != pack->room) {
		data = realloc(pack->data, room);
		if (!data) {
			refuse(pack, "InternalError", "out of memory in the host");
			return NULL;
		}
		pack->data = data;
		pack->room = room;
	}
	data = pack->data + pack->bytes;
	pack->bytes += bytes;
	return data;
}

/* A tag, and what belongs to it. */
static bool put(struct pack *pack, char tag, const void *data, size_t bytes)
{
	uint8_t *at = reserve(pack, 1 + bytes);

	if (!at)
		return false;
	at[0] = (uint8_t)tag;
	if (bytes)
		memcpy(at + 1, data, bytes);
	return true;
}

static bool put_tag(struct pack *pack, char tag)
{
	return put(pack, tag, NULL, 0);
}

/* Bytes of the VM, with their length before them. */
static bool put_bytes(struct pack *pack, u32 address, u32 bytes)
{
	uint8_t *at = reserve(pack, 4 + (size_t)bytes);

	if (!at)
		return false;
	memcpy(at, &bytes, 4);
	if (bytes)
		memcpy(at + 4, vm_at(pack->engine, address), bytes);
	return true;
}

/* Consumes a C string of the VM, whose length is at `length`. */
static bool put_text(struct pack *pack, u32 text, u32 length)
{
	u32 bytes = vm_load32(pack->engine, length);
	size_t before = pack->bytes;
	bool good = text && put_bytes(pack, text, bytes);

	if (text)
		VM(pack->engine, JS_FreeCString, pack->engine->context, text);
	if (good)
		text_replace_surrogates((char *)pack->data + before + 4, bytes);
	return good;
}

static bool put_string(struct pack *pack, u64 value)
{
	struct js_engine *engine = pack->engine;
	u32 length = vm_push(engine, 4);
	bool good = put_text(pack, VM(engine, JS_ToCStringLen2, engine->context, length, value, 0),
			     length);

	vm_pop(engine, 4);
	return good;
}

static bool put_value(struct pack *pack, u64 value);

static bool put_array(struct pack *pack, u64 value)
{
	struct js_engine *engine = pack->engine;
	u32 at = vm_push(engine, 8);
	bool good = (s32)VM(engine, JS_GetLength, engine->context, value, at) >= 0;
	u64 length = vm_load64(engine, at);
	u32 count;

	vm_pop(engine, 8);
	if (!good)
		return false;
	if (length > JS_PACK_VALUES_MAX - pack->packed)
		return refuse(pack, "RangeError",
			      "the value is too large to be passed to the host");
	count = (u32)length;
	good = put(pack, 'a', &count, 4);
	for (u32 i = 0; good && i < count; i++) {
		u64 item = VM(engine, JS_GetPropertyUint32, engine->context, value, i);

		good = !value_has_tag(item, TAG_EXCEPTION) && put_value(pack, item);
		VM(engine, JS_FreeValue, engine->context, item);
	}
	return good;
}

static bool put_property(struct pack *pack, u64 object, u32 atom)
{
	struct js_engine *engine = pack->engine;
	u32 length = vm_push(engine, 4);
	bool good = put_text(pack, VM(engine, JS_AtomToCStringLen, engine->context, length, atom),
			     length);
	u64 value;

	vm_pop(engine, 4);
	if (!good)
		return false;
	value = VM(engine, JS_GetProperty, engine->context, object, atom);
	good = !value_has_tag(value, TAG_EXCEPTION) && put_value(pack, value);
	VM(engine, JS_FreeValue, engine->context, value);
	return good;
}

/* The own enumerable properties with names. */
static bool put_properties(struct pack *pack, char tag, u64 object)
{
	struct js_engine *engine = pack->engine;
	u32 at = vm_push(engine, 8), list = 0, count = 0;
	bool good;

	good = (s32)VM(engine, JS_GetOwnPropertyNames, engine->context, at, at + 4, object,
		       NAMES_STRINGS | NAMES_ENUMERABLE) >= 0;
	if (good) {
		list = vm_load32(engine, at);
		count = vm_load32(engine, at + 4);
		good = put(pack, tag, &count, 4);
	}
	for (u32 i = 0; good && i < count; i++)
		good = put_property(pack, object, vm_load32(engine, list + i * 8 + 4));
	if (list)
		VM(engine, JS_FreePropertyEnum, engine->context, list, count);
	vm_pop(engine, 8);
	return good;
}

/* A property as text; "" where there is none. */
static bool put_named(struct pack *pack, u64 object, const char *name)
{
	struct js_engine *engine = pack->engine;
	u32 key = vm_string(engine, name, strlen(name));
	u64 value;
	bool good;

	if (!key)
		return false;
	value = VM(engine, JS_GetPropertyStr, engine->context, object, key);
	vm_free(engine, key);
	if (value_has_tag(value, TAG_EXCEPTION))
		return false;
	if (value_has_tag(value, TAG_OBJECT) || value_has_tag(value, TAG_UNDEFINED))
		good = put_bytes(pack, 0, 0);
	else
		good = put_string(pack, value);
	VM(engine, JS_FreeValue, engine->context, value);
	return good;
}

static bool put_error(struct pack *pack, u64 value)
{
	return put_tag(pack, 'e') && put_named(pack, value, "name") &&
	       put_named(pack, value, "message") && put_named(pack, value, "stack") &&
	       put_properties(pack, 'o', value);
}

/* An ArrayBuffer is passed as a Uint8Array. */
static bool put_view(struct pack *pack, u64 value)
{
	struct js_engine *engine = pack->engine;
	u32 view = vm_push(engine, 16), data = 0, bytes = 0, offset = 0;
	u64 buffer = VALUE_UNDEFINED;
	uint8_t type = JS_PACK_UINT8;
	bool good = true;

	if (!VM(engine, JS_IsArrayBuffer, value)) {
		type = (uint8_t)VM(engine, JS_GetTypedArrayType, value);
		buffer = VM(engine, JS_GetTypedArrayBuffer, engine->context, value, view, view + 4,
			    view + 8);
		good = !value_has_tag(buffer, TAG_EXCEPTION);
		value = buffer;
	}
	if (good) {
		data = VM(engine, JS_GetArrayBuffer, engine->context, view + 12, value);
		bytes = vm_load32(engine, view + 12);
		good = data || !VM(engine, JS_HasException, engine->context);
	}
	if (good && value == buffer) {
		offset = vm_load32(engine, view);
		if (offset > bytes || vm_load32(engine, view + 4) > bytes - offset)
			good = refuse(pack, "TypeError", "a typed array is outside of its buffer");
		bytes = vm_load32(engine, view + 4);
	}
	good = good && put(pack, 'y', &type, 1) && put_bytes(pack, data + offset, bytes);
	VM(engine, JS_FreeValue, engine->context, buffer);
	vm_pop(engine, 16);
	return good;
}

static bool put_other(struct pack *pack, u64 value)
{
	struct js_engine *engine = pack->engine;
	u32 class_id = VM(engine, JS_GetClassID, value);
	u32 atom = VM(engine, JS_GetClassName, engine->runtime, class_id);
	u32 name = VM(engine, JS_AtomToCStringLen, engine->context, 0, atom);
	char line[160];

	snprintf(line, sizeof(line), "cannot pass a value of the class %.60s to the host",
		 name ? (const char *)vm_at(engine, name) : "?");
	if (name)
		VM(engine, JS_FreeCString, engine->context, name);
	VM(engine, JS_FreeAtom, engine->context, atom);
	return refuse(pack, "TypeError", line);
}

static bool put_nested(struct pack *pack, u64 value, enum js_kind kind)
{
	bool good;

	if (pack->depth >= JS_PACK_DEPTH_MAX)
		return refuse(
			pack, "TypeError",
			"cannot pass a value that is circular, or nested too deep, to the host");
	pack->depth++;
	good = kind == JS_KIND_ARRAY   ? put_array(pack, value)
	       : kind == JS_KIND_ERROR ? put_error(pack, value)
				       : put_properties(pack, 'o', value);
	pack->depth--;
	return good;
}

static bool put_number(struct pack *pack, char tag, u64 value)
{
	struct js_engine *engine = pack->engine;
	u32 at = vm_push(engine, 8);
	double number = NAN;

	if ((s32)VM(engine, JS_ToFloat64, engine->context, at, value) < 0)
		exception_clear(engine);
	else
		memcpy(&number, vm_at(engine, at), 8);
	vm_pop(engine, 8);
	return put(pack, tag, &number, 8);
}

static bool put_value(struct pack *pack, u64 value)
{
	struct js_engine *engine = pack->engine;
	enum js_kind kind = kind_of(engine, value);

	if (++pack->packed > JS_PACK_VALUES_MAX)
		return refuse(pack, "RangeError",
			      "the value is too large to be passed to the host");
	switch (kind) {
	case JS_KIND_NULL:
		return put_tag(pack, 'n');
	case JS_KIND_BOOLEAN:
		return put_tag(pack, (u32)value ? 't' : 'f');
	case JS_KIND_NUMBER:
		return value_has_tag(value, TAG_INT) ? put(pack, 'i', &(s32){(s32)value}, 4)
						     : put_number(pack, 'd', value);
	case JS_KIND_BIGINT:
		return put_tag(pack, 'b') && put_string(pack, value);
	case JS_KIND_STRING:
		return put_tag(pack, 's') && put_string(pack, value);
	case JS_KIND_BYTES:
		return put_view(pack, value);
	case JS_KIND_DATE: {
		u64 time = VM(engine, JS_ToNumber, engine->context, value);

		return !value_has_tag(time, TAG_EXCEPTION) && put_number(pack, 'D', time);
	}
	case JS_KIND_ARRAY:
	case JS_KIND_ERROR:
	case JS_KIND_OBJECT:
		return put_nested(pack, value, kind);
	case JS_KIND_PROMISE:
	case JS_KIND_OTHER:
		return put_other(pack, value);
	default: /* functions and symbols, as for JSON */
		return put_tag(pack, 'u');
	}
}

static void run_pack(void *arg)
{
	struct pack *pack = arg;
	bool good = true;

	for (unsigned i = 0; good && i < pack->count; i++)
		good = put_value(pack, value_of(pack->engine, pack->values[i]));
	pack->done = good;
}

void *js_pack(struct js_engine *engine, unsigned count, const js_value *values, size_t *bytes)
{
	struct pack pack = {
		.engine = engine, .count = count, .values = values, .data = malloc(256)};

	pack.room = pack.data ? 256 : 0;
	if (!engine_enter(engine, run_pack, &pack) || !pack.done) {
		free(pack.data);
		return NULL;
	}
	*bytes = pack.bytes;
	return pack.data;
}
