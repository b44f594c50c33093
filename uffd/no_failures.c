/* SPDX-License-Identifier: MIT */
/*
 * no_failures.c - no system call fails on purpose. A file of its own, so that a test that is linked with
 * tests/inject/inject.c gets that instead, from the same library.
 */
#include "sys.h"

int sys_injected(enum sys_call call)
{
	(void)call;
	return 0;
}
