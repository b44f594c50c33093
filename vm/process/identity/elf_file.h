/* SPDX-License-Identifier: MIT */
/*
 * elf_file.h - what the headers of a program or library say (elf(5)). 64-bit, little endian; any thread.
 */
#ifndef VM_PROCESS_ELF_FILE_H
#define VM_PROCESS_ELF_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct elf_file {
	bool elf;   /* it begins like one; nothing else is set if not */
	bool wide;  /* 64 bits, little endian; else nothing below is set but `machine` */
	bool whole; /* its headers can be read; else nothing below but `machine` and `type` is set */
	uint16_t machine;      /* EM_... */
	uint16_t type;	       /* ET_... */
	char interpreter[256]; /* PT_INTERP: the dynamic loader; empty: none */
};

/* Reads from offset 0, the position stays. 0, or -errno of pread(2). */
int elf_file_read(int fd, struct elf_file *file);

#endif
