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
#include "disk_private.h"

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

#include "../support.h"
#include "sys.h"

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

void disk_adopt_empty(void)
{
	int fd = open(disk.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		support_die(disk.path);
	close(fd);
	disk_adopt();
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
