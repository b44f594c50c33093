/* SPDX-License-Identifier: MIT */
/* array.h - arrays that grow by one entry at a time. */
#ifndef VM_BASE_ARRAY_H
#define VM_BASE_ARRAY_H

#include <stddef.h>
#include <stdlib.h>

/*
 * Makes room for one entry after the first `count`. *room is how many there is memory for. Returns
 * the array, which may have moved. NULL: no memory; the old array is unchanged.
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
