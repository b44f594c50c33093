// SPDX-License-Identifier: MIT
/*
 * vdso.c - jumps from the functions of one kernel's vdso to another's (vdso.h). Called by mappings_restore.c. The old
 * contents come out of an image, and are trusted no more than that. The idea: CRIU's vdso proxy.
 */
#define _GNU_SOURCE
#include "process/memory/vdso.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define JUMP_BYTES 5 /* jmp rel32 */

struct symbols { /* of one vdso */
	const uint8_t *data;
	size_t bytes;
	const Elf64_Sym *list;
	size_t count;
	const char *names;
	size_t name_bytes;
};

const void *vdso_here(size_t *bytes)
{
	const uint8_t *vdso = (const uint8_t *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *head = (const void *)vdso;
	const Elf64_Phdr *part;
	uint64_t end = 0, page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (!vdso)
		return NULL;
	part = (const void *)(vdso + head->e_phoff);
	for (unsigned i = 0; i < head->e_phnum; i++)
		if (part[i].p_type == PT_LOAD && part[i].p_offset + part[i].p_filesz > end)
			end = part[i].p_offset + part[i].p_filesz;
	/* The sections come after what is loaded, up to the end of the file. */
	if (head->e_shoff + (uint64_t)head->e_shnum * head->e_shentsize > end)
		end = head->e_shoff + (uint64_t)head->e_shnum * head->e_shentsize;
	*bytes = (end + page - 1) & ~(page - 1);
	return vdso;
}

static bool lies_within(const struct symbols *symbols, uint64_t offset, uint64_t bytes)
{
	return bytes <= symbols->bytes && offset <= symbols->bytes - bytes;
}

static bool find_symbols(struct symbols *symbols, const uint8_t *data, size_t bytes)
{
	const Elf64_Ehdr *head = (const void *)data;
	const Elf64_Shdr *section;

	*symbols = (struct symbols){.data = data, .bytes = bytes};
	if (bytes < sizeof(*head) || memcmp(head->e_ident, ELFMAG, SELFMAG) ||
	    head->e_shentsize != sizeof(*section) || head->e_shoff % 8 ||
	    !lies_within(symbols, head->e_shoff, (uint64_t)head->e_shnum * sizeof(*section)))
		return false;
	section = (const void *)(data + head->e_shoff);
	for (unsigned i = 0; i < head->e_shnum; i++) {
		const Elf64_Shdr *names;

		if (section[i].sh_type != SHT_DYNSYM || section[i].sh_link >= head->e_shnum)
			continue;
		names = &section[section[i].sh_link];
		if (!lies_within(symbols, section[i].sh_offset, section[i].sh_size) ||
		    section[i].sh_offset % 8 ||
		    !lies_within(symbols, names->sh_offset, names->sh_size) || !names->sh_size ||
		    data[names->sh_offset + names->sh_size - 1])
			return false;
		symbols->list = (const void *)(data + section[i].sh_offset);
		symbols->count = section[i].sh_size / sizeof(*symbols->list);
		symbols->names = (const char *)data + names->sh_offset;
		symbols->name_bytes = names->sh_size;
		return true;
	}
	return false;
}

/* The name of a function that is there; NULL: it is none. */
static const char *function_name(const struct symbols *symbols, const Elf64_Sym *symbol)
{
	if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || symbol->st_shndx == SHN_UNDEF ||
	    symbol->st_name >= symbols->name_bytes ||
	    !lies_within(symbols, symbol->st_value, JUMP_BYTES))
		return NULL;
	return symbols->names + symbol->st_name;
}

static const Elf64_Sym *find_function(const struct symbols *symbols, const char *name)
{
	for (size_t i = 0; i < symbols->count; i++) {
		const char *other = function_name(symbols, &symbols->list[i]);

		if (other && !strcmp(name, other))
			return &symbols->list[i];
	}
	return NULL;
}

const char *vdso_bridge(uint8_t *old, size_t old_bytes, uint64_t old_address, const uint8_t *new,
			size_t new_bytes, uint64_t new_address)
{
	struct symbols from, to;

	if (!find_symbols(&from, old, old_bytes))
		return "the old kernel's functions cannot be found";
	if (!find_symbols(&to, new, new_bytes))
		return "this kernel's functions cannot be found";
	for (size_t i = 0; i < from.count; i++) {
		const Elf64_Sym *symbol = &from.list[i], *target;
		const char *name = function_name(&from, symbol);
		uint8_t jump[JUMP_BYTES] = {0xe9};
		int64_t distance;
		int32_t short_distance;

		if (!name)
			continue;
		target = find_function(&to, name);
		if (!target)
			return "this kernel lacks a function that the old one had";
		distance = (int64_t)(new_address + target->st_value -
				     (old_address + symbol->st_value + JUMP_BYTES));
		short_distance = (int32_t)distance;
		if (short_distance != distance)
			return "there is no room for it near the old one";
		memcpy(jump + 1, &short_distance, sizeof(short_distance));
		memcpy(old + symbol->st_value, jump, sizeof(jump));
	}
	return NULL;
}
