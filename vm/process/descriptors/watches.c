/* SPDX-License-Identifier: MIT */
/*
 * watches.c - inotify: watches by number, each on the inode of a path.
 *
 * The kernel tells a watch's inode, not its path. It is found by its file handle where that is allowed
 * (CAP_DAC_READ_SEARCH), else by looking for the inode where programs watch: in the current directory, in directories
 * of open files, home, /etc, /tmp, and what is below them. What was found is remembered from one capture to
 * the next. A watch has to get the number it had: the kernel counts upwards.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/array.h"
#include "base/failure.h"
#include "process/descriptors/descriptors.h"

#define LOOKS_MOST 20000u /* files that are looked at, which takes 40 ms */
#define DEPTH_MOST 6u
#define NUMBER_MOST 1000000 /* counting up to it takes a second */

struct watch {
	int number;
	unsigned long long inode;
	unsigned device; /* as the kernel has it: 12 and 20 bits */
	uint32_t mask;
	struct {
		struct file_handle head;
		unsigned char bytes[MAX_HANDLE_SZ];
	} handle;
	char *path; /* malloc'ed */
};

struct search {
	struct watch *list;
	size_t count;
	unsigned left;
};

/* Of all watches of this process so far; the owner's thread alone. */
static struct known {
	unsigned long long inode;
	unsigned device;
	char *path;
} * known;
static size_t known_count, known_room;

bool watches_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return !strcmp(object->link, "anon_inode:inotify") ||
	       !strcmp(object->link, "anon_inode:[inotify]");
}

/* ---- Paths */

static bool is_inode(const struct watch *watch, const struct stat *stat)
{
	return stat->st_ino == watch->inode && major(stat->st_dev) == watch->device >> 20 &&
	       minor(stat->st_dev) == (watch->device & 0xfffff);
}

static bool leads_there(const struct watch *watch, const char *path)
{
	struct stat now;

	return path && !(watch->mask & IN_DONT_FOLLOW ? lstat : stat)(path, &now) &&
	       is_inode(watch, &now);
}

static const char *known_path(const struct watch *watch)
{
	for (size_t i = 0; i < known_count; i++)
		if (known[i].inode == watch->inode && known[i].device == watch->device &&
		    leads_there(watch, known[i].path))
			return known[i].path;
	return NULL;
}

static void remember(const struct watch *watch)
{
	struct known *list = array_grow(known, known_count, &known_room, sizeof(*known));
	char *path = strdup(watch->path);

	if (list)
		known = list;
	if (!list || !path) {
		free(path);
		return;
	}
	known[known_count++] = (struct known){watch->inode, watch->device, path};
}

/* By its handle: from a directory on the same file system. */
static char *path_of_handle(struct watch *watch, const char *near)
{
	char link[48], path[PATH_MAX];
	int directory = open(near, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
	ssize_t bytes = -1;

	if (directory >= 0 && watch->handle.head.handle_bytes)
		fd = open_by_handle_at(directory, &watch->handle.head, O_PATH | O_CLOEXEC);
	if (fd >= 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		bytes = readlink(link, path, sizeof(path) - 1);
		close(fd);
	}
	if (directory >= 0)
		close(directory);
	if (bytes < 0)
		return NULL;
	path[bytes] = 0;
	return leads_there(watch, path) ? strdup(path) : NULL;
}

static bool all_found(const struct search *search)
{
	for (size_t i = 0; i < search->count; i++)
		if (!search->list[i].path)
			return false;
	return true;
}

static void look_at(struct search *search, const char *path, const struct stat *stat)
{
	for (size_t i = 0; i < search->count; i++)
		if (!search->list[i].path && is_inode(&search->list[i], stat))
			search->list[i].path = strdup(path);
}

static void look_below(struct search *search, const char *path, unsigned depth)
{
	const struct dirent *entry;
	struct stat stat;
	DIR *directory;

	if (!search->left || lstat(path, &stat))
		return;
	search->left--;
	look_at(search, path, &stat);
	if (!S_ISDIR(stat.st_mode) || !depth || all_found(search))
		return;
	directory = opendir(path);
	while (directory && search->left && (entry = readdir(directory))) {
		char below[PATH_MAX];

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
		    (size_t)snprintf(below, sizeof(below), "%s/%s", strcmp(path, "/") ? path : "",
				     entry->d_name) >= sizeof(below))
			continue;
		/* Directories cost a look into them; of others their inode is known here. */
		if (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN) {
			look_below(search, below, depth - 1);
			continue;
		}
		search->left--;
		for (size_t i = 0; i < search->count; i++)
			if (search->list[i].inode == entry->d_ino && !lstat(below, &stat)) {
				look_at(search, below, &stat);
				break;
			}
	}
	if (directory)
		closedir(directory);
}

/* Where the program is, where its files are, and above. */
static void look_around(struct descriptor_capture *capture, struct search *search)
{
	const char *const usual[] = {getenv("HOME"), "/etc", "/tmp", "/run", "/dev", "/var"};
	char link[48], path[PATH_MAX];
	ssize_t bytes;

	snprintf(link, sizeof(link), "/proc/%d/cwd", (int)capture->process->remote.pid);
	bytes = readlink(link, path, sizeof(path) - 1);
	if (bytes > 0) {
		path[bytes] = 0;
		look_below(search, path, DEPTH_MOST);
		for (char *slash; (slash = strrchr(path, '/')) && !all_found(search);) {
			slash[slash == path] = 0;
			look_below(search, path, 1);
			if (slash == path)
				break;
		}
	}
	for (size_t i = 0; i < capture->descriptors->object_count && !all_found(search); i++) {
		const char *file = capture->descriptors->objects[i].link;
		const char *slash = *file == '/' ? strrchr(file, '/') : NULL;

		if (!slash || (size_t)(slash - file) >= sizeof(path))
			continue;
		memcpy(path, file, (size_t)(slash - file));
		path[slash - file] = 0;
		look_below(search, path, 2);
	}
	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]) && !all_found(search); i++)
		if (usual[i])
			look_below(search, usual[i], 3);
}

static void paths_find(struct descriptor_capture *capture, struct search *search)
{
	for (size_t i = 0; i < search->count; i++) {
		struct watch *watch = &search->list[i];
		const char *path = known_path(watch);

		watch->path = path ? strdup(path) : path_of_handle(watch, "/");
		for (size_t k = 0; k < capture->descriptors->object_count && !watch->path; k++)
			if (S_ISDIR(capture->descriptors->objects[k].stat.st_mode))
				watch->path = path_of_handle(watch,
							     capture->descriptors->objects[k].link);
		if (!watch->path)
			watch->path = path_of_handle(watch, "/tmp");
	}
	if (!all_found(search))
		look_around(capture, search);
	for (size_t i = 0; i < search->count; i++)
		if (search->list[i].path && !known_path(&search->list[i]))
			remember(&search->list[i]);
}

/* ---- Captured */

/* "inotify wd:1 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:7e9e..." */
static bool watch_read(const char *line, struct watch *watch)
{
	const char *hex = strstr(line, "f_handle:"), *end = strchr(line, '\n');
	unsigned bytes = 0, type = 0, byte;

	*watch = (struct watch){0};
	if (sscanf(line,
		   "inotify wd:%x ino:%llx sdev:%x mask:%x ignored_mask:%*x fhandle-bytes:%x "
		   "fhandle-type:%x",
		   (unsigned *)&watch->number, &watch->inode, &watch->device, &watch->mask, &bytes,
		   &type) < 4)
		return false;
	if (!hex || (end && hex > end) || bytes > MAX_HANDLE_SZ)
		return true;
	hex += strlen("f_handle:");
	for (unsigned i = 0; i < bytes; i++) {
		if (sscanf(hex + (size_t)2 * i, "%2x", &byte) != 1)
			return true;
		watch->handle.bytes[i] = (unsigned char)byte;
	}
	watch->handle.head.handle_bytes = bytes;
	watch->handle.head.handle_type = (int)type;
	return true;
}

static int by_number(const void *a, const void *b)
{
	return ((const struct watch *)a)->number - ((const struct watch *)b)->number;
}

static size_t watches_read(const char *info, struct watch *list, size_t room)
{
	size_t count = 0;

	for (const char *line = info; (line = strstr(line, "inotify wd:")); line++)
		if (!list || (count < room && watch_read(line, &list[count])))
			count++;
	if (list && count)
		qsort(list, count, sizeof(*list), by_number);
	return count;
}

int watches_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		    struct record_writer *writer)
{
	const char *info = descriptor_fdinfo(capture, object->number);
	size_t count = info ? watches_read(info, NULL, 0) : 0;
	struct watch *list = calloc(count + 1, sizeof(*list));
	struct search search = {list, count, LOOKS_MOST};
	int code = 0;

	if (!info || !list || watches_read(info, list, count) != count)
		code = failure(capture->error, -EIO,
			       "/proc/%d/fdinfo/%d does not say what an inotify watches",
			       (int)capture->process->remote.pid, object->number);
	if (!code)
		paths_find(capture, &search);
	record_put(writer, count);
	for (size_t i = 0; i < count && !code; i++) {
		if (!list[i].path)
			code = descriptor_refuse(
				capture, object,
				"an inotify that watches inode %llu of device %u:%u, whose "
				"path cannot be found: watch something below the current "
				"directory",
				list[i].inode, list[i].device >> 20, list[i].device & 0xfffff);
		record_put(writer, (uint64_t)list[i].number);
		record_put(writer, list[i].mask);
		record_put_text(writer, list[i].path);
	}
	for (size_t i = 0; i < count && list; i++)
		free(list[i].path);
	free(list);
	return code;
}

/* ---- Made again */

#define MASK_SET (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK | IN_ONLYDIR | IN_DONT_FOLLOW)

/* Numbers below are used up by watches of /dev/null that end at once; their events are read. */
static int count_up(int fd, int number, int *next)
{
	char events[4096];

	for (; *next < number; ++*next) {
		int got = inotify_add_watch(fd, "/dev/null", IN_OPEN);

		if (got < 0)
			return -errno;
		inotify_rm_watch(fd, got);
		if (got != *next)
			return -EPROTO;
		if (*next % 64 == 0)
			while (read(fd, events, sizeof(events)) > 0)
				;
	}
	while (read(fd, events, sizeof(events)) > 0)
		;
	return 0;
}

int watches_make(struct descriptor_restore *restore, struct descriptor_object *object,
		 struct record_reader *reader)
{
	uint64_t count = record_take_count(reader, 24);
	int next = 1;

	object->here = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (object->here < 0)
		return descriptor_fail(restore, object, -errno, "%s", strerror(errno));
	while (count-- && !reader->failed) {
		int number = (int)record_take_up_to(reader, INT32_MAX), code = 0, got;
		uint32_t mask = (uint32_t)record_take_up_to(reader, UINT32_MAX) & MASK_SET;
		char *path = record_take_text(reader);

		if (!path)
			break;
		code = number - next > NUMBER_MOST ? -ERANGE
						   : count_up(object->here, number, &next);
		if (!code) {
			got = inotify_add_watch(object->here, path, mask);
			code = got < 0 ? -errno : got != number ? -EPROTO : 0;
			next = number + 1;
		}
		if (code)
			descriptor_fail(restore, object, code, "%s cannot be watched again: %s",
					path, thaw_strerror(code));
		free(path);
		if (code)
			return code;
	}
	return 0;
}

void watches_describe(const struct descriptor_object *object, struct record_reader *reader,
		      char *text, size_t room)
{
	uint64_t count = record_take_count(reader, 24);
	char *first = NULL;

	(void)object;
	for (uint64_t i = 0; i < count && !reader->failed; i++) {
		char *path;

		record_take(reader);
		record_take(reader);
		path = record_take_text(reader);
		if (!first)
			first = path;
		else
			free(path);
	}
	if (first)
		snprintf(text, room, "%llu watch%s: %s%s", (unsigned long long)count,
			 count == 1 ? "" : "es", first, count > 1 ? " ..." : "");
	else
		snprintf(text, room, "no watches");
	free(first);
}
