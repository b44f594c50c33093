/* SPDX-License-Identifier: MIT */
#include "bridge.h"
#include "_cgo_export.h"

static thaw_vm_value call(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			  const thaw_vm_value *arguments)
{
	return thawvmCall((uintptr_t)thaw_vm_arg(vm), vm, (unsigned)(uintptr_t)arg, ticket, count,
			  (thaw_vm_value *)arguments);
}

static void print(void *arg, int fd, const char *text, size_t bytes)
{
	thawvmLog((uintptr_t)arg, fd, (char *)text, bytes);
}

static char *load(void *arg, const char *name, size_t *bytes)
{
	return thawvmLoad((uintptr_t)arg, (char *)name, bytes);
}

/* For free(3); NULL: no memory. */
static struct thaw_vm_function *fill(struct thaw_vm_options *to, const struct bridge_options *from,
				     uintptr_t handle)
{
	struct thaw_vm_function *functions = calloc(from->count + 1, sizeof(*functions));

	for (unsigned i = 0; functions && i < from->count; i++)
		functions[i] = (struct thaw_vm_function){from->names[i], call, (void *)(uintptr_t)i,
							 from->flags[i]};
	*to = (struct thaw_vm_options){
		.size = sizeof(*to),
		.image = from->image,
		.at = from->at,
		.max_bytes = from->max_bytes,
		.turn_ns = from->turn_ns,
		.max_log_bytes = from->max_log_bytes,
		.functions = functions,
		.function_count = from->count,
		.log = from->log ? print : NULL,
		.load_module = from->load_module ? load : NULL,
		.arg = (void *)handle,
		.snapshot = from->snapshot,
	};
	return functions;
}

int bridge_open(const struct bridge_options *options, uintptr_t handle, struct thaw_vm **vm,
		struct thaw_error *error)
{
	struct thaw_vm_options filled;
	struct thaw_vm_function *functions = fill(&filled, options, handle);
	int code = functions ? thaw_vm_open(&filled, vm, error) : -ENOMEM;

	free(functions);
	return code;
}

int bridge_missing(const struct bridge_options *options, char ***names, struct thaw_error *error)
{
	struct thaw_vm_options filled;
	struct thaw_vm_function *functions = fill(&filled, options, 0);
	int count = functions ? thaw_vm_missing(&filled, names, error) : -ENOMEM;

	free(functions);
	return count;
}
