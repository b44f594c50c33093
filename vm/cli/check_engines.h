/* SPDX-License-Identifier: MIT */
/* check_engines.h - which engines of JavaScript there are: the one of this build, and shared objects of others. */
#ifndef VM_CLI_CHECK_ENGINES_H
#define VM_CLI_CHECK_ENGINES_H

#include "base/json.h"

/* A table for thaw check, and what it has in JSON: an array "engines". */
void engines_print(void);
void engines_json(struct json *json);
/* A line for each that is not this build's, for thaw --version; nothing if there is none. */
void engines_version(void);

#endif
