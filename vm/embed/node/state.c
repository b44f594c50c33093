/* SPDX-License-Identifier: MIT */
/*
 * state.c - what index.js asks about the state of a VM: tickets that wait, generations of its image, contexts, memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addon.h"

/* ---- Tickets ---- */

napi_value addon_vm_tickets(napi_env env, napi_callback_info info)
{
	uint64_t *tickets = NULL;
	napi_value list = NULL;
	struct call call;
	int count;

	if (!call_begin(&call, env, info))
		return NULL;
	count = thaw_vm_tickets(call.binding->vm, NULL, 0, &call.error);
	if (count > 0) {
		tickets = calloc((size_t)count, sizeof(*tickets));
		if (tickets)
			count = thaw_vm_tickets(call.binding->vm, tickets, (unsigned)count,
						&call.error);
	}
	if (count >= 0 && !napi_create_array(env, &list))
		for (int i = 0; tickets && i < count; i++)
			napi_set_element(env, list, (uint32_t)i,
					 number_new(env, (double)tickets[i]));
	free(tickets);
	return call_end(&call, list, count);
}

/* (VM, ticket): [name of the function, arguments]. */
napi_value addon_vm_ticket_call(napi_env env, napi_callback_info info)
{
	thaw_vm_value arguments;
	napi_value list = NULL, given;
	struct call call;
	char *name;
	int code;

	if (!call_begin(&call, env, info))
		return NULL;
	code = thaw_vm_ticket_call(call.binding->vm, (uint64_t)number_of(env, call.arguments[1]),
				   &name, &arguments, &call.error);
	if (!code) {
		given = value_out(env, call.binding->vm, arguments, &call.error);
		code = given ? 0 : -1;
		if (given && !napi_create_array(env, &list)) {
			napi_set_element(env, list, 0, text_new(env, name, strlen(name)));
			napi_set_element(env, list, 1, given);
		}
		thaw_vm_free(call.binding->vm, arguments);
		free(name);
	}
	return call_end(&call, list, code);
}

/* (VM, ticket, failed, value): true; false if none of that number waits. */
napi_value addon_vm_settle(napi_env env, napi_callback_info info)
{
	thaw_vm_value value;
	bool failed = false;
	napi_value result = NULL;
	struct call call;
	uint64_t ticket;
	int code = 0;

	if (!call_begin(&call, env, info))
		return NULL;
	ticket = (uint64_t)number_of(env, call.arguments[1]);
	napi_get_value_bool(env, call.arguments[2], &failed);
	value = value_in(env, call.binding->vm, call.arguments[3], &call.error);
	if (!value)
		return call_end(&call, NULL, call.error.code);
	code = failed ? thaw_vm_reject(call.binding->vm, ticket, value, &call.error)
		      : thaw_vm_settle(call.binding->vm, ticket, value, NULL, &call.error);
	thaw_vm_free(call.binding->vm, value);
	napi_get_boolean(env, !code, &result);
	return call_end(&call, result, code == -ENOENT ? 0 : code);
}

/* ---- Generations and contexts ---- */

/* (VM, name or undefined). False: the call is over. */
static bool named_begin(struct call *call, napi_env env, napi_callback_info info, char **name)
{
	napi_valuetype type;

	*name = NULL;
	if (!call_begin(call, env, info))
		return false;
	napi_typeof(env, call->arguments[1], &type);
	if (type != napi_string || (*name = text_of(env, call->arguments[1], NULL)))
		return true;
	call_end(call, NULL, 0);
	return false;
}

napi_value addon_vm_checkpoint(napi_env env, napi_callback_info info)
{
	uint64_t generation = 0;
	struct call call;
	char *name;
	int code;

	if (!named_begin(&call, env, info, &name))
		return NULL;
	code = thaw_vm_checkpoint(call.binding->vm, name, &generation, &call.error);
	free(name);
	return call_end(&call, number_new(env, (double)generation), code);
}

/* In the background. */
napi_value addon_vm_checkpoint_begin(napi_env env, napi_callback_info info)
{
	struct call call;
	char *name;
	int code;

	if (!named_begin(&call, env, info, &name))
		return NULL;
	code = thaw_vm_checkpoint_begin(call.binding->vm, name, &call.error);
	free(name);
	return call_end(&call, undefined_value(env), code);
}

/* (VM): its number; 0: it is under way. */
napi_value addon_vm_checkpoint_poll(napi_env env, napi_callback_info info)
{
	uint64_t generation = 0;
	struct call call;
	int code;

	if (!call_begin(&call, env, info))
		return NULL;
	code = thaw_vm_checkpoint_poll(call.binding->vm, &generation, &call.error);
	return call_end(&call, number_new(env, code > 0 ? (double)generation : 0), code);
}

/* (VM, name): the index, which is new if there was none of that name. */
napi_value addon_vm_context(napi_env env, napi_callback_info info)
{
	struct call call;
	char *name;
	int index;

	if (!call_begin(&call, env, info))
		return NULL;
	name = text_of(env, call.arguments[1], NULL);
	if (!name)
		return call_end(&call, NULL, 0);
	index = *name ? thaw_vm_context_find(call.binding->vm, name) : 0;
	if (index == -ENOENT)
		index = thaw_vm_context_new(call.binding->vm, name, &call.error);
	else if (index < 0)
		call.error = (struct thaw_error){.code = index, .text = "there is no context"};
	free(name);
	return call_end(&call, number_new(env, index), index);
}

napi_value addon_vm_use(napi_env env, napi_callback_info info)
{
	struct call call;
	int code;

	if (!call_begin(&call, env, info))
		return NULL;
	code = thaw_vm_context_use(call.binding->vm, (unsigned)number_of(env, call.arguments[1]),
				   &call.error);
	return call_end(&call, undefined_value(env), code);
}

/* ---- Of a VM, and of an image ---- */

static void set_number(napi_env env, napi_value object, const char *name, uint64_t number)
{
	napi_value value = number_new(env, (double)number);

	if (value)
		napi_set_named_property(env, object, name, value);
}

/* (VM): { heapBytes, liveBytes, turns }. */
napi_value addon_vm_usage(napi_env env, napi_callback_info info)
{
	struct thaw_vm_usage usage = {0};
	napi_value object = NULL;
	struct call call;
	int code;

	if (!call_begin(&call, env, info))
		return NULL;
	code = thaw_vm_usage(call.binding->vm, &usage);
	if (code) {
		call.error.code = code;
		snprintf(call.error.text, sizeof(call.error.text), "%s", thaw_vm_strerror(code));
	} else if (!napi_create_object(env, &object)) {
		set_number(env, object, "heapBytes", usage.heap_bytes);
		set_number(env, object, "liveBytes", usage.live_bytes);
		set_number(env, object, "turns", usage.turns);
	}
	return call_end(&call, object, code);
}

napi_value addon_vm_collect(napi_env env, napi_callback_info info)
{
	struct call call;
	int code;

	if (!call_begin(&call, env, info))
		return NULL;
	code = thaw_vm_collect(call.binding->vm, &call.error);
	return call_end(&call, undefined_value(env), code);
}

static napi_value generation_object(napi_env env, const struct thaw_vm_generation *generation)
{
	napi_value object, names;

	if (napi_create_object(env, &object))
		return NULL;
	set_number(env, object, "number", generation->number);
	set_number(env, object, "parent", generation->parent);
	set_number(env, object, "time", generation->time_ns / 1000000);
	set_number(env, object, "heapBytes", generation->heap_bytes);
	set_number(env, object, "bytesWritten", generation->bytes_written);
	names = text_new(env, generation->names, strlen(generation->names));
	if (names)
		napi_set_named_property(env, object, "names", names);
	return object;
}

/* (path of an image): an array. */
napi_value addon_generations(napi_env env, napi_callback_info info)
{
	struct thaw_vm_generation *list = NULL;
	napi_value argument, array = NULL;
	struct thaw_error error = {0};
	size_t count = 1;
	char *image;
	int found;

	napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
	image = text_of(env, argument, NULL);
	if (!image)
		return NULL;
	found = thaw_vm_generations(image, &list, &error);
	free(image);
	if (found < 0)
		return throw_failure(env, found, error.text, NULL);
	if (!napi_create_array(env, &array))
		for (int i = 0; i < found; i++)
			napi_set_element(env, array, (uint32_t)i, generation_object(env, &list[i]));
	free(list);
	return array;
}
