// SPDX-License-Identifier: MIT
/*
 * exception.c - throws exceptions into the VM, takes them out, and makes text for people of them.
 *
 * Owns: nothing. Called by every file of vm/js/ and by the runtime, on the owner's thread.
 * Rendering an exception may run the program's own code (toString, getters): it polls for
 * interrupts like any other, and whatever it throws is dropped.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "state.h"

/* How deep causes are followed, and how many of an AggregateError's errors are shown. */
#define MAX_CAUSES 5

enum { PROPERTY_CONFIGURABLE = 1, PROPERTY_WRITABLE = 2 };

/* ---- Throwing ---- */

void exception_clear(struct js_engine *engine)
{
	u64 exception = VM(engine, JS_GetException, engine->context);

	VM(engine, JS_FreeValue, engine->context, exception);
}

/*
 * QuickJS's own constructors, so that a program that replaced globalThis.TypeError gets the real
 * one. They cut messages at 255 bytes, hence the message is set afterwards.
 */
static u64 error_of_type(struct js_engine *engine, const char *type)
{
	u32 empty = vm_push(engine, 8); /* a format, "" */
	u64 error;

	vm_store64(engine, empty, 0);
	if (strcmp(type, "TypeError") == 0)
		error = VM(engine, JS_NewTypeError, engine->context, empty, 0);
	else if (strcmp(type, "RangeError") == 0)
		error = VM(engine, JS_NewRangeError, engine->context, empty, 0);
	else if (strcmp(type, "SyntaxError") == 0)
		error = VM(engine, JS_NewSyntaxError, engine->context, empty, 0);
	else if (strcmp(type, "ReferenceError") == 0)
		error = VM(engine, JS_NewReferenceError, engine->context, empty, 0);
	else if (strcmp(type, "InternalError") == 0)
		error = VM(engine, JS_NewInternalError, engine->context, empty, 0);
	else
		error = VM(engine, JS_NewPlainError, engine->context, empty, 0);
	vm_pop(engine, 8);
	return error;
}

u64 exception_new(struct js_engine *engine, const char *type, const char *text)
{
	u64 error = error_of_type(engine, type), message;
	u32 key;

	if (value_has_tag(error, TAG_EXCEPTION))
		return error;
	message = value_string(engine, text, strlen(text));
	key = vm_string(engine, "message", 7);
	if (value_has_tag(message, TAG_EXCEPTION) || !key)
		VM(engine, JS_FreeValue, engine->context, message);
	else
		VM(engine, JS_DefinePropertyValueStr, engine->context, error, key, message,
		   PROPERTY_CONFIGURABLE | PROPERTY_WRITABLE);
	vm_free(engine, key);
	return error;
}

void exception_throw(struct js_engine *engine, const char *type, const char *text)
{
	u64 error = exception_new(engine, type, text);

	if (!value_has_tag(error, TAG_EXCEPTION))
		VM(engine, JS_Throw, engine->context, error);
}

struct exception_call {
	struct js_engine *engine;
	js_value value;
	const char *type, *text;
	js_value result;
	char *out; /* malloc'ed; grows */
	size_t bytes;
};

static void run_take_exception(void *arg)
{
	struct exception_call *call = arg;
	struct js_engine *engine = call->engine;

	if (VM(engine, JS_HasException, engine->context))
		call->result = value_box(engine, VM(engine, JS_GetException, engine->context));
}

js_value js_take_exception(struct js_engine *engine)
{
	struct exception_call call = {.engine = engine};

	return engine_enter(engine, run_take_exception, &call) ? call.result : 0;
}

static void run_throw(void *arg)
{
	struct exception_call *call = arg;

	VM(call->engine, JS_Throw, call->engine->context, value_unbox(call->engine, call->value));
}

js_value js_throw(struct js_engine *engine, js_value value)
{
	struct exception_call call = {.engine = engine, .value = value};

	if (value)
		engine_enter(engine, run_throw, &call);
	return 0;
}

static void run_throw_uncatchable(void *arg)
{
	struct exception_call *call = arg;
	struct js_engine *engine = call->engine;
	u64 error = exception_new(engine, "InternalError", "interrupted");

	if (value_has_tag(error, TAG_EXCEPTION)) /* out of memory, which is as good */
		return;
	VM(engine, JS_SetUncatchableError, engine->context, error);
	VM(engine, JS_Throw, engine->context, error);
}

js_value js_throw_uncatchable(struct js_engine *engine)
{
	struct exception_call call = {.engine = engine};

	engine_enter(engine, run_throw_uncatchable, &call);
	return 0;
}

static void run_throw_error(void *arg)
{
	struct exception_call *call = arg;

	exception_throw(call->engine, call->type, call->text);
}

js_value js_throw_error(struct js_engine *engine, const char *type, const char *format, ...)
{
	struct exception_call call = {.engine = engine, .type = type};
	char *text = NULL;
	va_list list;

	va_start(list, format);
	if (vasprintf(&text, format, list) < 0)
		text = NULL;
	va_end(list);
	call.text = text ? text : "out of memory";
	engine_enter(engine, run_throw_error, &call);
	free(text);
	return 0;
}

/* ---- Text ---- */

static void append(struct exception_call *call, const char *text, size_t bytes)
{
	char *grown = realloc(call->out, call->bytes + bytes + 1);

	if (!grown)
		return;
	memcpy(grown + call->bytes, text, bytes);
	call->out = grown;
	call->bytes += bytes;
	grown[call->bytes] = '\0';
}

static void append_line_end(struct exception_call *call)
{
	if (call->bytes && call->out[call->bytes - 1] != '\n')
		append(call, "\n", 1);
}

/* A property; undefined if reading it fails. */
static u64 property(struct js_engine *engine, u64 object, const char *name)
{
	u32 key = vm_string(engine, name, strlen(name));
	u64 value = key ? VM(engine, JS_GetPropertyStr, engine->context, object, key)
			: VALUE_EXCEPTION;

	vm_free(engine, key);
	if (!value_has_tag(value, TAG_EXCEPTION))
		return value;
	exception_clear(engine);
	return VALUE_UNDEFINED;
}

static bool append_value(struct exception_call *call, u64 value)
{
	size_t bytes = 0;
	char *text = value_text(call->engine, value, &bytes);

	if (!text) {
		exception_clear(call->engine);
		return false;
	}
	append(call, text, bytes);
	free(text);
	return true;
}

/*
 * Something other than an Error was thrown: a symbol cannot be converted to a string, and the
 * string of a plain object says nothing.
 */
static void append_other(struct exception_call *call, u64 value)
{
	struct js_engine *engine = call->engine;
	u64 text = VALUE_UNDEFINED;
	bool done = false;

	if (value_has_tag(value, TAG_OBJECT) &&
	    !VM(engine, JS_IsFunction, engine->context, value)) {
		text = VM(engine, JS_JSONStringify, engine->context, value, VALUE_UNDEFINED,
			  VALUE_UNDEFINED);
		if (value_has_tag(text, TAG_EXCEPTION)) {
			exception_clear(engine);
			text = VALUE_UNDEFINED;
		}
		done = !value_has_tag(text, TAG_UNDEFINED) && append_value(call, text);
	} else {
		u32 atom = VM(engine, JS_ValueToAtom, engine->context, value);

		if (atom) {
			text = VM(engine, JS_AtomToString, engine->context,
				  atom); /* a symbol's description */
			VM(engine, JS_FreeAtom, engine->context, atom);
			done = append_value(call, text);
		} else {
			exception_clear(engine);
		}
	}
	VM(engine, JS_FreeValue, engine->context, text);
	if (!done && !append_value(call, value))
		append(call, "[an exception that cannot be shown]", 35);
}

/* The stack, after the error itself: errors.js makes stacks begin with it, the engine does not. */
static void append_error(struct exception_call *call, u64 value, u64 stack)
{
	static const char frame[] = "    at ";
	size_t bytes = 0;
	char *text = value_has_tag(stack, TAG_UNDEFINED) ? NULL
							 : value_text(call->engine, stack, &bytes);

	if (!text && !value_has_tag(stack, TAG_UNDEFINED))
		exception_clear(call->engine);
	if (!text || !bytes || !strncmp(text, frame, strlen(frame))) {
		if (!append_value(call, value))
			append(call, "Error", 5);
		if (text)
			append(call, "\n", 1);
	}
	if (text)
		append(call, text, bytes);
	free(text);
}

static void describe(struct exception_call *call, u64 value, unsigned depth);

static void describe_errors(struct exception_call *call, u64 error, unsigned depth)
{
	struct js_engine *engine = call->engine;
	u64 errors = property(engine, error, "errors");
	char label[32];

	for (u32 i = 0; value_has_tag(errors, TAG_OBJECT) && i < MAX_CAUSES; i++) {
		u64 one = VM(engine, JS_GetPropertyUint32, engine->context, errors, i);

		if (value_has_tag(one, TAG_EXCEPTION))
			exception_clear(engine);
		if (value_has_tag(one, TAG_EXCEPTION) || value_has_tag(one, TAG_UNDEFINED))
			break;
		append_line_end(call);
		append(call, label, (size_t)snprintf(label, sizeof(label), "[errors][%u]: ", i));
		describe(call, one, depth + 1);
		VM(engine, JS_FreeValue, engine->context, one);
	}
	VM(engine, JS_FreeValue, engine->context, errors);
}

static void describe(struct exception_call *call, u64 value, unsigned depth)
{
	struct js_engine *engine = call->engine;
	u64 stack, cause;

	if (!VM(engine, JS_IsError, value)) {
		append_other(call, value);
		return;
	}
	stack = property(engine, value, "stack");
	append_error(call, value, stack);
	VM(engine, JS_FreeValue, engine->context, stack);
	if (depth >= MAX_CAUSES)
		return;
	describe_errors(call, value, depth);
	cause = property(engine, value, "cause");
	if (!value_has_tag(cause, TAG_UNDEFINED)) {
		append_line_end(call);
		append(call, "[cause]: ", 9);
		describe(call, cause, depth + 1);
	}
	VM(engine, JS_FreeValue, engine->context, cause);
}

void exception_add_frame(struct js_engine *engine, const char *frame)
{
	struct exception_call call = {.engine = engine};
	u64 error = VM(engine, JS_GetException, engine->context), stack;
	u32 key = vm_string(engine, "stack", 5);

	if (key && VM(engine, JS_IsError, error)) {
		stack = property(engine, error, "stack");
		append_error(&call, error, stack);
		VM(engine, JS_FreeValue, engine->context, stack);
		append_line_end(&call);
		append(&call, frame, strcspn(frame, "\n"));
		stack = call.out ? value_string(engine, call.out, call.bytes) : VALUE_EXCEPTION;
		if (!value_has_tag(stack, TAG_EXCEPTION))
			VM(engine, JS_DefinePropertyValueStr, engine->context, error, key, stack,
			   PROPERTY_CONFIGURABLE | PROPERTY_WRITABLE);
		free(call.out);
	}
	vm_free(engine, key);
	if (VM(engine, JS_HasException, engine->context))
		exception_clear(engine);
	VM(engine, JS_Throw, engine->context, error);
}

static void run_text(void *arg)
{
	struct exception_call *call = arg;

	describe(call, value_of(call->engine, call->value), 0);
}

char *js_exception_text(struct js_engine *engine, js_value exception)
{
	static char nothing[] = "out of memory";
	struct exception_call call = {.engine = engine, .value = exception};

	if (exception)
		engine_enter(engine, run_text, &call);
	if (engine->trap[0]) {
		free(call.out);
		if (asprintf(&call.out, "the JavaScript engine was stopped: %s", engine->trap) < 0)
			call.out = NULL;
	}
	if (!call.out)
		call.out = strdup(nothing);
	while (!call.out) /* never NULL: wait until there is memory for the text */
		call.out = malloc(1) ? strdup("") : NULL;
	return call.out;
}
