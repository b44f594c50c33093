/* SPDX-License-Identifier: MIT */
/*
 * values.c - values of a VM for its host: made, looked at, as JSON and as bytes.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "embed.h"

thaw_vm_value thaw_vm_global(struct thaw_vm *vm)
{
	struct js_engine *engine = vm_engine(vm);
	thaw_vm_value global;
	unsigned before;

	if (!vm_sound(vm))
		return 0;
	if (vm->depth) /* of the code that has called */
		return js_global(engine);
	before = js_context_select(engine, vm->context);
	global = js_global(engine);
	js_context_select(engine, before);
	return global;
}

thaw_vm_value thaw_vm_undefined(struct thaw_vm *vm)
{
	return vm_sound(vm) ? js_undefined(vm_engine(vm)) : 0;
}

thaw_vm_value thaw_vm_number(struct thaw_vm *vm, double number)
{
	return vm_sound(vm) ? js_number(vm_engine(vm), number) : 0;
}

thaw_vm_value thaw_vm_bool(struct thaw_vm *vm, bool value)
{
	return vm_sound(vm) ? js_bool(vm_engine(vm), value) : 0;
}

/* Nobody asks why there is no memory: the exception is taken. */
static js_value made(struct thaw_vm *vm, js_value value)
{
	if (!value && !js_trapped(vm_engine(vm)))
		js_free(vm_engine(vm), js_take_exception(vm_engine(vm)));
	return value;
}

thaw_vm_value thaw_vm_string(struct thaw_vm *vm, const char *utf8, size_t bytes)
{
	bytes = vm_text_bytes(utf8, bytes);
	return vm_sound(vm) && bytes <= JS_TEXT_MAX_BYTES
		       ? made(vm, js_string(vm_engine(vm), utf8, bytes))
		       : 0;
}

thaw_vm_value thaw_vm_bytes(struct thaw_vm *vm, const void *data, size_t bytes)
{
	return vm_sound(vm) && bytes <= JS_BYTES_MAX_BYTES
		       ? made(vm, js_bytes(vm_engine(vm), data, bytes))
		       : 0;
}

thaw_vm_value thaw_vm_copy(struct thaw_vm *vm, thaw_vm_value value)
{
	return value && vm_sound(vm) ? js_dup(vm_engine(vm), value) : 0;
}

thaw_vm_value thaw_vm_object(struct thaw_vm *vm)
{
	return vm_sound(vm) ? made(vm, js_object(vm_engine(vm))) : 0;
}

thaw_vm_value thaw_vm_array(struct thaw_vm *vm)
{
	return vm_sound(vm) ? made(vm, js_array(vm_engine(vm))) : 0;
}

thaw_vm_value thaw_vm_bigint(struct thaw_vm *vm, const char *digits)
{
	thaw_vm_value text = thaw_vm_string(vm, digits, SIZE_MAX), value;

	if (!text)
		return 0;
	value = made(vm, functions_method(vm, "bigint", 1, &text));
	thaw_vm_free(vm, text);
	return value;
}

void thaw_vm_free(struct thaw_vm *vm, thaw_vm_value value)
{
	if (value && vm_sound(vm))
		js_free(vm_engine(vm), value);
}

/* Objects are converted by code of the program, which has its limits; others are not worth a call. */
static bool begin_conversion(struct thaw_vm *vm, thaw_vm_value value, bool *call)
{
	*call = vm_sound(vm) && js_is_object(vm_engine(vm), value);
	return *call ? !vm_enter(vm, NULL) : vm_sound(vm);
}

double thaw_vm_to_number(struct thaw_vm *vm, thaw_vm_value value)
{
	double number;
	bool call;

	if (!begin_conversion(vm, value, &call))
		return NAN;
	number = js_to_number(vm_engine(vm), value);
	return call && vm_leave(vm, false, NULL) ? NAN : number;
}

char *thaw_vm_to_string(struct thaw_vm *vm, thaw_vm_value value, size_t *bytes)
{
	char *text;
	bool call;

	if (!begin_conversion(vm, value, &call))
		return NULL;
	text = js_to_string(vm_engine(vm), value, bytes);
	if (call && vm_leave(vm, false, NULL)) {
		free(text);
		text = NULL;
	}
	return text;
}

void *thaw_vm_to_bytes(struct thaw_vm *vm, thaw_vm_value value, size_t *bytes)
{
	return vm_sound(vm) ? js_to_bytes(vm_engine(vm), value, bytes) : NULL;
}

int thaw_vm_get(struct thaw_vm *vm, thaw_vm_value object, const char *key, thaw_vm_value *value,
		struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	*value = 0;
	if (code)
		return code;
	*value = js_get(vm_engine(vm), object, key);
	return vm_leave(vm, !*value, error);
}

int thaw_vm_set(struct thaw_vm *vm, thaw_vm_value object, const char *key, thaw_vm_value value,
		struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	if (code)
		return code;
	return vm_leave(vm, !js_set(vm_engine(vm), object, key, js_dup(vm_engine(vm), value)),
			error);
}

int thaw_vm_get_index(struct thaw_vm *vm, thaw_vm_value array, uint32_t index, thaw_vm_value *value,
		      struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	*value = 0;
	if (code)
		return code;
	*value = js_get_index(vm_engine(vm), array, index);
	return vm_leave(vm, !*value, error);
}

int thaw_vm_set_index(struct thaw_vm *vm, thaw_vm_value array, uint32_t index, thaw_vm_value value,
		      struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	if (code)
		return code;
	return vm_leave(vm,
			!js_set_index(vm_engine(vm), array, index, js_dup(vm_engine(vm), value)),
			error);
}

int thaw_vm_keys(struct thaw_vm *vm, thaw_vm_value object, thaw_vm_value *keys,
		 struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	*keys = 0;
	if (code)
		return code;
	*keys = functions_method(vm, "keys", 1, &object);
	return vm_leave(vm, !*keys, error);
}

/* What Reflect.NAME(object, key) says: 1 or 0, or an error. */
static int reflect(struct thaw_vm *vm, const char *name, thaw_vm_value object, const char *key,
		   struct thaw_error *error)
{
	int code = vm_enter(vm, error);
	js_value parts[2] = {object, 0}, said = 0;
	bool yes;

	if (code)
		return code;
	parts[1] = js_string(vm_engine(vm), key, strlen(key));
	if (parts[1])
		said = functions_method(vm, name, 2, parts);
	yes = said && js_to_bool(vm_engine(vm), said);
	js_free(vm_engine(vm), parts[1]);
	js_free(vm_engine(vm), said);
	code = vm_leave(vm, !said, error);
	return code ? code : yes;
}

int thaw_vm_has(struct thaw_vm *vm, thaw_vm_value object, const char *key, struct thaw_error *error)
{
	return reflect(vm, "has", object, key, error);
}

int thaw_vm_delete(struct thaw_vm *vm, thaw_vm_value object, const char *key,
		   struct thaw_error *error)
{
	return reflect(vm, "remove", object, key, error);
}

bool thaw_vm_same(struct thaw_vm *vm, thaw_vm_value a, thaw_vm_value b)
{
	js_value pair[2] = {a, b}, said;
	bool same;

	if (!vm_sound(vm))
		return false;
	said = made(vm, functions_method(vm, "same", 2, pair));
	same = said && js_to_bool(vm_engine(vm), said);
	js_free(vm_engine(vm), said);
	return same;
}

js_value values_parse(struct thaw_vm *vm, const char *text, size_t bytes)
{
	js_value argument = js_string(vm_engine(vm), text, bytes), value;

	if (!argument)
		return 0;
	value = functions_method(vm, "parse", 1, &argument);
	js_free(vm_engine(vm), argument);
	return value;
}

int thaw_vm_json(struct thaw_vm *vm, const char *text, size_t bytes, thaw_vm_value *value,
		 struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	*value = 0;
	if (code)
		return code;
	*value = values_parse(vm, text, vm_text_bytes(text, bytes));
	return vm_leave(vm, !*value, error);
}

int thaw_vm_to_json(struct thaw_vm *vm, thaw_vm_value value, char **text, struct thaw_error *error)
{
	int code = vm_enter(vm, error);
	js_value shown;

	*text = NULL;
	if (code)
		return code;
	shown = functions_method(vm, "stringify", 1, &value);
	if (shown)
		*text = js_is_string(vm_engine(vm), shown)
				? js_to_string(vm_engine(vm), shown, NULL)
				: strdup("null");
	code = vm_leave(vm, !shown, error);
	if (shown && vm_sound(vm))
		js_free(vm_engine(vm), shown);
	if (code) {
		free(*text);
		*text = NULL;
		return code;
	}
	return *text ? 0 : failure(error, -ENOMEM, "out of memory");
}
