/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * disk_private.h - the disk that may lose power, for its parts: what is on it (disk_files.c), the calls that change it (disk.c),
 * and what a power cut leaves (disk_cut.c).
 */
#ifndef TESTS_CRASH_DISK_PRIVATE_H
#define TESTS_CRASH_DISK_PRIVATE_H

#include "disk.h"

#define FILES_MAX 64u
#define SCRATCH_SECTORS (256u << 20 >> 9)
#define SLOT_SECTORS 8u /* the slots are the first sectors of the first two blocks */

struct content {
	uint64_t id; /* 0: zeros */
	unsigned references;
	uint8_t bytes[SECTOR];
};

struct written { /* a content, and the call that wrote it */
	struct content *content;
	uint64_t event;
};

struct sector {
	struct written
		*written; /* [0]: on the disk for sure, unless in limbo; the last: in the cache */
	unsigned count, capacity;
	bool dirty; /* the cache's content is not synced, and the next sync will do it */
};

struct length {
	uint64_t bytes, event;
};

struct file {
	uint64_t inode;
	int held; /* so that no other file gets the number when it is gone, as ext4 has it */
	struct sector *sectors;
	size_t count;
	struct length *lengths;
	unsigned lengths_count, lengths_capacity;
};

struct name {	  /* what the image's name stood for */
	int file; /* -1: nothing */
	uint64_t event;
};

extern struct disk {
	char path[256], scratch[256], absent[256];
	struct disk_hooks hooks;
	enum lie lie;
	struct dice dice;
	bool recording;
	struct disk_failure failure;
	bool dead;
	struct file files[FILES_MAX];
	int files_count;
	struct name *names;
	unsigned names_count, names_capacity;
	uint64_t events, contents, punches, truncates;
	uint64_t device;
	unsigned reports;
	bool slot_written; /* since the last sync: the next one is the commit point */
	bool logging;	   /* an entry of the log is written */
	bool all_named;	   /* no file without a name can be made */

	int scratch_fd;
	uint64_t scratch_inode, scratch_bytes;
	uint8_t *scratch_map;
	uint64_t *scratch_ids; /* what its sectors hold; UINT64_MAX: not known */
} disk;

extern struct content zero_content;

static inline const struct written *sector_cached(const struct sector *sector)
{
	return &sector->written[sector->count - 1];
}

/* What the cache holds is on the disk, and nothing else. */
void sector_settle(struct sector *sector);

static inline uint64_t file_length(const struct file *file)
{
	return file->lengths[file->lengths_count - 1].bytes;
}

void file_set_length(struct file *file, uint64_t bytes);
/* `bytes` NULL: zeros, and the file is as long as before. */
void file_write(struct file *file, uint64_t offset, const uint8_t *bytes, uint64_t count);
void file_truncate(struct file *file, uint64_t bytes);
/* A sync: of all sectors but those that are in limbo. */
void file_sync(struct file *file);
/* A sync that failed: everything that it was to write is in limbo. */
void file_forget(struct file *file);
/* The file that the writer writes; NULL: it is none of ours. */
struct file *file_of(int fd);
/* -1: it is none of ours. */
int file_of_inode(uint64_t inode);
int file_of_path(const char *path);
void name_set(int file);
void names_settle(void);
/* NULL: the name stands for none. */
const struct file *named_file(void);
/* A file that is on the disk as it is. */
void disk_adopt(void);
void disk_forget_files(void);

int __real_unlink(const char *path);

#endif
