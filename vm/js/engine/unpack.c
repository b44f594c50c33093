// SPDX-License-Identifier: MIT
/*
 * unpack.c - values from bytes, as pack.c makes them (the format is in thaw_vm.h), any number in one crossing.
 *
 * Owns nothing. Owner's thread; on the side stack. What is read is checked as if it came from a stranger; a text that lies in host memory
 * is lost if the VM traps meanwhile, which ends the VM.
 */
#include <stdio.h>
#include <stdlib.h>

#include "state.h"

#define BIGINT_DIGITS_MAX 100000u

enum { PROPERTY_ALL = 7, PROPERTY_HIDDEN = 3 }; /* configurable, writable; enumerable */

struct unpack {
	struct js_engine *engine;
	const uint8_t *data;
	size_t bytes;
	u32 copy, at; /* of the data, in the VM; how far it is read */
	unsigned depth, count;
	js_value *values;
	bool done;
};

static u64 malformed(struct unpack *unpack)
{
	exception_throw(unpack->engine, "TypeError", "these bytes are no packed value");
	return VALUE_EXCEPTION;
}

/* False: not so many bytes are left, and an exception is pending. */
static bool take(struct unpack *unpack, size_t bytes, const uint8_t **data)
{
	if (bytes > unpack->bytes - unpack->at) {
		malformed(unpack);
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
	    (bytes > 1 && digits[*digits == '-'] == '0'))
		return malformed(unpack);
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

/* A text of the copy as a property that is not enumerated. */
static bool define_text(struct js_engine *engine, u64 object, const char *name, u32 address,
			u32 bytes)
{
	u32 key = vm_string(engine, name, strlen(name));
	u64 value = key ? VM(engine, JS_NewStringLen, engine->context, address, bytes)
			: VALUE_EXCEPTION;
	bool good = !value_has_tag(value, TAG_EXCEPTION) &&
		    (s32)VM(engine, JS_DefinePropertyValueStr, engine->context, object, key, value,
			    PROPERTY_HIDDEN) >= 0;

	vm_free(engine, key);
	return good;
}

/* Takes a text, which is a property of the Error unless it is empty. */
static bool get_text(struct unpack *unpack, u64 error, const char *name)
{
	u32 address, bytes;

	return take_bytes(unpack, &address, &bytes) &&
	       (!bytes || define_text(unpack->engine, error, name, address, bytes));
}

/* Of the type of that name, if it is one of the language's; its stack is where it arrives. */
static u64 get_error(struct unpack *unpack)
{
	struct js_engine *engine = unpack->engine;
	u32 address, bytes;
	const uint8_t *tag;
	char type[20]; /* enough for those of the language */
	u64 error;

	if (!take_bytes(unpack, &address, &bytes))
		return VALUE_EXCEPTION;
	snprintf(type, sizeof(type), "%.*s", (int)bytes,
		 (const char *)unpack->data + (address - unpack->copy));
	error = exception_new(engine, type, "");
	if (!value_has_tag(error, TAG_EXCEPTION) &&
	    ((strcmp(type, "Error") && !define_text(engine, error, "name", address, bytes)) ||
	     !get_text(unpack, error, "message") || !get_text(unpack, error, "stack") ||
	     !take(unpack, 1, &tag) || !get_properties(unpack, error))) {
		VM(engine, JS_FreeValue, engine->context, error);
		error = VALUE_EXCEPTION;
	}
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
	if (*type == JS_PACK_UINT8)
		return VM(engine, JS_NewUint8ArrayCopy, engine->context, address, bytes);
	if (*type >= JS_PACK_TYPES)
		return malformed(unpack);
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

	if (unpack->depth >= JS_PACK_DEPTH_MAX) {
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
		return malformed(unpack);
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

	if (bytes > JS_PACK_BYTES_MAX) {
		js_throw_error(engine, "RangeError", "the value is too large to be passed");
		return false;
	}
	return engine_enter(engine, run_unpack, &unpack) && unpack.done;
}
