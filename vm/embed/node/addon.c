/* SPDX-License-Identifier: MIT */
/*
 * addon.c - what index.js calls. Each function takes a VM or a snapshot first, an object that open() or a function which makes snapshots
 * has put a struct behind; index.js shows those to nobody. A VM that is not closed is closed when its object is collected, or when
 * the thread ends.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addon.h"

#define VM_BYTES (1 << 20) /* what the collector is told that one costs */

/* Unless something is pending: what the library says of its failure, with the value that was thrown. */
static napi_value throw_error(struct binding *binding, const struct thaw_error *error)
{
	napi_env env = binding->env;
	napi_value value = NULL;
	thaw_vm_value thrown;
	struct thaw_error none;
	bool pending = false;

	napi_is_exception_pending(env, &pending);
	if (pending || binding->terminated)
		return NULL;
	if (error->code == THAW_VM_EEXCEPTION && (thrown = thaw_vm_exception(binding->vm))) {
		value = value_out(env, binding->vm, thrown, &none);
		thaw_vm_free(binding->vm, thrown);
		if (!value) /* no data: the text has to do */
			napi_get_and_clear_last_exception(env, &value), value = NULL;
	}
	return throw_failure(env, error->code ? error->code : -EIO, error->text, value);
}

/* ---- Calls ---- */

bool call_begin(struct call *call, napi_env env, napi_callback_info info)
{
	struct binding *binding = NULL;

	*call = (struct call){.env = env, .count = ARGUMENTS_MAX};
	napi_get_cb_info(env, info, &call->count, call->arguments, NULL, NULL);
	if (napi_unwrap(env, call->arguments[0], (void **)&binding) || !binding || !binding->vm) {
		throw_failure(env, -EBADF, "the VM is closed", NULL);
		return false;
	}
	call->binding = binding;
	call->outer = binding->self;
	binding->self = call->arguments[0];
	binding->depth++;
	return true;
}

napi_value call_end(struct call *call, napi_value result, int code)
{
	struct binding *binding = call->binding;
	napi_value failure;
	bool pending = false;

	napi_is_exception_pending(call->env, &pending);
	if (code < 0 && !pending)
		throw_error(binding, &call->error);
	binding->self = call->outer;
	if (--binding->depth || !binding->failure)
		return result;
	napi_is_exception_pending(call->env, &pending);
	if (!pending && !napi_get_reference_value(call->env, binding->failure, &failure))
		napi_throw(call->env, failure);
	napi_delete_reference(call->env, binding->failure);
	binding->failure = NULL;
	return result;
}

char *text_of(napi_env env, napi_value value, size_t *bytes)
{
	size_t length;
	char *text;

	if (napi_get_value_string_utf8(env, value, NULL, 0, &length)) {
		napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "a string is needed");
		return NULL;
	}
	text = malloc(length + 1);
	if (!text) {
		napi_throw_error(env, "ENOMEM", "out of memory");
		return NULL;
	}
	napi_get_value_string_utf8(env, value, text, length + 1, &length);
	if (bytes) {
		*bytes = length;
	} else if (strlen(text) < length) { /* it would name another thing */
		free(text);
		napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE",
				      "a name or path must not have a null character in it");
		return NULL;
	}
	return text;
}

/* What a promise becomes is index.js's matter. Consumes the handle. */
static napi_value adopt(struct call *call, thaw_vm_value promise)
{
	napi_value arguments[2] = {call->arguments[0], number_new(call->env, promise)};

	return helper_call(call->env, HELPER_ADOPT, 2, arguments);
}

/* ---- Opening and closing ---- */

static int binding_close(struct binding *binding)
{
	int code = 0;

	registry_remove(binding->id);
	binding->id = 0;
	code = thaw_vm_close(binding->vm);
	if (code)
		return code;
	binding->vm = NULL;
	free(binding->functions);
	binding->functions = NULL;
	return 0;
}

static void binding_finalize(napi_env env, void *data, void *hint)
{
	struct binding *binding = data;
	int64_t now;

	(void)hint;
	if (binding->vm) {
		binding_close(binding);
		napi_adjust_external_memory(env, -VM_BYTES, &now);
	}
	if (binding->failure)
		napi_delete_reference(env, binding->failure);
	free(binding);
}

static napi_value property(napi_env env, napi_value object, const char *name)
{
	napi_value value = NULL;
	napi_valuetype type;

	if (napi_get_named_property(env, object, name, &value) || napi_typeof(env, value, &type) ||
	    type == napi_undefined)
		return NULL;
	return value;
}

/* Names in an array of JavaScript, malloc'ed. */
static bool name_functions(napi_env env, napi_value names, struct binding *binding,
			   struct thaw_vm_function *functions)
{
	for (unsigned i = 0; i < binding->function_count; i++) {
		napi_value name;

		if (napi_get_element(env, names, i, &name) ||
		    !(functions[i].name = text_of(env, name, NULL)))
			return false;
		binding->functions[i] = (struct host_function){binding, i};
		functions[i].call = host_call;
		functions[i].arg = &binding->functions[i];
	}
	return true;
}

/* An array; NULL: they cannot be told. */
static napi_value missing_names(napi_env env, const struct thaw_vm_options *options)
{
	struct thaw_error error;
	napi_value list = NULL;
	char **names = NULL;
	int count = thaw_vm_missing(options, &names, &error);

	if (count > 0 && !napi_create_array(env, &list))
		for (int i = 0; i < count; i++)
			napi_set_element(env, list, (uint32_t)i,
					 text_new(env, names[i], strlen(names[i])));
	if (count > 0)
		free(names);
	return list;
}

static void open_with(napi_env env, napi_value given, struct binding *binding,
		      struct thaw_vm_options *options)
{
	napi_value names = property(env, given, "functions");
	struct thaw_vm_function *functions;
	struct thaw_error error = {0};
	uint32_t count = 0;
	int code;

	if (names)
		napi_get_array_length(env, names, &count);
	functions = calloc(count + 1, sizeof(*functions));
	binding->functions = calloc(count + 1, sizeof(*binding->functions));
	binding->function_count = count;
	options->functions = functions;
	options->function_count = count;
	if (!functions || !binding->functions) {
		napi_throw_error(env, "ENOMEM", "out of memory");
	} else if (name_functions(env, names, binding, functions)) {
		code = thaw_vm_open(options, &binding->vm, &error);
		if (!code && error.code) /* another generation than the newest was opened */
			napi_set_named_property(env, binding->self, "warning",
						text_new(env, error.text, strlen(error.text)));
		if (code) {
			binding->vm = NULL;
			throw_failure(env, code, error.text,
				      code == THAW_VM_EMISSING ? missing_names(env, options)
							       : NULL);
		}
	}
	for (uint32_t i = 0; functions && i < count; i++)
		free((char *)functions[i].name);
	free(functions);
}

/* (VM, { image, at, flags, retain, maxBytes, turnMs, maxLogBytes, functions: names, log, load, resolve, snapshot }): its number. */
static napi_value vm_open(napi_env env, napi_callback_info info)
{
	struct thaw_vm_options options = {.size = sizeof(options)};
	struct binding *binding = calloc(1, sizeof(*binding));
	napi_value arguments[2], value, result = NULL;
	size_t count = 2;
	int64_t now;
	char *image = NULL, *at = NULL;
	bool good = true;

	if (!binding) {
		napi_throw_error(env, "ENOMEM", "out of memory");
		return NULL;
	}
	napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
	binding->env = env;
	binding->self = arguments[0];
	options.arg = binding;
	if ((value = property(env, arguments[1], "image")))
		good = (options.image = image = text_of(env, value, NULL)) != NULL;
	if ((value = property(env, arguments[1], "at")))
		good = good && (options.at = at = text_of(env, value, NULL)) != NULL;
	if ((value = property(env, arguments[1], "maxBytes")))
		options.max_bytes = (size_t)number_of(env, value);
	if ((value = property(env, arguments[1], "turnMs")))
		options.turn_ns = (uint64_t)(number_of(env, value) * 1e6);
	if (property(env, arguments[1], "log"))
		options.log = host_log;
	if (property(env, arguments[1], "load"))
		options.load_module = host_load;
	if (property(env, arguments[1], "resolve"))
		options.resolve_module = host_resolve;
	if ((value = property(env, arguments[1], "maxLogBytes")))
		options.max_log_bytes = (uint64_t)number_of(env, value);
	if ((value = property(env, arguments[1], "flags")))
		options.flags = (unsigned)number_of(env, value);
	if ((value = property(env, arguments[1], "retain")))
		options.retain = (unsigned)number_of(env, value);
	options.poll = host_poll;
	if ((value = property(env, arguments[1], "snapshot")))
		good = good && (options.snapshot = snapshot_inside(env, value)) != NULL;
	if (good)
		open_with(env, arguments[1], binding, &options);
	free(image);
	free(at);
	binding->self = NULL;
	if (!binding->vm || napi_wrap(env, arguments[0], binding, binding_finalize, NULL, NULL)) {
		if (binding->vm)
			binding_close(binding);
		free(binding->functions);
		free(binding);
		return NULL;
	}
	binding->id = registry_add(binding->vm);
	napi_adjust_external_memory(env, VM_BYTES, &now);
	result = number_new(env, (double)binding->id);
	return result;
}

static napi_value vm_close(napi_env env, napi_callback_info info)
{
	struct call call;
	int64_t now;
	int code;

	if (!call_begin(&call, env, info))
		return NULL;
	code = call.binding->depth > 1 ? -EBUSY : binding_close(call.binding);
	if (code)
		snprintf(call.error.text, sizeof(call.error.text), "%s",
			 code == -EBUSY ? "a VM cannot be closed inside of one of its calls"
					: thaw_vm_strerror(code));
	else
		napi_adjust_external_memory(env, -VM_BYTES, &now);
	call.error.code = code;
	return call_end(&call, undefined_value(env), code);
}

/* ---- Running ---- */

/* (VM, code, name, module): the completion value. */
static napi_value vm_eval(napi_env env, napi_callback_info info)
{
	thaw_vm_value value = 0;
	napi_value result = NULL;
	struct call call;
	char *code = NULL, *name = NULL;
	bool module = false;
	size_t bytes;
	int failed = 0;

	if (!call_begin(&call, env, info))
		return NULL;
	napi_get_value_bool(env, call.arguments[3], &module);
	code = text_of(env, call.arguments[1], &bytes);
	name = code ? text_of(env, call.arguments[2], NULL) : NULL;
	if (name)
		failed = thaw_vm_eval(call.binding->vm, code, bytes, name,
				      module ? THAW_VM_MODULE : 0, &value, &call.error);
	if (name && !failed) {
		if (thaw_vm_kind(call.binding->vm, value) == THAW_VM_A_PROMISE) {
			result = adopt(&call, value);
		} else {
			result = value_out(env, call.binding->vm, value, &call.error);
			thaw_vm_free(call.binding->vm, value);
			failed = result ? 0 : -1;
		}
	}
	free(name);
	free(code);
	return call_end(&call, result, failed);
}

/* (VM, name, arguments): what the function returns. */
static napi_value vm_call(napi_env env, napi_callback_info info)
{
	struct block block = {0};
	thaw_vm_value promise;
	napi_value result = NULL;
	const uint8_t *at;
	struct call call;
	uint32_t count = 0;
	size_t bytes;
	void *data = NULL;
	bool good;
	char *name;
	int code = 0;

	if (!call_begin(&call, env, info))
		return NULL;
	name = text_of(env, call.arguments[1], NULL);
	good = name && !napi_get_array_length(env, call.arguments[2], &count);
	for (uint32_t i = 0; good && i < count; i++) {
		napi_value item;

		good = !napi_get_element(env, call.arguments[2], i, &item) &&
		       values_write(env, item, &block);
	}
	if (good)
		code = thaw_vm_call_packed(call.binding->vm, name, block.data, block.bytes, count,
					   &data, &bytes, &promise, &call.error);
	free(block.data);
	free(name);
	if (good && !code && promise) {
		result = adopt(&call, promise);
	} else if (good && !code) {
		at = data;
		result = values_read(env, &at, at + bytes);
	}
	free(data);
	return call_end(&call, result, code);
}

/* (VM, handle): 1 waits, 2 fulfilled, 3 rejected. */
static napi_value vm_promise(napi_env env, napi_callback_info info)
{
	struct call call;
	int state;

	if (!call_begin(&call, env, info))
		return NULL;
	state = thaw_vm_promise(call.binding->vm, (thaw_vm_value)number_of(env, call.arguments[1]),
				NULL);
	return call_end(&call, number_new(env, state), 0);
}

/* (VM, handle of a promise): what it came to, which is thrown if it was rejected; the handle is gone. */
static napi_value vm_outcome(napi_env env, napi_callback_info info)
{
	thaw_vm_value promise, value;
	napi_value result;
	struct call call;
	int state;

	if (!call_begin(&call, env, info))
		return NULL;
	promise = (thaw_vm_value)number_of(env, call.arguments[1]);
	state = thaw_vm_promise(call.binding->vm, promise, &value);
	result = value_out(env, call.binding->vm, value, &call.error);
	thaw_vm_free(call.binding->vm, value);
	thaw_vm_free(call.binding->vm, promise);
	if (result && state != THAW_VM_FULFILLED) {
		throw_failure(env, THAW_VM_EEXCEPTION, "rejected", result);
		result = NULL;
	}
	return call_end(&call, result, call.error.code);
}

static napi_value vm_step(napi_env env, napi_callback_info info)
{
	struct call call;
	int ran;

	if (!call_begin(&call, env, info))
		return NULL;
	ran = thaw_vm_step(call.binding->vm, &call.error);
	return call_end(&call, number_new(env, ran), ran);
}

/* Milliseconds; Infinity. */
static napi_value vm_next_due(napi_env env, napi_callback_info info)
{
	struct call call;
	uint64_t due;

	if (!call_begin(&call, env, info))
		return NULL;
	due = thaw_vm_next_due(call.binding->vm);
	return call_end(&call,
			number_new(env, due == UINT64_MAX ? (double)INFINITY : (double)due / 1e6),
			0);
}

/* (number of a VM, of any thread): was there one? */
static napi_value interrupt(napi_env env, napi_callback_info info)
{
	napi_value argument, result = NULL;
	size_t count = 1;

	napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
	napi_get_boolean(env, registry_interrupt((uint64_t)number_of(env, argument)), &result);
	return result;
}

/* ---- Snapshots ---- */

static napi_value vm_snapshot(napi_env env, napi_callback_info info)
{
	struct thaw_vm_snapshot *snapshot;
	struct call call;
	int code;

	if (!call_begin(&call, env, info))
		return NULL;
	code = thaw_vm_snapshot(call.binding->vm, &snapshot, &call.error);
	return call_end(&call, code ? NULL : snapshot_object(env, snapshot), code);
}

static napi_value vm_rollback(napi_env env, napi_callback_info info)
{
	struct thaw_vm_snapshot *snapshot;
	struct call call;
	int code = 0;

	if (!call_begin(&call, env, info))
		return NULL;
	snapshot = snapshot_inside(env, call.arguments[1]);
	if (snapshot)
		code = thaw_vm_rollback(call.binding->vm, snapshot, &call.error);
	return call_end(&call, undefined_value(env), code);
}

/* ---- The addon ---- */

static void instance_free(napi_env env, void *data, void *hint)
{
	struct instance *instance = data;

	(void)hint;
	for (unsigned i = 0; i < HELPER_COUNT; i++)
		if (instance->helpers[i])
			napi_delete_reference(env, instance->helpers[i]);
	free(instance);
}

/* (an array of functions, as enum helper has them) */
static napi_value setup(napi_env env, napi_callback_info info)
{
	struct instance *instance;
	napi_value argument, function;
	size_t count = 1;

	napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
	napi_get_instance_data(env, (void **)&instance);
	for (unsigned i = 0; i < HELPER_COUNT; i++)
		if (!instance->helpers[i] &&
		    (napi_get_element(env, argument, i, &function) ||
		     napi_create_reference(env, function, 1, &instance->helpers[i])))
			return NULL;
	return undefined_value(env);
}

static const struct {
	const char *name;
	napi_callback call;
} exported[] = {
	{"setup", setup},
	{"open", vm_open},
	{"close", vm_close},
	{"eval", vm_eval},
	{"call", vm_call},
	{"promise", vm_promise},
	{"outcome", vm_outcome},
	{"step", vm_step},
	{"nextDue", vm_next_due},
	{"interrupt", interrupt},
	{"tickets", addon_vm_tickets},
	{"ticketCall", addon_vm_ticket_call},
	{"settle", addon_vm_settle},
	{"checkpoint", addon_vm_checkpoint},
	{"beginCheckpoint", addon_vm_checkpoint_begin},
	{"pollCheckpoint", addon_vm_checkpoint_poll},
	{"context", addon_vm_context},
	{"use", addon_vm_use},
	{"usage", addon_vm_usage},
	{"collect", addon_vm_collect},
	{"generations", addon_generations},
	{"snapshot", vm_snapshot},
	{"rollback", vm_rollback},
	{"id", addon_snapshot_id},
	{"bytes", addon_snapshot_bytes},
	{"openSnapshot", addon_snapshot_open},
	{"bytesLater", addon_snapshot_bytes_later},
	{"openSnapshotLater", addon_snapshot_open_later},
	{"drop", addon_snapshot_drop},
	{"send", addon_snapshot_send},
	{"receive", addon_snapshot_receive},
};

NAPI_MODULE_EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
	struct instance *instance = calloc(1, sizeof(*instance));

	if (!instance || napi_set_instance_data(env, instance, instance_free, NULL)) {
		free(instance);
		napi_throw_error(env, "ENOMEM", "out of memory");
		return NULL;
	}
	for (unsigned i = 0; i < sizeof(exported) / sizeof(*exported); i++) {
		napi_value function;

		if (napi_create_function(env, exported[i].name, NAPI_AUTO_LENGTH, exported[i].call,
					 NULL, &function) ||
		    napi_set_named_property(env, exports, exported[i].name, function))
			return NULL;
	}
	return exports;
}
