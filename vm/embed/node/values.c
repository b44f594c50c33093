/* SPDX-License-Identifier: MIT */
/*
 * values.c - values of Node's as structured data of the library's (thaw_vm_pack() in thaw_vm.h) and back. What comes from a VM is
 * checked as if a stranger had written it.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "addon.h"

#define SCOPE_ITEMS 32u /* more of them get a scope each, so that handles do not pile up */

/* The library's numbers of typed arrays. */
static const napi_typedarray_type typed_types[] = {
	napi_uint8_clamped_array, napi_int8_array,  napi_uint8_array,	napi_int16_array,
	napi_uint16_array,	  napi_int32_array, napi_uint32_array,	napi_bigint64_array,
	napi_biguint64_array,	  napi_uint8_array, napi_float32_array, napi_float64_array};
static const uint8_t typed_bytes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 0, 4, 8};
#define TYPED_COUNT (sizeof(typed_bytes) / sizeof(*typed_bytes))
#define TYPED_UINT8 2u

/* ---- To the VM ---- */

static bool fail(napi_env env, const char *why)
{
	bool pending = false;

	napi_is_exception_pending(env, &pending);
	if (!pending)
		napi_throw_type_error(env, "ERR_THAW_VALUE", why);
	return false;
}

static uint8_t *reserve(napi_env env, struct block *block, size_t bytes)
{
	size_t room = block->room ? block->room : 256;
	uint8_t *data;

	if (bytes > THAW_VM_PACK_BYTES || block->bytes + bytes > THAW_VM_PACK_BYTES) {
		fail(env, "the value is too large to be passed to a VM");
		return NULL;
	}
	while (room < block->bytes + bytes)
		room *= 2;
	if (room != block->room) {
		data = realloc(block->data, room);
		if (!data) {
			fail(env, "out of memory");
			return NULL;
		}
		block->data = data;
		block->room = room;
	}
	return block->data + block->bytes;
}

static bool put(napi_env env, struct block *block, char tag, const void *data, size_t bytes)
{
	uint8_t *at = reserve(env, block, 1 + bytes);

	if (!at)
		return false;
	*at = (uint8_t)tag;
	if (bytes)
		memcpy(at + 1, data, bytes);
	block->bytes += 1 + bytes;
	return true;
}

/* Its length before it. Most are short: no question is asked about those. */
static bool put_text(napi_env env, struct block *block, napi_value string)
{
	const size_t guess = 120;
	uint8_t *at = reserve(env, block, 4 + guess);
	size_t bytes;
	uint32_t length;

	if (!at)
		return false;
	if (napi_get_value_string_utf8(env, string, (char *)at + 4, guess, &bytes))
		return fail(env, "a string cannot be read");
	if (bytes + 4 >= guess) { /* a character that did not fit may have been left out */
		if (napi_get_value_string_utf8(env, string, NULL, 0, &bytes))
			return fail(env, "a string cannot be read");
		at = reserve(env, block, 4 + bytes + 1);
		if (!at)
			return false;
		if (napi_get_value_string_utf8(env, string, (char *)at + 4, bytes + 1, &bytes))
			return fail(env, "a string cannot be read");
	}
	length = (uint32_t)bytes;
	memcpy(at, &length, 4);
	block->bytes += 4 + bytes;
	return true;
}

static bool put_value(napi_env env, struct block *block, napi_value value, unsigned depth);

static bool put_number(napi_env env, struct block *block, napi_value value)
{
	double number;
	int32_t whole;

	if (napi_get_value_double(env, value, &number))
		return fail(env, "a number cannot be read");
	if (number >= INT32_MIN && number <= INT32_MAX) {
		whole = (int32_t)number;
		if (whole == number && (whole || !signbit(number)))
			return put(env, block, 'i', &whole, 4);
	}
	return put(env, block, 'd', &number, 8);
}

/* `count` items of an array, or properties of these keys. */
static bool put_items(napi_env env, struct block *block, napi_value value, napi_value keys,
		      uint32_t count, unsigned depth)
{
	for (uint32_t i = 0; i < count; i++) {
		napi_handle_scope scope;
		napi_value key, item;
		bool good;

		if (napi_open_handle_scope(env, &scope))
			return fail(env, "out of memory");
		good = keys ? !napi_get_element(env, keys, i, &key) && put_text(env, block, key) &&
				       !napi_get_property(env, value, key, &item)
			    : !napi_get_element(env, value, i, &item);
		good = good && put_value(env, block, item, depth);
		napi_close_handle_scope(env, scope);
		if (!good)
			return fail(env,
				    keys ? "an object cannot be read" : "an array cannot be read");
	}
	return true;
}

static bool put_array(napi_env env, struct block *block, napi_value value, unsigned depth)
{
	uint32_t count;

	if (napi_get_array_length(env, value, &count) || !put(env, block, 'a', &count, 4))
		return fail(env, "an array cannot be read");
	return put_items(env, block, value, NULL, count, depth);
}

/* Own enumerable properties with names. */
static bool put_properties(napi_env env, struct block *block, napi_value value, unsigned depth)
{
	napi_value keys;
	uint32_t count;

	if (napi_get_all_property_names(env, value, napi_key_own_only,
					napi_key_enumerable | napi_key_skip_symbols,
					napi_key_numbers_to_strings, &keys) ||
	    napi_get_array_length(env, keys, &count) || !put(env, block, 'o', &count, 4))
		return fail(env, "an object cannot be read");
	return put_items(env, block, value, keys, count, depth);
}

/* The stack stays here: it tells of files that are none of the VM's business. */
static bool put_error(napi_env env, struct block *block, napi_value value, unsigned depth)
{
	static const char *const names[] = {"name", "message"};
	static const uint32_t none;

	if (!put(env, block, 'e', NULL, 0))
		return false;
	for (unsigned i = 0; i < 2; i++) {
		napi_value property;

		if (napi_get_named_property(env, value, names[i], &property) ||
		    napi_coerce_to_string(env, property, &property) ||
		    !put_text(env, block, property))
			return fail(env, "an error cannot be read");
	}
	if (!reserve(env, block, 4))
		return false;
	memcpy(block->data + block->bytes, &none, 4);
	block->bytes += 4;
	return put_properties(env, block, value, depth);
}

static bool put_bytes(napi_env env, struct block *block, uint8_t type, const void *data,
		      size_t bytes)
{
	uint32_t length = (uint32_t)bytes;
	uint8_t head[5] = {type};

	if (bytes > THAW_VM_PACK_BYTES)
		return fail(env, "the value is too large to be passed to a VM");
	memcpy(head + 1, &length, 4);
	if (!put(env, block, 'y', head, 5) || !reserve(env, block, bytes))
		return false;
	if (bytes)
		memcpy(block->data + block->bytes, data, bytes);
	block->bytes += bytes;
	return true;
}

static bool put_typed(napi_env env, struct block *block, napi_value value)
{
	napi_typedarray_type type;
	size_t length;
	void *data;

	if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL))
		return fail(env, "a typed array of this kind cannot be passed to a VM");
	for (uint8_t i = 0; i < TYPED_COUNT; i++)
		if (typed_bytes[i] && typed_types[i] == type)
			return put_bytes(env, block, i, data, length * typed_bytes[i]);
	return fail(env, "a typed array of this kind cannot be passed to a VM");
}

static bool put_date(napi_env env, struct block *block, napi_value value)
{
	double time;

	return napi_get_date_value(env, value, &time) ? fail(env, "a date cannot be read")
						      : put(env, block, 'D', &time, 8);
}

static bool put_buffer(napi_env env, struct block *block, napi_value value)
{
	size_t bytes;
	void *data;

	return napi_get_arraybuffer_info(env, value, &data, &bytes)
		       ? fail(env, "an ArrayBuffer cannot be read")
		       : put_bytes(env, block, TYPED_UINT8, data, bytes);
}

/* Has it nothing but its properties? */
static bool is_passable(napi_env env, napi_value value)
{
	napi_value answer = helper_call(env, HELPER_PASSABLE, 1, &value);
	bool good = false;

	return answer && !napi_get_value_bool(env, answer, &good) && good;
}

static bool put_object(napi_env env, struct block *block, napi_value value, unsigned depth)
{
	bool is = false;

	if (depth >= THAW_VM_PACK_DEPTH)
		return fail(
			env,
			"a value that is circular, or nested too deep, cannot be passed to a VM");
	if (!napi_is_array(env, value, &is) && is)
		return put_array(env, block, value, depth + 1);
	if (!napi_is_typedarray(env, value, &is) && is)
		return put_typed(env, block, value);
	if (!napi_is_date(env, value, &is) && is)
		return put_date(env, block, value);
	if (!napi_is_error(env, value, &is) && is)
		return put_error(env, block, value, depth + 1);
	if (!napi_is_arraybuffer(env, value, &is) && is)
		return put_buffer(env, block, value);
	if (!is_passable(env, value))
		return fail(env, "an object of this class cannot be passed to a VM");
	return put_properties(env, block, value, depth + 1);
}

static bool put_value(napi_env env, struct block *block, napi_value value, unsigned depth)
{
	napi_valuetype type;
	bool truth;

	if (napi_typeof(env, value, &type))
		return fail(env, "a value cannot be read");
	switch (type) {
	case napi_undefined:
		return put(env, block, 'u', NULL, 0);
	case napi_null:
		return put(env, block, 'n', NULL, 0);
	case napi_boolean:
		napi_get_value_bool(env, value, &truth);
		return put(env, block, truth ? 't' : 'f', NULL, 0);
	case napi_number:
		return put_number(env, block, value);
	case napi_string:
		return put(env, block, 's', NULL, 0) && put_text(env, block, value);
	case napi_bigint:
		return put(env, block, 'b', NULL, 0) &&
		       !napi_coerce_to_string(env, value, &value) && put_text(env, block, value);
	case napi_object:
		return put_object(env, block, value, depth);
	case napi_function:
		return fail(env, "a function cannot be passed to a VM: see the option `functions`");
	default:
		return fail(env, "a symbol cannot be passed to a VM");
	}
}

bool values_write(napi_env env, napi_value value, struct block *block)
{
	return put_value(env, block, value, 0);
}

/* ---- From the VM ---- */

struct reader {
	napi_env env;
	const uint8_t *at, *end;
};

static bool take(struct reader *reader, size_t bytes, const uint8_t **data)
{
	if (bytes > (size_t)(reader->end - reader->at))
		return fail(reader->env, "a VM has given what is no value");
	*data = reader->at;
	reader->at += bytes;
	return true;
}

static bool take_count(struct reader *reader, uint32_t *count)
{
	const uint8_t *data;

	if (!take(reader, 4, &data))
		return false;
	memcpy(count, data, 4);
	return true;
}

static napi_value get_text(struct reader *reader)
{
	const uint8_t *data;
	uint32_t bytes;

	return take_count(reader, &bytes) && take(reader, bytes, &data)
		       ? text_new(reader->env, (const char *)data, bytes)
		       : NULL;
}

static napi_value get_value(struct reader *reader);

static bool get_item(struct reader *reader, napi_value array, uint32_t index)
{
	napi_value item = get_value(reader);

	return item && !napi_set_element(reader->env, array, index, item);
}

/* Defined where assigning would do something else. */
static bool set_property(napi_env env, napi_value object, napi_value key, napi_value value,
			 bool is_prototype)
{
	const napi_property_descriptor own = {.name = key,
					      .value = value,
					      .attributes = napi_writable | napi_enumerable |
							    napi_configurable};

	return is_prototype ? !napi_define_properties(env, object, 1, &own)
			    : !napi_set_property(env, object, key, value);
}

static bool get_property(struct reader *reader, napi_value object)
{
	bool is_prototype = reader->end - reader->at >= 13 && reader->at[0] == 9 &&
			    !memcmp(reader->at + 4, "__proto__", 9);
	napi_value key = get_text(reader), value = key ? get_value(reader) : NULL;

	return value && set_property(reader->env, object, key, value, is_prototype);
}

/* `count` items or properties, of which many do not need a handle each. */
static napi_value get_items(struct reader *reader, bool is_array)
{
	napi_env env = reader->env;
	napi_handle_scope scope;
	napi_value made;
	uint32_t count;

	if (!take_count(reader, &count))
		return NULL;
	if (count > (size_t)(reader->end - reader->at)) {
		fail(env, "a VM has given what is no value");
		return NULL;
	}
	if (is_array ? napi_create_array_with_length(env, count, &made)
		     : napi_create_object(env, &made))
		return NULL;
	for (uint32_t i = 0; i < count; i++) {
		bool scoped = count > SCOPE_ITEMS && !napi_open_handle_scope(env, &scope);
		bool good = is_array ? get_item(reader, made, i) : get_property(reader, made);

		if (scoped)
			napi_close_handle_scope(env, scope);
		if (!good)
			return NULL;
	}
	return made;
}

static napi_value get_bytes(struct reader *reader)
{
	napi_value buffer, view;
	const uint8_t *type, *data;
	uint32_t bytes;
	void *copy;

	if (!take(reader, 1, &type) || !take_count(reader, &bytes) || !take(reader, bytes, &data))
		return NULL;
	if (*type >= TYPED_COUNT || !typed_bytes[*type] || bytes % typed_bytes[*type]) {
		fail(reader->env, "a typed array of this kind cannot be passed by a VM");
		return NULL;
	}
	if (napi_create_arraybuffer(reader->env, bytes, &copy, &buffer))
		return NULL;
	if (bytes)
		memcpy(copy, data, bytes);
	return napi_create_typedarray(reader->env, typed_types[*type], bytes / typed_bytes[*type],
				      buffer, 0, &view)
		       ? NULL
		       : view;
}

static napi_value get_error(struct reader *reader)
{
	napi_value parts[4];
	const uint8_t *tag;

	for (unsigned i = 0; i < 3; i++)
		if (!(parts[i] = get_text(reader)))
			return NULL;
	if (!take(reader, 1, &tag) || !(parts[3] = get_items(reader, false)))
		return NULL;
	return helper_call(reader->env, HELPER_ERROR, 4, parts);
}

static napi_value get_number(struct reader *reader, uint8_t tag)
{
	const uint8_t *data;
	napi_value value;
	int32_t whole;
	double number;

	if (!take(reader, tag == 'i' ? 4 : 8, &data))
		return NULL;
	if (tag == 'i') {
		memcpy(&whole, data, 4);
		return napi_create_int32(reader->env, whole, &value) ? NULL : value;
	}
	memcpy(&number, data, 8);
	return (tag == 'd' ? napi_create_double : napi_create_date)(reader->env, number, &value)
		       ? NULL
		       : value;
}

static napi_value get_value(struct reader *reader)
{
	napi_env env = reader->env;
	napi_value value = NULL;
	const uint8_t *tag;

	if (!take(reader, 1, &tag))
		return NULL;
	switch (*tag) {
	case 'u':
		napi_get_undefined(env, &value);
		return value;
	case 'n':
		napi_get_null(env, &value);
		return value;
	case 't':
	case 'f':
		napi_get_boolean(env, *tag == 't', &value);
		return value;
	case 'i':
	case 'd':
	case 'D':
		return get_number(reader, *tag);
	case 's':
		return get_text(reader);
	case 'b':
		value = get_text(reader);
		return value ? helper_call(env, HELPER_BIGINT, 1, &value) : NULL;
	case 'y':
		return get_bytes(reader);
	case 'a':
	case 'o':
		return get_items(reader, *tag == 'a');
	case 'e':
		return get_error(reader);
	default:
		fail(env, "a VM has given what is no value");
		return NULL;
	}
}

napi_value values_read(napi_env env, const uint8_t **at, const uint8_t *end)
{
	struct reader reader = {env, *at, end};
	napi_value value = get_value(&reader);

	*at = reader.at;
	return value;
}

napi_value value_out(napi_env env, struct thaw_vm *vm, thaw_vm_value value,
		     struct thaw_error *error)
{
	const uint8_t *at;
	napi_value result;
	size_t bytes;
	void *data;

	if (thaw_vm_pack(vm, 1, &value, &data, &bytes, error))
		return NULL;
	at = data;
	result = values_read(env, &at, at + bytes);
	free(data);
	return result;
}

thaw_vm_value value_in(napi_env env, struct thaw_vm *vm, napi_value value, struct thaw_error *error)
{
	struct block block = {0};
	thaw_vm_value result = 0;

	if (values_write(env, value, &block))
		thaw_vm_unpack(vm, block.data, block.bytes, 1, &result, error);
	free(block.data);
	return result;
}
