/* SPDX-License-Identifier: MIT */
/*
 * newfile.c - a new image file: made without a name in the directory it will be in, synced, then linked
 * to its name, so that there is never half of one under the name that was meant, and nothing is left of
 * one whose maker was killed. Any thread; no state.
 *
 * Where the file system makes no files without a name (O_TMPFILE), or there is no /proc to link one from,
 * it has another name first: NAME.tmp.PID.RANDOM. So it has, for a moment, before it replaces a file. Whoever
 * makes the file holds its lock, so one that nobody has locked was left by a process that was killed
 * (newfile_sweep). Between making a file and locking it the sweeper may take it: then there is no name left
 * for it, and another is made. No name is ever removed that stands for somebody else's file.
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
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lock.h"
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
	if (!lock_take(fd) && !fstat(fd, &opened) && S_ISREG(opened.st_mode) &&
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

/* A name that nobody has. */
static int name_temporarily(struct newfile *file)
{
	uint32_t unique;

	if (getrandom(&unique, sizeof(unique), 0) != sizeof(unique))
		unique = (uint32_t)sys_monotonic_ns();
	if (snprintf(file->temporary, sizeof(file->temporary), "%s.tmp.%d.%08x", file->path,
		     (int)getpid(), unique) < (int)sizeof(file->temporary))
		return 0;
	file->temporary[0] = '\0';
	return -ENAMETOOLONG;
}

/* A path that leads from a descriptor to its file, whatever names the file has. */
static void descriptor_path(int fd, char path[static 32])
{
	snprintf(path, 32, "/proc/self/fd/%d", fd);
}

/* -EOPNOTSUPP: not here. */
static int open_nameless(struct newfile *file)
{
	char of_path[PATH_MAX], link[32];
	int code;

	snprintf(of_path, sizeof(of_path), "%s", file->path);
	file->fd = sys_open(dirname(of_path), O_RDWR | O_TMPFILE, 0600);
	if (file->fd == -EISDIR || file->fd == -EINVAL)
		return -EOPNOTSUPP;
	if (file->fd < 0)
		return file->fd;
	descriptor_path(file->fd, link);
	code = access(link, F_OK) ? -EOPNOTSUPP : 0;
	if (!code)
		code = lock_take(file->fd);
	if (code)
		close(file->fd);
	return code;
}

static int open_named(struct newfile *file)
{
	struct stat stat;
	int code = name_temporarily(file);

	if (code)
		return code;
	file->fd = sys_open(file->temporary, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (file->fd < 0)
		return file->fd;
	code = lock_take(file->fd);
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
	int code;

	file->path = path;
	file->temporary[0] = '\0';
	file->replaces = false;
	code = open_nameless(file);
	if (code == -EOPNOTSUPP) {
		code = -EAGAIN;
		for (int attempt = 0; attempt < ATTEMPTS && code == -EAGAIN; attempt++)
			code = open_named(file);
	}
	/*
	 * Only its owner may read a heap's contents, and the owner always may, whatever the umask.
	 */
	if (!code)
		(void)!fchmod(file->fd, 0600);
	return code;
}

void newfile_path(const struct newfile *file, char path[static PATH_MAX])
{
	if (file->temporary[0])
		snprintf(path, PATH_MAX, "%s", file->temporary);
	else
		descriptor_path(file->fd, path);
}

static int write_record(struct newfile *file, uint64_t at, struct slot *slot,
			const struct record *record)
{
	void *encoded;
	int code;

	slot->record_offset = at;
	encoded = malloc(record_encoded_bytes(record, slot));
	if (!encoded)
		return -ENOMEM;
	record_encode(record, slot, encoded);
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

static int link_as(const struct newfile *file, const char *path)
{
	char link[32];

	descriptor_path(file->fd, link);
	return linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

/* A file without a name can only be linked, and linking never replaces a file. */
static int give_temporary(struct newfile *file)
{
	int code = -EEXIST;

	for (int attempt = 0; attempt < ATTEMPTS && code == -EEXIST; attempt++) {
		code = name_temporarily(file);
		if (!code)
			code = link_as(file, file->temporary);
	}
	if (code)
		file->temporary[0] = '\0';
	return code;
}

static int rename_to(const char *from, const char *to, unsigned flags)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) ? -errno : 0;
}

static bool cannot_rename_so(int code)
{
	return code == -EINVAL || code == -ENOSYS;
}

static int rename_from_temporary(const struct newfile *file)
{
	int code = rename_to(file->temporary, file->path, RENAME_NOREPLACE);

	if (!cannot_rename_so(code))
		return code;
	if (link(file->temporary, file->path)) /* a file system without RENAME_NOREPLACE */
		return -errno;
	unlink(file->temporary);
	return 0;
}

int newfile_name(struct newfile *file)
{
	int code = file->temporary[0] ? rename_from_temporary(file) : link_as(file, file->path);

	return code ? code : sys_fsync_directory_of(file->path);
}

/*
 * Another file may get the name between the check and a rename, which would delete it. So the two
 * files are exchanged, and the one that came away is checked afterwards: if it is not the old file,
 * it is exchanged back, unless yet another file has got the name meanwhile; the latest keeps it.
 */
static int exchange(const struct newfile *file, int old)
{
	int code = rename_to(file->temporary, file->path, RENAME_EXCHANGE);

	if (cannot_rename_so(code)) /* without RENAME_EXCHANGE, the check alone has to do */
		return rename_to(file->temporary, file->path, 0);
	if (code)
		return code == -ENOENT ? -EAGAIN : code;
	if (file_is_at(old, file->temporary) == 1) {
		unlink(file->temporary);
		return 0;
	}
	if (file_is_at(file->fd, file->path) == 1 &&
	    !rename_to(file->temporary, file->path, RENAME_EXCHANGE) &&
	    file_is_at(file->fd, file->temporary) != 1)
		rename_to(file->temporary, file->path, RENAME_EXCHANGE);
	return -EAGAIN;
}

int newfile_replace(struct newfile *file, int old)
{
	int code = file->temporary[0] ? 0 : give_temporary(file);

	if (!code)
		code = file_is_at(old, file->path) == 1 ? exchange(file, old) : -EAGAIN;
	return code ? code : sys_fsync_directory_of(file->path);
}

int newfile_name_or_nothing(struct newfile *file, struct thaw_error *error)
{
	int code = newfile_name(file);

	if (!code)
		return 0;
	newfile_unmake(file->fd, file->path);
	return newfile_error(file->path, code, error);
}

void newfile_unmake(int fd, const char *path)
{
	struct newfile away = {.fd = fd, .path = path};

	/*
	 * The kernel removes names, not files: another file may get the name between the check and
	 * its removal. So the file is moved to a name that nobody uses, and checked there.
	 */
	if (file_is_at(fd, path) != 1 || name_temporarily(&away) ||
	    renameat2(AT_FDCWD, path, AT_FDCWD, away.temporary, 0))
		return;
	if (file_is_at(fd, away.temporary) == 1)
		unlink(away.temporary);
	else
		renameat2(AT_FDCWD, away.temporary, AT_FDCWD, path, RENAME_NOREPLACE);
}

void newfile_drop(struct newfile *file)
{
	if (file->temporary[0] && file_is_at(file->fd, file->temporary) == 1)
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

int newfile_write_error(const struct newfile *file, int code, struct thaw_error *error)
{
	if (!file->replaces)
		return newfile_error(file->path, code, error);
	return error_set(error, code, "%s: cannot write the new file beside it: %s", file->path,
			 thaw_strerror(code));
}

int newfile_free(const char *path, struct thaw_error *error)
{
	struct stat stat;

	if (!path || !*path)
		return error_set(error, -EINVAL, "no name for the new image was given");
	return lstat(path, &stat) ? 0 : newfile_error(path, -EEXIST, error);
}
