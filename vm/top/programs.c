/* SPDX-License-Identifier: MIT */
/*
 * programs.c - see programs.h.
 *
 * /proc/locks names who holds the flock() of an image; only those processes' descriptors are looked
 * at, once. The lock of the open file tells no pid, and it may be the only one (a reader holds the
 * other, or the process that took it has left the file to a child): then every process is looked
 * at, once for each such lock.
 */
#define _GNU_SOURCE
#include "programs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "image_name.h"
#include "thaw.h"

void program_image(const struct running_program *program, char path[64])
{
	snprintf(path, 64, "/proc/%ld/fd/%d", (long)program->process.pid, program->descriptor);
}

static void program_free(struct running_program *program)
{
	free(program->command);
	free(program->path);
	free(program->link);
	free(program);
}

void programs_free(struct programs *programs)
{
	for (size_t i = 0; i < programs->count; i++)
		program_free(programs->list[i]);
	free(programs->list);
	free(programs->unexplained);
	locks_free(&programs->locks);
	*programs = (struct programs){0};
}

static struct running_program *program_find(const struct programs *programs, pid_t pid,
					    const struct lock_file *file)
{
	for (size_t i = 0; i < programs->count; i++) {
		struct running_program *program = programs->list[i];

		if (program->process.pid == pid && lock_file_same(&program->file, file))
			return program;
	}
	return NULL;
}

/* Is a program known that has it open? */
static bool file_is_explained(const struct programs *programs, const struct lock_file *file)
{
	for (size_t i = 0; i < programs->count; i++)
		if (lock_file_same(&programs->list[i]->file, file))
			return true;
	return false;
}

/* ---- What was found before ---- */

/* Is its descriptor still that file? */
static bool still_open(const struct running_program *program)
{
	struct stat status;
	char path[64];

	if (program->descriptor < 0)
		return true;
	program_image(program, path);
	return !stat(path, &status) && status.st_ino == program->inode &&
	       status.st_dev == program->device;
}

static bool flock_is_listed(const struct programs *programs, const struct running_program *program)
{
	const struct locks *locks = &programs->locks;

	for (size_t i = 0; i < locks->count; i++)
		if (locks->list[i].kind == LOCK_FLOCK &&
		    locks->list[i].pid == program->process.pid &&
		    lock_file_same(&locks->list[i].file, &program->file))
			return true;
	return false;
}

/* The locks are read. Does it run, and has it its image open? */
static bool program_refresh(const struct programs *programs, struct running_program *program)
{
	uint64_t start_ticks = program->process.start_ticks;
	struct process process;

	if (process_read(program->process.pid, &process) || process.start_ticks != start_ticks)
		return false; /* it has ended; another may have its pid */
	if (program->listed ? !flock_is_listed(programs, program)
			    : !locks_have(&programs->locks, LOCK_MARK, &program->file))
		return false;
	if (!still_open(program))
		return false;
	program->process = process;
	return true;
}

/* ---- What is new ---- */

/* An image whose writer could not set its mark: whatever else is locked like this is none. */
static bool is_image(const char *path)
{
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, NULL);

	thaw_image_close(image);
	return !code || code == THAW_EDAMAGED || code == THAW_EFORMAT || code == THAW_EKEY;
}

/* `descriptor` -1, and no `status`: not known. 0; -ENOMEM. */
static int program_add(struct programs *programs, const struct process *process, int descriptor,
		       const struct stat *status, const struct lock_file *file, bool listed)
{
	struct running_program **list = array_grow(programs->list, programs->count, &programs->room,
						   sizeof(struct running_program *));
	struct running_program *program;

	if (!list)
		return -ENOMEM;
	programs->list = list;
	program = calloc(1, sizeof(*program));
	if (!program)
		return -ENOMEM;
	*program = (struct running_program){
		.serial = ++programs->serial,
		.process = *process,
		.user = process_user(process->pid),
		.command = process_command(process->pid),
		.descriptor = descriptor,
		.file = *file,
		.listed = listed,
	};
	if (status) {
		program->device = status->st_dev;
		program->inode = status->st_ino;
	}
	list[programs->count++] = program;
	return 0;
}

/* Of one descriptor that has a lock: as below. */
static int descriptor_look(struct programs *programs, const struct process *process, int descriptor,
			   const struct lock_file *file, bool marked, bool listed, bool *closed)
{
	struct process again;
	struct stat status;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)process->pid, descriptor);
	if (stat(path, &status)) {
		*closed = errno == EACCES || errno == EPERM;
		return 0;
	}
	if (!S_ISREG(status.st_mode) || (!marked && !is_image(path)))
		return 0;
	/* Was it this process all the time? */
	if (process_read(process->pid, &again) || again.start_ticks != process->start_ticks)
		return 0;
	return program_add(programs, &again, descriptor, &status, file, listed);
}

/*
 * Takes the images that a process has open for writing: that of `wanted`, or all whose mark is not
 * explained (NULL). 0, also if it cannot be looked into: then `closed` is set; -ENOMEM.
 */
static int process_look(struct programs *programs, pid_t pid, const struct lock_file *wanted,
			bool *closed)
{
	struct process process;
	char path[64];
	DIR *directory;
	int code = 0;

	*closed = false;
	if (process_read(pid, &process))
		return 0;
	snprintf(path, sizeof(path), "/proc/%ld/fdinfo", (long)pid);
	directory = opendir(path);
	if (!directory) {
		*closed = errno == EACCES || errno == EPERM;
		return errno == ENOMEM ? -ENOMEM : 0;
	}
	for (struct dirent *entry; !code && (entry = readdir(directory));) {
		int descriptor = (int)strtol(entry->d_name, NULL, 10);
		struct lock_file file;
		bool marked;

		if (entry->d_name[0] == '.' ||
		    !locks_of_descriptor(dirfd(directory), entry->d_name, &file, &marked))
			continue;
		if (wanted ? !lock_file_same(&file, wanted) : !marked)
			continue;
		if (wanted ? !!program_find(programs, pid, &file)
			   : file_is_explained(programs, &file))
			continue;
		code = descriptor_look(programs, &process, descriptor, &file, marked, wanted,
				       closed);
	}
	closedir(directory);
	return code;
}

/* Those whose flock() is listed. */
static int listed_update(struct programs *programs)
{
	const struct locks *locks = &programs->locks;
	struct process process;
	int code = 0;

	for (size_t i = 0; i < locks->count && !code; i++) {
		const struct lock *lock = &locks->list[i];
		bool closed, marked;

		if (lock->kind != LOCK_FLOCK || lock->pid <= 0 ||
		    program_find(programs, lock->pid, &lock->file))
			continue;
		marked = locks_have(locks, LOCK_MARK, &lock->file);
		if (!marked && !locks_have(locks, LOCK_OVER_MARK, &lock->file))
			continue;
		code = process_look(programs, lock->pid, &lock->file, &closed);
		if (!code && closed && marked && !process_read(lock->pid, &process))
			code = program_add(programs, &process, -1, NULL, &lock->file, true);
	}
	return code;
}

static bool was_unexplained(const struct programs *programs, const struct lock_file *file)
{
	for (size_t i = 0; i < programs->unexplained_count; i++)
		if (lock_file_same(&programs->unexplained[i], file))
			return true;
	return false;
}

/* Every process, for marks that nobody explains. */
static int all_look(struct programs *programs)
{
	DIR *directory = opendir("/proc");
	int code = directory ? 0 : -errno;

	for (struct dirent *entry; !code && (entry = readdir(directory));) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		bool closed;

		if (pid > 0)
			code = process_look(programs, pid, NULL, &closed);
	}
	if (directory)
		closedir(directory);
	return code;
}

/* Remembers which marks are not explained now. */
static int unexplained_keep(struct programs *programs)
{
	const struct locks *locks = &programs->locks;

	programs->unexplained_count = 0;
	for (size_t i = 0; i < locks->count; i++) {
		struct lock_file *list;

		if (locks->list[i].kind != LOCK_MARK ||
		    file_is_explained(programs, &locks->list[i].file))
			continue;
		list = array_grow(programs->unexplained, programs->unexplained_count,
				  &programs->unexplained_room, sizeof(*list));
		if (!list)
			return -ENOMEM;
		programs->unexplained = list;
		list[programs->unexplained_count++] = locks->list[i].file;
	}
	return 0;
}

static int unlisted_update(struct programs *programs)
{
	const struct locks *locks = &programs->locks;
	bool look = false;
	int code = 0;

	for (size_t i = 0; i < locks->count && !look; i++)
		look = locks->list[i].kind == LOCK_MARK &&
		       !file_is_explained(programs, &locks->list[i].file) &&
		       !was_unexplained(programs, &locks->list[i].file);
	if (look)
		code = all_look(programs);
	return code ? code : unexplained_keep(programs);
}

int programs_update(struct programs *programs)
{
	int code = locks_read(&programs->locks);
	size_t kept = 0;

	if (code)
		return code;
	for (size_t i = 0; i < programs->count; i++) {
		if (program_refresh(programs, programs->list[i]))
			programs->list[kept++] = programs->list[i];
		else
			program_free(programs->list[i]);
	}
	programs->count = kept;
	code = listed_update(programs);
	if (!code)
		code = unlisted_update(programs);
	for (size_t i = 0; i < programs->count && !code; i++)
		code = image_name_update(programs->list[i]);
	return code;
}
