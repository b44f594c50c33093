/* SPDX-License-Identifier: MIT */
/*
 * already_written.h - exactly once into a regular file: how much of what is to be printed stands there already.
 *
 * A generation has what its program had printed and nobody had written yet, and where in the file that begins. Who goes
 * on from it may find some of it there: the process before was killed after it had written that. Others may have
 * written there, too: the program's children, the shell that started it, the next line of its script.
 */
#ifndef VM_BASE_ALREADY_WRITTEN_H
#define VM_BASE_ALREADY_WRITTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Not its device: after a reboot the same file system may have another number. */
struct file_place {
	uint64_t inode, at;
};

/* Where the next byte goes that is written to this descriptor. False: it is no regular file. */
bool file_place(int fd, struct file_place *place);

/*
 * How many of these bytes, from the first on, the file has from `from` on, up to where the next byte goes: all of them
 * that need not be written again. Lines that are not ours are passed over, if what is behind them is; a line of another's
 * that is the same as ours is taken for it. Without memory for the comparison it is none.
 */
size_t already_written(int fd, struct file_place from, const void *data, size_t bytes);

#endif
