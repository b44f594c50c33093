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
