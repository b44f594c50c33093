// SPDX-License-Identifier: MIT
/* table.c - the functions of this library as a table (table.h): the one that its own VMs and snapshots have. */
#include "table.h"

#include "embed.h"
#include "guest.h"

#define OWN(type, name, parameters, ...) type own_##name parameters;
VM_TABLE(OWN, OWN, OWN)

const struct vm_table own_vm_table = {.size = sizeof(own_vm_table),
				      .abi = GUEST_ABI,
				      .options_bytes = sizeof(struct thaw_vm_options),
				      .function_bytes = sizeof(struct thaw_vm_function),
				      .identity = js_engine_identity,
#define OWN_ADDRESS(type, name, ...) .name = own_##name,
				      VM_TABLE(OWN_ADDRESS, OWN_ADDRESS, OWN_ADDRESS)};
