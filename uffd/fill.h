/* SPDX-License-Identifier: MIT */
/*
 * fill.h - what the calls on files (sys.c) and the readers ask before they read or write one of which parts may be missing
 * (thaw_fill.h). While no file is attached to, each costs one look at a counter. See fill.c.
 */
#ifndef UFFD_FILL_H
#define UFFD_FILL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern _Atomic unsigned fill_count;

int fill_ask_need(int fd, uint64_t offset, uint64_t bytes);
bool fill_ask_has(int fd, uint64_t offset, uint64_t bytes);
int fill_ask_writes(int fd, uint64_t offset, uint64_t bytes);
/* All of the file is there, for who reads it by where it has holes. */
int fill_need_all(int fd);
/* Is the file attached to that has this name, or this descriptor? */
bool fill_is_at(const char *path);
bool fill_is_of(int fd);

static inline bool fill_any(void)
{
	return __builtin_expect(atomic_load_explicit(&fill_count, memory_order_acquire) != 0, 0);
}

/* These bytes are there, or a negative code; may wait. */
static inline int fill_need(int fd, uint64_t offset, uint64_t bytes)
{
	return fill_any() ? fill_ask_need(fd, offset, bytes) : 0;
}

/* Are they? Does not wait. */
static inline bool fill_has(int fd, uint64_t offset, uint64_t bytes)
{
	return !fill_any() || fill_ask_has(fd, offset, bytes);
}

/* They are going to be written, or given up: 0, or a negative code. */
static inline int fill_writes(int fd, uint64_t offset, uint64_t bytes)
{
	return fill_any() ? fill_ask_writes(fd, offset, bytes) : 0;
}

#endif
