// SPDX-License-Identifier: MIT
/*
 * guest_owner.c - what this library's own guest asks of its owner (guest.h). The functions of this folder that answer are
 * compiled as vm_owner_*(), since in the shared object of an engine the names belong to whoever has loaded it
 * (vm/engines/object/entry.c).
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engines/calls.h"

#define FORWARD(type, name, parameters, arguments) \
	type vm_##name parameters;                 \
	type name parameters                       \
	{                                          \
		return vm_##name arguments;        \
	}
ENGINE_OWNER_CALLS(FORWARD)

void vm_owner_tell(struct runtime *rt, const char *format, ...);

ENGINE_FORWARD_TELL(vm_owner_tell)
