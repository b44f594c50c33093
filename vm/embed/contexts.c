/* SPDX-License-Identifier: MIT */
/*
 * contexts.c - several programs in one VM. The engine has the contexts, in the heap (js/engine/contexts.c); here is which of them a
 * call works in.
 */
#include <errno.h>

#include "base/failure.h"
#include "embed.h"
#include "js/api/host.h"

int thaw_vm_context_new(struct thaw_vm *vm, const char *name, struct thaw_error *error)
{
	struct js_engine *engine;
	unsigned before;
	bool good = true;
	int code, index;

	code = vm_mine(vm, error);
	if (code)
		return code;
	if (vm->depth)
		return failure(error, -EBUSY, "a context is made between two calls");
	code = vm_enter(vm, error);
	if (code)
		return code;
	engine = vm_engine(vm);
	index = host_new_context(engine, name);
	if (index >= 0) {
		before = js_context_select(engine, (unsigned)index);
		good = functions_install_all(vm);
		js_context_select(engine, before);
	}
	code = vm_leave(vm, !good || index == -EIO, error);
	if (code)
		return code;
	return index >= 0 ? index
			  : failure(error, index, "cannot make the context '%s': %s",
				    name ? name : "", thaw_strerror(index));
}

int thaw_vm_context_find(struct thaw_vm *vm, const char *name)
{
	return vm_sound(vm) ? js_context_find(vm_engine(vm), name) : -EBUSY;
}

unsigned thaw_vm_context_count(struct thaw_vm *vm)
{
	return vm_sound(vm) ? js_context_count(vm_engine(vm)) : 0;
}

int thaw_vm_context_use(struct thaw_vm *vm, unsigned index, struct thaw_error *error)
{
	int code = vm_mine(vm, error);

	if (code)
		return code;
	if (index >= thaw_vm_context_count(vm))
		return failure(error, -ENOENT, "the VM has no context %u", index);
	if (!vm->depth)
		vm->context = index;
	else /* for this host function, which functions_call() takes it back from */
		js_context_select(vm_engine(vm), index);
	return 0;
}

const char *thaw_vm_context_name(struct thaw_vm *vm, unsigned index, char name[64])
{
	*name = '\0';
	if (vm_sound(vm) && index < js_context_count(vm_engine(vm)))
		js_context_name(vm_engine(vm), index, name);
	return name;
}
