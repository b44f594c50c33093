// SPDX-License-Identifier: GPL-2.0-only
/* misfit.c - objects that do not fit: of another interface (OTHER_ABI), or of a newer version, which misses functions. */
#include "engines/calls.h"

const struct engine_object *thaw_engine_object(const struct engine_calls *calls);

const struct engine_object *thaw_engine_object(const struct engine_calls *calls)
{
	static const struct engine_object object = {
		.size = sizeof(object), .abi = GUEST_ABI + OTHER_ABI, .identity = "js-1 before"};

	(void)calls;
	return &object;
}
