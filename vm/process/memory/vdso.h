/* SPDX-License-Identifier: MIT */
/*
 * vdso.h - the vdso of one kernel, reached through a copy of another kernel's. A program has addresses of functions of
 * the vdso it was started with; in its copy each of them becomes a jump to the function of the same name.
 */
#ifndef VM_PROCESS_VDSO_H
#define VM_PROCESS_VDSO_H

#include <stddef.h>
#include <stdint.h>

/* This kernel's, as every process of it has it; NULL: none. */
const void *vdso_here(size_t *bytes);
/*
 * Make jumps of the functions of `old`, which lies at `old_address`, to those of `new` at `new_address`. NULL, or why
 * not: the rest of a sentence.
 */
const char *vdso_bridge(uint8_t *old, size_t old_bytes, uint64_t old_address, const uint8_t *new,
			size_t new_bytes, uint64_t new_address);

#endif
