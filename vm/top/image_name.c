/* SPDX-License-Identifier: MIT */
/* image_name.c - see image_name.h. */
#define _GNU_SOURCE
#include "image_name.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DELETED " (deleted)"
#define ENTRIES_MAX 100000u /* of a directory: it may be anybody's */

/* A name that the process uses, seen from here: it may have another root, or other mounts. */
static void name_from(const struct running_program *program, bool its_root, const char *name,
		      char path[PATH_MAX])
{
	if (its_root)
		snprintf(path, PATH_MAX, "/proc/%ld/root%s", (long)program->process.pid, name);
	else
		snprintf(path, PATH_MAX, "%s", name);
}

static bool leads_to_image(const struct running_program *program, const char *path)
{
	struct stat status;

	return !stat(path, &status) && status.st_ino == program->inode &&
	       status.st_dev == program->device;
}

static bool name_is_right(const struct running_program *program, const char *name)
{
	char path[PATH_MAX];

	for (int its_root = 0; its_root < 2; its_root++) {
		name_from(program, its_root, name, path);
		if (leads_to_image(program, path))
			return true;
	}
	return false;
}

/*
 * The name of the image in the directory that `name` is in; NULL: there is none. `directory_bytes`:
 * up to the '/'.
 */
static char *name_beside(const struct running_program *program, const char *name,
			 size_t directory_bytes)
{
	char folder[PATH_MAX], path[PATH_MAX], *found = NULL;

	for (int its_root = 0; its_root < 2 && !found; its_root++) {
		struct dirent *entry;
		DIR *directory;

		name_from(program, its_root, name, folder);
		folder[strlen(folder) - (strlen(name) - directory_bytes)] = '\0';
		directory = opendir(*folder ? folder : "/");
		for (unsigned n = 0; directory && !found && n < ENTRIES_MAX; n++) {
			entry = readdir(directory);
			if (!entry)
				break;
			if (entry->d_ino != program->inode ||
			    snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >=
				    (int)sizeof(path) ||
			    !leads_to_image(program, path))
				continue;
			if (asprintf(&found, "%.*s/%s", (int)directory_bytes, name, entry->d_name) <
			    0)
				found = NULL;
		}
		if (directory)
			closedir(directory);
	}
	return found;
}

/* Without what the kernel adds to it. */
static void drop_deleted(char *name)
{
	size_t length = strlen(name);

	if (length > strlen(DELETED) && !strcmp(name + length - strlen(DELETED), DELETED))
		name[length - strlen(DELETED)] = '\0';
}

static void name_set(struct running_program *program, enum image_place place, char *path)
{
	free(program->path);
	program->path = path;
	program->place = place;
}

/* "#4711", as the kernel calls a file that was made without a name. */
static bool is_no_name(const struct running_program *program, const char *name)
{
	char expected[32];
	const char *slash = strrchr(name, '/');

	snprintf(expected, sizeof(expected), "/#%llu", (unsigned long long)program->inode);
	return slash && !strcmp(slash, expected);
}

/* It has names; find one. Takes `name`, what the kernel says without its addition. */
static int name_find(struct running_program *program, char *name)
{
	const char *slash = strrchr(name, '/');
	char *found;

	if (name_is_right(program, program->link)) {
		free(name);
		found = strdup(program->link);
		name_set(program, IMAGE_NAMED, found);
		return found ? 0 : -ENOMEM;
	}
	found = slash ? name_beside(program, name, (size_t)(slash - name)) : NULL;
	free(name);
	name_set(program, found ? IMAGE_NAMED : IMAGE_UNKNOWN, found);
	return 0;
}

int image_name_update(struct running_program *program)
{
	char path[64], link[PATH_MAX], *name;
	struct stat status;
	ssize_t length;

	if (program->descriptor < 0)
		return 0;
	if (program->place == IMAGE_NAMED && name_is_right(program, program->path))
		return 0;
	program_image(program, path);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0 || stat(path, &status))
		return 0; /* it ends; what is known stays */
	link[length] = '\0';
	free(program->link);
	program->link = strdup(link);
	name = strdup(link);
	if (!program->link || !name) {
		free(name);
		return -ENOMEM;
	}
	drop_deleted(name);
	if (status.st_nlink)
		return name_find(program, name);
	/* The last name that is known, if it ever had one. */
	program->place = IMAGE_REMOVED;
	if (!program->path && !is_no_name(program, name))
		program->path = name;
	else
		free(name);
	return 0;
}
