// SPDX-License-Identifier: GPL-2.0-only
/*
 * disk.c - a disk that may lose power, below the library's system calls.
 *
 * The test programs that use it are linked with --wrap=sys_pwrite and so on (Makefile): the library's
 * calls come here, are carried out on a file in memory, which is what the page cache is to a
 * running system, and are remembered for as long as they are not synced.
 *
 * What may be on the disk. The page cache holds one content of each sector at a time, the latest;
 * the kernel writes it back whenever it likes, and what it writes is what the sector held at that moment.
 * So of a sector that was written k times since it was last synced the disk holds one of k + 1
 * contents, whatever the disk holds of any other sector: writes are reordered freely between
 * sectors, while within one sector a later content is never replaced by an earlier one. Choosing one
 * content for each sector independently is therefore every state that a power cut can leave: any subset
 * of the writes, in any order, torn at any sector. The choices that are made (enum leaves) are those
 * that break protocols: a prefix, all but one sector, and so on.
 *
 * The file's length is chosen independently too, from all that it had since the last sync, or one
 * between. A sector that the file never had before is zero until it is written (what a hole
 * or an unwritten extent reads as), or holds another file's bytes (LEAVES_STRANGERS: file systems that
 * order metadata only). The same goes for what lay beyond a truncation or was punched out, and is
 * used again.
 *
 * A sync that fails: the kernel tells once, and takes the pages for clean. What they hold may or may
 * not reach the disk at any later time, and a later sync that succeeds says nothing about it, until
 * the sector is written again. Such sectors are in limbo here: they keep all their contents.
 *
 * Names: the directory is a file of its own. A rename is on the disk after a sync of the directory;
 * until then the name may stand for what it stood for before.
 *
 * One thread. Memory: 600 bytes per sector and content.
 */
#define _GNU_SOURCE
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/format.h"
#include "../support.h"
#include "sys.h"

#define FILES_MAX 64u
#define SCRATCH_SECTORS (256u << 20 >> 9)
#define SLOT_SECTORS 8u /* the slots are the first sectors of the first two blocks */

const char *const leaves_names[LEAVES_KINDS] = {
	"nothing",     "all",	      "a prefix", "a torn prefix", "some calls",
	"any sectors", "all but one", "only one", "strangers",	   "torn slots",
};

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

static struct disk {
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

static struct content zero_content = {.references = 1};

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

static const struct written *sector_cached(const struct sector *sector)
{
	return &sector->written[sector->count - 1];
}

static void sector_push(struct sector *sector, struct content *content)
{
	sector->written =
		grown(sector->written, sector->count, &sector->capacity, sizeof(*sector->written));
	sector->written[sector->count++] = (struct written){content, disk.events};
	sector->dirty = true;
}

/* What the cache holds is on the disk, and nothing else. */
static void sector_settle(struct sector *sector)
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

static uint64_t file_length(const struct file *file)
{
	return file->lengths[file->lengths_count - 1].bytes;
}

static void file_set_length(struct file *file, uint64_t bytes)
{
	if (file->lengths_count && file_length(file) == bytes)
		return;
	file->lengths = grown(file->lengths, file->lengths_count, &file->lengths_capacity,
			      sizeof(*file->lengths));
	file->lengths[file->lengths_count++] = (struct length){bytes, disk.events};
}

static void file_write(struct file *file, uint64_t offset, const uint8_t *bytes, uint64_t count)
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

static void file_truncate(struct file *file, uint64_t bytes)
{
	uint64_t before = file_length(file);

	if (bytes < before)
		file_write(file, bytes, NULL, before - bytes);
	file_extend(file, (bytes + SECTOR - 1) / SECTOR);
	file_set_length(file, bytes);
}

/* A sync: of all sectors but those that are in limbo. */
static void file_sync(struct file *file)
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
static void file_forget(struct file *file)
{
	for (size_t i = 0; i < file->count; i++)
		file->sectors[i].dirty = false;
}

static struct file *file_new(int fd, uint64_t inode)
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

static int file_of_inode(uint64_t inode)
{
	for (int i = 0; i < disk.files_count; i++)
		if (disk.files[i].inode == inode)
			return i;
	return -1;
}

static int file_of_path(const char *path)
{
	struct stat status;

	return lstat(path, &status) ? -1 : file_of_inode(status.st_ino);
}

/* The file that the writer writes; NULL: it is none of ours. */
static struct file *file_of(int fd)
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

static void name_set(int file)
{
	disk.names = grown(disk.names, disk.names_count, &disk.names_capacity, sizeof(*disk.names));
	disk.names[disk.names_count++] = (struct name){file, disk.events};
}

static void names_settle(void)
{
	disk.names[0] = disk.names[disk.names_count - 1];
	disk.names_count = 1;
}

static const struct file *named_file(void)
{
	int file = disk.names[disk.names_count - 1].file;

	return file < 0 ? NULL : &disk.files[file];
}

/* ---- The writer's calls */

static void header_changed(bool note)
{
	disk.recording = false;
	disk.hooks.header_written(note);
	disk.recording = true;
}

static void moment(const char *what, bool sync)
{
	if (disk.dead)
		return;
	disk.recording = false;
	disk.hooks.moment(what, sync);
	disk.recording = true;
}

/* 0: go on; else the call fails so. */
static int failing(enum disk_call call)
{
	if (disk.dead)
		return -EIO;
	if (!(disk.failure.calls & 1u << call) || !disk.failure.count)
		return 0;
	if (disk.failure.skip) {
		disk.failure.skip--;
		return 0;
	}
	disk.failure.fired++;
	disk.dead = disk.failure.dead;
	if (disk.failure.count != UINT_MAX)
		disk.failure.count--;
	return disk.failure.error;
}

static bool writes_slot(uint64_t offset, uint64_t bytes)
{
	return bytes && (offset == 0 || (offset <= SLOT_SECTORS * SECTOR &&
					 offset + bytes > SLOT_SECTORS * SECTOR));
}

int __real_sys_pwrite(int fd, const void *buffer, size_t bytes, uint64_t offset);
int __wrap_sys_pwrite(int fd, const void *buffer, size_t bytes, uint64_t offset);
int __real_sys_truncate(int fd, uint64_t bytes);
int __wrap_sys_truncate(int fd, uint64_t bytes);
int __real_sys_punch(int fd, uint64_t offset, uint64_t bytes);
int __wrap_sys_punch(int fd, uint64_t offset, uint64_t bytes);
int __real_sys_fdatasync(int fd);
int __wrap_sys_fdatasync(int fd);
int __real_sys_fsync_directory_of(const char *path);
int __wrap_sys_fsync_directory_of(const char *path);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_rename(const char *from, const char *to);
int __real_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __real_sys_open(const char *path, int flags, unsigned mode);
int __wrap_sys_open(const char *path, int flags, unsigned mode);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);

static void scratch_touch(int fd, uint64_t offset, uint64_t bytes)
{
	struct stat status;

	if (disk.recording || !disk.scratch_inode || fstat(fd, &status) ||
	    status.st_ino != disk.scratch_inode || status.st_dev != disk.device)
		return;
	for (uint64_t i = offset / SECTOR;
	     i * SECTOR < offset + bytes && i < (uint64_t)SCRATCH_SECTORS; i++)
		disk.scratch_ids[i] = UINT64_MAX;
	if (offset + bytes > disk.scratch_bytes)
		disk.scratch_bytes = offset + bytes;
}

int __wrap_sys_pwrite(int fd, const void *buffer, size_t bytes, uint64_t offset)
{
	struct file *file = file_of(fd);
	int error, code;

	if (!file) {
		scratch_touch(fd, offset, bytes);
		return __real_sys_pwrite(fd, buffer, bytes, offset);
	}
	if (disk.dead)
		return -EIO;
	error = failing(DISK_WRITE);
	if (error) {
		/* A full disk, or a kill: whole pages of the cache were written, or none. */
		uint64_t end = (offset + dice_below(&disk.dice, (unsigned)bytes + 1)) & ~4095ull;

		bytes = end > offset ? end - offset : 0;
	}
	disk.events++;
	code = bytes ? __real_sys_pwrite(fd, buffer, bytes, offset) : 0;
	if (code)
		support_die("pwrite");
	if (bytes && (disk.lie != LIE_LOST_WRITE || dice_below(&disk.dice, 50)))
		file_write(file, offset, buffer, bytes);
	if (writes_slot(offset, bytes)) {
		disk.slot_written = true;
		if (disk.lie == LIE_SLOT_FIRST)
			for (unsigned i = 0; i < 2 * SLOT_SECTORS && i < file->count; i++)
				sector_settle(&file->sectors[i]);
		if (file == named_file())
			header_changed(bytes > SECTOR);
	}
	moment("write", false);
	return error;
}

int __wrap_sys_truncate(int fd, uint64_t bytes)
{
	struct file *file = file_of(fd);
	struct stat status;
	int error;

	if (!file) {
		if (!fstat(fd, &status) && (uint64_t)status.st_size > bytes)
			scratch_touch(fd, bytes, (uint64_t)status.st_size - bytes);
		return __real_sys_truncate(fd, bytes);
	}
	error = failing(DISK_TRUNCATE);
	if (error)
		return error;
	disk.events++;
	error = __real_sys_truncate(fd, bytes);
	if (error)
		support_die("truncate");
	disk.truncates += bytes < file_length(file);
	file_truncate(file, bytes);
	moment("truncate", false);
	return 0;
}

int __wrap_sys_punch(int fd, uint64_t offset, uint64_t bytes)
{
	struct file *file = file_of(fd);
	int error;

	if (!file) {
		scratch_touch(fd, offset, bytes);
		return __real_sys_punch(fd, offset, bytes);
	}
	error = failing(DISK_PUNCH);
	if (error)
		return error;
	disk.events++;
	disk.punches++;
	error = __real_sys_punch(fd, offset, bytes);
	if (error)
		support_die("punch");
	file_write(file, offset, NULL, bytes);
	moment("punch", false);
	return 0;
}

int __wrap_sys_fdatasync(int fd)
{
	struct file *file = file_of(fd);
	int error;

	if (!file) /* there is no power cut that could harm what only looks */
		return 0;
	moment("sync", true);
	if (disk.dead)
		return -EIO;
	error = failing(DISK_SYNC);
	disk.events++;
	if (error && !disk.dead)
		file_forget(file);
	if (error)
		return error;
	if (disk.logging	? disk.lie != LIE_LOG_UNSYNCED
	    : disk.slot_written ? disk.lie != LIE_NO_COMMIT_POINT
				: disk.lie != LIE_NO_BARRIER && disk.lie != LIE_SLOT_FIRST)
		file_sync(file);
	disk.slot_written = false;
	moment("synced", false);
	return 0;
}

/* Not another one, in which there is only a symbolic link to the file. */
static bool directory_is_ours(const char *path)
{
	char asked[PATH_MAX], ours[PATH_MAX];
	struct stat a, b;

	snprintf(asked, sizeof(asked), "%s", path);
	snprintf(ours, sizeof(ours), "%s", disk.path);
	return !stat(dirname(asked), &a) && !stat(dirname(ours), &b) && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

int __wrap_sys_fsync_directory_of(const char *path)
{
	int error;

	if (!disk.recording)
		return 0;
	moment("directory sync", true);
	error = failing(DISK_DIRECTORY_SYNC);
	disk.events++;
	if (error)
		return error;
	if (disk.lie != LIE_NO_DIRECTORY_SYNC && directory_is_ours(path))
		names_settle();
	return 0;
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	int file = disk.recording ? file_of_path(from) : -1, error = 0;

	if (disk.recording)
		error = failing(DISK_RENAME);
	if (!error && __real_renameat2(from_fd, from, to_fd, to, flags))
		return -1;
	if (error) {
		errno = -error;
		return -1;
	}
	if (disk.recording && !strcmp(to, disk.path)) {
		disk.events++;
		name_set(file);
		header_changed(false);
		moment("rename", false);
	}
	return 0;
}

/* What had no name gets one: `from` leads to a descriptor. */
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	struct stat status;
	int file = disk.recording && !stat(from, &status) ? file_of_inode(status.st_ino) : -1;
	int error = disk.recording ? failing(DISK_RENAME) : 0;

	if (error)
		errno = -error;
	if (error || __real_linkat(from_fd, from, to_fd, to, flags))
		return -1;
	if (disk.recording && !strcmp(to, disk.path)) {
		disk.events++;
		name_set(file);
		header_changed(false);
		moment("link", false);
	}
	return 0;
}

int __wrap_sys_open(const char *path, int flags, unsigned mode)
{
	if (disk.all_named && (flags & O_TMPFILE) == O_TMPFILE)
		return -EOPNOTSUPP;
	return __real_sys_open(path, flags, mode);
}

int __wrap_rename(const char *from, const char *to)
{
	return __wrap_renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int __wrap_unlink(const char *path)
{
	if (disk.recording && disk.dead) {
		errno = EIO;
		return -1;
	}
	return __real_unlink(path);
}

/* ---- What the tests ask for */

void disk_resume(void)
{
	disk.recording = true;
}

void disk_pause(void)
{
	disk.recording = false;
}

void disk_fail(const struct disk_failure *failure)
{
	disk.failure = *failure;
	disk.dead = false;
}

void disk_nameless(bool possible)
{
	disk.all_named = !possible;
}

unsigned disk_fired(void)
{
	return disk.failure.fired;
}

unsigned disk_failed(void)
{
	unsigned fired = disk.failure.fired;

	disk_fail(&(struct disk_failure){0});
	return fired;
}

void disk_logging(bool logging)
{
	disk.logging = logging;
}

void disk_reported(void)
{
	disk.reports++;
}

void disk_count(uint64_t *punches, uint64_t *truncates)
{
	*punches += disk.punches;
	*truncates += disk.truncates;
}

uint64_t disk_events(void)
{
	return disk.events;
}

bool disk_is_complete(void)
{
	const struct file *file = named_file();
	int fd = open(disk.path, O_RDONLY | O_CLOEXEC);
	uint8_t bytes[SECTOR];
	struct stat status;
	bool complete = true;

	if (fd < 0)
		return !file;
	complete = file && !fstat(fd, &status) && (uint64_t)status.st_size == file_length(file);
	for (uint64_t i = 0; complete && i * SECTOR < file_length(file); i++) {
		memset(bytes, 0, SECTOR);
		complete = pread(fd, bytes, SECTOR, (off_t)(i * SECTOR)) > 0 &&
			   !memcmp(bytes, sector_cached(&file->sectors[i])->content->bytes, SECTOR);
	}
	close(fd);
	return complete;
}

static void disk_forget_files(void)
{
	for (int i = 0; i < disk.files_count; i++)
		file_free(&disk.files[i]);
	disk.files_count = 0;
	disk.names_count = 0;
}

/* A file that is on the disk as it is. */
static void adopt(void)
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

void disk_adopt_empty(void)
{
	int fd = open(disk.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		support_die(disk.path);
	close(fd);
	adopt();
}

void disk_open(const char *path, enum lie lie, const struct disk_hooks *hooks, uint64_t seed)
{
	struct stat status;

	memset(&disk, 0, sizeof(disk));
	snprintf(disk.path, sizeof(disk.path), "%s", path);
	snprintf(disk.scratch, sizeof(disk.scratch), "%s.cut", path);
	snprintf(disk.absent, sizeof(disk.absent), "%s.absent", path);
	disk.lie = lie;
	disk.hooks = *hooks;
	disk.dice.state = mix(seed);
	disk.scratch_fd = open(disk.scratch, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	disk.scratch_map = mmap(NULL, (size_t)SCRATCH_SECTORS * SECTOR, PROT_READ | PROT_WRITE,
				MAP_SHARED, disk.scratch_fd, 0);
	disk.scratch_ids = calloc(SCRATCH_SECTORS, sizeof(*disk.scratch_ids));
	if (disk.scratch_fd < 0 || disk.scratch_map == MAP_FAILED || !disk.scratch_ids ||
	    fstat(disk.scratch_fd, &status))
		support_die(disk.scratch);
	disk.scratch_inode = status.st_ino;
	disk.device = status.st_dev;
	name_set(-1);
}

void disk_close(void)
{
	disk_forget_files();
	free(disk.names);
	free(disk.scratch_ids);
	munmap(disk.scratch_map, (size_t)SCRATCH_SECTORS * SECTOR);
	close(disk.scratch_fd);
	memset(&disk, 0, sizeof(disk));
}

/* ---- A power cut */

/* Is that call's doing left? */
static bool event_left(const struct cut *cut, uint64_t event, uint64_t sector)
{
	switch (cut->leaves) {
	case LEAVES_NOTHING:
		return false;
	case LEAVES_PREFIX:
		return event <= cut->event;
	case LEAVES_TORN_PREFIX:
		return event < cut->event ||
		       (event == cut->event && mix(cut->seed ^ sector * 0x2545f4914f6cdd1dull) & 1);
	case LEAVES_CALLS:
		return mix(cut->seed ^ event * 0x2545f4914f6cdd1dull) % 100 < cut->seed % 99 + 1;
	default:
		return true;
	}
}

/* Which of its contents the sector has. */
static unsigned sector_choice(const struct cut *cut, const struct sector *sector, uint64_t number)
{
	uint64_t dice = mix(cut->seed + number * 0x2545f4914f6cdd1dull);
	unsigned choice = sector->count - 1;

	if (!choice)
		return 0;
	switch (cut->leaves) {
	case LEAVES_SECTORS:
	case LEAVES_STRANGERS:
	case LEAVES_TORN_SECTORS: /* some cuts leave nearly all, some nearly nothing */
		if (dice % 100 < cut->seed % 99 + 1)
			return choice;
		return (unsigned)((dice >> 32) % sector->count);
	case LEAVES_ALL_BUT_ONE:
		return number == cut->event ? (unsigned)(dice >> 32) % choice : choice;
	case LEAVES_ONLY_ONE:
		return number == cut->event ? 1 + (unsigned)(dice >> 32) % choice : 0;
	default:
		while (choice && !event_left(cut, sector->written[choice].event, number))
			choice--;
		return choice;
	}
}

static uint64_t slot_sequence(const struct cut *cut, const struct file *file, unsigned sector)
{
	uint64_t sequence = 0;

	if (sector < file->count) {
		const struct sector *slot = &file->sectors[sector];

		memcpy(&sequence,
		       slot->written[sector_choice(cut, slot, sector)].content->bytes +
			       offsetof(struct disk_slot, sequence),
		       sizeof(sequence));
	}
	return sequence;
}

/*
 * Sectors that tear within break the assumption that the format is built on, but not by much: the
 * other slot is still there, if anything was committed to it.
 */
static bool slot_torn(const struct cut *cut, const struct file *file, uint64_t number)
{
	const struct sector *sector = &file->sectors[number];

	return cut->leaves == LEAVES_TORN_SECTORS && number % SLOT_SECTORS == 0 &&
	       number <= SLOT_SECTORS && sector->dirty && sector->count > 1 &&
	       slot_sequence(cut, file, SLOT_SECTORS - (unsigned)number);
}

/* What the sector holds, and an id of that. */
static uint64_t sector_left(const struct cut *cut, const struct file *file, uint64_t number,
			    uint8_t bytes[SECTOR])
{
	const struct sector *sector = &file->sectors[number];
	unsigned choice = sector_choice(cut, sector, number);
	const struct content *content = sector->written[choice].content;
	uint64_t dice = mix(cut->seed * 3 + number);

	if (slot_torn(cut, file, number)) {
		unsigned at = 8 + (unsigned)(dice % (SECTOR - 16));

		memcpy(bytes, sector->written[0].content->bytes, SECTOR);
		memcpy(bytes, sector_cached(sector)->content->bytes, at);
		return dice | 1ull << 63;
	}
	if (cut->leaves == LEAVES_STRANGERS && sector->count > 1 && content == &zero_content &&
	    number >= 2 * SLOT_SECTORS && dice & 1) {
		for (unsigned i = 0; i < SECTOR; i++)
			bytes[i] = (uint8_t)(dice >> i % 8 * 8) ^ (uint8_t)i;
		return dice | 1ull << 63;
	}
	memcpy(bytes, content->bytes, SECTOR);
	return content->id;
}

static uint64_t length_left(const struct cut *cut, const struct file *file)
{
	unsigned choice = file->lengths_count - 1;
	uint64_t dice = mix(cut->seed + 77), least, most;

	switch (cut->leaves) {
	case LEAVES_ALL:
	case LEAVES_ALL_BUT_ONE:
		break;
	case LEAVES_ONLY_ONE:
		if (dice & 1)
			break;
		return file->lengths[0].bytes;
	case LEAVES_NOTHING:
	case LEAVES_PREFIX:
	case LEAVES_TORN_PREFIX:
		while (choice && !event_left(cut, file->lengths[choice].event, UINT64_MAX))
			choice--;
		break;
	default:
		choice = (unsigned)((dice >> 8) % file->lengths_count);
		if (dice & 3)
			break;
		least = most = file->lengths[0].bytes;
		for (unsigned i = 1; i < file->lengths_count; i++) {
			uint64_t bytes = file->lengths[i].bytes;

			least = bytes < least ? bytes : least;
			most = bytes > most ? bytes : most;
		}
		return least + (dice >> 8) % (most - least + 1);
	}
	return file->lengths[choice].bytes;
}

static int name_left(const struct cut *cut)
{
	unsigned choice = disk.names_count - 1;

	if (cut->leaves == LEAVES_SECTORS || cut->leaves == LEAVES_CALLS)
		choice = (unsigned)(mix(cut->seed + 78) % disk.names_count);
	else
		while (choice && !event_left(cut, disk.names[choice].event, UINT64_MAX))
			choice--;
	return disk.names[choice].file;
}

/* The first call that may be lost. */
static uint64_t first_unsynced(const struct file *file)
{
	uint64_t first = disk.events;

	for (size_t i = 0; i < file->count; i++)
		if (file->sectors[i].count > 1 && file->sectors[i].written[1].event < first)
			first = file->sectors[i].written[1].event;
	if (file->lengths_count > 1 && file->lengths[1].event < first)
		first = file->lengths[1].event;
	return first;
}

static uint64_t any_unsynced_sector(const struct file *file, uint64_t dice)
{
	uint64_t count = 0, number = 0;

	for (size_t i = 0; i < file->count; i++)
		count += file->sectors[i].count > 1;
	if (!count)
		return UINT64_MAX;
	/* The slots are one of many sectors, and the ones that matter. */
	if (dice % 4 == 0)
		for (unsigned i = 0; i <= SLOT_SECTORS && i < file->count; i += SLOT_SECTORS)
			if (file->sectors[i].count > 1)
				return i;
	count = (dice >> 8) % count;
	while (file->sectors[number].count == 1 || count--)
		number++;
	return number;
}

void cut_choose(struct cut *cut, enum leaves leaves, uint64_t seed)
{
	const struct file *file;
	uint8_t bytes[SECTOR];
	int number;

	*cut = (struct cut){.leaves = leaves, .seed = mix(seed)};
	number = name_left(cut);
	cut->named = number >= 0;
	cut->hash = mix((uint64_t)number + ((uint64_t)disk.reports << 32));
	if (!cut->named)
		return;
	file = &disk.files[number];
	if (leaves == LEAVES_ALL_BUT_ONE || leaves == LEAVES_ONLY_ONE) {
		cut->event = any_unsynced_sector(file, mix(cut->seed + 79));
	} else if (leaves == LEAVES_PREFIX || leaves == LEAVES_TORN_PREFIX) {
		uint64_t first = first_unsynced(file);

		cut->event = first + mix(cut->seed + 80) % (disk.events - first + 1);
	}
	cut->hash += mix(length_left(cut, file));
	for (uint64_t i = 0; i * SECTOR < length_left(cut, file); i++) {
		uint64_t id = i < file->count && file->sectors[i].count == 1
				      ? file->sectors[i].written[0].content->id
			      : i < file->count ? sector_left(cut, file, i, bytes)
						: 0;

		cut->hash += mix(id * 0x2545f4914f6cdd1dull + i);
	}
	for (unsigned i = 0; i <= SLOT_SECTORS && i < file->count; i += SLOT_SECTORS)
		cut->torn_slot |= slot_torn(cut, file, i);
}

static void scratch_resize(uint64_t bytes)
{
	uint64_t least = bytes < disk.scratch_bytes ? bytes : disk.scratch_bytes;
	uint64_t from = least / SECTOR;

	if (bytes > (uint64_t)SCRATCH_SECTORS * SECTOR)
		support_die("the image is too large for its tests");
	/* What was cut off reads as zeros; a sector that the end is in has to be written again. */
	for (uint64_t i = from; i * SECTOR < disk.scratch_bytes; i++)
		disk.scratch_ids[i] = 0;
	if (least % SECTOR || bytes % SECTOR)
		disk.scratch_ids[from] = disk.scratch_ids[bytes / SECTOR] = UINT64_MAX;
	if (ftruncate(disk.scratch_fd, (off_t)bytes))
		support_die("ftruncate");
	disk.scratch_bytes = bytes;
}

void cut_make(const struct cut *cut)
{
	int number = name_left(cut);
	const struct file *file;
	uint8_t bytes[SECTOR];
	struct stat status;

	if (number < 0) {
		__real_unlink(disk.absent);
		return;
	}
	file = &disk.files[number];
	/* The writer that looked at the state before may have made it longer or shorter. */
	if (fstat(disk.scratch_fd, &status))
		support_die("fstat");
	disk.scratch_bytes = (uint64_t)status.st_size;
	scratch_resize(length_left(cut, file));
	for (uint64_t i = 0; i * SECTOR < disk.scratch_bytes; i++) {
		uint64_t id = 0, part = disk.scratch_bytes - i * SECTOR;

		if (i < file->count && file->sectors[i].count == 1)
			id = file->sectors[i].written[0].content->id;
		else if (i < file->count)
			id = sector_left(cut, file, i, bytes);
		if (id == disk.scratch_ids[i])
			continue;
		if (i >= file->count)
			memset(bytes, 0, SECTOR);
		else if (file->sectors[i].count == 1)
			memcpy(bytes, file->sectors[i].written[0].content->bytes, SECTOR);
		memcpy(disk.scratch_map + i * SECTOR, bytes, part < SECTOR ? part : SECTOR);
		disk.scratch_ids[i] = part < SECTOR ? UINT64_MAX : id;
	}
}

const char *cut_path(const struct cut *cut)
{
	return cut->named ? disk.scratch : disk.absent;
}

void cut_print(const struct cut *cut)
{
	int number = name_left(cut);
	const struct file *file = number < 0 ? NULL : &disk.files[number];
	unsigned shown = 0;

	fprintf(stderr, "#   left is %s; the name %s\n", leaves_names[cut->leaves],
		file ? "is there" : "is not there");
	if (cut->leaves == LEAVES_PREFIX || cut->leaves == LEAVES_TORN_PREFIX)
		fprintf(stderr, "#   up to call %lu of %lu\n", cut->event, disk.events);
	if (!file)
		return;
	fprintf(stderr, "#   length %lu; synced %lu, seen last %lu\n", length_left(cut, file),
		file->lengths[0].bytes, file_length(file));
	for (size_t i = 0; i < file->count; i++) {
		const struct sector *sector = &file->sectors[i];
		unsigned choice = sector_choice(cut, sector, i);

		if (sector->count == 1)
			continue;
		if (shown++ < 64)
			fprintf(stderr,
				"#   sector %zu: content %u of 0-%u (written by call %lu)%s%s\n", i,
				choice, sector->count - 1, sector->written[choice].event,
				slot_torn(cut, file, i) ? ", torn" : "",
				sector->dirty ? "" : ", in limbo");
	}
	if (shown > 64)
		fprintf(stderr, "#   and %u sectors more\n", shown - 64);
}

void cut_apply(const struct cut *cut)
{
	int fd;

	cut_make(cut);
	__real_unlink(disk.path);
	disk_forget_files();
	disk.slot_written = false;
	if (!cut->named) {
		name_set(-1);
		return;
	}
	fd = open(disk.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	for (uint64_t at = 0; at < disk.scratch_bytes;) {
		ssize_t put = pwrite(fd, disk.scratch_map + at, disk.scratch_bytes - at, (off_t)at);

		if (put <= 0)
			support_die(disk.path);
		at += (uint64_t)put;
	}
	if (fd < 0 || close(fd))
		support_die(disk.path);
	adopt();
}
