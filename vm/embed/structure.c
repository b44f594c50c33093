/* SPDX-License-Identifier: MIT */
/*
 * structure.c - what bindings to other languages stand on: kinds of values, structured data as bytes, functions found by name,
 * exceptions as values, and the state of promises.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "embed.h"

_Static_assert((int)THAW_VM_OTHER == (int)JS_KIND_OTHER && (int)THAW_VM_BYTES == (int)JS_KIND_BYTES,
	       "the kinds of thaw_vm.h are those of the engine");
_Static_assert(THAW_VM_PACK_DEPTH == JS_PACK_DEPTH_MAX &&
		       THAW_VM_PACK_VALUES == JS_PACK_VALUES_MAX &&
		       THAW_VM_PACK_BYTES == JS_PACK_BYTES_MAX,
	       "the limits of thaw_vm.h are those of the engine");

int thaw_vm_kind(struct thaw_vm *vm, thaw_vm_value value)
{
	return vm_sound(vm) ? (int)js_kind(vm_engine(vm), value) : THAW_VM_NONE;
}

thaw_vm_value thaw_vm_null(struct thaw_vm *vm)
{
	return vm_sound(vm) ? js_null(vm_engine(vm)) : 0;
}

int thaw_vm_pack(struct thaw_vm *vm, unsigned count, const thaw_vm_value *values, void **data,
		 size_t *bytes, struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	*data = NULL;
	if (code)
		return code;
	*data = js_pack(vm_engine(vm), count, values, bytes);
	code = vm_leave(vm, !*data, error);
	if (code) {
		free(*data);
		*data = NULL;
	}
	return code;
}

int thaw_vm_unpack(struct thaw_vm *vm, const void *data, size_t bytes, unsigned count,
		   thaw_vm_value *values, struct thaw_error *error)
{
	int code = vm_enter(vm, error);
	bool good;

	for (unsigned i = 0; i < count; i++)
		values[i] = 0;
	if (code)
		return code;
	good = js_unpack(vm_engine(vm), data, bytes, count, values);
	code = vm_leave(vm, !good, error);
	for (unsigned i = 0; (code || !good) && i < count; i++) {
		if (good)
			thaw_vm_free(vm, values[i]);
		values[i] = 0;
	}
	return code;
}

int thaw_vm_lookup(struct thaw_vm *vm, const char *name, thaw_vm_value *function,
		   thaw_vm_value *self, struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	*function = *self = 0;
	if (code)
		return code;
	*function = evaluate_find(vm, name, self);
	code = vm_leave(vm, !*function, error);
	if (!code)
		return 0;
	if (vm_sound(vm)) {
		js_free(vm_engine(vm), *function);
		js_free(vm_engine(vm), *self);
	}
	*function = *self = 0;
	return code;
}

/* Inside of a call: what is entered here ends no turn. */
static int call_packed(struct thaw_vm *vm, const char *name, const void *arguments, size_t bytes,
		       unsigned count, thaw_vm_value *value, struct thaw_error *error)
{
	thaw_vm_value few[16], *values = few, function, self;
	int code = thaw_vm_lookup(vm, name, &function, &self, error);

	*value = 0;
	if (!code && count > 16 && !(values = malloc(count * sizeof(*values))))
		code = failure(error, -ENOMEM, "out of memory");
	if (!code)
		code = thaw_vm_unpack(vm, arguments, bytes, count, values, error);
	if (!code) {
		code = thaw_vm_apply(vm, function, self, count, values, value, error);
		for (unsigned i = 0; i < count; i++)
			thaw_vm_free(vm, values[i]);
	}
	if (values != few)
		free(values);
	thaw_vm_free(vm, function);
	thaw_vm_free(vm, self);
	return code;
}

int thaw_vm_call_packed(struct thaw_vm *vm, const char *name, const void *arguments, size_t bytes,
			unsigned count, void **result, size_t *result_bytes, thaw_vm_value *promise,
			struct thaw_error *error)
{
	int code = vm_enter(vm, error), left;
	struct thaw_error late;
	thaw_vm_value value;

	*result = NULL;
	*promise = 0;
	if (code)
		return code;
	code = call_packed(vm, name, arguments, bytes, count, &value, error);
	if (!code && js_is_promise(vm_engine(vm), value)) {
		*promise = value;
		value = 0;
	}
	if (!code && !*promise)
		code = thaw_vm_pack(vm, 1, &value, result, result_bytes, error);
	thaw_vm_free(vm, value);
	left = vm_leave(vm, false, &late); /* it may end only there */
	if (left && !code)
		code = failure(error, left, "%s", late.text);
	if (code) {
		free(*result);
		*result = NULL;
		thaw_vm_free(vm, *promise);
		*promise = 0;
	}
	return code;
}

/* ---- Exceptions ---- */

thaw_vm_value thaw_vm_exception(struct thaw_vm *vm)
{
	thaw_vm_value exception = vm->exception;

	vm->exception = 0;
	return vm_sound(vm) ? exception : 0;
}

thaw_vm_value thaw_vm_throw_value(struct thaw_vm *vm, thaw_vm_value value)
{
	if (!vm_sound(vm))
		return 0;
	vm->thrown = true;
	return js_throw(vm_engine(vm),
			value ? js_dup(vm_engine(vm), value) : js_undefined(vm_engine(vm)));
}

/* ---- Promises ---- */

int thaw_vm_promise(struct thaw_vm *vm, thaw_vm_value value, thaw_vm_value *result)
{
	struct js_engine *engine = vm_engine(vm);
	enum js_promise_state state;

	if (result)
		*result = 0;
	if (!vm_sound(vm) || !value || !js_is_promise(engine, value))
		return THAW_VM_NO_PROMISE;
	state = js_promise_state(engine, value);
	if (result && state != JS_PROMISE_PENDING)
		*result = js_promise_result(engine, value);
	return state == JS_PROMISE_PENDING     ? THAW_VM_WAITS
	       : state == JS_PROMISE_FULFILLED ? THAW_VM_FULFILLED
					       : THAW_VM_REJECTED;
}
