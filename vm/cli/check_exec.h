/* SPDX-License-Identifier: MIT */
/* check_exec.h - thaw check exec, for thaw check. One thread. */
#ifndef VM_CLI_CHECK_EXEC_H
#define VM_CLI_CHECK_EXEC_H

#include "cli.h"

/* Tries and tells all of it. Returns an exit code. */
int check_exec(const struct cli_options *options);
/* The number behind `field` in a file of /proc, or at its beginning (NULL); -1: it is not there. */
long long check_number(const char *path, const char *field, int base);

#endif
