/* SPDX-License-Identifier: MIT */
/*
 * numbers.h - a set of 64-bit keys, numbered from 0 in the order they came. One thread.
 *
 * Keys are addresses in a heap, or made of them. Neighbours in the heap are neighbours in the table, for the
 * sake of the cache; which ones meet in one place besides is different in every process, so that nobody can
 * make a heap whose objects all do.
 */
#ifndef VM_CLI_NUMBERS_H
#define VM_CLI_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_NONE UINT32_MAX

struct numbers { /* all zero: empty */
	uint64_t *keys;
	uint64_t *table; /* a part of the key, and its number + 1; 0: free */
	size_t count, room, slots;
	uint64_t salt;
};

/* NUMBER_NONE: it is not there. */
uint32_t numbers_find(const struct numbers *numbers, uint64_t key);
/* The key's number, new or not; NUMBER_NONE: no memory. */
uint32_t numbers_add(struct numbers *numbers, uint64_t key);
void numbers_free(struct numbers *numbers);

#endif
