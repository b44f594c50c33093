/* SPDX-License-Identifier: MIT */
/* array.h - arrays that grow by one entry at a time. */
#ifndef VM_BASE_ARRAY_H
#define VM_BASE_ARRAY_H

#include <stddef.h>
#include <stdlib.h>

/*
 * Makes room for one more entry behind `count` of them. Returns where the array is now: the same place while
 * there was room (*room, in entries). NULL: no memory; the array is then what it was.
 */
static inline void *array_grow(void *array, size_t count, size_t *room, size_t entry_bytes)
{
	size_t wanted = *room ? *room + *room / 2 : 16;

	if (count < *room)
		return array;
	array = reallocarray(array, wanted, entry_bytes);
	if (array)
		*room = wanted;
	return array;
}

#endif
