/* SPDX-License-Identifier: MIT */
/* level.h - what the files that make levels of the index share. */
#ifndef VM_STORE_LEVEL_H
#define VM_STORE_LEVEL_H

#include "store/index.h"

/* The order of objects in a level: by n, kind, k and epoch. */
int object_compare(const struct store_object *a, const struct store_object *b);

#endif
