/* SPDX-License-Identifier: MIT */
/*
 * boot.h - the boot image: the heap of a program that has not begun, made when Thaw was built (make.c), from which fresh
 * programs start instead of making it anew.
 *
 * It is part of the binary, and made by the very code that the binary has: another build's cannot come in its place. A
 * program's pages are copies: no image of a program refers to it.
 *
 *	offset	bytes
 *	0	4	magic "TBOO"
 *	4	4	memory pages (64 KiB)
 *	8	4	stack pointer
 *	12	4	handle of the prelude's entry function
 *	16	4	pieces: how many
 *	20	4	0
 *	24	4 * n	where each piece of BOOT_PIECE bytes lies in the heap, in units of BOOT_PIECE; all else is 0
 *		...	padding up to a multiple of 16
 *		...	the pieces
 */
#ifndef VM_JS_BOOT_H
#define VM_JS_BOOT_H

#include "js/engine/engine.h"

#define BOOT_PIECE 4096u

struct boot_header {
	char magic[4];
	uint32_t memory_pages, stack_pointer, enter, count, zero;
};

/* Where the pieces begin. */
static inline size_t boot_pieces_at(uint32_t count)
{
	return (sizeof(struct boot_header) + 4 * (size_t)count + 15) & ~(size_t)15;
}

/* In the binary (heap.S); in the program that makes it there are 0 bytes. */
extern const char boot_heap_start[];
extern const uint64_t boot_heap_bytes;

/*
 * A VM over a fresh heap, as js_engine_create() and host_install_prelude() make it; what is this process's (randomness) is
 * new. -ENOENT: there is no boot image.
 */
int boot_engine(struct thaw *heap, const struct js_host *host, struct js_engine **engine,
		js_value *enter, struct thaw_error *error);

#endif
