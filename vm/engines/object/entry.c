// SPDX-License-Identifier: MIT
/*
 * entry.c - the way into an engine that is a shared object, and out of it: the functions that the rest of it calls by
 * their names lead into the table of whoever has loaded it. Part of the object only (vm/engine.mk).
 *
 * Where that is libthawvm, the guest's owner is in the object, too: vm/embed of its time, whose owner_*() are compiled
 * under other names (vm_owner_*(), which are made of the list in calls.h).
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engines/calls.h"
#include "js/engine/engine.h"

extern const struct vm_table own_vm_table;

static const struct engine_calls *calls;

#define ENGINE_FORWARD(type, name, parameters, arguments) \
	type name parameters                              \
	{                                                 \
		return calls->name arguments;             \
	}
ENGINE_CALLS(ENGINE_FORWARD)

ENGINE_FORWARD_TELL(calls->owner_tell)

const struct engine_object *thaw_engine_object(const struct engine_calls *given);

__attribute__((visibility("default"))) const struct engine_object *thaw_engine_object(
	const struct engine_calls *given)
{
	static const struct engine_object object = {sizeof(object), GUEST_ABI, js_engine_identity,
						    &javascript_guest};
	static const struct engine_object misfit = {sizeof(misfit), GUEST_ABI, js_engine_identity,
						    NULL};

	if (given->abi != GUEST_ABI || given->size < sizeof(*given))
		return &misfit;
	calls = given;
	return &object;
}

/* ---- libthawvm */

void vm_owner_tell(struct runtime *rt, const char *format, ...);
#define ENGINE_OWN_OWNER(type, name, parameters, arguments) type vm_##name parameters;
ENGINE_OWNER_CALLS(ENGINE_OWN_OWNER)

const struct vm_table *thaw_engine_vm(const struct engine_calls *given);

__attribute__((visibility("default"))) const struct vm_table *thaw_engine_vm(
	const struct engine_calls *given)
{
	static struct engine_calls own;

	if (given->abi != GUEST_ABI || given->size < sizeof(*given))
		return NULL;
	own = *given;
	own.owner_tell = vm_owner_tell;
#define ENGINE_TAKE_OWN(type, name, parameters, arguments) own.name = vm_##name;
	ENGINE_OWNER_CALLS(ENGINE_TAKE_OWN)
	calls = &own;
	return &own_vm_table;
}
