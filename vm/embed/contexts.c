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
	return vm_sound(vm) ? js_context_find(vm_engine(vm), name) : -EPERM;
}

unsigned thaw_vm_context_count(struct thaw_vm *vm)
{
	return vm_sound(vm) ? js_context_count(vm_engine(vm)) : 0;
}

int thaw_vm_context_use(struct thaw_vm *vm, unsigned index, struct thaw_error *error)
{
	if (vm->depth)
		return failure(error, -EBUSY, "the context is chosen between two calls");
	if (index >= thaw_vm_context_count(vm))
		return failure(error, -ENOENT, "the VM has no context %u", index);
	vm->context = index;
	return 0;
}
