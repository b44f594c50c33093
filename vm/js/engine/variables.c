// SPDX-License-Identifier: MIT
/*
 * variables.c - the global variables that are no properties of the global object (let, const, class), and
 * where a function is: what a shell shows.
 *
 * Owns nothing. Called by host.c, on the owner's thread. Runs no code of the program.
 */
#include <stdio.h>
#include <stdlib.h>

#include "classes.h"
#include "heap_layout.h"
#include "state.h"

enum { NAMES_STRINGS = 1 };		/* JS_GPN_STRING_MASK of quickjs.h */
enum { ENUM_ATOM = 4, ENUM_BYTES = 8 }; /* JSPropertyEnum */
enum { DESCRIPTOR_VALUE = 8, DESCRIPTOR_BYTES = 32 };

struct variable_call {
	struct js_engine *engine;
	js_value value, result;
	const char *name;
};

static u64 variables_of(const struct js_engine *engine)
{
	return vm_load64(engine, engine->context + CX_GLOBAL_VARIABLES);
}

/* ---- Names ---- */

static void take_names(struct variable_call *call, u32 list, u32 count)
{
	struct js_engine *engine = call->engine;
	u64 names = VM(engine, JS_NewArray, engine->context);

	for (u32 i = 0; i < count && !value_has_tag(names, TAG_EXCEPTION); i++) {
		u64 name = VM(engine, JS_AtomToString, engine->context,
			      vm_load32(engine, list + i * ENUM_BYTES + ENUM_ATOM));

		if (value_has_tag(name, TAG_EXCEPTION) ||
		    (s32)VM(engine, JS_DefinePropertyValueUint32, engine->context, names, i, name,
			    PROPERTY_CONFIGURABLE | PROPERTY_WRITABLE | PROPERTY_ENUMERABLE) < 0) {
			VM(engine, JS_FreeValue, engine->context, names);
			names = VALUE_EXCEPTION;
		}
	}
	call->result = value_box(engine, names);
}

static void run_names(void *arg)
{
	struct variable_call *call = arg;
	struct js_engine *engine = call->engine;
	u32 at = vm_push(engine, 8), list, count;

	if ((s32)VM(engine, JS_GetOwnPropertyNames, engine->context, at, at + 4,
		    variables_of(engine), NAMES_STRINGS) >= 0) {
		list = vm_load32(engine, at);
		count = vm_load32(engine, at + 4);
		take_names(call, list, count);
		VM(engine, JS_FreePropertyEnum, engine->context, list, count);
	}
	vm_pop(engine, 8);
}

js_value js_variables(struct js_engine *engine)
{
	struct variable_call call = {.engine = engine};

	return engine_enter(engine, run_names, &call) ? call.result : 0;
}

/* ---- Values ---- */

static void run_variable(void *arg)
{
	struct variable_call *call = arg;
	struct js_engine *engine = call->engine;
	u32 key = vm_string(engine, call->name, strlen(call->name)), descriptor, atom;
	u64 value = VALUE_UNDEFINED, list;

	if (!key)
		return;
	atom = VM(engine, JS_NewAtom, engine->context, key);
	vm_free(engine, key);
	descriptor = vm_push(engine, DESCRIPTOR_BYTES);
	if (!atom || (s32)VM(engine, JS_GetOwnProperty, engine->context, descriptor,
			     variables_of(engine), atom) <= 0) {
		call->result = value_box(engine, VALUE_UNDEFINED);
	} else {
		value = vm_load64(engine, descriptor + DESCRIPTOR_VALUE);
		if (value_has_tag(value, BOX_UNINITIALIZED))
			value = VALUE_UNDEFINED;
		list = VM(engine, JS_NewArray, engine->context);
		if (value_has_tag(list, TAG_EXCEPTION))
			VM(engine, JS_FreeValue, engine->context, value);
		else
			VM(engine, JS_DefinePropertyValueUint32, engine->context, list, 0, value,
			   PROPERTY_CONFIGURABLE | PROPERTY_WRITABLE | PROPERTY_ENUMERABLE);
		call->result = value_box(engine, list);
	}
	vm_pop(engine, DESCRIPTOR_BYTES);
	VM(engine, JS_FreeAtom, engine->context, atom);
}

js_value js_variable(struct js_engine *engine, const char *name)
{
	struct variable_call call = {.engine = engine, .name = name};

	return engine_enter(engine, run_variable, &call) ? call.result : 0;
}

/* ---- Functions ---- */

static void run_place(void *arg)
{
	struct variable_call *call = arg;
	struct js_engine *engine = call->engine;
	u64 value = value_of(engine, call->value), file;
	char place[4200], *name;
	u32 code;

	call->result = 0;
	if (!value_has_tag(value, TAG_OBJECT) ||
	    !class_has_bytecode(VM(engine, JS_GetClassID, value)))
		goto none;
	code = vm_load32(engine, (u32)value + FUNC_BYTECODE);
	file = VM(engine, JS_AtomToString, engine->context, vm_load32(engine, code + BC_FILE));
	name = value_has_tag(file, TAG_EXCEPTION) ? NULL : value_text(engine, file, NULL);
	VM(engine, JS_FreeValue, engine->context, file);
	if (!name) {
		exception_clear(engine);
		goto none;
	}
	snprintf(place, sizeof(place), "%s:%u", name, vm_load32(engine, code + BC_LINE));
	free(name);
	call->result = value_box(engine, value_string(engine, place, strlen(place)));
	return;
none:
	call->result = value_box(engine, VALUE_UNDEFINED);
}

js_value js_place(struct js_engine *engine, js_value function)
{
	struct variable_call call = {.engine = engine, .value = function};

	return engine_enter(engine, run_place, &call) ? call.result : 0;
}
