// SPDX-License-Identifier: MIT
/*
 * pack.c - values as bytes and back, any number in one crossing: how hosts pass structured data (the format is in engine.h).
 *
 * Owns nothing. Owner's thread; runs on the side stack, where getters and proxies may run code of the program. What is packed is
 * bounded in depth, count and bytes: a program can make a small heap look like an endless tree. What is unpacked is checked as if
 * it came from a stranger. The block that grows belongs to a frame of the host's, since a trap unwinds the VM's.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "classes.h"
#include "heap_layout.h"
#include "state.h"

#define VALUES_MAX 10000000u
#define BYTES_MAX (512u << 20)
#define DEPTH_MAX 1000u
#define BIGINT_DIGITS_MAX 100000u

enum { NAMES_STRINGS = 1 << 0, NAMES_ENUMERABLE = 1 << 4 }; /* JS_GPN_* of quickjs.h */
enum { PROPERTY_ALL = 7, PROPERTY_HIDDEN = 3 };		    /* configurable, writable; enumerable */
enum { TYPED_UINT8 = 2, TYPED_COUNT = 12 };		    /* JSTypedArrayEnum */

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

	if (bytes > BYTES_MAX || pack->bytes + bytes > BYTES_MAX) {
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

static bool put_tag(struct pack *pack, char tag)
{
	uint8_t *at = reserve(pack, 1);

	if (at)
		*at = (uint8_t)tag;
	return at != NULL;
}

static bool put_counted(struct pack *pack, char tag, u32 count)
{
	uint8_t *at = reserve(pack, 5);

	if (!at)
		return false;
	at[0] = (uint8_t)tag;
	memcpy(at + 1, &count, 4);
	return true;
}

static bool put_number(struct pack *pack, char tag, double number)
{
	uint8_t *at = reserve(pack, 9);

	if (!at)
		return false;
	at[0] = (uint8_t)tag;
	memcpy(at + 1, &number, 8);
	return true;
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

	vm_pop(engine, 8);
	if (!good)
		return false;
	if (length > VALUES_MAX - pack->packed)
		return refuse(pack, "RangeError",
			      "the value is too large to be passed to the host");
	good = put_counted(pack, 'a', (u32)length);
	for (u32 i = 0; good && i < length; i++) {
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
		good = put_counted(pack, tag, count);
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
	u32 key = vm_string(engine, name, strlen(name)), none = 0;
	u64 value;
	bool good;

	if (!key)
		return false;
	value = VM(engine, JS_GetPropertyStr, engine->context, object, key);
	vm_free(engine, key);
	if (value_has_tag(value, TAG_EXCEPTION))
		return false;
	if (value_has_tag(value, TAG_OBJECT) || value_has_tag(value, TAG_UNDEFINED)) {
		uint8_t *at = reserve(pack, 4);

		if (at)
			memcpy(at, &none, 4);
		good = at != NULL;
	} else {
		good = put_string(pack, value);
	}
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
	s32 type = TYPED_UINT8;
	bool good = true;

	if (!VM(engine, JS_IsArrayBuffer, value)) {
		type = (s32)VM(engine, JS_GetTypedArrayType, value);
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
	if (good) {
		uint8_t *at = reserve(pack, 2);

		good = at != NULL;
		if (at) {
			at[0] = 'y';
			at[1] = (uint8_t)type;
			good = put_bytes(pack, data + offset, bytes);
		}
	}
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

	if (pack->depth >= DEPTH_MAX)
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

static double number_of(struct js_engine *engine, u64 value)
{
	u32 at = vm_push(engine, 8);
	double number = NAN;

	if ((s32)VM(engine, JS_ToFloat64, engine->context, at, value) < 0)
		exception_clear(engine);
	else
		memcpy(&number, vm_at(engine, at), 8);
	vm_pop(engine, 8);
	return number;
}

static bool put_value(struct pack *pack, u64 value)
{
	struct js_engine *engine = pack->engine;
	enum js_kind kind = kind_of(engine, value);

	if (++pack->packed > VALUES_MAX)
		return refuse(pack, "RangeError",
			      "the value is too large to be passed to the host");
	switch (kind) {
	case JS_KIND_NULL:
		return put_tag(pack, 'n');
	case JS_KIND_BOOLEAN:
		return put_tag(pack, (u32)value ? 't' : 'f');
	case JS_KIND_NUMBER:
		return value_has_tag(value, TAG_INT)
			       ? put_counted(pack, 'i', (u32)value)
			       : put_number(pack, 'd', number_of(engine, value));
	case JS_KIND_BIGINT:
		return put_tag(pack, 'b') && put_string(pack, value);
	case JS_KIND_STRING:
		return put_tag(pack, 's') && put_string(pack, value);
	case JS_KIND_BYTES:
		return put_view(pack, value);
	case JS_KIND_DATE: {
		u64 time = VM(engine, JS_ToNumber, engine->context, value);

		return !value_has_tag(time, TAG_EXCEPTION) &&
		       put_number(pack, 'D', number_of(engine, time));
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

/* ---- From bytes ---- */

struct unpack {
	struct js_engine *engine;
	const uint8_t *data;
	size_t bytes;
	u32 copy, at; /* of the data, in the VM; how far it is read */
	unsigned depth, count;
	js_value *values;
	bool done;
};

/* False: not so many bytes are left, and an exception is pending. */
static bool take(struct unpack *unpack, size_t bytes, const uint8_t **data)
{
	if (bytes > unpack->bytes - unpack->at) {
		exception_throw(unpack->engine, "TypeError", "these bytes are no packed value");
		return false;
	}
	*data = unpack->data + unpack->at;
	unpack->at += (u32)bytes;
	return true;
}

static bool take_u32(struct unpack *unpack, u32 *number)
{
	const uint8_t *data;

	if (!take(unpack, 4, &data))
		return false;
	memcpy(number, data, 4);
	return true;
}

/* Counted bytes: where they are in the VM. */
static bool take_bytes(struct unpack *unpack, u32 *address, u32 *bytes)
{
	const uint8_t *data;

	if (!take_u32(unpack, bytes))
		return false;
	*address = unpack->copy + unpack->at;
	return take(unpack, *bytes, &data);
}

static u64 get_value(struct unpack *unpack);

static u64 get_string(struct unpack *unpack)
{
	u32 address, bytes;

	return take_bytes(unpack, &address, &bytes) ? VM(unpack->engine, JS_NewStringLen,
							 unpack->engine->context, address, bytes)
						    : VALUE_EXCEPTION;
}

/* The engine has no way to make one of its digits but to read them as a program. */
static u64 get_bigint(struct unpack *unpack)
{
	struct js_engine *engine = unpack->engine;
	char code[64], *text = code;
	u32 address, bytes, copy, name;
	u64 value = VALUE_EXCEPTION;
	const char *digits;

	if (!take_bytes(unpack, &address, &bytes))
		return VALUE_EXCEPTION;
	digits = (const char *)unpack->data + (address - unpack->copy);
	for (u32 i = bytes && *digits == '-'; i < bytes; i++)
		if (digits[i] < '0' || digits[i] > '9')
			bytes = 0;
	if (!bytes || bytes > BIGINT_DIGITS_MAX || digits[bytes - 1] == '-' ||
	    (bytes > 1 && digits[*digits == '-'] == '0')) {
		exception_throw(engine, "TypeError", "these bytes are no packed value");
		return VALUE_EXCEPTION;
	}
	if (bytes + 2 > sizeof(code) && !(text = malloc(bytes + 2))) {
		VM(engine, JS_ThrowOutOfMemory, engine->context);
		return VALUE_EXCEPTION;
	}
	memcpy(text, digits, bytes);
	memcpy(text + bytes, "n", 2);
	copy = vm_string(engine, text, bytes + 1);
	name = copy ? vm_string(engine, "bigint", 6) : 0;
	if (text != code)
		free(text);
	if (name)
		value = VM(engine, JS_Eval, engine->context, copy, bytes + 1, name, 0);
	vm_free(engine, name);
	vm_free(engine, copy);
	return value;
}

static u64 get_array(struct unpack *unpack)
{
	struct js_engine *engine = unpack->engine;
	u64 array = VALUE_EXCEPTION;
	u32 count, list, made = 0;

	if (!take_u32(unpack, &count))
		return VALUE_EXCEPTION;
	if (count > unpack->bytes - unpack->at) /* each has a byte at least */
		count = (u32)(unpack->bytes - unpack->at) + 1;
	list = VM(engine, js_malloc, engine->context, count ? count * 8 : 8);
	if (!list)
		return VALUE_EXCEPTION;
	while (made < count) {
		u64 value = get_value(unpack);

		if (value_has_tag(value, TAG_EXCEPTION))
			break;
		vm_store64(engine, list + 8 * made++, value);
	}
	if (made == count)
		array = VM(engine, JS_NewArrayFrom, engine->context, count, list);
	else
		while (made)
			VM(engine, JS_FreeValue, engine->context,
			   vm_load64(engine, list + 8 * --made));
	VM(engine, js_free, engine->context, list);
	return array;
}

/* Own properties, whatever a program put into the prototypes. */
static bool get_properties(struct unpack *unpack, u64 object)
{
	struct js_engine *engine = unpack->engine;
	u32 count;

	if (!take_u32(unpack, &count))
		return false;
	while (count--) {
		u32 address, bytes, atom;
		bool good;
		u64 value;

		if (!take_bytes(unpack, &address, &bytes))
			return false;
		atom = VM(engine, JS_NewAtomLen, engine->context, address, bytes);
		if (!atom)
			return false;
		value = get_value(unpack);
		good = !value_has_tag(value, TAG_EXCEPTION) &&
		       (s32)VM(engine, JS_DefinePropertyValue, engine->context, object, atom, value,
			       PROPERTY_ALL) >= 0;
		VM(engine, JS_FreeAtom, engine->context, atom);
		if (!good)
			return false;
	}
	return true;
}

static u64 get_object(struct unpack *unpack)
{
	u64 object = VM(unpack->engine, JS_NewObject, unpack->engine->context);

	if (!value_has_tag(object, TAG_EXCEPTION) && !get_properties(unpack, object)) {
		VM(unpack->engine, JS_FreeValue, unpack->engine->context, object);
		return VALUE_EXCEPTION;
	}
	return object;
}

static char *get_text(struct unpack *unpack)
{
	u32 address, bytes;
	char *text;

	if (!take_bytes(unpack, &address, &bytes))
		return NULL;
	text = malloc((size_t)bytes + 1);
	if (!text) {
		VM(unpack->engine, JS_ThrowOutOfMemory, unpack->engine->context);
		return NULL;
	}
	memcpy(text, unpack->data + (address - unpack->copy), bytes);
	text[bytes] = '\0';
	return text;
}

static bool define_text(struct js_engine *engine, u64 object, const char *name, const char *text)
{
	u32 key = vm_string(engine, name, strlen(name));
	u64 value = key ? value_string(engine, text, strlen(text)) : VALUE_EXCEPTION;
	bool good = !value_has_tag(value, TAG_EXCEPTION) &&
		    (s32)VM(engine, JS_DefinePropertyValueStr, engine->context, object, key, value,
			    PROPERTY_HIDDEN) >= 0;

	vm_free(engine, key);
	return good;
}

/* Of the type of that name, if it is one of the language's; its stack is where it arrives. */
static u64 get_error(struct unpack *unpack)
{
	struct js_engine *engine = unpack->engine;
	char *name = get_text(unpack), *message = name ? get_text(unpack) : NULL;
	char *stack = message ? get_text(unpack) : NULL;
	u64 error = VALUE_EXCEPTION;
	const uint8_t *tag;

	if (stack)
		error = exception_new(engine, name, message);
	if (!value_has_tag(error, TAG_EXCEPTION) &&
	    ((strcmp(name, "Error") && !define_text(engine, error, "name", name)) ||
	     (*stack && !define_text(engine, error, "stack", stack)) || !take(unpack, 1, &tag) ||
	     !get_properties(unpack, error))) {
		VM(engine, JS_FreeValue, engine->context, error);
		error = VALUE_EXCEPTION;
	}
	free(name);
	free(message);
	free(stack);
	return error;
}

static u64 get_view(struct unpack *unpack)
{
	struct js_engine *engine = unpack->engine;
	u32 address, bytes, list;
	const uint8_t *type;
	u64 buffer, view;

	if (!take(unpack, 1, &type) || !take_bytes(unpack, &address, &bytes))
		return VALUE_EXCEPTION;
	if (*type == TYPED_UINT8)
		return VM(engine, JS_NewUint8ArrayCopy, engine->context, address, bytes);
	if (*type >= TYPED_COUNT) {
		exception_throw(engine, "TypeError", "these bytes are no packed value");
		return VALUE_EXCEPTION;
	}
	buffer = VM(engine, JS_NewArrayBufferCopy, engine->context, address, bytes);
	if (value_has_tag(buffer, TAG_EXCEPTION))
		return buffer;
	list = vm_push(engine, 24);
	vm_store64(engine, list, buffer);
	vm_store64(engine, list + 8, VALUE_UNDEFINED);
	vm_store64(engine, list + 16, VALUE_UNDEFINED);
	view = VM(engine, JS_NewTypedArray, engine->context, 3, list, *type);
	vm_pop(engine, 24);
	VM(engine, JS_FreeValue, engine->context, buffer);
	return view;
}

static u64 get_nested(struct unpack *unpack, uint8_t tag)
{
	u64 value;

	if (unpack->depth >= DEPTH_MAX) {
		exception_throw(unpack->engine, "TypeError",
				"a value that is nested too deep cannot be passed");
		return VALUE_EXCEPTION;
	}
	unpack->depth++;
	value = tag == 'a'   ? get_array(unpack)
		: tag == 'o' ? get_object(unpack)
			     : get_error(unpack);
	unpack->depth--;
	return value;
}

static u64 get_value(struct unpack *unpack)
{
	struct js_engine *engine = unpack->engine;
	const uint8_t *tag, *data;
	double number;
	u32 word;

	if (!take(unpack, 1, &tag))
		return VALUE_EXCEPTION;
	switch (*tag) {
	case 'u':
		return VALUE_UNDEFINED;
	case 'n':
		return VALUE_NULL;
	case 't':
	case 'f':
		return JSVALUE(TAG_BOOL, *tag == 't');
	case 'i':
		return take_u32(unpack, &word) ? JSVALUE(TAG_INT, word) : VALUE_EXCEPTION;
	case 'd':
	case 'D':
		if (!take(unpack, 8, &data))
			return VALUE_EXCEPTION;
		memcpy(&number, data, 8);
		return *tag == 'd' ? VM(engine, JS_NewNumber, engine->context, number)
				   : VM(engine, JS_NewDate, engine->context, number);
	case 's':
		return get_string(unpack);
	case 'b':
		return get_bigint(unpack);
	case 'y':
		return get_view(unpack);
	case 'a':
	case 'o':
	case 'e':
		return get_nested(unpack, *tag);
	default:
		exception_throw(engine, "TypeError", "these bytes are no packed value");
		return VALUE_EXCEPTION;
	}
}

static void run_unpack(void *arg)
{
	struct unpack *unpack = arg;
	struct js_engine *engine = unpack->engine;
	unsigned made = 0;

	unpack->copy = vm_string(engine, (const char *)unpack->data, unpack->bytes);
	if (!unpack->copy)
		return;
	while (made < unpack->count) {
		u64 value = get_value(unpack);

		unpack->values[made] = value_box(engine, value);
		if (!unpack->values[made])
			break;
		made++;
	}
	unpack->done = made == unpack->count && unpack->at == unpack->bytes;
	if (made == unpack->count && !unpack->done)
		exception_throw(engine, "TypeError", "these bytes are more than the packed values");
	while (!unpack->done && made)
		VM(engine, JS_FreeValue, engine->context,
		   value_unbox(engine, unpack->values[--made]));
	vm_free(engine, unpack->copy);
}

bool js_unpack(struct js_engine *engine, const void *data, size_t bytes, unsigned count,
	       js_value *values)
{
	struct unpack unpack = {
		.engine = engine, .data = data, .bytes = bytes, .count = count, .values = values};

	if (bytes > BYTES_MAX) {
		js_throw_error(engine, "RangeError", "the value is too large to be passed");
		return false;
	}
	return engine_enter(engine, run_unpack, &unpack) && unpack.done;
}
