// SPDX-License-Identifier: GPL-2.0-only
/* older.c - an engine from when a guest's table had one function less, and that of VMs ended before contexts; it knows no option behind `snapshot`. */
#define thaw_engine_object whole_object
#include "engines/object/entry.c"
#undef thaw_engine_object

#include <stddef.h>

__attribute__((visibility("default"))) const struct engine_object *thaw_engine_object(
	const struct engine_calls *given);

const struct engine_object *thaw_engine_object(const struct engine_calls *given)
{
	static struct guest_type guest;
	static struct engine_object object;

	object = *whole_object(given);
	guest = javascript_guest;
	guest.size = offsetof(struct guest_type, upgrade);
	guest.upgrade = (void *)1; /* what lies behind it is something else */
	object.guest = &guest;
	return &object;
}

#define own_vm_table whole_vm_table
#include "embed/table.c"
#undef own_vm_table

extern const struct vm_table own_vm_table;
const struct vm_table own_vm_table = {.size = offsetof(struct vm_table, thaw_vm_context_new),
				      .abi = GUEST_ABI,
				      .options_bytes = offsetof(struct thaw_vm_options, snapshot) +
						       sizeof(void *),
				      .function_bytes = sizeof(struct thaw_vm_function),
				      .identity = js_engine_identity,
				      VM_TABLE(OWN_ADDRESS, OWN_ADDRESS, OWN_ADDRESS)};
