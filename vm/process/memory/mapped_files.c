// SPDX-License-Identifier: MIT
/*
 * mapped_files.c - the files that a guest has mapped: their paths, what they are, and build-ids (address_space.h).
 * What costs more than a stat(2) is done once for each file.
 */
#define _GNU_SOURCE
#include "process/memory/address_space.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/array.h"

/* ---- Build-ids */

/* The note of type NT_GNU_BUILD_ID in these notes. */
static void find_build_id(const uint8_t *notes, size_t bytes, char build_id[static 41])
{
	for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= bytes;) {
		Elf64_Nhdr note;
		size_t name, data, next;

		memcpy(&note, notes + at, sizeof(note));
		name = at + sizeof(note);
		data = name + ((note.n_namesz + 3ull) & ~3ull);
		next = data + ((note.n_descsz + 3ull) & ~3ull);
		if (next > bytes || next <= at)
			return;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
		    !memcmp(notes + name, "GNU", 4) && note.n_descsz && note.n_descsz <= 20) {
			for (size_t i = 0; i < note.n_descsz; i++)
				sprintf(build_id + 2 * i, "%02x", notes[data + i]);
			return;
		}
		at = next;
	}
}

void file_build_id(int fd, char build_id[static 41])
{
	uint8_t notes[4096];
	Elf64_Phdr parts[32];
	Elf64_Ehdr head;

	build_id[0] = '\0';
	if (pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) || head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_phentsize != sizeof(*parts))
		return;
	if (head.e_phnum > 32)
		head.e_phnum = 32;
	if (pread(fd, parts, head.e_phnum * sizeof(*parts), (off_t)head.e_phoff) !=
	    (ssize_t)(head.e_phnum * sizeof(*parts)))
		return;
	for (unsigned i = 0; i < head.e_phnum && !build_id[0]; i++) {
		size_t bytes = parts[i].p_filesz < sizeof(notes) ? parts[i].p_filesz
								 : sizeof(notes);
		ssize_t got;

		if (parts[i].p_type != PT_NOTE)
			continue;
		got = pread(fd, notes, bytes, (off_t)parts[i].p_offset);
		if (got > 0)
			find_build_id(notes, (size_t)got, build_id);
	}
}

/* ---- Files */

/* The path of a name in maps, in which a newline is \012; malloc'ed. */
static char *unescape(const char *name)
{
	char *path = strdup(name), *to = path;

	if (!path)
		return NULL;
	for (const char *at = path; *at;) {
		bool newline = !strncmp(at, "\\012", 4);

		*to++ = newline ? '\n' : *at;
		at += newline ? 4 : 1;
	}
	*to = '\0';
	return path;
}

/* Devices differ between maps and stat(2) on btrfs and overlayfs; inodes do not. */
static bool is_this_file(const char *path, uint64_t inode, struct stat *status)
{
	return path && !stat(path, status) && status->st_ino == inode;
}

/* The file's path as it is now, malloc'ed, or NULL: it has none. Both readings of "\012" are tried. */
static char *find_path(const struct known_file *file, struct stat *status, int *rc)
{
	char *path = strdup(file->name);

	if (path && is_this_file(path, file->inode, status))
		return path;
	free(path);
	if (path && strstr(file->name, "\\012")) {
		path = unescape(file->name);
		if (path && is_this_file(path, file->inode, status))
			return path;
		free(path);
	}
	if (!path)
		*rc = -ENOMEM;
	return NULL;
}

static uint64_t modified_ns_of(const struct stat *status)
{
	return (uint64_t)status->st_mtim.tv_sec * 1000000000 + (uint64_t)status->st_mtim.tv_nsec;
}

/* Once a capture: is it as it was? Its build-id is read when it is new. */
static int look_at_file(struct known_file *file)
{
	uint64_t modified_ns;
	struct stat status;
	struct statfs system;
	int fd, rc = 0;

	if (!file->path || !is_this_file(file->path, file->inode, &status)) {
		free(file->path);
		file->path = find_path(file, &status, &rc);
		file->bytes = 0;
		file->modified_ns = 0;
		if (!file->path)
			return rc;
	}
	modified_ns = modified_ns_of(&status);
	file->real_device = status.st_dev;
	file->regular = S_ISREG(status.st_mode);
	file->zero = S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 5);
	if (!file->regular ||
	    (file->bytes == (uint64_t)status.st_size && file->modified_ns == modified_ns))
		return 0;
	file->bytes = (uint64_t)status.st_size;
	file->modified_ns = modified_ns;
	file->build_id[0] = '\0';
	fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0) {
		file->huge = !fstatfs(fd, &system) && system.f_type == HUGETLBFS_MAGIC;
		file_build_id(fd, file->build_id);
		close(fd);
	}
	return 0;
}

static bool stays(const struct known_file *file)
{
	struct stat status;

	if (!file->path)
		return !strstr(file->name, "\\012") &&
		       !is_this_file(file->name, file->inode, &status);
	return is_this_file(file->path, file->inode, &status) &&
	       file->real_device == status.st_dev &&
	       (!file->regular || (file->bytes == (uint64_t)status.st_size &&
				   file->modified_ns == modified_ns_of(&status))) &&
	       file->regular == S_ISREG(status.st_mode);
}

bool address_space_files_stay(struct address_space *space)
{
	for (size_t i = 0; i < space->file_count; i++) {
		struct known_file *file = &space->files[i];

		if (file->looked + 1 != space->capture)
			continue;
		if (!stays(file))
			return false;
		file->looked = space->capture;
	}
	return true;
}

/* Neighbours in maps are mostly of one file, so the last one is tried first. */
struct known_file *address_space_file(struct address_space *space, const struct seen_mapping *seen)
{
	struct known_file *file = NULL, *files;

	for (size_t i = space->file_count; i-- && !file;)
		if (space->files[i].inode == seen->inode &&
		    space->files[i].device == seen->device &&
		    space->files[i].name_bytes == seen->name_bytes &&
		    !memcmp(space->files[i].name, seen->name, seen->name_bytes))
			file = &space->files[i];
	if (!file) {
		files = array_grow(space->files, space->file_count, &space->file_room,
				   sizeof(*files));
		if (!files)
			return NULL;
		space->files = files;
		file = &files[space->file_count];
		*file = (struct known_file){.device = seen->device, .inode = seen->inode};
		file->name = strndup(seen->name, seen->name_bytes);
		file->name_bytes = seen->name_bytes;
		if (!file->name)
			return NULL;
		space->file_count++;
	}
	if (file->looked != space->capture) {
		if (look_at_file(file))
			return NULL;
		file->looked = space->capture;
	}
	return file;
}
