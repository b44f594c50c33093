/* SPDX-License-Identifier: MIT */
/*
 * no_failures.c - the library injects no failures. A separate file, so that a test that is linked
 * with tests/inject/inject.c gets that one instead, from the same library.
 */
#include "sys.h"

int sys_injected(enum sys_call call)
{
	(void)call;
	return 0;
}
