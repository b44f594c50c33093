/* SPDX-License-Identifier: MIT */
/*
 * newfile.c - a new image file: made under another name in the directory it will be in, synced, then
 * renamed, so that there is never half of one under the name that was meant. Any thread; no state.
 *
 * The other name is NAME.tmp.PID.RANDOM. Whoever makes the file holds its lock, so one that nobody has
 * locked was left by a process that was killed (newfile_sweep). Between making a file and locking it
 * the sweeper may take it: then there is no name left for it, and another is made.
 */
#define _GNU_SOURCE
#include "newfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys.h"

#define ATTEMPTS 10

/* "NAME.tmp.4711.00c0ffee" */
static bool is_left_over(const char *entry, const char *name)
{
	size_t bytes = strlen(name);
	const char *rest = entry + bytes;

	if (strncmp(entry, name, bytes) || strncmp(rest, ".tmp.", 5))
		return false;
	rest += 5;
	bytes = strspn(rest, "0123456789");
	return bytes && rest[bytes] == '.' && strspn(rest + bytes + 1, "0123456789abcdef") == 8 &&
	       !rest[bytes + 9];
}

static void sweep_one(int directory, const char *entry)
{
	int fd = openat(directory, entry, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat opened, named;

	if (fd < 0)
		return;
	if (!flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &opened) && S_ISREG(opened.st_mode) &&
	    !fstatat(directory, entry, &named, AT_SYMLINK_NOFOLLOW) &&
	    opened.st_ino == named.st_ino && opened.st_dev == named.st_dev)
		unlinkat(directory, entry, 0);
	close(fd);
}

void newfile_sweep(const char *path)
{
	char of_directory[PATH_MAX], of_name[PATH_MAX];
	const char *name;
	struct dirent *entry;
	DIR *directory;

	snprintf(of_directory, sizeof(of_directory), "%s", path);
	snprintf(of_name, sizeof(of_name), "%s", path);
	name = basename(of_name);
	directory = opendir(dirname(of_directory));
	if (!directory)
		return;
	while ((entry = readdir(directory)))
		if (is_left_over(entry->d_name, name))
			sweep_one(dirfd(directory), entry->d_name);
	closedir(directory);
}

static int open_once(struct newfile *file)
{
	struct stat stat;
	uint32_t unique;
	int code;

	if (getrandom(&unique, sizeof(unique), 0) != sizeof(unique))
		unique = (uint32_t)sys_monotonic_ns();
	if (snprintf(file->temporary, sizeof(file->temporary), "%s.tmp.%d.%08x", file->path,
		     (int)getpid(), unique) >= (int)sizeof(file->temporary))
		return -ENAMETOOLONG;
	/* The heap's contents are nobody else's business. */
	file->fd = sys_open(file->temporary, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (file->fd < 0)
		return file->fd;
	code = flock(file->fd, LOCK_EX | LOCK_NB) ? -errno : 0;
	if (!code && !fstat(file->fd, &stat) && stat.st_nlink)
		return 0;
	if (code && code != -EWOULDBLOCK) {
		newfile_drop(file);
		return code;
	}
	close(file->fd); /* the sweeper's now */
	return -EAGAIN;
}

int newfile_open(struct newfile *file, const char *path)
{
	int code = -EAGAIN;

	file->path = path;
	for (int attempt = 0; attempt < ATTEMPTS && code == -EAGAIN; attempt++)
		code = open_once(file);
	return code;
}

static int write_record(struct newfile *file, uint64_t at, struct slot *slot,
			const struct record *record)
{
	void *encoded;
	int code;

	slot->record_offset = at;
	slot->record_bytes = record_encoded_bytes(record);
	encoded = malloc(slot->record_bytes);
	if (!encoded)
		return -ENOMEM;
	record_encode(record, slot, encoded);
	slot->record_checksum = XXH3_128bits(encoded, slot->record_bytes);
	code = sys_pwrite(file->fd, encoded, slot->record_bytes, at);
	free(encoded);
	return code;
}

int newfile_seal(struct newfile *file, uint64_t at, const struct slot *identity, uint64_t sequence,
		 const struct record *record, const struct note *note)
{
	struct slot slot = *identity;
	int code = 0;

	for (unsigned i = 1; i <= 2 && !code; i++) {
		slot.sequence = sequence + i;
		if (slot.sequence > STORE_NUMBER_MAX)
			return -EOVERFLOW;
		code = write_record(file, at, &slot, record);
		at += slot.record_bytes; /* whole words */
		if (!code)
			code = header_write(file->fd, slot.sequence % 2, &slot);
	}
	if (!code && note) /* where the next commit writes */
		code = note_write(file->fd, !(slot.sequence % 2), note);
	return code ? code : sys_fdatasync(file->fd);
}

int newfile_name(struct newfile *file, bool replace)
{
	int code;

	if (!renameat2(AT_FDCWD, file->temporary, AT_FDCWD, file->path,
		       replace ? 0 : RENAME_NOREPLACE))
		return sys_fsync_directory_of(file->path);
	code = -errno;
	if (replace || (code != -EINVAL && code != -ENOSYS))
		return code;
	if (link(file->temporary, file->path)) /* a file system without RENAME_NOREPLACE */
		return -errno;
	unlink(file->temporary);
	return sys_fsync_directory_of(file->path);
}

int newfile_name_or_nothing(struct newfile *file, struct thaw_error *error)
{
	int code = newfile_name(file, false);

	if (!code)
		return 0;
	if (file_is_named(file->fd,
			  file->path)) /* it is ours: what others made has another inode */
		unlink(file->path);
	return newfile_error(file->path, code, error);
}

void newfile_drop(struct newfile *file)
{
	unlink(file->temporary); /* while it is locked */
	close(file->fd);
}

int newfile_error(const char *path, int code, struct thaw_error *error)
{
	if (code == -EEXIST)
		return error_set(error, code, "%s: exists already: name another file, or remove it",
				 path);
	return error_set(error, code, "%s: cannot make it: %s", path, thaw_strerror(code));
}

int newfile_free(const char *path, struct thaw_error *error)
{
	struct stat stat;

	if (!path || !*path)
		return error_set(error, -EINVAL, "no name for the new image was given");
	return lstat(path, &stat) ? 0 : newfile_error(path, -EEXIST, error);
}
