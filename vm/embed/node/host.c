/* SPDX-License-Identifier: MIT */
/*
 * host.c - what a VM calls in Node: host functions, its output, and the source of modules. Always inside of a call of index.js, on its
 * thread. What a host function throws is thrown in the VM, with its name and message; a Promise of its becomes a ticket.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "addon.h"

/*
 * The exception of JavaScript that is pending, taken. NULL: there is none, since JavaScript can run no more here (a worker that is
 * terminated): then neither shall the VM.
 */
static napi_value taken(struct binding *binding)
{
	napi_value thrown = NULL;
	bool pending = false;

	napi_is_exception_pending(binding->env, &pending);
	if (pending && !napi_get_and_clear_last_exception(binding->env, &thrown) && thrown)
		return thrown;
	binding->terminated = true;
	thaw_vm_interrupt(binding->vm);
	return NULL;
}

/* What was thrown here goes on in the VM. */
static thaw_vm_value rethrow(struct binding *binding)
{
	struct thaw_error error = {0};
	napi_value thrown = taken(binding);
	thaw_vm_value value;

	if (!thrown)
		return thaw_vm_throw(binding->vm, "Error", "the thread of the host is ending");
	value = value_in(binding->env, binding->vm, thrown, &error);
	if (!value) { /* it is no data: what it says */
		char text[200];

		taken(binding);
		if (napi_coerce_to_string(binding->env, thrown, &thrown) ||
		    napi_get_value_string_utf8(binding->env, thrown, text, sizeof(text), NULL)) {
			taken(binding);
			strcpy(text, "a host function has failed");
		}
		return thaw_vm_throw(binding->vm, "Error", text);
	}
	thaw_vm_throw_value(binding->vm, value);
	thaw_vm_free(binding->vm, value);
	return 0;
}

/* An exception of the VM's, or what else there is. */
static thaw_vm_value throw_again(struct thaw_vm *vm, const struct thaw_error *error)
{
	thaw_vm_value thrown = thaw_vm_exception(vm);

	if (!thrown)
		return thaw_vm_throw(vm, "Error", error->text);
	thaw_vm_throw_value(vm, thrown);
	thaw_vm_free(vm, thrown);
	return 0;
}

/* A promise of the VM's for one of Node's. */
static thaw_vm_value promised(struct binding *binding, napi_value promise)
{
	napi_env env = binding->env;
	napi_value arguments[3] = {binding->self, NULL, promise};
	uint64_t ticket;
	thaw_vm_value ours = thaw_vm_ticket(binding->vm, &ticket);

	if (!ours)
		return thaw_vm_throw(binding->vm, "InternalError", "out of memory");
	arguments[1] = number_new(env, (double)ticket);
	if (!arguments[1] || !helper_call(env, HELPER_WAIT, 3, arguments)) {
		thaw_vm_free(binding->vm, ours);
		return rethrow(binding);
	}
	return ours;
}

static thaw_vm_value run(struct binding *binding, unsigned index, size_t count,
			 const napi_value *arguments)
{
	napi_value function, undefined, result;
	struct thaw_error error = {0};
	napi_env env = binding->env;
	bool is_promise = false;
	thaw_vm_value value;

	if (napi_get_element(env, binding->self, index, &function) ||
	    napi_get_undefined(env, &undefined) ||
	    napi_call_function(env, undefined, function, count, arguments, &result))
		return rethrow(binding);
	if (!napi_is_promise(env, result, &is_promise) && is_promise)
		return promised(binding, result);
	value = value_in(env, binding->vm, result, &error);
	if (value)
		return value;
	return error.code ? throw_again(binding->vm, &error) : rethrow(binding);
}

thaw_vm_value host_call(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			const thaw_vm_value *values)
{
	const struct host_function *function = arg;
	struct binding *binding = function->binding;
	napi_value few[8], *arguments = few;
	struct thaw_error error = {0};
	napi_handle_scope scope;
	thaw_vm_value result;
	const uint8_t *at;
	bool good = true;
	size_t bytes;
	void *data;

	(void)ticket;
	if (thaw_vm_pack(vm, count, values, &data, &bytes, &error))
		return throw_again(vm, &error);
	if (count > 8)
		arguments = malloc(count * sizeof(*arguments));
	if (!arguments || napi_open_handle_scope(binding->env, &scope)) {
		free(data);
		return thaw_vm_throw(vm, "InternalError", "out of memory");
	}
	at = data;
	for (unsigned i = 0; good && i < count; i++)
		good = (arguments[i] = values_read(binding->env, &at, (uint8_t *)data + bytes));
	free(data);
	result = good ? run(binding, function->index, count, arguments) : rethrow(binding);
	napi_close_handle_scope(binding->env, scope);
	if (arguments != few)
		free(arguments);
	return result;
}

/* What log() throws is told at the end of the call: the program has no part in it. */
static void keep_failure(struct binding *binding)
{
	napi_value thrown = taken(binding);

	if (thrown && !binding->failure)
		napi_create_reference(binding->env, thrown, 1, &binding->failure);
}

void host_log(void *arg, int fd, const char *text, size_t bytes)
{
	struct binding *binding = arg;
	napi_env env = binding->env;
	napi_value log, undefined, arguments[2];
	napi_handle_scope scope;

	if (!binding->self || napi_open_handle_scope(env, &scope))
		return;
	arguments[0] = text_new(env, text, bytes);
	arguments[1] = number_new(env, fd);
	if (!arguments[0] || !arguments[1] ||
	    napi_get_named_property(env, binding->self, "log", &log) ||
	    napi_get_undefined(env, &undefined) ||
	    napi_call_function(env, undefined, log, 2, arguments, NULL))
		keep_failure(binding);
	napi_close_handle_scope(env, scope);
}

/* What a function of the VM's object says to some texts: a string, malloc'ed, or NULL for anything else. */
static char *ask(struct binding *binding, const char *which, unsigned count,
		 const char *const *texts, size_t *bytes)
{
	napi_env env = binding->env;
	napi_value function, undefined, arguments[2], result;
	napi_valuetype type = napi_undefined;
	napi_handle_scope scope;
	bool good = true;
	char *text = NULL;

	if (!binding->self || napi_open_handle_scope(env, &scope))
		return NULL;
	for (unsigned i = 0; good && i < count; i++)
		good = (arguments[i] = text_new(env, texts[i], strlen(texts[i])));
	if (!good || napi_get_named_property(env, binding->self, which, &function) ||
	    napi_get_undefined(env, &undefined) ||
	    napi_call_function(env, undefined, function, count, arguments, &result))
		keep_failure(binding);
	else if (!napi_typeof(env, result, &type) && type == napi_string &&
		 !napi_get_value_string_utf8(env, result, NULL, 0, bytes) &&
		 (text = malloc(*bytes + 1)) != NULL)
		napi_get_value_string_utf8(env, result, text, *bytes + 1, bytes);
	napi_close_handle_scope(env, scope);
	return text;
}

char *host_load(void *arg, const char *name, size_t *bytes)
{
	return ask(arg, "load", 1, &name, bytes);
}

char *host_resolve(void *arg, const char *importer, const char *name)
{
	const char *const texts[] = {name, importer};
	size_t bytes;

	return ask(arg, "resolve", 2, texts, &bytes);
}

/* A thread that is terminated runs no more JavaScript: nor shall what is in the VM go on for ever. */
bool host_poll(void *arg)
{
	struct binding *binding = arg;
	napi_handle_scope scope;
	napi_value none;

	if (!binding->self || napi_open_handle_scope(binding->env, &scope))
		return false;
	if (napi_get_named_property(binding->env, binding->self, "log", &none))
		binding->terminated = true;
	napi_close_handle_scope(binding->env, scope);
	return binding->terminated;
}
