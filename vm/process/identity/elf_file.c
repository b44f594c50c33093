/* SPDX-License-Identifier: MIT */
/*
 * elf_file.c - what the headers of a program or library say (elf_file.h). Trusts nothing that it reads.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "process/identity/elf_file.h"

#define HEADERS_MOST 256u

/* How many bytes there are of those wanted; -errno. */
static ssize_t read_at(int fd, uint64_t offset, void *to, size_t bytes)
{
	size_t done = 0;

	if (offset > INT64_MAX - bytes)
		return 0;
	while (done < bytes) {
		ssize_t got = pread(fd, (char *)to + done, bytes - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

int elf_file_read(int fd, struct elf_file *file)
{
	Elf64_Ehdr header = {0};
	ssize_t got = read_at(fd, 0, &header, sizeof(header));

	memset(file, 0, sizeof(*file));
	if (got < 0)
		return (int)got;
	file->elf = got >= EI_NIDENT && !memcmp(header.e_ident, ELFMAG, SELFMAG);
	if (!file->elf)
		return 0;
	file->machine = header.e_machine; /* at the same place in both classes */
	file->type = header.e_type;
	file->wide = header.e_ident[EI_CLASS] == ELFCLASS64 &&
		     header.e_ident[EI_DATA] == ELFDATA2LSB && got == sizeof(header);
	if (!file->wide || header.e_phentsize != sizeof(Elf64_Phdr) ||
	    header.e_phnum > HEADERS_MOST)
		return 0;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr segment;

		got = read_at(fd, header.e_phoff + i * sizeof(segment), &segment, sizeof(segment));
		if (got != sizeof(segment))
			return got < 0 ? (int)got : 0;
		if (segment.p_type != PT_INTERP || segment.p_filesz >= sizeof(file->interpreter))
			continue;
		got = read_at(fd, segment.p_offset, file->interpreter, segment.p_filesz);
		if (got < 0)
			return (int)got;
	}
	file->whole = header.e_phnum > 0;
	return 0;
}
