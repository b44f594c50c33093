/* SPDX-License-Identifier: MIT */
/* manual.h - the pages of the manual, see manual.c. */
#ifndef VM_CLI_MANUAL_H
#define VM_CLI_MANUAL_H

#include <stdbool.h>
#include <stdio.h>

/*
 * The source of a page, for man(1): of a command, of thaw(1) ("thaw") or of thaw(7) ("concepts"). False: there is no such page, and nothing
 * was written.
 */
bool manual_page(FILE *to, const char *name);

#endif
