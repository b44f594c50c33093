// SPDX-License-Identifier: MIT
/*
 * proc_files.c - see proc_files.h.
 */
#define _GNU_SOURCE
#include "process/remote/proc_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_ROOM (16u << 10)
#define READ_LEAST 4096u

static const char *const names[PROC_FILES] = {
	[PROC_STATUS] = "status", [PROC_STAT] = "stat",		[PROC_MAPS] = "maps",
	[PROC_AUXV] = "auxv",	  [PROC_OOM] = "oom_score_adj", [PROC_TIMERS] = "timers",
};

static void forget_tasks(struct proc_files *files)
{
	for (unsigned i = 0; i < files->count; i++)
		close(files->list[i].fd);
	files->count = 0;
}

void proc_files_close(struct proc_files *files)
{
	if (!files->pid)
		return;
	for (unsigned i = 0; i < PROC_FILES; i++) {
		if (files->files[i].fd >= 0)
			close(files->files[i].fd);
		free(files->files[i].text);
	}
	if (files->tasks >= 0)
		close(files->tasks);
	forget_tasks(files);
	*files = (struct proc_files){0};
}

void proc_files_of(struct proc_files *files, pid_t pid)
{
	if (files->pid == pid)
		return;
	proc_files_close(files);
	files->pid = pid;
	files->tasks = -1;
	for (unsigned i = 0; i < PROC_FILES; i++)
		files->files[i].fd = -1;
}

void proc_files_stale(struct proc_files *files)
{
	for (unsigned i = 0; i < PROC_FILES; i++)
		files->files[i].fresh = false;
}

static bool make_room(struct proc_files *files, enum proc_file file, size_t used)
{
	size_t room = files->files[file].room ? files->files[file].room : FIRST_ROOM / 2;
	char *text;

	if (used + READ_LEAST + 1 <= files->files[file].room)
		return true;
	while (room < used + READ_LEAST + 1)
		room *= 2;
	text = realloc(files->files[file].text, room);
	if (!text)
		return false;
	files->files[file].text = text;
	files->files[file].room = room;
	return true;
}

static int open_file(const struct proc_files *files, enum proc_file file)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)files->pid, names[file]);
	return open(path, O_RDONLY | O_CLOEXEC);
}

char *proc_files_read(struct proc_files *files, enum proc_file file, size_t *bytes, int *error)
{
	size_t used = 0;
	ssize_t got;

	if (!files->pid) {
		*error = -ESRCH;
		return NULL;
	}
	files->files[file].fresh = false;
	if (files->files[file].fd < 0)
		files->files[file].fd = open_file(files, file);
	*error = files->files[file].fd < 0 ? -errno : 0;
	while (!*error) {
		if (!make_room(files, file, used)) {
			*error = -ENOMEM;
			break;
		}
		got = pread(files->files[file].fd, files->files[file].text + used,
			    files->files[file].room - used - 1, (off_t)used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			*error = -errno;
		if (got <= 0)
			break;
		used += (size_t)got;
		/* A piece is a page; short lines leave little of it free. */
		if (file != PROC_MAPS && used < READ_LEAST / 2)
			break;
	}
	if (*error)
		return NULL;
	files->files[file].text[used] = '\0';
	files->files[file].bytes = used;
	files->files[file].fresh = true;
	if (bytes)
		*bytes = used;
	return files->files[file].text;
}

char *proc_files_known(struct proc_files *files, enum proc_file file, size_t *bytes, int *error)
{
	if (!files->files[file].fresh)
		return proc_files_read(files, file, bytes, error);
	*error = 0;
	if (bytes)
		*bytes = files->files[file].bytes;
	return files->files[file].text;
}

/* ---- Threads */

int proc_files_tasks(struct proc_files *files)
{
	char path[48];

	if (!files->pid)
		return -ESRCH;
	if (files->tasks >= 0)
		return files->tasks;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)files->pid);
	files->tasks = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
	return files->tasks < 0 ? -errno : files->tasks;
}

static int open_syscall(struct proc_files *files, int32_t tid)
{
	char path[48];
	int tasks = proc_files_tasks(files);

	snprintf(path, sizeof(path), "%d/syscall", (int)tid);
	return tasks < 0 ? -1 : openat(tasks, path, O_RDONLY | O_CLOEXEC);
}

static ssize_t read_text(int fd, char *text, size_t room)
{
	ssize_t got = pread(fd, text, room - 1, 0);

	text[got > 0 ? got : 0] = '\0';
	return got;
}

ssize_t proc_files_syscall(struct proc_files *files, int32_t tid, char *text, size_t room)
{
	ssize_t got = -1;
	unsigned i = 0;
	int fd;

	while (i < files->count && files->list[i].tid != tid)
		i++;
	if (i < files->count) {
		got = read_text(files->list[i].fd, text, room);
		if (got > 0)
			return got;
		/* It has ended, and its number may be another thread's. */
		close(files->list[i].fd);
		files->list[i] = files->list[--files->count];
	}
	fd = open_syscall(files, tid);
	if (fd < 0)
		return -1;
	got = read_text(fd, text, room);
	/* Threads come and go: those that are left of a program with many make room again. */
	if (files->count == PROC_TASKS)
		forget_tasks(files);
	if (got > 0)
		files->list[files->count].tid = tid, files->list[files->count++].fd = fd;
	else
		close(fd);
	return got;
}
