// SPDX-License-Identifier: GPL-2.0-only
/*
 * disk_files.c - what each file of the disk held since it was last synced, sector by sector, its length, and what the image's
 * name stood for (disk_private.h). What that means is in disk.c.
 */
#define _GNU_SOURCE
#include "disk_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../support.h"

struct disk disk;
struct content zero_content = {.references = 1};

/* ---- Contents */

static void *grown(void *items, unsigned count, unsigned *capacity, size_t bytes)
{
	if (count < *capacity)
		return items;
	*capacity = *capacity ? 2 * *capacity : 4;
	items = realloc(items, *capacity * bytes);
	if (!items)
		support_die("realloc");
	return items;
}

static void content_put(struct content *content)
{
	if (content != &zero_content && !--content->references)
		free(content);
}

static struct content *content_new(const uint8_t bytes[SECTOR])
{
	struct content *content;

	if (!memcmp(bytes, zero_content.bytes, SECTOR))
		return &zero_content;
	content = malloc(sizeof(*content));
	if (!content)
		support_die("malloc");
	content->id = ++disk.contents;
	content->references = 1;
	memcpy(content->bytes, bytes, SECTOR);
	return content;
}

static void sector_push(struct sector *sector, struct content *content)
{
	sector->written =
		grown(sector->written, sector->count, &sector->capacity, sizeof(*sector->written));
	sector->written[sector->count++] = (struct written){content, disk.events};
	sector->dirty = true;
}

/* What the cache holds is on the disk, and nothing else. */
void sector_settle(struct sector *sector)
{
	for (unsigned i = 0; i + 1 < sector->count; i++)
		content_put(sector->written[i].content);
	sector->written[0] = *sector_cached(sector);
	sector->count = 1;
	sector->dirty = false;
}

static void file_extend(struct file *file, uint64_t sectors)
{
	if (sectors <= file->count)
		return;
	file->sectors = realloc(file->sectors, sectors * sizeof(*file->sectors));
	if (!file->sectors)
		support_die("realloc");
	memset(file->sectors + file->count, 0, (sectors - file->count) * sizeof(*file->sectors));
	for (; file->count < sectors; file->count++) {
		sector_push(&file->sectors[file->count], &zero_content);
		file->sectors[file->count].dirty = false;
	}
}

void file_set_length(struct file *file, uint64_t bytes)
{
	if (file->lengths_count && file_length(file) == bytes)
		return;
	file->lengths = grown(file->lengths, file->lengths_count, &file->lengths_capacity,
			      sizeof(*file->lengths));
	file->lengths[file->lengths_count++] = (struct length){bytes, disk.events};
}

void file_write(struct file *file, uint64_t offset, const uint8_t *bytes, uint64_t count)
{
	file_extend(file, (offset + count + SECTOR - 1) / SECTOR);
	for (uint64_t at = offset; at < offset + count;) {
		struct sector *sector = &file->sectors[at / SECTOR];
		uint64_t within = at % SECTOR, part = SECTOR - within;
		uint8_t whole[SECTOR];

		if (part > offset + count - at)
			part = offset + count - at;
		memcpy(whole, sector_cached(sector)->content->bytes, SECTOR);
		if (bytes)
			memcpy(whole + within, bytes + (at - offset), part);
		else
			memset(whole + within, 0, part);
		sector_push(sector, content_new(whole));
		at += part;
	}
	if (bytes && offset + count > file_length(file))
		file_set_length(file, offset + count);
}

void file_truncate(struct file *file, uint64_t bytes)
{
	uint64_t before = file_length(file);

	if (bytes < before)
		file_write(file, bytes, NULL, before - bytes);
	file_extend(file, (bytes + SECTOR - 1) / SECTOR);
	file_set_length(file, bytes);
}

/* A sync: of all sectors but those that are in limbo. */
void file_sync(struct file *file)
{
	for (size_t i = 0; i < file->count; i++)
		if (file->sectors[i].dirty)
			sector_settle(&file->sectors[i]);
	if (disk.lie == LIE_LENGTH)
		return;
	file->lengths[0] = file->lengths[file->lengths_count - 1];
	file->lengths_count = 1;
}

/* A sync that failed: everything that it was to write is in limbo. */
void file_forget(struct file *file)
{
	for (size_t i = 0; i < file->count; i++)
		file->sectors[i].dirty = false;
}

struct file *file_new(int fd, uint64_t inode)
{
	char path[32];
	struct file *file = &disk.files[disk.files_count++];

	if (disk.files_count > (int)FILES_MAX)
		support_die("too many files");
	memset(file, 0, sizeof(*file));
	file->inode = inode;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	file->held = open(path, O_PATH | O_CLOEXEC);
	if (file->held < 0)
		support_die(path);
	file_set_length(file, 0);
	return file;
}

static void file_free(struct file *file)
{
	for (size_t i = 0; i < file->count; i++) {
		for (unsigned j = 0; j < file->sectors[i].count; j++)
			content_put(file->sectors[i].written[j].content);
		free(file->sectors[i].written);
	}
	free(file->sectors);
	free(file->lengths);
	close(file->held);
}

int file_of_inode(uint64_t inode)
{
	for (int i = 0; i < disk.files_count; i++)
		if (disk.files[i].inode == inode)
			return i;
	return -1;
}

int file_of_path(const char *path)
{
	struct stat status;

	return lstat(path, &status) ? -1 : file_of_inode(status.st_ino);
}

/* The file that the writer writes; NULL: it is none of ours. */
struct file *file_of(int fd)
{
	struct stat status;
	int number;

	if (!disk.recording || fstat(fd, &status) || !S_ISREG(status.st_mode) ||
	    status.st_dev != disk.device)
		return NULL;
	number = file_of_inode(status.st_ino);
	if (number >= 0)
		return &disk.files[number];
	return status.st_size ? NULL : file_new(fd, status.st_ino);
}

void name_set(int file)
{
	disk.names = grown(disk.names, disk.names_count, &disk.names_capacity, sizeof(*disk.names));
	disk.names[disk.names_count++] = (struct name){file, disk.events};
}

void names_settle(void)
{
	disk.names[0] = disk.names[disk.names_count - 1];
	disk.names_count = 1;
}

const struct file *named_file(void)
{
	int file = disk.names[disk.names_count - 1].file;

	return file < 0 ? NULL : &disk.files[file];
}
void disk_forget_files(void)
{
	for (int i = 0; i < disk.files_count; i++)
		file_free(&disk.files[i]);
	disk.files_count = 0;
	disk.names_count = 0;
}

/* A file that is on the disk as it is. */
void disk_adopt(void)
{
	struct stat status;
	struct file *file;
	uint8_t bytes[SECTOR];
	int fd = open(disk.path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status))
		support_die(disk.path);
	file = file_new(fd, status.st_ino);
	for (uint64_t at = 0; at < (uint64_t)status.st_size; at += SECTOR) {
		ssize_t got = pread(fd, bytes, SECTOR, (off_t)at);

		if (got <= 0)
			support_die(disk.path);
		file_write(file, at, bytes, (uint64_t)got);
	}
	file_set_length(file, (uint64_t)status.st_size);
	for (size_t i = 0; i < file->count; i++)
		sector_settle(&file->sectors[i]);
	file->lengths[0] = file->lengths[file->lengths_count - 1];
	file->lengths_count = 1;
	close(fd);
	name_set(disk.files_count - 1);
	names_settle();
}
