/* SPDX-License-Identifier: MIT */
/*
 * paths.c - readdir, stat, mkdir, rm, rename and the like.
 *
 * Owns nothing. run() is called by files.c on a thread of libuv's pool, and touches nothing but its job; result() on
 * the owner's. What they are for, and what becomes of those that a kill interrupts, is in api/files.js.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "paths.h"

/* So many levels of a tree that is removed have a descriptor each. */
#define TREE_DESCRIPTORS 16

static void fail(struct path_job *job, const char *syscall)
{
	job->error = errno;
	job->syscall = syscall;
}

static bool has_flag(const struct path_job *job, char flag)
{
	return strchr(job->argument, flag) != NULL;
}

/* ---- What is there ---- */

static char kind_of(mode_t mode)
{
	return S_ISREG(mode) ? 'f' : S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : 'o';
}

struct listing {
	char *data;
	size_t bytes, room;
};

/* Kind, name and a 0. */
static bool add_entry(struct listing *listing, char kind, const char *name)
{
	size_t length = strlen(name) + 2;

	if (listing->bytes + length > listing->room) {
		size_t room = 2 * (listing->room + length);
		char *more = realloc(listing->data, room);

		if (!more)
			return false;
		listing->data = more;
		listing->room = room;
	}
	listing->data[listing->bytes] = kind;
	memcpy(listing->data + listing->bytes + 1, name, length - 1);
	listing->bytes += length;
	return true;
}

static char entry_kind(DIR *directory, const struct dirent *entry)
{
	struct stat status;

	if (entry->d_type != DT_UNKNOWN)
		return kind_of(DTTOIF(entry->d_type));
	return fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW)
		       ? 'o'
		       : kind_of(status.st_mode);
}

static void run_readdir(struct path_job *job)
{
	DIR *directory = opendir(job->path);
	struct listing listing = {NULL, 0, 0};
	const struct dirent *entry;

	if (!directory) {
		fail(job, "scandir");
		return;
	}
	while ((errno = 0, entry = readdir(directory))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (!add_entry(&listing, entry_kind(directory, entry), entry->d_name)) {
			errno = ENOMEM;
			break;
		}
	}
	if (errno)
		fail(job, "scandir");
	closedir(directory);
	job->data = (uint8_t *)listing.data;
	job->bytes = listing.bytes;
}

static js_value text_value(struct js_engine *engine, const char *text, size_t length)
{
	size_t bytes;
	char *valid = text_make_valid((char *)text, length, &bytes);
	js_value value;

	if (!valid)
		return js_throw_error(engine, "InternalError", "out of memory");
	value = js_string(engine, valid, bytes);
	if (valid != text)
		free(valid);
	return value;
}

static js_value result_readdir(struct js_engine *engine, const struct path_job *job)
{
	const char *at = (const char *)job->data, *end = at + job->bytes;
	js_value list = js_array(engine);
	uint32_t index = 0;

	while (list && at < end) {
		size_t length = strlen(at + 1);

		if (!js_set_index(engine, list, index++, js_string(engine, at, 1)) ||
		    !js_set_index(engine, list, index++, text_value(engine, at + 1, length))) {
			js_free(engine, list);
			return 0;
		}
		at += length + 2;
	}
	return list;
}

static void run_any_stat(struct path_job *job, bool follow)
{
	struct stat *status = malloc(sizeof(*status));

	if (!status)
		errno = ENOMEM;
	if (!status || (follow ? stat : lstat)(job->path, status)) {
		fail(job, follow ? "stat" : "lstat");
		free(status);
		return;
	}
	job->data = (uint8_t *)status;
	job->bytes = sizeof(*status);
}

static void run_stat(struct path_job *job)
{
	run_any_stat(job, true);
}

static void run_lstat(struct path_job *job)
{
	run_any_stat(job, false);
}

static double milliseconds(const struct timespec *time)
{
	return (double)time->tv_sec * 1e3 + (double)time->tv_nsec / 1e6;
}

/* In the order of api/files.js. */
static js_value result_stat(struct js_engine *engine, const struct path_job *job)
{
	const struct stat *status = (const struct stat *)job->data;
	const char kind = kind_of(status->st_mode);
	const double numbers[] = {
		(double)status->st_dev,		(double)status->st_ino,
		(double)status->st_mode,	(double)status->st_nlink,
		(double)status->st_uid,		(double)status->st_gid,
		(double)status->st_rdev,	(double)status->st_size,
		(double)status->st_blksize,	(double)status->st_blocks,
		milliseconds(&status->st_atim), milliseconds(&status->st_mtim),
		milliseconds(&status->st_ctim),
	};
	js_value list = js_array(engine);
	bool good = list && js_set_index(engine, list, 0, js_string(engine, &kind, 1));

	for (uint32_t i = 0; good && i < sizeof(numbers) / sizeof(numbers[0]); i++)
		good = js_set_index(engine, list, i + 1, js_number(engine, numbers[i]));
	if (good)
		return list;
	js_free(engine, list);
	return 0;
}

static void run_realpath(struct path_job *job)
{
	char *path = realpath(job->path, NULL);

	if (!path) {
		fail(job, "realpath");
		return;
	}
	job->data = (uint8_t *)path;
	job->bytes = strlen(path);
}

static void run_readlink(struct path_job *job)
{
	char target[PATH_MAX];
	ssize_t bytes = readlink(job->path, target, sizeof(target));

	job->data = bytes < 0 ? NULL : malloc((size_t)bytes + 1);
	if (!job->data) {
		fail(job, "readlink");
		return;
	}
	memcpy(job->data, target, (size_t)bytes);
	job->bytes = (size_t)bytes;
}

static js_value result_text(struct js_engine *engine, const struct path_job *job)
{
	return text_value(engine, (const char *)job->data, job->bytes);
}

static js_value result_none(struct js_engine *engine, const struct path_job *job)
{
	(void)job;
	return js_undefined(engine);
}

/* ---- What changes something ---- */

static bool is_directory(const char *path)
{
	struct stat status;

	return !stat(path, &status) && S_ISDIR(status.st_mode);
}

/* With flag r: those above it too, and it may be there. */
static void run_mkdir(struct path_job *job)
{
	char *path = strdup(job->path);

	if (!path) {
		errno = ENOMEM;
		fail(job, "mkdir");
		return;
	}
	for (char *at = path + 1; has_flag(job, 'r') && *at; at++) {
		if (*at != '/')
			continue;
		*at = 0;
		if (mkdir(path, 0777) && errno != EEXIST && errno != EROFS && errno != EACCES)
			break; /* the last one tells */
		*at = '/';
	}
	if (mkdir(job->path, 0777) &&
	    !(errno == EEXIST && has_flag(job, 'r') && is_directory(job->path)))
		fail(job, "mkdir");
	free(path);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)status, (void)where;
	return type == FTW_DP || type == FTW_DNR ? rmdir(path) : unlink(path);
}

/* With flag r: and all that is in it; f: it need not be there. */
static void run_rm(struct path_job *job)
{
	struct stat status;

	if (lstat(job->path, &status)) {
		if (errno != ENOENT || !has_flag(job, 'f'))
			fail(job, "lstat");
		return;
	}
	if (!S_ISDIR(status.st_mode)) {
		if (unlink(job->path) && (errno != ENOENT || !has_flag(job, 'f')))
			fail(job, "unlink");
		return;
	}
	if (!has_flag(job, 'r')) {
		errno = EISDIR;
		fail(job, "rm");
	} else if (nftw(job->path, remove_one, TREE_DESCRIPTORS, FTW_DEPTH | FTW_PHYS) &&
		   (errno != ENOENT || !has_flag(job, 'f'))) {
		fail(job, "rm");
	}
}

static void run_rename(struct path_job *job)
{
	if (rename(job->path, job->argument))
		fail(job, "rename");
}

static void run_symlink(struct path_job *job)
{
	if (symlink(job->argument, job->path))
		fail(job, "symlink");
}

static bool copy_all(int from, int to)
{
	char buffer[65536];
	ssize_t got;

	for (;;) {
		got = read(from, buffer, sizeof(buffer));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0;
		for (ssize_t done = 0, put; done < got; done += put) {
			put = write(to, buffer + done, (size_t)(got - done));
			if (put < 0 && errno != EINTR)
				return false;
			put = put < 0 ? 0 : put;
		}
	}
}

/* The copy replaces what is there, but never the file itself. */
static bool copy_between(int from, int to, const struct stat *source)
{
	struct stat target;

	if (fstat(to, &target))
		return false;
	if (target.st_dev == source->st_dev && target.st_ino == source->st_ino) {
		errno = EINVAL;
		return false;
	}
	return !ftruncate(to, 0) && copy_all(from, to);
}

static void run_copyfile(struct path_job *job)
{
	int from = open(job->path, O_RDONLY | O_CLOEXEC), to = -1;
	struct stat source;
	bool good = from >= 0 && !fstat(from, &source);

	if (good && S_ISDIR(source.st_mode)) {
		errno = EISDIR;
		good = false;
	}
	if (good) {
		to = open(job->argument, O_WRONLY | O_CREAT | O_CLOEXEC, source.st_mode & 0777);
		good = to >= 0 && copy_between(from, to, &source);
	}
	if (!good)
		fail(job, "copyfile");
	if (to >= 0 && close(to) && good && errno != EINTR)
		fail(job, "copyfile");
	if (from >= 0)
		close(from);
}

static const struct path_operation operations[] = {
	{"readdir", false, run_readdir, result_readdir},
	{"stat", false, run_stat, result_stat},
	{"lstat", false, run_lstat, result_stat},
	{"realpath", false, run_realpath, result_text},
	{"readlink", false, run_readlink, result_text},
	{"mkdir", true, run_mkdir, result_none},
	{"rm", true, run_rm, result_none},
	{"rename", true, run_rename, result_none},
	{"symlink", true, run_symlink, result_none},
	{"copyfile", true, run_copyfile, result_none},
};

const struct path_operation *path_operation(const char *name)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		if (!strcmp(name, operations[i].name))
			return &operations[i];
	return NULL;
}
