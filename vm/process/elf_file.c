/* SPDX-License-Identifier: MIT */
/*
 * elf_file.c - what the headers of a program or library say (elf_file.h). Trusts nothing that it reads.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "process/elf_file.h"

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

/* The name and the contents of a note are each padded to four bytes. */
static void take_build_id(struct elf_file *file, const uint8_t *notes, size_t bytes)
{
	for (size_t at = 0; bytes - at >= sizeof(Elf64_Nhdr);) {
		Elf64_Nhdr note;
		size_t left, name, contents;

		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);
		left = bytes - at;
		name = ((size_t)note.n_namesz + 3) & ~3ul;
		contents = ((size_t)note.n_descsz + 3) & ~3ul;
		if (name > left || contents > left - name)
			return;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
		    !memcmp(notes + at, "GNU", 4)) {
			for (size_t i = 0; i < note.n_descsz && i < BUILD_ID_CHARACTERS / 2; i++)
				snprintf(file->build_id + 2 * i, 3, "%02x", notes[at + name + i]);
			return;
		}
		at += name + contents;
	}
}

static int take_segment(int fd, const Elf64_Phdr *header, struct elf_file *file)
{
	uint8_t notes[4096];
	ssize_t got;

	if (header->p_type == PT_INTERP && header->p_filesz < sizeof(file->interpreter)) {
		got = read_at(fd, header->p_offset, file->interpreter, header->p_filesz);
		return got < 0 ? (int)got : 0;
	}
	if (header->p_type != PT_NOTE || file->build_id[0])
		return 0;
	got = read_at(fd, header->p_offset, notes,
		      header->p_filesz < sizeof(notes) ? header->p_filesz : sizeof(notes));
	if (got < 0)
		return (int)got;
	take_build_id(file, notes, (size_t)got);
	return 0;
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
		int code;

		got = read_at(fd, header.e_phoff + i * sizeof(segment), &segment, sizeof(segment));
		if (got != sizeof(segment))
			return got < 0 ? (int)got : 0;
		code = take_segment(fd, &segment, file);
		if (code)
			return code;
	}
	file->whole = header.e_phnum > 0;
	return 0;
}
